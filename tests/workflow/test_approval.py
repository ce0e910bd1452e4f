"""The wait for a person, in the real state machine under moto's interpreter."""

import json
from dataclasses import replace

import pytest
from moto_workflow import failing
from rows import fares

from refit.aws import keys
from refit.records import ApprovalStatus, RunStatus
from refit_cli.actions import Refused, approve, reject, rollback, wait_for, whoami

MODEL, RUN_1, RUN_2, WEEK = "fares", "run-00000001", "run-00000002", 7 * 86_400
REPORT = ("WriteReport", "WhatItTellsOf")
FIRST, SECOND = f"{MODEL}-{RUN_1}", f"{MODEL}-{RUN_2}"


@pytest.fixture
def require(workflow, monkeypatch):
    """Promotions have to be approved, within so many seconds."""

    def change(seconds=WEEK):
        models = workflow.stack.app.models
        monkeypatch.setitem(models, MODEL, replace(models[MODEL], approval_seconds=seconds))
        return models[MODEL]

    return change


def turned(month=2):
    """Each month has larger planes, and what was learned from the others is wrong for them."""
    frame = fares(600, month=month)
    return frame.assign(
        fare=frame["fare"] * (-1) ** (month - 1), seats_left=frame["seats_left"] + 1000 * month
    )


def waiting(workflow, run_id=RUN_1):
    """The request of a run, once a person was asked and the execution waits."""

    def asked():
        heard = workflow.stack.heard("Waiting For Approval")
        return workflow.stack.app.registry.approval(MODEL, run_id) if heard else None

    return wait_for(asked, 60, "nobody was asked")


@pytest.fixture
def first(workflow, require):
    """The first version waits for its approval; returns the model's declaration."""
    spec = require()
    workflow.stack.upload("2013-01.parquet", fares(300), MODEL)
    workflow.stack.ask(model=MODEL)
    waiting(workflow)
    return spec


@pytest.fixture
def second(workflow, require):
    """v1 is the champion, v2 waits."""
    workflow.upload("2013-01.parquet", fares(300), MODEL)
    spec = require()
    workflow.stack.upload("2013-02.parquet", turned(), MODEL)
    workflow.stack.ask("r2", MODEL)
    waiting(workflow, RUN_2)
    return spec


def run(workflow, run_id=RUN_1):
    return workflow.stack.app.registry.run(MODEL, run_id)


def test_a_yes_promotes_and_what_it_sends_is_the_result_of_the_wait(workflow, first):
    assert workflow.stack.execution(FIRST)["status"] == "RUNNING"
    assert workflow.stack.app.registry.champion(MODEL) is None
    approve(workflow.stack.app, first, "v1", "looks right")
    assert workflow.outcome(FIRST) == "SUCCEEDED"
    assert workflow.states(FIRST)[-9:] == [
        "Finalize",
        "NeedsApproval",
        *REPORT,
        "RequestApproval",
        "Promote",
        *REPORT,
        "Promoted",
    ]
    output = json.loads(workflow.stack.execution(FIRST)["output"])
    assert output["approval"] == {"version": "v1", "approved_by": whoami()}
    assert workflow.stack.app.registry.champion(MODEL).by == whoami()


def test_without_approval_nobody_is_asked(workflow):
    workflow.upload("2013-01.parquet", fares(300), MODEL)
    assert workflow.states(FIRST)[-6:] == ["Finalize", "NeedsApproval", "Promote", *REPORT, "Promoted"]
    assert workflow.stack.app.registry.approvals(MODEL) == []


def test_who_is_asked_is_shown_the_page_before_the_answer_and_it_tells_of_the_answer_in_the_end(
    workflow, first
):
    app = workflow.stack.app
    asked = app.registry.approval(MODEL, RUN_1)
    assert asked.report_key == keys.report(MODEL, RUN_1)
    assert b"Waits for approval" in app.store.get(asked.report_key)
    approve(app, first, "v1", "looks right")
    assert workflow.outcome(FIRST) == "SUCCEEDED"
    page = app.store.get(asked.report_key).decode()
    assert "Promoted" in page and "looks right" in page and "Waits for approval" not in page


