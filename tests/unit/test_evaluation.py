"""The verdict on a challenger: what promotes, and above all what never does."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from refit.contract import ColumnType
from refit.evaluation import Part, calibration_error, choose, evaluate, slices_of, trivial_predictions
from refit.metrics import Task
from refit.models import Gates
from refit.shard import Shard

N = 400
TRUTH = np.tile([0, 1], N // 2)
RIGHT = TRUTH.astype(float)
WRONG = 1 - RIGHT
HALF = np.full(N, 0.5)


def judge(challenger, champion=None, truth=TRUTH, metric="accuracy", baseline=None, n_classes=2, **gates):
    task = Task.REGRESSION if n_classes == 0 else Task.BINARY
    trivial = {"trivial": np.zeros(len(truth)) if baseline is None else baseline}
    return evaluate(
        truth,
        challenger,
        champion,
        trivial,
        task,
        Gates(metric, **{"confidence": 0.95, "min_test_rows": 200, **gates}),
        n_classes,
    )


def failed(found) -> list[str]:
    return [gate.name for gate in found.gates if not gate.passed]


def wrong_at(*positions: int) -> np.ndarray:
    predicted = TRUTH.copy()
    predicted[list(positions)] = 1 - predicted[list(positions)]
    return predicted


def test_a_better_challenger_is_promoted_with_its_numbers():
    found = judge(TRUTH, wrong_at(*range(2, N, 5)))  # every fifth row wrong, four in each block of 20
    assert found.promote
    assert (found.challenger_score, found.champion_score, found.baseline_score) == (1.0, 0.8, 0.5)
    assert (found.gain, found.test_rows) == (pytest.approx(0.2), N)
    assert "gain +0.2000, 95% sure of +0.2000, above the margin 0" in found.reason


def test_a_worse_challenger_is_kept_out_with_the_gain_it_lacks():
    found = judge(wrong_at(*range(2, N, 5)), TRUTH)
    assert failed(found) == ["gain"]
    assert found.gain == pytest.approx(-0.2)
    assert "gain -0.2000, 95% sure of -0.2000, not above the margin 0" in found.reason


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "neg_log_loss"])
def test_an_equal_model_is_not_promoted(metric):
    predicted = wrong_at(3, 50) if metric == "accuracy" else np.clip(RIGHT * 0.6 + 0.2, 0, 1)
    found = judge(predicted, predicted.copy(), metric=metric, baseline=HALF if metric != "accuracy" else None)
    assert not found.promote
    assert (found.gain, found.gain_low, found.gain_high) == (0.0, 0.0, 0.0)
    assert failed(found) == ["gain"]


def test_where_every_block_has_the_same_gain_the_interval_is_that_gain():
    """20 blocks of 20 rows, two mistakes of the champion in each: each draw gains 1 in 10."""
    found = judge(TRUTH, wrong_at(*range(5, N, 10)))
    assert found.gain == pytest.approx(0.1)
    assert found.gain_low == pytest.approx(0.1)
    assert found.gain_high == pytest.approx(0.1)


def test_a_gain_from_one_stretch_of_time_is_not_sure():
    """All 10 mistakes lie in one block of 20. A draw of 20 blocks misses it with (19/20)^20 = 36 %,
    so the lower bound at 95 % is no gain at all, widened for so few blocks by sqrt(20/19) times
    1.729/1.645 (Student's t): 1.0785 of the gain below it. Drawing rows one by one would have promoted."""
    found = judge(TRUTH, wrong_at(*range(100, 110)))
    assert found.gain == pytest.approx(10 / 400)
    assert found.gain_low == pytest.approx(10 / 400 * (1 - 1.0785), abs=1e-5)
    assert failed(found) == ["gain"]


def test_the_bound_follows_the_declared_confidence():
    """The same gain: half of the draws hold that block at least once, so the bound at 50 % is one block's."""
    found = judge(TRUTH, wrong_at(*range(100, 110)), confidence=0.5)
    assert found.gain_low == pytest.approx(10 / 400)
    assert found.promote


@pytest.mark.parametrize(("margin", "promote"), [(0.09, True), (0.11, False)])
def test_the_gain_must_exceed_the_margin(margin, promote):
    assert judge(TRUTH, wrong_at(*range(5, N, 10)), margin=margin).promote is promote


def test_the_same_seed_gives_the_same_bounds():
    rng = np.random.default_rng(0)
    a, b = rng.random(N), rng.random(N)
    one, two = (judge(a, b, metric="roc_auc", baseline=HALF) for _ in range(2))
    assert one == two
    assert one.gain_low < one.gain < one.gain_high


def test_noise_is_rarely_promoted():
    """20 pairs of equally good models: 5 % promoted in theory, at most 4 with 99.7 % (binomial)."""
    rng = np.random.default_rng(11)
    promoted = 0
    for seed in range(20):
        a, b = (np.where(rng.random(N) < 0.8, TRUTH, 1 - TRUTH) for _ in range(2))
        gates = Gates("accuracy")
        promoted += evaluate(TRUTH, a, b, {"none": np.zeros(N)}, Task.BINARY, gates, 2, seed=seed).promote
    assert promoted <= 4


# --- what never promotes


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_challenger_that_predicts_something_not_finite_never_promotes(bad):
    predicted = RIGHT.copy()
    predicted[7] = bad
    for champion in (None, HALF):
        found = judge(predicted, champion, metric="roc_auc", baseline=HALF)
        assert failed(found) == ["challenger_score"]
        assert found.challenger_score is None
        assert "not defined on the test rows" in found.reason


def test_a_champion_without_a_score_is_not_beaten():
    found = judge(RIGHT, np.full(N, np.nan), metric="roc_auc", baseline=HALF)
    assert failed(found) == ["champion_score"]
    assert (found.champion_score, found.gain) == (None, None)


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "f1", "balanced_accuracy", "neg_log_loss"])
@pytest.mark.parametrize("champion", [None, np.zeros(N)])
def test_test_rows_of_one_class_never_promote(metric, champion):
    """Always saying that class would score 1 against a champion that never does."""
    ones = np.ones(N, dtype=int)
    found = judge(ones, champion, truth=ones, metric=metric)
    assert not found.promote
    assert "challenger_score" in failed(found)
    assert found.challenger_score is None


