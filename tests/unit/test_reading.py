"""From any bytes to rows, or to a named refusal."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refit import csv_reading, parquet_reading
from refit.batches import Code
from refit.columns import typed
from refit.contract import ColumnType, Dialect
from refit.errors import UnreadableFile
from refit.reading import Limits, NotAsTyped, Source, open_source, swap_decimal

LIMITS = Limits(max_rows=1_000_000, max_bytes=1 << 30)
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
UTF16 = "v,y\nü,1\n".encode("utf-16-le")


def opened(tmp_path: Path, data: bytes, limits: Limits = LIMITS, **how: Any) -> Source:
    path = tmp_path / "upload"
    path.write_bytes(data)
    return open_source(path, limits, **how)


def rows(tmp_path: Path, data: bytes, limits: Limits = LIMITS, **how: Any) -> list[tuple]:
    """All rows as tuples; a source is read the same however often it is read."""
    source = opened(tmp_path, data, limits, **how)
    first, second = (
        [
            row
            for part in source.parts()
            for batch in part.batches()
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
        for _ in range(2)
    )
    assert first == second
    return first


def as_text(path: Path, dialect: Dialect) -> pa.Table:
    """All rows of a CSV, as it is written."""
    source = open_source(path, LIMITS, dialect)
    return pa.Table.from_batches([batch for part in source.parts() for batch in part.batches()])


def refusal(tmp_path: Path, data: bytes, limits: Limits = LIMITS, **how: Any) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as found:
        for part in opened(tmp_path, data, limits, **how).parts():
            for _ in part.batches():
                pass
    return found.value


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return buffer.getvalue()


def arrow_file() -> bytes:
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, pa.schema({"v": pa.int64()})):
        pass
    return buffer.getvalue()


SMALL = parquet(pa.table({"v": [1.0, 2.0], "y": [1.0, 2.0]}))
PACKED = gzip.compress(b"v,y\n" + np.random.default_rng(0).bytes(3000).hex().encode() + b",1\n")
INVALID_TEXT = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
)
TENSOR = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((1, 2)))
RANDOM = np.random.default_rng(1)


# --- refused, each with a code and a way out

HOSTILE = {
    "nothing": (b"", Code.EMPTY_FILE, "empty (0 bytes)"),
    "line breaks only": (b"\n\r\n\n", Code.EMPTY_FILE, "nothing but empty lines"),
    "blanks only": (b"   \n", Code.EMPTY_FILE, "nothing but empty lines"),
    "a gzip of nothing": (gzip.compress(b""), Code.EMPTY_FILE, "holds nothing"),
    "random bytes": (RANDOM.bytes(5000), Code.UNREADABLE, "binary data"),
    "a few random bytes": (RANDOM.bytes(40), Code.UNREADABLE, "binary data"),
    "a pickle": (pickle.dumps({"v": [1]}), Code.UNREADABLE, "a Python pickle"),
    "an old pickle": (pickle.dumps({"v": [1]}, 2), Code.UNREADABLE, "a Python pickle"),
    "a workbook": (zipped(), Code.UNREADABLE, "workbook"),
    "Avro": (b"Obj\x01\x04\x14avro.codec", Code.UNREADABLE, "Avro"),
    "ORC": (b"ORC\x08\x03\0\0", Code.UNREADABLE, "ORC"),
    "Arrow": (arrow_file(), Code.UNREADABLE, "an Arrow or Feather file"),
    "a numpy array": (b"\x93NUMPY\x01\0", Code.UNREADABLE, "numpy"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\0", Code.UNREADABLE, "PNG"),
    "bzip2": (b"BZh91AY&SY", Code.UNREADABLE, "bzip2"),
    "a tar": (b"v.csv".ljust(257, b"\0") + b"ustar\x0000", Code.UNREADABLE, "tar archive"),
    "a tar.gz": (gzip.compress(b"v.csv".ljust(257, b"\0") + b"ustar\x0000"), Code.UNREADABLE, "tar archive"),
    "JSON": (b'{"v": 1, "y": 2}', Code.UNREADABLE, "JSON"),
    "JSON rows": (b' [\n {"v": 1}]', Code.UNREADABLE, "JSON"),
    "HTML": (b"\n<!DOCTYPE html><html>", Code.UNREADABLE, "HTML"),
    "an error of S3": (b'<?xml version="1.0"?><Error>', Code.UNREADABLE, "HTML or XML"),
    # packing
    "packed Parquet": (gzip.compress(SMALL), Code.UNREADABLE, "upload the Parquet file itself"),
    "Parquet in zstd": (zstd(SMALL), Code.UNREADABLE, "upload the Parquet file itself"),
    "packed twice": (gzip.compress(gzip.compress(b"v,y\n1,1\n")), Code.UNREADABLE, "Packed twice"),
    "a cut gzip": (PACKED[:-20], Code.UNREADABLE, "damaged or cut off"),
    "a gzip without its end": (PACKED[:-4], Code.UNREADABLE, "damaged or cut off"),
    "a gzip of another sum": (PACKED[:-8] + b"\0" * 8, Code.UNREADABLE, "damaged or cut off"),
    "a damaged gzip": (PACKED[:100] + b"\xff" * 90 + PACKED[190:], Code.UNREADABLE, "damaged or cut off"),
    "a cut zstd": (zstd(PACKED)[:-5], Code.UNREADABLE, "damaged or cut off"),
    "not even a gzip": (b"\x1f\x8b\x08", Code.UNREADABLE, "damaged or cut off"),
    # encodings
    "Latin-1": ("v,y\né,1\n".encode("latin-1"), Code.WRONG_ENCODING, "Byte 4 is no UTF-8"),
    "a Latin-1 header": ("é,y\n1,1\n".encode("latin-1"), Code.WRONG_ENCODING, "Byte 0 is no UTF-8"),
    "mixed encodings": (
        "v,y\né,1\n".encode() + "é,2\n".encode("latin-1"),
        Code.WRONG_ENCODING,
        "Byte 9 is no UTF-8",
    ),
    "mixed after a megabyte": (
        b"v,y\n" + "ü,1\n".encode() * 300_000 + b"\xfc,1\n",
        Code.WRONG_ENCODING,
        "Byte 1500004 is no UTF-8",
    ),
    "a cut character": ("v,y\n1,é".encode()[:-1], Code.WRONG_ENCODING, "Byte 6 is no UTF-8"),
    "UTF-16 without a mark": (UTF16, Code.WRONG_ENCODING, 'declare encoding = "utf-16-le"'),
    "half a character of UTF-16": (b"\xff\xfe" + UTF16[:-1], Code.WRONG_ENCODING, "Byte 16 is no UTF-16"),
    "a lone surrogate": (b"\xff\xfev\0\n\0\0\xd8\n\0", Code.WRONG_ENCODING, "Byte 6 is no UTF-16"),
    "a NUL": (b"v,y\na\0b,1\n", Code.UNREADABLE, "Byte 5 is NUL"),
    "a NUL in UTF-16": ("v,y\nü\0,1\n".encode("utf-16"), Code.UNREADABLE, "Byte 12 is NUL"),
    # rows
    "a row too wide": (b"v,y\n1,1\n\n1,2,3\n", Code.UNREADABLE, "Row 2 has 3 values, the header has 2"),
    "a row too narrow": (b"v,y\n1\n", Code.UNREADABLE, "Row 1 has 1 values, the header has 2"),
    "a wide row far below": (
        b"v,y\n" + b"1.5,1\n" * 500_000 + b"1,2,3\n" + b"1,1\n" * 400_000,
        Code.UNREADABLE,
        "Row 500001 has 3",
    ),
    "a quote never closed": (b'v,y\n1,1\n"a,1\n2,1\n', Code.UNREADABLE, "opens in line 3 is never closed"),
    "a quote never closed in the last value": (b'v,y\n1,"a', Code.UNREADABLE, "opens in line 2 is never"),
    "a quote of the header never closed": (b'"v,y\n1,1\n', Code.UNREADABLE, "header is never closed"),
    "a quote closed by another row's": (
        b'v,y\n1,"a\n2,"x"\n3,1\n',
        Code.UNREADABLE,
        "In line 3 a value goes on",
    ),
    "an unknown delimiter": (
        b'"v" "y"\n1 1\n',
        Code.UNREADABLE,
        "In the header a value goes on after its closing quote",
    ),
    "quotes escaped by a backslash": (b'v,y\n"a\\"b",1\n', Code.UNREADABLE, "In line 2 a value goes on"),
    "a long quote never closed": (b'v,y\n1,1\n"a' + b",1\n" * 200_000, Code.CELL_TOO_LARGE, "line 3"),
    "a value of a megabyte": (b"v,y\n" + b"a" * (1 << 20) + b",1\n", Code.CELL_TOO_LARGE, "line 2"),
    "a quoted value of a megabyte": (b'v,y\n1,"' + b"a" * (1 << 20) + b'"\n', Code.CELL_TOO_LARGE, "line 2"),
    "a number of a million digits": (b"v,y\n" + b"0" * (1 << 20) + b",1\n", Code.CELL_TOO_LARGE, "line 2"),
    "one endless line": (b"v,y\n" + b"a,b" * (4 << 20), Code.CELL_TOO_LARGE, "Line 2 is longer than 8 MiB"),
    "an endless header": (b"v" * (3 << 20), Code.UNREADABLE, "The first line is longer"),
    "10,000 columns": (
        b",".join(b"c%d" % i for i in range(10_000)) + b"\n",
        Code.TOO_MANY_COLUMNS,
        "10000 columns, at most 2000",
    ),
    # Parquet
    "only Parquet's mark": (b"PAR1", Code.UNREADABLE, "cut off"),
    "Parquet without its end": (SMALL[:-6], Code.UNREADABLE, "cut off"),
    "half of a Parquet file": (SMALL[: len(SMALL) // 2], Code.UNREADABLE, "cut off"),
    "encrypted Parquet": (b"PARE" + SMALL[4:-4] + b"PARE", Code.UNREADABLE, "encrypted"),
    "a footer larger than its file": (
        SMALL[:-8] + b"\xff\xff\xff\x7fPAR1",
        Code.UNREADABLE,
        "footer has a size",
    ),
    "a footer of nothing": (SMALL[:-8] + b"\0\0\0\0PAR1", Code.UNREADABLE, "footer has a size"),
    "a footer cut": (SMALL[:-8] + b"\x10\0\0\0PAR1", Code.UNREADABLE, "footer is damaged"),
    "text that is no UTF-8": (
        parquet(pa.table({"v": INVALID_TEXT, "y": [1.0]})),
        Code.UNREADABLE,
        "Invalid UTF8",
    ),
    "a list": (
        parquet(pa.table({"v": [[1.0]], "y": [1.0]})),
        Code.NESTED_COLUMN,
        "Nested columns: 'v'; flatten",
    ),
    "a struct": (parquet(pa.table({"v": [{"a": 1}], "y": [1.0]})), Code.NESTED_COLUMN, "Nested columns: 'v'"),
    "a tensor": (parquet(pa.table({"v": TENSOR, "y": [1.0]})), Code.NESTED_COLUMN, "Nested columns: 'v'"),
    "10,000 columns of Parquet": (
        parquet(pa.table({f"c{i}": [1] for i in range(10_000)})),
        Code.TOO_MANY_COLUMNS,
        "10000 columns, at most 2000",
    ),
    "a megabyte in Parquet": (
        parquet(pa.table({"v": ["a", "b" * (1 << 20)], "y": [1, 2]})),
        Code.CELL_TOO_LARGE,
        "A value of 'v' is larger than 256 KiB",
    ),
    "a megabyte of bytes in Parquet": (
        parquet(pa.table({"v": [b"a", b"b" * (1 << 20)], "y": [1, 2]}), use_dictionary=False),
        Code.CELL_TOO_LARGE,
        "A value of 'v' is larger than 256 KiB",
    ),
    "a name of Parquet that is no UTF-8": (
        parquet(pa.table({"zzzz": [1]})).replace(b"zzzz", b"\xff\xfezz"),
        Code.UNREADABLE,
        "a name that is no UTF-8",
    ),
    "wide values in Parquet": (
        parquet(pa.table({"v": pa.array([b"b" * (1 << 20)], pa.binary(1 << 20))})),
        Code.CELL_TOO_LARGE,
        "A value of 'v' is larger than 256 KiB",
    ),
}


@pytest.mark.parametrize(("data", "code", "says"), HOSTILE.values(), ids=HOSTILE.keys())
def test_bytes_that_are_no_table_are_refused_with_a_code_and_a_way_out(tmp_path, data, code, says):
    error = refusal(tmp_path, data)
    assert error.code == code
    assert says in str(error)
    assert str(error).endswith(".") and any(mark in str(error) for mark in (";", ",")), "it says what to do"
    assert len(str(error)) < 300


def test_a_refusal_of_a_column_names_it(tmp_path):
    assert refusal(tmp_path, HOSTILE["a list"][0]).column == "v"
    assert refusal(tmp_path, HOSTILE["a megabyte in Parquet"][0]).column == "v"


@pytest.mark.parametrize("types", [None, {"v": ColumnType.NUMBER}])
def test_a_refusal_quotes_no_row_of_the_file(tmp_path, types):
    """Reasons are logged and announced; what the rows hold is not."""
    for data in (b"v,y\nhidden,2,3\n", b'v,y\n"hid"den,2\n', b'v,y\n"hidden,2\n', b"v,y\nhidden\xff,2\n"):
        assert "hid" not in str(refusal(tmp_path, data, types=types))


def test_more_rows_or_bytes_than_allowed_are_refused(tmp_path):
    data = b"v,y\n1,1\n2,2\n3,3\n"
    for upload in (data, gzip.compress(data), zstd(data)):
        assert refusal(tmp_path, upload, Limits(2, 100)).code == Code.TOO_MANY_ROWS
        assert refusal(tmp_path, upload, Limits(3, len(data) - 1)).code == Code.UNPACKS_TOO_LARGE
        assert len(rows(tmp_path, upload, Limits(3, len(data)))) == 3


def test_more_rows_or_bytes_than_allowed_are_refused_in_parquet_before_they_are_read(tmp_path):
    data = parquet(pa.table({"v": np.arange(1000.0), "y": np.arange(1000.0)}))
    with pytest.raises(UnreadableFile, match="1000 rows, at most 999") as found:
        opened(tmp_path, data, Limits(999, 1 << 30))
    assert found.value.code == Code.TOO_MANY_ROWS
    with pytest.raises(UnreadableFile, match="at most 15000 are allowed") as found:
        opened(tmp_path, data, Limits(1000, 15_000))
    assert found.value.code == Code.UNPACKS_TOO_LARGE


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_decompression_bomb_ends_at_the_limit(tmp_path, pack):
    bomb = pack(b"v,y\n" + b"1,1\n" * 5_000_000)
    assert len(bomb) < 100_000
    error = refusal(tmp_path, bomb, Limits(10**9, 4 << 20))
    assert (error.code, str(error)) == (
        Code.UNPACKS_TOO_LARGE,
        "Unpacks to more than 4194304 bytes; split the file.",
    )


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_file_that_unpacks_to_far_more_than_rows_do_is_refused_soon(tmp_path, monkeypatch, pack):
    """Gigabytes of empty lines would take a minute, and be no row in the end."""
    monkeypatch.setattr(csv_reading, "RATIO_BYTES", 2 << 20)
    error = refusal(tmp_path, pack(b"v,y\n" + b"\n" * (8 << 20)), Limits(10**9, 8 << 30))
    assert (error.code, "500 times its size" in str(error)) == (Code.UNPACKS_TOO_LARGE, True)
    assert len(rows(tmp_path, pack(b"v,y\n" + b"1,1\n" * 400_000), Limits(10**9, 8 << 30))) == 400_000


@pytest.mark.parametrize("kind", ["pages", "words"])
def test_pages_that_together_unpack_to_more_than_memory_holds_are_refused(tmp_path, monkeypatch, kind):
    """Each may be small enough; all columns' are in memory at a time, and the words of text more than once."""
    monkeypatch.setattr(parquet_reading, "HELD_BYTES", 8 << 20)
    monkeypatch.setattr(parquet_reading, "HELD_OF_EACH", 0)
    n = 200_000
    column = {"pages": np.arange(float(n)), "words": pa.array([f"{i:020d}" for i in range(n)])}[kind]
    big = {"data_page_size": 1 << 30, "dictionary_pagesize_limit": 1 << 30, "row_group_size": n}
    table = pa.table(
        {
            "v": column,
            **({"w": column, "x": column, "y": column, "z": column, "u": column} if kind == "pages" else {}),
        }
    )
    data = parquet(table, use_dictionary=kind == "words", write_batch_size=n, max_rows_per_page=n, **big)
    error = refusal(tmp_path, data)
    assert (error.code, "at most 8388608 are allowed" in str(error)) == (Code.UNPACKS_TOO_LARGE, True)
    assert len(rows(tmp_path, parquet(table))) == n


