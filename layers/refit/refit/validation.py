"""Holding a file against its contract in one pass: the verdict, the profile and the typed rows.

All reasons are found, not only the first, and each says what to do.
"""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refit.batches import Code, Reason
from refit.contract import Column, ColumnType, Contract
from refit.errors import UnreadableFile
from refit.findings import coercions_of, of_column, of_file, profile_of
from refit.inspection import LISTED, NO_ROWS, BadRow, Found, Task
from refit.keys import doubled_keys
from refit.profile import Profile
from refit.prose import counted
from refit.reading import Limits, NotAsTyped, Source, open_source
from refit.rows import look_at

MOST_BYTES = 8 << 30  # that a file may unpack to, unless told otherwise
# Columns beyond the contract's number with which a refused file's rows are read all the same.
MOST_EXTRA = 100


@dataclass(frozen=True)
class Verdict:
    """What validation found.

    `rows` are those that are used when accepted, else all. `profile` is that of the
    rows that break no hard rule, of a quarantined file as far as one could be
    made. `coercions` are conversions that lost nothing. `listed` is how many of the
    bad rows the side file shows.
    """

    accepted: bool
    rows: int
    bad_rows: int
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    coercions: tuple[Reason, ...] = ()
    profile: Profile | None = None
    listed: int = 0


