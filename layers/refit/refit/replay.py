"""The decisions of Refit over files of the past, in order: what would have happened, and what it would have scored.

The same functions that the Lambdas call, without AWS. Only the story is told here: which step follows which.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from refit import costs, times, trial
from refit.batches import Outcome, Upload, batch_id, inputs_digest
from refit.candidates import applicable, recent_rows
from refit.drift import check, is_season, same_season
from refit.errors import NotEnoughData, RefitError, TrainingError
from refit.evaluation import Evaluation, quality_floor, trivial_predictions
from refit.metrics import METRICS, Task, score
from refit.models import ModelSpec
from refit.policy import (
    Answer,
    Knock,
    Scored,
    Shown,
    State,
    Tried,
    Trigger,
    decide,
    interval_due,
    lift_of,
    to_train,
)
from refit.profile import Profile, merge
from refit.shard import Shard, load
from refit.training import Dataset, assemble, encode_labels, fit, frame_of_shard, predict, split
from refit.trial import Judgement, Model
from refit.validation import Verdict, validate_file

START = datetime(2000, 1, 1, tzinfo=UTC)  # of the clock where the data have no times
APART = timedelta(days=31)  # and what lies between two files then, so that no cooldown or budget holds one up


@dataclass(frozen=True)
class File:
    """A file as validation found it; `sha256` of its bytes; `shard` when it was accepted."""

    name: str
    sha256: str
    verdict: Verdict
    shard: Shard | None = None

    @property
    def period(self) -> tuple[str, str] | None:
        return self.verdict.profile.period if self.verdict.profile else None


def read(path: Path, spec: ModelSpec) -> File:
    """Hold a file against the contract."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        verdict = validate_file(path, spec.contract, shard=rows, folder=Path(folder))
        return File(path.name, sha256, verdict, load(rows.read_bytes()) if verdict.accepted else None)


@dataclass(frozen=True)
class Policy:
    """`refit`: decide and gates. `never`: the first model stays. `periodic`: a refit after every `every` batches,
    on all history or what the candidate "recent" learns from, without comparison. `always` is periodic:1."""

    name: str
    every: int = 0
    recent: bool = False

    @property
    def decides(self) -> bool:
        return self.name == "refit"


@dataclass(frozen=True)
class Batch:
    """What happened to one file. Scores are of the model's metric; `version` serves after it."""

    file: str
    rows: int
    outcome: str  # accepted, quarantined, duplicate
    decision: str = ""  # retrain, wait, skip; empty when nothing was asked
    reasons: tuple[str, ...] = ()
    candidate: str = ""  # the one that was tested, or fitted
    version: str = ""
    champion_score: float | None = (
        None  # of the test when there was one, else on the batch before it was learned
    )
    challenger_score: float | None = None
    batch_score: float | None = None  # of who served, on the batch before anyone learned from it


@dataclass(frozen=True)
class Summary:
    """`retrainings` are runs started, the first model's included; `seconds` and `cost_usd` are estimates."""

    metric: str
    score: float | None
    retrainings: int
    promotions: int
    cost_usd: float
    seconds: float


@dataclass(frozen=True)
class Replay:
    summary: Summary
    batches: tuple[Batch, ...]


def parse_policy(text: str) -> Policy | None:
    """`refit`, `never`, `always` or `periodic:N`; None for anything else."""
    if text in ("refit", "never"):
        return Policy(text)
    if text == "always":
        return Policy(text, every=1)
    found = re.fullmatch("periodic:([1-9][0-9]{0,5})", text)
    return Policy(text, every=int(found[1])) if found else None


def in_order(files: Sequence[File], spec: ModelSpec) -> list[File]:
    """By the time of their data where the model has a time column; one without a time stays after the one before it."""
    if not spec.contract.time:
        return list(files)
    keys, last = [], ""
    for file in files:
        last = file.period[0] if file.period else last
        keys.append(last)
    return [files[i] for i in sorted(range(len(files)), key=lambda i: keys[i])]


def to_json(done: Replay) -> dict[str, Any]:
    """The document of `refit replay --json`."""
    batches = [asdict(batch) for batch in done.batches]
    for batch in batches:
        del batch["batch_score"]
    return {"summary": asdict(done.summary), "batches": batches}


def replay(files: Sequence[File], spec: ModelSpec, policy: Policy) -> Replay:
    """Tell what a policy would have made of the files, in the order given."""
    world = _World(spec, policy)
    batches = tuple(world.take(file) for file in files)
    return Replay(world.summary(), batches)


