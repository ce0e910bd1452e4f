"""Reading CSV: its dialect found out, its bytes checked, its rows converted block by block.

The bytes are unpacked, checked for being UTF-8 (or brought to it) and cut into
blocks that end where a row ends; Arrow then parses each block by itself, two at
a time. Cutting is done here because a block that ends within quotes would be
read wrong, and because a quote that is never closed has to be noticed.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from refit.batches import Code
from refit.columns import buffer_of
from refit.contract import ColumnType, Dialect
from refit.errors import UnreadableFile
from refit.source import (
    BATCH_ROWS,
    Limits,
    NotAsTyped,
    Part,
    Source,
    cell_too_large,
    first_line,
    largest,
    of_the_machine,
    short,
    too_many_columns,
)

NULL_WORDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
BLOCK = 1 << 20  # larger ones were slower: they fall out of the cache
ROW_BYTES = 8 << 20
HEADER_BYTES = 1 << 20
GATHERED_ROWS = (
    32 << 10
)  # blocks are put together to so many rows, for each batch costs its consumer something
GATHERED_BLOCKS = 8
MANY = 8  # rows a word, on average of the first block, from which a column is read by its words
THREADS = 2
RATIO, RATIO_BYTES = (
    500,
    256 << 20,
)  # a file that unpacks to more times its size, and to more bytes, is a bomb
SNIFFED = 32 << 10  # bytes that the dialect is found out from
DELIMITERS = ",;\t|"
_WORDS = pa.dictionary(pa.int32(), pa.string())
_ARROW = {
    # Arrow reads 0x1F as an integer, and an hour alone as a time, but neither as these.
    ColumnType.NUMBER: pa.float64(),
    ColumnType.INTEGER: pa.float64(),
    ColumnType.CATEGORY: _WORDS,
    ColumnType.BOOLEAN: _WORDS,
    ColumnType.TIMESTAMP: pa.string(),
    ColumnType.TEXT: pa.string(),
}


def open_csv(
    path: Path, packing: str | None, limits: Limits, dialect: Dialect, types: Mapping[str, ColumnType] | None
) -> Source:
    """Find out how a CSV is written and read its header."""
    size = path.stat().st_size
    if packing is None and size > limits.max_bytes:
        message = f"{size} bytes, at most {limits.max_bytes} are allowed; split the file."
        raise UnreadableFile(message, Code.UNPACKS_TOO_LARGE)
    text = _Text(path, packing, limits, dialect.encoding)
    head, whole = b"", True
    for chunk in text.chunks():
        head += chunk
        if len(head) >= HEADER_BYTES:
            whole = False
            break
    dialect, skipped = _dialect(head, whole, replace(dialect, encoding=text.encoding))
    names, header_bytes = _header(head, whole, skipped, dialect, limits)
    reader = _Reader(text, names, header_bytes, dialect, limits, types)
    return Source("csv", names, None, dialect, types is not None, (Part(None, reader.batches),))


def swap_decimal(text: pa.Array) -> pa.Array:
    """Numbers as text with a decimal comma, as numbers with a point; one with a point becomes no number."""
    swapped = pc.replace_substring(text, ".", "\0")
    swapped = pc.replace_substring(swapped, ",", ".")
    return pc.replace_substring(swapped, "\0", ",")


def unpacked(path: Path, packing: str | None, size: int = BLOCK) -> Generator[bytes, None, None]:
    """The bytes of a file in chunks of at most `size`; raises Arrow's errors."""
    with path.open("rb", buffering=0) as file:
        if packing is None:
            while chunk := file.read(size):
                yield chunk
            return
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), packing) as stream:
            # read() would keep the memory of a chunk for ever when it raises.
            while chunk := stream.read_buffer(size).to_pybytes():
                yield chunk


# --- bytes


