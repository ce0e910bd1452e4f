"""Where the embedded engine (ministack) behaves unlike AWS in ways that Refit relies on.

Each `Edit` replaces one exact piece of the engine's source while it runs. The piece must occur exactly once,
so an engine that no longer looks as expected is refused at start, not misread later.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import textwrap
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from types import FunctionType
from typing import Any

PINNED = "1.5.33"

# Environments of one function that run at a time. A worker with scikit-learn takes 150 to 250 MB and a core.
WORKERS_PER_FUNCTION = min(4, max(2, os.cpu_count() or 2))


class EngineChanged(Exception):
    """The installed ministack is not the one these edits were written for."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} of ministack {version('ministack')} is not as in {PINNED}, the version that is pinned. "
            "Run `make setup` to install the pinned versions."
        )


@dataclass(frozen=True)
class Edit:
    """One replacement in the engine's source.

    where : "module:attribute", a function, a method or a string constant
    why   : what AWS does, and what goes wrong without it
    old   : exact source text; must occur once
    new   : what stands there instead
    """

    where: str
    why: str
    old: str
    new: str


EDITS = (
    Edit(
        "ministack.core.lambda_runtime:_PYTHON_WORKER_SCRIPT",
        "AWS reports a raised exception by its class name; the worker reports the message alone.",
        """{"status": "error", "error": str(e), "trace": traceback.format_exc()}""",
        """{"status": "error", "error": str(e), "trace": traceback.format_exc(), "raised": type(e).__name__}""",
    ),
    Edit(
        "ministack.core.lambda_runtime:_PYTHON_WORKER_SCRIPT",
        "A module that cannot be imported says only its message; AWS gives the traceback too.",
        """json.dumps({"status": "error", "error": str(e)})""",
        """json.dumps({"status": "error", "error": traceback.format_exc()})""",
    ),
    Edit(
        "ministack.services.lambda_svc:_execute_function_warm",
        "Step Functions matches ErrorEquals against errorType, which is always Runtime.HandlerError here.",
        """error_type = "Runtime.HandlerError"\n""",
        """error_type = result.get("raised") or "Runtime.ExitError"\n""",
    ),
    Edit(
        "ministack.core.lambda_runtime:Worker.invoke",
        "On AWS an environment outlives an exception; only an exit, a crash or a timeout ends it.",
        """if response.get("status") == "error":\n            proc, self._proc""",
        """if response.get("status") == "error" and not response.get("raised"):\n            proc, self._proc""",
    ),
    Edit(
        "ministack.core.lambda_runtime:Worker._drain_stderr_bounded",
        "Each call of a function that logs nothing waits 50 ms for a line. What it logged is in the pipe by then.",
        "first_line_wait: float = 0.050",
        "first_line_wait: float = 0.005",
    ),
    Edit(
        "ministack.services.lambda_svc:_execute_function_warm",
        "Every concurrent invocation would start a process; AWS has a fleet for that, this machine has not. "
        "Waiting is safe because no function of ours waits for another.",
        "worker, reason = acquire_worker(func_name, config, code_zip, qualifier=qualifier)\n",
        "from refit_cli.local.shims import lease\n"
        "    worker, reason = lease(acquire_worker, func_name, config, code_zip, qualifier=qualifier)\n",
    ),
    Edit(
        "ministack.services.eventbridge:_dispatch_to_lambda",
        "EventBridge invokes asynchronously: two retries, then the function's dead-letter queue. "
        "Here a failed event would be lost.",
        "threading.Thread(\n"
        "        target=lambda_svc._execute_function_with_config_scope, args=(exec_record, event), daemon=True\n"
        "    ).start()\n",
        "lambda_svc.invoke_async_with_retry(exec_record, event)\n",
    ),
    Edit(
        "ministack.services.cloudformation.provisioners:_lambda_create",
        "A function's dead-letter queue is forgotten when the function is deployed.",
        """"PackageType": "Image" if is_image else "Zip",\n""",
        """"PackageType": "Image" if is_image else "Zip",\n"""
        """            "DeadLetterConfig": props.get("DeadLetterConfig") or {},\n""",
    ),
    Edit(
        "ministack.services.lambda_svc:_route_async_failure",
        "A dead-letter queue gets the event as it was; the envelope is what an OnFailure destination gets.",
        "body = json.dumps(envelope)\n",
        """parked = _functions.get(func_name, {}).get("config", {}).get("DeadLetterConfig") or {}\n"""
        """        body = json.dumps(event if parked.get("TargetArn") == target_arn else envelope)\n""",
    ),
    Edit(
        "ministack.services.s3:_fire_s3_event",
        "S3's events name the version that was written; without it an overwritten upload is read twice.",
        "if reason is not None:\n",
        'if version_id:\n                    detail["object"]["version-id"] = version_id\n'
        "                if reason is not None:\n",
    ),
    Edit(
        "ministack.services.cloudwatch:_dispatch_alarm_actions",
        "CloudWatch announces every change of an alarm's state on the default bus; the engine only knows SNS.",
        """if not alarm.get("ActionsEnabled", True):\n""",
        "from refit_cli.local.shims import announce_alarm\n"
        "    announce_alarm(alarm, old_state, new_state, reason)\n"
        """    if not alarm.get("ActionsEnabled", True):\n""",
    ),
    Edit(
        "ministack.core.iam_actions:request_tag_context",
        "Roles are enforced, but conditions on these keys would refuse (or, for ForAllValues, allow) every call.",
        "return {}\n    tags:",
        "from refit_cli.local.shims import condition_keys\n"
        "        return condition_keys(iam_action, body)\n"
        "    tags:",
    ),
    Edit(
        "ministack.core.iam_actions:extract_resource_arn",
        "Deleting an alarm is a right on that alarm; the engine finds no name in the list and asks for a right on all.",
        """name = _param(body, query_params, "AlarmName")\n        if name:\n            return f"arn:aws:cloudwatch:""",
        """from refit_cli.local.shims import alarm_named\n"""
        """        name = _param(body, query_params, "AlarmName") or alarm_named(body)\n"""
        """        if name:\n            return f"arn:aws:cloudwatch:""",
    ),
    Edit(
        "ministack.services.stepfunctions:_execute_task",
        "Each attempt at a task that waits for an answer has a token of its own; the one before it is dead.",
        """ctx["State"]["RetryCount"] = sum(retry_counts.values())\n""",
        """ctx["State"]["RetryCount"] = sum(retry_counts.values())\n"""
        """        if is_callback:\n            ctx["Task"] = {"Token": new_uuid()}\n""",
    ),
    Edit(
        "ministack.services.stepfunctions:_execute_task",
        "A task that waits for an answer may take its timeout from its input; the engine only knows TimeoutSeconds.",
        """resource, effective, ctx["Task"]["Token"], state_def)""",
        """resource, effective, ctx["Task"]["Token"], {**state_def, **(\n"""
        """                        {"TimeoutSeconds": _resolve_path_or_ctx(state_def["TimeoutSecondsPath"], raw_input, ctx)}\n"""
        """                        if "TimeoutSecondsPath" in state_def else {})})""",
    ),
    Edit(
        "ministack.services.stepfunctions:_invoke_with_callback",
        "When the function that asks fails, the task fails; here it would wait for an answer to a question never asked.",
        """_call_lambda(func_ref, lambda_payload)\n        except _ExecutionError:\n            pass\n""",
        """_call_lambda(func_ref, lambda_payload)\n        except _ExecutionError:\n"""
        """            _task_tokens.pop(token, None)\n            raise\n""",
    ),
    Edit(
        "ministack.services.stepfunctions:_start_execution",
        "Starting a running execution again with the same name and input answers with that execution.",
        "# Reject duplicate execution names\n",
        "known = _executions.get(exec_arn)\n"
        """    if known and known["status"] == "RUNNING" and known["input"] == data.get("input", "{}"):\n"""
        """        return json_response({"executionArn": exec_arn, "startDate": known["startDate"]})\n""",
    ),
)


