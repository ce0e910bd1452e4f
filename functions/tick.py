"""The one scheduled rule: intervals that are due, knocks that waited, uploads and runs that no event told of."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from refit import times
from refit.aws import champions, intake, keys, runs
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, utc_now
from refit.batches import effective, inputs_digest, is_final, upload_id
from refit.models import ModelSpec
from refit.policy import Hold, Trigger, interval_due
from refit.records import Run, RunStatus, Slot, Tick

MOST_SWEPT = 500  # a tick; what is left is found by the next
LONGEST_TRY = timedelta(minutes=15)  # longer than ValidateFunction may take
SWEEP_AGAIN = timedelta(hours=6)  # longer than all tries of a message
GONE = ("ExecutionDoesNotExist", "ResourceNotFound")


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    found: dict[str, str] = {}
    failed: list[Exception] = []
    for spec in app.models.values():
        logger.append_keys(model=spec.name)
        try:
            found[spec.name] = look_after(spec, app)
        except Exception as error:  # the other models and the sweep have their turn first  # noqa: BLE001
            logger.error("could not be looked after", extra={"error": type(error).__name__})
            found[spec.name] = f"failed: {type(error).__name__}"
            failed.append(error)
    tick = Tick(utc_now(), found, sweep(app))
    app.registry.note_tick(tick)
    metrics.add_metric("UploadsSwept", "Count", tick.swept)
    if failed:
        raise failed[0]
    return asdict(tick)


def look_after(spec: ModelSpec, app: App) -> str:
    """What is to be done about a model now; returns it in words."""
    slot, said = app.registry.slot(spec.name), []
    if slot.running:
        said.append(look_after_run(app.registry.run(spec.name, slot.running), app))
    elif slot.hold and slot.hold["until"] > utc_now():
        said.append(str(Hold(**slot.hold)))
    elif slot.pending and slot.look_again_at > utc_now():
        said.append(f"waits until {slot.look_again_at}: {slot.pending['reason']}")
    elif slot.pending:
        said.append(_again(spec, slot, app))
    said += _due(spec, slot, app)
    champions.settle(app, spec)
    return "; ".join(said) or "skipped: nothing new"


def look_after_run(run: Run | None, app: App) -> str:
    """Start an execution whose start was lost; close a run whose execution ended without a word."""
    if run is None or run.status is not RunStatus.RUNNING:
        return "a run has just ended"
    arn = runs.execution_arn(app.settings.state_machine, run)
    try:
        status = app.sfn.describe_execution(executionArn=arn)["status"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in GONE:
            raise
        runs.start(app.sfn, app.settings.state_machine, run)
        return f"{run.run_id} started: its start was lost"
    if status == "RUNNING":
        return f"{run.run_id} runs"
    logger.warning("the end of a run was not told", extra={"run_id": run.run_id, "status": status})
    result = runs.without_verdict(run.model, status)
    found = app.registry.run(run.model, run.run_id)
    if found and found.status is RunStatus.RUNNING:
        # Told first: of a run that is closed no later tick would tell.
        failed = {"model": run.model, "run_id": run.run_id, "error": status, "cause": result}
        app.bus.publish(Event.RETRAINING_FAILED, failed)
    runs.close(app.registry, run.model, run.run_id, RunStatus.FAILED, utc_now(), result=result)
    return f"{run.run_id} closed: its end was not told"


def sweep(app: App) -> int:
    """Send uploads that have no final record to the intake queue; returns how many."""
    now = datetime.now(UTC)
    before, asked_again = now - timedelta(minutes=app.settings.sweep_minutes), times.text(now - SWEEP_AGAIN)
    bucket, swept = app.settings.data_bucket, 0
    final: dict[str, set[str]] = {}
    for page in app.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=keys.INCOMING):
        for found in page.get("Versions", []):
            model, _ = keys.model_of_incoming(found["Key"])
            if model not in final:
                uploads = app.registry.uploads(model)
                final[model] = {upload.upload_id for upload in uploads if is_final(upload, app.models)}
                intake.tell_of_parked(app, uploads, times.text(now - LONGEST_TRY))
            name = upload_id(bucket, found["Key"], found["VersionId"])
            if found["LastModified"] > before or name in final[model]:
                continue
            if app.registry.swept_since(name, asked_again):
                continue  # its message has its tries yet
            intake.send_again(app, found["Key"], found["VersionId"], "sweep")
            app.registry.note_swept(name, times.text(now))
            swept += 1
            if swept >= MOST_SWEPT:
                return swept
    return swept


def _again(spec: ModelSpec, slot: Slot, app: App) -> str:
    """A knock that waited for a run or a hold, when neither is left."""
    assert slot.pending is not None
    waited = slot.pending
    occasion = f"{slot.revision}-{waited['knock_id']}"  # the id may be long; what differs comes first
    return _ask(spec, Trigger.PENDING, waited["reason"], occasion, app, waited["force"])


def _due(spec: ModelSpec, slot: Slot, app: App) -> list[str]:
    """Ask when the interval is due; reads the uploads only of models that have an interval."""
    last = app.registry.run(spec.name, slot.last_run) if spec.triggers.every and slot.last_run else None
    if last is None:
        return []
    uploads = effective(app.registry.uploads(spec.name))
    due = interval_due(spec, uploads, last.started_at, last.data_until, utc_now())
    if due is None:
        return []
    # What was skipped for too few rows is asked again once there are others.
    occasion = f"{due}-{inputs_digest([upload.batch_id for upload in uploads], spec.digest)[:12]}"
    return [_ask(spec, Trigger.INTERVAL, f"every {spec.triggers.every}, due {due}", occasion, app)]


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
        "resumes": "",
    }
    app.bus.publish(Event.RETRAINING_REQUESTED, detail)
    return f"asked: {request_id}"
