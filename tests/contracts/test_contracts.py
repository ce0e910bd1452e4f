"""Template, state machine, functions, events, layers, errors and permissions say the same thing."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import cache, partial

import pytest
from moto_stack import ACCOUNT, REGION, RESOURCES, STACK, TEMPLATE, resolve
from reach import LAYER, ROOT, Reach

from refit import errors
from refit.aws import alarms, keys, messages, runs
from refit.aws.bus import SOURCE, Event
from refit.batches import Code
from refit.contract import Column, Contract, Dialect
from refit.manifest import PARTS
from refit.policy import Knock
from refit.records import Run, RunStatus

ASL = json.loads((ROOT / "statemachine/retraining.asl.json").read_text())
FILES = sorted(path.stem for path in (ROOT / "functions").glob("*.py"))
GLOBALS = TEMPLATE["Globals"]["Function"]
RUN = Run("run-00000001", "flights", RunStatus.RUNNING, "d", "data", (), "ada", "2013-01-01")
ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value)}


def of_type(kind):
    return {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == f"AWS::{kind}"
    }


FUNCTIONS = {
    properties["Handler"].removesuffix(".handler"): properties
    for properties in of_type("Serverless::Function").values()
}
MACHINE = RESOURCES["RetrainingStateMachine"]["Properties"]


def states(machine=ASL):
    """Name -> state, those inside of Map states as well."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


STATES = dict(states())
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
WAITS = "arn:aws:states:::lambda:invoke.waitForTaskToken"
DAY = 86_400