class _Text:
    """The file as UTF-8: unpacked, transcoded, checked. `encoding` is known once the first chunk was read."""

    def __init__(self, path: Path, packing: str | None, limits: Limits, declared: str | None) -> None:
        self.path, self.packing, self.limits, self.declared = path, packing, limits, declared
        self.encoding = "utf-8"

    def chunks(self) -> Iterator[bytes]:
        raw = self._bounded()
        first = next(raw, b"")
        mark, self.encoding = _encoding(first, self.declared)
        plain = self.encoding == "utf-8"
        decoder: Any = codecs.getincrementaldecoder(self.encoding)("strict")
        at = len(mark)  # bytes of the unpacked file before this chunk
        for chunk in chain([first[len(mark) :]], raw):
            given = len(chunk)
            waiting = len(decoder.getstate()[0])  # bytes of a character that the chunk before cut
            if not plain or waiting or not chunk.isascii():
                try:
                    decoded = decoder.decode(chunk)
                except UnicodeError as error:  # without a place when UTF-16 that was declared has no mark
                    raise self._wrong(at - waiting + getattr(error, "start", 0)) from error
                chunk = chunk if plain else decoded.encode()
            if (place := chunk.find(b"\0")) >= 0:
                place = place if plain else len(chunk[:place].decode().encode(self.encoding))
                message = f"Byte {at + place} is NUL, so this is no text; write the file again without it."
                raise UnreadableFile(message)
            at += given
            if chunk:
                yield chunk
        waiting = len(decoder.getstate()[0])
        try:
            decoder.decode(b"", True)
        except UnicodeError as error:
            raise self._wrong(at - waiting) from error

    def line(self, offset: int) -> int:
        """Which line, from 1, the byte at that offset of the UTF-8 text is in; reads anew up to there."""
        feeds = returns = 0
        for chunk in self.chunks():
            feeds, returns = feeds + chunk.count(b"\n", 0, offset), returns + chunk.count(b"\r", 0, offset)
            offset -= len(chunk)
            if offset <= 0:
                break
        return 1 + (feeds or returns)

    def _bounded(self) -> Iterator[bytes]:
        total, bomb = 0, self.limits.max_bytes
        if self.packing:
            bomb = max(RATIO_BYTES, RATIO * self.path.stat().st_size)
        try:
            for chunk in unpacked(self.path, self.packing):
                total += len(chunk)
                if total > self.limits.max_bytes:  # a decompression bomb ends here
                    message = f"Unpacks to more than {self.limits.max_bytes} bytes; split the file."
                    raise UnreadableFile(message, Code.UNPACKS_TOO_LARGE)
                if total > bomb:
                    message = f"Unpacks to more than {RATIO} times its size, which no rows of data do; upload it unpacked."
                    raise UnreadableFile(message, Code.UNPACKS_TOO_LARGE)
                yield chunk
        except (pa.ArrowException, OSError) as error:
            if self.packing is None or of_the_machine(error):
                raise
            message = f"The {self.packing} file is damaged or cut off ({first_line(error)}); pack and upload it again."
            raise UnreadableFile(message) from error

    def _wrong(self, offset: int) -> UnreadableFile:
        name = self.encoding.upper()
        fix = (
            f"save it as {name}"
            if self.declared
            else 'save it as UTF-8, or declare the encoding, such as "latin-1", in model.toml'
        )
        return UnreadableFile(f"Byte {offset} is no {name}; {fix}.", Code.WRONG_ENCODING)


