"""What the sweep disturbs: each scenario says what was there before, what happens, and how it must end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from faults.world import MODEL, World
from moto_stack import sample
from rows import fares

from refit.records import Change, RunStatus
from refit_cli import actions

PROMOTED, KEPT, FAILED = RunStatus.PROMOTED, RunStatus.KEPT, RunStatus.FAILED


@dataclass(frozen=True)
class Scenario:
    """`expect` is asked once all is at rest, whatever went wrong on the way."""

    name: str
    before: Callable[[World], None]
    act: Callable[[World], None]
    expect: Callable[[World], None]
    triggers: str = ""  # lines for model.toml
    candidates: str = '["full"]'


# ---------------------------------------------------------------- data
def month(number: int) -> pd.DataFrame:
    """More of the same: nothing drifts, and no challenger is proved better."""
    return fares(150, month=number)


def turned(number: int) -> pd.DataFrame:
    """The farther the cheaper, in larger planes: columns drift, and what was learned before is wrong."""
    frame = fares(240, month=number)
    return frame.assign(fare=-frame["fare"], seats_left=frame["seats_left"] + 1000)


# ---------------------------------------------------------------- what was there
def nothing(world: World) -> None:
    """A new deployment."""


def one(world: World) -> None:
    """v1 serves."""
    world.upload("2013-01.parquet", month(1))
    assert world.champion() == "v1"


def new_rows(world: World) -> None:
    """v1 serves, and there are rows that it has not learned from."""
    one(world)
    world.upload("2013-02.parquet", month(2))
    assert world.runs() == [PROMOTED]


def two(world: World) -> None:
    """v2 took over from v1."""
    one(world)
    world.upload("2013-02.parquet", turned(2))
    assert world.champion() == "v2"


def lost_run(world: World) -> None:
    """An execution was aborted, and no event told of it."""
    new_rows(world)
    world.ask("a run that will be aborted")
    world.abort()


# ---------------------------------------------------------------- what happens, and how it ends
def first_upload(world: World) -> None:
    world.upload("2013-01.parquet", month(1))


def first_champion(world: World) -> None:
    assert world.outcomes() == ["accepted"]
    assert (world.champion(), world.runs()) == ("v1", [PROMOTED])
    assert world.watched() == ["v1"]
    world.told("Batch Accepted", "Drift Checked", "Retraining Decided", "Champion Promoted")


def drifted_upload(world: World) -> None:
    world.upload("2013-02.parquet", turned(2))


def second_champion(world: World) -> None:
    assert world.outcomes() == ["accepted", "accepted"]
    assert (world.champion(), world.runs()) == ("v2", [PROMOTED, PROMOTED])
    assert world.watched() == ["v2"]
    (quality,) = world.stack.app.registry.qualities(MODEL)
    assert quality.version == "v1"
    world.told("Batch Accepted", "Drift Found", "Drift Checked", "Retraining Decided", "Champion Promoted")


def asked_in_vain(world: World) -> None:
    world.ask("new prices")
    world.deliver()


def kept(world: World) -> None:
    assert (world.champion(), world.runs()) == ("v1", [PROMOTED, KEPT])
    assert world.watched() == ["v1"]
    world.told("Retraining Decided", "Champion Kept")


def alarm(world: World) -> None:
    event = sample("request_retraining.alarm")
    event["detail"]["alarmName"] = f"refit-quality-{MODEL}"
    world.later("request_retraining", event)
    world.deliver()


def kept_after_alarm(world: World) -> None:
    kept(world)
    (knock,) = world.knocks("alarm")
    assert knock.answer == "retrain"


def clock(world: World) -> None:
    world.tick()
    world.deliver()


def kept_after_interval(world: World) -> None:
    kept(world)
    (knock,) = world.knocks("interval")
    assert knock.answer == "retrain"


def retrain(world: World) -> None:
    world.person("retrain", lambda: actions.ask(world.stack.app, MODEL, "new prices"))
    world.deliver()


def data_during_a_run(world: World) -> None:
    """The run has been started, and goes on only after the new data have knocked."""
    world.ask("new prices")
    world.drop("2013-03.parquet", turned(3))
    world.deliver(running=False)
    world.deliver()


def a_run_after_the_run(world: World) -> None:
    assert world.outcomes() == ["accepted"] * 3
    assert (world.champion(), world.runs()) == ("v3", [PROMOTED, KEPT, PROMOTED])
    assert world.stack.app.registry.slot(MODEL).pending is None
    world.told("Batch Accepted", "Drift Found", "Retraining Decided", "Champion Kept", "Champion Promoted")


def rollback(world: World) -> None:
    app = world.stack.app
    world.person("rollback", lambda: actions.rollback(app, app.models[MODEL], None, "odd prices"))


def rolled_back(world: World) -> None:
    registry = world.stack.app.registry
    champion, hold = registry.champion(MODEL), registry.slot(MODEL).hold
    assert (champion.version, champion.generation, champion.change) == ("v1", 3, Change.ROLLBACK)
    assert hold and hold["reason"].startswith("rolled back to v1")
    assert world.watched() == ["v1"]
    world.told("Champion Rolled Back")


def retract(world: World) -> None:
    world.person("retract", lambda: actions.retract(world.stack.app, MODEL, "2013-02.parquet", "wrong year"))
    world.ask("without it")


def retracted(world: World) -> None:
    uploads = world.stack.app.registry.uploads(MODEL)
    assert [upload.key for upload in uploads if upload.retracted] == [f"incoming/{MODEL}/2013-02.parquet"]
    assert (world.champion(), world.runs()) == ("v1", [PROMOTED])


def pause_and_resume(world: World) -> None:
    app = world.stack.app
    world.person("pause", lambda: actions.pause(app, app.models[MODEL], "moving house"))
    world.ask("new prices")
    world.deliver()
    world.person("resume", lambda: actions.resume(app, app.models[MODEL]))


def resumed(world: World) -> None:
    kept(world)
    slot = world.stack.app.registry.slot(MODEL)
    assert (slot.hold, slot.pending) == (None, None)


def untold_upload(world: World) -> None:
    world.drop("2013-01.parquet", month(1), told=False)
    clock(world)


def bad_upload(world: World) -> None:
    world.upload("2013-01.parquet", month(1).drop(columns="distance"))


def quarantined(world: World) -> None:
    (upload,) = world.stack.app.registry.uploads(MODEL)
    assert upload.outcome == "quarantined"
    assert [reason.code for reason in upload.reasons] == ["missing_column"]
    assert (world.champion(), world.runs()) == ("", [])
    world.told("Batch Quarantined")


def predictions(world: World) -> None:
    """Cold, warm, and with another champion than a moment ago."""
    app = world.stack.app
    world.ask_for_predictions("v2", before="v1")
    world.ask_for_predictions("v2", before="v2")
    actions.rollback(app, app.models[MODEL], None, "odd prices")
    world.ask_for_predictions("v1", before="v2")


def lost_run_closed(world: World) -> None:
    assert (world.champion(), world.runs()) == ("v1", [PROMOTED, FAILED])
    world.told("Retraining Failed")
    world.ask("once more", force=True)
    world.deliver()
    assert world.runs() == [PROMOTED, FAILED, KEPT]


SCENARIOS = (
    Scenario("first upload", nothing, first_upload, first_champion, candidates='["full", "recent"]'),
    Scenario("drifted upload", one, drifted_upload, second_champion),
    Scenario("challenger kept", new_rows, asked_in_vain, kept),
    Scenario("alarm", new_rows, alarm, kept_after_alarm),
    Scenario("interval", new_rows, clock, kept_after_interval, triggers='every = "20 days"'),
    Scenario("on demand", new_rows, retrain, kept),
    Scenario("data during a run", new_rows, data_during_a_run, a_run_after_the_run),
    Scenario("rollback", two, rollback, rolled_back),
    Scenario("retract", new_rows, retract, retracted),
    Scenario("pause and resume", new_rows, pause_and_resume, resumed),
    Scenario("untold upload", nothing, untold_upload, first_champion),
    Scenario("bad upload", nothing, bad_upload, quarantined),
    Scenario("predictions", two, predictions, rolled_back),
    Scenario("lost run", lost_run, clock, lost_run_closed),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
