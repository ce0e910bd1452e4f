"""Holding a file against its contract in one pass: the verdict, the profile and the typed rows.

All reasons are found, not only the first, and each says what to do. Rows
stream: only unique keys remember anything of a row, see `refit.repeats`. While a
batch is looked at, the next one is read on another thread.
"""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refit import times
from refit.batches import Code, Reason
from refit.columns import (
    Typed,
    arrow_indices,
    arrow_mask,
    arrow_words,
    buffer_of,
    text_of,
    truths,
    typed,
)
from refit.contract import NUMERIC, Column, ColumnType, Contract
from refit.errors import UnreadableFile
from refit.profile import CategoryProfile, ColumnProfile, NumberProfile, Profile, iso
from refit.reading import Limits, NotAsTyped, Source, open_source, swap_decimal
from refit.repeats import Repeats
from refit.shard import NAT, Writer, chunk_bytes, hash_words, kind_of, mix, packed_values
from refit.tally import MAX_BYTES, MAX_WORDS, CategoryTally, NumberTally, Room

MOST_BYTES = 8 << 30  # that a file may unpack to, unless told otherwise
MOST_SHARD = 5 << 30  # bytes that S3 takes at once
# Columns beyond the contract's number with which a refused file's rows are read all the same.
MOST_EXTRA = 100
LISTED = 10_000  # bad rows that are written out
LONGEST_CELL = 1000  # characters of a cell in that list
ENOUGH_LABELS = 50  # from which labels that are all the same are no accident
GROUPS = 500_000  # of rows with the same key that are looked at in one pass
DAY = 86_400 * 10**9
_NULL_KEY, _WRONG_KEY = np.uint64(0x5851F42D4C957F2D), np.uint64(0x14057B7EF767814F)
_NO_ROWS = np.empty(0, np.int64)
T = TypeVar("T")
_SLOT = np.uint64(46)  # bits of a hash that do not say where a word is looked for first


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
    task = _Task(paths, contract, limits, now, shard, bad_rows, folder)
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


@dataclass(frozen=True)
class _Task:
    paths: Sequence[Path]
    contract: Contract
    limits: Limits
    now: str | None
    shard: Path | None
    bad_rows: Path | None
    folder: Path | None


def _judge(task: _Task, types: Mapping[str, ColumnType] | None) -> Verdict:
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
    repeats = Repeats(task.folder) if keyed else None
    found = _pass(task, sources, columns, repeats, _NO_ROWS)
    if repeats:
        rows, hashes = repeats.suspects()
        doubled, listed = _doubled(task, sources, columns, rows, hashes) if len(rows) else (_NO_ROWS, [])
    else:
        doubled, listed = _NO_ROWS, []
    verdict = _verdict(task, layout, columns, found, doubled)
    if verdict.accepted and len(doubled):
        # What came again is in the profile and the shard: once more, without it.
        again = _pass(task, sources, columns, None, doubled)
        verdict = replace(verdict, profile=_profile(contract, columns, again))
    return _with_list(task, verdict, sources, found.listed + listed)


# ---------------------------------------------------------------- the layout


def _with_points(array: pa.Array, column: Column, source: Source) -> pa.Array:
    """Numbers of a CSV that is declared to have decimal commas, as the checks know them."""
    commas = source.dialect is not None and source.dialect.decimal == "," and not source.typed
    return swap_decimal(array) if commas and column.type in NUMERIC else array


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


# ---------------------------------------------------------------- what is found


@dataclass
class _ColumnFound:
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
class _BadRow:
    """`row` counts from 0; `cells` as they stand in the file, in its order of columns."""

    row: int
    codes: tuple[tuple[str, str], ...]
    cells: tuple[str, ...]


@dataclass
class _Found:
    columns: dict[str, _ColumnFound]
    rows: int = 0
    bad: int = 0
    listed: list[_BadRow] = field(default_factory=list)
    left_out: list[np.ndarray] = field(default_factory=list)


