"""Rows whose keys came before: of those whose hashes are equal, the keys themselves are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from refit.batches import Code
from refit.columns import arrow_indices, typed
from refit.contract import Column, ColumnType
from refit.inspection import LISTED, BadRow, Task, cells_of, rows_of, text_and_codes
from refit.reading import NotAsTyped, Source

GROUPS = 500_000  # of rows with the same key that are looked at in one pass


def doubled_keys(
    task: Task, sources: Sequence[Source], columns: Sequence[Column], rows: np.ndarray, hashes: np.ndarray
) -> tuple[np.ndarray, list[BadRow]]:
    """Of rows whose hashes are equal, those whose keys an earlier row has; the keys themselves are compared."""
    groups = np.unique(hashes)
    doubled: list[int] = []
    listed: list[BadRow] = []
    keys = [column for name in task.contract.keys for column in columns if column.name == name]
    label = ", ".join(task.contract.keys)
    for start in range(0, len(groups), GROUPS):
        low, high = groups[start], groups[min(start + GROUPS, len(groups)) - 1]
        mine = (hashes >= low) & (hashes <= high)
        wanted, of = rows[mine], hashes[mine]
        known: dict[int, set[tuple[object, ...]]] = {}
        row = 0
        for source in sources:
            places = [source.names.index(column.name) for column in keys]
            for part in source.parts():
                for batch in part.batches():
                    first, last = np.searchsorted(wanted, [row, row + batch.num_rows])
                    if first < last:
                        at = wanted[first:last] - row
                        picked = batch.take(arrow_indices(at))
                        values = zip(
                            *(
                                _comparable(picked.column(place), column)
                                for place, column in zip(places, keys, strict=True)
                            ),
                            strict=True,
                        )
                        again = []
                        for i, key in enumerate(values):
                            before = known.setdefault(int(of[first + i]), set())
                            if key in before:
                                again.append(i)
                            before.add(key)
                        doubled += (at[again] + row).tolist()
                        if again and task.bad_rows and len(listed) < LISTED:
                            if source.typed:
                                raise NotAsTyped
                            few = at[again][: LISTED - len(listed)]
                            listed += rows_of(batch, few, row, [((Code.DUPLICATE_KEY, label),)] * len(few))
                    row += batch.num_rows
    return np.array(sorted(doubled), np.int64), listed


def _comparable(array: pa.Array, column: Column) -> list[object]:
    """Values of a key column as Python objects that are equal when the keys are."""
    if column.type is ColumnType.TEXT:
        words, codes = text_and_codes(array)
        return _spelled(words, codes)
    found = typed(array, column.type)
    values = found.values.tolist() if found.words is None else _spelled(found.words, found.values)
    if found.null is not None:
        values = [None if null else value for value, null in zip(values, found.null, strict=True)]
    if found.wrong is not None:
        raw = cells_of(array)
        values = [(r,) if w else v for v, w, r in zip(values, found.wrong, raw, strict=True)]
    return values


def _spelled(words: pa.Array, codes: np.ndarray) -> list[object]:
    used, place = np.unique(codes, return_inverse=True)
    texts = [None if code < 0 else words[int(code)].as_py() for code in used]
    return [texts[i] for i in place]
