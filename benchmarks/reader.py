"""What decided how files are read: time and peak memory of the reader beside Arrow's own, each in a process of its own.

    .venv/bin/python benchmarks/reader.py [--rows 300000] [--repeat 3]

Seconds (by the clock, and of the CPU, which says more on a busy machine) are the shortest of the repeats, memory is the peak of the process in MB; what counts are ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from refit.contract import ColumnType
from refit.parquet_footer import read_footer
from refit.reading import Limits, open_source

LIMITS = Limits(max_rows=1 << 40, max_bytes=1 << 50)
KINDS = {"f": ColumnType.NUMBER, "i": ColumnType.INTEGER, "w": ColumnType.CATEGORY, "y": ColumnType.NUMBER}


def table(rows: int) -> pa.Table:
    """10 floats with nulls, 6 integers, 4 columns of 5 to 100,000 words, a time and a label."""
    rng = np.random.default_rng(0)
    columns = {f"f{i}": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.05) for i in range(10)}
    columns |= {f"i{i}": pa.array(rng.integers(0, 10**6, rows)) for i in range(6)}
    for i, words in enumerate((5, 50, 1000, 100_000)):
        codes = pa.array(rng.integers(0, words, rows).astype(np.int32))
        columns[f"w{i}"] = pa.array([f"word{j}" for j in range(words)]).take(codes)
    times = np.datetime64("2024-01-01T00:00:00") + np.arange(rows)
    columns["t"] = pa.array(times.astype("datetime64[ms]"))
    columns["y"] = pa.array(rng.integers(0, 2, rows))
    return pa.table(columns)


def wide(columns: int, values: Callable[[int], pa.Array]) -> pa.Table:
    return pa.table({f"c{i}": values(i) for i in range(columns)})


def ours(path: Path) -> Iterator[pa.RecordBatch]:
    types = {name: KINDS.get(name[0], ColumnType.TEXT) for name in open_source(path, LIMITS).names}
    for part in open_source(path, LIMITS, types=types).parts():
        yield from part.batches()


def arrow_csv(path: Path) -> Iterator[pa.RecordBatch]:
    yield from pc_csv.open_csv(path)


def arrow_parquet(words: bool, mapped: bool, buffer: int) -> Callable[[Path], Iterator[pa.RecordBatch]]:
    def read(path: Path) -> Iterator[pa.RecordBatch]:
        named = [f.name for f in pq.read_schema(path) if pa.types.is_string(f.type)] if words else []
        file = pq.ParquetFile(
            path, read_dictionary=named, memory_map=mapped, pre_buffer=False, buffer_size=buffer
        )
        yield from file.iter_batches(128 << 10, use_threads=False)

    return read


def footer(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        file.seek(-8, 2)
        size = int.from_bytes(file.read(4), "little")
        file.seek(-8 - size, 2)
        read_footer(file.read(size))
    yield from ()


READERS: dict[str, tuple[str, Callable[[Path], Iterator[pa.RecordBatch]]]] = {
    "CSV: Arrow's stream, no types given": ("plain.csv", arrow_csv),
    "CSV: ours, typed": ("plain.csv", ours),
    "CSV, quoted: Arrow's stream": ("quoted.csv", arrow_csv),
    "CSV, quoted: ours, typed": ("quoted.csv", ours),
    "Parquet: Arrow, words as dictionaries, memory map": ("rows.parquet", arrow_parquet(True, True, 0)),
    "Parquet: Arrow, words as dictionaries, no buffer": ("rows.parquet", arrow_parquet(True, False, 0)),
    "Parquet: Arrow, words as dictionaries, buffered": ("rows.parquet", arrow_parquet(True, False, 1 << 18)),
    "Parquet: Arrow, words as text, buffered": ("rows.parquet", arrow_parquet(False, False, 1 << 18)),
    "Parquet: ours": ("rows.parquet", ours),
    "300 columns of 20,000 words: Arrow, as dictionaries": (
        "words.parquet",
        arrow_parquet(True, False, 1 << 16),
    ),
    "300 columns of 20,000 words: ours": ("words.parquet", ours),
    "2,000 columns of 20,000 floats: Arrow": ("floats.parquet", arrow_parquet(False, False, 1 << 16)),
    "2,000 columns of 20,000 floats: ours": ("floats.parquet", ours),
    "footer of 22 columns, our parse alone": ("rows.parquet", footer),
    "footer of 2,000 columns, our parse alone": ("floats.parquet", footer),
}


def build(folder: Path, rows: int) -> None:
    small = table(rows)
    for name, style in (("plain", "none"), ("quoted", "all_valid")):
        pc_csv.write_csv(small, folder / f"{name}.csv", pc_csv.WriteOptions(quoting_style=style))
    pq.write_table(table(rows * 5), folder / "rows.parquet")
    words = pa.array(np.char.add("w", np.arange(20_000).astype(str)))
    pq.write_table(wide(300, lambda _: words), folder / "words.parquet")
    floats = wide(2000, lambda i: pa.array(np.random.default_rng(i).normal(size=20_000)))
    pq.write_table(floats, folder / "floats.parquet")


def measure(path: Path, read: Callable[[Path], Iterator[pa.RecordBatch]], repeat: int) -> dict[str, float]:
    wall = cpu = float("inf")
    for _ in range(repeat):
        begun, used = time.perf_counter(), time.process_time()
        for _batch in read(path):
            pass
        wall, cpu = min(wall, time.perf_counter() - begun), min(cpu, time.process_time() - used)
    return {"seconds": wall, "cpu": cpu, "mb": _peak()}


def _peak() -> float:
    # Not ru_maxrss: a child begins with that of its parent.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=300_000)
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--only", nargs=2, metavar=("FOLDER", "NAME"))
    chosen = arguments.parse_args()
    if chosen.only:
        folder, name = chosen.only
        file, read = READERS[name]
        print(json.dumps(measure(Path(folder) / file, read, chosen.repeat)))
        return
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), chosen.rows)
        for name, (file, _) in READERS.items():
            command = [sys.executable, __file__, "--repeat", str(chosen.repeat), "--only", folder, name]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            size = (Path(folder) / file).stat().st_size >> 20
            print(
                f"{name:52} {size:5} MB  {found['seconds']:7.3f} s  CPU {found['cpu']:7.3f} s  peak {found['mb']:5.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
