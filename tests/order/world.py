"""A moto stack with what AWS does around it in the hands of the test: the mail, the executions and the clock."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from moto.backends import get_backend
from moto.s3.models import s3_backends
from moto.stepfunctions.models import stepfunctions_backends
from moto_stack import ACCOUNT, REGION, STACK, Stack, moto_stack, sample

from refit import evaluation
from refit.aws import alarms, runtime
from refit.aws.runtime import App
from refit.batches import Outcome, effective
from refit.errors import ChampionMoved, RefitError
from refit.models import ModelSpec
from refit.records import RunStatus
from refit_cli import actions
from refit_cli.oracle import check

MODEL = "tiny"
MODELS = Path(__file__).parent / "models"
DONE = {"batchItemFailures": []}
ARRIVED = ("check_drift", "check_quality")  # whom the arrival of a profile concerns
OWN = ("mail", "puts", "walks", "told", "arrived")  # what a world remembers itself
ENDS = {
    "Champion Promoted": RunStatus.PROMOTED,
    "Champion Kept": RunStatus.KEPT,
    "Retraining Failed": RunStatus.FAILED,
}
KNOCKS = ("Drift Checked", "Retraining Requested")


def rows(n: int = 80, *, seed: int = 0, flipped: bool = False) -> pd.DataFrame:
    """Rows of one day: those with a positive x are true; `flipped`: those with a negative one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, n)
    at = pd.Timestamp(2013, 1, 1, tz="UTC") + pd.to_timedelta(seed * 24 * 60 + np.arange(n), unit="min")
    return pd.DataFrame({"at": at, "y": (x > 0) ^ flipped, "x": x, "z": rng.normal(0, 1, n)})


class Clock:
    """Takes the place of datetime in refit.aws.runtime: now is what the test says."""

    time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self, zone: Any) -> datetime:
        return self.time

    def on(self, **by: float) -> None:
        self.time += timedelta(**by)


@dataclass
class Put:
    """An object version as the test wrote it. `same_second`: as another one of that key; S3's times are seconds."""

    key: str
    version_id: str
    sha256: str
    written: datetime
    deleted: bool = False
    same_second: bool = False


@dataclass
class Letter:
    """An event on its way to a function; AWS delivers it at least once, in any order. `put`: what it tells of."""

    function: str
    event: Any
    put: Put | None = None
    delivered: int = 0
    dropped: bool = False


@dataclass
class Execution:
    """The state machine's walk, one function at a time."""

    name: str
    state: dict[str, Any]
    step: str = "train"
    status: str = "RUNNING"

    def event(self) -> Any:
        event = sample(self.step, **self.state)
        if self.step == "train":
            return event | {"candidate": self.state["candidates"][0]["name"]}
        missing = {"evaluation", "final", "trained"} - self.state.keys()
        return {name: value for name, value in event.items() if name not in missing}

    def goes_on(self, result: Any) -> None:
        if self.step == "train":
            self.state["trained"] = [result]
            self.step = "evaluate"
        elif self.step == "evaluate":
            self.state["evaluation"] = result
            self.step = "finalize" if result["promote"] else "keep_champion"
        elif self.step == "finalize":
            self.state["final"] = result
            self.step = "promote"
        else:
            self.status = "FAILED" if self.step == "record_failure" else "SUCCEEDED"

    def catches(self, error: Exception) -> None:
        if self.step == "record_failure":
            self.status = "FAILED"
            return
        cause = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
        self.state["error"] = {"Error": type(error).__name__, "Cause": cause}
        moved = isinstance(error, ChampionMoved) and self.step in ("evaluate", "promote")
        self.step = "keep_champion" if moved else "record_failure"


