"""Mergeable profiles: what is remembered of a batch's columns once its rows are gone.

Merging the profiles of any split of a batch, in any order, gives the same
counts as the profile of the whole (of categories: while there are at most
MAX_CATEGORIES). Numbers are kept in a sketch whose bins are
the leading bits of the float64, finer where the values lie close together, so
no bin edges need to be agreed on beforehand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from refit.contract import NUMERIC, ColumnType
from refit.shard import Shard

MAX_BINS = 512
MAX_CATEGORIES = 1000
_FINEST = 32  # bits cut off at first: bins are 1e-6 of the value wide
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True)
class Sketch:
    """Counts of numbers by the leading bits of their float64, in value order.

    `keys` and `counts` have shape (bins,), at most MAX_BINS; `shift` is how many
    low bits a key lacks.
    """

    shift: int
    keys: np.ndarray
    counts: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> Sketch:
        """Sketch finite float64 values, shape (n,)."""
        bits = (values + 0.0).view(np.uint64)  # + 0.0 makes one zero of -0.0 and 0.0
        ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
        keys, counts = np.unique(ordered >> np.uint64(_FINEST), return_counts=True)
        return Sketch(_FINEST, keys, counts.astype(np.int64)).bounded()

    def coarsened(self, shift: int) -> Sketch:
        """The same counts with bins `shift - self.shift` bits wider."""
        if shift == self.shift:
            return self
        keys, inverse = np.unique(self.keys >> np.uint64(shift - self.shift), return_inverse=True)
        counts = np.bincount(inverse, weights=self.counts, minlength=len(keys)).astype(np.int64)
        return Sketch(shift, keys, counts)

    def bounded(self) -> Sketch:
        # The smallest shift that fits depends on the set of keys alone, so the order of merges does not matter.
        sketch = self
        while len(sketch.keys) > MAX_BINS:
            sketch = sketch.coarsened(sketch.shift + 1)
        return sketch

    def merged(self, other: Sketch) -> Sketch:
        shift = max(self.shift, other.shift)
        a, b = self.coarsened(shift), other.coarsened(shift)
        keys, inverse = np.unique(np.concatenate([a.keys, b.keys]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([a.counts, b.counts]), len(keys)).astype(np.int64)
        return Sketch(shift, keys, counts).bounded()


@dataclass(frozen=True)
class NumberProfile:
    """Of a number, integer or boolean column. `m2` is the sum of squared deviations from the mean."""

    rows: int
    nulls: int
    mean: float
    m2: float
    min: float
    max: float
    sketch: Sketch

    def merged(self, other: NumberProfile) -> NumberProfile:
        a, b = self.rows - self.nulls, other.rows - other.nulls
        n = a + b
        delta = other.mean - self.mean
        return NumberProfile(
            self.rows + other.rows,
            self.nulls + other.nulls,
            # Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.
            self.mean * (a / n) + other.mean * (b / n) if n else 0.0,
            _finite(self.m2 + other.m2 + (delta * delta * a * b / n if n else 0.0)),
            min(self.min, other.min),
            max(self.max, other.max),
            self.sketch.merged(other.sketch),
        )


@dataclass(frozen=True)
class CategoryProfile:
    """Counts of the most frequent values; `other` counts the rows of all values beyond MAX_CATEGORIES."""

    rows: int
    nulls: int
    counts: Mapping[str, int]
    other: int = 0

    def merged(self, other: CategoryProfile) -> CategoryProfile:
        total = Counter(self.counts)
        total.update(other.counts)
        return _bounded(self.rows + other.rows, self.nulls + other.nulls, total, self.other + other.other)


ColumnProfile = NumberProfile | CategoryProfile


@dataclass(frozen=True)
class Profile:
    """Profile of a batch, or of many. `period` is the first and last time, ISO 8601."""

    rows: int
    columns: Mapping[str, ColumnProfile]
    period: tuple[str, str] | None = None

    def merged(self, other: Profile) -> Profile:
        shared = [name for name in self.columns if name in other.columns]
        columns: dict[str, ColumnProfile] = {}
        for name in shared:
            a, b = self.columns[name], other.columns[name]
            if type(a) is type(b):
                columns[name] = a.merged(b)  # type: ignore[arg-type]
        periods = [p for p in (self.period, other.period) if p]
        period = (min(p[0] for p in periods), max(p[1] for p in periods)) if periods else None
        return Profile(self.rows + other.rows, columns, period)


def profile(shard: Shard, time: str | None = None) -> Profile:
    """Profile every column of a shard; `time` names the column that gives the period."""
    columns: dict[str, ColumnProfile] = {}
    for name, values in shard.columns.items():
        null = shard.is_null(name)
        nulls = int(null.sum())
        if shard.types[name] in NUMERIC:
            present = values[~null]
            with np.errstate(over="ignore"):
                mean = _finite(present.mean()) if len(present) else 0.0
                m2 = _finite(np.square(present - mean).sum())
            columns[name] = NumberProfile(
                shard.rows,
                nulls,
                mean,
                m2,
                float(present.min()) if len(present) else math.inf,
                float(present.max()) if len(present) else -math.inf,
                Sketch.of(present),
            )
        elif shard.types[name] is ColumnType.CATEGORY:
            words = shard.vocabularies[name]
            tally = np.bincount(values[~null], minlength=len(words))
            counts = Counter({words[i]: int(n) for i, n in enumerate(tally) if n})
            columns[name] = _bounded(shard.rows, nulls, counts, 0)
    return Profile(shard.rows, columns, period(shard, time))


def period(shard: Shard, time: str | None) -> tuple[str, str] | None:
    """First and last value of the time column, ISO 8601 in UTC."""
    if time is None or time not in shard.columns:
        return None
    present = shard.columns[time][~shard.is_null(time)]
    if not len(present):
        return None
    return iso(int(present.min())), iso(int(present.max()))


def iso(nanoseconds: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(profiles: Iterable[Profile]) -> Profile:
    """Merge one or more profiles."""
    first, *rest = profiles
    for other in rest:
        first = first.merged(other)
    return first


def to_json(value: Profile) -> dict[str, Any]:
    """A JSON document; `from_json` reads it back."""
    columns: dict[str, Any] = {}
    for name, column in value.columns.items():
        if isinstance(column, NumberProfile):
            some = column.rows > column.nulls
            columns[name] = {
                "kind": "number",
                "rows": column.rows,
                "nulls": column.nulls,
                "mean": column.mean,
                "m2": column.m2,
                "min": column.min if some else None,
                "max": column.max if some else None,
                "shift": column.sketch.shift,
                "keys": column.sketch.keys.tolist(),
                "counts": column.sketch.counts.tolist(),
            }
        else:
            columns[name] = {
                "kind": "category",
                "rows": column.rows,
                "nulls": column.nulls,
                "counts": dict(column.counts),
                "other": column.other,
            }
    return {"format": 1, "rows": value.rows, "period": value.period, "columns": columns}


def from_json(document: Mapping[str, Any]) -> Profile:
    columns: dict[str, ColumnProfile] = {}
    for name, c in document["columns"].items():
        if c["kind"] == "number":
            sketch = Sketch(c["shift"], np.array(c["keys"], np.uint64), np.array(c["counts"], np.int64))
            low = math.inf if c["min"] is None else c["min"]
            high = -math.inf if c["max"] is None else c["max"]
            columns[name] = NumberProfile(c["rows"], c["nulls"], c["mean"], c["m2"], low, high, sketch)
        else:
            columns[name] = CategoryProfile(c["rows"], c["nulls"], c["counts"], c["other"])
    period = tuple(document["period"]) if document["period"] else None
    return Profile(document["rows"], columns, period)


def _finite(value: float) -> float:
    """JSON has no infinity: sums of numbers beyond 1e154 squared end at the largest float."""
    return float(np.clip(value, -np.finfo(float).max, np.finfo(float).max))


def _bounded(rows: int, nulls: int, counts: Counter[str], other: int) -> CategoryProfile:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept, cut = ranked[:MAX_CATEGORIES], ranked[MAX_CATEGORIES:]
    return CategoryProfile(rows, nulls, dict(kept), other + sum(n for _, n in cut))


def aligned(a: Sketch, b: Sketch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both on common bins in value order: lower and upper edges and the two counts, shape (bins,) each."""
    shift = max(a.shift, b.shift)
    a, b = a.coarsened(shift), b.coarsened(shift)
    keys = np.union1d(a.keys, b.keys)
    counts = []
    for each in (a, b):
        found = np.zeros(len(keys), np.int64)
        found[np.searchsorted(keys, each.keys)] = each.counts
        counts.append(found)
    low = keys << np.uint64(shift)
    return _value(low), _value(low | np.uint64((1 << shift) - 1)), counts[0], counts[1]


def _value(ordered: np.ndarray) -> np.ndarray:
    """Back from bits in value order to float64."""
    return np.where(ordered & _SIGN, ordered & ~_SIGN, ~ordered).view(np.float64)