def file_of(name):
    """TrainFunction or Train -> train."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Function")).lower()


def load(file):
    """The module of a function, for its constants."""
    spec = importlib.util.spec_from_file_location(file, ROOT / f"functions/{file}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def reach(file):
    return Reach(file)


every_function = pytest.mark.parametrize("file", FILES)
every_task = pytest.mark.parametrize("name", TASKS)


# ---------------------------------------------------------------- one verb, one file, one function, one state
def test_every_file_is_a_function_and_every_function_a_file():
    declared = {name: properties["Handler"] for name, properties in of_type("Serverless::Function").items()}
    assert declared == {name: f"{file_of(name)}.handler" for name in declared}
    assert sorted(file_of(name) for name in declared) == FILES


def test_every_file_defines_one_handler_and_says_what_it_does():
    for file in FILES:
        tree = ast.parse((ROOT / f"functions/{file}.py").read_text())
        assert ast.get_docstring(tree), file
        assert [node.name for node in tree.body if getattr(node, "name", "") == "handler"] == ["handler"]


def test_every_substitution_is_used_and_every_placeholder_substituted():
    placeholders = set(re.findall(r"\$\{(\w+)}", json.dumps(ASL)))
    assert placeholders == set(MACHINE["DefinitionSubstitutions"])


@every_task
def test_a_state_calls_the_function_of_its_name(name):
    called = TASKS[name].get("Parameters", TASKS[name])
    assert called.get("FunctionName", TASKS[name]["Resource"]) == f"${{{name}FunctionArn}}"
    assert TASKS[name]["Resource"] in (f"${{{name}FunctionArn}}", WAITS)
    assert MACHINE["DefinitionSubstitutions"][f"{name}FunctionArn"] == {
        "Fn::GetAtt": [f"{name}Function", "Arn"]
    }


def test_the_state_machine_may_call_exactly_its_own_functions():
    (statement,) = statements(MACHINE)
    assert statement["Action"] == "lambda:InvokeFunction"
    assert sorted(statement["Resource"]) == sorted(resolve(MACHINE["DefinitionSubstitutions"]).values())


# ---------------------------------------------------------------- the state machine
def test_next_and_default_name_states_of_the_same_machine():
    def machines(machine):
        yield machine
        for state in machine["States"].values():
            if "ItemProcessor" in state:
                yield from machines(state["ItemProcessor"])

    for machine in machines(ASL):
        names = set(machine["States"])
        reached = {machine["StartAt"]}
        for state in machine["States"].values():
            reached |= set(ways_on(state))
        assert reached == names


def ways_on(state):
    found = [state.get("Next"), state.get("Default")]
    found += [each["Next"] for each in state.get("Choices", [])]
    found += [each["Next"] for each in state.get("Catch", [])]
    return [each for each in found if each]


@every_task
def test_a_task_waits_longer_than_its_function_may_run(name):
    limit = FUNCTIONS[file_of(name)].get("Timeout", GLOBALS["Timeout"])
    least = DAY if TASKS[name]["Resource"] == WAITS else TASKS[name]["TimeoutSeconds"]
    assert least > limit


def test_whoever_waits_for_a_person_waits_as_long_as_the_model_says():
    (name,) = (name for name, state in TASKS.items() if state["Resource"] == WAITS)
    asked = ASL["States"]["NeedsApproval"]["Choices"]
    assert asked == [{"Variable": "$.final.approval_seconds", "NumericGreaterThan": 0, "Next": "WriteReport"}]
    assert end_of("NeedsApproval", asks=True)[0] == name
    assert TASKS[name]["TimeoutSecondsPath"] == "$.final.approval_seconds"
    payload = TASKS[name]["Parameters"]["Payload"]
    assert payload.pop("token.$") == "$$.Task.Token"
    sample = json.loads((ROOT / f"events/{file_of(name)}.json").read_text())
    assert payload == {f"{field}.$": f"$.{field}" for field in sample if field != "token"}


def test_the_machine_has_time_for_all_its_tasks_and_the_longest_wait():
    slowest = sum(state.get("TimeoutSeconds", 90 * DAY) for state in TASKS.values())
    assert ASL["TimeoutSeconds"] > slowest


@every_task
def test_a_task_retries_what_passes_by_itself_and_nothing_else(name):
    retried = [error for each in TASKS[name]["Retry"] for error in each["ErrorEquals"]]
    assert {"AwsUnavailable", "Conflict", "Lambda.TooManyRequestsException"} <= set(retried)
    assert {"Lambda.Unknown", "Runtime.ExitError"} <= set(retried)  # the process died
    assert not any(error.startswith("States.") for error in retried)
    assert not set(retried) & (ERRORS - {"AwsUnavailable", "Conflict"})
    for each in TASKS[name]["Retry"]:
        assert each["BackoffRate"] > 1
        assert 1 <= each["MaxAttempts"] <= 10
        assert each["JitterStrategy"] == "FULL"


@every_task
def test_a_task_catches(name):
    """Those in the Map by the Map as well, whatever it is."""
    assert TASKS[name]["Catch"]
    if name in ASL["States"]:
        assert TASKS[name]["Catch"][-1]["ErrorEquals"] == ["States.ALL"]
    assert ASL["States"]["TrainCandidates"]["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


# Names that Step Functions and Lambda give themselves; one that is misspelt would match nothing, silently.
RESERVED = {
    *("States.ALL", "States.Timeout", "Runtime.ExitError", "Sandbox.Timedout"),
    *("Lambda.Unknown", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException"),
    *("Lambda.TooManyRequestsException", "Lambda.ClientExecutionTimeoutException"),
}


def test_every_error_name_is_a_class_of_ours_or_reserved():
    named = {
        error
        for state in STATES.values()
        for each in [*state.get("Retry", []), *state.get("Catch", [])]
        for error in each["ErrorEquals"]
    }
    assert named <= ERRORS | RESERVED
    assert named & ERRORS


def test_all_errors_are_one_tree_and_say_what_they_mean():
    for name in ERRORS:
        assert issubclass(getattr(errors, name), errors.RefitError)
        assert getattr(errors, name).__doc__


def end_of(name, asks=False):
    """Where the way without errors leads from a state, to its end or to a person who is asked, and the kind of that state."""
    done = set()
    while True:
        state = STATES[name]
        if state["Type"] in ("Succeed", "Fail") or (asks and state.get("Resource") == WAITS):
            return name, state["Type"]
        if name == "NeedsApproval":
            name = state["Choices"][0]["Next"] if asks else state["Default"]
        elif state["Type"] == "Choice":
            found = [c["Next"] for c in state["Choices"] if c.get("IsPresent") and c["Variable"] in done]
            name = found[0] if found else state["Default"]
        else:
            done.add(state["ResultPath"])
            name = state["Next"]


def test_a_challenger_that_lost_succeeds_and_what_failed_fails():
    assert ASL["States"]["IsChallengerBetter"]["Default"] == "KeepChampion"
    assert end_of("KeepChampion") == ("ChampionKept", "Succeed")
    assert end_of("Promote") == ("Promoted", "Succeed")
    assert end_of("RecordFailure") == ("Failed", "Fail")
    no_failure = {"ChampionMoved", "ApprovalRejected", "ApprovalGiven", "States.Timeout"}
    for name, state in ASL["States"].items():
        for each in state.get("Catch", []) if name != "WriteReport" else []:
            expected = "Succeed" if set(each["ErrorEquals"]) <= no_failure else "Fail"
            assert end_of(each["Next"])[1] == expected, name
            # What took too long failed, unless it was a person.
            assert "States.Timeout" not in each["ErrorEquals"] or state["Resource"] == WAITS
    for state in STATES.values():
        if state["Type"] == "Fail":
            assert state["ErrorPath"] and state["CausePath"]


def test_a_report_that_fails_changes_nothing_but_that_there_is_none():
    """It is written where everything is decided and recorded, and caught into the state that comes next anyway."""
    state = STATES["WriteReport"]
    (caught,) = state["Catch"]
    assert (caught["ErrorEquals"], caught["Next"]) == (["States.ALL"], state["Next"])
    before = {name for name, each in ASL["States"].items() if "WriteReport" in ways_on(each)}
    assert before == {"Promote", "KeepChampion", "RecordFailure", "NeedsApproval"}
    results = {each.get("ResultPath") for name, each in TASKS.items() if name != "WriteReport"}
    assert state["ResultPath"] == caught["ResultPath"]
    assert state["ResultPath"] not in results
    recorded = {each["Variable"] for each in STATES[state["Next"]]["Choices"]}
    assert recorded == {TASKS[name]["ResultPath"] for name in ("Promote", "KeepChampion", "RecordFailure")}
    # Nobody waits for long on a page: all its tries together take less than the tasks before it may.
    tries = 1 + sum(each["MaxAttempts"] for each in state["Retry"])
    assert tries * state["TimeoutSeconds"] < TASKS["Evaluate"]["TimeoutSeconds"]


def test_results_are_kept_beside_the_references():
    """A task whose result replaced its input would take the references from the next one."""
    for name in TASKS.keys() - {"Train"}:
        assert TASKS[name]["ResultPath"].startswith("$."), name


# ---------------------------------------------------------------- settings
def test_every_setting_is_set_and_every_variable_read():
    read = set(re.findall(r"REFIT_[A-Z_]+", (LAYER / "refit/aws/settings.py").read_text()))
    given = set(GLOBALS["Environment"]["Variables"])
    for properties in FUNCTIONS.values():
        given |= set(properties.get("Environment", {}).get("Variables", {}))
    # On AWS the models are found in their layer; the variable is for stacks without one.
    assert read - {"REFIT_MODELS_DIR"} == {name for name in given if name.startswith("REFIT_")}


@every_function
def test_a_function_is_told_of_the_machine_and_the_queue_that_it_works_with(file):
    given = FUNCTIONS[file].get("Environment", {}).get("Variables", {})
    queue = {"REFIT_INTAKE_QUEUE"} if any(reach(file).calls("sqs")) else set()
    queue |= {"REFIT_SWEEP_MINUTES"} if file == "tick" else set()
    machine = {"REFIT_STATE_MACHINE"} if any(reach(file).calls("sfn")) else set()
    # Where matplotlib may write: nowhere but under /tmp, on Lambda.
    drawing = {"MPLCONFIGDIR"} if "matplotlib" in reach(file).packages else set()
    # What reads many megabytes and counts them keeps the memory that it has freed.
    memory = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} if file == "validate" else set()
    assert set(given) == machine | queue | drawing | memory
    benchmark = (ROOT / "benchmarks/intake.py").read_text()
    assert all(f'"{name}": "{given[name]}"' in benchmark for name in memory), "measured as deployed"
    assert all(given[name].startswith("/tmp/") for name in drawing)


def test_environment_is_read_in_one_place():
    for path in [*LAYER.rglob("*.py"), *(ROOT / "functions").glob("*.py")]:
        if path.name != "settings.py":
            assert not re.search(r"os\.environ|getenv", path.read_text()), path


# ---------------------------------------------------------------- layers and runtime
@every_function
def test_a_function_has_the_layers_that_its_code_imports_and_no_others(file):
    packages = reach(file).packages
    expected = {"CoreLayer", "RefitLayer", "ModelsLayer"}
    if "pyarrow" in packages:
        expected.add("ArrowLayer")
    if packages & {"pandas", "sklearn", "skops", "scipy", "joblib"}:
        expected.add("MlLayer")
    if "matplotlib" in packages:
        expected.add("PlotLayer")
    assert {layer["Ref"] for layer in FUNCTIONS[file]["Layers"]} == expected


@pytest.mark.parametrize(
    "file", ["keep_champion", "prune", "record_failure", "request_approval", "request_retraining", "tick"]
)
def test_a_function_that_looks_at_no_rows_starts_without_numpy(file):
    """By what its code reaches, and by what a fresh interpreter has loaded: every cold start would pay for it."""
    assert "numpy" not in reach(file).packages
    code = f"import sys, {file}; sys.exit('numpy' in sys.modules)"
    path = os.pathsep.join([str(ROOT / "functions"), str(LAYER)])
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True)


def test_a_models_own_code_finds_what_it_may_import():
    """model.py is loaded by the functions that fit: they have scikit-learn."""
    fitting = {file for file in FILES if ("refit.training", "fit") in reach(file).nodes}
    assert fitting == {"train", "evaluate", "finalize"}
    for file in fitting:
        assert {"Ref": "MlLayer"} in FUNCTIONS[file]["Layers"]


def test_everything_is_made_for_one_runtime():
    assert GLOBALS["Runtime"] == "python3.13"
    for properties in FUNCTIONS.values():
        assert "Runtime" not in properties
    for name, properties in of_type("Serverless::LayerVersion").items():
        assert properties["CompatibleRuntimes"] == ["python3.13"], name
        assert properties["CompatibleArchitectures"] == GLOBALS["Architectures"], name


DOMAIN = sorted(path for path in (LAYER / "refit").glob("*.py"))


@pytest.mark.parametrize("path", DOMAIN, ids=lambda path: path.stem)
def test_the_domain_is_pure(path):
    """No AWS, no environment, no logger, no clock."""
    tree = ast.parse(path.read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    environment = ("os.environ", "os.getenv", "os.putenv")  # files may be written, as a caller named them
    forbidden = ("boto3", "botocore", *environment, "logging", "aws_lambda_powertools", "refit.aws", "time")
    assert not [
        name for name in imported if name in forbidden or name.startswith(tuple(f"{f}." for f in forbidden))
    ]
    assert not re.search(r"\b(now|utcnow|today)\(\)|\btime\.(time|monotonic)\b|\.now\(", path.read_text())
    assert not any(name in path.read_text() for name in environment)


# ---------------------------------------------------------------- messages
def test_the_last_try_is_the_one_that_the_queue_allows():
    last = load("validate").LAST_TRY
    assert last == RESOURCES["IntakeQueue"]["Properties"]["RedrivePolicy"]["maxReceiveCount"]


def test_a_message_stays_hidden_until_its_function_has_surely_ended():
    """Six times the function's timeout, as the Lambda developer guide asks for."""
    queue = RESOURCES["IntakeQueue"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * FUNCTIONS["validate"]["Timeout"]
    source = FUNCTIONS["validate"]["Events"]["Upload"]["Properties"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_parked_message_outlives_the_queue_it_came_from():
    """A message in a dead-letter queue keeps its age."""
    kept = {name: queue["MessageRetentionPeriod"] for name, queue in of_type("SQS::Queue").items()}
    assert kept["DeadLetterQueue"] == 14 * 24 * 3600
    assert all(seconds <= kept["DeadLetterQueue"] for seconds in kept.values())


def test_rules_of_this_account_may_send_to_every_queue_that_rules_name_and_nobody_else():
    """By the rule's ARN, the one key that EventBridge's user guide names for queues."""
    (policy,) = of_type("SQS::QueuePolicy").values()
    (statement,) = resolve(policy["PolicyDocument"]["Statement"])
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sqs:SendMessage")
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/*"}
    }
    targets = [target for rule in of_type("Events::Rule").values() for target in rule["Targets"]]
    named = [target["Arn"] for target in targets]
    targets += [event["Properties"] for file in FILES for event in FUNCTIONS[file].get("Events", {}).values()]
    named += [each["DeadLetterConfig"]["Arn"] for each in targets if "DeadLetterConfig" in each]
    queues = {resolve({"Fn::GetAtt": [name, "Arn"]}) for name in of_type("SQS::Queue")}
    assert set(statement["Resource"]) == {arn for arn in resolve(named) if arn in queues} == queues
    assert sorted(resolve(policy["Queues"])) == sorted(
        resolve({"Ref": name}) for name in of_type("SQS::Queue")
    )


@every_function
def test_whoever_is_called_by_events_has_a_place_for_those_that_failed(file):
    """But for the tick's rule: a tick that could not be delivered is made up for by the next."""
    events = [e for e in FUNCTIONS[file].get("Events", {}).values() if e["Type"] != "SQS"]
    queue = {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert ("DeadLetterQueue" in FUNCTIONS[file]) == bool(events)
    if events:
        assert FUNCTIONS[file]["DeadLetterQueue"] == {"Type": "SQS", "TargetArn": queue}
    for event in events:
        if event["Type"] == "EventBridgeRule":
            assert event["Properties"]["DeadLetterConfig"] == {"Arn": queue}


def test_the_clocks_are_those_of_the_tick_and_of_what_is_deleted_daily():
    clocks = [
        (file, event["Properties"]["Schedule"])
        for file in FILES
        for event in FUNCTIONS[file].get("Events", {}).values()
        if event["Type"] == "Schedule"
    ]
    assert clocks == [("prune", "rate(1 day)"), ("tick", {"Ref": "TickRate"})]
    rate = TEMPLATE["Parameters"]["TickRate"]
    assert re.fullmatch(rate["AllowedPattern"], rate["Default"])


def test_the_tick_waits_out_what_validate_may_still_be_doing():
    """One try before it tells of a parked upload, all tries of a message before it sends another."""
    tick = load("tick")
    assert tick.LONGEST_TRY.total_seconds() > FUNCTIONS["validate"]["Timeout"]
    queue = RESOURCES["IntakeQueue"]["Properties"]
    tries = queue["RedrivePolicy"]["maxReceiveCount"]
    assert tick.SWEEP_AGAIN.total_seconds() > tries * queue["VisibilityTimeout"]
    assert len(load("validate").BACK_OFF) == tries - 1


def test_an_upload_is_left_to_its_own_event_before_it_is_swept():
    parameter = TEMPLATE["Parameters"]["SweepAfterMinutes"]
    given = FUNCTIONS["tick"]["Environment"]["Variables"]
    assert given["REFIT_SWEEP_MINUTES"] == {"Ref": "SweepAfterMinutes"}
    assert parameter["Default"] >= 15


def test_people_are_told_over_a_topic_that_only_eventbridge_and_one_alarm_may_publish_to():
    """EventBridge without a condition: its user guide says that a topic's policy must have none for it."""
    rule, topic = RESOURCES["WorthKnowing"]["Properties"], resolve({"Ref": "Notifications"})
    assert rule["EventBusName"] == {"Ref": "EventBus"}
    (target,) = resolve(rule["Targets"])
    assert target["Arn"] == topic
    assert target["DeadLetterConfig"] == {"Arn": resolve({"Fn::GetAtt": ["DeadLetterQueue", "Arn"]})}
    (policy,) = of_type("SNS::TopicPolicy").values()
    assert resolve(policy["Topics"]) == [topic]
    statement, of_alarm = resolve(policy["PolicyDocument"]["Statement"])
    (alarm,) = resolve(list(of_type("CloudWatch::Alarm").values()))
    assert alarm["AlarmActions"] == [topic]
    assert of_alarm["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert of_alarm["Condition"]["ArnEquals"]["aws:SourceArn"].endswith(f":alarm:{alarm['AlarmName']}")
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert (statement["Effect"], statement["Action"], statement["Resource"]) == (
        "Allow",
        "sns:Publish",
        topic,
    )
    assert "Condition" not in statement


def test_people_are_told_of_events_that_exist():
    pattern = RESOURCES["WorthKnowing"]["Properties"]["EventPattern"]
    assert pattern["source"] == [SOURCE]
    told = [Event(kind) for kind in pattern["detail-type"]]  # raises for one that does not exist
    assert sorted(told) == sorted(
        [
            Event.BATCH_QUARANTINED,
            Event.UPLOAD_PARKED,
            Event.WAITING_FOR_APPROVAL,
            Event.CHAMPION_PROMOTED,
            Event.CHAMPION_ROLLED_BACK,
            Event.RETRAINING_FAILED,
        ]
    )
    for kind in told:
        assert matches(pattern, OUTGOING[kind.lower().replace(" ", "-")])


def test_mail_is_sent_only_to_whom_the_stack_names():
    assert RESOURCES["Mail"]["Condition"] == "NotifyByEmail"
    assert TEMPLATE["Parameters"]["NotifyEmail"]["Default"] == ""
    assert TEMPLATE["Conditions"] == {
        "NotifyByEmail": {"Fn::Not": [{"Fn::Equals": [{"Ref": "NotifyEmail"}, ""]}]}
    }


def parse_validate(event):
    (record,) = event["Records"]
    return messages.arrival(json.loads(record["body"]))


PARSERS = {
    "validate": parse_validate,
    "check_drift": partial(messages.accepted_batch, bucket=resolve({"Ref": "StoreBucket"})),
    "check_quality": partial(messages.accepted_batch, bucket=resolve({"Ref": "StoreBucket"})),
    "request_retraining": messages.wakeup,
    "tick": bool,  # that the clock struck is all that it says
    "prune": messages.clock,
    "predict": messages.predict_request,
}
SAMPLES = sorted((ROOT / "events").glob("*.json"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_read_by_the_parser_of_its_function(path):
    file = path.stem.partition(".")[0]
    assert PARSERS.get(file, messages.run_message)(json.loads(path.read_text()))


def test_every_function_has_a_sample():
    assert {path.stem for path in SAMPLES if "." not in path.stem} == set(FILES)


def test_every_way_into_request_retraining_has_a_sample():
    kinds = set()
    for path in (ROOT / "events").glob("request_retraining*.json"):
        kinds.add(json.loads(path.read_text())["detail-type"])
    patterns = [each["Properties"]["Pattern"] for each in FUNCTIONS["request_retraining"]["Events"].values()]
    listened = {kind for pattern in patterns for kind in pattern.get("detail-type", [])}
    assert kinds == listened


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_match_the_rules_that_deliver_them(path):
    event = json.loads(path.read_text())
    file = path.stem.partition(".")[0]
    if file == "validate":
        event, patterns = json.loads(event["Records"][0]["body"]), [RESOURCES["UploadArrived"]["Properties"]]
    else:
        rules = FUNCTIONS[file].get("Events", {}).values()
        patterns = [rule["Properties"] for rule in rules if rule["Type"] == "EventBridgeRule"]
        if [rule["Type"] for rule in rules] == ["Schedule"]:
            patterns = [{"Pattern": {"source": ["aws.events"], "detail-type": ["Scheduled Event"]}}]
    for machine in ("RetrainingStateMachine",):  # its name gets a suffix when it is deployed
        if "stateMachineArn" in event.get("detail", {}):
            event["detail"]["stateMachineArn"] = resolve({"Ref": machine})
    if patterns:
        found = [resolve(each.get("Pattern") or each.get("EventPattern")) for each in patterns]
        assert sum(matches(pattern, event) for pattern in found) == 1


def matches(pattern, event):
    """EventBridge's own rules, as far as the template uses them."""
    if isinstance(pattern, list):
        return any(_matches_one(each, event) for each in pattern)
    return all(name in event and matches(value, event[name]) for name, value in pattern.items())


def _matches_one(wanted, value):
    if isinstance(wanted, dict):
        ((kind, text),) = wanted.items()
        return value.startswith(text) if kind == "prefix" else fnmatchcase(value, text)
    return wanted == value


OUTGOING = {path.stem: json.loads(path.read_text()) for path in (ROOT / "events/outgoing").glob("*.json")}


def test_every_event_that_goes_out_has_a_sample_and_the_reverse():
    assert {name: event["detail-type"] for name, event in OUTGOING.items()} == {
        kind.value.lower().replace(" ", "-"): kind.value for kind in Event
    }
    assert {event["source"] for event in OUTGOING.values()} == {SOURCE}


def test_what_refit_announces_and_hears_itself_is_one_sample():
    heard = json.loads((ROOT / "events/request_retraining.drift_checked.json").read_text())
    assert heard == OUTGOING["drift-checked"]
    asked = json.loads((ROOT / "events/request_retraining.json").read_text())
    assert asked == OUTGOING["retraining-requested"]
    assert isinstance(messages.wakeup(asked), Knock)
    found, checked = OUTGOING["drift-found"], OUTGOING["drift-checked"]
    assert found["detail"] == checked["detail"]
    assert found["detail"]["drifted"]


def test_the_documented_command_asks_for_a_retraining():
    """As a shell would read it."""
    text = (ROOT / "docs/triggers.md").read_text()
    (command,) = re.findall(r"(?m)^    (aws events put-events .*\n(?:     .*\n)*)", text)
    (entry,) = json.loads(shlex.split(command)[-1])
    sent = {"id": "i", "time": "2013-04-01T09:30:00Z", "source": entry["Source"]}
    sent |= {"detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
    knock = messages.wakeup(sent)
    assert (knock.model, knock.reason, knock.requested_by) == ("loans", "new price list", "shop")


def test_samples_name_nobodys_account():
    for path in (ROOT / "events").rglob("*.json"):
        assert set(re.findall(r"(?<![\d.a-f-])\d{12}(?![\d.a-f])", path.read_text())) <= {"123456789012"}, (
            path
        )


# ---------------------------------------------------------------- permissions
def statements(properties):
    return [resolve(each) for policy in properties.get("Policies", []) for each in policy["Statement"]]


def listed(value):
    return value if isinstance(value, list) else [value]


def allowed(file):
    """(action, resource) pairs that a function's role allows."""
    return {
        (action, resource)
        for each in statements(FUNCTIONS[file])
        for action in listed(each["Action"])
        for resource in listed(each["Resource"])
    }


def prefixes(file, action):
    """Where in the store bucket a function may do that: first folders of the keys."""
    store = resolve({"Fn::GetAtt": ["StoreBucket", "Arn"]})
    found = {
        resource for each, resource in allowed(file) if each == action and resource.startswith(f"{store}/")
    }
    assert all(
        re.fullmatch(rf"{store}/\w+/\*(/(evaluation|report)\.(json|html))?", each) for each in found
    ), found
    return {resource.split("/")[1] for resource in found}


@every_function
def test_policies_allow_by_name(file):
    for each in statements(FUNCTIONS[file]):
        assert each["Effect"] == "Allow"
        for action in listed(each["Action"]):
            assert "*" not in action
        if "*" in listed(each["Resource"]):
            assert each["Action"] == "cloudwatch:PutMetricData"
            assert each["Condition"] == {"StringEquals": {"cloudwatch:namespace": alarms.namespace(STACK)}}
    assert "Role" not in FUNCTIONS[file]


def test_only_buckets_deny_by_wildcard():
    text = json.dumps(
        {name: each for name, each in RESOURCES.items() if each["Type"] != "AWS::S3::BucketPolicy"}
    )
    assert "s3:*" not in text


REGISTRY = ast.parse((LAYER / "refit/aws/registry.py").read_text())


@cache
def registry_nodes(method):
    """The code of a method of Registry and of all methods that it calls."""
    (registry,) = (node for node in REGISTRY.body if getattr(node, "name", "") == "Registry")
    bodies = {node.name: node for node in registry.body if isinstance(node, ast.FunctionDef)}
    found, seen, todo = [], {method}, [method]
    while todo:
        for node in ast.walk(bodies[todo.pop()]):
            found.append(node)
            if isinstance(node, ast.Attribute) and node.attr in bodies and node.attr not in seen:
                seen.add(node.attr)
                todo.append(node.attr)
    return found


@cache
def registry_actions(method):
    """DynamoDB actions that a method of Registry comes down to; a transaction is what it is made of."""
    names = {
        "get_item": "GetItem",
        "query": "Query",
        "put_item": "PutItem",
        "delete_item": "DeleteItem",
        "_put": "PutItem",
        "_check": "ConditionCheckItem",
        "_delete": "DeleteItem",
    }
    called = {getattr(node, "attr", getattr(node, "id", "")) for node in registry_nodes(method)}
    return {f"dynamodb:{names[name]}" for name in called & names.keys()}


@cache
def registry_partitions(method):
    """Partitions of the table that a method of Registry names, as a policy's pattern."""
    texts = {node.value for node in registry_nodes(method) if isinstance(node, ast.Constant)}
    found = {f"{text}*" for text in texts if text in ("UPLOADS#", "CONTENT#", "MODEL#", "APPROVALS#")}
    return found | ({"REFUSED", "TICK", "SWEPT"} & texts)


def folder_of(place, call, top):
    """First folder of the key that a call of the store is given."""
    key = call.args[0]
    if isinstance(key, ast.Name):
        made = [
            n.value
            for n in ast.walk(top)
            if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == key.id
        ]
        if not made and place == ("refit.aws.inputs", "read"):
            return "runs"  # the key was made by inputs.freeze
        (key,) = made
    assert isinstance(key, ast.Call) and key.func.value.id == "keys", ast.dump(key)
    return getattr(keys, key.func.attr)(*["x"] * len(key.args)).split("/")[0]


STORE = {"get": "s3:GetObject", "put": "s3:PutObject", "versions_under": "s3:DeleteObjectVersion"}


def needed(file):
    """(action, folder of the store or nothing) pairs that a function's code comes down to."""
    found = set()
    code = reach(file)
    for _, method, _ in code.calls("registry"):
        found |= {(action, "") for action in registry_actions(method)}
    for place, method, call in code.calls("store"):
        if method == "delete":
            continue  # of what versions_under found
        action = next(name for verb, name in STORE.items() if method.startswith(verb))
        found.add((action, folder_of(place, call, code.nodes[place])))
    for owner, service in (("bus", "events"), ("sfn", "states"), ("cloudwatch", ""), ("sqs", "")):
        for _, method, _ in code.calls(owner):
            action = "PutEvents" if owner == "bus" else "".join(map(str.capitalize, method.split("_")))
            found.add((f"{service or owner}:{action}", ""))
    return found


def needed_of_people(file):
    """Actions on the data bucket that a function's code comes down to."""
    code, found = reach(file), set()
    if ("refit.aws.store", "open_version") in code.nodes:
        found |= {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"}
    for place, method, call in code.calls("s3"):
        if place[0] == "refit.aws.store":
            continue
        if method == "get_paginator":
            assert call.args[0].value == "list_object_versions"
            found.add("s3:ListBucketVersions")
        elif method == "delete_object":
            assert "VersionId" in [keyword.arg for keyword in call.keywords]
            found.add("s3:DeleteObjectVersion")
    return found


@every_function
def test_a_function_may_do_what_its_code_does_and_no_more(file):
    data = resolve({"Fn::GetAtt": ["DataBucket", "Arn"]})
    given = {(action, "") for action, resource in allowed(file) if not action.startswith("s3:")}
    for action in STORE.values():
        given |= {(action, folder) for folder in prefixes(file, action)}
    assert given == needed(file)
    of_people = {action for action, resource in allowed(file) if resource.startswith(data)}
    assert of_people == needed_of_people(file)
    deletes = prefixes(file, "s3:DeleteObjectVersion")
    listing = {"s3:ListBucketVersions"} if deletes else set()
    elsewhere = {action for action, resource in allowed(file) if action.startswith("s3:")} - of_people
    assert elsewhere <= {*STORE.values(), *listing}
    for each in statements(FUNCTIONS[file]):
        if each["Resource"] == resolve({"Fn::GetAtt": ["StoreBucket", "Arn"]}):
            assert each["Action"] == "s3:ListBucketVersions"
            assert each["Condition"] == {"StringLike": {"s3:prefix": sorted(f"{name}/*" for name in deletes)}}


def test_rights_name_what_they_are_about():
    """A metric's namespace, an alarm's and an execution's name, a prefix to list: this stack's own."""
    arn = f"{REGION}:{ACCOUNT}"
    tick, promote = allowed("tick"), allowed("promote")
    machine = resolve({"Ref": "RetrainingStateMachine"})
    execution = machine.replace(":stateMachine:", ":execution:")
    assert ("states:DescribeExecution", f"{execution}:*") in tick
    assert ("states:StartExecution", machine) in tick & allowed("request_retraining")
    assert ("sqs:SendMessage", resolve({"Fn::GetAtt": ["IntakeQueue", "Arn"]})) in tick
    (listing,) = (each for each in statements(FUNCTIONS["tick"]) if each["Action"] == "s3:ListBucketVersions")
    assert listing["Condition"] == {"StringLike": {"s3:prefix": f"{keys.INCOMING}*"}}
    alarm = f"arn:aws:cloudwatch:{arn}:alarm:{alarms.alarm_name(STACK, '*')}"
    assert {
        (f"cloudwatch:{action}", alarm) for action in ("PutMetricAlarm", "SetAlarmState", "DeleteAlarms")
    } <= promote
    assert runs.execution_arn(machine, RUN).startswith(f"{execution}:")


def test_what_is_learned_from_and_frozen_inputs_are_out_of_everybodys_reach():
    """Nobody may delete them, nor hide any object behind a delete marker."""
    store, data = (resolve({"Fn::GetAtt": [name, "Arn"]}) for name in ("StoreBucket", "DataBucket"))
    for file in FILES:
        deletes = {resource for action, resource in allowed(file) if action == "s3:DeleteObjectVersion"}
        assert bool(deletes) == (file == "prune")
        assert "s3:DeleteObject" not in {action for action, _ in allowed(file)}
        for pattern in deletes:
            assert not overlap(pattern, f"{store}/accepted/*")
            assert not overlap(pattern, f"{store}/{keys.inputs('*', 'x')}")
        assert {each for each in deletes if each.startswith(data)} <= {
            f"{data}/{keys.INCOMING}*",
            f"{data}/{PARTS}*",
        }


def announced(file):
    """Detail types that a function's code hands on to be published; those it only compares with are not."""
    return {
        Event[argument.attr].value
        for top in reach(file).nodes.values()
        for node in ast.walk(top)
        if isinstance(node, ast.Call)
        for argument in node.args
        if isinstance(argument, ast.Attribute)
        and getattr(argument.value, "id", "") == "Event"
        and argument.attr in Event.__members__
    }


@every_function
def test_a_function_may_announce_what_its_code_announces_and_no_more(file):
    given = [
        each["Condition"] for each in statements(FUNCTIONS[file]) if each["Action"] == "events:PutEvents"
    ]
    if not announced(file):
        assert given == []
        return
    ((condition,),) = [list(each.values()) for each in given]
    assert condition["events:source"] == SOURCE
    assert set(listed(condition["events:detail-type"])) == announced(file)


def test_every_folder_of_the_store_is_somebodys():
    made = set(re.findall(r'return f"(\w+)/', inspect.getsource(keys)))
    written = {folder for file in FILES for folder in prefixes(file, "s3:PutObject")}
    read = {folder for file in FILES for folder in prefixes(file, "s3:GetObject")}
    assert made == written
    assert made - read == {"quarantine"}  # for people
    assert (
        RESOURCES["UploadArrived"]["Properties"]["EventPattern"]["detail"]["object"]["key"][0]["prefix"]
        == keys.INCOMING
    )


@every_function
def test_registry_records_are_only_those_that_its_code_names(file):
    methods = {method for _, method, _ in reach(file).calls("registry")}
    actions = set().union(*map(registry_actions, methods))
    given = {action: partitions_allowed(file, action) for action in actions}
    for action in actions:
        using = [method for method in methods if action in registry_actions(method)]
        assert set().union(*map(registry_partitions, using)) <= given[action]
    assert set().union(*given.values()) == set().union(*map(registry_partitions, methods))


def partitions_allowed(file, action):
    """Partitions of the registry on which a function may do that."""
    return {
        pattern
        for each in statements(FUNCTIONS[file])
        if action in listed(each["Action"])
        for pattern in each["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    }


def test_what_a_person_answered_is_written_by_nobody_who_acts_on_it():
    """Promote only reads it; whoever asks, and whoever closes what was not answered in time, writes there."""
    writing = {file for file in FILES if "APPROVALS#*" in partitions_allowed(file, "dynamodb:PutItem")}
    assert writing == {"request_approval", "keep_champion"}
    assert partitions_allowed("request_approval", "dynamodb:PutItem") == {"APPROVALS#*"}
    for file in FILES:
        assert not {action for action, _ in allowed(file) if action.startswith("states:SendTask")}


# ---------------------------------------------------------------- promise 12: nobody writes where his own trigger listens
def listening(file):
    """(bucket, pattern of keys) whose objects wake a function."""
    patterns = []
    for event in FUNCTIONS[file].get("Events", {}).values():
        if event["Type"] == "EventBridgeRule":
            patterns.append(event["Properties"]["Pattern"])
        elif event["Type"] == "SQS":
            queue = event["Properties"]["Queue"]
            for rule in of_type("Events::Rule").values():
                if queue in [target["Arn"] for target in rule["Targets"]]:
                    patterns.append(rule["EventPattern"])
    for pattern in resolve(patterns):
        if pattern.get("source") == ["aws.s3"]:
            for key in pattern["detail"]["object"]["key"]:
                (bucket,) = pattern["detail"]["bucket"]["name"]
                yield bucket, key.get("wildcard") or f"{key['prefix']}*"


def overlap(a, b):
    """Whether some key can match both patterns, of which * matches anything."""
    if not a or not b:
        return set(a + b) <= {"*"}
    if a[0] == "*":
        return overlap(a[1:], b) or overlap(a, b[1:])
    if b[0] == "*":
        return overlap(b, a)
    return a[0] == b[0] and overlap(a[1:], b[1:])


def test_overlap_finds_the_keys_that_two_patterns_share():
    assert overlap("accepted/*", "accepted/*/profile.json")
    assert overlap("*", "accepted/*/profile.json")
    assert not overlap("drift/*", "accepted/*/profile.json")
    assert not overlap("accepted/*/rows.shard", "accepted/*/profile.json")


@every_function
def test_no_function_can_write_where_its_own_trigger_listens(file):
    for bucket, pattern in listening(file):
        for action, resource in allowed(file):
            if action == "s3:PutObject":
                assert not overlap(resource, f"arn:aws:s3:::{bucket}/{pattern}"), (resource, pattern)


def test_the_functions_that_listen_to_objects_are_known():
    """Lest the test above passes because it looks at nothing."""
    assert {file for file in FILES if any(listening(file))} == {"validate", "check_drift", "check_quality"}


def test_nobody_announces_what_wakes_himself():
    for file in FILES:
        rules = [e for e in FUNCTIONS[file].get("Events", {}).values() if e["Type"] == "EventBridgeRule"]
        heard = {kind for rule in rules for kind in rule["Properties"]["Pattern"]["detail-type"]}
        assert not announced(file) & heard, file
    assert announced("request_retraining") == {Event.RETRAINING_DECIDED, Event.RETRAINING_FAILED}


# ---------------------------------------------------------------- storage
@pytest.mark.parametrize("name", of_type("S3::Bucket"))
def test_buckets_are_encrypted_versioned_private_and_kept(name):
    bucket, properties = RESOURCES[name], RESOURCES[name]["Properties"]
    rules = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rules[0]["ServerSideEncryptionByDefault"]["SSEAlgorithm"] in ("AES256", "aws:kms")
    assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert properties["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert properties["NotificationConfiguration"]["EventBridgeConfiguration"]["EventBridgeEnabled"]


@pytest.mark.parametrize("name", of_type("S3::Bucket"))
def test_buckets_are_spoken_to_over_tls_only(name):
    (policy,) = (p for p in of_type("S3::BucketPolicy").values() if p["Bucket"] == {"Ref": name})
    (statement,) = resolve(policy["PolicyDocument"]["Statement"])
    arn = resolve({"Fn::GetAtt": [name, "Arn"]})
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Resource"] == [arn, f"{arn}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_registry_is_encrypted_recoverable_and_kept():
    table = RESOURCES["RegistryTable"]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_queues_are_encrypted():
    for name, queue in of_type("SQS::Queue").items():
        assert queue["SqsManagedSseEnabled"] is True, name


def test_logs_are_kept_for_a_stated_time_and_every_function_writes_there():
    (group,) = of_type("Logs::LogGroup").values()
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert TEMPLATE["Parameters"]["LogRetentionDays"]["Default"]
    assert GLOBALS["LoggingConfig"] == {"LogGroup": {"Ref": "Logs"}}
    assert not [file for file in FILES if "LoggingConfig" in FUNCTIONS[file]]


def test_parameters_and_outputs_say_what_they_are():
    for section in ("Parameters", "Outputs"):
        for name, each in TEMPLATE[section].items():
            assert each["Description"].endswith("."), name


def test_paths_in_the_template_exist():
    assert (ROOT / MACHINE["DefinitionUri"]).is_file()
    assert (ROOT / GLOBALS["CodeUri"]).is_dir()
    for name, layer in of_type("Serverless::LayerVersion").items():
        assert (ROOT / layer["ContentUri"] / "Makefile").is_file(), name


def test_every_reason_code_is_documented_once():
    text = (ROOT / "docs/models.md").read_text()
    table = text[text.index("| code | meaning | |") :]
    listed = re.findall(r"(?m)^\| `(\w+)` \| \S", table)
    assert sorted(listed) == sorted(Code)


def test_every_key_of_a_contract_is_documented():
    text = (ROOT / "docs/models.md").read_text()
    keys_of_columns = {field.name for field in fields(Column)} - {"name"}
    keys_of_files = {field.name for field in fields(Contract)} - {"columns", "fresh_seconds", "csv", "weight"}
    for name in {
        *keys_of_columns,
        *keys_of_files,
        "fresh",
        "weights",
        *(field.name for field in fields(Dialect)),
    }:
        assert re.search(rf"(?m)^\|[^|]*`{name}`[^|]*\|", text), name


LINK = re.compile(r"]\(([^)#\s]+)")


def test_links_lead_somewhere_and_the_readme_leads_to_every_page():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in LINK.findall(page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
    pages = {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")}
    table = (ROOT / "README.md").read_text().partition("## Where things are")[2]
    assert pages <= set(LINK.findall(table))
