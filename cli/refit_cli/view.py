"""What is shown of a model: one JSON document, and the same as text."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from refit.aws import inputs, keys, pruning
from refit.aws.runtime import App, utc_now
from refit.batches import Code, Upload, effective
from refit.drift import BUDGET, batches_a_year, false_alarms_a_year
from refit.models import ModelSpec
from refit.policy import FOREVER, Hold
from refit.prose import counted
from refit.records import Approval, ApprovalStatus, Tick

NOTED = 3  # soft findings of an upload; more are counted


def status(app: App, model: str) -> dict[str, Any]:
    """Where a model stands now."""
    registry = app.registry
    champion, slot, uploads = registry.champion(model), registry.slot(model), registry.uploads(model)
    version = champion.version if champion else ""
    learned = inputs.learned_by(app.store, registry, model, version)
    used = effective(uploads)
    runs = sorted(registry.runs(model), key=lambda run: run.run_id)
    knocks = sorted(registry.knocks(model), key=lambda knock: knock.decided_at)
    qualities = sorted(registry.qualities(model), key=lambda quality: quality.at)
    drift = _last_drift(registry.drifts(model), uploads)
    asked = next((each for each in approvals(app, model) if each["open"]), None)
    return {
        "model": model,
        "champion": asdict(champion) if champion else None,
        "uploads": dict(Counter(upload.outcome.value for upload in uploads)),
        "rows": sum(upload.rows for upload in used),
        "new_rows": sum(upload.rows for upload in used if upload.batch_id not in learned),
        "running": slot.running or None,
        "approval": asked,
        "pending": slot.pending,
        "look_again_at": slot.look_again_at,
        "hold": slot.hold,
        "last_run": asdict(runs[-1]) if runs else None,
        "last_decision": asdict(knocks[-1]) if knocks else None,
        "last_quality": asdict(qualities[-1]) if qualities else None,
        "last_drift": drift,
        "false_alarms_a_year": _false_alarms(drift, used),
    }


def _last_drift(drifts: list[dict[str, Any]], uploads: list[Upload]) -> dict[str, Any] | None:
    """The report on the batch that came last."""
    decided = {upload.batch_id: upload.decided_at for upload in uploads}
    return max(drifts, key=lambda each: (decided.get(each["batch_id"], ""), each["version"]), default=None)


def _false_alarms(drift: dict[str, Any] | None, uploads: list[Upload]) -> float | None:
    """How many are to be expected a year, as often as batches come and with the budget that held last."""
    rate = batches_a_year(uploads)
    return false_alarms_a_year(rate, drift.get("budget", BUDGET)) if drift and rate else None


def approvals(app: App, model: str) -> list[dict[str, Any]]:
    """What people were asked about, oldest first; `open` is what can still be answered."""
    running = app.registry.slot(model).running
    asked = [
        {**shown(each), "open": each.status is ApprovalStatus.WAITING and each.run_id == running}
        for each in app.registry.approvals(model)
    ]
    return _sorted(asked, "run_id")


def shown(approval: Approval) -> dict[str, Any]:
    """All but the token, which is for the execution."""
    return {name: value for name, value in asdict(approval).items() if name != "token"}


def strays(app: App) -> list[dict[str, Any]]:
    """Uploads that are for no deployed model."""
    pages = app.s3.get_paginator("list_objects_v2").paginate(
        Bucket=app.settings.data_bucket, Prefix=keys.INCOMING, Delimiter="/"
    )
    folders = {prefix["Prefix"].split("/")[1] for page in pages for prefix in page.get("CommonPrefixes", [])}
    unknown = sorted(folders - set(app.models))
    return [asdict(upload) for folder in ["", *unknown] for upload in app.registry.uploads(folder)]


def history(app: App, model: str) -> dict[str, Any]:
    """Everything the registry remembers of a model, each list in order of time."""
    registry = app.registry
    return {
        "model": model,
        "uploads": _sorted([asdict(each) for each in registry.uploads(model)], "decided_at"),
        "knocks": _sorted([asdict(each) for each in registry.knocks(model)], "decided_at"),
        "runs": _sorted([asdict(each) for each in registry.runs(model)], "run_id"),
        "approvals": approvals(app, model),
        "generations": _sorted([asdict(each) for each in registry.generations(model)], "generation"),
        "quality": _sorted([asdict(each) for each in registry.qualities(model)], "at"),
        "drift": registry.drifts(model),
        "pruned": _sorted(
            [
                {"version": each.version, "pruned_at": each.pruned_at}
                for each in registry.versions(model)
                if each.pruned_at
            ],
            "pruned_at",
        ),
    }


def retention(app: App, spec: ModelSpec, now: str) -> dict[str, Any]:
    """What the next daily prune would delete."""
    found = pruning.look(app, spec, now)
    going = found.plan
    return {
        "model": spec.name,
        "retention": asdict(spec.retention),
        "versions": [version.version for version in going.versions],
        "objects": [each.key for each in found.objects],
        "bytes": sum(each.size for each in found.objects)
        + sum(each.size for each in going.uploads)
        + sum(part.size for part in going.parts),
        "uploads": [upload.key for upload in going.uploads],
        "parts": [part.key for part in going.parts],
        "runs": [run.run_id for run, _ in going.runs],
        "knocks": len(going.knocks),
        "quality": len(going.qualities),
        "drift": len(going.drifts),
    }


def status_text(status: dict[str, Any]) -> str:
    champion, uploads = status["champion"], status["uploads"]
    lines = [status["model"]]
    if champion:
        score = "" if champion["score"] is None else f", scored {champion['score']:.4f} when tested"
        lines.append(
            f"  champion   {champion['version']} (generation {champion['generation']}, "
            f"{champion['change']} on {champion['at']}{score})"
        )
    elif status["last_run"] and not status["running"]:
        lines.append(f"  champion   none yet; why the last run gave none: refit report {status['model']}")
    elif status["rows"]:
        lines.append("  champion   none yet")
    else:
        lines.append(f"  champion   none yet; drop data under incoming/{status['model']}/")
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(uploads.items())) or "none"
    lines.append(f"  uploads    {outcomes}")
    lines.append(f"  rows       {status['rows']} in use, {status['new_rows']} of them new to the champion")
    if status["last_drift"]:
        lines.append(f"  drift      {drift_text(status['last_drift'])}")
        if status["false_alarms_a_year"] is not None:
            expected = f"at most {status['false_alarms_a_year']:.2g} false alarms a year are to be expected"
            lines.append(f"             {expected}")
    quality = status["last_quality"]
    if quality and quality["predictions"]:
        moved = quality["predictions"]["drifted"]
        told = quality["predictions"]["message"] if moved else "as on the block it was tested on"
        lines.append(f"  predicts   {quality['version']} on the newest batch: {told}")
    if status["running"]:
        lines.append(f"  running    {status['running']}")
    if status["approval"]:
        asked = status["approval"]
        lines.append(f"  approval   {approval_text(asked)}")
        for answer in ("approve", "reject"):
            lines.append(f"             refit {answer} {asked['model']} {asked['version']} --comment ...")
    again = status["look_again_at"]
    if status["pending"]:
        lines.append(
            f"  pending    {status['pending']['reason']} (asked by {status['pending']['requested_by']})"
            + (f", looked at again at {again}" if again and again != FOREVER else "")
        )
    if status["hold"] and status["hold"]["until"] > utc_now():
        lines.append(f"  on hold    {str(Hold(**status['hold'])).removeprefix('on hold ')}")
    if status["last_run"]:
        run = status["last_run"]
        lines.append(f"  last run   {run['run_id']}: {run['result'] or run['status']}")
    if status["last_decision"]:
        knock = status["last_decision"]
        lines.append(f"  last knock {knock['trigger']} -> {knock['answer']}: {'; '.join(knock['reasons'])}")
    return "\n".join(lines)


def approval_text(approval: dict[str, Any]) -> str:
    against = f"to follow {approval['champion']}" if approval["champion"] else "the first champion"
    text = f"{approval['model']} {approval['version']}, {against}: {approval['status']}"
    if approval["answered_by"]:
        return f"{text}, {_answer(approval)}"
    if approval["open"]:
        losing = "".join(f"; on the slice {each}" for each in approval["slices"])
        seen = f"refit report {approval['model']} {approval['run_id']}"
        return f"{text} until {approval['expires_at']}; {approval['reason']}{losing}; see: {seen}"
    return text if approval["status"] != ApprovalStatus.WAITING else f"{text}, but its run has ended"


def waiting_text(asked: Approval) -> str:
    """Of a run: what it waits for, and how to answer."""
    name = f"{asked.model} {asked.version}"
    return (
        f"waits for approval of {asked.version} until {asked.expires_at}; see: refit approvals {asked.model}, refit report {asked.model} {asked.run_id}; "
        f"answer: refit approve {name} --comment ..., or refit reject {name} --comment ..."
    )


def _answer(approval: dict[str, Any]) -> str:
    return f"{approval['answered_by']} on {approval['answered_at']}: {approval['comment']}"


def retention_text(found: dict[str, Any]) -> str:
    if not any(found["retention"].values()):
        return f"{found['model']}: everything is kept; see [retention] in docs/models.md"
    lines = [f"{found['model']}: the next daily prune would delete, {found['bytes']} bytes in all:"]
    for what, names in (
        ("artifacts of versions", found["versions"]),
        ("objects of the store", found["objects"]),
        ("uploads not accepted", found["uploads"]),
        ("files of manifests not accepted", found["parts"]),
        ("runs", found["runs"]),
    ):
        lines.append(f"  {len(names)} {what}{': ' if names else ''}{', '.join(names)}")
    lines.append(f"  {found['knocks']} knocks, {found['quality']} scores and {found['drift']} drift records")
    return "\n".join(lines)


def refusal_text(refusal: dict[str, Any]) -> str:
    what = refusal["detail_type"] or "an event of unknown shape"
    return f"refused      {refusal['at']} {what} by {refusal['function']}: {refusal['message']}"


def tick_text(tick: Tick) -> str:
    found = ", ".join(f"{model} {what}" for model, what in sorted(tick.models.items()))
    return f"last tick    {tick.at}: {found}; {counted(tick.swept, 'upload')} that no event told of"


def stray_text(upload: dict[str, Any]) -> str:
    return f"ignored      {upload['key']}: {_reasons(upload['reasons'])}"


def history_text(history: dict[str, Any]) -> str:
    """One line an event, oldest first."""
    lines: list[tuple[str, str]] = []
    for each in history["uploads"]:
        name = each["key"].split("/", 2)[-1]
        accepted = each["outcome"] == "accepted"
        what = counted(each["rows"], "row") if accepted else _reasons(each["reasons"])
        if accepted:
            what += _noted(each["warnings"])
        if each["duplicate_of"]:
            what += f", the same content as {each['duplicate_of']}"
        if each["retracted"]:
            what += f", retracted: {each['retracted']}"
        if each["removed"]:
            what += f", file deleted on {each['removed']}"
        lines.append((each["decided_at"], f"upload     {name} {each['outcome']}: {what}"))
    for each in history["quality"]:
        score = each["note"] if each["score"] is None else f"{each['metric']} {each['score']:.4f}"
        if each["floor"] is not None:
            score += f", {'at least' if each['score'] >= each['floor'] else 'below'} the {each['floor']:.4f} of its test"
        if each["predictions"] and each["predictions"]["drifted"]:
            score += f"; {each['predictions']['message']}"
        lines.append((each["at"], f"quality    {each['version']} on {each['rows']} new rows: {score}"))
    decided = {each["batch_id"]: each["decided_at"] for each in history["uploads"] if each["batch_id"]}
    for each in history["drift"]:
        lines.append(
            (decided.get(each["batch_id"], ""), f"drift      from {each['version']}: {drift_text(each)}")
        )
    for each in history["knocks"]:
        lines.append(
            (
                each["decided_at"],
                f"knock      {each['trigger']} -> {each['answer']}: {'; '.join(each['reasons'])}",
            )
        )
    for each in history["runs"]:
        lines.append((each["started_at"], f"run        {each['run_id']} started on {each['rows']} rows"))
        if each["ended_at"]:
            lines.append(
                (each["ended_at"], f"run        {each['run_id']} {each['status']}: {each['result']}")
            )
    for each in history["approvals"]:
        until = f"waits for a person until {each['expires_at']}"
        lines.append((each["requested_at"], f"approval   {each['version']} {until}"))
        if each["answered_at"]:
            lines.append(
                (each["answered_at"], f"approval   {each['version']} {each['status']}, {_answer(each)}")
            )
    for each in history["generations"]:
        text = f"champion   generation {each['generation']} is {each['version']} ({each['change']} by {each['by']})"
        lines.append((each["at"], text))
    for each in history["pruned"]:
        lines.append((each["pruned_at"], f"pruned     {each['version']}: its artifact, not its record"))
    if not lines:
        return f"{history['model']}: nothing has happened yet"
    return "\n".join(f"{at}  {text}" for at, text in sorted(lines, key=lambda line: line[0]))


def _noted(warnings: Any) -> str:
    """Soft findings by code and column; what was converted without loss is in the document alone."""
    found = [each for each in warnings if each["code"] != Code.COERCED]
    told = [each["code"] + (f" {each['column']!r}" if each["column"] else "") for each in found[:NOTED]]
    more = [f"{len(found) - NOTED} more"] if len(found) > NOTED else []
    return f", noted: {', '.join([*told, *more])}" if told else ""


def drift_text(drift: dict[str, Any]) -> str:
    """What drifted, what only the season explains, or that nothing did."""
    drifted, seasonal = drift["drifted"], drift.get("seasonal", [])
    told = {each["column"]: each["message"] for each in drift["columns"]}
    text = "; ".join(told.get(name, name) for name in drifted[:3]) or "no column drifted"
    text += f"; and {counted(len(drifted) - 3, 'more column')}" if len(drifted) > 3 else ""
    return text + (f"; as a year ago: {', '.join(seasonal)}" if seasonal else "")


def _reasons(reasons: Any) -> str:
    return " ".join(f"[{reason['code']}] {reason['message']}" for reason in reasons)


def _sorted(records: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: record[by])