def apply() -> None:
    """Make every edit in this process. Raises EngineChanged."""
    if version("ministack") != PINNED:
        raise EngineChanged("The source")
    for edit in EDITS:
        _apply(edit)


def _apply(edit: Edit) -> None:
    module_name, _, path = edit.where.partition(":")
    module = importlib.import_module(module_name)
    *outer, name = path.split(".")
    owner: Any = module
    for part in outer:
        owner = getattr(owner, part, None)
    target = getattr(owner, name, None)
    if isinstance(target, str):
        setattr(owner, name, _replaced(target, edit))
    elif isinstance(target, FunctionType):
        # An earlier edit's result, or the file; the code is swapped inside the function object because
        # dispatch tables and other modules hold on to it.
        source = getattr(target, "edited_source", None) or textwrap.dedent(inspect.getsource(target))
        source = _replaced(source, edit)
        scratch: dict[str, Any] = {}
        exec(compile(source, f"<{edit.where}, edited>", "exec"), dict(vars(module)), scratch)
        target.__code__ = scratch[name].__code__
        target.__defaults__ = scratch[name].__defaults__
        target.edited_source = source  # type: ignore[attr-defined]
    else:
        raise EngineChanged(edit.where)


def _replaced(source: str, edit: Edit) -> str:
    if source.count(edit.old) != 1:
        raise EngineChanged(edit.where)
    return source.replace(edit.old, edit.new)


