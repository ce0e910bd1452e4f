"""How runs end that promote nothing: KeepChampion and RecordFailure."""

import json

import pytest
from moto_stack import sample
from rows import flights

from refit.errors import BadMessage
from refit.records import RunStatus

RUN = "run-00000001"


@pytest.fixture
def run(stack):
    """A running run, and the references to it."""
    stack.upload("2013-01.parquet", flights(400))
    stack.ask()
    stack.heard()
    return {"run_id": RUN, "inputs_key": stack.app.registry.run("flights", RUN).inputs_key}


def test_a_champion_that_was_not_beaten_stays_and_the_run_is_closed_once(stack, run):
    event = sample("keep_champion", **run)
    answer = stack.call("keep_champion", event)
    closed = stack.app.registry.run("flights", RUN)
    assert closed.status is RunStatus.KEPT
    assert closed.result == event["evaluation"]["reason"]
    assert (closed.challenger, closed.challenger_score) == ("v2-recent", 0.66)
    assert stack.app.registry.slot("flights").running == ""
    assert stack.app.registry.slot("flights").last_run == RUN
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]) == ("Champion Kept", answer)

    assert stack.call("keep_champion", event) == answer
    assert stack.app.registry.run("flights", RUN) == closed


def test_a_run_whose_champion_moved_is_kept_for_that_reason(stack, run):
    event = sample("keep_champion", **run)
    del event["evaluation"]
    cause = {"errorType": "ChampionMoved", "errorMessage": "the champion changed"}
    event["error"] = {"Error": "ChampionMoved", "Cause": json.dumps(cause)}
    assert stack.call("keep_champion", event)["reason"] == "the champion changed"


def test_a_failure_is_recorded_with_its_name_and_words_and_frees_the_slot(stack, run):
    event = sample("record_failure", **run)
    answer = stack.call("record_failure", event)
    assert answer["error"] == "NotEnoughData"
    assert answer["cause"].startswith("1204 labelled rows are new to the champion")
    closed = stack.app.registry.run("flights", RUN)
    assert (closed.status, closed.result) == (RunStatus.FAILED, f"NotEnoughData: {answer['cause']}")
    assert stack.app.registry.slot("flights").running == ""
    (told,) = stack.heard()
    assert told["detail-type"] == "Retraining Failed"
    assert (told["detail"]["error"], told["detail"]["cause"]) == (answer["error"], answer["cause"])

    assert stack.call("record_failure", event) == answer
    assert stack.app.registry.run("flights", RUN) == closed


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"Error": "States.Timeout", "Cause": ""}, ("States.Timeout", "no cause was given")),
        ({"Error": "States.Timeout", "Cause": "took too long"}, ("States.Timeout", "took too long")),
        (None, ("UnknownError", "the state machine caught an error without a description")),
    ],
)
def test_a_failure_without_an_exception_is_recorded_too(stack, run, error, expected):
    answer = stack.call("record_failure", sample("record_failure", **run, error=error))
    assert (answer["error"], answer["cause"]) == expected


def test_what_fails_after_a_promotion_does_not_undo_it(stack, run):
    stack.walk(RUN)
    stack.heard()
    stack.call("record_failure", sample("record_failure", **run))
    assert stack.app.registry.run("flights", RUN).status is RunStatus.PROMOTED
    assert stack.heard() == []


@pytest.mark.parametrize("step", ["keep_champion", "record_failure"])
def test_a_run_that_nobody_recorded_cannot_be_closed(stack, step):
    with pytest.raises(BadMessage, match="has no run-00000002"):
        stack.call(step, sample(step))
