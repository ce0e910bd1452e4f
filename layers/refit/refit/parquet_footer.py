"""The footer of a Parquet file and the headers of its pages, read without Arrow.

Arrow believes what they say: it allocates what a page header declares, and of
some footers its Python ends the process instead of raising. So they are read
here first, in Thrift's compact protocol, and held against the file. Field
numbers are those of parquet.thrift (https://github.com/apache/parquet-format).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import FileIO
from typing import Any

from refit.errors import UnreadableFile

LIST_ITEMS = 100_000  # of any list
DEPTH = 16
HEADER_BYTES = 1 << 20  # of a page
PAGES = 100_000  # of a column in a row group; usual are a few hundred
PARSED_BYTES = 256 << 20  # what Arrow may need for the parsed footer
_STRUCT, _CHUNK, _ITEM = 200, 1200, 40  # bytes that Arrow needs, about, for each of those

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12  # types of the compact protocol
_BY_WORD, _BY_PREFIX = {2, 8}, 7  # encodings: PLAIN_DICTIONARY and RLE_DICTIONARY; DELTA_BYTE_ARRAY
# Bytes that one packed byte can become, by codec; the others have no such bound worth knowing.
_RATIOS = {0: 1, 1: 24, 5: 256, 7: 256}  # UNCOMPRESSED, SNAPPY, LZ4, LZ4_RAW


@dataclass(frozen=True)
class Chunk:
    """One column of one row group; sizes in bytes, `start` is where its first page begins."""

    start: int
    packed: int
    plain: int
    values: int
    codec: int


@dataclass(frozen=True)
class Group:
    rows: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Footer:
    """`leaves`: columns that hold values; `encrypted`: whether any part of the file is."""

    rows: int
    leaves: int
    groups: tuple[Group, ...]
    encrypted: bool


class _Damaged(Exception):
    """The bytes are no Thrift."""


class _Reader:
    """Reads Thrift's compact protocol; fields are kept by number and type, as a wrong type is passed over by Arrow."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.cost = data, 0, 0

    def varint(self) -> int:
        data, at = self.data, self.at
        byte = data[at]
        at += 1
        value, shift = byte & 127, 7
        while byte > 127:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if shift > 70:
                raise _Damaged
        self.at = at
        return value

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        size = self.varint()
        start = self.at
        if size > len(self.data) - start:
            raise _Damaged
        self.at = start + size
        self.cost += size
        return self.data[start : self.at]

    def value(self, kind: int, depth: int) -> Any:
        if kind in (4, 5, 6):
            return self.integer()
        if kind == BINARY:
            return self.binary()
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (9, 10):
            return [self.value(item, depth + 1) for item in self.items()]
        if kind in (1, 2, 3):  # within a list a boolean takes a byte, like a byte
            self.at += 1
            return self.data[self.at - 1]
        if kind == 7:
            self.at += 8
            return None
        if kind == 11:
            return self.pairs(depth)
        raise _Damaged

    def items(self) -> Any:
        """As many times the type of its items as a list has items."""
        head = self.data[self.at]
        self.at += 1
        size = head >> 4 if head >> 4 != 15 else self.varint()
        if size > LIST_ITEMS or size > len(self.data) - self.at:
            raise _Damaged
        self.cost += size * _ITEM
        return (head & 15 for _ in range(size))

    def pairs(self, depth: int) -> None:
        size = self.varint()
        if size > len(self.data) - self.at:
            raise _Damaged
        if size:
            kinds = self.data[self.at]
            self.at += 1
            for _ in range(size):
                self.value(kinds >> 4, depth + 1)
                self.value(kinds & 15, depth + 1)

    def struct(self, depth: int = 0) -> dict[tuple[int, int], Any]:
        if depth > DEPTH:
            raise _Damaged
        self.cost += _STRUCT
        found: dict[tuple[int, int], Any] = {}
        number = 0
        while head := self.head():
            number = number + (head >> 4) if head >> 4 else self.integer()
            kind = head & 15
            found[number, kind] = kind == 1 if kind in (1, 2) else self.value(kind, depth)
        return found

    def head(self) -> int:
        self.at += 1
        return self.data[self.at - 1]


def read_footer(data: bytes) -> Footer:
    """Parse a footer; raises UnreadableFile when it is none, or would take more memory than it may."""
    reader = _Reader(data)
    groups: list[Group] = []
    top: dict[tuple[int, int], Any] = {}
    try:
        number = 0
        while head := reader.head():
            number = number + (head >> 4) if head >> 4 else reader.integer()
            kind = head & 15
            if (number, kind) == (4, LIST):  # one at a time: as Python's objects they are large
                groups = [_group(reader) for _ in reader.items()]
            else:
                top[number, kind] = kind == 1 if kind in (1, 2) else reader.value(kind, 0)
            if reader.cost > PARSED_BYTES:
                raise _too_much()
        schema = top[2, LIST]
        leaves = sum(not element.get((5, I32)) for element in schema)
        encrypted = (8, STRUCT) in top or any(chunk.codec < 0 for group in groups for chunk in group.chunks)
        return Footer(top[3, I64], leaves, tuple(groups), encrypted)
    except (_Damaged, IndexError, KeyError, AttributeError, TypeError, RecursionError) as error:
        message = "The Parquet file's footer is damaged; write the file again."
        raise UnreadableFile(message) from error


