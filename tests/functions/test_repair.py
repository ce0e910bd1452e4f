"""What failed gets another try: dead letters, parked uploads, failed runs; and what the doctor can mend."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from moto_stack import RESOURCES, client, sample
from rows import flights

from refit.aws import keys
from refit.batches import Outcome
from refit.errors import AwsUnavailable, RefitError
from refit.records import RunStatus
from refit_cli.actions import Refused, resume_run, retract
from refit_cli.oracle import check
from refit_cli.repair import Requeued, examine, requeue, understood

RUN_1, RUN_2, RUN_3 = "run-00000001", "run-00000002", "run-00000003"
NOW = timedelta(0)


@pytest.fixture
def dead(stack):
    """URL of the dead-letter queue."""
    return stack.app.settings.intake_queue.replace("IntakeQueue", "DeadLetterQueue")


def die(dead, event):
    client("sqs").send_message(
        QueueUrl=dead, MessageBody=event if isinstance(event, str) else json.dumps(event)
    )


def waiting(dead):
    return len(client("sqs").receive_message(QueueUrl=dead, MaxNumberOfMessages=10).get("Messages", []))


class Invoked(list):
    """Invocations as they would reach the stack's functions."""

    def __init__(self, stack):
        self.stack = stack

    def __call__(self, name, event, wait):
        self.append(name)
        file = "".join(f"_{c.lower()}" if c.isupper() else c for c in name.removesuffix("Function"))[1:]
        self.stack.call(file, event)


# ---------------------------------------------------------------- requeue
def test_a_parked_upload_is_taken_in_once_it_is_requeued(stack, dead):
    key, version = stack.put("a.parquet", flights(50))
    event = stack.arrival(key, version, tries=5)
    with stack.outage(stack.app.s3, "PutObject", "rows.shard"):
        stack.call("validate", event)
    die(dead, event["Records"][0]["body"])
    assert requeue(stack.app, dead, Invoked(stack)) == [Requeued(key, "sent to ValidateFunction")]
    assert waiting(dead) == 0
    (again,) = stack.sent()
    stack.call("validate", again)
    assert stack.recorded(key, version).outcome is Outcome.ACCEPTED
    assert check(stack.app) == []
    assert requeue(stack.app, dead, Invoked(stack)) == []


def test_a_parked_upload_whose_message_is_gone_is_requeued_too(stack, dead):
    key, version = stack.put("a.parquet", flights(50))
    with stack.outage(stack.app.s3, "PutObject", "rows.shard"):
        stack.call("validate", stack.arrival(key, version, tries=5))
    (done,) = requeue(stack.app, dead, Invoked(stack))
    assert done.what == key
    (again,) = stack.sent()
    stack.call("validate", again)
    assert stack.recorded(key, version).outcome is Outcome.ACCEPTED


def test_only_what_is_for_the_named_model_is_requeued(stack, dead):
    for model in ("flights", "species"):
        die(dead, sample("request_retraining") | {"detail": {"model": model, "reason": "why"}})
    invoked = Invoked(stack)
    (done,) = requeue(stack.app, dead, invoked, "species")
    assert done.what == "Retraining Requested species"
    assert [len(stack.app.registry.knocks(model)) for model in ("flights", "species")] == [0, 1]
    assert waiting(dead) == 1


def test_every_kind_of_event_finds_the_functions_that_it_is_for():
    door = ("RequestRetrainingFunction",)
    assert understood(sample("check_drift"))[1] == ("CheckDriftFunction", "CheckQualityFunction")
    assert understood(json.loads(sample("validate")["Records"][0]["body"]))[1] == ("ValidateFunction",)
    for name in ("", ".drift_checked", ".alarm", ".run_ended"):
        assert understood(sample(f"request_retraining{name}"))[1] == door
    assert understood(sample("tick"))[1] == ()


@pytest.mark.parametrize("kind", RESOURCES["WorthKnowing"]["Properties"]["EventPattern"]["detail-type"])
def test_what_could_not_be_told_to_people_is_told_again(stack, dead, kind):
    """The dead letter of the rule that feeds the topic: it goes over the bus once more, as it was."""
    event = sample(f"outgoing/{kind.lower().replace(' ', '-')}")
    die(dead, event)
    model = event["detail"]["model"]
    assert requeue(stack.app, dead, Invoked(stack)) == [Requeued(f"{kind} {model}", "sent to the bus")]
    (told,) = stack.heard(kind)
    assert told["detail"] == event["detail"]
    assert waiting(dead) == 0