@pytest.mark.parametrize(
    "fault", [MemoryError(), KeyError("ours"), pa.ArrowMemoryError("malloc"), OSError(28, "disk full")]
)
def test_a_fault_of_ours_or_of_the_machine_is_no_fault_of_the_file(tmp_path, monkeypatch, fault):
    """Such an upload is kept and tried again, not called unreadable."""

    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(parquet_reading, "read_footer", fail)
    monkeypatch.setattr(csv_reading, "_dialect", fail)
    for data in (SMALL, b"v,y\n1,1\n"):
        with pytest.raises(type(fault)):
            opened(tmp_path, data)


def zeros(n: int, **options: Any) -> bytes:
    big = {"data_page_size": 1 << 30, "max_rows_per_page": 1 << 30, "row_group_size": 1 << 30}
    return parquet(pa.table({"v": np.zeros(n)}), use_dictionary=False, **big, **options)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_page_that_unpacks_to_more_than_memory_holds_is_refused_before_it_is_read(tmp_path, compression):
    """Arrow would allocate what the page's header says, whatever the footer says."""
    data = zeros(17 << 20, compression=compression)
    assert len(data) < 200_000
    error = refusal(tmp_path, data, Limits(1 << 30, 8 << 30))
    assert (error.code, "at most 134217728 are allowed" in str(error)) == (Code.UNPACKS_TOO_LARGE, True)
    assert len(rows(tmp_path, zeros(1 << 17, compression=compression))) == 1 << 17


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dictionary": False, "column_encoding": {"v": "DELTA_BYTE_ARRAY"}}],
    ids=["a dictionary", "shared beginnings"],
)
def test_a_word_in_many_rows_takes_its_memory_once_or_in_small_batches(tmp_path, options):
    """20,000 times 200 KB are 4 GB: in a few kilobytes of Parquet."""
    data = parquet(pa.table({"v": pa.array(["x" * 200_000]).take(pa.array([0] * 5000))}), **options)
    assert len(data) < 50_000
    source = opened(tmp_path, data)
    for part in source.parts():
        assert all(batch.nbytes < 150 << 20 for batch in part.batches())
    assert source.rows == 5000