def steps(files: Sequence[File], spec: ModelSpec, policy: Policy) -> Iterator[Batch | Summary]:
    """The same one by one: each batch as it is done, then the summary."""
    world = _World(spec, policy)
    for file in files:
        yield world.take(file)
    yield world.summary()


def baselines(files: Sequence[File], spec: ModelSpec) -> dict[str, float | None]:
    """Prequential scores of those who learn nothing from features."""
    pools: dict[str, _Pool] = {}
    known: list[np.ndarray] = []
    for file in _accepted(files):
        labels = _labels(_rows(file), spec)
        if known and len(labels):
            predicted, classes = _trivial(np.concatenate(known), len(labels), spec)
            for name, each in predicted.items():
                pools.setdefault(name, _Pool(spec)).add(labels, each, classes)
        if len(labels):
            known.append(labels)
    return {name: pool.score() for name, pool in pools.items()}


def _trivial(past: np.ndarray, n: int, spec: ModelSpec) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """What who knows the labels of the past alone says of `n` rows, and the classes that the columns stand for."""
    needs = METRICS[spec.gates.metric].needs
    if spec.task is Task.REGRESSION:
        return trivial_predictions(past, n, spec.task, needs, 0), ()
    found, codes = np.unique(past.astype(str), return_inverse=True)
    names = _ordered(found.tolist())
    labels = np.array([names.index(name) for name in found.tolist()])[codes]
    # A column for each class that is known, of two classes too.
    return trivial_predictions(labels, n, Task.MULTICLASS, needs, len(names)), tuple(names)


def _ordered(names: Iterable[str]) -> list[str]:
    """Classes as training orders them, numbers by value: which is the second one matters to some metrics."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def _accepted(files: Sequence[File]) -> list[File]:
    found, seen = [], set()
    for file in files:
        if file.verdict.accepted and file.sha256 not in seen:
            seen.add(file.sha256)
            found.append(file)
    return found


def _rows(file: File) -> Shard:
    assert file.shard is not None
    return file.shard


def _labels(shard: Shard, spec: ModelSpec) -> np.ndarray:
    """Labels of the labelled rows: class names, or values. Shape (n,)."""
    labelled = shard.take(~shard.is_null(spec.contract.target))
    codes, classes = encode_labels(labelled, spec.contract.target, spec.task)
    return codes if spec.task is Task.REGRESSION else np.array(classes, dtype=object)[codes]


class _Pool:
    """Predictions made before anyone learned from the rows, and the truth; scored together at the end."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.undefined = False  # rows came that nobody could predict
        self.truth: list[np.ndarray] = []
        self.predicted: list[
            tuple[np.ndarray, tuple[str, ...]]
        ] = []  # with the classes its columns stand for

    def add(self, truth: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]) -> None:
        self.truth.append(truth)
        self.predicted.append((predicted, classes))

    def score(self) -> float | None:
        if not self.truth or self.undefined:
            return None
        spec, truth = self.spec, np.concatenate(self.truth)
        if spec.task is Task.REGRESSION:
            return _finite(score(spec.gates.metric, truth, np.concatenate([p for p, _ in self.predicted])))
        classes = _ordered({*truth.tolist(), *(name for _, names in self.predicted for name in names)})
        place = {name: i for i, name in enumerate(classes)}
        joint = []
        for predicted, names in self.predicted:
            columns = [place[name] for name in names]
            if predicted.ndim == 1:  # class codes
                joint.append(np.array(columns, dtype=np.int64)[predicted])
            else:
                wide = np.zeros((len(predicted), len(classes)))
                wide[:, columns] = predicted
                joint.append(wide)
        if spec.task is Task.BINARY and len(classes) > 2:
            return None  # of a third class no metric of two knows what to say
        codes = np.array([place[name] for name in truth.tolist()], dtype=np.int64)
        predicted = np.concatenate(joint)
        if spec.task is Task.BINARY and predicted.ndim == 2:
            predicted = predicted[:, -1]
        return _finite(score(spec.gates.metric, codes, predicted, len(classes)))


