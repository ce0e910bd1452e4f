"""What follows a change of the champion: its alarm, and telling of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from refit.aws import alarms
from refit.aws.bus import Event
from refit.aws.runtime import App
from refit.models import ModelSpec
from refit.records import Change, Generation


def settle(app: App, spec: ModelSpec) -> None:
    """Let the alarm watch the champion, and tell of every change that has not been told of.

    Whoever changes the champion calls this next, and the tick makes up for those that
    died in between: the registry remembers up to which generation all of it was done.
    """
    registry = app.registry
    champion, told = registry.champion(spec.name), registry.told_of(spec.name)
    watched = 0
    while champion and champion.generation > max(told, watched):
        version = registry.recorded(spec.name, champion.version)
        alarms.watch(app.cloudwatch, app.settings.stack, version, spec)
        watched = champion.generation
        champion = registry.champion(spec.name)  # should it have moved meanwhile, its own alarm may be lost
    for number in range(told + 1, watched + 1):
        change = registry.generation(spec.name, number)
        if change:
            _tell(app, change)
    if watched:
        registry.note_told_of(spec.name, watched)


def _tell(app: App, change: Generation) -> None:
    if change.change is Change.ROLLBACK:
        app.bus.publish(Event.CHAMPION_ROLLED_BACK, asdict(change))
    elif change.change is not Change.IMPORT:
        app.bus.publish(Event.CHAMPION_PROMOTED, promoted(change))


def promoted(change: Generation) -> dict[str, Any]:
    """The detail of "Champion Promoted"."""
    return {
        "model": change.model,
        "run_id": change.run_id,
        "version": change.version,
        "generation": change.generation,
        "previous": change.previous,
        "reason": change.reason,
        "challenger_score": change.score,
        "champion_score": change.champion_score,
    }
