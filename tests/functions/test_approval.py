"""A person is asked before a promotion: RequestApproval, the answer, and what Promote and KeepChampion make of it."""

import json
import signal
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError
from moto_stack import MODELS, sample
from rows import fares

from refit.errors import ApprovalGiven, ApprovalRejected, ChampionMoved, NotApproved
from refit.records import ApprovalStatus, RunStatus
from refit_cli import view
from refit_cli.actions import Refused, approve, reject, wait_for_run, whoami
from refit_cli.main import main
from refit_cli.oracle import check

RUN_1, RUN_2, MODEL, WEEK = "run-00000001", "run-00000002", "fares", 7 * 86_400
LONG_AGO = "2013-04-08T06:07:51Z"
GONE = ClientError({"Error": {"Code": "TaskTimedOut", "Message": "expired"}}, "SendTaskSuccess")


@pytest.fixture
def spec(stack, monkeypatch):
    """The model, of which every promotion has to be approved."""
    required = replace(stack.app.models[MODEL], approval_seconds=WEEK)
    monkeypatch.setitem(stack.app.models, MODEL, required)
    return required


@pytest.fixture
def sent(stack):
    """What executions were told: operation, token and words."""
    found = []

    def hear(model, params, **_):
        body = json.loads(params["body"])
        words = body.get("error") or json.loads(body["output"])["approved_by"]
        found.append((model.name.removeprefix("SendTask"), body["taskToken"], words))

    for operation in ("SendTaskSuccess", "SendTaskFailure"):
        stack.app.sfn.meta.events.register(f"before-call.*.{operation}", hear)
    yield found
    for operation in ("SendTaskSuccess", "SendTaskFailure"):
        stack.app.sfn.meta.events.unregister(f"before-call.*.{operation}", hear)


@pytest.fixture
def promoting(stack, spec, monkeypatch):
    """The event of Promote, in the run of a version that was proved better than the champion v1."""
    with monkeypatch.context() as patch:
        patch.setitem(stack.app.models, MODEL, replace(spec, approval_seconds=0))
        stack.promoted(MODEL, "2013-01.parquet", fares(300))
    frame = fares(600, month=2)
    turned = frame.assign(fare=-frame["fare"], seats_left=frame["seats_left"] + 1000)
    stack.upload("2013-02.parquet", turned, MODEL)
    event = stack.walk(stack.ask(model=MODEL)["run_id"], up_to="promote", model=MODEL)
    assert event["final"] == {"version": "v2", "approval_seconds": WEEK}
    stack.heard()
    return event


def asking(event, token="token-1"):
    """The event of RequestApproval, as the state machine makes it of the same state and of what WriteReport answered."""
    like = sample("request_approval")
    page = {"report": {"report_key": f"runs/{MODEL}/{event['run_id']}/report.html"}, "token": token}
    return {name: event[name] for name in like if name not in page} | page


@pytest.fixture
def waiting(stack, promoting, sent):
    """The same, once a person was asked."""
    stack.call("request_approval", asking(promoting))
    stack.heard()
    return promoting


def request(stack):
    return stack.app.registry.approval(MODEL, RUN_2)


def change(stack, **fields):
    """Something happens to the request behind everybody's back."""
    return stack.app.registry.save_approval(replace(request(stack), **fields))


def kept(stack, event, error, cause=""):
    """KeepChampion, after that error was caught; returns the closed run."""
    stack.call("keep_champion", event | {"error": {"Error": error, "Cause": cause}})
    return stack.app.registry.run(MODEL, RUN_2)


def everything(stack):
    r = stack.app.registry
    return (r.champion(MODEL), r.generations(MODEL), r.runs(MODEL), r.slot(MODEL), r.approvals(MODEL))


@contextmanager
def refused(stack, *says):
    """In one sentence with these words, and nothing is changed."""
    before = everything(stack)
    with pytest.raises(Refused) as caught:
        yield
    assert all(words in str(caught.value) for words in says), str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(stack) == before