def validate_file(
    path: Path | Sequence[Path],
    contract: Contract,
    *,
    limits: Limits | None = None,
    now: str | None = None,
    shard: Path | None = None,
    bad_rows: Path | None = None,
    folder: Path | None = None,
) -> Verdict:
    """Read a file, or several that form one batch, and hold it against a contract; any bytes get a verdict.

    Parameters
    ----------
    limits
        What may be read; its rows are never more than the contract's.
    now
        Time of arrival, ISO 8601, by which freshness is judged; None: it is not.
    shard
        Where to write the typed rows; the file is there only when they are accepted.
    bad_rows
        Where to write the rows that broke hard rules, at most LISTED; the file is there only when there are any.
    folder
        For temporary files when there are many unique keys.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    limits = limits or Limits(contract.max_rows, MOST_BYTES)
    limits = replace(limits, max_rows=min(limits.max_rows, contract.max_rows))
    task = Task(paths, contract, limits, now, shard, bad_rows, folder)
    accepted = False
    try:
        try:
            types = {column.name: column.type for column in contract.columns}
            verdict = _judge(task, types)
        except NotAsTyped:
            verdict = _judge(task, None)
        accepted = verdict.accepted
    except UnreadableFile as error:
        verdict = Verdict(False, 0, 0, (Reason(error.code, str(error), error.column),), ())
    finally:
        if shard and not accepted:
            shard.unlink(missing_ok=True)
    return verdict


def _judge(task: Task, types: Mapping[str, ColumnType] | None) -> Verdict:
    contract = task.contract
    sources = [open_source(path, task.limits, contract.csv, types) for path in task.paths]
    layout = list(dict.fromkeys(reason for source in sources for reason in _layout(source, contract)))
    if layout and max(len(source.names) for source in sources) > len(contract.columns) + MOST_EXTRA:
        # It is another table: what its rows hold is no news, and would take time and memory to read.
        return Verdict(False, sum(source.rows or 0 for source in sources), 0, tuple(layout), ())
    columns = [
        column
        for column in contract.columns  # what is missing is said already; the others are looked at all the same
        if all(source.names.count(column.name) == 1 for source in sources)
    ]
    keyed = bool(contract.keys) and set(contract.keys) <= {column.name for column in columns}
    found, repeats = look_at(task, sources, columns, NO_ROWS, keyed)
    if repeats:
        rows, hashes = repeats.suspects()
        doubled, listed = doubled_keys(task, sources, columns, rows, hashes) if len(rows) else (NO_ROWS, [])
    else:
        doubled, listed = NO_ROWS, []
    verdict = _verdict(task, layout, columns, found, doubled)
    if verdict.accepted and len(doubled):
        # What came again is in the profile and the shard: once more, without it.
        again, _ = look_at(task, sources, columns, doubled, False)
        verdict = replace(verdict, profile=profile_of(contract, columns, again))
    return _with_list(task, verdict, sources, found.listed + listed)


def _layout(source: Source, contract: Contract) -> Iterator[Reason]:
    """Reasons that lie in the columns themselves, not in their values."""
    names = source.names
    for name, count in Counter(names).items():
        if count > 1:
            yield Reason(
                Code.DUPLICATE_COLUMN,
                f"Column {_show(name)} appears {count} times; keep one.",
                _short(name),
                count,
            )
    known, there = set(contract.names), set(names)
    extra = [name for name in dict.fromkeys(names) if name not in known]
    for name in contract.names:
        if name not in there:
            near = difflib.get_close_matches(name, extra, n=1)
            fix = f"is {_show(near[0])} meant? Rename it." if near else "add it."
            yield Reason(Code.MISSING_COLUMN, f"Column {name!r} is missing; {fix}", name)
    for name in extra:
        message = f"Column {_show(name)} is not in the contract; drop it, or declare it in model.toml."
        yield Reason(Code.UNEXPECTED_COLUMN, message, _short(name))


def _verdict(
    task: Task, layout: Sequence[Reason], columns: Sequence[Column], found: Found, doubled: np.ndarray
) -> Verdict:
    contract, reasons, warnings = task.contract, list(layout), list[Reason]()
    if not found.rows:
        message = "The file has a header but no rows; upload it with its rows."
        reasons.append(Reason(Code.TOO_FEW_ROWS, message, count=0))
    empty = not found.rows
    whole_file = False
    profile = profile_of(contract, columns, found)
    for column in columns:
        for finding in of_column(column, found.columns[column.name], found.rows):
            (reasons if finding.hard else warnings).append(finding.reason)
            whole_file |= finding.hard and not finding.by_row
    if len(doubled):
        keys = ", ".join(contract.keys)
        message = f"{keys} must name a row once; drop or merge the repeated rows."
        reasons.append(Reason(Code.DUPLICATE_KEY, message, keys, len(doubled)))
    for finding in of_file(task, profile, found):
        (reasons if finding.hard else warnings).append(finding.reason)
        whole_file |= finding.hard
    left_out = np.concatenate([NO_ROWS, *found.left_out])
    bad_rows = found.bad + int(np.count_nonzero(~np.isin(doubled, left_out)))
    rows = found.rows - bad_rows
    coercions = tuple(coercions_of(columns, found))
    # Divided, for 57 / 100 is 0.57 while 0.57 * 100 is a hair less than 57.
    share = bad_rows / max(1, found.rows)
    tolerated = not layout and not whole_file and not empty and share <= contract.max_bad_rows
    refused = Verdict(False, found.rows, bad_rows, (), tuple(warnings), coercions, profile)
    if reasons and not tolerated:
        return replace(refused, reasons=tuple(reasons))
    if rows < contract.min_rows:
        message = f"{rows} usable rows, at least {contract.min_rows} are needed; collect more into one file."
        reasons.append(Reason(Code.TOO_FEW_ROWS, message, count=rows))
        return replace(refused, reasons=tuple(reasons))
    if bad_rows:
        warnings += reasons
        message = f"{counted(bad_rows, 'row')} that broke hard rules left out, as the contract tolerates."
        warnings.append(Reason(Code.BAD_ROWS_LEFT_OUT, message, count=bad_rows))
    target = profile.columns.get(contract.target)
    if target is not None and target.rows == target.nulls:
        message = f"No row has a value in {contract.target!r}; nothing can be learned from this file yet."
        warnings.append(Reason(Code.NO_LABELS, message, contract.target, rows))
    return Verdict(True, rows, bad_rows, (), tuple(warnings), coercions, profile)


def _with_list(task: Task, verdict: Verdict, sources: Sequence[Source], listed: Iterable[BadRow]) -> Verdict:
    """Write the bad rows out, in their order, and say how many of them the list shows."""
    by_row: dict[int, BadRow] = {}
    for each in listed:
        before = by_row.get(each.row)
        by_row[each.row] = replace(before, codes=before.codes + each.codes) if before else each
    rows = [by_row[row] for row in sorted(by_row)][:LISTED]
    if not task.bad_rows or not rows:
        return verdict
    with task.bad_rows.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "codes", "columns", *sources[0].names])
        for each in rows:
            codes = "; ".join(dict.fromkeys(str(code) for code, _ in each.codes))
            names = "; ".join(dict.fromkeys(name for _, name in each.codes))
            writer.writerow([each.row + 1, codes, names, *each.cells])
    return replace(verdict, listed=len(rows))


def _show(name: str) -> str:
    return repr(_short(name))


def _short(name: str) -> str:
    """A record and an event must hold a hundred and twenty of them, whatever a file calls its columns."""
    return name if len(name) <= 60 else name[:57] + "..."
