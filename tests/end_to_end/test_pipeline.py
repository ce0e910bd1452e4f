"""The real template, functions and state machine on the embedded stack, driven as people drive it: by the
command `refit` and by objects put into the bucket. The oracle looks after every test."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from refit.records import RunStatus
from refit_cli import actions, oracle
from refit_cli.deployment import Deployment
from refit_cli.local import LocalStack, local_stack

MODELS = Path(__file__).parent / "models"
REFIT = Path(sys.executable).with_name("refit")


def loans(month: int, *, effect: float = 1.0, rows: int = 1000) -> pd.DataFrame:
    """A month of loans; `effect` -1 turns around what makes people repay."""
    rng = np.random.default_rng(month)
    amount, income = rng.lognormal(9, 1, rows), rng.lognormal(10, 0.5, rows)
    log_odds = effect * 2 * (np.log(income / amount) - 1)
    repaid = rng.random(rows) < 1 / (1 + np.exp(-log_odds))
    start = pd.Timestamp("2024-01-01", tz="UTC") + pd.DateOffset(months=month)
    return pd.DataFrame(
        {
            "loan": [f"{month}-{i}" for i in range(rows)],
            "granted": start + pd.to_timedelta(np.arange(rows), unit="min"),
            "repaid": np.where(repaid, "yes", "no"),
            "amount": amount * (3 if effect < 0 else 1),
            "income": income,
            "purpose": rng.choice(["car", "home", "study"], rows),
        }
    )


def rents(seed: int, rows: int = 1000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    area = rng.uniform(20, 120, rows)
    return pd.DataFrame(
        {
            "rent": 200 + 12 * area + rng.normal(0, 50, rows),
            "area": area,
            "district": rng.choice(["A", "B"], rows),
        }
    )


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    logs = tmp_path_factory.mktemp("logs")
    with local_stack(models=MODELS, log_dir=logs, parameters={"SweepAfterMinutes": "0"}) as stack:
        before = dict(os.environ)
        os.environ.pop("AWS_PROFILE", None)
        os.environ.update(stack.env)
        yield stack
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def deployment(stack: LocalStack) -> Iterator[Deployment]:
    deployment = Deployment.find(MODELS)
    yield deployment
    assert oracle.lasting(deployment.app) == []


def drop(deployment: Deployment, model: str, name: str, content: bytes) -> Any:
    """PutObject, and the outcome."""
    app, key = deployment.app, f"incoming/{model}/{name}"
    put = app.s3.put_object(Bucket=app.settings.data_bucket, Key=key, Body=content)
    return actions.wait_for_upload(app, model, key, put["VersionId"])


def decision(deployment: Deployment, model: str, batch_id: str) -> Any:
    def look() -> Any:
        return next((k for k in deployment.app.registry.knocks(model) if k.batch_id == batch_id), None)

    return actions.wait_for(look, 60, "no decision")


def invoke(stack: LocalStack, function: str, event: bytes = b"{}") -> Any:
    """Invoke a function of the template by its logical name."""
    functions = stack.client("lambda")
    names = [each["FunctionName"] for each in functions.list_functions()["Functions"]]
    name = next(name for name in names if function in name)
    return json.loads(functions.invoke(FunctionName=name, Payload=event)["Payload"].read())


def refit(*arguments: str, code: int = 0) -> str:
    """Run the command in the folder and environment of a stranger; returns what it printed."""
    done = subprocess.run(
        [str(REFIT), *arguments, "--models", str(MODELS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr or done.stdout
    return done.stdout if code == 0 else done.stderr


def test_from_upload_to_a_champion_that_is_replaced_when_the_world_turns(deployment: Deployment) -> None:
    """The first upload makes a champion; an ordinary month changes nothing; a turned world does; predict serves it."""
    first = drop(deployment, "loans", "2024-01.parquet", parquet(loans(0)))
    answered = decision(deployment, "loans", first.batch_id)
    assert answered.answer == "retrain"
    run, _ = actions.wait_for_run(deployment.app, "loans", answered.run_id, 120)
    assert run.status is RunStatus.PROMOTED, run.result

    same = drop(deployment, "loans", "2024-02.csv", loans(1).to_csv(index=False).encode())
    quiet = decision(deployment, "loans", same.batch_id)
    assert (quiet.answer, quiet.run_id) == ("skip", "")
    assert "no column drifted" in quiet.reasons[0]

    turned = drop(deployment, "loans", "2024-03.parquet", parquet(loans(2, effect=-1, rows=4000)))
    answered = decision(deployment, "loans", turned.batch_id)
    assert answered.answer == "retrain" and "amount" in answered.reasons[0]
    run, _ = actions.wait_for_run(deployment.app, "loans", answered.run_id, 120)
    assert run.status is RunStatus.PROMOTED, run.result
    champion = deployment.app.registry.champion("loans")
    assert champion is not None and (champion.generation, champion.previous) == (2, "v1")

    record = {"amount": 1000.0, "income": 90000.0, "purpose": "car"}
    answer = deployment.predict("loans", [record, {}])
    assert answer["version"] == champion.version
    assert answer["predictions"][0] in ("no", "yes") and len(answer["predictions"]) == 2

    quality = {q.batch_id: q for q in deployment.app.registry.qualities("loans")}
    assert quality[same.batch_id].version == quality[turned.batch_id].version == "v1"
    assert quality[turned.batch_id].score < quality[same.batch_id].score


def test_what_is_wrong_with_a_file_is_said_and_its_corrected_copy_is_taken(deployment: Deployment) -> None:
    broken = loans(3).rename(columns={"income": "incme"})
    broken.loc[:9, "amount"] = -1.0
    upload = drop(deployment, "loans", "2024-04.parquet", parquet(broken))
    assert upload.outcome == "quarantined"
    assert [reason.code for reason in upload.reasons] == [
        "missing_column",
        "unexpected_column",
        "out_of_range",
    ]
    assert drop(deployment, "loans", "2024-04.parquet", parquet(loans(3))).outcome == "accepted"

    assert (
        drop(deployment, "loans", "nonsense.parquet", b"PAR1 but not really").reasons[0].code == "unreadable"
    )
    ignored = drop(deployment, "lones", "x.csv", b"a,b\n1,2\n")
    assert ignored.outcome == "ignored" and "loans, rents" in ignored.reasons[0].message
    assert "'loans'" in ignored.reasons[0].message


def test_a_backfill_retrains_once_and_an_import_can_come_first(
    deployment: Deployment, tmp_path: Path
) -> None:
    """An imported champion serves; many files are learned from in one run; a retracted one is learned from no more."""
    model = LinearRegression().fit(rents(0)[["area"]], rents(0)["rent"])
    skops.io.dump(model, tmp_path / "old.skops")
    refit("import", "rents", str(tmp_path / "old.skops"), "--reason", "what we had")
    assert deployment.predict("rents", [{"area": 50}])["predictions"][0] == pytest.approx(800, abs=40)

    files = []
    for seed in range(1, 6):
        files.append(str(tmp_path / f"part-{seed}.csv"))
        rents(seed).to_csv(files[-1], index=False)
    answered = json.loads(refit("backfill", "rents", *files, "--json"))["decision"]
    assert (answered["answer"], answered["trigger"], answered["new_rows"]) == ("retrain", "backfill", 5000)
    actions.wait_for_run(deployment.app, "rents", answered["run_id"], 120)
    assert len(deployment.app.registry.runs("rents")) == 1

    told = json.loads(refit("retract", "rents", "part-2.csv", "--reason", "measured wrong", "--json"))
    assert told["retracted"] == ["incoming/rents/part-2.csv"] and "v1-full" in told["versions"]
    status = json.loads(refit("status", "rents", "--json"))
    assert status["rows"] == 4000


def test_a_person_asks_and_is_answered_in_words(deployment: Deployment) -> None:
    asked = refit("retrain", "loans", "--reason", "a new quarter", "--force", "--wait")
    assert asked.startswith("retrain (run-")
    assert "a new quarter" in asked and ("promoted: " in asked or "kept: " in asked)
    again = refit("retrain", "loans", "--reason", "once more")
    assert again.startswith("skip: ")
    history = json.loads(refit("history", "loans", "--json"))
    assert [knock["reason"] for knock in history["knocks"]][-2:] == ["a new quarter", "once more"]
    assert "run-" in refit("history", "loans")
    assert "champion" in refit("status")


def test_predict_reads_files_and_refuses_in_words(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    loans(9, rows=5).drop(columns=["repaid"]).to_csv(path, index=False)
    lines = refit("predict", "loans", str(path)).splitlines()
    assert lines[0] == "prediction,p_no,p_yes" and len(lines) == 6
    assert len(json.loads(refit("predict", "loans", str(path), "--json"))["predictions"]) == 5
    assert "did you mean" in refit("predict", "loan", str(path), code=1).lower()
    assert "no such file" in refit("predict", "loans", str(tmp_path / "absent.csv"), code=2)


def test_a_rollback_holds_until_resumed_and_pause_lets_knocks_wait(deployment: Deployment) -> None:
    """A person's word counts: what was taken out stays out, what waited has its turn."""
    champion = deployment.app.registry.champion("loans")
    assert champion is not None and champion.previous
    told = refit("rollback", "loans", "--reason", "odd answers")
    assert told.startswith(
        f"{champion.previous} is the champion of loans, generation {champion.generation + 1}"
    )
    assert deployment.predict("loans", [{}])["version"] == champion.previous
    assert refit("retrain", "loans", "--reason", "try", "--force").startswith("wait: on hold")
    assert "never been in service" in refit("rollback", "loans", "--to", "v99", "--reason", "x", code=1)
    refit("rollback", "loans", "--to", champion.version, "--reason", "it was right")
    assert "goes on; what waited: " in refit("resume", "loans")
    assert "is not paused" in refit("resume", "loans", code=1)


