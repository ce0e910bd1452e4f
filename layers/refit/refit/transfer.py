"""Learning that goes on from the champion: on its own parameters, or on top of its output."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.metrics import Task
from refit.training import last_step

if TYPE_CHECKING:
    import pandas as pd

DEEPEST = 3  # champions inside of each other; then a transfer begins anew
GROWTH = 0.3  # of the declared number of trees, added by each transfer
MOST = 4  # times the declared number of trees; then a transfer begins anew
CLIP = 1e-6  # of a probability before its logarithm


class WithChampion:
    """A model whose starting point is an earlier one's output.

    A classifier is given the champion's log-odds (log-probabilities of several
    classes) as inputs beside its own; a regression learns what to add to the champion's value.
    It holds nothing but fitted estimators and names, so that skops can write it.
    """

    def __init__(
        self, champion: Any, columns: Sequence[str], prepare: Any, last: Any, task: str, added: bool
    ) -> None:
        self.champion, self.columns = champion, list(columns)  # of the frame, which the champion is shown
        self.prepare, self.last = prepare, last  # earlier steps of the pipeline, if any, and what learns
        self.task, self.added = task, added

    @property
    def classes_(self) -> Any:
        return self.last.classes_

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        predicted = self.last.predict(self._shown(frame))
        return predicted + self.champion.predict(frame[self.columns]) if self.added else predicted

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return self.last.predict_proba(self._shown(frame))

    def _shown(self, frame: pd.DataFrame) -> Any:
        prepared = frame if self.prepare is None else self.prepare.transform(frame)
        if self.added:
            return prepared
        return beside(prepared, output(self.champion, frame[self.columns], self.task))


def starting_from(
    champion: Any,
    columns: Sequence[str],
    estimator: Any,
    frame: pd.DataFrame,
    labels: np.ndarray,
    task: Task,
    **fit: Any,
) -> WithChampion:
    """Fit an unfitted estimator or Pipeline on top of the champion's output.

    `columns` are those of the frame that the champion is shown; `fit` goes to the last step's fit.
    """
    prepare = None
    last = last_step(estimator)
    if hasattr(estimator, "steps") and len(estimator.steps) > 1:
        prepare = estimator[:-1]
        prepare.fit(frame, labels)
    # Trees approach a value in steps, which the champion's own trees have made already: only what is left
    # to learn is asked of them. A loss for positive values cannot learn what is left, which has both signs.
    added = task is Task.REGRESSION and getattr(last, "loss", "") in ("squared_error", "absolute_error")
    made = WithChampion(champion, columns, prepare, last, task.value, added)
    wanted = labels - champion.predict(frame[list(columns)]) if added else labels
    last.fit(made._shown(frame), wanted, **fit)
    return made


def output(champion: Any, frame: pd.DataFrame, task: str) -> np.ndarray:
    """The champion's raw prediction, shape (rows, k): log-odds, log-probabilities, or values."""
    if task == Task.REGRESSION:
        return np.asarray(champion.predict(frame), dtype=float)[:, None]
    proba = np.clip(np.asarray(champion.predict_proba(frame), dtype=float), CLIP, 1 - CLIP)
    logs = np.log(proba)
    return logs[:, 1:] - logs[:, :1] if proba.shape[1] == 2 else logs


def beside(prepared: Any, more: np.ndarray) -> Any:
    """Columns put to the right of a frame, a sparse matrix or an array."""
    if hasattr(prepared, "assign"):
        return prepared.assign(**{f"champion_output_{i}": more[:, i] for i in range(more.shape[1])})
    if hasattr(prepared, "tocsr"):
        from scipy import sparse

        return sparse.hstack([prepared, more]).tocsr()
    return np.hstack([np.asarray(prepared, dtype=float), more])


def depth(estimator: Any) -> int:
    """How many champions are inside of each other."""
    found = 0
    while isinstance(estimator, WithChampion):
        found, estimator = found + 1, estimator.champion
    return found


def grown(champion: Any, declared: Any) -> Any | None:
    """A copy of the champion that learns on when its last step is fitted; None where it cannot.

    Forests and gradient boosting get more trees, SGD and MLP start from their
    coefficients. Histogram gradient boosting cannot: it bins the new rows anew
    and reads its old trees by the new bins, so that its mean squared error rose
    from 0.14 to 1.04 where 0.005 was possible (benchmarks/warm_start.py).
    """
    from sklearn.linear_model import SGDClassifier, SGDRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    last, wanted = last_step(champion), last_step(declared)
    if type(last) is not type(wanted) or not hasattr(last, "warm_start"):
        return None
    goes_on = copy.deepcopy(champion)
    if hasattr(last, "n_estimators"):
        last_step(goes_on).set_params(n_estimators=last.n_estimators + _more_trees(wanted))
    elif not isinstance(last, SGDClassifier | SGDRegressor | MLPClassifier | MLPRegressor):
        return None
    return goes_on


def exhausted(champion: Any, declared: Any) -> bool:
    """Whether a transfer should begin anew, lest models grow for ever."""
    last, wanted = last_step(champion), last_step(declared)
    if type(last) is type(wanted) and hasattr(last, "n_estimators"):
        return last.n_estimators + _more_trees(wanted) > MOST * wanted.n_estimators
    return depth(champion) >= DEEPEST


def _more_trees(declared: Any) -> int:
    return max(1, round(GROWTH * declared.n_estimators))


def prepared(estimator: Any, frame: pd.DataFrame) -> Any:
    """What the last step of a fitted Pipeline is shown; the frame itself without earlier steps."""
    steps = hasattr(estimator, "steps") and len(estimator.steps) > 1
    return estimator[:-1].transform(frame) if steps else frame