_turns: dict[str, deque[threading.Event]] = {}
_turning = threading.Lock()


def lease(acquire: Any, function: str, *args: Any, **kwargs: Any) -> tuple[Any, str]:
    """Wait for a worker of the function instead of starting one more than this machine can carry.

    First come, first served. Only who is next looks; hundreds that look keep the engine from its work.
    """
    turn = threading.Event()
    with _turning:
        turns = _turns.setdefault(function, deque())
        turns.append(turn)
        turns[0].set()
    try:
        turn.wait()
        while True:
            worker, reason = acquire(function, *args, max_concurrency=WORKERS_PER_FUNCTION, **kwargs)
            if worker is not None:
                return worker, reason
            time.sleep(0.01)
    finally:
        with _turning:
            turns.remove(turn)
            if turns:
                turns[0].set()


_alarm_states: dict[str, dict[str, str]] = {}


def announce_alarm(alarm: dict[str, Any], old_state: str, new_state: str, reason: str) -> None:
    """Put a "CloudWatch Alarm State Change" event on the default bus, shaped as AWS's."""
    from ministack.services import eventbridge

    arn = alarm["AlarmArn"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
    state = {"value": new_state, "reason": reason, "timestamp": now}
    previous = _alarm_states.get(arn, {"value": old_state, "reason": "", "timestamp": now})
    _alarm_states[arn] = state
    metric = {
        "namespace": alarm.get("Namespace", ""),
        "name": alarm.get("MetricName", ""),
        "dimensions": {d["Name"]: d["Value"] for d in alarm.get("Dimensions") or []},
    }
    stat = alarm.get("ExtendedStatistic") or alarm.get("Statistic", "Average")
    detail = {
        "alarmName": alarm["AlarmName"],
        "configuration": {
            "description": alarm.get("AlarmDescription", ""),
            "metrics": [
                {
                    "id": "m1",
                    "metricStat": {"metric": metric, "period": alarm.get("Period", 60), "stat": stat},
                    "returnData": True,
                }
            ],
        },
        "previousState": previous,
        "state": state,
    }
    entry = {
        "Source": "aws.cloudwatch",
        "DetailType": "CloudWatch Alarm State Change",
        "Detail": json.dumps(detail),
        "Resources": [arn],
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def condition_keys(action: str, body: bytes) -> dict[str, Any]:
    """The condition keys of a request that the template's policies use and the engine does not fill in.

    events:source, events:detail-type, cloudwatch:namespace and dynamodb:LeadingKeys, as in AWS's service authorization reference.
    """
    if action == "events:PutEvents":
        # AWS checks entry by entry; here one call is one value, so a batch of several sources matches none.
        entries = json.loads(body).get("Entries", [])
        return {
            "events:source": ",".join({entry.get("Source", "") for entry in entries}),
            "events:detail-type": ",".join({entry.get("DetailType", "") for entry in entries}),
        }
    if action == "cloudwatch:PutMetricData":
        return {"cloudwatch:namespace": json.loads(body).get("Namespace", "")}
    if action.startswith("dynamodb:"):
        request = json.loads(body or b"{}")
        parts = [part for item in request.get("TransactItems", []) for part in item.values()] or [request]
        keys = sorted({key for part in parts for key in _leading_keys(part)})
        return {"dynamodb:LeadingKeys": keys} if keys else {}
    return {}


def alarm_named(body: bytes) -> str:
    """The alarm that a request to delete alarms names; nothing when it names several, or is another request."""
    try:
        names = json.loads(body or b"{}").get("AlarmNames") or []
    except ValueError:
        return ""
    return names[0] if len(names) == 1 else ""


def _leading_keys(request: dict[str, Any]) -> list[str]:
    """Values of the partition key that one DynamoDB operation names."""
    from ministack.services import dynamodb

    table = dynamodb._tables.get(request.get("TableName", "").rpartition("/")[2]) or {}
    names = [k["AttributeName"] for k in table.get("KeySchema", []) if k["KeyType"] == "HASH"]
    found = [
        given[n] for given in (request.get("Key"), request.get("Item")) if given for n in names if n in given
    ]
    aliases = request.get("ExpressionAttributeNames", {})
    for name, value in re.findall(r"(#?[\w.-]+)\s*=\s*(:\w+)", request.get("KeyConditionExpression", "")):
        if aliases.get(name, name) in names:
            found.append(request.get("ExpressionAttributeValues", {}).get(value, {}))
    return [str(v) for value in found for v in value.values()]
