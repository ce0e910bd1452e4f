"""The state machine's definition, interpreted step by step: as much of the language as it uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto_stack import definition

STATES = json.loads(definition())["States"]
START = json.loads(definition())["StartAt"]


class TaskFailed(Exception):
    """How Step Functions sees a Lambda function fail."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(error)
        self.output = {"Error": error, "Cause": cause}


@dataclass
class Execution:
    """One run through the machine. `invoke` calls a function by the ARN that a Task names."""

    invoke: Callable[[str, Any], Any]

    def run(self, data: Any) -> str:
        """The status that the execution ends with."""
        return self._states(STATES, START, data)[0]

    def _states(self, states: dict[str, Any], name: str, data: Any) -> tuple[str, Any]:
        while True:
            state = states[name]
            kind = state["Type"]
            if kind in ("Succeed", "Fail"):
                return {"Succeed": "SUCCEEDED", "Fail": "FAILED"}[kind], data
            if kind == "Choice":
                name = next((c["Next"] for c in state["Choices"] if _true(c, data)), state["Default"])
                continue
            try:
                data = _placed(state, "ResultPath", data, self._result(state, data))
            except TaskFailed as failed:
                catcher = _matching(state.get("Catch", []), failed)
                if not catcher:
                    raise
                data, name = _placed(catcher, "ResultPath", data, failed.output), catcher["Next"]
                continue
            if state.get("End"):
                return "SUCCEEDED", data
            name = state["Next"]

    def _result(self, state: dict[str, Any], data: Any) -> Any:
        if state["Type"] == "Pass":
            return data
        if state["Type"] == "Map":
            inner = state["ItemProcessor"]
            items = [_selected(state["ItemSelector"], data, item) for item in _at(state["ItemsPath"], data)]
            return [self._states(inner["States"], inner["StartAt"], item)[1] for item in items]
        assert state["Type"] == "Task", state["Type"]
        tried: dict[int, int] = {}
        while True:
            try:
                return self.invoke(state["Resource"], data)
            except TaskFailed as failed:
                retrier = _matching(state.get("Retry", []), failed)
                if not retrier:
                    raise
                tried[id(retrier)] = tried.get(id(retrier), 0) + 1
                if tried[id(retrier)] > retrier["MaxAttempts"]:
                    raise


def _matching(rules: list[Any], failed: TaskFailed) -> Any:
    names = ("States.ALL", "States.TaskFailed", failed.output["Error"])
    return next((rule for rule in rules if any(name in rule["ErrorEquals"] for name in names)), None)


def _at(path: str, data: Any) -> Any:
    for name in path.removeprefix("$").split(".")[1:]:
        data = data[name]
    return data


def _true(choice: dict[str, Any], data: Any) -> bool:
    if choice.keys() == {"Variable", "IsPresent", "Next"}:
        name = choice["Variable"].removeprefix("$.")
        assert "." not in name, choice
        return (name in data) is choice["IsPresent"]
    found = _at(choice["Variable"], data)
    if choice.keys() == {"Variable", "NumericGreaterThan", "Next"}:
        return found > choice["NumericGreaterThan"]
    assert choice.keys() == {"Variable", "BooleanEquals", "Next"}, choice
    return found is choice["BooleanEquals"]


def _placed(rule: dict[str, Any], field: str, data: Any, result: Any) -> Any:
    if field not in rule:
        return result
    return {**data, rule[field].removeprefix("$."): result}


def _selected(selector: dict[str, str], data: Any, item: Any) -> Any:
    context = {"Map": {"Item": {"Value": item}}}
    return {
        name.removesuffix(".$"): _at(path[1:], context) if path.startswith("$$") else _at(path, data)
        for name, path in selector.items()
    }
