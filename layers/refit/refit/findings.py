"""What the counted rows of a file say of its contract: broken rules, conversions, the profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refit import times
from refit.batches import Code, Reason
from refit.contract import NUMERIC, Column, ColumnType, Contract
from refit.inspection import ColumnFound, Found, Task
from refit.profile import CategoryProfile, ColumnProfile, NumberProfile, Profile, iso
from refit.prose import counted
from refit.tally import CategoryTally, NumberTally

ENOUGH_LABELS = 50  # from which labels that are all the same are no accident
DAY = 86_400 * 10**9


@dataclass(frozen=True)
class Finding:
    """A broken rule; `by_row`: single rows break it, and may be left out."""

    reason: Reason
    hard: bool
    by_row: bool = False


def of_column(column: Column, found: ColumnFound, rows: int) -> Iterator[Finding]:
    name = column.name
    if found.wrong:
        values = counted(found.wrong, "value")
        fix = "write as 2026-01-31 12:00:00" if column.type is ColumnType.TIMESTAMP else "correct"
        message = f"{values} of {name!r} cannot be read as {column.type}; {fix}, or leave empty."
        yield Finding(Reason(Code.WRONG_TYPE, message, name, found.wrong), True, True)
    share = found.nulls / max(1, rows)
    if share > column.nulls:
        message = (
            f"{share:.1%} of {name!r} is empty, {column.nulls:.1%} is tolerated; "
            "fill it, or raise nulls in model.toml."
        )
        yield Finding(Reason(Code.TOO_MANY_NULLS, message, name, found.nulls), True)
    if column.type is ColumnType.CATEGORY:
        yield from _category_findings(column, found)
    if found.infinite:
        message = f"{counted(found.infinite, 'infinite value')} in {name!r}; correct, or leave empty."
        yield Finding(Reason(Code.NOT_FINITE, message, name, found.infinite), True, True)
    if found.outside:
        low = -np.inf if column.min is None else column.min
        high = np.inf if column.max is None else column.max
        message = (
            f"{counted(found.outside, 'value')} of {name!r} outside {low:g}..{high:g}; "
            "correct, or widen min and max in model.toml."
        )
        yield Finding(Reason(Code.OUT_OF_RANGE, message, name, found.outside), column.hard, True)


def _category_findings(column: Column, found: ColumnFound) -> Iterator[Finding]:
    name, words = column.name, found.words
    if words and (number := words.number_of_words()) > column.max_categories:
        about = "about " if words.overflow else ""
        message = (
            f"{name!r} has {about}{counted(number, 'category', 'categories')}, at most {column.max_categories} "
            "expected; is it a key or text? Else raise max_categories in model.toml."
        )
        yield Finding(Reason(Code.TOO_MANY_CATEGORIES, message, name, number), column.hard)
    if words and found.unlisted:
        listed = set(column.categories)
        number = sum(1 for word, _ in words.words_seen() if word not in listed)
        more = "more than " if words.overflow else ""
        message = (
            f"{name!r} has {more}{counted(number, 'category', 'categories')} that the contract does not list, in "
            f"{counted(found.unlisted, 'row')}; correct, or add to model.toml."
        )
        yield Finding(Reason(Code.UNKNOWN_CATEGORY, message, name, found.unlisted), column.hard, True)


def of_file(task: Task, profile: Profile, found: Found) -> Iterator[Finding]:
    """Rules that no single row breaks."""
    contract = task.contract
    target = profile.columns.get(contract.target)
    declared = next((c for c in contract.columns if c.name == contract.target), None)
    if target is not None and declared is not None:
        labelled = target.rows - target.nulls
        if labelled >= ENOUGH_LABELS and not contract.constant_label and _constant(target):
            message = (
                f"All {labelled} labels in {contract.target!r} are the same; nothing can be told apart. "
                "Upload all classes together, or set constant_label in model.toml."
            )
            yield Finding(Reason(Code.CONSTANT_LABEL, message, contract.target, labelled), True)
        counts = _class_counts(declared, target)
        if labelled and counts and min(counts) / labelled < contract.min_class_share:
            message = (
                f"The rarest class of {contract.target!r} has {min(counts)} of {labelled} labelled rows, less than "
                f"{contract.min_class_share:.1%}; collect more of it, or lower min_class_share in model.toml."
            )
            hard = "min_class_share" in contract.hard
            yield Finding(Reason(Code.RARE_LABEL, message, contract.target, min(counts)), hard)
    last = found.columns[contract.time].last if contract.time in found.columns else None
    if task.now and contract.fresh_seconds is not None and contract.time and last is not None:
        moment = int(times.moment(task.now).timestamp()) * 10**9
        hard = "fresh" in contract.hard
        if last < moment - contract.fresh_seconds * 10**9:
            message = (
                f"The newest {contract.time!r} is {iso(last)}, more than {times.length(contract.fresh_seconds)} before the "
                "file arrived; is it an old export? Else raise contract.fresh in model.toml."
            )
            yield Finding(Reason(Code.NOT_FRESH, message, contract.time), hard)
        elif last > moment + DAY:
            message = (
                f"The newest {contract.time!r} is {iso(last)}, more than a day after the file arrived; "
                "correct the times, or the zone they are in."
            )
            yield Finding(Reason(Code.NOT_FRESH, message, contract.time), hard)


def _constant(target: ColumnProfile) -> bool:
    if isinstance(target, NumberProfile):
        return target.min == target.max
    return len(target.counts) == 1 and not target.other


def _class_counts(column: Column, target: ColumnProfile) -> list[int]:
    """Labelled rows of each known class; none when the target is a quantity."""
    if isinstance(target, CategoryProfile):
        return [target.counts.get(word, 0) for word in column.categories or target.counts]
    if column.type is ColumnType.NUMBER:
        return []
    counts = target.sketch.counts.tolist()
    if column.type is ColumnType.BOOLEAN:
        return [*counts, 0][:2]
    two = target.distinct.estimate() <= 2
    return counts if two else []


def coercions_of(columns: Sequence[Column], found: Found) -> Iterator[Reason]:
    for column in columns:
        coerced = +found.columns[column.name].coerced
        if coerced:
            sources = ", ".join(sorted(coerced))
            count = sum(coerced.values())
            values = counted(count, "value")
            message = f"{values} of {column.name!r} read from {sources} as {column.type}; nothing was lost."
            yield Reason(Code.COERCED, message, column.name, count)


def profile_of(contract: Contract, columns: Sequence[Column], found: Found) -> Profile:
    rows = found.rows - sum(len(rows) for rows in found.left_out)
    made: dict[str, ColumnProfile] = {}
    for column in columns:
        each = found.columns[column.name]
        if column.type in NUMERIC:
            made[column.name] = (each.numbers or NumberTally()).profile(rows)
        elif column.type is ColumnType.CATEGORY:
            made[column.name] = (each.words or CategoryTally()).profile(rows)
    time = found.columns.get(contract.time or "")
    period = None
    if time is not None and time.first is not None and time.last is not None:
        period = iso(time.first), iso(time.last)
    return Profile(rows, made, period)
