"""The local engine behaves as AWS does wherever Refit relies on it. One stack serves the whole file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from refit_cli.local import LocalStack, local_stack
from refit_cli.local.shims import WORKERS_PER_FUNCTION

PROJECT = Path(__file__).parent / "project" / "template.yaml"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "late").mkdir()
    (folder / "late" / "model.toml").write_text("")
    return folder


@pytest.fixture(scope="module")
def stack(models: Path) -> Iterator[LocalStack]:
    # Credentials of a real account, as they may be in anyone's shell.
    host = {
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SESSION_TOKEN": "real",
        "PYTHONPATH": "/x",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in host.items():
            patch.setenv(name, value)
        with local_stack(template=PROJECT, models=models, parameters={"Greeting": "good day"}) as running:
            yield running


def eventually(ask: Callable[[], Any], seconds: float = 15) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.05)
    return answer


def seen(stack: LocalStack, kind: str, matching: str = "") -> list[Any]:
    """What the handlers remembered under this kind."""
    found = stack.client("dynamodb").query(
        TableName=stack.outputs["TableName"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": kind}},
    )
    return [json.loads(i["seen"]["S"]) for i in found["Items"] if matching in i["seen"]["S"]]


def invoke(stack: LocalStack, **event: Any) -> Any:
    answer = stack.client("lambda").invoke(
        FunctionName=stack.outputs["ProbeFunctionName"], Payload=json.dumps(event).encode()
    )
    return json.loads(answer["Payload"].read())


def put(stack: LocalStack, key: str, body: bytes = b"1") -> str:
    answer = stack.client("s3").put_object(Bucket=stack.outputs["DataBucketName"], Key=key, Body=body)
    return answer["VersionId"]


def start(stack: LocalStack, name: str, **case: Any) -> str:
    answer = stack.client("stepfunctions").start_execution(
        stateMachineArn=stack.outputs["MachineArn"], name=name, input=json.dumps(case)
    )
    return answer["executionArn"]


def ended(stack: LocalStack, execution: str) -> dict[str, Any]:
    states = stack.client("stepfunctions")

    def closed() -> dict[str, Any] | None:
        description = states.describe_execution(executionArn=execution)
        return None if description["status"] == "RUNNING" else description

    return eventually(closed)


# ---------------------------------------------------------------- packing and environment


def test_layers_and_parameters_are_those_of_the_template(stack: LocalStack) -> None:
    """Own code comes from the deployed layer, native packages from this environment, parameters can be set."""
    layers = invoke(stack, do="layers")
    assert layers["own"] == "from the layer"
    assert "layer_" in layers["from"]
    assert layers["models"] == ["late"]
    assert invoke(stack, do="environment")["variables"]["GREETING"] == "good day"


def test_handlers_see_nothing_of_the_host(stack: LocalStack) -> None:
    """Real credentials, profiles and module paths stay outside; the endpoint is the engine's."""
    environment = invoke(stack, do="environment")
    variables = environment["variables"]
    assert "AWS_PROFILE" not in variables
    assert not {"AKIAREAL", "real"} & set(variables.values())
    assert variables["AWS_SHARED_CREDENTIALS_FILE"] == variables["AWS_CONFIG_FILE"] == os.devnull
    assert variables["HOME"] != os.environ.get("HOME")
    assert variables["AWS_ENDPOINT_URL"] == stack.endpoint
    assert "/x" not in environment["path"]
    assert str(Path.cwd()) not in environment["path"]


def test_nothing_listens_outside_loopback(stack: LocalStack) -> None:
    """Every listening socket of the engine's processes is bound to 127.0.0.1."""
    group = stack._process.pid
    pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _group_of(p) == group]
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(str(link.readlink()).removeprefix("socket:[").rstrip("]"))
    rows = [r.split() for t in ("tcp", "tcp6") for r in Path(f"/proc/net/{t}").read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}
    assert listening == {f"0100007F:{int(stack.endpoint.rpartition(':')[2]):04X}"}


def _group_of(process: Path) -> int:
    try:
        return os.getpgid(int(process.name))
    except ProcessLookupError:
        return -1


# ---------------------------------------------------------------- Lambda


