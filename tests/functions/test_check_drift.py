from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rows import flights

from refit.errors import ArtifactError
from refit_cli.view import history, history_text, status, status_text


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
    shard = {**event, "detail": {**event["detail"], "object": {"key": "accepted/flights/b/rows.shard"}}}
    assert "not the key of a profile" in stack.call("check_drift", shard)["reasons"][0]
    other = stack.profile_event("check_drift", "0" * 24, model="trains") | {"id": "another"}
    assert "known models" in stack.call("check_drift", other)["reasons"][0]
    assert sorted(each.error for each in stack.app.registry.refusals()) == ["BadMessage", "UnknownModel"]
    with pytest.raises(ArtifactError, match="missing"):
        stack.call("check_drift", stack.profile_event("check_drift", "0" * 24))


def of(year, month, temperature):
    """A month's flights in another year, at that temperature."""
    frame = flights(400, month=month, seed=year)
    start = frame["scheduled_departure"] + pd.DateOffset(years=year - 2013)
    return frame.assign(scheduled_departure=start, temperature=frame["temperature"] - 50 + temperature)


def recorded(stack, upload):
    (found,) = [each for each in stack.app.registry.drifts("flights") if each["batch_id"] == upload.batch_id]
    return found


def test_what_is_as_a_year_ago_is_seasonal_and_knocks_without_drift(stack):
    stack.promoted("flights", "2013-07.parquet", of(2013, 7, 80))
    stack.upload("2013-01.parquet", of(2013, 1, 30))
    upload = stack.upload("2014-01.parquet", of(2014, 1, 30))
    assert check(stack, upload)["drifted"] == []
    assert [event["detail-type"] for event in stack.heard()] == ["Drift Checked"]
    found = recorded(stack, upload)
    assert (found["seasonal"], found["season_rows"]) == (["temperature"], 400)
    assert found["columns"][0]["fired"] == ["champion"]
    assert found["columns"][0]["message"].endswith("; but as a year ago")
    line = next(each for each in status_text(status(stack.app, "flights")).splitlines() if "drift " in each)
    assert line == "  drift      no column drifted; as a year ago: temperature"


def test_what_is_not_as_a_year_ago_has_drifted(stack):
    stack.promoted("flights", "2013-07.parquet", of(2013, 7, 80))
    stack.upload("2013-01.parquet", of(2013, 1, 30))
    upload = stack.upload("2014-01.parquet", of(2014, 1, 50))
    (message,) = check(stack, upload)["drifted"]
    assert message.startswith("temperature: mean ")
    assert message.endswith("; far from a year ago, too")
    assert recorded(stack, upload)["columns"][0]["fired"] == ["champion", "season"]
    assert "drift      from v1: temperature: mean " in history_text(history(stack.app, "flights"))


def test_an_upload_that_was_taken_back_is_no_season(stack):
    stack.promoted("flights", "2013-07.parquet", of(2013, 7, 80))
    stack.upload("2013-01.parquet", of(2013, 1, 30))
    stack.app.registry.save_upload(
        replace(
            next(u for u in stack.app.registry.uploads("flights") if u.key.endswith("01.parquet")),
            retracted="by me: wrong",
        )
    )
    upload = stack.upload("2014-01.parquet", of(2014, 1, 30))
    assert len(check(stack, upload)["drifted"]) == 1
    assert recorded(stack, upload)["season_rows"] == 0


def test_the_label_stands_beside_the_features_and_false_alarms_are_counted_ahead(stack):
    """Two uploads 31 days apart are 11.8 a year, of which one in 100 may be a false alarm."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2).assign(late=np.arange(400) > 10))
    (message,) = check(stack, upload)["drifted"]
    assert message.startswith("late: mean 0.")
    found = recorded(stack, upload)
    assert [each["kind"] for each in found["columns"] if each["column"] == "late"] == ["label"]
    assert "at most 0.12 false alarms a year" in status_text(status(stack.app, "flights"))


def test_the_model_says_what_is_far_enough_and_how_often_it_may_be_wrong(stack, declare):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    upload = stack.upload("2013-02.parquet", flights(400, month=2).assign(temperature=60.0))
    declare("flights", drift_effect=500, drift_budget=0.2)
    assert check(stack, upload)["drifted"] == []
    assert status(stack.app, "flights")["false_alarms_a_year"] == pytest.approx(0.2 * 365 / 31)
