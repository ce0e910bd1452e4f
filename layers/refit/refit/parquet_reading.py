"""Reading Parquet: the footer is held against the file before anything is read after it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from refit.batches import Code
from refit.columns import buffer_of
from refit.errors import UnreadableFile
from refit.parquet_footer import LIST_ITEMS, Footer, Group, Pages, most_unpacked, read_footer, read_pages
from refit.source import (
    BATCH_ROWS,
    CELL_BYTES,
    Limits,
    Part,
    Source,
    cell_too_large,
    largest,
    short,
    too_many_columns,
)

PART_ROWS = 256 << 10  # small row groups are read together up to so many rows
COLUMN_ROWS = 256 << 10  # in a batch of columns that are read by themselves
BATCH_BYTES = 64 << 20  # of decoded values
GATHERED_ROWS, GATHERED_BYTES = 32 << 10, 16 << 20  # from which batches are not put together
FOOTER_BYTES = 16 << 20
PAGE_BYTES = (
    128 << 20
)  # that a page may unpack to; usual are one or eight, but some writers make pages of a hundred
HELD_BYTES = 256 << 20  # of dictionaries and pages that are unpacked at a time, of all columns together, or
HELD_OF_EACH = 4 << 20  # by each: usual are a dictionary and a page of at most one
WORDS_TIMES = (
    3  # that the words of a dictionary are in memory: as a page, as Arrow's words, and in what looks at them
)
BUFFER_BYTES = 32 << 20  # of all columns together
FEW_WORDS = 16 << 10  # columns of more words are read as plain text: twice as fast, and a tenth of the memory
TIMES = 4  # but not when rows repeat the words so often, and
REPEATED_BYTES = 32 << 20  # all such columns of a row group unpack to no more
WRITE_AGAIN = "write the file again"


def open_parquet(path: Path, limits: Limits) -> Source:
    """Look at a file's footer and refuse what it should not be."""
    size = path.stat().st_size
    footer = read_footer(_footer(path, size))
    if footer.encrypted:
        raise UnreadableFile("The Parquet file is encrypted; upload it without encryption.")
    if footer.leaves > limits.max_columns:
        raise too_many_columns(footer.leaves, limits)
    options: dict[str, object] = {
        "buffer_size": max(
            16 << 10, min(256 << 10, BUFFER_BYTES // max(1, footer.leaves))
        ),  # with a memory map the whole file stays resident, and without a buffer a column chunk
        "pre_buffer": False,
        "page_checksum_verification": True,
        "thrift_string_size_limit": FOOTER_BYTES,
        "thrift_container_size_limit": LIST_ITEMS,
    }
    try:
        with pq.ParquetFile(path, **options) as file:
            schema, metadata = file.schema_arrow, file.metadata
            names = tuple(schema.names)
    except UnicodeDecodeError as error:
        message = f"A column of the Parquet file has a name that is no UTF-8; rename it, or {WRITE_AGAIN}."
        raise UnreadableFile(message) from error
    _flat(schema, footer)
    _plausible(footer, size, limits)
    _narrow(schema, limits)
    text = [i for i, field in enumerate(schema) if _is_text(storage(field.type))]
    headers = _Headers(path, footer)
    pages = headers.of_text(set(text))
    few = _by_word(text, pages)
    options["read_dictionary"] = [names[i] for i in few]
    widths = [float(_width(field.type)) for field in schema]
    doubled = Counter(names)
    rest = [i for i in text if i not in few and doubled[names[i]] == 1]
    for i in text:
        widths[i] += CELL_BYTES if doubled[names[i]] > 1 else 0
    if rest:
        by_word = {**options, "read_dictionary": [names[i] for i in rest]}
        with pq.ParquetFile(path, metadata=metadata, **by_word) as file:
            for i in rest:
                widths[i] += _text_bytes(file, footer, names[i], pages[i], limits)
    apart = not _has_prefixes(names)
    parts = []
    for groups in _together(footer, PART_ROWS):
        rows = sum(footer.groups[i].rows for i in groups)
        reader = _Reader(path, metadata, options, headers, groups, rows, names, widths, limits)
        parts.append(Part(rows, reader.batches, reader.columns if apart else None))
    return Source("parquet", names, footer.rows, pieces=tuple(parts))


def _footer(path: Path, size: int) -> bytes:
    """The bytes of a footer that fits into its file."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, size - 8))
        tail = file.read(8)
        if head == b"PARE" or tail[4:] == b"PARE":
            raise UnreadableFile("The Parquet file is encrypted; upload it without encryption.")
        if size < 12 or tail[4:] != b"PAR1":
            raise UnreadableFile("The Parquet file is cut off: it does not end as one; upload it again.")
        footer = int.from_bytes(tail[:4], "little")
        if footer == 0 or footer > size - 12:
            raise UnreadableFile(f"The Parquet file's footer has a size that cannot be right; {WRITE_AGAIN}.")
        if footer > FOOTER_BYTES:
            message = f"The Parquet file's footer is larger than {FOOTER_BYTES >> 20} MiB; write fewer and larger row groups."
            raise UnreadableFile(message)
        file.seek(size - 8 - footer)
        return file.read(footer)


def _plausible(footer: Footer, size: int, limits: Limits) -> None:
    """Refuse a footer whose numbers cannot be."""
    lie = UnreadableFile(f"The Parquet file's footer contradicts itself; {WRITE_AGAIN}.")
    if footer.rows > limits.max_rows:
        message = f"{footer.rows} rows, at most {limits.max_rows} are allowed; split the file."
        raise UnreadableFile(message, Code.TOO_MANY_ROWS)
    unpacked = 0
    for group in footer.groups:
        if group.rows < 0 or len(group.chunks) != footer.leaves:
            raise lie
        for chunk in group.chunks if group.rows else ():
            inside = chunk.start >= 4 and 0 < chunk.packed <= size - chunk.start
            if not inside or chunk.plain < 0 or chunk.values != group.rows:
                raise lie
            unpacked += chunk.plain
    if sum(group.rows for group in footer.groups) != footer.rows:
        raise lie
    if unpacked > limits.max_bytes:
        message = f"Unpacks to {unpacked} bytes, at most {limits.max_bytes} are allowed; split the file."
        raise UnreadableFile(message, Code.UNPACKS_TOO_LARGE)


class _Headers:
    """The headers of a file's pages, read as far as they are needed.

    Refuses pages that would unpack to more than memory holds, all columns together.
    """

    def __init__(self, path: Path, footer: Footer) -> None:
        self.path, self.footer = path, footer
        self.most = max(HELD_BYTES, HELD_OF_EACH * footer.leaves)
        # Bytes that the columns of a group unpack to at a time; None: their headers must tell.
        self.held = [self._bounds(group) for group in footer.groups]

    def _bounds(self, group: Group) -> list[float | None]:
        bounds = [most_unpacked(chunk) for chunk in group.chunks]
        return [None] * len(bounds) if sum(bounds) > HELD_BYTES else [*bounds]

    def read(self, group: int, columns: Iterable[int], text: bool) -> dict[int, Pages]:
        """Those of some columns of a group, which are all of text, or none."""
        found, held = {}, self.held[group]
        with FileIO(self.path) as file:  # neither a map, whose pages would stay resident, nor a buffer
            size = file.seek(0, io.SEEK_END)
            for i in columns:
                found[i] = pages = read_pages(file, size, self.footer.groups[group].chunks[i])
                if pages.largest > PAGE_BYTES:
                    message = f"A page of the Parquet file unpacks to {pages.largest} bytes, at most {PAGE_BYTES} are allowed; write smaller pages."
                    raise UnreadableFile(message, Code.UNPACKS_TOO_LARGE)
                held[i] = pages.page + pages.dictionary * (WORDS_TIMES if text else 1)
        here = sum(each or 0 for each in held)
        if here > self.most:
            message = f"The pages of the Parquet file's columns unpack to {here:.0f} bytes at a time, at most {self.most} are allowed; write smaller pages."
            raise UnreadableFile(message, Code.UNPACKS_TOO_LARGE)
        return found

    def of_text(self, text: set[int]) -> dict[int, list[Pages]]:
        """What the pages of the columns of text are; refuses a wrong number of rows, too."""
        found: dict[int, list[Pages]] = {i: [] for i in text}
        for group, each in enumerate(self.footer.groups):
            if each.rows:
                for i, pages in self.read(group, text, True).items():
                    found[i].append(pages)
                # One column tells whether the footer's rows are those of the pages; else Arrow would drop the rest.
                smallest = min(range(len(each.chunks)), key=lambda i: each.chunks[i].packed, default=None)
                if smallest is not None and smallest not in text:
                    self.read(group, [smallest], False)
        return found

    def check(self, groups: Iterable[int], columns: Iterable[int]) -> None:
        """Read those that must tell, and were not read, before the columns are."""
        for group in groups:
            if missing := [i for i in columns if self.held[group][i] is None]:
                self.read(group, missing, False)


def _by_word(text: list[int], pages: dict[int, list[Pages]]) -> list[int]:
    """The columns to be read as dictionaries, of text of few words or of such that come again and again."""
    found, left = [], REPEATED_BYTES
    for i in text:
        few = all(each.by_word and each.words <= FEW_WORDS for each in pages[i])
        again = all(
            each.some_by_word and not each.by_prefix and each.coded >= TIMES * each.words for each in pages[i]
        )
        size = max((each.plain for each in pages[i]), default=0)
        if few or (again and size <= left):
            found.append(i)
            left -= 0 if few else size
    return found


def _text_bytes(file: pq.ParquetFile, footer: Footer, name: str, pages: list[Pages], limits: Limits) -> float:
    """At most so many bytes a row of that column takes, on average over a batch, when it is read as plain text."""
    if any(each.by_prefix for each in pages):
        return limits.max_cell_bytes
    most = max((each.densest for each in pages), default=0.0)
    groups = [i for i, group in enumerate(footer.groups) if group.rows]
    for i, each in zip(groups, pages, strict=True):
        if each.some_by_word:  # a word may be large, and stand in every row
            batch = next(file.iter_batches(1, row_groups=[i], columns=[name], use_threads=False))
            most = max([most, *(largest(column.dictionary) for column in batch.columns)])
        if most > limits.max_cell_bytes:
            raise cell_too_large(name, limits)
    return most


def _flat(schema: pa.Schema, footer: Footer) -> None:
    nested = [field.name for field in schema if pa.types.is_nested(storage(field.type))]
    if nested:
        named = ", ".join(short(name) for name in nested[:10])
        message = f"Nested columns: {named}; flatten each into columns of its own."
        raise UnreadableFile(message, Code.NESTED_COLUMN, nested[0])
    if footer.leaves != len(schema):
        raise UnreadableFile(f"The Parquet file's footer contradicts itself; {WRITE_AGAIN}.")


def _narrow(schema: pa.Schema, limits: Limits) -> None:
    for field in schema:
        if _width(storage(field.type)) > limits.max_cell_bytes:
            raise cell_too_large(field.name, limits)


def storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _width(kind: pa.DataType) -> int:
    """Bytes of a decoded value, about; those of text are in its dictionary."""
    kind = storage(kind)
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:
        return 8


def _together(footer: Footer, most: int) -> Iterator[list[int]]:
    """Row groups that are read as one piece, of at most so many rows."""
    rows = 0
    groups: list[int] = []
    for i, group in enumerate(footer.groups):
        if not group.rows:
            continue
        if groups and rows + group.rows > most:
            yield groups
            rows, groups = 0, []
        groups.append(i)
        rows += group.rows
    if groups:
        yield groups


def _has_prefixes(names: Sequence[str]) -> bool:
    """Whether Arrow would read more than a column when asked for it by name: "a.b" lies under "a", it thinks."""
    known = set(names)
    return any(name[:i] in known for name in names for i, sign in enumerate(name) if sign == ".")


def _within(values: pa.DictionaryArray) -> bool:
    """Whether all indices, those of nulls included, point into the dictionary: a tenth of the time that Arrow needs."""
    unsigned = np.dtype(f"u{values.type.index_type.bit_width // 8}")
    indices = buffer_of(values.indices, unsigned)
    return bool(len(indices)) and int(indices.max()) < len(values.dictionary)


def _batch_rows(most: int, widths: Sequence[float]) -> int:
    """Rows of a batch of columns whose values take so many bytes."""
    return int(max(64, min(most, BATCH_BYTES // max(1.0, sum(widths)))))


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]


class _Reader:
    """Some row groups of a file."""

    def __init__(
        self,
        path: Path,
        metadata: pq.FileMetaData,
        options: dict[str, object],
        headers: _Headers,
        groups: list[int],
        rows: int,
        names: tuple[str, ...],
        widths: Sequence[float],
        limits: Limits,
    ) -> None:
        self.path, self.metadata, self.options, self.groups, self.rows = path, metadata, options, groups, rows
        self.headers, self.names, self.widths, self.limits = headers, names, widths, limits

    def batches(self) -> Iterator[pa.RecordBatch]:
        self.headers.check(self.groups, range(len(self.names)))
        yield from self._read(None, self.names, _batch_rows(BATCH_ROWS, self.widths))

    def columns(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The columns of these names, each of which is the name of one."""
        places = [self.names.index(name) for name in names]
        self.headers.check(self.groups, places)
        widths = [self.widths[i] for i in places]
        yield from self._read(list(names), names, _batch_rows(COLUMN_ROWS, widths))

    def _read(
        self, wanted: list[str] | None, names: Sequence[str], batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """The columns that are wanted, or all; `names` are theirs."""
        seen = waiting = 0
        gathered: list[pa.RecordBatch] = []  # small ones: each batch costs its consumer something
        with pq.ParquetFile(self.path, metadata=self.metadata, **self.options) as file:
            for batch in file.iter_batches(
                batch_rows, row_groups=self.groups, columns=wanted, use_threads=False
            ):
                seen += batch.num_rows
                if seen > self.rows:
                    break
                if wanted:
                    batch = batch.select(wanted)  # Arrow gives them in the file's order
                for name, values in zip(names, batch.columns, strict=True):
                    self._look(name, values)
                gathered.append(batch)
                waiting += batch.nbytes
                if waiting >= GATHERED_BYTES or sum(each.num_rows for each in gathered) >= GATHERED_ROWS:
                    yield _one(gathered)
                    gathered, waiting = [], 0
            if gathered:
                yield _one(gathered)
        if seen != self.rows:
            raise UnreadableFile(f"Holds another number of rows than its footer says; {WRITE_AGAIN}.")

    def _look(self, name: str, values: pa.Array) -> None:
        """Text that is no UTF-8, indices out of bounds, values too large: Arrow looks only when asked."""
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        kind = values.type
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        if pa.types.is_dictionary(kind) and _within(values):
            values.validate()
            values.dictionary.validate(full=True)
        else:
            values.validate(full=not (plain or pa.types.is_timestamp(kind)))
        if (
            largest(values.dictionary if pa.types.is_dictionary(kind) else values)
            > self.limits.max_cell_bytes
        ):
            raise cell_too_large(name, self.limits)
