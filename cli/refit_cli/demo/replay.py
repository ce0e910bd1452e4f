"""The demo: a year of real flights through the real template, on this machine.

Nothing is staged but the files that are dropped and what a person does: a
request, a rollback and its undo. What was seen is read from the registry; the exit code says whether all
of it really happened.
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.aws import keys
from refit.aws.runtime import App
from refit.batches import Outcome, Upload, condensed, upload_id
from refit.errors import RefitError
from refit.policy import Trigger
from refit.records import Answered, Change, Generation, Quality, Run, RunStatus, Slot
from refit_cli import actions, oracle, pages, view
from refit_cli.demo import flights
from refit_cli.deployment import Deployment
from refit_cli.local import LocalStack, local_stack

if TYPE_CHECKING:
    import pandas as pd

MODEL = "flights"
BROKEN_MONTH = 6
RESULTS = Path(".refit/demo")
_ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Month:
    """What happened to one month's file."""

    name: str
    upload: Upload | None = None
    drift: dict[str, Any] | None = None
    quality: Quality | None = None
    answered: Answered | None = None
    runs: list[Run] = field(default_factory=list)


@dataclass
class Caller:
    """Asks for predictions without pause, as the users of a model do, and counts."""

    deployment: Deployment
    records: list[dict[str, Any]]
    model: str = MODEL
    pause: float = 0.2  # seconds
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)  # to the number of answers
    slowest: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(30)

    @property
    def running(self) -> bool:
        return self._thread is not None

    def answered_by(self, version: str) -> int:
        return self.versions.get(version, 0)

    def _call(self) -> None:
        while not self._stop.wait(self.pause):
            begun = time.monotonic()
            try:
                answer = self.deployment.predict(self.model, self.records)
                if len(answer["predictions"]) != len(self.records):
                    raise ValueError("an answer without predictions")
                self.answers += 1
                self.versions[answer["version"]] = self.answered_by(answer["version"]) + 1
            except Exception as error:  # noqa: BLE001 - whatever it is, predict did not answer
                self.failures.append(f"{type(error).__name__}: {error}")
            self.slowest = max(self.slowest, time.monotonic() - begun)


