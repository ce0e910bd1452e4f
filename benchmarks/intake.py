"""Intake against its limits and its peers: validation, profile and drift of one file.

Builds its input, runs every line in a process of its own, one after the other in rounds, and prints seconds, CPU, peak memory and
the ratio to the limit: pyarrow reading the same file and doing nothing. `make bench` sets up both environments and runs it.

    .venv/bin/python benchmarks/intake.py                          # a million rows
    .venv/bin/python benchmarks/intake.py --rows 1000000 10000000  # and ten
    .venv/bin/python benchmarks/intake.py --only refit             # without peers
    .venv/bin/python benchmarks/intake.py --write                  # the table into docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# This process imports nothing large: what it starts would inherit its peak of memory.

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- intake: written by `make bench` -->", "<!-- intake: end -->"
PEERS = ROOT / ".venv-bench/bin/python"
THREADS = 2
SMALL = 1_000
MOST_REFERENCE_ROWS = 1_000_000
PACKAGES = ("pyarrow", "numpy", "pandas", "polars", "duckdb", "pandera", "great-expectations")
PACKAGES += ("evidently", "nannyml", "whylogs")
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": str(THREADS),
    "MALLOC_TRIM_THRESHOLD_": "16777216",  # as in Refit's function; the peers have it, too
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "POLARS_MAX_THREADS": str(THREADS),
    # What the peers would tell their makers.
    "DO_NOT_TRACK": "1",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "WHYLOGS_NO_ANALYTICS": "True",
}


@dataclass(frozen=True)
class Line:
    name: str
    section: str  # parquet, shard, csv or small
    says: str
    peer: bool = False
    limit: bool = False  # of its section; of several the fastest counts
    most_rows: int = 10**9


LINES = (
    Line("scan-batches", "parquet", "pyarrow, ParquetFile.iter_batches, nothing done", limit=True),
    Line("scan-dataset", "parquet", "pyarrow, dataset scanner, nothing done", limit=True),
    Line("scan-checked", "parquet", "pyarrow, the first on one thread, checksums verified"),
    Line("refit", "parquet", "Refit: checks, profile, drift"),
    Line("refit-keyed", "parquet", "Refit: the same and a unique key"),
    Line("polars", "parquet", "polars: checks, profile, drift", peer=True),
    Line("polars-no-quantiles", "parquet", "polars: the same without quantiles", peer=True),
    Line("duckdb", "parquet", "duckdb: checks, profile, drift", peer=True),
    Line("duckdb-no-quantiles", "parquet", "duckdb: the same without quantiles", peer=True),
    Line("polars-checks", "parquet", "polars: checks only", peer=True),
    Line("duckdb-checks", "parquet", "duckdb: checks only", peer=True),
    Line("pandera", "parquet", "pandera on pandas: checks only", peer=True, most_rows=10**6),
    Line("pandera-polars", "parquet", "pandera on polars: checks only", peer=True, most_rows=10**6),
    Line("great-expectations", "parquet", "great-expectations: checks only", peer=True, most_rows=10**6),
    Line("nannyml", "parquet", "nannyml: drift only", peer=True, most_rows=10**6),
    Line("whylogs", "parquet", "whylogs: profile only", peer=True, most_rows=10**6),
    Line("evidently-drift", "parquet", "evidently: drift only", peer=True, most_rows=10**6),
    Line("evidently", "parquet", "evidently: profile and drift", peer=True, most_rows=10**6),
    Line("refit-shard", "shard", "Refit: checks, profile, drift, shard"),
    Line("scan-write", "shard", "pyarrow's scan, then a raw write of the shard's bytes", limit=True),
    Line("scan-csv", "csv", "pyarrow, open_csv told the types, nothing done", limit=True, most_rows=10**6),
    Line("refit-csv", "csv", "Refit: checks, profile, drift", most_rows=10**6),
    Line("polars-csv", "csv", "polars: checks, profile, drift", peer=True, most_rows=10**6),
    Line("duckdb-csv", "csv", "duckdb: checks, profile, drift", peer=True, most_rows=10**6),
    Line("refit-small", "small", "Refit: checks, profile, drift, shard"),
)
SECTIONS = {
    "parquet": "Parquet, {rows:,} rows",
    "shard": "Parquet with the shard that training reads, {rows:,} rows",
    "csv": "CSV, {rows:,} rows",
}


@dataclass(frozen=True)
class Run:
    """One process. Seconds of wall time and of CPU, own: after the imports; peak memory in MiB, imports included."""

    round: int
    seconds: float
    cpu: float
    whole: float
    whole_cpu: float
    peak: float
    found: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What one line took on one size; without runs, `why` says why."""

    line: Line
    rows: int
    runs: tuple[Run, ...]
    why: str = ""

    def middle(self, name: str) -> float:
        return statistics.median(getattr(run, name) for run in self.runs)

    def ratios(self, limit: Result, name: str = "seconds") -> list[float]:
        """To the limit's run of the same round."""
        of = {run.round: getattr(run, name) for run in limit.runs}
        return [getattr(run, name) / of[run.round] for run in self.runs if run.round in of]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000], metavar="N")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these lines, by how they begin; the limits stay"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each line is run at most")
    parser.add_argument(
        "--budget", type=float, default=60, help="seconds after which a line is not run again"
    )
    parser.add_argument("--timeout", type=float, default=300, help="seconds after which a run is given up")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/intake", help="where the input is kept")
    parser.add_argument("--json", type=Path, help="write all runs to this file")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    args = parser.parse_args()
    chosen = [
        line
        for line in LINES
        if line.limit or not args.only or any(line.name.startswith(word) for word in args.only)
    ]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    reference_rows = min(max(args.rows), MOST_REFERENCE_ROWS)
    args.folder.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    before = os.getloadavg()[0]
    for rows in args.rows:
        build(args.folder, rows, reference_rows)
        lines = [line for line in chosen if line.section != "small" or rows == args.rows[0]]
        results += measured(lines, rows, reference_rows, args)
    for path in args.folder.glob("*.tmp"):  # shards and raw writes
        path.unlink()
    agree(results)
    head = [*machine(), *load(before, os.getloadavg()[0])]
    body = [
        *tables(results),
        *comparisons(results),
        *missing(results, [line for line in LINES if line not in chosen]),
    ]
    print(*head, "", *body, sep="\n")
    if args.json:
        args.json.write_text(json.dumps([plain(result) for result in results], indent=1))
    if args.write:
        write([*head, "", *how(args), "", "```text", *body, "```", "", *explained()])
    return 0