# ---------------------------------------------------------------- asking
def test_a_person_is_shown_what_was_proved_and_against_whom(stack, promoting):
    answer = stack.call("request_approval", asking(promoting))
    asked, registry = request(stack), stack.app.registry
    version = registry.version(MODEL, "v2")
    assert (asked.status, asked.token, asked.version) == (ApprovalStatus.WAITING, "token-1", "v2")
    assert asked.artifact_sha256 == version.artifact_sha256
    assert (asked.champion, asked.generation) == ("v1", 1)
    document = stack.app.store.get_json(asked.evaluation_key)
    assert {name: document[name] for name in ("gain", "gain_low", "gain_high")} == {
        "gain": asked.gain,
        "gain_low": asked.gain_low,
        "gain_high": asked.gain_high,
    }
    assert asked.requested_at[:10] < asked.expires_at[:10]
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]) == ("Waiting For Approval", answer)
    assert "token-1" not in json.dumps(told)


def test_an_attempt_to_ask_that_is_repeated_replaces_the_token_and_the_answer_takes_it(
    stack, spec, waiting, sent
):
    change(stack, requested_at=LONG_AGO, expires_at=LONG_AGO)
    stack.call("request_approval", asking(waiting, "token-2"))
    asked = request(stack)
    assert (asked.token, asked.requested_at) == ("token-2", LONG_AGO)
    assert asked.expires_at > LONG_AGO  # the time of the wait starts anew with each attempt
    approve(stack.app, spec, "v2", "fine")
    assert sent == [("Success", "token-2", whoami())]


def test_nobody_is_asked_when_the_champion_moved(stack, spec, promoting):
    stack.app.registry.move_champion(replace(stack.app.registry.champion(MODEL), generation=2))
    with pytest.raises(ChampionMoved, match="is now of generation 2"):
        stack.call("request_approval", asking(promoting))
    assert request(stack) is None
    assert stack.heard() == []


@pytest.mark.parametrize(("answer", "error"), [(approve, ApprovalGiven), (reject, ApprovalRejected)])
def test_an_answer_to_an_attempt_that_then_failed_counts(stack, spec, waiting, answer, error):
    answer(stack.app, spec, "v2", "looked at it")
    before = everything(stack)
    with pytest.raises(error, match="looked at it"):
        stack.call("request_approval", asking(waiting, "token-2"))
    assert everything(stack) == before


# ---------------------------------------------------------------- yes
def test_what_was_approved_is_promoted_and_the_record_says_by_whom(stack, spec, waiting, sent):
    approval, before = approve(stack.app, spec, "v2", "looks right")
    assert not before
    assert (approval.answered_by, approval.comment) == (whoami(), "looks right")
    assert sent == [("Success", "token-1", whoami())]
    answer = stack.call("promote", waiting)
    assert stack.call("promote", waiting) == answer
    champion = stack.app.registry.champion(MODEL)
    assert (champion.version, champion.generation, champion.by) == ("v2", 2, whoami())
    assert champion.reason.endswith(f"; approved by {whoami()}: looks right")
    assert check(stack.app) == []


def test_a_repeated_yes_is_sent_again_and_keeps_the_first(stack, spec, waiting, sent):
    with stack.outage(stack.app.sfn, "SendTaskSuccess", times=1), pytest.raises(Exception, match="connect"):
        approve(stack.app, spec, "v2", "looks right")
    first = request(stack)
    assert first.status is ApprovalStatus.APPROVED
    again, before = approve(stack.app, spec, "v2", "once more")
    assert before
    assert again == first == request(stack)
    assert sent[-1] == ("Success", "token-1", whoami())
    stack.call("promote", waiting)
    assert approve(stack.app, spec, "v2", "and again") == (first, True)
    with refused(stack, "was approved by", "stays so"):
        reject(stack.app, spec, "v2", "changed my mind")


def test_two_who_answer_at_once_give_one_answer(stack, spec, waiting, sent):
    events, others = stack.app.registry.dynamodb.meta.events, []

    def first(**_):
        if not others:
            others.append("ada")
            change(stack, status=ApprovalStatus.REJECTED, answered_by="ada", answered_at="now", comment="no")

    events.register("before-call.*.PutItem", first)
    try:
        with pytest.raises(Refused, match="v2 was rejected by ada on now and stays so"):
            approve(stack.app, spec, "v2", "yes")
    finally:
        events.unregister("before-call.*.PutItem", first)
    assert request(stack).answered_by == "ada"
    assert sent == []


