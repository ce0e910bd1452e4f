"""The only door to a retraining: every knock gets one recorded answer, and at most one run a model starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from refit.aws import alarms, inputs, messages, runs
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, refusing, utc_now
from refit.batches import Upload, effective, inputs_digest
from refit.errors import Conflict
from refit.models import ModelSpec, get_model
from refit.policy import (
    Answer,
    Decision,
    Hold,
    Knock,
    Resumed,
    Scored,
    Shown,
    State,
    Tried,
    Trigger,
    decide,
    lift_of,
    to_train,
)
from refit.records import Answered, Quality, Run, RunStatus, Slot, Version

# What a run that resumes another takes over from it.
FROZEN = ("inputs_digest", "inputs_key", "candidates", "rows", "new_rows", "data_until")


@entrypoint
@refusing
def handler(event: Any, app: App) -> dict[str, Any]:
    message = messages.wakeup(event)
    if isinstance(message, messages.Alarm):
        return {"answers": [answer(knock, app) for knock in _of_alarm(message, app)]}
    logger.append_keys(model=message.model)
    get_model(app.models, message.model)
    return _after_run(message, app) if isinstance(message, messages.RunEnded) else answer(message, app)


def _of_alarm(alarm: messages.Alarm, app: App) -> list[Knock]:
    """A knock for each model that the alarm speaks of."""
    if alarm.state != "ALARM":
        return []
    models = alarms.models_of(app.settings.stack, alarm.name, app.models)
    own = alarms.model_of_alarm(app.settings.stack, alarm.name)
    if own and not models:
        get_model(app.models, own)  # the alarm of a model that is no longer deployed is refused
    return [alarm.knock(model) for model in models]


def answer(knock: Knock, app: App) -> dict[str, Any]:
    """Decide on a knock and act on it; a repeated knock gets the answer it was given."""
    logger.append_keys(model=knock.model, knock_id=knock.knock_id)
    spec = get_model(app.models, knock.model)
    for _ in range(runs.ATTEMPTS):
        try:
            given = app.registry.knock(knock.model, knock.knock_id) or _decide(knock, spec, app)
        except Conflict:
            continue  # somebody else was answered meanwhile; look at what is true now
        if not given.announced:
            app.bus.publish(Event.RETRAINING_DECIDED, given.told())
            app.registry.note_announced(given)
            metrics.add_metric(f"Answer{given.answer.capitalize()}", "Count", 1)
            # Not the reasons, which may name what is in a column: they are on record.
            told = ("answer", "trigger", "batch_id", "run_id", "new_rows")
            logger.info("answered", extra={name: getattr(given, name) for name in told})
        return _act(given, app)
    raise Conflict(f"no answer for {knock.knock_id}: other writers kept winning; it will be tried again")


def _decide(knock: Knock, spec: ModelSpec, app: App) -> Answered:
    """Read, decide, record. The record, the slot and the run are one transaction."""
    model, registry, now = spec.name, app.registry, utc_now()
    slot, champion = registry.slot(model), registry.champion(model)
    if knock.trigger is Trigger.PENDING and slot.pending:
        waited = Knock(**{**slot.pending, "drifted": tuple(slot.pending["drifted"])})
        came_as = waited.waited or waited.trigger
        knock = replace(waited, knock_id=knock.knock_id, trigger=Trigger.PENDING, waited=came_as)
    version, generation = (champion.version, champion.generation) if champion else ("", 0)
    learned = inputs.learned_by(app.store, registry, model, version)
    everything = registry.uploads(model)
    uploads, left_out = inputs.usable(app.store, spec, effective(everything))
    resumed = runs.existing(registry, model, knock.resumes) if knock.resumes else None
    known = registry.version(model, version) if version else None
    state = State(
        inputs=uploads,
        inputs_digest=inputs_digest([upload.batch_id for upload in uploads], spec.digest),
        champion=version or None,
        learned=learned,
        running=slot.running or None,
        pending=slot.pending is not None,
        last_run=slot.last_run or None,
        last_digest=slot.last_digest,
        hold=Hold(**slot.hold) if slot.hold else None,
        left_out=left_out,
        resumes=_as_it_stands(resumed, generation, everything, spec, app) if resumed else None,
        runs=_tried(registry.runs(model)),
        scored=_scored(registry.qualities(model), version),
        tested=_tested(known),
        made_as=known.candidate if known else "",
    )
    decision = decide(knock, state, spec, now)
    run = None
    if decision.answer is Answer.RETRAIN:
        fresh = Run(
            run_id=f"run-{slot.runs + 1:08d}",
            model=model,
            status=RunStatus.RUNNING,
            inputs_digest=state.inputs_digest,
            trigger=knock.trigger,
            reasons=decision.reasons,
            requested_by=knock.requested_by,
            started_at=now,
            champion=version,
            generation=generation,
        )
        if resumed:
            frozen = {name: getattr(resumed, name) for name in FROZEN}
            run = replace(fresh, resumes=resumed.run_id, **frozen)
        else:
            key, inputs_of_run = inputs.freeze(
                app.store, spec, uploads, learned, version, generation, known, to_train(decision, spec)
            )
            run = replace(
                fresh,
                inputs_key=key,
                candidates=inputs_of_run.candidates,
                rows=sum(upload.rows for upload in uploads),
                new_rows=decision.new_rows,
                data_until=max((upload.period[1] for upload in uploads if upload.period), default=""),
            )
    answered = Answered(
        knock_id=knock.knock_id,
        model=model,
        trigger=knock.trigger,
        reason=knock.reason,
        requested_by=knock.requested_by,
        at=knock.at,
        answer=decision.answer,
        reasons=decision.reasons,
        decided_at=now,
        run_id=run.run_id if run else "",
        batch_id=knock.batch_id,
        look_again_at=decision.look_again_at or "",
        new_rows=decision.new_rows,
    )
    after = _next_slot(slot, knock, decision, run)
    registry.answer(answered, after, run, changed=after != slot)
    return answered


def _tried(runs_of_model: Sequence[Run]) -> tuple[Tried, ...]:
    ended = (run for run in runs_of_model if run.status is not RunStatus.RUNNING)
    return tuple(
        Tried(
            run.run_id,
            run.status is RunStatus.PROMOTED,
            run.started_at,
            run.data_until,
            run.rows,
            len(run.candidates),
            lift_of(run.challenger_score, run.champion_score),
            lift_of(run.challenger_score, run.baseline_score),
            judged=run.status is not RunStatus.KEPT or bool(run.challenger),
        )
        for run in sorted(ended, key=lambda run: run.run_id)
    )


def _scored(qualities: Sequence[Quality], version: str) -> tuple[Scored, ...]:
    found = (
        Scored(each.batch_id, each.score, each.floor, each.rows, each.at)
        for each in qualities
        if each.version == version and each.score is not None and each.floor is not None
    )
    return tuple(sorted(found, key=lambda each: each.at))


def _tested(champion: Version | None) -> Shown | None:
    if champion is None or champion.tested_score is None or champion.tested_low is None:
        return None
    return Shown(champion.tested_score, champion.tested_low, champion.tested_rows)


def _as_it_stands(run: Run, generation: int, uploads: Sequence[Upload], spec: ModelSpec, app: App) -> Resumed:
    frozen = inputs.read(app.store, run.inputs_key)
    retracted = {upload.sha256 for upload in uploads if upload.retracted}
    return Resumed(
        run_id=run.run_id,
        status=run.status,
        same_champion=run.generation == generation,
        same_model=frozen.spec_digest == spec.digest,
        retracted=tuple(each.key for each in frozen.batches if each.sha256 in retracted),
    )


def _next_slot(slot: Slot, knock: Knock, decision: Decision, run: Run | None) -> Slot:
    if run:
        # A resumed run learns nothing new: what waits for all new data goes on waiting.
        waits = slot.pending if run.resumes else None
        return replace(slot, running=run.run_id, runs=slot.runs + 1, pending=waits, look_again_at="")
    if decision.answer is Answer.WAIT:
        # A hold is looked at by itself, for it may be lifted before its time.
        held = slot.hold and slot.hold["until"] == decision.look_again_at
        again = "" if held else decision.look_again_at or ""
        stays = slot.pending and (slot.pending["force"] or not knock.force)
        return replace(slot, pending=slot.pending if stays else asdict(knock), look_again_at=again)
    if knock.trigger is Trigger.PENDING:
        return replace(slot, pending=None, look_again_at="")
    return slot


def _act(given: Answered, app: App) -> dict[str, Any]:
    """Start the run of an answer; starting it again is harmless and makes up for a lost start."""
    run = app.registry.run(given.model, given.run_id) if given.run_id else None
    if run and run.status is RunStatus.RUNNING:
        runs.start(app.sfn, app.settings.state_machine, run)
    return {"answer": given.answer, "reasons": list(given.reasons), "run_id": given.run_id}


def _after_run(ended: messages.RunEnded, app: App) -> dict[str, Any]:
    """Close what the execution could not close itself; then the knock that waited, if any, has its turn."""
    model, run_id, name = ended.model, ended.run_id, f"pending-{ended.run_id}"
    result = runs.without_verdict(model, ended.status)
    run = runs.close(app.registry, model, run_id, RunStatus.FAILED, utc_now(), result=result)
    if run.result == result:  # nobody else has told of it
        failed = {"model": model, "run_id": run_id, "error": ended.status, "cause": result}
        app.bus.publish(Event.RETRAINING_FAILED, failed)
    slot = app.registry.slot(model)
    if app.registry.knock(model, name) is None and (slot.running or not slot.pending):
        return {"answer": "nothing pending"}
    # A repeated event finds its answer; what it led to may have been lost.
    turn = Knock(name, model, Trigger.PENDING, f"{run_id} has ended", "request_retraining", ended.at)
    return answer(turn, app)
