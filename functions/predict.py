"""Predicts with whatever the champion pointer names; a new champion that cannot be loaded is not used."""

from __future__ import annotations

from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from refit.aws import messages, serving
from refit.aws.runtime import App, entrypoint, logger, metrics
from refit.errors import ArtifactError, UnknownModel
from refit.metrics import Task
from refit.models import get_model
from refit.records import Version
from refit.training import frame_of_records, likeliest, said_by

MAX_RECORDS = 10_000


class Served(NamedTuple):
    """A generation in working order."""

    generation: int
    version: Version
    estimator: Any


# The last good model of each name, kept while this environment lives.
_served: dict[str, Served] = {}


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    request = messages.predict_request(event)
    logger.append_keys(model=request.model)
    get_model(app.models, request.model)
    if len(request.records) > MAX_RECORDS:
        raise messages.BadMessage(
            f"{len(request.records)} records, at most {MAX_RECORDS} a call; send several calls"
        )
    served = in_service(request.model, app)
    version, estimator = served.version, served.estimator
    answer = {"model": request.model, "version": version.version, "generation": served.generation}
    if not request.records:
        return {**answer, "predictions": []}
    frame = frame_of_records(request.records, version.features)
    metrics.add_metric("Predictions", "Count", len(frame))
    verb = "predict" if Task(version.task) is Task.REGRESSION else "predict_proba"
    # What it complains about may quote a record: said_by names the complaint without it.
    found = said_by(estimator, verb, lambda: getattr(estimator, verb)(frame))
    if verb == "predict":
        return {**answer, "predictions": [float(value) for value in found]}
    names = version.classes
    return {
        **answer,
        "predictions": [names[i] for i in likeliest(found, version.threshold)],
        "probabilities": [dict(zip(names, map(float, row), strict=True)) for row in found],
    }


def in_service(model: str, app: App) -> Served:
    """What the champion pointer names; when it cannot be read or loaded, the last good model."""
    try:
        champion = app.registry.champion(model)
    except (ClientError, BotoCoreError) as error:
        if model not in _served:
            raise
        return _last_good(model, f"the registry does not answer: {type(error).__name__}")
    if champion is None:
        raise UnknownModel(f"{model} has no champion yet; drop data under incoming/{model}/")
    known = _served.get(model)
    if known and (known.generation, known.version.version) == (champion.generation, champion.version):
        return known
    try:
        _served[model] = _load(model, champion.generation, champion.version, app)
    except (ArtifactError, ClientError, BotoCoreError) as error:
        if not known and not champion.previous:
            raise
        if not known:  # a new environment: the generation before this one served until now
            _served[model] = _load(model, champion.generation - 1, champion.previous, app)
        return _last_good(model, f"{champion.version} cannot be loaded: {error}")
    return _served[model]


def _load(model: str, generation: int, name: str, app: App) -> Served:
    version = app.registry.recorded(model, name)
    return Served(generation, version, serving.load_version(app.store, version))


def _last_good(model: str, reason: str) -> Served:
    served = _served[model]
    logger.error("the last good model serves", extra={"version": served.version.version, "reason": reason})
    metrics.add_metric("LastGoodServed", "Count", 1)
    return served
