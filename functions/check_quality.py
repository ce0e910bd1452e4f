"""Lets the champion predict a new labelled batch before anyone learns from it, and publishes its metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from refit.aws import alarms, inputs, keys, messages, serving
from refit.aws.runtime import App, entrypoint, logger, refusing, utc_now
from refit.drift import DriftReport, compare, told
from refit.errors import ArtifactError, TrainingError
from refit.evaluation import quality_floor
from refit.metrics import METRICS, Task, score
from refit.models import ModelSpec, get_model
from refit.profile import from_json
from refit.records import Quality, Version
from refit.shard import Shard, load
from refit.training import PREDICTION, encode_labels, frame_of_shard, predict, prediction_profile

LOOK_BACK = 5  # generations


@entrypoint
@refusing
def handler(event: Any, app: App) -> dict[str, Any]:
    model, batch = messages.accepted_batch(event, app.settings.store_bucket)
    logger.append_keys(model=model, batch_id=batch)
    spec = get_model(app.models, model)
    name = unlearned_champion(model, batch, app)
    if name is None:
        return {"model": model, "batch_id": batch, "skipped": "no champion that has not learned from it"}
    version = app.registry.recorded(model, name)
    shard = load(app.store.get(keys.shard(model, batch)))
    value, rows, moved = None, shard.rows, None
    try:
        value, rows = champion_score(serving.load_version(app.store, version), version, shard, spec)
        note = "" if value is not None else "not defined: no labels, none that it knows, or one class only"
        moved = prediction_drift(version, shard, spec, app)
    except TrainingError as error:  # such as words that an encoder does not know
        note = f"{'not defined' if value is None else 'predictions not compared'}: {error}"
    tested = (version.tested_score, version.tested_low, version.tested_rows)
    floor = quality_floor(*tested, rows, _earlier(app.registry.qualities(model), version.version, batch))
    if moved:
        app.store.put_json_once(keys.prediction_drift(model, batch, version.version), asdict(moved))
    quality = Quality(
        model,
        batch,
        version.version,
        spec.gates.metric,
        value,
        rows,
        utc_now(),
        floor,
        note,
        told(moved) if moved else None,
    )
    app.registry.add_quality(quality)
    if value is not None:
        alarms.publish(app.cloudwatch, app.settings.stack, quality)
        logger.info("scored", extra={"metric": spec.gates.metric, "score": value, "rows": rows})
    return {"model": model, "batch_id": batch, "version": version.version, "score": value, "rows": rows}


def _earlier(qualities: Sequence[Quality], version: str, batch: str) -> list[tuple[float, int]]:
    """Scores and rows of the version on other batches, in the order in which they were made."""
    found = [each for each in qualities if each.version == version and each.batch_id != batch]
    scored = [(each.at, each.score, each.rows) for each in found if each.score is not None]
    return [(value, rows) for _, value, rows in sorted(scored)]


def unlearned_champion(model: str, batch: str, app: App) -> str | None:
    """The champion, or when it was faster to learn from the batch than this check to score it, one before it.

    A score on rows that a model learned from would flatter it.
    """
    champion = app.registry.champion(model)
    newest = champion.generation if champion else 0
    for number in range(newest, max(0, newest - LOOK_BACK), -1):
        generation = app.registry.generation(model, number)
        if generation is None or app.registry.recorded(model, generation.version).pruned_at:
            continue
        if batch not in inputs.learned_by(app.store, app.registry, model, generation.version):
            return generation.version
    return None


def prediction_drift(version: Version, shard: Shard, spec: ModelSpec, app: App) -> DriftReport | None:
    """Whether the batch, labels or not, is predicted otherwise than the block that the version was tested on.

    Both are predicted by its parent, the one that was tested: the champion itself has learned from that block, and a
    refit alone moves predictions. None for an imported champion, and for one from before predictions were kept.
    """
    tested = app.registry.version(spec.name, version.parent) if version.parent else None
    if tested is None or tested.pruned_at or not shard.rows:
        return None
    try:
        before = from_json(app.store.get_json(keys.predictions(spec.name, tested.version)))
    except ArtifactError:
        return None
    estimator, frame = serving.load_version(app.store, tested), frame_of_shard(shard, tested.features)
    now = prediction_profile(estimator, frame, spec.task, tested.classes)
    budget, effect = spec.triggers.drift_budget, spec.triggers.drift_effect
    return compare(before, now, [PREDICTION], budget=budget, effect=effect, kind="prediction")


def champion_score(
    estimator: Any, version: Version, shard: Shard, spec: ModelSpec
) -> tuple[float | None, int]:
    """Score on the labelled rows and their number; None where the metric is not defined."""
    if spec.contract.target not in shard.columns:  # a late event of a batch from before it was the target
        return None, 0
    labelled = shard.take(~shard.is_null(spec.contract.target))
    if not labelled.rows:
        return None, 0
    own = classes = version.classes
    if spec.task is Task.MULTICLASS:
        # A class that it has never seen has probability 0, as in a replay: whoever leaves such rows out flatters it.
        _, there = encode_labels(labelled, spec.contract.target, spec.task)
        classes = (*own, *(name for name in there if name not in own))
    labels, _ = encode_labels(labelled, spec.contract.target, spec.task, classes)
    known = labels >= 0 if own else labels == labels  # of a third class no metric of two knows what to say
    frame = frame_of_shard(labelled, version.features)
    predicted = predict(
        estimator, frame, spec.task, METRICS[spec.gates.metric].needs, own, classes, version.threshold
    )
    value = score(spec.gates.metric, labels[known], predicted[known], len(classes))
    return (value if math.isfinite(value) else None), labelled.rows