@pytest.mark.parametrize(("metric", "n_classes"), [("accuracy", 2), ("roc_auc", 2), ("r2", 0)])
def test_an_empty_test_block_never_promotes(metric, n_classes):
    empty = np.array([], dtype=int)
    found = judge(empty, empty, truth=empty, metric=metric, baseline=empty, n_classes=n_classes)
    assert {"test_rows", "challenger_score"} <= set(failed(found))


@pytest.mark.parametrize(("rows", "promote"), [(199, False), (200, True)])
def test_too_few_test_rows_never_promote(rows, promote):
    found = judge(TRUTH[:rows], truth=TRUTH[:rows])
    assert found.promote is promote
    assert f"{rows} test rows, 200 needed" in [gate.message for gate in found.gates]


def test_draws_that_lack_a_rare_class_are_passed_over():
    """One positive in 400 rows: 64 % of the draws of 20 blocks hold its block, the others have no score."""
    truth = np.zeros(N, dtype=int)
    truth[0] = 1
    found = judge(truth.astype(float), 1.0 - truth, truth=truth, metric="roc_auc", baseline=HALF)
    assert (found.gain, found.gain_low, found.gain_high) == (1.0, 1.0, 1.0)


def test_classes_so_rare_that_most_draws_lack_one_leave_the_gain_undefined_and_never_promote():
    """Two classes with one row each, in different blocks: 1 - 2 (19/20)^20 + (18/20)^20 = 40 % hold both."""
    truth = np.zeros(N, dtype=int)
    truth[5], truth[205] = 1, 2
    proba, even = np.eye(3)[truth], np.full((N, 3), 1 / 3)
    gates = Gates("roc_auc_ovr")
    found = evaluate(truth, proba, even, {"even": even}, Task.MULTICLASS, gates, 3)
    assert failed(found) == ["gain"]
    assert (found.gain, found.gain_low) == (0.5, None)
    assert "the gain's interval is not defined" in found.reason


def test_a_score_below_the_absolute_minimum_never_promotes_and_decides_for_a_first_model():
    predicted = wrong_at(*range(0, N, 4))
    assert judge(predicted, min_score=0.75).promote, "reaching it is enough"
    found = judge(predicted, min_score=0.76)
    assert failed(found) == ["min_score"]
    assert found.reason == "accuracy 0.7500 is below min_score 0.76"
    assert failed(judge(predicted, 1 - TRUTH, min_score=0.76)) == ["min_score"], (
        "though it beats the champion"
    )