@dataclass
class World:
    stack: Stack
    clock: Clock
    mail: list[Letter] = field(default_factory=list)
    puts: list[Put] = field(default_factory=list)
    walks: dict[str, Execution] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)  # what the bus carried
    arrived: set[str] = field(default_factory=set)  # keys of profiles

    @property
    def app(self) -> App:
        return self.stack.app

    @property
    def spec(self) -> ModelSpec:
        return self.app.models[MODEL]

    # ------------------------------------------------------------ uploads
    def drop(
        self, name: str, content: pd.DataFrame | bytes, *, same_second: bool = False, parts: bool = False
    ) -> Put:
        """Put an object under incoming/; its event is in the mail. Time goes on by a second, or stays."""
        key, version_id = _in_parts(self, name, content) if parts else self.stack.put(name, content, MODEL)
        found = self._object(key, version_id)
        written = datetime(2013, 1, 1) + timedelta(seconds=len(self.puts))
        if same_second and self.puts:
            written = self.puts[-1].written
        found.last_modified = written
        put = Put(key, version_id, hashlib.sha256(found.value).hexdigest(), written)
        for other in self.puts:
            if (other.key, other.written) == (key, written):
                put.same_second = other.same_second = True
        self.puts.append(put)
        event = self.stack.arrival(key, version_id)
        body = json.loads(event["Records"][0]["body"])
        # Sequencers grow, and are not all of the same length.
        body["detail"]["object"]["sequencer"] = f"{0x617F08 + len(self.puts):014X}".rstrip("0")
        event["Records"][0]["body"] = json.dumps(body)
        self.mail.append(Letter("validate", event, put))
        return put

    def _object(self, key: str, version_id: str) -> Any:
        return s3_backends[ACCOUNT]["aws"].get_object(self.app.settings.data_bucket, key, version_id)

    def delete(self, put: Put) -> None:
        self.app.s3.delete_object(Bucket=self.app.settings.data_bucket, Key=put.key, VersionId=put.version_id)
        put.deleted = True

    # ------------------------------------------------------------ mail
    def deliver(self, letter: Letter) -> Any:
        letter.delivered += 1
        answer = self.stack.call(letter.function, letter.event)
        if letter.function == "validate":
            assert answer == DONE
        self.collect()
        return answer

    def deliver_all(self) -> bool:
        """Deliver what is left, and what comes of it; whether there was anything."""
        found = False
        while left := [letter for letter in self.mail if not letter.delivered and not letter.dropped]:
            found = True
            for letter in left:
                self.deliver(letter)
        return found

    def collect(self) -> None:
        """Take what S3, the bus, the queue and Step Functions have sent."""
        for event in self.stack.heard():
            self.told.append(event)
            if event["detail-type"] in KNOCKS:
                self.mail.append(Letter("request_retraining", event))
        for key in self.stack.versions_of(f"accepted/{MODEL}/"):
            if key.endswith("profile.json") and key not in self.arrived:
                self.arrived.add(key)
                batch = key.split("/")[2]
                self.mail += [Letter(f, self.stack.profile_event(f, batch, MODEL)) for f in ARRIVED]
        self.mail += [Letter("validate", event) for event in self.stack.sent()]
        for execution in stepfunctions_backends[ACCOUNT][REGION].state_machines[0].executions:
            if execution.name not in self.walks:
                self.walks[execution.name] = Execution(execution.name, json.loads(execution.execution_input))

    def tick(self) -> Any:
        ticked = self.stack.tick()
        self.collect()
        return ticked

    def ask(self, request_id: str, **detail: Any) -> Any:
        answer = self.stack.ask(request_id, model=MODEL, reason="why not", **detail)
        self.collect()
        return answer

    # ------------------------------------------------------------ executions
    def running(self) -> list[Execution]:
        return [walk for walk in self.walks.values() if walk.status == "RUNNING"]

    def walk(self, name: str, until: str = "") -> Execution:
        """Let an execution take its steps, up to the one named."""
        walk = self.walks[name]
        while walk.status == "RUNNING" and walk.step != until:
            self.advance(walk)
        return walk

    def advance(self, walk: Execution) -> None:
        """One step, with what the state machine makes of its end."""
        try:
            walk.goes_on(self.stack.call(walk.step, walk.event()))
        except RefitError as error:
            walk.catches(error)
        if walk.status != "RUNNING":
            self._ended(walk)
        self.collect()

    def late_step(self, walk: Execution) -> None:
        """The function that was under way when its execution ended, or is tried again: nobody waits for it."""
        with suppress(RefitError):
            self.stack.call(walk.step, walk.event())
        self.collect()

    def abort(self, walk: Execution) -> None:
        walk.status = "ABORTED"
        self._ended(walk)

    def vanish(self, walk: Execution) -> None:
        """Step Functions forgets closed executions after 90 days, and their names are free again."""
        machine = stepfunctions_backends[ACCOUNT][REGION].state_machines[0]
        machine.executions = [each for each in machine.executions if each.name != walk.name]
        del self.walks[walk.name]

    def _ended(self, walk: Execution) -> None:
        machine = stepfunctions_backends[ACCOUNT][REGION].state_machines[0]
        (found,) = [each for each in machine.executions if each.name == walk.name]
        found.status = walk.status
        run_id = walk.state["run_id"]
        self.mail.append(Letter("request_retraining", self.stack.ended(run_id, walk.status, MODEL)))

    # ------------------------------------------------------------ copies
    def kept(self) -> dict[str, Any]:
        """A copy of all there is, for `again`; the queues must be empty."""
        backends = {name: _copied(vars(backend)) for name, backend in _backends().items()}
        own = {name: copy.deepcopy(vars(self)[name]) for name in OWN}
        return {"backends": backends, "own": own, "time": self.clock.time}

    def again(self, kept: dict[str, Any]) -> None:
        """Everything as it was when `kept` was made."""
        for name, backend in _backends().items():
            vars(backend).clear()
            vars(backend).update(_copied(kept["backends"][name]))
        self.stack.heard()
        self.stack.sent()
        vars(self).update(copy.deepcopy(kept["own"]))
        self.clock.time = kept["time"]

    # ------------------------------------------------------------ rest
    def rest(self) -> None:
        """Deliver what is left, finish what runs, tick until nothing is new."""
        if self.app.registry.slot(MODEL).hold:
            self.lift()
        for _ in range(40):
            self.collect()
            left = self.deliver_all()
            for walk in self.running():
                self.walk(walk.name)
            if left or self.running():
                continue
            ticked = self.tick()
            if ticked["models"][MODEL] == "skipped: nothing new" and not ticked["swept"]:
                return
        raise AssertionError(f"no rest: {ticked}")

    def lift(self) -> None:
        """What `refit resume` does, without waiting for the answer: the tick asks as well."""
        actions._set_hold(self.app, MODEL, None)

    def holds(self) -> None:
        """What is promised of a stack at rest."""
        assert check(self.app) == []
        registry = self.app.registry
        slot = registry.slot(MODEL)
        assert (slot.running, slot.pending) == ("", None)
        uploads = registry.uploads(MODEL)
        recorded = [(upload.key, upload.version_id) for upload in uploads]
        there = [(put.key, put.version_id) for put in self.puts if not put.deleted]
        assert sorted(recorded) == sorted(set(recorded))
        assert set(there) <= set(recorded) <= {(put.key, put.version_id) for put in self.puts}
        accepted = {(u.key, u.version_id): u for u in uploads if u.outcome is Outcome.ACCEPTED}
        retracted = {upload.sha256 for upload in accepted.values() if upload.retracted}
        newest = {put.key: put.sha256 for put in self.puts if (put.key, put.version_id) in accepted}
        assert {upload.sha256 for upload in effective(uploads)} == set(newest.values()) - retracted
        self._told_the_truth()
        self._watches_the_champion()

    def _told_the_truth(self) -> None:
        """No run was announced with another end than its record has."""
        ended = {run.run_id: run.status for run in self.app.registry.runs(MODEL)}
        for event in self.told:
            if event["detail-type"] in ENDS:
                assert ended[event["detail"]["run_id"]] is ENDS[event["detail-type"]], event["detail"]

    def _watches_the_champion(self) -> None:
        """The alarm on the score is that of the version in service."""
        champion = self.app.registry.champion(MODEL)
        found = self.app.cloudwatch.describe_alarms(AlarmNames=[alarms.alarm_name(STACK, MODEL)])
        watched = [alarm["MetricName"] for alarm in found["MetricAlarms"]]
        assert watched == ([alarms.margin_name(MODEL, champion.version)] if champion else [])


