"""Making profiles: values are counted as they pass, in pieces of any size.

What a tally holds does not depend on how its values were cut into pieces, but
for the rounding of moments.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

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
_HALF = np.uint64(32)
_PLACES, _PLACE = 1 << 14, np.uint64(40)  # of hashes that were met, and the first of the bits that say where
_FIRST = 1024
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2 ** 64 over the golden ratio: Knuth's multiplicative hashing


class NumberTally:
    """Counts finite numbers."""

    def __init__(self, room: Room | None = None, whole: bool = False) -> None:
        """`room` may be shared by all tallies of one thread; `whole`: all values will be whole numbers."""
        self.count, self.mean, self.m2 = 0, 0.0, 0.0
        self.min, self.max = math.inf, -math.inf
        self._room = room or Room()
        self._distinct = _Smallest()
        self._bins = _Bins()
        self._whole = whole

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        """Count finite float64 values, shape (n,); `low` and `high` are the least and the largest."""
        if not len(values):
            return
        self.min, self.max = min(self.min, low), max(self.max, high)
        for start in range(0, len(values), PIECE):
            self._piece(values[start : start + PIECE], low, high)

    def _piece(self, values: np.ndarray, low: float, high: float) -> None:
        n, room = len(values), self._room
        zeros = low <= 0 <= high
        self._reach(lambda: self._bins.reach(values, low, high))
        apart = self._whole and self._bins.apart
        with np.errstate(over="ignore", invalid="ignore"):
            # Deviations from the mean of the first block, a quarter of the piece or more: digits are not lost.
            first = values[:BLOCK]
            about = float(np.add.reduce(first)) / len(first)
            if not math.isfinite(about):  # the sum is too large; that of shares is not
                about = float(np.add.reduce(first / len(first)))
            m2 = surplus = 0.0
            for start in range(0, n, BLOCK):
                block = values[start : start + BLOCK]
                floats = room.floats[: len(block)]
                np.subtract(block, about, out=floats)
                surplus += float(np.add.reduce(floats))
                m2 += float(np.einsum("i,i->", floats, floats))
                if zeros:
                    block = np.add(block, 0.0, out=floats)  # one zero of both
                if not apart:
                    self._distinct.add_numbers(block, room)
                self._bins.place(block, room.places[start : start + len(block)], room, low, high)
        if not self._bins.count(values, room.places[:n], low, high):
            # A magnitude lies below all that the table reaches to.
            self._reach(lambda: self._bins.reach_down(values))
            if apart and not self._bins.apart:
                for start in range(0, n, BLOCK):
                    self._distinct.add_numbers(values[start : start + BLOCK] + 0.0, room)
            for start in range(0, n, BLOCK):
                block = values[start : start + BLOCK]
                self._bins.place(block, room.places[start : start + len(block)], room, low, high)
            self._bins.count(values, room.places[:n], low, high)
        if math.isfinite(surplus):
            mean, m2 = about + surplus / n, max(0.0, m2 - surplus * surplus / n)
        else:
            mean = float(np.add.reduce(values / n))
            m2 = math.inf  # as large as it can be told
        self.mean, self.m2 = merge_moments((self.count, self.mean, self.m2), (n, mean, m2))
        self.count += n

    def _reach(self, change: Callable[[], None]) -> None:
        """Have the bins change; of whole numbers that lay one in a bin, what they were is remembered first."""
        before = self._bins.apart and self._whole and self._bins.sketch_as_it_is()
        change()
        if before and not self._bins.apart:
            self._remember(before)

    def _remember(self, bins: Sketch) -> None:
        values = np.where(bins.keys < 0, bins.edges()[1], bins.edges()[0])
        for start in range(0, len(values), BLOCK):
            self._distinct.add_numbers(values[start : start + BLOCK] + 0.0, self._room)

    def profile(self, rows: int) -> NumberProfile:
        """The profile of a column of so many rows; those that were not counted are null."""
        if self._whole and self._bins.apart:
            self._remember(self._bins.sketch_as_it_is())
        return NumberProfile(
            rows,
            rows - self.count,
            self.mean,
            self.m2,
            self.min + 0.0,
            self.max + 0.0,
            self._bins.sketch(),
            self._distinct.found,
        )


class Room:
    """Memory that is used again and again, so that it stays in the cache."""

    def __init__(self) -> None:
        self.floats = np.empty(BLOCK)
        self.integers = np.empty(BLOCK, np.int64)
        self.hashes, self.met = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
        self.mask = np.empty(BLOCK, bool)
        self.places = np.empty(PIECE, np.int64)


class _Smallest:
    """The smallest hashes."""

    def __init__(self) -> None:
        self.found = Distinct(np.empty(0, np.uint64))
        self._known = np.empty(0, np.uint64)  # by some of its bits, a hash that was met

    def add(self, hashes: np.ndarray) -> None:
        self.found = self.found.merged(Distinct.of(hashes[hashes <= self.found.limit]))

    def add_numbers(self, values: np.ndarray, room: Room) -> None:
        """Of at most BLOCK float64 values."""
        n = len(values)
        if n > _FIRST and not len(self.found.hashes):
            # From a few values it is learned which of the many others need no look.
            for start, end in ((0, _FIRST), (_FIRST, 5 * _FIRST), (5 * _FIRST, n)):
                self.add_numbers(values[start:end], room)
            return
        bits, hashes, near = values.view(np.uint64), room.hashes[:n], room.mask[:n]
        np.right_shift(bits, _HALF, out=hashes)
        np.bitwise_xor(hashes, bits, out=hashes)
        np.multiply(hashes, _SPREAD, out=hashes)
        np.less_equal(hashes, self.found.limit, out=near)
        count = int(np.count_nonzero(near))
        if not count:
            return
        if count <= n >> 3:
            hashes = hashes[near]
        if len(hashes) <= 64:
            self.add(hashes)
            return
        # Of few values that come again and again, those that were met before are passed over.
        if not len(self._known):
            # At first each place holds what belongs to the next one.
            self._known = np.roll(np.arange(_PLACES, dtype=np.uint64) << _PLACE, -1)
        slots = room.integers[: len(hashes)]
        np.right_shift(hashes, _PLACE, out=slots.view(np.uint64))
        np.bitwise_and(slots, _PLACES - 1, out=slots)
        met = self._known.take(slots, out=room.met[: len(hashes)], mode="clip")
        new = np.flatnonzero(np.not_equal(met, hashes, out=room.mask[: len(hashes)]))
        if len(new):
            self._known[slots[new]] = hashes[new]
            self.add(hashes[new])


class _Bins:
    """Counts by the leading bits: a table of SPAN bins for either sign, made coarser when a value lies outside.

    Place 0 is for zeros, the place of a magnitude is its key less `first`, plus
    SPAN + 1 when it is negative.
    """

    def __init__(self) -> None:
        self._table = np.zeros(0, np.int64)
        self._low, self._high = -1, -1  # bits of the least and the largest magnitude but zero
        self._shift = 0
        self._first = 0  # key less the place in the table

    @property
    def apart(self) -> bool:
        """Whether no two whole numbers share a bin."""
        return self._high < 0 or (self._high >> 52) - 1023 <= 52 - self._shift

    def reach(self, values: np.ndarray, low: float, high: float) -> None:
        """Have the table reach to the largest magnitude, and to the least where that is known."""
        if low > 0 or high < 0:
            self._cover(_bits(min(abs(low), abs(high))), _bits(max(abs(low), abs(high))))
        elif self._low < 0:
            self.reach_down(values)
        if self._low >= 0:
            self._cover(self._low, max(_bits(max(-low, high)), self._low))

    def reach_down(self, values: np.ndarray) -> None:
        """Have it reach to the least magnitude of these values but zero."""
        sizes = np.abs(values)
        sizes = sizes[sizes > 0]
        if len(sizes):
            least = _bits(sizes.min())
            self._cover(least, max(self._high, least))
        elif not len(self._table):
            self._table = np.zeros(2 * SPAN + 2, np.int64)

    def place(self, values: np.ndarray, out: np.ndarray, room: Room, low: float, high: float) -> None:
        """The places of at most BLOCK values; of those below the table's reach 0 or less."""
        bits = values.view(np.int64)
        if low < 0:
            np.bitwise_and(bits, _MAGNITUDE, out=out)
            np.right_shift(out, self._shift, out=out)
        else:
            np.right_shift(bits, self._shift, out=out)
        np.subtract(out, self._first, out=out)
        if low <= 0 <= high:
            np.maximum(out, 0, out=out)
            if self._first < 0:  # the key of the least is that of zero
                out[values == 0] = 0
        if low < 0:
            sign = np.right_shift(bits, 63, out=room.integers[: len(bits)])
            np.bitwise_and(sign, SPAN + 1, out=sign)
            np.add(out, sign, out=out)

    def count(self, values: np.ndarray, places: np.ndarray, low: float, high: float) -> bool:
        """Count places; False, and nothing is counted, when a value that is not zero has the place of zeros."""
        counts = np.bincount(places)
        if low <= 0 <= high:
            empty = int(counts[0]) + (int(counts[SPAN + 1]) if len(counts) > SPAN + 1 else 0)
            if empty and len(values) - int(np.count_nonzero(values != 0)) != empty:
                return False
        self._table[: len(counts)] += counts
        return True

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
        return self.sketch_as_it_is().bounded()

    def sketch_as_it_is(self) -> Sketch:
        """All bins of the table that are occupied."""
        zeros = 0
        if not len(self._table):
            keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
        else:
            zeros = int(self._table[0] + self._table[SPAN + 1])
            negative = np.flatnonzero(self._table[SPAN + 2 :])[::-1]
            positive = np.flatnonzero(self._table[1 : SPAN + 1])
            keys = np.concatenate([-(negative + self._first + 2), positive + self._first + 2])
            counts = np.concatenate([self._table[SPAN + 2 :][negative], self._table[1:][positive]])
        if zeros:
            at = int(np.searchsorted(keys, 0))
            keys, counts = np.insert(keys, at, 0), np.insert(counts, at, zeros)
        return Sketch(self._shift, keys, counts)


