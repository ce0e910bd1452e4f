"""Closes a run that promotes nothing though nothing failed: not proved better, or a person's no. The champion stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refit.aws import messages, runs
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, utc_now
from refit.records import Approval, ApprovalStatus, RunStatus

# What becomes of a request for approval, unless it was rejected, by the error that ended the wait.
ENDED = {"ChampionMoved": ApprovalStatus.SUPERSEDED, "States.Timeout": ApprovalStatus.EXPIRED}


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    error, cause = messages.caught(event["error"]) if "error" in event else ("", "")
    # A champion that moved meanwhile takes the meaning from a comparison with it, if there was one.
    judged = {} if error == "ChampionMoved" else event["evaluation"]
    approval = app.registry.approval(message.model, message.run_id) if error else None
    if approval and error in ENDED and approval.status in (ApprovalStatus.WAITING, ApprovalStatus.APPROVED):
        approval = app.registry.save_approval(replace(approval, status=ENDED[error]))
    reason = words(approval) or cause or judged["reason"]
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
        baseline_score=judged.get("baseline_score"),
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


def words(approval: Approval | None) -> str:
    """What a request for approval came to; nothing where nobody was asked."""
    if approval is None:
        return ""
    if approval.status is ApprovalStatus.REJECTED:
        return f"rejected by {approval.answered_by}: {approval.comment}"
    if approval.status is ApprovalStatus.SUPERSEDED:
        return f"the champion changed while {approval.version} waited for approval"
    if approval.status is ApprovalStatus.EXPIRED:
        late = f"the answer of {approval.answered_by} came too late, " if approval.answered_by else ""
        return f"{late or 'nobody answered; '}{approval.version} waited until {approval.expires_at}"
    return ""
