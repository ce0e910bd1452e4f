"""The real state machine, statemachine/retraining.asl.json, under moto's interpreter."""

import json
import shutil

import pytest
from moto_stack import MODELS, sample
from moto_workflow import failing
from rows import fares, flights, species

from refit.aws import keys
from refit.aws.runtime import app_of
from refit.aws.settings import Settings
from refit.errors import AwsUnavailable, TrainingError
from refit.records import Change, Generation, RunStatus
from refit_cli.actions import resume, rollback

RUN_1, RUN_2, RUN_3 = "run-00000001", "run-00000002", "run-00000003"
REPORT = ("WriteReport", "WhatItTellsOf")


def test_an_upload_ends_in_a_champion_that_predicts(workflow):
    workflow.upload("2013-01.parquet", flights(400))
    assert workflow.outcome(f"flights-{RUN_1}") == "SUCCEEDED"
    assert workflow.states(f"flights-{RUN_1}")[-7:] == [
        "IsChallengerBetter",
        "Finalize",
        "NeedsApproval",
        "Promote",
        *REPORT,
        "Promoted",
    ]
    answer = workflow.stack.call("predict", sample("predict"))
    assert (answer["version"], answer["predictions"]) == ("v1", ["true", "false"])


@pytest.mark.parametrize(
    ("model", "frame"), [("species", species(300)), ("fares", fares(300))], ids=["multiclass", "regression"]
)
def test_every_task_gets_its_champion(workflow, model, frame):
    workflow.upload("first.parquet", frame, model)
    assert workflow.stack.app.registry.champion(model).version == "v1"


def test_drift_leads_to_a_better_champion(workflow):
    workflow.upload("2013-01.parquet", flights(400))
    turned = flights(800, month=2, flipped=True).assign(temperature=90.0)
    workflow.upload("2013-02.parquet", turned)
    champion = workflow.stack.app.registry.champion("flights")
    assert (champion.version, champion.generation, champion.previous) == ("v2", 2, "v1")
    assert champion.score > 0.8 > 0.2 > champion.champion_score
    assert workflow.stack.call("predict", sample("predict"))["predictions"] == ["false", "true"]


def test_a_challenger_that_loses_is_no_failure(workflow):
    workflow.upload("2013-01.parquet", flights(400))
    workflow.stack.upload("2013-02.parquet", flights(400, month=2))
    workflow.stack.ask()
    assert workflow.outcome(f"flights-{RUN_2}") == "SUCCEEDED"
    assert workflow.states(f"flights-{RUN_2}")[-4:] == ["KeepChampion", *REPORT, "ChampionKept"]
    registry = workflow.stack.app.registry
    assert registry.run("flights", RUN_2).status is RunStatus.KEPT
    assert registry.champion("flights").version == "v1"
    assert b"Champion kept" in workflow.stack.app.store.get(keys.report("flights", RUN_2))


def test_a_task_that_fails_ends_in_fail_with_name_and_cause_and_frees_the_slot(workflow):
    workflow.stack.upload("small.parquet", flights(60))
    workflow.stack.ask(force=True)
    assert workflow.outcome(f"flights-{RUN_1}") == "FAILED"
    execution = workflow.stack.execution(f"flights-{RUN_1}")
    assert execution["error"] == "NotEnoughData"
    assert execution["cause"].startswith("60 labelled rows are new to the champion")
    registry = workflow.stack.app.registry
    assert registry.run("flights", RUN_1).status is RunStatus.FAILED
    assert registry.slot("flights").running == ""
    page = workflow.stack.app.store.get(keys.report("flights", RUN_1)).decode()
    assert "Failed" in page and "60 labelled rows are new to the champion" in page
    workflow.settle()
    workflow.upload("2013-02.parquet", flights(400, month=2))  # and the next run is free to start
    assert registry.champion("flights").version == "v2"


def test_a_report_that_fails_changes_nothing_of_how_a_run_ends(workflow):
    """Promoted, kept and failed, each as it would have been."""
    workflow.before["write_report"] = failing(ZeroDivisionError("division by zero"), times=9)
    workflow.upload("2013-01.parquet", flights(400))
    workflow.stack.upload("2013-02.parquet", flights(400, month=2))
    workflow.stack.ask("r2")
    workflow.settle()
    workflow.stack.upload("2013-03.parquet", flights(60, month=3))
    workflow.before["evaluate"] = failing(TrainingError("no candidate could be trained"))
    workflow.stack.ask("r3", force=True)
    workflow.settle()
    ends = {RUN_1: "SUCCEEDED", RUN_2: "SUCCEEDED", RUN_3: "FAILED"}
    assert {run: workflow.outcome(f"flights-{run}") for run in ends} == ends
    assert workflow.stack.execution(f"flights-{RUN_3}")["error"] == "TrainingError"
    registry, states = workflow.stack.app.registry, (RunStatus.PROMOTED, RunStatus.KEPT, RunStatus.FAILED)
    assert tuple(registry.run("flights", run).status for run in ends) == states
    assert workflow.invoked.count("write_report") == 3
    written = [key for key in workflow.stack.versions_of("runs/flights/") if "report" in key]
    assert written == []