# ---------------------------------------------------------------- only what was approved
def test_a_success_that_somebody_sent_without_asking_promotes_nothing(stack, promoting):
    with pytest.raises(
        NotApproved, match="is never asked for; start again with: refit retrain fares --force"
    ):
        stack.call("promote", promoting)
    assert stack.app.registry.champion(MODEL).version == "v1"


@pytest.mark.parametrize(
    "fields",
    [
        {"status": ApprovalStatus.WAITING},
        {"status": ApprovalStatus.REJECTED},
        {"status": ApprovalStatus.EXPIRED},
        {"status": ApprovalStatus.SUPERSEDED},
        {"version": "v1"},
        {"artifact_sha256": "0" * 64},
        {"generation": 0},
        {"answered_by": ""},
    ],
    ids=str,
)
def test_what_was_not_approved_exactly_so_is_not_promoted(stack, spec, waiting, fields):
    approve(stack.app, spec, "v2", "looks right")
    change(stack, **fields)
    with pytest.raises(NotApproved):
        stack.call("promote", waiting)
    assert stack.app.registry.champion(MODEL).version == "v1"


def test_what_was_asked_needs_its_answer_though_the_model_no_longer_asks(stack, spec, waiting, monkeypatch):
    monkeypatch.setitem(stack.app.models, MODEL, replace(spec, approval_seconds=0))
    with pytest.raises(NotApproved, match="is waiting"):
        stack.call("promote", waiting)


def test_an_approval_does_not_outlive_its_champion(stack, spec, waiting):
    approve(stack.app, spec, "v2", "looks right")
    stack.app.registry.move_champion(replace(stack.app.registry.champion(MODEL), generation=2))
    with pytest.raises(ChampionMoved):
        stack.call("promote", waiting)
    assert kept(stack, waiting, "ChampionMoved").status is RunStatus.KEPT
    assert request(stack).status is ApprovalStatus.SUPERSEDED


def test_a_model_that_was_exchanged_is_not_approved_and_can_still_be_rejected(stack, spec, waiting, sent):
    change(stack, artifact_sha256="0" * 64)
    with refused(stack, "v2 is no longer the model that was shown", "refit reject fares v2"):
        approve(stack.app, spec, "v2", "looks right")
    assert sent == []
    assert reject(stack.app, spec, "v2", "not what was shown")[0].status is ApprovalStatus.REJECTED


# ---------------------------------------------------------------- no
def test_a_no_keeps_the_champion_says_why_and_judges_the_inputs(stack, spec, waiting, sent):
    reject(stack.app, spec, "v2", "wrong for islands")
    assert sent == [("Failure", "token-1", "ApprovalRejected")]
    run = kept(stack, waiting, "ApprovalRejected", "whatever was sent")
    assert (run.status, run.result) == (RunStatus.KEPT, f"rejected by {whoami()}: wrong for islands")
    assert run.challenger_score is not None
    (told,) = stack.heard()
    assert (told["detail-type"], told["detail"]["reason"]) == ("Champion Kept", run.result)
    assert stack.ask("again", MODEL)["answer"] == "skip"
    assert check(stack.app) == []


# ---------------------------------------------------------------- too late
def test_what_nobody_answered_expires_and_judges_the_inputs(stack, spec, waiting, sent):
    until = request(stack).expires_at
    run = kept(stack, waiting, "States.Timeout")
    assert (run.status, run.result) == (RunStatus.KEPT, f"nobody answered; v2 waited until {until}")
    assert kept(stack, waiting, "States.Timeout") == run
    assert request(stack).status is ApprovalStatus.EXPIRED
    assert stack.ask("again", MODEL)["answer"] == "skip"
    for answer in (approve, reject):
        with refused(stack, f"too late: v2 waited until {until}", "refit retrain fares --force"):
            answer(stack.app, spec, "v2", "sorry, was away")
    assert sent == []
    assert check(stack.app) == []


