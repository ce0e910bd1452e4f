"""Closes a run that failed. The champion stays; the answer names the error for the state machine's end."""

from __future__ import annotations

from typing import Any

from refit.aws import messages, runs
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, utc_now
from refit.records import RunStatus


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    name, cause = messages.caught(event.get("error"))
    run = runs.close(
        app.registry, message.model, message.run_id, RunStatus.FAILED, utc_now(), result=f"{name}: {cause}"
    )
    if run.status is RunStatus.FAILED:  # what fails after a promotion does not undo it
        failed = {"model": message.model, "run_id": message.run_id, "error": name, "cause": cause}
        app.bus.publish(Event.RETRAINING_FAILED, failed)
        metrics.add_metric("RetrainingsFailed", "Count", 1)
    return {"error": name, "cause": cause}