def build(folder: Path, rows: int, reference_rows: int) -> None:
    """The input, and Refit's profile of the reference: both before anything is measured."""
    builder = [
        sys.executable,
        str(ROOT / "benchmarks/intake_input.py"),
        str(folder),
        str(rows),
        str(reference_rows),
    ]
    subprocess.run(builder, check=True)
    subprocess.run(
        command("refit-prepare", False, folder, rows, reference_rows), check=True, stdout=subprocess.DEVNULL
    )
    for path in (folder / f"{rows}.parquet", folder / f"{rows}.csv"):
        if path.exists():
            with path.open("rb") as file:  # from now on the machine has it in its cache
                while file.read(1 << 24):
                    pass


def command(name: str, peer: bool, folder: Path, rows: int, reference_rows: int) -> list[str]:
    python, script = (str(PEERS), "intake_peers.py") if peer else (sys.executable, "intake_lines.py")
    return [python, str(ROOT / "benchmarks" / script), name, str(folder), str(rows), str(reference_rows)]


def measured(lines: Sequence[Line], rows: int, reference_rows: int, args: argparse.Namespace) -> list[Result]:
    """All lines of one size, in rounds."""
    runs: dict[str, list[Run]] = {line.name: [] for line in lines}
    why: dict[str, str] = {}
    for line in lines:
        if rows > line.most_rows:
            why[line.name] = f"not run with more than {line.most_rows:,} rows"
        elif line.peer and not PEERS.exists():
            why[line.name] = "not installed; `make bench` does that"
    for number in range(args.rounds):
        for line in lines:
            spent = sum(run.whole for run in runs[line.name])
            if line.name in why or spent > args.budget:
                continue
            size = SMALL if line.section == "small" else rows
            run = one(
                line, command(line.name, line.peer, args.folder, size, reference_rows), number, args.timeout
            )
            if isinstance(run, str):
                why[line.name] = run
                print(f"{line.name}: {run}", file=sys.stderr)
            else:
                runs[line.name].append(run)
                print(
                    f"{number + 1}/{args.rounds} {rows:,} {line.name}: {run.seconds:.3f} s", file=sys.stderr
                )
    return [Result(line, rows, tuple(runs[line.name]), why.get(line.name, "")) for line in lines]


