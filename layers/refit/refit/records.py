"""What the registry remembers of a model besides its uploads: versions, generations, runs, knocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

TESTED_LOW = 0.01  # share of draws below `tested_low`


@dataclass(frozen=True)
class Version:
    """A fitted model; once recorded, nothing changes but that its artifact may go."""

    version: str
    model: str
    artifact_sha256: str
    artifact_bytes: int
    task: str
    features: tuple[dict[str, str], ...]  # name and type of each column it is shown
    classes: tuple[str, ...]  # names, in the order of the estimator's classes_
    candidate: str  # full, recent, continual, transfer, search, imported
    run_id: str = ""
    parent: str = ""  # of a finalized version: the one that was tested
    inputs_key: str = ""  # the frozen inputs; empty when imported
    trained_rows: int = 0
    tested_score: float | None = None
    tested_low: float | None = None  # what sampling alone may make of that score
    tested_rows: int = 0
    spec_digest: str = ""
    recipe: str = ""  # of the declaration: what tells a refresh; empty: not known
    libraries: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    created_at: str = ""
    created_by: str = ""
    pruned_at: str = ""  # since when its artifact may be gone; the record stays
    base: str = ""  # the champion that it went on from, if it did
    threshold: float | None = None  # probability from which the second class is said
    parameters: dict[str, Any] = field(default_factory=dict)  # found by a search
    canonical: str = ""  # digest of the fitted model, however it is stored
    code_version: str = ""
    fingerprints_key: str = ""  # of the rows it learned from; empty: not known


class Change(StrEnum):
    """What moved the champion pointer."""

    FIRST = "first"
    PROMOTION = "promotion"
    IMPORT = "import"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Generation:
    """One change of the champion; the newest one is the pointer. Generations are gap-free from 1."""

    model: str
    generation: int
    version: str
    previous: str  # version that it took over from, empty at first
    change: Change
    by: str
    reason: str
    at: str
    run_id: str = ""
    score: float | None = None
    champion_score: float | None = None


class RunStatus(StrEnum):
    RUNNING = "running"
    PROMOTED = "promoted"
    KEPT = "kept"
    FAILED = "failed"


@dataclass(frozen=True)
class Run:
    """One execution of the state machine on one frozen set of inputs."""

    run_id: str
    model: str
    status: RunStatus
    inputs_digest: str
    trigger: str
    reasons: tuple[str, ...]
    requested_by: str
    started_at: str
    champion: str = ""  # version and generation at the start
    generation: int = 0
    inputs_key: str = ""
    candidates: tuple[str, ...] = ()
    rows: int = 0
    new_rows: int = 0
    data_until: str = ""  # newest time of its data, where the model has a time column
    resumes: str = ""  # the failed run whose frozen inputs these are
    ended_at: str = ""
    result: str = ""  # one sentence
    challenger: str = ""
    challenger_score: float | None = None
    champion_score: float | None = None
    baseline_score: float | None = None  # of who learned nothing


class ApprovalStatus(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"  # not answered in time
    SUPERSEDED = "superseded"  # the champion that was shown is no longer the champion


@dataclass(frozen=True)
class Approval:
    """A person is asked whether a run's version may be promoted; what was shown, and the one answer."""

    model: str
    run_id: str
    version: str
    artifact_sha256: str
    champion: str  # version and generation that it was compared with
    generation: int
    reason: str  # what proved it
    challenger_score: float | None
    champion_score: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    evaluation_key: str
    requested_at: str
    expires_at: str
    token: str  # takes the answer to the execution that waits
    report_key: str = ""  # the page of the run, as far as it could be written
    slices: tuple[str, ...] = ()  # those on which the version loses most, in words
    status: ApprovalStatus = ApprovalStatus.WAITING
    answered_by: str = ""
    answered_at: str = ""
    comment: str = ""
    revision: int = 0

    def covers(self, version: Version, generation: int) -> bool:
        """Whether it lets exactly this version take over from the champion of that generation."""
        shown = (self.version, self.artifact_sha256, self.generation)
        asked = (version.version, version.artifact_sha256, generation)
        return self.status is ApprovalStatus.APPROVED and bool(self.answered_by) and shown == asked


@dataclass(frozen=True)
class Slot:
    """The one place a model has for running: at most one run and one pending knock."""

    running: str = ""  # run id
    last_run: str = ""
    last_digest: str = ""
    runs: int = 0  # how many there have been; the next is one more
    pending: dict[str, Any] | None = None  # the knock that waits
    look_again_at: str = ""  # when the knock that waits has its turn; empty: when the run has ended
    hold: dict[str, str] | None = None
    revision: int = 0


@dataclass(frozen=True)
class Answered:
    """A knock and the one decision on it."""

    knock_id: str
    model: str
    trigger: str
    reason: str
    requested_by: str
    at: str
    answer: str
    reasons: tuple[str, ...]
    decided_at: str
    run_id: str = ""
    batch_id: str = ""
    look_again_at: str = ""
    new_rows: int = 0
    announced: bool = False  # others were told

    def told(self) -> dict[str, Any]:
        """The detail of "Retraining Decided"."""
        return {name: value for name, value in asdict(self).items() if name != "announced"}


@dataclass(frozen=True)
class Tick:
    """The newest look of the scheduled rule: what it found of each model, and how many uploads no event told of."""

    at: str
    models: dict[str, str]
    swept: int


@dataclass(frozen=True)
class Refusal:
    """An event that was turned away: of unknown shape, for an unknown model, from elsewhere."""

    event_id: str
    at: str
    function: str
    error: str
    message: str
    source: str
    detail_type: str


@dataclass(frozen=True)
class Quality:
    """The champion's score on a batch that it had not learned from."""

    model: str
    batch_id: str
    version: str
    metric: str
    score: float | None
    rows: int
    at: str
    floor: float | None = None  # what sampling alone may make of the tested score on so many rows
    note: str = ""
    predictions: dict[str, Any] | None = (
        None  # how they drifted from those on the test block; None: not known
    )
