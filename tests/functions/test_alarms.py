"""The alarm that watches a champion's quality, and what a change of its state leads to."""

from datetime import UTC, datetime, timedelta

import pytest
from moto_stack import client, sample
from rows import fares, flights, species

from refit.aws.alarms import model_of_alarm
from refit.records import RunStatus

NAME = "refit-quality-flights"
RUN_1, RUN_2 = "run-00000001", "run-00000002"


def alarms():
    """Alarms by name; of each what was asked for."""
    found = client("cloudwatch").describe_alarms()["MetricAlarms"]
    times = ("AlarmConfigurationUpdatedTimestamp", "StateUpdatedTimestamp", "StateTransitionedTimestamp")
    return {each["AlarmName"]: {k: v for k, v in each.items() if k not in times} for each in found}


def changed(stack, name=NAME, value="ALARM", at="2013-04-01T06:02:47.108+0000", **fields):
    """events/request_retraining.alarm.json, of that alarm, through the door."""
    event = sample("request_retraining.alarm", **fields)
    event["detail"]["alarmName"] = name
    event["detail"]["state"] |= {"value": value, "timestamp": at}
    return stack.call("request_retraining", event)


@pytest.fixture
def champion(stack):
    """v1, and rows that it has not learned from."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.upload("2013-02.parquet", flights(400, month=2))
    stack.heard()


# ---------------------------------------------------------------- the alarm
def test_a_promotion_lets_an_alarm_watch_for_less_than_what_was_tested(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    version = stack.app.registry.version("flights", "v1")
    assert 0.5 < version.tested_low < version.tested_score
    ((name, alarm),) = alarms().items()
    assert name == NAME
    assert alarm["Threshold"] == 0  # of the margin over the floor
    assert version.tested_rows == 160
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Refit/refit", "QualityMargin-flights-v1")
    assert (alarm["ComparisonOperator"], alarm["Statistic"]) == ("LessThanThreshold", "Minimum")
    assert (alarm["TreatMissingData"], alarm["EvaluationPeriods"]) == ("missing", 1)
    assert alarm["ActionsEnabled"] is True
    assert f"below what v1 showed when it was tested: {version.tested_score:.4f}" in alarm["AlarmDescription"]
    assert stack.app.store.get_json("runs/flights/run-00000001/evaluation.json")["challenger_low"] == (
        version.tested_low
    )


def test_the_next_champion_is_watched_by_its_own_score_from_anew(stack):
    name = "refit-quality-fares"
    stack.promoted("fares", "2013-01.parquet", fares(300))
    client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="v1 fell")
    stack.promoted("fares", "2013-02.parquet", fares(300, month=2))
    alarm = alarms()[name]
    assert alarm["MetricName"] == "QualityMargin-fares-v2"
    assert (alarm["StateValue"], alarm["StateReason"]) == (
        "INSUFFICIENT_DATA",
        "v2 has not been scored on new data yet",
    )


def test_what_a_check_publishes_is_what_the_alarm_watches(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    batch = stack.upload("2013-02.parquet", flights(400, month=2, flipped=True)).batch_id
    score = stack.call("check_quality", stack.profile_event("check_quality", batch))["score"]
    alarm = alarms()[NAME]
    now = datetime.now(UTC)
    (point,) = client("cloudwatch").get_metric_statistics(
        Namespace=alarm["Namespace"],
        MetricName=alarm["MetricName"],
        Statistics=[alarm["Statistic"]],
        Period=alarm["Period"],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=5),
    )["Datapoints"]
    version = stack.app.registry.version("flights", "v1")
    # Both scores are samples: of 160 tested rows and of 400 new ones.
    spread = (version.tested_score - version.tested_low) * (1 + 160 / 400) ** 0.5
    assert point["Minimum"] == pytest.approx(score - (version.tested_score - spread))
    assert point["Minimum"] < alarm["Threshold"]


def test_few_rows_have_a_lower_floor_and_the_uploads_before_are_remembered(stack):
    """A quarter of the tested rows: the spread of one row over both samples, root of 1 + 4 of them."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    version, found = stack.app.registry.version("flights", "v1"), {}
    for month, rows in ((2, version.tested_rows // 4), (3, 400)):
        batch = stack.upload(f"2013-0{month}.parquet", flights(rows, month=month)).batch_id
        stack.call("check_quality", stack.profile_event("check_quality", batch))
        found |= {q.rows: q for q in stack.app.registry.qualities("flights")}
    tested, spread = version.tested_score, version.tested_score - version.tested_low
    assert found[40].floor == pytest.approx(tested - 5**0.5 * spread)
    alone = tested - (1 + 160 / 400) ** 0.5 * spread
    lowest_mean = tested - (1 + 160 / 440) ** 0.5 * spread
    together = (440 * lowest_mean - 40 * found[40].score) / 400
    assert found[400].floor == pytest.approx(min(tested, max(alone, together)))


def test_a_promotion_that_is_repeated_leaves_the_alarm_as_it_is(stack):
    stack.upload("2013-01.parquet", fares(300), "fares")
    event = stack.walk(stack.ask(model="fares")["run_id"], up_to="promote", model="fares")
    stack.call("promote", event)
    before = alarms()
    stack.call("promote", event)
    assert alarms() == before != {}


def test_an_alarm_that_could_not_be_put_is_put_by_the_next_try(stack):
    stack.upload("2013-01.parquet", fares(300), "fares")
    event = stack.walk(stack.ask(model="fares")["run_id"], up_to="promote", model="fares")
    with (
        stack.outage(stack.app.cloudwatch, "PutMetricAlarm"),
        pytest.raises(Exception, match="EndpointConnectionError"),
    ):
        stack.call("promote", event)
    assert alarms() == {}
    stack.call("promote", event)
    assert set(alarms()) == {"refit-quality-fares"}
    assert len(stack.heard("Champion Promoted")) == 1


def test_where_quality_is_no_trigger_there_is_no_alarm_and_an_old_one_goes(stack, declare):
    stack.promoted("fares", "2013-01.parquet", fares(300))
    assert set(alarms()) == {"refit-quality-fares"}
    declare("fares", quality=False)
    stack.promoted("fares", "2013-02.parquet", fares(300, month=2))
    assert alarms() == {}


def test_models_are_watched_side_by_side(stack):
    stack.promoted("fares", "2013-01.parquet", fares(300))
    stack.promoted("species", "first.parquet", species(300))
    assert set(alarms()) == {"refit-quality-fares", "refit-quality-species"}


def test_an_imported_champion_was_never_tested_so_nothing_watches_it(stack, tmp_path):
    stack.imported(flights(400), tmp_path / "old.skops")
    assert alarms() == {}


def test_the_name_of_an_alarm_names_stack_and_model():
    assert model_of_alarm("refit", NAME) == "flights"
    assert model_of_alarm("other", NAME) is None
    assert model_of_alarm("refit", "refit-quality-") is None
    assert model_of_alarm("refit", "pager") is None


# ---------------------------------------------------------------- its change knocks
def test_an_alarm_is_one_knock_with_its_reason_and_new_rows_start_a_run(stack, champion):
    (answer,) = changed(stack)["answers"]
    assert (answer["answer"], answer["run_id"]) == ("retrain", RUN_2)
    assert answer["reasons"] == [
        f"alarm {NAME}: {sample('request_retraining.alarm')['detail']['state']['reason']}",
        "400 new rows",
    ]
    run = stack.app.registry.run("flights", RUN_2)
    assert (run.trigger, run.requested_by) == ("alarm", f"alarm {NAME}")
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]


def test_the_same_change_delivered_twice_has_one_answer(stack, champion):
    first = changed(stack)
    stack.heard()
    assert changed(stack, id="delivered again, by another rule", time="2013-04-01T06:09:00Z") == first
    assert len(stack.app.registry.knocks("flights")) == 2  # and that of the first run
    assert stack.heard() == []


def test_without_new_rows_an_alarm_is_skipped_on_record(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    (answer,) = changed(stack)["answers"]
    assert answer["answer"] == "skip"
    assert stack.app.registry.knocks("flights")[0].trigger == "alarm"


@pytest.mark.parametrize("value", ["OK", "INSUFFICIENT_DATA"])
def test_a_change_to_another_state_does_nothing(stack, champion, value):
    assert changed(stack, value=value) == {"answers": []}
    assert len(stack.app.registry.knocks("flights")) == 1
    assert stack.heard() == []


def test_a_hundred_flaps_on_the_same_data_are_one_run(stack, champion):
    answers = []
    for i in range(100):
        at = f"2013-04-01T06:{i // 60:02}:{i % 60:02}.000+0000"
        answers += changed(stack, at=at)["answers"]
        changed(stack, value="OK", at=at)
        if i == 50:  # the run fails half way through
            stack.call("request_retraining", stack.ended(RUN_2, "FAILED"))
    assert [answer["answer"] for answer in answers] == ["retrain"] + ["wait"] * 50 + ["skip"] * 49
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]
    assert stack.app.registry.slot("flights").pending is None
    assert (
        len(stack.app.registry.knocks("flights")) == 102
    )  # 100 flaps, the first run's, the pending one's turn
    assert stack.app.registry.run("flights", RUN_2).status is RunStatus.FAILED


def test_an_alarm_of_peoples_own_knocks_for_every_model_that_names_it(stack, declare):
    declare("flights", alarms=["pager"])
    declare("fares", alarms=["disk", "pager"])
    answers = changed(stack, "pager")["answers"]
    assert len(answers) == 2
    for model in ("flights", "fares"):
        (knock,) = stack.app.registry.knocks(model)
        assert (knock.trigger, knock.answer, knock.requested_by) == ("alarm", "skip", "alarm pager")
    assert stack.app.registry.knocks("species") == []


def test_the_alarm_of_one_model_may_be_named_by_another(stack, declare):
    declare("fares", alarms=[NAME])
    assert len(changed(stack)["answers"]) == 2
    assert [len(stack.app.registry.knocks(model)) for model in ("flights", "fares", "species")] == [1, 1, 0]


def test_an_alarm_that_only_looks_like_ours_is_that_of_who_names_it(stack, declare):
    declare("fares", alarms=["refit-quality-dashboard"])
    assert len(changed(stack, "refit-quality-dashboard")["answers"]) == 1
    assert stack.app.registry.refusals() == []


def test_an_alarm_of_a_model_whose_quality_is_no_trigger_any_more_is_ignored(stack, champion, declare):
    declare(quality=False)
    assert changed(stack) == {"answers": []}
    assert len(stack.app.registry.knocks("flights")) == 1


def test_an_alarm_that_nobody_named_is_ignored_without_a_record(stack):
    assert changed(stack, "somebody-elses-disk-is-full") == {"answers": []}
    assert stack.app.registry.refusals() == []
    assert not any(stack.app.registry.knocks(model) for model in stack.app.models)


def test_an_alarm_of_a_model_that_is_no_longer_deployed_is_refused_on_record(stack):
    answer = changed(stack, "refit-quality-trains")
    assert answer["answer"] == "refused"
    (refusal,) = stack.app.registry.refusals()
    assert (refusal.error, refusal.detail_type) == ("UnknownModel", "CloudWatch Alarm State Change")
    assert "no model 'trains' is deployed" in refusal.message


def test_changes_of_an_alarm_with_the_longest_name_are_told_apart(stack, declare):
    name = "x" * 255  # as long as CloudWatch allows
    declare("flights", alarms=[name])
    for second in range(3):
        changed(stack, name, at=f"2013-04-01T06:02:{second:02}.000+0000")
    assert len(stack.app.registry.knocks("flights")) == 3
