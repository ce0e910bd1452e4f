"""Is the challenger better? Measured on rows that neither model has seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from refit.contract import ColumnType
from refit.metrics import METRICS, Task, score
from refit.models import Gates
from refit.prose import signed
from refit.records import TESTED_LOW
from refit.shard import Shard

RESAMPLES = 300
TIME_BLOCKS = 20  # rows that share their luck for longer than a block make the gain look surer than it is
MEMORY = 6  # batches that are looked back on
CALIBRATION_BINS = 10
LEAST_SLICE = 50  # rows
MOST_SLICES, MOST_VALUES = 100, 20  # in all, and of one category
QUARTERS = 4
SLICE_CONFIDENCE = (
    0.95  # at least: a slice that stops a promotion is proved worse, however little a gain has to be proved
)
DEFAULT_SLICE_MARGIN = 0.02  # of the metric's range, or of the champion's score where it has none
LIMITS = ("max_calibration_error", "max_megabytes", "max_latency_ms")
NO_LEAK = "no test row was learned from before"


@dataclass(frozen=True)
class Gate:
    """One condition of promotion and how it came out."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Slice:
    """Part of the test rows; scores are None where the metric is not defined on them."""

    name: str
    rows: int
    challenger_score: float | None
    champion_score: float | None
    gain: float | None
    gain_high: float | None  # upper bound, corrected for the number of slices; only where it may matter
    worse: bool  # proved to lose more than it may
    declared: bool


@dataclass(frozen=True)
class Part:
    """Which of the test rows make up a slice."""

    name: str
    mask: np.ndarray
    declared: bool


@dataclass(frozen=True)
class Evaluation:
    """The verdict on a challenger. Scores are of the model's metric, higher is better; None is undefined."""

    promote: bool
    metric: str
    test_rows: int
    challenger_score: float | None
    challenger_low: float | None
    champion_score: float | None
    baseline_score: float | None  # the best of the trivial ones
    gain: float | None
    gain_low: float | None  # one-sided lower bound at gates.confidence
    gain_high: float | None
    gates: tuple[Gate, ...]
    baselines: dict[str, float | None] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    calibration_error: float | None = None
    megabytes: float | None = None
    latency_ms: float | None = None
    refresh: bool = False  # the champion's own recipe on newer data: it may lose a little
    margin: float = 0.0  # what gain_low had to lie above; below 0 for a refresh

    @property
    def reason(self) -> str:
        """One sentence: what failed, or what proved the challenger; and what was left out of the test."""
        failed = [gate.message for gate in self.gates if not gate.passed]
        proof = [gate.message for gate in self.gates if gate.name == "gain"]
        leaks = [gate.message for gate in self.gates if gate.name == "leak" and gate.message != NO_LEAK]
        first = failed or proof or [g.message for g in self.gates if g.name not in ("leak", "measured")]
        return "; ".join([*first, *leaks])


