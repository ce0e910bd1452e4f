"""Uploads and batches: what was dropped, what became of it, and what is learned from.

An upload is one version of one object under incoming/. A batch is content: the
same bytes under the same contract are the same batch, whatever they are called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

NAMED = 3  # columns in a condensed reason


class Outcome(StrEnum):
    """Where an upload ends; each upload has exactly one."""

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"
    IGNORED = "ignored"
    PARKED = "parked"  # our fault, not the file's: kept for another try


class Code(StrEnum):
    """Reason codes. Soft ones are reported with an accepted upload, the others quarantine it."""

    FILE_TOO_LARGE = "file_too_large"
    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"
    UNPACKS_TOO_LARGE = "unpacks_too_large"
    WRONG_ENCODING = "wrong_encoding"
    NESTED_COLUMN = "nested_column"
    CELL_TOO_LARGE = "cell_too_large"
    TOO_MANY_COLUMNS = "too_many_columns"
    TOO_MANY_ROWS = "too_many_rows"
    BAD_MANIFEST = "bad_manifest"
    TOO_FEW_ROWS = "too_few_rows"
    MISSING_COLUMN = "missing_column"
    UNEXPECTED_COLUMN = "unexpected_column"
    DUPLICATE_COLUMN = "duplicate_column"
    WRONG_TYPE = "wrong_type"
    TOO_MANY_NULLS = "too_many_nulls"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_CATEGORY = "unknown_category"
    TOO_MANY_CATEGORIES = "too_many_categories"
    DUPLICATE_KEY = "duplicate_key"
    NOT_FRESH = "not_fresh"
    CONSTANT_LABEL = "constant_label"
    RARE_LABEL = "rare_label"
    BAD_ROWS_LEFT_OUT = "bad_rows_left_out"
    BAD_ROWS_LISTED = "bad_rows_listed"
    COERCED = "coerced"
    NO_LABELS = "no_labels"
    UNKNOWN_MODEL = "unknown_model"
    NOT_IN_MODEL_FOLDER = "not_in_model_folder"
    DELETED = "deleted"
    EMPTY_FOLDER_MARKER = "empty_folder_marker"
    REFIT_FAILED = "refit_failed"


@dataclass(frozen=True)
class Reason:
    """Why an upload was not accepted, or a soft finding about one that was."""

    code: str
    message: str
    column: str | None = None
    count: int | None = None


def condensed(reasons: Iterable[Reason]) -> list[Reason]:
    """Reasons as people want to read them: of many conversions, which of a CSV are all columns, one that names some."""
    told: list[Reason] = []
    converted: list[Reason] = []
    for reason in reasons:
        (converted if reason.code == Code.COERCED else told).append(reason)
    if len(converted) < 2:
        return told + converted
    named = ", ".join(repr(reason.column) for reason in converted[:NAMED])
    more = f" and {len(converted) - NAMED} more" if len(converted) > NAMED else ""
    message = f"{len(converted)} columns read as the types of the contract, nothing was lost: {named}{more}."
    return [*told, Reason(Code.COERCED, message, count=sum(reason.count or 0 for reason in converted))]


@dataclass(frozen=True)
class UploadPart:
    """One of the files that a manifest names, as it was when the batch was taken in."""

    key: str
    version_id: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Upload:
    """The record of one object version. Times are ISO 8601 in UTC."""

    upload_id: str
    model: str
    key: str
    version_id: str
    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    size: int = 0
    uploaded_at: str = ""  # LastModified of the object version
    sequencer: str = ""  # S3's order of writes to one key; empty when no event told of the upload
    decided_at: str = ""
    sha256: str = ""
    batch_id: str = ""  # accepted only
    contract: str = ""  # digest of the contract it was accepted under
    duplicate_of: str = ""  # key of an earlier upload with the same content
    rows: int = 0
    bad_rows: int = 0
    period: tuple[str, str] | None = None  # first and last value of the time column
    announced: bool = False  # others know; of an accepted one the profile is in place
    retracted: str = ""  # who, when and why; empty when not retracted
    removed: str = ""  # when the object version was deleted for its age; the record stays
    parts: tuple[UploadPart, ...] = ()  # of a manifest; its sha256 is then of what they hold
    revision: int = 0


def upload_id(bucket: str, key: str, version_id: str) -> str:
    """Name of an object version, the same however often it is told of."""
    return hashlib.sha256("\0".join((bucket, key, version_id)).encode()).hexdigest()[:24]


def batch_id(content_sha256: str, contract_digest: str) -> str:
    """Name of a batch: content read under a contract."""
    return hashlib.sha256(f"{content_sha256}\0{contract_digest}".encode()).hexdigest()[:24]


def is_final(upload: Upload, models: Collection[str]) -> bool:
    """Whether nothing is left to do about an upload, with these models deployed."""
    if upload.model in models and any(reason.code == Code.UNKNOWN_MODEL for reason in upload.reasons):
        return False  # its model was deployed since
    return upload.announced or upload.outcome is Outcome.PARKED


def effective(uploads: Iterable[Upload]) -> list[Upload]:
    """The uploads that are learned from, oldest data first.

    - Of the versions of one key, the newest accepted one counts: it replaces the older.
    - The same content counts once, under whichever name.
    - Retraction speaks of content: a retracted upload takes its copies with it.
    """
    accepted = [upload for upload in uploads if upload.outcome is Outcome.ACCEPTED]
    retracted = {upload.sha256 for upload in accepted if upload.retracted}

    newest: dict[str, Upload] = {}
    for upload in accepted:
        held = newest.get(upload.key)
        if held is None or _written(upload) > _written(held):
            newest[upload.key] = upload

    by_content: dict[str, Upload] = {}
    for upload in sorted(newest.values(), key=_written):
        if upload.sha256 not in retracted:
            # The later reading wins: it was made under the newer contract.
            by_content[upload.sha256] = upload
    return sorted(by_content.values(), key=lambda u: ((u.period or ("", ""))[0], _written(u)))


def _written(upload: Upload) -> tuple[str, str, str]:
    # Sequencers of one key compare as right-padded hexadecimal strings.
    return (upload.uploaded_at, upload.sequencer.ljust(32, "0"), upload.upload_id)


def inputs_digest(batch_ids: Iterable[str], spec_digest: str) -> str:
    """Name of a frozen set of inputs under a model declaration; order does not matter."""
    text = "\0".join([spec_digest, *sorted(batch_ids)])
    return hashlib.sha256(text.encode()).hexdigest()
