"""The one clock: intervals, knocks that waited, lost uploads, lost runs."""

from dataclasses import asdict, replace

import pytest
from moto_stack import client, sample
from rows import csv, flights, parquet, species

from refit.aws import runs
from refit.batches import Outcome, upload_id
from refit.errors import AwsUnavailable
from refit.records import RunStatus

RUN_1, RUN_2 = "run-00000001", "run-00000002"
QUIET = ("skipped: nothing new", 0)  # what a tick found of the model, and how many uploads it swept
DONE = {"batchItemFailures": []}
LONG_AGO, FAR_OFF = "2013-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def looked(stack):
    """What a tick found of flights, and how many uploads it swept; it says the same in the registry."""
    tick = stack.tick()
    assert asdict(stack.app.registry.last_tick()) == tick
    assert tick["models"].keys() == stack.app.models.keys()
    return tick["models"]["flights"], tick["swept"]


def hold(stack, until):
    held = {"until": until, "reason": "backfill", "by": "ada"} if until else None
    registry = stack.app.registry
    registry.save_slot("flights", replace(registry.slot("flights"), hold=held))


def asked(stack):
    """Ids of the requests that ticks have put on the bus since the last look."""
    return [event["detail"]["request_id"] for event in stack.heard("Retraining Requested")]


def knocks(stack, trigger, model="flights"):
    return [knock for knock in stack.app.registry.knocks(model) if knock.trigger == trigger]


def take_in(stack):
    """Let validate work off the intake queue; returns how many messages there were."""
    sent = stack.sent()
    for event in sent:
        assert stack.call("validate", event) == DONE
    return len(sent)


@pytest.fixture
def swept(configure):
    """Uploads are swept whatever their age."""
    configure(sweep_minutes=0)


# ---------------------------------------------------------------- intervals
def test_an_interval_that_is_due_knocks_once_however_many_ticks_see_it(stack, declare):
    """January ends on the 1st at 06:39, February's file a month later: 20 days after the first is the 21st."""
    declare(every="20 days")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.heard()
    assert looked(stack) == QUIET
    stack.upload("2013-02.parquet", flights(400, month=2))
    stack.heard()
    found, swept = looked(stack)
    assert looked(stack) == (found, swept)  # nobody has answered yet
    assert found.startswith("asked: interval-2013-01-21T06:39:00Z-")
    name = found.removeprefix("asked: ")
    both = stack.heard("Retraining Requested")
    for event in both:
        stack.call("request_retraining", event)
    assert len(both) == 2
    (knock,) = knocks(stack, "interval")
    assert (knock.answer, knock.run_id, knock.requested_by) == ("retrain", RUN_2, "tick")
    assert knock.reasons == ("every 20 days, due 2013-01-21T06:39:00Z", "400 new rows")
    with stack.delivering():
        for _ in range(3):
            assert looked(stack) == (f"{RUN_2} runs; asked before: {name}", 0)
    assert len(knocks(stack, "interval")) == 1
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]


def test_an_interval_without_enough_new_rows_is_recorded_as_a_skip_and_the_next_tick_adds_nothing(
    stack, declare
):
    declare(every="20 days")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.upload("2013-02.parquet", flights(150, month=2))
    with stack.delivering():
        for _ in range(3):
            stack.tick()
    (knock,) = knocks(stack, "interval")
    assert knock.answer == "skip"
    assert knock.reasons == ("150 new rows, 200 are needed to prove a gain: 50 are missing",)
    assert stack.executions() == [f"flights-{RUN_1}"]

    stack.upload("2013-02-late.parquet", flights(60, month=2, seed=2))
    with stack.delivering():
        for _ in range(3):
            stack.tick()
    assert sorted(knock.answer for knock in knocks(stack, "interval")) == ["retrain", "skip"]
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]


def test_an_interval_with_nothing_new_is_recorded_as_a_skip_too(stack, declare):
    """The clock on the wall, for species has no time column; its last run began long ago."""
    declare("species", every="0 6 * * 1")
    stack.upload("first.parquet", species(300), "species")
    stack.ask(model="species")
    registry = stack.app.registry
    ended = replace(registry.run("species", RUN_1), status=RunStatus.FAILED, started_at=LONG_AGO)
    registry.close_run(ended, runs.freed(registry.slot("species"), ended))
    with stack.delivering():
        for _ in range(3):
            stack.tick()
    (knock,) = knocks(stack, "interval", "species")
    assert knock.answer == "skip"
    assert knock.reasons[0].startswith(f"{RUN_1} already ran on exactly these inputs")


def test_before_the_first_run_no_interval_is_due(stack, declare):
    declare(every="1 hour")
    stack.upload("2013-01.parquet", flights(400))
    assert looked(stack) == QUIET


