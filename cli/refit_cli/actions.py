"""What people do to a model besides dropping data: ask, retract, import, backfill, roll back, approve."""

from __future__ import annotations

import getpass
import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from refit import artifact
from refit.aws import champions, inputs, keys, serving, versions
from refit.aws.bus import Event
from refit.aws.runs import ATTEMPTS
from refit.aws.runtime import App, utc_now
from refit.batches import Outcome, Upload, effective, upload_id
from refit.contract import ColumnType, Contract
from refit.errors import ApprovalRejected, ChampionMoved, Conflict, RefitError
from refit.metrics import CLASSIFICATION, Task
from refit.models import ModelSpec
from refit.policy import FOREVER
from refit.records import (
    Answered,
    Approval,
    ApprovalStatus,
    Change,
    Generation,
    Run,
    RunStatus,
    Slot,
    Version,
)
from refit.shard import NAT, Shard, load
from refit.training import class_name

T = TypeVar("T")
HOLD_HOURS = 6
CHECKED_WITHIN = 60  # seconds; what is later than that may start the run itself
NOBODY_WAITS = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")


class Refused(RefitError):
    """A request that makes no sense as things stand; the message says why and what would."""


class Unfinished(RefitError):
    """A request that was carried out, but for what follows by itself; the message says what."""


def ask(
    app: App,
    model: str,
    reason: str,
    *,
    trigger: str = "on_demand",
    force: bool = False,
    resumes: str = "",
    timeout: float = 60,
) -> Answered:
    """Knock and wait for the recorded answer."""
    request_id = uuid.uuid4().hex
    detail = {
        "model": model,
        "trigger": trigger,
        "reason": reason,
        "requested_by": whoami(),
        "request_id": request_id,
        "force": force,
        "resumes": resumes,
    }
    app.bus.publish(Event.RETRAINING_REQUESTED, detail)
    return wait_for(
        lambda: app.registry.knock(model, f"asked-{request_id}"),
        timeout,
        f"no answer after {timeout:.0f} s; is {model!r} deployed? See the logs of request_retraining",
    )


def wait_for_run(app: App, model: str, run_id: str, timeout: float = 1800) -> tuple[Run, Approval | None]:
    """Wait until a run has ended, or itself waits for a person: nobody knows how long that takes.

    Returns
    -------
    run
        As it is recorded now.
    asked
        What a person is asked, of a run that waits for the answer.
    """

    def settled() -> tuple[Run, Approval | None] | None:
        run = app.registry.run(model, run_id)
        if run is None:
            return None
        if run.status is not RunStatus.RUNNING:
            return run, None
        asked = app.registry.approval(model, run_id)
        waits = asked and asked.status is ApprovalStatus.WAITING and asked.expires_at > utc_now()
        return (run, asked) if waits else None

    return wait_for(settled, timeout, f"{run_id} still runs after {timeout:.0f} s; see: refit status {model}")


def resume_run(app: App, model: str, run_id: str, reason: str) -> Answered:
    """Ask that a failed run is run again, as a new one, on the very inputs that it had frozen."""
    run = app.registry.run(model, run_id)
    if run is None:
        failed = [each.run_id for each in app.registry.runs(model) if each.status is RunStatus.FAILED]
        raise Refused(f"{model} has no {run_id!r}; runs that failed: {', '.join(failed[-5:]) or 'none'}")
    return ask(app, model, reason, resumes=run_id)


def retract(app: App, model: str, key: str, reason: str) -> tuple[list[Upload], list[str]]:
    """Take an upload, and every copy of its content, out of what is learned from.

    Returns
    -------
    uploads
        The records that are now marked.
    versions
        Versions that have learned from the content; they are not changed.
    """
    name = key.removeprefix(keys.incoming(model, ""))
    uploads = app.registry.uploads(model)
    named = [u for u in uploads if u.key == keys.incoming(model, name) and u.outcome is Outcome.ACCEPTED]
    if not named:
        known = ", ".join(u.key.split("/", 2)[-1] for u in effective(uploads)[-5:]) or "none"
        raise Refused(f"{model} has no accepted upload {name!r}; the newest are: {known}")
    contents = {u.sha256 for u in named}
    said = f"{utc_now()} by {whoami()}: {reason}"
    marked = []
    for upload in uploads:
        if upload.sha256 in contents and upload.outcome is Outcome.ACCEPTED and not upload.retracted:
            marked.append(app.registry.save_upload(replace(upload, retracted=said)))
    batches = {u.batch_id for u in uploads if u.sha256 in contents}
    learned = [
        version.version
        for version in app.registry.versions(model)
        if version.inputs_key
        and batches & {each.batch_id for each in inputs.read(app.store, version.inputs_key).batches}
    ]
    return marked, learned


