"""Reading an upload: the content decides what it is, not its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from refit.batches import Code
from refit.contract import ColumnType, Dialect
from refit.csv_reading import open_csv, swap_decimal, unpacked
from refit.errors import UnreadableFile
from refit.parquet_reading import open_parquet
from refit.source import Limits, NotAsTyped, Part, Source, first_line, of_the_machine

__all__ = [
    "Limits",
    "NotAsTyped",
    "Part",
    "Source",
    "open_source",
    "swap_decimal",
]

PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_SKIPPED_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # some packers begin a zstd file with one
UPLOAD = "upload Parquet, CSV, or CSV packed with gzip or zstd"

# How files begin that people upload by mistake; what is text is told apart below.
_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive or a workbook (xlsx)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old workbook (xls)"),
    (b"Obj\x01", "Avro"),
    (b"ARROW1", "an Arrow or Feather file"),
    (b"FEA1", "an old Feather file"),
    (b"\xff\xff\xff\xff", "an Arrow stream"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x89HDF\r\n", "HDF5"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\0", "packed with xz"),
    (b"\x04\x22\x4d\x18", "packed with lz4"),
    (b"\xff\x06\0\0sNaPpY", "packed with snappy"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"RDX", "an R data file"),
    (b"<stata_dta>", "a Stata file"),
    (b"{\\rtf", "a rich text document"),
)
_TEXT_SIGNATURES = (
    (re.compile(rb"\s*<(!doctype|html|\?xml|error|!--|svg)", re.I), "HTML or XML"),
    (re.compile(rb"\s*(\{\s*(\"[^\"]*\"\s*:|\}|\Z)|\[\s*(\{|\[|\"[^\"]*\"\s*[,\]]|\]))"), "JSON"),
)


def open_source(
    path: Path,
    limits: Limits,
    dialect: Dialect | None = None,
    types: Mapping[str, ColumnType] | None = None,
) -> Source:
    """Open a Parquet or CSV file, the latter perhaps packed with gzip or zstd.

    With `types` the columns of a CSV are converted while they are read, and
    a value that cannot be raises NotAsTyped; without, all are strings.

    Raises
    ------
    UnreadableFile
        With a reason code and a sentence that says what is wrong; from the
        parts' batches too.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if not head:
        raise UnreadableFile("The file is empty (0 bytes); upload it again.", Code.EMPTY_FILE)
    if head[:4] in (b"PAR1", b"PARE"):
        return _guarded("Parquet", lambda: open_parquet(path, limits))
    packing = next((name for magic, name in PACKED.items() if head.startswith(magic)), None)
    if _SKIPPED_FRAME.match(head):
        packing = "zstd"
    if packing:
        head = _unpacked_head(path, packing)
    if looks := _looks_like(head):
        inside = f" once unpacked from {packing}" if packing else ""
        raise UnreadableFile(f"Looks like {looks}{inside}; {UPLOAD}.")
    return _guarded("CSV", lambda: open_csv(path, packing, limits, dialect or Dialect(), types))


def _unpacked_head(path: Path, packing: str) -> bytes:
    chunks = unpacked(path, packing, 1 << 16)
    try:
        head = next(chunks, b"")
    except (pa.ArrowException, OSError) as error:
        if of_the_machine(error):
            raise
        raise _damaged(packing, error) from error
    finally:
        chunks.close()
    if not head:
        raise UnreadableFile(f"The {packing} file holds nothing; upload it again.", Code.EMPTY_FILE)
    if head[:4] in (b"PAR1", b"PARE"):
        raise UnreadableFile(
            f"Parquet packed with {packing}; upload the Parquet file itself, it is packed inside."
        )
    if any(head.startswith(magic) for magic in PACKED):
        raise UnreadableFile(f"Packed twice; unpack it once and upload the {packing} file within.")
    return head


def _looks_like(head: bytes) -> str | None:
    """What a file is that is none of ours, None for what may be text."""
    for magic, name in _SIGNATURES:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle"
    if head.startswith(b"ORC") and b"\0" in head:
        return "ORC"
    text = head.removeprefix(b"\xef\xbb\xbf")
    for pattern, name in _TEXT_SIGNATURES:
        if pattern.match(text[:4096]):
            return name
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None
    controls = len(head.translate(None, bytes(sorted({*range(32, 256), 9, 10, 12, 13, 27, 26, 0}))))
    if controls > len(head) // 50 + 1:
        return "binary data of an unknown kind"
    return None


def _guarded(kind: str, opened: Callable[[], Source]) -> Source:
    """The source, with the errors of Arrow and its codecs as ours: at opening and in the middle of reading.

    Others are faults of Refit or of the machine, and no news about the file.
    """
    try:
        source = opened()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(kind, error) from error

    def guarded(
        read: Callable[..., Iterator[pa.RecordBatch]], *names: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        try:
            yield from read(*names)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(kind, error) from error

    def of(part: Part) -> Part:
        return Part(
            part.rows, partial(guarded, part.batches), part.columns and partial(guarded, part.columns)
        )

    return replace(source, pieces=tuple(map(of, source.pieces)))


def _unreadable(kind: str, error: BaseException) -> UnreadableFile:
    if of_the_machine(error):
        raise error
    return UnreadableFile(f"Not readable as {kind}: {first_line(error)}; write the file again.")


def _damaged(packing: str, error: BaseException) -> UnreadableFile:
    return UnreadableFile(
        f"The {packing} file is damaged or cut off ({first_line(error)}); pack and upload it again."
    )