@pytest.mark.parametrize(
    ("named", "knocks"), [("flights", [1, 1, 0]), ("fares", [1, 1, 0]), ("species", [0, 0, 0])]
)
def test_the_change_of_an_alarm_is_for_its_own_model_and_those_that_name_it(
    stack, dead, declare, named, knocks
):
    declare("fares", alarms=["refit-quality-flights"])
    die(dead, sample("request_retraining.alarm"))
    sent = [each.what for each in requeue(stack.app, dead, Invoked(stack), named)]
    assert sent == ["CloudWatch Alarm State Change refit-quality-flights"] * any(knocks)
    assert [len(stack.app.registry.knocks(model)) for model in ("flights", "fares", "species")] == knocks
    assert waiting(dead) == 1 - any(knocks)


def test_the_end_of_a_run_and_a_profile_are_for_the_model_that_they_name(stack, dead):
    for name in ("request_retraining.run_ended", "check_drift"):
        die(dead, sample(name))
    assert requeue(stack.app, dead, Invoked(stack), "species") == []
    assert waiting(dead) == 2


def aws(kind, **detail):
    return json.dumps(sample("request_retraining", **{"detail-type": kind}, detail=detail))


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "[" * 100_000,
        "[]",
        "null",
        '{"detail-type": "Other"}',
        '{"detail": []}',
        aws("Retraining Requested", model="flights"),
        aws("Champion Promoted"),
        json.dumps(sample("outgoing/champion-promoted", source="elsewhere")),
        aws("Step Functions Execution Status Change", name="flights", status="FAILED"),
        aws("CloudWatch Alarm State Change", alarmName="refit-quality-flights"),
        aws("Object Created", object={"key": "incoming/flights/a.parquet"}),
        aws("Object Created", bucket={"name": "store"}, object={"key": "accepted/flights/rows.shard"}),
    ],
    ids=lambda body: body[:20],
)
def test_what_is_no_message_of_ours_stays_where_it_is(stack, dead, body):
    die(dead, body)
    (done,) = requeue(stack.app, dead, Invoked(stack))
    assert done.became.startswith("left where it is")
    assert waiting(dead) == 1


