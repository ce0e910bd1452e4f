"""What is deleted daily: nothing by default, and never what a kept version's lineage refers to."""

import json
import shutil
from dataclasses import replace

import pytest
from moto_stack import MODELS, UNREACHABLE, client, happening, sample
from rows import csv, fares, flights

from refit.aws import keys, versions
from refit.batches import Outcome
from refit.errors import ArtifactError, AwsUnavailable, BadMessage, Conflict
from refit.records import RunStatus
from refit.trial import Model
from refit_cli import view
from refit_cli.actions import Refused, rollback
from refit_cli.oracle import check

MODEL = "fares"
LATER = "2099-01-01T00:00:00Z"  # when everything is old
PREDICT = {"model": MODEL, "records": [{"distance": 1000.0, "seats_left": 7}]}
TREE = """
from sklearn.tree import DecisionTreeRegressor

def build():
    return DecisionTreeRegressor(max_depth=8)
"""
NOTHING = {"versions": 0, "objects": 0, "uploads": 0, "records": 0}


def month(number):
    """Each month other planes, and other fares: what was learned before is wrong of them."""
    frame = fares(600 if number > 1 else 300, month=number)
    return frame.assign(fare=frame["fare"] * (-1) ** number, seats_left=frame["seats_left"] + 1000 * number)


@pytest.fixture
def keep(stack, configure, tmp_path):
    """Deploys the models anew, with these [retention] of one of them or of all. fares is a tree, fitted in no time."""
    deployed = []

    def change(model="", **settings):
        folder = tmp_path / f"kept-{len(deployed)}"
        deployed.append(shutil.copytree(deployed[-1] if deployed else MODELS, folder))
        for each in [model] if model else ["fares", "flights", "species"]:
            lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
            path = folder / each / "model.toml"
            path.write_text(f"{path.read_text().partition('[retention]')[0]}\n[retention]\n{lines}")
        (folder / MODEL / "model.py").write_text(TREE)
        configure(models_dir=folder)

    return change


@pytest.fixture
def four(stack, keep):
    """v1 to v4 were promoted one after the other; a fifth run proved nothing."""
    keep(MODEL)
    for number in range(1, 5):
        promoted = stack.promoted(MODEL, f"2013-{number:02}.parquet", month(number))
        assert promoted["version"] == f"v{number}"
    stack.upload("2013-05.parquet", fares(150, month=5).assign(fare=month(4)["fare"][:150]), MODEL)
    run = stack.ask("fifth", MODEL, force=True)["run_id"]
    event = stack.walk(run, up_to="finalize", model=MODEL)
    stack.call("keep_champion", event)
    stack.call("request_retraining", stack.ended(run, "SUCCEEDED", MODEL))


def prune(stack, at=LATER):
    return stack.call("prune", sample("prune", time=at))


def spec(stack):
    return stack.app.models[MODEL]


def artifacts(stack):
    """Versions whose artifact is there, in whichever version of the object."""
    there = set(stack.versions_of(f"artifacts/{MODEL}/"))
    return {
        each.version
        for each in stack.app.registry.versions(MODEL)
        if keys.artifact(MODEL, each.artifact_sha256) in there
    }


def pruned(stack):
    return {each.version for each in stack.app.registry.versions(MODEL) if each.pruned_at}


def everything(stack):
    """All items of the table and all object versions of both buckets."""
    app = stack.app
    items = client("dynamodb").scan(TableName=app.settings.table, ConsistentRead=True)["Items"]
    objects = []
    for bucket in (app.settings.data_bucket, app.settings.store_bucket):
        found = app.s3.list_object_versions(Bucket=bucket)
        objects += [(each["Key"], each["VersionId"]) for each in found.get("Versions", [])]
        assert "DeleteMarkers" not in found  # what is only hidden takes space all the same
    return sorted(items, key=lambda item: (item["pk"]["S"], item["sk"]["S"])), sorted(objects)


