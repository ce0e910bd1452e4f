"""Two calls taking turns at AWS: who goes on at each call is decided, not left to chance."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from refit.aws.runtime import App

# Objects in the store are named after their content, and events are delivered later in any case: where such a call
# stands makes no difference.
WRITES = {
    *("PutItem", "TransactWriteItems", "StartExecution"),
    *("PutMetricAlarm", "SetAlarmState", "DeleteAlarms"),
}
SEEN = WRITES | {"GetItem", "Query", "DescribeExecution"}


@dataclass
class Task:
    work: Callable[[], Any]
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    result: Any = None
    done: bool = False


@dataclass
class Turns:
    """`run` starts the tasks; each stops before each call of `stops` (None: of any), until it is chosen."""

    stops: set[str] | None
    tasks: dict[int, Task] = field(default_factory=dict)
    back: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self, works: Sequence[Callable[[], Any]], choose: Callable[[list[int]], int]) -> list[Any]:
        """Results of all, or what they raised. `choose` is given who is not done."""
        tasks, threads = [Task(work) for work in works], []
        for task in tasks:
            threads.append(threading.Thread(target=self._work, args=(task,), daemon=True))
            threads[-1].start()
        while waiting := [number for number, task in enumerate(tasks) if not task.done]:
            tasks[choose(waiting)].go.release()
            assert self.back.acquire(timeout=30), "a task hangs"
        for thread in threads:
            thread.join()
        return [task.result for task in tasks]

    def _work(self, task: Task) -> None:
        self.tasks[threading.get_ident()] = task
        task.go.acquire()
        try:
            task.result = task.work()
        except Exception as error:  # noqa: BLE001
            task.result = error
        del self.tasks[threading.get_ident()]
        task.done = True
        self.back.release()

    def gate(self, model: Any, **_: Any) -> None:
        task = self.tasks.get(threading.get_ident())
        if task and (self.stops is None or model.name in self.stops):
            self.back.release()
            task.go.acquire()


@contextmanager
def turns(app: App, stops: set[str] | None = None) -> Iterator[Turns]:
    clients = [app.s3, app.registry.dynamodb, app.bus.events, app.sfn, app.sqs, app.cloudwatch]
    found = Turns(stops)
    for client in clients:
        client.meta.events.register_first("before-call.*", found.gate)
    try:
        yield found
    finally:
        for client in clients:
            client.meta.events.unregister("before-call.*", found.gate)


@dataclass
class Schedule:
    """`first` makes `a` calls, the other one `b`, then the first goes on to its end: two pre-emptions."""

    first: int
    a: int
    b: int
    made: list[int] = field(default_factory=lambda: [0, 0])

    def __call__(self, waiting: list[int]) -> int:
        other = 1 - self.first
        wanted = self.first
        if self.made[self.first] > self.a and self.made[other] < self.b:
            wanted = other
        number = wanted if wanted in waiting else waiting[0]
        self.made[number] += 1
        return number

    def __str__(self) -> str:
        return f"{self.first} makes {self.a} calls, then the other one {self.b}"


def all_schedules(play: Callable[[Schedule], None]) -> int:
    """Play every schedule with up to two pre-emptions; returns how many there were."""
    played = 0
    for first in (0, 1):
        a = 0
        while True:
            b = 1
            while True:
                schedule = Schedule(first, a, b)
                play(schedule)
                played += 1
                if schedule.made[1 - first] <= b:  # it was done before: more calls are the same schedule
                    break
                b += 1
            if schedule.made[first] <= a + 1:
                break
            a += 1
    return played


class Chance:
    """A schedule by a seed."""

    def __init__(self, seed: str) -> None:
        self.seed, self.random = seed, random.Random(seed)

    def __call__(self, waiting: list[int]) -> int:
        return self.random.choice(waiting)

    def __str__(self) -> str:
        return f"reproduce with REFIT_SEED={self.seed}"
