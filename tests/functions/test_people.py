"""What people do: roll back, pause, resume, backfill."""

from dataclasses import asdict, replace

import pytest
from moto_stack import client, happening
from rows import fares, flights, parquet

from refit.aws import keys
from refit.errors import ArtifactError, ChampionMoved, ModelNotUsable
from refit.policy import FOREVER
from refit.records import Change
from refit_cli.actions import Refused, Unfinished, backfill, pause, resume, rollback, whoami
from refit_cli.oracle import check

RUN_1, RUN_2, RUN_3 = "run-00000001", "run-00000002", "run-00000003"
MODEL = "fares"
PREDICT = {"model": MODEL, "records": [{"distance": 1000.0, "seats_left": 7}]}


def january():
    return fares(300)


def turned(month=2):
    """In larger planes it is the farther the cheaper: what was learned from small ones is wrong."""
    frame = fares(600, month=month)
    return frame.assign(fare=-frame["fare"], seats_left=frame["seats_left"] + 1000)


def spec(stack):
    return stack.app.models[MODEL]


def everything(stack):
    """All that is recorded of the model, and what its alarm watches for."""
    r, m = stack.app.registry, MODEL
    found = client("cloudwatch").describe_alarms()["MetricAlarms"]
    return (
        r.champion(m),
        r.generations(m),
        r.versions(m),
        r.runs(m),
        r.slot(m),
        r.knocks(m),
        [(alarm["AlarmName"], alarm["Threshold"], alarm["MetricName"]) for alarm in found],
    )


def watched(stack):
    """Versions whose margins an alarm watches."""
    return {metric.rpartition("-")[2] for _, _, metric in everything(stack)[-1]}


def refuses(stack, action, *says):
    before = everything(stack)
    stack.heard()
    with pytest.raises(Refused) as caught:
        action()
    assert all(words in str(caught.value) for words in says)
    assert everything(stack) == before
    assert stack.heard() == []


def spoil(stack, version):
    """Somebody writes over the stored model."""
    key = keys.artifact(MODEL, stack.app.registry.version(MODEL, version).artifact_sha256)
    stack.app.s3.put_object(Bucket=stack.app.settings.store_bucket, Key=key, Body=b"something else")


@pytest.fixture
def two(stack):
    """v1 was in service, v2 is: the concept had turned around."""
    stack.promoted(MODEL, "2013-01.parquet", january())
    stack.promoted(MODEL, "2013-02.parquet", turned())
    stack.heard()


# ---------------------------------------------------------------- rollback
def test_a_rollback_is_a_step_forward_with_a_record_and_serves_at_once(stack, two):
    assert stack.call("predict", PREDICT)["version"] == "v2"
    change = rollback(stack.app, spec(stack), None, "too many delays")
    registry = stack.app.registry
    assert registry.champion(MODEL) == change == registry.generations(MODEL)[-1]
    assert (change.generation, change.version, change.previous) == (3, "v1", "v2")
    assert (change.change, change.by, change.reason) == (Change.ROLLBACK, whoami(), "too many delays")
    assert [each.generation for each in registry.generations(MODEL)] == [1, 2, 3]
    answer = stack.call("predict", PREDICT)
    assert (answer["version"], answer["generation"]) == ("v1", 3)
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]) == ("Champion Rolled Back", asdict(change))
    assert check(stack.app) == []


def test_a_rollback_lets_the_alarm_watch_the_version_that_is_back(stack, two):
    assert watched(stack) == {"v2"}
    rollback(stack.app, spec(stack), "v1", "too many delays")
    assert watched(stack) == {"v1"}


def test_what_could_not_be_told_of_a_rollback_is_made_up_for_by_the_tick_and_not_by_repeating_it(stack, two):
    """Repeated without --to it would undo itself."""
    with (
        stack.outage(stack.app.cloudwatch, "PutMetricAlarm"),
        pytest.raises(Unfinished, match="v1 is back in service as generation 3"),
    ):
        rollback(stack.app, spec(stack), None, "too many delays")
    assert stack.call("predict", PREDICT)["version"] == "v1"
    assert (watched(stack), stack.heard()) == ({"v2"}, [])
    stack.tick()
    stack.tick()
    assert watched(stack) == {"v1"}
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]["version"]) == ("Champion Rolled Back", "v1")


def test_a_rollback_that_comes_too_late_pauses_nothing(stack, two):
    """The champion moves between the look and the switch."""
    registry = stack.app.registry
    again = replace(registry.champion(MODEL), generation=3, previous="v2", change=Change.ROLLBACK)
    moved = []

    def move(**_):
        if not moved:
            moved.append(again)
            registry.move_champion(again)

    with happening(registry.dynamodb, "TransactWriteItems", move), pytest.raises(ChampionMoved):
        rollback(stack.app, spec(stack), "v1", "too many delays")
    assert registry.slot(MODEL).hold is None
    assert registry.champion(MODEL) == again


