"""Moves the champion pointer by compare-and-set, after the new version has been loaded and has predicted."""

from __future__ import annotations

from typing import Any

from refit.aws import alarms, inputs, keys, messages, runs, serving
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, utc_now
from refit.models import get_model
from refit.records import Change, Generation
from refit.shard import load


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    proved = event["evaluation"]
    version = serving.recorded(app.registry, message.model, event["final"]["version"])
    frozen = inputs.read(app.store, message.inputs_key)
    rows = load(app.store.get(keys.shard(message.model, frozen.batches[-1].batch_id)))
    serving.probe(serving.load_version(app.store, version), version, rows)

    change = Generation(
        model=message.model,
        generation=frozen.generation + 1,
        version=version.version,
        previous=frozen.champion,
        change=Change.PROMOTION if frozen.generation else Change.FIRST,
        by="promote",
        reason=proved["reason"],
        at=utc_now(),
        run_id=message.run_id,
        score=proved["challenger_score"],
        champion_score=proved["champion_score"],
    )
    runs.promote(
        app.registry,
        change,
        message.run_id,
        change.at,
        result=f"{version.version}: {proved['reason']}",
        challenger=proved["challenger"],
        challenger_score=proved["challenger_score"],
        champion_score=proved["champion_score"],
    )
    alarms.follow(app.cloudwatch, app.settings.stack, app.registry, get_model(app.models, message.model))
    announced = {
        "model": message.model,
        "run_id": message.run_id,
        "version": version.version,
        "generation": change.generation,
        "previous": change.previous,
        "reason": proved["reason"],
        "challenger_score": proved["challenger_score"],
        "champion_score": proved["champion_score"],
    }
    app.bus.publish(Event.CHAMPION_PROMOTED, announced)
    metrics.add_metric("Promotions", "Count", 1)
    logger.info("promoted", extra={"version": version.version, "generation": change.generation})
    return announced
