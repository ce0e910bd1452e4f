"""Closes a run whose challenger was not proved better. That is a success: the champion stays."""

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
    # With an error the champion moved meanwhile, and a comparison with it, if there was one, lost its meaning.
    judged = {} if "error" in event else event["evaluation"]
    reason = messages.caught(event["error"])[1] if "error" in event else judged["reason"]
    run = runs.close(
        app.registry,
        message.model,
        message.run_id,
        RunStatus.KEPT,
        utc_now(),
        result=reason,
        challenger=judged.get("challenger", ""),
        challenger_score=judged.get("challenger_score"),
        champion_score=judged.get("champion_score"),
    )
    announced = {
        "model": message.model,
        "run_id": message.run_id,
        "reason": reason,
        "champion": run.champion,
        "challenger_score": run.challenger_score,
        "champion_score": run.champion_score,
    }
    if run.status is RunStatus.KEPT:  # a run that ended otherwise meanwhile was told of as that
        app.bus.publish(Event.CHAMPION_KEPT, announced)
        metrics.add_metric("ChampionsKept", "Count", 1)
    return announced