def _encoding(first: bytes, declared: str | None) -> tuple[bytes, str]:
    """Byte order mark and encoding; the mark is believed before the declaration."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if first.startswith(mark):
            return mark, name
    if declared:
        try:
            found = codecs.lookup(declared)
            "".encode(declared)  # some codecs are of no text
        except (LookupError, ValueError) as error:
            message = f"The contract declares the encoding {short(declared)}, which Python does not know; correct model.toml."
            raise UnreadableFile(message, Code.WRONG_ENCODING) from error
        return b"", found.name
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = first[start:4096:2]
        if len(zeros) > 1 and zeros.count(0) > 0.4 * len(zeros) and 0 not in first[1 - start : 4096 : 2]:
            message = f'Looks like UTF-16 without a byte order mark; save it as UTF-8, or declare encoding = "{name}".'
            raise UnreadableFile(message, Code.WRONG_ENCODING)
    return b"", "utf-8"


# --- dialect and header


def _dialect(head: bytes, whole: bool, dialect: Dialect) -> tuple[Dialect, int]:
    """The dialect with delimiter and quote found out, and how many bytes stand before the header."""
    start = len(head) - len(head.lstrip(b"\r\n"))
    if told := re.match(rb"sep=([^\r\n])\r?\n", head[start : start + 16]):  # a line that spreadsheets write
        start += told.end()
        dialect = replace(dialect, delimiter=dialect.delimiter or told[1].decode())
    for name, value in (
        ("delimiter", dialect.delimiter),
        ("quote", dialect.quote),
        ("decimal", dialect.decimal),
    ):
        if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
            raise UnreadableFile(
                f"The contract declares a {name} that is not one ASCII character; correct model.toml."
            )
    sample = head[start : start + SNIFFED].decode("utf-8", "ignore")
    cut = not whole or len(head) > start + SNIFFED
    order = DELIMITERS if dialect.decimal != "," else ";\t|,"
    best: dict[str, tuple[float, int, str]] = {}
    for quote in [dialect.quote] if dialect.quote else ['"', "'"]:
        scores = [(*_agreement(sample, cut, each, quote), each) for each in [dialect.delimiter] if each] or [
            (*_agreement(sample, cut, each, quote), each) for each in order
        ]
        best[quote] = max(scores, key=lambda score: score[:2])
    quote = dialect.quote or ("'" if _apostrophes(sample, best) else '"')
    return replace(
        dialect,
        delimiter=best[quote][2] if best[quote][1] > 1 else dialect.delimiter or order[0],
        quote=quote,
    ), start


def _agreement(sample: str, cut: bool, delimiter: str, quote: str) -> tuple[float, int]:
    """Share of the first rows that are as wide as the header, and that width; (0, 1) for a single column."""
    rows = []
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, quotechar=quote)
    for row in reader:
        if row:
            rows.append(len(row))
        if len(rows) > 50:
            break
    if cut and 1 < len(rows) <= 50:
        rows.pop()  # it may end early
    if not rows or rows[0] < 2:
        return 0.0, 1
    return sum(width == rows[0] for width in rows) / len(rows), rows[0]


def _apostrophes(sample: str, best: Mapping[str, tuple[float, int, str]]) -> bool:
    """Whether values are quoted by apostrophes: all of the header are, or else rows would fall apart."""
    marks = re.escape(best["'"][2])
    header = re.split(r"[\r\n]", sample, maxsplit=1)[0][:4096]
    if re.fullmatch(rf"'(?:[^']|'')*'({marks}'(?:[^']|'')*')*", header):
        return True
    if re.search(rf"(^|[\r\n{marks}])\"", sample):
        return False
    closed = re.search(rf"(^|[\r\n{marks}])'(?:[^']|'')*'($|[\r\n{marks}])", sample[:4096])
    return bool(closed) and best["'"][0] == 1 and best['"'][0] < 1


def _header(
    head: bytes, whole: bool, start: int, dialect: Dialect, limits: Limits
) -> tuple[tuple[str, ...], int]:
    """Names of the columns as written, and how many bytes of text they and what stands before take."""
    rest = head[start:]
    if not rest.strip():
        raise UnreadableFile("The file holds nothing but empty lines; upload it again.", Code.EMPTY_FILE)
    delimiter, quote = _byte(dialect.delimiter), _byte(dialect.quote)
    stray = len(rest)
    try:
        toggles = _quotes(rest, delimiter, quote)
    except _StrayQuote as found_stray:  # perhaps far below the header; the reader names its line
        stray = found_stray.args[0]
        toggles = _quotes(rest[:stray], delimiter, quote)
    end = 0
    while True:
        found = re.compile(rb"\r\n?|\n").search(rest, end)
        end = found.end() if found else len(rest)
        if found is None or np.searchsorted(toggles, found.start()) % 2 == 0:
            break
    if stray < end:
        raise UnreadableFile(
            "In the header a value goes on after its closing quote; double the quotes within values, "
            "or declare the delimiter in model.toml."
        )
    line = rest[:end]
    bare = re.sub(re.escape(quote) + rb"[^" + re.escape(quote) + rb"]*" + re.escape(quote), b"", line)
    if (count := bare.count(delimiter) + 1) > limits.max_columns:
        raise too_many_columns(count, limits)
    if found is None and not whole:
        raise UnreadableFile(
            f"The first line is longer than {HEADER_BYTES >> 20} MiB; upload rows in lines, below a header."
        )
    if found is None and len(toggles) % 2:
        raise UnreadableFile("A quote in the header is never closed; close it.")
    row = pc_csv.read_csv(
        pa.BufferReader(line.rstrip(b"\r\n") + b"\n"),
        read_options=pc_csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
        parse_options=_parse_options(dialect),
        convert_options=pc_csv.ConvertOptions(
            column_types={f"f{i}": pa.string() for i in range(line.count(delimiter) + 1)}
        ),
    )
    names = tuple(str(column[0].as_py()) for column in row.columns)
    if len(names) > limits.max_columns:
        raise too_many_columns(len(names), limits)
    for name in names:
        if len(name.encode()) > limits.max_cell_bytes:
            raise _large(1, limits)
    return names, start + end


def _byte(character: str | None) -> bytes:
    assert character is not None
    return character.encode()


def _parse_options(dialect: Dialect, **options: Any) -> pc_csv.ParseOptions:
    return pc_csv.ParseOptions(delimiter=dialect.delimiter, quote_char=dialect.quote, **options)


def _large(line: int, limits: Limits) -> UnreadableFile:
    message = (
        f"The value that begins in line {line} is larger than {limits.max_cell_bytes >> 10} KiB; "
        "shorten it, or close its quote."
    )
    return UnreadableFile(message, Code.CELL_TOO_LARGE)


# --- rows


class _StrayQuote(Exception):
    """A quoted value goes on after its closing quote; `args` is the place."""


class _Ragged(Exception):
    """A row that is not as wide as the header; `args` are its number in the block, its width and the header's."""