def import_champion(app: App, spec: ModelSpec, path: Path, reason: str) -> Generation:
    """Make an existing model, written with skops, the first champion."""
    if app.registry.champion(spec.name):
        raise Refused(f"{spec.name} has a champion; an import is for the first one")
    data = path.read_bytes()
    artifact.check_sizes(data)
    estimator = artifact.load(data, artifact.digest(data))
    version = _imported(spec, estimator, data)
    serving.probe(estimator, version, _probe_rows(app, spec))
    app.store.put_once(keys.artifact(spec.name, version.artifact_sha256), data)
    app.registry.add_version(version)
    change = Generation(spec.name, 1, version.version, "", Change.IMPORT, whoami(), reason, utc_now())
    app.registry.move_champion(change)
    champions.settle(app, spec)
    return change


def rollback(app: App, spec: ModelSpec, to: str | None, reason: str) -> Generation:
    """Put an earlier version back into service, a step forward in generations, and pause retraining.

    The version is loaded and has to predict before the switch. Retraining is
    paused because a run would otherwise bring back what a person took out.
    The same command again, after an error, finishes what the first one began.
    """
    champion = app.registry.champion(spec.name)
    if champion is None:
        raise Refused(f"{spec.name} has no champion yet; there is nothing to roll back")
    if not (to in (None, champion.version) and _is_rolled_back(app, champion, reason)):
        champion = _switch_back(app, spec, champion, to or champion.previous, reason)
    try:
        champions.settle(app, spec)
    except (RefitError, ClientError, BotoCoreError) as error:
        raise Unfinished(
            f"{champion.version} is back in service as generation {champion.generation}, but its alarm or the event "
            f"of it failed ({type(error).__name__}: {error}); the next tick makes up for that"
        ) from error
    return champion


def _is_rolled_back(app: App, champion: Generation, reason: str) -> bool:
    """Whether this person has made the champion what it is for that reason, and its pause still holds."""
    same = champion.change is Change.ROLLBACK and (champion.by, champion.reason) == (whoami(), reason)
    return same and app.registry.slot(champion.model).hold == _pause_of(champion.version, reason)


def _switch_back(app: App, spec: ModelSpec, champion: Generation, target: str, reason: str) -> Generation:
    served = {generation.version for generation in app.registry.generations(spec.name)}
    if target == champion.version:
        raise Refused(f"{target} is the champion already")
    if target not in served:
        others = sorted(served - {champion.version})
        if not others:
            raise Refused(
                f"{champion.version} is the only version of {spec.name} that was ever in service; "
                "there is nothing to roll back to"
            )
        raise Refused(f"{target} has never been in service; versions that were: {', '.join(others)}")
    version = _not_pruned(app, spec.name, target, served - {champion.version})
    serving.probe(serving.load_version(app.store, version), version, _probe_rows(app, spec))
    change = Generation(
        model=spec.name,
        generation=champion.generation + 1,
        version=target,
        previous=champion.version,
        change=Change.ROLLBACK,
        by=whoami(),
        reason=reason,
        at=utc_now(),
    )
    _move_and_pause(app, change, _pause_of(target, reason), served - {champion.version})
    return change


def _not_pruned(app: App, model: str, target: str, served: set[str]) -> Version:
    version = app.registry.recorded(model, target)
    if version.pruned_at:
        left = {each.version for each in app.registry.versions(model) if not each.pruned_at}
        known = ", ".join(sorted(served & left)) or "none"
        raise Refused(
            f"{target}'s artifact was pruned on {version.pruned_at}; versions that can be put back: {known}"
        )
    return version