def test_a_promotion_waits_for_a_person_where_the_model_says_so(deployment: Deployment) -> None:
    """What was proved serves once it was approved, by exactly one answer."""
    registry = deployment.app.registry
    drop(deployment, "shops", "first.csv", rents(1).to_csv(index=False).encode())
    asked = actions.wait_for(lambda: next(iter(registry.approvals("shops")), None), 60, "nobody was asked")
    assert refit("approvals", "shops").startswith("shops v1, the first champion: waiting until")
    assert "refit approve shops v1 --comment" in refit("status", "shops")
    assert "versions that wait: v1" in refit("approve", "shops", "v9", "--comment", "why not", code=1)
    assert registry.champion("shops") is None
    assert refit("approve", "shops", "v1", "--comment", "looks right") == "v1 of shops is approved\n"
    run, _ = actions.wait_for_run(deployment.app, "shops", asked.run_id, 60)
    assert run.status is RunStatus.PROMOTED and run.result.endswith(": looks right")
    assert "nothing was changed" in refit("approve", "shops", "v1", "--comment", "once more")
    assert "stays so" in refit("reject", "shops", "v1", "--comment", "changed my mind", code=1)
    (shown,) = json.loads(refit("approvals", "--json"))
    assert (shown["status"], shown["open"]) == ("approved", False)
    assert "token" not in shown


