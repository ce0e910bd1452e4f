"""Drift, measured: false alarms against the budget, power, a real control, and others at their defaults beside it.

    .venv/bin/python benchmarks/drift.py            # about eight minutes
    .venv/bin/python benchmarks/drift.py --quick    # one minute, larger sampling errors
    .venv/bin/python benchmarks/drift.py --write    # and put the tables into docs/drift.md

Batches are drawn from populations whose shares are known: numbers from at most 512 values, which is what a
profile tells apart, categories from up to 100,000 words. A profile of N rows is then a multinomial draw, whatever N is;
no rows are made, and nothing is approximated. Reference and batch are drawn anew each time.

The control (employment in Massachusetts, 2015 to 2018, from nannyml's wheel) and the peers need
`pip install -r requirements/bench.txt`; what is missing is said and left out.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refit.contract import ColumnType
from refit.drift import DriftReport, compare
from refit.profile import MAX_CATEGORIES, CategoryProfile, ColumnProfile, NumberProfile, Profile, profile
from refit.shard import Shard

DOCUMENT = Path(__file__).parents[1] / "docs/drift.md"
MARK = "<!-- written by benchmarks/drift.py -->"
POPULATION = 200_000  # values from which a number's population of at most 512 is made
SIZES = (200, 2_000, 20_000, 1_000_000)
WIDTHS = (5, 20, 50)


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
        counts = rng.multinomial(rows - nulls, self.shares)
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
        if len(used) > MAX_CATEGORIES:  # the most frequent, ties by name: names are in order here
            used = used[np.argsort(-counts[used], kind="stable")[:MAX_CATEGORIES]]
        kept = {self.words[i]: int(counts[i]) for i in used}
        return replace(
            self.like,
            rows=rows,
            nulls=nulls,
            counts=kept,
            other=rows - nulls - sum(kept.values()),
            buckets=np.bincount(self.places, counts, 256).astype(np.int64),
        )


def number(name: str, values: np.ndarray, nulls: float = 0.0) -> Population:
    like = profile(Shard({"x": values.astype(float)}, {"x": ColumnType.NUMBER})).columns["x"]
    assert isinstance(like, NumberProfile)
    sketch = like.sketch
    # The bins' middles, by the mean of the values in each.
    bits = (values.astype(float) + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    keys = np.where(bits & sign, ~bits, bits | sign) >> np.uint64(sketch.shift)
    place = np.searchsorted(sketch.keys, keys)
    middles = np.bincount(place, values) / np.bincount(place)
    return Population(name, like, sketch.counts / sketch.counts.sum(), nulls, middles)


def category(name: str, shares: Sequence[float] | np.ndarray, nulls: float = 0.0) -> Population:
    shares = np.asarray(shares, dtype=float) / np.sum(shares)
    words = tuple(f"w{i:06d}" for i in range(len(shares)))
    like, places = _hashed(words)
    return Population(name, like, shares, nulls, words=words, places=places)


def _hashed(words: tuple[str, ...]) -> tuple[CategoryProfile, np.ndarray]:
    """A profile of the words, and the bucket of each; asked of the profile itself, a word at a time where they are few."""
    from refit.shard import _hash

    codes = np.arange(len(words[:2]), dtype=np.int32)
    shard = Shard({"c": codes}, {"c": ColumnType.CATEGORY}, {"c": list(words[:2])})
    like = profile(shard).columns["c"]
    assert isinstance(like, CategoryProfile)
    return like, np.array([int(_hash(word)) >> 56 for word in words], dtype=np.int64)


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


def calibration(mix: Sequence[Population], quick: bool) -> Iterator[list[str]]:
    """Alarms on batches without drift."""
    rng = np.random.default_rng(1)
    yield ["batch", "reference", "columns", "batches", "significant", "alarms"]
    for rows in SIZES:
        for reference in sorted({max(200, rows // 10), rows, min(rows * 10, 10_000_000)}):
            for width in WIDTHS:
                columns = [mix[(i + width) % len(mix)] for i in range(width)]
                repeats = (100 if quick else 1500) * 5 // width + 20
                found, alarms = Share(), Share()
                for _ in range(repeats):
                    report = _compared(columns, reference, rows, rng)
                    found.add(significant(report))
                    alarms.add(bool(report.drifted))
                yield [f"{rows:,}", f"{reference:,}", f"{width}", f"{repeats:,}", found.text, alarms.text]


def _compared(
    columns: Sequence[Population], reference: int, rows: int, rng: np.random.Generator
) -> DriftReport:
    before, after = draw(columns, reference, rng), draw(columns, rows, rng)
    return compare(before, after, list(before.columns))


if __name__ == "__main__":
    mix = populations()
    print("made", file=sys.stderr)
    for line in calibration(mix, "--quick" in sys.argv):
        print(" | ".join(line), flush=True)