class Screen:
    """Plain lines in a pipe; in a terminal the same lines and, below them, what is going on."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(highlight=False, soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(text, style=style or None, markup=False)

    @contextmanager
    def doing(self, text: str) -> Iterator[None]:
        if self.console.is_terminal:
            # The usual one is drawn in dots that only Unicode has.
            spinner = "dots" if self.console.encoding.startswith("utf") else "line"
            with self.console.status(text, spinner=spinner):
                yield
        else:
            yield


def replay(port: int | None = None, stay: bool = False) -> int:
    """Run the demo; returns 0 when everything it is to show has happened."""
    begun = time.monotonic()
    screen = Screen()
    _folder()
    screen.line(
        "Refit demo: a year of flights out of New York, through the real template on this machine.", "bold"
    )
    screen.line("Will a flight arrive more than 15 minutes late? Told from the schedule and the weather.\n")
    with screen.doing("preparing the flights of 2013"):
        files = _files(flights.months())
    with ExitStack() as open_now:
        with screen.doing("starting the local stack and deploying template.yaml"):
            context = local_stack(
                models=_ROOT / "models", port=port, log_dir=RESULTS, parameters={"TickRate": "rate(1 minute)"}
            )
            stack = open_now.enter_context(context)
        os.environ.update(stack.env)
        screen.line(
            f"stack at {stack.endpoint}, deployed from template.yaml in {time.monotonic() - begun:.1f} s"
        )
        story = Story(stack, Deployment.find(_ROOT / "models"), screen, files)
        story.tell()
        held = story.summary(time.monotonic() - begun)
        if stay:
            _stay(stack, screen)
        return 0 if held else 1


def _folder() -> None:
    """Make the folder for what the demo leaves. Raises RefitError."""
    try:
        (RESULTS / "files").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefitError(_not_written(error)) from error


def _not_written(error: OSError) -> str:
    return (
        f"{RESULTS.absolute()} cannot be written: {error.strerror}. The demo leaves its files and its report there; "
        "free some room, or run this command from another folder."
    )


def _stay(stack: LocalStack, screen: Screen) -> None:
    variables = " ".join(
        f"{name}={value}" for name, value in stack.env.items() if name.startswith("AWS_") and value
    )
    screen.line(f"\nThe stack stays until Ctrl-C. In another terminal:\n  export {variables}")
    screen.line(f"  .venv/bin/refit status {MODEL}\n  .venv/bin/refit history {MODEL}")
    stack.wait()


def _files(months: dict[int, pd.DataFrame]) -> dict[str, bytes]:
    """File name to content: Parquet, every third month CSV, one of them gzipped."""
    files = {}
    for month, frame in months.items():
        name, buffer = f"2013-{month:02d}", io.BytesIO()
        if month % 3:
            frame.to_parquet(buffer, index=False)
            files[f"{name}.parquet"] = buffer.getvalue()
        elif month == 9:
            frame.to_csv(buffer, index=False, compression={"method": "gzip", "mtime": 1})
            files[f"{name}.csv.gz"] = buffer.getvalue()
        else:
            frame.to_csv(buffer, index=False)
            files[f"{name}.csv"] = buffer.getvalue()
    try:
        for name, content in files.items():
            (RESULTS / "files" / name).write_bytes(content)
    except OSError as error:
        raise RefitError(_not_written(error)) from error
    return files


class Story:
    """The replay, step by step. Every step waits for what the stack recorded."""

    def __init__(
        self, stack: LocalStack, deployment: Deployment, screen: Screen, files: dict[str, bytes]
    ) -> None:
        self.stack = stack
        self.deployment, self.screen, self.files = deployment, screen, files
        self.app: App = deployment.app
        self.caller = Caller(deployment, _sample(files))
        self.months: list[Month] = []
        self.quarantined: Upload | None = None
        self.refused: Answered | None = None  # asked for without need
        self.asked: Run | None = None
        self.rolled_back: list[Generation] = []
        self.told: set[str] = set()  # runs that were shown
        self.breaches: list[oracle.Breach] = []

    def tell(self) -> None:
        try:
            for name, content in self.files.items():
                if name.startswith(f"2013-{BROKEN_MONTH:02d}"):
                    self.broken(name, content)
                month = self.month(name, content)
                if not self.caller.answers and self.app.registry.champion(MODEL):
                    self.caller.start()
                    actions.wait_for(lambda: self.caller.answers or None, 60, "predict does not answer")
                if not month.runs:  # nothing asked for a retraining so far
                    if not self.asked:
                        self.on_demand(month)
                    elif not self.started_by(Trigger.INTERVAL):
                        self.by_the_clock(month)
            self.rollback_and_undo()
        finally:
            self.caller.stop()
        with self.screen.doing("the oracle checks the promises"):
            self.breaches = oracle.lasting(self.app)

    def started_by(self, trigger: Trigger) -> list[Run]:
        return [run for run in self.app.registry.runs(MODEL) if run.trigger == trigger]

    def drop(self, name: str, content: bytes) -> Upload:
        """An ordinary PutObject, and the outcome it led to."""
        key = keys.incoming(MODEL, name)
        put = self.app.s3.put_object(Bucket=self.app.settings.data_bucket, Key=key, Body=content)
        upload = upload_id(self.app.settings.data_bucket, key, put["VersionId"])

        def final() -> Upload | None:
            found = self.app.registry.upload(MODEL, upload)
            return found if found and found.announced else None

        return self._until(final, f"outcome of {name}")

    def month(self, name: str, content: bytes) -> Month:
        month, registry = Month(name), self.app.registry
        self.months.append(month)
        say = self.screen.line
        champion = registry.champion(MODEL)
        with self.screen.doing(f"{name}: validating"):
            upload = month.upload = self.drop(name, content)
        say(f"\n{name}  {upload.rows:,} rows {upload.outcome}, {len(content) / 1e6:.1f} MB", "bold")
        for reason in [*upload.reasons, *condensed(upload.warnings)]:
            say(f"  {'reason' if upload.reasons else 'note':<9} [{reason.code}] {reason.message}")
        if upload.outcome is not Outcome.ACCEPTED:
            return month
        with self.screen.doing(f"{name}: checking drift"):
            month.answered = self._until(
                lambda: _of_batch(registry.knocks(MODEL), upload.batch_id), "decision"
            )
            month.drift = _of_batch(registry.drifts(MODEL), upload.batch_id)
        assert month.answered is not None
        say(f"  drift     {view.drift_text(month.drift) if month.drift else 'nothing to compare with yet'}")
        say(f"  data      {month.answered.answer}: {'; '.join(month.answered.reasons)}")
        if champion:
            self.quality(month, champion.version)
        month.runs += self.runs()
        return month

    def quality(self, month: Month, champion: str) -> None:
        """The champion's score on the month, and what its alarm led to."""
        registry, upload, say = self.app.registry, month.upload, self.screen.line
        assert upload is not None
        with self.screen.doing(f"{month.name}: {champion} predicts the month"):
            scored = self._until(lambda: _of_batch(registry.qualities(MODEL), upload.batch_id), "score")
        month.quality = scored
        score, low = scored.score or 0.0, scored.floor or 0.0
        say(
            f"  quality   {scored.version} scored {scored.metric} {score:.4f} on the month before anyone learned "
            f"from it; its alarm is raised below {low:.4f}"
        )
        if score < low:
            with self.screen.doing("the alarm"):
                knock = self._until(lambda: self._knock_of_alarm(upload.decided_at), "answer to the alarm")
            say(f"  alarm     {knock.answer}: {knock.reasons[0]}")

    def runs(self) -> list[Run]:
        """Wait until nothing runs or waits, and show the runs there have been since the last look."""
        with self.screen.doing("candidates train, the best one is tested"):
            self._until(lambda: _idle(self.app.registry.slot(MODEL)) or None, "end of the run", 300)
        new = [run for run in self.app.registry.runs(MODEL) if run.run_id not in self.told]
        for run in sorted(new, key=lambda run: run.run_id):
            self.told.add(run.run_id)
            champion = (
                "" if run.champion_score is None else f", champion {run.champion} {run.champion_score:.4f}"
            )
            score = "not scored" if run.challenger_score is None else f"{run.challenger_score:.4f}"
            started = run.trigger.replace("_", " ")
            self.screen.line(
                f"  tested    challenger {run.challenger} {score}{champion} (started by: {started})"
            )
            style = {RunStatus.PROMOTED: "green", RunStatus.KEPT: "yellow"}.get(run.status, "red")
            self.screen.line(f"  {run.status:<9} {run.result}", style)
        return new

    def _knock_of_alarm(self, since: str) -> Answered | None:
        knocks = self.app.registry.knocks(MODEL)
        return next((k for k in knocks if k.trigger == Trigger.ALARM and k.decided_at >= since), None)

    def broken(self, name: str, content: bytes) -> None:
        """The month's file as it should not be; the next one is its corrected copy under the same name."""
        with self.screen.doing(f"{name}: a broken copy"):
            upload = self.quarantined = self.drop(name, _broken(content))
        self.screen.line(f"\n{name}  a broken copy: {upload.rows:,} rows {upload.outcome}", "bold")
        for reason in upload.reasons:
            self.screen.line(f"  reason    [{reason.code}] {reason.message}", "yellow")

    def on_demand(self, month: Month) -> None:
        """A person asks, and is answered; asks again without need, and is told so."""
        say = self.screen.line
        with self.screen.doing("a person asks"):
            answered = actions.ask(self.app, MODEL, "the summer schedule starts")
        say(f"  on demand {answered.answer}: {answered.reasons[0]}")
        new = self.runs()
        month.runs += new
        self.asked = next((run for run in new if run.trigger == Trigger.ON_DEMAND), None)
        with self.screen.doing("a person asks again"):
            self.refused = actions.ask(self.app, MODEL, "once more, to be sure")
        say(f"  on demand once more: {self.refused.answer}: {self.refused.reasons[0]}")

    def by_the_clock(self, month: Month) -> None:
        """Nothing else asked for a retraining: wait for the scheduled rule's own clock."""
        self.screen.line("  interval  due by the flights' time; the scheduled rule looks every minute")
        with self.screen.doing("waiting for the scheduled rule, up to a minute"):
            self._until(lambda: self.started_by(Trigger.INTERVAL) or None, "run by the scheduled rule")
        month.runs += self.runs()

    def rollback_and_undo(self) -> None:
        """A person takes the champion out of service, and puts it back; predict follows at once."""
        champion = self.app.registry.champion(MODEL)
        assert champion is not None
        spec, say = self.app.models[MODEL], self.screen.line
        say("\nrollback  a person takes the champion out of service, and puts it back", "bold")
        for version, reason in (
            (champion.previous, "strange predictions for Boston"),
            (champion.version, "it was the airport, not the model"),
        ):
            change = actions.rollback(self.app, spec, version, reason)
            self.rolled_back.append(change)
            self._answer_by(version)
            say(
                f"  {change.change}  generation {change.generation} is {version}: {reason}; predict answers with it"
            )
        actions.resume(self.app, spec)
        say("  resumed   retraining was paused meanwhile, so that no run undoes what a person did")

    def _answer_by(self, version: str) -> None:
        """Wait for one more answer by a version."""
        before = self.caller.answered_by(version)
        self._until(lambda: self.caller.answered_by(version) > before or None, f"answer by {version}")

    def report(self) -> None:
        """Leave the page of the newest run, and say where."""
        try:
            page = pages.find(self.app, self.app.models[MODEL])
            path = pages.save(page, RESULTS / "report.html")
        except RefitError as error:
            self.screen.line(f"  no report: {error}", "red")
        else:
            self.screen.line(f"  {path}               the page of {page.run_id}; open it in a browser")

    def summary(self, seconds: float) -> bool:
        """Print the table, what was to be seen and the way on; returns whether all was seen."""
        say = self.screen.line
        history = view.history(self.app, MODEL)
        (RESULTS / "history.json").write_text(json.dumps(history, indent=2))
        (RESULTS / "status.json").write_text(json.dumps(view.status(self.app, MODEL), indent=2))
        say("\nmonth     rows     drifted  champion before learning  challenger  champion  result", "bold")
        for month in self.months:
            say(_row(month))
        generations = self.app.registry.generations(MODEL)
        say(
            f"\n{self.caller.answers:,} predictions answered meanwhile by {' '.join(self.caller.versions)}; "
            f"{len(self.caller.failures)} failed, the slowest took {self.caller.slowest:.1f} s"
        )
        seen = {
            "12 months accepted": _accepted(self.months) == 12,
            "a broken file quarantined with its reasons": bool(
                self.quarantined
                and self.quarantined.outcome is Outcome.QUARANTINED
                and self.quarantined.reasons
            ),
            "its corrected copy accepted": any(
                month.upload and self.quarantined and month.upload.key == self.quarantined.key
                for month in self.months
            )
            and _accepted(self.months) == 12,
            "drift found, by column": any(month.drift and month.drift["drifted"] for month in self.months),
            "a better challenger promoted": any(g.change is Change.PROMOTION for g in generations),
            "a challenger that was not better kept out": any(
                run.status is RunStatus.KEPT for run in self.app.registry.runs(MODEL)
            ),
            "a retraining started by new data": bool(self.started_by(Trigger.DATA)),
            "one by the alarm, because the metric really fell": bool(self.started_by(Trigger.ALARM)),
            "one by the interval, on the rule's own clock": bool(self.started_by(Trigger.INTERVAL)),
            "one on demand": bool(self.asked and self.asked.status is not RunStatus.FAILED),
            "one without need refused": bool(self.refused and self.refused.answer == "skip"),
            "a rollback and its undo": [g.change for g in self.rolled_back] == [Change.ROLLBACK] * 2,
            "every new month scored before it was learned from": all(
                month.quality and month.quality.score is not None for month in self.months[1:]
            ),
            "predict answered at every moment": self.caller.answers > 0 and not self.caller.failures,
            "all promises held (the oracle found no breach)": not self.breaches,
        }
        say()
        for what, happened in seen.items():
            say(f"  {'yes' if happened else 'NO '}  {what}", "green" if happened else "red")
        for failure in self.caller.failures[:3]:
            say(f"       predict: {failure}", "red")
        for breach in self.breaches:
            say(f"       promise {breach.promise}: {breach.message}", "red")
        (RESULTS / "seen.json").write_text(
            json.dumps(
                {"seen": seen, "breaches": [asdict(b) for b in self.breaches], "seconds": seconds}, indent=2
            )
        )
        say(f"\ndone in {seconds:.0f} s. To look further:")
        self.report()
        say("  less .refit/demo/history.json           every upload, decision, run and promotion")
        say("  less .refit/demo/engine.log             what the functions logged")
        say(
            "  .venv/bin/refit demo --stay             replay, then keep the stack for the commands and the AWS CLI"
        )
        say("  .venv/bin/refit local                   an empty stack for your own models and data")
        return all(seen.values())

    def _until(self, look: Callable[[], Any], what: str, timeout: float = 120) -> Any:
        message = f"no {what} was recorded in {timeout:.0f} s; see {RESULTS / 'engine.log'}"

        def fit() -> Any:
            self.stack.raise_if_unfit()  # or one would wait for functions that have nowhere to write
            return look()

        return actions.wait_for(fit, timeout, message)