def evaluate(
    labels: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    baselines: Mapping[str, np.ndarray],
    task: Task,
    gates: Gates,
    n_classes: int = 0,
    seed: int = 0,
    *,
    proba: np.ndarray | None = None,
    slices: Sequence[Part] = (),
    refresh: bool = False,
    megabytes: float | None = None,
    latency_ms: float | None = None,
    notes: Sequence[Gate] = (),
) -> Evaluation:
    """Compare predictions on the test block.

    Parameters
    ----------
    labels
        Truth in time order, shape (n,).
    challenger, champion
        Predictions as the metric needs them; champion is None for a first model.
    baselines
        Trivial predictions by name; the challenger has to beat the best of them.
    n_classes
        Number of classes for classification.
    proba
        The challenger's probabilities: of class 1 (n,), or of all classes (n, k).
    refresh
        Whether the challenger is the champion's own recipe on newer data; then it may lose what
        `gates.may_lose` says, where that is anything.
    megabytes, latency_ms
        Of the challenger, as far as measured.
    notes
        Gates that were judged elsewhere.
    """

    def measure(predicted: np.ndarray, index: np.ndarray | slice = slice(None)) -> float:
        return score(gates.metric, labels[index], predicted[index], n_classes)

    own = measure(challenger)
    trivial = {name: _finite(measure(predicted)) for name, predicted in baselines.items()}
    best = max((value for value in trivial.values() if value is not None), default=None)
    other = None if champion is None else measure(champion)
    why = _undefined(labels, challenger, task, n_classes)
    found = [*notes, _test_rows(len(labels), gates), _defined("challenger", own, gates, why)]
    if len(labels) > 1 and (challenger == challenger[0]).all():
        found.append(Gate("constant", False, "the challenger says the same of every test row"))
    gain = low = high = own_low = None
    lift = None if other is None or best is None or not math.isfinite(other) else other - best
    allowed = gates.may_lose(lift) if refresh else 0.0
    margin = -allowed if allowed else gates.margin
    parts: tuple[Slice, ...] = ()
    if math.isfinite(own):
        compared = [challenger] if champion is None else [challenger, champion]
        draws = _draws(measure, compared, len(labels), seed)
        own_low = _quantile(draws[:, 0], TESTED_LOW)
        if gates.min_score is not None:
            found.append(_min_score(own, gates))
        if best is not None:
            found.append(_baseline(own, {k: v for k, v in trivial.items() if v is not None}))
        if champion is not None and other is not None:
            found.append(_defined("champion", other, gates, _undefined(labels, champion, task, n_classes)))
            if math.isfinite(other):
                gain = own - other
                low, high = _bounds(gain, draws, gates.confidence, len(labels))
                found.append(_gain(gain, low, high, gates.confidence, margin))
                parts = _slices(
                    measure, challenger, champion, slices, gates, seed, _slice_margin(other, gates)
                )
                found += _no_slice_worse(parts)
    error = None if proba is None else calibration_error(labels, proba)
    found += _limits(
        {"calibration error": error, "megabytes": megabytes, "milliseconds a row": latency_ms}, gates
    )
    return Evaluation(
        promote=all(gate.passed for gate in found),
        metric=gates.metric,
        test_rows=len(labels),
        challenger_score=_finite(own),
        challenger_low=_finite(own_low),
        champion_score=_finite(other),
        baseline_score=best,
        gain=gain,
        gain_low=_finite(low),
        gain_high=_finite(high),
        gates=tuple(found),
        baselines=trivial,
        slices=parts,
        calibration_error=_finite(error),
        megabytes=megabytes,
        latency_ms=latency_ms,
        refresh=refresh,
        margin=margin,
    )


def trivial_predictions(
    train_labels: np.ndarray, n: int, task: Task, needs: str, n_classes: int
) -> dict[str, np.ndarray]:
    """What models that learned nothing would say of `n` rows: the shares of classes or the majority class,
    the mean and the median, and what the last label was."""
    last = train_labels[-1]
    if task is Task.REGRESSION:
        said = {"mean": np.mean(train_labels), "median": np.median(train_labels), "last label": last}
        return {name: np.full(n, float(value)) for name, value in said.items()}
    shares = np.bincount(train_labels, minlength=n_classes) / len(train_labels)
    if needs == "label":
        return {"majority class": np.full(n, int(np.argmax(shares))), "last label": np.full(n, int(last))}
    certain = np.eye(n_classes)[last]
    several = {"class shares": shares, "last label": certain}
    if task is Task.BINARY:
        return {name: np.full(n, each[1]) for name, each in several.items()}
    return {name: np.tile(each, (n, 1)) for name, each in several.items()}


