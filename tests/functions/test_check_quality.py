import boto3
import numpy as np
import pytest
from rows import fares, flights, species

from refit.aws import keys
from refit_cli.view import history, history_text, status, status_text


def check(stack, upload, model="flights"):
    return stack.call("check_quality", stack.profile_event("check_quality", upload.batch_id, model))


def published():
    """Names of the metrics that an alarm could watch."""
    metrics = boto3.client("cloudwatch").list_metrics(Namespace="Refit/refit")["Metrics"]
    return {metric["MetricName"] for metric in metrics}


def test_without_a_champion_there_is_nobody_to_score(stack):
    answer = check(stack, stack.upload("2013-01.parquet", flights(400)))
    assert answer["skipped"].startswith("no champion")
    assert stack.app.registry.qualities("flights") == []
    assert published() == set()


def test_the_champion_is_scored_on_a_batch_before_anyone_learns_from_it(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2))
    answer = check(stack, upload)
    assert (answer["version"], answer["rows"]) == ("v1", 400)
    assert 0.85 < answer["score"] <= 1  # 5 % of the labels are turned around
    (quality,) = stack.app.registry.qualities("flights")
    assert (quality.metric, quality.score, quality.batch_id) == ("roc_auc", answer["score"], upload.batch_id)
    assert published() == {"Quality-flights", "QualityMargin-flights-v1", "QualityRows-flights"}


def test_a_concept_that_turned_around_shows_in_the_score(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2, flipped=True))
    assert check(stack, upload)["score"] < 0.15


def test_a_batch_that_the_champion_learned_from_would_flatter_it(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    (upload,) = stack.app.registry.uploads("flights")
    assert "skipped" in check(stack, upload)
    assert stack.app.registry.qualities("flights") == []


def test_a_batch_learned_from_meanwhile_is_scored_by_the_champion_before(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    second = stack.promoted("flights", "2013-02.parquet", flights(800, month=2, flipped=True))
    assert second["version"] == "v2"
    late = next(u for u in stack.app.registry.uploads("flights") if u.key.endswith("02.parquet"))
    assert check(stack, late)["version"] == "v1"


@pytest.mark.parametrize("labels", [None, True], ids=["unlabelled", "one class"])
def test_a_score_that_is_not_defined_is_recorded_as_none_and_not_published(stack, labels):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    batch = flights(49, month=2)  # 50 labels that are all the same are refused
    batch["late"] = np.array([labels] * 49, dtype=object)
    answer = check(stack, stack.upload("2013-02.parquet", batch))
    assert answer["score"] is None
    (quality,) = stack.app.registry.qualities("flights")
    assert quality.score is None
    assert quality.note.startswith("not defined")
    assert published() == set()


def test_classes_that_the_champion_has_never_seen_give_no_score(stack):
    stack.promoted("species", "first.parquet", species(300))
    upload = stack.upload("new.parquet", species(49, seed=1).assign(species="tulip"), model="species")
    assert check(stack, upload, "species")["score"] is None


def test_rows_of_a_class_that_the_champion_has_never_seen_count_against_it(stack):
    """Its metric is accuracy: of 90 rows it can be right on 60 at most, and on those it nearly always is."""
    stack.promoted("species", "first.parquet", species(300))
    batch = species(90, seed=1)
    batch.loc[batch.index[::3], "species"] = "tulip"
    answer = check(stack, stack.upload("new.parquet", batch, model="species"), "species")
    assert answer["rows"] == 90 and 0.6 < answer["score"] <= 60 / 90


ONLY_KNOWN_CARRIERS = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

def build():
    encoded = make_column_transformer((OneHotEncoder(), ["carrier"]), ("passthrough", ["departure_minute"]))
    return make_pipeline(encoded, LogisticRegression())
"""


def test_a_champion_that_cannot_predict_a_batch_is_recorded_with_what_it_said(
    stack, configure, declare, tmp_path
):
    declare()
    (tmp_path / "models-0/flights/model.py").write_text(ONLY_KNOWN_CARRIERS)
    configure(models_dir=tmp_path / "models-0")
    stack.promoted("flights", "2013-01.parquet", flights(400))
    answer = check(stack, stack.upload("2013-02.parquet", flights(400, month=2).assign(carrier="ZZ")))
    assert answer["score"] is None
    (quality,) = stack.app.registry.qualities("flights")
    assert quality.note.startswith("not defined: Pipeline.predict_proba failed: ValueError: Found unknown")
    assert published() == set()


def test_predictions_are_compared_with_those_on_the_block_that_the_version_was_tested_on(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    like = stack.upload("2013-02.parquet", flights(400, month=2))
    later = stack.upload("2013-03.parquet", flights(400, month=3).assign(departure_minute=1000))
    check(stack, like)
    assert "predicts   v1 on the newest batch: as on the block" in status_text(status(stack.app, "flights"))
    check(stack, later)
    found = {quality.batch_id: quality.predictions for quality in stack.app.registry.qualities("flights")}
    assert (found[like.batch_id]["drifted"], found[later.batch_id]["drifted"]) == (False, True)
    assert found[later.batch_id]["reference_rows"] == 160  # test_share 0.4 of what was new
    assert found[later.batch_id]["message"].startswith("prediction: mean 0.")
    assert f"; {found[later.batch_id]['message']}" in history_text(history(stack.app, "flights"))
    assert stack.versions_of("drift/") == [
        f"drift/flights/{batch}/v1.predictions.json" for batch in sorted(found)
    ]


def test_predictions_of_rows_without_labels_are_compared_too(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    batch = flights(400, month=2).assign(departure_minute=1000, late=np.array([None] * 400, dtype=object))
    assert check(stack, stack.upload("2013-02.parquet", batch))["score"] is None
    (quality,) = stack.app.registry.qualities("flights")
    assert quality.predictions["drifted"]


def test_predicted_classes_are_compared_by_their_shares(stack):
    stack.promoted("species", "first.parquet", species(600))
    upload = stack.upload("new.parquet", species(300, seed=1).assign(petal=0.5), model="species")
    check(stack, upload, "species")
    (quality,) = stack.app.registry.qualities("species")
    assert quality.predictions["drifted"]
    assert "-> 100.0% of the rows" in quality.predictions["message"]


def test_predicted_values_are_compared(stack):
    stack.promoted("fares", "2013-01.parquet", fares(300))
    upload = stack.upload("2013-02.parquet", fares(300, month=2).assign(distance=2000.0), model="fares")
    check(stack, upload, "fares")
    (quality,) = stack.app.registry.qualities("fares")
    assert quality.predictions["drifted"]


def test_of_an_imported_champion_no_earlier_predictions_are_known(stack, tmp_path):
    stack.imported(flights(400), tmp_path / "old.skops")
    check(stack, stack.upload("2013-02.parquet", flights(400, month=2)))
    (quality,) = stack.app.registry.qualities("flights")
    assert quality.predictions is None


def test_of_a_champion_from_before_predictions_were_kept_none_are_known(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.app.s3.delete_object(
        Bucket=stack.app.settings.store_bucket, Key=keys.predictions("flights", "v1-full")
    )
    check(stack, stack.upload("2013-02.parquet", flights(400, month=2)))
    (quality,) = stack.app.registry.qualities("flights")
    assert quality.predictions is None
    assert quality.score > 0.8


def test_a_repeated_event_gives_the_same_answer_and_record(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2))
    assert check(stack, upload) == check(stack, upload)
    assert len(stack.app.registry.qualities("flights")) == 1