def _bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


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
        self._sorted: np.ndarray = np.zeros(0, np.uint64)
        self._order: np.ndarray = np.zeros(0, np.int64)
        self._words: list[tuple[np.ndarray, np.ndarray]] = []
        self._bytes = 0

    def add(self, body: np.ndarray, places: np.ndarray, counts: np.ndarray, seen: np.ndarray) -> None:
        """Count words given as in `shard.hash_words`.

        `counts`, shape (words,), are the rows to be counted, `seen` all rows, those that are left out as well.
        """
        met = np.flatnonzero(seen)
        begins, sizes = places[:-1][met].astype(np.int64), np.diff(places)[met].astype(np.int64)
        hashes, counts, seen = hash_words(body, places)[met], counts[met], seen[met]
        first = np.argsort(hashes)
        hashes, counts, seen = hashes[first], counts[first], seen[first]
        again = hashes[1:] == hashes[:-1]
        if again.any():  # a dictionary may hold a word twice
            starts = np.flatnonzero(np.append(True, ~again))
            first = np.minimum.reduceat(first, starts)
            counts, seen = np.add.reduceat(counts, starts), np.add.reduceat(seen, starts)
            hashes = hashes[starts]
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
        return max(kept + 1, round(self._distinct.found.estimate())) if self.overflow else kept

    def profile(self, rows: int) -> CategoryProfile:
        """The profile of a column of so many rows; those that were not counted are null."""
        likely = np.flatnonzero(self._counts)
        if len(likely) > MAX_CATEGORIES:  # of those that are as frequent, the ones with the smallest hashes
            order = np.lexsort((self._hashes[likely], -self._counts[likely]))
            likely = np.sort(likely[order[:MAX_CATEGORIES]])
        counts = Counter(dict(zip(self._texts(likely), self._counts[likely].tolist(), strict=True)))
        kept, _ = most_frequent(counts)
        return CategoryProfile(
            rows,
            rows - self.count,
            kept,
            self.count - sum(kept.values()),
            self._buckets,
            self._distinct.found,
        )

    def _texts(self, which: np.ndarray) -> list[str]:
        """The words at these places, rising."""
        found, start = [], 0
        for body, places in self._words:
            mine = which[(which >= start) & (which < start + len(places) - 1)] - start
            text = body.tobytes()
            for begin, end in zip(places[mine].tolist(), places[mine + 1].tolist(), strict=True):
                found.append(text[begin:end].decode("utf-8", "surrogatepass"))
            start += len(places) - 1
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