def _backends() -> dict[str, Any]:
    places = {"s3": "aws", "dynamodb": REGION, "stepfunctions": REGION, "cloudwatch": REGION}
    return {name: get_backend(name)[ACCOUNT][place] for name, place in places.items()}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(state)
    for name, bucket in state.get("buckets", {}).items():
        for key, versions in bucket.keys.lists():  # a plain copy has the newest version only
            found["buckets"][name].keys.setlist(key, copy.deepcopy(versions))
    return found


def _in_parts(world: World, name: str, content: pd.DataFrame | bytes) -> tuple[str, str]:
    from rows import parquet

    s3, bucket, key = world.app.s3, world.app.settings.data_bucket, f"incoming/{MODEL}/{name}"
    body = content if isinstance(content, bytes) else parquet(content)
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    done = s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload=parts)
    return key, done["VersionId"]


@contextmanager
def small_world() -> Iterator[World]:
    """An empty stack with the one tiny model; the clock stands still."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock()
        monkeypatch.setattr(runtime, "datetime", clock)
        monkeypatch.setattr(evaluation, "RESAMPLES", 20)
        monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
        monkeypatch.setenv("REFIT_SWEEP_MINUTES", "0")
        with moto_stack(monkeypatch) as stack:
            monkeypatch.setenv("REFIT_MODELS_DIR", str(MODELS))
            monkeypatch.setenv("REFIT_SWEEP_MINUTES", "0")
            stack.app = runtime.app_of(runtime.Settings.from_env())
            yield World(stack, clock)
