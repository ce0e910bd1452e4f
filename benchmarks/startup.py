"""What `refit validate` and `refit init` cost beside importing pyarrow, on a file of 1,000 rows.

Runs each in a process of its own, one after the other in rounds, and prints the medians and
the difference to `python -c "import pyarrow, pyarrow.parquet, pyarrow.csv"`: of the time that
passed, and of the processor's, which tells more on a machine that others use too.

    .venv/bin/python benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

ROWS, LIMIT = 1_000, 150  # milliseconds over the import
# With bytecode, as an installed command has it; `make` turns writing it off.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
BARE = "import pyarrow, pyarrow.parquet, pyarrow.csv"


def table() -> pa.Table:
    """Twelve columns of the usual kinds, as in most people's files."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    columns = {
        "order": [f"o{i}" for i in range(ROWS)],
        "at": [begin + timedelta(minutes=i) for i in range(ROWS)],
        "late": [i % 3 == 0 for i in range(ROWS)],
        "city": [("Bonn", "Ulm", "Graz")[i % 3] for i in range(ROWS)],
        "shop": [f"s{i % 40}" for i in range(ROWS)],
        "items": [i % 9 for i in range(ROWS)],
    }
    columns |= {
        f"x{j}": [None if i % 20 == j else (i * 7 + j) % 101 / 7 for i in range(ROWS)] for j in range(6)
    }
    return pa.table(columns)


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    refit = [sys.executable, "-m", "refit_cli.main"]
    with tempfile.TemporaryDirectory() as folder:
        pa.parquet.write_table(table(), f"{folder}/sample.parquet")
        pa.csv.write_csv(table(), f"{folder}/sample.csv")
        columns = ["--target", "late", "--time", "at", "--key", "order"]
        commands = {"import pyarrow": [sys.executable, "-c", BARE]}
        for kind in ("parquet", "csv"):
            commands[f"refit init, {kind}"] = [*refit, "init", kind, f"sample.{kind}", *columns, "--force"]
            commands[f"refit validate, {kind}"] = [*refit, "validate", f"sample.{kind}", "--model", kind]
        wall: dict[str, list[float]] = {name: [] for name in commands}
        cpu: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(rounds + 1):
            for name, command in commands.items():
                before, begun = spent(), time.perf_counter()
                done = subprocess.run(
                    command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
                )
                seconds = time.perf_counter() - begun
                if done.returncode:
                    sys.exit(f"{name}: exit {done.returncode}\n{done.stdout}{done.stderr}")
                if turn:  # the first writes bytecode and fills caches
                    wall[name].append(seconds * 1000)
                    cpu[name].append((spent() - before) * 1000)
    walls = {name: statistics.median(each) for name, each in wall.items()}
    cpus = {name: statistics.median(each) for name, each in cpu.items()}
    print(
        f"{rounds} rounds on {os.cpu_count()} cores, Python {sys.version.split()[0]}; a file of {ROWS} rows"
    )
    print(f"{'milliseconds':<24} {'wall':>7} {'over':>7} {'cpu':>7} {'over':>7}")
    for name, median in walls.items():
        over, more = median - walls["import pyarrow"], cpus[name] - cpus["import pyarrow"]
        print(f"{name:<24} {median:7.0f} {over:+7.0f} {cpus[name]:7.0f} {more:+7.0f}")
    worst = max(walls.values()) - walls["import pyarrow"]
    print(f"limit: {LIMIT} ms over it; {'met' if worst < LIMIT else 'NOT met'}")
    return 0 if worst < LIMIT else 1


def spent() -> float:
    """Seconds of processor time of all children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
