"""Reading Parquet: the footer is held against the file before anything is read after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refit.batches import Code
from refit.errors import UnreadableFile
from refit.source import BATCH_ROWS, Limits, Part, Source, cell_too_large, largest, short, too_many_columns

PART_ROWS = 256 << 10  # small row groups are read together up to so many rows
BATCH_BYTES = 64 << 20  # of decoded values
FOOTER_BYTES = 16 << 20
LIST_ITEMS = 100_000  # of any list in the footer
TEXT_ROWS = 1024  # a batch of text that is not read as a dictionary; each value may be as large as a cell
AS_DICTIONARY = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"}
WRITE_AGAIN = "write the file again"


def open_parquet(path: Path, limits: Limits) -> Source:
    """Look at a file's footer and refuse what it should not be."""
    size = path.stat().st_size
    _ends(path, size)
    thrift = {"thrift_string_size_limit": FOOTER_BYTES, "thrift_container_size_limit": LIST_ITEMS}
    options: dict[str, object] = {
        "memory_map": True,
        "pre_buffer": False,
        "page_checksum_verification": True,
        **thrift,
    }
    with pq.ParquetFile(path, **options) as file:
        footer = file.metadata
        if footer.num_columns > limits.max_columns:
            raise too_many_columns(footer.num_columns, limits)
        schema = file.schema_arrow
    _flat(schema, footer)
    encodings = _plausible(footer, size, limits)
    _narrow(schema, limits)
    text = [i for i, field in enumerate(schema) if _is_text(storage(field.type))]
    dictionaries = [schema.names[i] for i in text if encodings[i] <= AS_DICTIONARY]
    options["read_dictionary"] = dictionaries
    width = sum(_width(field.type) for field in schema)
    batch_rows = max(256, min(BATCH_ROWS, BATCH_BYTES // max(1, width)))
    if len(set(dictionaries)) < len(text):
        batch_rows = min(batch_rows, TEXT_ROWS)
    names = tuple(schema.names)
    parts = []
    for first, groups in _together(footer):
        rows = sum(footer.row_group(i).num_rows for i in groups)
        reader = _Reader(path, footer, options, groups, rows, batch_rows, names, limits)
        parts.append(Part(first, reader.batches))
    return Source("parquet", names, footer.num_rows, None, tuple(parts))


def _ends(path: Path, size: int) -> None:
    """The file's two ends: its mark, and a footer that fits into it."""
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


def _plausible(footer: pq.FileMetaData, size: int, limits: Limits) -> list[set[str]]:
    """Refuse a footer whose numbers cannot be; returns the encodings of each column."""
    lie = UnreadableFile(f"The Parquet file's footer contradicts itself; {WRITE_AGAIN}.")
    if footer.num_rows > limits.max_rows:
        message = f"{footer.num_rows} rows, at most {limits.max_rows} are allowed; split the file."
        raise UnreadableFile(message, Code.TOO_MANY_ROWS)
    total = unpacked = 0
    encodings: list[set[str]] = [set() for _ in range(footer.num_columns)]
    for i in range(footer.num_row_groups):
        group = footer.row_group(i)
        rows = group.num_rows
        if rows < 0 or group.num_columns != footer.num_columns:
            raise lie
        total += rows
        for j in range(group.num_columns if rows else 0):
            chunk = group.column(j)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and (first := chunk.dictionary_page_offset):
                start = min(start, first)
            packed, plain = chunk.total_compressed_size, chunk.total_uncompressed_size
            if start < 4 or packed <= 0 or plain < 0 or start + packed > size or chunk.num_values != rows:
                raise lie
            unpacked += plain
            encodings[j].update(chunk.encodings)
    if total != footer.num_rows:
        raise lie
    if unpacked > limits.max_bytes:
        message = f"Unpacks to {unpacked} bytes, at most {limits.max_bytes} are allowed; split the file."
        raise UnreadableFile(message, Code.UNPACKS_TOO_LARGE)
    return encodings


def _flat(schema: pa.Schema, footer: pq.FileMetaData) -> None:
    nested = [field.name for field in schema if pa.types.is_nested(storage(field.type))]
    if nested:
        named = ", ".join(short(name) for name in nested[:10])
        message = f"Nested columns: {named}; flatten each into columns of its own."
        raise UnreadableFile(message, Code.NESTED_COLUMN, nested[0])
    if footer.num_columns != len(schema):
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


def _together(footer: pq.FileMetaData) -> Iterator[tuple[int, list[int]]]:
    """Row groups that are read as one piece, each with the number of its first row."""
    first = rows = 0
    groups: list[int] = []
    for i in range(footer.num_row_groups):
        here = footer.row_group(i).num_rows
        if not here:
            continue
        if groups and rows + here > PART_ROWS:
            yield first, groups
            first, rows, groups = first + rows, 0, []
        groups.append(i)
        rows += here
    if groups:
        yield first, groups


class _Reader:
    """Some row groups of a file."""

    def __init__(
        self,
        path: Path,
        footer: pq.FileMetaData,
        options: dict[str, object],
        groups: list[int],
        rows: int,
        batch_rows: int,
        names: tuple[str, ...],
        limits: Limits,
    ) -> None:
        self.path, self.footer, self.options, self.groups, self.rows = path, footer, options, groups, rows
        self.batch_rows, self.names, self.limits = batch_rows, names, limits

    def batches(self) -> Iterator[pa.RecordBatch]:
        seen = 0
        with pq.ParquetFile(self.path, metadata=self.footer, **self.options) as file:
            for batch in file.iter_batches(self.batch_rows, row_groups=self.groups, use_threads=False):
                seen += batch.num_rows
                if seen > self.rows:
                    break
                for name, values in zip(self.names, batch.columns, strict=True):
                    self._look(name, values)
                yield batch
        if seen != self.rows:
            raise UnreadableFile(f"Holds another number of rows than its footer says; {WRITE_AGAIN}.")

    def _look(self, name: str, values: pa.Array) -> None:
        """Text that is no UTF-8, indices out of bounds, values too large: Arrow looks only when asked."""
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        if pa.types.is_dictionary(values.type):
            words = values.dictionary
            values.validate(full=True)
        elif _is_text(values.type):
            words = values
            values.validate(full=True)
        else:
            values.validate()
            return
        if largest(words) > self.limits.max_cell_bytes:
            raise cell_too_large(name, self.limits)
