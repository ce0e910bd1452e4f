import io
import json
from csv import reader
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from moto_stack import client, happening, sample
from rows import csv, flights, parquet

from refit.aws import keys
from refit.batches import Outcome
from refit.errors import AwsUnavailable
from refit.profile import from_json
from refit.shard import load
from refit.validation import Code
from refit_cli.view import history, history_text

FAILED = {"batchItemFailures": [{"itemIdentifier": sample("validate")["Records"][0]["messageId"]}]}
DONE = {"batchItemFailures": []}


def codes(upload):
    return [reason.code for reason in upload.reasons]


# ---------------------------------------------------------------- the four outcomes
def test_a_good_upload_is_accepted_with_typed_rows_and_a_profile(stack):
    upload = stack.upload("2013-01.parquet", flights(400))
    assert (upload.outcome, upload.rows, upload.announced) == (Outcome.ACCEPTED, 400, True)
    assert upload.period == ("2013-01-01T00:00:00Z", "2013-01-01T06:39:00Z")
    assert load(stack.app.store.get(keys.shard("flights", upload.batch_id))).rows == 400
    assert from_json(stack.app.store.get_json(keys.profile("flights", upload.batch_id))).rows == 400
    (event,) = stack.heard()
    assert event["detail-type"] == "Batch Accepted"
    assert event["detail"]["batch_id"] == upload.batch_id


@pytest.mark.parametrize("write", [parquet, csv], ids=["parquet", "csv"])
def test_the_content_decides_what_a_file_is(stack, write):
    assert stack.upload("no-suffix-at-all", write(flights(50))).rows == 50


def test_a_bad_upload_is_quarantined_with_all_its_reasons(stack):
    frame = flights(100)
    frame["origin"] = "SFO"
    frame["distance"] = -1.0
    frame["flight_id"] = "the same"
    frame.loc[:49, "temperature"] = np.nan
    upload = stack.upload("bad.parquet", frame)
    assert upload.outcome is Outcome.QUARANTINED
    assert sorted(codes(upload)) == [
        Code.DUPLICATE_KEY,
        Code.OUT_OF_RANGE,
        Code.TOO_MANY_NULLS,
        Code.UNKNOWN_CATEGORY,
    ]
    stored = stack.app.store.get_json(keys.reasons("flights", upload.upload_id))
    assert sorted(reason["code"] for reason in stored["reasons"]) == sorted(codes(upload))
    (event,) = stack.heard()
    assert event["detail-type"] == "Batch Quarantined"
    assert len(event["detail"]["reasons"]) == 4
    assert stack.versions_of("accepted/") == []


def test_the_rows_of_a_bad_upload_are_listed_beside_its_reasons(stack):
    frame = flights(100)
    frame.loc[[3, 70], "distance"] = -1.0
    upload = stack.upload("bad.parquet", frame)
    assert upload.outcome is Outcome.QUARANTINED
    (told,) = [warning for warning in upload.warnings if warning.code == Code.BAD_ROWS_LISTED]
    key = keys.bad_rows("flights", upload.upload_id)
    assert told.message.endswith(f"s3://{stack.app.settings.store_bucket}/{key}")
    rows = list(reader(io.StringIO(stack.app.store.get(key).decode())))
    assert [row[:3] for row in rows[1:]] == [
        ["4", "out_of_range", "distance"],
        ["71", "out_of_range", "distance"],
    ]


def test_the_history_names_what_was_noted_of_an_accepted_upload_but_not_every_conversion(stack):
    upload = stack.upload("odd.csv", csv(flights(100).assign(carrier=[f"C{i}" for i in range(100)])))
    assert upload.outcome is Outcome.ACCEPTED
    assert Code.COERCED in {note.code for note in upload.warnings}
    (line,) = history_text(history(stack.app, "flights")).splitlines()
    assert line.endswith("upload     odd.csv accepted: 100 rows, noted: too_many_categories 'carrier'")


def test_bytes_that_are_no_table_are_quarantined(stack):
    assert codes(stack.upload("photo.parquet", b"\x89PNG\r\n\x1a\n\0\0")) == [Code.UNREADABLE]


def test_numbers_too_large_to_square_are_no_reason_to_fail(stack):
    upload = stack.upload("huge.parquet", flights(50).assign(temperature=1e200))
    assert upload.outcome is Outcome.ACCEPTED


