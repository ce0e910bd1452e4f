"""What sample files show of their columns: which types fit, nulls, extremes, the different values.

Works on Arrow's own functions and Python values: numpy views of Arrow's arrays
would import pandas, which takes longer than all the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refit.columns import typed
from refit.contract import ColumnType, Dialect
from refit.reading import Limits, open_source

MOST_VALUES = 50_000  # different ones of a column that are told apart
MOST_ROWS, MOST_BYTES = 50_000_000, 16 << 30
EXACT = 2**53  # from it on float64 cannot tell neighbours apart

NUMBER, INTEGER, CATEGORY = ColumnType.NUMBER, ColumnType.INTEGER, ColumnType.CATEGORY
BOOLEAN, TIMESTAMP, TEXT = ColumnType.BOOLEAN, ColumnType.TIMESTAMP, ColumnType.TEXT
# The first that fits is taken: the one that says most. Text fits everything.
PREFERENCE = (INTEGER, NUMBER, BOOLEAN, TIMESTAMP, CATEGORY, TEXT)

_IN_WORDS = {
    INTEGER: "whole numbers",
    NUMBER: "numbers",
    BOOLEAN: "true or false",
    TIMESTAMP: "times",
    CATEGORY: "words",
}

_WHOLE = r"^\s*[+-]?\d{1,15}\s*$"  # no digit is lost in a float64
_DECIMAL = r"^\s*[+-]?(\d{1,17}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*$"
_INFINITE = r"^(?i)\s*[+-]?inf(inity)?\s*$"
_COMMA = r"^\s*[+-]?\d{1,17}(,\d+)?\s*$"
_ZEROS = r"^\s*[+-]?0\d"  # 007 is a name, not a number
_FLAG = r"^(?i)(true|false)$"
_BIT = r"^[01]$"
_DAY = r"^\s*\d{4}-\d\d-\d\d"  # what is worth reading as times


@dataclass
class Facts:
    """Of one column, added up over batches. `low` and `high` are of its numbers, `first` and `last` of its times."""

    fits: set[ColumnType] = field(default_factory=lambda: set(PREFERENCE))
    stored: set[str] = field(default_factory=set)  # what it is in the files, in words
    rows: int = 0
    nulls: int = 0
    infinite: int = 0
    low: float | None = None
    high: float | None = None
    first: int | None = None  # nanoseconds since 1970
    last: int | None = None
    longest: int = 0  # bytes of the longest word
    comma: bool = False  # its numbers have a decimal comma
    point: bool = False
    zeros: bool = False  # digits that begin with 0
    values: Counter[Any] | None = field(default_factory=Counter)  # None: more than MOST_VALUES

    @property
    def type(self) -> ColumnType:
        """The type that says most of what fits."""
        return next(kind for kind in PREFERENCE if kind in self.fits)

    @property
    def present(self) -> int:
        return self.rows - self.nulls

    @property
    def distinct(self) -> int:
        """Number of different values; MOST_VALUES + 1 when there are more."""
        return MOST_VALUES + 1 if self.values is None else len(self.values)

    def tally(self, kind: ColumnType) -> Counter[Any]:
        """How often each value is there, read as that type: 1, 1.0 and a CSV's 01 are one number."""
        found: Counter[Any] = Counter()
        for value, count in (self.values or {}).items():
            found[_read(value, kind)] += count
        return found

    @property
    def null_share(self) -> float:
        return self.nulls / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Sample:
    """One file; `columns` in its order."""

    path: Path
    rows: int
    columns: dict[str, Facts]
    doubled: tuple[str, ...]  # names that it has more than once
    delimiter: str | None  # of a CSV


