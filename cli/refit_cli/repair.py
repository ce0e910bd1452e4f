"""Putting right what failed: messages in the dead-letter queue, and what the oracle finds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from refit import artifact
from refit.aws import alarms, intake, keys, messages
from refit.aws.bus import SOURCE, Event
from refit.aws.runtime import App
from refit.batches import Outcome
from refit.errors import BadMessage, RefitError
from refit_cli.oracle import Breach, check

# Invokes a function by its name in template.yaml, and waits for it when asked to.
Invoke = Callable[[str, Any, bool], None]

# What Refit tells others of and does not listen to itself.
ANNOUNCED = frozenset(Event) - {Event.DRIFT_CHECKED, Event.RETRAINING_REQUESTED}
HIDDEN = 300  # seconds that received messages stay with us
DOOR = ("RequestRetrainingFunction",)
BUS = ("the bus",)  # of what people were to be told of: the topic listens there
OF_OBJECTS = (1, 2, 6, 13)  # promises that a missing or altered object breaks
PEOPLE = "put right by hand; docs/promises.md says what must hold"


@dataclass(frozen=True)
class Requeued:
    """A message or an upload, and what became of it."""

    what: str
    became: str


# ---------------------------------------------------------------- requeue
def requeue(app: App, dead_letters: str, invoke: Invoke, model: str = "") -> list[Requeued]:
    """Give what was given up another try: every dead letter that is understood, then every parked upload.

    Parameters
    ----------
    dead_letters
        URL of the dead-letter queue.
    model
        Only what is for this model; empty for everything.
    """
    done, sent, left = [], set(), []
    for message in _received(app, dead_letters):
        event = _parsed(message["Body"])
        letter = understood(event)
        if letter.receivers is None or (model and not _is_of(letter, model, app)):
            left.append(message["ReceiptHandle"])
            if letter.receivers is None:
                done.append(Requeued(letter.what, "left where it is: not a message that Refit sends"))
            continue
        for receiver in letter.receivers:
            if receiver == "ValidateFunction":
                app.sqs.send_message(QueueUrl=app.settings.intake_queue, MessageBody=message["Body"])
                sent.add((letter.what, letter.version_id))
            elif receiver in BUS:
                app.bus.publish(Event(event["detail-type"]), event["detail"])
            else:
                invoke(receiver, event, False)
        app.sqs.delete_message(QueueUrl=dead_letters, ReceiptHandle=message["ReceiptHandle"])
        became = f"sent to {' and '.join(letter.receivers)}" if letter.receivers else "dropped"
        done.append(Requeued(letter.what, became))
    for handle in left:
        app.sqs.change_message_visibility(QueueUrl=dead_letters, ReceiptHandle=handle, VisibilityTimeout=0)
    for each in [model] if model else sorted(app.models):
        for upload in app.registry.uploads(each):
            if upload.outcome is Outcome.PARKED and (upload.key, upload.version_id) not in sent:
                intake.send_again(app, upload.key, upload.version_id, "requeue")
                done.append(Requeued(upload.key, "its message was gone; a new one sent to ValidateFunction"))
    return done


class Letter(NamedTuple):
    """A dead letter: what it is in words, the functions (or the bus) it is for, and of what it speaks where it says so."""

    what: str
    receivers: tuple[str, ...] | None  # None: it is none that Refit sends
    model: str = ""
    version_id: str = ""  # of an upload, whose key it is called by
    alarm: str = ""


def understood(event: Any) -> Letter:
    """Read a dead letter as the functions do; what they would refuse is for none of them."""
    kind = str(event.get("detail-type") or "no event") if isinstance(event, dict) else "no event"
    try:
        if kind == "Object Created":
            found = messages.arrival(event)
            if found.key.startswith(keys.INCOMING):
                model, _ = keys.model_of_incoming(found.key)
                return Letter(found.key, ("ValidateFunction",), model, found.version_id)
            model, _ = keys.batch_of_profile(found.key)
            return Letter(found.key, ("CheckDriftFunction", "CheckQualityFunction"), model)
        if kind == "Scheduled Event":
            return Letter(kind, ())  # the next one does what this one could not
        if kind in ANNOUNCED and event.get("source") == SOURCE:
            model = messages.model_of(event)
            return Letter(f"{kind} {model}", BUS, model)
        said = messages.wakeup(event)
    except BadMessage:
        return Letter(kind, None)
    if isinstance(said, messages.Alarm):
        return Letter(f"{kind} {said.name}", DOOR, alarm=said.name)
    return Letter(f"{kind} {said.model}", DOOR, said.model)


def _is_of(letter: Letter, model: str, app: App) -> bool:
    if letter.alarm:
        return model in alarms.models_of(app.settings.stack, letter.alarm, app.models)
    return letter.model == model


def _received(app: App, url: str) -> Iterator[dict[str, Any]]:
    """Every message once: those that were received stay hidden meanwhile."""
    request = {"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": HIDDEN, "WaitTimeSeconds": 1}
    while messages := app.sqs.receive_message(**request).get("Messages"):
        yield from messages


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


# ---------------------------------------------------------------- doctor
@dataclass(frozen=True)
class Finding:
    """A breach of a promise, and what was done about it."""

    breach: Breach
    done: str


def examine(
    app: App,
    invoke: Invoke,
    *,
    repair: bool = True,
    young: timedelta = timedelta(minutes=15),
    wait: float = 30,
) -> tuple[list[Finding], list[Breach]]:
    """Look for breaches of promises and repair what can be repaired without a decision of people's.

    Returns
    -------
    findings
        What was found, each with what was done.
    left
        What does not hold after that.
    """
    before = datetime.now(UTC) - young
    breaches = check(app, settled_before=before)
    if not breaches or not repair:
        return [Finding(breach, "nothing: only looked") for breach in breaches], breaches
    restored = restore(app) if any(breach.promise in OF_OBJECTS for breach in breaches) else []
    findings = [Finding(breach, _repaired(breach, restored, app)) for breach in breaches]
    _tell_of_answers(app)
    try:
        invoke("TickFunction", {"source": "refit doctor"}, True)
    except RefitError as error:
        findings.append(Finding(Breach(3, "all models", str(error)), "see the logs of tick"))
    end = time.monotonic() + wait
    while (left := check(app, settled_before=before)) and time.monotonic() < end:
        time.sleep(1)
    return findings, left


def _repaired(breach: Breach, restored: list[str], app: App) -> str:
    if breach.upload:
        intake.send_again(app, *breach.upload, "doctor")
        return "sent to ValidateFunction again"
    if restored and breach.promise in OF_OBJECTS:
        return f"restored {', '.join(restored)}"
    return f"looked after by the tick; what stays is to be {PEOPLE}"


def _tell_of_answers(app: App) -> None:
    for model in sorted(app.models):
        for knock in app.registry.knocks(model):
            if not knock.announced:
                app.bus.publish(Event.RETRAINING_DECIDED, knock.told())
                app.registry.note_announced(knock)


def restore(app: App) -> list[str]:
    """Bring back objects of the store bucket that somebody deleted, and artifacts that somebody replaced.

    Refit itself never replaces an object, and what retention removes is removed with all its versions.
    """
    bucket, restored = app.settings.store_bucket, []
    versions, markers = _listed(app)
    beneath = {version["Key"] for version in versions}
    for marker in markers:
        if marker["IsLatest"] and marker["Key"] in beneath:
            app.s3.delete_object(Bucket=bucket, Key=marker["Key"], VersionId=marker["VersionId"])
            restored.append(marker["Key"])
    for model in sorted(app.models):
        for version in app.registry.versions(model):
            key = keys.artifact(model, version.artifact_sha256)
            if not version.pruned_at and _restore_artifact(app, key, version.artifact_sha256):
                restored.append(key)
    return sorted(set(restored))


def _listed(app: App, prefix: str = "") -> tuple[list[Any], list[Any]]:
    """Versions and delete markers of the store bucket; those of one object may be on different pages."""
    lister = app.s3.get_paginator("list_object_versions")
    pages = list(lister.paginate(Bucket=app.settings.store_bucket, Prefix=prefix))
    versions = [version for page in pages for version in page.get("Versions", [])]
    return versions, [marker for page in pages for marker in page.get("DeleteMarkers", [])]


def _restore_artifact(app: App, key: str, sha256: str) -> bool:
    """Put the version with the recorded hash on top, unless it is there; returns whether that was done."""
    bucket = app.settings.store_bucket
    found, _ = _listed(app, key)
    for version in sorted(found, key=lambda each: not each["IsLatest"]):
        body = app.s3.get_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])["Body"].read()
        if artifact.digest(body) == sha256:
            if version["IsLatest"]:
                return False
            source = {"Bucket": bucket, "Key": key, "VersionId": version["VersionId"]}
            app.s3.copy_object(Bucket=bucket, Key=key, CopySource=source)
            return True
    return False
