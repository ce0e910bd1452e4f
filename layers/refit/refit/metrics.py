"""The metrics that decide, by scikit-learn's scorer names. Higher is better for all of them.

Only the table is here; scikit-learn is imported when a score is computed, so
that functions which fit nothing can read a model's declaration cheaply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Task(StrEnum):
    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


CLASSIFICATION = (Task.BINARY, Task.MULTICLASS)
ONLY_BINARY, ONLY_MULTICLASS, ONLY_REGRESSION = (Task.BINARY,), (Task.MULTICLASS,), (Task.REGRESSION,)


@dataclass(frozen=True)
class Metric:
    """`needs` is what the model must give: proba (n, classes), label (n,) or value (n,)."""

    tasks: tuple[Task, ...]
    needs: str
    best: float
    worst: float


METRICS = {
    "roc_auc": Metric(ONLY_BINARY, "proba", 1.0, 0.0),
    "average_precision": Metric(ONLY_BINARY, "proba", 1.0, 0.0),
    "neg_log_loss": Metric(CLASSIFICATION, "proba", 0.0, -math.inf),
    "neg_brier_score": Metric(ONLY_BINARY, "proba", 0.0, -1.0),
    "accuracy": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "balanced_accuracy": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "f1": Metric(ONLY_BINARY, "label", 1.0, 0.0),
    "f1_macro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "f1_weighted": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "f1_micro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "precision": Metric(ONLY_BINARY, "label", 1.0, 0.0),
    "precision_macro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "precision_micro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "precision_weighted": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "recall": Metric(ONLY_BINARY, "label", 1.0, 0.0),
    "recall_macro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "recall_micro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "recall_weighted": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "jaccard": Metric(ONLY_BINARY, "label", 1.0, 0.0),
    "jaccard_macro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "jaccard_micro": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "jaccard_weighted": Metric(CLASSIFICATION, "label", 1.0, 0.0),
    "matthews_corrcoef": Metric(CLASSIFICATION, "label", 1.0, -1.0),
    "roc_auc_ovr": Metric(ONLY_MULTICLASS, "proba", 1.0, 0.0),
    "roc_auc_ovo": Metric(ONLY_MULTICLASS, "proba", 1.0, 0.0),
    "roc_auc_ovr_weighted": Metric(ONLY_MULTICLASS, "proba", 1.0, 0.0),
    "roc_auc_ovo_weighted": Metric(ONLY_MULTICLASS, "proba", 1.0, 0.0),
    "r2": Metric(ONLY_REGRESSION, "value", 1.0, -math.inf),
    "explained_variance": Metric(ONLY_REGRESSION, "value", 1.0, -math.inf),
    "neg_mean_absolute_error": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_median_absolute_error": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_mean_squared_error": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_root_mean_squared_error": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_mean_absolute_percentage_error": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_mean_squared_log_error": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_root_mean_squared_log_error": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_mean_poisson_deviance": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "neg_mean_gamma_deviance": Metric(ONLY_REGRESSION, "value", 0.0, -math.inf),
    "d2_absolute_error_score": Metric(ONLY_REGRESSION, "value", 1.0, -math.inf),
}


def score(metric: str, truth: np.ndarray, predicted: np.ndarray, n_classes: int = 0) -> float:
    """Score predictions.

    Parameters
    ----------
    metric
        A name in `METRICS`.
    truth
        Labels, shape (n,): class codes 0..k-1 for classification, values for regression.
    predicted
        What `METRICS[metric].needs` says: class probabilities (n, k) or, for a
        binary task, the probability of class 1 (n,); class codes (n,); or values (n,).
    n_classes
        Number of classes of a classification, for metrics that need them all.

    Returns
    -------
    float
        NaN when the metric is not defined on these rows (one class only, for instance).
    """
    import numpy as np
    from sklearn import metrics as sk

    labels = np.arange(n_classes) if n_classes else np.unique(truth)
    if len(truth) == 0 or (METRICS[metric].needs != "value" and (truth == truth[0]).all()):
        return float("nan")  # one class alone proves nothing: who always says it would be perfect
    if metric in ("r2", "explained_variance", "d2_absolute_error_score") and np.ptp(truth) == 0:
        return float("nan")  # there is no variance to explain
    functions: dict[str, Callable[[], float]] = {
        "roc_auc": lambda: _auc(truth, predicted),
        "average_precision": lambda: sk.average_precision_score(truth, predicted),
        "neg_log_loss": lambda: -sk.log_loss(truth, predicted, labels=labels),
        "neg_brier_score": lambda: -sk.brier_score_loss(truth, predicted),
        "accuracy": lambda: np.mean(truth == predicted),
        "balanced_accuracy": lambda: np.mean([np.mean(predicted[truth == k] == k) for k in np.unique(truth)]),
        "matthews_corrcoef": lambda: sk.matthews_corrcoef(truth, predicted),
        "roc_auc_ovr": lambda: _auc_of_several(truth, predicted, labels, "ovr", "macro"),
        "roc_auc_ovo": lambda: _auc_of_several(truth, predicted, labels, "ovo", "macro"),
        "roc_auc_ovr_weighted": lambda: _auc_of_several(truth, predicted, labels, "ovr", "weighted"),
        "roc_auc_ovo_weighted": lambda: _auc_of_several(truth, predicted, labels, "ovo", "weighted"),
        "r2": lambda: sk.r2_score(truth, predicted),
        "explained_variance": lambda: sk.explained_variance_score(truth, predicted),
        "neg_mean_absolute_error": lambda: -sk.mean_absolute_error(truth, predicted),
        "neg_median_absolute_error": lambda: -sk.median_absolute_error(truth, predicted),
        "neg_mean_squared_error": lambda: -sk.mean_squared_error(truth, predicted),
        "neg_root_mean_squared_error": lambda: -sk.root_mean_squared_error(truth, predicted),
        "neg_mean_absolute_percentage_error": lambda: -sk.mean_absolute_percentage_error(truth, predicted),
        "neg_mean_squared_log_error": lambda: -sk.mean_squared_log_error(truth, predicted),
        "neg_root_mean_squared_log_error": lambda: -sk.root_mean_squared_log_error(truth, predicted),
        "neg_mean_poisson_deviance": lambda: -sk.mean_poisson_deviance(truth, predicted),
        "neg_mean_gamma_deviance": lambda: -sk.mean_gamma_deviance(truth, predicted),
        "d2_absolute_error_score": lambda: sk.d2_absolute_error_score(truth, predicted),
    }
    of_pairs = {
        "f1": sk.f1_score,
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "jaccard": sk.jaccard_score,
    }
    kind, _, average = metric.partition("_")
    if not np.all(np.isfinite(predicted)):
        return float("nan")
    try:
        with np.errstate(all="ignore"):  # what overflows is not finite, and refused as that
            if kind in of_pairs:
                how = average or "binary"
                return float(of_pairs[kind](truth, predicted, average=how, zero_division=0))
            return float(functions[metric]())
    except ValueError:  # a class that the labels do not have, a probability above 1
        return float("nan")


def _auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs of a positive and a negative that are in order, ties half, from the ranks.

    As scikit-learn's, several times faster: the bootstrap computes hundreds.
    """
    import numpy as np

    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[first, len(ordered)])
    mean_ranks = np.repeat(first + (counts + 1) / 2, counts)
    positive = truth[order] == 1
    n_positive = int(positive.sum())
    pairs = n_positive * (len(truth) - n_positive)
    return (mean_ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / pairs


def _auc_of_several(
    truth: np.ndarray, predicted: np.ndarray, labels: np.ndarray, way: str, average: str
) -> float:
    from sklearn import metrics as sk

    if len(set(truth.tolist())) < len(labels):
        return float("nan")
    return float(sk.roc_auc_score(truth, predicted, multi_class=way, average=average, labels=labels))
