"""Holds an upload against its model's contract: accepted with a profile, or quarantined with all reasons."""

from __future__ import annotations

import json
import tempfile
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from refit import manifest
from refit.aws import intake, keys, messages
from refit.aws.bus import Event
from refit.aws.runtime import App, entrypoint, logger, metrics, turn_away, utc_now
from refit.aws.store import ObjectVersion, open_version
from refit.batches import Code, Outcome, Reason, Upload, UploadPart, batch_id, is_final, upload_id
from refit.errors import BadMessage, RefitError, UnknownModel, UnreadableFile
from refit.models import ModelSpec, get_model
from refit.profile import to_json
from refit.reading import Limits
from refit.validation import Verdict, validate_file

LAST_TRY = 5  # maxReceiveCount of the intake queue
BACK_OFF = (15, 60, 240, 900)  # seconds before the next try
MAX_REASONS = 100  # in the record; reasons.json holds all


@entrypoint
def handler(event: Any, app: App) -> dict[str, Any]:
    failures = []
    for record in event["Records"]:
        tries = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
        try:
            upload = _arrival(record, app)
            if upload:
                take_in(upload, app, tries)
        except Exception as error:  # whatever it is: the queue tries again, then keeps the message  # noqa: BLE001
            logger.error("intake failed", extra={"tries": tries, **_shown(error)})
            failures.append({"itemIdentifier": record["messageId"]})
            _back_off(record, tries, app)
    return {"batchItemFailures": failures}


def _back_off(record: Any, tries: int, app: App) -> None:
    """Have the next try soon, and each later one later; without this the queue's own, longer wait holds."""
    seconds = BACK_OFF[tries - 1] if tries < LAST_TRY else 0  # then it goes to the dead-letter queue
    queue, receipt = app.settings.intake_queue, record.get("receiptHandle", "")
    try:
        app.sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=seconds)
    except (ClientError, BotoCoreError) as error:
        logger.warning("no shorter wait", extra=_shown(error))


def _arrival(record: Any, app: App) -> messages.Arrival | None:
    """The upload a message tells of, None for a message that makes no sense: it is recorded and refused."""
    event: Any = record["body"]
    try:
        event = json.loads(record["body"])
        upload = messages.arrival(event)
        if upload.bucket != app.settings.data_bucket:
            raise BadMessage(f"bucket {upload.bucket[:80]!r} is not {app.settings.data_bucket!r}")
        keys.model_of_incoming(upload.key)
        if not upload.version_id:  # which version is meant? The sweep names it
            raise BadMessage("field 'version-id' is missing; the bucket keeps versions, and S3 names the one")
        return upload
    except (BadMessage, ValueError, RecursionError) as error:
        turn_away(event, error, "validate", app)
        return None


def take_in(arrival: messages.Arrival, app: App, tries: int) -> None:
    """Bring one object version to its outcome; a repeated arrival finishes or repeats nothing."""
    model, name = keys.model_of_incoming(arrival.key)
    name_of_upload = upload_id(arrival.bucket, arrival.key, arrival.version_id)
    logger.append_keys(model=model[:80], upload_id=name_of_upload)
    before = app.registry.upload(model, name_of_upload)
    if before and before.outcome is not Outcome.PARKED and is_final(before, app.models):
        return
    fresh = Upload(name_of_upload, model, arrival.key, arrival.version_id, Outcome.PARKED)
    # The sweep knows no sequencer; one that an event told stays.
    upload = replace(before or fresh, announced=False)
    upload = replace(upload, sequencer=arrival.sequencer or upload.sequencer)
    if tries >= LAST_TRY and upload.outcome is Outcome.PARKED:
        # Should this try die with its process, as the others may have done, there is a record that says so.
        upload = _park(upload, "its process died or ran out of time", app)
    try:
        found = open_version(app.s3, arrival.bucket, arrival.key, arrival.version_id)
        if found is None:
            logger.warning("the object version is gone; nothing to take in")
            if upload.revision:  # there is a record, and it does not say so
                gone = "The object version was deleted before it was taken in."
                _ignore(replace(upload, decided_at=utc_now()), Reason(Code.DELETED, gone), app)
            return
        upload = replace(upload, size=found.size, uploaded_at=found.uploaded_at, decided_at=utc_now())
        spec = _spec(app, model, name, found)
        if isinstance(spec, Reason):
            _ignore(upload, spec, app)
        elif found.size > app.settings.max_upload_mb << 20:
            _quarantine(upload, _too_large(found, app), app)
        else:
            _judge(upload, spec, found, app)
    except Exception as error:
        if tries >= LAST_TRY:
            _give_up(upload, error, app)
        raise