@dataclass
class _World:
    """Buckets, registry and champion of a replay."""

    spec: ModelSpec
    policy: Policy
    files: list[File] = field(default_factory=list)  # what is learned from, oldest data first
    uploads: list[Upload] = field(default_factory=list)
    champion: Model | None = None
    learned: frozenset[str] = frozenset()  # batches that it learned from
    tested: Evaluation | None = None
    tried: list[Tried] = field(default_factory=list)
    last_digest: str = ""
    scored: list[Scored] = field(default_factory=list)  # of this champion
    promotions: int = 0
    retrainings: int = 0
    spent: costs.Cost = field(default_factory=costs.Cost)
    now: str = ""

    def __post_init__(self) -> None:
        self.pool = _Pool(self.spec)

    def take(self, file: File) -> Batch:
        verdict, spec = file.verdict, self.spec
        if not verdict.accepted:
            reasons = tuple(f"[{reason.code}] {reason.message}" for reason in verdict.reasons)
            return Batch(file.name, verdict.rows, Outcome.QUARANTINED, reasons=reasons, version=self.serving)
        name = batch_id(file.sha256, spec.contract.digest)
        before = next((upload.key for upload in self.uploads if upload.batch_id == name), None)
        if before is not None:
            told = (f"the same content came before, as {before}",)
            return Batch(file.name, verdict.rows, "duplicate", reasons=told, version=self.serving)
        first = not self.uploads
        self._arrive(file, name)
        predicted, mute = None, ""
        try:
            predicted = None if first else self._predict_first(file, name)
        except TrainingError as error:
            self.pool.undefined = True
            mute = f"{self.serving} cannot predict it: {error}"
        batch = Batch(file.name, verdict.rows, Outcome.ACCEPTED, champion_score=predicted)
        done = self._decide(batch, file, name) if self.policy.decides else self._on_schedule(batch)
        return replace(
            done, version=self.serving, batch_score=predicted, reasons=(*filter(None, [mute]), *done.reasons)
        )

    @property
    def serving(self) -> str:
        return self.champion.name if self.champion else ""

    def _arrive(self, file: File, name: str) -> None:
        period = file.period
        wall = period[1] if period else times.text(START + APART * len(self.uploads))
        self.now = max(self.now, wall)
        upload = Upload(
            name, self.spec.name, file.name, "", Outcome.ACCEPTED, uploaded_at=self.now, sha256=file.sha256
        )
        self.uploads.append(replace(upload, batch_id=name, rows=file.verdict.rows, period=period))
        self.files.append(file)

    # ------------------------------------------------------------ the champion meets the batch
    def _predict_first(self, file: File, name: str) -> float | None:
        """Let who serves predict the batch; before the first model, the labels of the past alone."""
        spec, shard = self.spec, _rows(file)
        labelled = shard.take(~shard.is_null(spec.contract.target))
        if not labelled.rows:
            return None
        truth, model = _labels(labelled, spec), self.champion
        if model is None:
            past = [_labels(_rows(earlier), spec) for earlier in self.files[:-1]]
            if any(map(len, past)):
                said, classes = _trivial(np.concatenate(past), len(truth), spec)
                self.pool.add(truth, next(iter(said.values())), classes)
            return None
        needs = METRICS[spec.gates.metric].needs
        frame = frame_of_shard(labelled, model.features)
        # As many columns as classes, so that scores of models which know other classes can be pooled.
        task = spec.task if spec.task is Task.REGRESSION else Task.MULTICLASS
        predicted = predict(
            model.estimator, frame, task, needs, model.classes, model.classes, threshold=model.threshold
        )
        self.pool.add(truth, predicted, model.classes)
        return self._note_quality(name, truth, predicted, model)

    def _note_quality(
        self, name: str, truth: np.ndarray, predicted: np.ndarray, model: Model
    ) -> float | None:
        """As check_quality does: score, and the floor below which the alarm is raised."""
        spec, rows = self.spec, len(truth)
        alone = _Pool(spec)
        known = np.isin(truth.astype(str), model.classes) if model.classes else np.ones(rows, dtype=bool)
        alone.add(truth[known], predicted[known], model.classes)
        value, tested = alone.score() if known.any() else None, self.tested
        if value is not None and tested is not None:
            earlier = [(each.score, each.rows) for each in self.scored]
            floor = quality_floor(
                tested.challenger_score, tested.challenger_low, tested.test_rows, rows, earlier
            )
            if floor is not None:
                self.scored.append(Scored(name, value, floor, rows, self.now))
        return value

    # ------------------------------------------------------------ refit
    def _decide(self, batch: Batch, file: File, name: str) -> Batch:
        """The knocks that a batch leads to, in the order in which they come: data, alarm, interval."""
        answers = []
        for knock in self._knocks(file, name):
            decision = decide(knock, self._state(), self.spec, self.now)
            answers.append(decision)
            if decision.answer is Answer.RETRAIN:
                return self._run(
                    replace(batch, decision=Answer.RETRAIN, reasons=decision.reasons),
                    to_train(decision, self.spec),
                )
        answer = Answer.WAIT if any(a.answer is Answer.WAIT for a in answers) else Answer.SKIP
        reasons = dict.fromkeys(reason for each in answers for reason in each.reasons)
        return replace(batch, decision=answer, reasons=tuple(reasons))

    def _knocks(self, file: File, name: str) -> Iterator[Knock]:
        spec, model = self.spec, self.champion
        drifted: tuple[str, ...] = ()
        if model:
            profiles = dict(zip((u.batch_id for u in self.uploads), self._profiles(), strict=True))
            learned = merge(profiles[each] for each in profiles if each in self.learned)
            report = check(spec, learned, profiles[name], self._a_year_ago(name, profiles))
            drifted = tuple(column.message for column in report.drifted)

        def knock(trigger: Trigger, reason: str, **more: Any) -> Knock:
            return Knock(f"{trigger}-{name}", spec.name, trigger, reason, "replay", self.now, **more)

        yield knock(Trigger.DATA, f"{file.name} was accepted", drifted=drifted, batch_id=name)
        newest = self.scored[-1] if self.scored else None
        if spec.triggers.quality and newest and newest.batch_id == name and newest.score < newest.floor:
            yield knock(Trigger.ALARM, "the quality alarm was raised", batch_id=name)
        last = self.tried[-1] if self.tried else None
        if last and (due := interval_due(spec, self.uploads, last.started_at, last.data_until, self.now)):
            yield knock(Trigger.INTERVAL, f"every {spec.triggers.every}, due {due}")

    def _profiles(self) -> list[Profile]:
        return [file.verdict.profile for file in self.files if file.verdict.profile]

    def _a_year_ago(self, name: str, profiles: Mapping[str, Profile]) -> Profile | None:
        """As check_drift does."""
        batch = profiles[name]
        found = same_season(self.uploads, name, batch.period) if batch.period else []
        season = merge(profiles[each.batch_id] for each in found) if found else None
        return season if season and is_season(season, batch) else None

    def _state(self) -> State:
        model = self.champion
        return State(
            inputs=sorted(self.uploads, key=lambda u: (u.period or ("", ""))[0]),
            inputs_digest=inputs_digest([u.batch_id for u in self.uploads], self.spec.digest),
            champion=model.name if model else None,
            learned=self.learned,
            last_run=self.tried[-1].run_id if self.tried else None,
            last_digest=self.last_digest,
            runs=tuple(self.tried),
            scored=tuple(self.scored),
            tested=self._tested(),
            made_as=model.candidate if model else "",
        )

    def _tested(self) -> Shown | None:
        found = self.tested
        if found is None or found.challenger_score is None or found.challenger_low is None:
            return None
        return Shown(found.challenger_score, found.challenger_low, found.test_rows)

    def _run(self, batch: Batch, spec: ModelSpec) -> Batch:
        """The state machine: train, evaluate, promote or keep."""
        self.retrainings += 1
        run_id = f"run-{self.retrainings:08d}"
        self.last_digest = self._state().inputs_digest
        rows = sum(upload.rows for upload in self.uploads)
        candidates = len(self._candidates(spec))
        found, promoted, gain, lift = batch, False, None, None
        try:
            judged, child, failures = self._trial(spec)
            verdict, promoted = judged.evaluation, child is not None
            gain, lift = verdict.gain, lift_of(verdict.challenger_score, verdict.baseline_score)
            found = replace(
                batch,
                candidate=judged.chosen,
                reasons=(*batch.reasons, verdict.reason, *failures),
                champion_score=verdict.champion_score,
                challenger_score=verdict.challenger_score,
            )
            if child:
                self._promote(child, verdict)
        except (TrainingError, NotEnoughData) as error:
            found = replace(batch, reasons=(*batch.reasons, f"the run failed: {error}"))
        self.spent += costs.of_run(rows, candidates, refits=int(promoted))
        until = max((upload.period[1] for upload in self.uploads if upload.period), default="")
        self.tried.append(Tried(run_id, promoted, self.now, until, rows, candidates, gain, lift))
        return found

    def _trial(self, spec: ModelSpec) -> tuple[Judgement, Model | None, list[str]]:
        """Candidates learn on the past, one is chosen and tested once; refitted on everything when it is better.

        And what was said by those that failed.
        """
        champion, candidates = self.champion, self._candidates(spec)
        order = sorted(range(len(self.files)), key=lambda i: ((self.uploads[i].period or ("", ""))[0], i))
        data = self._dataset(order, [self.uploads[i].batch_id in self.learned for i in order])
        blocks = split(data, spec, len(candidates))
        trained: dict[str, Model] = {}
        failures: dict[str, str] = {}
        for candidate in candidates:
            try:
                trained[candidate] = trial.train(candidate, data, blocks, spec, champion)
            except RefitError as error:
                failures[candidate] = str(error)
        if not trained:
            words = "; ".join(f"{name}: {said}" for name, said in failures.items())
            raise TrainingError(f"no candidate could be trained: {words}")
        judged = trial.judge(data, blocks, trained, champion, spec)
        mute = {name: each["failed"] for name, each in judged.candidates.items() if each["failed"]}
        told = [f"{name} failed: {words}" for name, words in {**failures, **mute}.items()]
        if not judged.evaluation.promote:
            return judged, None, told
        return judged, trial.refit(judged.chosen, data, spec, champion, trained[judged.chosen]), told

    def _candidates(self, spec: ModelSpec) -> tuple[str, ...]:
        return applicable(spec, sum(upload.rows for upload in self.uploads), self.champion)

    def _dataset(self, order: Sequence[int], seen: Sequence[bool]) -> Dataset:
        shards = [_rows(self.files[i]) for i in order]
        prints = self.champion.fingerprints if self.champion else None
        return assemble([shard for shard in shards if shard], seen, self.spec, prints)

    # ------------------------------------------------------------ the others
    def _on_schedule(self, batch: Batch) -> Batch:
        """A fit on all history, or its newest rows, when it is due; nothing is compared."""
        due = self.champion is None or (self.policy.every and len(self.uploads) % self.policy.every == 0)
        if not due:
            return replace(batch, decision=Answer.SKIP)
        data = self._dataset(range(len(self.files)), [False] * len(self.files))
        index = np.arange(len(data.labels))
        if self.policy.recent and self.champion:
            index = index[-recent_rows(self.spec, len(index)) :]
        self.retrainings += 1
        self.spent += costs.of_fit(len(index))
        told = (
            "the first model"
            if self.champion is None
            else f"every {self.policy.every} batches"
            if self.policy.every > 1
            else "after every batch"
        )
        batch = replace(batch, decision=Answer.RETRAIN, reasons=(told,), candidate="full")
        try:
            estimator = fit(data, index, self.spec)
        except RefitError as error:
            return replace(batch, reasons=(told, f"the fit failed: {error}"))
        features = tuple({"name": c.name, "type": c.type.value} for c in data.features)
        classes = tuple(data.classes[int(code)] for code in getattr(estimator, "classes_", ()))
        self._promote(Model("", "full", estimator, classes, features, trained_rows=len(index)), None)
        return batch

    def _promote(self, model: Model, tested: Evaluation | None) -> None:
        self.champion = replace(model, name=f"v{self.retrainings}")
        self.tested, self.scored = tested, []
        self.learned = frozenset(upload.batch_id for upload in self.uploads)
        self.promotions += 1

    def summary(self) -> Summary:
        return Summary(
            self.spec.gates.metric,
            self.pool.score(),
            self.retrainings,
            self.promotions,
            round(self.spent.usd, 4),
            round(self.spent.seconds, 1),
        )


def policies_to_compare(spec: ModelSpec, batches: int) -> list[Policy]:
    """Refit's, none, and the schedules people use; those on a recent window where that is declared."""
    every = [n for n in (2, 3, 4) if n < batches]
    found = [Policy("refit"), Policy("never"), Policy("always", every=1)]
    found += [Policy(f"periodic:{n}", every=n) for n in every]
    if "recent" in spec.training.candidates:
        window = spec.training.recent_rows
        words = f"the newest {window} rows" if window else "the newest quarter"
        found += [Policy(f"periodic:{n} on {words}", every=n, recent=True) for n in (1, *every)]
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
