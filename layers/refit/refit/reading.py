"""Reading an upload: the content decides what it is, not its name."""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

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
