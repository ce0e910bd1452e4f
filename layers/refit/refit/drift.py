"""Drift: how far a batch lies from what the champion learned from, column by column.

A column has drifted when the distance is large (an effect people know) AND it
is beyond what sampling explains (a test that knows both sample sizes, corrected
over the columns). Either alone is no verdict: large batches make any
difference significant, small ones make noise look large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refit.profile import CategoryProfile, ColumnProfile, NumberProfile, Profile

BUDGET = 0.01  # share of batches without drift that may be called drifted
PSI_LIMIT = 0.1  # population stability index from which a shift is called moderate
NULL_LIMIT = 0.05  # change of the null rate
BINS = 10


@dataclass(frozen=True)
class ColumnDrift:
    """Distance of one column. `psi` is net of what sampling noise adds to it."""

    column: str
    psi: float
    null_change: float
    new_share: float  # share of rows whose category the reference has never seen
    p_value: float
    drifted: bool
    message: str


@dataclass(frozen=True)
class DriftReport:
    """All columns, the farthest first."""

    rows: int
    reference_rows: int
    columns: tuple[ColumnDrift, ...]

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.drifted)


def compare(
    reference: Profile,
    batch: Profile,
    columns: Sequence[str],
    budget: float = BUDGET,
    psi_limit: float = PSI_LIMIT,
) -> DriftReport:
    """Compare a batch with a reference.

    Parameters
    ----------
    columns
        Names to compare; those absent from either profile are passed over.
    budget
        Chance that at least one of the columns is called drifted when none has.
    psi_limit
        Distance from which a column counts as drifted.
    """
    shared = [c for c in columns if c in reference.columns and c in batch.columns]
    level = budget / max(1, 2 * len(shared))  # two tests a column: values and nulls
    found = [
        _compare(name, reference.columns[name], batch.columns[name], level, psi_limit) for name in shared
    ]
    found.sort(key=lambda c: (not c.drifted, -max(c.psi, abs(c.null_change)), c.column))
    return DriftReport(batch.rows, reference.rows, tuple(found))


def _compare(
    name: str, reference: ColumnProfile, batch: ColumnProfile, level: float, psi_limit: float
) -> ColumnDrift:
    new_share = 0.0
    if isinstance(reference, NumberProfile) and isinstance(batch, NumberProfile):
        before, after = _number_bins(reference, batch)
    elif isinstance(reference, CategoryProfile) and isinstance(batch, CategoryProfile):
        before, after = _category_bins(reference, batch)
        present = batch.rows - batch.nulls
        if present and not reference.other:
            known = sum(n for word, n in batch.counts.items() if word in reference.counts)
            new_share = (present - batch.other - known) / present
    else:
        return ColumnDrift(name, 0.0, 0.0, 0.0, 1.0, False, f"{name}: its type changed; not comparable")
    psi, p_value = _psi(before, after), _two_sample_p(before, after)
    null_change = _rate(batch) - _rate(reference)
    null_p = _two_sample_p(
        np.array([reference.nulls, reference.rows - reference.nulls], float),
        np.array([batch.nulls, batch.rows - batch.nulls], float),
    )
    moved = psi >= psi_limit and p_value < level
    emptied = abs(null_change) >= NULL_LIMIT and null_p < level
    message = _message(name, reference, batch, psi, moved, null_change, emptied, new_share)
    return ColumnDrift(
        name,
        round(psi, 4),
        round(null_change, 4),
        round(new_share, 4),
        min(p_value, null_p),
        moved or emptied,
        message,
    )


def _message(
    name: str,
    reference: ColumnProfile,
    batch: ColumnProfile,
    psi: float,
    moved: bool,
    null_change: float,
    emptied: bool,
    new_share: float,
) -> str:
    parts = []
    if moved:
        text = f"distribution moved, PSI {psi:.2f}"
        if isinstance(reference, NumberProfile) and isinstance(batch, NumberProfile):
            text += f", mean {reference.mean:.4g} -> {batch.mean:.4g}"
        parts.append(text)
    if emptied:
        parts.append(f"nulls {_rate(reference):.1%} -> {_rate(batch):.1%}")
    if new_share:
        parts.append(f"{new_share:.1%} of the rows in categories never seen")
    return f"{name}: {'; '.join(parts) or 'as before'}"


def _rate(column: ColumnProfile) -> float:
    return column.nulls / column.rows if column.rows else 0.0


def _number_bins(reference: NumberProfile, batch: NumberProfile) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both in the reference's deciles, shape (bins,) each; edges are sketch keys."""
    shift = max(reference.sketch.shift, batch.sketch.shift)
    a, b = reference.sketch.coarsened(shift), batch.sketch.coarsened(shift)
    if not len(a.keys):
        return np.zeros(1), np.array([float(b.counts.sum())])
    share = np.cumsum(a.counts) / a.counts.sum()
    ends = np.searchsorted(share, np.arange(1, BINS) / BINS - 1e-12)
    edges = np.unique(a.keys[ends])  # a bin ends with its edge; heavy values make fewer bins
    before = np.bincount(np.searchsorted(edges, a.keys), a.counts, len(edges) + 1)
    after = np.bincount(np.searchsorted(edges, b.keys), b.counts, len(edges) + 1)
    return before, after