def varint(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def footer(
    groups: bytes, schema: bytes = b"\x19\x2c\x48\x06schema\x15\x02\x00\x15\x02\x25\x00\x18\x01v\x00"
) -> bytes:
    """A Parquet file of nothing but a footer, in Thrift: version 1, the schema, 0 rows, these row groups."""
    thrift = b"\x15\x02" + schema + b"\x16\x00" + groups + b"\x00"
    return b"PAR1" + thrift + len(thrift).to_bytes(4, "little") + b"PAR1"


CHUNK = b"\x26\x00\x1c\x15\x00\x19\x05\x19\x18\x01v\x15\x00\x16\x00\x16\x00\x16\x00\x26\x08\x00\x00"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (footer(b"\x19\xfc" + varint(2**31 - 1)), "footer is damaged"),
        (footer(b"\x19\xfc" + varint(99_999)), "footer is damaged"),
        (footer(b"\x1c" * 100_000), "footer is damaged"),
        (footer(b"\x18" + varint(2**40)), "footer is damaged"),
        (footer(b"\x26" + b"\xff" * 100), "footer is damaged"),
        (
            footer(
                b"\x19\x3c" + (b"\x19\xfc" + varint(90_000) + CHUNK * 90_000 + b"\x16\x00\x16\x00\x00") * 3
            ),
            "footer unpacks to too much",
        ),
        (footer(b"\x19\x0c")[:-8] + (40 << 20).to_bytes(4, "little") + b"PAR1", "size that cannot be right"),
        (
            b"PAR1" + bytes(17 << 20) + (17 << 20).to_bytes(4, "little") + b"PAR1",
            "footer is larger than 16 MiB",
        ),
    ],
)
def test_a_footer_that_would_fill_the_memory_is_refused_before_arrow_sees_it(tmp_path, data, says):
    error = refusal(tmp_path, data)
    assert (error.code, says in str(error)) == (Code.UNREADABLE, True), str(error)