# ---------------------------------------------------------------- knocks that waited
def test_a_turn_by_the_tick_keeps_what_the_knock_knew(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    batch = stack.upload("2013-02.parquet", flights(400, month=2)).batch_id
    hold(stack, FAR_OFF)
    event = sample("request_retraining.drift_checked")
    event["detail"] |= {"batch_id": batch, "version": "v1", "drifted": ["distance moved"]}
    assert stack.call("request_retraining", event)["answer"] == "wait"
    hold(stack, LONG_AGO)
    with stack.delivering():
        stack.tick()
    (knock,) = knocks(stack, "pending")
    assert knock.reasons == (
        "drift in 1 column: distance moved",
        f"pending since {event['time']}: 1 column drifted",
        "400 new rows",
    )


def test_when_a_hold_has_ended_the_knock_that_waited_has_its_turn(stack):
    stack.upload("2013-01.parquet", flights(400))
    hold(stack, FAR_OFF)
    assert stack.ask(reason="new routes", force=True)["answer"] == "wait"
    hold(stack, LONG_AGO)
    with stack.delivering():
        stack.tick()
        stack.tick()
    (knock,) = knocks(stack, "pending")
    assert (knock.answer, knock.reason, knock.run_id) == ("retrain", "new routes", RUN_1)
    assert stack.app.registry.slot("flights").pending is None
    assert stack.executions() == [f"flights-{RUN_1}"]


def test_a_knock_that_waited_for_nothing_is_answered_and_forgotten(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    hold(stack, FAR_OFF)
    stack.ask("r2")
    hold(stack, None)
    with stack.delivering():
        stack.tick()
        assert looked(stack) == QUIET
    (knock,) = knocks(stack, "pending")
    assert knock.answer == "skip"
    assert stack.app.registry.slot("flights").pending is None


def test_a_paused_model_is_not_knocked_again_and_again(stack, declare):
    declare(every="20 days")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.upload("2013-02.parquet", flights(400, month=2))
    hold(stack, FAR_OFF)
    with stack.delivering():
        for _ in range(4):
            stack.tick()
    (knock,) = knocks(stack, "interval")
    assert (knock.answer, knock.look_again_at) == ("wait", FAR_OFF)
    assert knocks(stack, "pending") == []
    assert stack.app.registry.slot("flights").pending["trigger"] == "interval"
    assert stack.executions() == [f"flights-{RUN_1}"]


def test_each_wait_is_its_own_turn_however_long_the_name_of_the_knock(stack):
    stack.upload("2013-01.parquet", flights(400))
    hold(stack, FAR_OFF)
    stack.ask("x" * 80)
    for _ in range(2):
        hold(stack, LONG_AGO)  # and the slot is written: another state than the one before
        stack.tick()
    first, second = asked(stack)
    assert first[:80] != second[:80]


# ---------------------------------------------------------------- runs
def test_a_start_that_was_lost_is_made_up_for(stack):
    stack.upload("2013-01.parquet", flights(400))
    with stack.outage(stack.app.sfn, "StartExecution"), pytest.raises(AwsUnavailable):
        stack.ask()
    assert stack.executions() == []
    for found in (f"{RUN_1} started: its start was lost", f"{RUN_1} runs"):
        assert looked(stack) == (found, 0)
        assert stack.executions() == [f"flights-{RUN_1}"]
    assert stack.app.registry.run("flights", RUN_1).status is RunStatus.RUNNING


def test_a_run_that_runs_is_left_alone(stack):
    stack.upload("2013-01.parquet", flights(400))
    stack.ask()
    stack.heard()
    before = stack.app.registry.slot("flights")
    assert looked(stack) == (f"{RUN_1} runs", 0)
    assert stack.app.registry.slot("flights") == before
    assert stack.heard() == []


def test_an_execution_that_ended_untold_closes_the_run_and_the_pending_knock_has_its_turn(stack):
    stack.upload("2013-01.parquet", flights(400))
    stack.ask("r1")
    stack.upload("2013-02.parquet", flights(400, month=2))
    stack.ask("r2")
    arn = stack.execution(f"flights-{RUN_1}")["executionArn"]
    client("stepfunctions").stop_execution(executionArn=arn)
    stack.heard()
    assert looked(stack) == (f"{RUN_1} closed: its end was not told", 0)
    run = stack.app.registry.run("flights", RUN_1)
    assert run.status is RunStatus.FAILED
    assert run.result.startswith("the execution ended as ABORTED without a verdict")
    assert run.result.endswith("refit retrain flights --force --reason WHY")  # the inputs have had their run
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]["error"]) == ("Retraining Failed", "ABORTED")
    with stack.delivering():
        stack.tick()
    assert stack.app.registry.run("flights", RUN_2).rows == 800
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]


