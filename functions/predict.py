"""Predicts with whatever the champion pointer names; a new champion that cannot be loaded is not used."""

from __future__ import annotations

from typing import Any

from refit.aws import messages, serving
from refit.aws.runtime import App, entrypoint, logger, metrics
from refit.errors import ArtifactError, UnknownModel
from refit.metrics import Task
from refit.models import get_model
from refit.records import Generation, Version
from refit.training import frame_of_records

MAX_RECORDS = 10_000

# The last good model of each name, kept while this environment lives.
_loaded: dict[tuple[str, str], tuple[Version, Any]] = {}


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    request = messages.predict_request(event)
    logger.append_keys(model=request.model)
    get_model(app.models, request.model)
    if len(request.records) > MAX_RECORDS:
        raise messages.BadMessage(
            f"{len(request.records)} records, at most {MAX_RECORDS} a call; send several calls"
        )
    champion = app.registry.champion(request.model)
    if champion is None:
        raise UnknownModel(f"{request.model} has no champion yet; drop data under incoming/{request.model}/")
    version, estimator = in_service(champion, app)
    answer = {"model": request.model, "version": version.version, "generation": champion.generation}
    if not request.records:
        return {**answer, "predictions": []}
    frame = frame_of_records(request.records, version.features)
    metrics.add_metric("Predictions", "Count", len(frame))
    if Task(version.task) is Task.REGRESSION:
        return {**answer, "predictions": [float(value) for value in estimator.predict(frame)]}
    proba = estimator.predict_proba(frame)
    names = version.classes
    return {
        **answer,
        "predictions": [names[i] for i in proba.argmax(axis=1)],
        "probabilities": [dict(zip(names, map(float, row), strict=True)) for row in proba],
    }


def in_service(champion: Generation, app: App) -> tuple[Version, Any]:
    """The champion, or the version before it when the champion cannot be loaded."""
    problem: ArtifactError | None = None
    for name in filter(None, (champion.version, champion.previous)):
        key = (champion.model, name)
        try:
            if key not in _loaded:
                version = serving.recorded(app.registry, champion.model, name)
                estimator = serving.load_version(app.store, version)
                for old in [k for k in _loaded if k[0] == champion.model]:
                    del _loaded[old]
                _loaded[key] = (version, estimator)
            return _loaded[key]
        except ArtifactError as error:
            logger.error("the champion cannot be loaded", extra={"version": name, "reason": str(error)})
            metrics.add_metric("ChampionsUnloadable", "Count", 1)
            problem = error
    raise problem or ArtifactError(f"{champion.model} has no version that loads")