def test_an_upload_for_an_unknown_model_is_ignored_and_told_which_are_known(stack):
    upload = stack.upload("a.parquet", flights(50), model="flihgts")
    assert upload.outcome is Outcome.IGNORED
    (reason,) = upload.reasons
    assert reason.code == Code.UNKNOWN_MODEL
    assert "known models: fares, flights, species" in reason.message
    assert "Did you mean 'flights'?" in reason.message
    assert [event["detail-type"] for event in stack.heard()] == ["Upload Ignored"]


def test_an_upload_beside_the_model_folders_is_ignored(stack):
    put = stack.app.s3.put_object(
        Bucket=stack.app.settings.data_bucket, Key="incoming/2013-01.parquet", Body=b"x"
    )
    event = stack.arrival("incoming/2013-01.parquet", put["VersionId"])
    assert stack.call("validate", event) == DONE
    upload = stack.recorded("incoming/2013-01.parquet", put["VersionId"], model="")
    assert codes(upload) == [Code.NOT_IN_MODEL_FOLDER]


def test_a_folder_marker_is_ignored_once(stack):
    key, version = stack.put("", b"")
    assert key == "incoming/flights/"
    for _ in range(2):
        assert stack.call("validate", stack.arrival(key, version)) == DONE
    upload = stack.recorded(key, version)
    assert (upload.outcome, codes(upload)) == (Outcome.IGNORED, [Code.EMPTY_FOLDER_MARKER])
    assert len(stack.heard()) == 1


def test_an_upload_ignored_before_its_model_was_deployed_is_taken_in_afterwards(stack):
    """The event is delivered again, by a person or from the dead-letter queue."""
    key, version = stack.put("a.parquet", flights(50))
    stack.call("validate", stack.arrival(key, version))
    done = stack.recorded(key, version)
    reason = stack.upload("b", b"x", model="flihgts").reasons[0]
    ignored = replace(done, outcome=Outcome.IGNORED, reasons=(reason,))
    stack.app.registry.save_upload(ignored)
    with stack.outage(stack.app.s3, "PutObject", "profile.json"):
        assert stack.call("validate", stack.arrival(key, version)) == FAILED
    assert not stack.recorded(key, version).announced  # as ignored it was, as accepted it is not
    assert stack.call("validate", stack.arrival(key, version)) == DONE
    assert stack.recorded(key, version).outcome is Outcome.ACCEPTED


def test_an_upload_beyond_the_limit_is_quarantined_unread(stack, monkeypatch):
    monkeypatch.setenv("REFIT_MAX_UPLOAD_MB", "1")
    upload = stack.upload("large.csv", b"x" * (1024 * 1024 + 1))
    assert codes(upload) == [Code.FILE_TOO_LARGE]
    assert upload.sha256 == ""


def test_our_own_failure_parks_the_upload_on_the_last_try_and_keeps_the_message(stack):
    key, version = stack.put("a.parquet", flights(50))
    with stack.outage(stack.app.s3, "PutObject", "rows.shard"):
        for tries in range(1, 5):
            assert stack.call("validate", stack.arrival(key, version, tries)) == FAILED
            assert stack.recorded(key, version) is None
        assert stack.call("validate", stack.arrival(key, version, tries=5)) == FAILED
    upload = stack.recorded(key, version)
    assert (upload.outcome, codes(upload)) == (Outcome.PARKED, [Code.REFIT_FAILED])
    assert "dead-letter queue" in upload.reasons[0].message

    assert stack.call("validate", stack.arrival(key, version)) == DONE  # redriven from the dead-letter queue
    assert stack.recorded(key, version).outcome is Outcome.ACCEPTED


def test_a_failure_after_the_record_was_written_is_made_up_for_by_the_sweep(stack, configure):
    configure(sweep_minutes=0)
    key, version = stack.put("a.parquet", flights(50))
    with stack.outage(stack.app.s3, "PutObject", "profile.json"):
        assert stack.call("validate", stack.arrival(key, version, tries=5)) == FAILED
    assert not stack.recorded(key, version).announced
    stack.tick()
    for event in stack.sent():
        assert stack.call("validate", event) == DONE
    upload = stack.recorded(key, version)
    assert (upload.outcome, upload.announced) == (Outcome.ACCEPTED, True)


class Killed(BaseException):
    """The process is gone: nothing handles this."""


