"""The one scheduled rule: intervals that are due, knocks that waited, uploads and runs that no event told of."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from refit.aws import keys, runs
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, utc_now
from refit.batches import effective, is_final, upload_id
from refit.models import ModelSpec
from refit.policy import Trigger, interval_due
from refit.records import Run, RunStatus, Slot, Tick

MOST_SWEPT = 500  # a tick; what is left is found by the next
GONE = ("ExecutionDoesNotExist", "ResourceNotFound")


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    found: dict[str, str] = {}
    for spec in app.models.values():
        logger.append_keys(model=spec.name)
        slot = app.registry.slot(spec.name)
        found[spec.name] = "skipped: nothing new"
        if slot.running:
            found[spec.name] = f"{slot.running} runs"
            look_after_run(app.registry.run(spec.name, slot.running), app)
        elif slot.pending and not (slot.hold and slot.hold["until"] > utc_now()):
            found[spec.name] = _again(spec, slot, app)
        due = _due(spec, slot, app)
        if due:
            reason = f"every {spec.triggers.every}, due {due}"
            found[spec.name] = _ask(spec, Trigger.INTERVAL, reason, due, app)
    tick = Tick(utc_now(), found, sweep(app))
    app.registry.note_tick(tick)
    metrics.add_metric("UploadsSwept", "Count", tick.swept)
    return asdict(tick)


def look_after_run(run: Run | None, app: App) -> None:
    """Start an execution whose start was lost; close a run whose execution ended without a word."""
    if run is None or run.status is not RunStatus.RUNNING:
        return
    arn = runs.execution_arn(app.settings.state_machine, run)
    try:
        status = app.sfn.describe_execution(executionArn=arn)["status"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in GONE:
            raise
        runs.start(app.sfn, app.settings.state_machine, run)
        return
    if status != "RUNNING":
        logger.warning("the end of a run was not told", extra={"run_id": run.run_id, "status": status})
        result = runs.without_verdict(run.model, status)
        found = app.registry.run(run.model, run.run_id)
        if found and found.status is RunStatus.RUNNING:
            # Told first: of a run that is closed no later tick would tell.
            failed = {"model": run.model, "run_id": run.run_id, "error": status, "cause": result}
            app.bus.publish(Event.RETRAINING_FAILED, failed)
        runs.close(app.registry, run.model, run.run_id, RunStatus.FAILED, utc_now(), result=result)


def sweep(app: App) -> int:
    """Send uploads that have no final record to the intake queue; returns how many."""
    before = datetime.now(UTC) - timedelta(minutes=app.settings.sweep_minutes)
    bucket, swept = app.settings.data_bucket, 0
    final: dict[str, set[str]] = {}
    for page in app.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=keys.INCOMING):
        for found in page.get("Versions", []):
            model, _ = keys.model_of_incoming(found["Key"])
            if model not in final:
                uploads = app.registry.uploads(model)
                final[model] = {upload.upload_id for upload in uploads if is_final(upload, app.models)}
            name = upload_id(bucket, found["Key"], found["VersionId"])
            if found["LastModified"] > before or name in final[model]:
                continue
            _tell_of(bucket, found["Key"], found["VersionId"], app)
            swept += 1
            if swept >= MOST_SWEPT:
                return swept
    return swept


def _tell_of(bucket: str, key: str, version_id: str, app: App) -> None:
    """The event that was lost, in its own shape."""
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "version-id": version_id}, "reason": "sweep"}
    body = {"source": "refit", "detail-type": "Object Created", "time": utc_now(), "detail": detail}
    app.sqs.send_message(QueueUrl=app.settings.intake_queue, MessageBody=json.dumps(body))


def _again(spec: ModelSpec, slot: Slot, app: App) -> str:
    """A knock that waited for a run or a hold, when neither is left."""
    assert slot.pending is not None
    waited = slot.pending
    occasion = f"{slot.revision}-{waited['knock_id']}"  # the id may be long; what differs comes first
    return _ask(spec, Trigger.PENDING, waited["reason"], occasion, app, waited["force"])


def _due(spec: ModelSpec, slot: Slot, app: App) -> str | None:
    """When the interval was due; reads the uploads only of models that have an interval."""
    last = app.registry.run(spec.name, slot.last_run) if spec.triggers.every and slot.last_run else None
    if last is None:
        return None
    uploads = effective(app.registry.uploads(spec.name))
    return interval_due(spec, uploads, last.started_at, last.data_until, utc_now())


def _ask(spec: ModelSpec, trigger: Trigger, reason: str, occasion: str, app: App, force: bool = False) -> str:
    """Knock once for each occasion, however many ticks see it."""
    request_id = f"{trigger}-{occasion}"
    if app.registry.knock(spec.name, f"asked-{request_id}"[:86]):
        return f"asked before: {request_id}"
    detail = {
        "model": spec.name,
        "trigger": trigger,
        "reason": reason,
        "requested_by": "tick",
        "request_id": request_id,
        "force": force,
    }
    app.bus.publish(Event.RETRAINING_REQUESTED, detail)
    return f"asked: {request_id}"
