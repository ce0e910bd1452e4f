"""Recording fitted models: the artifact first, then the row that names it."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed
from typing import Any

from refit import artifact
from refit.aws import keys
from refit.aws.runtime import App, utc_now
from refit.models import ModelSpec
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
            spec_digest=spec.digest,
            libraries=libraries(),
            seed=spec.training.seed,
            created_at=utc_now(),
            **facts,
        )
    )


def libraries() -> dict[str, str]:
    """Versions of what a fitted model depends on."""
    names = ("numpy", "pandas", "scikit-learn", "scipy", "skops")
    return {"python": platform.python_version(), **{name: installed(name) for name in names}}
