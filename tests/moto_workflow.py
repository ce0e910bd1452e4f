"""A stack under moto whose executions run: moto's Lambda calls our handlers in this process."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from moto_stack import RESOURCES, Stack, resolve

from refit.batches import Upload

FUNCTIONS = {
    resolve({"Fn::GetAtt": [name, "Arn"]}): resource["Properties"]["Handler"].removesuffix(".handler")
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::Serverless::Function"
}


def failing(error: Exception, times: int = 1, **fields: Any) -> Callable[[dict[str, Any]], None]:
    """Lambda fails the next `times` invocations whose event has these fields."""
    left = iter(range(times))

    def fail(event: dict[str, Any]) -> None:
        if fields.items() <= event.items() and next(left, None) is not None:
            raise error

    return fail


@dataclass
class Workflow:
    """`before` holds what happens before a function is invoked."""

    stack: Stack
    before: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    invoked: list[str] = field(default_factory=list)
    payloads: list[int] = field(default_factory=list)  # bytes of what went in and came out
    delivered: set[str] = field(default_factory=set)

    def invoke(self, arn: str, body: str, response_headers: dict[str, str]) -> bytes:
        """What Lambda's Invoke answers: the result, or an exception as its class name and words."""
        name, event = FUNCTIONS[arn], json.loads(body)
        self.invoked.append(name)
        try:
            if name in self.before:
                self.before[name](event)
            result = json.dumps(self.stack.call(name, event))
        except Exception as error:  # noqa: BLE001
            response_headers["x-amz-function-error"] = "Unhandled"
            result = json.dumps(
                {
                    "errorMessage": str(error),
                    "errorType": type(error).__name__,
                    "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
                    "stackTrace": traceback.format_tb(error.__traceback__),
                }
            )
        self.payloads += [len(body), len(result)]
        return result.encode()

    # ------------------------------------------------------------ what EventBridge does
    def upload(self, name: str, content: pd.DataFrame, model: str = "flights") -> Upload:
        """Drop a file and follow what comes of it until everything is at rest."""
        upload = self.stack.upload(name, content, model)
        self.settle()
        return upload

    def settle(self) -> None:
        """Deliver every event to whom it concerns, until there is none left."""
        while True:
            arrived = [key for key in self.stack.versions_of("accepted/") if key.endswith("profile.json")]
            ended = [name for name in self.stack.executions() if self.outcome(name)]
            for key in self._news(arrived):
                _, model, batch, _ = key.split("/")
                for function in ("check_drift", "check_quality"):
                    self.stack.call(function, self.stack.profile_event(function, batch, model))
            for name in self._news(ended):
                model, _, number = name.rpartition("-run-")
                event = self.stack.ended(f"run-{number}", self.outcome(name), model)
                self.stack.call("request_retraining", event)
            asked = self.stack.heard("Drift Checked")
            for event in asked:
                self.stack.call("request_retraining", event)
            if not asked and set(self.stack.executions()) <= self.delivered:
                return

    def _news(self, names: list[str]) -> list[str]:
        news = [name for name in names if name not in self.delivered]
        self.delivered.update(news)
        return news

    # ------------------------------------------------------------ what an execution did
    def outcome(self, name: str, timeout: float = 60) -> str:
        """Wait for the end of an execution; its status."""
        end = time.monotonic() + timeout
        while (status := self.stack.execution(name)["status"]) == "RUNNING":
            assert time.monotonic() < end, f"{name} still runs"
            time.sleep(0.02)
        return status

    def states(self, name: str) -> list[str]:
        """Names of the states that an execution entered, in order."""
        arn = self.stack.execution(name)["executionArn"]
        history = self.stack.app.sfn.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        return [e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e]