# ---------------------------------------------------------------- resume-run
@pytest.fixture
def failed(stack):
    """v1 serves; run 2 failed."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.upload("2013-02.parquet", flights(400, month=2, flipped=True))
    stack.ask()
    stack.call("request_retraining", stack.ended(RUN_2))
    assert stack.app.registry.run("flights", RUN_2).status is RunStatus.FAILED


def resumed(stack, run_id=RUN_2):
    with stack.delivering():
        return resume_run(stack.app, "flights", run_id, "the bucket is back")


def test_a_failed_run_runs_again_on_the_inputs_that_it_had_frozen(stack, failed):
    """March came after the failure and is not among them."""
    stack.upload("2013-03.parquet", flights(400, month=3))
    answer = resumed(stack)
    assert (answer.answer, answer.run_id) == ("retrain", RUN_3)
    assert answer.reasons == (f"{RUN_2} again on its own inputs: the bucket is back",)
    before, after = (stack.app.registry.run("flights", run_id) for run_id in (RUN_2, RUN_3))
    assert (after.inputs_key, after.rows, after.resumes) == (before.inputs_key, 800, RUN_2)
    promoted = stack.walk(RUN_3)
    assert (promoted["version"], promoted["generation"]) == ("v3", 2)
    assert check(stack.app) == []


def test_a_resumed_run_comes_to_what_an_undisturbed_one_comes_to(stack, failed):
    """The steps that run 2 did not come to are taken by hand first."""
    stack.walk(RUN_2, up_to="finalize")
    stack.walk(resumed(stack).run_id)
    undisturbed, again = (
        stack.app.store.get_json(keys.evaluation("flights", run_id)) for run_id in (RUN_2, RUN_3)
    )
    for found in (undisturbed, again):  # names of versions, and a time that is measured
        del found["trained"], found["latency_ms"]
        for candidate in found["candidates"].values():
            del candidate["version"]
    assert undisturbed == again
    assert again["promote"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda stack: stack.walk(resumed(stack).run_id), "serves no more"),
        (lambda stack: retract(stack.app, "flights", "2013-02.parquet", "test data"), "was retracted since"),
    ],
    ids=["another champion", "a retracted upload"],
)
def test_what_would_compare_or_learn_what_is_no_longer_so_is_not_resumed(stack, failed, change, says):
    change(stack)
    answer = resumed(stack)
    assert answer.answer == "skip"
    assert says in answer.reasons[0]
    assert answer.reasons[0].endswith("instead: refit retrain flights --force --reason WHY")


def test_a_model_that_was_declared_anew_is_not_resumed(stack, failed, declare):
    declare("flights", drift_effect=2)
    assert "model.toml or model.py changed" in resumed(stack).reasons[0]


def test_only_a_run_that_failed_is_resumed(stack, failed):
    assert resumed(stack, RUN_1).reasons == (f"{RUN_1} has ended as promoted; only a failed run is resumed",)
    with pytest.raises(Refused, match=f"no 'run-00000009'; runs that failed: {RUN_2}"):
        resumed(stack, "run-00000009")


def test_a_resumed_run_does_not_wake_the_one_that_failed(stack, failed):
    """What is left of run 2 comes back after run 3 was promoted: it may not promote."""
    state = {
        "model": "flights",
        "run_id": RUN_2,
        "inputs_key": stack.app.registry.run("flights", RUN_2).inputs_key,
    }
    event = stack.walk(resumed(stack).run_id, up_to="promote")
    stack.call("promote", event)
    with pytest.raises(Exception, match="has ended as failed"):
        stack.call("promote", event | state)
    assert stack.app.registry.champion("flights").version == "v3"


def test_a_resumed_run_takes_nobodys_place_and_leaves_what_waits_where_it_is(stack, failed):
    """While another runs it is refused; what waits for all new data has its turn after it."""
    stack.upload("2013-03.parquet", flights(400, month=3))
    assert stack.ask("r3")["run_id"] == RUN_3
    stack.upload("2013-04.parquet", flights(400, month=4))
    assert stack.ask("r4")["answer"] == "wait"
    answer = resumed(stack)
    assert (answer.answer, answer.reasons) == (
        "skip",
        (f"{RUN_3} is running; resume {RUN_2} when it has ended",),
    )
    assert stack.call("request_retraining", stack.ended(RUN_3))["run_id"] == "run-00000004"
    assert stack.app.registry.run("flights", "run-00000004").rows == 1600


def test_what_waited_when_a_run_was_resumed_waits_on(stack, failed):
    registry = stack.app.registry
    hold = {"until": "2999-01-01T00:00:00Z", "reason": "holidays", "by": "ada"}
    registry.save_slot("flights", replace(registry.slot("flights"), hold=hold))
    stack.upload("2013-03.parquet", flights(400, month=3))
    assert stack.ask("r3")["answer"] == "wait"
    assert resumed(stack).answer == "skip"
    registry.save_slot("flights", replace(registry.slot("flights"), hold=None))
    assert resumed(stack).run_id == RUN_3
    assert registry.slot("flights").pending["reason"] == "new routes from May on"
    stack.call("request_retraining", stack.ended(RUN_3))
    assert registry.run("flights", "run-00000004").rows == 1200


# ---------------------------------------------------------------- doctor
def doctor(stack, **more):
    return examine(stack.app, Invoked(stack), young=NOW, wait=0, **more)


def test_a_healthy_stack_is_left_alone(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.call(
        "check_drift", stack.profile_event("check_drift", stack.app.registry.uploads("flights")[0].batch_id)
    )
    assert doctor(stack) == ([], [])


def test_a_deleted_artifact_and_a_deleted_profile_come_back(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    (upload,) = stack.app.registry.uploads("flights")
    sha256 = stack.app.registry.version("flights", "v1").artifact_sha256
    for key in (keys.artifact("flights", sha256), keys.profile("flights", upload.batch_id)):
        stack.app.s3.delete_object(Bucket=stack.app.settings.store_bucket, Key=key)
    assert {breach.promise for breach in check(stack.app)} == {1, 2, 13}
    findings, left = doctor(stack)
    assert left == []
    assert {finding.breach.promise for finding in findings} == {1, 2, 13}


def test_a_replaced_artifact_gives_way_to_the_one_that_was_recorded(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    key = keys.artifact("flights", stack.app.registry.version("flights", "v1").artifact_sha256)
    stack.app.s3.put_object(Bucket=stack.app.settings.store_bucket, Key=key, Body=b"something else")
    findings, left = doctor(stack)
    assert {finding.done for finding in findings} == {f"restored {key}"}
    assert left == []


@pytest.fixture
def tiny_pages(stack):
    """S3 lists one object version or delete marker a page."""

    def shorten(params, **_):
        params["MaxKeys"] = 1

    place, events = "before-parameter-build.s3.ListObjectVersions", stack.app.s3.meta.events
    events.register(place, shorten)
    yield
    events.unregister(place, shorten)


def test_what_is_listed_on_many_pages_comes_back_as_well(stack, tiny_pages):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    (upload,) = stack.app.registry.uploads("flights")
    s3, bucket = stack.app.s3, stack.app.settings.store_bucket
    replaced = keys.artifact("flights", stack.app.registry.version("flights", "v1").artifact_sha256)
    deleted = keys.profile("flights", upload.batch_id)
    s3.put_object(Bucket=bucket, Key=replaced, Body=b"something else")
    s3.delete_object(Bucket=bucket, Key=deleted)
    findings, left = doctor(stack)
    assert {finding.done for finding in findings} == {f"restored {deleted}, {replaced}"}
    assert left == []


def test_an_upload_that_nobody_took_in_is_sent_again(stack):
    stack.put("a.parquet", flights(50))
    ((finding,), left) = doctor(stack)
    assert finding.done == "sent to ValidateFunction again"
    assert len(left) == 1  # until it is taken in
    stack.call("validate", stack.sent()[0])
    assert doctor(stack) == ([], [])


def test_a_change_of_the_champion_that_was_not_told_of_is_told_of(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    registry = stack.app.registry
    first = registry.champion("flights")
    registry.move_champion(replace(first, generation=2, previous="v1", change="rollback"))
    (findings, left) = doctor(stack)
    assert [finding.breach.promise for finding in findings] == [5]
    assert left == []
    assert [event["detail"]["generation"] for event in stack.heard("Champion Rolled Back")] == [2]


def test_an_answer_that_nobody_was_told_of_is_told(stack):
    stack.upload("a.parquet", flights(50))
    with stack.outage(stack.app.bus.events, "PutEvents", "Retraining Decided"), pytest.raises(AwsUnavailable):
        stack.ask()
    findings, left = doctor(stack)
    assert ([finding.breach.promise for finding in findings], left) == ([4], [])
    assert len(stack.heard("Retraining Decided")) == 1


def test_a_tick_that_fails_is_a_finding_and_hides_no_other(stack):
    stack.put("a.parquet", flights(50))

    def failing(*_):
        raise RefitError("TickFunction failed: AwsUnavailable")

    findings, left = examine(stack.app, failing, young=NOW, wait=0)
    assert [finding.breach.message for finding in findings][1:] == ["TickFunction failed: AwsUnavailable"]
    assert len(left) == 1


def test_who_only_looks_changes_nothing(stack):
    stack.put("a.parquet", flights(50))
    findings, left = doctor(stack, repair=False)
    assert [finding.done for finding in findings] == ["nothing: only looked"]
    assert len(left) == 1
    assert stack.sent() == []


def test_what_came_a_moment_ago_is_on_its_way_and_no_breach(stack):
    stack.put("a.parquet", flights(50))
    assert examine(stack.app, Invoked(stack), young=timedelta(minutes=15)) == ([], [])


def test_what_needs_a_decision_stays_and_is_named(stack):
    """Every copy of the artifact is gone: nothing but a rollback or a new run helps."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    key = keys.artifact("flights", stack.app.registry.version("flights", "v1").artifact_sha256)
    s3, bucket = stack.app.s3, stack.app.settings.store_bucket
    for version in s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]:
        s3.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    findings, left = doctor(stack)
    assert all("put right by hand" in finding.done for finding in findings)
    assert [breach.promise for breach in left] == [1, 13]
