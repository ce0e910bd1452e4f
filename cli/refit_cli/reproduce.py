"""Training a recorded version again, from its frozen inputs, and comparing what comes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from refit import canonical, trial
from refit.aws import inputs, serving, training_data, versions
from refit.aws.runtime import App
from refit.errors import RefitError
from refit.metrics import Task
from refit.models import CONTINUED, ModelSpec
from refit.provenance import code_version
from refit.records import Version
from refit.training import frame_of_shard, predict, split

TOLERANCE = 1e-6  # of a probability; of a value, times its standard deviation
COMPARED_ROWS = 10_000


@dataclass(frozen=True)
class Reproduced:
    """What training again gave. `differs` names what is not as it was: code, libraries, CPU."""

    model: str
    version: str
    equal: bool  # the canonical digests are
    canonical: str
    recorded: str
    differs: tuple[str, ...]
    rows_compared: int = 0
    largest_difference: float | None = None  # between predictions; None where the digests are equal
    tolerance: float = TOLERANCE

    @property
    def agrees(self) -> bool:
        """Equal; or within the tolerance where something is not as it was."""
        close = self.largest_difference is not None and self.largest_difference <= self.tolerance
        return self.equal or (close and bool(self.differs))

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "agrees": self.agrees}

    def text(self) -> str:
        if self.equal:
            return f"{self.version} of {self.model} is the same again: {self.canonical[:16]}"
        what = (
            "; ".join(self.differs) or "nothing that is recorded differs: the training is not deterministic"
        )
        return (
            f"{self.version} of {self.model} is not the same: {self.canonical[:16]}, recorded is "
            f"{self.recorded[:16]}\n{what}\npredictions of {self.rows_compared} rows differ by "
            f"{self.largest_difference:.3g} at most, {self.tolerance:g} is tolerated"
        )


def reproduce(app: App, spec: ModelSpec, name: str) -> Reproduced:
    """Train a version again, by its own method, on the inputs that were frozen for it.

    Raises
    ------
    RefitError
        When it was not trained by Refit, or what it was made of cannot be read.
    """
    version = app.registry.recorded(spec.name, name)
    if not version.inputs_key or not version.canonical:
        why = "was imported" if not version.inputs_key else "was recorded before digests were kept"
        raise RefitError(f"{name} {why}; there is nothing to compare with")
    frozen = inputs.read(app.store, version.inputs_key)
    of_run = frozen.declared(spec)
    compared = serving.compared(app, spec.name, frozen.champion)
    data = training_data.dataset(app.store, frozen, spec, serving.fingerprints(app.store, compared))
    base = serving.fitted(app.store, compared) if compared and version.candidate in CONTINUED else None
    if version.parent:
        tested = serving.fitted(app.store, app.registry.recorded(spec.name, version.parent))
        again = trial.refit(version.candidate, data, of_run, base, tested)
    else:
        blocks = split(data, of_run, len(frozen.candidates))
        again = trial.train(version.candidate, data, blocks, of_run, base)
    digest = canonical.digest(again.estimator)
    found = Reproduced(
        spec.name, name, digest == version.canonical, digest, version.canonical, differences(version, spec)
    )
    if found.equal:
        return found
    some = np.arange(len(data.labels))[-COMPARED_ROWS:]
    frame = frame_of_shard(data.rows.take(some), version.features)
    needs = "value" if spec.task is Task.REGRESSION else "proba"
    then, now = (
        predict(estimator, frame, spec.task, needs, version.classes, version.classes)
        for estimator in (serving.load_version(app.store, version), again.estimator)
    )
    spread = float(np.std(then)) if spec.task is Task.REGRESSION else 1.0
    return Reproduced(
        **{
            **asdict(found),
            "rows_compared": len(some),
            "largest_difference": float(np.abs(then - now).max()),
            "tolerance": TOLERANCE * (spread or 1.0),
        }
    )


def differences(version: Version, spec: ModelSpec) -> tuple[str, ...]:
    """What is not as it was when the version was trained."""
    here = versions.libraries()
    names = sorted({*here, *version.libraries})
    found = [
        f"{name} is {here.get(name, 'absent')}, was {version.libraries.get(name, 'not recorded')}"
        for name in names
        if here.get(name) != version.libraries.get(name)
    ]
    code = code_version(spec)
    if version.spec_digest != spec.digest:
        found.append(
            f"model.toml or model.py is not that of {version.created_at}; --models DIR names another"
        )
    return (
        *found,
        *([f"code is {code}, was {version.code_version}"] if code != version.code_version else []),
    )