def test_what_does_not_beat_a_trivial_guess_is_no_model():
    found = judge(wrong_at(*range(0, N, 4), *range(1, N, 4)))
    assert failed(found) == ["baseline"]
    assert found.reason == "does not beat the trivial baseline 0.5000 (trivial)"


def test_a_challenger_that_always_says_the_same_is_named_as_that():
    assert failed(judge(np.zeros(N))) == ["constant", "baseline"]
    found = judge(np.ones(N), np.zeros(N), truth=np.arange(N) % 10 > 0)
    assert (found.gain, failed(found)) == (pytest.approx(0.8), ["constant"])
    assert found.reason == "the challenger says the same of every test row"


def test_a_first_model_needs_no_gain():
    found = judge(TRUTH)
    assert found.promote
    assert (found.champion_score, found.gain, found.gain_low) == (None, None, None)
    assert {gate.name for gate in found.gates} == {"test_rows", "challenger_score", "baseline"}


def test_regression_is_judged_alike():
    truth = np.arange(N, dtype=float)
    mean = np.full(N, truth.mean())
    found = judge(truth, truth + 2, truth=truth, metric="neg_mean_absolute_error", baseline=mean, n_classes=0)
    assert found.promote
    assert (found.challenger_score, found.champion_score, found.gain) == (0.0, -2.0, 2.0)
    assert found.baseline_score == -100.0  # |i - 199.5| over 0..399 has the mean 100


# --- baselines and the choice between candidates


def told(labels, needs, n_classes, task=Task.BINARY):
    """Trivial predictions of two rows."""
    found = trivial_predictions(np.array(labels), 2, task, needs, n_classes)
    return {name: values.tolist() for name, values in found.items()}


def test_trivial_guesses_are_shares_majority_mean_median_and_the_last_label():
    assert told([0, 0, 0, 1], "proba", 2) == {"class shares": [0.25, 0.25], "last label": [1, 1]}
    assert told([0, 0, 0, 1], "label", 2) == {"majority class": [0, 0], "last label": [1, 1]}
    shares = told([0, 2, 2, 2], "proba", 3, Task.MULTICLASS)
    assert shares == {"class shares": [[0.25, 0, 0.75]] * 2, "last label": [[0, 0, 1]] * 2}
    values = told([1.0, 1.0, 7.0], "value", 0, Task.REGRESSION)
    assert values == {"mean": [3, 3], "median": [1, 1], "last label": [7, 7]}


def test_the_best_of_the_trivial_guesses_has_to_be_beaten():
    """Right on seven of ten: better than the majority in the past, not than what the last label was."""
    predicted = wrong_at(*range(0, N, 10), *range(3, N, 10), *range(6, N, 10))
    trivial = {"majority class": np.zeros(N), "last label": wrong_at(*range(0, N, 5))}
    found = evaluate(TRUTH, predicted, None, trivial, Task.BINARY, Gates("accuracy"), 2)
    assert (found.baselines, found.baseline_score) == ({"majority class": 0.5, "last label": 0.8}, 0.8)
    assert found.reason == "does not beat the trivial baseline 0.8000 (last label)"


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({"full": 0.7, "recent": 0.8}, "recent"),
        ({"recent": 0.8, "full": 0.8}, "full"),
        ({"full": np.nan, "recent": 0.1}, "recent"),
        ({"full": np.inf, "recent": 0.1}, "recent"),
        ({"recent": -5.0}, "recent"),
        ({"full": np.nan}, None),
        ({}, None),
    ],
)
def test_the_best_finite_score_is_chosen_and_a_tie_goes_to_the_first_declared(scores, chosen):
    assert choose(scores, ("full", "recent")) == chosen


# --- what sampling alone may take off a score


def test_the_low_end_of_a_score_is_the_score_where_every_block_is_alike():
    """Every fifth row wrong: four in each block of twenty, so each draw scores 0.8 exactly."""
    assert judge(wrong_at(*range(2, N, 5))).challenger_low == pytest.approx(0.8)