def test_the_end_of_a_run_is_told_even_when_the_tick_that_found_it_dies(stack):
    stack.upload("2013-01.parquet", flights(400))
    stack.ask()
    arn = stack.execution(f"flights-{RUN_1}")["executionArn"]
    client("stepfunctions").stop_execution(executionArn=arn)
    stack.heard()
    with stack.outage(stack.app.bus.events, "PutEvents", "Retraining Failed"), pytest.raises(AwsUnavailable):
        stack.tick()
    stack.tick()
    assert [event["detail-type"] for event in stack.heard()] == ["Retraining Failed"]
    assert stack.app.registry.run("flights", RUN_1).status is RunStatus.FAILED


def test_what_cannot_be_asked_of_step_functions_closes_nothing(stack):
    stack.upload("2013-01.parquet", flights(400))
    stack.ask()
    with stack.outage(stack.app.sfn, "DescribeExecution"), pytest.raises(AwsUnavailable):
        stack.tick()
    assert stack.app.registry.run("flights", RUN_1).status is RunStatus.RUNNING


# ---------------------------------------------------------------- uploads
@pytest.mark.parametrize(
    ("name", "write"), [("A.PARQUET", parquet), ("b.Csv", csv), ("no suffix, ünïcode+%20", csv)]
)
def test_an_upload_that_no_event_told_of_is_found(stack, swept, name, write):
    key, version = stack.put(name, write(flights(50)))
    assert stack.tick()["swept"] == 1
    assert take_in(stack) == 1
    assert stack.recorded(key, version).outcome is Outcome.ACCEPTED
    assert stack.tick()["swept"] == 0


def test_a_young_upload_is_left_to_its_own_event(stack):
    stack.put("a.parquet", flights(50))
    assert stack.tick()["swept"] == 0
    assert stack.sent() == []


def test_every_version_of_a_key_is_an_upload_of_its_own(stack, swept):
    stack.upload("a.parquet", flights(50))
    lost = [stack.put("a.parquet", flights(rows)) for rows in (60, 70)]
    assert stack.tick()["swept"] == 2
    assert take_in(stack) == 2
    assert [stack.recorded(*each).rows for each in lost] == [60, 70]


def test_what_is_final_or_deleted_is_not_touched(stack, swept):
    stack.upload("good.parquet", flights(50))
    stack.upload("bad.parquet", b"no table")
    stack.upload("", b"")
    stack.upload("a.parquet", flights(50), model="trains")
    key, _ = stack.put("deleted.parquet", flights(60))
    bucket = stack.app.settings.data_bucket
    for version in client("s3").list_object_versions(Bucket=bucket, Prefix=key)["Versions"]:
        client("s3").delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    stack.app.s3.delete_object(Bucket=bucket, Key="incoming/flights/good.parquet")  # a marker, no version
    assert looked(stack) == QUIET
    assert stack.sent() == []


def test_uploads_of_a_model_that_was_deployed_since_are_taken_in(stack, swept, declare):
    ignored = stack.upload("a.parquet", flights(50), model="trains")
    assert ignored.outcome is Outcome.IGNORED
    declare("trains", copy_of="flights")
    assert stack.tick()["swept"] == 1
    assert take_in(stack) == 1
    found = stack.recorded(ignored.key, ignored.version_id, "trains")
    assert (found.outcome, found.reasons) == (Outcome.ACCEPTED, ())
    assert stack.tick()["swept"] == 0


def test_an_outcome_that_was_never_told_is_told_and_keeps_its_place_in_s3s_order(stack, swept):
    key, version = stack.put("a.parquet", flights(50))
    with stack.outage(stack.app.bus.events, "PutEvents"):
        assert stack.call("validate", stack.arrival(key, version)) != DONE
    before = stack.recorded(key, version)
    assert before.sequencer
    assert stack.tick()["swept"] == 1
    assert take_in(stack) == 1
    found = stack.recorded(key, version)
    assert (found.announced, found.sequencer) == (True, before.sequencer)
    assert [event["detail-type"] for event in stack.heard()] == ["Batch Accepted"]


def test_what_failed_by_our_fault_stays_parked(stack, swept):
    key, version = stack.put("a.parquet", flights(50))
    with stack.outage(stack.app.s3, "PutObject", "rows.shard"):
        stack.call("validate", stack.arrival(key, version, tries=5))
    assert stack.recorded(key, version).outcome is Outcome.PARKED
    assert looked(stack) == QUIET


def test_what_the_sweep_sends_and_an_event_that_was_only_late_are_one_upload(stack, swept):
    key, version = stack.put("a.parquet", flights(50))
    stack.tick()
    stack.call("validate", stack.arrival(key, version))
    assert take_in(stack) == 1
    assert len(stack.heard("Batch Accepted")) == 1


