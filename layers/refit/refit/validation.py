"""Holding a table against its contract: the verdict, the typed rows and their profile.

All reasons are found, not only the first, and each says what to do.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refit.batches import Code, Reason
from refit.contract import Column, ColumnType, Contract
from refit.errors import UnreadableFile
from refit.profile import Profile, profile
from refit.reading import Limits, read_table
from refit.shard import NAT, Shard

EXACT_INTEGERS = 2**53  # from it on float64 cannot tell neighbours apart
MOST_TEXT = 2**31  # bytes that one array of type string can hold
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_TRUE, _FALSE = ("true", "t", "yes", "1", "1.0"), ("false", "f", "no", "0", "0.0")


@dataclass(frozen=True)
class Verdict:
    """What validation found. `shard` and `profile` are there when accepted."""

    accepted: bool
    rows: int
    bad_rows: int
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    shard: Shard | None = None
    profile: Profile | None = None


def validate_file(path: Path | Sequence[Path], contract: Contract, max_bytes: int = 8 << 30) -> Verdict:
    """Read a file, or several that form one batch, and hold it against a contract; any bytes get a verdict."""
    limits = Limits(contract.max_rows, max_bytes)
    try:
        tables = [
            read_table(each, limits, contract.csv) for each in ([path] if isinstance(path, Path) else path)
        ]
        table = pa.concat_tables([_undictionaried(each) for each in tables]) if len(tables) > 1 else tables[0]
    except UnreadableFile as error:
        return Verdict(False, 0, 0, (Reason(error.code, str(error), error.column),), ())
    return validate_table(table, contract)


def _undictionaried(table: pa.Table) -> pa.Table:
    return pa.table([_plain(column) for column in table.columns], table.column_names)


def validate_table(table: pa.Table, contract: Contract) -> Verdict:
    """Hold a table against a contract."""
    reasons = list(_layout(table, contract))
    broken_layout = bool(reasons)
    table = pa.table([_plain(column) for column in table.columns], table.column_names)
    warnings: list[Reason] = []
    bad = np.zeros(table.num_rows, dtype=bool)
    columns, types, words = {}, {}, {}
    for column in contract.columns:
        if table.column_names.count(column.name) != 1:
            continue  # said already; the other columns are looked at all the same
        typed = _typed(table.column(column.name), column)
        for finding in _findings(typed, column):
            (reasons if finding.hard else warnings).append(finding.reason)
            if finding.hard and finding.rows is not None:
                bad |= finding.rows
        if column.type is not ColumnType.TEXT:
            columns[column.name], types[column.name] = typed.values, column.type
            if typed.words is not None:
                words[column.name] = typed.words
    doubled = _doubled_keys(table, contract.keys)
    if doubled.any():
        keys = ", ".join(contract.keys)
        message = f"{keys} must name a row once; drop or merge the repeated rows."
        reasons.append(Reason(Code.DUPLICATE_KEY, message, keys, int(doubled.sum())))
        bad |= doubled

    bad_rows = int(bad.sum())
    rows = table.num_rows - bad_rows
    whole_file = [reason for reason in reasons if reason.code == Code.TOO_MANY_NULLS]
    tolerated = not broken_layout and not whole_file and _share(bad) <= contract.max_bad_rows
    if reasons and not tolerated:
        return Verdict(False, table.num_rows, bad_rows, tuple(reasons), tuple(warnings))
    if rows < contract.min_rows:
        message = f"{rows} usable rows, at least {contract.min_rows} are needed; collect more into one file."
        reasons.append(Reason(Code.TOO_FEW_ROWS, message, count=rows))
        return Verdict(False, table.num_rows, bad_rows, tuple(reasons), tuple(warnings))
    shard = Shard(columns, types, words)
    if bad_rows:
        warnings += reasons
        message = f"{bad_rows} rows broke hard rules and were left out; the contract tolerates them."
        warnings.append(Reason(Code.BAD_ROWS_LEFT_OUT, message, count=bad_rows))
        shard = shard.take(~bad)
    if shard.is_null(contract.target).all():
        message = f"No row has a value in {contract.target!r}; nothing can be learned from this file yet."
        warnings.append(Reason(Code.NO_LABELS, message, contract.target, rows))
    return Verdict(True, rows, bad_rows, (), tuple(warnings), shard, profile(shard, contract.time))


def _layout(table: pa.Table, contract: Contract) -> Iterator[Reason]:
    """Reasons that lie in the columns themselves, not in their values."""
    names = table.column_names
    for name, count in Counter(names).items():
        if count > 1:
            yield Reason(
                Code.DUPLICATE_COLUMN,
                f"Column {_show(name)} appears {count} times; keep one.",
                _short(name),
                count,
            )
    extra = [name for name in dict.fromkeys(names) if name not in contract.names]
    for name in contract.names:
        if name not in names:
            near = difflib.get_close_matches(name, extra, n=1)
            fix = f"is {_show(near[0])} meant? Rename it." if near else "add it."
            yield Reason(Code.MISSING_COLUMN, f"Column {name!r} is missing; {fix}", name)
    for name in extra:
        message = f"Column {_show(name)} is not in the contract; drop it, or declare it in model.toml."
        yield Reason(Code.UNEXPECTED_COLUMN, message, _short(name))
    if table.num_rows == 0:
        yield Reason(
            Code.TOO_FEW_ROWS, "The file has a header but no rows; upload it with its rows.", count=0
        )


@dataclass(frozen=True)
class _Typed:
    """One column in its declared type; masks have shape (rows,)."""

    values: np.ndarray
    null: np.ndarray
    wrong: np.ndarray  # values that are not of the declared type
    words: list[str] | None = None  # of a category: what its codes stand for


@dataclass(frozen=True)
class _Finding:
    """A broken rule; `rows` masks the rows that break it, None when the column as a whole does."""

    reason: Reason
    hard: bool
    rows: np.ndarray | None = None


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values without extension type and dictionary, which few functions of Arrow take."""
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values


