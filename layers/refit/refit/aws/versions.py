"""Recording fitted models: the artifact first, then the row that names it."""

from __future__ import annotations

import contextlib
import platform
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from refit import artifact, canonical, rowprints
from refit.aws import keys
from refit.aws.runtime import App, utc_now
from refit.models import ModelSpec
from refit.provenance import code_version
from refit.records import Version
from refit.trial import Model


def name_of(run_id: str, candidate: str = "") -> str:
    """Version name: v7-full is what candidate full of run 7 was tested as, v7 what was made of the winner."""
    number = int(run_id.removeprefix("run-"))
    return f"v{number}-{candidate}" if candidate else f"v{number}"


def record(app: App, spec: ModelSpec, model: Model, *, version: str, **facts: Any) -> Version:
    """Store a fitted model and its row; a repeated attempt returns the row of the first.

    `facts` are the fields of `Version` that only the caller knows.
    """
    data, sha256 = artifact.dump(model.estimator)
    if not app.store.put_once(keys.artifact(spec.name, sha256), data):
        # Of a pruned version, perhaps, and about to be deleted: prune deletes only what lay there before.
        app.store.put(keys.artifact(spec.name, sha256), data)
    if model.fingerprints is not None:
        key = keys.fingerprints(spec.name, version)
        app.store.put_once(key, rowprints.dump(model.fingerprints))
        facts["fingerprints_key"] = key
    return app.registry.add_version(
        Version(
            version=version,
            model=spec.name,
            artifact_sha256=sha256,
            artifact_bytes=len(data),
            task=spec.task,
            features=model.features,
            classes=model.classes,
            candidate=model.candidate,
            parent=model.parent,
            trained_rows=model.trained_rows,
            base=model.base,
            threshold=model.threshold,
            parameters=dict(model.parameters),
            canonical=canonical.digest(model.estimator),
            code_version=code_version(spec),
            spec_digest=spec.digest,
            recipe=model.recipe,
            libraries=libraries(),
            seed=spec.training.seed,
            created_at=utc_now(),
            **facts,
        )
    )


def libraries() -> dict[str, str]:
    """Versions of what a fitted model depends on, and the kind of CPU it was fitted on."""
    names = ("numpy", "pandas", "scikit-learn", "scipy", "skops")
    found = {name: installed(name) for name in names}
    return {"python": platform.python_version(), **found, "cpu": _cpu()}


def _cpu() -> str:
    """Linear algebra picks its instructions, and with them its last bits, by the CPU's model."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{platform.machine()} {line.partition(':')[2].strip()}"
    return f"{platform.machine()} {platform.processor()}".strip()
