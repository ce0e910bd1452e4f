"""The decision point: what to do about a knock, and why, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from refit import schedule
from refit.batches import Upload
from refit.models import ModelSpec


class Trigger(StrEnum):
    """Who knocks."""

    DATA = "data"  # a batch was accepted and its drift checked
    ALARM = "alarm"  # the quality metric fell, or an alarm that people named
    INTERVAL = "interval"
    ON_DEMAND = "on_demand"
    BACKFILL = "backfill"
    PENDING = "pending"  # a knock that waited gets its turn


class Answer(StrEnum):
    RETRAIN = "retrain"
    WAIT = "wait"
    SKIP = "skip"


@dataclass(frozen=True)
class Knock:
    """A wish for a retraining. `knock_id` is the same however often the wish is delivered."""

    knock_id: str
    model: str
    trigger: Trigger
    reason: str
    requested_by: str
    at: str
    force: bool = False
    drifted: tuple[str, ...] = ()  # messages of the columns that drifted
    batch_id: str = ""
    resumes: str = ""  # a failed run whose frozen inputs are to be run again


@dataclass(frozen=True)
class Resumed:
    """The run that a knock wants to resume, as it stands now."""

    run_id: str
    status: str
    same_champion: bool  # the one it was to be compared with
    same_model: bool  # model.toml and model.py are those of its inputs
    retracted: tuple[str, ...] = ()  # uploads among its inputs that were retracted since


@dataclass(frozen=True)
class Hold:
    """Retraining put off until a time, by a backfill or a person."""

    until: str
    reason: str
    by: str


@dataclass(frozen=True)
class State:
    """What a decision looks at."""

    inputs: Sequence[Upload]  # what would be learned from, oldest first
    inputs_digest: str
    champion: str | None  # version
    learned: frozenset[str]  # batch ids the champion learned from
    running: str | None = None  # run id
    pending: bool = False
    last_run: str | None = None
    last_digest: str = ""  # inputs of the last finished run
    hold: Hold | None = None
    resumes: Resumed | None = None
    left_out: tuple[str, ...] = ()  # accepted batches that the contract of today cannot use, in words


@dataclass(frozen=True)
class Decision:
    answer: Answer
    reasons: tuple[str, ...]
    look_again_at: str | None = None
    new_rows: int = field(default=0)


def decide(knock: Knock, state: State, spec: ModelSpec, now: str) -> Decision:
    """Answer a knock. Pure: the same knock, state and time give the same answer.

    `now` is ISO 8601 in UTC and orders as text.
    """
    fresh = [upload for upload in state.inputs if upload.batch_id not in state.learned]
    new_rows = sum(upload.rows for upload in fresh)

    def answer(which: Answer, *reasons: str, again: str | None = None) -> Decision:
        return Decision(which, (*reasons, *state.left_out), again, new_rows)

    if knock.trigger is Trigger.PENDING and not state.pending:
        return answer(Answer.SKIP, "nothing waits for its turn")
    if state.resumes:
        problem = _not_resumable(state.resumes, state, spec.name, now)
        return answer(
            Answer.SKIP if problem else Answer.RETRAIN,
            problem or f"{state.resumes.run_id} again on its own inputs: {knock.reason}",
        )
    if state.hold and state.hold.until > now:
        return answer(
            Answer.WAIT,
            f"on hold until {state.hold.until} by {state.hold.by}: {state.hold.reason}",
            again=state.hold.until,
        )
    if not state.inputs and state.left_out:
        return answer(Answer.SKIP, "no accepted batch can be learned from under the contract of today")
    if not state.inputs:
        return answer(Answer.SKIP, f"nothing accepted yet; drop files under incoming/{spec.name}/")
    if state.running:
        turn = "already pending" if state.pending else "pending"
        return answer(
            Answer.WAIT, f"{state.running} is running; {turn}, one run after it learns from all new data"
        )
    if state.inputs_digest == state.last_digest and not knock.force:
        return answer(
            Answer.SKIP,
            f"{state.last_run} already ran on exactly these inputs; add data, change the model, or use --force",
        )
    if new_rows == 0:
        return answer(
            Answer.SKIP, "every accepted row is known to the champion; nothing is left to compare models on"
        )
    needed = max(spec.triggers.min_new_rows, 1)
    if new_rows < needed and not knock.force:
        return answer(
            Answer.SKIP,
            f"{new_rows} new rows, {needed} are needed to prove a gain: {needed - new_rows} are missing",
        )
    if state.champion is None:
        return answer(Answer.RETRAIN, f"no champion yet and {new_rows} rows to learn from")
    if knock.trigger in (Trigger.ON_DEMAND, Trigger.BACKFILL):
        return answer(
            Answer.RETRAIN, f"asked by {knock.requested_by}: {knock.reason}", f"{new_rows} new rows"
        )
    reasons = []
    if knock.drifted and spec.triggers.drift:
        reasons.append(f"drift in {len(knock.drifted)} columns: " + "; ".join(knock.drifted[:3]))
    if spec.triggers.new_rows and new_rows >= spec.triggers.new_rows:
        reasons.append(f"{new_rows} new rows reach the {spec.triggers.new_rows} that start a retraining")
    if knock.trigger in (Trigger.ALARM, Trigger.INTERVAL):
        reasons.append(knock.reason)
    if knock.trigger is Trigger.PENDING:
        reasons.append(f"pending since {knock.at}: {knock.reason}")
    if reasons:
        return answer(Answer.RETRAIN, *reasons, f"{new_rows} new rows")
    quiet = "drift does not start a retraining of this model" if knock.drifted else "no column drifted"
    missing = (
        f"{new_rows} new rows of the {spec.triggers.new_rows} that start a retraining"
        if spec.triggers.new_rows
        else f"{new_rows} new rows do not start one by themselves"
    )
    return answer(Answer.SKIP, quiet, missing)


def _not_resumable(run: Resumed, state: State, model: str, now: str) -> str:
    # It does not wait for its turn: the one place for that is for what learns from all new data.
    if state.hold and state.hold.until > now:
        return f"on hold by {state.hold.by}: {state.hold.reason}; resume {run.run_id} after: refit resume {model}"
    if state.running:
        return f"{state.running} is running; resume {run.run_id} when it has ended"
    if run.status != "failed":
        return f"{run.run_id} has ended as {run.status}; only a failed run is resumed"
    instead = f"; instead: refit retrain {model} --force --reason WHY"
    if not run.same_champion:
        return f"the champion that {run.run_id} was to be compared with serves no more{instead}"
    if not run.same_model:
        return f"model.toml or model.py changed since {run.run_id} started{instead}"
    if run.retracted:
        return f"{', '.join(run.retracted[:3])} was retracted since {run.run_id} started{instead}"
    return ""


def interval_due(
    spec: ModelSpec, inputs: Sequence[Upload], last_start: str, last_data: str, now: str
) -> str | None:
    """The moment at which the model's interval was due and not yet served; None when it was not.

    Where the model has a time column, N hours or days are of the data's time:
    a month that arrives in a minute is a month. A cron expression is wall time.

    Parameters
    ----------
    last_start, last_data
        Start of the last run and the newest time of its data; empty before the first run.
    """
    every = spec.triggers.every
    if not every or not inputs or not last_start:
        return None  # the first model is made when its first data arrive
    if schedule.length(every) and spec.contract.time:
        periods = [upload.period for upload in inputs if upload.period]
        if not periods:
            return None
        # A last run without data times was before the model had a time column: all of them are new.
        since = last_data or min(first for first, _ in periods)
        return schedule.due(every, since, max(last for _, last in periods))
    return schedule.due(every, last_start, now)