@pytest.mark.parametrize("change", [1, 1 << 40, -1], ids=["one more", "far more", "one less"])
def test_a_declared_number_of_rows_that_is_a_lie_is_refused(tmp_path, change):
    """The number stands in the footer, in each row group and in each column of it; each may lie alone."""
    n = 1000
    data = parquet(pa.table({"v": np.arange(float(n))}), compression="none", use_dictionary=False)
    true, lie = varint(2 * n), varint(2 * (n + change))
    size = int.from_bytes(data[-8:-4], "little")
    body, thrift = data[: -8 - size], data[-8 - size : -8]
    places = [i for i in range(len(thrift)) if thrift.startswith(b"\x16" + true, i)]
    assert len(places) >= 3
    for chosen in [[place] for place in places] + [places]:
        forged = b""
        last = 0
        for place in chosen:
            forged += thrift[last : place + 1] + lie
            last = place + 1 + len(true)
        forged += thrift[last:]
        whole = body + forged + len(forged).to_bytes(4, "little") + b"PAR1"
        assert refusal(tmp_path, whole).code in (Code.UNREADABLE, Code.TOO_MANY_ROWS)


def test_nothing_is_left_beside_the_upload(tmp_path):
    rows(tmp_path, gzip.compress(b"v,y\n1,1\n"))
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_damaged_files_leave_nothing_in_the_memory(tmp_path, pack):
    """A function that lives for days reads many of them."""
    data = pack(b"v,y\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(1000)))
    refusal(tmp_path, data[: len(data) // 2])
    tracemalloc.start()
    for _ in range(20):
        refusal(tmp_path, data[: len(data) // 2])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 300_000


def test_damaged_pages_are_noticed(tmp_path):
    """A flipped bit within a page would else be a wrong number that nobody sees."""
    table = pa.table({"v": np.arange(1000.0), "y": np.arange(1000.0)})
    data = bytearray(parquet(table, write_page_checksum=True, compression="none", use_dictionary=False))
    data[2000] ^= 1
    assert refusal(tmp_path, bytes(data)).code == Code.UNREADABLE


def test_a_place_in_the_dictionary_that_does_not_exist_is_noticed(tmp_path):
    """Arrow reads what lies behind the last word, or beyond the memory."""
    schema = pa.schema([pa.field("v", pa.string(), nullable=False), ("y", pa.int64())])
    table = pa.table({"v": ["a"] * 1000 + ["b", "c"], "y": range(1002)}, schema)
    data = parquet(table, compression="none", data_page_version="1.0")
    run = b"\x02\xd0\x0f\x00"  # two bits a place, a thousand times the first
    assert data.count(run) == 1
    assert len(rows(tmp_path, data)) == 1002
    assert refusal(tmp_path, data.replace(run, b"\x02\xd0\x0f\x03")).code == Code.UNREADABLE


# --- odd, but valid

ODD = {
    "comma": b"v,y\na,1\nb,2\n",
    "no last line end": b"v,y\na,1\nb,2",
    "windows line ends": b"v,y\r\na,1\r\nb,2\r\n",
    "old line ends": b"v,y\ra,1\rb,2\r",
    "semicolon": b"v;y\na;1\nb;2\n",
    "tab": b"v\ty\na\t1\nb\t2\n",
    "bar": b"v|y\na|1\nb|2\n",
    "all quoted": b'"v","y"\n"a","1"\n"b","2"\n',
    "some quoted": b'v,"y"\n"a",1\nb,"2"\n',
    "apostrophes": b"'v','y'\n'a','1'\n'b','2'\n",
    "a byte order mark": b"\xef\xbb\xbfv,y\na,1\nb,2\n",
    "utf-16": "v,y\na,1\nb,2\n".encode("utf-16"),
    "utf-16 the other way": b"\xfe\xff" + "v,y\na,1\nb,2\n".encode("utf-16-be"),
    "utf-32": "v,y\na,1\nb,2\n".encode("utf-32"),
    "gzip": gzip.compress(b"v,y\na,1\nb,2\n"),
    "gzip in two members": gzip.compress(b"v,y\na,") + gzip.compress(b"1\nb,2\n"),
    "gzip of utf-16": gzip.compress("v,y\na,1\nb,2\n".encode("utf-16")),
    "zstd": zstd(b"v,y\na,1\nb,2\n"),
    "zstd in two frames": zstd(b"v,y\na,") + zstd(b"1\nb,2\n"),
    "zstd after a frame to skip": b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd(b"v,y\na,1\nb,2\n"),
    "empty lines": b"\n\nv,y\n\na,1\n\nb,2\n\n\n",
    "a line that tells the delimiter": b"sep=;\r\nv;y\r\na;1\r\nb;2\r\n",
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_the_same_rows_are_read_from_every_way_to_write_them(tmp_path, data):
    assert opened(tmp_path, data).names == ("v", "y")
    assert rows(tmp_path, data) == [("a", "1"), ("b", "2")]
    types = {"v": ColumnType.CATEGORY, "y": ColumnType.INTEGER}
    assert rows(tmp_path, data, types=types) == [("a", 1.0), ("b", 2.0)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'v,y\n"a,b",1\n', [("a,b", "1")]),
        (b'v,y\n"a\nb",1\n', [("a\nb", "1")]),
        (b'v,y\r\n"a\r\nb",1\r\n', [("a\r\nb", "1")]),
        (b'v,y\n"a ""b""",1\n', [('a "b"', "1")]),
        (b'v,y\n"""",1\n', [('"', "1")]),
        (b'v,y\n"",1\n', [("", "1")]),
        (b"v,y\n,1\n", [(None, "1")]),
        (b'v,y\n5" disk,1\n"6"" disk",2\n', [('5" disk', "1"), ('6" disk', "2")]),
        (b'v,y\nsay "a",1\n"b\n",2\n', [('say "a"', "1"), ("b\n", "2")]),
        (b"v,y\n'tis,1\nb',2\n", [("'tis", "1"), ("b'", "2")]),
        (b"v,y\n'a,b',1\n", [("a,b", "1")]),
        (b"v,y\n1;2,3\n4,5\n", [("1;2", "3"), ("4", "5")]),
        (b"v;y\n1,5;2\n", [("1,5", "2")]),
        ("v,y\nü\u2028x,日本\n".encode(), [("ü\u2028x", "日本")]),
        (b"v,y\n a ,\t1\n", [(" a ", "\t1")]),
        (b"v,y\n[1],{2}\n", [("[1]", "{2}")]),
        (b"v,y\n", []),
        (b"v,y", []),
    ],
)
def test_values_of_a_csv_are_read_as_they_were_meant(tmp_path, data, expected):
    assert rows(tmp_path, data) == expected


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (b"v,v,v", ("v", "v", "v")),
        (b"v,,y", ("v", "", "y")),
        (b"v,y,", ("v", "y", "")),
        (b"1,2.50,NA", ("1", "2.50", "NA")),
        (b'"a,b","c""d","e\nf"', ("a,b", 'c"d', "e\nf")),
        (
            " v ,../../x,'; DROP TABLE y,\u202eüber,{x}".encode(),
            (" v ", "../../x", "'; DROP TABLE y", "\u202eüber", "{x}"),
        ),
    ],
)
def test_names_stay_as_they_are_written(tmp_path, header, names):
    line = b",".join([b"7"] * len(names))
    assert opened(tmp_path, header + b"\n" + line + b"\n").names == names
    assert rows(tmp_path, header + b"\n" + line + b"\n") == [("7",) * len(names)]


@pytest.mark.parametrize(
    ("data", "declared", "expected"),
    [
        ("v,y\né,1\n".encode("latin-1"), Dialect(encoding="latin-1"), [("é", "1")]),
        ("v,y\n€,1\n".encode("cp1252"), Dialect(encoding="cp1252"), [("€", "1")]),
        ("v,y\né,1\n".encode("utf-8-sig"), Dialect(encoding="latin-1"), [("é", "1")]),
        ("v,y\né,1\n".encode("utf-16-be"), Dialect(encoding="utf-16-be"), [("é", "1")]),
        (b"v y\na 1\n", Dialect(delimiter=" "), [("a", "1")]),
        (b"v,y\n*a,b*,1\n", Dialect(quote="*"), [("a,b", "1")]),
        (b"v,y;z\na,1;2\n", Dialect(delimiter=";"), [("a,1", "2")]),
    ],
)
def test_what_is_declared_is_not_found_out(tmp_path, data, declared, expected):
    assert rows(tmp_path, data, dialect=declared) == expected


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (Dialect(encoding="klingon"), "'klingon', which Python does not know"),
        (Dialect(encoding="zip"), "'zip', which Python does not know"),
        (Dialect(encoding="undefined"), "'undefined', which Python does not know"),
        (Dialect(encoding="utf-8\0"), "which Python does not know"),
        (Dialect(encoding="utf-16"), "Byte 0 is no UTF-16; save it as UTF-16"),
        (Dialect(delimiter=";;"), "a delimiter that is not one ASCII character"),
        (Dialect(quote="„"), "a quote that is not one ASCII character"),
        (Dialect(encoding="ascii"), "Byte 4 is no ASCII; save it as ASCII"),
    ],
)
def test_a_declaration_that_cannot_be_is_named(tmp_path, declared, says):
    assert says in str(refusal(tmp_path, "v,y\né,1\n".encode(), dialect=declared))