def test_an_answer_after_the_time_is_too_late_though_nobody_has_written_it_down_yet(
    stack, spec, waiting, sent
):
    change(stack, expires_at=LONG_AGO)
    with refused(stack, "too late: v2 waited until 2013-04-08"):
        approve(stack.app, spec, "v2", "sorry, was away")
    assert sent == []


def test_an_answer_that_the_run_no_longer_takes_promotes_nothing(stack, spec, waiting):
    """The wait ended between the record and the word to the execution."""
    gone = stack.outage(stack.app.sfn, "SendTaskSuccess", error=GONE)
    with gone, pytest.raises(Refused, match="had just stopped waiting"):
        approve(stack.app, spec, "v2", "looks right")
    run = kept(stack, waiting, "States.Timeout")
    assert run.result.startswith(f"the answer of {whoami()} came too late")
    assert request(stack).status is ApprovalStatus.EXPIRED
    with pytest.raises(NotApproved, match="is expired"):
        stack.call("promote", waiting)


def test_a_no_that_the_run_was_not_told_of_is_a_no(stack, spec, waiting):
    with stack.outage(stack.app.sfn, "SendTaskFailure", error=GONE), pytest.raises(Refused):
        reject(stack.app, spec, "v2", "wrong for islands")
    assert kept(stack, waiting, "States.Timeout").result == f"rejected by {whoami()}: wrong for islands"


def test_what_does_not_wait_cannot_be_answered(stack, spec, waiting):
    with refused(stack, "nobody was asked about v7 of fares; versions that wait: v2"):
        approve(stack.app, spec, "v7", "looks right")
    stack.call("request_retraining", stack.ended(RUN_2, model=MODEL))
    with refused(stack, "run-00000002 has ended without an answer", "ABORTED"):
        approve(stack.app, spec, "v2", "looks right")


# ---------------------------------------------------------------- superseded
@pytest.mark.parametrize("answer", [approve, reject])
def test_an_answer_about_another_champion_changes_nothing_and_the_inputs_may_run_again(
    stack, spec, waiting, sent, answer
):
    registry = stack.app.registry
    registry.move_champion(replace(registry.champion(MODEL), generation=2, previous="v1", run_id=""))
    for _ in range(2):
        with pytest.raises(
            Refused, match="superseded: v2 was compared with generation 1, the champion is now v1"
        ):
            answer(stack.app, spec, "v2", "looks right")
    assert sent == [("Failure", "token-1", "ChampionMoved")] * 2
    asked = request(stack)
    assert (asked.status, asked.answered_by) == (ApprovalStatus.SUPERSEDED, "")
    run = kept(stack, waiting, "ChampionMoved", "superseded")
    assert run.result == "the champion changed while v2 waited for approval"
    assert registry.champion(MODEL).generation == 2
    assert stack.ask("again", MODEL)["answer"] == "retrain"


# ---------------------------------------------------------------- who waits for the run
def test_who_waits_for_a_run_waits_no_longer_than_until_a_person_is_asked(stack, spec, waiting):
    run, asked = wait_for_run(stack.app, MODEL, RUN_2, timeout=0)
    assert (run.status, asked) == (RunStatus.RUNNING, request(stack))
    approve(stack.app, spec, "v2", "looks right")
    with pytest.raises(Refused, match="still runs"):
        wait_for_run(stack.app, MODEL, RUN_2, timeout=0)
    stack.call("promote", waiting)
    run, asked = wait_for_run(stack.app, MODEL, RUN_2, timeout=0)
    assert (run.status, asked) == (RunStatus.PROMOTED, None)


def test_a_request_whose_time_is_over_waits_for_nobody(stack, waiting):
    change(stack, expires_at=LONG_AGO)
    with pytest.raises(Refused, match="still runs"):
        wait_for_run(stack.app, MODEL, RUN_2, timeout=0)


