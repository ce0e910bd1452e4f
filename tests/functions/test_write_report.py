"""WriteReport, and `refit report`, which fetches what it wrote."""

import json
import re
import shutil
import signal

import boto3
import pytest
from moto_stack import MODELS, sample
from rows import flights

from refit.aws import keys
from refit.errors import AwsUnavailable, BadMessage
from refit.learning import LEAST_ROWS
from refit_cli.main import main
from refit_cli.oracle import check

RUN_1, RUN_2 = "run-00000001", "run-00000002"


TREE = """
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

def build():
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, ["carrier", "origin"]), remainder="passthrough")
    return make_pipeline(columns, DecisionTreeClassifier(max_depth=3))
"""


@pytest.fixture(autouse=True)
def quick(configure, tmp_path):
    """What is fitted matters little here: a small tree."""
    folder = shutil.copytree(MODELS, tmp_path / "models")
    (folder / "flights/model.py").write_text(TREE)
    declared = folder / "flights/model.toml"
    declared.write_text(declared.read_text().replace('"roc_auc"', '"accuracy"'))
    configure(models_dir=folder)


@pytest.fixture
def promoted(stack):
    """A second champion of flights: the weather turned, and with it what makes a flight late."""
    stack.promoted("flights", "2013-01.parquet", flights(400))
    turned = flights(800, month=2, flipped=True).assign(temperature=90.0)
    batch = stack.upload("2013-02.parquet", turned).batch_id
    for function in ("check_drift", "check_quality"):
        stack.call(function, stack.profile_event(function, batch))
    stack.walk(stack.ask("r2")["run_id"])
    return batch


def written(stack, run_id=RUN_2, **event):
    """Write the report of a run; its document and its page."""
    run = stack.app.registry.run("flights", run_id)
    told = sample("write_report", model="flights", run_id=run_id, inputs_key=run.inputs_key, final={})
    answer = stack.call("write_report", told | event)
    assert answer == {"report_key": keys.report("flights", run_id)}
    document = stack.app.store.get_json(keys.report_document("flights", run_id))
    return document, stack.app.store.get(answer["report_key"]).decode()


def test_a_document_gathers_what_is_recorded_of_a_run(stack, promoted):
    document, page = written(stack)
    registry = stack.app.registry
    evaluation = stack.app.store.get_json(keys.evaluation("flights", RUN_2))
    assert document["evaluation"] == evaluation
    assert document["run"]["result"] == registry.run("flights", RUN_2).result
    assert document["state"] == "promoted"
    names = {role: version["version"] for role, version in document["versions"].items()}
    assert names == {"promoted": "v2", "tested": "v2-recent", "champion": "v1"}
    first, second = document["inputs"]["batches"]
    assert (first["seen"], second["seen"], second["rows"]) == (True, False, 800)
    assert second["key"] == "incoming/flights/2013-02.parquet"
    assert document["inputs"]["period"][0].startswith("2013-01-01")
    (drift,) = document["drift"]
    assert drift["batch_id"] == promoted
    assert "temperature" in drift["drifted"]
    assert drift["columns"][0]["kind"] == "prediction"
    columns = {each["column"]: each for each in document["distributions"]["columns"]}
    assert next(iter(columns)) == "temperature"
    assert columns["late"]["names"] == ["false", "true"]
    assert [each["batch_id"] for each in document["quality"]] == [promoted]
    assert document["quality"][0]["score"] < document["quality"][0]["floor"]
    for shown in (
        "Promoted",
        f"{evaluation['challenger_score']:.4f}",
        "temperature: drifted",
        "2013-02.parquet",
    ):
        assert shown in page


def test_a_report_may_be_written_again_and_leaves_all_else_as_it_is(stack, promoted, logs):
    before = (stack.app.registry.runs("flights"), stack.app.registry.generations("flights"))
    stack.heard()
    with stack.outage(stack.app.s3, "PutObject", holding="report"), pytest.raises(AwsUnavailable):
        written(stack)
    assert written(stack) == written(stack)
    assert (stack.app.registry.runs("flights"), stack.app.registry.generations("flights")) == before
    assert stack.heard() == []
    assert check(stack.app) == []
    assert '"message":"report written"' in logs.getvalue()
    assert not re.search(r"JFK|\bAA\b|\d{3}\.\d", logs.getvalue())  # values are for the page