def _of_batch(records: list[Any], batch_id: str) -> Any:
    for record in records:
        if (record["batch_id"] if isinstance(record, dict) else record.batch_id) == batch_id:
            return record
    return None


def _idle(slot: Slot) -> bool:
    return not slot.running and slot.pending is None


def _accepted(months: list[Month]) -> int:
    return sum(bool(month.upload and month.upload.outcome is Outcome.ACCEPTED) for month in months)


def _row(month: Month) -> str:
    if month.upload is None:
        return f"{month.name[:7]}   not reached"
    drifted = len(month.drift["drifted"]) if month.drift else 0
    quality = f"{month.quality.version} {month.quality.score or 0:.4f}" if month.quality else "-"
    run = month.runs[-1] if month.runs else None
    challenger = f"{run.challenger_score:.4f}" if run and run.challenger_score is not None else "-"
    champion = f"{run.champion_score:.4f}" if run and run.champion_score is not None else "-"
    result = ", ".join(f"{run.status} ({run.trigger.replace('_', ' ')})" for run in month.runs) or "-"
    return (
        f"{month.name[:7]}   {month.upload.rows:>6,}   {drifted:>7}  {quality:<24}  {challenger:<10}  {champion:<8}  "
        f"{result}"
    )


def _sample(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Three rows of the first month, as an application would send them."""
    import pandas as pd

    frame = pd.read_parquet(io.BytesIO(next(iter(files.values()))))
    return json.loads(frame.head(3).drop(columns=["late"]).to_json(orient="records", date_format="iso"))


def _broken(content: bytes) -> bytes:
    """Four mistakes that happen: a renamed column, a wrong unit, an unknown code, doubled rows."""
    import pandas as pd

    frame = pd.read_csv(io.BytesIO(content))
    frame = frame.rename(columns={"wind_speed": "wind_spd"})
    frame.loc[:499, "distance"] = frame.loc[:499, "distance"] * 1000
    frame.loc[500:799, "origin"] = "NYC"
    frame = pd.concat([frame, frame.tail(120)])
    return frame.to_csv(index=False).encode()