def test_numbers_with_a_decimal_comma(tmp_path):
    declared, types = Dialect(decimal=","), {"v": ColumnType.NUMBER}
    assert rows(tmp_path, b"v;y\n1,5;2\n", dialect=declared, types=types) == [(1.5, "2")]
    assert rows(tmp_path, b'v,y\n"1,5",2\n', dialect=declared, types=types) == [(1.5, "2")]
    assert opened(tmp_path, b"v;y\n1,5;2,5\n", dialect=declared).dialect.delimiter == ";"
    with pytest.raises(NotAsTyped):
        rows(tmp_path, b"v;y\n1.5;2\n", dialect=declared, types=types)
    assert swap_decimal(pa.array(["1,5", "1.5", None])).to_pylist() == ["1.5", "1,5", None]


@pytest.mark.parametrize("quoted", [b"1.25,1\n", b'"1\n,2",1\n', b'5" x,1\n', "ü,1\n".encode()])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_rows_are_whole_wherever_a_block_is_cut(tmp_path, quoted, end):
    """Blocks are cut every megabyte, here at every possible place of a row and of a character."""
    row = quoted[:-1]
    count = 2_500_000 // len(row)
    data = b"v,y" + end + (row + end) * count
    source = opened(tmp_path, data)
    tables = [batch for part in source.parts() for batch in part.batches()]
    table = pa.Table.from_batches(tables)
    assert table.num_rows == count
    assert table.group_by(["v", "y"]).aggregate([]).num_rows == 1
    assert max(batch.num_rows for batch in tables) <= 128 << 10


