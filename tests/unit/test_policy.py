"""Every branch of the decision point, and that its words carry the numbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refit import costs
from refit.batches import Outcome, Upload
from refit.contract import Column, ColumnType, Contract
from refit.metrics import Task
from refit.models import Gates, ModelSpec, Training, Triggers
from refit.policy import (
    FOREVER,
    Answer,
    Hold,
    Knock,
    Scored,
    Shown,
    State,
    Tried,
    Trigger,
    decide,
    growth_due,
    refresh_may_lose,
    rows_to_prove,
    signal_due,
    sufficient,
    to_train,
)

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


def test_a_pause_without_an_end_is_told_without_the_year_9999():
    found = decide(knock(Trigger.ON_DEMAND), state(hold=Hold(FOREVER, "holidays", "bob")), SPEC, NOW)
    assert found.reasons == ("on hold until resumed, by bob: holidays",)


def test_a_hold_that_is_over_holds_nothing():
    hold = Hold(NOW, "backfill", "bob")
    assert decide(knock(Trigger.ON_DEMAND), state(hold=hold), SPEC, NOW).answer is Answer.RETRAIN


def test_without_data_it_says_where_to_drop_some():
    found = decide(knock(Trigger.ON_DEMAND), state(inputs=[]), SPEC, NOW)
    assert (found.answer, found.new_rows) == (Answer.SKIP, 0)
    assert found.reasons == ("nothing accepted yet; drop files under incoming/churn/",)


@pytest.mark.parametrize(
    ("lift", "growth", "trigger", "answer"),
    [
        (-0.1, 1.0, Trigger.DATA, Answer.SKIP),  # 1500 rows more than the 4000 in which nothing was found
        (-0.1, 0.3, Trigger.DATA, Answer.RETRAIN),
        (-0.1, 0.0, Trigger.DATA, Answer.RETRAIN),
        (None, 1.0, Trigger.DATA, Answer.RETRAIN),  # it failed: nothing is known of the rows
        (-0.1, 1.0, Trigger.ON_DEMAND, Answer.RETRAIN),
    ],
)
def test_a_run_that_made_no_champion_is_not_repeated_at_each_upload(lift, growth, trigger, answer):
    runs = [Tried("r1", False, "2024-06-01T00:00:00Z", "", 4000, lift=lift)]
    given = state(champion=None, learned=frozenset(), runs=runs)
    found = decide(knock(trigger), given, spec(growth=growth), NOW)
    assert found.answer is answer
    if answer is Answer.SKIP:
        assert found.reasons == ("1500 rows since r1, which made no champion; 4000 are waited for",)


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
    # 100 rows of a test block that is 0.4 of the new ones: 250 of them.
    assert decide(knock(trigger), state(new=249), SPEC, NOW).answer is Answer.SKIP
    assert decide(knock(trigger), state(new=0), SPEC, NOW).answer is Answer.SKIP


def test_an_alarm_and_drift_are_both_told():
    found = decide(knock(Trigger.ALARM, drifted=("x moved",)), state(), SPEC, NOW)
    assert found.reasons == ("drift in 1 column: x moved", "because I say so", "1500 new rows")


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


# ---------------------------------------------------------------- what was tried before
TIMED = replace(CONTRACT, columns=(*CONTRACT.columns, Column("t", ColumnType.TIMESTAMP)), time="t")


def tried(rows: int = 4000, promoted: bool = True, **more) -> Tried:
    given = {"run_id": "run-1", "started_at": "2024-06-28T00:00:00Z", "data_until": ""}
    return Tried(promoted=promoted, rows=rows, **{**given, **more})


def of_time(name: str, rows: int, until: str) -> Upload:
    return replace(batch(name, rows), period=("2024-01-01T00:00:00Z", until))


def test_a_cooldown_of_wall_time_waits_and_says_when_to_look_again():
    # The run started on 28 June 00:00, seven days later is 5 July.
    found = decide(knock(drifted=("a: moved",)), state(runs=[tried()]), spec(cooldown="7 days"), NOW)
    assert (found.answer, found.look_again_at) == (Answer.WAIT, "2024-07-05T00:00:00Z")
    assert found.reasons[0] == "cooldown of 7 days after run-1 until 2024-07-05T00:00:00Z"
    over = decide(
        knock(drifted=("a: moved",)), state(runs=[tried()]), spec(cooldown="7 days"), "2024-07-05T00:00:00Z"
    )
    assert over.answer is Answer.RETRAIN


def test_a_cooldown_of_the_datas_time_ends_with_newer_data_and_needs_no_clock():
    model = replace(spec(cooldown="7 days"), contract=TIMED)
    last = tried(data_until="2024-03-31T23:00:00Z")

    def with_data_until(until: str) -> State:
        return state(
            inputs=[of_time("known", 4000, last.data_until), of_time("new", 1500, until)], runs=[last]
        )

    found = decide(knock(drifted=("a: moved",)), with_data_until("2024-04-07T22:59:59Z"), model, NOW)
    assert (found.answer, found.look_again_at) == (Answer.SKIP, None)
    assert "until the data of 2024-04-07T23:00:00Z; the next upload knocks again" in found.reasons[0]
    found = decide(knock(drifted=("a: moved",)), with_data_until("2024-04-07T23:00:00Z"), model, NOW)
    assert found.answer is Answer.RETRAIN


@pytest.mark.parametrize(
    "asked",
    [
        knock(Trigger.ON_DEMAND),
        knock(Trigger.INTERVAL),
        knock(Trigger.PENDING, waited="on_demand"),
        knock(Trigger.DATA, force=True, drifted=("a: moved",)),
    ],
)
def test_people_and_intervals_do_not_wait_for_the_cooldown(asked):
    found = decide(asked, state(runs=[tried()], pending=True), spec(cooldown="7 days"), NOW)
    assert found.answer is Answer.RETRAIN


def test_a_knock_that_pended_by_itself_does_wait_for_it():
    asked = knock(Trigger.PENDING, waited="data")
    found = decide(asked, state(runs=[tried()], pending=True), spec(cooldown="7 days"), NOW)
    assert found.answer is Answer.WAIT


def test_a_budget_in_runs_is_of_the_calendar_month_and_waits_for_the_next():
    june, july = tried(), tried(run_id="run-2", started_at="2024-07-01T00:00:00Z")
    found = decide(knock(Trigger.ON_DEMAND), state(runs=[june, july]), spec(budget_runs=1), NOW)
    assert (found.answer, found.look_again_at) == (Answer.WAIT, "2024-08-01T00:00:00Z")
    assert found.reasons[0] == "1 runs in 2024-07, budget_runs allows 1 a month"
    assert decide(knock(Trigger.ON_DEMAND), state(runs=[june]), spec(budget_runs=1), NOW).answer == "retrain"
    forced = decide(knock(Trigger.ON_DEMAND, force=True), state(runs=[july]), spec(budget_runs=1), NOW)
    assert forced.answer is Answer.RETRAIN


def test_in_december_the_next_month_is_in_the_next_year():
    spent = tried(started_at="2024-12-02T00:00:00Z")
    found = decide(knock(Trigger.ON_DEMAND), state(runs=[spent]), spec(budget_runs=1), "2024-12-31T23:59:59Z")
    assert found.look_again_at == "2025-01-01T00:00:00Z"


def test_a_budget_in_money_counts_what_was_spent_and_what_the_run_would_cost():
    one = costs.of_run(5500).usd
    spent = tried(5500, started_at="2024-07-01T00:00:00Z")
    enough = decide(knock(Trigger.ON_DEMAND), state(runs=[spent]), spec(budget_usd=2.01 * one), NOW)
    assert enough.answer is Answer.RETRAIN
    found = decide(knock(Trigger.ON_DEMAND), state(runs=[spent]), spec(budget_usd=1.99 * one), NOW)
    assert (found.answer, found.look_again_at) == (Answer.WAIT, "2024-08-01T00:00:00Z")
    assert "spent in 2024-07 and this run would cost about $" in found.reasons[0]


def test_a_run_costs_the_seconds_of_its_tasks_and_its_transitions():
    # One candidate, one refit, one evaluation of a million rows: 2 * (4 + 13) + 4 + 3 = 41 s of 3 GB, 11 transitions.
    assert costs.of_run(1_000_000).seconds == pytest.approx(41)
    assert costs.of_run(1_000_000).usd == pytest.approx(41 * 3 * 0.0000166667 + 11 * 0.000025)


def test_a_run_whose_champion_moved_meanwhile_used_up_no_rows():
    """It judged nothing: what came since the run before it is as new as it was, and no sign of a quiet world."""
    judged = tried(1000)
    idle = tried(1500, promoted=False, run_id="run-2", judged=False)
    alone, with_idle = (replace(state(), runs=runs) for runs in ((judged,), (judged, idle)))
    assert with_idle.last == judged
    assert with_idle.untried == alone.untried > 0
    assert signal_due(with_idle) == signal_due(alone)


# ---------------------------------------------------------------- growth and signals
def test_as_many_rows_again_are_a_reason_and_one_fewer_is_told():
    found = decide(knock(), state(new=4000, runs=[tried(4000)]), SPEC, NOW)
    assert found.answer is Answer.RETRAIN
    assert found.reasons[0] == (
        "4000 rows since run-1, which knew 4000: from 4000 on a challenger is worth a try"
    )
    found = decide(knock(), state(new=3999, runs=[tried(4000)]), SPEC, NOW)
    assert found.reasons == ("no column drifted", "3999 new rows of the 4000 that start a retraining")
    assert decide(knock(), state(new=4000, runs=[tried(4000)]), spec(growth=0), NOW).answer is Answer.SKIP


@pytest.mark.parametrize(
    ("gains", "due"),
    [
        ([], 4000),
        ([0.02], 2000),  # a gain halves the share
        ([0.02, 0.02, 0.02, 0.02], 480),  # down to 0.12 of what was known
        ([0.001], 8000),  # below a hundredth of the lift of 0.2: nothing to learn, and the share doubles
        ([-0.1, 0.0, 0.0], 16000),  # at most four times
        ([0.001, 0.02], 4000),
    ],
)
def test_the_growth_waited_for_adapts_to_what_challengers_gained(gains, due):
    runs = [tried(), *(tried(gain=gain, lift=0.2) for gain in gains)]
    assert growth_due(state(runs=runs), SPEC) == due


def test_drift_right_after_a_run_waits_for_rows_and_longer_after_runs_that_gained_nothing():
    # Of 20,000 known rows 12 % are 2,400; uploads of 1,000 would allow it after 4,000.
    known = [replace(batch(f"k{i}", 1000)) for i in range(20)]
    learned = frozenset(upload.batch_id for upload in known)

    def after(new: int, *runs: Tried) -> State:
        return state(inputs=[*known, batch("new", new)], learned=learned, runs=runs)

    drifted = knock(drifted=("a: moved",))
    found = decide(drifted, after(2399, tried(20000)), SPEC, NOW)
    assert found.answer is Answer.SKIP
    assert found.reasons[:2] == (
        "drift in 1 column: a: moved",
        "2399 rows since run-1, 2400 are waited for",
    )
    assert decide(drifted, after(2400, tried(20000)), SPEC, NOW).answer is Answer.RETRAIN
    kept = (tried(10000), tried(20000, promoted=False))
    assert decide(drifted, after(3599, *kept), SPEC, NOW).answer is Answer.SKIP
    assert decide(drifted, after(3600, *kept), SPEC, NOW).answer is Answer.RETRAIN
    # A refresh that was promoted though it gained less than a hundredth of its lift counts as well.
    idle = (tried(10000), tried(20000, gain=0.0029, lift=0.3))
    assert decide(drifted, after(3599, *idle), SPEC, NOW).answer is Answer.SKIP
    gained = (tried(10000), tried(20000, gain=0.0031, lift=0.3))
    assert decide(drifted, after(3599, *gained), SPEC, NOW).answer is Answer.RETRAIN


def test_four_usual_uploads_are_enough_however_much_was_known():
    known = [batch(f"k{i}", 1000) for i in range(100)]
    past = state(
        inputs=[*known, *(batch(f"n{i}", 1000) for i in range(4))],
        learned=frozenset(upload.batch_id for upload in known),
        runs=[tried(100_000)],
    )
    assert signal_due(past) == 4000
    assert decide(knock(drifted=("a: moved",)), past, SPEC, NOW).answer is Answer.RETRAIN


# ---------------------------------------------------------------- quality
TESTED = Shown(0.80, 0.77, 1000)


def fell(score: float = 0.76, name: str = "bad", at: str = "2024-06-30T00:00:00Z") -> Scored:
    return Scored(name, score, 0.77, 1000, at)


def test_a_score_below_its_floor_is_remembered_by_the_next_knock_and_told_with_its_numbers():
    found = decide(knock(), state(scored=[fell()], tested=TESTED), SPEC, NOW)
    assert found.answer is Answer.RETRAIN
    assert found.reasons[0] == (
        "v1 scored 0.7600 on 1000 rows that it had not learned from, below 0.7700, it was tested at 0.8000"
    )
    assert decide(knock(), state(scored=[fell(0.78)], tested=TESTED), SPEC, NOW).answer is Answer.SKIP
    quiet = decide(knock(), state(scored=[fell()], tested=TESTED), spec(quality=False), NOW)
    assert quiet.answer is Answer.SKIP


def test_of_the_batch_that_knocks_its_own_alarm_speaks():
    own = state(scored=[fell(name="new")], tested=TESTED)
    assert decide(knock(batch_id="new"), own, SPEC, NOW).answer is Answer.SKIP
    assert decide(knock(Trigger.ALARM, batch_id="new"), own, SPEC, NOW).answer is Answer.RETRAIN


def test_what_the_last_run_knew_of_is_not_told_again():
    before = state(scored=[fell(at="2024-06-27T00:00:00Z")], tested=TESTED, runs=[tried()])
    assert decide(knock(), before, SPEC, NOW).answer is Answer.SKIP


def test_a_collapse_does_not_wait_for_rows_until_many_runs_have_kept_the_champion():
    # The signal would wait for 1,500 of 1,500-row uploads: 0.12 * 40,000 = 4,800 capped at 6,000.
    lifted = tried(40_000, lift=0.3)
    wide = Shown(0.80, 0.70, 1000)
    bad, far = (replace(fell(score), floor=0.70) for score in (0.66, 0.64))

    def after(scored: Scored, *runs: Tried) -> State:
        known = [batch(f"k{i}", 4000) for i in range(10)]
        learned = frozenset(upload.batch_id for upload in known)
        inputs = [*known, batch("new", 1500)]
        return state(inputs=inputs, learned=learned, scored=[scored], tested=wide, runs=runs)

    assert decide(knock(), after(bad, lifted), SPEC, NOW).answer is Answer.SKIP  # lost 0.14 of 0.3
    assert decide(knock(), after(far, lifted), SPEC, NOW).answer is Answer.RETRAIN  # lost 0.16
    kept = [tried(40_000, promoted=False, started_at=far.at) for _ in range(6)]
    again = replace(far, at="2024-07-01T00:00:00Z")
    assert (
        decide(knock(), replace(after(far, lifted, *kept[:5]), scored=[far, again]), SPEC, NOW).answer
        == "retrain"
    )
    assert (
        decide(knock(), replace(after(far, lifted, *kept), scored=[far, again]), SPEC, NOW).answer == "skip"
    )


def test_after_a_collapse_models_of_the_newest_rows_compete_where_nothing_else_was_declared():
    far = replace(fell(0.64), floor=0.70)
    past = state(scored=[far], tested=Shown(0.80, 0.70, 1000), runs=[tried(4000, lift=0.3)])
    decision = decide(knock(), past, SPEC, NOW)
    assert to_train(decision, SPEC).training.candidates == ("full", "recent", "transfer")
    declared = replace(SPEC, training=Training(candidates=("recent",)))
    assert to_train(decision, declared) is declared
    # 250 rows fill a test block of 100 rows and a selection block of 50; a test block alone needs no fewer here.
    assert to_train(replace(decision, new_rows=249), SPEC) is SPEC
    near = decide(knock(), replace(past, scored=[replace(far, score=0.66)]), SPEC, NOW)
    assert to_train(near, SPEC) is SPEC
    after = decide(knock(), replace(past, scored=[replace(far, score=0.66)], made_as="transfer"), SPEC, NOW)
    assert to_train(after, SPEC).training.candidates == ("full", "recent", "transfer")


def test_after_a_collapse_the_blocks_are_cut_from_the_rows_since_the_turn():
    tested, lifted = Shown(0.80, 0.70, 1000), [tried(4000, lift=0.3)]
    good, far = replace(fell(0.79), floor=0.70, rows=800), replace(fell(0.64), floor=0.70, rows=400)
    past = state(inputs=[batch("new", 2000)], learned=frozenset(), tested=tested, runs=lifted)

    def cut(*scored: Scored) -> tuple[float, float, int | None]:
        found = to_train(decide(knock(), replace(past, scored=scored), SPEC, NOW), SPEC).training
        return (round(found.test_share, 4), round(found.selection_share, 4), found.recent_rows)

    # Of 2,000 new rows 400 or 800 came since: 0.4 of those are 160 or 320 to test on, 0.2 are 80 or 160 to choose on.
    assert cut(good, far) == (0.08, 0.04, 160)
    assert cut(good, far, far) == (0.16, 0.08, 320)
    # 200 rows would give 80 to test on, and 100 are needed: 101 of them, 51 to choose on, 48 to learn from.
    assert cut(good, replace(far, rows=200)) == (0.0505, 0.0255, 48)
    # All of them: as declared.
    assert cut(*[far] * 5) == (0.4, 0.2, 800)


def test_rows_that_could_not_show_the_loss_are_told_with_the_number_missing():
    # Spread of one row: 0.1 * sqrt(1000) / 2.3263 = 1.3593. A gain of 0.04 at confidence 0.95 (1.6449) needs
    # (1.6449 * 1.3593 / 0.04)^2 = 3125 test rows, which are 0.4 of 7812.
    noisy, strict = Shown(0.80, 0.70, 1000), replace(SPEC, gates=Gates("roc_auc", confidence=0.95))
    assert rows_to_prove(0.04, noisy, strict) == pytest.approx(7812, abs=2)
    known = [batch(f"k{i}", 2000) for i in range(5)]
    learned = frozenset(upload.batch_id for upload in known)

    def with_new(*rows: int) -> State:
        inputs = [*known, *(batch(f"n{i}", n) for i, n in enumerate(rows))]
        return state(inputs=inputs, learned=learned, scored=[fell()], tested=noisy)

    found = decide(knock(), with_new(2000, 2000, 2000, 1500), strict, NOW)
    needed = rows_to_prove(0.04, noisy, strict)
    assert found.answer is Answer.SKIP
    assert found.reasons[0] == (
        f"7500 new rows, about {needed} are needed to prove a gain of 0.0400: {needed - 7500} are missing"
    )
    assert decide(knock(), with_new(2000, 2000, 2000, 1900), strict, NOW).answer is Answer.RETRAIN
    # A refresh has to prove less: that 0.04 is no loss beyond 0.06, a fifth of the lift of 0.3; so a distance of 0.1,
    # and (1.6449 * 1.3593 / 0.1)^2 = 500 test rows.
    refreshed = replace(with_new(1200), made_as="full", runs=[tried(4000, lift=0.3)])
    assert refresh_may_lose(refreshed, strict) == pytest.approx(0.06)
    told = decide(knock(), refreshed, strict, NOW).reasons[0]
    assert told == (
        "1200 new rows, about 1250 are needed to prove that a gain of 0.0400 is no loss beyond 0.0600: 50 are missing"
    )
    assert refresh_may_lose(replace(refreshed, made_as="transfer"), strict) == 0
    only_recent = replace(strict, training=Training(candidates=("recent",)))
    assert refresh_may_lose(refreshed, only_recent) == 0
    # However small the loss, four usual uploads are enough: the champion must not stay for want of proof.
    smaller = replace(with_new(2000, 2000, 2000, 2000), scored=[replace(fell(0.799), floor=0.7995)])
    assert rows_to_prove(0.001, noisy, strict) > 1_000_000
    assert decide(knock(), smaller, strict, NOW).answer is Answer.RETRAIN


def test_the_rows_of_a_first_model_must_leave_as_many_to_learn_from_as_to_test_on():
    # 100 of 0.4 are 250 rows; of 0.7 the rest, 0.3, would need 334.
    assert sufficient(SPEC, several=False) == 250
    long_test = replace(SPEC, training=Training(test_share=0.7, selection_share=0.2))
    assert sufficient(long_test, several=False) == 334


def test_with_several_candidates_the_selection_block_is_filled_too():
    several = replace(SPEC, training=Training(candidates=("full", "recent"), selection_share=0.1))
    assert sufficient(several) == 500  # half of 100 rows are 0.1 of 500