def _spec(app: App, model: str, name: str, found: ObjectVersion) -> ModelSpec | Reason:
    """The model an upload is for, or the reason to ignore it."""
    if not name and found.size == 0:
        return Reason(Code.EMPTY_FOLDER_MARKER, "A folder marker without content; nothing to do.")
    if not model:
        known = ", ".join(sorted(app.models))
        message = f"The key names no model; upload to incoming/<model>/<name>. Known models: {known}."
        return Reason(Code.NOT_IN_MODEL_FOLDER, message)
    try:
        return get_model(app.models, model)
    except UnknownModel as error:
        return Reason(Code.UNKNOWN_MODEL, f"{error} Upload under incoming/<model>/, or deploy the model.")


def _too_large(found: ObjectVersion, app: App) -> Verdict:
    limit = app.settings.max_upload_mb
    message = f"{found.size} bytes, at most {limit} MB are read; split the file or raise MaxUploadMb."
    return Verdict(False, 0, 0, (Reason(Code.FILE_TOO_LARGE, message, count=found.size),), ())


def _judge(upload: Upload, spec: ModelSpec, found: ObjectVersion, app: App) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, shard, bad_rows = (Path(folder) / name for name in ("upload", "shard", "bad_rows.csv"))
        upload = replace(upload, sha256=found.save(path))
        try:
            upload, paths = _with_parts(upload, path, app)
        except UnreadableFile as error:
            _quarantine(upload, Verdict(False, 0, 0, (Reason(error.code, str(error)),), ()), app)
            return
        verdict = validate_file(
            paths,
            spec.contract,
            limits=Limits(spec.contract.max_rows, 8 * app.settings.max_upload_mb << 20),
            now=upload.uploaded_at,
            shard=shard,
            bad_rows=bad_rows,
            folder=Path(folder),
        )
        if verdict.listed:
            verdict = _list_bad_rows(upload, verdict, bad_rows, app)
        if verdict.accepted:
            _accept(upload, spec, verdict, shard, app)
        else:
            _quarantine(upload, verdict, app)


def _with_parts(upload: Upload, path: Path, app: App) -> tuple[Upload, list[Path]]:
    """The upload with the parts that it names, if it is a manifest, and the files to read."""
    with path.open("rb") as file:
        document = file.read(manifest.MAX_BYTES + 1)
    if not manifest.is_manifest(document):
        return upload, [path]
    # A repeated delivery reads what an earlier one read, whatever was uploaded meanwhile.
    pinned = {part.key: part.version_id for part in upload.parts}
    parts: list[UploadPart] = []
    paths: list[Path] = []
    limit = app.settings.max_upload_mb << 20
    for key in manifest.files_of(document, upload.model):
        found = open_version(app.s3, app.settings.data_bucket, key, pinned.get(key, ""))
        if found is None:
            raise manifest.missing(key)
        limit -= found.size
        if limit < 0:
            raise UnreadableFile(
                f"The manifest's files are larger than the {app.settings.max_upload_mb} MB that are read of a batch; "
                "make several batches, or raise MaxUploadMb.",
                Code.FILE_TOO_LARGE,
            )
        paths.append(path.with_name(f"part-{len(parts)}"))
        parts.append(UploadPart(key, found.version_id, found.save(paths[-1]), found.size))
    return replace(upload, parts=tuple(parts), sha256=manifest.content_hash(parts)), paths


