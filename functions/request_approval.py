"""Asks a person whether a proved version may be promoted; the execution waits for the answer."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from refit.aws import keys, messages
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, utc_now
from refit.errors import ApprovalGiven, ApprovalRejected, ArtifactError, ChampionMoved
from refit.prose import counted, signed
from refit.records import Approval, ApprovalStatus

# What the event says: not the token, which is for the registry alone, and nothing of an answer.
TOLD = (
    "model",
    "run_id",
    "version",
    "champion",
    "reason",
    "challenger_score",
    "champion_score",
    "gain",
    "gain_low",
    "gain_high",
    "slices",
    "report_key",
    "expires_at",
)
SLICES = 5


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.run_message(event)
    logger.append_keys(model=message.model, run_id=message.run_id)
    asked = request(message, event, app)
    before = app.registry.approval(message.model, message.run_id)
    if before:  # this attempt is not the first, and only its own token still reaches the execution
        refuse_answered(before)
        asked = replace(asked, requested_at=before.requested_at, revision=before.revision)
    app.registry.save_approval(asked)
    told = {name: value for name, value in asdict(asked).items() if name in TOLD}
    app.bus.publish(Event.WAITING_FOR_APPROVAL, told)
    metrics.add_metric("ApprovalsRequested", "Count", 1)
    logger.info("waiting", extra={"version": asked.version, "expires_at": asked.expires_at})
    return told


def request(message: messages.RunMessage, event: Any, app: App) -> Approval:
    """What a person is shown; raises ChampionMoved when the comparison no longer holds."""
    proved, final = event["evaluation"], event["final"]
    champion = app.registry.champion(message.model)
    generation = champion.generation if champion else 0
    if generation != proved["generation"]:
        raise ChampionMoved(
            f"the champion of {message.model} is now of generation {generation}, no longer "
            f"{proved['generation']}; nobody is asked about a comparison with another champion"
        )
    version = app.registry.version(message.model, final["version"])
    if version is None:
        raise ArtifactError(f"{message.model} has no version {final['version']!r} to approve")
    verdict = app.store.get_json(keys.evaluation(message.model, message.run_id))
    return Approval(
        model=message.model,
        run_id=message.run_id,
        version=version.version,
        artifact_sha256=version.artifact_sha256,
        champion=champion.version if champion else "",
        generation=generation,
        reason=proved["reason"],
        challenger_score=verdict["challenger_score"],
        champion_score=verdict["champion_score"],
        gain=verdict["gain"],
        gain_low=verdict["gain_low"],
        gain_high=verdict["gain_high"],
        evaluation_key=proved["evaluation_key"],
        requested_at=utc_now(),
        expires_at=utc_now(later=final["approval_seconds"]),
        token=messages.task_token(event),
        report_key=event.get("report", {}).get("report_key", ""),
        slices=losing(verdict.get("slices", ())),
    )


def losing(slices: Any) -> tuple[str, ...]:
    """The slices on which the version is worse than the champion, the worst first."""
    found = sorted((each["gain"], each["name"], each["rows"]) for each in slices if (each["gain"] or 0) < 0)
    return tuple(f"{name} ({counted(rows, 'row')}): {signed(gain)}" for gain, name, rows in found[:SLICES])


def refuse_answered(before: Approval) -> None:
    """An answer to an earlier attempt counts, though its token reached nobody."""
    said = f"{before.answered_by}: {before.comment}"
    if before.status is ApprovalStatus.APPROVED:
        raise ApprovalGiven(f"{before.version} was approved by {said}")
    if before.status is ApprovalStatus.REJECTED:
        raise ApprovalRejected(f"{before.version} was rejected by {said}")