# ---------------------------------------------------------------- by default
def test_by_default_nothing_goes_and_nothing_is_read(stack, four):
    stack.upload("broken.csv", b"no, table", MODEL)
    before = everything(stack)
    with stack.counted() as calls:
        assert prune(stack) == {"models": dict.fromkeys(stack.app.models, NOTHING), "shared_records": 0}
    assert not calls
    assert everything(stack) == before


def test_an_event_without_a_time_prunes_nothing(stack, keep):
    keep(versions=2)
    for time in (None, "", "tomorrow"):
        with pytest.raises(BadMessage, match="time"):
            prune(stack, time)


# ---------------------------------------------------------------- versions
def test_artifacts_of_old_versions_go_and_their_records_stay(stack, four, keep):
    names = {each.version for each in stack.app.registry.versions(MODEL)}
    keep(MODEL, versions=2)
    done = prune(stack)
    gone = {"v1", "v1-full", "v2", "v2-full"}
    assert pruned(stack) == gone
    assert artifacts(stack) == names - gone == {"v3", "v3-full", "v4", "v4-full", "v5-full"}
    assert {each.version for each in stack.app.registry.versions(MODEL)} == names
    assert {each.pruned_at for each in stack.app.registry.versions(MODEL)} == {"", LATER}
    left = {keys.reference(MODEL, name) for name in ("v3", "v4")}
    left |= {keys.predictions(MODEL, name) for name in ("v3-full", "v4-full", "v5-full")}
    left |= {keys.fingerprints(MODEL, name) for name in names - gone}
    assert sorted(stack.versions_of(f"versions/{MODEL}/")) == sorted(left)
    # of four versions the artifact and the fingerprints, of the two that were in service the reference, of those tested the predictions
    assert done["models"][MODEL] == {"versions": 4, "objects": 12, "uploads": 0, "records": 0}
    assert check(stack.app) == []


def test_kept_versions_predict_and_can_be_put_back_and_pruned_ones_are_refused_in_words(stack, four, keep):
    keep(MODEL, versions=2)
    prune(stack)
    stack.cold_start()
    assert stack.call("predict", PREDICT)["version"] == "v4"
    before = everything(stack)
    with pytest.raises(Refused) as caught:
        rollback(stack.app, spec(stack), "v1", "why")
    assert str(caught.value) == f"v1's artifact was pruned on {LATER}; versions that can be put back: v3"
    assert everything(stack) == before
    assert rollback(stack.app, spec(stack), None, "too dear").version == "v3"
    stack.cold_start()
    assert stack.call("predict", PREDICT)["version"] == "v3"
    prune(stack)
    assert artifacts(stack) >= {"v3", "v4"}
    assert check(stack.app) == []


def test_training_goes_on_after_a_prune(stack, four, keep):
    keep(MODEL, versions=2)
    prune(stack)
    assert stack.promoted(MODEL, "2013-07.parquet", month(7))["version"] == "v6"
    prune(stack)
    assert artifacts(stack) == {"v4", "v4-full", "v5-full", "v6", "v6-full"}
    assert check(stack.app) == []


def test_a_prune_that_is_repeated_changes_nothing(stack, four, keep):
    keep(MODEL, versions=2, report_days=1, quarantine_days=1, audit_days=1)
    prune(stack)
    after = everything(stack)
    assert prune(stack)["models"][MODEL] == NOTHING
    assert everything(stack) == after


def test_a_run_that_may_record_versions_puts_it_off(stack, four, keep):
    keep(MODEL, versions=2)
    stack.upload("2013-06.parquet", month(6), MODEL)
    run = stack.ask("sixth", MODEL)["run_id"]
    event = stack.walk(run, up_to="finalize", model=MODEL)
    assert prune(stack)["models"][MODEL] == NOTHING
    event["final"] = stack.call("finalize", event)
    prune(stack)
    assert pruned(stack) == {"v1", "v1-full", "v2", "v2-full"}
    stack.call("promote", event)
    assert stack.call("predict", PREDICT)["version"] == "v6"


