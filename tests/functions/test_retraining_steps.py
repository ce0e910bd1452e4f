"""Train, Evaluate, Finalize and Promote, one invocation after the other as the state machine makes them."""

from dataclasses import replace

import numpy as np
import pytest
from moto_stack import sample
from rows import fares, flights, species
from sklearn.linear_model import LinearRegression

from refit import artifact
from refit.aws import keys
from refit.errors import (
    ArtifactError,
    BadMessage,
    ChampionMoved,
    ModelNotUsable,
    NotEnoughData,
    TrainingError,
)
from refit.records import Change, Generation, RunStatus

RUN_1, RUN_2 = "run-00000001", "run-00000002"
TASKS = [("flights", flights(400)), ("species", species(300)), ("fares", fares(300))]
tasks = pytest.mark.parametrize(("model", "frame"), TASKS, ids=["binary", "multiclass", "regression"])


def started(stack, frame, model="flights", name="first.parquet"):
    """Upload and ask; returns the id of the run."""
    stack.upload(name, frame, model)
    return stack.ask(name, model)["run_id"]


def second_run(stack):
    """A champion v1, and a run on data whose concept has turned around."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    return started(stack, flights(800, month=2, flipped=True), name="2013-02.parquet")


def registry_of(stack, model="flights"):
    """All that is recorded of a model."""
    r = stack.app.registry
    return (r.champion(model), r.generations(model), r.versions(model), r.runs(model), r.slot(model))


def somebody_rolls_back(stack, to="v1"):
    now = stack.app.registry.champion("flights")
    change = Generation(
        "flights", now.generation + 1, to, now.version, Change.ROLLBACK, "ada", "looks wrong", "2013-02-01"
    )
    stack.app.registry.move_champion(change)


# ---------------------------------------------------------------- the happy path
@tasks
def test_a_first_model_is_trained_tested_refitted_and_promoted(stack, model, frame):
    run_id = started(stack, frame, model)
    answer = stack.walk(run_id, model=model)
    assert (answer["version"], answer["generation"], answer["previous"]) == ("v1", 1, "")
    assert answer["champion_score"] is None
    registry = stack.app.registry
    champion, run = registry.champion(model), registry.run(model, run_id)
    assert (champion.version, champion.change, champion.run_id) == ("v1", Change.FIRST, run_id)
    assert (run.status, run.challenger_score) == (RunStatus.PROMOTED, answer["challenger_score"])
    assert registry.slot(model).running == ""
    version = registry.version(model, "v1")
    tested = registry.version(model, version.parent)
    assert version.trained_rows > tested.trained_rows  # the test block included
    assert version.tested_score == answer["challenger_score"]
    (event,) = stack.heard("Champion Promoted")
    assert event["detail"] == answer


@tasks
def test_every_step_can_be_repeated_and_changes_nothing(stack, model, frame):
    run_id = started(stack, frame, model)
    for step in ("train", "evaluate", "finalize", "promote"):
        event = stack.walk(run_id, up_to=step, model=model)
        answer = stack.call(step, event)
        before = registry_of(stack, model)
        assert stack.call(step, event) == answer
        assert registry_of(stack, model) == before
    evaluations = [key for key in stack.versions_of(f"runs/{model}/") if key.endswith("evaluation.json")]
    assert len(evaluations) == 1


def test_all_candidates_are_tried_and_the_chosen_one_is_tested(stack):
    event = stack.walk(second_run(stack), up_to="finalize")
    assert [each["candidate"] for each in event["trained"]] == ["full", "recent"]
    document = stack.app.store.get_json(keys.evaluation("flights", RUN_2))
    assert (
        document["selection"]["recent"] > document["selection"]["full"]
    )  # the newest rows know the new concept
    assert (document["chosen"], event["evaluation"]["challenger"]) == ("recent", "v2-recent")
    # 800 unseen rows: 40 % test, 20 % selection, the rest and the 400 seen ones are learned from.
    rows = {"train": 720, "selection": 160, "test": 320, "left_out": 0, "repeats": 0}
    assert document["rows"] == rows


def test_a_better_challenger_takes_over_and_names_whom_it_beat(stack):
    answer = stack.walk(second_run(stack))
    assert (answer["version"], answer["generation"], answer["previous"]) == ("v2", 2, "v1")
    assert answer["challenger_score"] > 0.8 > 0.2 > answer["champion_score"]
    assert stack.app.registry.champion("flights").change is Change.PROMOTION


def test_a_promotion_is_told_of_once_however_often_its_step_is_repeated(stack):
    event = stack.walk(second_run(stack), up_to="promote")
    stack.heard()
    answers = [stack.call("promote", event) for _ in range(2)]
    (told,) = stack.heard("Champion Promoted")
    assert answers == [told["detail"]] * 2
    assert told["detail"]["previous"] == "v1"


def test_a_promotion_that_nobody_told_of_is_told_of_by_the_tick(stack):
    event = stack.walk(second_run(stack), up_to="promote")
    stack.heard()
    with stack.outage(stack.app.bus.events, "PutEvents"), pytest.raises(Exception, match="Endpoint"):
        stack.call("promote", event)
    assert stack.app.registry.champion("flights").version == "v2"
    stack.tick()
    assert [event["detail"]["version"] for event in stack.heard("Champion Promoted")] == ["v2"]
    stack.tick()
    assert stack.heard("Champion Promoted") == []


def test_a_challenger_that_is_not_better_is_not_to_be_promoted(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    run_id = started(stack, flights(400, month=2), name="2013-02.parquet")
    verdict = stack.walk(run_id, up_to="finalize")["evaluation"]
    assert verdict["promote"] is False
    assert "not above the margin 0" in verdict["reason"]


def test_a_first_model_that_learned_nothing_is_not_promoted(stack):
    """Labels drawn at random: no metric of it beats the trivial baseline by much, min_score says no."""
    frame = flights(400)
    frame["late"] = np.random.default_rng(1).random(400) < 0.5
    verdict = stack.walk(started(stack, frame), up_to="finalize")["evaluation"]
    assert verdict["promote"] is False


# ---------------------------------------------------------------- the champion moved
def test_evaluate_refuses_when_the_champion_is_not_the_one_of_the_frozen_inputs(stack):
    event = stack.walk(second_run(stack), up_to="evaluate")
    somebody_rolls_back(stack)
    with pytest.raises(ChampionMoved, match="since the inputs were frozen"):
        stack.call("evaluate", event)


def test_promote_refuses_when_the_champion_is_not_the_one_that_was_beaten(stack):
    event = stack.walk(second_run(stack), up_to="promote")
    somebody_rolls_back(stack)
    with pytest.raises(ChampionMoved, match="no longer generation 1"):
        stack.call("promote", event)
    champion = stack.app.registry.champion("flights")
    assert (champion.version, champion.generation) == ("v1", 2)
    assert stack.app.registry.run("flights", RUN_2).status is RunStatus.RUNNING
    assert stack.heard("Champion Promoted")[1:] == []  # only that of the first model


def test_a_first_model_is_not_promoted_over_one_that_was_imported_meanwhile(stack, tmp_path):
    event = stack.walk(started(stack, flights(400)), up_to="promote")
    stack.imported(flights(400), tmp_path / "old.skops")
    with pytest.raises(ChampionMoved):
        stack.call("promote", event)


def test_a_promotion_that_arrives_after_its_run_was_given_up_changes_nothing(stack):
    """The execution was aborted while its last function was still running."""
    event = stack.walk(started(stack, flights(400)), up_to="promote")
    stack.call("request_retraining", stack.ended(RUN_1))
    stack.heard()
    with pytest.raises(BadMessage, match="has ended as failed"):
        stack.call("promote", event)
    assert stack.app.registry.champion("flights") is None
    assert stack.heard() == []


# ---------------------------------------------------------------- what is wrong is refused by name
@pytest.mark.parametrize("step", ["evaluate", "promote"])
def test_an_altered_model_is_refused(stack, step):
    event = stack.walk(started(stack, flights(400)), up_to=step)
    for version in stack.app.registry.versions("flights"):
        key = keys.artifact("flights", version.artifact_sha256)
        stack.app.s3.put_object(Bucket=stack.app.settings.store_bucket, Key=key, Body=b"something else")
    with pytest.raises(ArtifactError, match="SHA-256"):
        stack.call(step, event)
    assert stack.app.registry.champion("flights") is None


def test_a_model_that_predicts_what_is_not_finite_is_not_promoted(stack):
    event = stack.walk(started(stack, fares(300), "fares"), up_to="promote", model="fares")
    frame = fares(300)[["distance", "seats_left"]].astype(float)
    broken = LinearRegression().fit(frame, fares(300)["fare"])
    broken.coef_[:] = np.nan
    data, sha256 = artifact.dump(broken)
    registry = stack.app.registry
    stack.app.store.put_once(keys.artifact("fares", sha256), data)
    registry.add_version(replace(registry.version("fares", "v1"), version="v666", artifact_sha256=sha256))
    with pytest.raises(ModelNotUsable, match="not finite"):
        stack.call("promote", event | {"final": {"version": "v666"}})
    assert registry.champion("fares") is None


def test_too_few_rows_are_refused_with_how_many_are_needed(stack):
    stack.upload("small.parquet", flights(60))
    run_id = stack.ask(force=True)["run_id"]
    with pytest.raises(NotEnoughData, match="60 labelled rows"):
        stack.walk(run_id)


def test_without_any_trained_candidate_there_is_nothing_to_evaluate(stack):
    """The cause of each is told in its own words, not as the JSON that Lambda makes of it."""
    event = stack.walk(started(stack, flights(400)), up_to="evaluate")
    failed = {"error": sample("record_failure")["error"]}
    event["trained"] = [{"candidate": name, **failed} for name in ("full", "recent")]
    with pytest.raises(TrainingError, match="no candidate could be trained: full: 1204 labelled rows"):
        stack.call("evaluate", event)


def test_a_candidate_that_failed_leaves_the_others(stack):
    event = stack.walk(started(stack, flights(400)), up_to="evaluate")
    event["trained"][0] = {"candidate": "full", "error": sample("record_failure")["error"]}
    assert stack.call("evaluate", event)["challenger"] == "v1-recent"


@pytest.mark.parametrize("field", ["model", "run_id", "inputs_key"])
def test_a_message_without_its_references_is_refused(stack, field):
    for step in ("train", "evaluate", "finalize", "promote", "keep_champion", "record_failure"):
        event = sample(step)
        del event[field]
        with pytest.raises(BadMessage, match=f"'{field}' is missing"):
            stack.call(step, event)


def test_a_candidate_that_is_not_declared_is_refused(stack):
    event = stack.walk(started(stack, flights(400)), up_to="train")
    with pytest.raises(BadMessage, match="'secret' is not among those of the run: full, recent"):
        stack.call("train", event | {"candidate": "secret"})