def test_an_exception_is_named_by_its_class(stack: LocalStack) -> None:
    """errorType is the class of what was raised, as AWS reports it."""
    assert invoke(stack, do="raise") == {"errorMessage": "said no", "errorType": "Refused"}


def test_a_worker_outlives_an_exception_but_not_an_exit(stack: LocalStack) -> None:
    """The environment is reused after a raised exception and replaced after an exit."""
    before = invoke(stack, do="pid")
    invoke(stack, do="raise")
    assert invoke(stack, do="pid") == before
    assert invoke(stack, do="exit")["errorType"] == "Runtime.ExitError"
    assert invoke(stack, do="pid") != before


def test_a_module_that_cannot_be_imported_says_where(stack: LocalStack) -> None:
    """The error carries the traceback; without it nobody finds the missing name."""
    answer = stack.client("lambda").invoke(FunctionName=stack.outputs["BrokenFunctionName"])
    said = json.loads(answer["Payload"].read())["errorMessage"]
    assert "broken.py" in said
    assert "No module named 'nowhere_to_be_found'" in said


def test_a_warm_call_that_logs_nothing_does_not_wait_for_a_log(stack: LocalStack) -> None:
    """The fastest of ten is well below the 50 ms that the engine would wait for a line."""

    def seconds() -> float:
        began = time.monotonic()
        invoke(stack, do="pid")
        return time.monotonic() - began

    assert min(seconds() for _ in range(10)) < 0.045


def test_a_timeout_is_named(stack: LocalStack) -> None:
    """A function that takes longer than its Timeout is ended and says so."""
    assert invoke(stack, do="sleep", seconds=4)["errorType"] == "Sandbox.Timedout"


def test_concurrent_invocations_share_a_few_workers_and_all_answer(stack: LocalStack) -> None:
    """A burst waits for workers; it neither floods the machine nor is throttled."""
    bucket = stack.outputs["DataBucketName"]
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(invoke, stack, do="write", bucket=bucket, key=f"allowed/{i}") for i in range(12)]
        pids = {call.result() for call in calls}
    assert all(isinstance(pid, int) for pid in pids)
    assert len(pids) <= WORKERS_PER_FUNCTION


def test_a_failing_asynchronous_function_is_retried_twice_then_dead_lettered(stack: LocalStack) -> None:
    """EventBridge to Lambda: three attempts, then the event is in the function's dead-letter queue."""
    stack.client("events").put_events(
        Entries=[
            {
                "EventBusName": stack.outputs["BusName"],
                "Source": "tests",
                "DetailType": "Failing",
                "Detail": json.dumps({"mark": "dead letter"}),
            }
        ]
    )
    letter = dead_letter(stack, "Failing")
    assert letter["detail"] == {"mark": "dead letter"}
    assert len(seen(stack, "Failing")) == 3


def dead_letter(stack: LocalStack, containing: str) -> dict[str, Any]:
    sqs = stack.client("sqs")
    url = stack.outputs["DeadLetterQueueUrl"]

    def letter() -> dict[str, Any] | None:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=1).get(
            "Messages", []
        ):
            if containing in message["Body"]:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                return json.loads(message["Body"])
        return None

    return eventually(letter)


# ---------------------------------------------------------------- IAM


def item(kind: str) -> dict[str, Any]:
    return {"pk": {"S": kind}, "sk": {"S": "iam"}, "seen": {"S": "1"}}


