"""The metrics that decide, by scikit-learn's scorer names. Higher is better for all of them.

Only the table is here; scikit-learn is imported when a score is computed, so
that functions which fit nothing can read a model's declaration cheaply.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Metric:
    """`needs` is what the model must give: proba (n, classes), label (n,) or value (n,)."""

    tasks: tuple[Task, ...]
    needs: str
    best: float


METRICS = {
    "roc_auc": Metric((Task.BINARY,), "proba", 1.0),
    "average_precision": Metric((Task.BINARY,), "proba", 1.0),
    "neg_log_loss": Metric(CLASSIFICATION, "proba", 0.0),
    "neg_brier_score": Metric((Task.BINARY,), "proba", 0.0),
    "accuracy": Metric(CLASSIFICATION, "label", 1.0),
    "balanced_accuracy": Metric(CLASSIFICATION, "label", 1.0),
    "f1": Metric((Task.BINARY,), "label", 1.0),
    "f1_macro": Metric(CLASSIFICATION, "label", 1.0),
    "roc_auc_ovr": Metric((Task.MULTICLASS,), "proba", 1.0),
    "r2": Metric((Task.REGRESSION,), "value", 1.0),
    "neg_mean_absolute_error": Metric((Task.REGRESSION,), "value", 0.0),
    "neg_root_mean_squared_error": Metric((Task.REGRESSION,), "value", 0.0),
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
    if len(truth) == 0 or (METRICS[metric].needs != "value" and len(np.unique(truth)) < 2):
        return float("nan")  # one class alone proves nothing: who always says it would be perfect
    functions: dict[str, Callable[[], float]] = {
        "roc_auc": lambda: sk.roc_auc_score(truth, predicted),
        "average_precision": lambda: sk.average_precision_score(truth, predicted),
        "neg_log_loss": lambda: -sk.log_loss(truth, predicted, labels=labels),
        "neg_brier_score": lambda: -sk.brier_score_loss(truth, predicted),
        "accuracy": lambda: sk.accuracy_score(truth, predicted),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(truth, predicted),
        "f1": lambda: sk.f1_score(truth, predicted, zero_division=0),
        "f1_macro": lambda: sk.f1_score(truth, predicted, average="macro", zero_division=0),
        "roc_auc_ovr": lambda: _auc_ovr(truth, predicted, labels),
        "r2": lambda: sk.r2_score(truth, predicted),
        "neg_mean_absolute_error": lambda: -sk.mean_absolute_error(truth, predicted),
        "neg_root_mean_squared_error": lambda: -sk.root_mean_squared_error(truth, predicted),
    }
    if not np.all(np.isfinite(predicted)):
        return float("nan")
    return float(functions[metric]())


def _auc_ovr(truth: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> float:
    from sklearn import metrics as sk

    if len(set(truth.tolist())) < len(labels):
        return float("nan")
    return float(sk.roc_auc_score(truth, predicted, multi_class="ovr", labels=labels))
