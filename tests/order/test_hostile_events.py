"""Events as nobody should send them: each ends in an outcome or a refusal, on record and once."""

import copy
import itertools
import json

import pytest
from aws_like import aws_like
from ledger import look
from moto_stack import sample
from world import DONE, MODEL, rows, small_world

from refit.batches import Outcome

NAMES = [
    "ünï/ß.parquet",
    "a\nb.parquet",
    "../x.parquet",
    "a b+c%20d.parquet",
    "\U0001f6eb.parquet",
    "folder/",
    "x" * (1024 - len(f"incoming/{MODEL}/")),
    "a.parquet ",
    "'; drop table--",
]
ODD = [None, "", 7, [], {"a": {"b": []}}, "x" * 10_000, "\ud800", "\0"]
TIMES = ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "yesterday", "x" * 10_000, "2013-04-01"]
SEQUENCERS = [None, "", "00", "not hex", "F" * 5000, "0" * 200, 7, [], {"a": 1}]


@pytest.fixture(scope="module")
def started():
    """A world with a champion, to which each test returns."""
    with small_world() as world, aws_like(world.app):
        world.drop("first.parquet", rows(100, seed=1))
        world.rest()
        yield world, world.kept()


@pytest.fixture
def world(started):
    found, kept = started
    found.again(kept)
    return found