def calibration_error(labels: np.ndarray, proba: np.ndarray) -> float | None:
    """Expected calibration error over ten bins of equally many rows; None when it is not defined.

    How far, on average, what was said is from what came true: of class 1, or
    of several classes the confidence in the likeliest (Naeini, Cooper, Hauskrecht:
    Obtaining well calibrated probabilities using Bayesian binning, 2015; bins by rank).
    """
    if not len(labels) or not np.isfinite(proba).all():
        return None
    said, true = (
        (proba, labels == 1) if proba.ndim == 1 else (proba.max(axis=1), proba.argmax(axis=1) == labels)
    )
    order = np.argsort(said, kind="stable")
    bins = np.array_split(order, min(CALIBRATION_BINS, len(order)))
    return float(sum(abs(said[each].mean() - true[each].mean()) * len(each) for each in bins) / len(order))


def slices_of(rows: Shard, columns: Sequence[str], gates: Gates) -> list[Part]:
    """Slices of test rows that are large enough to be judged: each value of a category or boolean, quarters of a
    number, and where a value is missing. Those of declared columns first, then of the other features."""
    least = max(LEAST_SLICE, gates.min_test_rows // 2)
    found: list[Part] = []
    for name in [*gates.slices, *(column for column in columns if column not in gates.slices)]:
        declared = name in gates.slices
        if len(found) >= MOST_SLICES:
            break
        parts = _parts(rows, name, least) if name in rows.columns else {}
        of_column = [Part(part, mask, declared) for part, mask in parts.items() if mask.sum() >= least]
        # One that holds all rows is the test itself.
        found += [part for part in of_column if part.mask.sum() < rows.rows]
    return found[:MOST_SLICES]


def _parts(rows: Shard, name: str, least: int) -> dict[str, np.ndarray]:
    values, empty = rows.columns[name], rows.is_null(name)
    parts = {f"{name} is missing": empty}
    if rows.types[name] is ColumnType.CATEGORY:
        codes, counts = np.unique(values[~empty], return_counts=True)
        words = rows.vocabularies[name]
        codes = codes[np.argsort(-counts, kind="stable")][: int((counts >= least).sum())]
        for code in codes[:MOST_VALUES]:
            parts[f"{name} = {words[code]}"] = values == code
        return parts
    distinct = np.unique(values[~empty])
    if len(distinct) <= QUARTERS:
        return parts | {f"{name} = {value:g}": values == value for value in distinct.tolist()}
    edges = np.unique(np.quantile(values[~empty], np.linspace(0, 1, QUARTERS + 1)))
    for low, high in pairwise(edges):
        last = high == edges[-1]
        inside = (values >= low) & ((values <= high) if last else (values < high))
        parts[f"{name} from {low:.4g} to {high:.4g}"] = inside & ~empty
    return parts


def _slices(
    measure: Callable[..., float],
    challenger: np.ndarray,
    champion: np.ndarray,
    parts: Sequence[Part],
    gates: Gates,
    seed: int,
    margin: float,
) -> tuple[Slice, ...]:
    """Scores of both on each slice. Only what lost more than it may is drawn again: no other can be proved worse."""
    scored = []
    for part in parts:
        index = np.flatnonzero(part.mask)
        scored.append((part, index, measure(challenger, index), measure(champion, index)))
    judged = sum(math.isfinite(own) and math.isfinite(other) for _, _, own, other in scored)
    found = []
    for part, index, own, other in scored:
        gain = own - other if math.isfinite(own) and math.isfinite(other) else None
        high, worse = None, False
        if gain is not None and gain < -margin:
            draws = _draws(
                lambda p, i, index=index: measure(p, index[i]), (challenger, champion), len(index), seed
            )
            gains = draws[:, 0] - draws[:, 1]
            gains = gains[np.isfinite(gains)]
            if len(gains) >= RESAMPLES // 2:
                # The tail that many slices ask for is thinner than 300 draws: a normal one of their spread.
                corrected = 1 - (1 - max(gates.confidence, SLICE_CONFIDENCE)) / judged
                bound = gain + NormalDist().inv_cdf(corrected) * float(np.std(gains))
                high = _widened(gain, bound, corrected, len(index)) or bound
                worse = high < -margin
        found.append(
            Slice(part.name, len(index), _finite(own), _finite(other), gain, high, worse, part.declared)
        )
    return tuple(found)


def _slice_margin(champion: float, gates: Gates) -> float:
    """What a slice may lose. By default a share of the champion's score on all rows: of its score on the slice, an
    easy slice of small errors could lose next to nothing, and would stop a model that is far better elsewhere."""
    if gates.slice_margin is not None:
        return gates.slice_margin
    return DEFAULT_SLICE_MARGIN * (1.0 if METRICS[gates.metric].best == 1 else abs(champion))


def _no_slice_worse(slices: Sequence[Slice]) -> list[Gate]:
    judged = [each for each in slices if each.gain is not None]
    if not judged:
        return []
    worse = [
        f"{each.name} ({each.rows} rows) gets worse by {-(each.gain or 0):.4f}, surely by {-(each.gain_high or 0):.4f}"
        for each in judged
        if each.worse
    ]
    return [
        Gate("slices", not worse, "; ".join(worse[:5]) or f"none of {len(judged)} slices is proved worse")
    ]


def _limits(measured: Mapping[str, float | None], gates: Gates) -> list[Gate]:
    limits = (gates.max_calibration_error, gates.max_megabytes, gates.max_latency_ms)
    found = []
    for (what, value), limit, name in zip(measured.items(), limits, LIMITS, strict=True):
        if limit is not None:
            told = "not measured" if value is None else f"{value:.4g}"
            found.append(
                Gate(name, value is not None and value <= limit, f"{what}: {told}, at most {limit:g} allowed")
            )
    return found


def choose(scores: Mapping[str, float], order: Sequence[str]) -> str | None:
    """The candidate with the best finite score on the selection block; ties go to the first declared."""
    finite = [name for name in order if math.isfinite(scores.get(name, math.nan))]
    return max(finite, key=lambda name: (scores[name], -order.index(name)), default=None)


def _draws(measure: Callable[..., float], predictions: Sequence[np.ndarray], n: int, seed: int) -> np.ndarray:
    """Scores of each of the predictions over a paired block bootstrap, shape (RESAMPLES, len(predictions)).

    Blocks of consecutive rows are drawn, so that rows which share a day or a
    storm stay together (Künsch: The jackknife and the bootstrap for general
    stationary observations, 1989). NaN where a score is not defined.
    """
    rng = np.random.default_rng(seed)
    blocks = np.array_split(np.arange(n), min(TIME_BLOCKS, n))
    draws = []
    for _ in range(RESAMPLES):
        index = np.concatenate([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))])
        draws.append([measure(predicted, index) for predicted in predictions])
    return np.array(draws)


