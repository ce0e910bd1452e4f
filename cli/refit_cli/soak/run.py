"""The soak itself: uploads in rounds, then rest, then what must hold."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refit.batches import Outcome, Upload, effective, is_final, upload_id
from refit.errors import RefitError
from refit.records import Answered
from refit_cli import oracle
from refit_cli.demo.replay import Caller
from refit_cli.deployment import Deployment
from refit_cli.local import LocalStack, local_stack
from refit_cli.soak import files, memory
from refit_cli.soak.files import MODEL, STRAY, Drop
from refit_cli.soak.post import Post

MODELS = Path(__file__).parent / "models"
ROUNDS = 20  # in which the uploads come
ENOUGH = (
    30  # messages that wait, at least; with fewer, or fewer than a round has uploads, the next round comes
)
KNOCKS = 500
REQUEST = "soak"
RATE = 120.0  # uploads a minute that have to come to their outcome
WORKER_GROWTH = 0.05  # of the workers' memory over the second half; more is a leak
ENGINE_GROWTH = 150_000  # bytes an upload: its objects, records, events and logs, as the engine holds them
FULL = 1000  # uploads from which on rate, memory and the number of promotions are judged


class Failed(RefitError):
    """The soak could not be brought to its end; the message says where it stood."""


@dataclass
class Figures:
    """What was seen. Bytes are as the kernel and the buckets tell them, over the second half of the uploads."""

    uploads: int
    seed: int
    knocks: int = KNOCKS  # copies of one wish
    bad: int = 0
    lost: int = 0
    messages: int = 0
    minutes: float = 0.0  # from the first upload to the last outcome
    decided: float = 0.0  # minutes until, of each accepted one, it was decided whether to retrain
    runs: int = 0
    promotions: int = 0
    predictions: int = 0
    slowest: float = 0.0
    workers: tuple[float, float] = (0.0, 0.0)  # one warm worker of each function
    engine: tuple[float, float] = (0.0, 0.0)
    grown: tuple[float, float] = (0.0, 0.0)  # the engine, an upload, in either half
    stored: float = 0.0  # an upload, in the second half: objects, records and lines of logs
    breaches: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.uploads / self.minutes if self.minutes else 0.0


def soak(
    uploads: int, seed: int, say: Callable[[str], None], log_dir: Path, by_hand: bool = False
) -> Figures:
    """Run it; what does not hold is in the figures' breaches.

    Parameters
    ----------
    by_hand
        Invoke the tick instead of waiting for the scheduled rule, which looks every minute for what is
        older than one.

    Raises Failed when it does not come to its end in time.
    """
    parameters = {"TickRate": "rate(1 minute)", "SweepAfterMinutes": "0" if by_hand else "1"}
    if by_hand:
        parameters["TickRate"] = "rate(1 day)"
    with local_stack(models=MODELS, parameters=parameters, log_dir=log_dir) as stack, _environment(stack):
        return Soak(stack, uploads, seed, say, by_hand).run()


@contextmanager
def _environment(stack: LocalStack) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update(stack.env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Soak:
    def __init__(
        self, stack: LocalStack, uploads: int, seed: int, say: Callable[[str], None], by_hand: bool
    ) -> None:
        self.stack, self.say, self.by_hand = stack, say, by_hand
        self.deployment = Deployment.find(MODELS)
        self.app = self.deployment.app
        self.full = uploads >= FULL
        self.drops = files.drops(uploads, seed, turns=4 if self.full else 0)
        self.put: dict[tuple[str, str], Drop] = {}  # key and version id, in the order of putting
        self.figures, self.round = (
            Figures(uploads, seed, KNOCKS if self.full else 100),
            max(1, uploads // ROUNDS),
        )
        self.post = Post(stack, seed)
        self.caller = Caller(self.deployment, files.records(), MODEL, pause=1.0)
        self.begun = time.monotonic()
        self.end = self.begun + 180 + uploads  # a minute for 60 uploads, and three to come to rest
        self.said = 0.0

    def run(self) -> Figures:
        self.watch = memory.Watch(self.stack.process_id)
        try:
            self.upload()
            self.settle()
            self.knock()
            self.rest()
        finally:
            self.caller.stop()
            self.watch.stop()
        self.judge()
        return self.figures

    # ------------------------------------------------------------ what is done
    def upload(self) -> None:
        """Round by round, so that there is always something waiting, but never for long."""
        half, stored = self.begun, 0
        for first in range(0, len(self.drops), self.round):
            if first >= len(self.drops) // 2 and not stored:
                half, stored = time.monotonic(), self._stored()
            batch = self.drops[first : first + self.round]
            for drop in batch:
                put = self.app.s3.put_object(
                    Bucket=self.app.settings.data_bucket, Key=drop.key, Body=drop.content
                )
                self.put[drop.key, put["VersionId"]] = drop
            self.post.deliver(len(batch), lambda key, version: self.put[key, version].lost)
            self._until(lambda: self.post.waiting() < max(ENOUGH, self.round), "the queue is not taken in")
        self.post.deliver_late()
        self.half, self.stored_before = half, stored

    def settle(self) -> None:
        """Until each upload has its outcome, those that no event told of as well."""

        def settled() -> bool:
            if self.post.waiting():
                return False
            done = self._final() == len(self.put)
            if not done and self.by_hand:
                self._invoke("TickFunction")
            return done

        self._until(settled, "uploads have no outcome", pause=1)
        self.figures.minutes = (time.monotonic() - self.begun) / 60
        self._until(lambda: not self._undecided(), "accepted uploads are not decided on", pause=1)
        self.figures.decided = (time.monotonic() - self.begun) / 60
        self._until(self._idle, "runs do not end", pause=1)

    def knock(self) -> None:
        """One wish, told of again and again."""
        self.runs_before = len(self.app.registry.runs(MODEL))
        wish = {"model": MODEL, "reason": "a wish", "request_id": REQUEST, "force": True}
        for _ in range(self.figures.knocks // 10):
            self._ask([wish] * 10)
        # The door takes them in turn, and refuses this one on record.
        self._ask([{"model": STRAY, "reason": "the last one"}])
        self._until(lambda: bool(self.app.registry.refusals()), "the knocks are not answered", pause=1)

    def rest(self) -> None:
        """Until nothing happens any more."""
        seen: list[Any] = []

        def quiet() -> bool:
            registry = self.app.registry
            seen.append(
                (len(registry.knocks(MODEL)), len(registry.qualities(MODEL)), registry.slot(MODEL).revision)
            )
            return self._idle() and len(seen) > 3 and len(set(seen[-4:])) == 1

        self._until(quiet, "it does not come to rest", pause=1)

    # ------------------------------------------------------------ what must hold
    def judge(self) -> None:
        figures, registry = self.figures, self.app.registry
        figures.bad = sum(drop.outcome is not Outcome.ACCEPTED for drop in self.drops)
        figures.lost = sum(drop.lost for drop in self.drops)
        figures.messages = self.post.sent
        figures.predictions, figures.slowest = self.caller.answers, self.caller.slowest
        figures.runs = len(registry.runs(MODEL))
        figures.promotions = len(registry.generations(MODEL))
        second, many = self.watch.since(self.half), len(self.drops) // 2
        figures.stored = (self._stored() - self.stored_before) / many
        first = self.watch.samples[0].engine
        figures.engine = (second[0].engine, second[-1].engine)
        figures.grown = ((second[0].engine - first) / many, (second[-1].engine - second[0].engine) / many)
        figures.workers = memory.levels(sum(sample.largest.values()) for sample in second)
        self.say("the promises are checked")
        found = [*self._uploads(), *self._knocks(), *self._service()]
        found += [f"promise {breach.promise}: {breach.message}" for breach in oracle.check(self.app)]
        figures.breaches = found

    def _uploads(self) -> Iterator[str]:
        """Each object version in one record that says what has to be said, and nothing else in the registry."""
        records = {upload.upload_id: upload for upload in self._records()}
        bucket = self.app.settings.data_bucket
        if len(records) != len(self.put):
            yield f"{len(self.put)} object versions have {len(records)} records"
        for (key, version), drop in self.put.items():
            upload = records.get(upload_id(bucket, key, version))
            if upload is None:
                yield f"{key} ({version}) has no record"
            elif upload.outcome is not drop.outcome or not upload.announced:
                yield f"{key} is {upload.outcome}, told: {upload.announced}; it had to be {drop.outcome}"
            elif drop.code and drop.code not in {reason.code for reason in upload.reasons}:
                yield f"{key}: {drop.code} is not among its reasons"
            elif bool(upload.sequencer) == drop.lost:
                yield f"{key}: an event told of it: {not drop.lost}, its record says otherwise"
        accepted = [upload for upload in records.values() if upload.outcome is Outcome.ACCEPTED]
        first = Counter(upload.sha256 for upload in accepted if not upload.duplicate_of)
        twice = [sha256 for sha256 in {upload.sha256 for upload in accepted} if first[sha256] != 1]
        if twice:
            yield f"{len(twice)} contents were not new exactly once"
        newest = {
            key: drop.content for (key, _), drop in self.put.items() if drop.outcome is Outcome.ACCEPTED
        }
        due = {hashlib.sha256(content).hexdigest() for content in newest.values()}
        if {upload.sha256 for upload in effective(accepted)} != due:
            yield "what is learned from is not the newest accepted version of each key"
        if left := self.post.dead():
            yield f"{left} messages are in the dead-letter queue"

    def _knocks(self) -> Iterator[str]:
        """Every accepted batch was decided on; one wish is one decision and one run."""
        registry = self.app.registry
        knocks, runs = registry.knocks(MODEL), registry.runs(MODEL)
        if undecided := self._undecided():
            yield f"{len(undecided)} accepted batches were never decided on"
        asked: list[Answered] = [knock for knock in knocks if knock.knock_id == f"asked-{REQUEST}"]
        if len(asked) != 1 or len(runs) != self.runs_before + 1 or asked[0].run_id != runs[-1].run_id:
            answers = [f"{knock.answer}: {knock.reasons[0]}" for knock in asked]
            yield f"{self.figures.knocks} times one wish: {len(runs) - self.runs_before} runs, answered {answers}"
        # The one that was forced may have found too few new rows to compare on.
        forced = {knock.run_id for knock in asked}
        failed = [
            run.run_id for run in runs if run.status not in ("promoted", "kept") and run.run_id not in forced
        ]
        if failed:
            yield f"without a verdict: {', '.join(failed)}"
        numbers = sorted(generation.generation for generation in registry.generations(MODEL))
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"generations are {numbers}"
        if len(numbers) < (4 if self.full else 1):
            yield f"{len(numbers)} promotions: too few to speak of"

    def _service(self) -> Iterator[str]:
        figures = self.figures
        if not figures.predictions or self.caller.failures:
            failures = self.caller.failures
            yield f"predict answered {figures.predictions} times and failed {len(failures)} times: {failures[:3]}"
        if self.full and figures.rate < RATE:
            yield f"{figures.rate:.0f} uploads a minute, {RATE:.0f} are due"
        before, after = figures.workers
        if self.full and after > before * (1 + WORKER_GROWTH):
            yield f"the workers grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB"
        if self.full and figures.grown[1] > ENGINE_GROWTH:
            yield f"the engine grew by {figures.grown[1] / 1e3:.0f} kB an upload"

    # ------------------------------------------------------------ how it stands
    def _records(self) -> list[Upload]:
        return [*self.app.registry.uploads(MODEL), *self.app.registry.uploads(STRAY)]

    def _final(self) -> int:
        return sum(is_final(upload, self.app.models) for upload in self._records())

    def _undecided(self) -> set[str]:
        batches = {upload.batch_id for upload in self._records() if upload.outcome is Outcome.ACCEPTED}
        return batches - {knock.batch_id for knock in self.app.registry.knocks(MODEL)}

    def _idle(self) -> bool:
        slot = self.app.registry.slot(MODEL)
        return not slot.running and slot.pending is None

    def _stored(self) -> int:
        """Bytes of all object versions, records and lines of logs; never 0."""
        total = 1
        for bucket in (self.app.settings.data_bucket, self.app.settings.store_bucket):
            for page in self.app.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                total += sum(version["Size"] for version in page.get("Versions", []))
        table = self.stack.client("dynamodb").get_paginator("scan")
        for page in table.paginate(TableName=self.app.settings.table):
            total += sum(len(json.dumps(item)) for item in page["Items"])
        groups = self.stack.client("logs").describe_log_groups()["logGroups"]
        return total + sum(group["storedBytes"] for group in groups)

    def _ask(self, wishes: list[dict[str, Any]]) -> None:
        entry = {
            "EventBusName": self.app.settings.event_bus,
            "Source": "soak",
            "DetailType": "Retraining Requested",
        }
        entries = [{**entry, "Detail": json.dumps(wish)} for wish in wishes]
        self.stack.client("events").put_events(Entries=entries)

    def _function(self, logical: str) -> str:
        functions = self.stack.client("lambda").list_functions()["Functions"]
        return next(each["FunctionName"] for each in functions if logical in each["FunctionName"])

    def _invoke(self, logical: str) -> None:
        answer = self.stack.client("lambda").invoke(FunctionName=self._function(logical), Payload=b"{}")
        if "FunctionError" in answer:
            raise Failed(f"{logical}: {answer['Payload'].read().decode()[:500]}")

    def _until(self, done: Callable[[], bool], otherwise: str, pause: float = 0.2) -> None:
        while not done():
            self.stack.raise_if_dead()
            if time.monotonic() > self.end:
                raise Failed(f"the time is up: {otherwise}; {self._standing()}")
            if not self.caller.running and self.app.registry.champion(MODEL):
                self.caller.start()
            if time.monotonic() > self.said + 10:
                self.said = time.monotonic()
                self.say(self._standing())
                if dead := self.post.dead():
                    raise Failed(f"{dead} messages are in the dead-letter queue; {self._standing()}")
            time.sleep(pause)

    def _standing(self) -> str:
        seconds, sample = int(time.monotonic() - self.begun), self.watch.now
        generations = len(self.app.registry.generations(MODEL))
        return (
            f"{seconds // 60:3d}:{seconds % 60:02d}  {len(self.put)} uploaded, {self._final()} at their outcome, "
            f"{self.post.waiting()} messages wait; {len(self.app.registry.runs(MODEL))} runs, "
            f"{generations} promotions; {self.caller.answers} predictions; engine {sample.engine >> 20} MB, "
            f"workers {sample.workers >> 20} MB"
        )