def _move_and_pause(app: App, change: Generation, hold: dict[str, str], served: set[str]) -> None:
    """One transaction: a champion that was taken out must not come back by a run that starts in between."""
    for _ in range(ATTEMPTS):
        _not_pruned(app, change.model, change.version, served)  # it may have been meanwhile
        try:
            slot = replace(app.registry.slot(change.model), hold=hold)
            return app.registry.move_champion(change, slot=slot)
        except Conflict:
            continue
    raise _busy(change.model)


def _pause_of(version: str, reason: str) -> dict[str, str]:
    return _paused(f"rolled back to {version}: {reason}")


def pause(app: App, spec: ModelSpec, reason: str) -> dict[str, str]:
    """Answer every knock with wait, until resumed."""
    hold = _paused(reason)
    _set_hold(app, spec.name, hold)
    return hold


def resume(app: App, spec: ModelSpec) -> Answered | None:
    """Lift a hold; a knock that waited has its turn. Returns its answer, None when none waited."""
    slot = app.registry.slot(spec.name)
    if slot.hold is None:
        raise Refused(f"{spec.name} is not paused")
    _set_hold(app, spec.name, None)
    if slot.pending is None or slot.running:
        return None
    return ask(app, spec.name, slot.pending["reason"], trigger="pending", force=slot.pending["force"])


def approve(app: App, spec: ModelSpec, version: str, comment: str) -> tuple[Approval, bool]:
    """Let a version that waits be promoted, provided it is what was shown and so is the champion.

    Returns
    -------
    approval
        The record, with the answer.
    before
        Whether it had been approved before; then the answer was only sent again.
    """
    return _answer(app, spec.name, version, ApprovalStatus.APPROVED, comment)


def reject(app: App, spec: ModelSpec, version: str, comment: str) -> tuple[Approval, bool]:
    """End the wait of a version with a no; returns what `approve` returns."""
    return _answer(app, spec.name, version, ApprovalStatus.REJECTED, comment)


def _answer(app: App, model: str, version: str, said: ApprovalStatus, comment: str) -> tuple[Approval, bool]:
    """The record first, which is what counts; then the execution is told, again if need be."""
    for _ in range(ATTEMPTS):
        found = _request(app, model, version)
        if found.status in (said, ApprovalStatus.SUPERSEDED):  # perhaps it was not told
            _tell(app, found)
            if found.status is said:
                return found, True
            raise Refused(_superseded(app, found))
        if found.status is not ApprovalStatus.WAITING:
            raise Refused(
                f"{version} was {found.status} by {found.answered_by} on {found.answered_at} and stays so; "
                f"see: refit status {model}"
            )
        run = app.registry.run(model, found.run_id)
        if run is None or run.status is not RunStatus.RUNNING:
            how = f"{run.status}: {run.result}" if run else "its record is gone"
            raise Refused(f"{found.run_id} has ended without an answer ({how}); see: refit history {model}")
        if found.expires_at <= utc_now():
            raise Refused(_too_late(found))
        now = app.registry.champion(model)
        if (now.generation if now else 0) != found.generation:
            answered = replace(found, status=ApprovalStatus.SUPERSEDED)
        else:
            if said is ApprovalStatus.APPROVED:
                _is_what_was_shown(app, found)
            answered = replace(
                found, status=said, answered_by=whoami(), answered_at=utc_now(), comment=comment
            )
        try:
            answered = app.registry.save_approval(answered)
        except Conflict:
            continue  # somebody answered meanwhile, or the run asked anew; look at what is true now
        told = _tell(app, answered)
        if answered.status is ApprovalStatus.SUPERSEDED:
            raise Refused(_superseded(app, answered))
        if not told:
            raise Refused(
                f"the answer is recorded, but {found.run_id} had just stopped waiting: it counts if the run asks "
                f"again, and is too late if not; see: refit status {model}"
            )
        return answered, False
    raise Conflict(f"{model} is busy: other writers kept winning; try again")


def _request(app: App, model: str, version: str) -> Approval:
    asked = app.registry.approvals(model)
    for found in asked:
        if found.version == version:
            if found.status is ApprovalStatus.EXPIRED:
                raise Refused(_too_late(found))
            return found
    waiting = ", ".join(each.version for each in asked if each.status is ApprovalStatus.WAITING) or "none"
    raise Refused(f"nobody was asked about {version} of {model}; versions that wait: {waiting}")