def _list_bad_rows(upload: Upload, verdict: Verdict, path: Path, app: App) -> Verdict:
    """Keep the list of bad rows, before the record that says where it is."""
    key = keys.bad_rows(upload.model, upload.upload_id)
    app.store.put_file_once(key, path, "text/csv")
    shown = f"the first {verdict.listed} of {verdict.bad_rows}"
    if verdict.listed == verdict.bad_rows:
        shown = f"all {verdict.bad_rows}"
    message = f"Rows that broke hard rules, {shown}, with numbers and reasons: s3://{app.settings.store_bucket}/{key}"
    listed = Reason(Code.BAD_ROWS_LISTED, message, count=verdict.listed)
    return replace(verdict, warnings=(*verdict.warnings, listed))


def _accept(upload: Upload, spec: ModelSpec, verdict: Verdict, shard: Path, app: App) -> None:
    """Shard, record, profile: the profile last, for its arrival is the message."""
    assert verdict.profile is not None
    batch = batch_id(upload.sha256, spec.contract.digest)
    first = app.registry.first_with_content(upload.model, upload.sha256, upload.key)
    intake.remember_contract(app, upload.model, spec.contract)
    app.store.put_file_once(keys.shard(upload.model, batch), shard)
    upload = app.registry.save_upload(
        replace(
            upload,
            outcome=Outcome.ACCEPTED,
            batch_id=batch,
            contract=spec.contract.digest,
            duplicate_of="" if first == upload.key else first,
            rows=verdict.rows,
            bad_rows=verdict.bad_rows,
            warnings=(verdict.warnings + verdict.coercions)[:MAX_REASONS],
            reasons=(),
            period=verdict.profile.period,
        )
    )
    app.store.put_json_once(keys.profile(upload.model, batch), to_json(verdict.profile))
    intake.announce(app, Event.BATCH_ACCEPTED, upload)
    metrics.add_metric("UploadsAccepted", "Count", 1)
    logger.info("accepted", extra={"rows": upload.rows, "batch_id": batch})


def _quarantine(upload: Upload, verdict: Verdict, app: App) -> None:
    upload = replace(
        upload,
        outcome=Outcome.QUARANTINED,
        reasons=verdict.reasons[:MAX_REASONS],
        warnings=verdict.warnings[:MAX_REASONS],
        rows=verdict.rows,
        bad_rows=verdict.bad_rows,
    )
    everything = {**asdict(upload), "reasons": [asdict(reason) for reason in verdict.reasons]}
    app.store.put_json_once(keys.reasons(upload.model, upload.upload_id), everything)
    upload = app.registry.save_upload(upload)
    intake.announce(app, Event.BATCH_QUARANTINED, upload)
    metrics.add_metric("UploadsQuarantined", "Count", 1)
    logger.info("quarantined", extra={"codes": sorted({reason.code for reason in upload.reasons})})


def _ignore(upload: Upload, reason: Reason, app: App) -> None:
    upload = app.registry.save_upload(replace(upload, outcome=Outcome.IGNORED, reasons=(reason,)))
    intake.announce(app, Event.UPLOAD_IGNORED, upload)
    logger.info("ignored", extra={"codes": [reason.code]})


def _give_up(upload: Upload, error: Exception, app: App) -> None:
    """Our fault, not the file's: say so; its message goes to the dead-letter queue."""
    # The failed attempt may have come as far as a record, and another delivery may have finished it.
    written = app.registry.upload(upload.model, upload.upload_id)
    if written and written.outcome is not Outcome.PARKED:
        return  # what is left to tell, the sweep tells
    upload = replace(upload, revision=written.revision if written else 0)
    shown = str(error) if isinstance(error, RefitError) else type(error).__name__
    intake.announce(app, Event.UPLOAD_PARKED, _park(upload, shown, app))


def _park(upload: Upload, why: str, app: App) -> Upload:
    message = (
        f"Refit failed {LAST_TRY} times on this file ({why}); its message is in the dead-letter queue. "
        f"Once mended, try again with: refit requeue {upload.model}"
    )
    parked = replace(upload, outcome=Outcome.PARKED, decided_at=utc_now())
    return app.registry.save_upload(replace(parked, reasons=(Reason(Code.REFIT_FAILED, message),)))


def _shown(error: Exception) -> dict[str, Any]:
    """What may be logged of an error: words that are not our own or those of AWS may quote the data."""
    own = isinstance(error, RefitError | ClientError | BotoCoreError)
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "message_to_people": str(error) if own else "",
        "at": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    }