def test_dictionaries_of_blocks_are_put_together(tmp_path):
    data = b"v,y\n" + b"".join(b"w%d,1\n" % (i // 1000) for i in range(400_000))
    source = opened(tmp_path, data, types={"v": ColumnType.CATEGORY})
    read = [batch.column(0) for part in source.parts() for batch in part.batches()]
    assert all(pa.types.is_dictionary(each.type) for each in read)
    assert [word for each in read for word in each.to_pylist()] == [f"w{i // 1000}" for i in range(400_000)]


@pytest.mark.parametrize(("times", "dictionary"), [(20, True), (1, False)])
def test_many_words_are_a_dictionary_only_where_they_come_again(tmp_path, monkeypatch, times, dictionary):
    """Also when the file's own dictionary became full, and the rest is plain text."""
    monkeypatch.setattr("refit.parquet_reading.FEW_WORDS", 100)
    words = [f"w{i % (20_000 // times)}" for i in range(20_000)] + [f"more{i}" for i in range(2000)]
    data = parquet(pa.table({"v": words}), dictionary_pagesize_limit=8000, data_page_size=4000)
    batches = [batch for part in opened(tmp_path, data).parts() for batch in part.batches()]
    assert all(pa.types.is_dictionary(batch.column(0).type) is dictionary for batch in batches)
    assert [word for batch in batches for word in batch.column(0).to_pylist()] == words
    monkeypatch.setattr("refit.parquet_reading.REPEATED_BYTES", 1000)
    (part,) = opened(tmp_path, data).parts()
    assert pa.types.is_string(next(part.batches()).column(0).type)


def test_columns_of_parquet_come_in_batches_and_text_as_dictionaries(tmp_path):
    n = 300_000
    table = pa.table({"v": pa.array(["a", None, "ü"] * (n // 3)), "y": np.arange(float(n))})
    for size in (1000, 100_000, n):
        source = opened(tmp_path, parquet(table, row_group_size=size))
        assert (source.kind, source.names, source.rows) == ("parquet", ("v", "y"), n)
        read = []
        for part in source.parts():
            here = list(part.batches())
            assert part.rows == sum(batch.num_rows for batch in here)
            assert pa.Table.from_batches(part.columns(["y"])).equals(
                pa.Table.from_batches(here).select(["y"])
            )
            read += here
        assert all(pa.types.is_dictionary(batch.column(0).type) for batch in read)
        assert max(batch.num_rows for batch in read) <= 128 << 10
        whole = pa.Table.from_batches(
            [pa.record_batch([b.column(0).cast("string"), b.column(1)], ["v", "y"]) for b in read]
        )
        assert whole.equals(table)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None], pa.int8()),
        pa.array([1.5, None], pa.float16()),
        pa.array([True, None]),
        pa.array(["a", None], pa.large_string()),
        pa.array([b"a", None]),
        pa.array(["a", None]).dictionary_encode(),
        pa.array([1, None], pa.timestamp("ms", "Europe/Berlin")),
        pa.array([1, None], pa.date32()),
        pa.array([1, None], pa.decimal128(5, 2)),
        pa.array([b"ab", None], pa.binary(2)),
        pa.nulls(2),
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["7", None])),
    ],
    ids=lambda values: str(values.type)[:30],
)
@pytest.mark.parametrize("name", ["v", "", "a.b", "ü\n"])
def test_every_flat_type_of_parquet_is_read_under_any_name(tmp_path, values, name):
    read = rows(tmp_path, parquet(pa.table([values, [1, 2]], names=[name, "y"])))
    assert [row[0] for row in read] == values.to_pylist()


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}, {"version": "1.0"}]
)
def test_every_compression_of_parquet_is_read(tmp_path, compression, options):
    table = pa.table({"v": ["a", "b"] * 500, "y": np.arange(1000.0)})
    assert len(rows(tmp_path, parquet(table, compression=compression, **options))) == 1000