def _quantile(draws: np.ndarray, share: float) -> float | None:
    """Of the draws that are defined; None when most lack a class: then nothing can be said."""
    defined = draws[np.isfinite(draws)]
    return float(np.quantile(defined, share)) if len(defined) >= RESAMPLES // 2 else None


def _widened(value: float, bound: float | None, confidence: float, n: int) -> float | None:
    """A bound as far from the value as so few blocks ask for: Student's t for the normal deviate, and the
    spread of a sample for that of its own draws. Without it 6 % are promoted by luck where 5 % are declared.
    """
    if bound is None or n < 2:
        return bound
    free = min(TIME_BLOCKS, n) - 1
    z = NormalDist().inv_cdf(confidence)
    # Student's t by the expansion of Cornish and Fisher.
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return value + (bound - value) * math.sqrt((free + 1) / free) * (t / z if z else 1.0)


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
    draws = _draws(measure, (first, second), len(first), seed)
    return _bounds(measure(first) - measure(second), draws, confidence, len(first))


def _bounds(gain: float, draws: np.ndarray, confidence: float, n: int) -> tuple[float | None, float | None]:
    """One-sided bounds of what the first of two scores more than the second; `draws` is of shape (m, 2)."""
    gains = draws[:, 0] - draws[:, 1]
    low, high = _quantile(gains, 1 - confidence), _quantile(gains, confidence)
    return _widened(gain, low, confidence, n), _widened(gain, high, confidence, n)