def _pass(
    task: _Task,
    sources: Sequence[Source],
    columns: Sequence[Column],
    repeats: Repeats | None,
    excluded: np.ndarray,
) -> _Found:
    """Look at every row once; `excluded` are rows to leave out, rising."""
    learned = [column for column in columns if column.type is not ColumnType.TEXT]
    kinds = [kind_of(column.type) for column in learned]
    counted = all(source.rows is not None for source in sources)
    if task.shard and counted:
        _check_size(chunk_bytes(sum(source.rows or 0 for source in sources), kinds))
    writer = Writer(task.shard, [(column.name, column.type) for column in learned]) if task.shard else None
    rows = _Rows(task, columns, repeats, excluded, writer)
    try:
        for source in sources:
            rows.look_at(source)
        found = rows.end()
        if writer:
            writer.close(np.concatenate([_NO_ROWS, *found.left_out]))
    finally:
        if writer:
            writer.abandon()
    return found


def _check_size(size: int) -> None:
    if size > MOST_SHARD:
        raise UnreadableFile(
            f"Its typed rows take {size} bytes, at most {MOST_SHARD} can be stored; split the file.",
            Code.UNPACKS_TOO_LARGE,
        )


# ---------------------------------------------------------------- the rows


class _Vocabulary:
    """The words of a category column, in the order in which they came; codes are their places."""

    def __init__(self, column: Column) -> None:
        self._listed = arrow_words(column.categories) if column.categories else None
        self.clear()

    def clear(self) -> None:
        self.words = arrow_words([])
        self._hashes = self._sorted = np.zeros(0, np.uint64)
        self._order = np.zeros(0, np.int64)
        self._slots = np.zeros(0, np.int64)
        self._last, self._table = (
            arrow_words([]),
            np.full(1, -1, np.int32),
        )  # the last dictionary, and its codes here
        self.counts = np.zeros(0, np.int64)  # rows that are used
        self.seen = np.zeros(0, np.int64)  # all rows
        self.unlisted: np.ndarray | None = None if self._listed is None else np.zeros(0, bool)

    def codes(self, found: Typed) -> np.ndarray:
        """Codes into this vocabulary, int32, -1 for null; it grows by words that are new."""
        words = found.words
        assert words is not None
        codes = found.values
        if not _extends(words, self.words):
            # The dictionaries of one row group begin alike: only what is new in one is looked up.
            before = self._table[:-1] if _extends(words, self._last) else self._table[:0]
            there, places = self._found(words.slice(len(before)))
            new = words.slice(len(before)).filter(arrow_mask(~there))
            self._last, self._table = words, np.empty(len(words) + 1, np.int32)
            self._table[: len(before)] = before
            table = self._table[len(before) : -1]
            table[there] = places[there]
            table[~there] = np.arange(len(self.words), len(self.words) + len(new))
            self._table[-1] = -1
            codes = self._table[codes]
            words = pa.concat_arrays([self.words, new]) if len(new) else self.words
        grown = len(words) - len(self.words)
        if grown:
            if self.unlisted is not None:
                added = ~truths(pc.is_in(words.slice(len(self.words)), value_set=self._listed))
                self.unlisted = np.concatenate([self.unlisted, added])
            self.counts = np.concatenate([self.counts, np.zeros(grown, np.int64)])
            self.seen = np.concatenate([self.seen, np.zeros(grown, np.int64)])
            self.words = words
        return codes

    def _found(self, words: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Which words are known, and their places where they are; shape (words,) each."""
        fresh = hash_words(*text_of(self.words.slice(len(self._hashes))))
        if len(fresh):
            if not len(self._slots):
                self._slots = np.zeros(1 << (64 - int(_SLOT)), np.int64)
            # Whoever came first keeps the place: words that are frequent come early.
            known = len(self._hashes)
            self._hashes = np.concatenate([self._hashes, fresh])
            slots, codes = (fresh >> _SLOT)[::-1], np.arange(known, len(self._hashes))[::-1]
            free = self._hashes[self._slots[slots]] >> _SLOT != slots
            self._slots[slots[free]] = codes[free]
            order = np.argsort(fresh)
            at = np.searchsorted(self._sorted, fresh[order])
            self._sorted = np.insert(self._sorted, at, fresh[order])
            self._order = np.insert(self._order, at, order + known)
        hashes = hash_words(*text_of(words))
        if not len(self._sorted):
            return np.zeros(len(words), bool), np.zeros(len(words), np.int64)
        # Most are where their leading bits say; the others are searched for.
        places = self._slots[hashes >> _SLOT]
        there = self._hashes[places] == hashes
        rest = np.flatnonzero(~there)
        at = np.minimum(np.searchsorted(self._sorted, hashes[rest]), len(self._sorted) - 1)
        there[rest], places[rest] = self._sorted[at] == hashes[rest], self._order[at]
        some = words if there.all() else words.filter(arrow_mask(there))
        same = pc.equal(self.words.take(arrow_indices(places if there.all() else places[there])), some)
        if truths(same).all():
            return there, places
        found = pc.index_in(words, value_set=self.words)  # two words have one hash: Arrow compares them
        return truths(found.is_valid()), buffer_of(found, np.int32)

    @property
    def full(self) -> bool:
        return len(self.words) > MAX_WORDS or self.words.nbytes > MAX_BYTES


def _extends(words: pa.Array, before: pa.Array) -> bool:
    """Whether `words` begins with all of `before`, as the dictionaries of one row group do."""
    if len(words) < len(before):
        return False
    body, places = text_of(words)
    old_body, old_places = text_of(before)
    if len(words) == len(before) and places.ctypes.data == old_places.ctypes.data:
        return True
    n, shift = len(old_places), places[0] - old_places[0]
    if not np.array_equal(places[:64][:n] - shift, old_places[:64]):
        return False  # as most that differ
    same = np.array_equal(places[:n] - shift if shift else places[:n], old_places)
    size = int(old_places[-1] - old_places[0])
    return same and np.array_equal(
        body[places[0] : places[0] + size], old_body[old_places[0] : old_places[0] + size]
    )


@dataclass(frozen=True)
class _Part:
    """The batches that follow are of another part of the file; `rows` is None where that is not known."""

    rows: int | None


def _stream(source: Source) -> Iterator[_Part | pa.RecordBatch]:
    """What a source holds, in its order."""
    parts = source.parts()
    ends = [*(part.first_row for part in parts), source.rows][1:]
    for i, (part, end) in enumerate(zip(parts, ends, strict=True)):
        if i:
            pa.default_memory_pool().release_unused()  # what the part before has freed
        yield _Part(None if part.first_row is None or end is None else end - part.first_row)
        yield from part.batches()


def _ahead(things: Iterator[T]) -> Iterator[T]:
    """The same things; the next one is read on another thread while one is looked at."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, things, None)
        while (thing := following.result()) is not None:
            following = pool.submit(next, things, None)
            yield thing


@dataclass
class _Checked:
    """A column of a batch: typed, and what of it is to be counted."""

    column: Column
    found: Typed
    empty: np.ndarray | None  # null or wrong
    low: float = 0.0  # of the numbers that are there
    high: float = 0.0
    present: np.ndarray | None = None
    codes: np.ndarray | None = None


class _Rows:
    """What has been found in the rows that were looked at."""

    def __init__(
        self,
        task: _Task,
        columns: Sequence[Column],
        repeats: Repeats | None,
        excluded: np.ndarray,
        writer: Writer | None,
    ) -> None:
        self.task, self.columns, self.repeats, self.excluded = task, columns, repeats, excluded
        self.writer = writer
        self.found = _Found({column.name: _ColumnFound() for column in columns})
        room = Room()
        for column in columns:
            if column.type in NUMERIC:
                whole = column.type is not ColumnType.NUMBER
                self.found.columns[column.name].numbers = NumberTally(room, whole)
        self.words = {c.name: _Vocabulary(c) for c in columns if c.type is ColumnType.CATEGORY}
        learned = [column.name for column in columns if column.type is not ColumnType.TEXT]
        self.slots = {name: slot for slot, name in enumerate(learned)}
        self.before = dict.fromkeys(self.words, 0)  # words that were put away

    def look_at(self, source: Source) -> None:
        """Look at the rows of one of the files."""
        self.source = source
        self.places = [source.names.index(column.name) for column in self.columns]
        stream, part, most = _stream(source), _Part(None), self.task.limits.max_rows
        # The reader of a CSV is ahead by itself.
        for thing in _ahead(stream) if source.kind == "parquet" else stream:
            if isinstance(thing, _Part):
                part = thing
                if self.writer and part.rows is not None:
                    self._open_chunk(part.rows)
            elif thing.num_rows:
                if self.writer and part.rows is None:
                    self._open_chunk(thing.num_rows)
                self._batch(thing)
            if self.found.rows > most:
                message = f"{self.found.rows} rows, at most {most} are allowed; split the file."
                raise UnreadableFile(message, Code.TOO_MANY_ROWS)

    def _open_chunk(self, rows: int) -> None:
        assert self.writer is not None
        self.writer.open_chunk(rows)
        _check_size(self.writer.size)

    def end(self) -> _Found:
        for name in self.words:
            self._put_away(name)
        return self.found

    def _batch(self, batch: pa.RecordBatch) -> None:
        row = self.found.rows
        broken: list[tuple[np.ndarray, str, str]] = []
        checked = [
            self._check(column, batch.column(place), broken)
            for column, place in zip(self.columns, self.places, strict=True)
        ]
        if self.repeats:
            self.repeats.add(self._key_hashes(batch, checked), row)
        bad = self._bad(broken, batch, row)
        for each in checked:
            self._count(each, bad)
            if self.writer and each.column.name in self.slots:
                self.writer.write(self.slots[each.column.name], self._packed(each))
        self.found.rows += batch.num_rows

    def _bad(
        self, broken: list[tuple[np.ndarray, str, str]], batch: pa.RecordBatch, row: int
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
            if self.source.typed:
                raise NotAsTyped  # the list shows cells as they were written
            at = np.flatnonzero(bad)[: LISTED - len(self.found.listed)]
            reasons = [tuple((code, name) for mask, code, name in broken if mask[i]) for i in at]
            self.found.listed += _rows_of(batch, at, row, reasons)
        self.found.bad += int(np.count_nonzero(bad))
        bad[excluded[first:last] - row] = True
        self.found.left_out.append(np.flatnonzero(bad) + row)
        return bad

    def _check(self, column: Column, array: pa.Array, broken: list[tuple[np.ndarray, str, str]]) -> _Checked:
        found, name = self.found.columns[column.name], column.name
        if column.type is ColumnType.CATEGORY and self.words[name].full:
            self._put_away(name)
        values = typed(_with_points(array, column, self.source), column.type)
        if values.null is not None:
            found.nulls += int(np.count_nonzero(values.null))
        empty = values.null
        if values.wrong is not None:
            found.wrong += int(np.count_nonzero(values.wrong))
            broken.append((values.wrong, Code.WRONG_TYPE, name))
            empty = values.wrong if empty is None else empty | values.wrong
        source = values.source
        if self.source.kind == "csv":
            plain = column.type in (ColumnType.CATEGORY, ColumnType.TEXT)
            source = "" if plain else "text"
        if source:
            found.coerced[source] += len(array) - (0 if empty is None else int(np.count_nonzero(empty)))
        checked = _Checked(column, values, empty)
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
        self, checked: _Checked, found: _ColumnFound, broken: list[tuple[np.ndarray, str, str]]
    ) -> None:
        column, values = checked.column, checked.found.values
        present = values if checked.empty is None else values[~checked.empty]
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

    def _count(self, each: _Checked, bad: np.ndarray | None) -> None:
        name, kind = each.column.name, each.column.type
        if kind in NUMERIC:
            present = each.present
            assert present is not None
            low, high = each.low, each.high
            if bad is not None:
                present = each.found.values[~(bad if each.empty is None else bad | each.empty)]
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
                seen = _tallied(codes[~bad], each.empty is not None, len(vocabulary.words))
            vocabulary.counts += seen
        elif kind is ColumnType.TIMESTAMP and name == self.task.contract.time:
            mask = each.empty
            if bad is not None:
                mask = bad if mask is None else mask | bad
            present = each.found.values if mask is None else each.found.values[~mask]
            if len(present):
                found, low, high = self.found.columns[name], int(present.min()), int(present.max())
                found.first = low if found.first is None else min(found.first, low)
                found.last = high if found.last is None else max(found.last, high)

    def _packed(self, each: _Checked) -> np.ndarray:
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
            self.writer.write_words(self.slots[name], *text_of(vocabulary.words))
            _check_size(self.writer.size)
        self.before[name] += len(vocabulary.words)
        vocabulary.clear()

    def _key_hashes(self, batch: pa.RecordBatch, checked: Sequence[_Checked]) -> np.ndarray:
        by_name = dict(
            zip((each.column.name for each in checked), zip(checked, self.places, strict=True), strict=True)
        )
        mixed = np.zeros(batch.num_rows, np.uint64)
        for key in self.task.contract.keys:
            each, place = by_name[key]
            mixed = mix(mixed + np.uint64(1) ^ mix(_hashes(each, batch.column(place))))
        return mixed


def _tallied(codes: np.ndarray, nulls: bool, words: int) -> np.ndarray:
    if not nulls:
        return np.bincount(codes, minlength=words)
    return np.bincount(codes + 1, minlength=words + 1)[1:]


def _hashes(each: _Checked, array: pa.Array) -> np.ndarray:
    """A uint64 for each value of a key column; what is empty counts as a value."""
    if each.column.type is ColumnType.TEXT:
        words, codes = _text(array)
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


def _text(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
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


def _rows_of(
    batch: pa.RecordBatch, at: np.ndarray, row: int, reasons: Sequence[tuple[tuple[str, str], ...]]
) -> list[_BadRow]:
    """Rows of a batch as they stand in the file."""
    cells = zip(*(_cells(column.take(arrow_indices(at))) for column in batch.columns), strict=True)
    return [_BadRow(int(i) + row, codes, each) for i, codes, each in zip(at, reasons, cells, strict=True)]


def _cells(array: pa.Array) -> list[str]:
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


# ---------------------------------------------------------------- keys that come again


def _doubled(
    task: _Task, sources: Sequence[Source], columns: Sequence[Column], rows: np.ndarray, hashes: np.ndarray
) -> tuple[np.ndarray, list[_BadRow]]:
    """Of rows whose hashes are equal, those whose keys an earlier row has; the keys themselves are compared."""
    groups = np.unique(hashes)
    doubled: list[int] = []
    listed: list[_BadRow] = []
    keys = [column for name in task.contract.keys for column in columns if column.name == name]
    label = ", ".join(task.contract.keys)
    for start in range(0, len(groups), GROUPS):
        low, high = groups[start], groups[min(start + GROUPS, len(groups)) - 1]
        mine = (hashes >= low) & (hashes <= high)
        wanted, of = rows[mine], hashes[mine]
        known: dict[int, set[tuple[object, ...]]] = {}
        row = 0
        for source in sources:
            places = [source.names.index(column.name) for column in keys]
            for part in source.parts():
                for batch in part.batches():
                    first, last = np.searchsorted(wanted, [row, row + batch.num_rows])
                    if first < last:
                        at = wanted[first:last] - row
                        picked = batch.take(arrow_indices(at))
                        values = zip(
                            *(
                                _comparable(picked.column(place), column)
                                for place, column in zip(places, keys, strict=True)
                            ),
                            strict=True,
                        )
                        again = []
                        for i, key in enumerate(values):
                            before = known.setdefault(int(of[first + i]), set())
                            if key in before:
                                again.append(i)
                            before.add(key)
                        doubled += (at[again] + row).tolist()
                        if again and task.bad_rows and len(listed) < LISTED:
                            if source.typed:
                                raise NotAsTyped
                            few = at[again][: LISTED - len(listed)]
                            listed += _rows_of(batch, few, row, [((Code.DUPLICATE_KEY, label),)] * len(few))
                    row += batch.num_rows
    return np.array(sorted(doubled), np.int64), listed


def _comparable(array: pa.Array, column: Column) -> list[object]:
    """Values of a key column as Python objects that are equal when the keys are."""
    if column.type is ColumnType.TEXT:
        words, codes = _text(array)
        return _spelled(words, codes)
    found = typed(array, column.type)
    values = found.values.tolist() if found.words is None else _spelled(found.words, found.values)
    if found.null is not None:
        values = [None if null else value for value, null in zip(values, found.null, strict=True)]
    if found.wrong is not None:
        raw = _cells(array)
        values = [(r,) if w else v for v, w, r in zip(values, found.wrong, raw, strict=True)]
    return values


def _spelled(words: pa.Array, codes: np.ndarray) -> list[object]:
    used, place = np.unique(codes, return_inverse=True)
    texts = [None if code < 0 else words[int(code)].as_py() for code in used]
    return [texts[i] for i in place]


# ---------------------------------------------------------------- the verdict


def _verdict(
    task: _Task, layout: Sequence[Reason], columns: Sequence[Column], found: _Found, doubled: np.ndarray
) -> Verdict:
    contract, reasons, warnings = task.contract, list(layout), list[Reason]()
    if not found.rows:
        message = "The file has a header but no rows; upload it with its rows."
        reasons.append(Reason(Code.TOO_FEW_ROWS, message, count=0))
    empty = not found.rows
    whole_file = False
    profile = _profile(contract, columns, found)
    for column in columns:
        for finding in _findings(column, found.columns[column.name], found.rows):
            (reasons if finding.hard else warnings).append(finding.reason)
            whole_file |= finding.hard and not finding.by_row
    if len(doubled):
        keys = ", ".join(contract.keys)
        message = f"{keys} must name a row once; drop or merge the repeated rows."
        reasons.append(Reason(Code.DUPLICATE_KEY, message, keys, len(doubled)))
    for finding in _file_findings(task, profile, found):
        (reasons if finding.hard else warnings).append(finding.reason)
        whole_file |= finding.hard
    left_out = np.concatenate([_NO_ROWS, *found.left_out])
    bad_rows = found.bad + int(np.count_nonzero(~np.isin(doubled, left_out)))
    rows = found.rows - bad_rows
    coercions = tuple(_coercions(columns, found))
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
        message = f"{bad_rows} rows broke hard rules and were left out; the contract tolerates them."
        warnings.append(Reason(Code.BAD_ROWS_LEFT_OUT, message, count=bad_rows))
    target = profile.columns.get(contract.target)
    if target is not None and target.rows == target.nulls:
        message = f"No row has a value in {contract.target!r}; nothing can be learned from this file yet."
        warnings.append(Reason(Code.NO_LABELS, message, contract.target, rows))
    return Verdict(True, rows, bad_rows, (), tuple(warnings), coercions, profile)


@dataclass(frozen=True)
class _Finding:
    """A broken rule; `by_row`: single rows break it, and may be left out."""

    reason: Reason
    hard: bool
    by_row: bool = False


def _findings(column: Column, found: _ColumnFound, rows: int) -> Iterator[_Finding]:
    name = column.name
    if found.wrong:
        message = f"{found.wrong} values of {name!r} are no {column.type}; correct them or leave them empty."
        yield _Finding(Reason(Code.WRONG_TYPE, message, name, found.wrong), True, True)
    share = found.nulls / max(1, rows)
    if share > column.nulls:
        message = (
            f"{share:.1%} of {name!r} is empty, {column.nulls:.1%} is tolerated; "
            "fill it, or raise nulls in model.toml."
        )
        yield _Finding(Reason(Code.TOO_MANY_NULLS, message, name, found.nulls), True)
    if column.type is ColumnType.CATEGORY:
        yield from _category_findings(column, found)
    if found.infinite:
        message = f"{found.infinite} values of {name!r} are infinite; correct them or leave them empty."
        yield _Finding(Reason(Code.NOT_FINITE, message, name, found.infinite), True, True)
    if found.outside:
        low = -np.inf if column.min is None else column.min
        high = np.inf if column.max is None else column.max
        message = (
            f"{found.outside} values of {name!r} lie outside {low:g}..{high:g}; "
            "correct them, or widen model.toml."
        )
        yield _Finding(Reason(Code.OUT_OF_RANGE, message, name, found.outside), column.hard, True)


def _category_findings(column: Column, found: _ColumnFound) -> Iterator[_Finding]:
    name, words = column.name, found.words
    if words and (number := words.number_of_words()) > column.max_categories:
        about = "about " if words.overflow else ""
        message = (
            f"{name!r} has {about}{number} categories, at most {column.max_categories} are expected; "
            "is it a key or text? Else raise max_categories in model.toml."
        )
        yield _Finding(Reason(Code.TOO_MANY_CATEGORIES, message, name, number), column.hard)
    if words and found.unlisted:
        listed = set(column.categories)
        number = sum(1 for word, _ in words.words_seen() if word not in listed)
        more = "more than " if words.overflow else ""
        message = (
            f"{found.unlisted} rows of {name!r} hold {more}{number} categories that the contract does not list; "
            "correct them, or add them to model.toml."
        )
        yield _Finding(Reason(Code.UNKNOWN_CATEGORY, message, name, found.unlisted), column.hard, True)


def _file_findings(task: _Task, profile: Profile, found: _Found) -> Iterator[_Finding]:
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
            yield _Finding(Reason(Code.CONSTANT_LABEL, message, contract.target, labelled), True)
        counts = _class_counts(declared, target)
        if labelled and counts and min(counts) / labelled < contract.min_class_share:
            message = (
                f"The rarest class of {contract.target!r} has {min(counts)} of {labelled} labelled rows, less than "
                f"{contract.min_class_share:.1%}; collect more of it, or lower min_class_share in model.toml."
            )
            hard = "min_class_share" in contract.hard
            yield _Finding(Reason(Code.RARE_LABEL, message, contract.target, min(counts)), hard)
    last = found.columns[contract.time].last if contract.time in found.columns else None
    if task.now and contract.fresh_seconds is not None and contract.time and last is not None:
        moment = int(times.moment(task.now).timestamp()) * 10**9
        hard = "fresh" in contract.hard
        if last < moment - contract.fresh_seconds * 10**9:
            message = (
                f"The newest {contract.time!r} is {iso(last)}, more than {contract.fresh_seconds} seconds before the "
                "file arrived; is it an old export? Else raise contract.fresh in model.toml."
            )
            yield _Finding(Reason(Code.NOT_FRESH, message, contract.time), hard)
        elif last > moment + DAY:
            message = (
                f"The newest {contract.time!r} is {iso(last)}, more than a day after the file arrived; "
                "correct the times, or the zone they are in."
            )
            yield _Finding(Reason(Code.NOT_FRESH, message, contract.time), hard)


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


def _coercions(columns: Sequence[Column], found: _Found) -> Iterator[Reason]:
    for column in columns:
        coerced = +found.columns[column.name].coerced
        if coerced:
            sources = ", ".join(sorted(coerced))
            count = sum(coerced.values())
            message = f"{count} values of {column.name!r} were read from {sources} as {column.type}; nothing was lost."
            yield Reason(Code.COERCED, message, column.name, count)


def _profile(contract: Contract, columns: Sequence[Column], found: _Found) -> Profile:
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


# ---------------------------------------------------------------- the list of bad rows


def _with_list(
    task: _Task, verdict: Verdict, sources: Sequence[Source], listed: Iterable[_BadRow]
) -> Verdict:
    """Write the bad rows out, in their order, and say how many of them the list shows."""
    by_row: dict[int, _BadRow] = {}
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