def test_what_makes_no_sense_is_refused_on_record(deployment: Deployment, stack: LocalStack) -> None:
    app, events = deployment.app, stack.client("events")
    entry = {
        "EventBusName": app.settings.event_bus,
        "Source": "elsewhere",
        "DetailType": "Retraining Requested",
    }
    events.put_events(Entries=[{**entry, "Detail": json.dumps({"model": "lones", "reason": "x"})}])
    events.put_events(Entries=[{**entry, "Detail": json.dumps({"reason": "x"})}])

    def both() -> list[Any] | None:
        refused = app.registry.refusals()
        return refused if len(refused) == 2 else None

    messages = sorted(refusal.message for refusal in actions.wait_for(both, 30, "not refused"))
    assert "'model' is missing" in messages[0] and "loans" in messages[1]
    assert "refused" in refit("status")


def test_the_tick_finds_an_upload_that_no_event_told_of(deployment: Deployment, stack: LocalStack) -> None:
    """An upload made while the rule was off is taken in by the sweep, whatever its suffix."""
    app, events = deployment.app, stack.client("events")
    rule = next(r["Name"] for r in events.list_rules()["Rules"] if "UploadArrived" in r["Name"])
    events.disable_rule(Name=rule)
    try:
        key = "incoming/rents/LATE.CSV"
        put = app.s3.put_object(
            Bucket=app.settings.data_bucket, Key=key, Body=rents(99).to_csv(index=False).encode()
        )
        assert invoke(stack, "TickFunction")["swept"] == 1
        assert actions.wait_for_upload(app, "rents", key, put["VersionId"]).outcome == "accepted"
    finally:
        events.enable_rule(Name=rule)  # not before: the engine looks at its rules a moment after the write


