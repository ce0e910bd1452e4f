"""What is drawn of a column: its shares in what the champion learned from, beside those in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from refit.profile import CategoryProfile, ColumnProfile, NumberProfile, aligned

BINS = 24
FEW_VALUES = 12  # as many different numbers are drawn one by one
MOST_CATEGORIES = 9
TAIL = 0.005  # share on either side that is not drawn: one outlier would press all else into one bar


def beside(reference: ColumnProfile, batch: ColumnProfile) -> dict[str, Any] | None:
    """Shares of the values that are there, in percent; None when the two cannot be compared.

    Returns
    -------
    dict
        `drawn` is "values" with the `names` of the values, or "range" with the `edges` of bins, shape (bins + 1,).
        `reference` and `batch` are the shares of each; `nulls` those of missing values, of all rows;
        `outside` those beyond the edges.
    """
    if isinstance(reference, NumberProfile) and isinstance(batch, NumberProfile):
        found = _numbers(reference, batch)
    elif isinstance(reference, CategoryProfile) and isinstance(batch, CategoryProfile):
        found = _categories(reference, batch)
    else:
        return None
    return found and {**found, "nulls": [_share(each.nulls, each.rows) for each in (reference, batch)]}


def _numbers(reference: NumberProfile, batch: NumberProfile) -> dict[str, Any] | None:
    lower, upper, before, after = aligned(reference.sketch, batch.sketch)
    if not before.sum() or not after.sum():
        return None
    if len(lower) <= FEW_VALUES:
        exact = np.where(
            np.abs(lower) < np.abs(upper), lower, upper
        )  # bins begin at the value nearest to zero
        names = [f"{value:.6g}" for value in exact.tolist()]
        return {"drawn": "values", "names": names, "reference": _shares(before), "batch": _shares(after)}
    edges = np.clip(np.stack([lower, upper], axis=1).ravel(), -1e300, 1e300)
    up_to = [np.concatenate([[0.0], np.cumsum(each)]) / each.sum() for each in (before, after)]
    reached = [np.repeat(each, 2)[1:-1] for each in up_to]  # at both edges of every bin
    both = (reached[0] + reached[1]) / 2
    low, high = edges[np.searchsorted(both, TAIL)], edges[np.searchsorted(both, 1 - TAIL)]
    drawn = np.linspace(low, high, BINS + 1)
    if not np.isfinite(drawn).all() or not (np.diff(drawn) > 0).all():
        return None
    at = [np.interp(drawn, edges, each) for each in reached]
    return {
        "drawn": "range",
        "edges": drawn.tolist(),
        "reference": (np.diff(at[0]) * 100).tolist(),
        "batch": (np.diff(at[1]) * 100).tolist(),
        "outside": [float(100 - 100 * (each[-1] - each[0])) for each in at],
    }


def _categories(reference: CategoryProfile, batch: CategoryProfile) -> dict[str, Any] | None:
    totals = [each.rows - each.nulls for each in (reference, batch)]
    if not all(totals):
        return None

    def shares(word: str) -> tuple[float, float]:
        return _share(reference.counts.get(word, 0), totals[0]), _share(batch.counts.get(word, 0), totals[1])

    words = sorted({*reference.counts, *batch.counts}, key=lambda word: (-max(shares(word)), word))
    shown = words if len(words) <= MOST_CATEGORIES + 1 else words[:MOST_CATEGORIES]
    pairs = [shares(word) for word in shown]
    rest = [100 - sum(pair[i] for pair in pairs) for i in (0, 1)]
    if max(rest) > 1e-6:
        shown, pairs = [*shown, f"all {len(words) - len(shown):,} others"], [*pairs, (rest[0], rest[1])]
    return {
        "drawn": "values",
        "names": shown,
        "reference": [pair[0] for pair in pairs],
        "batch": [pair[1] for pair in pairs],
    }


def _shares(counts: np.ndarray) -> list[float]:
    return (counts / counts.sum() * 100).tolist()


def _share(part: int, of: int) -> float:
    return 100 * part / of if of else 0.0