def _quotes(data: bytes, delimiter: bytes, quote: bytes) -> np.ndarray:
    """Places of the quotes that open and close values, by turns; `data` begins where a row does.

    Of a doubled quote within a value both are listed: one closes, the other
    opens again. A quote within a value that did not begin with one is a
    character like others, and not listed.
    """
    view = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(view == quote[0])
    if not len(places):
        return places
    ends = np.zeros(256, bool)
    ends[list(delimiter + b"\r\n")] = True
    beside = ends.copy()
    beside[quote[0]] = True  # doubled
    before, after = view[places[0::2] - 1], view[np.minimum(places[1::2] + 1, len(view) - 1)]
    if places[0] == 0:
        before[0] = quote[0]
    if beside[before].all() and beside[after].all():
        return places
    return _quotes_one_by_one(data, places.tolist(), ends.tolist())


def _quotes_one_by_one(data: bytes, places: list[int], ends: list[bool]) -> np.ndarray:
    kept: list[int] = []
    i, within = 0, False
    while i < len(places):
        place = places[i]
        i += 1
        if not within:  # it opens a value, or is a character of one
            within = place == 0 or ends[data[place - 1]]
            if within:
                kept.append(place)
        elif i < len(places) and places[i] == place + 1:  # doubled
            kept += [place, place + 1]
            i += 1
        elif place == len(data) - 1 or ends[data[place + 1]]:
            within = False
            kept.append(place)
        else:
            raise _StrayQuote(place)
    return np.array(kept, np.int64)


