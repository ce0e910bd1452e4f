import pytest
from rows import flights

from refit.errors import ArtifactError


def check(stack, upload):
    stack.heard()
    return stack.call("check_drift", stack.profile_event("check_drift", upload.batch_id))


def test_without_a_champion_there_is_nothing_to_drift_from_and_the_knock_goes_out(stack):
    upload = stack.upload("2013-01.parquet", flights(400))
    assert check(stack, upload) == {
        "model": "flights",
        "batch_id": upload.batch_id,
        "version": "",
        "drifted": [],
    }
    (event,) = stack.heard()
    assert event["detail-type"] == "Drift Checked"
    assert event["detail"] == {
        "model": "flights",
        "batch_id": upload.batch_id,
        "version": "",
        "rows": 400,
        "period": ["2013-01-01T00:00:00Z", "2013-01-01T06:39:00Z"],
        "drifted": [],
        "n_drifted": 0,
    }
    assert stack.app.registry.drifts("flights") == []


def test_a_batch_is_compared_with_what_the_champion_learned_from(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2).assign(temperature=95.0))
    answer = check(stack, upload)
    assert answer["version"] == "v1"
    assert [message.split(":")[0] for message in answer["drifted"]] == ["temperature"]
    found, checked = stack.heard()
    assert (found["detail-type"], checked["detail-type"]) == ("Drift Found", "Drift Checked")
    assert found["detail"] == checked["detail"]
    assert checked["detail"]["n_drifted"] == 1
    (recorded,) = stack.app.registry.drifts("flights")
    assert recorded["drifted"] == ["temperature"]
    assert recorded["reference_rows"] == 400
    assert stack.versions_of("drift/") == [f"drift/flights/{upload.batch_id}/v1.json"]


def test_a_batch_like_those_learned_from_has_not_drifted(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    assert check(stack, stack.upload("2013-02.parquet", flights(400, month=2)))["drifted"] == []


def test_an_imported_champion_has_no_reference(stack, tmp_path):
    stack.imported(flights(400), tmp_path / "old.skops")
    upload = stack.upload("2013-02.parquet", flights(400, month=2).assign(temperature=95.0))
    assert check(stack, upload)["drifted"] == []
    assert stack.app.registry.drifts("flights") == []


def test_a_repeated_event_gives_the_same_answer_and_record(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2).assign(temperature=95.0))
    first, heard = check(stack, upload), stack.heard()
    assert check(stack, upload) == first
    assert [event["detail"] for event in stack.heard()] == [event["detail"] for event in heard]
    assert len(stack.app.registry.drifts("flights")) == 1
    assert len(stack.versions_of("drift/")) == 1


def test_only_profiles_of_deployed_models_are_read(stack):
    upload = stack.upload("2013-01.parquet", flights(400))
    event = stack.profile_event("check_drift", upload.batch_id)
    shard = {**event, "detail": {**event["detail"], "object": {"key": "accepted/flights/b/shard.npz"}}}
    assert "not the key of a profile" in stack.call("check_drift", shard)["reasons"][0]
    other = stack.profile_event("check_drift", "0" * 24, model="trains") | {"id": "another"}
    assert "known models" in stack.call("check_drift", other)["reasons"][0]
    assert sorted(each.error for each in stack.app.registry.refusals()) == ["BadMessage", "UnknownModel"]
    with pytest.raises(ArtifactError, match="missing"):
        stack.call("check_drift", stack.profile_event("check_drift", "0" * 24))