def test_a_rollback_pauses_so_that_the_next_run_does_not_undo_it(stack, two):
    rollback(stack.app, spec(stack), "v1", "too many delays")
    stack.upload("2013-03.parquet", turned(3), MODEL)
    for force in (False, True):
        answer = stack.ask(f"r{force}", MODEL, force=force)
        assert answer["answer"] == "wait"
        assert answer["reasons"] == [
            f"on hold until resumed, by {whoami()}: rolled back to v1: too many delays"
        ]
    assert stack.executions() == [f"fares-{RUN_1}", f"fares-{RUN_2}"]
    assert check(stack.app) == []


def test_a_rollback_that_failed_after_the_switch_is_finished_by_the_same_command(stack, two):
    for to in (None, "v1"):
        with stack.outage(stack.app.cloudwatch, "PutMetricAlarm"), pytest.raises(Unfinished):
            rollback(stack.app, spec(stack), to, "too many delays")
    assert stack.heard() == []
    change = rollback(stack.app, spec(stack), None, "too many delays")
    assert (change.generation, change.version) == (3, "v1")
    assert watched(stack) == {"v1"}
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]) == ("Champion Rolled Back", asdict(change))
    assert check(stack.app) == []


def test_a_rollback_can_be_undone(stack, two):
    rollback(stack.app, spec(stack), None, "too many delays")
    change = rollback(stack.app, spec(stack), None, "it was not the model")
    assert (change.generation, change.version, change.previous) == (4, "v2", "v1")
    assert check(stack.app) == []


def test_back_to_an_imported_model_which_was_never_tested(stack, tmp_path):
    """It knows fewer columns than the contract has: it is compared, and serves, with those."""
    first = stack.imported(flights(400, flipped=True), tmp_path / "old.skops")
    promoted = stack.promoted("flights", "2013-01.parquet", flights(400))
    assert promoted["challenger_score"] > 0.8 > 0.2 > promoted["champion_score"]
    assert len(client("cloudwatch").describe_alarms()["MetricAlarms"]) == 1
    assert rollback(stack.app, stack.app.models["flights"], None, "as it was").version == first.version
    assert client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert check(stack.app) == []


def test_a_model_that_was_fitted_on_coded_labels_is_refused_with_how_the_files_have_them(stack, tmp_path):
    """Its classes would be 0 and 1, of which no file has any: no prediction of it would ever be right."""
    coded = flights(400).assign(late=lambda frame: frame["late"].astype(int))
    with pytest.raises(
        Refused, match=r"knows the classes 0, 1, which .*'late' does not have; .*: false, true$"
    ):
        stack.imported(coded, tmp_path / "old.skops")
    assert stack.app.registry.champion("flights") is None


def test_without_a_champion_there_is_nothing_to_roll_back(stack):
    refuses(stack, lambda: rollback(stack.app, spec(stack), None, "why"), "fares has no champion yet")


def test_without_a_version_before_it_there_is_nothing_to_roll_back_to(stack):
    stack.promoted(MODEL, "2013-01.parquet", january())
    refuses(
        stack,
        lambda: rollback(stack.app, spec(stack), None, "why"),
        "v1 is the only version of fares that was ever in service; there is nothing to roll back to",
    )


def test_what_was_never_in_service_or_is_already_is_refused_in_words(stack, two):
    for to, says in {
        "v2": "v2 is the champion already",
        "v9": "v9 has never been in service; versions that were: v1",
        "v1-full": "v1-full has never been in service; versions that were: v1",
        "MODEL#x\n": "has never been in service",
    }.items():
        refuses(stack, lambda to=to: rollback(stack.app, spec(stack), to, "why"), says)


def test_a_spoiled_model_is_refused_before_anything_changes(stack, two):
    spoil(stack, "v1")
    before = everything(stack)
    with pytest.raises(ArtifactError, match="SHA-256"):
        rollback(stack.app, spec(stack), "v1", "too many delays")
    assert everything(stack) == before
    assert stack.heard() == []
    assert stack.ask(model=MODEL)["answer"] == "skip"  # for nothing is new: not paused
    assert [breach.promise for breach in check(stack.app)] == [13]  # it is not what was recorded


def test_a_model_that_does_not_predict_is_refused_before_anything_changes(stack, two):
    registry = stack.app.registry
    version = registry.version(MODEL, "v1")
    strange = tuple({**each, "name": each["name"] + "?"} for each in version.features)
    registry.add_version(replace(version, version="v7", features=strange))
    now = registry.champion(MODEL)
    served = replace(now, generation=3, version="v7", previous="v2")
    registry.move_champion(served)
    registry.move_champion(replace(now, generation=4, previous="v7"))
    before = everything(stack)
    with pytest.raises(ModelNotUsable, match="v7 does not predict"):
        rollback(stack.app, spec(stack), "v7", "why")
    assert everything(stack) == before


