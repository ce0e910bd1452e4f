"""Hyperparameter search: random, seeded, over splits in the order of time inside the training block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refit.errors import NotEnoughData, TrainingError
from refit.metrics import METRICS, score
from refit.models import ModelSpec, Search
from refit.training import Dataset, fit, predict

FOLDS = 3


def best(search: Search, data: Dataset, rows: np.ndarray, spec: ModelSpec) -> dict[str, Any]:
    """The parameters with the best mean score; the declared ones, an empty dict, take part and win ties.

    Each is fitted on the first 1, 2 and 3 quarters of the rows, and scored on the quarter after.

    Raises
    ------
    TrainingError
        When no parameters have a score.
    """
    tried = [{}, *(some(search, spec.training.seed + i) for i in range(search.iterations))]
    means, said = [], ""
    for parameters in tried:
        scores = []
        for quarter in range(1, FOLDS + 1):
            cut, end = len(rows) * quarter // (FOLDS + 1), len(rows) * (quarter + 1) // (FOLDS + 1)
            try:
                scores.append(_score(parameters, data, rows[:cut], rows[cut:end], spec))
            except (TrainingError, NotEnoughData) as error:
                said = str(error)
        defined = [value for value in scores if math.isfinite(value)]
        means.append(sum(defined) / len(defined) if defined else -math.inf)
    if max(means) == -math.inf:
        said = said or f"{spec.gates.metric} is not defined on any part of the training rows"
        raise TrainingError(f"the search found nothing: {said}")
    return tried[int(np.argmax(means))]


def some(search: Search, seed: int) -> dict[str, Any]:
    """Parameters drawn from the space."""
    rng = np.random.default_rng(seed)
    return {name: _drawn(choices, rng) for name, choices in sorted(search.space.items())}


def _drawn(choices: Any, rng: np.random.Generator) -> Any:
    if not isinstance(choices, Mapping):
        return choices[int(rng.integers(len(choices)))]
    low, high = choices["min"], choices["max"]
    if choices.get("log"):
        value = float(np.exp(rng.uniform(math.log(low), math.log(high))))
    else:
        value = float(rng.uniform(low, high))
    whole = choices.get("whole", isinstance(low, int) and isinstance(high, int))
    return round(value) if whole else min(max(value, low), high)


def _score(
    parameters: Mapping[str, Any], data: Dataset, learned: np.ndarray, judged: np.ndarray, spec: ModelSpec
) -> float:
    estimator = fit(data, learned, spec, parameters)
    own = tuple(data.classes[code] for code in estimator.classes_) if data.classes else ()
    needs = METRICS[spec.gates.metric].needs
    predicted = predict(estimator, data.frame(judged), spec.task, needs, own, data.classes)
    return score(spec.gates.metric, data.labels[judged], predicted, len(data.classes))
