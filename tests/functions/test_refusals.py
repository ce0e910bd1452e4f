"""Events that make no sense: refused on record, once, and not tried again."""

import copy
import json
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from moto_stack import sample

from refit.batches import Outcome

DONE = {"batchItemFailures": []}
LONG = "x" * 2000
HOSTILE = ["../../etc", "a\n\0b", "{{7*7}}", "MODEL#flights", "\u202e\u0000", "ünï" * 700, LONG, "\ud800"]
BY_EVENTS = ["check_drift", "check_quality", "request_retraining"]
JUNK = [None, [], "", {}, 7, [{}], {"detail": None}, {"detail": []}, {"detail": {}}, {"detail-type": []}]


def refused(stack, function, event):
    """The one refusal that an event leaves, however often it is delivered."""
    for _ in range(2):
        answer = stack.call(function, event)
        assert answer["answer"] == "refused"
    (refusal,) = stack.app.registry.refusals()
    assert refusal.function == function
    assert answer["reasons"] == [refusal.message]
    return refusal


def refused_record(stack, body):
    """The same of a message in the intake queue: it is not returned to the queue."""
    event = sample("validate")
    event["Records"][0]["body"] = body if isinstance(body, str) else json.dumps(body)
    for _ in range(2):
        assert stack.call("validate", event) == DONE
    (refusal,) = stack.app.registry.refusals()
    assert refusal.function == "validate"
    return refusal


def changed(event, path, value):
    """An event with one field, named by its path, given another value; None takes it out."""
    event = copy.deepcopy(event)
    *way, last = path.split(".")
    place = event
    for name in way:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return event


# ---------------------------------------------------------------- junk
@pytest.mark.parametrize("event", JUNK, ids=json.dumps)
@pytest.mark.parametrize("function", BY_EVENTS)
def test_junk_is_refused_on_record(stack, function, event):
    assert refused(stack, function, event).error == "BadMessage"


@pytest.mark.parametrize(
    "body", ["", "not json", "[" * 100_000, "9" * 5000, *map(json.dumps, JUNK)], ids=repr
)
def test_junk_in_the_queue_is_refused_on_record(stack, body):
    refused_record(stack, body)


def test_an_event_without_id_and_time_is_refused_once_whenever_it_is_delivered_again(stack):
    stack.call("check_drift", {})
    time.sleep(1.1)  # records tell seconds
    refused(stack, "check_drift", {})


def test_each_event_is_refused_by_itself(stack):
    for number in range(3):
        stack.call("request_retraining", sample("request_retraining", detail={}, id=f"event-{number}"))
    assert [each.event_id for each in stack.app.registry.refusals()] == ["event-0", "event-1", "event-2"]


# ---------------------------------------------------------------- almost right
@pytest.mark.parametrize("value", [None, "", 7, [], {}, True])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("request_retraining", "detail.model"),
        ("request_retraining", "detail.reason"),
        ("request_retraining", "id"),
        ("request_retraining", "time"),
        ("request_retraining.drift_checked", "detail.model"),
        ("request_retraining.drift_checked", "detail.batch_id"),
        ("request_retraining.alarm", "detail.alarmName"),
        ("request_retraining.alarm", "detail.state"),
        ("request_retraining.alarm", "detail.state.value"),
        ("request_retraining.run_ended", "detail.name"),
        ("request_retraining.run_ended", "detail.status"),
        ("check_drift", "detail.object.key"),
        ("check_quality", "detail.bucket.name"),
    ],
)
def test_a_field_that_is_missing_or_of_another_type_is_refused_by_name(stack, name, path, value):
    refusal = refused(stack, name.partition(".")[0], changed(sample(name), path, value))
    assert f"field {path.rpartition('.')[2]!r}" in refusal.message or path == "detail.state"


@pytest.mark.parametrize("path", ["detail", "detail.object", "detail.object.key", "detail.bucket"])
def test_a_field_that_is_missing_in_the_queue_is_refused(stack, path):
    body = json.loads(sample("validate")["Records"][0]["body"])
    assert refused_record(stack, changed(body, path, None)).event_id == body["id"]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name[:12]))
def test_a_model_that_nobody_deployed_is_refused_whatever_its_name(stack, name):
    event = changed(sample("request_retraining"), "detail.model", name)
    expected = "BadMessage" if name == "\ud800" else "UnknownModel"
    assert refused(stack, "request_retraining", event).error == expected


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: repr(name[:12]))
@pytest.mark.parametrize("field", ["id", "time", "source", "detail-type"])
def test_names_do_not_break_the_record(stack, field, name):
    refusal = refused(stack, "request_retraining", sample("request_retraining", detail={}) | {field: name})
    assert len(refusal.event_id + refusal.at + refusal.source + refusal.detail_type) < 400
    assert len(refusal.message) <= 1000


