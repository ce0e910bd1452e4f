"""Reads damaged copies of good files until the time is up, in a process of its own: a crash is seen from outside.

    python tests/fuzz/mutants.py FOLDER SECONDS SEED

What is read is written to FOLDER first, so that what killed the process stays there.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refit.contract import ColumnType
from refit.errors import UnreadableFile
from refit.reading import Limits, NotAsTyped, Source, open_source

LIMITS = Limits(max_rows=1_000_000, max_bytes=64 << 20)
SLOWEST = 20  # seconds for one small file, on a busy machine
TYPES = {"n": ColumnType.NUMBER, "i": ColumnType.INTEGER, "w": ColumnType.CATEGORY, "b": ColumnType.BOOLEAN}
EDGES = (0, 1, 2, 0x0F, 0x15, 0x16, 0x18, 0x19, 0x1C, 0x22, 0x2C, 0x7F, 0x80, 0xFE, 0xFF)


def seeds() -> list[bytes]:
    """Small good files of every kind that is read."""
    n = 200
    table = pa.table(
        {
            "n": pa.array([None if i % 7 == 0 else i * 0.5 for i in range(n)]),
            "i": pa.array(range(n), pa.int32()),
            "w": pa.array([None if i % 5 == 0 else f"word {i % 9}" for i in range(n)]),
            "b": pa.array([i % 2 == 0 for i in range(n)]),
            "t": pa.array(range(n), pa.timestamp("ms", "UTC")),
            "d": pa.array([Decimal(i).scaleb(-2) for i in range(n)], pa.decimal128(9, 2)),
            "f": pa.array([b"%04d" % i for i in range(n)], pa.binary(4)),
        }
    )
    delta = {"i": "DELTA_BINARY_PACKED", "w": "DELTA_BYTE_ARRAY", "n": "BYTE_STREAM_SPLIT"}
    ways: list[dict[str, object]] = [
        {},
        {"compression": "none", "write_page_checksum": True},
        {"compression": "zstd", "row_group_size": 50, "data_page_version": "2.0"},
        {"compression": "gzip", "use_dictionary": False, "write_page_index": True},
        {"compression": "lz4", "data_page_size": 100},
        {"compression": "none", "use_dictionary": False, "column_encoding": delta},
        {"compression": "none", "use_dictionary": False, "column_encoding": {"w": "DELTA_LENGTH_BYTE_ARRAY"}},
    ]
    found = []
    for way in ways:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **way)
        found.append(buffer.getvalue())
    text = "n,i,w,b\r\n" + "".join(f'{i * 0.5},{i},"wörd, ""{i % 9}"",\n",{i % 2}\r\n' for i in range(60))
    plain = [text.encode(), text.encode("utf-16"), text.replace(",", ";").replace('"', "'").encode()]
    packed = [gzip.compress(plain[0]), pa.compress(plain[0], codec="zstd", asbytes=True)]
    return found + plain + packed


def mutant(chance: random.Random, files: list[bytes]) -> bytes:
    """A copy of one of the files with one to eight faults, most of them near its end, where footers are."""
    data = bytearray(chance.choice(files))

    def place() -> int:
        if chance.random() < 0.5:
            return max(0, len(data) - 1 - int(chance.expovariate(1 / 300)))
        return chance.randrange(len(data) or 1)

    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at, size = place(), chance.choice((1, 2, 4, 16, 64))
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1 and data:
            data[min(at, len(data) - 1)] = chance.choice(EDGES)
        elif kind == 2:
            data[at : at + size] = chance.randbytes(size)
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            other = chance.choice(files)
            start = chance.randrange(len(other))
            data[at : at + size] = other[start : start + size]
        elif kind == 5:
            data[at:at] = data[at : at + size] * chance.choice((1, 3))
        elif chance.random() < 0.3:
            del data[at:]
        else:  # a varint as large as they come
            data[at : at + size] = b"\xff" * min(size, 9) + b"\x01"
    if data[:2] != b"PA" and chance.random() < 0.2:
        return gzip.compress(bytes(data))
    return bytes(data)


def read(path: Path, typed: bool) -> str:
    """The word for how it ended: rows, or the code of a refusal, by rows and by columns alike. Anything else is raised."""
    ends = [_ended(path, typed, of) for of in (whole_rows, single_columns)]
    assert ends[0] == ends[1] or "rows" not in ends, ends
    return ends[0]


def _ended(path: Path, typed: bool, of: Callable[[Source], Iterator[pa.RecordBatch]]) -> str:
    try:
        for batch in of(open_source(path, LIMITS, types=TYPES if typed else None)):
            for column in batch.columns:
                column.validate(full=True)
    except NotAsTyped:
        return "not as typed"
    except UnreadableFile as error:
        assert len(str(error)) < 400
        return str(error.code)
    return "rows"


def whole_rows(source: Source) -> Iterator[pa.RecordBatch]:
    for part in source.parts():
        for batch in part.batches():
            assert batch.num_columns == len(source.names)
            yield batch


def single_columns(source: Source) -> Iterator[pa.RecordBatch]:
    for part in source.parts():
        if part.columns is None or len(set(source.names)) < len(source.names):
            yield from part.batches()
        else:
            for name in source.names:
                yield from part.columns([name])


def run(
    folder: Path, seconds: float, seed: int, make: Callable[[random.Random, list[bytes]], bytes] = mutant
) -> None:
    chance, files, path = random.Random(seed), seeds(), folder / "upload"
    for data in files:
        path.write_bytes(data)
        assert read(path, True) == "rows"
    ends: Counter[str] = Counter()
    slowest = 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        path.write_bytes(make(chance, files))
        faulthandler.dump_traceback_later(SLOWEST, exit=True)
        begun = time.monotonic()
        ends[read(path, chance.random() < 0.5)] += 1
        slowest = max(slowest, time.monotonic() - begun)
        faulthandler.cancel_dump_traceback_later()
    # Not ru_maxrss: a child begins with that of its parent.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
    print(json.dumps({"ends": ends, "peak_mb": peak, "slowest": round(slowest, 3)}))  # noqa: T201


if __name__ == "__main__":
    faulthandler.enable()
    run(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
