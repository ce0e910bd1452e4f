"""Moves the champion pointer by compare-and-set, after the new version has been loaded and has predicted."""

from __future__ import annotations

from typing import Any

from refit.aws import champions, inputs, keys, messages, runs, serving
from refit.aws.runtime import App, entrypoint, logger, metrics, utc_now
from refit.errors import NotApproved
from refit.models import ModelSpec, get_model
from refit.records import Approval, Change, Generation, Version
from refit.shard import load


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    proved = event["evaluation"]
    spec = get_model(app.models, message.model)
    version = app.registry.recorded(message.model, event["final"]["version"])
    frozen = inputs.read(app.store, message.inputs_key)
    approval = approved(spec, message.run_id, version, frozen.generation, app)
    told = f"; approved by {approval.answered_by}: {approval.comment}" if approval else ""
    rows = load(app.store.get(keys.shard(message.model, frozen.batches[-1].batch_id)))
    serving.probe(serving.load_version(app.store, version), version, rows)

    change = Generation(
        model=message.model,
        generation=frozen.generation + 1,
        version=version.version,
        previous=frozen.champion,
        change=Change.PROMOTION if frozen.generation else Change.FIRST,
        by=approval.answered_by if approval else "promote",
        reason=proved["reason"] + told,
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
        result=f"{version.version}: {change.reason}",
        challenger=proved["challenger"],
        challenger_score=proved["challenger_score"],
        champion_score=proved["champion_score"],
        baseline_score=proved.get("baseline_score"),
    )
    champions.settle(app, spec)
    metrics.add_metric("Promotions", "Count", 1)
    logger.info("promoted", extra={"version": version.version, "generation": change.generation})
    return champions.promoted(change)


def approved(spec: ModelSpec, run_id: str, version: Version, generation: int, app: App) -> Approval | None:
    """The approval of exactly this promotion, None where none is needed.

    The registry has the word, not that the state machine came here: its task
    can be ended by anyone who may send it a success.
    """
    found = app.registry.approval(spec.name, run_id)
    if found is None and not spec.approval_seconds:
        return None
    if found is None or not found.covers(version, generation):
        status = found.status if found else "never asked for"
        raise NotApproved(
            f"the approval of {version.version} ({version.artifact_sha256[:12]}) against generation "
            f"{generation} is {status}; start again with: refit retrain {spec.name} --force --reason WHY"
        )
    return found