def test_a_pruned_version_is_not_asked_what_it_makes_of_new_data(stack, four, keep):
    """v3 and v4 learned from March; v2 did not, but can be asked no more."""
    march = next(each for each in stack.app.registry.uploads(MODEL) if "-03" in each.key)
    event = stack.profile_event("check_quality", march.batch_id, MODEL)
    assert stack.call("check_quality", event)["version"] == "v2"
    keep(MODEL, versions=2)
    prune(stack)
    assert stack.call("check_quality", event)["skipped"] == "no champion that has not learned from it"


def test_what_is_pruned_says_so_when_it_is_loaded(stack, four, keep):
    from refit.aws import serving

    keep(MODEL, versions=2)
    prune(stack)
    version = stack.app.registry.recorded(MODEL, "v1")
    with pytest.raises(ArtifactError, match=f"v1's artifact was pruned on {LATER}"):
        serving.load_version(stack.app.store, version)


# ---------------------------------------------------------------- races
def once(action):
    """Something that happens before the first request only."""
    left = [action]

    def happen(**_):
        if left:
            left.pop()()

    return happen


def test_a_version_that_is_put_back_meanwhile_keeps_its_artifact(stack, four, keep):
    """Between the look and the mark."""
    keep(MODEL, versions=2)
    dynamodb = stack.app.registry.dynamodb
    back = once(lambda: rollback(stack.app, spec(stack), "v1", "why"))
    with happening(dynamodb, "TransactWriteItems", back), pytest.raises(Conflict):
        prune(stack)
    stack.cold_start()
    assert stack.call("predict", PREDICT)["version"] == "v1"
    assert check(stack.app) == []
    prune(stack)
    assert "v1" not in pruned(stack)
    assert artifacts(stack) >= {"v1", "v1-full", "v4"}
    assert check(stack.app) == []


def test_a_version_that_is_pruned_meanwhile_is_not_put_back(stack, four, keep):
    """Between the probe and the switch."""
    keep(MODEL, versions=2)
    with (
        happening(stack.app.registry.dynamodb, "TransactWriteItems", once(lambda: prune(stack))),
        pytest.raises(Refused, match=r"v1's artifact was pruned on .*; versions that can be put back: v3"),
    ):
        rollback(stack.app, spec(stack), "v1", "why")
    assert stack.app.registry.champion(MODEL).version == "v4"
    assert stack.app.registry.slot(MODEL).hold is None
    assert check(stack.app) == []


def test_an_artifact_that_a_new_version_shares_is_there_whenever_it_was_recorded(stack, four, keep):
    """Recorded while the same bytes of an old version are about to be deleted."""
    keep(MODEL, versions=2)
    registry, store = stack.app.registry, stack.app.store
    v1 = registry.version(MODEL, "v1")
    data = store.get(keys.artifact(MODEL, v1.artifact_sha256))

    class Same:
        """Stands for an estimator that comes out as the same bytes."""

        classes_ = ()

    def record(**_):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("refit.artifact.dump", lambda estimator: (data, v1.artifact_sha256))
            versions.record(
                stack.app,
                spec(stack),
                Model("", "full", Same(), (), v1.features, parent="v5-full"),
                version="v5",
                run_id=v1.run_id,
                inputs_key=v1.inputs_key,
            )

    with happening(stack.app.s3, "DeleteObject", once(record)):
        prune(stack)
    assert "v1" in pruned(stack)
    assert store.get(keys.artifact(MODEL, v1.artifact_sha256)) == data