def _group(reader: _Reader) -> Group:
    found = reader.struct(1)
    chunks = tuple(_chunk(each) for each in found[1, LIST])
    reader.cost += len(chunks) * _CHUNK
    if reader.cost > PARSED_BYTES:
        raise _too_much()
    return Group(found[3, I64], chunks)


def _chunk(found: dict[tuple[int, int], Any]) -> Chunk:
    if (8, STRUCT) in found or (9, BINARY) in found:
        return Chunk(0, 0, 0, 0, -1)
    if (1, BINARY) in found:
        raise UnreadableFile("Columns of the Parquet file lie in other files; write all into one.")
    meta = found[3, STRUCT]
    start = meta[9, I64]
    if first := meta.get((11, I64), 0):
        start = min(start, first)
    return Chunk(start, meta[7, I64], meta[6, I64], meta[5, I64], meta[4, I32])


def _too_much() -> UnreadableFile:
    return UnreadableFile("The Parquet file's footer unpacks to too much; write fewer and larger row groups.")


# --- pages


def most_unpacked(chunk: Chunk) -> float:
    """Bytes that a chunk can unpack to, whatever the footer says; infinite where its codec sets no bound."""
    ratio = _RATIOS.get(chunk.codec)
    return float("inf") if ratio is None else chunk.packed * ratio


@dataclass(frozen=True)
class Pages:
    """What the headers of a chunk's pages say; sizes in bytes, unpacked."""

    largest: int
    dictionary: int
    page: int  # the largest of those that hold values
    words: int  # in the dictionary
    by_word: bool  # whether every value is given by its place in the dictionary
    some_by_word: bool
    by_prefix: bool  # whether values share beginnings: what they unpack to is not known
    densest: float  # bytes of a row where rows are largest, apart from those given by a place
    coded: int  # rows given by the place of their value in the dictionary
    plain: int  # bytes of all pages


def read_pages(file: FileIO, size: int, chunk: Chunk) -> Pages:
    """Read the headers of a chunk's pages; raises UnreadableFile when they are none, or hold not as many values.

    `size` is that of the whole file.
    """
    at, end = chunk.start, chunk.start + chunk.packed
    values = largest = words = dictionary_bytes = page_bytes = coded = total = 0
    densest = 0.0
    encodings = set()
    count = 0
    while at < end:
        count += 1
        if count > PAGES:
            raise UnreadableFile("A column of the Parquet file has too many pages; write larger pages.")
        try:
            header, body = _page_header(file, at, end)
            plain, packed = header[2, I32], header[3, I32]
            rows = 0
            if dictionary := header.get((7, STRUCT)):
                words, dictionary_bytes = max(words, dictionary[1, I32]), max(dictionary_bytes, plain)
            elif page := header.get((5, STRUCT)) or header.get((8, STRUCT)):
                rows, encoding = page[1, I32], page[2 if (5, STRUCT) in header else 4, I32]
                encodings.add(encoding)
                page_bytes = max(page_bytes, plain)
                if encoding in _BY_WORD:
                    coded += rows
                elif rows > 0:
                    densest = max(densest, plain / rows)
            if min(plain, packed, rows) < 0 or packed > size - body:
                raise _Damaged
        except (_Damaged, IndexError, KeyError, AttributeError, TypeError) as error:
            if values == chunk.values:
                break  # all values are there; what follows is no page
            message = "A page of the Parquet file is damaged; write the file again."
            raise UnreadableFile(message) from error
        values += rows
        largest = max(largest, plain)  # of any kind: Arrow unpacks those that it passes over, too
        total += plain
        at = body + packed
    if values != chunk.values:
        raise UnreadableFile("Holds another number of rows than its footer says; write the file again.")
    by_word, some = encodings <= _BY_WORD, bool(encodings & _BY_WORD)
    return Pages(
        largest,
        dictionary_bytes,
        page_bytes,
        words,
        by_word,
        some,
        _BY_PREFIX in encodings,
        densest,
        coded,
        total,
    )


def _page_header(file: FileIO, at: int, end: int) -> tuple[dict[tuple[int, int], Any], int]:
    """The header of the page at that place, and where the page itself begins."""
    file.seek(at)
    reader = _Reader(file.read(min(end - at, 512)))
    try:
        return reader.struct(), at + reader.at
    except (IndexError, _Damaged):  # it is longer: statistics of long text
        file.seek(at)
        reader = _Reader(file.read(min(end - at, HEADER_BYTES)))
        return reader.struct(), at + reader.at
