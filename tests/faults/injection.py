"""Faults, put into single requests to AWS below the SDK: its own retries are the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

from botocore import endpoint
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber


class Kind(StrEnum):
    """What goes wrong with one request."""

    THROTTLED = "throttled"
    ERROR = "error 500"
    ERROR_APPLIED = "error 500, applied"
    RESET = "connection reset"
    REPLY_LOST = "applied, reply lost"
    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"

    @property
    def kills(self) -> bool:
        return self in (Kind.KILLED_BEFORE, Kind.KILLED_AFTER)


class Lasts(StrEnum):
    """Whether the SDK's second attempt goes through, or none does and the error reaches our code."""

    RECOVERS = "recovers"
    OUTLASTS = "outlasts"


@dataclass(frozen=True)
class Fault:
    kind: Kind
    lasts: Lasts = Lasts.OUTLASTS

    def __str__(self) -> str:
        return f"{self.kind}" if self.kind.kills else f"{self.kind}, {self.lasts}"


APPLIED = (Kind.ERROR_APPLIED, Kind.REPLY_LOST, Kind.KILLED_AFTER)
FAULTS = tuple(
    Fault(kind, lasts) for kind in Kind for lasts in Lasts if not (kind.kills and lasts is Lasts.RECOVERS)
)


@dataclass(frozen=True)
class Call:
    """A request that product code makes: its place in the scenario, who makes it, of what."""

    position: int
    actor: str
    operation: str

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Those that it may meet; a read leaves nothing behind, whether it was applied or not."""
        reads = self.operation.startswith(("Get", "Query", "List", "Describe"))
        return tuple(each for each in FAULTS if not (reads and each.kind in APPLIED))


class Killed(BaseException):
    """The process is gone. No handler of the product catches it."""


class Injection:
    """Counts the requests of product code, and lets `choose` say which of them goes wrong, and how."""

    def __init__(self, choose: Callable[[Call], Fault | None]) -> None:
        self.choose = choose
        self.armed = False
        self.calls: list[Call] = []
        self.actor = ""  # who runs; nobody while the world is only looked at
        self.dead = False  # what was killed asks for nothing more, whatever its `finally` tries
        self.struck: Call | None = None
        self._fault: Fault | None = None
        self._attempts = 0

    @contextmanager
    def running(self, actor: str) -> Iterator[None]:
        """Requests made meanwhile are those of `actor`, until it ends or waits for another."""
        before = self.actor, self.dead
        self.actor, self.dead = actor, False
        try:
            yield
        finally:
            self.actor, self.dead = before

    def watch(self, client: Any) -> None:
        """Stand between a client and moto."""
        events = client.meta.events
        events.register_first("before-call.*", self._begin)
        events.unregister("before-send", botocore_stubber)  # all that listen are asked, not just the first
        events.register_first("before-send", self._send)

    def _begin(self, model: Any, **_: Any) -> None:
        self._fault, self._attempts = None, 0
        if not (self.actor and self.armed):
            return
        if self.dead:
            raise Killed
        call = Call(len(self.calls), self.actor, model.name)
        self.calls.append(call)
        self._fault = self.choose(call)
        if self._fault:
            self.struck = call

    def _send(self, event_name: str, request: Any, **_: Any) -> AWSResponse | None:
        fault, self._attempts = self._fault, self._attempts + 1
        if fault is None or (self._attempts > 1 and fault.lasts is Lasts.RECOVERS):
            return botocore_stubber(event_name, request)
        if fault.kind in APPLIED and self._attempts == 1:
            botocore_stubber(event_name, request)
        if fault.kind.kills:
            self.dead = True
            raise Killed
        if fault.kind is Kind.RESET:
            raise ConnectionClosedError(endpoint_url=request.url)
        if fault.kind is Kind.REPLY_LOST:
            raise ReadTimeoutError(endpoint_url=request.url)
        return _refusal(event_name.split(".")[1], request.url, throttled=fault.kind is Kind.THROTTLED)


# Service as in the name of botocore's events: status and code when throttled, code when it fails.
_CODES = {
    "s3": (503, "SlowDown", "InternalError"),
    "dynamodb": (400, "ProvisionedThroughputExceededException", "InternalServerError"),
    "eventbridge": (400, "ThrottlingException", "InternalException"),
    "sfn": (400, "ThrottlingException", "InternalServerError"),
    "sqs": (400, "ThrottlingException", "InternalFailure"),
    "cloudwatch": (400, "Throttling", "InternalServiceFault"),
}


def _refusal(service: str, url: str, *, throttled: bool) -> AWSResponse:
    """What the service answers when it throttles or fails."""
    status, slow, failed = _CODES[service]
    status, code = (status, slow) if throttled else (500, failed)
    if service == "s3":
        headers = {"content-type": "application/xml"}
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    else:
        headers = {"content-type": "application/x-amz-json-1.0"}
        body = json.dumps({"__type": code, "message": "injected"}).encode()
    return AWSResponse(url, status, headers, MockRawResponse(body))


@contextmanager
def without_waiting() -> Iterator[None]:
    """The SDK backs off in no time."""
    real = endpoint.time
    endpoint.time = SimpleNamespace(sleep=lambda seconds: None)
    try:
        yield
    finally:
        endpoint.time = real