def one(line: Line, words: list[str], number: int, timeout: float) -> Run | str:
    """One process from start to end, or why it came to nothing."""
    begun = time.perf_counter()
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        late = threading.Event()
        timer = threading.Timer(timeout, lambda: (late.set(), process.kill()))
        timer.start()
        errors: list[str] = []
        listener = threading.Thread(target=lambda: errors.append(process.stderr.read()))  # type: ignore[union-attr]
        listener.start()
        printed = process.stdout.read()  # type: ignore[union-attr]
        _, status, usage = os.wait4(process.pid, 0)
        whole = time.perf_counter() - begun
        timer.cancel()
        listener.join()
        process.returncode = os.waitstatus_to_exitcode(status)
    if late.is_set():
        return f"given up after {timeout:.0f} s"
    if process.returncode:
        last = (errors[0].strip().splitlines() or [f"exit {process.returncode}"])[-1]
        return f"failed: {last[:200]}"
    answer = json.loads(printed.strip().splitlines()[-1])
    cpu = usage.ru_utime + usage.ru_stime
    return Run(number, answer["seconds"], answer["cpu"], whole, cpu, usage.ru_maxrss / 1024, answer["found"])


def agree(results: Iterable[Result]) -> None:
    """Whoever counted the rows and the nulls of a file has counted the same."""
    for what in ("rows", "nulls"):
        counted: dict[int, dict[str, int]] = {}
        for result in results:
            for run in result.runs:
                if what in run.found and result.line.section != "small":
                    counted.setdefault(result.rows, {})[result.line.name] = run.found[what]
        for rows, each in counted.items():
            if len(set(each.values())) > 1:
                raise SystemExit(f"the lines disagree about the {what} of {rows:,} rows: {each}")


def limit_of(results: Sequence[Result], section: str, rows: int) -> Result | None:
    """The fastest of the section's limits."""
    limits = [r for r in results if r.line.limit and r.line.section == section and r.rows == rows and r.runs]
    return min(limits, key=lambda result: result.middle("seconds"), default=None)


def tables(results: Sequence[Result]) -> list[str]:
    out: list[str] = []
    for rows in dict.fromkeys(result.rows for result in results):
        for section, title in SECTIONS.items():
            here = [r for r in results if r.rows == rows and r.line.section == section and r.runs]
            limit = limit_of(results, section, rows)
            if limit is None:
                continue
            width = max(len(title), *(len(result.line.says) for result in here)) + 4
            heads = ("seconds", "best", "CPU", "whole", "peak MiB", "ratio", "min..max", "CPU ratio", "runs")
            widths = (9, 8, 8, 8, 8, 7, 14, 10, 5)
            out.append(_row(title.format(rows=rows), width, heads, widths))
            for result in here:
                ratios, cpu = result.ratios(limit), result.ratios(limit, "cpu")
                figures = (
                    f"{result.middle('seconds'):.3f}",
                    f"{min(run.seconds for run in result.runs):.3f}",
                    f"{result.middle('cpu'):.3f}",
                    f"{result.middle('whole'):.2f}",
                    f"{result.middle('peak'):.0f}",
                    f"{statistics.median(ratios):.2f}" if ratios else "",
                    f"{min(ratios):.2f}..{max(ratios):.2f}" if ratios else "",
                    f"{statistics.median(cpu):.2f}" if cpu else "",
                    str(len(result.runs)),
                )
                mark = "* " if result is limit else "  "
                out.append(_row(mark + result.line.says, width, figures, widths))
            out.append("")
    for result in [r for r in results if r.line.section == "small" and r.runs][:1]:
        widths = (9, 8, 8, 11)
        title = f"Parquet, {SMALL:,} rows, over and over in a warm process; milliseconds"
        out.append(_row(title, len(title) + 2, ("median", "best", "CPU", "first call"), widths))
        for says, name in ((result.line.says, "refit"), ("pyarrow, ParquetFile.read", "read")):
            figures = [f"{small(result, name + suffix):.1f}" for suffix in ("", "_best", "_cpu", "_first")]
            out.append(_row(f"  {says}", len(title) + 2, figures, widths))
        out.append("")
    return out


