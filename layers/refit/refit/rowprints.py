"""Row fingerprints: which rows a model has learned from, so that it is never tested on them.

A fingerprint is 64 bits of all values of a row: its features, target, time and
keys. Kept with each version as sorted uint64, each once. Rows that are equal are taken for the same row
only where values tell rows apart; with a few categories, equal rows are many people's.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from refit.contract import ColumnType, Contract
from refit.errors import ArtifactError
from refit.shard import Shard

SAMPLE = 20_000
MOST_TWINS = 0.01  # expected rows equal to a given one by chance, above which equality proves nothing


def identity(contract: Contract, features: Iterable[str]) -> list[str]:
    """Names of the columns of which a row's fingerprint is made, for a model with these features."""
    aside = [contract.target, *([contract.time] if contract.time else []), *contract.keys]
    text = {column.name for column in contract.columns if column.type is ColumnType.TEXT}
    return sorted({*features, *aside} - text)


def of(rows: Shard, columns: Sequence[str]) -> np.ndarray:
    """Fingerprints, shape (rows,); columns that the rows do not have are passed over."""
    there = [name for name in columns if name in rows.columns]
    words: Mapping[str, Sequence[str]] = {n: rows.vocabularies[n] for n in there if n in rows.vocabularies}
    return Shard({n: rows.columns[n] for n in there}, rows.types, words).fingerprints()


def told_apart(rows: Shard, columns: Sequence[str]) -> bool:
    """Whether values tell rows apart: by chance, fewer than one row in a hundred would have an equal.

    Chance is that of columns that do not depend on each other: the product over
    columns of how often two different rows agree in it. Repeated rows count
    once, so that a file with each row twice is not taken for one of few values.
    """
    _, first = np.unique(of(rows, columns), return_index=True)
    distinct = len(first)
    if distinct < 2:
        return True
    some = np.random.default_rng(0).choice(first, min(SAMPLE, distinct), replace=False)
    agree = 1.0
    for name in columns:
        if name in rows.columns:
            _, counts = np.unique(rows.columns[name][some], return_counts=True)
            agree *= float((counts * (counts - 1.0)).sum() / (len(some) * (len(some) - 1.0)))
    return agree * (distinct - 1) < MOST_TWINS


def known(prints: np.ndarray, learned: np.ndarray | None) -> np.ndarray:
    """Mask of the fingerprints that are among `learned`, which is sorted."""
    if learned is None or not len(learned):
        return np.zeros(len(prints), dtype=bool)
    place = np.searchsorted(learned, prints)
    return learned[np.minimum(place, len(learned) - 1)] == prints


def union(*several: np.ndarray | None) -> np.ndarray:
    """Sorted, each once."""
    return np.unique(
        np.concatenate([np.array([], np.uint64), *(each for each in several if each is not None)])
    )


def dump(prints: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, prints, allow_pickle=False)
    return buffer.getvalue()


def load(data: bytes) -> np.ndarray:
    """Raises ArtifactError when the bytes are not sorted fingerprints."""
    try:
        found = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy fails in several ways on what it did not write
        raise ArtifactError(f"not row fingerprints: {type(error).__name__}: {error}") from error
    if found.dtype != np.uint64 or found.ndim != 1 or (found[1:] <= found[:-1]).any():
        raise ArtifactError("not row fingerprints: they are sorted numbers of 64 bits, each once")
    return found
