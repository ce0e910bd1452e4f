"""Every branch of the decision point, and that its words carry the numbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refit.batches import Outcome, Upload
from refit.contract import Column, ColumnType, Contract
from refit.metrics import Task
from refit.models import Gates, ModelSpec, Training, Triggers
from refit.policy import Answer, Hold, Knock, State, Trigger, decide

NOW = "2024-07-01T12:00:00Z"
CONTRACT = Contract((Column("x", ColumnType.NUMBER), Column("y", ColumnType.BOOLEAN)), "y")
SPEC = ModelSpec("churn", Task.BINARY, CONTRACT, Triggers(), Gates("roc_auc"), Training())


def batch(name: str, rows: int) -> Upload:
    return Upload(name, "churn", name, "v", Outcome.ACCEPTED, batch_id=name, rows=rows)


def knock(trigger: Trigger = Trigger.DATA, **more) -> Knock:
    return Knock("k1", "churn", trigger, "because I say so", "ann", "2024-07-01T11:00:00Z", **more)


def state(new: int = 1500, **more) -> State:
    """A champion that learned 4000 rows, and one batch of `new` rows that it has not."""
    inputs = [batch("known", 4000)] + ([batch("new", new)] if new else [])
    given = {"inputs": inputs, "inputs_digest": "d2", "champion": "v1", "learned": frozenset({"known"})}
    return State(**{**given, **more})


def spec(**triggers) -> ModelSpec:
    return replace(SPEC, triggers=Triggers(**triggers))


def test_a_hold_in_force_waits_and_says_until_when_even_when_forced():
    hold = Hold("2024-07-02T00:00:00Z", "backfill of 2023", "bob")
    found = decide(knock(Trigger.ON_DEMAND, force=True), state(hold=hold), SPEC, NOW)
    assert found.answer is Answer.WAIT
    assert found.reasons == ("on hold until 2024-07-02T00:00:00Z by bob: backfill of 2023",)
    assert found.look_again_at == "2024-07-02T00:00:00Z"


def test_a_hold_that_is_over_holds_nothing():
    hold = Hold(NOW, "backfill", "bob")
    assert decide(knock(Trigger.ON_DEMAND), state(hold=hold), SPEC, NOW).answer is Answer.RETRAIN


def test_without_data_it_says_where_to_drop_some():
    found = decide(knock(Trigger.ON_DEMAND), state(inputs=[]), SPEC, NOW)
    assert (found.answer, found.new_rows) == (Answer.SKIP, 0)
    assert found.reasons == ("nothing accepted yet; drop files under incoming/churn/",)


@pytest.mark.parametrize(("pending", "word"), [(False, "; pending,"), (True, "; already pending,")])
def test_during_a_run_a_knock_waits_for_its_end(pending, word):
    found = decide(knock(Trigger.ON_DEMAND), state(running="run-7", pending=pending), SPEC, NOW)
    assert found.answer is Answer.WAIT
    assert "run-7 is running" in found.reasons[0]
    assert word in found.reasons[0]


def test_the_same_inputs_are_not_trained_on_twice_unless_forced():
    same = state(last_run="run-6", last_digest="d2")
    found = decide(knock(Trigger.ON_DEMAND), same, SPEC, NOW)
    assert found.answer is Answer.SKIP
    assert "run-6 already ran on exactly these inputs" in found.reasons[0]
    assert decide(knock(Trigger.ON_DEMAND, force=True), same, SPEC, NOW).answer is Answer.RETRAIN


def test_when_the_champion_knows_every_row_there_is_nothing_to_compare_on_even_when_forced():
    found = decide(knock(Trigger.ON_DEMAND, force=True), state(new=0), SPEC, NOW)
    assert (found.answer, found.new_rows) == (Answer.SKIP, 0)
    assert "every accepted row is known to the champion" in found.reasons[0]


def test_too_few_new_rows_are_told_with_what_is_missing():
    patient = spec(min_new_rows=1000)
    found = decide(knock(Trigger.ON_DEMAND), state(new=750), patient, NOW)
    assert (found.answer, found.new_rows) == (Answer.SKIP, 750)
    assert found.reasons == ("750 new rows, 1000 are needed to prove a gain: 250 are missing",)
    assert decide(knock(Trigger.ON_DEMAND), state(new=1000), patient, NOW).answer is Answer.RETRAIN
    assert decide(knock(Trigger.ON_DEMAND, force=True), state(new=750), patient, NOW).answer is Answer.RETRAIN


def test_a_first_model_is_trained_as_soon_as_there_are_rows_enough():
    found = decide(knock(), state(champion=None, learned=frozenset()), SPEC, NOW)
    assert (found.answer, found.new_rows) == (Answer.RETRAIN, 5500)
    assert found.reasons == ("no champion yet and 5500 rows to learn from",)


@pytest.mark.parametrize("trigger", [Trigger.ON_DEMAND, Trigger.BACKFILL])
def test_a_person_who_asks_is_named_with_the_reason(trigger):
    found = decide(knock(trigger), state(), SPEC, NOW)
    assert found.answer is Answer.RETRAIN
    assert found.reasons == ("asked by ann: because I say so", "1500 new rows")


def test_drift_starts_a_retraining_and_the_first_three_columns_are_told():
    drifted = tuple(f"{c}: moved" for c in "abcd")
    found = decide(knock(drifted=drifted), state(), SPEC, NOW)
    assert found.answer is Answer.RETRAIN
    assert found.reasons == ("drift in 4 columns: a: moved; b: moved; c: moved", "1500 new rows")


def test_drift_starts_nothing_where_the_model_says_so():
    found = decide(knock(drifted=("a: moved",)), state(), spec(drift=False), NOW)
    assert found.answer is Answer.SKIP
    assert found.reasons == (
        "drift does not start a retraining of this model",
        "1500 new rows do not start one by themselves",
    )


def test_enough_new_rows_start_a_retraining():
    found = decide(knock(), state(), spec(new_rows=1500), NOW)
    assert found.answer is Answer.RETRAIN
    assert found.reasons == ("1500 new rows reach the 1500 that start a retraining", "1500 new rows")


def test_one_row_short_starts_nothing():
    found = decide(knock(), state(new=1499), spec(new_rows=1500), NOW)
    assert found.answer is Answer.SKIP
    assert found.reasons == ("no column drifted", "1499 new rows of the 1500 that start a retraining")


def test_a_quiet_batch_starts_nothing_by_itself():
    found = decide(knock(), state(), SPEC, NOW)
    assert found.reasons == ("no column drifted", "1500 new rows do not start one by themselves")
    assert (found.answer, found.look_again_at) == (Answer.SKIP, None)


def test_a_pending_knock_gets_its_turn_when_the_run_has_ended():
    found = decide(knock(Trigger.PENDING), state(pending=True), SPEC, NOW)
    assert found.answer is Answer.RETRAIN
    assert found.reasons == ("pending since 2024-07-01T11:00:00Z: because I say so", "1500 new rows")


def test_a_turn_that_nothing_waits_for_is_skipped():
    found = decide(knock(Trigger.PENDING), state(), SPEC, NOW)
    assert (found.answer, found.reasons) == (Answer.SKIP, ("nothing waits for its turn",))


@pytest.mark.parametrize("trigger", [Trigger.ALARM, Trigger.INTERVAL])
def test_an_alarm_and_an_interval_are_reason_enough_where_there_are_new_rows(trigger):
    found = decide(knock(trigger), state(), SPEC, NOW)
    assert (found.answer, found.reasons) == (Answer.RETRAIN, ("because I say so", "1500 new rows"))
    # 200 rows of a test block that is 0.4 of the new ones: 500 of them.
    assert decide(knock(trigger), state(new=499), SPEC, NOW).answer is Answer.SKIP
    assert decide(knock(trigger), state(new=0), SPEC, NOW).answer is Answer.SKIP


def test_an_alarm_and_drift_are_both_told():
    found = decide(knock(Trigger.ALARM, drifted=("x moved",)), state(), SPEC, NOW)
    assert found.reasons == ("drift in 1 columns: x moved", "because I say so", "1500 new rows")


@given(
    trigger=st.sampled_from(Trigger),
    force=st.booleans(),
    drifted=st.lists(st.text(), max_size=4).map(tuple),
    rows=st.lists(st.integers(0, 3000), max_size=4),
    learned=st.sets(st.integers(0, 3)),
    champion=st.none() | st.just("v1"),
    running=st.none() | st.just("run-7"),
    last=st.sampled_from(["d1", "d2", ""]),
    needed=st.integers(0, 3000),
    hold=st.none() | st.sampled_from([Hold("2023", "r", "b"), Hold("2025", "r", "b")]),
)
def test_it_never_retrains_during_a_run_or_a_hold_or_without_new_rows(
    trigger, force, drifted, rows, learned, champion, running, last, needed, hold
):
    inputs = [batch(str(i), n) for i, n in enumerate(rows)]
    known = frozenset(map(str, learned)) if champion else frozenset()
    now = State(inputs, "d2", champion, known, running, last_digest=last, hold=hold)
    found = decide(knock(trigger, force=force, drifted=drifted), now, spec(min_new_rows=needed), NOW)
    new = sum(n for i, n in enumerate(rows) if str(i) not in known)
    assert found.new_rows == new
    assert found.reasons
    assert all(found.reasons)
    if running or new == 0 or (hold and hold.until > NOW):
        assert found.answer is not Answer.RETRAIN
    if found.answer is Answer.RETRAIN and not force:
        assert new >= needed
        assert last != "d2"
