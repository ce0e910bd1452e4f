"""The typed form of an accepted batch: what validation writes and training reads.

Columns are float64 (numbers, integers, booleans; NaN is null), int64
nanoseconds (timestamps; NaT is null) or int32 codes into a vocabulary
(categories; -1 is null). The file needs neither pickles nor pyarrow to read:

    MAGIC, chunks and words, rows left out, footer (JSON), its CRC-32 and length, MAGIC

A chunk is some rows in file order, column after column, each a plain
little-endian array padded to 8 bytes. Categories are codes into all words of their
column, which come in pieces between the chunks. The footer says where each
array lies, of which kind it is, and the sum of its elements as unsigned integers,
by which damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.batches import Code
from refit.contract import Column, ColumnType, same_kind
from refit.errors import ArtifactError, UnreadableFile

if TYPE_CHECKING:
    import pandas as pd

NAT = np.iinfo(np.int64).min
MOST_BYTES = 5 << 30  # that S3 takes at once
_FORMAT = 1
_MAGIC = b"REFITSHD"
_KINDS = ("f8", "i8", "i4", "i1")
_LONG = 128  # bytes from which a word is hashed by itself


@dataclass(frozen=True)
class Shard:
    """Rows of one batch, by column; every array has shape (rows,)."""

    columns: Mapping[str, np.ndarray]
    types: Mapping[str, ColumnType]
    vocabularies: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def is_null(self, name: str) -> np.ndarray:
        """Boolean mask of nulls, shape (rows,)."""
        values = self.columns[name]
        if self.types[name] is ColumnType.CATEGORY:
            return values < 0
        if self.types[name] is ColumnType.TIMESTAMP:
            return values == NAT
        return np.isnan(values)

    def take(self, index: np.ndarray) -> Shard:
        """The rows at `index` (a mask or positions), in that order."""
        columns = {name: values[index] for name, values in self.columns.items()}
        return Shard(columns, self.types, self.vocabularies)

    def fingerprints(self) -> np.ndarray:
        """One uint64 per row that depends on every value and on column names, not on row order."""
        mixed = np.zeros(self.rows, dtype=np.uint64)
        for name in sorted(self.columns):
            salt = _hash(name)
            if self.types[name] is ColumnType.CATEGORY:
                words = np.append(hash_words(*packed(self.vocabularies[name])), np.uint64(0))
                bits = words[self.columns[name]]
            else:
                bits = (self.columns[name] + 0).view(np.uint64)
            found = mix(bits ^ salt)
            found[found == 0] = salt  # a long word that is its column's name: 0 would be no column at all
            mixed = mix(mixed ^ found)
        return mixed


def kind_of(column: ColumnType) -> str:
    """How a column lies in the file."""
    if column is ColumnType.CATEGORY:
        return "i4"
    if column is ColumnType.TIMESTAMP:
        return "i8"
    return "i1" if column is ColumnType.BOOLEAN else "f8"


@dataclass(frozen=True)
class _Chunk:
    rows: int
    begins: int
    following: list[int]  # by column, where its next rows go
    sums: list[int]  # by column


class Writer:
    """Writes a shard; several threads may write different columns.

    Raises OSError, and UnreadableFile when there is more than can be stored.
    """

    def __init__(self, path: Path, columns: Sequence[tuple[str, ColumnType]]) -> None:
        self._columns = [(name, column, kind_of(column)) for name, column in columns]
        self._place = {name: i for i, (name, _) in enumerate(columns)}
        self._chunks: list[_Chunk] = []
        self._words: list[list[int]] = []
        self._file = FileIO(path, "w")
        self._lock = threading.Lock()
        self._end = 0
        self._append(_MAGIC)

    def holds(self, column: str) -> bool:
        return column in self._place

    def open_chunk(self, rows: int) -> int:
        """The number of a chunk of so many rows, after those that were opened before."""
        sizes = [_padded(rows * int(kind[1])) for _, _, kind in self._columns]
        begins = self._take(sum(sizes))
        if sum(sizes) and hasattr(os, "posix_fallocate"):  # macOS has none
            # Writing far beyond the end of a file is slow, and a full disk is better known at once.
            os.posix_fallocate(self._file.fileno(), begins, sum(sizes))
        following = [begins + before for before in accumulate([0, *sizes[:-1]])]
        self._chunks.append(_Chunk(rows, begins, following, [0] * len(sizes)))
        return len(self._chunks) - 1

    def write(self, chunk: int, column: str, values: np.ndarray) -> None:
        """The next rows of a column in a chunk, in the kind that the column has."""
        into, i = self._chunks[chunk], self._place[column]
        self._write(values, into.following[i])
        into.following[i] += values.nbytes
        into.sums[i] = (into.sums[i] + _sum(values, values.itemsize)) % 2**64

    def write_words(self, column: str, body: np.ndarray, places: np.ndarray) -> None:
        """More words of a category column, given as in `hash_words`; codes count all of them, in the order in which they come."""
        sizes = np.diff(places).astype("<u4")
        text = np.ascontiguousarray(body[places[0] : places[-1]]) if len(sizes) else np.empty(0, np.uint8)
        at = self._take(_padded(sizes.nbytes + len(text)))
        self._words.append(
            [self._place[column], at, len(sizes), len(text), _sum(sizes, 4), zlib.crc32(text.data)]
        )
        self._write(sizes, at)
        self._write(text, at + sizes.nbytes)

    def close(self, left_out: np.ndarray) -> None:
        """Write what is left; `left_out` are positions of rows that are no part of the shard, rising."""
        left_out = np.ascontiguousarray(left_out, "<i8")
        footer = {
            "format": _FORMAT,
            "columns": self._columns,
            "chunks": [(chunk.rows, chunk.begins, chunk.sums) for chunk in self._chunks],
            "words": self._words,
            "left_out": [self._end, len(left_out), _sum(left_out, 8)],
        }
        text = json.dumps(footer).encode()
        self._append(left_out.tobytes() + text)
        self._append(np.array([zlib.crc32(text), len(text)], "<u8").tobytes() + _MAGIC)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _take(self, size: int) -> int:
        """Where so many bytes go that nothing else takes."""
        with self._lock:
            at = self._end
            self._end += size
        if self._end > MOST_BYTES:
            raise UnreadableFile(
                f"Its typed rows take {self._end} bytes, at most {MOST_BYTES} can be stored; split the file.",
                Code.UNPACKS_TOO_LARGE,
            )
        return at

    def _append(self, data: bytes) -> None:
        self._write(np.frombuffer(data, np.uint8), self._take(len(data)))

    def _write(self, values: np.ndarray, at: int) -> None:
        left = values.data.cast("B") if len(values) else memoryview(b"")
        while left:
            written = os.pwrite(self._file.fileno(), left, at)
            left, at = left[written:], at + written


def packed_values(values: np.ndarray, kind: str) -> np.ndarray:
    """Values of a column in the kind it has in the file; a null boolean is -1."""
    if kind == "i1":
        values = np.where(np.isnan(values), -1.0, values)
    return np.ascontiguousarray(values, f"<{kind}")


def load(data: bytes) -> Shard:
    """Read a shard; raises ArtifactError when the bytes are not one."""
    try:
        return _load(data)
    except ArtifactError:
        raise
    except Exception as error:  # JSON and arithmetic each fail in ways of their own
        raise ArtifactError(f"not a shard: {type(error).__name__}: {error}") from error


def _load(data: bytes) -> Shard:
    tail = len(data) - len(_MAGIC)
    if data[: len(_MAGIC)] != _MAGIC or data[tail:] != _MAGIC or tail < len(_MAGIC) + 16:
        raise ArtifactError("not a shard: it does not begin and end as one; restore it")
    crc, length = (int(value) for value in np.frombuffer(data, "<u8", 2, tail - 16))
    if length > tail - 16 - len(_MAGIC):
        raise ArtifactError("not a shard: its footer is longer than the file; restore it")
    text = data[tail - 16 - length : tail - 16]
    if zlib.crc32(text) != crc:
        raise ArtifactError("not a shard: its footer was altered; restore it")
    footer = json.loads(text)
    if footer["format"] != _FORMAT:
        raise ArtifactError(f"shard format {footer['format']} is not {_FORMAT}; deploy matching code")
    at, rows, found = footer["left_out"]
    left_out = _array(data, at, rows, "i8", found)
    kept = np.ones(sum(chunk[0] for chunk in footer["chunks"]), bool)
    kept[left_out] = False
    everything = not len(left_out)
    columns, types, vocabularies = {}, {}, {}
    starts = [chunk[1] for chunk in footer["chunks"]]
    for i, (name, named, kind) in enumerate(footer["columns"]):
        if kind not in _KINDS:
            raise ArtifactError(f"not a shard: kind {kind!r} is not known; deploy matching code")
        parts = []
        for c, (rows, _, sums) in enumerate(footer["chunks"]):
            parts.append(_array(data, starts[c], rows, kind, sums[i]))
            starts[c] += _padded(rows * int(kind[1]))
        types[name] = ColumnType(named)
        if types[name] is ColumnType.CATEGORY:
            words: list[str] = []
            for column, *where in footer["words"]:
                if column == i:
                    words += _words(data, *where)
            columns[name], vocabularies[name] = _joined(parts, words, None if everything else kept)
            continue
        of = np.int64 if types[name] is ColumnType.TIMESTAMP else np.float64
        whole = np.concatenate([part.astype(of) for part in parts]) if parts else np.empty(0, of)
        if kind == "i1":
            whole[whole < 0] = np.nan
        columns[name] = whole if everything else whole[kept]
    return Shard(columns, types, vocabularies)


def _joined(
    parts: Sequence[np.ndarray], words: Sequence[str], kept: np.ndarray | None
) -> tuple[np.ndarray, list[str]]:
    """Codes over one sorted vocabulary of the words that occur, shape (rows,)."""
    codes = np.concatenate([np.empty(0, np.int32), *parts])
    if len(codes) and (codes.min() < -1 or codes.max() >= len(words)):
        raise ArtifactError("not a shard: codes without words; restore it")
    if kept is not None:
        codes = codes[kept]
    used = np.flatnonzero(np.bincount(codes + 1, minlength=1)[1:]).tolist()
    vocabulary = sorted({words[code] for code in used})
    position = {word: code for code, word in enumerate(vocabulary)}
    table = np.full(len(words) + 1, -1, np.int32)
    table[used] = [position[words[code]] for code in used]
    return table[codes], vocabulary


def _array(data: bytes, at: int, rows: int, kind: str, total: int) -> np.ndarray:
    found = np.frombuffer(data, f"<{kind}", rows, at)
    if _sum(found, int(kind[1])) != total:
        raise ArtifactError("not a shard: values were altered; restore it")
    return found


def _words(data: bytes, at: int, count: int, size: int, total: int, crc: int) -> list[str]:
    sizes = np.frombuffer(data, "<u4", count, at)
    body = data[at + sizes.nbytes : at + sizes.nbytes + size]
    if _sum(sizes, 4) != total or zlib.crc32(body) != crc or sizes.sum() != len(body):
        raise ArtifactError("not a shard: its words were altered; restore it")
    ends = np.cumsum(sizes).tolist()
    return (
        [body[a:b].decode("utf-8", "surrogatepass") for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        if ends
        else []
    )


def _sum(values: np.ndarray, width: int) -> int:
    return int(np.add.reduce(values.view(f"<u{width}"), dtype=np.uint64))


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def concatenate(shards: Sequence[Shard], columns: Sequence[Column]) -> Shard:
    """One shard of all rows in the order given, restricted to `columns`, over joint vocabularies.

    A column that an older shard lacks, or holds as another kind, is the column's `fill` there, else null.
    """
    joint_columns, joint_types, joint_words = {}, {}, {}
    for column in columns:
        name = column.name
        joint_types[name] = column.type
        parts = []
        if column.type is ColumnType.CATEGORY:
            words = sorted({word for s in shards for word in _words_for(s, column)})
            position = {word: code for code, word in enumerate(words)}
            for shard in shards:
                lookup = [position[word] for word in _words_for(shard, column)]
                table = np.array([*lookup, -1], dtype=np.int32)  # code -1 finds the last entry
                # A shard without the column has one word at most: the fill.
                codes = shard.columns[name] if _holds(shard, column) else np.zeros(shard.rows, np.int32)
                parts.append(table[codes])
            joint_words[name] = words
        else:
            null: Any = NAT if column.type is ColumnType.TIMESTAMP else np.nan
            kind = np.int64 if column.type is ColumnType.TIMESTAMP else np.float64
            given = null if column.fill is None else column.fill
            for shard in shards:
                held = _holds(shard, column)
                parts.append(shard.columns[name] if held else np.full(shard.rows, given, kind))
        joint_columns[name] = np.concatenate(parts)
    return Shard(joint_columns, joint_types, joint_words)


def _holds(shard: Shard, column: Column) -> bool:
    return column.name in shard.columns and same_kind(shard.types[column.name], column.type)


def _words_for(shard: Shard, column: Column) -> Sequence[str]:
    if _holds(shard, column):
        return shard.vocabularies[column.name]
    return [] if column.fill is None else [str(column.fill)]


def to_frame(shard: Shard, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns as a DataFrame, shape (rows, len(columns)).

    Numbers, integers and booleans are float64, categories are pandas
    categoricals of strings.
    """
    import pandas as pd

    data = {}
    for name in columns:
        values = shard.columns[name]
        if shard.types[name] is ColumnType.CATEGORY:
            # Object strings, whatever string type this pandas prefers: the frame must not depend on pyarrow.
            words = pd.Index(list(shard.vocabularies[name]), dtype=object)
            data[name] = pd.Categorical.from_codes(values, categories=words)
        else:
            data[name] = values
    return pd.DataFrame(data)


