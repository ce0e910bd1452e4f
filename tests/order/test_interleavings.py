"""Two pieces of Refit at the same time, interleaved at every call of AWS that the other one can notice."""

import json
import os

import pytest
from ledger import look, undone
from turns import SEEN, WRITES, Chance, all_schedules, turns
from world import MODEL, rows, small_world

from refit.batches import Outcome
from refit.errors import BadMessage, ChampionMoved, Conflict
from refit.records import RunStatus
from refit_cli import actions

DEEP = "REFIT_DEEP" in os.environ
SAMPLES = 200 if DEEP else 4  # by chance, before every call
RUN_1, RUN_2, RUN_3 = (f"{MODEL}-run-0000000{number}" for number in (1, 2, 3))


# ---------------------------------------------------------------- worlds to start from
def day(world, number):
    """A file that turns the world around, so that whoever learns from it wins."""
    return world.drop(f"day-{number}.parquet", rows(160, seed=number, flipped=number % 2 == 0))


def champions(world, number):
    for each in range(1, number + 1):
        day(world, each)
        world.rest()
    assert world.app.registry.champion(MODEL).generation == number


def run_up_to(world, number, step):
    """One more run, taken to the step."""
    day(world, number)
    world.deliver_all()
    (execution,) = world.running()
    return world.walk(execution.name, step)


def step_of(world, name, step=""):
    """A call of the function that the execution has come to, or of another one in its place."""
    walk = world.walks[name]
    if step:
        walk.step = step
    event, function = walk.event(), walk.step
    if function == "record_failure":
        event["error"] = {"Error": "States.Timeout", "Cause": ""}
    return lambda: world.stack.call(function, event)


def delivered(world, letter):
    letter.delivered += 1
    return lambda: world.stack.call(letter.function, letter.event)


def rolled_back(world, to=None):
    return lambda: actions.rollback(world.app, world.spec, to, "worse")


# ---------------------------------------------------------------- pairs: what is prepared, what races, what comes of it
def promotes_of_one_run(world):
    champions(world, 1)
    run_up_to(world, 2, "promote")

    def pair():
        return step_of(world, RUN_2), step_of(world, RUN_2)

    def then(results):
        assert results[0] == results[1]
        assert world.app.registry.champion(MODEL).generation >= 2

    return pair, then


def promotes_of_two_runs(world):
    """Run 2 was aborted while its promote was under way; run 3 has come as far meanwhile."""
    champions(world, 1)
    world.abort(run_up_to(world, 2, "promote"))
    world.deliver(world.mail[-1])
    run_up_to(world, 4, "promote")

    def pair():
        return step_of(world, RUN_2), step_of(world, RUN_3)

    def then(results):
        assert isinstance(results[0], BadMessage)
        assert results[1]["generation"] == 2
        assert world.app.registry.generation(MODEL, 2).version == "v3"

    return pair, then


def promote_and_rollback(world):
    champions(world, 2)
    run_up_to(world, 3, "promote")

    def pair():
        return step_of(world, RUN_3), rolled_back(world)

    def then(results):
        made = [world.app.registry.generation(MODEL, number) for number in (3, 4)]
        assert made[0].change in ("promotion", "rollback")
        if made[0].change == "promotion":  # a rollback goes back from what it saw
            assert isinstance(results[1], ChampionMoved) or made[1].version == "v2"
        else:
            assert isinstance(results[0], ChampionMoved)
            assert (made[0].version, made[1]) == ("v1", None)

    return pair, then


def promote_and_failure(world):
    """The state machine waited too long for promote, and records a failure."""
    champions(world, 1)
    run_up_to(world, 2, "promote")

    def pair():
        return step_of(world, RUN_2), step_of(world, RUN_2, "record_failure")

    def then(results):
        promoted = world.app.registry.run(MODEL, "run-00000002").status is RunStatus.PROMOTED
        assert isinstance(results[0], BadMessage) != promoted
        moved = world.app.registry.generation(MODEL, 2)
        assert (moved is not None and moved.run_id == "run-00000002") == promoted

    return pair, then


def promote_and_abort(world):
    champions(world, 1)
    world.abort(run_up_to(world, 2, "promote"))

    def pair():
        return step_of(world, RUN_2), delivered(world, world.mail[-1])

    def then(results):
        promoted = world.app.registry.run(MODEL, "run-00000002").status is RunStatus.PROMOTED
        assert isinstance(results[0], BadMessage) != promoted

    return pair, then


def keep_and_abort(world):
    champions(world, 1)
    walk = run_up_to(world, 2, "finalize")
    walk.step = "keep_champion"
    world.abort(walk)

    def pair():
        return step_of(world, RUN_2), delivered(world, world.mail[-1])

    def then(results):
        assert not any(isinstance(result, Exception) for result in results)

    return pair, then


def rollbacks(world):
    champions(world, 3)

    def pair():
        return rolled_back(world, "v1"), rolled_back(world, "v2")

    def then(results):
        done = [result for result in results if not isinstance(result, Exception)]
        refused = [result for result in results if isinstance(result, Exception)]
        assert done and all(isinstance(error, ChampionMoved | actions.Refused) for error in refused)
        assert world.app.registry.champion(MODEL).generation == 3 + len(done)

    return pair, then


def knocks(world):
    world.deliver(day(world, 1) and world.mail[-1])

    def pair():
        return lambda: world.stack.ask("r1", model=MODEL), lambda: world.stack.ask("r2", model=MODEL)

    def then(results):
        assert sorted(result["answer"] for result in results) == ["retrain", "wait"]
        assert world.app.registry.runs(MODEL)[0].run_id == "run-00000001"

    return pair, then


