"""The page of a run as a file on this machine."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refit.aws import keys, reports
from refit.aws.runtime import App
from refit.errors import ArtifactError, RefitError
from refit.models import ModelSpec
from refit.records import RunStatus


@dataclass(frozen=True)
class Page:
    run_id: str
    html: bytes
    document: dict[str, Any]
    note: str = ""


def find(app: App, spec: ModelSpec, run_id: str = "") -> Page:
    """The stored page of a run, of the newest by default.

    Where none is stored, because writing it failed or the run was ended from
    outside, it is made here from what is recorded, and the note says so.

    Raises
    ------
    RefitError
        When there is no such run, or it has nothing to show yet.
    """
    name = spec.name
    runs = {run.run_id: run for run in app.registry.runs(name)}
    if not runs:
        raise RefitError(f'{name} has not run yet; ask with: refit retrain {name} --reason "..."')
    run = runs.get(run_id or max(runs))
    if run is None:
        raise RefitError(f"{name} has no run {run_id[:40]!r}; the newest is {max(runs)}")
    try:
        html = app.store.get(keys.report(name, run.run_id))
        return Page(run.run_id, html, app.store.get_json(keys.report_document(name, run.run_id)))
    except ArtifactError:
        if run.status is RunStatus.RUNNING:
            raise RefitError(
                f"{run.run_id} of {name} still runs, and its page is written when it ends; another run's: "
                f"refit report {name} RUN"
            ) from None
    from refit import report

    document = reports.document(app, spec, run.run_id)
    return Page(
        run.run_id, report.page(document).encode(errors="replace"), document, " (made here: none was stored)"
    )


def save(page: Page, path: Path) -> Path:
    """Write the HTML; raises RefitError when the path cannot be written."""
    try:
        path.write_bytes(page.html)
    except OSError as error:
        raise RefitError(f"{path}: {error.strerror or error}; name another file with --out") from error
    return path


def show(path: Path) -> None:
    if not webbrowser.open(path.resolve().as_uri()):
        raise RefitError(f"no browser was found here; open {path} yourself")
