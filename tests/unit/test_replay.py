"""Replays of made-up streams: what is told of each batch, and that nobody predicts what they learned from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refit import costs
from refit.contract import Column, ColumnType, Contract
from refit.metrics import Task, score
from refit.models import Gates, ModelSpec, Training, Triggers
from refit.replay import (
    File,
    Policy,
    baselines,
    in_order,
    parse_policy,
    policies_to_compare,
    read,
    replay,
    to_json,
)

COLUMNS = (
    Column("at", ColumnType.TIMESTAMP),
    Column("a", ColumnType.NUMBER),
    Column("b", ColumnType.NUMBER),
    Column("y", ColumnType.BOOLEAN),
)
SPEC = ModelSpec(
    "made-up",
    Task.BINARY,
    Contract(COLUMNS, "y", time="at"),
    Triggers(),
    Gates("roc_auc"),
    Training(),
    estimator={"max_iter": 15, "max_leaf_nodes": 8},
)
ROWS = 600
NEVER, ALWAYS = Policy("never"), Policy("always", every=1)
REFIT = Policy("refit")


def batch(number: int, weights: tuple[float, float], rows: int = ROWS, seed: int = 0) -> File:
    """Day `number`: y is more likely true the higher a * weights[0] + b * weights[1] is."""
    rng = np.random.default_rng([seed, number])
    a, b = rng.normal(size=(2, rows))
    y = rng.random(rows) < 1 / (1 + np.exp(-2 * (weights[0] * a + weights[1] * b)))
    start = datetime(2024, 1, 1) + timedelta(days=number)
    at = [start + timedelta(seconds=int(second)) for second in np.linspace(0, 80_000, rows)]
    table = pa.table({"at": pa.array(at, pa.timestamp("s", "UTC")), "a": a, "b": b, "y": y})
    return read_table(table, SPEC, f"day-{number:02d}.parquet")


def read_table(table: pa.Table, spec: ModelSpec, name: str = "x.parquet") -> File:
    """As a file of that name is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        pq.write_table(table, path)
        return read(path, spec)


def stream(n: int, change: int | None = None) -> list[File]:
    """What matters is the first number; from batch `change` on it counts the other way round."""
    return [batch(i, (1.0, 0.3) if change is None or i < change else (-1.0, 0.3)) for i in range(n)]