# ---------------------------------------------------------------- failures
@pytest.mark.parametrize(
    ("operation", "after"),
    [
        ("TransactWriteItems", 0),  # nothing is marked
        ("TransactWriteItems", 2),  # some are marked, nothing is deleted
        ("DeleteObject", 0),
        ("DeleteObject", 3),  # some of the store's objects are deleted
        ("DeleteObject", 8),  # a file is gone, its reasons are not
        ("DeleteObject", 9),  # both are
        ("PutItem", 0),  # the record does not say so
        ("DeleteItem", 2),
    ],
)
def test_a_prune_that_died_is_finished_by_the_next(stack, four, keep, operation, after):
    keep(MODEL, versions=2, report_days=1, quarantine_days=1, audit_days=1)
    for name in ("broken.csv", "broken-2.csv"):
        stack.upload(name, f"no table: {name}".encode(), MODEL)
    for number in range(3):
        stack.ask(f"nothing new {number}", MODEL)
    of = stack.app.s3 if operation == "DeleteObject" else stack.app.registry.dynamodb
    requests = iter(range(99))

    def die(**_):
        if next(requests) >= after:
            raise UNREACHABLE

    with happening(of, operation, die), pytest.raises(AwsUnavailable):
        prune(stack)
    assert check(stack.app) == []
    prune(stack)
    assert pruned(stack) == {"v1", "v1-full", "v2", "v2-full"}
    assert artifacts(stack) == {"v3", "v3-full", "v4", "v4-full", "v5-full"}
    assert [each.removed for each in stack.app.registry.uploads(MODEL) if each.reasons] == [LATER] * 2
    assert stack.versions_of("quarantine/") == []
    assert len(stack.app.registry.knocks(MODEL)) == 5
    assert prune(stack)["models"][MODEL] == NOTHING
    assert check(stack.app) == []


def test_one_models_failure_does_not_stop_the_others(stack, keep):
    keep(quarantine_days=1)
    one = stack.upload("broken.csv", b"no, table", MODEL)
    other = stack.upload("broken.csv", b"no, table", "species")
    with (
        stack.outage(stack.app.s3, "DeleteObject", holding=f"incoming/{MODEL}/"),
        pytest.raises(AwsUnavailable),
    ):
        prune(stack)
    assert not stack.recorded(one.key, one.version_id, MODEL).removed
    assert stack.recorded(other.key, other.version_id, "species").removed == LATER
    prune(stack)
    assert stack.recorded(one.key, one.version_id, MODEL).removed == LATER


# ---------------------------------------------------------------- reports, files, records
def test_reports_go_but_for_the_proofs_of_promotions(stack, four, keep):
    upload = stack.app.registry.uploads(MODEL)[0]
    stack.call("check_drift", stack.profile_event("check_drift", upload.batch_id, MODEL))
    for number in (2, 5):
        told = sample("write_report", model=MODEL, run_id=f"run-0000000{number}")
        stack.call("write_report", told)
        stack.call("write_report", told)  # over the first
    keep(MODEL, report_days=30)
    assert prune(stack, "2026-01-01T00:00:00Z")["models"][MODEL] == NOTHING  # all of it is younger
    inputs = [key for key in stack.versions_of(f"runs/{MODEL}/") if "/inputs/" in key]
    prune(stack)
    assert stack.versions_of(f"drift/{MODEL}/") == []
    proofs = [keys.evaluation(MODEL, f"run-0000000{number}") for number in (1, 2, 3, 4)]
    pages = [key(MODEL, "run-00000002") for key in (keys.report, keys.report_document)] * 2
    assert sorted(stack.versions_of(f"runs/{MODEL}/")) == sorted(inputs + proofs + pages)
    assert len(stack.app.registry.drifts(MODEL)) == 1
    assert check(stack.app) == []


