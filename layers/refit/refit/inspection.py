"""Looking at batches of some columns: what breaks a rule, what is counted, what goes into the shard.

Rows stream: only unique keys remember anything of a row, see `refit.repeats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from refit.batches import Code
from refit.columns import Typed, arrow_indices, arrow_words, text_of, typed, without
from refit.contract import NUMERIC, Column, ColumnType, Contract
from refit.reading import Limits, NotAsTyped, Source, swap_decimal
from refit.repeats import Repeats
from refit.shard import NAT, Writer, hash_words, kind_of, mix, packed_values
from refit.tally import CategoryTally, NumberTally
from refit.vocabulary import Vocabulary

LISTED = 10_000  # bad rows that are written out
LONGEST_CELL = 1000  # characters of a cell in that list
NO_ROWS = np.empty(0, np.int64)
_NULL_KEY, _WRONG_KEY = np.uint64(0x5851F42D4C957F2D), np.uint64(0x14057B7EF767814F)


@dataclass(frozen=True)
class Task:
    paths: Sequence[Path]
    contract: Contract
    limits: Limits
    now: str | None
    shard: Path | None
    bad_rows: Path | None
    folder: Path | None


@dataclass
class ColumnFound:
    """Of one column."""

    wrong: int = 0
    nulls: int = 0
    infinite: int = 0
    outside: int = 0
    unlisted: int = 0
    coerced: Counter[str] = field(default_factory=Counter)
    numbers: NumberTally | None = None
    words: CategoryTally | None = None
    first: int | None = None  # of a timestamp, nanoseconds
    last: int | None = None


@dataclass(frozen=True)
class BadRow:
    """`row` counts from 0; `cells` as they stand in the file, in its order of columns."""

    row: int
    codes: tuple[tuple[str, str], ...]
    cells: tuple[str, ...]


@dataclass
class Found:
    columns: dict[str, ColumnFound]
    rows: int = 0
    bad: int = 0
    listed: list[BadRow] = field(default_factory=list)
    left_out: list[np.ndarray] = field(default_factory=list)


@dataclass
class Checked:
    """A column of a batch: typed, and what of it is to be counted."""

    column: Column
    found: Typed
    empty: np.ndarray | None  # null or wrong
    low: float = 0.0  # of the numbers that are there
    high: float = 0.0
    present: np.ndarray | None = None
    codes: np.ndarray | None = None


class RowsBelongTogether(Exception):
    """What was found in one column concerns rows of the others too; look at all columns of a batch together."""


class Inspection:
    """What has been found in the rows of some columns.

    `alone`: other columns of the same rows are looked at elsewhere, so that no row can be left out
    but those that are `excluded`, positions that rise.
    """

    def __init__(
        self,
        task: Task,
        columns: Sequence[Column],
        repeats: Repeats | None,
        excluded: np.ndarray,
        writer: Writer | None,
        alone: bool = False,
    ) -> None:
        self.task, self.columns, self.repeats, self.excluded = task, columns, repeats, excluded
        self.writer, self.alone = writer, alone
        self.found = Found({column.name: ColumnFound() for column in columns})
        for column in columns:
            if column.type in NUMERIC:
                whole = column.type is not ColumnType.NUMBER
                self.found.columns[column.name].numbers = NumberTally(whole)
        self.words = {c.name: Vocabulary(c) for c in columns if c.type is ColumnType.CATEGORY}
        self.before = dict.fromkeys(self.words, 0)  # words that were put away

    def end(self) -> Found:
        for name in self.words:
            self._put_away(name)
        return self.found

    def look_at(self, batch: pa.RecordBatch, places: Sequence[int], source: Source, chunk: int) -> None:
        """Look at the next rows; `places` are those of the columns in the batch, `chunk` is that of the shard."""
        row = self.found.rows
        broken: list[tuple[np.ndarray, str, str]] = []
        checked = [
            self._check(column, batch.column(place), source, broken)
            for column, place in zip(self.columns, places, strict=True)
        ]
        if broken and self.alone:
            raise RowsBelongTogether
        if self.repeats:
            arrays = [batch.column(place) for place in places]
            self.repeats.add(self._key_hashes(batch.num_rows, checked, arrays), row)
        bad = self._bad(broken, batch, source, row)
        for each in checked:
            self._count(each, bad)
            if self.writer and self.writer.holds(each.column.name):
                self.writer.write(chunk, each.column.name, self._packed(each))
        self.found.rows += batch.num_rows

    def _bad(
        self, broken: list[tuple[np.ndarray, str, str]], batch: pa.RecordBatch, source: Source, row: int
    ) -> np.ndarray | None:
        """Mask of the rows that are left out, None when there are none."""
        excluded = self.excluded
        first, last = np.searchsorted(excluded, [row, row + batch.num_rows])
        if not broken and first == last:
            return None
        bad = np.zeros(batch.num_rows, bool)
        for mask, _, _ in broken:
            bad |= mask
        if broken and self.task.bad_rows:
            if source.typed:
                raise NotAsTyped  # the list shows cells as they were written
            at = np.flatnonzero(bad)[: LISTED - len(self.found.listed)]
            reasons = [tuple((code, name) for mask, code, name in broken if mask[i]) for i in at]
            self.found.listed += rows_of(batch, at, row, reasons)
        self.found.bad += int(np.count_nonzero(bad))
        bad[excluded[first:last] - row] = True
        self.found.left_out.append(np.flatnonzero(bad) + row)
        return bad

    def _check(
        self, column: Column, array: pa.Array, source: Source, broken: list[tuple[np.ndarray, str, str]]
    ) -> Checked:
        found, name = self.found.columns[column.name], column.name
        if column.type is ColumnType.CATEGORY and self.words[name].full:
            if self.alone and self.writer:
                raise RowsBelongTogether  # else the order of words in the shard were that in which threads come
            self._put_away(name)
        values = typed(_with_points(array, column, source), column.type)
        if values.null is not None:
            found.nulls += int(np.count_nonzero(values.null))
        empty = values.null
        if values.wrong is not None:
            found.wrong += int(np.count_nonzero(values.wrong))
            broken.append((values.wrong, Code.WRONG_TYPE, name))
            empty = values.wrong if empty is None else empty | values.wrong
        before = values.source
        if source.kind == "csv":
            plain = column.type in (ColumnType.CATEGORY, ColumnType.TEXT)
            before = "" if plain else "text"
        if before:
            found.coerced[before] += len(array) - (0 if empty is None else int(np.count_nonzero(empty)))
        checked = Checked(column, values, empty)
        if column.type in NUMERIC:
            self._check_numbers(checked, found, broken)
        elif column.type is ColumnType.CATEGORY:
            vocabulary = self.words[name]
            checked.codes = vocabulary.codes(values)
            if vocabulary.unlisted is not None and vocabulary.unlisted.any():
                rows = np.append(vocabulary.unlisted, False)[checked.codes]
                if count := int(np.count_nonzero(rows)):
                    found.unlisted += count
                    if column.hard:
                        broken.append((rows, Code.UNKNOWN_CATEGORY, name))
        return checked

    def _check_numbers(
        self, checked: Checked, found: ColumnFound, broken: list[tuple[np.ndarray, str, str]]
    ) -> None:
        column, values = checked.column, checked.found.values
        present = values if checked.empty is None else without(values, checked.empty)
        checked.present = present
        if not len(present):
            return
        low, high = float(present.min()), float(present.max())
        checked.low, checked.high = low, high
        infinite = None
        if low == -np.inf or high == np.inf:
            infinite = np.isinf(values)
            if checked.empty is not None:
                infinite &= ~checked.empty
            found.infinite += int(np.count_nonzero(infinite))
            broken.append((infinite, Code.NOT_FINITE, column.name))
        least = -np.inf if column.min is None else column.min
        most = np.inf if column.max is None else column.max
        if column.type is not ColumnType.BOOLEAN and (low < least or high > most):
            outside = (values < least) | (values > most)
            for mask in (checked.empty, infinite):
                if mask is not None:
                    outside &= ~mask
            if count := int(np.count_nonzero(outside)):
                found.outside += count
                if column.hard:
                    broken.append((outside, Code.OUT_OF_RANGE, column.name))

    def _count(self, each: Checked, bad: np.ndarray | None) -> None:
        name, kind = each.column.name, each.column.type
        if kind in NUMERIC:
            present = each.present
            assert present is not None
            low, high = each.low, each.high
            if bad is not None:
                present = without(each.found.values, bad if each.empty is None else bad | each.empty)
                if len(present):
                    low, high = float(present.min()), float(present.max())
            numbers = self.found.columns[name].numbers
            assert numbers is not None
            numbers.add(present, low, high)
        elif kind is ColumnType.CATEGORY:
            vocabulary, codes = self.words[name], each.codes
            assert codes is not None
            seen = _tallied(codes, each.empty is not None, len(vocabulary.words))
            vocabulary.seen += seen
            if bad is not None:
                seen = _tallied(without(codes, bad), each.empty is not None, len(vocabulary.words))
            vocabulary.counts += seen
        elif kind is ColumnType.TIMESTAMP and name == self.task.contract.time:
            mask = each.empty
            if bad is not None:
                mask = bad if mask is None else mask | bad
            present = each.found.values if mask is None else without(each.found.values, mask)
            if len(present):
                found, low, high = self.found.columns[name], int(present.min()), int(present.max())
                found.first = low if found.first is None else min(found.first, low)
                found.last = high if found.last is None else max(found.last, high)

    def _packed(self, each: Checked) -> np.ndarray:
        kind = each.column.type
        if kind is ColumnType.CATEGORY:
            codes, before = each.codes, self.before[each.column.name]
            assert codes is not None
            return packed_values(np.where(codes < 0, -1, codes + before) if before else codes, kind_of(kind))
        values = each.found.values
        if each.empty is not None:
            values = np.where(each.empty, NAT if kind is ColumnType.TIMESTAMP else np.nan, values)
        return packed_values(values, kind_of(kind))

    def _put_away(self, name: str) -> None:
        """Hand over what was counted of a vocabulary, and begin another."""
        vocabulary, found = self.words[name], self.found.columns[name]
        found.words = found.words or CategoryTally()
        found.words.add(*text_of(vocabulary.words), vocabulary.counts, vocabulary.seen)
        if self.writer:
            self.writer.write_words(name, *text_of(vocabulary.words))
        self.before[name] += len(vocabulary.words)
        vocabulary.clear()

    def _key_hashes(self, rows: int, checked: Sequence[Checked], arrays: Sequence[pa.Array]) -> np.ndarray:
        by_name = {each.column.name: (each, array) for each, array in zip(checked, arrays, strict=True)}
        mixed = np.zeros(rows, np.uint64)
        for key in self.task.contract.keys:
            mixed = mix(mixed + np.uint64(1) ^ mix(key_hashes(*by_name[key])))
        return mixed


def _with_points(array: pa.Array, column: Column, source: Source) -> pa.Array:
    """Numbers of a CSV that is declared to have decimal commas, as the checks know them."""
    commas = source.dialect is not None and source.dialect.decimal == "," and not source.typed
    return swap_decimal(array) if commas and column.type in NUMERIC else array


def _tallied(codes: np.ndarray, nulls: bool, words: int) -> np.ndarray:
    if not nulls:
        return np.bincount(codes, minlength=words)
    return np.bincount(codes + 1, minlength=words + 1)[1:]


def rows_of(
    batch: pa.RecordBatch, at: np.ndarray, row: int, reasons: Sequence[tuple[tuple[str, str], ...]]
) -> list[BadRow]:
    """Rows of a batch as they stand in the file."""
    cells = zip(*(cells_of(column.take(arrow_indices(at))) for column in batch.columns), strict=True)
    return [BadRow(int(i) + row, codes, each) for i, codes, each in zip(at, reasons, cells, strict=True)]


def cells_of(array: pa.Array) -> list[str]:
    """Values as text, cut where they are long; what is empty is empty."""
    try:
        # By Arrow: as_py of a timestamp in nanoseconds imports pandas.
        values = array.cast(pa.large_string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = array.to_pylist()
    return ["" if value is None else _shown(value) for value in values]


def _shown(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text[:LONGEST_CELL]


def key_hashes(each: Checked, array: pa.Array) -> np.ndarray:
    """A uint64 for each value of a key column; what is empty counts as a value."""
    if each.column.type is ColumnType.TEXT:
        words, codes = text_and_codes(array)
        hashes = np.append(hash_words(*text_of(words)), _NULL_KEY)
        return hashes[codes]
    if each.column.type is ColumnType.CATEGORY:
        assert each.found.words is not None
        found = np.append(hash_words(*text_of(each.found.words)), _NULL_KEY)[each.found.values]
    elif each.column.type is ColumnType.TIMESTAMP:
        found = each.found.values.view(np.uint64).copy()
    else:
        found = (each.found.values + 0.0).view(np.uint64)
    if each.found.null is not None:
        found[each.found.null] = _NULL_KEY
    if each.found.wrong is not None:
        found[each.found.wrong] = _WRONG_KEY
    return found


def text_and_codes(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Words and codes of a column of text, of whatever type it is in the file; -1 for null."""
    kind = array.storage.type if isinstance(array.type, pa.BaseExtensionType) else array.type
    if not pa.types.is_dictionary(kind):
        array = array.storage if isinstance(array.type, pa.BaseExtensionType) else array
        try:
            array = array.cast(pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            array = arrow_words([repr(value) for value in array.to_pylist()])
    found = typed(array, ColumnType.CATEGORY)
    if found.wrong is not None:  # bytes that are no text
        array = arrow_words([repr(value) for value in array.to_pylist()])
        found = typed(array, ColumnType.CATEGORY)
    assert found.words is not None
    return found.words, found.values