def _is_what_was_shown(app: App, shown: Approval) -> None:
    version = app.registry.version(shown.model, shown.version)
    if version is None or version.artifact_sha256 != shown.artifact_sha256:
        raise Refused(
            f"{shown.version} is no longer the model that was shown ({shown.artifact_sha256[:12]}); end the wait "
            f'with: refit reject {shown.model} {shown.version} --comment "not what was shown"'
        )


def _tell(app: App, answered: Approval) -> bool:
    """Send the answer to the execution; False when it does not wait for it."""
    said = f"{answered.answered_by}: {answered.comment}"
    try:
        if answered.status is ApprovalStatus.APPROVED:
            output = json.dumps({"version": answered.version, "approved_by": answered.answered_by})
            app.sfn.send_task_success(taskToken=answered.token, output=output)
        else:
            rejected = answered.status is ApprovalStatus.REJECTED
            app.sfn.send_task_failure(
                taskToken=answered.token,
                error=(ApprovalRejected if rejected else ChampionMoved).__name__,
                cause=f"rejected by {said}"[:1000] if rejected else _superseded(app, answered),
            )
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in NOBODY_WAITS:
            return False
        raise Unfinished(
            f"the answer is recorded, but could not be sent to the run that waits ({error}); give the same command again"
        ) from error
    return True


def _too_late(shown: Approval) -> str:
    return (
        f"too late: {shown.version} waited until {shown.expires_at}, nothing was changed; to try again: "
        f"refit retrain {shown.model} --force --reason ..."
    )


def _superseded(app: App, shown: Approval) -> str:
    now = app.registry.champion(shown.model)
    is_now = f"{now.version}, generation {now.generation}" if now else "none"
    return (
        f"superseded: {shown.version} was compared with generation {shown.generation}, the champion is now "
        f"{is_now}; the run ends without it, to compare anew: refit retrain {shown.model} --reason ..."
    )


def _paused(reason: str) -> dict[str, str]:
    return {"until": FOREVER, "reason": reason, "by": whoami()}


def _imported(spec: ModelSpec, estimator: Any, data: bytes) -> Version:
    declared = {column.name: column for column in spec.contract.features}
    names = [str(name) for name in getattr(estimator, "feature_names_in_", declared)]
    strange = [name for name in names if name not in declared]
    if strange:
        raise Refused(
            f"the model was fitted on {', '.join(strange)}, which {spec.name}'s contract does not have"
        )
    if spec.task in CLASSIFICATION and not hasattr(estimator, "predict_proba"):
        raise Refused(f"the model has no predict_proba; task {spec.task} needs it")
    classes = tuple(class_name(value) for value in estimator.classes_) if spec.task in CLASSIFICATION else ()
    if spec.task is Task.BINARY and len(classes) != 2:
        raise Refused(f"the model knows the classes {', '.join(classes)}; task binary has two")
    labels = _labels(spec.contract)
    if labels and (others := [name for name in classes if name not in labels]):
        raise Refused(
            f"the model knows the classes {', '.join(others)}, which the target {spec.contract.target!r} does not have; "
            f"fit it on labels as the files have them: {', '.join(labels)}"
        )
    sha256 = artifact.digest(data)
    return Version(
        version=f"import-{sha256[:8]}",
        model=spec.name,
        artifact_sha256=sha256,
        artifact_bytes=len(data),
        task=spec.task,
        features=tuple({"name": name, "type": declared[name].type.value} for name in names),
        classes=classes,
        candidate="imported",
        spec_digest=spec.digest,
        libraries=versions.libraries(),
        created_at=utc_now(),
        created_by=whoami(),
    )


def _labels(contract: Contract) -> tuple[str, ...]:
    """What the target's labels may be, by name; empty where the contract does not say."""
    target = contract.column(contract.target)
    return ("false", "true") if target.type is ColumnType.BOOLEAN else target.categories


