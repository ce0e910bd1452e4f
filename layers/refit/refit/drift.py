"""Drift: how far a batch lies from what the champion learned from, column by column.

A column has drifted when the distance is large (an effect people know) AND it
is beyond what sampling explains (a test that knows both sample sizes, corrected
over the columns). Either alone is no verdict: large batches make any
difference significant, small ones make noise look large. docs/drift.md says it
with the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from refit import times
from refit.batches import Upload
from refit.models import ModelSpec
from refit.profile import CategoryProfile, ColumnProfile, NumberProfile, Profile, aligned
from refit.twosample import GROUPS, cell_test, grouped, homogeneity_test, rank_test, share_test, sidak

BUDGET = 0.01  # share of batches without drift that may be called drifted

# What is far enough to matter; a model's drift_effect multiplies all of them.
SPREAD = 0.1  # of a number: Wasserstein distance in units of its spread; of a share: its change in units of its own
POINTS = 0.02  # and of a share at least so many of the rows
DISTANCE = 0.1  # of a category: Jensen-Shannon distance, for many shares that each change a little

SEASON_DAYS = 14  # a year ago, give or take
SEASON_PROFILES = 60  # read at most
SEASON_ROWS = 1000  # fewer are no season, unless the batch itself has fewer
YEAR = timedelta(days=365)

_BINS = 10  # the reference's deciles, for the index


@dataclass(frozen=True)
class ColumnDrift:
    """Distance of one column from what the champion learned from.

    `effect` is in units of what is far enough: 1 just is. PSI and Jensen-Shannon distance are net of what sampling
    adds to them. `fired` names the references whose comparison is both far enough and significant.
    """

    column: str
    kind: str  # feature, label, prediction
    effect: float
    wasserstein: float | None  # numbers: in units of the reference's spread
    share_change: float | None  # categories: of the share that changed most
    psi: float
    jensen_shannon: float  # distance, 0 to 1
    null_change: float
    new_share: float | None  # rows whose category the reference has never seen; None where that is not known
    p_value: float
    null_p_value: float
    fired: tuple[str, ...]  # champion, season
    drifted: bool
    message: str

    @property
    def seasonal(self) -> bool:
        """Far from what the champion learned from, but as a year ago."""
        return "champion" in self.fired and not self.drifted


@dataclass(frozen=True)
class DriftReport:
    """All columns, the farthest first. `level` is what each of the `tests` is held against."""

    rows: int
    reference_rows: int
    columns: tuple[ColumnDrift, ...]
    season_rows: int = 0  # 0: no season to compare with
    budget: float = BUDGET
    drift_effect: float = 1.0
    tests: int = 0
    level: float = 0.0

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.drifted)

    @property
    def seasonal(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.seasonal)


def check(spec: ModelSpec, reference: Profile, batch: Profile, season: Profile | None = None) -> DriftReport:
    """Compare a model's batch with what its champion learned from, as its model.toml says."""
    contract, triggers = spec.contract, spec.triggers
    return compare(
        reference,
        batch,
        [*(column.name for column in contract.features), contract.target],
        budget=triggers.drift_budget,
        effect=triggers.drift_effect,
        season=season,
        label=contract.target,
    )


def compare(
    reference: Profile,
    batch: Profile,
    columns: Sequence[str],
    *,
    budget: float = BUDGET,
    effect: float = 1.0,
    season: Profile | None = None,
    label: str = "",
    kind: str = "feature",
) -> DriftReport:
    """Compare a batch with a reference.

    Parameters
    ----------
    columns
        Names to compare; those absent from either profile are passed over.
    budget
        Chance that at least one column is called drifted when none has.
    effect
        Multiplies the distances from which a column counts as drifted.
    season
        The same season a year ago. A column has drifted when it is far from that, too.
    label
        The one of the columns that is the label.
    kind
        What the others are.
    """
    found = _distances(reference, batch, columns)
    before = _distances(season, batch, columns) if season else {}
    level, level_before = _level(found, budget), _level(before, budget)
    report = []
    for name, distance in found.items():
        far, year = distance.far(level, effect), before.get(name)
        far_before = year.far(level_before, effect) if year else []
        fired = [which for which, parts in (("champion", far), ("season", far_before)) if parts]
        # What cannot be compared with the season is not excused by it.
        drifted = bool(far) and (bool(far_before) or year is None or not year.comparable)
        report.append(
            ColumnDrift(
                name,
                "label" if name == label else kind,
                round(distance.effect, 4),
                _rounded(distance.wasserstein),
                _rounded(distance.share_change),
                round(distance.psi, 4),
                round(distance.jensen_shannon, 4),
                round(distance.null_change, 4),
                _rounded(distance.new_share),
                distance.p_value,
                distance.null_p_value,
                tuple(fired),
                drifted,
                f"{name}: {_message(distance, far, far_before, drifted)}",
            )
        )
    report.sort(key=lambda c: (not c.drifted, not c.fired, -c.effect, c.column))
    return DriftReport(
        batch.rows,
        reference.rows,
        tuple(report),
        season.rows if season else 0,
        budget,
        effect,
        sum(distance.tests for distance in found.values()),
        level,
    )