def test_a_file_that_kills_every_process_that_reads_it_has_a_record_and_is_told_of(stack, configure):
    configure(sweep_minutes=0)
    key, version = stack.put("a.parquet", flights(50))
    for tries in range(1, 6):
        with stack.outage(stack.app.s3, "GetObject", error=Killed()), pytest.raises(Killed):
            stack.call("validate", stack.arrival(key, version, tries))
    upload = stack.recorded(key, version)
    assert (upload.outcome, codes(upload)) == (Outcome.PARKED, [Code.REFIT_FAILED])
    assert "its process died or ran out of time" in upload.reasons[0].message
    stack.tick()
    assert stack.heard() == []  # the fifth try may be under way
    stack.app.registry.save_upload(replace(upload, decided_at="2013-01-01T00:00:00Z"))
    for _ in range(2):
        stack.tick()
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]["upload_id"]) == ("Upload Parked", upload.upload_id)
    assert stack.sent() == []


def test_a_try_that_fails_is_followed_by_another_soon_and_then_later_and_later(stack):
    sqs, queue = client("sqs"), stack.app.settings.intake_queue
    key, version = stack.put("a.parquet", flights(50))
    sqs.send_message(QueueUrl=queue, MessageBody="waits")
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    waits = []

    def note(params, **_):
        waits.append(json.loads(params["body"])["VisibilityTimeout"])

    with (
        happening(stack.app.sqs, "ChangeMessageVisibility", note),
        stack.outage(stack.app.s3, "PutObject", "rows.shard"),
    ):
        for tries in range(1, 6):
            event = stack.arrival(key, version, tries)
            event["Records"][0]["receiptHandle"] = message["ReceiptHandle"]
            assert stack.call("validate", event) == FAILED
    assert waits == [15, 60, 240, 900, 0]


def test_what_is_parked_and_deleted_has_nothing_left_to_try(stack):
    key, version = stack.put("a.parquet", flights(50))
    with stack.outage(stack.app.s3, "PutObject", "rows.shard"):
        stack.call("validate", stack.arrival(key, version, tries=5))
    stack.app.s3.delete_object(Bucket=stack.app.settings.data_bucket, Key=key, VersionId=version)
    assert stack.call("validate", stack.arrival(key, version)) == DONE
    upload = stack.recorded(key, version)
    assert (upload.outcome, codes(upload)) == (Outcome.IGNORED, [Code.DELETED])


# ---------------------------------------------------------------- many files, one batch
def put_part(stack, name, content, model="flights"):
    key = f"parts/{model}/{name}"
    body = content if isinstance(content, bytes) else parquet(content)
    put = stack.app.s3.put_object(Bucket=stack.app.settings.data_bucket, Key=key, Body=body)
    return key, put["VersionId"]


def manifest_of(*files):
    return json.dumps({"files": files}).encode()


def test_the_files_that_a_manifest_names_are_one_batch(stack):
    first, first_version = put_part(stack, "2013-01/a.parquet", flights(40, seed=1))
    second, second_version = put_part(stack, "2013-01/b.PARQUET", flights(60, seed=2))
    upload = stack.upload("2013-01.json", manifest_of(first, second))
    assert (upload.outcome, upload.rows) == (Outcome.ACCEPTED, 100)
    assert [(part.key, part.version_id) for part in upload.parts] == [
        (first, first_version),
        (second, second_version),
    ]
    assert [len(part.sha256) for part in upload.parts] == [64, 64]
    shard = load(stack.app.store.get(keys.shard("flights", upload.batch_id)))
    both = pd.concat([flights(40, seed=1), flights(60, seed=2)])
    np.testing.assert_array_equal(shard.columns["distance"], both["distance"])
    assert len(stack.app.registry.uploads("flights")) == 1, "a part is no upload by itself"


def test_a_rule_of_the_whole_batch_is_held_over_all_its_files(stack):
    """The same key in two files names two rows."""
    first, _ = put_part(stack, "a.parquet", flights(40))
    second, _ = put_part(stack, "b.parquet", flights(50).assign(distance=700.0))
    upload = stack.upload("both.json", manifest_of(first, second))
    assert (upload.outcome, codes(upload)) == (Outcome.QUARANTINED, [Code.DUPLICATE_KEY])
    assert upload.reasons[0].count == 40


