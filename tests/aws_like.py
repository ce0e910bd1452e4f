"""What AWS refuses and moto lets through: limits, rights, names and tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from refit.aws.runtime import App

PAYLOAD = 256 * 1024  # of an event on the bus, and of what goes in and out of a state
ITEM = 400 * 1024  # of DynamoDB
REFUSED = "IdempotentParameterMismatchException"


@dataclass
class AwsLike:
    """`largest` holds the biggest of each kind that went through."""

    app: App
    largest: dict[str, int] = field(default_factory=dict)
    applied: dict[str, str] = field(default_factory=dict)  # transactions by token
    under_way: dict[int, tuple[str, str]] = field(default_factory=dict)  # by thread

    def limits(self, model: Any, params: Any, **_: Any) -> Any:
        """Refuses, as the answer of AWS, what is larger than AWS takes."""
        body = json.loads(params["body"]) if model.name in SIZED else {}
        if model.name == "PutEvents":
            for entry in body["Entries"]:
                size = sum(len(entry[name].encode()) for name in ("Source", "DetailType", "Detail"))
                if self._over("event", size, PAYLOAD):
                    return _error(
                        "ValidationException", "Total size of the entries in the request is over the limit."
                    )
        elif model.name == "StartExecution" and self._over("input", len(body["input"].encode()), PAYLOAD):
            return _error(
                "ValidationException", "'input' failed to satisfy constraint: length at most 262144"
            )
        elif model.name in ("PutItem", "TransactWriteItems"):
            puts = (
                [body]
                if model.name == "PutItem"
                else [each["Put"] for each in body["TransactItems"] if "Put" in each]
            )
            for put in puts:
                size = sum(
                    len(name) + len(str(*value.values()).encode()) for name, value in put["Item"].items()
                )
                if self._over("item", size, ITEM):
                    return _error("ValidationException", "Item size has exceeded the maximum allowed size")
        return None

    def _over(self, kind: str, size: int, most: int) -> bool:
        if size <= most:
            self.largest[kind] = max(self.largest.get(kind, 0), size)
        return size > most

    def tokens(self, params: Any, **_: Any) -> Any:
        """The same token: applied once for the same content, refused for another."""
        body = json.loads(params["body"])
        token, content = body["ClientRequestToken"], json.dumps(body, sort_keys=True)
        known = self.applied.get(token)
        if known is None:
            self.under_way[threading.get_ident()] = token, content
            return None
        return (
            _answer({}) if known == content else _error(REFUSED, "The token was used with other parameters")
        )

    def remembered(self, http_response: Any, **_: Any) -> None:
        token, content = self.under_way.pop(threading.get_ident(), ("", ""))
        if token and http_response.status_code == 200:
            self.applied[token] = content

    def rights(self, params: Any, context: Any, **_: Any) -> None:
        context["own"] = f"/{self.app.settings.store_bucket}" in params["url"] or (
            f"//{self.app.settings.store_bucket}." in params["url"]
        )

    def denied(self, http_response: Any, parsed: Any, context: Any, **_: Any) -> None:
        """No function may list the store bucket: of what is missing there, S3 says that access is denied."""
        if context.get("own") and http_response.status_code == 404:
            parsed["Error"] = {"Code": "AccessDenied", "Message": "Access Denied"}
            parsed["ResponseMetadata"]["HTTPStatusCode"] = 403


SIZED = ("PutEvents", "StartExecution", "PutItem", "TransactWriteItems")


class _Http:
    def __init__(self, status: int) -> None:
        self.status_code = status


def _answer(parsed: dict[str, Any], status: int = 200) -> tuple[_Http, dict[str, Any]]:
    return _Http(status), {**parsed, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}}


def _error(code: str, message: str) -> tuple[_Http, dict[str, Any]]:
    return _answer({"Error": {"Code": code, "Message": message}}, 400)


@contextmanager
def aws_like(app: App) -> Iterator[AwsLike]:
    """The clients of functions and of the command are answered as AWS would."""
    found = AwsLike(app)
    dynamodb, events = app.registry.dynamodb, app.bus.events
    hooks = [
        (dynamodb, "before-call.dynamodb", found.limits),
        (events, "before-call.events", found.limits),
        (app.sfn, "before-call.sfn", found.limits),
        (dynamodb, "before-call.dynamodb.TransactWriteItems", found.tokens),
        (dynamodb, "after-call.dynamodb.TransactWriteItems", found.remembered),
        (app.s3, "before-call.s3.GetObject", found.rights),
        (app.s3, "after-call.s3.GetObject", found.denied),
    ]
    for client, event, hook in hooks:
        client.meta.events.register(event, hook)
    try:
        yield found
    finally:
        for client, event, hook in hooks:
            client.meta.events.unregister(event, hook)
