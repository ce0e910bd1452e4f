import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from moto_stack import MODELS, sample
from rows import flights

from refit.aws import inputs, training_data
from refit.errors import AwsUnavailable, Conflict
from refit.records import Quality, RunStatus

RUN_1, RUN_2 = "run-00000001", "run-00000002"


def drift_checked(stack, upload, **detail):
    """events/request_retraining.drift_checked.json, of that batch."""
    event = sample("request_retraining.drift_checked")
    champion = stack.app.registry.champion("flights")
    version = champion.version if champion else ""
    event["detail"] |= {"batch_id": upload.batch_id, "version": version, **detail}
    return event


def end(stack, run_id, status="ABORTED"):
    return stack.call("request_retraining", stack.ended(run_id, status))


@pytest.fixture
def data(stack):
    """Enough rows for a first model."""
    return stack.upload("2013-01.parquet", flights(400))


# ---------------------------------------------------------------- logs
def test_the_log_leads_from_a_batch_to_its_run_and_holds_no_data_values(stack, logs):
    """What drifted names categories: such words are for the record, the bus and the page."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2))
    marker = "origin: 'marker' 2.0% -> 30.0% of the rows"
    answer = stack.call("request_retraining", drift_checked(stack, upload, drifted=[marker]))
    assert (answer["answer"], answer["run_id"]) == ("retrain", RUN_2)
    assert "marker" in answer["reasons"][0]
    lines = [each for each in map(json.loads, logs.getvalue().splitlines()) if each["message"] == "answered"]
    assert (lines[-1]["model"], lines[-1]["batch_id"], lines[-1]["run_id"]) == (
        "flights",
        upload.batch_id,
        RUN_2,
    )
    assert lines[-1]["knock_id"] == f"drift-{upload.batch_id}-v1"
    assert "marker" not in logs.getvalue()


def test_a_knock_of_an_alarm_is_logged_with_its_model(stack, data, logs):
    stack.call("request_retraining", sample("request_retraining.alarm"))
    (line,) = (
        each for each in map(json.loads, logs.getvalue().splitlines()) if each["message"] == "answered"
    )
    assert (line["model"], line["trigger"]) == ("flights", "alarm")


# ---------------------------------------------------------------- answers
def test_the_first_batch_starts_the_first_run(stack, data):
    answer = stack.call("request_retraining", drift_checked(stack, data, drifted=[]))
    assert (answer["answer"], answer["run_id"]) == ("retrain", RUN_1)
    assert stack.executions() == [f"flights-{RUN_1}"]
    run = stack.app.registry.run("flights", RUN_1)
    assert (run.status, run.rows, run.new_rows, run.trigger) == (RunStatus.RUNNING, 400, 400, "data")
    assert stack.app.store.get_json(run.inputs_key)["batches"][0]["batch_id"] == data.batch_id
    (event,) = stack.heard("Retraining Decided")
    assert event["detail"]["answer"] == "retrain"
    assert event["detail"]["run_id"] == RUN_1


def test_an_answer_that_changes_nothing_leaves_the_slot_alone_and_does_not_hold_when_it_moved(stack, data):
    """Knocks that are skipped keep nobody out; an answer to what is no longer so is not recorded."""
    stack.ask()
    registry = stack.app.registry
    end(stack, RUN_1)
    before = registry.slot("flights")
    assert stack.ask(request_id="again")["answer"] == "skip"
    assert registry.slot("flights") == before
    answered = replace(registry.knock("flights", "asked-again"), knock_id="asked-late")
    registry.save_slot("flights", before)
    with pytest.raises(Conflict):
        registry.answer(answered, before, changed=False)
    assert registry.knock("flights", "asked-late") is None


def test_the_execution_is_given_references_only(stack, data):
    stack.ask()
    given = json.loads(stack.execution(f"flights-{RUN_1}")["input"])
    inputs_key = stack.app.registry.run("flights", RUN_1).inputs_key
    assert sample("evaluate", run_id=RUN_1, inputs_key=inputs_key) == given | {
        "trained": sample("evaluate")["trained"]
    }


def test_a_repeated_event_gives_the_same_answer_and_no_second_execution(stack, data):
    first = stack.ask()
    stack.heard()
    assert stack.ask() == first
    assert stack.executions() == [f"flights-{RUN_1}"]
    assert len(stack.app.registry.knocks("flights")) == 1
    assert stack.heard() == []


def test_an_answer_that_was_recorded_but_not_told_is_told_when_the_knock_comes_again(stack, data):
    with stack.outage(stack.app.bus.events, "PutEvents", "Retraining Decided"), pytest.raises(AwsUnavailable):
        stack.ask()
    assert stack.heard("Retraining Decided") == []
    stack.ask()
    stack.ask()
    assert len(stack.heard("Retraining Decided")) == 1
    assert stack.executions() == [f"flights-{RUN_1}"]


def test_too_few_new_rows_are_not_worth_a_run_unless_forced(stack):
    stack.upload("2013-01.parquet", flights(150))
    answer = stack.ask()
    assert answer["answer"] == "skip"
    assert answer["reasons"] == ["150 new rows, 200 are needed to prove a gain: 50 are missing"]
    assert stack.executions() == []
    assert stack.ask("r2", force=True)["answer"] == "retrain"


def test_nothing_accepted_is_nothing_to_learn_from(stack):
    assert stack.ask()["reasons"] == ["nothing accepted yet; drop files under incoming/flights/"]


def test_retraining_again_with_nothing_new_is_skipped(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    assert stack.ask("again")["answer"] == "skip"
    assert stack.ask("really", force=True)["answer"] == "skip"  # no unseen rows are left to test on


def test_force_runs_again_on_the_same_inputs_after_a_failure_as_its_record_says(stack, data):
    stack.ask()
    end(stack, RUN_1)
    assert stack.app.registry.run("flights", RUN_1).result.endswith(
        "refit retrain flights --force --reason WHY"
    )
    assert stack.ask("again")["answer"] == "skip"
    assert stack.ask("forced", force=True)["run_id"] == RUN_2


def test_drift_starts_a_run_and_its_absence_does_not(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2))
    calm = stack.call("request_retraining", drift_checked(stack, upload, drifted=[]))
    assert calm["answer"] == "skip"
    other = stack.upload("2013-03.parquet", flights(400, month=3))
    moved = stack.call("request_retraining", drift_checked(stack, other, drifted=["distance: moved"]))
    assert (moved["answer"], moved["run_id"]) == ("retrain", RUN_2)
    assert "drift in 1 column: distance: moved" in moved["reasons"]


def test_a_hold_makes_every_knock_wait_until_it_ends(stack, data):
    registry = stack.app.registry
    hold = {"until": "2999-01-01T00:00:00Z", "reason": "backfill", "by": "ada"}
    registry.save_slot("flights", replace(registry.slot("flights"), hold=hold))
    answer = stack.ask()
    assert answer["answer"] == "wait"
    assert "on hold until 2999" in answer["reasons"][0]
    (knock,) = registry.knocks("flights")
    assert knock.look_again_at == "2999-01-01T00:00:00Z"
    registry.save_slot("flights", replace(registry.slot("flights"), hold=None))
    assert stack.ask("r2")["answer"] == "retrain"


# ---------------------------------------------------------------- one running, one pending
def test_a_knock_during_a_run_is_pending_and_further_ones_add_nothing(stack, data):
    stack.ask("r1")
    second = stack.ask("r2")
    assert second["answer"] == "wait"
    pending = stack.app.registry.slot("flights").pending
    assert pending["knock_id"] == "asked-r2"
    assert stack.ask("r3")["reasons"][0].startswith(f"{RUN_1} is running; already pending")
    assert stack.app.registry.slot("flights").pending == pending
    assert stack.executions() == [f"flights-{RUN_1}"]


def test_a_forced_knock_takes_the_place_of_a_pending_one_that_is_not(stack, data):
    stack.ask("r1")
    stack.ask("r2")
    stack.ask("r3", force=True)
    stack.ask("r4", force=True)
    assert stack.app.registry.slot("flights").pending["knock_id"] == "asked-r3"


def test_when_a_run_ends_the_pending_knock_has_its_turn_exactly_once(stack, data):
    stack.ask("r1")
    stack.upload("2013-02.parquet", flights(400, month=2))
    stack.ask("r2")
    first = end(stack, RUN_1)
    assert (first["answer"], first["run_id"]) == ("retrain", RUN_2)
    assert end(stack, RUN_1) == first
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]
    assert stack.app.registry.slot("flights").pending is None
    assert stack.app.registry.run("flights", RUN_2).rows == 800


def test_a_pending_knock_outlives_a_hold_that_began_during_the_run(stack, data):
    registry = stack.app.registry
    stack.ask("r1")
    stack.ask("r2")
    hold = {"until": "2999-01-01T00:00:00Z", "reason": "backfill", "by": "ada"}
    registry.save_slot("flights", replace(registry.slot("flights"), hold=hold))
    assert end(stack, RUN_1)["answer"] == "wait"
    assert registry.slot("flights").pending["knock_id"] == "asked-r2"


@pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT", "FAILED"])
def test_an_execution_that_could_not_close_its_run_frees_the_slot(stack, data, status):
    stack.ask()
    stack.heard()
    assert end(stack, RUN_1, status) == {"answer": "nothing pending"}
    run = stack.app.registry.run("flights", RUN_1)
    assert run.status is RunStatus.FAILED
    assert f"ended as {status} without a verdict" in run.result
    assert stack.app.registry.slot("flights").running == ""
    (event,) = stack.heard()
    assert (event["detail-type"], event["detail"]["error"]) == ("Retraining Failed", status)


def test_a_run_that_was_closed_by_its_own_last_step_stays_as_it_is(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    before = stack.app.registry.run("flights", RUN_1)
    stack.heard()
    assert end(stack, RUN_1, "SUCCEEDED") == {"answer": "nothing pending"}
    assert stack.app.registry.run("flights", RUN_1) == before
    assert stack.heard() == []


# ---------------------------------------------------------------- what is lost half way
def test_a_start_that_was_lost_after_the_record_is_made_up_for_by_redelivery(stack, data):
    with stack.outage(stack.app.sfn, "StartExecution"), pytest.raises(AwsUnavailable):
        stack.ask()
    assert stack.app.registry.slot("flights").running == RUN_1
    assert stack.executions() == []
    assert stack.ask()["run_id"] == RUN_1
    assert stack.executions() == [f"flights-{RUN_1}"]


def test_a_start_that_was_lost_after_a_pending_knock_had_its_turn_is_made_up_for_too(stack, data):
    stack.ask("r1")
    stack.upload("2013-02.parquet", flights(400, month=2))
    stack.ask("r2")
    with stack.outage(stack.app.sfn, "StartExecution"), pytest.raises(AwsUnavailable):
        end(stack, RUN_1)
    assert stack.app.registry.slot("flights").running == RUN_2
    assert end(stack, RUN_1)["run_id"] == RUN_2
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]


def test_without_a_record_nothing_is_started(stack, data):
    with stack.outage(stack.app.registry.dynamodb, "TransactWriteItems"), pytest.raises(AwsUnavailable):
        stack.ask()
    assert stack.executions() == []
    assert stack.app.registry.runs("flights") == []


# ---------------------------------------------------------------- what arrives is not trusted
def test_an_unknown_model_is_refused_with_the_known_ones(stack):
    (reason,) = stack.ask(model="flihgts")["reasons"]
    assert "known models: fares, flights, species" in reason
    (refusal,) = stack.app.registry.refusals()
    assert (refusal.error, refusal.message) == ("UnknownModel", reason)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"detail-type": "Drift Checked", "detail": {"drifted": 7}}, "'drifted' must be a list"),
        ({"detail-type": "Something Else"}, "does not ask for a retraining"),
        ({"detail": None}, "has no 'detail'"),
        ({"detail": {"reason": "no model"}}, "'model' is missing"),
        ({"detail": {"model": "flights", "reason": "x", "trigger": "whim"}}, "trigger 'whim' is unknown"),
        ({"detail": {"model": "flights"}}, "'reason' is missing"),
    ],
)
def test_an_event_of_another_shape_is_refused_by_name(stack, change, says):
    event = sample("request_retraining", **change)
    answer = stack.call("request_retraining", event)
    assert answer["answer"] == "refused"
    assert says in answer["reasons"][0]
    (refusal,) = stack.app.registry.refusals()
    assert (refusal.event_id, refusal.at, refusal.error) == (event["id"], event["time"], "BadMessage")
    assert (refusal.function, refusal.source) == ("request_retraining", "refit")
    assert stack.app.registry.knocks("flights") == []


@pytest.mark.parametrize(
    "name", ["my-own-try", "flights-run-²", "flights-run-" + "٣" * 8, "flights-run-" + "9" * 5000]
)
def test_the_end_of_an_execution_that_somebody_else_named_is_refused(stack, name):
    event = stack.ended(RUN_1)
    event["detail"]["name"] = name
    answer = stack.call("request_retraining", event)
    assert "not the name of an execution that Refit started" in answer["reasons"][0]
    assert len(stack.app.registry.refusals()) == 1


def test_the_end_of_a_run_that_nobody_recorded_is_refused(stack):
    assert "flights has no run-00000001" in end(stack, RUN_1)["reasons"][0]


# ---------------------------------------------------------------- batches of older contracts
def redeclared(configure, tmp_path, changes):
    """Deploys flights with these changes of its model.toml."""
    folder = tmp_path / f"models-{len(list(tmp_path.iterdir()))}"
    shutil.copytree(MODELS, folder)
    path = folder / "flights/model.toml"
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    configure(models_dir=folder)


GROWN = {
    "min_rows = 20": "min_rows = 20\nversion = 2",
    "temperature =": 'seats = { type = "integer", since = 2, fill = 180 }\ntemperature =',
}


def test_a_batch_without_a_column_that_came_later_is_learned_from_with_its_fill(stack, configure, tmp_path):
    old = stack.upload("2013-01.parquet", flights(400))
    redeclared(configure, tmp_path, GROWN)
    new = stack.upload("2013-02.parquet", flights(400, month=2).assign(seats=90))
    answer = stack.ask()
    assert answer["reasons"] == ["no champion yet and 800 rows to learn from"]
    run = stack.app.registry.run("flights", answer["run_id"])
    frozen = inputs.read(stack.app.store, run.inputs_key)
    assert [each.batch_id for each in frozen.batches] == [old.batch_id, new.batch_id]
    data = training_data.dataset(stack.app.store, frozen, stack.app.models["flights"])
    assert np.unique(data.rows.columns["seats"], return_counts=True)[0].tolist() == [90, 180]
    assert (data.rows.columns["seats"] == 180).sum() == 400
    stack.walk(answer["run_id"])
    assert stack.app.registry.run("flights", answer["run_id"]).status is RunStatus.PROMOTED


def test_a_file_without_the_column_is_refused_once_the_contract_asks_for_it(stack, configure, tmp_path):
    redeclared(configure, tmp_path, GROWN)
    late = stack.upload("2013-01.parquet", flights(400))
    assert [(reason.code, reason.column) for reason in late.reasons] == [("missing_column", "seats")]


def test_batches_that_hold_a_column_as_something_else_are_left_out_by_name(stack, configure, tmp_path):
    for month in (1, 2):
        stack.upload(f"2013-0{month}.parquet", flights(400, month=month))
    retyped = {
        "min_rows = 20": "min_rows = 20\nversion = 2",
        'carrier = { type = "category", max_categories = 50 }': 'carrier = { type = "number" }',
    }
    redeclared(configure, tmp_path, retyped)
    left_out = "2 batches of contract version 1 are left out: column 'carrier' was a category"
    assert stack.ask("r1")["reasons"] == [
        "no accepted batch can be learned from under the contract of today",
        left_out,
    ]
    new = stack.upload("2013-03.parquet", flights(400, month=3).assign(carrier=7.5))
    answer = stack.ask("r2")
    assert answer["reasons"] == ["no champion yet and 400 rows to learn from", left_out]
    frozen = inputs.read(stack.app.store, stack.app.registry.run("flights", answer["run_id"]).inputs_key)
    assert [each.batch_id for each in frozen.batches] == [new.batch_id]
    stack.walk(answer["run_id"])
    assert stack.app.registry.run("flights", answer["run_id"]).status is RunStatus.PROMOTED


def test_a_batch_without_the_target_of_today_is_left_out(stack, configure, tmp_path):
    stack.upload("2013-01.parquet", flights(400))
    other = {
        'target = "late"': 'target = "delayed"',
        "late = {": "delayed = {",
        "min_rows = 20": "min_rows = 20\nversion = 2",
    }
    redeclared(configure, tmp_path, other)
    stack.upload("2013-02.parquet", flights(400, month=2).rename(columns={"late": "delayed"}))
    assert stack.ask()["reasons"] == [
        "no champion yet and 400 rows to learn from",
        "1 batch of contract version 1 is left out: column 'delayed' is missing",
    ]


def test_a_champion_of_the_older_contract_serves_and_is_scored_on_batches_of_the_newer(
    stack, configure, tmp_path
):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    redeclared(
        configure,
        tmp_path,
        GROWN | {'carrier = { type = "category", max_categories = 50 }': 'carrier = { type = "number" }'},
    )
    new = stack.upload("2013-02.parquet", flights(400, month=2).assign(seats=90, carrier=7.5))
    scored = stack.call("check_quality", stack.profile_event("check_quality", new.batch_id))
    assert scored["score"] > 0.5
    checked = stack.call("check_drift", stack.profile_event("check_drift", new.batch_id))
    assert checked["version"]


def test_a_late_check_of_a_batch_from_before_the_target_of_today_has_no_score(stack, configure, tmp_path):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    old = stack.upload("2013-02.parquet", flights(400, month=2))
    redeclared(configure, tmp_path, {'target = "late"': 'target = "delayed"', "late = {": "delayed = {"})
    checked = stack.call("check_quality", stack.profile_event("check_quality", old.batch_id))
    assert (checked["score"], checked["rows"]) == (None, 0)
    assert stack.call("check_drift", stack.profile_event("check_drift", old.batch_id))["drifted"] == []


# ---------------------------------------------------------------- what the door remembers
def test_a_bad_score_of_an_earlier_batch_is_remembered_with_what_the_champion_was_tested_at(stack):
    champion = stack.promoted("flights", "2013-01.parquet", flights(400))
    registry = stack.app.registry
    (run,) = registry.runs("flights")
    assert run.baseline_score == 0.5  # by AUC, whoever learned nothing
    upload = stack.upload("2013-02.parquet", flights(400, month=2))
    version = registry.version("flights", registry.champion("flights").version)
    bad = Quality("flights", "earlier", version.version, "roc_auc", 0.41, 300, "2999-01-01T00:00:00Z", 0.5)
    others = Quality("flights", "earlier", "v99", "roc_auc", 0.31, 300, "2999-01-01T00:00:00Z", 0.5)
    for quality in (bad, others):
        registry.add_quality(quality)
    answer = stack.call("request_retraining", drift_checked(stack, upload, drifted=[]))
    assert champion
    assert answer["answer"] == "retrain"
    assert answer["reasons"][0] == (
        f"{version.version} scored 0.4100 on 300 rows that it had not learned from, below 0.5000, it was tested at "
        f"{version.tested_score:.4f}"
    )


def test_a_run_that_has_ended_starts_a_cooldown_of_the_datas_time(stack, declare):
    declare(cooldown="40 days")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2))  # a month later
    answer = stack.call("request_retraining", drift_checked(stack, upload, drifted=["distance moved"]))
    assert answer["answer"] == "skip"
    assert answer["reasons"][0].startswith(f"cooldown of 40 days after {RUN_1} until the data of 2013-0")
    upload = stack.upload("2013-03.parquet", flights(400, month=3))
    answer = stack.call("request_retraining", drift_checked(stack, upload, drifted=["distance moved"]))
    assert answer["answer"] == "retrain"