def test_a_run_in_flight_does_not_promote_over_a_rollback_and_may_run_again(stack, two):
    """The same inputs, compared with the champion that is back."""
    stack.upload("2013-03.parquet", fares(600, month=3), MODEL)
    event = stack.walk(stack.ask(model=MODEL)["run_id"], up_to="promote", model=MODEL)
    rollback(stack.app, spec(stack), "v1", "too many delays")
    with pytest.raises(Exception, match="no longer generation 2") as caught:
        stack.call("promote", event)
    error = {"Error": type(caught.value).__name__, "Cause": str(caught.value)}
    stack.call("keep_champion", event | {"error": error})
    champion = stack.app.registry.champion(MODEL)
    assert (champion.version, champion.generation) == ("v1", 3)
    assert watched(stack) == {"v1"}
    assert stack.app.registry.run(MODEL, RUN_3).status == "kept"
    assert check(stack.app) == []

    assert resume(stack.app, spec(stack)) is None
    assert stack.ask("again", MODEL)["answer"] == "retrain"


# ---------------------------------------------------------------- pause and resume
def test_a_pause_lets_every_knock_wait_and_resume_gives_the_one_that_waited_its_turn(stack):
    stack.upload("2013-01.parquet", january(), MODEL)
    hold = pause(stack.app, spec(stack), "holidays")
    assert hold == {"until": FOREVER, "reason": "holidays", "by": whoami()}
    assert stack.ask("r1", MODEL, reason="new routes")["answer"] == "wait"
    assert stack.ask("r2", MODEL)["answer"] == "wait"
    assert check(stack.app) == []
    with stack.delivering():
        answer = resume(stack.app, spec(stack))
        assert (answer.answer, answer.trigger, answer.reason) == ("retrain", "pending", "new routes")
        stack.tick()
    slot = stack.app.registry.slot(MODEL)
    assert (slot.hold, slot.pending, slot.running) == (None, None, RUN_1)
    assert stack.executions() == [f"fares-{RUN_1}"]
    assert check(stack.app) == []


def test_what_was_forced_before_a_pause_is_forced_after_it(stack):
    stack.upload("2013-01.parquet", fares(60), MODEL)
    pause(stack.app, spec(stack), "holidays")
    stack.ask(model=MODEL, force=True)
    with stack.delivering():
        assert resume(stack.app, spec(stack)).answer == "retrain"


def test_resume_without_a_knock_that_waited_lifts_the_hold_and_asks_nothing(stack):
    pause(stack.app, spec(stack), "holidays")
    stack.heard()
    assert resume(stack.app, spec(stack)) is None
    assert stack.app.registry.slot(MODEL).hold is None
    assert stack.heard() == []


def test_during_a_run_resume_leaves_the_knock_that_waits_to_its_end(stack):
    stack.upload("2013-01.parquet", january(), MODEL)
    stack.ask("r1", MODEL)
    stack.upload("2013-02.parquet", fares(300, month=2), MODEL)
    pause(stack.app, spec(stack), "holidays")
    stack.ask("r2", MODEL)
    assert resume(stack.app, spec(stack)) is None
    assert stack.call("request_retraining", stack.ended(RUN_1, model=MODEL))["run_id"] == RUN_2


def test_what_is_not_paused_cannot_be_resumed(stack):
    refuses(stack, lambda: resume(stack.app, spec(stack)), "fares is not paused")


# ---------------------------------------------------------------- backfill
def filled(stack, tmp_path, configure, during=lambda: None):
    """A backfill of two files, whose events are lost: the tick takes them in."""
    configure(sweep_minutes=0)
    files = []
    for month in (1, 2):
        files.append(tmp_path / f"2013-{month:02}.parquet")
        files[-1].write_bytes(parquet(fares(400, month=month)))

    def say(text):
        if text.endswith("(2 of 2)"):
            during()
            stack.tick()
            for event in stack.sent():
                stack.call("validate", event)

    with stack.delivering():
        return backfill(stack.app, spec(stack), files, say, timeout=2)


def test_a_backfill_asks_once_and_lifts_its_own_hold(stack, tmp_path, configure):
    uploads, answer = filled(stack, tmp_path, configure, lambda: stack.ask("meanwhile", MODEL))
    assert [upload.rows for upload in uploads] == [400, 400]
    assert (answer.answer, answer.run_id) == ("retrain", RUN_1)
    assert stack.app.registry.slot(MODEL).hold is None
    assert check(stack.app) == []


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_pause_outlives_a_backfill(stack, tmp_path, configure, when):
    if when == "before":
        pause(stack.app, spec(stack), "rolled back")
        _, answer = filled(stack, tmp_path, configure)
    else:
        _, answer = filled(stack, tmp_path, configure, lambda: pause(stack.app, spec(stack), "rolled back"))
    assert answer.answer == "wait"
    assert "rolled back" in answer.reasons[0]
    assert stack.app.registry.slot(MODEL).hold["until"] == FOREVER
    assert stack.executions() == []
