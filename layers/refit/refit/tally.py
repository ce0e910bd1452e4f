"""Making profiles: values are counted as they pass, in pieces of any size.

What a tally holds does not depend on how its values were cut into pieces, but
for the rounding of moments.
"""

from __future__ import annotations

import math
import threading
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

BLOCK = 1 << 16  # values that are counted together: so many stay in a core's cache
TOGETHER = 1 << 15  # whole numbers that lie so close are counted one by one
MAX_WORDS = 100_000  # whose counts are kept, and
MAX_BYTES = 16 << 20  # of them; beyond that rows are counted by hash only
_HALF = np.uint64(32)
_PLACES, _PLACE = 1 << 14, np.uint64(40)  # of hashes that were met, and the first of the bits that say where
_FIRST, _WAITING = 1024, 1024
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2 ** 64 over the golden ratio: Knuth's multiplicative hashing
_ONE, _MINUS_ZERO = np.uint64(1), np.uint64(0x3FA53E0A80000000)  # the latter is the hash of -0.0
_LOST = 64.0  # times that a sum of squares may exceed that of deviations: two digits are lost


class NumberTally:
    """Counts finite numbers."""

    def __init__(self, whole: bool = False) -> None:
        """`whole`: all values will be whole numbers."""
        self.count, self.mean, self.m2 = 0, 0.0, 0.0
        self.min, self.max = math.inf, -math.inf
        self._distinct = _Smallest()
        self._bins = _Bins()
        self._whole = _Whole() if whole else None

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        """Count finite float64 values, shape (n,); `low` and `high` are the least and the largest."""
        if not len(values):
            return
        self.min, self.max = min(self.min, low), max(self.max, high)
        if self._whole and not self._whole.reach(low, high):
            self._spread(self._whole)
        whole, room = self._whole, _ROOM
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            if whole:
                whole.add(block, low, high, room)
            else:
                self._moments(len(block), *_moments(block, room))
                self._distinct.add_numbers(block, room)
                self._bins.add(block, low, high, room)

    def _moments(self, n: int, mean: float, m2: float) -> None:
        self.mean, self.m2 = merge_moments((self.count, self.mean, self.m2), (n, mean, m2))
        self.count += n

    def _spread(self, whole: _Whole) -> None:
        """Whole numbers lie too far apart, or are all there: hand over what was counted one by one."""
        self._whole = None
        values, counts = whole.found()
        if len(values):
            self._moments(int(counts.sum()), *_moments_of_counts(values, counts))
            self._distinct.add_numbers(values, _ROOM)
            self._bins.add(values, values[0], values[-1], _ROOM, counts)

    def profile(self, rows: int) -> NumberProfile:
        """The profile of a column of so many rows; those that were not counted are null."""
        if self._whole:
            self._spread(self._whole)
        distinct = self._distinct.found
        if self._bins.zeros:
            distinct = Distinct.of(np.append(distinct.hashes, np.uint64(0)))
        return NumberProfile(
            rows,
            rows - self.count,
            self.mean,
            self.m2,
            self.min + 0.0,
            self.max + 0.0,
            self._bins.sketch(),
            distinct,
        )


def _moments(values: np.ndarray, room: Room) -> tuple[float, float]:
    """Mean and sum of squared deviations of finite values, shape (at most BLOCK,)."""
    n = len(values)
    with np.errstate(over="ignore", invalid="ignore"):
        total, squares = float(np.add.reduce(values)), float(np.einsum("i,i->", values, values))
        m2 = squares - total * total / n
        if m2 * _LOST >= squares and math.isfinite(m2):
            return total / n, m2
        # Deviations from about the mean: digits are not lost.
        about = total / n
        if not math.isfinite(about):  # the sum is too large; that of shares is not
            about = float(np.add.reduce(values / n))
        floats = np.subtract(values, about, out=room.floats[:n])
        surplus, m2 = float(np.add.reduce(floats)), float(np.einsum("i,i->", floats, floats))
        if math.isfinite(surplus):
            about, m2 = about + surplus / n, m2 - surplus * surplus / n
            return about, max(0.0, m2) if math.isfinite(m2) else math.inf
    return about, math.inf  # as large as it can be told