def test_a_lost_upload_is_sent_once_while_its_message_has_its_tries(stack, swept):
    stack.put("a.parquet", flights(50))
    assert [stack.tick()["swept"] for _ in range(3)] == [1, 0, 0]
    assert len(stack.sent()) == 1


def test_a_message_that_was_lost_too_is_sent_again_hours_later(stack, swept):
    key, version = stack.put("a.parquet", flights(50))
    stack.tick()
    name = upload_id(stack.app.settings.data_bucket, key, version)
    item = {"pk": {"S": "SWEPT"}, "sk": {"S": name}, "at": {"S": LONG_AGO}, "body": {"S": "{}"}}
    client("dynamodb").put_item(TableName=stack.app.settings.table, Item=item)
    assert stack.tick()["swept"] == 1


def test_one_model_that_cannot_be_looked_after_stops_neither_the_others_nor_the_sweep(stack, swept):
    stack.upload("2013-01.parquet", flights(400))
    stack.put("lost.parquet", flights(50, month=2))
    with stack.outage(stack.app.sfn, "StartExecution"), pytest.raises(AwsUnavailable):
        stack.ask()
    stack.promoted("species", "first.parquet", species(300))
    with (
        stack.outage(stack.app.sfn, "DescribeExecution", times=1),
        pytest.raises(AwsUnavailable),
    ):
        stack.tick()
    tick = stack.app.registry.last_tick()
    assert tick.models == {
        "fares": QUIET[0],
        "flights": "failed: EndpointConnectionError",
        "species": QUIET[0],
    }
    assert tick.swept == 1


# ---------------------------------------------------------------- what a tick costs
def test_a_tick_with_nothing_to_do_is_a_handful_of_calls(stack, declare):
    with stack.counted() as calls:
        stack.tick()
    assert calls == {
        "GetItem": 9,
        "ListObjectVersions": 1,
        "PutItem": 1,
    }  # of three models the slot, the champion and what was told of it; a listing, its own record

    declare(every="30 days")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    for day in range(10):
        stack.upload(f"2013-01-{day}.parquet", flights(20, seed=day + 1))
    with stack.counted() as calls:
        stack.tick()
    # The last run and the uploads for the interval, the uploads again for the sweep; eleven of them or one.
    assert calls == {"GetItem": 10, "Query": 2, "ListObjectVersions": 1, "PutItem": 1}


def test_the_clock_says_nothing_but_that_it_struck(stack):
    for event in (sample("tick"), {}, None, {"detail": {"model": "no such"}}):
        assert stack.call("tick", event)["models"]["flights"] == QUIET[0]


def test_a_tick_that_comes_late_does_not_stand_for_the_newest(stack):
    stack.tick()
    registry = stack.app.registry
    newest = registry.last_tick()
    registry.note_tick(replace(newest, at=LONG_AGO, swept=9))
    assert registry.last_tick() == newest
    later = replace(newest, at=FAR_OFF)
    registry.note_tick(later)
    assert registry.last_tick() == later


# ---------------------------------------------------------------- waits with a time
def test_a_budget_that_is_spent_waits_for_the_next_month_and_the_tick_asks_then(stack, declare):
    declare(budget_runs=1)
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.upload("2013-02.parquet", flights(400, month=2))
    answer = stack.ask("r2", reason="new routes")
    assert answer["answer"] == "wait"
    assert "budget_runs allows 1 a month" in answer["reasons"][0]
    registry = stack.app.registry
    slot = registry.slot("flights")
    assert slot.pending["reason"] == "new routes"
    assert slot.look_again_at[8:] == "01T00:00:00Z"
    with stack.delivering():
        assert looked(stack)[0] == f"waits until {slot.look_again_at}: new routes"
        assert knocks(stack, "pending") == []
        # Its time has come, but the month has not changed: it is asked once and waits anew.
        registry.save_slot("flights", replace(slot, look_again_at=LONG_AGO))
        stack.tick()
        stack.tick()
    (knock,) = knocks(stack, "pending")
    assert (knock.answer, knock.look_again_at, knock.reason) == ("wait", slot.look_again_at, "new routes")
    assert registry.slot("flights").look_again_at == slot.look_again_at
    with stack.delivering():
        assert stack.ask("r3", force=True)["answer"] == "retrain"  # a person's word
    assert registry.slot("flights").look_again_at == ""


def test_a_hold_that_is_lifted_early_is_not_waited_for(stack):
    stack.upload("2013-01.parquet", flights(400))
    hold(stack, FAR_OFF)
    assert stack.ask()["answer"] == "wait"
    assert stack.app.registry.slot("flights").look_again_at == ""