@pytest.fixture
def refit(stack, spec, capsys):
    """The command, against a stack whose runs get as far as asking; returns exit code and output."""
    stack.upload("2013-01.parquet", fares(300), MODEL)
    settings = stack.app.settings
    outputs = {
        "RegistryTableName": settings.table,
        "DataBucketName": settings.data_bucket,
        "StoreBucketName": settings.store_bucket,
        "EventBusName": settings.event_bus,
        "RetrainingStateMachineArn": settings.state_machine,
        "IntakeQueueUrl": settings.intake_queue,
    }
    answer = {"Stacks": [{"Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]}]}

    def describe(**_):  # moto's own CloudFormation needs packages that nothing else does
        return SimpleNamespace(status_code=200), answer

    def deliver(**_):
        for event in stack.heard("Retraining Requested"):
            run_id = stack.call("request_retraining", event)["run_id"]
            stack.call("request_approval", asking(stack.walk(run_id, up_to="promote", model=MODEL)))
        capsys.readouterr()  # what functions print is not the command's

    def run(*arguments):
        code = main([*arguments, "--models", str(MODELS)])
        return code, capsys.readouterr().out

    before = signal.getsignal(signal.SIGTERM)
    boto3.setup_default_session()  # the command makes clients of its own
    boto3.DEFAULT_SESSION.events.register("before-call.cloudformation.DescribeStacks", describe)
    boto3.DEFAULT_SESSION.events.register("after-call.events.PutEvents", deliver)
    yield run
    boto3.setup_default_session()
    signal.signal(signal.SIGTERM, before)


RETRAIN = ("retrain", MODEL, "--reason", "new seats", "--wait")


def test_the_command_that_waits_ends_with_how_to_answer(stack, refit):
    code, said = refit(*RETRAIN)
    until = stack.app.registry.approval(MODEL, RUN_1).expires_at
    assert code == 0
    assert said.splitlines()[1] == (
        f"{RUN_1} waits for approval of v1 until {until}; see: refit approvals fares, refit report fares {RUN_1}; answer: "
        "refit approve fares v1 --comment ..., or refit reject fares v1 --comment ..."
    )


def test_the_command_that_waits_says_so_in_json_and_never_the_token(refit):
    code, said = refit(*RETRAIN, "--json")
    document = json.loads(said)
    assert (code, document["run"]["status"]) == (0, "running")
    assert (document["approval"]["status"], document["approval"]["version"]) == ("waiting", "v1")
    assert "token" not in said


# ---------------------------------------------------------------- what people see
def test_status_approvals_and_history_show_what_waits_and_never_the_token(stack, spec, waiting):
    status = view.status(stack.app, MODEL)
    text = view.status_text(status)
    assert "approval   fares v2, to follow v1: waiting until" in text
    assert "refit approve fares v2 --comment" in text
    (shown,) = view.approvals(stack.app, MODEL)
    assert shown["open"]
    approve(stack.app, spec, "v2", "looks right")
    assert view.status(stack.app, MODEL)["approval"] is None
    (answered,) = view.approvals(stack.app, MODEL)
    assert view.approval_text(answered).startswith(f"fares v2, to follow v1: approved, {whoami()} on ")
    stack.call("promote", waiting)
    history = view.history(stack.app, MODEL)
    assert f"approval   v2 approved, {whoami()} on " in view.history_text(history)
    assert "token-1" not in json.dumps([status, shown, answered, history])


def test_a_request_whose_run_was_given_up_is_not_shown_as_open(stack, waiting):
    stack.call("request_retraining", stack.ended(RUN_2, model=MODEL))
    (shown,) = view.approvals(stack.app, MODEL)
    assert view.approval_text(shown).endswith("waiting, but its run has ended")
    assert view.status(stack.app, MODEL)["approval"] is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"answered_by": ""}, "v2 is approved by nobody"),
        ({"generation": 0}, "v2 was promoted, but that was not approved"),
        ({"status": ApprovalStatus.REJECTED}, "v2 was promoted, but that was not approved"),
        ({"artifact_sha256": "0" * 64}, "v2 was promoted, but that was not approved"),
    ],
    ids=str,
)
def test_the_oracle_sees_a_promotion_that_was_not_approved_so(stack, spec, waiting, fields, says):
    approve(stack.app, spec, "v2", "looks right")
    stack.call("promote", waiting)
    assert check(stack.app) == []
    change(stack, **fields)
    assert (10, says) in [(breach.promise, breach.message) for breach in check(stack.app)]