def test_the_low_end_of_a_score_is_as_far_below_as_the_blocks_differ():
    """Half of the 20 blocks are right, half are wrong: a draw's mean has the deviation 0.5/sqrt(20) = 0.112,
    its first percentile lies 2.33 of them below 0.5: about 0.24."""
    wrong = [i for i in range(N) if (i // 20) % 2]
    found = judge(wrong_at(*wrong))
    assert found.challenger_score == 0.5
    assert found.challenger_low == pytest.approx(0.24, abs=0.06)


def test_the_low_end_does_not_depend_on_the_champion_and_is_the_same_again():
    noisy = wrong_at(*range(0, N, 3))
    assert judge(noisy).challenger_low == judge(noisy, TRUTH).challenger_low == judge(noisy).challenger_low


def test_without_a_score_there_is_no_low_end():
    assert judge(np.full(N, np.nan), metric="roc_auc", baseline=HALF).challenger_low is None


# --- slices, calibration, limits, refreshes

HALVES = np.arange(N) // 20 % 2 == 1  # every second block of 20 rows


def sliced(challenger, champion, parts, **gates):
    found = [Part(name, mask, False) for name, mask in parts.items()]
    trivial = {"none": np.zeros(N)}
    return evaluate(
        TRUTH, challenger, champion, trivial, Task.BINARY, Gates("accuracy", **gates), 2, slices=found
    )


def slices_told(found) -> dict[str, tuple]:
    return {each.name: (each.gain, each.worse) for each in found.slices}


def test_a_slice_that_surely_gets_worse_stops_a_challenger_that_is_better_on_the_whole():
    """On 160 rows all of the champion's mistakes are mended, on 40 each fourth row is newly wrong."""
    small = np.arange(N) % 10 == 4  # one row in ten, all of class 0
    small |= np.arange(N) % 10 == 5
    champion = wrong_at(*[i for i in range(N) if i % 10 in (0, 1, 2)])
    challenger = wrong_at(*[i for i in range(N) if small[i] and i % 20 in (4, 5)])
    found = sliced(challenger, champion, {"small": small, "rest": ~small})
    assert found.gain > 0.1
    assert slices_told(found) == {"small": (pytest.approx(-0.5), True), "rest": (pytest.approx(0.375), False)}
    assert failed(found) == ["slices"]
    assert found.reason.startswith("small (80 rows) gets worse by 0.5000, surely by ")
    assert sliced(challenger, champion, {"small": small}, slice_margin=0.6).promote


def test_what_a_slice_may_lose_is_measured_by_the_whole_where_a_metric_has_no_range():
    """An easy slice: half its small error more is nothing beside what the others gain."""
    easy, truth, zeros = np.arange(N) % 5 == 0, np.arange(N, dtype=float), {"none": np.zeros(N)}
    champion = truth + np.where(easy, 0.10, 10.0)  # 8.02 off on average: a slice may lose 0.16
    part = [Part("easy", easy, False)]
    for off, promote in ((0.15, True), (0.20, True), (0.30, False)):
        challenger = truth + np.where(easy, off, 1.0)
        gates = Gates("neg_mean_absolute_error")
        found = evaluate(truth, challenger, champion, zeros, Task.REGRESSION, gates, slices=part)
        assert (found.promote, found.slices[0].gain) == (promote, pytest.approx(0.10 - off))


@pytest.mark.parametrize(
    ("task", "metric", "labels", "predicted", "why"),
    [
        (Task.BINARY, "roc_auc", [], [], "there are none"),
        (Task.BINARY, "roc_auc", [1] * 200, [0.5] * 200, "one class only"),
        (Task.REGRESSION, "r2", [7.5] * 200, list(range(200)), "all labels are the same"),
        (Task.REGRESSION, "r2", list(range(200)), [np.nan] * 200, "predictions are not finite"),
        (Task.MULTICLASS, "roc_auc_ovr", [0, 1] * 100, [[0.5, 0.3, 0.2]] * 200, "1 of 3 classes are not among them"),
        (
            Task.REGRESSION,
            "neg_mean_squared_log_error",
            [-1.0, 2.0] * 100,
            [1.0, 2.0] * 100,
            "it does not suit these labels or predictions",
        ),
    ],
)  # fmt: skip
def test_a_metric_that_cannot_be_computed_says_why(task, metric, labels, predicted, why):
    n_classes = {Task.BINARY: 2, Task.MULTICLASS: 3}.get(task, 0)
    found = evaluate(np.array(labels), np.array(predicted), None, {}, task, Gates(metric), n_classes)
    assert not found.promote
    assert f"{metric} of the challenger is not defined on the test rows: {why}" in found.reason


def test_a_slice_that_may_be_worse_by_chance_stops_nobody():
    """Two blocks of the slice are worse, the others alike: the upper bound is above the margin."""
    champion = wrong_at(*range(5, N, 10))
    challenger = wrong_at(*range(20, 40, 2))
    found = sliced(challenger, champion, {"odd blocks": HALVES & (np.arange(N) < 200)})
    ((gain, worse),) = slices_told(found).values()
    assert gain == pytest.approx(0)
    assert not worse
    few = sliced(wrong_at(*range(20, 40), *range(60, 64)), champion, {"odd": HALVES & (np.arange(N) < 200)})
    assert few.slices[0].gain == pytest.approx(-0.14)
    assert few.slices[0].gain_high > -0.02
    assert not few.slices[0].worse


def test_the_more_slices_are_looked_at_the_surer_has_the_worse_one_to_be():
    rng = np.random.default_rng(3)
    champion = wrong_at(*np.flatnonzero(rng.random(N) < 0.2))
    challenger = wrong_at(*np.flatnonzero((rng.random(N) < 0.5) & HALVES))
    alone = sliced(challenger, champion, {"a": HALVES})
    among = sliced(
        challenger, champion, {"a": HALVES, **{str(i): np.arange(N) // 2 % 8 == i for i in range(8)}}
    )
    assert alone.slices[0].gain == among.slices[0].gain
    assert alone.slices[0].gain_high < among.slices[0].gain_high


def test_a_slice_of_one_class_has_no_score_and_is_told_of_as_that():
    found = sliced(TRUTH, wrong_at(*range(5, N, 10)), {"zeros": TRUTH == 0})
    assert (found.slices[0].rows, found.slices[0].gain, found.slices[0].worse) == (200, None, False)
    assert found.promote


def test_slices_are_values_quarters_and_what_is_missing_if_there_are_enough_rows():
    rng = np.random.default_rng(0)
    number = np.arange(N, dtype=float)
    number[:60] = np.nan
    columns = {
        "x": number,
        "city": np.repeat([0, 1, 2], [200, 180, 20]).astype(np.int32),
        "open": (rng.random(N) < 0.5).astype(float),
        "same": np.ones(N),
    }
    kinds = {"x": "number", "city": "category", "open": "boolean", "same": "integer"}
    rows = Shard(
        columns, {name: ColumnType(kind) for name, kind in kinds.items()}, {"city": ["Ulm", "Bonn", "Kiel"]}
    )
    gates = Gates("accuracy", min_test_rows=100, slices=("city",))
    found = {part.name: (int(part.mask.sum()), part.declared) for part in slices_of(rows, list(kinds), gates)}
    opened = int(columns["open"].sum())
    assert list(found)[:2] == ["city = Ulm", "city = Bonn"], "declared ones first; Kiel has too few rows"
    assert found == {
        "city = Ulm": (200, True),
        "city = Bonn": (180, True),
        "x is missing": (60, False),
        "x from 60 to 144.8": (85, False),
        "x from 144.8 to 229.5": (85, False),
        "x from 229.5 to 314.2": (85, False),
        "x from 314.2 to 399": (85, False),
        "open = 0": (N - opened, False),
        "open = 1": (opened, False),
    }


def test_the_calibration_error_is_how_far_what_was_said_is_from_what_came_true():
    """Ten bins of 40 rows. It says 0.2 of 200 rows of which 40 are true, and 0.9 of 200 of which 100 are: 0 and 0.4."""
    said = np.repeat([0.2, 0.9], 200)
    true = np.concatenate([np.arange(200) % 5 == 0, np.arange(200) % 2 == 0]).astype(int)
    assert calibration_error(true, said) == pytest.approx(0.2)
    assert calibration_error(true, np.stack([1 - said, said], axis=1)) == pytest.approx((0.0 + 0.4) / 2)
    assert calibration_error(true, np.full(N, np.nan)) is None
    assert calibration_error(true[:0], said[:0]) is None


@pytest.mark.parametrize(
    ("limit", "measured", "passes"),
    [
        ({"max_calibration_error": 0.4}, {"proba": np.where(TRUTH == 1, 0.65, 0.35)}, True),
        ({"max_calibration_error": 0.3}, {"proba": np.where(TRUTH == 1, 0.65, 0.35)}, False),
        ({"max_calibration_error": 0.3}, {"proba": np.full(N, np.nan)}, False),
        ({"max_megabytes": 2.0}, {"megabytes": 2.0}, True),
        ({"max_megabytes": 2.0}, {"megabytes": 2.1}, False),
        ({"max_latency_ms": 2.0}, {"latency_ms": 1.0}, True),
        ({"max_latency_ms": 2.0}, {"latency_ms": float("nan")}, False),
        ({"max_latency_ms": 2.0}, {}, False),
    ],
)
def test_limits_are_kept_and_what_was_not_measured_keeps_none(limit, measured, passes):
    gates = Gates("accuracy", **limit)
    found = evaluate(TRUTH, TRUTH, None, {"none": np.zeros(N)}, Task.BINARY, gates, 2, **measured)
    assert found.promote is passes
    assert failed(found) == ([] if passes else list(limit))


@pytest.mark.parametrize(("refresh", "promote"), [(True, True), (False, False)])
def test_a_refresh_may_lose_less_than_its_margin(refresh, promote):
    """Equally good: no gain, but surely no loss."""
    predicted = wrong_at(*range(5, N, 10))
    gates = Gates("accuracy", refresh_margin=0.01)
    trivial = {"none": np.zeros(N)}
    found = evaluate(TRUTH, predicted, predicted, trivial, Task.BINARY, gates, 2, refresh=refresh)
    assert found.promote is promote
    worse = evaluate(TRUTH, predicted, TRUTH, trivial, Task.BINARY, gates, 2, refresh=refresh)
    assert failed(worse) == ["gain"]


@pytest.mark.parametrize(
    ("wrong", "gates", "refresh", "promote"),
    [
        (2, {}, True, True),  # as good
        (3, {}, True, True),  # loses 0.05
        (4, {}, True, False),  # loses 0.10
        (3, {}, False, False),
        (3, {"margin": 0.01}, True, False),  # who asks for a gain asks it of all
        (2, {"refresh_margin": 0.0}, True, False),
        (3, {"refresh_margin": 0.04}, True, False),
        (3, {"refresh_margin": 0.06, "margin": 0.01}, True, True),  # declared for refreshes
    ],
)
def test_a_refresh_may_lose_a_fifth_of_what_the_champion_has_over_the_baseline(
    wrong, gates, refresh, promote
):
    """Two of 20 rows of each block are wrong: 0.9, where saying 0 always is right half of the time. A fifth of 0.4 is
    0.08. Every block has the same gain, so the interval is that gain."""
    blocks = range(0, N, 20)
    champion = wrong_at(*(at + i for at in blocks for i in range(2)))
    challenger = wrong_at(*(at + 5 + i for at in blocks for i in range(wrong)))
    trivial = {"none": np.zeros(N)}
    found = evaluate(
        TRUTH, challenger, champion, trivial, Task.BINARY, Gates("accuracy", **gates), 2, refresh=refresh
    )
    assert found.promote is promote, found.reason
    assert found.gain == pytest.approx(0.05 * (2 - wrong))
    assert failed(found) == ([] if promote else ["gain"])
    if refresh and not gates:
        assert found.margin == pytest.approx(-0.08)
        assert "loss beyond the 0.0800 that a refresh may lose" in found.reason


def test_a_refresh_of_a_champion_without_lift_has_to_gain():
    """Right half of the time, as who says 0 always: there is nothing that could be lost but what chance gave."""
    champion = wrong_at(*range(1, N, 4), *range(2, N, 4))
    found = evaluate(
        TRUTH,
        champion,
        champion,
        {"none": np.zeros(N)},
        Task.BINARY,
        Gates("accuracy"),
        2,
        refresh=True,
    )
    assert failed(found) == ["baseline", "gain"]
    assert found.margin == 0


# --- luck


@pytest.fixture(scope="module")
def luck():
    path = Path(__file__).parents[2] / "benchmarks/luck.py"
    spec = importlib.util.spec_from_file_location("luck", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_equal_candidates_are_promoted_no_more_often_than_declared(luck):
    """benchmarks/luck.py, shortened: of 60 runs with 4 equal candidates 5 % are 3; more than 8 come once in 300."""
    by_selection, by_test_rows = luck.shares("accuracy", luck.WORLDS[0], 4, 60, 11)
    assert by_selection * 60 <= 8
    assert by_test_rows > by_selection


def test_a_refresh_that_loses_what_it_may_not_is_promoted_no_more_often_than_declared(luck):
    """One that guesses on a fifth of the rows loses a fifth of the lift: as above, 3 of 60 are expected."""
    assert luck.share_refreshed("accuracy", luck.WORLDS[0], 0.2, 60, 11) * 60 <= 8
    assert luck.share_refreshed("accuracy", luck.WORLDS[0], 0.0, 20, 11) > 0.3
