"""Mergeable profiles: what is remembered of a batch's columns once its rows are gone.

Merging the profiles of any split of a batch, in any order, gives the profile of
the whole: exactly the same counts, extremes, sketches, buckets and distinct
hashes, and moments up to rounding. Of categories the same words are named while
there are at most MAX_CATEGORIES; their buckets and hashes are always the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from refit import times
from refit.errors import ArtifactError

MAX_BINS = 1024
MAX_CATEGORIES = 1000
BUCKETS = 256
SPAN = 1 << 13  # bins that magnitudes may spread over, occupied or not
_FORMAT = 1
_HASHES = 256
_EXPONENT = 52  # bits of a float64 below its exponent
_LARGEST = float(np.finfo(float).max)
_TOP = np.int64(0x7FF << _EXPONENT)


@dataclass(frozen=True, eq=False)
class Distinct:
    """The smallest hashes of the values of a column, rising, shape (at most 256,): how many values there are.

    Bar-Yossef et al.: Counting distinct elements in a data stream, 2002. The
    standard error of the estimate is 1 / sqrt(254), 6 %; up to 255 values it is exact.
    """

    hashes: np.ndarray

    @staticmethod
    def of(hashes: np.ndarray) -> Distinct:
        """Of uint64 hashes in any order, repeated or not."""
        ranked = np.sort(hashes)
        return Distinct(ranked[np.append(True, ranked[1:] != ranked[:-1])[: len(ranked)]][:_HASHES])

    def merged(self, other: Distinct) -> Distinct:
        return Distinct.of(np.concatenate([self.hashes, other.hashes]))

    @property
    def limit(self) -> np.uint64:
        """Hashes from it on change nothing."""
        return self.hashes[-1] if len(self.hashes) == _HASHES else np.uint64(2**64 - 1)

    def estimate(self) -> float:
        """How many different values there are."""
        if len(self.hashes) < _HASHES:
            return float(len(self.hashes))
        return (_HASHES - 1) * 2.0**64 / float(self.hashes[-1])


@dataclass(frozen=True, eq=False)
class Sketch:
    """Counts of numbers by the leading bits of their float64, in value order.

    `keys` (int64) and `counts` have shape (bins,), at most MAX_BINS; `shift` is how
    many low bits a key lacks. The key of zero is 0; of a number with the bits m
    of its magnitude it is (m >> shift) + 1 with the number's sign.

    The shift is the smallest with which all magnitudes but zero lie within SPAN
    bins and at most MAX_BINS bins are occupied. Both hold of a part when they hold of
    the whole, so merging only ever makes bins wider, and the order does not matter.
    """

    shift: int
    keys: np.ndarray
    counts: np.ndarray

    def coarsened(self, shift: int) -> Sketch:
        """The same counts with bins `shift - self.shift` bits wider."""
        if shift == self.shift or not len(self.keys):
            return Sketch(shift, self.keys, self.counts)
        wider = ((np.abs(self.keys) - 1) >> np.int64(shift - self.shift)) + 1
        return _collected(shift, np.where(self.keys == 0, 0, np.sign(self.keys) * wider), self.counts)

    def bounded(self) -> Sketch:
        sketch = self
        while len(sketch.keys) > MAX_BINS or _span(sketch.keys) > SPAN:
            sketch = sketch.coarsened(sketch.shift + 1)
        return sketch

    def merged(self, other: Sketch) -> Sketch:
        if not len(self.keys) or not len(other.keys):
            return self if len(self.keys) else other
        shift = max(self.shift, other.shift)
        a, b = self.coarsened(shift), other.coarsened(shift)
        return _collected(
            shift, np.concatenate([a.keys, b.keys]), np.concatenate([a.counts, b.counts])
        ).bounded()

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper edges of the bins, shape (bins,) each; a bin of zeros has both at 0."""
        size = np.abs(self.keys) - 1
        near, far = _float(size, self.shift), _float(size + 1, self.shift)
        zero, below = self.keys == 0, self.keys < 0
        lower = np.where(zero, 0.0, np.where(below, -far, near))
        return lower, np.where(zero, 0.0, np.where(below, -near, far))

    def quantile(self, share: float) -> float:
        """A value in the bin that holds the quantile.

        It is off by less than the bin's width: a share of 2 ** (shift - 52) of the value.
        """
        lower, upper = self.edges()
        place = int(np.searchsorted(np.cumsum(self.counts), math.ceil(share * self.counts.sum()) or 1))
        middle = lower[place] + (upper[place] - lower[place]) / 2
        return float(middle if np.isfinite(middle) else lower[place])