def test_who_is_asked_is_asked_without_a_page_where_none_could_be_written(workflow, require):
    spec = require()
    workflow.before["write_report"] = failing(ZeroDivisionError("division by zero"), times=9)
    workflow.stack.upload("2013-01.parquet", fares(300), MODEL)
    workflow.stack.ask(model=MODEL)
    assert waiting(workflow).report_key == ""
    approve(workflow.stack.app, spec, "v1", "looks right")
    assert workflow.outcome(FIRST) == "SUCCEEDED"
    assert workflow.stack.app.registry.champion(MODEL).version == "v1"


def test_a_no_keeps_the_champion_with_its_reason(workflow, second):
    reject(workflow.stack.app, second, "v2", "wrong for islands")
    assert workflow.outcome(SECOND) == "SUCCEEDED"
    assert workflow.states(SECOND)[-5:] == ["RequestApproval", "KeepChampion", *REPORT, "ChampionKept"]
    ended = run(workflow, RUN_2)
    assert (ended.status, ended.result) == (RunStatus.KEPT, f"rejected by {whoami()}: wrong for islands")
    assert workflow.stack.app.registry.champion(MODEL).version == "v1"


def test_what_nobody_answers_in_time_is_kept_and_a_late_answer_changes_nothing(workflow, require):
    spec = require(seconds=1)
    workflow.stack.upload("2013-01.parquet", fares(300), MODEL)
    workflow.stack.ask(model=MODEL)
    assert workflow.outcome(FIRST) == "SUCCEEDED"
    assert workflow.states(FIRST)[-5:] == ["RequestApproval", "KeepChampion", *REPORT, "ChampionKept"]
    assert run(workflow).result.startswith("nobody answered; v1 waited until ")
    for answer in (approve, reject):
        with pytest.raises(Refused, match="too late"):
            answer(workflow.stack.app, spec, "v1", "sorry, was away")
    assert workflow.stack.app.registry.approval(MODEL, RUN_1).status is ApprovalStatus.EXPIRED
    assert workflow.stack.app.registry.champion(MODEL) is None
    assert workflow.invoked.count("promote") == 0


def test_a_rollback_during_the_wait_supersedes_what_waits(workflow, second):
    app = workflow.stack.app
    approve(app, second, "v2", "looks right")
    workflow.settle()
    workflow.stack.upload("2013-03.parquet", turned(3), MODEL)
    workflow.stack.ask("r3", MODEL)
    waiting(workflow, "run-00000003")
    rollback(app, second, "v1", "too cheap")
    with pytest.raises(Refused, match="superseded: v3 was compared with generation 2"):
        approve(app, second, "v3", "looks right")
    assert workflow.outcome(f"{MODEL}-run-00000003") == "SUCCEEDED"
    ended = run(workflow, "run-00000003")
    assert (ended.status, ended.challenger) == (RunStatus.KEPT, "")
    champion = app.registry.champion(MODEL)
    assert (champion.version, champion.generation) == ("v1", 3)


def test_a_repeated_yes_changes_nothing(workflow, first):
    answered, _ = approve(workflow.stack.app, first, "v1", "looks right")
    assert approve(workflow.stack.app, first, "v1", "looks right") == (answered, True)
    workflow.settle()
    assert approve(workflow.stack.app, first, "v1", "looks right") == (answered, True)
    assert len(workflow.stack.app.registry.generations(MODEL)) == 1


@pytest.mark.parametrize("output", ["{}", '{"version": "v1", "approved_by": "mallory"}'])
def test_a_success_that_was_sent_past_the_record_fails_and_promotes_nothing(workflow, first, output):
    app = workflow.stack.app
    app.sfn.send_task_success(taskToken=app.registry.approval(MODEL, RUN_1).token, output=output)
    assert workflow.outcome(FIRST) == "FAILED"
    assert workflow.stack.execution(FIRST)["error"] == "NotApproved"
    assert run(workflow).status is RunStatus.FAILED
    assert app.registry.champion(MODEL) is None


