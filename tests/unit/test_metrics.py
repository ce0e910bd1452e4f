"""Metrics against values derived by hand, and silence where they are not defined."""

import math

import numpy as np
import pytest

from refit.metrics import CLASSIFICATION, METRICS, Task, score

TRUTH = np.array([0, 0, 1, 1])
PROBA = np.array([0.1, 0.4, 0.35, 0.8])
LABEL = np.array([0, 1, 1, 1])
UNEVEN = np.array([1, 0, 1, 1])  # one row of class 0, which LABEL misses
SIDES = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [0.2, 0.4, 0.4]])
VALUES = np.array([1.0, 2.0, 3.0, 6.0])
GUESS = np.array([1.0, 2.0, 5.0, 5.0])


@pytest.mark.parametrize(
    ("metric", "truth", "predicted", "expected"),
    [
        # of the four pairs of a positive and a negative, .35 loses to .4: three quarters are in order
        ("roc_auc", TRUTH, PROBA, 3 / 4),
        # positives come first and third: precision 1/1 and 2/3, half of the recall each
        ("average_precision", TRUTH, PROBA, (1 + 2 / 3) / 2),
        ("neg_log_loss", TRUTH, np.full(4, 0.5), -math.log(2)),
        ("neg_brier_score", TRUTH, PROBA, -(0.1**2 + 0.4**2 + 0.65**2 + 0.2**2) / 4),
        ("accuracy", TRUTH, LABEL, 3 / 4),
        ("balanced_accuracy", TRUTH, LABEL, (1 / 2 + 1) / 2),
        # precision 2/3, recall 1
        ("f1", TRUTH, LABEL, 4 / 5),
        # of class 0: precision 1, recall 1/2
        ("f1_macro", TRUTH, LABEL, (2 / 3 + 4 / 5) / 2),
        # both classes have two rows, so the weights are equal
        ("f1_weighted", TRUTH, LABEL, (2 / 3 + 4 / 5) / 2),
        # three of four are right, and a wrong one is one too many of a class and one too few of the other
        ("f1_micro", TRUTH, LABEL, 3 / 4),
        ("precision", TRUTH, LABEL, 2 / 3),
        ("precision_macro", TRUTH, LABEL, (1 + 2 / 3) / 2),
        ("precision_micro", TRUTH, LABEL, 3 / 4),
        ("precision_weighted", UNEVEN, LABEL, (1 / 4) * 0 + (3 / 4) * (2 / 3)),
        ("recall", TRUTH, LABEL, 1.0),
        ("recall_macro", TRUTH, LABEL, (1 / 2 + 1) / 2),
        ("recall_micro", TRUTH, LABEL, 3 / 4),
        ("recall_weighted", UNEVEN, LABEL, (1 / 4) * 0 + (3 / 4) * (2 / 3)),
        # two rows are of class 1 and said to be, three are one or the other; of class 0 one and two
        ("jaccard", TRUTH, LABEL, 2 / 3),
        ("jaccard_macro", TRUTH, LABEL, (1 / 2 + 2 / 3) / 2),
        # 1 + 2 of 2 + 3
        ("jaccard_micro", TRUTH, LABEL, 3 / 5),
        # of class 1 two of four, of class 0 none
        ("jaccard_weighted", UNEVEN, LABEL, (3 / 4) * (2 / 4)),
        # (2 x 1 - 1 x 0) / sqrt(3 x 2 x 2 x 1)
        ("matthews_corrcoef", TRUTH, LABEL, 2 / math.sqrt(12)),
        ("roc_auc_ovo", np.array([0, 1, 2]), np.eye(3), 1.0),
        ("roc_auc_ovr", np.array([0, 1, 2]), np.eye(3), 1.0),
        # class 0 is told from the rest, of its two rows one half; 1 and 2 are not told apart, but from 0
        ("roc_auc_ovr_weighted", np.array([0, 0, 1, 2]), SIDES, (2 / 4) * 1 + (1 / 4) * (5 / 6) * 2),
        # pairs 0-1 and 0-2 in order, 1-2 not told apart; weights are what the classes of a pair hold: 3, 3 and 2
        ("roc_auc_ovo_weighted", np.array([0, 0, 1, 2]), SIDES, (3 * 1 + 3 * 1 + 2 * 0.5) / 8),
        # mean 3, total 4 + 1 + 0 + 9 = 14, residual 4 + 1 = 5
        ("r2", VALUES, GUESS, 1 - 5 / 14),
        # errors 0, 0, 2, -1 have the mean 1/4: variance (1 + 1 + 49 + 25) / 16 / 4 = 19/16, of 14/4
        ("explained_variance", VALUES, GUESS, 1 - (19 / 16) / (14 / 4)),
        ("neg_median_absolute_error", VALUES, GUESS, -1 / 2),
        ("neg_mean_squared_error", VALUES, GUESS, -5 / 4),
        # 0, 0, 2/3 and 1/6
        ("neg_mean_absolute_percentage_error", VALUES, GUESS, -(2 / 3 + 1 / 6) / 4),
        ("neg_mean_absolute_error", VALUES, GUESS, -3 / 4),
        # the median is 2.5: errors 1.5, .5, .5 and 3.5 are 6 together, and 3 are left
        ("d2_absolute_error_score", VALUES, GUESS, 1 - 3 / 6),
        # log(1 + truth) and log(1 + guess) differ by log(4 / 6) and log(7 / 6)
        ("neg_mean_squared_log_error", VALUES, GUESS, -(math.log(4 / 6) ** 2 + math.log(7 / 6) ** 2) / 4),
        (
            "neg_root_mean_squared_log_error",
            VALUES,
            GUESS,
            -math.sqrt((math.log(4 / 6) ** 2 + math.log(7 / 6) ** 2) / 4),
        ),
        # 2 (y log(y / g) - y + g): of 3 and 5, and of 6 and 5
        (
            "neg_mean_poisson_deviance",
            VALUES,
            GUESS,
            -2 * (3 * math.log(3 / 5) + 2 + 6 * math.log(6 / 5) - 1) / 4,
        ),
        # 2 (log(g / y) + y / g - 1)
        (
            "neg_mean_gamma_deviance",
            VALUES,
            GUESS,
            -2 * (math.log(5 / 3) + 3 / 5 - 1 + math.log(5 / 6) + 6 / 5 - 1) / 4,
        ),
        ("neg_root_mean_squared_error", VALUES, GUESS, -math.sqrt(5 / 4)),
    ],
)
def test_a_score_is_what_a_hand_computes(metric, truth, predicted, expected):
    n_classes = 0 if Task.REGRESSION in METRICS[metric].tasks else int(truth.max()) + 1
    assert score(metric, truth, predicted, n_classes) == pytest.approx(expected)