@pytest.mark.parametrize(
    "encoding",
    ["DELTA_BINARY_PACKED", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "BYTE_STREAM_SPLIT", "PLAIN"],
)
def test_every_encoding_of_parquet_is_read(tmp_path, encoding):
    columns = {"DELTA_BINARY_PACKED": [1, 2, 3], "BYTE_STREAM_SPLIT": [1.0, 2.0, 3.0]}.get(
        encoding, ["a", "ab", "b"]
    )
    data = parquet(pa.table({"v": columns}), use_dictionary=False, column_encoding={"v": encoding})
    assert [row[0] for row in rows(tmp_path, data)] == columns


def test_text_whose_size_is_not_known_is_read_in_few_batches(tmp_path):
    """Of shared beginnings only a few hundred rows are unpacked at a time, and each batch costs its consumer something."""
    words = [None if i % 7 == 0 else f"w{i % 900}" for i in range(100_000)]
    table = pa.table({"v": words, "w": pa.array(words).dictionary_encode(), "y": np.arange(100_000.0)})
    encoding = {"use_dictionary": ["w"], "column_encoding": {"v": "DELTA_BYTE_ARRAY"}}
    for size in (100_000, 30_000):
        source = opened(tmp_path, parquet(table, row_group_size=size, **encoding))
        read = [batch for part in source.parts() for batch in part.batches()]
        assert 1 < len(read) <= 8
        for i, expected in enumerate((words, words, table["y"].to_pylist())):
            assert [value for batch in read for value in batch.column(i).to_pylist()] == expected


def test_duplicated_names_of_parquet_are_told(tmp_path):
    table = pa.table([["a"], ["b"], [1]], names=["v", "v", "y"])
    assert opened(tmp_path, parquet(table)).names == ("v", "v", "y")
    assert rows(tmp_path, parquet(table)) == [("a", "b", 1)]


def test_a_parquet_file_without_rows_or_without_row_groups_is_read(tmp_path):
    assert rows(tmp_path, parquet(pa.table({"v": pa.array([], pa.string())}))) == []
    buffer = io.BytesIO()
    pq.ParquetWriter(buffer, pa.schema({"v": pa.int8()})).close()
    assert rows(tmp_path, buffer.getvalue()) == []