def _probe_rows(app: App, spec: ModelSpec) -> Shard:
    """Rows of the newest batch; before the first one, a plain row and one with all that may be missing."""
    used = effective(app.registry.uploads(spec.name))
    if used:
        return load(app.store.get(keys.shard(spec.name, used[-1].batch_id)))
    columns, types, words = {}, {}, {}
    for column in spec.contract.columns:
        types[column.name] = column.type
        empty = column.nulls > 0
        if column.type is ColumnType.CATEGORY:
            columns[column.name] = np.array([0, -1 if empty else 0], np.int32)
            words[column.name] = [(*column.categories, "unknown")[0]]
        elif column.type is ColumnType.TIMESTAMP:
            columns[column.name] = np.array([0, NAT if empty else 0])
        else:
            plain = column.min if column.min is not None else 0.0
            columns[column.name] = np.array([plain, np.nan if empty else plain])
    return Shard(columns, types, words)


def backfill(
    app: App, spec: ModelSpec, files: Sequence[Path], say: Callable[[str], None], timeout: float = 3600
) -> tuple[list[Upload], Answered]:
    """Upload many files, then ask once: no retraining for each.

    Retraining is on hold meanwhile; the hold ends by itself should this not come back.
    """
    until = utc_now(later=HOLD_HOURS * 3600)
    hold = {"until": until, "reason": f"backfill of {len(files)} files", "by": whoami()}
    _set_hold(app, spec.name, hold, unless=lambda held: held is not None and held["until"] > until)
    try:
        done = []
        for path in files:
            key = keys.incoming(spec.name, path.name)
            with path.open("rb") as file:
                put = app.s3.put_object(Bucket=app.settings.data_bucket, Key=key, Body=file)
            done.append((key, put.get("VersionId", "")))
            say(f"uploaded {path.name} ({len(done)} of {len(files)})")
        uploads = []
        for key, version_id in done:
            uploads.append(wait_for_upload(app, spec.name, key, version_id, timeout))
            last = uploads[-1]
            say(f"{last.outcome:<12} {last.key.split('/', 2)[-1]}: {last.rows} rows")
            for reason in last.reasons:
                say(f"             [{reason.code}] {reason.message}")
        _until_checked(app, spec.name, uploads, min(timeout, CHECKED_WITHIN))
    finally:
        _set_hold(app, spec.name, None, unless=lambda held: held != hold)  # a person's pause outlives it
    accepted = sum(upload.outcome is Outcome.ACCEPTED for upload in uploads)
    return uploads, ask(app, spec.name, f"backfill of {accepted} accepted files", trigger="backfill")


def _until_checked(app: App, model: str, uploads: Sequence[Upload], timeout: float) -> None:
    """Let the uploads' own knocks come while they are held: after it, the first of them would start the run."""
    batches = {upload.batch_id for upload in uploads if upload.outcome is Outcome.ACCEPTED}
    end = time.monotonic() + timeout
    while time.monotonic() < end and batches - {knock.batch_id for knock in app.registry.knocks(model)}:
        time.sleep(0.2)


def wait_for_upload(app: App, model: str, key: str, version_id: str, timeout: float = 120) -> Upload:
    """Wait for the outcome of an object version."""
    name = upload_id(app.settings.data_bucket, key, version_id)

    def final() -> Upload | None:
        upload = app.registry.upload(model, name)
        return upload if upload and upload.announced else None

    return wait_for(final, timeout, f"{key} has no outcome after {timeout:.0f} s; see the logs of validate")


def wait_for(look: Callable[[], T | None], timeout: float, message: str) -> T:
    """Look until there is something; raises Refused with `message` when there is not in time."""
    end = time.monotonic() + timeout
    while (found := look()) is None:
        if time.monotonic() > end:
            raise Refused(message)
        time.sleep(0.1)
    return found


def _set_hold(
    app: App,
    model: str,
    hold: dict[str, str] | None,
    unless: Callable[[dict[str, str] | None], bool] = lambda held: False,
) -> Slot:
    for _ in range(ATTEMPTS):
        slot = app.registry.slot(model)
        if unless(slot.hold):
            return slot
        try:
            app.registry.save_slot(model, replace(slot, hold=hold))
            return slot
        except Conflict:
            continue
    raise _busy(model)


def _busy(model: str) -> Conflict:
    return Conflict(f"{model} is busy: other writers kept winning; try again")


def whoami() -> str:
    """Who asks: the login name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return "unknown"
