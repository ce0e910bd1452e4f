"""Looking for what may go, and deleting it: marks first, then objects, then the records that name them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from refit.aws import keys
from refit.aws.runtime import App
from refit.aws.store import Stored
from refit.models import ModelSpec, Retention
from refit.retention import Plan, Remembered, plan, shared_before


@dataclass(frozen=True)
class Found:
    """What goes, and which object versions of the store that is."""

    plan: Plan
    objects: tuple[Stored, ...]


def look(app: App, spec: ModelSpec, now: str) -> Found:
    """What would go now; changes nothing, and reads nothing where everything is kept."""
    if spec.retention == Retention():
        return Found(Plan(), ())
    # The objects first: what is written later is not among them, and so not deleted.
    there = list(_stored(app, spec))
    registry, model = app.registry, spec.name
    known = Remembered(
        slot=registry.slot(model),
        versions=registry.versions(model),
        runs=registry.runs(model),
        generations=registry.generations(model),
        knocks=registry.knocks(model),
        qualities=registry.qualities(model),
        drifts=registry.drifts(model),
        uploads=registry.uploads(model),
    )
    found = plan(known, spec.retention, now)
    goes = {keys.artifact(model, sha256) for sha256 in found.artifacts}
    beside = (keys.reference, keys.predictions, keys.fingerprints)
    goes |= {key(model, version) for version in found.references for key in beside}
    of_run = (keys.evaluation, keys.report, keys.report_document)
    stays = {key(model, run_id) for run_id in found.evaluations_kept for key in of_run}
    reports = (keys.drifts(model), keys.reports(model))

    def old(each: Stored) -> bool:
        return each.key.startswith(reports) and each.key not in stays and each.at < found.reports_before

    return Found(found, tuple(each for each in there if each.key in goes or old(each)))


def _stored(app: App, spec: ModelSpec) -> Iterator[Stored]:
    if spec.retention.versions:
        yield from app.store.versions_under(keys.artifacts(spec.name))
        yield from app.store.versions_under(keys.references(spec.name))
    if spec.retention.report_days:
        yield from app.store.versions_under(keys.drifts(spec.name))
        yield from app.store.versions_under(keys.reports(spec.name))


def prune(app: App, spec: ModelSpec, now: str) -> dict[str, int]:
    """Delete what may go; returns how much that was. Repeated after a failure, it deletes what is left.

    Raises
    ------
    Conflict
        When the champion moved meanwhile: look again.
    """
    found = look(app, spec, now)
    going, registry, model = found.plan, app.registry, spec.name
    for version in going.versions:
        registry.prune_version(version, now, going.generation)
    app.store.delete(found.objects)
    files = [(part.key, part.version_id) for part in going.parts]
    files += [(upload.key, upload.version_id) for upload in going.uploads]
    for key, version_id in files:
        app.s3.delete_object(Bucket=app.settings.data_bucket, Key=key, VersionId=version_id)
    for upload in going.uploads:
        app.store.delete(app.store.versions_under(keys.quarantined(model, upload.upload_id)))
        registry.save_upload(replace(upload, removed=now))
    for run, knocks in going.runs:
        registry.forget_approval(model, run.run_id)
        registry.forget_run(run, knocks)
    for knock in going.knocks:
        registry.forget_knock(model, knock.knock_id)
    for quality in going.qualities:
        registry.forget_quality(model, quality.batch_id, quality.version)
    for batch_id, version_name in going.drifts:
        registry.forget_drift(model, batch_id, version_name)
    records = (going.runs, going.knocks, going.qualities, going.drifts)
    return {
        "versions": len(going.versions),
        "objects": len(found.objects) + len(going.parts),
        "uploads": len(going.uploads),
        "records": sum(map(len, records)),
    }


def prune_shared(app: App, now: str) -> int:
    """Delete old records that are of no model; returns how many."""
    before = shared_before([spec.retention for spec in app.models.values()], now)
    if not before:
        return 0
    refused = [refusal.event_id for refusal in app.registry.refusals() if refusal.at < before]
    swept = [upload_id for upload_id, at in app.registry.swept().items() if at < before]
    for event_id in refused:
        app.registry.forget_refusal(event_id)
    for upload_id in swept:
        app.registry.forget_swept(upload_id)
    return len(refused) + len(swept)
