"""Every message that reaches a function, parsed once at the door. One real sample of each is in events/."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from refit import times
from refit.aws import keys
from refit.aws.bus import Event
from refit.aws.runs import run_of_execution
from refit.errors import BadMessage
from refit.policy import Knock, Trigger
from refit.prose import counted

MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class Arrival:
    """S3 says that a version of an object was created."""

    bucket: str
    key: str
    version_id: str
    sequencer: str


def arrival(event: Any) -> Arrival:
    """Read an EventBridge event "Object Created"; its keys are not quoted."""
    detail = _detail(event)
    found: Any = detail.get("object")
    bucket, key = _text(detail.get("bucket"), "name"), _text(found, "key")
    if len(key.encode(errors="replace")) > MAX_KEY_BYTES:
        raise BadMessage(f"key {key[:100]!r} is longer than the {MAX_KEY_BYTES} bytes that S3 allows")
    return Arrival(bucket, key, str(found.get("version-id") or ""), str(found.get("sequencer") or ""))


def accepted_batch(event: Any, bucket: str) -> tuple[str, str]:
    """Model and batch of an "Object Created" of a profile in the store bucket."""
    found = arrival(event)
    if found.bucket != bucket:
        raise BadMessage(f"bucket {found.bucket[:80]!r} is not {bucket!r}")
    return keys.batch_of_profile(found.key)


@dataclass(frozen=True)
class RunMessage:
    """What travels through the state machine: references, never data."""

    model: str
    run_id: str
    inputs_key: str


def run_message(event: Any) -> RunMessage:
    """Raises BadMessage naming the missing field."""
    return RunMessage(*(_text(event, name) for name in ("model", "run_id", "inputs_key")))


def task_token(event: Any) -> str:
    """What takes an answer to the execution that waits for it."""
    return _text(event, "token")


@dataclass(frozen=True)
class RunEnded:
    """Step Functions says that an execution is over, however it went."""

    model: str
    run_id: str
    status: str
    event_id: str
    at: str


@dataclass(frozen=True)
class Alarm:
    """CloudWatch says that an alarm changed its state."""

    name: str
    state: str
    reason: str
    at: str

    def knock(self, model: str) -> Knock:
        """The wish for a retraining of a model that this change is; the same change is the same knock."""
        return Knock(
            knock_id=f"alarm-{self.at}-{self.name}"[:200],  # what tells changes apart comes first
            model=model,
            trigger=Trigger.ALARM,
            reason=f"alarm {self.name}: {self.reason}"[:500],
            requested_by=f"alarm {self.name}"[:200],
            at=self.at,
        )


def wakeup(event: Any) -> Knock | RunEnded | Alarm:
    """Read what wakes request_retraining.

    Raises
    ------
    BadMessage
        For an event of another shape, naming what is missing.
    """
    detail, kind = _detail(event), event.get("detail-type")
    event_id, at = _text(event, "id"), _text(event, "time")[:40]
    if kind == "Step Functions Execution Status Change":
        model, run_id = run_of_execution(_text(detail, "name"))
        return RunEnded(model, run_id, _text(detail, "status"), event_id, at)
    if kind == "CloudWatch Alarm State Change":
        state = detail.get("state")
        changed = state.get("timestamp") if isinstance(state, dict) else None
        return Alarm(
            _text(detail, "alarmName"),
            _text(state, "value"),
            str(detail["state"].get("reason") or ""),
            str(changed or at)[:40],
        )
    if kind == Event.DRIFT_CHECKED:
        drifted = detail.get("drifted") or []
        if not isinstance(drifted, list):
            raise BadMessage("'drifted' must be a list; see events/request_retraining.drift_checked.json")
        batch, version = _text(detail, "batch_id")[:100], str(detail.get("version") or "")[:100]
        return Knock(
            # The batch and the champion it was compared with, so that a repeated check is the same knock.
            knock_id=f"drift-{batch}-{version or 'none'}",
            model=_text(detail, "model"),
            trigger=Trigger.DATA,
            reason=f"{counted(len(drifted), 'column')} drifted" if drifted else "new data, no drift",
            requested_by="check_drift",
            at=at,
            drifted=tuple(str(column)[:500] for column in drifted[:20]),
            batch_id=batch,
        )
    if kind == Event.RETRAINING_REQUESTED:
        try:
            trigger = Trigger(detail.get("trigger", Trigger.ON_DEMAND))
        except ValueError:
            known = ", ".join(Trigger)
            raise BadMessage(f"trigger {str(detail['trigger'])[:40]!r} is unknown; known: {known}") from None
        return Knock(
            knock_id=f"asked-{str(detail.get('request_id') or event_id)[:80]}",
            model=_text(detail, "model"),
            trigger=trigger,
            reason=_text(detail, "reason")[:500],
            requested_by=str(detail.get("requested_by") or event.get("source", "unknown"))[:200],
            at=at,
            force=detail.get("force") is True,
            resumes=str(detail.get("resumes") or "")[:40],
        )
    raise BadMessage(
        f"detail-type {str(kind)[:80]!r} does not ask for a retraining; see events/request_retraining.json"
    )


def clock(event: Any) -> str:
    """When the scheduled rule fired: delivered again, it is of the same time."""
    at = _text(event, "time")
    try:
        return times.text(times.moment(at))
    except ValueError:
        raise BadMessage(f"'time' is {at[:40]!r}, not ISO 8601; see events/prune.json") from None


def model_of(event: Any) -> str:
    """The model that an announcement of ours speaks of."""
    return _text(_detail(event), "model")


@dataclass(frozen=True)
class PredictRequest:
    model: str
    records: list[dict[str, Any]]


def predict_request(event: Any) -> PredictRequest:
    """From a direct invocation, or from a function URL whose body is the same JSON."""
    if isinstance(event, dict) and "requestContext" in event:
        try:
            event = json.loads(event.get("body") or "")
        except ValueError as error:
            raise BadMessage(f"the body is not JSON: {error}; see events/predict.json") from error
    model = _text(event, "model")
    records = event.get("records")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise BadMessage("'records' must be a list of objects, one a row; see events/predict.json")
    return PredictRequest(model, records)


def _detail(event: Any) -> dict[str, Any]:
    if not isinstance(event, dict) or not isinstance(event.get("detail"), dict):
        raise BadMessage("not an EventBridge event: it has no 'detail'; see the samples in events/")
    try:
        json.dumps(event, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadMessage("holds half of a surrogate pair, which is no text that can be stored") from error
    return event["detail"]


def _text(source: Any, name: str) -> str:
    value = source.get(name) if isinstance(source, dict) else None
    if not isinstance(value, str) or not value:
        raise BadMessage(f"field {name!r} is missing or no text; see the samples in events/")
    return value


def caught(error: Any) -> tuple[str, str]:
    """Name and sentence of what a Catch of the state machine put into `error`."""
    if not isinstance(error, dict):
        return "UnknownError", "the state machine caught an error without a description"
    name, cause = str(error.get("Error", "UnknownError")), str(error.get("Cause", ""))
    with contextlib.suppress(
        ValueError, KeyError, TypeError
    ):  # a timeout's cause is words, an exception's is JSON
        cause = str(json.loads(cause)["errorMessage"])
    return name, cause[:2000] or "no cause was given"
