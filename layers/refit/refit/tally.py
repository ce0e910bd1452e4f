"""Making profiles: values are counted as they pass, in pieces of any size.

What a tally holds does not depend on how its values were cut into pieces, but
for the rounding of moments.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from refit.contract import NUMERIC, ColumnType
from refit.profile import (
    BUCKETS,
    MAX_CATEGORIES,
    SPAN,
    CategoryProfile,
    ColumnProfile,
    Distinct,
    NumberProfile,
    Profile,
    Sketch,
    bucketed,
    iso,
    merge_moments,
    most_frequent,
)
from refit.shard import Shard, hash_words, packed

BLOCK = 1 << 15  # values that stay in the fastest cache while they are looked at
PIECE = 1 << 17  # values that are counted at once
MAX_WORDS = 100_000  # whose counts are kept, and
MAX_BYTES = 16 << 20  # of them; beyond that rows are counted by hash only
_MAGNITUDE = np.int64(2**63 - 1)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2 ** 64 over the golden ratio: Knuth's multiplicative hashing


class NumberTally:
    """Counts finite numbers."""

    def __init__(self, places: np.ndarray | None = None) -> None:
        """`places`, int64 of shape (PIECE,), is room that tallies of one thread may share."""
        self.count, self.mean, self.m2 = 0, 0.0, 0.0
        self.min, self.max = math.inf, -math.inf
        self._distinct = _Smallest()
        self._bins = _Bins(places)

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        """Count finite float64 values, shape (n,); `low` and `high` are the least and the largest."""
        if not len(values):
            return
        for start in range(0, len(values), PIECE):
            piece = values[start : start + PIECE]
            self._moments(piece)
            self._bins.add(piece, low, high)
            self._distinct.add_numbers(piece)
        self.min, self.max = min(self.min, low), max(self.max, high)

    def _moments(self, values: np.ndarray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            n = len(values)
            mean = float(np.add.reduce(values)) / n
            if not math.isfinite(mean):  # the sum is too large; halves of halves are not
                mean = float(np.add.reduce(values / n))
            m2, surplus, scratch = 0.0, 0.0, np.empty(min(n, BLOCK))
            for start in range(0, n, BLOCK):
                block = values[start : start + BLOCK]
                off = np.subtract(block, mean, out=scratch[: len(block)])
                surplus += float(np.add.reduce(off))
                m2 += float(np.einsum("i,i->", off, off))
            mean, m2 = mean + surplus / n, max(0.0, m2 - surplus * surplus / n) if math.isfinite(m2) else m2
            self.mean, self.m2 = merge_moments((self.count, self.mean, self.m2), (n, mean, m2))
            self.count += n

    def profile(self, rows: int) -> NumberProfile:
        """The profile of a column of so many rows; those that were not counted are null."""
        return NumberProfile(
            rows,
            rows - self.count,
            self.mean,
            self.m2,
            self.min + 0.0,
            self.max + 0.0,
            self._bins.sketch(),
            self._distinct.found(),
        )


class _Smallest:
    """The smallest hashes."""

    def __init__(self) -> None:
        self._found = Distinct(np.empty(0, np.uint64))
        self._known = np.empty(0, np.uint64)  # by its last bits, a hash that was met

    def add(self, hashes: np.ndarray) -> None:
        self._found = self._found.merged(Distinct.of(hashes[hashes <= self._found.limit]))

    def add_numbers(self, values: np.ndarray) -> None:
        scratch, mixed = np.empty(min(len(values), BLOCK)), np.empty(min(len(values), BLOCK), np.uint64)
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            n = len(block)
            bits = np.add(block, 0.0, out=scratch[:n]).view(np.uint64)  # one zero of both
            hashes = np.right_shift(bits, np.uint64(32), out=mixed[:n])
            hashes ^= bits
            hashes *= _SPREAD
            self._few(hashes)

    def _few(self, hashes: np.ndarray) -> None:
        near = np.flatnonzero(hashes <= self._found.limit)
        if not len(near):
            return
        if len(near) > 64:
            # Of a few values that come again and again, those met before are passed over.
            if not len(self._known):
                # At first each place holds what belongs to the next one.
                self._known = np.roll(np.arange(1 << 12, dtype=np.uint64) << np.uint64(40), -1)
            hashes = hashes[near]
            slots = (hashes >> np.uint64(40)) & np.uint64(len(self._known) - 1)
            new = self._known[slots.view(np.int64)] != hashes
            hashes = hashes[new]
            if not len(hashes):
                return
            self._known[slots[new].view(np.int64)] = hashes
            self.add(hashes)
        else:
            self.add(hashes[near])

    def found(self) -> Distinct:
        return self._found


class _Bins:
    """Counts by the leading bits: a table of SPAN bins for either sign, made coarser when a value lies outside.

    Place 0 is for zeros, the place of a magnitude is its key less `first`, plus
    SPAN + 1 when it is negative.
    """

    def __init__(self, places: np.ndarray | None) -> None:
        self._table = np.zeros(0, np.int64)
        self._zeros = 0
        self._low, self._high = -1, -1  # bits of the least and the largest magnitude but zero
        self._shift = 0
        self._first = 0  # key less the place in the table
        self._places = np.empty(0, np.int64) if places is None else places

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        signed = low < 0
        crosses = low <= 0 <= high
        if not crosses:
            self._cover(_bits(min(abs(low), abs(high))), _bits(max(abs(low), abs(high))))
        else:
            if self._low < 0:
                least = _least(values)
                if least is None:
                    self._zeros += len(values)
                    return
                self._cover(least, least)
            self._cover(self._low, max(_bits(max(-low, high)), self._low))
        if len(self._places) < len(values):
            self._places = np.empty(len(values), np.int64)
        places = self._places[: len(values)]
        scratch = np.empty(min(len(values), BLOCK), np.int64)
        for start in range(0, len(values), BLOCK):
            block, out = values[start : start + BLOCK], places[start : start + BLOCK]
            bits = block.view(np.int64)
            if signed or crosses:
                sizes = np.bitwise_and(bits, _MAGNITUDE, out=out)
                np.right_shift(sizes, self._shift, out=out)
            else:
                np.right_shift(bits, self._shift, out=out)
            np.subtract(out, self._first, out=out)
            if crosses and out.min() < 1:
                there = block != 0
                zeros = len(block) - int(np.count_nonzero(there))
                np.maximum(out, 0, out=out)
                if len(block) - int(np.count_nonzero(out)) != zeros:
                    least = _least(values)
                    assert least is not None
                    self._cover(least, max(self._high, least))
                    return self.add(values, low, high)
            if signed:
                sign = np.right_shift(bits, 63, out=scratch[: len(block)])
                sign &= SPAN + 1
                out += sign
        counts = np.bincount(places)
        self._table[: len(counts)] += counts

    def _cover(self, low: int, high: int) -> None:
        """Have the table reach from one magnitude to another, given by their bits."""
        if self._low >= 0:
            if low >= self._low and high <= self._high:
                return
            low, high = min(low, self._low), max(high, self._high)
        shift = self._shift
        while (high >> shift) - (low >> shift) >= SPAN:
            shift += 1
        first = (low >> shift) - 1
        if not len(self._table):
            self._table = np.zeros(2 * SPAN + 2, np.int64)
        elif shift != self._shift or first != self._first:
            old = np.flatnonzero(self._table)
            counts = self._table[old]
            below = np.where(old > SPAN, SPAN + 1, 0)
            place = old - below
            moved = np.where(place == 0, 0, ((place + self._first) >> (shift - self._shift)) - first)
            self._table = np.bincount(moved + below, counts, 2 * SPAN + 2).astype(np.int64)
        self._shift, self._first, self._low, self._high = shift, first, low, high

    def sketch(self) -> Sketch:
        zeros = self._zeros
        if not len(self._table):
            keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
        else:
            zeros += int(self._table[0] + self._table[SPAN + 1])
            negative = np.flatnonzero(self._table[SPAN + 2 :])[::-1]
            positive = np.flatnonzero(self._table[1 : SPAN + 1])
            keys = np.concatenate([-(negative + self._first + 2), positive + self._first + 2])
            counts = np.concatenate([self._table[SPAN + 2 :][negative], self._table[1:][positive]])
        if zeros:
            at = int(np.searchsorted(keys, 0))
            keys, counts = np.insert(keys, at, 0), np.insert(counts, at, zeros)
        return Sketch(self._shift, keys, counts).bounded()


def _bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


def _least(values: np.ndarray) -> int | None:
    """Bits of the least magnitude but zero."""
    sizes = np.abs(values)
    sizes = sizes[sizes > 0]
    return _bits(sizes.min()) if len(sizes) else None


class CategoryTally:
    """Counts words. Words of the same 64-bit hash are counted as one."""

    def __init__(self) -> None:
        self.count = 0  # rows with a word
        self.overflow = False  # there were more words than are kept
        self._buckets = np.zeros(BUCKETS, np.int64)
        self._distinct = _Smallest()
        # The words that are kept, in the order in which they came; and the same hashes in rising order.
        self._hashes, self._counts, self._seen = (
            np.zeros(0, kind) for kind in (np.uint64, np.int64, np.int64)
        )
        self._sorted, self._order = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._words: list[tuple[np.ndarray, np.ndarray]] = []
        self._bytes = 0

    def add(self, body: np.ndarray, places: np.ndarray, counts: np.ndarray, seen: np.ndarray) -> None:
        """Count words given as in `shard.hash_words`.

        `counts`, shape (words,), are the rows to be counted, `seen` all rows, those that are left out as well.
        """
        met = np.flatnonzero(seen)
        begins, sizes = places[:-1][met].astype(np.int64), np.diff(places)[met].astype(np.int64)
        hashes, first, place = np.unique(
            hash_words(body, places)[met], return_index=True, return_inverse=True
        )
        counts = np.bincount(place, counts[met], len(hashes)).astype(np.int64)
        seen = np.bincount(place, seen[met], len(hashes)).astype(np.int64)
        some = counts > 0
        self.count += int(counts.sum())
        self._buckets += bucketed(hashes[some], counts[some])
        self._distinct.add(hashes[some])
        at = np.searchsorted(self._sorted, hashes)
        known = np.zeros(len(hashes), bool)
        inside = at < len(self._sorted)
        known[inside] = self._sorted[at[inside]] == hashes[inside]
        old = self._order[at[known]]
        self._counts[old] += counts[known]
        self._seen[old] += seen[known]
        new = np.flatnonzero(~known)
        new = new[np.argsort(first[new])]  # those that came first
        fit = int(np.searchsorted(self._bytes + np.cumsum(sizes[first[new]]), MAX_BYTES, "right"))
        new, cut = np.split(new, [max(0, min(fit, MAX_WORDS - len(self._hashes)))])
        if len(cut):
            self.overflow = True
        if len(new):
            self._keep(body, begins[first[new]], sizes[first[new]], hashes[new], counts[new], seen[new])

    def _keep(
        self,
        body: np.ndarray,
        begins: np.ndarray,
        sizes: np.ndarray,
        hashes: np.ndarray,
        counts: np.ndarray,
        seen: np.ndarray,
    ) -> None:
        places = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=places[1:])
        self._words.append((body[np.repeat(begins - places[:-1], sizes) + np.arange(places[-1])], places))
        self._bytes += int(places[-1])
        self._hashes = np.concatenate([self._hashes, hashes])
        self._counts = np.concatenate([self._counts, counts])
        self._seen = np.concatenate([self._seen, seen])
        self._order = np.argsort(self._hashes)
        self._sorted = self._hashes[self._order]

    def words_seen(self) -> list[tuple[str, int]]:
        """The words that are kept, each with its rows, those that are left out as well."""
        return list(zip(self._texts(np.arange(len(self._seen))), self._seen.tolist(), strict=True))

    def number_of_words(self) -> int:
        """How many words were seen; an estimate when not all could be kept."""
        kept = len(self._hashes)
        return max(kept + 1, round(self._distinct.found().estimate())) if self.overflow else kept

    def profile(self, rows: int) -> CategoryProfile:
        """The profile of a column of so many rows; those that were not counted are null."""
        likely = np.flatnonzero(self._counts)
        if len(likely) > MAX_CATEGORIES:  # only those that may be among the most frequent are spelled out
            least = np.partition(self._counts[likely], -MAX_CATEGORIES)[-MAX_CATEGORIES]
            likely = likely[self._counts[likely] >= least]
        counts = Counter(dict(zip(self._texts(likely), self._counts[likely].tolist(), strict=True)))
        kept, _ = most_frequent(counts)
        return CategoryProfile(
            rows,
            rows - self.count,
            kept,
            self.count - sum(kept.values()),
            self._buckets,
            self._distinct.found(),
        )

    def _texts(self, which: np.ndarray) -> list[str]:
        wanted, found, start = set(which.tolist()), [], 0
        for body, places in self._words:
            data, ends = body.tobytes(), places.tolist()
            for i in range(len(ends) - 1):
                if start + i in wanted:
                    found.append(data[ends[i] : ends[i + 1]].decode("utf-8", "surrogatepass"))
            start += len(ends) - 1
        return found


def profile(shard: Shard, time: str | None = None) -> Profile:
    """Profile every column of a shard; `time` names the column that gives the period."""
    columns: dict[str, ColumnProfile] = {}
    for name, values in shard.columns.items():
        present = values[~shard.is_null(name)]
        if shard.types[name] in NUMERIC:
            numbers = NumberTally()
            if len(present):
                numbers.add(present, float(present.min()), float(present.max()))
            columns[name] = numbers.profile(shard.rows)
        elif shard.types[name] is ColumnType.CATEGORY:
            words = CategoryTally()
            counts = np.bincount(present, minlength=len(shard.vocabularies[name]))
            words.add(*packed(shard.vocabularies[name]), counts, counts)
            columns[name] = words.profile(shard.rows)
    return Profile(shard.rows, columns, _period(shard, time))


def _period(shard: Shard, time: str | None) -> tuple[str, str] | None:
    if time is None or time not in shard.columns:
        return None
    present = shard.columns[time][~shard.is_null(time)]
    if not len(present):
        return None
    return iso(int(present.min())), iso(int(present.max()))
