"""Which uploads are learned from, and in which order."""

import pytest

from refit.batches import (
    Code,
    Outcome,
    Reason,
    Upload,
    batch_id,
    effective,
    inputs_digest,
    is_final,
    upload_id,
)


def upload(key: str, content: str, at: str, **more) -> Upload:
    outcome = more.pop("outcome", Outcome.ACCEPTED)
    name = upload_id("bucket", key, f"{at}{content}")
    return Upload(
        name,
        "m",
        key,
        "v",
        outcome,
        sha256=content,
        uploaded_at=at,
        batch_id=f"b-{content}",
        **more,
    )


def contents(uploads: list[Upload]) -> list[str]:
    return [each.sha256 for each in effective(uploads)]


def test_only_accepted_uploads_are_learned_from():
    others = [upload(o, o, "2024", outcome=o) for o in Outcome if o is not Outcome.ACCEPTED]
    assert contents([*others, upload("k", "good", "2024")]) == ["good"]


def test_a_newer_version_of_a_key_replaces_the_older_whatever_the_order_of_arrival():
    old, new = upload("k", "old", "2024-01-01"), upload("k", "new", "2024-01-02")
    assert contents([old, new]) == contents([new, old]) == ["new"]


def test_a_quarantined_newer_version_replaces_nothing():
    bad = upload("k", "bad", "2024-01-02", outcome=Outcome.QUARANTINED)
    assert contents([upload("k", "old", "2024-01-01"), bad]) == ["old"]


def test_within_one_second_the_sequencer_of_s3_tells_the_newer_version():
    """Sequencers compare as hexadecimal padded on the right: 00B is above 00A1, though shorter."""
    old, new = upload("k", "old", "2024", sequencer="00A1"), upload("k", "new", "2024", sequencer="00B")
    assert contents([new, old]) == contents([old, new]) == ["new"]


def test_the_same_content_counts_once_under_whichever_name():
    first, copy = upload("a", "same", "2024-01-01"), upload("b", "same", "2024-01-02")
    assert effective([first, copy]) == effective([copy, first]) == [copy]


def test_content_that_was_replaced_under_one_name_still_counts_under_another():
    ups = [upload("a", "x", "2024-01-01"), upload("b", "x", "2024-01-02"), upload("b", "y", "2024-01-03")]
    assert sorted(contents(ups)) == ["x", "y"]


def test_a_retraction_takes_the_copies_with_it_and_nothing_else():
    told = upload("a", "x", "2024-01-01", retracted="by ann")
    copy, other = upload("b", "x", "2024-01-02"), upload("c", "y", "2024-01-03")
    assert contents([told, copy, other]) == ["y"]


def test_a_retracted_version_does_not_bring_back_the_one_it_replaced():
    old, new = upload("k", "old", "2024-01-01"), upload("k", "new", "2024-01-02", retracted="by ann")
    assert contents([old, new]) == []


def test_uploads_come_in_the_order_of_their_data_not_of_their_arrival():
    """A backfill of last year that arrives today is older than yesterday's file."""
    june = upload("june", "june", "2024-06-30", period=("2024-06-01T00:00:00Z", "2024-06-30T00:00:00Z"))
    late = upload("may", "may", "2024-09-01", period=("2024-05-01T00:00:00Z", "2024-05-31T00:00:00Z"))
    assert contents([june, late]) == ["may", "june"]


def test_without_a_time_column_arrival_is_the_order():
    assert contents([upload("b", "second", "2024-02"), upload("a", "first", "2024-01")]) == [
        "first",
        "second",
    ]


def test_names_of_uploads_and_batches_depend_on_every_part_and_keep_parts_apart():
    assert upload_id("b", "k", "v") == upload_id("b", "k", "v")
    assert len({upload_id("b", "k", "v"), upload_id("b", "kv", ""), upload_id("bk", "", "v")}) == 3
    assert len({batch_id("c", "d"), batch_id("c", "e"), batch_id("e", "d"), batch_id("cd", "")}) == 4


def test_frozen_inputs_have_one_name_in_any_order():
    assert inputs_digest(["a", "b"], "spec") == inputs_digest(iter(["b", "a"]), "spec")
    assert (
        len({inputs_digest(["a", "b"], "spec"), inputs_digest(["a"], "spec"), inputs_digest(["a", "b"], "t")})
        == 3
    )


# --- whether anything is left to do


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.QUARANTINED, Outcome.IGNORED])
def test_an_outcome_is_final_once_it_was_announced(outcome):
    assert is_final(upload("k", "c", "2024", outcome=outcome, announced=True), {"m"})
    assert not is_final(upload("k", "c", "2024", outcome=outcome), {"m"})


def test_what_failed_by_our_fault_stays_where_it_is_until_a_person_sends_it_again():
    assert is_final(upload("k", "c", "2024", outcome=Outcome.PARKED), {"m"})


def test_an_upload_for_an_unknown_model_is_final_until_that_model_is_deployed():
    reasons = (Reason(Code.UNKNOWN_MODEL, "no model 'm'"),)
    ignored = upload("k", "c", "2024", outcome=Outcome.IGNORED, announced=True, reasons=reasons)
    assert is_final(ignored, {"other"})
    assert not is_final(ignored, {"m", "other"})