def test_the_same_files_under_another_manifest_are_a_recorded_duplicate(stack):
    first, _ = put_part(stack, "a.parquet", flights(40, seed=1))
    second, _ = put_part(stack, "b.parquet", flights(60, seed=2))
    copy, _ = put_part(stack, "copy.parquet", flights(40, seed=1))
    upload = stack.upload("one.json", manifest_of(first, second))
    again = stack.upload("two.json", manifest_of(copy, second))
    assert (again.batch_id, again.duplicate_of) == (upload.batch_id, upload.key)
    assert stack.upload("three.json", manifest_of(second, first)).batch_id != upload.batch_id


def test_a_manifest_before_its_files_is_quarantined_and_accepted_when_it_comes_again(stack):
    first, _ = put_part(stack, "a.parquet", flights(40, seed=1))
    upload = stack.upload("m.json", manifest_of(first, "parts/flights/late.parquet"))
    assert (upload.outcome, codes(upload)) == (Outcome.QUARANTINED, [Code.BAD_MANIFEST])
    assert "'parts/flights/late.parquet' does not exist" in upload.reasons[0].message
    assert "the manifest last" in upload.reasons[0].message
    late, _ = put_part(stack, "late.parquet", flights(60, seed=2))
    assert stack.upload("m.json", manifest_of(first, late)).rows == 100


def test_a_manifest_of_other_models_files_is_refused(stack):
    key, _ = put_part(stack, "a.parquet", flights(40), model="fares")
    assert codes(stack.upload("m.json", manifest_of(key))) == [Code.BAD_MANIFEST]


def test_a_file_of_a_manifest_that_is_no_table_quarantines_the_batch(stack):
    first, _ = put_part(stack, "a.parquet", flights(40))
    second, _ = put_part(stack, "b.parquet", b"")
    assert codes(stack.upload("m.json", manifest_of(first, second))) == [Code.EMPTY_FILE]


def test_a_repeated_delivery_of_a_manifest_reads_the_versions_that_the_first_one_read(stack):
    """Else one upload could become two batches."""
    key, version = put_part(stack, "a.parquet", flights(40, seed=1))
    manifest, manifest_version = stack.put("m.json", manifest_of(key))
    with stack.outage(stack.app.s3, "PutObject", "profile.json"):
        assert stack.call("validate", stack.arrival(manifest, manifest_version)) == FAILED
    batch = stack.recorded(manifest, manifest_version).batch_id
    put_part(stack, "a.parquet", flights(50, seed=2))
    assert stack.call("validate", stack.arrival(manifest, manifest_version, tries=2)) == DONE
    upload = stack.recorded(manifest, manifest_version)
    assert (upload.batch_id, upload.rows, upload.announced) == (batch, 40, True)
    assert [part.version_id for part in upload.parts] == [version]
    assert stack.upload("m.json", manifest_of(key)).rows == 50, "a new version of the manifest reads anew"


def test_files_of_a_manifest_beyond_the_limit_are_not_read(stack, monkeypatch):
    monkeypatch.setenv("REFIT_MAX_UPLOAD_MB", "1")
    parts = [put_part(stack, name, b"x" * 600_000)[0] for name in ("a.csv", "b.csv")]
    upload = stack.upload("m.json", manifest_of(*parts))
    assert codes(upload) == [Code.FILE_TOO_LARGE]
    assert "larger than the 1 MB" in upload.reasons[0].message


# ---------------------------------------------------------------- what arrives is not trusted
def test_a_version_that_is_gone_leaves_nothing_to_do(stack):
    key, version = stack.put("a.parquet", flights(50))
    stack.app.s3.delete_object(Bucket=stack.app.settings.data_bucket, Key=key, VersionId=version)
    assert stack.call("validate", stack.arrival(key, version)) == DONE
    assert stack.recorded(key, version) is None


def test_an_object_of_another_bucket_is_refused(stack):
    key, other = keys.incoming("flights", "a.parquet"), stack.app.settings.store_bucket
    put = stack.app.s3.put_object(Bucket=other, Key=key, Body=parquet(flights(50)))
    assert stack.call("validate", stack.arrival(key, put["VersionId"], bucket=other)) == DONE
    assert stack.app.registry.uploads("flights") == []
    (refusal,) = stack.app.registry.refusals()
    assert refusal.message == f"bucket {other!r} is not {stack.app.settings.data_bucket!r}"


# ---------------------------------------------------------------- the same again
@pytest.mark.parametrize("content", [flights(50), b"no table"], ids=["accepted", "quarantined"])
def test_a_repeated_delivery_adds_nothing(stack, content):
    upload = stack.upload("a.parquet", content)
    stack.heard()
    written = stack.versions_of("")
    assert stack.call("validate", stack.arrival(upload.key, upload.version_id, tries=2)) == DONE
    assert stack.recorded(upload.key, upload.version_id) == upload
    assert stack.versions_of("") == written
    assert stack.heard() == []


