"""Runs a scenario once undisturbed, and forks a world at each request for every fault that it may meet there."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults.injection import Call, Fault, Injection, without_waiting
from faults.scenarios import Scenario
from faults.world import MODEL, World
from moto_stack import Stack, moto_stack

from refit import evaluation
from refit.aws.runtime import app_of
from refit.aws.settings import Settings
from refit_cli.oracle import check
from refit_cli.rehearsal import rehearse

MODELS = Path(__file__).parent / "models"
PATIENCE = 600  # seconds for one world, on the busiest of machines
Wanted = Callable[[Call], Sequence[Fault]]


@dataclass(frozen=True)
class Breach:
    """What did not hold in one world."""

    scenario: str
    position: int
    actor: str
    operation: str
    fault: str
    message: str

    @property
    def replay(self) -> str:
        return f".venv/bin/python scripts/sweep.py {self.scenario!r} {self.position} {self.fault!r}"

    def __str__(self) -> str:
        return (
            f"{self.scenario}: request {self.position}, {self.operation} by {self.actor}, "
            f"{self.fault}: {self.message}\n    {self.replay}"
        )


@dataclass
class Report:
    """What came of a scenario: how many requests it makes, in how many worlds one of them failed, how many held."""

    scenario: str
    calls: list[Call] = field(default_factory=list)
    worlds: int = 0
    held: int = 0
    seconds: float = 0.0
    breaches: list[Breach] = field(default_factory=list)


def every(stride: int, first: int = 0) -> Wanted:
    """One of `stride` worlds; a prime one takes each kind of fault in turn."""
    count = itertools.count(first)
    return lambda call: [fault for fault in call.faults if next(count) % stride == 0]


def only(position: int, name: str) -> Wanted:
    return lambda call: [fault for fault in call.faults if (call.position, str(fault)) == (position, name)]


def sweep(scenario: Scenario, wanted: Wanted, jobs: int = 2) -> Report:
    """Try the scenario undisturbed, and in a world of its own with each wanted fault."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        _kept_files(Path(folder) / "files"),
        _deployed(scenario) as stack,
        without_waiting(),
    ):
        forks = _Forks(Path(folder), scenario.name, wanted, jobs)
        rehearse(stack.app.models[MODEL])  # imports what children would import one by one
        injection = Injection(forks.choose)
        try:
            messages = _lived(scenario, World(stack, injection))
        except Exception as error:  # noqa: BLE001
            messages = [f"{error!r} at {traceback.extract_tb(error.__traceback__)[-1]}"]
        forks.leave(messages)  # children end here
        forks.wait(0)
        undisturbed = [Breach(scenario.name, -1, "", "", "undisturbed", message) for message in messages]
        report = Report(scenario.name, injection.calls, forks.worlds, forks.held)
        report.breaches = undisturbed + forks.breaches
        report.seconds = time.monotonic() - began
        return report


def _lived(scenario: Scenario, world: World) -> list[str]:
    """Live through a scenario; what does not hold at its end."""
    with world.at_terminal():
        scenario.before(world)
        world.begin()
        scenario.act(world)
        world.rest()
        world.end()
    try:
        scenario.expect(world)
    except AssertionError as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        world.wrong.append(str(error) or str(where.line))
    return world.wrong + [f"promise {breach.promise}: {breach.message}" for breach in check(world.stack.app)]


def _own_places(folder: Path) -> None:
    """Open this world's files anew: places in files that were open when it split off are shared, too."""
    for link in list(Path("/proc/self/fd").iterdir()):
        number = int(link.name)
        with contextlib.suppress(OSError):  # the listing's own is gone by now
            path = link.readlink()
            if path.is_relative_to(folder):
                again = os.open(path, fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)
                os.lseek(again, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
                os.dup2(again, number)
                os.close(again)


@contextmanager
def _kept_files(folder: Path) -> Iterator[None]:
    """Worlds share the disk: what one wrote before others split off has to stay until all have ended."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setattr(tempfile.TemporaryDirectory, "_rmtree", lambda *_, **__: None)
        yield


@contextmanager
def _deployed(scenario: Scenario) -> Iterator[Stack]:
    """A stack with the scenario's model.toml."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        shutil.copytree(MODELS, models)
        toml = models / "fares/model.toml"
        text = toml.read_text().replace("[triggers]\n", f"[triggers]\n{scenario.triggers}\n")
        toml.write_text(text.replace('candidates = ["full"]', f"candidates = {scenario.candidates}"))
        patch.setattr(evaluation, "RESAMPLES", 40)  # the data leave no doubt
        patch.setenv("POWERTOOLS_METRICS_DISABLED", "true")  # a killed process leaves them half told
        with moto_stack(patch) as stack:
            patch.setenv("REFIT_MODELS_DIR", str(models))
            patch.setenv("REFIT_SWEEP_MINUTES", "0")
            stack.app = app_of(Settings.from_env())
            yield stack


class _Forks:
    """Child processes, each of which goes on from here with one fault."""

    def __init__(self, folder: Path, scenario: str, wanted: Wanted, jobs: int) -> None:
        self.folder, self.scenario, self.wanted, self.jobs = folder, scenario, wanted, jobs
        self.worlds = self.held = 0
        self.breaches: list[Breach] = []
        self._child = False
        self._alive: dict[int, tuple[Call, Fault]] = {}

    def choose(self, call: Call) -> Fault | None:
        if self._child:
            return None
        for fault in self.wanted(call):
            self.wait(self.jobs - 1)
            self.worlds += 1
            pid = os.fork()
            if not pid:
                gc.disable()  # a short life, and what is not touched is not copied
                signal.alarm(PATIENCE)
                self._child = True
                _own_places(self.folder)
                return fault
            self._alive[pid] = call, fault
        return None

    def leave(self, messages: list[str]) -> None:
        """The end of a child: what it saw is left for its parent."""
        if self._child:
            self.folder.joinpath(str(os.getpid())).write_text(json.dumps(messages))
            os._exit(0)

    def wait(self, most: int) -> None:
        """Wait until at most so many children live."""
        while len(self._alive) > most:
            pid, _ = os.waitpid(-1, 0)
            call, fault = self._alive.pop(pid)
            left = self.folder / str(pid)
            found = json.loads(left.read_text()) if left.exists() else ["the world ended without a word"]
            where = (self.scenario, call.position, call.actor, call.operation, str(fault))
            self.breaches += [Breach(*where, message) for message in found]
            self.held += not found
