"""Memory of the local stack's processes over time, as Linux tells."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

EVERY = 2.0  # seconds
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """Resident bytes at one moment."""

    at: float
    engine: int  # holds all objects and records
    workers: int  # all of them together
    largest: dict[str, int]  # of the workers of each function


@dataclass
class Watch:
    """Samples a process group until it is stopped."""

    leader: int
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    @property
    def now(self) -> Sample:
        return self.samples[-1]

    def since(self, at: float) -> list[Sample]:
        return [sample for sample in self.samples if sample.at >= at]

    def _sample(self) -> None:
        while True:
            self.samples.append(take(self.leader))
            if self._stop.wait(EVERY):
                return


def take(leader: int) -> Sample:
    """Sizes of all processes of the group that `leader` leads."""
    engine, workers, largest = 0, 0, dict[str, int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) != leader:
                continue
            size = int((folder / "statm").read_text().split()[1]) * PAGE
            command = (folder / "cmdline").read_text()
        except OSError:  # it has just ended
            continue
        if int(folder.name) == leader:
            engine = size
            continue
        workers += size
        found = re.search(r"ministack-lambda-[^/]*?(\w+Function)", command)
        name = found[1] if found else "other"
        largest[name] = max(size, largest.get(name, 0))
    return Sample(time.monotonic(), engine, workers, largest)


def levels(values: Iterable[int]) -> tuple[float, float]:
    """What values lie about in their first and in their last fifth."""
    known = list(values)
    fifth = max(1, len(known) // 5)
    return median(known[:fifth]), median(known[-fifth:])
