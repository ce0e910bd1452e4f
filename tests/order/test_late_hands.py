"""A function that wakes up after its work was given to another one alters nothing that came after it."""

import pytest
from ledger import look
from test_interleavings import DEEP, MODEL, RUN_2, champions, day, run_up_to
from turns import WRITES, Schedule, turns
from world import small_world

from refit.records import RunStatus

# In CI a sleeper sleeps before what it writes only, and has read all that it will.
STOPS = None if DEEP else WRITES | {"PutObject"}
STEPS = ["train", "evaluate", "finalize", "promote", "keep_champion", "record_failure"]
FAILED = {"Error": "States.Timeout", "Cause": ""}


def altered(before, after):
    records = [key for key in before.records if after.records.get(key) != before.records[key]]
    return records + [key for key in before.objects if after.objects.get(key) != before.objects[key]]


def played(world, kept, work, move_on):
    """`work` sleeps before each of its calls in turn, while all that `move_on` does happens."""
    slept = 0
    while True:
        world.again(kept)
        seen = {}

        def others():
            move_on()
            seen["then"] = look(world.app)  # noqa: B023

        schedule = Schedule(0, slept, 10**6)
        with turns(world.app, STOPS) as taking:
            results = taking.run([work, others], schedule)
        assert results[1] is None, results[1]
        try:
            assert altered(seen["then"], look(world.app)) == []
            world.rest()
            world.holds()
        except AssertionError as error:
            error.add_note(f"slept before call {slept}; results: {results}")
            raise
        if schedule.made[0] <= slept + 1:
            return slept
        slept += 1


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_wakes_up_after_the_next_run_was_promoted(step):
    with small_world() as world:
        champions(world, 1)
        walk = run_up_to(world, 2, step if step in STEPS[:4] else "promote")
        if step not in STEPS[:4]:
            walk.step = step
        event = walk.event() | ({"error": FAILED} if step == "record_failure" else {})
        kept = world.kept()

        def move_on():
            again = world.walks[RUN_2]
            again.state |= {"error": FAILED} if step == "record_failure" else {}
            world.walk(RUN_2)
            world.deliver_all()
            day(world, 3 if world.app.registry.champion(MODEL).version == "v2" else 4)
            world.rest()
            last = world.app.registry.runs(MODEL)[-1]
            assert (last.run_id, last.status) == ("run-00000003", RunStatus.PROMOTED)

        assert played(world, kept, lambda: world.stack.call(step, event), move_on) >= 1


def test_an_intake_that_wakes_up_after_the_next_version_was_promoted():
    with small_world() as world:
        champions(world, 1)
        day(world, 2)
        letter = world.mail[-1]
        kept = world.kept()

        def move_on():
            world.rest()
            day(world, 2)  # the same bytes again
            world.drop("day-1.parquet", b"no table")
            day(world, 3)
            world.rest()
            assert world.app.registry.champion(MODEL).version == "v3"

        assert played(world, kept, lambda: world.stack.call("validate", letter.event), move_on) >= 1