def test_quarantined_files_go_and_what_was_accepted_under_their_name_stays(stack, keep):
    keep("flights", quarantine_days=30)
    good = stack.upload("2013-01.parquet", flights(400))
    bad = stack.upload("2013-01.parquet", csv(flights(400).drop(columns="origin")))
    marker = stack.upload("", b"")
    assert (bad.outcome, marker.outcome) == (Outcome.QUARANTINED, Outcome.IGNORED)
    assert prune(stack, bad.decided_at)["models"]["flights"] == NOTHING
    assert prune(stack)["models"]["flights"] == NOTHING | {"uploads": 2}
    data = stack.app.settings.data_bucket
    left = stack.app.s3.list_object_versions(Bucket=data)["Versions"]
    assert [(each["Key"], each["VersionId"]) for each in left] == [(good.key, good.version_id)]
    assert stack.versions_of("quarantine/") == []
    record = stack.recorded(bad.key, bad.version_id)
    assert record == replace(bad, removed=LATER, revision=bad.revision + 1)
    assert check(stack.app) == []
    stack.call("validate", stack.arrival(bad.key, bad.version_id))  # told of once more
    assert stack.recorded(bad.key, bad.version_id) == record
    stack.tick()
    assert stack.sent() == []


def test_files_of_a_quarantined_manifest_go_and_those_of_an_accepted_one_stay(stack, keep):
    keep("flights", quarantine_days=30)
    app, bucket = stack.app, stack.app.settings.data_bucket
    good, bad = "parts/flights/good.csv", "parts/flights/bad.csv"
    app.s3.put_object(Bucket=bucket, Key=good, Body=csv(flights(400)))
    app.s3.put_object(Bucket=bucket, Key=bad, Body=csv(flights(400).drop(columns="origin")))
    accepted = stack.upload("good.json", json.dumps({"files": [good]}).encode())
    refused = stack.upload("both.json", json.dumps({"files": [good, bad]}).encode())
    assert (accepted.outcome, refused.outcome) == (Outcome.ACCEPTED, Outcome.QUARANTINED)
    assert [part.key for part in refused.parts] == [good, bad]
    assert view.retention(app, app.models["flights"], LATER)["parts"] == [bad]
    assert prune(stack)["models"]["flights"] == NOTHING | {"uploads": 1, "objects": 1}
    left = {each["Key"] for each in app.s3.list_object_versions(Bucket=bucket)["Versions"]}
    assert left == {good, accepted.key}
    assert prune(stack)["models"]["flights"] == NOTHING
    assert check(app) == []


def test_audit_records_go_but_for_those_of_promotions_and_of_the_last_run(stack, four, keep):
    registry = stack.app.registry
    upload = registry.uploads(MODEL)[0]
    stack.call("check_drift", stack.profile_event("check_drift", upload.batch_id, MODEL))
    stack.call("check_quality", stack.profile_event("check_quality", upload.batch_id, MODEL))
    assert stack.ask("nothing new", MODEL)["answer"] == "skip"
    keep(MODEL, audit_days=30)
    assert prune(stack, registry.knocks(MODEL)[0].decided_at)["models"][MODEL] == NOTHING
    prune(stack)
    assert len(registry.knocks(MODEL)) == len(registry.runs(MODEL)) == 5
    assert (registry.qualities(MODEL), registry.drifts(MODEL)) == ([], [])
    assert check(stack.app) == []


def test_a_run_without_kept_versions_goes_with_its_knock(stack, keep):
    """Two runs that failed before they trained anything; the second is the last run."""
    keep(MODEL, audit_days=30)
    stack.upload("2013-01.parquet", fares(300), MODEL)
    for number in (1, 2):
        run = stack.ask(f"r{number}", MODEL, force=True)["run_id"]
        stack.call("request_retraining", stack.ended(run, model=MODEL))
    assert [each.status for each in stack.app.registry.runs(MODEL)] == [RunStatus.FAILED] * 2
    prune(stack)
    (left,) = stack.app.registry.runs(MODEL)
    assert left.run_id == "run-00000002"
    assert [each.run_id for each in stack.app.registry.knocks(MODEL)] == [left.run_id]
    assert stack.ask("r3", MODEL, force=True)["run_id"] == "run-00000003"
    assert check(stack.app) == []