def test_asking_that_failed_is_repeated_and_the_answer_takes_the_last_token(workflow, require):
    spec, events, tokens = require(), workflow.stack.app.bus.events, []
    workflow.before["request_approval"] = lambda event: tokens.append(event["token"])
    workflow.stack.upload("2013-01.parquet", fares(300), MODEL)
    with workflow.stack.outage(events, "PutEvents", "Waiting For Approval", times=1):
        workflow.stack.ask(model=MODEL)
        asked = waiting(workflow)
    assert (asked.token, len(tokens)) == (tokens[-1], 2)
    approve(workflow.stack.app, spec, "v1", "looks right")
    assert workflow.outcome(FIRST) == "SUCCEEDED"


def test_a_yes_between_two_attempts_to_ask_promotes(workflow, require):
    """The first attempt was recorded and then failed: its token is dead, the answer is not."""
    spec, app = require(), workflow.stack.app

    def between(event):
        if app.registry.approval(MODEL, RUN_1):
            approve(app, spec, "v1", "looks right")

    workflow.before["request_approval"] = between
    workflow.stack.upload("2013-01.parquet", fares(300), MODEL)
    with workflow.stack.outage(app.bus.events, "PutEvents", "Waiting For Approval", times=1):
        workflow.stack.ask(model=MODEL)
        assert workflow.outcome(FIRST) == "SUCCEEDED"
    assert workflow.states(FIRST)[-5:] == ["RequestApproval", "Promote", *REPORT, "Promoted"]
    assert app.registry.champion(MODEL).by == whoami()


def test_asking_that_keeps_failing_is_a_failure(workflow, require):
    def fail(event):
        raise ZeroDivisionError("division by zero")

    require()
    workflow.before["request_approval"] = fail
    workflow.stack.upload("2013-01.parquet", fares(300), MODEL)
    workflow.stack.ask(model=MODEL)
    assert workflow.outcome(FIRST) == "FAILED"
    assert workflow.stack.execution(FIRST)["error"] == "ZeroDivisionError"


def test_a_champion_that_moved_before_anybody_was_asked_is_kept(workflow, require):
    workflow.upload("2013-01.parquet", fares(300), MODEL)
    registry = workflow.stack.app.registry
    again = replace(registry.champion(MODEL), generation=2, previous="v1", run_id="", change="rollback")
    require()
    workflow.before["request_approval"] = lambda event: registry.move_champion(again)
    workflow.stack.upload("2013-02.parquet", turned(), MODEL)
    workflow.stack.ask("r2", MODEL)
    assert workflow.outcome(SECOND) == "SUCCEEDED"
    assert workflow.states(SECOND)[-5:] == ["RequestApproval", "KeepChampion", *REPORT, "ChampionKept"]
    assert registry.approvals(MODEL) == []
    require(seconds=0)  # the same inputs run again, for they were not judged
    del workflow.before["request_approval"]


def test_what_comes_during_the_wait_has_its_turn_after_it(workflow, first):
    workflow.stack.upload("2013-02.parquet", turned(), MODEL)
    assert workflow.stack.ask("r2", MODEL)["answer"] == "wait"
    reject(workflow.stack.app, first, "v1", "wait for February")
    assert workflow.outcome(FIRST) == "SUCCEEDED"
    event = workflow.stack.ended(RUN_1, "SUCCEEDED", MODEL)
    assert workflow.stack.call("request_retraining", event)["run_id"] == RUN_2
    waiting(workflow, RUN_2)
    approve(workflow.stack.app, first, "v2", "looks right")
    assert workflow.outcome(SECOND) == "SUCCEEDED"
    assert workflow.stack.app.registry.champion(MODEL).version == "v2"