def test_every_metric_has_a_hand_derived_value_above():
    marks = test_a_score_is_what_a_hand_computes.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(METRICS)


@pytest.mark.parametrize("metric", [name for name, m in METRICS.items() if m.needs != "value"])
@pytest.mark.parametrize("which", [0, 1])
def test_on_one_class_alone_no_metric_of_a_classification_is_defined(metric, which):
    """Whoever always says that class would be perfect, and would be promoted."""
    task, needs = METRICS[metric].tasks[0], METRICS[metric].needs
    n_classes = 3 if task is Task.MULTICLASS else 2
    truth = np.full(5, which)
    predicted = truth if needs == "label" else np.full((5, 3), 1 / 3) if n_classes == 3 else np.full(5, 0.5)
    assert math.isnan(score(metric, truth, predicted, n_classes))


def test_one_class_of_three_missing_leaves_one_against_rest_undefined():
    assert math.isnan(score("roc_auc_ovr", np.array([0, 1, 0]), np.eye(3), 3))


def test_a_probability_metric_of_several_classes_knows_those_that_are_absent():
    """Half on the true class, whether or not the third class occurs."""
    proba = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    assert score("neg_log_loss", np.array([0, 1]), proba, 3) == pytest.approx(-math.log(2))


@pytest.mark.parametrize("metric", METRICS)
def test_no_rows_have_no_score(metric):
    assert math.isnan(score(metric, np.array([]), np.array([]), 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss", "r2", "neg_mean_absolute_error"])
def test_a_prediction_that_is_not_finite_has_no_score(metric, bad):
    assert math.isnan(score(metric, TRUTH, np.array([bad, 0.2, 0.7, 0.8]), 2))


def test_best_is_what_a_perfect_model_reaches():
    for name, metric in METRICS.items():
        if metric.needs == "value":
            truth = predicted = VALUES
        else:
            truth = np.array([0, 1, 2]) if metric.tasks == (Task.MULTICLASS,) else np.array([0, 1, 1])
            predicted = truth if metric.needs == "label" or len(set(truth)) == 2 else np.eye(3)
        n_classes = len(set(truth)) if metric.tasks[0] in CLASSIFICATION else 0
        assert score(name, truth, predicted, n_classes) == pytest.approx(metric.best), name


class Said:
    """An estimator that says what it was told to, in the form a scorer asks for."""

    _estimator_type = "classifier"

    def __init__(self, values, labels=None):
        self.values, self.labels, self.classes_ = values, labels, np.unique(labels)

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        kind = "regressor" if self.labels is None else "classifier"
        return Tags(kind, TargetTags(True), None, ClassifierTags(), RegressorTags())

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.values

    def predict_proba(self, X):
        return self.values


@pytest.mark.parametrize("name", METRICS)
def test_every_score_is_that_of_scikit_learns_scorer_of_that_name(name):
    """On noisy predictions with ties, of an uneven number of rows in each class."""
    from sklearn.metrics import get_scorer

    rng = np.random.default_rng(5)
    metric = METRICS[name]
    if metric.needs == "value":
        truth = np.abs(rng.normal(10, 3, 300)) + 0.1  # above 0, as logarithms want them
        said = np.abs(truth + rng.normal(0, 2, 300)) + 0.1
        assert score(name, truth, said) == pytest.approx(get_scorer(name)(Said(said), None, truth))
        return
    k = 3 if metric.tasks == (Task.MULTICLASS,) else 2
    truth = np.minimum(rng.integers(0, k + 2, 300), k - 1)
    proba = np.round(rng.dirichlet(np.ones(k), 300) + 0.5 * np.eye(k)[truth], 1) + 0.1
    proba /= proba.sum(axis=1, keepdims=True)
    labels = proba.argmax(axis=1)
    estimator = Said(labels if metric.needs == "label" else proba, truth)
    own = labels if metric.needs == "label" else proba[:, 1] if k == 2 else proba
    assert score(name, truth, own, k) == pytest.approx(get_scorer(name)(estimator, np.zeros((300, 1)), truth))


@pytest.mark.filterwarnings("error")
def test_an_overflow_is_no_warning_and_no_finite_score():
    assert not math.isfinite(score("neg_mean_squared_error", VALUES * 1e300, GUESS))


def test_a_prediction_of_a_class_that_does_not_exist_is_wrong_or_has_no_score():
    assert score("accuracy", TRUTH, np.array([0, -1, 1, 1]), 2) == 3 / 4
    assert math.isnan(score("f1", TRUTH, np.array([0, -1, 1, 1]), 2))