@pytest.mark.parametrize("function", ["evaluate", "finalize", "promote", "keep_champion"])
def test_whichever_task_fails_the_run_is_recorded_as_failed(workflow, function):
    if function == "keep_champion":
        workflow.upload("2013-01.parquet", flights(400))
    workflow.before[function] = failing(ZeroDivisionError("division by zero"))
    workflow.stack.upload("2013-02.parquet", flights(400, month=2))
    run_id = workflow.stack.ask()["run_id"]
    assert workflow.outcome(f"flights-{run_id}") == "FAILED"
    execution = workflow.stack.execution(f"flights-{run_id}")
    assert (execution["error"], execution["cause"]) == ("ZeroDivisionError", "division by zero")
    assert workflow.stack.app.registry.run("flights", run_id).status is RunStatus.FAILED


def test_a_failure_that_could_not_be_recorded_is_recorded_when_the_execution_has_ended(workflow):
    workflow.before["evaluate"] = failing(TrainingError("no"))
    workflow.before["record_failure"] = failing(ZeroDivisionError("neither"))
    workflow.stack.upload("2013-01.parquet", flights(400))
    workflow.stack.ask()
    assert workflow.outcome(f"flights-{RUN_1}") == "FAILED"
    assert workflow.stack.execution(f"flights-{RUN_1}")["error"] == "TrainingError"
    assert workflow.stack.app.registry.run("flights", RUN_1).status is RunStatus.RUNNING
    workflow.settle()
    assert workflow.stack.app.registry.run("flights", RUN_1).status is RunStatus.FAILED


def test_one_failing_candidate_does_not_stop_the_other(workflow):
    workflow.before["train"] = failing(TrainingError("singular matrix"), candidate="full")
    workflow.upload("2013-01.parquet", flights(400))
    assert workflow.outcome(f"flights-{RUN_1}") == "SUCCEEDED"
    version = workflow.stack.app.registry.version("flights", "v1")
    assert (version.candidate, version.parent) == ("recent", "v1-recent")


def test_without_any_candidate_the_run_fails_with_what_each_said(workflow):
    workflow.before["train"] = failing(TrainingError("singular matrix"), times=2)
    workflow.upload("2013-01.parquet", flights(400))
    execution = workflow.stack.execution(f"flights-{RUN_1}")
    assert (execution["status"], execution["error"]) == ("FAILED", "TrainingError")
    assert execution["cause"] == (
        "no candidate could be trained: full: singular matrix; recent: singular matrix"
    )


def test_aws_that_is_unavailable_is_tried_again(workflow):
    workflow.before["evaluate"] = failing(AwsUnavailable("S3: SlowDown"))
    workflow.upload("2013-01.parquet", flights(400))
    assert workflow.invoked.count("evaluate") == 2
    assert workflow.outcome(f"flights-{RUN_1}") == "SUCCEEDED"
    assert workflow.stack.app.registry.champion("flights").version == "v1"


def test_a_promotion_whose_reply_was_lost_is_made_once(workflow):
    """The switch was applied, telling of it failed; the second attempt finds it done and tells."""
    app = workflow.stack.app
    workflow.stack.upload("2013-01.parquet", flights(400))
    with workflow.stack.outage(app.bus.events, "PutEvents", "Champion Promoted", times=1):
        workflow.stack.ask()
        assert workflow.outcome(f"flights-{RUN_1}") == "SUCCEEDED"
    assert workflow.invoked.count("promote") == 2
    assert len(workflow.stack.heard("Champion Promoted")) == 1
    assert len(app.registry.generations("flights")) == 1


def test_a_champion_that_moved_during_the_run_is_kept(workflow):
    workflow.upload("2013-01.parquet", flights(400))
    registry = workflow.stack.app.registry
    again = Generation("flights", 2, "v1", "v1", Change.ROLLBACK, "ada", "to be sure", "2013-02-02")
    workflow.before["promote"] = lambda event: registry.move_champion(again)
    workflow.stack.upload("2013-02.parquet", flights(800, month=2, flipped=True))
    workflow.stack.ask()
    assert workflow.outcome(f"flights-{RUN_2}") == "SUCCEEDED"
    assert workflow.states(f"flights-{RUN_2}")[-5:] == ["Promote", "KeepChampion", *REPORT, "ChampionKept"]
    assert registry.run("flights", RUN_2).status is RunStatus.KEPT
    assert registry.champion("flights").generation == 2
    workflow.stack.tick()  # nobody told of the move