def test_refusals_and_marks_of_the_sweep_go_once_every_model_lets_them(stack, keep):
    registry = stack.app.registry
    stack.call("request_retraining", {"id": "e1", "time": "2013-01-01T00:00:00Z"})
    registry.note_swept("u1", "2013-01-01T00:00:00Z")
    keep(MODEL, audit_days=1)
    assert prune(stack)["shared_records"] == 0
    keep(audit_days=1)
    assert prune(stack, "2013-01-01T12:00:00Z")["shared_records"] == 0
    assert (len(registry.refusals()), len(registry.swept())) == (1, 1)
    assert prune(stack)["shared_records"] == 2
    assert (registry.refusals(), registry.swept()) == ([], {})


# ---------------------------------------------------------------- what people see
def test_people_see_beforehand_what_goes_and_afterwards_what_went(stack, four, keep):
    keep(MODEL, versions=2, report_days=1, quarantine_days=1, audit_days=1)
    stack.upload("broken.csv", b"no, table", MODEL)
    before = everything(stack)
    shown = view.retention(stack.app, spec(stack), LATER)
    assert everything(stack) == before
    done = prune(stack)["models"][MODEL]
    assert sorted(shown["versions"]) == ["v1", "v1-full", "v2", "v2-full"]
    assert [len(shown[name]) for name in ("versions", "objects", "uploads")] == [4, 13, 1]
    assert (done["versions"], done["objects"], done["uploads"]) == (4, 13, 1)
    assert done["records"] == len(shown["runs"]) + shown["knocks"] + shown["quality"] + shown["drift"]
    assert shown["bytes"] > 10_000
    text = view.retention_text(shown)
    assert "4 artifacts of versions: v1" in text
    assert "1 uploads not accepted: incoming/fares/broken.csv" in text
    history = view.history_text(view.history(stack.app, MODEL))
    assert f"{LATER}  pruned     v2-full: its artifact, not its record" in history
    assert f", file deleted on {LATER}" in history
    assert view.status(stack.app, MODEL)["champion"]["version"] == "v4"


def test_people_are_told_that_by_default_everything_is_kept(stack):
    text = view.retention_text(view.retention(stack.app, spec(stack), LATER))
    assert text == "fares: everything is kept; see [retention] in docs/models.md"


# ---------------------------------------------------------------- the oracle
def test_the_oracle_sees_what_a_kept_version_lacks(stack):
    stack.promoted(MODEL, "2013-01.parquet", month(1))
    stack.promoted(MODEL, "2013-02.parquet", month(2))
    assert check(stack.app) == []
    v1 = stack.app.registry.version(MODEL, "v1")
    (batch,) = {each.batch_id for each in stack.app.registry.uploads(MODEL) if "-01" in each.key}
    for key in (
        keys.artifact(MODEL, v1.artifact_sha256),
        keys.reference(MODEL, "v1"),
        keys.fingerprints(MODEL, "v1"),
        keys.profile(MODEL, batch),
    ):
        (was,) = stack.app.store.versions_under(key)
        body = stack.app.store.get(key)
        stack.app.store.delete([was])
        assert 13 in {breach.promise for breach in check(stack.app)}, key
        stack.app.store.put_once(key, body)
    assert check(stack.app) == []
    for row in ("VERSION#v1-full", "RUN#00000001"):
        key = {"pk": {"S": f"MODEL#{MODEL}"}, "sk": {"S": row}}
        item = client("dynamodb").delete_item(
            TableName=stack.app.settings.table, Key=key, ReturnValues="ALL_OLD"
        )["Attributes"]
        assert 13 in {breach.promise for breach in check(stack.app)}, row
        client("dynamodb").put_item(TableName=stack.app.settings.table, Item=item)
    assert check(stack.app) == []
