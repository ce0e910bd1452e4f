"""Drift, measured: false alarms against the budget, power, a real control, and others at their defaults beside it.

    .venv/bin/python benchmarks/drift.py            # some five minutes on a free core
    .venv/bin/python benchmarks/drift.py --quick    # one minute, larger sampling errors
    .venv/bin/python benchmarks/drift.py --write    # and put the tables into docs/drift.md

Batches are drawn from populations whose shares are known: numbers from at most 512 values, which is what a
profile tells apart, categories from up to 100,000 words. A profile of N rows is then a multinomial draw, whatever N is;
no rows are made, and nothing is approximated. Reference and batch are drawn anew each time.

The control (employment in Massachusetts, 2015 to 2018, from nannyml's wheel) and the peers lie in an environment of
their own, .venv-bench, made of requirements/bench.txt; --peers names the Python of another. What is missing is said and
left out.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from refit.contract import ColumnType
from refit.drift import BUDGET, DriftReport, compare
from refit.profile import MAX_CATEGORIES, CategoryProfile, ColumnProfile, NumberProfile, Profile
from refit.shard import Shard, _hash
from refit.tally import profile

DOCUMENT = Path(__file__).parents[1] / "docs/drift.md"
MARK = "<!-- written by benchmarks/drift.py -->"
POPULATION = 200_000  # values from which a number's population of at most 512 is made
SIZES = (200, 2_000, 20_000, 1_000_000)
WIDTHS = (5, 20, 50)
REFERENCES = (2_000, 20_000, 200_000)


@dataclass(frozen=True)
class Population:
    """A column to draw from: a profile of it, the shares of its cells, and the share of nulls."""

    name: str
    like: ColumnProfile
    shares: np.ndarray  # of the sketch's bins, or of the words
    nulls: float = 0.0
    values: np.ndarray | None = None  # of the bins, for moments
    words: tuple[str, ...] = ()
    places: np.ndarray | None = None  # bucket of each word

    def draw(self, rows: int, rng: np.random.Generator) -> ColumnProfile:
        nulls = int(rng.binomial(rows, self.nulls)) if self.nulls else 0
        counts = self._counts(rows - nulls, rng)
        used = np.flatnonzero(counts)
        if isinstance(self.like, NumberProfile):
            assert self.values is not None
            n = max(1, rows - nulls)
            mean = float(counts @ self.values) / n
            return replace(
                self.like,
                rows=rows,
                nulls=nulls,
                mean=mean,
                m2=float(counts @ (self.values - mean) ** 2),
                sketch=replace(self.like.sketch, keys=self.like.sketch.keys[used], counts=counts[used]),
            )
        if len(used) > MAX_CATEGORIES:  # the most frequent; which of several as frequent ones decides nothing
            used = used[np.argpartition(-counts[used], MAX_CATEGORIES)[:MAX_CATEGORIES]]
        kept = {self.words[i]: int(counts[i]) for i in used}
        assert isinstance(self.like, CategoryProfile)
        return replace(
            self.like,
            rows=rows,
            nulls=nulls,
            counts=kept,
            other=rows - nulls - sum(kept.values()),
            buckets=np.bincount(self.places, counts, 256).astype(np.int64),
        )

    def _counts(self, n: int, rng: np.random.Generator) -> np.ndarray:
        if n > len(self.shares):
            return rng.multinomial(n, self.shares)
        # Few rows of many words: the same draw, row by row.
        drawn = np.searchsorted(np.cumsum(self.shares)[:-1], rng.random(n), side="right")
        return np.bincount(drawn, minlength=len(self.shares))


def number(name: str, values: np.ndarray, nulls: float = 0.0) -> Population:
    like = profile(Shard({"x": values.astype(float)}, {"x": ColumnType.NUMBER})).columns["x"]
    assert isinstance(like, NumberProfile)
    sketch = like.sketch
    place = _places(like, values)
    middles = np.bincount(place, values) / np.bincount(place)
    return Population(name, like, sketch.counts / sketch.counts.sum(), nulls, middles)


def _places(like: ColumnProfile, values: np.ndarray) -> np.ndarray:
    """The sketch's bin of each value."""
    assert isinstance(like, NumberProfile)
    bits = (values.astype(float) + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    keys = np.where(bits & sign, ~bits, bits | sign) >> np.uint64(like.sketch.shift)
    return np.searchsorted(like.sketch.keys, keys)


def category(name: str, shares: Sequence[float] | np.ndarray, nulls: float = 0.0) -> Population:
    shares = np.asarray(shares, dtype=float) / np.sum(shares)
    words = tuple(f"w{i:06d}" for i in range(len(shares)))
    places = np.array([int(_hash(word)) >> 56 for word in words], dtype=np.int64)
    shard = Shard({"c": np.zeros(1, np.int32)}, {"c": ColumnType.CATEGORY}, {"c": words[:1]})
    return Population(name, profile(shard).columns["c"], shares, nulls, words=words, places=places)


def zipf(words: int) -> np.ndarray:
    return 1 / np.arange(1, words + 1)


def populations() -> list[Population]:
    """The mix: what business tables are made of."""
    rng = np.random.default_rng(20261123)
    n = POPULATION
    zeros = rng.random(n) < 0.9
    return [
        number("normal", rng.normal(size=n)),
        category("5 words", [30, 25, 20, 15, 10]),
        number("integers", rng.poisson(4, n)),
        number("boolean", rng.random(n) < 0.4),
        category("100,000 words", np.ones(100_000)),
        number("lognormal", rng.lognormal(0, 1.5, n)),
        number("uniform", rng.random(n), nulls=0.1),
        number("five values", rng.choice([1.0, 2, 5, 10, 100], n, p=[0.5, 0.3, 0.1, 0.06, 0.04])),
        category("50 words, Zipf", zipf(50), nulls=0.02),
        number("nine in ten are zero", np.where(zeros, 0, rng.lognormal(3, 1, n))),
        category("2 words", [97, 3]),
        number("normal, few nulls", rng.normal(50, 10, n), nulls=0.003),
        number("rare boolean", rng.random(n) < 0.02),
        category("5,000 words, Zipf", zipf(5_000)),
        number("two humps", np.where(rng.random(n) < 0.3, rng.normal(-3, 1, n), rng.normal(2, 0.5, n))),
        category("20 words", np.linspace(1, 3, 20), nulls=0.3),
    ]


def draw(columns: Sequence[Population], rows: int, rng: np.random.Generator) -> Profile:
    return Profile(rows, {f"{i} {c.name}": c.draw(rows, rng) for i, c in enumerate(columns)})


def significant(report: DriftReport) -> bool:
    """Whether the tests alone would raise an alarm, however small the distance."""
    return any(min(c.p_value, c.null_p_value) < report.level for c in report.columns)


@dataclass
class Share:
    """How often something happened."""

    times: int = 0
    of: int = 0

    def add(self, happened: bool) -> None:
        self.times += happened
        self.of += 1

    @property
    def text(self) -> str:
        if not self.of:
            return "-"
        share = self.times / self.of
        error = math.sqrt(max(share, 1 / self.of) * (1 - min(share, 1 - 1 / self.of)) / self.of)
        return f"{share:.2%} ± {error:.2%}"


Table = list[list[str]]


def calibration(mix: Sequence[Population], repeats: int) -> Iterator[tuple[str, Table]]:
    """Alarms on batches without drift."""
    rng = np.random.default_rng(1)
    table = [["rows", "rows of the reference", "batches", "significant", "alarms"]]
    widths = {width: Share() for width in WIDTHS}
    for rows in SIZES:
        for reference in sorted({max(200, rows // 10), rows, min(rows * 10, 10_000_000)}):
            found, alarms = Share(), Share()
            for width in WIDTHS:
                columns = [mix[(i + width) % len(mix)] for i in range(width)]
                for _ in range(repeats):
                    before, after = draw(columns, reference, rng), draw(columns, rows, rng)
                    report = compare(before, after, list(before.columns))
                    found.add(significant(report))
                    widths[width].add(significant(report))
                    alarms.add(bool(report.drifted))
            table.append([f"{rows:,}", f"{reference:,}", f"{found.of:,}", found.text, alarms.text])
    yield (
        f"Batches without drift, of {' , '.join(map(str, WIDTHS))} columns; the budget is {BUDGET:.0%}".replace(
            " ,", ","
        ),
        table,
    )
    yield (
        "The same by number of columns",
        [["columns", "batches", "significant"]]
        + [[f"{width}", f"{share.of:,}", share.text] for width, share in widths.items()],
    )


def power(mix: Sequence[Population], repeats: int) -> Iterator[tuple[str, Table]]:
    """How often what was planted in one of 20 columns is found, at 2,000 rows."""
    rng = np.random.default_rng(2)
    others = [mix[i % len(mix)] for i in range(19)]
    table = [["planted in 1 of 20 columns", *(f"reference {rows:,}" for rows in REFERENCES)]]
    for name, before, after in _planted():
        line = [name]
        for rows in REFERENCES:
            found = Share()
            for _ in range(repeats):
                old, new = draw(others, rows, rng), draw(others, 2_000, rng)
                old = replace(old, columns={**old.columns, "x": before.draw(rows, rng)})
                new = replace(new, columns={**new.columns, "x": after.draw(2_000, rng)})
                report = compare(old, new, list(old.columns))
                found.add("x" in [column.column for column in report.drifted])
            line.append(found.text)
        table.append(line)
    yield f"Found at 2,000 rows, {repeats} batches each", table


def _planted() -> Iterator[tuple[str, Population, Population]]:
    values = np.random.default_rng(3).normal(size=POPULATION)
    joint = number("x", np.concatenate([values, values + 0.2]))
    before, after = (
        replace(
            joint, shares=np.bincount(_places(joint.like, each), minlength=len(joint.shares)) / POPULATION
        )
        for each in (values, values + 0.2)
    )
    yield "a number, 0.2 standard deviations higher", before, after
    for share in (0.0, 0.05, 0.1, 0.15, 0.2):
        rest = np.array([0.4, 0.3, 0.2, 0.1])
        old, new = (category("x", [each, *(1 - each) * rest]) for each in (share, share + 0.05))
        yield f"a category, {share:.0%} -> {share + 0.05:.0%} of the rows", old, new


# ---------------------------------------------------------------- the control
def control(folder: Path) -> Iterator[tuple[str, Table]]:
    """Three years of a census against the year before them."""
    import pandas as pd

    data = folder / "datasets/data"
    reference = pd.read_parquet(data / "employment_MA_reference.pq")
    later = pd.read_parquet(data / "employment_MA_analysis.pq")
    later = later.merge(pd.read_parquet(data / "employment_MA_analysis_target.pq"), on="id")
    base = _profile_of(reference)
    table = [["blocks", "number", "alarms", "columns that drifted, of all", "which"]]
    shuffled = pd.concat([year.sample(frac=1, random_state=0) for _, year in later.groupby("year")])
    cuts = {"years": [year for _, year in later.groupby("year")]}
    for rows in (2_000, 5_000, 20_000):
        cuts[f"{rows:,} rows, shuffled within the year"] = _blocks(shuffled, rows)
    for rows in (2_000, 5_000, 20_000):
        cuts[f"{rows:,} rows, in the order of the file"] = _blocks(later, rows)
    for name, blocks in cuts.items():
        reports = [compare(base, _profile_of(block), list(base.columns)) for block in blocks]
        which = Counter(column.column for report in reports for column in report.drifted)
        told = ", ".join(f"{column} {times}" for column, times in which.most_common(4))
        pairs = sum(which.values()) / len(reports) / len(base.columns)
        alarms = sum(bool(report.drifted) for report in reports)
        table.append([name, f"{len(blocks)}", f"{alarms}", f"{pairs:.1%}", told or "-"])
    yield (
        f"The control: employment in Massachusetts, 2016 to 2018 against 2015, {len(base.columns)} columns",
        table,
    )


def _blocks(frame: Any, rows: int) -> list[Any]:
    return [frame.iloc[i : i + rows] for i in range(0, len(frame) - rows + 1, rows)]


def _profile_of(frame: Any) -> Profile:
    """Features and label of the census files."""
    columns: dict[str, np.ndarray] = {}
    types: dict[str, ColumnType] = {}
    words: dict[str, list[str]] = {}
    for name in frame:
        if name in ("id", "year", "prediction", "predicted_probability"):
            continue
        if frame[name].dtype == "category":
            columns[name] = frame[name].cat.codes.to_numpy(np.int32)
            types[name], words[name] = ColumnType.CATEGORY, list(frame[name].cat.categories)
        else:
            columns[name], types[name] = frame[name].to_numpy(float), ColumnType.NUMBER
    return profile(Shard(columns, types, words))


# ---------------------------------------------------------------- the peers
def peers(python: Path, repeats: int) -> Iterator[tuple[str, Table]]:
    """evidently and nannyml as they come, on rows without drift, and Refit on the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        _write_frames(Path(folder), repeats)
        script = Path(__file__).with_name("drift_peers.py")
        run = subprocess.run(
            [python, script, folder, str(repeats)], capture_output=True, text=True, timeout=1200, check=False
        )
        if run.returncode:
            print(f"the peers failed:\n{run.stderr[-2000:]}", file=sys.stderr)
        table = [
            [
                "2,000 rows, 20 columns, reference 20,000, no drift",
                "batches",
                "a column is flagged",
                "columns flagged",
            ]
        ]
        names = list(_mixed_rows(1, np.random.default_rng(0)))
        shard = _read_shards(Path(folder), repeats)
        reports = [compare(shard[0], batch, names) for batch in shard[1:]]
        flagged = [len(report.drifted) for report in reports]
        table.append(_peer_line("Refit", flagged, len(names)))
        for line in run.stdout.splitlines():
            found = json.loads(line)
            table.append(_peer_line(found["name"], found["flagged"], len(names)))
        yield "Beside others at their defaults", table


def _peer_line(name: str, flagged: list[int], columns: int) -> list[str]:
    share = Share(sum(map(bool, flagged)), len(flagged))
    return [name, f"{len(flagged)}", share.text, f"{sum(flagged) / max(1, len(flagged)) / columns:.2%}"]


def _mixed_rows(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows of 20 mixed columns; words as codes."""
    found: dict[str, np.ndarray] = {}
    for i in range(2):
        found[f"normal{i}"] = rng.normal(size=n)
        found[f"lognormal{i}"] = rng.lognormal(0, 1.5, n)
        found[f"uniform{i}"] = np.where(rng.random(n) < 0.1, np.nan, rng.random(n))
        found[f"integer{i}"] = rng.poisson(4, n).astype(float)
        found[f"zeros{i}"] = np.where(rng.random(n) < 0.9, 0.0, rng.lognormal(3, 1, n))
        found[f"boolean{i}"] = (rng.random(n) < 0.4).astype(float)
        found[f"five{i}"] = rng.choice(5, n, p=[0.3, 0.25, 0.2, 0.15, 0.1])
        found[f"fifty{i}"] = rng.choice(50, n, p=zipf(50) / zipf(50).sum())
        found[f"many{i}"] = rng.choice(2_000, n, p=zipf(2_000) / zipf(2_000).sum())
        found[f"two{i}"] = rng.choice(2, n, p=[0.97, 0.03])
    return found


def _write_frames(folder: Path, repeats: int) -> None:
    import pandas as pd

    rng = np.random.default_rng(5)
    for i in range(repeats + 1):
        columns = _mixed_rows(2_000 if i else 20_000, rng)
        frame = pd.DataFrame(
            {
                name: values if values.dtype == float else [f"w{v}" for v in values]
                for name, values in columns.items()
            }
        )
        frame.to_parquet(folder / f"{i}.parquet", index=False)


def _read_shards(folder: Path, repeats: int) -> list[Profile]:
    import pandas as pd

    found = []
    for i in range(repeats + 1):
        frame = pd.read_parquet(folder / f"{i}.parquet")
        for name in frame:
            if frame[name].dtype != float:
                frame[name] = frame[name].astype("category")
        found.append(_profile_of(frame))
    return found


# ---------------------------------------------------------------- all of it
def text(title: str, table: Table) -> str:
    head, *lines = [f"| {' | '.join(line)} |" for line in table]
    return "\n".join([f"{title}:", "", head, "|" + " --- |" * len(table[0]), *lines, ""])


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="fewer batches: a minute")
    options.add_argument("--batches", type=int, default=300, help="of each kind")
    options.add_argument("--write", action="store_true", help="put the tables into docs/drift.md")
    options.add_argument("--peers", type=Path, default=Path(".venv-bench/bin/python"), help="their Python")
    chosen = options.parse_args()
    begun = time.monotonic()
    mix = populations()
    batches = 20 if chosen.quick else chosen.batches
    parts = [calibration(mix, batches), power(mix, batches)]
    folder = _nannyml(chosen.peers)
    if folder:
        parts += [control(folder), peers(chosen.peers, 5 if chosen.quick else 30)]
    else:
        print(f"{chosen.peers} has no nannyml: neither control nor peers", file=sys.stderr)
    shown = []
    for part in parts:
        for title, table in part:
            shown.append(text(title, table))
            print(shown[-1], flush=True)
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    if chosen.write:
        before, mark, _ = DOCUMENT.read_text().partition(MARK)
        DOCUMENT.write_text(f"{before}{mark or MARK}\n\n" + "\n".join(shown))


def _nannyml(python: Path) -> Path | None:
    """Where nannyml lies, without importing it."""
    code = "import importlib.util as u; print(u.find_spec('nannyml').submodule_search_locations[0])"
    try:
        run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        return None
    return Path(run.stdout.strip())


if __name__ == "__main__":
    main()
