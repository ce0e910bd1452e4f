"""The typed form of an accepted batch: what validation writes and training reads.

Columns are float64 (numbers, integers, booleans; NaN is null), int64
nanoseconds (timestamps; NaT is null) or int32 codes into a vocabulary
(categories; -1 is null). The file needs neither pickles nor pyarrow to read:

    MAGIC, chunks, vocabularies, rows left out, footer (JSON), its CRC-32 and length, MAGIC

A chunk is some rows in file order, column after column, each a plain
little-endian array padded to 8 bytes, categories as codes into one of the
vocabularies. The footer says where each array lies, of which kind it is, and the
sum of its elements as unsigned integers, by which damage is noticed. Where the
number of rows is known beforehand each chunk has its place before it is
written, so several threads may write and the bytes are the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.contract import Column, ColumnType, same_kind
from refit.errors import ArtifactError

if TYPE_CHECKING:
    import pandas as pd

NAT = np.iinfo(np.int64).min
_FORMAT = 1
_MAGIC = b"REFITSHD"
_KINDS = ("f8", "i8", "i4", "i1")
_COPIED = 1 << 20  # bytes at once
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
            mixed = mix(mixed ^ mix(bits ^ salt))
        return mixed


def kind_of(column: ColumnType) -> str:
    """How a column lies in the file."""
    if column is ColumnType.CATEGORY:
        return "i4"
    if column is ColumnType.TIMESTAMP:
        return "i8"
    return "i1" if column is ColumnType.BOOLEAN else "f8"


def chunk_bytes(rows: int, kinds: Sequence[str]) -> int:
    """Bytes that a chunk of so many rows takes."""
    return sum(_padded(rows * int(kind[1])) for kind in kinds)


class Writer:
    """Writes a shard chunk by chunk. Chunks and vocabularies are numbered by the caller.

    `open_chunk` fixes where a chunk lies; `write` may then be called from any
    thread, for the rows of one chunk in their order. What the file holds depends
    on the numbers alone.
    """

    def __init__(self, path: Path, columns: Sequence[tuple[str, ColumnType]]) -> None:
        path.write_bytes(_MAGIC)
        self._path, self._mine = path, threading.local()  # each thread writes through a file of its own
        self._files: list[FileIO] = []
        self._columns = [(name, column, kind_of(column)) for name, column in columns]
        self._chunks: dict[int, dict[str, Any]] = {}
        self._words: dict[tuple[int, int], tuple[int, int, list[int]]] = {}
        self._spool = tempfile.TemporaryFile(dir=path.parent)  # words, until it is known where they go  # noqa: SIM115
        self._end, self._words_end = len(_MAGIC), 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of the chunks that were opened and of the words."""
        return self._end + self._words_end

    def open_chunk(self, number: int, rows: int) -> None:
        """A chunk after those that were opened before."""
        with self._lock:
            self._chunks[number] = {
                "rows": rows,
                "at": self._end,
                "done": [0] * len(self._columns),
                "sums": [0] * len(self._columns),
            }
            self._end += chunk_bytes(rows, [kind for _, _, kind in self._columns])

    def write(self, number: int, column: int, values: np.ndarray) -> None:
        """The next rows of a column of a chunk, in the kind that the column has."""
        chunk, kind = self._chunks[number], self._columns[column][2]
        width = int(kind[1])
        before = chunk_bytes(chunk["rows"], [each for _, _, each in self._columns[:column]])
        at = chunk["at"] + before + chunk["done"][column] * width
        chunk["done"][column] += len(values)
        chunk["sums"][column] = (chunk["sums"][column] + _sum(values, width)) % 2**64
        self._write(values, at)

    def write_words(self, number: int, column: int, body: np.ndarray, places: np.ndarray) -> None:
        """What the codes of a category column stand for, in a chunk and in those after it until other words are given."""
        sizes = np.diff(places).astype("<u4")
        text = np.ascontiguousarray(body[places[0] : places[-1]]) if len(sizes) else np.empty(0, np.uint8)
        with self._lock:
            at = self._spool.seek(0, io.SEEK_END)
            self._words_end = at + sizes.nbytes + len(text)
            self._spool.write(sizes.tobytes())
            self._spool.write(text.data)
        size = sizes.nbytes + len(text)
        self._words[number, column] = (
            at,
            size,
            [len(sizes), len(text), _sum(sizes, 4), zlib.crc32(text.data)],
        )

    def close(self, left_out: np.ndarray) -> None:
        """Write what is left; `left_out` are positions of rows that are no part of the shard, rising."""
        end = self._end
        chunks = [self._chunks[number] for number in sorted(self._chunks)]
        order = {number: place for place, number in enumerate(sorted(self._chunks))}
        words = []
        for number, column in sorted(self._words):
            start, size, facts = self._words[number, column]
            words.append([order[number], column, end, *facts])
            for at in range(0, size, _COPIED):
                self._spool.seek(start + at)
                block = np.frombuffer(self._spool.read(min(_COPIED, size - at)), np.uint8)
                self._write(block, end + at)
            end += _padded(size)
        left_out = np.ascontiguousarray(left_out, "<i8")
        self._write(left_out, end)
        footer = {
            "format": _FORMAT,
            "columns": [list(column) for column in self._columns],
            "chunks": [[chunk["rows"], chunk["at"], chunk["sums"]] for chunk in chunks],
            "words": words,
            "left_out": [end, len(left_out), _sum(left_out, 8)],
        }
        text = json.dumps(footer).encode()
        tail = np.array([zlib.crc32(text), len(text)], "<u8").tobytes() + _MAGIC
        self._write(np.frombuffer(text + tail, np.uint8), end + left_out.nbytes)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        for file in self._files:
            file.close()
        self._spool.close()

    def _write(self, values: np.ndarray, at: int) -> None:
        file = getattr(self._mine, "file", None)
        if file is None:
            file = self._mine.file = FileIO(self._path, "r+")
            with self._lock:
                self._files.append(file)
        file.seek(at)
        left = values.data.cast("B") if len(values) else memoryview(b"")
        while left:
            left = left[file.write(left) :]


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
    told: dict[tuple[int, int], Any] = {(chunk, column): where for chunk, column, *where in footer["words"]}
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
            words: list[list[str]] = []
            for c in range(len(parts)):
                words.append(_words(data, *told[c, i]) if (c, i) in told else words[-1])
            columns[name], vocabularies[name] = _joined(parts, words, None if everything else kept)
            continue
        of = np.int64 if types[name] is ColumnType.TIMESTAMP else np.float64
        whole = np.concatenate([part.astype(of) for part in parts]) if parts else np.empty(0, of)
        if kind == "i1":
            whole[whole < 0] = np.nan
        columns[name] = whole if everything else whole[kept]
    return Shard(columns, types, vocabularies)


def _joined(
    parts: Sequence[np.ndarray], words: Sequence[Sequence[str]], kept: np.ndarray | None
) -> tuple[np.ndarray, list[str]]:
    """Codes over one sorted vocabulary of the words that occur, shape (rows,)."""
    seen: list[Sequence[str]] = []
    begin = 0
    for codes, own in zip(parts, words, strict=True):
        if len(codes) and (codes.min() < -1 or codes.max() >= len(own)):
            raise ArtifactError("not a shard: codes without words; restore it")
        mask = codes >= 0
        if kept is not None:
            mask &= kept[begin : begin + len(codes)]
        begin += len(codes)
        used = np.bincount(codes[mask], minlength=len(own)) > 0
        seen.append([own[i] for i in np.flatnonzero(used).tolist()])
    vocabulary = sorted({word for some in seen for word in some})
    position = {word: code for code, word in enumerate(vocabulary)}
    recoded = [np.empty(0, np.int32)]
    for codes, own in zip(parts, words, strict=True):
        table = np.array([*(position.get(word, -1) for word in own), -1], np.int32)
        recoded.append(table[codes])
    whole = np.concatenate(recoded)
    return (whole if kept is None else whole[kept]), vocabulary


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