def relabelled(spec: ModelSpec, i: int, y: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> File:
    """Day `i` of a still stream with other labels."""
    rows = STILL[i].shard.columns
    at = pa.array(rows["at"], pa.timestamp("ns", "UTC"))
    table = pa.table({"at": at, "a": rows["a"], "b": rows["b"], "y": y(rows["a"], rows["b"])})
    return read_table(table, spec, f"{i}.parquet")


STILL = stream(4)
CHANGED = stream(14, change=8)


@pytest.fixture(scope="module")
def changed():
    return {policy.name: replay(CHANGED, SPEC, policy) for policy in (REFIT, NEVER, ALWAYS)}


def test_a_change_is_answered_at_once_and_the_champion_recovers(changed):
    batches = changed["refit"].batches
    assert batches[8].batch_score < 0.5 < 0.75 < batches[7].batch_score
    assert batches[8].decision == "retrain"
    assert any("that it had not learned from" in reason for reason in batches[8].reasons)
    # A part of the first batch of the new kind teaches, the rest chooses and tests: a model of that part serves at
    # once, and is about as good as the one before the change was.
    assert batches[8].version != batches[7].version
    assert min(each.batch_score for each in batches[10:]) > 0.75
    assert changed["refit"].summary.score > changed["never"].summary.score + 0.2
    # Who refits on all history has not recovered by then.
    assert max(each.batch_score for each in changed["always"].batches[9:13]) < 0.5


def test_where_nothing_changes_there_are_next_to_no_runs_and_nothing_is_lost():
    still = [batch(i, (1.0, 0.3), rows=2500) for i in range(12)]
    told, never = replay(still, SPEC, REFIT).summary, replay(still, SPEC, NEVER).summary
    assert told.retrainings <= 3  # of 12: the first, and those when there was twice as much to know
    assert told.score >= never.score


def test_the_score_is_of_predictions_made_before_anyone_learned_from_the_batch(changed):
    """A model that had seen the labels of a batch could tell them from noise; none of the policies can."""
    noise = [batch(i, (0.0, 0.0), rows=300, seed=1) for i in range(5)]
    # Unrestrained trees learn what they are shown by heart.
    spec = replace(SPEC, estimator={"max_iter": 60, "max_leaf_nodes": 200, "min_samples_leaf": 1})
    for policy in (ALWAYS, Policy("periodic:2", every=2), NEVER, REFIT):
        assert replay(noise, spec, policy).summary.score == pytest.approx(0.5, abs=0.05)


def test_what_comes_later_changes_nothing_of_what_was_told_before(changed):
    shorter = replay(CHANGED[:8], SPEC, REFIT)
    assert shorter.batches == changed["refit"].batches[:8]


def test_the_pooled_score_is_that_of_all_predictions_together(changed):
    """never: one model, fitted on the first batch, on all others."""
    from refit.training import assemble, fit

    data = assemble([file.shard for file in CHANGED], [False] * len(CHANGED), SPEC)
    first, rest = np.arange(ROWS), np.arange(ROWS, len(data.labels))
    proba = fit(data, first, SPEC).predict_proba(data.frame(rest))[:, 1]
    assert changed["never"].summary.score == pytest.approx(score("roc_auc", data.labels[rest], proba))


def test_never_fits_once_always_after_every_batch_and_periodic_every_so_many(changed):
    assert changed["never"].summary.retrainings == 1
    assert [b.decision for b in changed["never"].batches] == ["retrain"] + ["skip"] * 13
    assert changed["always"].summary.retrainings == 14
    decisions = [b.decision for b in replay(CHANGED[:7], SPEC, Policy("periodic:3", every=3)).batches]
    assert decisions == ["retrain", "skip", "retrain", "skip", "skip", "retrain", "skip"]
    rows = [ROWS * (i + 1) for i in range(14)]
    assert changed["always"].summary.cost_usd == pytest.approx(
        sum(costs.of_fit(n).usd for n in rows), abs=1e-4
    )


def test_the_numbers_of_the_summary_are_those_of_the_batches(changed):
    done = changed["refit"]
    assert done.summary.retrainings == sum(b.decision == "retrain" for b in done.batches)
    versions = [b.version for b in done.batches]
    assert done.summary.promotions == len(set(versions) - {""})


def test_the_document_has_the_fields_that_are_promised(changed):
    document = to_json(changed["refit"])
    assert set(document) == {"summary", "batches"}
    assert set(document["summary"]) == {
        "metric", "score", "retrainings", "promotions", "cost_usd", "seconds",
    }  # fmt: skip
    assert {frozenset(each) for each in document["batches"]} == {
        frozenset(
            ("file", "rows", "outcome", "decision", "reasons", "candidate", "version", "champion_score",
             "challenger_score")
        )
    }  # fmt: skip


def test_a_quarantined_file_is_told_with_its_reasons_and_passed_over():
    bad = read_table(pa.table({"a": ["x"]}), SPEC).verdict
    files = [STILL[0], File("bad.csv", "sha-bad", bad), STILL[1]]
    told = replay(files, SPEC, REFIT)
    assert [b.outcome for b in told.batches] == ["accepted", "quarantined", "accepted"]
    assert any("[missing_column]" in reason for reason in told.batches[1].reasons)
    assert (told.batches[1].decision, told.batches[1].version) == ("", told.batches[0].version)
    assert told.summary.score == replay([STILL[0], STILL[1]], SPEC, REFIT).summary.score


def test_the_same_content_again_is_a_duplicate_and_is_learned_from_once():
    again = replace(STILL[0], name="copy.parquet")
    told = replay([STILL[0], again, STILL[1]], SPEC, ALWAYS)
    assert [b.outcome for b in told.batches] == ["accepted", "duplicate", "accepted"]
    assert told.batches[1].reasons == ("the same content came before, as day-00.parquet",)
    assert told.summary == replay([STILL[0], STILL[1]], SPEC, ALWAYS).summary


def test_files_are_ordered_by_the_time_of_their_data_where_there_is_one():
    bad = File("bad.csv", "sha-bad", read_table(pa.table({"a": ["x"]}), SPEC).verdict)
    given = [STILL[2], bad, STILL[0], STILL[1]]
    assert [f.name for f in in_order(given, SPEC)] == [
        "day-00.parquet", "day-01.parquet", "day-02.parquet", "bad.csv",
    ]  # fmt: skip
    timeless = replace(SPEC, contract=replace(SPEC.contract, time=None))
    assert in_order(given, timeless) == given


def test_before_there_is_a_model_the_labels_of_the_past_speak():
    small = [batch(i, (1.0, 0.3), rows=120) for i in range(5)]
    told = replay(small, SPEC, REFIT)
    # 250 rows are needed for a first model: two batches have 240.
    assert [b.decision for b in told.batches[:3]] == ["skip", "skip", "retrain"]
    assert "130 are missing" in told.batches[0].reasons[0]
    assert told.batches[2].version == "v1"
    assert told.summary.score is not None


def test_a_budget_holds_runs_back():
    spec = replace(SPEC, triggers=Triggers(budget_runs=1))
    told = replay(CHANGED[:10], spec, REFIT)
    assert told.summary.retrainings == 1  # all of January 2024
    assert any(b.decision == "wait" and "budget_runs allows 1" in b.reasons[0] for b in told.batches)


def test_trivial_baselines_know_only_the_past():
    found = baselines(STILL, SPEC)
    assert set(found) == {"class shares", "last label"}
    assert all(value == pytest.approx(0.5, abs=0.05) for value in found.values())


def test_a_regression_is_replayed_too():
    columns = (*COLUMNS[:3], Column("y", ColumnType.NUMBER))
    spec = replace(SPEC, task=Task.REGRESSION, contract=Contract(columns, "y", time="at"), gates=Gates("r2"))
    files = [relabelled(spec, i, lambda a, b: 2 * a + b) for i in range(4)]
    assert replay(files, spec, REFIT).summary.score > 0.85
    assert baselines(files, spec)["mean"] < 0.01


def test_the_second_class_of_numbers_is_the_higher_one():
    """10 comes before 2 as text; f1 is of the second class all the same."""
    columns = (*COLUMNS[:3], Column("y", ColumnType.INTEGER))
    spec = replace(SPEC, contract=Contract(columns, "y", time="at"), gates=Gates("f1"))
    files = [relabelled(spec, i, lambda a, b: np.where(a > 1, 10, 2)) for i in range(3)]
    assert replay(files, spec, NEVER).summary.score > 0.9
    # Whoever always says the frequent 2 is never right about 10.
    assert baselines(files, spec)["majority class"] == 0


def test_a_third_class_leaves_a_binary_stream_without_a_score():
    """Told of as undefined, not as half right."""
    columns = (*COLUMNS[:3], Column("y", ColumnType.INTEGER))
    spec = replace(SPEC, contract=Contract(columns, "y", time="at"))
    files = [relabelled(spec, i, lambda a, b, i=i: (a > 0).astype(int) + i // 2) for i in range(4)]
    told = replay(files, spec, REFIT)
    assert told.summary.score is None and told.batches[-1].version
    assert set(baselines(files, spec).values()) == {None}


STRICT = """
from sklearn.linear_model import SGDClassifier

class Strict(SGDClassifier):
    def predict_proba(self, frame):
        if frame["b"].max() > 9:
            raise ValueError("never seen such a b")
        return super().predict_proba(frame)

def build():
    return Strict(loss="log_loss")
"""


def test_a_champion_that_cannot_predict_a_batch_is_told_of_and_leaves_no_score(tmp_path):
    (tmp_path / "model.py").write_text(STRICT)
    spec = replace(SPEC, code=str(tmp_path / "model.py"))
    rows = STILL[2].shard.columns
    at = pa.array(rows["at"], pa.timestamp("ns", "UTC"))
    strange = pa.table({"at": at, "a": rows["a"], "b": np.full(ROWS, 10.0), "y": rows["y"] > 0})
    files = [*STILL[:2], read_table(strange, spec), STILL[3]]
    for policy in (REFIT, ALWAYS):
        told = replay(files, spec, policy)
        assert "cannot predict it: Strict.predict_proba failed: ValueError" in told.batches[2].reasons[0]
        assert told.summary.score is None
    assert told.batches[2].champion_score is None


def test_a_candidate_that_fails_is_named_and_the_others_go_on(tmp_path):
    (tmp_path / "model.py").write_text(
        "from sklearn.linear_model import LogisticRegression\ndef build():\n    return LogisticRegression()\n"
    )
    wanted = Training(candidates=("full", "continual"))
    spec = replace(SPEC, code=str(tmp_path / "model.py"), training=wanted)
    told = replay(CHANGED[7:9], spec, REFIT).batches[1]
    assert told.candidate == "full"
    assert any(
        reason.startswith("continual failed: ") and "no partial_fit" in reason for reason in told.reasons
    )


@pytest.mark.parametrize("text", ["", "sometimes", "periodic", "periodic:0", "periodic:-1", "periodic:x"])
def test_other_policies_are_none(text):
    assert parse_policy(text) is None


def test_policies_by_name():
    assert parse_policy("periodic:12") == Policy("periodic:12", every=12)
    assert parse_policy("always") == ALWAYS
    assert parse_policy("refit").decides


def test_schedules_on_a_recent_window_are_compared_where_recent_is_declared():
    assert [p.name for p in policies_to_compare(SPEC, 4)] == [
        "refit", "never", "always", "periodic:2", "periodic:3",
    ]  # fmt: skip
    recent = replace(SPEC, training=Training(candidates=("full", "recent"), recent_rows=900))
    assert "periodic:1 on the newest 900 rows" in [p.name for p in policies_to_compare(recent, 4)]
