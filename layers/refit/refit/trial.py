"""A run's steps without AWS: which candidates make sense, train one, judge them, refit the one that won.

The functions Train, Evaluate and Finalize call these, and `refit replay` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refit.evaluation import Evaluation, choose, evaluate, trivial_predictions
from refit.metrics import METRICS, score
from refit.models import ModelSpec
from refit.training import Blocks, Dataset, fit, frame_of_shard, predict


@dataclass(frozen=True)
class Model:
    """A fitted model and what has to be known of it to go on from it."""

    name: str  # of its version; empty for one that is not recorded
    candidate: str
    estimator: Any
    classes: tuple[str, ...]  # names, in the order of the estimator's classes_; none for regression
    features: tuple[dict[str, str], ...]  # name and type of each column it is shown
    threshold: float | None = None
    fingerprints: np.ndarray | None = None  # of the rows it was fitted on: sorted, each once
    parent: str = ""
    trained_rows: int = 0


@dataclass(frozen=True)
class Judgement:
    """Which candidate was chosen, by which scores on the selection block, and how its test came out."""

    chosen: str
    selection: dict[str, float]  # finite ones; empty with a single candidate
    evaluation: Evaluation


def applicable(spec: ModelSpec, rows: int, champion: Model | None) -> tuple[str, ...]:
    """The declared candidates that would differ on so many rows."""
    if rows <= spec.training.recent_rows and len(spec.training.candidates) > 1:
        return tuple(name for name in spec.training.candidates if name != "recent")
    return spec.training.candidates


def train(candidate: str, data: Dataset, blocks: Blocks, spec: ModelSpec, champion: Model | None) -> Model:
    """Fit a candidate on its part of the training block.

    Raises
    ------
    TrainingError, NotEnoughData
        When it cannot be fitted.
    """
    return _fitted(candidate, data, blocks.train, spec)


def judge(
    data: Dataset,
    blocks: Blocks,
    trained: Mapping[str, Model],
    champion: Model | None,
    spec: ModelSpec,
) -> Judgement:
    """Choose one of the trained candidates on the selection block and test it once against the champion."""

    def predictions(model: Model, index: np.ndarray) -> np.ndarray:
        # In the columns that this model knows: an imported champion, or one from before the contract
        # changed, knows others than the challenger.
        frame = frame_of_shard(data.rows.take(index), model.features)
        needs = METRICS[spec.gates.metric].needs
        return predict(model.estimator, frame, spec.task, needs, model.classes, data.classes)

    selection: dict[str, float] = {}
    if len(trained) > 1:
        truth = data.labels[blocks.selection]
        for name, model in trained.items():
            predicted = predictions(model, blocks.selection)
            selection[name] = score(spec.gates.metric, truth, predicted, len(data.classes))
    chosen = choose(selection, spec.training.candidates) or next(iter(trained))
    needs = METRICS[spec.gates.metric].needs
    n_classes = len(data.classes)
    evaluation = evaluate(
        data.labels[blocks.test],
        predictions(trained[chosen], blocks.test),
        predictions(champion, blocks.test) if champion else None,
        trivial_predictions(data.labels[blocks.train], len(blocks.test), spec.task, needs, n_classes),
        spec.task,
        spec.gates,
        n_classes=n_classes,
        seed=spec.training.seed,
    )
    finite = {name: value for name, value in selection.items() if np.isfinite(value)}
    return Judgement(chosen, finite, evaluation)


def refit(candidate: str, data: Dataset, spec: ModelSpec, champion: Model | None, tested: Model) -> Model:
    """Fit the candidate that won on everything, the test block included: the child that is promoted."""
    return _fitted(candidate, data, np.arange(len(data.labels)), spec, parent=tested.name)


def _fitted(candidate: str, data: Dataset, rows: np.ndarray, spec: ModelSpec, parent: str = "") -> Model:
    if candidate == "recent":
        rows = rows[-spec.training.recent_rows :]
    estimator = fit(data, rows, spec)
    known = getattr(estimator, "classes_", ()) if data.classes else ()
    return Model(
        name="",
        candidate=candidate,
        estimator=estimator,
        classes=tuple(data.classes[code] for code in known),
        features=tuple({"name": c.name, "type": c.type.value} for c in data.features),
        parent=parent,
        trained_rows=len(rows),
    )