def aligned(a: Sketch, b: Sketch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both on common bins in value order: lower and upper edges and the two counts, shape (bins,) each."""
    shift = max(a.shift if len(a.keys) else 0, b.shift if len(b.keys) else 0)
    a, b = a.coarsened(shift), b.coarsened(shift)
    keys = _rising(np.concatenate([a.keys, b.keys]))
    counts = []
    for each in (a, b):
        found = np.zeros(len(keys), np.int64)
        found[np.searchsorted(keys, each.keys)] = each.counts
        counts.append(found)
    lower, upper = Sketch(shift, keys, keys).edges()
    return lower, upper, counts[0], counts[1]


def _rising(keys: np.ndarray) -> np.ndarray:
    """Each key once."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys


def _collected(shift: int, keys: np.ndarray, counts: np.ndarray) -> Sketch:
    unique = _rising(keys)
    place = np.searchsorted(unique, keys)
    return Sketch(shift, unique, np.bincount(place, counts, len(unique)).astype(np.int64))


def _span(keys: np.ndarray) -> int:
    sizes = np.abs(keys[keys != 0])
    return int(sizes.max() - sizes.min()) + 1 if len(sizes) else 0


def _float(magnitude: np.ndarray, shift: int) -> np.ndarray:
    bits = np.minimum(np.maximum(magnitude, 0), _TOP >> np.int64(shift)) << np.int64(shift)
    return bits.view(np.float64)


@dataclass(frozen=True, eq=False)
class NumberProfile:
    """Of a number, integer or boolean column. `m2` is the sum of squared deviations from the mean."""

    rows: int
    nulls: int
    mean: float
    m2: float
    min: float
    max: float
    sketch: Sketch
    distinct: Distinct

    def merged(self, other: NumberProfile) -> NumberProfile:
        a, b = self.rows - self.nulls, other.rows - other.nulls
        mean, m2 = merge_moments((a, self.mean, self.m2), (b, other.mean, other.m2))
        return NumberProfile(
            self.rows + other.rows,
            self.nulls + other.nulls,
            mean,
            m2,
            min(self.min, other.min),
            max(self.max, other.max),
            self.sketch.merged(other.sketch),
            self.distinct.merged(other.distinct),
        )


@dataclass(frozen=True, eq=False)
class CategoryProfile:
    """Counts of the most frequent values; `other` counts the rows of all values beyond MAX_CATEGORIES.

    `buckets`, int64 of shape (256,), counts the rows of all values by the leading
    byte of the value's hash, so that long tails can be compared without choosing
    among their values.
    """

    rows: int
    nulls: int
    counts: Mapping[str, int]
    other: int
    buckets: np.ndarray
    distinct: Distinct

    def merged(self, other: CategoryProfile) -> CategoryProfile:
        total = Counter(self.counts)
        total.update(other.counts)
        kept, cut = most_frequent(total)
        return CategoryProfile(
            self.rows + other.rows,
            self.nulls + other.nulls,
            kept,
            self.other + other.other + cut,
            self.buckets + other.buckets,
            self.distinct.merged(other.distinct),
        )


ColumnProfile = NumberProfile | CategoryProfile


def merge_moments(a: tuple[int, float, float], b: tuple[int, float, float]) -> tuple[float, float]:
    """Mean and sum of squared deviations of two samples of (count, mean, sum of squared deviations)."""
    if not a[0] or not b[0]:
        _, mean, m2 = a if a[0] else b
        return (_finite(mean), _finite(m2)) if a[0] or b[0] else (0.0, 0.0)
    n = a[0] + b[0]
    delta = b[1] - a[1]
    # Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.
    # The smaller share moves the mean of the other: a mean of means would lose digits of close ones.
    mean = a[1] + delta * (b[0] / n) if a[0] >= b[0] else b[1] - delta * (a[0] / n)
    return _finite(mean), _finite(a[2] + b[2] + delta * delta * (a[0] * (b[0] / n)))


def most_frequent(counts: Counter[str]) -> tuple[dict[str, int], int]:
    """The most frequent words, at most MAX_CATEGORIES, and the rows of all others."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept, cut = ranked[:MAX_CATEGORIES], ranked[MAX_CATEGORIES:]
    return dict(kept), sum(n for _, n in cut)


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


def iso(nanoseconds: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return times.text(datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC))


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
                "distinct": column.distinct.hashes.astype("<u8").tobytes().hex(),
            }
        else:
            columns[name] = {
                "kind": "category",
                "rows": column.rows,
                "nulls": column.nulls,
                "counts": dict(column.counts),
                "other": column.other,
                "buckets": column.buckets.tolist(),
                "distinct": column.distinct.hashes.astype("<u8").tobytes().hex(),
            }
    return {"format": _FORMAT, "rows": value.rows, "period": value.period, "columns": columns}


def from_json(document: Mapping[str, Any]) -> Profile:
    """Raises ArtifactError when the document is of another format."""
    if document["format"] != _FORMAT:
        raise ArtifactError(f"profile format {document['format']} is not {_FORMAT}; deploy matching code")
    columns: dict[str, ColumnProfile] = {}
    for name, c in document["columns"].items():
        distinct = Distinct(np.frombuffer(bytes.fromhex(c["distinct"]), "<u8"))
        if c["kind"] == "number":
            sketch = Sketch(c["shift"], np.array(c["keys"], np.int64), np.array(c["counts"], np.int64))
            low = math.inf if c["min"] is None else c["min"]
            high = -math.inf if c["max"] is None else c["max"]
            columns[name] = NumberProfile(
                c["rows"], c["nulls"], c["mean"], c["m2"], low, high, sketch, distinct
            )
        else:
            buckets = np.array(c["buckets"], np.int64)
            columns[name] = CategoryProfile(c["rows"], c["nulls"], c["counts"], c["other"], buckets, distinct)
    period = tuple(document["period"]) if document["period"] else None
    return Profile(document["rows"], columns, period)


def bucketed(hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rows by the leading byte of the hash of their word, shape (256,)."""
    return np.bincount((hashes >> np.uint64(56)).astype(np.int64), counts, BUCKETS).astype(np.int64)


def _finite(value: float) -> float:
    """JSON has no infinity: sums of numbers beyond 1e154 squared end at the largest float."""
    return max(-_LARGEST, min(value, _LARGEST))
