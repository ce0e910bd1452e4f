"""Would more data still help? The chosen candidate fitted on parts of its rows. For the report only: it chooses nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refit.errors import RefitError
from refit.evaluation import gain_interval
from refit.metrics import score
from refit.models import ModelSpec
from refit.prose import signed

PARTS = (4, 2)  # a quarter and a half of the rows
MOST_ROWS = 200_000  # of more, two more fits might take the time that the evaluation needs
LEAST_ROWS = 100  # a smaller part says nothing
MOST_SECONDS = 60.0  # a part that took longer is the last one


@dataclass(frozen=True)
class Point:
    """So many rows to learn from, and the score on the test block; None is undefined."""

    rows: int
    score: float | None


@dataclass(frozen=True)
class Curve:
    """Fewest rows first; a curve that was not measured has no points, and a message that says why.

    `gain` is what the last doubling of the rows brought, with one-sided bounds at gates.confidence.
    """

    metric: str
    points: tuple[Point, ...]
    message: str
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    base: str = ""  # the champion that each part went on from: only rows that are new to it are counted


def curve(
    learned_from: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    whole: np.ndarray,
    labels: np.ndarray,
    spec: ModelSpec,
    n_classes: int,
    clock: Callable[[], float] | None = None,
) -> Curve:
    """Fit on a quarter and on half of the rows and score both on the test block.

    The parts are drawn from all of the rows alike: of the newest quarter it could not be said whether their
    number or their age made the difference.

    Parameters
    ----------
    learned_from
        Fits the chosen candidate on the rows at the given positions; returns its predictions of the test block.
    rows
        Positions of all that it learned from, shape (n,).
    whole
        Predictions of the one that learned from all of them.
    labels
        Truth of the test block.
    n_classes
        Number of classes for classification.
    clock
        Gives seconds; without one no part is left out for the time it takes.
    """
    metric = spec.gates.metric
    if not spec.training.learning_curve:
        return Curve(metric, (), "not measured: training.learning_curve is false")
    if len(rows) > MOST_ROWS:
        return Curve(metric, (), f"not measured: {len(rows):,} rows, and it is measured up to {MOST_ROWS:,}")
    if len(rows) < LEAST_ROWS * PARTS[-1]:
        return Curve(
            metric,
            (),
            f"not measured: half of {len(rows):,} rows are fewer than {LEAST_ROWS}, too few to tell",
        )

    def measure(predicted: np.ndarray, index: np.ndarray | slice = slice(None)) -> float:
        return score(metric, labels[index], predicted[index], n_classes)

    drawn = np.random.default_rng(spec.training.seed).permutation(rows)
    points, half = [], None
    for part in PARTS:
        some = np.sort(drawn[: len(rows) // part])
        if len(some) < LEAST_ROWS:
            continue
        begun = clock() if clock else 0.0
        try:
            predicted = learned_from(some)
        except RefitError as error:
            return Curve(metric, (), f"not measured: on {len(some):,} of its rows: {error}")
        points.append(Point(len(some), _finite(measure(predicted))))
        half = predicted if part == PARTS[-1] else None
        if clock and clock() - begun > MOST_SECONDS:
            break
    points.append(Point(len(rows), _finite(measure(whole))))
    if half is None:
        return Curve(
            metric, tuple(points), "a part took over a minute to fit: half of the rows were not tried"
        )
    before, after = points[-2].score, points[-1].score
    if before is None or after is None:
        return Curve(metric, tuple(points), f"{metric} is not defined for all of them")
    low, high = gain_interval(measure, whole, half, spec.gates.confidence, spec.training.seed)
    told = _told(points[-2].rows, points[-1].rows, after - before, low, high)
    return Curve(metric, tuple(points), told, after - before, _finite(low), _finite(high))


def _told(fewer: int, more: int, gain: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{more:,} rows instead of {fewer:,}: {signed(gain)}, with no interval: too many draws lack a class"
    told = f"{more:,} rows instead of {fewer:,} brought {signed(gain)} (from {signed(low)} to {signed(high)})"
    if low > 0:
        return f"{told}: more data would still help"
    if high < 0:
        return f"{told}: more rows like these do not help; newer ones or other columns might"
    return f"{told}: no more than sampling explains; more rows like these would hardly help"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