def look_at(path: Path, dialect: Dialect) -> Sample:
    """Read one sample file; raises UnreadableFile."""
    names, delimiter, batches = _opened(path, dialect)
    doubled = tuple(name for name, n in Counter(names).items() if n > 1)
    columns = {name: Facts() for name in names}
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if not doubled:
            for name, values in zip(names, batch.columns, strict=True):
                _add(columns[name], _plain(values), delimiter is not None)
    return Sample(path, rows, columns, doubled, delimiter)


def merged(facts: Sequence[Facts]) -> Facts:
    """The facts of all files together."""

    def of_all(function: Any, name: str) -> Any:
        known = [getattr(each, name) for each in facts if getattr(each, name) is not None]
        return function(known) if known else None

    values: Counter[Any] | None = Counter()
    for each in facts:
        values = None if values is None or each.values is None else values + each.values
    if values is not None and len(values) > MOST_VALUES:
        values = None
    return Facts(
        fits=set.intersection(*(each.fits for each in facts)),
        stored=set.union(*(each.stored for each in facts)),
        rows=sum(each.rows for each in facts),
        nulls=sum(each.nulls for each in facts),
        infinite=sum(each.infinite for each in facts),
        low=of_all(min, "low"),
        high=of_all(max, "high"),
        first=of_all(min, "first"),
        last=of_all(max, "last"),
        longest=max(each.longest for each in facts),
        comma=any(each.comma for each in facts),
        point=any(each.point for each in facts),
        zeros=any(each.zeros for each in facts),
        values=values,
    )


def _opened(path: Path, dialect: Dialect) -> tuple[list[str], str | None, Iterator[pa.RecordBatch]]:
    """Names, the delimiter of a CSV, whose values are all strings, and the rows."""
    source = open_source(path, Limits(MOST_ROWS, MOST_BYTES), dialect)
    batches = (batch for part in source.parts() for batch in part.batches())
    return list(source.names), source.dialect.delimiter if source.dialect else None, batches


def _plain(values: pa.Array) -> pa.Array:
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.large_string())
    return values


def _add(facts: Facts, values: pa.Array, of_text: bool) -> None:
    kind = values.type
    facts.rows += len(values)
    facts.nulls += values.null_count
    if values.null_count == len(values):
        return
    values = values.drop_null()
    if pa.types.is_floating(kind):
        if kind != pa.float64():
            values = values.cast(pa.float64())
        missing = pc.is_nan(values)
        facts.nulls += pc.sum(missing).as_py()
        values = values.filter(pc.invert(missing))
        if not len(values):
            return
        _numbers(facts, values, "numbers", {NUMBER, TEXT})
    elif pa.types.is_integer(kind):
        _integers(facts, values)
    elif pa.types.is_decimal(kind):
        _numbers(facts, values.cast(pa.float64(), safe=False), "decimal numbers", {NUMBER, TEXT})
    elif pa.types.is_boolean(kind):
        facts.fits &= {BOOLEAN, CATEGORY, TEXT}
        facts.stored.add("true or false")
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        _moments(facts, values)
    elif pa.types.is_large_string(kind):
        _words(facts, values, of_text)
    else:
        facts.fits &= {TEXT}
        facts.stored.add(str(kind))
        return
    _count(facts, values)


def _integers(facts: Facts, values: pa.Array) -> None:
    low, high = _extremes(values)
    if low <= -EXACT or high >= EXACT:
        facts.fits &= {CATEGORY, TEXT}
        facts.stored.add("whole numbers too long for a number")
        return
    bits = {BOOLEAN} if low >= 0 and high <= 1 else set()
    _numbers(facts, values, "whole numbers", {INTEGER, NUMBER, CATEGORY, TEXT} | bits)


def _numbers(facts: Facts, values: pa.Array, stored: str, fits: set[ColumnType]) -> None:
    facts.fits &= fits
    facts.stored.add(stored)
    if pa.types.is_floating(values.type):
        infinite = pc.is_inf(values)
        facts.infinite += pc.sum(infinite).as_py()
        values = values.filter(pc.invert(infinite))
    _extend(facts, values)


