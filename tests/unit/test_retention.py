"""What may go, and above all what may not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refit.batches import Code, Outcome, Reason, Upload, UploadPart
from refit.models import Retention
from refit.records import Answered, Change, Generation, Quality, Run, RunStatus, Slot, Version
from refit.retention import Plan, Remembered, kept, plan, shared_before

NOW = "2024-07-01T12:00:00Z"
OLD, NEW = "2024-05-01T00:00:00Z", "2024-06-30T00:00:00Z"
MONTH = Retention(audit_days=30, quarantine_days=30, report_days=30)


def run(number, status=RunStatus.KEPT, at=OLD):
    ended = "" if status is RunStatus.RUNNING else at
    return Run(f"run-{number:08d}", "m", status, "d", "data", (), "ann", at, ended_at=ended)


def version(name, number=0, parent="", sha="", pruned=""):
    run_id = f"run-{number:08d}" if number else ""
    return Version(
        name, "m", sha or f"sha-{name}", 1, "binary", (), (), "full", run_id, parent, pruned_at=pruned
    )


def made(number, tested_only=False):
    """The versions of a run: what was tested, and what was made of it."""
    tested = version(f"v{number}-full", number)
    return [tested] if tested_only else [tested, version(f"v{number}", number, parent=tested.version)]


def served(*names):
    return [
        Generation("m", i + 1, name, names[i - 1] if i else "", Change.PROMOTION, "p", "r", OLD)
        for i, name in enumerate(names)
    ]


def knock(name, at=OLD, run_id=""):
    return Answered(name, "m", "data", "r", "ann", at, "retrain" if run_id else "skip", (), at, run_id=run_id)


def upload(name, outcome=Outcome.QUARANTINED, at=OLD, **more):
    return Upload(name, "m", f"incoming/m/{name}", "x", outcome, decided_at=at, announced=True, **more)


def known(**more):
    return Remembered(**{"slot": Slot(), **more})


def promotions(count):
    """So many runs, each promoted."""
    return known(
        versions=[each for number in range(1, count + 1) for each in made(number)],
        runs=[run(number, RunStatus.PROMOTED) for number in range(1, count + 1)],
        generations=served(*(f"v{number}" for number in range(1, count + 1))),
    )


def names(versions):
    return sorted(each.version for each in versions)


# ---------------------------------------------------------------- versions
def test_by_default_everything_is_kept():
    everything = replace(
        promotions(5),
        knocks=[knock("k")],
        uploads=[upload("u")],
        qualities=[Quality("m", "b", "v", "f1", 1.0, 9, OLD)],
    )
    found = plan(everything, Retention(), NOW)
    assert found == Plan(generation=5, evaluations_kept=found.evaluations_kept)
    assert found.evaluations_kept == {each.run_id for each in everything.runs}


def test_the_newest_versions_that_served_and_of_the_newest_runs_are_kept_with_their_parents():
    four = promotions(4)
    lost = [run(5), run(6)]
    state = replace(four, versions=[*four.versions, *made(5, True), *made(6, True)], runs=[*four.runs, *lost])
    found = plan(state, Retention(versions=2), NOW)
    assert names(found.versions) == ["v1", "v1-full", "v2", "v2-full"]
    assert found.artifacts == {"sha-v1", "sha-v1-full", "sha-v2", "sha-v2-full"}
    assert found.references == {"v1", "v1-full", "v2", "v2-full"}
    assert found.generation == 4


def test_going_back_and_forth_counts_each_version_once():
    three = promotions(3)
    state = replace(three, generations=served("v1", "v2", "v3", "v2", "v3", "v2"), runs=three.runs)
    lost = [run(4), run(5)]
    state = replace(state, runs=[*three.runs, *lost])
    assert kept(state, 2) == {"v2", "v2-full", "v3", "v3-full"}


def test_the_champion_is_kept_however_old_and_what_it_took_over_from():
    one = promotions(2)
    state = replace(
        one, generations=served("v1", "v2", "v1"), runs=[*one.runs, *(run(n) for n in range(3, 9))]
    )
    assert plan(state, Retention(versions=2), NOW).versions == ()


def test_an_imported_version_is_kept_while_it_serves_or_lately_did():
    three = promotions(3)
    imported = version("import-1")
    for generations, gone in (
        (["import-1"], False),
        (["import-1", "v3"], False),
        (["import-1", "v2", "v3"], True),
    ):
        state = replace(three, versions=[*three.versions, imported], generations=served(*generations))
        assert ("import-1" in names(plan(state, Retention(versions=2), NOW).versions)) == gone


def test_an_artifact_goes_only_when_no_kept_version_has_the_same():
    four = promotions(4)
    versions = [
        replace(each, artifact_sha256="same") if each.version in ("v1", "v4") else each
        for each in four.versions
    ]
    found = plan(replace(four, versions=versions), Retention(versions=2), NOW)
    assert "v1" in names(found.versions)
    assert found.artifacts == {"sha-v1-full", "sha-v2", "sha-v2-full"}


def test_what_was_marked_before_is_not_marked_again_but_what_it_left_goes():
    """The one who marked it may have died before it deleted anything."""
    four = promotions(4)
    versions = [replace(each, pruned_at=OLD) if each.version == "v1" else each for each in four.versions]
    found = plan(replace(four, versions=versions), Retention(versions=2), NOW)
    assert names(found.versions) == ["v1-full", "v2", "v2-full"]
    assert "sha-v1" in found.artifacts
    assert "v1" in found.references


def test_before_the_first_champion_no_version_goes():
    state = known(
        versions=[each for n in range(1, 5) for each in made(n, True)], runs=[run(n) for n in range(1, 5)]
    )
    found = plan(state, Retention(versions=2), NOW)
    assert (found.versions, found.artifacts, found.references) == ((), frozenset(), frozenset())


def test_while_a_run_may_record_versions_none_goes():
    """It may be about to record one with an artifact that another leaves behind."""
    four = promotions(4)
    state = replace(
        four,
        slot=Slot(running="run-00000005"),
        runs=[*four.runs, run(5, RunStatus.RUNNING)],
        versions=[*four.versions, *made(5, True)],
    )
    found = plan(state, Retention(versions=2), NOW)
    assert (found.versions, found.artifacts, found.references) == ((), frozenset(), frozenset())


def test_a_run_that_only_waits_to_promote_what_it_made_keeps_its_own_versions_and_no_others():
    four = promotions(4)
    state = replace(
        four,
        slot=Slot(running="run-00000005"),
        runs=[*four.runs, run(5, RunStatus.RUNNING), *(run(n) for n in (6, 7))],
        versions=[*four.versions, *made(5)],
    )
    assert names(plan(state, Retention(versions=2), NOW).versions) == ["v1", "v1-full", "v2", "v2-full"]


# ---------------------------------------------------------------- audit records
def test_old_knocks_go_but_for_those_of_runs_and_the_one_that_waits():
    state = known(
        slot=Slot(pending={"knock_id": "waits"}, last_run="run-00000001"),
        runs=[run(1)],
        knocks=[knock("old"), knock("new", NEW), knock("waits"), knock("started", run_id="run-00000001")],
    )
    assert [each.knock_id for each in plan(state, MONTH, NOW).knocks] == ["old"]
    assert plan(state, MONTH, NOW).runs == ()


def test_a_run_that_proved_nothing_goes_with_its_knock_when_nothing_kept_names_it():
    running, promoted = run(1, RunStatus.RUNNING), run(2, RunStatus.PROMOTED)
    failed, recent, last, named, pruned = run(3, RunStatus.FAILED), run(4, at=NEW), run(5), run(6), run(7)
    runs = [running, promoted, failed, recent, last, named, pruned]
    state = known(
        slot=Slot(running=running.run_id, last_run=last.run_id),
        runs=runs,
        versions=[version("v6-full", 6), version("v7-full", 7, pruned=OLD)],
        knocks=[knock(f"k-{each.run_id}", run_id=each.run_id) for each in runs],
    )
    found = plan(state, MONTH, NOW)
    assert found.runs == ((failed, (f"k-{failed.run_id}",)), (pruned, (f"k-{pruned.run_id}",)))
    assert found.knocks == ()


def test_a_run_whose_versions_are_marked_only_now_waits_for_the_next_time():
    """Should the mark fail because the champion moves, the version and its run stay."""
    four = promotions(4)
    lost = [run(5), run(6), run(7)]
    versions = [*four.versions, *(made(n, True)[0] for n in (5, 6, 7))]
    state = replace(four, runs=[*four.runs, *lost], versions=versions, slot=Slot(last_run="run-00000007"))
    settings = Retention(versions=2, audit_days=30)
    found = plan(state, settings, NOW)
    assert "v5-full" in names(found.versions)
    assert found.runs == ()
    marked = [replace(each, pruned_at=NOW) if each in found.versions else each for each in versions]
    assert [each.run_id for each, _ in plan(replace(state, versions=marked), settings, NOW).runs] == [
        "run-00000005"
    ]


def test_old_scores_and_drift_records_go():
    """A drift record is as old as the newest upload of its batch."""
    state = known(
        qualities=[Quality("m", "b1", "v1", "f1", 0.9, 9, OLD), Quality("m", "b2", "v1", "f1", 0.9, 9, NEW)],
        drifts=[{"batch_id": batch, "version": "v1"} for batch in ("b1", "b2", "b3", "unknown")],
        uploads=[
            upload("1", Outcome.ACCEPTED, batch_id="b1"),
            upload("2", Outcome.ACCEPTED, batch_id="b2"),
            upload("2b", Outcome.ACCEPTED, NEW, batch_id="b2"),
            upload("3", Outcome.ACCEPTED, NEW, batch_id="b3"),
        ],
    )
    found = plan(state, MONTH, NOW)
    assert [each.batch_id for each in found.qualities] == ["b1"]
    assert found.drifts == (("b1", "v1"),)


def test_records_of_no_model_are_kept_as_long_as_the_model_that_keeps_longest():
    assert shared_before([Retention(audit_days=30), Retention(audit_days=60)], NOW) == "2024-05-02T12:00:00Z"
    assert shared_before([Retention(audit_days=30), Retention()], NOW) == ""
    assert shared_before([], NOW) == ""


# ---------------------------------------------------------------- reports and uploads
def test_reports_go_by_age_but_for_the_proofs_of_promotions_and_of_runs_that_ended_lately():
    runs = [
        run(1, RunStatus.PROMOTED),
        run(2),
        run(3, at=NEW),
        run(4, RunStatus.RUNNING),
        run(5, RunStatus.FAILED),
    ]
    found = plan(known(runs=runs), MONTH, NOW)
    assert found.reports_before == "2024-06-01T12:00:00Z"
    assert found.evaluations_kept == {runs[0].run_id, runs[2].run_id, runs[3].run_id}


def test_files_that_were_turned_away_go_and_no_others():
    gone = [upload("q"), upload("i", Outcome.IGNORED)]
    unknown = (Reason(Code.UNKNOWN_MODEL, "no model 'm'"),)
    stay = [
        upload("a", Outcome.ACCEPTED),
        upload("p", Outcome.PARKED),
        upload("new", at=NEW),
        replace(upload("untold"), announced=False),
        upload("removed", removed=OLD),
        replace(upload("unversioned"), version_id=""),
        upload("deployed since", Outcome.IGNORED, reasons=unknown),
    ]
    assert plan(known(uploads=[*gone, *stay]), MONTH, NOW).uploads == tuple(gone)


def test_files_of_a_manifest_go_with_it_unless_one_that_stays_was_read_with_them():
    a, b, c, d = (UploadPart(f"parts/m/{name}", "x", name * 64, 1) for name in "abcd")
    newer = replace(b, version_id="y")
    uploads = [
        replace(upload("q"), parts=(a, b, c, d)),
        replace(upload("q again"), parts=(a, replace(d, version_id=""))),
        replace(upload("good", Outcome.ACCEPTED), parts=(newer, c)),
        replace(upload("lately", at=NEW), parts=(d,)),
        replace(upload("gone before", removed=OLD), parts=(b,)),
    ]
    found = plan(known(uploads=uploads), MONTH, NOW)
    assert [each.key for each in found.uploads] == ["incoming/m/q", "incoming/m/q again"]
    assert found.parts == (a, b)
    assert plan(known(uploads=uploads), Retention(audit_days=30), NOW).parts == ()


# ---------------------------------------------------------------- nothing that is kept loses what it was made of
@st.composite
def histories(draw):
    """Runs that were promoted, kept, failed or run, with rollbacks, equal artifacts and earlier prunes."""
    imported = draw(st.booleans())
    versions = [version("import-1", sha=draw(st.sampled_from("xy")))] if imported else []
    served_names = ["import-1"] if imported else []
    runs, knocks = [], []
    count = draw(st.integers(0, 7))
    for number in range(1, count + 1):
        statuses = [RunStatus.PROMOTED, RunStatus.KEPT, RunStatus.FAILED]
        status = draw(st.sampled_from([*statuses, RunStatus.RUNNING] if number == count else statuses))
        runs.append(run(number, status, draw(st.sampled_from([OLD, NEW]))))
        knocks.append(knock(f"k{number}", runs[-1].started_at, runs[-1].run_id))
        finished = status is RunStatus.PROMOTED or (status is not RunStatus.KEPT and draw(st.booleans()))
        for each in made(number, not finished) if finished or draw(st.booleans()) else []:
            versions.append(replace(each, artifact_sha256=draw(st.sampled_from("uvwxyz"))))
        if status is RunStatus.PROMOTED:
            served_names.append(f"v{number}")
        if len(served_names) > 1 and draw(st.booleans()):
            back = draw(st.sampled_from(served_names))
            served_names += [back] if back != served_names[-1] else []
    running = next((each.run_id for each in runs if each.status is RunStatus.RUNNING), "")
    last = next((each.run_id for each in reversed(runs) if each.run_id != running), "")
    return known(
        slot=Slot(running=running, last_run=last),
        versions=versions,
        runs=runs,
        knocks=[*knocks, knock("nothing")],
        generations=served(*served_names),
    )


def applied(state, found):
    """What is on record once a plan was carried out."""
    runs = {each.run_id for each, _ in found.runs}
    gone = {name for _, names in found.runs for name in names} | {each.knock_id for each in found.knocks}
    return replace(
        state,
        versions=[
            replace(each, pruned_at=NOW) if each in found.versions else each for each in state.versions
        ],
        runs=[each for each in state.runs if each.run_id not in runs],
        knocks=[each for each in state.knocks if each.knock_id not in gone],
    )


@given(histories(), st.sampled_from([0, 2, 3, 4]), st.sampled_from([0, 30]), st.sampled_from([0, 30]))
def test_nothing_that_a_kept_version_was_made_of_may_go(state, newest, audit, reports):
    settings = Retention(newest, audit, 0, reports)
    artifacts, evaluations = (
        {each.artifact_sha256 for each in state.versions},
        {each.run_id for each in state.runs},
    )
    for _ in range(3):
        found = plan(state, settings, NOW)
        state = applied(state, found)
        artifacts -= found.artifacts
        evaluations &= found.evaluations_kept
        alive = {each.version: each for each in state.versions if not each.pruned_at}
        runs = {each.run_id for each in state.runs}
        for each in alive.values():
            assert each.artifact_sha256 in artifacts
            assert each.version not in found.references
            assert not each.run_id or each.run_id in runs
            assert not each.parent or each.parent in alive
        # All that ever served, and the run that runs, are on record with their proof.
        for change in state.generations:
            made_by = next(each.run_id for each in state.versions if each.version == change.version)
            assert not made_by or made_by in runs & evaluations
        assert state.slot.running in runs | {""}
        assert state.slot.last_run in runs | {""}
        if state.generations:
            newest_two = list(dict.fromkeys(each.version for each in reversed(state.generations)))[
                : max(newest, 2)
            ]
            assert set(newest_two) <= alive.keys()
        started = [each.run_id for each in state.knocks if each.run_id]
        assert sorted(started) == sorted(runs)


@given(histories(), st.sampled_from([2, 3]))
def test_a_plan_that_was_carried_out_leaves_no_version_to_mark(state, newest):
    settings = Retention(versions=newest)
    after = applied(state, plan(state, settings, NOW))
    assert plan(after, settings, NOW).versions == ()


@pytest.mark.parametrize("days", ["audit_days", "quarantine_days", "report_days"])
def test_each_setting_is_about_its_own(days):
    state = known(
        runs=[run(1), run(2)],
        slot=Slot(last_run="run-00000002"),
        knocks=[knock("k"), knock("s", run_id="run-00000001")],
        uploads=[upload("u")],
    )
    found = plan(state, Retention(**{days: 30}), NOW)
    assert bool(found.knocks and found.runs) == (days == "audit_days")
    assert bool(found.uploads) == (days == "quarantine_days")
    assert bool(found.reports_before) == (days == "report_days")
    assert found.versions == ()
