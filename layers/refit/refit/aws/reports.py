"""What is known of a run, gathered into the one document that its page is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from refit import report
from refit.aws import inputs, keys, versions
from refit.aws.inputs import Input
from refit.aws.messages import caught
from refit.aws.runtime import App
from refit.batches import Upload
from refit.contract import ColumnType
from refit.distributions import beside
from refit.errors import ArtifactError, BadMessage
from refit.models import ModelSpec
from refit.profile import from_json
from refit.records import Approval, Quality, Run, RunStatus, Version

BATCHES = 12  # newest ones whose drift is shown
COLUMNS = 20  # farthest ones of each
DRAWN = 6
SCORES = 60


def write(app: App, spec: ModelSpec, run_id: str, asked: bool = False) -> str:
    """Store the document and the page of a run, over an earlier one; returns the page's key.

    `asked`: a person is about to be asked whether its version may be promoted.
    """
    found = document(app, spec, run_id, asked)
    app.store.put_json(keys.report_document(spec.name, run_id), found)
    app.store.put(
        keys.report(spec.name, run_id),
        report.page(found).encode(errors="replace"),
        "text/html; charset=utf-8",
    )
    return keys.report(spec.name, run_id)


def document(app: App, spec: ModelSpec, run_id: str, asked: bool = False) -> dict[str, Any]:
    """All that a page shows and more; parts that are not there are None or empty.

    Raises
    ------
    BadMessage
        When there is no such run.
    """
    registry, model = app.registry, spec.name
    run = registry.run(model, run_id)
    if run is None:
        raise BadMessage(f"{model} has no run {run_id[:40]!r}; see: refit history {model}")
    frozen = inputs.read(app.store, run.inputs_key) if run.inputs_key else None
    batches = frozen.batches if frozen else ()
    uploads = {upload.batch_id: upload for upload in registry.uploads(model) if upload.batch_id}
    evaluation = _evaluation(app, model, run_id)
    approval = registry.approval(model, run_id)
    champion = registry.version(model, run.champion) if run.champion else None
    reports = _drift(app, model, run.champion, [each for each in batches if not each.seen])
    scored = sorted(registry.qualities(model), key=lambda each: (_period(uploads, each.batch_id), each.at))
    return {
        "format": 1,
        "document_key": keys.report_document(model, run_id),
        "model": model,
        "task": spec.task.value,
        "run_id": run_id,
        "state": _state(run, asked),
        "run": asdict(run),
        "gates": asdict(spec.gates),
        "evaluation": evaluation,
        "approval": _shown(approval),
        "versions": {
            "promoted": _version(registry.version(model, versions.name_of(run_id))),
            "tested": _version(registry.version(model, run.challenger or _tested(run_id, evaluation))),
            "champion": _version(champion),
        },
        "inputs": _inputs(run, batches, uploads),
        "drift": [{**each, "name": _name(uploads, each["batch_id"])} for each in reports],
        "distributions": _distributions(app, spec, run.champion, reports, uploads),
        "quality": [_quality(each, uploads) for each in scored[-SCORES:]],
    }


def _state(run: Run, asked: bool) -> str:
    return "waiting" if asked and run.status is RunStatus.RUNNING else run.status.value


def _evaluation(app: App, model: str, run_id: str) -> dict[str, Any] | None:
    try:
        found = app.store.get_json(keys.evaluation(model, run_id))
    except ArtifactError:
        return None  # it failed before
    trained = [
        {**each, "error": ": ".join(caught(each["error"]))} if "error" in each else each
        for each in found["trained"]
    ]
    return {**found, "trained": trained}


def _tested(run_id: str, evaluation: Mapping[str, Any] | None) -> str:
    return versions.name_of(run_id, evaluation["chosen"]) if evaluation else ""


def _version(version: Version | None) -> dict[str, Any] | None:
    return asdict(version) if version else None


def _shown(approval: Approval | None) -> dict[str, Any] | None:
    """All but the token, which is for the execution."""
    if approval is None:
        return None
    return {name: value for name, value in asdict(approval).items() if name != "token"}


def _inputs(run: Run, batches: Sequence[Input], uploads: Mapping[str, Upload]) -> dict[str, Any]:
    told = [{**asdict(each), "period": _of(uploads, each.batch_id)} for each in batches]
    periods = [each["period"] for each in told if each["period"]]
    return {
        "key": run.inputs_key,
        "rows": run.rows,
        "new_rows": run.new_rows,
        "period": [min(p[0] for p in periods), max(p[1] for p in periods)] if periods else None,
        "batches": told,
    }


def _drift(app: App, model: str, champion: str, new: Sequence[Input]) -> list[dict[str, Any]]:
    """Reports of the newest batches that the champion has not learned from, as far as they were compared with it."""
    found = []
    for each in new[-BATCHES:] if champion else ():
        try:
            report = app.store.get_json(keys.drift(model, each.batch_id, champion))
        except ArtifactError:
            continue  # compared with the champion before, or it is not known what this one learned from
        columns = _predictions(app, model, each.batch_id, champion) + report.pop("columns")
        found.append(
            {
                **report,
                "batch_id": each.batch_id,
                "compared": len(columns),
                "drifted": [column["column"] for column in columns if column["drifted"]],
                "columns": columns[:COLUMNS],
            }
        )
    return found


def _predictions(app: App, model: str, batch_id: str, champion: str) -> list[dict[str, Any]]:
    """How far the champion's predictions of a batch have moved, as if they were a column."""
    try:
        return app.store.get_json(keys.prediction_drift(model, batch_id, champion))["columns"]
    except ArtifactError:
        return []


def _distributions(
    app: App,
    spec: ModelSpec,
    champion: str,
    reports: Sequence[Mapping[str, Any]],
    uploads: Mapping[str, Upload],
) -> dict[str, Any] | None:
    """The farthest columns of the newest batch that was compared."""
    if not reports:
        return None
    newest = reports[-1]
    boolean = {column.name for column in spec.contract.columns if column.type is ColumnType.BOOLEAN}
    try:
        reference = from_json(app.store.get_json(keys.reference(spec.name, champion)))
        batch = from_json(app.store.get_json(keys.profile(spec.name, newest["batch_id"])))
    except ArtifactError:
        return None
    columns: list[dict[str, Any]] = []
    for each in newest["columns"]:
        name = each["column"]
        if len(columns) < DRAWN and name in reference.columns and name in batch.columns:
            shares = beside(reference.columns[name], batch.columns[name])
            if shares and name in boolean and shares["names"] == ["0", "1"]:
                shares["names"] = ["false", "true"]
            if shares:
                columns.append({**each, **shares})
    return {
        "name": _name(uploads, newest["batch_id"]),
        "batch_id": newest["batch_id"],
        "version": champion,
        "columns": columns,
    }


def _quality(quality: Quality, uploads: Mapping[str, Upload]) -> dict[str, Any]:
    return {**asdict(quality), "name": _name(uploads, quality.batch_id)}


def _of(uploads: Mapping[str, Upload], batch_id: str) -> list[str] | None:
    found = uploads.get(batch_id)
    return list(found.period) if found and found.period else None


def _period(uploads: Mapping[str, Upload], batch_id: str) -> str:
    return (_of(uploads, batch_id) or [""])[0]


def _name(uploads: Mapping[str, Upload], batch_id: str) -> str:
    """A batch as people know it: the file's name."""
    found = uploads.get(batch_id)
    return found.key.rsplit("/", 1)[-1] if found else batch_id