def _typed(values: pa.ChunkedArray, column: Column) -> _Typed:
    if column.type is ColumnType.TEXT:
        null = _mask(pc.is_null(values))
        return _Typed(np.empty(0), null, np.zeros(len(null), bool))
    if _is_text(values.type) and values.nbytes >= MOST_TEXT:
        values = values.cast(pa.large_string())
    array = values.combine_chunks()
    if column.type is ColumnType.CATEGORY:
        return _categories(array)
    if column.type is ColumnType.TIMESTAMP:
        return _timestamps(array)
    return _numbers(array, column.type)


def _numbers(array: pa.Array, kind: ColumnType) -> _Typed:
    null = _mask(pc.is_null(array))
    wrong = np.zeros(len(array), dtype=bool)
    if pa.types.is_boolean(array.type):
        if kind is not ColumnType.BOOLEAN:
            return _Typed(np.full(len(array), np.nan), null, ~null)
        array = array.cast(pa.int8())
    elif _is_text(array.type):
        text = pc.utf8_lower(pc.utf8_trim_whitespace(array.cast(pa.string())))
        if kind is ColumnType.BOOLEAN:
            true = _mask(pc.is_in(text, pa.array(_TRUE)))
            false = _mask(pc.is_in(text, pa.array(_FALSE)))
            return _Typed(np.where(true, 1.0, np.where(false, 0.0, np.nan)), null, ~(true | false | null))
        wrong = ~_mask(pc.match_substring_regex(text, _NUMBER)) & ~null
        special = _mask(pc.is_in(text, pa.array(["inf", "-inf", "+inf", "infinity", "-infinity"])))
        wrong &= ~special
        array = pc.if_else(pa.array(wrong), pa.scalar(None, pa.string()), text).cast(pa.float64())
    elif not (
        pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type)
    ):
        return _Typed(np.full(len(array), np.nan), null, ~null)
    floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    null = null | (np.isnan(floats) & ~wrong)
    finite = np.isfinite(floats)
    if kind is ColumnType.INTEGER or pa.types.is_integer(array.type):
        wrong |= finite & (np.abs(floats) >= EXACT_INTEGERS)
    if kind is ColumnType.INTEGER:
        wrong |= finite & (floats != np.floor(floats))
    if kind is ColumnType.BOOLEAN:
        wrong |= ~null & (floats != 0) & (floats != 1)
    return _Typed(np.where(null | wrong, np.nan, floats), null, wrong)


def _categories(array: pa.Array) -> _Typed:
    null = _mask(pc.is_null(array))
    if not (
        _is_text(array.type)
        or _is_binary(array.type)
        or pa.types.is_integer(array.type)
        or pa.types.is_boolean(array.type)
        or pa.types.is_null(array.type)
    ):
        return _Typed(np.full(len(array), -1, np.int32), null, ~null, [])
    if _is_binary(array.type):
        try:
            array = array.cast(pa.large_string())
        except pa.ArrowInvalid:  # bytes that are no text
            return _Typed(np.full(len(array), -1, np.int32), null, ~null, [])
    encoded = pc.dictionary_encode(array.cast(pa.large_string()))
    words = encoded.dictionary.to_pylist()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    order = sorted(range(len(words)), key=words.__getitem__)
    place = np.empty(len(words) + 1, np.int32)
    place[order], place[-1] = np.arange(len(words)), -1
    return _Typed(place[codes], null, np.zeros(len(null), bool), [words[i] for i in order])


