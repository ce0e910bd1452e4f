"""Reading an upload: the content decides what it is, not its name."""

from __future__ import annotations

import contextlib
import functools
import gzip
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from refit.contract import ColumnType, Dialect
from refit.errors import UnreadableFile

NULL_WORDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]


def read_table(path: Path, max_rows: int, max_bytes: int) -> pa.Table:
    """Read a Parquet, CSV or gzipped CSV file.

    CSV columns come as strings; the contract says what they are.

    Parameters
    ----------
    max_rows, max_bytes
        Limits on what the file unpacks to; beyond them it is refused before it fills the memory.

    Raises
    ------
    UnreadableFile
        With a sentence that says what is wrong.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise UnreadableFile("The file is empty (0 bytes); upload it again.")
    try:
        if head == b"PAR1":
            return _parquet(path, max_rows, max_bytes)
        if head[:2] == b"\x1f\x8b":
            with tempfile.NamedTemporaryFile(dir=path.parent) as plain:
                _gunzip(path, Path(plain.name), max_bytes)
                return _csv(Path(plain.name), max_rows, max_bytes)
        return _csv(path, max_rows, max_bytes)
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        kind = "Parquet" if head == b"PAR1" else "CSV"
        raise UnreadableFile(
            f"Not readable as {kind}: {_first_line(error)}; write the file again."
        ) from error


def _parquet(path: Path, max_rows: int, max_bytes: int) -> pa.Table:
    file = pq.ParquetFile(path, page_checksum_verification=True, memory_map=True)
    nested = [field.name for field in file.schema_arrow if pa.types.is_nested(_stored(field.type))]
    if nested:
        named = ", ".join(name[:60] for name in nested[:10])
        raise UnreadableFile(f"Nested columns: {named}; flatten each into columns of its own.")
    if file.metadata.num_rows > max_rows:
        raise UnreadableFile(
            f"{file.metadata.num_rows} rows, at most {max_rows} are allowed; split the file."
        )
    unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    if unpacked > max_bytes:
        raise UnreadableFile(f"Unpacks to {unpacked} bytes, at most {max_bytes} are allowed; split the file.")
    table = file.read()
    if table.num_rows != file.metadata.num_rows:
        raise UnreadableFile("Holds another number of rows than its footer says; write the file again.")
    table.validate(full=True)  # text that is no UTF-8, indices out of bounds: Arrow looks only when asked
    return table


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _csv(path: Path, max_rows: int, max_bytes: int) -> pa.Table:
    if (size := path.stat().st_size) > max_bytes:
        raise UnreadableFile(f"{size} bytes, at most {max_bytes} are allowed; split the file.")
    with path.open("rb") as file:
        head = file.read(65536)
    if b"\0" in head:
        raise UnreadableFile(
            "Neither Parquet nor text (it holds NUL bytes); upload Parquet, CSV or gzipped CSV."
        )
    parse = pc_csv.ParseOptions(newlines_in_values=True)  # else a quoted line break may be cut between blocks
    names = pc_csv.open_csv(path, parse_options=parse).schema.names
    options = pc_csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        null_values=NULL_WORDS,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = pc_csv.read_csv(path, parse_options=parse, convert_options=options)
    if table.num_rows > max_rows:
        raise UnreadableFile(f"{table.num_rows} rows, at most {max_rows} are allowed; split the file.")
    return table


def _gunzip(path: Path, target: Path, max_bytes: int) -> None:
    seen = 0
    with gzip.open(path) as packed, target.open("wb") as plain:
        while chunk := packed.read(1 << 20):
            seen += len(chunk)
            if seen > max_bytes:  # a decompression bomb ends here
                raise UnreadableFile(f"Unpacks to more than {max_bytes} bytes; split the file.")
            plain.write(chunk)


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"(got \d+): .*", r"\1", line)[:200]  # Arrow quotes the row; reasons hold no data


BATCH = 1 << 17  # rows


class NotAsTyped(Exception):
    """A value of a CSV does not convert to the type asked for; read it as text to find which."""


@dataclass(frozen=True)
class Limits:
    """What a file may unpack to."""

    max_rows: int
    max_bytes: int


@dataclass(frozen=True)
class Part:
    """A piece of a source. `first_row` counts from 0; None when it is not known before the parts before it are read."""

    first_row: int | None
    batches: Callable[[], Iterator[pa.RecordBatch]]


@dataclass
class Source:
    """An opened file; its parts may be read on different threads."""

    path: Path
    kind: str
    names: list[str]
    limits: Limits
    types: Mapping[str, ColumnType] | None = None
    rows: int | None = None
    groups: Sequence[int] = ()
    plain: Any = None  # keeps the unpacked file until the source is gone

    def parts(self) -> list[Part]:
        if self.kind == "csv":
            return [Part(None, self._csv)]
        found, first = [], 0
        for group, rows in enumerate(self.groups):
            found.append(Part(first, functools.partial(self._group, group, rows)))
            first += rows
        return found

    def _group(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        seen = 0
        with _named("Parquet"):
            file = _open_parquet(self.path)
            for batch in file.iter_batches(BATCH, row_groups=[group], use_threads=False):
                batch.validate(full=True)
                seen += batch.num_rows
                yield batch
        if seen != rows:
            raise UnreadableFile("Holds another number of rows than its footer says; write the file again.")

    def _csv(self) -> Iterator[pa.RecordBatch]:
        kinds = {
            ColumnType.NUMBER: pa.float64(),
            ColumnType.INTEGER: pa.int64(),
            ColumnType.CATEGORY: pa.dictionary(pa.int32(), pa.string()),
        }
        types = {
            n: kinds.get(self.types[n], pa.string()) if self.types and n in self.types else pa.string()
            for n in self.names
        }
        options = pc_csv.ConvertOptions(
            column_types=types,
            null_values=NULL_WORDS,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        read = pc_csv.ReadOptions(block_size=4 << 20)
        parse = pc_csv.ParseOptions(newlines_in_values=True)
        seen = 0
        with _named("CSV"):
            for batch in pc_csv.open_csv(
                self.path, read_options=read, parse_options=parse, convert_options=options
            ):
                seen += batch.num_rows
                for at in range(0, batch.num_rows, BATCH):
                    yield batch.slice(at, BATCH)
        if seen > self.limits.max_rows:
            raise UnreadableFile(
                f"{seen} rows, at most {self.limits.max_rows} are allowed; split the file.", "too_many_rows"
            )


@contextlib.contextmanager
def _named(kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        if "conversion error to" in str(error) and "invalid UTF8" not in str(error):
            raise NotAsTyped from error
        raise UnreadableFile(
            f"Not readable as {kind}: {_first_line(error)}; write the file again."
        ) from error


def _open_parquet(path: Path) -> pq.ParquetFile:
    kinds = pq.read_schema(path)
    text = [f.name for f in kinds if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    return pq.ParquetFile(path, page_checksum_verification=True, memory_map=True, read_dictionary=text)


def open_source(
    path: Path, limits: Limits, dialect: Dialect | None = None, types: Mapping[str, ColumnType] | None = None
) -> Source:
    """Open a Parquet, CSV or gzipped CSV file; raises UnreadableFile."""
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise UnreadableFile("The file is empty (0 bytes); upload it again.", "empty_file")
    if head == b"PAR1":
        with _named("Parquet"):
            file = _open_parquet(path)
            nested = [f.name for f in file.schema_arrow if pa.types.is_nested(_stored(f.type))]
            if nested:
                named = ", ".join(name[:60] for name in nested[:10])
                raise UnreadableFile(
                    f"Nested columns: {named}; flatten each into columns of its own.", "nested_column"
                )
            rows = file.metadata.num_rows
            if rows > limits.max_rows:
                raise UnreadableFile(
                    f"{rows} rows, at most {limits.max_rows} are allowed; split the file.", "too_many_rows"
                )
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            if (unpacked := sum(g.total_byte_size for g in groups)) > limits.max_bytes:
                raise UnreadableFile(
                    f"Unpacks to {unpacked} bytes, at most {limits.max_bytes} are allowed; split the file.",
                    "unpacks_too_large",
                )
            return Source(
                path, "parquet", file.schema_arrow.names, limits, None, rows, [g.num_rows for g in groups]
            )
    plain = None
    if head[:2] == b"\x1f\x8b":
        plain = tempfile.NamedTemporaryFile(dir=path.parent)  # noqa: SIM115
        with _named("CSV"):
            _gunzip(path, Path(plain.name), limits.max_bytes)
        path = Path(plain.name)
    if (size := path.stat().st_size) > limits.max_bytes:
        raise UnreadableFile(
            f"{size} bytes, at most {limits.max_bytes} are allowed; split the file.", "unpacks_too_large"
        )
    with path.open("rb") as file:
        if b"\0" in file.read(65536):
            raise UnreadableFile(
                "Neither Parquet nor text (it holds NUL bytes); upload Parquet, CSV or gzipped CSV."
            )
    with _named("CSV"):
        names = pc_csv.open_csv(path, parse_options=pc_csv.ParseOptions(newlines_in_values=True)).schema.names
    return Source(path, "csv", names, limits, types, None, (), plain)