def test_the_same_content_under_another_name_is_a_recorded_duplicate(stack):
    first = stack.upload("a.parquet", flights(50))
    second = stack.upload("b.parquet", flights(50))
    assert second.outcome is Outcome.ACCEPTED
    assert (second.batch_id, second.duplicate_of) == (first.batch_id, first.key)
    assert stack.versions_of("accepted/") == [
        keys.profile("flights", first.batch_id),
        keys.shard("flights", first.batch_id),
    ]


def test_a_new_version_of_a_key_is_an_upload_of_its_own(stack):
    first = stack.upload("a.parquet", flights(50))
    second = stack.upload("a.parquet", flights(60))
    assert first.upload_id != second.upload_id
    assert first.batch_id != second.batch_id
    assert {u.rows for u in stack.app.registry.uploads("flights")} == {50, 60}


# ---------------------------------------------------------------- what fails half way is finished by the next delivery
def test_a_crash_between_record_and_profile_is_healed(stack):
    upload = stack.upload("a.parquet", flights(50))
    profile = keys.profile("flights", upload.batch_id)
    store = stack.app.settings.store_bucket
    for version in stack.app.s3.list_object_versions(Bucket=store, Prefix=profile)["Versions"]:
        stack.app.s3.delete_object(Bucket=store, Key=profile, VersionId=version["VersionId"])
    stack.app.registry.save_upload(replace(upload, announced=False))
    stack.heard()

    assert stack.call("validate", stack.arrival(upload.key, upload.version_id, tries=2)) == DONE
    assert stack.versions_of(profile) == [profile]
    assert stack.recorded(upload.key, upload.version_id).announced
    assert [event["detail-type"] for event in stack.heard()] == ["Batch Accepted"]


@pytest.mark.parametrize(
    ("content", "kind"), [(flights(50), "Batch Accepted"), (b"no table", "Batch Quarantined")]
)
def test_an_outcome_that_could_not_be_told_is_told_by_the_next_delivery(stack, content, kind):
    key, version = stack.put("a.parquet", content)
    with stack.outage(stack.app.bus.events, "PutEvents"):
        assert stack.call("validate", stack.arrival(key, version)) == FAILED
    assert stack.heard() == []
    assert stack.call("validate", stack.arrival(key, version, tries=2)) == DONE
    assert [event["detail-type"] for event in stack.heard()] == [kind]


# ---------------------------------------------------------------- logs
def test_logs_hold_no_data_values(stack, logs, capsys):
    frame = flights(50).astype({"distance": object, "departure_minute": object})
    frame.loc[3, "flight_id"] = "marker-in-a-key"
    frame.loc[4, "flight_id"] = "marker-in-a-key"
    frame.loc[5, "carrier"] = "marker-in-a-category"
    frame.loc[6, "origin"] = "marker-outside-the-list"
    frame.loc[7, "distance"] = "marker-no-number"
    frame.loc[8, "departure_minute"] = 86753098675309
    assert stack.upload("bad.csv", csv(frame)).outcome is Outcome.QUARANTINED
    stack.upload("broken.csv", csv(frame) + b'marker,"unclosed\n')
    stack.upload("good.parquet", flights(50).assign(carrier="marker-in-a-category"))
    assert "quarantined" in logs.getvalue() and "accepted" in logs.getvalue()
    for text in (logs.getvalue(), capsys.readouterr().out):
        assert "marker" not in text
        assert "86753098675309" not in text


def test_a_failure_is_logged_without_words_that_may_quote_the_data(stack, logs):
    key, version = stack.put("a.parquet", flights(50))
    with stack.outage(stack.app.s3, "GetObject", error=ValueError("cannot convert 'marker'")):
        assert stack.call("validate", stack.arrival(key, version)) == FAILED
    assert "marker" not in logs.getvalue()
    line = next(entry for entry in map(json.loads, io.StringIO(logs.getvalue())) if "at" in entry)
    assert line["error"] == "ValueError"
    assert any("open_version" in place for place in line["at"])
    with stack.outage(stack.app.s3, "GetObject", error=AwsUnavailable("S3 is slow")):
        stack.call("validate", stack.arrival(key, version))
    assert "S3 is slow" in logs.getvalue()