def _moments_of_counts(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """The same of rising values that came so often; they lie within TOGETHER."""
    n, steps = float(counts.sum()), values - values[0]
    mean = float(np.add.reduce(steps * counts)) / n
    return float(values[0]) + mean, float(np.add.reduce((steps - mean) ** 2 * counts))


class Room(threading.local):
    """Memory that each thread uses again and again, so that it stays in the cache."""

    def __init__(self) -> None:
        self.floats = np.empty(BLOCK)
        self.integers, self.places = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
        self.hashes, self.met = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
        self.mask = np.empty(BLOCK, bool)


_ROOM = Room()


class _Whole:
    """Counts of whole numbers, one by one."""

    def __init__(self) -> None:
        self._first = 0.0
        self._counts = np.zeros(0, np.int64)

    def reach(self, low: float, high: float) -> bool:
        """Have the counts reach from one number to another; False when they are too far apart."""
        first, size = self._first, len(self._counts)
        if size and first <= low and high < first + size:
            return True
        if size:
            low, high = min(low, first), max(high, first + size - 1)
        if high - low >= TOGETHER:
            return False
        counts = np.zeros(int(high - low) + 1, np.int64)
        counts[int(first - low) :][:size] = self._counts
        self._first, self._counts = low, counts
        return True

    def add(self, values: np.ndarray, low: float, high: float, room: Room) -> None:
        """Count at most BLOCK values that the counts reach to."""
        n, place = len(values), int(low - self._first)
        steps = np.subtract(values, low, out=room.floats[:n])
        if high - low <= 1:
            ones = int(np.add.reduce(steps))
            self._counts[place] += n - ones
            if ones:
                self._counts[place + 1] += ones
            return
        places = room.places[:n]
        places[...] = steps
        counts = np.bincount(places)
        self._counts[place : place + len(counts)] += counts

    def found(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers that came, rising, and how often."""
        there = np.flatnonzero(self._counts)
        return there + self._first + 0.0, self._counts[there]


class _Smallest:
    """The smallest hashes."""

    def __init__(self) -> None:
        self._found = Distinct(np.empty(0, np.uint64))
        self._waiting: list[np.ndarray] = []  # hashes that may belong to them
        self._number = 0  # of those that wait
        self._known = np.empty(0, np.uint64)  # by some of its bits, a hash that was met, less one
        self._begun = False

    @property
    def found(self) -> Distinct:
        if self._waiting:
            self._found = Distinct.of(np.concatenate([self._found.hashes, *self._waiting]))
            self._waiting, self._number = [], 0
        return self._found

    def add(self, hashes: np.ndarray) -> None:
        self._waiting.append(hashes)
        self._number += len(hashes)
        if self._number >= _WAITING:
            _ = self.found

    def add_numbers(self, values: np.ndarray, room: Room) -> None:
        """Of at most BLOCK float64 values; zeros, whose hash is 0, are passed over."""
        n = len(values)
        if n > _FIRST and not self._begun:
            # From a few values it is learned which of the many others need no look.
            self._begun = True
            for start, end in ((0, _FIRST), (_FIRST, 5 * _FIRST), (5 * _FIRST, n)):
                self.add_numbers(values[start:end], room)
                _ = self.found
            return
        hashes, near = room.hashes[:n], room.mask[:n]
        bits = values.view(np.uint64)
        np.right_shift(bits, _HALF, out=hashes)
        np.bitwise_xor(hashes, bits, out=hashes)
        np.multiply(hashes, _SPREAD, out=hashes)
        np.subtract(hashes, _ONE, out=hashes)  # the hash of zero becomes the largest
        np.less(hashes, self._found.limit, out=near)
        count = int(np.count_nonzero(near))
        if not count:
            return
        if count <= n >> 3:
            hashes = hashes[near]
        if len(hashes) <= 64:
            self._add_less_one(hashes)
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
            self._add_less_one(hashes[new])

    def _add_less_one(self, hashes: np.ndarray) -> None:
        hashes = hashes + _ONE
        self.add(hashes[(hashes != 0) & (hashes != _MINUS_ZERO)])


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

    def add(
        self, values: np.ndarray, low: float, high: float, room: Room, times: np.ndarray | None = None
    ) -> None:
        """Count at most BLOCK finite values; `low` and `high` may lie outside of them. `times`: how often each came."""
        self._reach(values, low, high)
        if not self._count(values, low, high, room, times):
            # A magnitude lies below all that the table reaches to.
            self._reach_down(values)
            self._count(values, low, high, room, times)

    def _reach(self, values: np.ndarray, low: float, high: float) -> None:
        """Have the table reach to the largest magnitude, and to the least where that is known."""
        if low > 0 or high < 0:
            self._cover(_bits(min(abs(low), abs(high))), _bits(max(abs(low), abs(high))))
        elif self._low < 0:
            self._reach_down(values)
        if self._low >= 0:
            self._cover(self._low, max(_bits(max(-low, high)), self._low))

    def _reach_down(self, values: np.ndarray) -> None:
        """Have it reach to the least magnitude of these values but zero."""
        sizes = np.abs(values)
        sizes = sizes[sizes > 0]
        if len(sizes):
            least = _bits(sizes.min())
            self._cover(least, max(self._high, least))
        elif not len(self._table):
            self._table = np.zeros(2 * SPAN + 2, np.int64)

    def _count(
        self, values: np.ndarray, low: float, high: float, room: Room, times: np.ndarray | None
    ) -> bool:
        """False, and nothing is counted, when a value that is not zero has the place of zeros."""
        n = len(values)
        places = self._places(values, low, high, room)
        if low <= 0 <= high:
            zeros = int(np.count_nonzero(np.equal(values, 0, out=room.mask[:n])))
            counts = np.bincount(places)
            empty = int(counts[0]) + (int(counts[SPAN + 1]) if len(counts) > SPAN + 1 else 0)
            if empty != zeros:
                return False
        if times is not None:
            counts = np.bincount(places, times).astype(np.int64)
        elif not low <= 0 <= high:
            counts = np.bincount(places)
        self._table[: len(counts)] += counts
        return True

    def _places(self, values: np.ndarray, low: float, high: float, room: Room) -> np.ndarray:
        """The places of values; of those below the table's reach 0 or that of negative zeros."""
        n = len(values)
        out, sizes = room.places[:n], values
        if low < 0:
            sizes = np.abs(values, out=room.floats[:n])
        np.right_shift(sizes.view(np.int64), self._shift, out=out)
        if low <= 0 <= high:
            np.maximum(out, self._first, out=out)
        np.subtract(out, self._first, out=out)
        if low <= 0 <= high and self._first < 0:  # the key of the least is that of zero
            out[values == 0] = 0
        if low < 0:
            sign = np.right_shift(values.view(np.int64), 63, out=room.integers[:n])
            np.bitwise_and(sign, SPAN + 1, out=sign)
            np.add(out, sign, out=out)
        return out

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

    @property
    def zeros(self) -> int:
        return int(self._table[0] + self._table[SPAN + 1]) if len(self._table) else 0

    def sketch(self) -> Sketch:
        zeros = self.zeros
        if not len(self._table):
            keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
        else:
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


class CategoryTally:
    """Counts words. Words of the same 64-bit hash are counted as one."""

    def __init__(self) -> None:
        self.count = 0  # rows with a word
        self.overflow = False  # there were more words than are kept
        self._buckets = np.zeros(BUCKETS, np.int64)
        self._distinct = _Smallest()
        # The words that are kept, in the order in which they came; and their hashes in rising order, when they were asked for.
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
        if len(self._sorted) < len(self._hashes):
            self._order = np.argsort(self._hashes)
            self._sorted = self._hashes[self._order]
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
            counted = self._counts[likely]
            least = np.partition(counted, len(counted) - MAX_CATEGORIES)[-MAX_CATEGORIES]
            more, even = likely[counted > least], likely[counted == least]
            even = even[np.argsort(self._hashes[even])[: MAX_CATEGORIES - len(more)]]
            likely = np.sort(np.concatenate([more, even]))
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
        found, start = list[str](), 0
        for body, places in self._words:
            mine = which[(which >= start) & (which < start + len(places) - 1)] - start
            text, spans = body.tobytes(), zip(places[mine].tolist(), places[mine + 1].tolist(), strict=True)
            if text.isascii():  # one for all is faster
                one = text.decode("ascii")
                found += [one[begin:end] for begin, end in spans]
            else:
                found += [text[begin:end].decode("utf-8", "surrogatepass") for begin, end in spans]
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