def one_knock_twice(world):
    world.deliver(day(world, 1) and world.mail[-1])

    def pair():
        return lambda: world.stack.ask("r1", model=MODEL), lambda: world.stack.ask("r1", model=MODEL)

    def then(results):
        assert results[0] == results[1]
        assert len([name for name in world.walks if name == RUN_1]) == 1

    return pair, then


def one_upload_twice(world):
    day(world, 1)
    (letter,) = world.mail

    def pair():
        return delivered(world, letter), delivered(world, letter)

    def then(results):
        ids = [{"itemIdentifier": record["messageId"]} for record in letter.event["Records"]]
        for result in results:  # who came second has to come again
            assert result["batchItemFailures"] in ([], ids)
        assert [] in [result["batchItemFailures"] for result in results]

    return pair, then


def versions_of_one_key(world):
    """An upload and its replacement of the same second."""
    for number in (1, 2):
        world.drop("a.parquet", rows(160, seed=number), same_second=True)

    def pair():
        return delivered(world, world.mail[0]), delivered(world, world.mail[1])

    return pair, lambda results: None


def the_same_bytes_under_two_names(world):
    for name in ("a.parquet", "b.parquet"):
        world.drop(name, rows(160, seed=1))

    def pair():
        return delivered(world, world.mail[0]), delivered(world, world.mail[1])

    def then(results):
        assert {json.dumps(result) for result in results} == {'{"batchItemFailures": []}'}
        first, second = world.app.registry.uploads(MODEL)
        assert bool(first.duplicate_of) != bool(second.duplicate_of)

    return pair, then


def tick_and_end(world):
    champions(world, 1)
    world.abort(run_up_to(world, 2, "evaluate"))
    world.stack.ask("waits", model=MODEL)

    def pair():
        return world.stack.tick, delivered(world, world.mail[-1])

    def then(results):
        assert world.app.registry.run(MODEL, "run-00000002").status is RunStatus.FAILED

    return pair, then


def ticks(world):
    champions(world, 1)
    day(world, 2)
    world.mail[-1].dropped = True
    world.stack.ask("waits", model=MODEL)

    def pair():
        return world.stack.tick, world.stack.tick

    return pair, lambda results: None


def retract_and_knock(world):
    champions(world, 1)
    world.deliver(day(world, 2) and world.mail[-1])

    def pair():
        return (
            lambda: actions.retract(world.app, MODEL, "day-2.parquet", "wrong"),
            lambda: world.stack.ask("r1", model=MODEL),
        )

    def then(results):
        assert not any(isinstance(result, Exception) for result in results)
        (marked,) = [upload for upload in world.app.registry.uploads(MODEL) if upload.retracted]
        assert marked.key.endswith("day-2.parquet")

    return pair, then


def retract_and_validate(world):
    """A copy of what is being retracted arrives."""
    world.deliver(day(world, 1) and world.mail[-1])
    world.drop("copy.parquet", rows(160, seed=1))

    def pair():
        letter = world.mail[-1]
        return (
            lambda: actions.retract(world.app, MODEL, "day-1.parquet", "wrong"),
            delivered(world, letter),
        )

    def then(results):
        world.rest()
        if isinstance(results[0], Conflict):  # the person is told, and tries again
            actions.retract(world.app, MODEL, "day-1.parquet", "wrong")
        assert {upload.outcome for upload in world.app.registry.uploads(MODEL)} == {Outcome.ACCEPTED}

    return pair, then


def left_by(world):
    """All that two calls left behind, in one text."""
    now = look(world.app)
    alarms = world.app.cloudwatch.describe_alarms()["MetricAlarms"]
    told = sorted(json.dumps([event["detail-type"], event["detail"]]) for event in world.told)
    letters = sorted(letter.function for letter in world.mail if not letter.delivered)
    watched = [(alarm["MetricName"], alarm["Threshold"]) for alarm in alarms]
    return repr(
        (sorted(now.records.items()), sorted(now.objects), watched, told, letters, sorted(world.walks))
    )


PAIRS = [
    promotes_of_one_run,
    promotes_of_two_runs,
    promote_and_rollback,
    promote_and_failure,
    promote_and_abort,
    keep_and_abort,
    rollbacks,
    knocks,
    one_knock_twice,
    one_upload_twice,
    versions_of_one_key,
    the_same_bytes_under_two_names,
    tick_and_end,
    ticks,
    retract_and_knock,
    retract_and_validate,
]


@pytest.mark.parametrize("prepare", PAIRS, ids=lambda pair: pair.__name__)
def test_what_is_promised_holds_however_two_take_turns(prepare):
    with small_world() as world:
        pair, then = prepare(world)
        world.collect()
        kept, before, seen = world.kept(), look(world.app), set()

        def play(schedule, stops=SEEN if DEEP else WRITES):
            world.again(kept)
            with turns(world.app, stops) as taking:
                results = taking.run(pair(), schedule)
            try:
                world.collect()
                for letter, result in zip(world.mail, results, strict=False):
                    if isinstance(result, dict) and result.get("batchItemFailures"):
                        letter.delivered = 0  # the queue delivers it again
                then(results)
                left = (left_by(world), repr(results))
                if left in seen:  # what comes of it is known
                    return
                seen.add(left)
                world.rest()
                world.holds()
                assert undone(before, look(world.app)) == []
            except Exception as error:
                error.add_note(f"{schedule}; results: {results}")
                raise

        seed = os.environ.get("REFIT_SEED")
        if seed:
            play(Chance(seed), stops=SEEN)
            return
        assert all_schedules(play) >= 4
        for number in range(SAMPLES):
            play(Chance(f"{prepare.__name__}-{number}"), stops=SEEN)
