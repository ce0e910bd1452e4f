import json

import pytest
from moto_stack import sample
from rows import fares, flights, species

from refit.aws import keys
from refit.errors import ArtifactError, BadMessage, UnknownModel


def spoil(stack, version):
    """Put other bytes where a version's model lies."""
    key = keys.artifact("flights", stack.app.registry.version("flights", version).artifact_sha256)
    stack.app.s3.put_object(Bucket=stack.app.settings.store_bucket, Key=key, Body=b"something else")


def two_champions(stack):
    """v1, and v2 for a concept that has turned around: they disagree on every flight."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.promoted("flights", "2013-02.parquet", flights(800, month=2, flipped=True))


def test_the_champion_answers_with_classes_and_probabilities(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    answer = stack.call("predict", sample("predict"))  # at 17:45 and at 7:00
    assert (answer["model"], answer["version"], answer["generation"]) == ("flights", "v1", 1)
    assert answer["predictions"] == ["true", "false"]
    for proba, said in zip(answer["probabilities"], answer["predictions"], strict=True):
        assert proba.keys() == {"true", "false"}
        assert sum(proba.values()) == pytest.approx(1)
        assert max(proba, key=proba.get) == said


def test_several_classes(stack):
    stack.promoted("species", "first.parquet", species(300))
    rows = species(200, seed=5)
    records = rows.drop(columns="species").to_dict("records")
    answer = stack.call("predict", sample("predict", model="species", records=records))
    assert (rows["species"] == answer["predictions"]).sum() > 180
    assert answer["probabilities"][0].keys() == {"setosa", "versicolor", "virginica"}


def test_a_number(stack):
    stack.promoted("fares", "first.parquet", fares(300))
    answer = stack.call("predict", {"model": "fares", "records": [{"distance": 1000, "seats_left": 5}]})
    assert answer["predictions"] == [pytest.approx(140, abs=25)]  # 40 + distance / 10
    assert "probabilities" not in answer


def test_a_new_champion_is_used_from_the_next_request_on(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    before = stack.call("predict", sample("predict"))
    stack.promoted("flights", "2013-02.parquet", flights(800, month=2, flipped=True))
    after = stack.call("predict", sample("predict"))
    assert (before["version"], after["version"]) == ("v1", "v2")
    assert before["predictions"] == after["predictions"][::-1]


def test_the_model_is_loaded_once_by_an_environment(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    first = stack.call("predict", sample("predict"))
    with stack.outage(stack.app.s3, "GetObject"):
        assert stack.call("predict", sample("predict")) == first


@pytest.mark.parametrize("cold", [True, False])
def test_a_new_champion_that_cannot_be_loaded_is_not_used(stack, logs, cold):
    two_champions(stack)
    spoil(stack, "v2")
    if cold:
        stack.cold_start()
    answer = stack.call("predict", sample("predict"))
    assert (answer["version"], answer["generation"], answer["predictions"]) == ("v1", 1, ["true", "false"])
    assert "v2 cannot be loaded" in logs.getvalue()


def test_a_registry_that_does_not_answer_does_not_stop_a_model_that_is_loaded(stack, logs):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    first = stack.call("predict", sample("predict"))
    with stack.outage(stack.app.registry.dynamodb, "GetItem"):
        assert stack.call("predict", sample("predict")) == first
    assert "the registry does not answer" in logs.getvalue()


def test_when_neither_can_be_loaded_it_says_so(stack):
    two_champions(stack)
    spoil(stack, "v1")
    spoil(stack, "v2")
    with pytest.raises(ArtifactError, match="SHA-256"):
        stack.call("predict", sample("predict"))


def test_without_a_champion_it_says_how_to_get_one(stack):
    with pytest.raises(UnknownModel, match="drop data under incoming/flights/"):
        stack.call("predict", sample("predict"))


def test_an_unknown_model_is_refused_with_the_known_ones(stack):
    with pytest.raises(UnknownModel, match="known models: fares, flights, species"):
        stack.call("predict", sample("predict", model="flihgts"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"records": None}, "'records' must be a list"),
        ({"records": {"distance": 1}}, "'records' must be a list"),
        ({"records": [1]}, "'records' must be a list of objects"),
        ({"model": ""}, "'model' is missing"),
        ({"records": [{}] * 10_001}, "10001 records, at most 10000 a call"),
    ],
)
def test_a_request_of_another_shape_is_refused_by_name(stack, change, says):
    with pytest.raises(BadMessage, match=says):
        stack.call("predict", sample("predict", **change))


def test_no_records_give_no_predictions(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    assert stack.call("predict", sample("predict", records=[]))["predictions"] == []


def test_missing_and_strange_values_are_missing_values(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    strange = [
        {},
        {"distance": None, "carrier": None},
        {"distance": "far", "departure_minute": "noon"},
        {"carrier": "never seen", "origin": 7},
        {"no such column": 1},
    ]
    together = stack.call("predict", sample("predict", records=strange))
    one_by_one = [stack.call("predict", sample("predict", records=[record])) for record in strange]
    assert together["probabilities"] == [answer["probabilities"][0] for answer in one_by_one]
    assert together["probabilities"][0] == together["probabilities"][-1]  # nothing known of either


def test_a_function_url_carries_the_same_request(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    event = {"requestContext": {"http": {"method": "POST"}}, "body": json.dumps(sample("predict"))}
    assert stack.call("predict", event) == stack.call("predict", sample("predict"))
    with pytest.raises(BadMessage, match="the body is not JSON"):
        stack.call("predict", event | {"body": "{"})