def _timestamps(array: pa.Array) -> _Typed:
    null = _mask(pc.is_null(array))
    wrong = np.zeros(len(array), dtype=bool)
    if _is_text(array.type):
        text = pc.utf8_trim_whitespace(array.cast(pa.string()))
        text = pc.replace_substring_regex(text, r"([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)(Z|\+00:?00)$", r"\1")
        wrong = ~_mask(
            pc.match_substring_regex(text, r"^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?$")
        )
        wrong &= ~null
        array = pc.if_else(pa.array(wrong), pa.scalar(None, pa.string()), text)
    elif not pa.types.is_timestamp(array.type) and not pa.types.is_date(array.type):
        return _Typed(np.full(len(array), NAT), null, ~null)
    try:
        stamps = array.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:  # at least one value is no date, or outside the years 1678 to 2261
        stamps, wrong = _timestamps_one_by_one(array, null)
    values = pc.fill_null(stamps.cast(pa.int64()), NAT).to_numpy(zero_copy_only=False)
    return _Typed(values, null, wrong)


def _timestamps_one_by_one(array: pa.Array, null: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    found, wrong = [], np.zeros(len(array), dtype=bool)
    for i in range(len(array)):
        try:
            found.append(array[i].cast(pa.timestamp("ns")).value)
        except pa.ArrowInvalid:
            found.append(None)
            wrong[i] = not null[i]
    return pa.array(found, pa.int64()).cast(pa.timestamp("ns")), wrong


def _findings(typed: _Typed, column: Column) -> Iterator[_Finding]:
    name = column.name
    if count := int(typed.wrong.sum()):
        message = f"{count} values of {name!r} are no {column.type}; correct them or leave them empty."
        yield _Finding(Reason(Code.WRONG_TYPE, message, name, count), True, typed.wrong)
    nulls = int(typed.null.sum())
    if _share(typed.null) > column.nulls:
        message = (
            f"{_share(typed.null):.1%} of {name!r} is empty, {column.nulls:.1%} is tolerated; "
            "fill it, or raise nulls in model.toml."
        )
        yield _Finding(Reason(Code.TOO_MANY_NULLS, message, name, nulls), True)
    if column.type is ColumnType.CATEGORY:
        yield from _category_findings(typed, column)
    elif column.type in (ColumnType.NUMBER, ColumnType.INTEGER):
        yield from _number_findings(typed, column)


def _number_findings(typed: _Typed, column: Column) -> Iterator[_Finding]:
    name, infinite = column.name, np.isinf(typed.values)
    if count := int(infinite.sum()):
        message = f"{count} values of {name!r} are infinite; correct them or leave them empty."
        yield _Finding(Reason(Code.NOT_FINITE, message, name, count), True, infinite)
    low = -np.inf if column.min is None else column.min
    high = np.inf if column.max is None else column.max
    outside = ((typed.values < low) | (typed.values > high)) & ~infinite
    if count := int(outside.sum()):
        message = (
            f"{count} values of {name!r} lie outside {low:g}..{high:g}; correct them, or widen model.toml."
        )
        yield _Finding(Reason(Code.OUT_OF_RANGE, message, name, count), column.hard, outside)


def _category_findings(typed: _Typed, column: Column) -> Iterator[_Finding]:
    name, words = column.name, typed.words or []
    if len(words) > column.max_categories:
        message = (
            f"{name!r} has {len(words)} categories, at most {column.max_categories} are expected; "
            "is it a key or text? Else raise max_categories in model.toml."
        )
        everywhere = np.ones(len(typed.null), dtype=bool)
        yield _Finding(Reason(Code.TOO_MANY_CATEGORIES, message, name, len(words)), column.hard, everywhere)
    if column.categories:
        unlisted = np.array([word not in column.categories for word in words] + [False])
        rows = unlisted[typed.values]
        if count := int(rows.sum()):
            message = (
                f"{count} rows of {name!r} hold {int(unlisted.sum())} categories that the contract does not list; "
                "correct them, or add them to model.toml."
            )
            yield _Finding(Reason(Code.UNKNOWN_CATEGORY, message, name, count), column.hard, rows)


def _doubled_keys(table: pa.Table, keys: tuple[str, ...]) -> np.ndarray:
    """Mask of rows whose keys an earlier row has, shape (rows,)."""
    if not keys or any(table.column_names.count(key) != 1 for key in keys):
        return np.zeros(table.num_rows, dtype=bool)
    names = [f"k{i}" for i in range(len(keys))]  # a column's own name may be any
    columns = [*(table.column(key) for key in keys), pa.array(np.arange(table.num_rows))]
    first = pa.table(columns, [*names, "row"]).group_by(names).aggregate([("row", "min")])
    doubled = np.ones(table.num_rows, dtype=bool)
    doubled[first.column("row_min").to_numpy()] = False
    return doubled


def _mask(array: pa.Array) -> np.ndarray:
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)


def _share(mask: np.ndarray) -> float:
    # Divided, for 57 / 100 is 0.57 while 0.57 * 100 is a hair less than 57.
    return mask.sum() / max(1, len(mask))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _show(name: str) -> str:
    return repr(_short(name))


def _short(name: str) -> str:
    """A record and an event must hold a hundred and twenty of them, whatever a file calls its columns."""
    return name if len(name) <= 60 else name[:57] + "..."
