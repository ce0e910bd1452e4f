"""What every reader of an upload gives: names, and rows in batches of Arrow's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from refit.batches import Code
from refit.contract import Dialect
from refit.errors import UnreadableFile

BATCH_ROWS = 64 << 10
CELL_BYTES = 256 << 10


@dataclass(frozen=True)
class Limits:
    """Beyond them a file is refused before it fills the memory; bytes are those of the unpacked file."""

    max_rows: int
    max_bytes: int
    max_columns: int = 2000
    max_cell_bytes: int = CELL_BYTES


class NotAsTyped(Exception):
    """A value of a CSV is not what its column's type says; read all as strings to find which."""


@dataclass(frozen=True)
class Part:
    """Rows in a piece; may be read more than once, and on several threads.

    `rows` is None where their number is not known beforehand. `columns` reads those of the
    given names only, in that order; None where that cannot be done.
    """

    rows: int | None
    batches: Callable[[], Iterator[pa.RecordBatch]]
    columns: Callable[[Sequence[str]], Iterator[pa.RecordBatch]] | None = None


@dataclass(frozen=True)
class Source:
    """An opened upload: `names` as written, duplicates included; `rows` as a Parquet footer declares them."""

    kind: str  # "parquet" or "csv"
    names: tuple[str, ...]
    rows: int | None = None
    dialect: Dialect | None = None  # of a CSV: what was declared or found out
    typed: bool = False  # of a CSV: its values come converted, not as they were written
    pieces: tuple[Part, ...] = field(default=(), repr=False)

    def parts(self) -> list[Part]:
        """The rows, in pieces in row order."""
        return list(self.pieces)


def short(name: str) -> str:
    """A name as a message shows it, whatever a file calls its columns."""
    return repr(name if len(name) <= 60 else name[:57] + "...")


def first_line(error: BaseException) -> str:
    """What an error of Arrow's says, without what it quotes of the file."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    line = re.sub(r"(got \d+): .*", r"\1", line)
    line = re.sub(r"'[^']*'?|\"[^\"]*\"?", "'...'", line)
    return line.rstrip(". ")[:200]


def of_the_machine(error: BaseException) -> bool:
    """Whether an error that Arrow raised tells of the machine, a full disk or memory, and not of the file."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) is not None


def largest(values: pa.Array) -> int:
    """Bytes of the longest value of an array of text or bytes."""
    if not len(values):
        return 0
    kind, length, start = values.type, len(values), values.offset
    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    if not (wide or pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return 0
    offsets = np.frombuffer(values.buffers()[1], np.int64 if wide else np.int32)[start : start + length + 1]
    return int(np.diff(offsets).max())


def cell_too_large(name: str, limits: Limits) -> UnreadableFile:
    message = (
        f"A value of {short(name)} is larger than {limits.max_cell_bytes >> 10} KiB; "
        "shorten it, or leave the column out."
    )
    return UnreadableFile(message, Code.CELL_TOO_LARGE, name)


def too_many_columns(count: int, limits: Limits) -> UnreadableFile:
    message = f"{count} columns, at most {limits.max_columns} are allowed; leave out what no model needs."
    return UnreadableFile(message, Code.TOO_MANY_COLUMNS)
