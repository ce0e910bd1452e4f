"""The words of a category column, and the codes that its rows have for them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refit.columns import Typed, arrow_indices, arrow_mask, arrow_words, buffer_of, text_of, truths
from refit.contract import Column
from refit.shard import hash_words
from refit.tally import MAX_BYTES, MAX_WORDS

_SLOT = np.uint64(46)  # bits of a hash that do not say where a word is looked for first


class Vocabulary:
    """The words of a category column, in the order in which they came; codes are their places."""

    def __init__(self, column: Column) -> None:
        self._listed = arrow_words(column.categories) if column.categories else None
        self.clear()

    def clear(self) -> None:
        self.words = arrow_words([])
        self._hashes = self._sorted = np.zeros(0, np.uint64)
        self._order = np.zeros(0, np.int64)
        self._slots = np.zeros(0, np.int64)
        self._last, self._table = (
            arrow_words([]),
            np.full(1, -1, np.int32),
        )  # the last dictionary, and its codes here
        self.counts = np.zeros(0, np.int64)  # rows that are used
        self.seen = np.zeros(0, np.int64)  # all rows
        self.unlisted: np.ndarray | None = None if self._listed is None else np.zeros(0, bool)

    def codes(self, found: Typed) -> np.ndarray:
        """Codes into this vocabulary, int32, -1 for null; it grows by words that are new."""
        words = found.words
        assert words is not None
        codes = found.values
        if not _extends(words, self.words):
            # The dictionaries of one row group begin alike: only what is new in one is looked up.
            before = self._table[:-1] if _extends(words, self._last) else self._table[:0]
            there, places = self._found(words.slice(len(before)))
            new = words.slice(len(before)).filter(arrow_mask(~there))
            self._last, self._table = words, np.empty(len(words) + 1, np.int32)
            self._table[: len(before)] = before
            table = self._table[len(before) : -1]
            table[there] = places[there]
            table[~there] = np.arange(len(self.words), len(self.words) + len(new))
            self._table[-1] = -1
            codes = self._table[codes]
            words = pa.concat_arrays([self.words, new]) if len(new) else self.words
        grown = len(words) - len(self.words)
        if grown:
            if self.unlisted is not None:
                added = ~truths(pc.is_in(words.slice(len(self.words)), value_set=self._listed))
                self.unlisted = np.concatenate([self.unlisted, added])
            self.counts = np.concatenate([self.counts, np.zeros(grown, np.int64)])
            self.seen = np.concatenate([self.seen, np.zeros(grown, np.int64)])
            self.words = words
        return codes

    def _found(self, words: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Which words are known, and their places where they are; shape (words,) each."""
        fresh = hash_words(*text_of(self.words.slice(len(self._hashes))))
        if len(fresh):
            if not len(self._slots):
                self._slots = np.zeros(1 << (64 - int(_SLOT)), np.int64)
            # Whoever came first keeps the place: words that are frequent come early.
            known = len(self._hashes)
            self._hashes = np.concatenate([self._hashes, fresh])
            slots, codes = (fresh >> _SLOT)[::-1], np.arange(known, len(self._hashes))[::-1]
            free = self._hashes[self._slots[slots]] >> _SLOT != slots
            self._slots[slots[free]] = codes[free]
            order = np.argsort(fresh)
            at = np.searchsorted(self._sorted, fresh[order])
            self._sorted = np.insert(self._sorted, at, fresh[order])
            self._order = np.insert(self._order, at, order + known)
        hashes = hash_words(*text_of(words))
        if not len(self._sorted):
            return np.zeros(len(words), bool), np.zeros(len(words), np.int64)
        # Most are where their leading bits say; the others are searched for.
        places = self._slots[hashes >> _SLOT]
        there = self._hashes[places] == hashes
        rest = np.flatnonzero(~there)
        at = np.minimum(np.searchsorted(self._sorted, hashes[rest]), len(self._sorted) - 1)
        there[rest], places[rest] = self._sorted[at] == hashes[rest], self._order[at]
        some = words if there.all() else words.filter(arrow_mask(there))
        same = pc.equal(self.words.take(arrow_indices(places if there.all() else places[there])), some)
        if truths(same).all():
            return there, places
        found = pc.index_in(words, value_set=self.words)  # two words have one hash: Arrow compares them
        return truths(found.is_valid()), buffer_of(found, np.int32)

    @property
    def full(self) -> bool:
        return len(self.words) > MAX_WORDS or self.words.nbytes > MAX_BYTES


def _extends(words: pa.Array, before: pa.Array) -> bool:
    """Whether `words` begins with all of `before`, as the dictionaries of one row group do."""
    if len(words) < len(before):
        return False
    body, places = text_of(words)
    old_body, old_places = text_of(before)
    if len(words) == len(before) and places.ctypes.data == old_places.ctypes.data:
        return True
    n, shift = len(old_places), places[0] - old_places[0]
    if not np.array_equal(places[:64][:n] - shift, old_places[:64]):
        return False  # as most that differ
    same = np.array_equal(places[:n] - shift if shift else places[:n], old_places)
    size = int(old_places[-1] - old_places[0])
    return same and np.array_equal(
        body[places[0] : places[0] + size], old_body[old_places[0] : old_places[0] + size]
    )