def test_the_learning_curve_is_measured_with_the_evaluation_and_chooses_nothing(stack):
    stack.upload("first.parquet", flights(800))
    event = stack.walk(stack.ask()["run_id"], up_to="finalize")
    document = stack.app.store.get_json(event["evaluation"]["evaluation_key"])
    points = document["learning_curve"]["points"]
    trained = {"full": document["rows"]["train"], "recent": 300}[document["chosen"]]
    parts = [part for part in (trained // 4, trained // 2) if part >= LEAST_ROWS]
    assert [point["rows"] for point in points] == [*parts, trained]
    assert points[-1]["score"] == document["challenger_score"]
    assert stack.app.registry.version("flights", "v1") is None  # only what Train recorded


def test_a_run_that_failed_before_its_test_has_a_page(stack):
    stack.upload("small.parquet", flights(60))
    run_id = stack.ask(force=True)["run_id"]
    stack.call("record_failure", sample("record_failure", model="flights", run_id=run_id))
    document, page = written(stack, run_id)
    assert (document["state"], document["evaluation"]) == ("failed", None)
    assert "NotEnoughData" in page and "Nothing was tested" in page


def test_a_candidate_that_failed_is_named_with_its_reason(stack):
    stack.promoted("flights", "2013-01.parquet", flights(400))
    stack.upload("2013-02.parquet", flights(800, month=2, flipped=True))
    event = stack.walk(stack.ask("r2")["run_id"], up_to="evaluate")
    cause = json.dumps({"errorMessage": "SVC.fit failed: <b>"})
    event["trained"][0] = {"candidate": "full", "error": {"Error": "TrainingError", "Cause": cause}}
    stack.call("evaluate", event)
    document, page = written(stack)
    assert document["evaluation"]["trained"][0]["error"] == "TrainingError: SVC.fit failed: <b>"
    assert "SVC.fit failed: &lt;b&gt;" in page


def test_who_is_about_to_be_asked_is_shown_that_nothing_is_promoted_yet(stack):
    stack.upload("2013-01.parquet", flights(400))
    event = stack.walk(stack.ask()["run_id"], up_to="promote")
    document, page = written(stack, RUN_1, final={**event["final"], "approval_seconds": 60})
    assert document["state"] == "waiting"
    assert "Waits for approval" in page and "refit reject flights v1" in page


def test_what_was_deleted_is_left_out(stack, promoted):
    def lose(key):
        stack.app.s3.delete_object(Bucket=stack.app.settings.store_bucket, Key=key)
        return written(stack)

    document, page = lose(keys.evaluation("flights", RUN_2))
    assert document["evaluation"] is None and document["distributions"]
    assert "Nothing was tested" in page and "Promoted" in page
    document, page = lose(keys.reference("flights", "v1"))
    assert document["distributions"] is None and document["drift"]
    document, page = lose(keys.drift("flights", promoted, "v1"))
    assert document["drift"] == []
    assert "Nothing was compared" in page


def test_a_run_that_there_is_not_is_refused(stack):
    with pytest.raises(BadMessage, match="flights has no run 'run-00000002'"):
        stack.call("write_report", sample("write_report"))


# ---------------------------------------------------------------- refit report
@pytest.fixture
def refit(stack, capsys, monkeypatch, tmp_path):
    """Runs the command on this stack, in an empty folder; exit code and what it printed."""
    monkeypatch.setattr("refit_cli.deployment.Deployment.find", lambda models: stack)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments):
        code = main([*arguments, "--models", str(MODELS)])
        said = capsys.readouterr()
        return code, (said.out + said.err).strip()

    yield run
    boto3.setup_default_session()
    signal.signal(signal.SIGTERM, before)


def test_a_page_is_fetched_to_a_file_and_its_document_printed(stack, promoted, refit, tmp_path):
    document, page = written(stack)
    code, said = refit("report", "flights", "--json")
    assert (code, json.loads(said)) == (0, document)
    assert list(tmp_path.glob("*.html")) == []
    assert refit("report", "flights") == (0, f"{RUN_2} of flights: flights-{RUN_2}.html")
    assert (tmp_path / f"flights-{RUN_2}.html").read_text() == page
    code, said = refit("report", "flights", RUN_1, "--out", "first.html")
    assert (code, said) == (0, f"{RUN_1} of flights: first.html (made here: none was stored)")
    assert "Promoted" in (tmp_path / "first.html").read_text()
    code, said = refit("report", "flights", "--out", "nowhere/x.html")
    assert code == 1
    assert said == "refit report: nowhere/x.html: No such file or directory; name another file with --out"


def test_what_cannot_be_shown_is_said_with_a_way_out(stack, refit):
    assert refit("report", "flights") == (
        1,
        'refit report: flights has not run yet; ask with: refit retrain flights --reason "..."',
    )
    stack.upload("2013-01.parquet", flights(400))
    stack.ask()
    code, said = refit("report", "flights")
    assert code == 1 and f"{RUN_1} of flights still runs" in said
    code, said = refit("report", "flights", "run-9")
    assert code == 1 and f"no run 'run-9'; the newest is {RUN_1}" in said