def quality_floor(
    tested: float | None,
    tested_low: float | None,
    tested_rows: int,
    rows: int,
    earlier: Sequence[tuple[float, int]] = (),
) -> float | None:
    """The lowest score on `rows` new rows that sampling alone explains; None when it was never tested.

    Both the tested score and the new one are samples, and their spreads add up. The batches scored before are
    remembered: the mean over the newest of them and this one must stay as near as so many rows together would.
    So a champion that is a little worse each month is found out although no month is far off, and how many
    batches the rows come in makes no difference. The spread is that of the test block; batches may differ by more.

    Parameters
    ----------
    earlier
        Scores and rows of the same model on the batches before, oldest first.
    """
    if tested is None or tested_low is None or rows < 1:
        return None
    spread = (tested - tested_low) * math.sqrt(tested_rows)  # of one row, at the level of TESTED_LOW
    floors, total, together = [], rows, 0.0
    for score_before, rows_before in [(0.0, 0), *reversed(earlier[-MEMORY:])]:
        total, together = total + rows_before, together + score_before * rows_before
        lowest = tested - spread * math.sqrt(1 / tested_rows + 1 / total)
        floors.append((lowest * total - together) / rows)
    return min(tested, max(floors))  # after bad batches too, a score as good as the tested one is good


def _test_rows(n: int, gates: Gates) -> Gate:
    return Gate("test_rows", n >= gates.min_test_rows, f"{n} test rows, {gates.min_test_rows} needed")


def _undefined(labels: np.ndarray, predicted: np.ndarray, task: Task, n_classes: int) -> str:
    """What of the rows or the predictions may leave a metric undefined."""
    if not len(labels):
        return "there are none"
    if not np.isfinite(predicted).all():
        return "predictions are not finite"
    if (labels == labels[0]).all():
        return "all labels are the same" if task is Task.REGRESSION else "one class only"
    if task is not Task.REGRESSION and (missing := n_classes - len(np.unique(labels))):
        return f"{missing} of {n_classes} classes are not among them"
    return "it does not suit these labels or predictions"


def _defined(who: str, value: float, gates: Gates, why: str) -> Gate:
    if math.isfinite(value):
        best = METRICS[gates.metric].best
        fine = value <= best
        return Gate(
            f"{who}_score", fine, f"{who} {gates.metric} {value:.4f}" + ("" if fine else f" is above {best}")
        )
    return Gate(
        f"{who}_score",
        False,
        f"{gates.metric} of the {who} is not defined on the test rows: {why}",
    )


def _min_score(value: float, gates: Gates) -> Gate:
    assert gates.min_score is not None
    passed = value >= gates.min_score
    word = "reaches" if passed else "is below"
    return Gate("min_score", passed, f"{gates.metric} {value:.4f} {word} min_score {gates.min_score:g}")


def _baseline(value: float, trivial: Mapping[str, float]) -> Gate:
    name = max(trivial, key=lambda each: trivial[each])
    passed = value > trivial[name]
    verb = "beats" if passed else "does not beat"
    return Gate("baseline", passed, f"{verb} the trivial baseline {trivial[name]:.4f} ({name})")


def _gain(gain: float, low: float | None, high: float | None, confidence: float, margin: float) -> Gate:
    if low is None or high is None:
        return Gate("gain", False, "the gain's interval is not defined: too many draws lack a class")
    text, passed = f"gain {signed(gain)}, {confidence:.0%} sure of {signed(low)}", low > margin
    if margin < 0:
        word = "no" if passed else "not surely no"
        return Gate("gain", passed, f"{text}, {word} loss beyond the {-margin:.4f} that a refresh may lose")
    return Gate("gain", passed, f"{text}, {'above' if passed else 'not above'} the margin {margin:g}")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