def fields(value, path=()):
    """Paths of everything in an event."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from fields(each, (*path, name))


def changed(event, path, value):
    event = copy.deepcopy(event)
    place = event
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return event


def twice(world, function, event):
    """Deliver an event twice: the second time nothing is added."""
    world.stack.call(function, event)
    before = look(world.app).records
    world.stack.call(function, event)
    assert look(world.app).records == before
    world.collect()


def arrival(world, **changes):
    """A message of the queue about first.parquet, with other fields in its object."""
    event = world.stack.arrival(world.puts[0].key, world.puts[0].version_id)
    body = json.loads(event["Records"][0]["body"])
    for name, value in changes.items():
        name = name.replace("_", "-")
        body["detail"]["object"].pop(name, None)
        if value is not None:
            body["detail"]["object"][name] = value
    event["Records"][0]["body"] = json.dumps(body)
    return event


# ---------------------------------------------------------------- keys
@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:16]))
def test_an_upload_under_any_key_has_its_outcome(world, name):
    put = world.drop(name, rows(100, seed=2))
    twice(world, "validate", world.mail[-1].event)
    world.rest()
    world.holds()
    (upload,) = [each for each in world.app.registry.uploads(MODEL) if each.key == put.key]
    assert upload.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    "key", ["incoming/", "incoming//x", "incoming/x", "incoming/../x", "incoming/a/../x"]
)
def test_an_upload_that_is_for_no_model_is_ignored_on_record(world, key):
    bucket = world.app.settings.data_bucket
    version_id = world.app.s3.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"]
    twice(world, "validate", world.stack.arrival(key, version_id))
    found = world.stack.recorded(key, version_id, key.split("/")[1] if key.count("/") > 1 else "")
    assert (found.outcome, found.announced) == (Outcome.IGNORED, True)


@pytest.mark.parametrize(
    "key", ["incoming%2Ftiny%2Fa", "other/a", "/incoming/tiny/a", "incoming", "x" * 1025]
)
def test_a_key_that_is_not_incoming_is_refused(world, key):
    twice(world, "validate", arrival(world, key=key))
    assert len(world.app.registry.refusals()) == 1


# ---------------------------------------------------------------- versions and sequencers
def test_an_event_without_a_version_is_refused_and_the_sweep_takes_the_upload_in_once(world):
    put = world.drop("a.parquet", rows(100, seed=2))
    world.mail[-1].dropped = True
    for version_id in (None, ""):
        twice(world, "validate", arrival(world, key=put.key, version_id=version_id))
    world.rest()
    world.holds()
    assert world.app.registry.refusals()


@pytest.mark.parametrize("version_id", ["null", "garbage", "x" * 2000, "0" * 32, 7, {"a": 1}])
def test_a_version_that_is_not_there_is_nothing_to_take_in(world, version_id):
    before = look(world.app).records
    twice(world, "validate", arrival(world, version_id=version_id))
    assert look(world.app).records == before


def test_a_version_of_another_key_is_nothing_to_take_in(world):
    other = world.drop("a.parquet", rows(100, seed=2))
    before = look(world.app).records
    twice(world, "validate", arrival(world, version_id=other.version_id))
    assert look(world.app).records == before


@pytest.mark.parametrize("sequencer", SEQUENCERS, ids=lambda value: repr(value)[:16])
def test_whatever_the_sequencer_an_upload_has_its_outcome(world, sequencer):
    put = world.drop("a.parquet", rows(100, seed=2))
    event = arrival(world, key=put.key, version_id=put.version_id, sequencer=sequencer)
    twice(world, "validate", event)
    world.rest()
    world.holds()


# ---------------------------------------------------------------- every field of every event
@pytest.mark.parametrize(
    "name",
    [
        "request_retraining",
        "request_retraining.alarm",
        "request_retraining.drift_checked",
        "request_retraining.run_ended",
        "check_drift",
        "check_quality",
    ],
)
def test_any_field_may_hold_anything(world, name):
    event = sample(name)
    if "model" in event["detail"]:
        event["detail"]["model"] = MODEL
    if "name" in event["detail"]:
        event["detail"]["name"] = f"{MODEL}-run-00000001"
    function = name.partition(".")[0]
    if "object" in event["detail"]:
        (batch,) = [upload.batch_id for upload in world.app.registry.uploads(MODEL)]
        event = world.stack.profile_event(function, batch, MODEL)
    for path, value in itertools.product(list(fields(event)), ODD):
        world.stack.call(function, changed(event, path, value))
    world.rest()
    world.holds()


def test_any_field_of_a_message_in_the_queue_may_hold_anything(world):
    event = arrival(world)
    body = json.loads(event["Records"][0]["body"])
    for path, value in itertools.product(list(fields(body)), ODD):
        event["Records"][0]["body"] = json.dumps(changed(body, path, value))
        assert world.stack.call("validate", event) == DONE
    world.rest()
    world.holds()


@pytest.mark.parametrize("time", TIMES, ids=lambda time: time[:16])
@pytest.mark.parametrize("name", ["request_retraining", "request_retraining.alarm"])
def test_whatever_the_time_a_knock_has_one_answer(world, name, time):
    event = sample(name, time=time)
    if name.endswith("alarm"):
        event["detail"]["alarmName"] = f"refit-quality-{MODEL}"
        event["detail"]["state"]["timestamp"] = time
    else:
        event["detail"]["model"] = MODEL
    before = len(world.app.registry.knocks(MODEL))
    twice(world, "request_retraining", event)
    assert len(world.app.registry.knocks(MODEL)) == before + 1


@pytest.mark.parametrize("request_id", ["x" * 10_000, "\U0001f6eb" * 200, "a#b", "../..", " "])
def test_a_repeated_request_has_one_answer_whatever_its_id(world, request_id):
    before = len(world.app.registry.knocks(MODEL))
    assert world.ask(request_id) == world.ask(request_id)
    assert len(world.app.registry.knocks(MODEL)) == before + 1


# ---------------------------------------------------------------- what does not exist
@pytest.mark.parametrize("batch", ["", "..", "\U0001f6eb", "x" * 900, "0" * 23, "0" * 25, "A" * 24])
@pytest.mark.parametrize("function", ["check_drift", "check_quality"])
def test_a_batch_that_cannot_be_is_refused(world, function, batch):
    twice(world, function, world.stack.profile_event(function, batch, MODEL))
    assert len(world.app.registry.refusals()) == 1
