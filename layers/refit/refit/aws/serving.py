"""Recorded versions as working models."""

from __future__ import annotations

from typing import Any

import numpy as np

from refit import artifact, rowprints
from refit.aws import keys
from refit.aws.runtime import App
from refit.aws.store import Store
from refit.errors import ArtifactError, ModelNotUsable
from refit.metrics import Task
from refit.records import Version
from refit.shard import Shard
from refit.training import frame_of_shard, predict
from refit.trial import Model

PROBE_ROWS = 50


def compared(app: App, model: str, champion: str) -> Version | None:
    """The record of the champion that a run compares with; None for a first model."""
    return app.registry.recorded(model, champion) if champion else None


def load_version(store: Store, version: Version) -> Any:
    """The estimator of a version, checked against the recorded hash and the allow-list."""
    if version.pruned_at:
        raise ArtifactError(
            f"{version.version}'s artifact was pruned on {version.pruned_at}; its record stays"
        )
    data = store.get(keys.artifact(version.model, version.artifact_sha256))
    return artifact.load(data, version.artifact_sha256)


def fitted(store: Store, version: Version) -> Model:
    """A version as the domain knows it."""
    return Model(
        name=version.version,
        candidate=version.candidate,
        estimator=load_version(store, version),
        classes=version.classes,
        features=version.features,
        threshold=version.threshold,
        fingerprints=fingerprints(store, version),
        parent=version.parent,
        base=version.base,
        trained_rows=version.trained_rows,
        parameters=version.parameters,
        megabytes=version.artifact_bytes / 1e6,
        recipe=version.recipe,
    )


def fingerprints(store: Store, version: Version | None) -> np.ndarray | None:
    """Of the rows that a version learned from; None where that was not kept."""
    if version is None or not version.fingerprints_key:
        return None
    return rowprints.load(store.get(keys.fingerprints(version.model, version.version)))


def probe(estimator: Any, version: Version, rows: Shard) -> None:
    """Load-and-predict: raises ModelNotUsable unless all predictions on some rows are finite."""
    task = Task(version.task)
    frame = frame_of_shard(rows.take(np.arange(min(PROBE_ROWS, rows.rows))), version.features)
    needs = "value" if task is Task.REGRESSION else "proba"
    try:
        predicted = predict(estimator, frame, task, needs, version.classes, version.classes)
    except Exception as error:
        raise ModelNotUsable(
            f"{version.version} does not predict: {type(error).__name__}: {error}"
        ) from error
    if not len(predicted) or not np.isfinite(predicted).all():
        raise ModelNotUsable(f"{version.version} predicts values that are not finite; it is not promoted")
