"""A stack and the AWS around it: queue, bus, schedule and state machine, each delivering as AWS does."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pandas as pd
from faults.injection import Injection, Killed
from faults.machine import Execution, TaskFailed
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.models import stepfunctions_backends
from moto_stack import ACCOUNT, REGION, STACK, Stack, sample
from moto_workflow import FUNCTIONS

from refit.records import Answered, RunStatus
from refit_cli import actions
from refit_cli.actions import Refused

MODEL = "fares"
RECORDS = [{"distance": 1000.0, "seats_left": 7}, {"distance": 300.0, "seats_left": 1100}]
MOST_RECEIVED = 5  # maxReceiveCount of the intake queue
TRIES = 3  # of Lambda for what is invoked asynchronously
FAILURES = (Exception, Killed)
INTAKE, HEARD = f"{STACK}-IntakeQueue", "heard"  # queues


def _holds(queue: str) -> bool:
    """Whether messages wait; asking moto directly costs nothing."""
    return bool(sqs_backends[ACCOUNT][REGION].queues[queue].messages)


@dataclass
class World:
    """What is under way in AWS, and what came of it."""

    stack: Stack
    injection: Injection
    intake: list[Any] = field(default_factory=list)  # messages that wait for validate
    delivered: set[str] = field(default_factory=set)
    announced: Counter[str] = field(default_factory=Counter)
    dead_letters: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # what was seen on the way and may not be

    def __post_init__(self) -> None:
        app = self.stack.app
        for each in (app.s3, app.registry.dynamodb, app.bus.events, app.sfn, app.sqs, app.cloudwatch):
            self.injection.watch(each)

    # ------------------------------------------------------------ who calls
    def invoke(self, name: str, event: Any) -> Any:
        """One invocation of a function; a process that is killed takes its warm state along."""
        unharmed = self.injection.struck is None
        try:
            with self.injection.running(name):
                return self.stack.call(name, event)
        except Killed:
            self.stack.cold_start()
            raise
        finally:
            if unharmed and self.injection.struck and name != "predict":
                self.predicts()

    def later(self, name: str, event: Any) -> Any:
        """As EventBridge invokes: tried again by Lambda, then a dead letter."""
        for _ in range(TRIES):
            try:
                return self.invoke(name, event)
            except FAILURES as error:
                logging.info("%s: %r", name, error)
        self.dead_letters.append(name)
        return None

    def person(self, name: str, act: Callable[[], Any]) -> None:
        """A command at a terminal; after an error the same one is given once more."""
        for again in (False, True):
            try:
                with self.injection.running(f"refit {name}"):
                    act()
                return
            except FAILURES as error:
                logging.info("refit %s: %r", name, error)
                if again and not isinstance(error, Refused):
                    self.wrong.append(f"refit {name} fails again: {error!r}")

    # ------------------------------------------------------------ what happens in the world
    def drop(self, name: str, content: pd.DataFrame | bytes, told: bool = True) -> tuple[str, str]:
        """Somebody uploads; `told`: the event of it is not lost."""
        key, version_id = self.stack.put(name, content, MODEL)
        if told:
            self.intake.append(self.stack.arrival(key, version_id))
        return key, version_id

    def upload(self, name: str, content: pd.DataFrame | bytes) -> None:
        self.drop(name, content)
        self.deliver()

    def ask(self, reason: str, force: bool = False) -> None:
        """Another system asks for a retraining."""
        event = sample("request_retraining")
        event["detail"] |= {"model": MODEL, "request_id": reason, "reason": reason, "force": force}
        self.later("request_retraining", event)

    def tick(self) -> None:
        self.later("tick", sample("tick"))

    def deliver(self, running: bool = True) -> None:
        """Deliver every message and event to whom it concerns, until none is left; `running`: executions go on."""
        while self._intake() | self._profiles() | self._bus() | (running and self._executions()):
            pass

    def abort(self) -> None:
        """Somebody stops what runs, and no event tells of it."""
        for execution in self._started():
            self.delivered.add(execution.name)
            execution.status = "ABORTED"

    def ask_for_predictions(self, version: str, before: str) -> None:
        """A caller wants the champion's answer, and tries again after another one or an error.

        The call that meets the fault may be answered by the last good model, the champion before this one.
        """
        for _ in range(2):
            unharmed = self.injection.struck is None
            try:
                answer = self.invoke("predict", {"model": MODEL, "records": RECORDS})["version"]
            except FAILURES as error:
                logging.info("predict: %r", error)
                answer = ""
            if answer == version:
                return
            met = unharmed and self.injection.struck is not None
            if not met or answer not in ("", before):
                self.wrong.append(f"predict answers with {answer or 'an error'}, not {version}")

    def rest(self) -> None:
        """Let the clock look twice, as it does on any day."""
        for _ in range(2):
            self.deliver()
            self.tick()
        self.deliver()

    # ------------------------------------------------------------ deliveries; each says whether there were any
    def _intake(self) -> bool:
        messages, self.intake = self.intake + (self.stack.sent() if _holds(INTAKE) else []), []
        for event in messages:
            (record,) = event["Records"]
            for tries in range(1, MOST_RECEIVED + 1):
                record["attributes"]["ApproximateReceiveCount"] = str(tries)
                try:
                    if not self.invoke("validate", event)["batchItemFailures"]:
                        break
                except FAILURES as error:
                    logging.info("validate: %r", error)
            else:
                self.dead_letters.append("validate")
        return bool(messages)

    def _profiles(self) -> bool:
        bucket = s3_backends[ACCOUNT]["aws"].buckets[self.stack.app.settings.store_bucket]
        profiles = [key for key in bucket.keys if key.endswith("/profile.json")]
        news = [key for key in profiles if key not in self.delivered]
        self.delivered.update(news)
        for key in news:
            _, model, batch, _ = key.split("/")
            for function in ("check_drift", "check_quality"):
                self.later(function, self.stack.profile_event(function, batch, model))
        return bool(news)

    def _bus(self) -> bool:
        events = self.stack.heard() if _holds(HEARD) else []
        for event in events:
            self.announced[event["detail-type"]] += 1
            if event["detail-type"] in ("Drift Checked", "Retraining Requested"):
                self.later("request_retraining", event)
        return bool(events)

    def _executions(self) -> bool:
        news = self._started()
        for execution in news:
            self.delivered.add(execution.name)
            execution.status = Execution(self._task).run(json.loads(execution.execution_input))
            model, _, number = execution.name.rpartition("-run-")
            ended = self.stack.ended(f"run-{number}", execution.status, model)
            self.later("request_retraining", ended)
        return bool(news)

    def _started(self) -> list[Any]:
        (machine,) = stepfunctions_backends[ACCOUNT][REGION].state_machines
        return [execution for execution in machine.executions if execution.name not in self.delivered]

    def _task(self, arn: str, event: Any) -> Any:
        try:
            return self.invoke(FUNCTIONS[arn], event)
        except Killed:
            raise TaskFailed("Runtime.ExitError", "signal: killed") from None
        except Exception as error:
            logging.info("%s: %r", FUNCTIONS[arn], error)
            cause = {"errorType": type(error).__name__, "errorMessage": str(error)}
            raise TaskFailed(type(error).__name__, json.dumps(cause)) from error

    # ------------------------------------------------------------ what is seen
    def predicts(self) -> None:
        """Somebody asks for predictions at the worst of moments: the champion answers, cold or warm."""
        actor, self.injection.actor = self.injection.actor, ""
        try:
            champion = self.stack.app.registry.champion(MODEL)
            if champion is None:
                return
            answer = self.stack.call("predict", {"model": MODEL, "records": RECORDS})
            if answer["version"] != champion.version or len(answer["predictions"]) != len(RECORDS):
                self.wrong.append(f"predict answers with {answer['version']}, not {champion.version}")
        except Exception as error:  # noqa: BLE001
            self.wrong.append(f"predict fails after the fault: {error!r}")
        finally:
            self.injection.actor = actor

    def champion(self) -> str:
        found = self.stack.app.registry.champion(MODEL)
        return found.version if found else ""

    def told(self, *kinds: str) -> None:
        """Everybody has heard of these since the scenario began."""
        missing = sorted(set(kinds) - set(self.announced))
        assert not missing, f"nobody was told: {', '.join(missing)}"

    def knocks(self, trigger: str) -> list[Answered]:
        return [knock for knock in self.stack.app.registry.knocks(MODEL) if knock.trigger == trigger]

    def outcomes(self) -> list[str]:
        return sorted(str(upload.outcome) for upload in self.stack.app.registry.uploads(MODEL))

    def runs(self) -> list[RunStatus]:
        found = self.stack.app.registry.runs(MODEL)
        return [run.status for run in sorted(found, key=lambda run: run.run_id)]

    def watched(self) -> list[str]:
        """Versions whose scores an alarm watches."""
        alarms = self.stack.app.cloudwatch.describe_alarms()["MetricAlarms"]
        return [alarm["MetricName"].rpartition("-")[2] for alarm in alarms]

    # ------------------------------------------------------------ the scenario
    def begin(self) -> None:
        """From here on requests are counted, and what is announced is noted."""
        self.deliver()
        self.announced.clear()
        self.stack.cold_start()
        self.injection.armed = True

    def end(self) -> None:
        """No more faults; what was given up, and what predict says now."""
        self.injection.armed = False
        self.wrong += [f"dead letter of {name}" for name in self.dead_letters]
        self.predicts()

    @contextmanager
    def at_terminal(self) -> Iterator[None]:
        """While a command waits for something, the world goes on."""
        real = actions.time
        actions.time = SimpleNamespace(monotonic=real.monotonic, sleep=lambda seconds: self.deliver())
        try:
            yield
        finally:
            actions.time = real
