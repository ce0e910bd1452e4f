"""Chooses a challenger on the selection block and tests it once against the champion on the newest block."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from refit import trial
from refit.aws import inputs, keys, messages, serving, training_data
from refit.aws.runtime import App, entrypoint, logger
from refit.errors import ChampionMoved, TrainingError
from refit.models import get_model
from refit.profile import to_json
from refit.training import frame_of_shard, prediction_profile, split


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    spec = get_model(app.models, message.model)
    frozen = inputs.read(app.store, message.inputs_key)
    champion = app.registry.champion(message.model)
    if (champion.generation if champion else 0) != frozen.generation:
        raise ChampionMoved(
            "the champion changed since the inputs were frozen; the next run compares with the new one"
        )

    base = serving.compared(app, message.model, frozen.champion)
    data = training_data.dataset(app.store, frozen, spec, serving.fingerprints(app.store, base))
    of_run = frozen.declared(spec)
    blocks = split(data, of_run, len(frozen.candidates))
    versions = {each["candidate"]: each["version"] for each in event["trained"] if "version" in each}
    if not versions:
        failures = "; ".join(
            f"{each['candidate']}: {messages.caught(each['error'])[1][:200]}" for each in event["trained"]
        )
        raise TrainingError(f"no candidate could be trained: {failures}")

    trained = {
        name: serving.fitted(app.store, app.registry.recorded(message.model, version))
        for name, version in versions.items()
    }
    before = serving.fitted(app.store, base) if base else None
    found = trial.judge(data, blocks, trained, before, of_run, clock=time.perf_counter)
    tested = trained[found.chosen]
    curve = trial.learning_curve(tested, data, blocks, before, of_run, clock=time.perf_counter)
    # What check_quality compares the predictions of later batches with.
    frame = frame_of_shard(data.rows.take(blocks.test), tested.features)
    shown = prediction_profile(tested.estimator, frame, spec.task, tested.classes)
    app.store.put_json_once(keys.predictions(message.model, tested.name), to_json(shown))
    key = keys.evaluation(message.model, message.run_id)
    document = {
        **asdict(found.evaluation),
        "reason": found.evaluation.reason[:1000],
        "chosen": found.chosen,
        "selection": found.selection,
        "rows": found.rows,
        "candidates": found.candidates,
        "learning_curve": asdict(curve),
        "trained": event["trained"],
        "champion": frozen.champion,
    }
    if not app.store.put_json_once(key, document):
        document = app.store.get_json(key)  # of an attempt before: a time that is measured again differs
    logger.info("evaluated", extra={"promote": document["promote"], "chosen": document["chosen"]})
    return {
        "promote": document["promote"],
        "reason": document["reason"],
        "candidate": document["chosen"],
        "challenger": versions[document["chosen"]],
        "challenger_score": document["challenger_score"],
        "challenger_low": document["challenger_low"],
        "champion_score": document["champion_score"],
        "baseline_score": document["baseline_score"],
        "test_rows": document["test_rows"],
        "generation": frozen.generation,
        "evaluation_key": key,
    }
