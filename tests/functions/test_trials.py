"""Runs whose candidates go on from the champion, whose thresholds serve, whose batches are the past again;
and versions that are trained again."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from moto_stack import MODELS, sample
from rows import csv, flights

from refit import rowprints
from refit.aws import keys, serving
from refit.errors import NotEnoughData, RefitError, TrainingError
from refit.records import Quality
from refit_cli.reproduce import reproduce

RUN_2 = "run-00000002"
SGD = """
def build():
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    scale = ColumnTransformer([("scale", StandardScaler(), ["departure_minute"])])
    return Pipeline([("scale", scale), ("model", SGDClassifier(loss="log_loss", eta0=0.1, learning_rate="constant"))])
"""
STRICT = """
def build():
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder
    words = ColumnTransformer(
        [("words", OneHotEncoder(), ["carrier"]), ("minute", "passthrough", ["departure_minute"])]
    )
    return Pipeline([("words", words), ("model", LogisticRegression(max_iter=1000))])
"""


@pytest.fixture
def flights_with(configure, tmp_path):
    """Deploys flights with other sections, each given as its text, and perhaps a model.py."""

    def change(code="", **sections):
        folder = tmp_path / f"models-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(MODELS, folder)
        path = folder / "flights/model.toml"
        text = path.read_text()
        for name, body in sections.items():
            text = re.sub(rf"\[{name}\]\n((?!\[).*\n?)*", "", text) + f"\n[{name}]\n{body}\n"
        if code:
            text = re.sub(r"\[estimator\]\n((?!\[).*\n?)*", "", text)
            (folder / "flights/model.py").write_text(code)
        path.write_text(text)
        configure(models_dir=folder)

    return change


def evaluation(stack, run_id):
    return stack.app.store.get_json(keys.evaluation("flights", run_id))


def run_of(stack, name, content, **detail):
    """Upload and ask; returns the id of the run."""
    stack.upload(name, content)
    return stack.ask(name, **detail)["run_id"]


def spec_of(stack):
    return stack.app.models["flights"]


# ---------------------------------------------------------------- candidates
def test_a_run_with_all_candidates_leaves_one_record_of_each(stack, flights_with):
    """A first run has nothing to go on from; the second has, and its winner is refitted by its own method."""
    space = "[training.search]\niterations = 2\nspace = { model__alpha = [0.0001, 0.01] }"
    declared = f'candidates = ["full", "continual", "transfer", "search"]\nrecent_rows = 100\n{space}'
    flights_with(SGD, training=declared)
    stack.promoted("flights", "2013-01.parquet", flights(400))
    assert stack.app.registry.run("flights", "run-00000001").candidates == ("full", "search")
    run_id = run_of(stack, "2013-02.parquet", flights(800, month=2, flipped=True))
    answer = stack.walk(run_id)
    registry = stack.app.registry
    names = ["full", "continual", "transfer", "search"]
    tried = {name: registry.version("flights", f"v2-{name}") for name in names}
    assert {name: version.base for name, version in tried.items()} == {
        "full": "",
        "continual": "v1",
        "transfer": "v1",
        "search": "",
    }
    assert tried["search"].parameters in ({}, {"model__alpha": 0.0001}, {"model__alpha": 0.01})
    document = evaluation(stack, RUN_2)
    assert document["candidates"].keys() == set(names)
    assert document["selection"].keys() == set(names)
    winner = registry.version("flights", answer["version"])
    assert (
        winner.candidate == document["chosen"] in ("continual", "transfer")
    )  # only new rows know the new concept
    assert (winner.parent, winner.base) == (f"v2-{winner.candidate}", "v1")
    assert winner.trained_rows == 800 > tried[winner.candidate].trained_rows


def test_each_version_says_what_it_was_made_of(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    for name in ("v1", "v1-full"):
        version = stack.app.registry.version("flights", name)
        assert re.fullmatch("[0-9a-f]{64}", version.canonical)
        assert re.fullmatch(r"[0-9.]+\+[0-9a-f]{12}", version.code_version)
        assert version.libraries["cpu"]
        assert version.libraries["scikit-learn"]
        assert version.seed == 2013
        prints = serving.fingerprints(stack.app.store, version)
        assert len(prints) == version.trained_rows
    frozen = stack.app.store.get_json(version.inputs_key)
    assert frozen["batches"][0]["version_id"]
    assert frozen["batches"][0]["sha256"]


def test_altered_fingerprints_are_refused_by_name(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    event = stack.walk(run_of(stack, "2013-02.parquet", flights(800, month=2)), up_to="evaluate")
    store = stack.app.settings.store_bucket
    key = keys.fingerprints("flights", "v1")
    for body in (b"", rowprints.dump(np.array([2, 1], np.uint64)), rowprints.dump(np.array([1.5]))):
        stack.app.s3.put_object(Bucket=store, Key=key, Body=body)
        with pytest.raises(RefitError, match="not row fingerprints"):
            stack.call("evaluate", event)


# ---------------------------------------------------------------- the past again
def test_a_batch_that_is_the_past_in_another_order_and_format_is_refused_by_name(stack):
    """Other bytes, other name, the same flights."""
    past = flights(400)
    stack.promoted("flights", "2013-01.parquet", past)
    run_id = run_of(stack, "2013-02.csv", csv(past.iloc[::-1]))
    for step in ("train", "evaluate"):
        event = sample(step, model="flights", run_id=run_id)
        event["inputs_key"] = stack.app.registry.run("flights", run_id).inputs_key
        with pytest.raises(
            NotEnoughData, match=r"0 labelled rows are new .* \(400 others repeat rows that it"
        ):
            stack.call(step, event)
    assert stack.app.registry.champion("flights").version == "v1"


def test_planted_rows_of_the_past_do_not_test_and_the_verdict_says_how_many(stack):
    past = flights(400)
    stack.promoted("flights", "2013-01.parquet", past)
    planted = pd.concat([flights(800, month=2, flipped=True), past.sample(37, random_state=0)])
    event = stack.walk(run_of(stack, "2013-02.parquet", planted), up_to="finalize")
    document = evaluation(stack, RUN_2)
    assert (document["rows"]["repeats"], document["test_rows"]) == (37, 320)  # 40 % of the 800 that are new
    assert "37 new rows repeat rows that the champion learned from" in event["evaluation"]["reason"]


# ---------------------------------------------------------------- decisions
def test_a_declared_threshold_serves_and_is_recorded(stack, flights_with):
    flights_with(decision="threshold = 0.999")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    assert stack.app.registry.version("flights", "v1").threshold == 0.999
    answer = stack.call("predict", sample("predict"))
    assert answer["predictions"] == ["false", "false"]
    assert max(each["true"] for each in answer["probabilities"]) > 0.5


def test_a_refresh_may_promote_what_is_no_worse_but_no_other_challenger(stack, flights_with):
    """The same recipe on more data, then another number of trees."""
    common = {
        "gates": 'metric = "roc_auc"\nmin_test_rows = 40\nrefresh_margin = 0.2',
        "triggers": "min_new_rows = 200",
        "training": 'candidates = ["full"]',
    }
    flights_with(**common, estimator="max_iter = 20")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    for i, (trees, promote) in enumerate([(20, True), (21, False)]):
        flights_with(**common, estimator=f"max_iter = {trees}")
        stack.upload(f"2013-02-{i}.parquet", flights(800, month=2, seed=i))
        run_id = stack.ask(f"r{i}")["run_id"]
        event = stack.walk(run_id, up_to="finalize")
        assert evaluation(stack, run_id)["refresh"] is promote
        assert event["evaluation"]["promote"] is promote, event["evaluation"]["reason"]
        told = "no loss beyond the 0.2000 that a refresh may lose" if promote else "not above the margin 0"
        assert told in event["evaluation"]["reason"]
        stack.call("request_retraining", stack.ended(run_id))


def test_a_verdict_that_was_given_is_the_verdict_of_a_repeated_step(stack, flights_with):
    """The time of a prediction differs from measurement to measurement; a repeated step must not turn around."""
    flights_with(gates='metric = "roc_auc"\nmin_test_rows = 40\nmax_latency_ms = 10000.0')
    event = stack.walk(run_of(stack, "2013-01.parquet", flights(400)), up_to="evaluate")
    first = stack.call("evaluate", event)
    document = evaluation(stack, "run-00000001")
    assert document["latency_ms"] > 0
    assert 0 < document["megabytes"] < 1
    assert 0 <= document["calibration_error"] < 0.3
    flights_with(gates='metric = "roc_auc"\nmin_test_rows = 40\nmax_latency_ms = 0.000001')
    assert stack.call("evaluate", event) == first
    assert first["promote"] is True


def test_after_a_turn_the_run_is_cut_from_the_rows_since_and_reproduced_so(stack, flights_with):
    """Of 1,000 new rows the champion collapsed on the newest 400: 0.4 of those test, 0.2 choose, and 160 teach."""
    flights_with(training="seed = 2013\nlearning_curve = false")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    before = stack.upload("2013-02.parquet", flights(600, month=2)).batch_id
    turned = stack.upload("2013-03.parquet", flights(400, month=3, flipped=True)).batch_id
    for batch, score, rows in ((before, 0.95, 600), (turned, 0.04, 400)):
        at = f"2999-01-0{1 + (batch == turned)}T00:00:00Z"
        stack.app.registry.add_quality(Quality("flights", batch, "v1", "roc_auc", score, rows, at, 0.8))
    event = sample("request_retraining.drift_checked")
    event["detail"] |= {"batch_id": before, "version": "v1", "drifted": []}  # told of late
    answer = stack.call("request_retraining", event)
    assert "v1 scored 0.0400" in answer["reasons"][0]
    run = stack.app.registry.run("flights", answer["run_id"])
    frozen = stack.app.store.get_json(run.inputs_key)
    assert (frozen["test_share"], frozen["selection_share"]) == pytest.approx((0.16, 0.08))
    assert (frozen["recent_rows"], frozen["candidates"]) == (160, ["full", "recent", "transfer"])
    stack.walk(run.run_id)
    assert stack.app.registry.champion("flights").version == "v2"
    assert evaluation(stack, run.run_id)["rows"] | {"left_out": 0} == {
        "train": 1160, "selection": 80, "test": 160, "left_out": 0, "repeats": 0
    }  # fmt: skip
    for name in ("v2-recent", "v2"):
        assert reproduce(stack.app, spec_of(stack), name).equal


# ---------------------------------------------------------------- once more
def test_versions_are_reproduced_the_tested_one_and_its_child(stack, flights_with):
    flights_with(SGD, training='candidates = ["full", "continual"]')
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.promoted("flights", "2013-02.parquet", flights(800, month=2, flipped=True))
    for name in ("v1-full", "v1", "v2-full", "v2-continual", "v2"):
        found = reproduce(stack.app, spec_of(stack), name)
        assert found.equal and found.agrees, found.text()
        assert found.differs == ()


def test_boosting_and_what_starts_from_it_are_reproduced(stack, flights_with):
    flights_with(training='candidates = ["transfer"]')
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.promoted("flights", "2013-02.parquet", flights(800, month=2, flipped=True))
    assert stack.app.registry.version("flights", "v2").base == "v1"
    for name in ("v1", "v2-transfer", "v2"):
        assert reproduce(stack.app, spec_of(stack), name).equal


def test_another_model_is_not_the_same_and_is_told_by_how_far_its_predictions_are(stack, flights_with):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    flights_with(estimator="max_iter = 20")
    found = reproduce(stack.app, spec_of(stack), "v1")
    assert not found.agrees
    assert found.largest_difference > 0.01
    assert "model.toml or model.py is not that of" in found.text()


def test_predictions_that_agree_count_only_where_something_else_is_said_to_differ(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    registry = stack.app.registry
    v1 = registry.version("flights", "v1")
    for name, libraries in (("w1", v1.libraries), ("w2", {**v1.libraries, "numpy": "1.0"})):
        registry.add_version(replace(v1, version=name, canonical="0" * 64, libraries=libraries))
        found = reproduce(stack.app, spec_of(stack), name)
        assert (found.equal, found.largest_difference) == (False, 0)
        assert found.agrees is (name == "w2")
    assert any(text.endswith("was 1.0") for text in found.differs)


def test_what_was_imported_cannot_be_reproduced(stack, tmp_path):
    change = stack.imported(flights(400), tmp_path / "old.skops")
    with pytest.raises(RefitError, match="was imported; there is nothing to compare with"):
        reproduce(stack.app, spec_of(stack), change.version)


def test_a_record_that_the_estimator_cannot_take_is_refused_by_name_and_not_quoted(stack, flights_with, logs):
    """Nor in the words of the exception, which Lambda itself writes into the log."""
    flights_with(STRICT)
    stack.promoted("flights", "2013-01.parquet", flights(400))
    known, strange = ({"departure_minute": 600, "carrier": name} for name in (None, "marker"))
    known["carrier"] = str(flights(400)["carrier"].iloc[0])
    assert stack.call("predict", sample("predict", records=[known]))["predictions"]
    with pytest.raises(TrainingError, match=r"Pipeline\.predict_proba failed: ValueError") as caught:
        stack.call("predict", sample("predict", records=[known, strange]))
    assert "marker" not in str(caught.value) + logs.getvalue()
    assert caught.value.__cause__ is None