def test_people_are_told_what_they_should_know(deployment: Deployment, stack: LocalStack) -> None:
    """A quarantined upload reaches whoever subscribed to the topic."""
    sqs, sns = stack.client("sqs"), stack.client("sns")
    queue = sqs.create_queue(QueueName="mailbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{**allow, "Resource": arn}]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=stack.outputs["NotificationsTopicArn"], Protocol="sqs", Endpoint=arn)
    drop(deployment, "rents", "empty.csv", b"")

    def told() -> str | None:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=1).get("Messages", [])
        return messages[0]["Body"] if messages else None

    message = json.loads(json.loads(actions.wait_for(told, 30, "nobody was told"))["Message"])
    assert message["detail-type"] == "Batch Quarantined"
    assert message["detail"]["key"] == "incoming/rents/empty.csv"


def test_what_is_too_old_to_be_kept_goes(deployment: Deployment, stack: LocalStack) -> None:
    """With the rights of its own role: a file that was turned away, its reasons, and a knock that started nothing."""
    app = deployment.app
    bad = drop(deployment, "rents", "old.csv", b"")
    actions.ask(app, "rents", "nothing is new")
    shown = json.loads(refit("retention", "rents", "--json"))
    assert shown["uploads"] == []  # it is not a day old
    done = invoke(stack, "PruneFunction", b'{"time": "2099-01-01T00:00:00Z"}')
    assert "models" in done, done
    assert done["models"]["rents"]["uploads"] >= 1
    assert done["models"]["rents"]["records"] >= 1
    assert app.registry.upload("rents", bad.upload_id).removed
    bucket = app.settings.data_bucket
    left = app.s3.list_object_versions(Bucket=bucket, Prefix=bad.key)
    assert "Versions" not in left and "DeleteMarkers" not in left
    assert app.store.versions_under("quarantine/rents/") == []


def test_models_come_and_go_by_deploying(deployment: Deployment, stack: LocalStack, tmp_path: Path) -> None:
    """An upload for a model that is deployed later is taken in then; a model that is gone is refused, and keeps its records."""
    early = drop(deployment, "flats", "early.csv", rents(5).to_csv(index=False).encode())
    assert early.outcome == "ignored"
    shutil.copytree(MODELS / "rents", tmp_path / "flats")
    shutil.copytree(MODELS / "loans", tmp_path / "loans")
    stack.redeploy(models=tmp_path)
    app = Deployment.find(tmp_path).app
    assert invoke(stack, "TickFunction")["swept"] >= 1

    def taken_in() -> Any:
        upload = app.registry.upload("flats", early.upload_id)
        return upload if upload and upload.outcome == "accepted" else None

    actions.wait_for(taken_in, 60, "not taken in")
    actions.wait_for(lambda: app.registry.champion("flats"), 120, "no champion")
    late = drop(deployment, "rents", "late.csv", rents(6).to_csv(index=False).encode())
    assert late.outcome == "ignored" and "flats, loans" in late.reasons[0].message
    assert app.registry.champion("rents") is not None
    stack.redeploy(models=MODELS)