class _Reader:
    """The rows of a CSV, from the line after its header on."""

    def __init__(
        self,
        text: _Text,
        names: tuple[str, ...],
        header_bytes: int,
        dialect: Dialect,
        limits: Limits,
        types: Mapping[str, ColumnType] | None,
    ) -> None:
        self.text, self.names, self.header_bytes, self.limits = text, names, header_bytes, limits
        self.dialect, self.delimiter, self.quote = dialect, _byte(dialect.delimiter), _byte(dialect.quote)
        self.kinds = [_ARROW[(types or {}).get(name, ColumnType.TEXT)] for name in names]
        self.aliases = [f"c{i}" for i in range(len(names))]  # a file's own names may be doubled

    def batches(self) -> Iterator[pa.RecordBatch]:
        rows = waiting = 0
        gathered: list[pa.Table] = []
        for table in self._tables():
            if gathered and table.schema != gathered[0].schema:
                yield from self._together(gathered)
                gathered, waiting = [], 0
            rows += table.num_rows
            if rows > self.limits.max_rows:
                message = (
                    f"More than {self.limits.max_rows} rows; split the file, or raise max_rows in model.toml."
                )
                raise UnreadableFile(message, Code.TOO_MANY_ROWS)
            gathered.append(table)
            waiting += table.num_rows
            if waiting >= GATHERED_ROWS or len(gathered) >= GATHERED_BLOCKS:
                yield from self._together(gathered)
                gathered, waiting = [], 0
        yield from self._together(gathered)

    def _together(self, tables: list[pa.Table]) -> Iterator[pa.RecordBatch]:
        if not tables:
            return
        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables).unify_dictionaries()
        for batch in table.combine_chunks().to_batches(max_chunksize=BATCH_ROWS):
            yield pa.RecordBatch.from_arrays(batch.columns, names=list(self.names))

    def _tables(self) -> Iterator[pa.Table]:
        """The blocks parsed, in their order: two are at work while a third is consumed."""
        blocks = self._blocks()
        first, second = next(blocks, None), next(blocks, None)
        if first is None:
            return
        if second is None:  # a small file needs no threads
            yield self._numbered(lambda: self._parsed(first), 0)
            return
        pool = ThreadPoolExecutor(THREADS)
        under_way: deque[Future[pa.Table]] = deque()
        table = self._numbered(lambda: self._parsed(first), 0)
        rows = table.num_rows
        self._learn(table)
        yield table
        try:
            for block in chain([second], blocks):
                under_way.append(pool.submit(self._parsed, block))
                if len(under_way) > THREADS:
                    table = self._numbered(under_way.popleft().result, rows)
                    rows += table.num_rows
                    yield table
            while under_way:
                table = self._numbered(under_way.popleft().result, rows)
                rows += table.num_rows
                yield table
        finally:
            pool.shutdown(cancel_futures=True)

    def _learn(self, table: pa.Table) -> None:
        """Columns of many words are plain text from here on: a dictionary for each block would cost more than it saves."""
        for i, column in enumerate(table.columns):
            if self.kinds[i] == _WORDS and table.num_rows < MANY * max(
                (len(chunk.dictionary) for chunk in column.chunks), default=0
            ):
                self.kinds[i] = pa.string()

    def _numbered(self, parsed: Callable[[], pa.Table], rows: int) -> pa.Table:
        """What `parsed` returns; a ragged row gets the number that it has in the file."""
        try:
            return parsed()
        except _Ragged as ragged:
            row, width, expected = ragged.args
            message = (
                f"Row {rows + row} has {width} values, the header has {expected}; "
                "correct the row, or quote values that hold the delimiter."
            )
            raise UnreadableFile(message) from None

    def _parsed(self, block: bytes) -> pa.Table:
        ragged: list[tuple[int, int, int]] = []

        def note(row: pc_csv.InvalidRow) -> str:
            ragged.append((row.number, row.actual_columns, row.expected_columns))
            return "error"

        try:
            table = pc_csv.read_csv(
                pa.BufferReader(block),
                read_options=pc_csv.ReadOptions(
                    column_names=self.aliases, use_threads=False, block_size=len(block) + 1
                ),
                parse_options=_parse_options(self.dialect, invalid_row_handler=note),
                convert_options=pc_csv.ConvertOptions(
                    column_types=dict(zip(self.aliases, self.kinds, strict=True)),
                    null_values=NULL_WORDS,
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    check_utf8=False,  # done already
                    decimal_point=self.dialect.decimal,
                ),
            )
        except pa.ArrowInvalid as error:
            if ragged:
                raise _Ragged(*ragged[0]) from None
            if "conversion error" in str(error):
                raise NotAsTyped(first_line(error)) from None
            raise
        for name, kind, column in zip(self.names, self.kinds, table.columns, strict=True):
            for values in column.chunks:
                self._look(values, kind, name)
        return table

    def _look(self, values: pa.Array, kind: pa.DataType, name: str) -> None:
        if kind == pa.float64():
            # Arrow reads nan(1) and " nan" as not a number; as words they are none of those for nothing.
            least = buffer_of(values, np.float64).min() if len(values) else 0.0  # NaN where there is one
            if np.isnan(least) and pc.any(pc.is_nan(values)).as_py():
                raise NotAsTyped(f"column {short(name)} holds a word for not a number")
            return
        words = values.dictionary if pa.types.is_dictionary(kind) else values
        if largest(words) > self.limits.max_cell_bytes:
            raise cell_too_large(name, self.limits)

    def _blocks(self) -> Iterator[bytes]:
        """The text after the header, cut where rows end."""
        skip, at, data = self.header_bytes, self.header_bytes, b""
        for chunk in self.text.chunks():
            if skip:
                chunk, skip = chunk[skip:], skip - min(skip, len(chunk))
            data = data + chunk if data else chunk
            if end := self._row_end(data, at, last=False):
                yield data[:end]
                data, at = data[end:], at + end
            elif len(data) > ROW_BYTES:
                message = (
                    f"Line {self.text.line(at)} is longer than {ROW_BYTES >> 20} MiB; break it into rows."
                )
                raise UnreadableFile(message, Code.CELL_TOO_LARGE)
        self._row_end(data, at, last=True)
        if data:
            yield data

    def _row_end(self, data: bytes, at: int, last: bool) -> int:
        """Where the last row that ends in `data` ends; 0 when none does. Looks for faults of quotes, too."""
        quotes = np.zeros(0, np.int64)
        if self.quote in data:
            try:
                quotes = _quotes(data, self.delimiter, self.quote)
            except _StrayQuote as stray:
                line = self.text.line(at + stray.args[0])
                message = f"In line {line} a value goes on after its closing quote; double the quotes within values."
                raise UnreadableFile(message) from None
        closed = len(quotes) // 2 * 2
        if closed and (spans := quotes[1::2] - quotes[0:closed:2]).max() > self.limits.max_cell_bytes:
            raise _large(self.text.line(at + int(quotes[2 * int(spans.argmax())])), self.limits)
        if len(quotes) % 2:
            opened = int(quotes[-1])
            if len(data) - opened > self.limits.max_cell_bytes:
                raise _large(self.text.line(at + opened), self.limits)
            if last:
                message = (
                    f"The quote that opens in line {self.text.line(at + opened)} is never closed; close it."
                )
                raise UnreadableFile(message)
        self._look_for_long(data, at)
        end = len(data)
        while True:
            end = max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end))
            before = int(np.searchsorted(quotes, end)) if end >= 0 else 0
            if before % 2 == 0:
                return end + 1
            end = int(quotes[before - 1])  # that line end is within quotes; so is all since they opened

    def _look_for_long(self, data: bytes, at: int) -> None:
        """Refuse a value that is too long for a cell, and might all the same convert: a number of a million zeros."""
        step = self.limits.max_cell_bytes // 2
        marks = (b"\n", self.delimiter, b"\r")
        for start in range(0, len(data) - step + 1, step):
            if all(data.find(mark, start, start + step) < 0 for mark in marks):
                view = np.frombuffer(data, np.uint8)
                places = np.flatnonzero((view == 10) | (view == 13) | (view == self.delimiter[0]))
                places = np.concatenate([[-1], places, [len(data)]])
                lengths = np.diff(places) - 1
                if lengths.max() > self.limits.max_cell_bytes:
                    begin = int(places[lengths.argmax()]) + 1
                    raise _large(self.text.line(at + begin), self.limits)
                return
