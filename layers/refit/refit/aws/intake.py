"""Uploads on their way in: telling of them again, and of those that are parked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from refit.aws import keys
from refit.aws.bus import Event
from refit.aws.runtime import App, utc_now
from refit.batches import Outcome, Upload
from refit.contract import Contract


def send_again(app: App, key: str, version_id: str, reason: str) -> None:
    """Send the message of an upload to the intake queue, in the shape of S3's own event."""
    found = {"key": key, "version-id": version_id}
    detail = {"bucket": {"name": app.settings.data_bucket}, "object": found, "reason": reason}
    body = {"source": "refit", "detail-type": "Object Created", "time": utc_now(), "detail": detail}
    app.sqs.send_message(QueueUrl=app.settings.intake_queue, MessageBody=json.dumps(body))


def tell_of_parked(app: App, uploads: Iterable[Upload], before: str) -> None:
    """Tell of uploads that were parked before that time by a try that died, and so could not tell itself."""
    for upload in uploads:
        if upload.outcome is Outcome.PARKED and not upload.announced and upload.decided_at <= before:
            announce(app, Event.UPLOAD_PARKED, upload)


def announce(app: App, event: Event, upload: Upload) -> None:
    """Tell of an outcome, then note that it was told: until then the next delivery does it again."""
    app.bus.publish(
        event,
        {
            "model": upload.model[:256],
            "key": upload.key,
            "version_id": upload.version_id,
            "upload_id": upload.upload_id,
            "batch_id": upload.batch_id,
            "rows": upload.rows,
            "bad_rows": upload.bad_rows,
            "period": upload.period,
            "duplicate_of": upload.duplicate_of,
            "reasons": [asdict(reason) for reason in upload.reasons[:20]],
        },
    )
    app.registry.save_upload(replace(upload, announced=True))


def remember_contract(app: App, model: str, contract: Contract) -> None:
    """Keep what batches under a contract hold, for the day when the model has another one."""
    columns = {column.name: column.type for column in contract.columns}
    document = {"version": contract.version, "columns": columns}
    app.store.put_json_once(keys.contract(model, contract.digest), document)
