"""Is the challenger better? Measured on rows that neither model has seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refit.metrics import METRICS, Task, score
from refit.models import Gates

RESAMPLES = 300
TESTED_LOW = 0.01  # share of draws below `challenger_low`: what sampling alone may take off a score
TIME_BLOCKS = 40


@dataclass(frozen=True)
class Gate:
    """One condition of promotion and how it came out."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Evaluation:
    """The verdict on a challenger. Scores are of the model's metric, higher is better; None is undefined."""

    promote: bool
    metric: str
    test_rows: int
    challenger_score: float | None
    challenger_low: float | None
    champion_score: float | None
    baseline_score: float | None
    gain: float | None
    gain_low: float | None  # one-sided lower bound at gates.confidence
    gain_high: float | None
    gates: tuple[Gate, ...]

    @property
    def reason(self) -> str:
        """One sentence: what failed, or what proved the challenger."""
        failed = [gate.message for gate in self.gates if not gate.passed]
        proof = [gate.message for gate in self.gates if gate.name == "gain"]
        return "; ".join(failed or proof or [gate.message for gate in self.gates])


def evaluate(
    labels: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    baseline: np.ndarray,
    task: Task,
    gates: Gates,
    n_classes: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Compare predictions on the test block.

    Parameters
    ----------
    labels
        Truth in time order, shape (n,).
    challenger, champion, baseline
        Predictions as the metric needs them; champion is None for a first model.
    n_classes
        Number of classes for classification.
    """

    def measure(predicted: np.ndarray, index: np.ndarray | slice = slice(None)) -> float:
        return score(gates.metric, labels[index], predicted[index], n_classes)

    own, trivial = measure(challenger), measure(baseline)
    other = None if champion is None else measure(champion)
    found = [_test_rows(len(labels), gates), _defined("challenger", own, gates)]
    gain = low = high = own_low = None
    if math.isfinite(own):
        own_low = _quantile(_draws(measure, (challenger,), len(labels), seed), TESTED_LOW)
        if gates.min_score is not None:
            found.append(_min_score(own, gates))
        if math.isfinite(trivial):
            found.append(_baseline(own, trivial))
        if champion is not None and other is not None:
            found.append(_defined("champion", other, gates))
            if math.isfinite(other):
                gain = own - other
                gains = _draws(measure, (challenger, champion), len(labels), seed)
                low, high = _quantile(gains, 1 - gates.confidence), _quantile(gains, gates.confidence)
                found.append(_gain(gain, low, high, gates))
    return Evaluation(
        promote=all(gate.passed for gate in found),
        metric=gates.metric,
        test_rows=len(labels),
        challenger_score=_finite(own),
        challenger_low=_finite(own_low),
        champion_score=_finite(other),
        baseline_score=_finite(trivial),
        gain=gain,
        gain_low=_finite(low),
        gain_high=_finite(high),
        gates=tuple(found),
    )


def trivial_predictions(
    train_labels: np.ndarray, n: int, task: Task, needs: str, n_classes: int
) -> np.ndarray:
    """What a model that learned nothing would say of `n` rows: class shares, majority class or mean."""
    if task is Task.REGRESSION:
        return np.full(n, float(np.mean(train_labels)))
    shares = np.bincount(train_labels, minlength=n_classes) / len(train_labels)
    if needs == "label":
        return np.full(n, int(np.argmax(shares)))
    return np.full(n, shares[1]) if task is Task.BINARY else np.tile(shares, (n, 1))


def choose(scores: Mapping[str, float], order: Sequence[str]) -> str | None:
    """The candidate with the best finite score on the selection block; ties go to the first declared."""
    finite = [name for name in order if math.isfinite(scores.get(name, math.nan))]
    return max(finite, key=lambda name: (scores[name], -order.index(name)), default=None)


def _draws(
    measure: Callable[..., float], predictions: tuple[np.ndarray, ...], n: int, seed: int
) -> list[float]:
    """Scores of the first predictions, less those of the second if given, over a paired block bootstrap.

    Blocks of consecutive rows are drawn, so that rows which share a day or a
    storm stay together (Künsch: The jackknife and the bootstrap for general
    stationary observations, 1989). Draws on which a score is not defined are left out.
    """
    rng = np.random.default_rng(seed)
    blocks = np.array_split(np.arange(n), min(TIME_BLOCKS, n))
    draws = []
    for _ in range(RESAMPLES):
        index = np.concatenate([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))])
        first, *second = (measure(predicted, index) for predicted in predictions)
        draws.append(first - sum(second))
    return [draw for draw in draws if math.isfinite(draw)]


def _quantile(draws: list[float], share: float) -> float | None:
    """None when most draws lack a class: then nothing can be said."""
    return float(np.quantile(draws, share)) if len(draws) >= RESAMPLES // 2 else None


def gain_interval(
    measure: Callable[..., float],
    first: np.ndarray,
    second: np.ndarray,
    confidence: float,
    seed: int = 0,
) -> tuple[float | None, float | None]:
    """One-sided bounds of what the first predictions score above the second; None where nothing can be said.

    `measure(predictions, index)` scores those of the rows at `index`.
    """
    gains = _draws(measure, (first, second), len(first), seed)
    return _quantile(gains, 1 - confidence), _quantile(gains, confidence)


def quality_floor(
    tested: float | None, tested_low: float | None, tested_rows: int, rows: int
) -> float | None:
    """What sampling alone may make of a tested score on `rows` new rows; None when it was never tested.

    The spread seen on the test block, wider by the square root for fewer rows.
    More rows do not narrow it: batches differ by more than sampling.
    """
    if tested is None or tested_low is None or rows < 1:
        return None
    return tested - (tested - tested_low) * math.sqrt(max(1.0, tested_rows / rows))


def _test_rows(n: int, gates: Gates) -> Gate:
    return Gate("test_rows", n >= gates.min_test_rows, f"{n} test rows, {gates.min_test_rows} needed")


def _defined(who: str, value: float, gates: Gates) -> Gate:
    if math.isfinite(value):
        best = METRICS[gates.metric].best
        fine = value <= best
        return Gate(
            f"{who}_score", fine, f"{who} {gates.metric} {value:.4f}" + ("" if fine else f" is above {best}")
        )
    return Gate(
        f"{who}_score",
        False,
        f"{gates.metric} of the {who} is not defined on the test rows (one class only, or predictions not finite)",
    )


def _min_score(value: float, gates: Gates) -> Gate:
    assert gates.min_score is not None
    passed = value >= gates.min_score
    word = "reaches" if passed else "is below"
    return Gate("min_score", passed, f"{gates.metric} {value:.4f} {word} min_score {gates.min_score:g}")


def _baseline(value: float, trivial: float) -> Gate:
    passed = value > trivial
    return Gate(
        "baseline", passed, f"{'beats' if passed else 'does not beat'} the trivial baseline {trivial:.4f}"
    )


def _gain(gain: float, low: float | None, high: float | None, gates: Gates) -> Gate:
    if low is None or high is None:
        return Gate("gain", False, "the gain's interval is not defined: too many draws lack a class")
    passed = low > gates.margin
    text = f"gain {gain:+.4f}, {gates.confidence:.0%} sure of {low:+.4f}"
    return Gate("gain", passed, f"{text}, {'above' if passed else 'not above'} the margin {gates.margin:g}")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