def small(result: Result, name: str) -> float:
    """A figure of the small file, in milliseconds."""
    return 1000 * statistics.median(run.found[name] for run in result.runs)


def _row(name: str, width: int, cells: Sequence[str], widths: Sequence[int]) -> str:
    return name.ljust(width) + " ".join(cell.rjust(size) for cell, size in zip(cells, widths, strict=True))


def comparisons(results: Sequence[Result]) -> list[str]:
    """What the design asks for, beside what was measured: by seconds, which decide, and by CPU."""
    by = {(result.line.name, result.rows): result for result in results if result.runs}
    goals: list[tuple[str, str, float, str, bool]] = []

    def ratio(name: str, section: str, rows: int, most: float, says: str) -> None:
        limit, result = limit_of(results, section, rows), by.get((name, rows))
        if limit and result and (each := result.ratios(limit)):
            found, cpu = statistics.median(each), statistics.median(result.ratios(limit, "cpu"))
            goals.append((says, f"at most {most} times the limit", found, f"{cpu:.2f}", found <= most))

    sizes = sorted({rows for _, rows in by})
    for rows in sizes:
        ratio("refit", "parquet", rows, 1.5, f"Parquet, {rows:,} rows")
        ratio("refit-shard", "shard", rows, 1.3, f"with the shard, {rows:,} rows")
        ratio("refit-csv", "csv", rows, 1.5, f"CSV, {rows:,} rows")
        if ours := by.get(("refit", rows)):
            peak = ours.middle("peak")
            goals.append((f"peak memory, {rows:,} rows", "at most 300 MiB", peak, "", peak <= 300))
            for (_, size), other in by.items():
                if size == rows and other.line.peer and other.line.section == "parquet":
                    factor, cpu = (other.middle(what) / ours.middle(what) for what in ("seconds", "cpu"))
                    says = f"{other.line.says}, {rows:,} rows"
                    goals.append((says, "times what Refit takes: above 1", factor, f"{cpu:.2f}", factor > 1))
    if len(sizes) > 1 and ("refit", sizes[0]) in by and ("refit", sizes[-1]) in by:
        grown = by["refit", sizes[-1]].middle("peak") / by["refit", sizes[0]].middle("peak")
        says = f"peak memory of {sizes[-1]:,} rows to {sizes[0]:,}"
        goals.append((says, "at most 1.1 times", grown, "", grown <= 1.1))
    if tiny := next((result for (name, _), result in by.items() if name == "refit-small"), None):
        warm, cpu = small(tiny, "refit"), small(tiny, "refit_cpu")
        goals.append((f"Parquet, {SMALL:,} rows, warm", "at most 25 ms", warm, f"{cpu:.2f}", warm <= 25))
    if not goals:
        return []
    says, demand = (max(len(goal[i]) for goal in goals) + 4 for i in (0, 1))
    widths = (demand, 9, 8, 4)
    lines = [_row("goal", says, ("".ljust(demand), "measured", "by CPU", "met"), widths)]
    for name, wanted, found, by_cpu, met in goals:
        cells = (wanted.ljust(demand), f"{found:.2f}", by_cpu, "yes" if met else "no")
        lines.append(_row(f"  {name}", says, cells, widths))
    return [*lines, ""]


def missing(results: Iterable[Result], left: Iterable[Line]) -> list[str]:
    out = [f"  {_where(r.line)}{r.line.says}, {r.rows:,} rows: {r.why}" for r in results if r.why]
    out += [f"  {_where(line)}{line.says}: left out of this run" for line in left]
    return ["not measured", *out] if out else []


def _where(line: Line) -> str:
    return "CSV, " if line.section == "csv" else ""