def test_a_rollback_during_a_run_stays_and_the_same_inputs_run_again_once_resumed(workflow):
    workflow.upload("2013-01.parquet", flights(400))
    workflow.stack.upload("2013-02.parquet", flights(800, month=2, flipped=True))
    workflow.stack.ask("r2")
    workflow.settle()
    assert workflow.stack.app.registry.champion("flights").version == "v2"
    app, rolled = workflow.stack.app, []
    spec = app.models["flights"]

    def before(event):
        if not rolled:
            rolled.append(rollback(app, spec, "v1", "too many delays"))

    workflow.before["promote"] = before
    workflow.stack.upload("2013-03.parquet", flights(800, month=3))
    workflow.stack.ask("r3")
    workflow.stack.ask("r4")  # waits for the end of the run, and then for that of the pause
    workflow.settle()
    registry = app.registry
    assert registry.run("flights", RUN_3).status is RunStatus.KEPT
    assert (registry.champion("flights").version, registry.champion("flights").generation) == ("v1", 3)
    assert workflow.stack.executions()[-1] == f"flights-{RUN_3}"

    with workflow.stack.delivering():
        answer = resume(app, spec)
    assert (answer.answer, answer.run_id) == ("retrain", "run-00000004")
    workflow.settle()
    again = registry.run("flights", "run-00000004")
    assert again.inputs_digest == registry.run("flights", RUN_3).inputs_digest
    assert (again.champion, again.generation) == ("v1", 3)


def test_new_data_during_a_run_leads_to_one_run_after_it(workflow):
    stack = workflow.stack
    stack.upload("2013-01.parquet", flights(400))
    stack.ask("r1")
    for month in (2, 3):
        stack.upload(f"2013-0{month}.parquet", flights(800, month=month, flipped=True))
        stack.ask(f"r{month}")
    workflow.settle()
    assert stack.executions() == [f"flights-{RUN_1}", f"flights-{RUN_2}"]
    assert stack.app.registry.run("flights", RUN_2).rows == 2000
    assert stack.app.registry.slot("flights").pending is None


def test_what_travels_stays_small_however_many_batches_there_are(workflow):
    """Step Functions carries 256 KB at most; only references travel."""
    for day in range(30):
        workflow.stack.upload(f"day-{day}.parquet", flights(20, month=1, seed=day))
    workflow.stack.ask()
    assert workflow.outcome(f"flights-{RUN_1}") == "SUCCEEDED"
    inputs = workflow.stack.app.store.get(workflow.stack.app.registry.run("flights", RUN_1).inputs_key)
    output = workflow.stack.execution(f"flights-{RUN_1}")["output"]
    assert len(inputs) > 5 * max(
        workflow.payloads
    )  # the list of inputs grows with every batch, the messages do not
    assert 0 < max(len(output), *workflow.payloads) < 4_000
    assert json.loads(output)["promotion"]["version"] == "v1"


def test_what_travels_stays_small_whatever_the_models_code_says(workflow, tmp_path, monkeypatch):
    """Each candidate brings the words of its failure along, and those are as long as others made them."""
    shutil.copytree(MODELS, tmp_path / "models")
    (tmp_path / "models/flights/model.py").write_text(
        'def build():\n    raise ValueError("\N{SNOWMAN}" * 100_000)\n'
    )
    monkeypatch.setenv("REFIT_MODELS_DIR", str(tmp_path / "models"))
    workflow.stack.app = app_of(Settings.from_env())
    workflow.stack.upload("2013-01.parquet", flights(400))
    workflow.stack.ask()
    assert workflow.outcome(f"flights-{RUN_1}") == "FAILED"
    execution = workflow.stack.execution(f"flights-{RUN_1}")
    assert execution["error"] == "TrainingError"
    assert "full: " in execution["cause"] and "build() failed" in execution["cause"]
    assert max(workflow.payloads) < 32_000


def test_the_words_of_an_error_do_not_grow_without_bounds(workflow):
    workflow.before["train"] = failing(TrainingError("x" * 20_000), times=2)
    workflow.stack.upload("2013-01.parquet", flights(400))
    workflow.stack.ask()
    workflow.outcome(f"flights-{RUN_1}")
    assert len(workflow.stack.execution(f"flights-{RUN_1}")["cause"]) < 2_500
    assert max(workflow.payloads) < 64_000