def packed(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all words, shape (b,), and where each begins and the last ends, shape (words + 1,)."""
    parts = [word.encode("utf-8", "surrogatepass") for word in words]
    places = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=places[1:])
    return np.frombuffer(b"".join(parts), np.uint8), places


def hash_words(body: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A uint64 for each word, the same wherever the word stands, shape (words,).

    `places`, shape (words + 1,), says where in the bytes `body` a word begins.
    """
    begins, sizes = places[:-1].astype(np.int64), np.diff(places).astype(np.int64)
    found = mix(sizes.astype(np.uint64) ^ np.uint64(0x9E3779B97F4A7C15))
    if not len(sizes):
        return found
    long = sizes >= _LONG
    for i in np.flatnonzero(long):
        found[i] = _hash_bytes(body[begins[i] : begins[i] + sizes[i]].tobytes())
    # All others eight bytes at a time.
    first, last = int(begins[0]), int(begins[-1] + sizes[-1])
    padded = np.zeros(last - first + 8, np.uint8)
    padded[:-8] = body[first:last]
    eights = np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,))
    rows = np.flatnonzero((sizes > 0) & ~long)
    done = 0
    while len(rows):
        left = sizes[rows] - done
        block = eights[begins[rows] - first + done]
        surplus = np.maximum(8 - left, 0).astype(np.uint64) * np.uint64(8)
        block = (block << surplus) >> surplus
        found[rows] = mix(found[rows] ^ mix(block + np.uint64(done + 1)))
        done += 8
        rows = rows[left > 8]
    return found


def _hash(text: str) -> np.uint64:
    return _hash_bytes(text.encode("utf-8", "surrogatepass"))


def _hash_bytes(data: bytes) -> np.uint64:
    return np.frombuffer(hashlib.blake2b(data, digest_size=8).digest(), dtype=np.uint64)[0]


def mix(x: np.ndarray) -> np.ndarray:
    """Scatter uint64 values."""
    # The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