CALLS = {
    "write where the role allows": (
        "s3",
        "put_object",
        lambda o, good: {
            "Bucket": o["DataBucketName"],
            "Key": "allowed/x" if good else "other/x",
            "Body": "1",
        },
    ),
    "put items under its own keys": (
        "dynamodb",
        "put_item",
        lambda o, good: {"TableName": o["TableName"], "Item": item("busy-iam" if good else "other")},
    ),
    "query its own keys": (
        "dynamodb",
        "query",
        lambda o, good: {
            "TableName": o["TableName"],
            "KeyConditionExpression": "#k = :v",
            "ExpressionAttributeNames": {"#k": "pk"},
            "ExpressionAttributeValues": {":v": {"S": "busy-iam" if good else "other"}},
        },
    ),
    "transact under its own keys": (
        "dynamodb",
        "transact_write_items",
        lambda o, good: {
            "TransactItems": [
                {"Put": {"TableName": o["TableName"], "Item": item(kind)}}
                for kind in ("busy-1", "busy-2" if good else "other")
            ]
        },
    ),
    "announce under its own source": (
        "events",
        "put_events",
        lambda o, good: {
            "Entries": [
                {
                    "EventBusName": o["BusName"],
                    "Source": "tests" if good else "somebody",
                    "DetailType": "Nothing",
                    "Detail": "{}",
                }
            ]
        },
    ),
    "delete its own alarm": (
        "cloudwatch",
        "delete_alarms",
        lambda o, good: {"AlarmNames": ["tests-own" if good else "other"]},
    ),
    "publish in its own namespace": (
        "cloudwatch",
        "put_metric_data",
        lambda o, good: {
            "Namespace": "Tests" if good else "Other",
            "MetricData": [{"MetricName": "iam", "Value": 1.0}],
        },
    ),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_function_may_do_what_its_role_allows_and_no_more(stack: LocalStack, what: str) -> None:
    """Resource and condition both count: the same call a step aside is refused as on AWS."""
    service, operation, arguments = CALLS[what]
    allowed = {"service": service, "operation": operation, "arguments": arguments(stack.outputs, True)}
    aside = {"service": service, "operation": operation, "arguments": arguments(stack.outputs, False)}
    assert invoke(stack, do="call", **allowed) == "done"
    assert "AccessDenied" in invoke(stack, do="call", **aside)["errorMessage"]


# ---------------------------------------------------------------- S3, SQS, EventBridge


def test_an_upload_reaches_its_handler_with_the_version_that_was_written(stack: LocalStack) -> None:
    """S3 -> EventBridge -> SQS -> Lambda; each write is one event that names key, raw, and version-id."""
    key = "incoming/late/März 1+2.csv"
    versions = {put(stack, key, b"1"), put(stack, key, b"2")}

    def both() -> list[dict[str, Any]] | None:
        found = {u["version-id"]: u for u in seen(stack, key)}  # SQS may deliver one twice
        return list(found.values()) if set(found) == versions else None

    first, second = eventually(both)
    assert first["key"] == second["key"] == key
    assert first["etag"] != second["etag"]
    assert first["sequencer"] != second["sequencer"]
    assert first["size"] == second["size"] == 1


def test_keys_outside_the_prefix_raise_no_event(stack: LocalStack) -> None:
    """The rule's prefix is honoured."""
    put(stack, "elsewhere/x.csv")
    put(stack, "incoming/after.csv")
    eventually(lambda: seen(stack, "incoming/after.csv"))
    assert not seen(stack, "elsewhere/x.csv")


@pytest.mark.parametrize("how", ["raises", "reports"])
def test_an_upload_that_keeps_failing_ends_in_the_dead_letter_queue(stack: LocalStack, how: str) -> None:
    """After maxReceiveCount attempts the message is moved, whether the handler raised or reported it."""
    put(stack, f"incoming/{how}.csv")
    assert dead_letter(stack, f"incoming/{how}.csv")["detail"]["object"]["key"] == f"incoming/{how}.csv"
    assert len(seen(stack, f"incoming/{how}.csv")) == 2


def test_a_wildcard_spans_slashes(stack: LocalStack) -> None:
    """accepted/*/profile.json matches any depth, and nothing but profile.json."""
    put(stack, "accepted/late/2013/01/rows.shard")
    put(stack, "accepted/late/2013/01/profile.json")
    [event] = eventually(lambda: seen(stack, "Object Created", "accepted/"))
    assert event["detail"]["object"]["key"] == "accepted/late/2013/01/profile.json"


def test_a_rule_listens_to_its_own_bus_only(stack: LocalStack) -> None:
    """The same event on the default bus reaches nobody."""
    for bus, mark in (("default", "wrong bus"), (stack.outputs["BusName"], "right bus")):
        entry = {
            "EventBusName": bus,
            "Source": "tests",
            "DetailType": "Asked",
            "Detail": json.dumps({"mark": mark}),
        }
        stack.client("events").put_events(Entries=[entry])
    [event] = eventually(lambda: seen(stack, "Asked"))
    assert event["detail"] == {"mark": "right bus"}


def test_a_write_can_be_made_conditional_on_absence(stack: LocalStack) -> None:
    """IfNoneMatch: * lets one writer through."""
    s3 = stack.client("s3")
    where = {"Bucket": stack.outputs["DataBucketName"], "Key": "once"}
    s3.put_object(**where, Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(**where, Body=b"2", IfNoneMatch="*")


def test_a_transaction_is_all_or_nothing(stack: LocalStack) -> None:
    """One failed condition undoes every write of the transaction, and the reasons say which."""
    dynamodb = stack.client("dynamodb")
    table = stack.outputs["TableName"]

    def put_once(name: str) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": table,
                "Item": {"pk": {"S": "transaction"}, "sk": {"S": name}, "seen": {"S": "1"}},
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }

    dynamodb.transact_write_items(TransactItems=[put_once("a")])
    with pytest.raises(ClientError) as refused:
        dynamodb.transact_write_items(TransactItems=[put_once("b"), put_once("a")])
    codes = [reason["Code"] for reason in refused.value.response["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed"]
    assert len(seen(stack, "transaction")) == 1


# ---------------------------------------------------------------- CloudWatch


def test_an_alarm_announces_its_change_of_state(stack: LocalStack) -> None:
    """PutMetricData past the threshold ends as the event that AWS documents, on the default bus."""
    cloudwatch = stack.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="quality-low",
        AlarmDescription="why",
        Namespace="Tests",
        MetricName="quality-late",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0.7,
        ComparisonOperator="LessThanThreshold",
    )
    for value in (0.9, 0.5):
        cloudwatch.put_metric_data(
            Namespace="Tests", MetricData=[{"MetricName": "quality-late", "Value": value}]
        )
        time.sleep(0.2)
    cloudwatch.set_alarm_state(AlarmName="quality-low", StateValue="ALARM", StateReason="by hand")
    [event] = eventually(lambda: seen(stack, "CloudWatch Alarm State Change", '"state": {"value": "ALARM"'))
    assert event["source"] == "aws.cloudwatch"
    assert event["resources"][0].endswith(":alarm:quality-low")
    detail = event["detail"]
    assert detail["alarmName"] == "quality-low"
    assert (detail["previousState"]["value"], detail["state"]["value"]) == ("OK", "ALARM")
    assert detail["state"]["reason"] and detail["state"]["timestamp"].endswith("+0000")
    assert detail["configuration"]["metrics"][0]["metricStat"]["metric"]["name"] == "quality-late"


# ---------------------------------------------------------------- Step Functions


def test_a_raised_exception_reaches_catch_by_name_and_fail_by_path(stack: LocalStack) -> None:
    """Catch matches the class name; Fail's ErrorPath and CausePath report it; the end is announced."""
    execution = start(stack, "caught", case="catch")
    end = ended(stack, execution)
    assert (end["status"], end["error"]) == ("FAILED", "Refused")
    assert json.loads(end["cause"]) == {"errorMessage": "said no", "errorType": "Refused"}
    [event] = eventually(
        lambda: (
            seen(stack, "Step Functions Execution Status Change", "execution:")
            and seen(stack, "Step Functions Execution Status Change", ":caught")
        )
    )
    assert (event["detail"]["status"], event["detail"]["error"]) == ("FAILED", "Refused")


def test_retry_matches_by_name(stack: LocalStack) -> None:
    """A task that raises what Retry names is tried again until it answers."""
    assert json.loads(ended(stack, start(stack, "busy", case="retry"))["output"]) == "done"
    assert len(seen(stack, "busy")) == 3


def test_a_slow_task_times_out(stack: LocalStack) -> None:
    """TimeoutSeconds ends as States.Timeout, which Catch sees."""
    assert ended(stack, start(stack, "slow", case="timeout"))["error"] == "States.Timeout"


def test_map_selects_what_each_item_gets(stack: LocalStack) -> None:
    """ItemSelector sees item, index and the state's input; results keep their order."""
    output = json.loads(ended(stack, start(stack, "each", case="map", items=["a", "b", "c"]))["output"])
    assert [(r["item"], r["index"], r["whole"]) for r in output["results"]] == [
        ("a", 0, "map"),
        ("b", 1, "map"),
        ("c", 2, "map"),
    ]


def test_a_task_waits_for_its_answer_and_the_answer_is_its_result(stack: LocalStack) -> None:
    """What SendTaskSuccess sends counts, not what the function returned; a second answer finds nobody."""
    execution = start(stack, "busy-asked", case="ask", fail=0, seconds=60)
    [token] = eventually(lambda: seen(stack, "busy-asked"))
    states = stack.client("stepfunctions")
    states.send_task_success(taskToken=token, output='{"said": "yes"}')
    assert json.loads(ended(stack, execution)["output"])["answer"] == {"said": "yes"}
    with pytest.raises(ClientError, match=r"TaskTimedOut|TaskDoesNotExist"):
        states.send_task_success(taskToken=token, output="{}")


def test_a_failure_that_is_sent_is_caught_by_its_name(stack: LocalStack) -> None:
    """SendTaskFailure's error and cause are those that Catch sees."""
    execution = start(stack, "busy-refused", case="ask", fail=0, seconds=60)
    [token] = eventually(lambda: seen(stack, "busy-refused"))
    stack.client("stepfunctions").send_task_failure(taskToken=token, error="Rejected", cause="said no")
    end = ended(stack, execution)
    assert (end["status"], end["error"], end["cause"]) == ("FAILED", "Rejected", "said no")


def test_a_wait_ends_after_the_seconds_that_its_input_says(stack: LocalStack) -> None:
    """TimeoutSecondsPath ends as States.Timeout, and its token is dead."""
    execution = start(stack, "busy-unanswered", case="ask", fail=0, seconds=1)
    assert ended(stack, execution)["error"] == "States.Timeout"
    [token] = seen(stack, "busy-unanswered")
    with pytest.raises(ClientError, match=r"TaskTimedOut|TaskDoesNotExist"):
        stack.client("stepfunctions").send_task_success(taskToken=token, output="{}")


def test_asking_that_fails_is_retried_with_a_token_of_its_own(stack: LocalStack) -> None:
    """The function's error is the task's, and Retry's; only the newest token reaches the execution."""
    execution = start(stack, "busy-asked-twice", case="ask", fail=1, seconds=60)
    first, second = eventually(lambda: len(t := seen(stack, "busy-asked-twice")) == 2 and t)
    states, reached = stack.client("stepfunctions"), []
    assert first != second
    for token in (first, second):
        try:
            states.send_task_success(taskToken=token, output="{}")
            reached.append(token)
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("TaskTimedOut", "TaskDoesNotExist")
    assert len(reached) == 1
    assert ended(stack, execution)["status"] == "SUCCEEDED"


def test_asking_that_keeps_failing_fails_the_task(stack: LocalStack) -> None:
    """Nobody waits for the answer to a question that was never asked."""
    assert ended(stack, start(stack, "busy-never-asked", case="ask", fail=9, seconds=60))["error"] == "Busy"


def test_starting_the_same_execution_twice_is_one_execution(stack: LocalStack) -> None:
    """Same name and input while it runs: the same answer. Other input, or closed: ExecutionAlreadyExists."""
    execution = start(stack, "once", case="wait")
    assert start(stack, "once", case="wait") == execution
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        start(stack, "once", case="done")
    ended(stack, execution)
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        start(stack, "once", case="wait")


# ---------------------------------------------------------------- deploying again; last, it ends the workers


def test_redeploying_brings_new_models_and_keeps_the_data(stack: LocalStack, tmp_path: Path) -> None:
    """Another models folder reaches the running functions; what was stored stays."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.toml").write_text("")
    put(stack, "kept")
    stack.redeploy(models=tmp_path, parameters={"Greeting": "good night"})
    assert invoke(stack, do="layers")["models"] == ["other"]
    assert invoke(stack, do="environment")["variables"]["GREETING"] == "good night"
    stack.client("s3").head_object(Bucket=stack.outputs["DataBucketName"], Key="kept")
    put(stack, "incoming/afterwards.csv")
    eventually(lambda: seen(stack, "incoming/afterwards.csv"))
    for function in stack.client("lambda").list_functions()["Functions"]:
        assert bool(function.get("DeadLetterConfig")) == ("Flaky" in function["FunctionName"])