@pytest.mark.parametrize("field", ["request_id", "reason", "requested_by"])
@pytest.mark.parametrize(
    "name", [name for name in HOSTILE if name != "\ud800"], ids=lambda name: repr(name[:12])
)
def test_names_do_not_break_the_record_of_an_answer_either(stack, field, name):
    assert stack.ask(**{"request_id": "r1", field: name})["answer"] == "skip"
    (knock,) = stack.app.registry.knocks("flights")
    assert len(knock.knock_id) < 100


def test_a_batch_with_a_long_name_is_one_knock(stack):
    event = changed(sample("request_retraining.drift_checked"), "detail.batch_id", LONG)
    event["detail"] |= {"version": LONG, "drifted": [LONG] * 500}
    assert stack.call("request_retraining", event)["answer"] == "skip"
    assert len(stack.app.registry.knocks("flights")) == 1


@pytest.mark.parametrize("function", ["check_drift", "check_quality"])
def test_an_object_of_another_bucket_is_refused(stack, function):
    event = changed(sample(function), "detail.bucket.name", "somebody-elses")
    assert "bucket 'somebody-elses' is not" in refused(stack, function, event).message


@pytest.mark.parametrize("function", ["check_drift", "check_quality"])
def test_a_profile_of_a_model_that_is_no_longer_deployed_is_refused(stack, function):
    refusal = refused(stack, function, stack.profile_event(function, "44d54f1cf6c2a1226af330fa", "trains"))
    assert refusal.error == "UnknownModel"


def test_a_key_that_s3_could_not_have_is_refused(stack):
    body = json.loads(sample("validate")["Records"][0]["body"])
    refusal = refused_record(stack, changed(body, "detail.object.key", f"incoming/flights/{LONG}"))
    assert "longer than the 1024 bytes" in refusal.message


@pytest.mark.parametrize("name", ["m" * 900, "MODEL#flights", "ünï", "a b"])
def test_an_upload_under_any_name_that_s3_allows_is_ignored_on_record(stack, name):
    upload = stack.upload("a.parquet", b"x", model=name)
    assert upload.outcome is Outcome.IGNORED
    assert stack.app.registry.refusals() == []


def test_refusals_are_told_oldest_first(stack):
    for day in (3, 1, 2):
        at = f"2013-04-0{day}T00:00:00Z"
        stack.call("check_drift", {"id": f"day-{9 - day}", "time": at})
    assert [each.at[8:10] for each in stack.app.registry.refusals()] == ["01", "02", "03"]


# ---------------------------------------------------------------- anything at all
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def mostly(*right):
    return st.sampled_from(right) | JSON


KINDS = [
    "Drift Checked",
    "Retraining Requested",
    "CloudWatch Alarm State Change",
    "Step Functions Execution Status Change",
]
DETAIL = st.fixed_dictionaries(
    {},
    optional={
        "model": mostly("flights", "trains"),
        "reason": mostly("why not"),
        "trigger": mostly("on_demand", "alarm", "whim"),
        "request_id": JSON,
        "force": JSON,
        "batch_id": mostly("b"),
        "version": JSON,
        "drifted": JSON,
        "alarmName": mostly("refit-quality-flights", "pager"),
        "state": mostly({"value": "ALARM"}, {"value": "ALARM", "timestamp": 7, "reason": None}),
        "name": mostly("flights-run-00000001", "flights-run-²"),
        "status": mostly("FAILED"),
    },
)
EVENT = JSON | st.fixed_dictionaries(
    {"detail": DETAIL | JSON},
    optional={"detail-type": mostly(*KINDS), "id": mostly("e1"), "time": mostly("2013"), "source": JSON},
)
ANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY
@given(EVENT)
@example(
    {
        "detail": {"model": "flights", "reason": "r", "trigger": []},
        "detail-type": KINDS[1],
        "id": "e",
        "time": "t",
    }
)
def test_whatever_knocks_is_answered_ignored_or_refused_and_twice_the_same(stack, event):
    first, again = (stack.call("request_retraining", event) for _ in range(2))
    assert first == again


@ANY
@given(
    JSON.map(json.dumps)
    | st.text(max_size=50)
    | st.fixed_dictionaries(
        {"detail": st.fixed_dictionaries({}, optional={"bucket": JSON, "object": JSON})},
        optional={"id": JSON},
    ).map(json.dumps)
)
def test_whatever_lies_in_the_queue_is_refused_and_leaves_it(stack, body):
    event = sample("validate")
    event["Records"][0]["body"] = body
    assert stack.call("validate", event) == DONE
