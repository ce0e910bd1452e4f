"""Where AWS refuses what a local engine takes: Refit stays below its limits and lives with its refusals."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aws_like import ITEM, PAYLOAD, aws_like
from botocore.exceptions import ClientError
from moto_stack import client, sample
from world import DONE, MODEL, rows, small_world

from refit.aws import runs
from refit.batches import Outcome
from refit.errors import ArtifactError
from refit.records import RunStatus

EMOJI = "\U0001f6eb"


@pytest.fixture
def world():
    with small_world() as found:
        yield found


@pytest.fixture
def aws(world):
    with aws_like(world.app) as found:
        yield found


def a_file_with(columns, path, nested=False):
    value = pa.array([[1]] * 12) if nested else pa.array(range(12))
    pq.write_table(pa.table([value] * len(columns), columns), path)
    return path.read_bytes()


# ---------------------------------------------------------------- sizes
@pytest.mark.parametrize("nested", [False, True])
def test_a_file_with_monstrous_column_names_is_quarantined_like_any_other(world, aws, tmp_path, nested):
    names = [f"{number}-{EMOJI * 20_000}" for number in range(130)]
    put = world.drop("a.parquet", a_file_with(names, tmp_path / "a", nested))
    world.rest()
    (upload,) = world.app.registry.uploads(MODEL)
    assert (upload.key, upload.outcome, upload.announced) == (put.key, Outcome.QUARANTINED, True)
    assert max(aws.largest["item"], aws.largest["event"]) < PAYLOAD


def test_a_knock_of_many_words_is_recorded_and_told(world, aws):
    world.drop("a.parquet", rows(100))
    world.rest()
    for number in range(2):  # the second one is pending
        world.drop(f"{number}.parquet", rows(100, seed=3 + number, flipped=True))
        world.deliver_all()
        event = sample("request_retraining.drift_checked")
        event["time"] = "t" * 1000
        event["detail"] |= {"model": MODEL, "batch_id": f"{number}" * 900, "version": EMOJI * 900}
        event["detail"]["drifted"] = [EMOJI * 2000] * 400
        world.stack.call("request_retraining", event)
    world.ask(EMOJI * 2000, requested_by=EMOJI * 2000, force=True)
    world.rest()
    world.holds()
    assert aws.largest["item"] < ITEM / 2
    assert aws.largest["event"] < PAYLOAD / 2


def test_what_travels_through_the_state_machine_does_not_grow_with_the_uploads(world, aws):
    sizes = []
    for number in range(12):
        world.drop(f"{number}.parquet", rows(100, seed=number, flipped=number % 2 == 1))
        world.rest()
        sizes.append(aws.largest["input"])
    assert sizes[-1] == sizes[0] < 1000


# ---------------------------------------------------------------- names of executions
def test_a_run_whose_execution_is_unknown_is_started_and_a_closed_one_never_again(world, aws):
    world.drop("a.parquet", rows(100))
    world.deliver_all()
    (walk,) = world.running()
    run = world.app.registry.run(MODEL, walk.state["run_id"])
    (knock,) = [letter for letter in world.mail if letter.function == "request_retraining"]
    world.vanish(walk)
    world.tick()
    assert [each.name for each in world.running()] == [walk.name]

    world.rest()
    ended = world.app.registry.run(MODEL, run.run_id)
    assert ended.status is RunStatus.PROMOTED
    world.vanish(world.walks[walk.name])  # 90 days later its name is free
    for letter in list(world.mail):
        world.deliver(letter)
    world.tick()
    assert knock.delivered == 2
    assert world.running() == []
    world.holds()


def test_a_name_of_an_execution_is_that_of_one_input(world, aws):
    world.drop("a.parquet", rows(100))
    world.deliver_all()
    (walk,) = world.running()
    run = world.app.registry.run(MODEL, walk.state["run_id"])
    machine = world.app.settings.state_machine
    runs.start(world.app.sfn, machine, run)  # runs already: nothing new
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        world.app.sfn.start_execution(stateMachineArn=machine, name=walk.name, input="{}")
    world.abort(walk)
    runs.start(world.app.sfn, machine, run)  # has ended: neither
    assert world.stack.executions() == [walk.name]


# ---------------------------------------------------------------- transactions
def test_a_transaction_that_was_applied_is_not_applied_again(world, aws):
    """The reply was lost, and the world went on: the token says that it was this very write."""
    world.drop("a.parquet", rows(100))
    world.deliver_all()
    name = world.running()[0].name
    walk = world.walk(name, "promote")
    once = []

    def lose(http_response, parsed, **_):
        if not once:
            once.append(parsed)
            world.lift()  # somebody else writes the slot
            http_response.status_code = 500
            parsed["Error"] = {"Code": "InternalServerError", "Message": "lost"}
            parsed["ResponseMetadata"]["HTTPStatusCode"] = 500

    events = world.app.registry.dynamodb.meta.events
    events.register_last("after-call.dynamodb.TransactWriteItems", lose)
    world.late_step(walk)
    events.unregister("after-call.dynamodb.TransactWriteItems", lose)
    assert once
    world.rest()
    world.holds()
    assert world.app.registry.champion(MODEL).generation == 1


def test_a_token_is_that_of_one_content(world, aws):
    put = {
        "TableName": world.app.settings.table,
        "Item": {"pk": {"S": "a"}, "sk": {"S": "b"}, "body": {"S": "{}"}},
    }
    other = put | {"Item": put["Item"] | {"body": {"S": "[]"}}}
    write = world.app.registry.dynamodb.transact_write_items
    for _ in range(2):
        write(TransactItems=[{"Put": put}], ClientRequestToken="t")
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        write(TransactItems=[{"Put": other}], ClientRequestToken="t")


# ---------------------------------------------------------------- rights
def test_what_is_missing_where_nobody_may_list_is_missing_not_forbidden(world, aws):
    with pytest.raises(ArtifactError, match="missing"):
        world.app.store.get("artifacts/tiny/none.skops")


def test_the_whole_way_works_with_aws_as_it_is(world, aws):
    for number in range(3):
        world.drop(f"{number} +%20ü.parquet", rows(160, seed=number, flipped=number % 2 == 1))
        world.rest()
    world.holds()
    assert world.app.registry.champion(MODEL).generation == 3
    assert (
        json.loads(
            client("s3")
            .get_object(
                Bucket=world.app.settings.store_bucket, Key=world.app.registry.runs(MODEL)[0].inputs_key
            )["Body"]
            .read()
        )["model"]
        == MODEL
    )
    assert DONE == {"batchItemFailures": []}