def _category_bins(reference: CategoryProfile, batch: CategoryProfile) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both by category; categories too rare to compare share one bin."""
    n, m = reference.rows - reference.nulls, batch.rows - batch.nulls
    before, after, rest = [], [], [float(reference.other), float(batch.other)]
    for word in sorted({*reference.counts, *batch.counts}):
        a, b = reference.counts.get(word, 0), batch.counts.get(word, 0)
        # The usual rule for a chi-square test: at least five expected in the smaller sample.
        if n and m and (a + b) * min(n, m) / (n + m) >= 5:
            before.append(float(a))
            after.append(float(b))
        else:
            rest[0] += a
            rest[1] += b
    return np.array([*before, rest[0]]), np.array([*after, rest[1]])


def _psi(before: np.ndarray, after: np.ndarray) -> float:
    """Population stability index, less its expectation when nothing moved.

    Yurdakul, Naranjo: Statistical properties of the population stability index, 2020.
    """
    used = before + after > 0
    n, m, k = before.sum(), after.sum(), int(used.sum())
    if not n or not m:
        return 0.0
    p = (before[used] + 0.5) / (n + 0.5 * k)
    q = (after[used] + 0.5) / (m + 0.5 * k)
    return max(0.0, float(np.sum((q - p) * np.log(q / p)) - (k - 1) * (1 / n + 1 / m)))


def _two_sample_p(before: np.ndarray, after: np.ndarray) -> float:
    """P-value of the chi-square test that both samples come from one distribution."""
    n, m = before.sum(), after.sum()
    used = before + after > 0
    df = int(used.sum()) - 1
    if not n or not m or df < 1:
        return 1.0
    a, b = before[used], after[used]
    statistic = float(np.sum((math.sqrt(m / n) * a - math.sqrt(n / m) * b) ** 2 / (a + b)))
    return _chi2_tail(statistic, df)


def _chi2_tail(x: float, df: int) -> float:
    """Upper tail of the chi-square distribution, by Wilson and Hilferty (1931): scipy costs a cold start."""
    if x <= 0:
        return 1.0
    spread = 2 / (9 * df)
    z = ((x / df) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))


def summary(report: DriftReport, most: int = 10) -> Mapping[str, object]:
    """The part of a report that is recorded and shown: verdict and the farthest columns."""
    return {
        "rows": report.rows,
        "reference_rows": report.reference_rows,
        "drifted": [column.column for column in report.drifted],
        "columns": [
            {"column": c.column, "psi": c.psi, "null_change": c.null_change, "message": c.message}
            for c in report.columns[:most]
        ],
    }