def _message(distance: _Distance, far: Sequence[str], far_before: Sequence[str], drifted: bool) -> str:
    if not far and far_before:
        told = "; ".join(far_before)
        return f"near what the champion learned from, but not as a year ago ({told})"
    if not far:
        return "as before" if distance.comparable else distance.words
    parts = [*far, distance.new_words] if distance.new_words else [*far]
    if far_before:
        parts.append("far from a year ago, too")
    elif not drifted:
        parts.append("but as a year ago")
    return "; ".join(parts)


@dataclass(frozen=True)
class _Distance:
    """Of one column from one reference."""

    comparable: bool = True
    words: str = ""  # what moved, in words and numbers; or why that is not known
    null_words: str = ""
    new_words: str = ""
    moved: float = 0.0  # in units of what is far enough
    emptied: float = 0.0  # likewise, by nulls
    wasserstein: float | None = None
    share_change: float | None = None
    psi: float = 0.0
    jensen_shannon: float = 0.0
    null_change: float = 0.0
    new_share: float | None = None
    p_value: float = 1.0
    null_p_value: float = 1.0
    tests: int = 0

    @property
    def effect(self) -> float:
        return max(self.moved, self.emptied)

    def far(self, level: float, effect: float) -> list[str]:
        """What is both far enough and significant, in words; nothing when the column fires not."""
        parts = [self.words] if self.moved >= effect and self.p_value < level else []
        return parts + ([self.null_words] if self.emptied >= effect and self.null_p_value < level else [])


def _distances(reference: Profile, batch: Profile, columns: Sequence[str]) -> dict[str, _Distance]:
    shared = [name for name in columns if name in reference.columns and name in batch.columns]
    return {name: _distance(reference.columns[name], batch.columns[name]) for name in shared}


def _level(distances: Mapping[str, _Distance], budget: float) -> float:
    """What each p-value must be below so that all of the tests together keep to the budget (Šidák)."""
    tests = sum(distance.tests for distance in distances.values())
    return -math.expm1(math.log1p(-budget) / tests) if tests else 0.0


def _distance(reference: ColumnProfile, batch: ColumnProfile) -> _Distance:
    if not reference.rows or not batch.rows:
        return _Distance(False, "no rows to compare")
    if isinstance(reference, NumberProfile) and isinstance(batch, NumberProfile):
        found = _numbers(reference, batch)
    elif isinstance(reference, CategoryProfile) and isinstance(batch, CategoryProfile):
        found = _categories(reference, batch)
    else:
        return _Distance(False, "its type changed; not comparable")
    before, after = reference.nulls / reference.rows, batch.nulls / batch.rows
    tested = 0 < reference.nulls + batch.nulls < reference.rows + batch.rows
    beside = {
        "null_words": f"nulls {before:.1%} -> {after:.1%}",
        "null_change": after - before,
        "emptied": float(_share_moved(np.array([before]), np.array([after]))[0]),
        "null_p_value": share_test(reference.nulls, reference.rows, batch.nulls, batch.rows),
        "tests": found.get("tests", 0) + tested,
    }
    return _Distance(**{**found, **beside})


def _numbers(reference: NumberProfile, batch: NumberProfile) -> dict:
    lower, upper, before, after = aligned(reference.sketch, batch.sketch)
    if not before.sum() or not after.sum():
        return {}
    values = lower / 2 + upper / 2
    distance = _wasserstein(values, before, after)
    deciles = _deciles(before, after)
    two = len(values) == 2  # a boolean, in effect
    moved = _share_moved(before / before.sum(), after / after.sum())[0] if two else distance / SPREAD
    return {
        "words": f"mean {reference.mean:.4g} -> {batch.mean:.4g}, {distance:.2f} of its spread",
        "moved": float(moved),
        "wasserstein": distance,
        "psi": _psi(*deciles),
        "jensen_shannon": _jensen_shannon(*deciles),
        "p_value": _number_test(before, after),
        "tests": int(len(values) > 1),
    }


