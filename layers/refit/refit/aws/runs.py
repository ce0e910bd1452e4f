"""Starting and closing runs. The only module that knows Step Functions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from refit.aws.registry import Registry
from refit.errors import BadMessage, ChampionMoved, Conflict
from refit.records import Generation, Run, RunStatus, Slot

ATTEMPTS = 8


def start(sfn: Any, state_machine: str, run: Run) -> None:
    """Start the execution of a recorded run; once, however often this is called."""
    message = {
        "model": run.model,
        "run_id": run.run_id,
        "inputs_key": run.inputs_key,
        "candidates": [{"name": name} for name in run.candidates],
    }
    try:
        sfn.start_execution(
            stateMachineArn=state_machine,
            name=execution_name(run.model, run.run_id),
            input=json.dumps(message, sort_keys=True),
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
            raise


def execution_name(model: str, run_id: str) -> str:
    """Unique in a state machine; at most 80 characters: 63 of a model's name and 13 of a run's id."""
    return f"{model}-{run_id}"


def execution_arn(state_machine: str, run: Run) -> str:
    """The ARN an execution has, whether it exists or not."""
    return f"{state_machine.replace(':stateMachine:', ':execution:')}:{execution_name(run.model, run.run_id)}"


def run_of_execution(name: str) -> tuple[str, str]:
    """Model and run id of an execution's name."""
    found = re.fullmatch(r"(.+)-(run-[0-9]{8,20})", name)
    if not found:
        raise BadMessage(f"{name[:100]!r} is not the name of an execution that Refit started")
    return found[1], found[2]


def freed(slot: Slot, run: Run) -> Slot:
    """The slot once `run` has ended; a pending knock stays for its turn."""
    if slot.running != run.run_id:
        return slot
    # Inputs that were never judged, because the champion moved meanwhile, may be tried again.
    judged = run.status is not RunStatus.KEPT or bool(run.challenger)
    return replace(
        slot,
        running="",
        last_run=run.run_id,
        last_digest=run.inputs_digest if judged else slot.last_digest,
    )


def without_verdict(model: str, status: str) -> str:
    """The result of a run whose execution could not close it."""
    # The inputs have had their run: only --force runs on them again.
    return f"the execution ended as {status} without a verdict; start again with: refit retrain {model} --force --reason WHY"


def close(registry: Registry, model: str, run_id: str, status: RunStatus, at: str, **result: Any) -> Run:
    """End a run and free its slot, once; a run that has ended is returned as it is.

    Raises
    ------
    BadMessage
        When there is no such run.
    Conflict
        When other writers kept winning.
    """
    for _ in range(ATTEMPTS):
        run = existing(registry, model, run_id)
        if run.status is not RunStatus.RUNNING:
            return run
        ended = replace(run, status=status, ended_at=at, **result)
        try:
            registry.close_run(ended, freed(registry.slot(model), ended))
            return ended
        except Conflict:
            continue
    raise Conflict(
        f"{model} {run_id} could not be closed: other writers kept winning; it will be tried again"
    )


def promote(registry: Registry, change: Generation, run_id: str, at: str, **result: Any) -> Run:
    """Move the champion and end the run that proved it, in one transaction.

    A repeated call after the first was applied changes nothing.

    Raises
    ------
    ChampionMoved
        When the champion is not the one the challenger was compared with.
    BadMessage
        When the run has ended otherwise: an execution that was aborted promotes nothing.
    """
    for _ in range(ATTEMPTS):
        run = existing(registry, change.model, run_id)
        if run.status is RunStatus.PROMOTED:
            return run
        if run.status is not RunStatus.RUNNING:
            raise BadMessage(f"{change.model} {run_id} has ended as {run.status} ({run.result})")
        ended = replace(run, status=RunStatus.PROMOTED, ended_at=at, **result)
        try:
            registry.move_champion(change, (ended, freed(registry.slot(change.model), ended)))
            return ended
        except ChampionMoved:
            run = existing(registry, change.model, run_id)
            if run.status is RunStatus.PROMOTED:  # it was this run that moved it, in another delivery
                return run
            raise
        except Conflict:
            continue
    raise Conflict(f"{change.model} {run_id}: other writers kept winning; it will be tried again")


def existing(registry: Registry, model: str, run_id: str) -> Run:
    """Raises BadMessage when there is no such run."""
    run = registry.run(model, run_id)
    if run is None:
        raise BadMessage(f"{model} has no {run_id}; runs are started by request_retraining only")
    return run