def machine() -> list[str]:
    model = memory = ""
    if (told := Path("/proc/cpuinfo")).exists():
        names = [line for line in told.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else ""
        memory = f", {int(Path('/proc/meminfo').read_text().split()[1]) >> 20} GB"
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    return [
        f"{today}: {os.cpu_count()} cores, of which {THREADS} were used{memory}, {model or platform.machine()}; {platform.system()}.",
        f"Refit's environment: {versions(sys.executable)}.",
        f"The peers' environment: {versions(str(PEERS)) if PEERS.exists() else 'not installed'}.",
    ]


def load(before: float, after: float) -> list[str]:
    """The work of others shows at the beginning only: later it is our own."""
    lines = [f"Load of the machine when it began: {before:.1f}, when it ended: {after:.1f}."]
    if before > 0.5:
        lines.append("Others were using it: seconds and what follows from them say little, CPU says more.")
    return lines


def versions(python: str) -> str:
    code = (
        "import sys, platform, importlib.metadata as m\n"
        "known = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(', '.join(['Python ' + platform.python_version(), *(n + ' ' + known[n] for n in sys.argv[1:] if n in known)]))"
    )
    return subprocess.run(
        [python, "-c", code, *PACKAGES], check=True, capture_output=True, text=True
    ).stdout.strip()


def how(args: argparse.Namespace) -> list[str]:
    sizes = " ".join(str(rows) for rows in args.rows)
    options = " ".join([*(["--only", *args.only] if args.only else []), "--write"])
    return [
        f'Run it with `make bench BENCH_ROWS="{sizes}" BENCH="{options}"`, which puts the result here. '
        f"Every line is a process of its own; up to {args.rounds} rounds, in each of which every line has its turn, until it has taken "
        f"{args.budget:.0f} s. Figures are medians. *seconds* and *CPU* are of the work after the imports, *whole* is the process from start to "
        "end, *peak MiB* its peak memory, imports and pages of the file included. *best* is the fastest run. *ratio* is to the run of the limit (marked *) in the same round.",
    ]


def explained() -> list[str]:
    return [
        "The file has 22 columns, built from a seed: 10 floats with nulls, 6 integers (one names a row), 4 categories of 5, 100, 5,000 and",
        "100,000 words with a long tail, a timestamp, a label. It is read from the machine's cache, snappy Parquet in row groups of a million.",
        "",
        "* *checks*: types, share of nulls, ranges, listed words, number of distinct words. *profile*: mean, deviation, extremes, quantiles and",
        "  distinct values of numbers, counts of words. *drift*: each column against the profile of a reference of up to a million rows",
        "  from the same distribution; polars and duckdb compute PSI over the reference's deciles and words, the others what they do by default.",
        "* The limits read with two threads, strings as dictionaries, and drop what they read; of two, the faster in the median counts.",
        "  The raw write is into the page cache, without waiting for the disk, like Refit's. Refit reads on one thread, with checksums verified,",
        "  while another checks and counts: the third line is what that reading costs alone.",
        "* The small file is read up to 200 times by one process, a bare read of it in between; what a call of the function needs of S3 and",
        "  the registry is not in it.",
        "* Refit runs without pandas, as in its function, and writes and reads its profiles as JSON.",
        "* polars (streaming engine) and duckdb answer with one query of aggregates and one for each category's counts; distinct numbers are",
        "  estimated, in duckdb the quantiles too. polars sorts for its quantiles.",
        "* What works on a DataFrame also reads the file into one. nannyml's reference is fitted, evidently's is read before the clock starts.",
        "  whylogs is lent one name that numpy 2 no longer has.",
        "* Not measured here: anything on AWS, where S3, the network and a share of a core come to it; files from a cold disk.",
    ]


def write(lines: Sequence[str]) -> None:
    """Put the section into the page, between its marks."""
    text = DOCS.read_text() if DOCS.exists() else f"# Benchmarks\n\n## Intake\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## Intake\n\n{BEGIN}\n{END}\n"
    start, rest = text.split(BEGIN)
    DOCS.write_text("\n".join([start + BEGIN, *lines, END]) + rest.split(END)[1])


def plain(result: Result) -> dict[str, Any]:
    runs = [vars(run) for run in result.runs]
    return {
        "name": result.line.name,
        "section": result.line.section,
        "rows": result.rows,
        "runs": runs,
        "why": result.why,
    }


if __name__ == "__main__":
    sys.exit(main())