# --- typed or as strings: the same answer

ODDITIES = [
    *["NaN", "nan", "NAN", " nan", "nan(1)", "-nan", "inf", "+inf", "-Infinity", "1e400", "-1e999", "1e-400", "0x1F"],
    *["", " ", "NA", " NA", "1 ", "\t1", "1_000", "1e5", "+1", "--1", "1.", ".5", ".", "e5", "true", "TRUE", "yes "],
    *["9007199254740993", "3.0", "1.5", "٣", "2024-01-01", "2024-01-01 12", "2024-01-01T12:00Z", "2024-13-01"],
]  # fmt: skip
NUMBERISH = st.text(alphabet="0123456789+-.,eEinfINFATYaxX_ \t\u00a0'\"#", max_size=9) | st.sampled_from(
    ODDITIES
)
TIMES = st.from_regex(
    r"\A ?(19|20|16|24)\d\d-[01]\d-[0-3]\d([ T][0-2]\d(:[0-6]\d){0,2}(\.\d{0,10})?(Z|\+00:?00|\+01:00)?)? ?\Z"
)
KINDS = [kind for kind in ColumnType if kind is not ColumnType.TEXT]


def judged(table: pa.Table, kind: ColumnType) -> list:
    """Of each value of column `v`: what it is read as under that type, None for nothing, "wrong" for no such value."""
    array = table.column("v").combine_chunks()
    found = typed(array.chunk(0) if isinstance(array, pa.ChunkedArray) else array, kind)
    words = found.words.to_pylist() if found.words is not None else None
    read = []
    for at, value in enumerate(found.values.tolist()):
        null = found.null is not None and bool(found.null[at])
        wrong = found.wrong is not None and bool(found.wrong[at])
        shown = repr(value) if words is None or null else words[value]
        read.append("wrong" if wrong else None if null else shown)
    return read


@MANY
@given(
    values=st.lists(NUMBERISH | TIMES, min_size=1, max_size=4),
    quoted=st.booleans(),
    kind=st.sampled_from(KINDS),
)
def test_a_typed_read_says_the_same_of_every_value(tmp_path, values, quoted, kind):
    mark = '"' if quoted else ""
    if not quoted:
        values = [value for value in values if not set(value) & set(',"\n\r')] or ["1"]
    lines = [f"{mark}{value.replace(mark or 'no', mark * 2)}{mark},1" for value in values]
    data = ("v,y\n" + "\n".join(lines) + "\n").encode()
    path = tmp_path / "upload"
    path.write_bytes(data)
    declared = Dialect(delimiter=",", quote='"')
    text = as_text(path, declared)
    assert text.column("v").to_pylist() == [
        None if not quoted and value in NULLS else value for value in values
    ]
    try:
        batches = list(open_source(path, LIMITS, declared, {"v": kind}).parts()[0].batches())
    except NotAsTyped:
        return
    assert judged(pa.Table.from_batches(batches), kind) == judged(text, kind)


NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]


@pytest.mark.parametrize("value", ["1", "-2.5e1", "+1", "inf", "1e400", " 1\t", '"1"', "", "NA", "nan"])
def test_a_usual_number_is_read_as_typed(tmp_path, value):
    """Falling back to strings would be right, too, but slow."""
    assert len(rows(tmp_path, f"v,y\n{value},1\n".encode(), types={"v": ColumnType.NUMBER})) == 1


# --- any table survives being written and read

VALUES = st.text(alphabet="ab ,;\t|'\"\n\réü日\u2028\u0085#=", max_size=6)
TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1, max_size=8)
)


@MANY
@given(
    table=TABLES,
    delimiter=st.sampled_from(",;\t|"),
    quote=st.sampled_from("\"'"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    pack=st.sampled_from([bytes, gzip.compress, zstd]),
)
def test_any_text_that_is_quoted_comes_back(tmp_path, table, delimiter, quote, end, encoding, pack):
    header = [f"n{i}" for i in range(len(table[0]))]
    lines = [[quote + value.replace(quote, quote * 2) + quote for value in row] for row in [header, *table]]
    data = pack("".join(delimiter.join(line) + end for line in lines).encode(encoding))
    source = opened(tmp_path, data)
    assert source.names == tuple(header)
    assert (source.dialect.delimiter, source.dialect.quote) == (delimiter, quote)
    assert rows(tmp_path, data) == [tuple(row) for row in table]


@MANY
@given(
    data=st.binary(max_size=200)
    | st.binary(max_size=100).map(gzip.compress)
    | st.binary(max_size=100).map(zstd)
    | st.binary(max_size=60).map(lambda tail: b"v,y\n" + tail)
    | st.binary(max_size=60).map(lambda tail: b"PAR1" + tail + b"PAR1")
    | st.binary(max_size=60).map(lambda tail: b"\xff\xfe" + tail)
    | st.text(alphabet="ab,;'\"\n\r\t 1", max_size=60).map(str.encode)
    | st.recursive(st.none() | st.text(max_size=3), st.lists, max_leaves=3).map(
        lambda x: json.dumps([x]).encode()
    ),
    typed=st.booleans(),
)
def test_any_bytes_are_rows_or_a_refusal(tmp_path, data, typed):
    types = {"v": ColumnType.NUMBER, "y": ColumnType.CATEGORY} if typed else None
    try:
        source = opened(tmp_path, data, types=types)
        for part in source.parts():
            for batch in part.batches():
                assert batch.num_columns == len(source.names)
    except (UnreadableFile, NotAsTyped):
        pass