def _number_test(before: np.ndarray, after: np.ndarray) -> float:
    """Whether values lie lower or higher, or are shared out differently over the quantiles of both together."""
    if len(before) == 2:
        return share_test(int(before[0]), int(before.sum()), int(after[0]), int(after.sum()))
    shares = homogeneity_test(*grouped(before, after, GROUPS))
    return sidak(min(rank_test(before, after), shares), 2)


def _wasserstein(values: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """Mean way that values have to go to make one sample the other, in units of the reference's spread.

    The spread is the standard deviation of a normal distribution that is as wide between its 5 % and 95 % quantiles:
    a few wild values must not make it infinite. Where those are one value, the next ones outward are taken, at
    last the standard deviation of both samples. Values count up to ten spreads beyond the quantiles.
    """
    share = np.cumsum(before) / before.sum()
    for tail, width in ((0.05, 3.29), (0.01, 4.65), (0.001, 6.18)):
        low, high = values[np.minimum(np.searchsorted(share, [tail, 1 - tail]), len(values) - 1)]
        if spread := float(high - low) / width:
            values = np.clip(values, low - 10 * spread, high + 10 * spread)
            break
    else:
        weights = (before / before.sum() + after / after.sum()) / 2
        with np.errstate(over="ignore"):
            spread = float(np.sqrt(weights @ (values - weights @ values) ** 2))
    if not spread:
        return 0.0
    gaps = np.abs(share - np.cumsum(after) / after.sum())[:-1]
    found = float(gaps @ (np.diff(values) / spread))
    return found if math.isfinite(found) else 0.0


def _deciles(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both in the reference's deciles, shape (at most _BINS,); heavy values make fewer."""
    share = np.cumsum(before) / before.sum()
    ends = np.unique(np.searchsorted(share, np.arange(1, _BINS) / _BINS - 1e-12))
    starts = np.unique(np.concatenate([[0], ends + 1]))
    starts = starts[starts < len(before)]
    return np.add.reduceat(before, starts), np.add.reduceat(after, starts)


def _categories(reference: CategoryProfile, batch: CategoryProfile) -> dict:
    present, rows = batch.rows - batch.nulls, reference.rows - reference.nulls
    if not present or not rows:
        return {}
    words, before, after = _cells(reference, batch)
    each = _share_moved(before / rows, after / present)
    most = int(np.argmax(each))
    groups = grouped(before, after)
    distance = _jensen_shannon(*groups)
    found = {
        "words": f"shares moved, Jensen-Shannon distance {distance:.2f}",
        "moved": max(float(each[most]), distance / DISTANCE),
        "share_change": float(after[most] / present - before[most] / rows),
        "psi": _psi(*groups),
        "jensen_shannon": distance,
        "p_value": _category_test(before, after, groups),
        "tests": int(len(before) > 1),
    }
    if words and each[most] >= distance / DISTANCE:
        name = words[most] if len(words[most]) <= 40 else f"{words[most][:40]}…"
        found["words"] = f"{name!r} {before[most] / rows:.1%} -> {after[most] / present:.1%} of the rows"
    if not reference.other and not batch.other:
        new = sum(n for word, n in batch.counts.items() if word not in reference.counts) / present
        found["new_share"] = new
        if new:
            found["new_words"] = f"{new:.1%} of the rows in categories never seen"
    return found


def _share_moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Changes of shares in units of what is far enough; a share's spread is that of being one of them or not."""
    middle, change = (before + after) / 2, np.abs(after - before)
    spread = np.sqrt(np.maximum(middle * (1 - middle), 1e-12))
    return np.minimum(change / spread / SPREAD, change / POINTS)


def _cells(
    reference: CategoryProfile, batch: CategoryProfile
) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """Words and counts of both, the most frequent first; or no words and counts of both by hash.

    Where a profile kept only its most frequent words, those were chosen by chance in part, and would seem to have
    become rarer. Counts by hash are of all words.
    """
    if not reference.other and not batch.other:
        both = {word: reference.counts.get(word, 0) for word in {*reference.counts, *batch.counts}}
        order = sorted(both, key=lambda word: (-both[word] - batch.counts.get(word, 0), word))
        before = np.array([reference.counts.get(word, 0) for word in order], dtype=float)
        return order, before, np.array([batch.counts.get(word, 0) for word in order], dtype=float)
    used = reference.buckets + batch.buckets > 0
    return (), reference.buckets[used].astype(float), batch.buckets[used].astype(float)


def _category_test(before: np.ndarray, after: np.ndarray, groups: tuple[np.ndarray, np.ndarray]) -> float:
    """Whether shares differ, be it one of them or many a little."""
    if len(before) == 2:
        return share_test(int(before[0]), int(before.sum()), int(after[0]), int(after.sum()))
    # A share that both samples together leave too small cannot have moved far enough.
    matters = before + after >= POINTS * min(before.sum(), after.sum())
    return sidak(min(homogeneity_test(*groups), cell_test(before, after, matters)), 2)


def _psi(before: np.ndarray, after: np.ndarray) -> float:
    """Population stability index, less its expectation when nothing moved.

    Yurdakul, Naranjo: Statistical properties of the population stability index, 2020.
    """
    used = before + after > 0
    n, m, k = before.sum(), after.sum(), int(used.sum())
    p = (before[used] + 0.5) / (n + 0.5 * k)
    q = (after[used] + 0.5) / (m + 0.5 * k)
    return max(0.0, float(np.sum((q - p) * np.log(q / p)) - (k - 1) * (1 / n + 1 / m)))


def _jensen_shannon(before: np.ndarray, after: np.ndarray) -> float:
    """Jensen-Shannon distance to base 2, from 0 to 1, less what sampling adds to its square."""
    used = before + after > 0
    n, m, k = before.sum(), after.sum(), int(used.sum())
    p, q = before[used] / n, after[used] / m
    middle = (p + q) / 2
    bits = sum(float(np.sum(x[x > 0] * np.log2(x[x > 0] / middle[x > 0]))) for x in (p, q)) / 2
    return math.sqrt(max(0.0, bits - (k - 1) * (1 / n + 1 / m) / (8 * math.log(2))))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def summary(report: DriftReport, most: int = 10) -> Mapping[str, object]:
    """The part of a report that is recorded and shown: verdict and the farthest columns."""
    return {
        "rows": report.rows,
        "reference_rows": report.reference_rows,
        "season_rows": report.season_rows,
        "budget": report.budget,
        "drifted": [column.column for column in report.drifted],
        "seasonal": [column.column for column in report.seasonal],
        "columns": [
            {
                "column": c.column,
                "kind": c.kind,
                "effect": c.effect,
                "psi": c.psi,
                "null_change": c.null_change,
                "fired": list(c.fired),
                "message": c.message,
            }
            for c in report.columns[:most]
        ],
    }


def told(report: DriftReport) -> dict[str, object]:
    """The report of a single column, for records."""
    (column,) = report.columns
    return {
        "rows": report.rows,
        "reference_rows": report.reference_rows,
        "effect": column.effect,
        "psi": column.psi,
        "p_value": column.p_value,
        "drifted": column.drifted,
        "message": column.message,
    }


def false_alarms_a_year(batches_a_year: float, budget: float = BUDGET) -> float:
    """How many batches a year are called drifted though nothing drifts, at most."""
    return batches_a_year * budget


def batches_a_year(uploads: Sequence[Upload]) -> float | None:
    """How many batches come, by the times that their data begins, or else that they were uploaded; None when unknown."""
    starts = sorted((upload.period or (upload.uploaded_at,))[0] for upload in uploads)
    if len(starts) < 2 or not starts[0]:
        return None
    span = times.moment(starts[-1]) - times.moment(starts[0])
    return (len(starts) - 1) * (YEAR / span) if span >= timedelta(hours=1) else None


def same_season(uploads: Sequence[Upload], batch_id: str, period: tuple[str, str]) -> list[Upload]:
    """Those of the uploads whose data lies in the batch's own period a year ago, give or take two weeks.

    None where the batch covers half a year or more: that has no season. Of many, every so-manieth.
    """
    start, end = map(times.moment, period)
    if end - start > YEAR / 2:
        return []
    low, high = start - YEAR - timedelta(days=SEASON_DAYS), end - YEAR + timedelta(days=SEASON_DAYS)
    found = []
    for upload in uploads:
        if not upload.period or upload.batch_id == batch_id:
            continue
        first, last = map(times.moment, upload.period)
        inside = min(last, high) - max(first, low)
        if inside >= (last - first) / 2 and inside >= timedelta(0):  # more in the season than out of it
            found.append(upload)
    step = math.ceil(len(found) / SEASON_PROFILES) or 1
    return found[::step]


def is_season(season: Profile, batch: Profile) -> bool:
    """Whether there are rows enough: from a few rows, nothing would differ significantly."""
    return season.rows >= min(batch.rows, SEASON_ROWS)