def _extend(facts: Facts, values: pa.Array) -> None:
    if len(values):
        low, high = _extremes(values)
        facts.low = low if facts.low is None else min(facts.low, low)
        facts.high = high if facts.high is None else max(facts.high, high)


def _moments(facts: Facts, values: pa.Array) -> None:
    facts.stored.add("times")
    try:
        low, high = _extremes(values.cast(pa.timestamp("ns")).cast(pa.int64()))
    except pa.ArrowInvalid:  # outside of the years 1678 to 2261
        facts.fits &= {TEXT}
        facts.stored.add("times that nanoseconds cannot hold")
        return
    facts.fits &= {TIMESTAMP, TEXT}
    facts.first = low if facts.first is None else min(facts.first, low)
    facts.last = high if facts.last is None else max(facts.last, high)


def _words(facts: Facts, values: pa.Array, of_text: bool) -> None:
    """Strings: of a CSV any type may be meant, of Parquet words, or times."""
    facts.longest = max(facts.longest, pc.max(pc.binary_length(values)).as_py())
    fits = {CATEGORY, TEXT}
    if of_text:
        fits |= _read_numbers(facts, values)
        if _all(values, _BIT) or _all(values, _FLAG):
            fits.add(BOOLEAN)
    if TIMESTAMP in facts.fits and _all(values, _DAY):
        times = typed(values, TIMESTAMP)  # as validation does: 2026-02-30 is none, any zone is fine
        if times.wrong is None:
            low, high = int(times.values.min()), int(times.values.max())
            fits.add(TIMESTAMP)
            facts.first = low if facts.first is None else min(facts.first, low)
            facts.last = high if facts.last is None else max(facts.last, high)
    facts.fits &= fits
    facts.stored.add(_IN_WORDS[next(kind for kind in PREFERENCE if kind in fits)])


def _read_numbers(facts: Facts, values: pa.Array) -> set[ColumnType]:
    if not facts.fits & {NUMBER, INTEGER}:
        return set()
    if _any(values, _ZEROS):
        facts.zeros |= _all(values, _WHOLE)
        return set()
    if _all(values, _WHOLE):
        _extend(facts, pc.utf8_trim_whitespace(values).cast(pa.int64()))
        return {INTEGER, NUMBER}
    infinite = pc.match_substring_regex(values, _INFINITE)
    rest = values.filter(pc.invert(infinite))
    if len(rest) and _all(rest, _COMMA):
        facts.comma = True
        rest = pc.replace_substring(rest, ",", ".")
    elif len(rest) and _all(rest, _DECIMAL):
        facts.point |= _any(rest, r"\.")
    elif len(rest):
        return set()
    facts.infinite += pc.sum(infinite).as_py()
    if len(rest):
        _extend(facts, pc.utf8_trim_whitespace(rest).cast(pa.float64()))
    return {NUMBER}


def _count(facts: Facts, values: pa.Array) -> None:
    if facts.values is None or pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return
    counted = pc.value_counts(values)
    if len(counted) > MOST_VALUES:
        facts.values = None
        return
    found = zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
    facts.values.update(dict(found))
    if len(facts.values) > MOST_VALUES:
        facts.values = None


def _read(value: Any, kind: ColumnType) -> Any:
    if kind in (NUMBER, INTEGER):
        return float(value.strip().replace(",", ".") if isinstance(value, str) else value)
    word = str(value).lower() if kind is BOOLEAN or isinstance(value, bool) else str(value)
    return {"1": "true", "0": "false"}.get(word, word) if kind is BOOLEAN else word


def _extremes(values: pa.Array) -> tuple[Any, Any]:
    found = pc.min_max(values).as_py()
    return found["min"], found["max"]


def _all(values: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(values, pattern)).as_py()


def _any(values: pa.Array, pattern: str) -> bool:
    return pc.any(pc.match_substring_regex(values, pattern)).as_py()
