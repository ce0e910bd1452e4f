"""Reading and writing the two buckets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from refit.errors import ArtifactError


class Store:
    """Objects of the store bucket by key. Writes never replace what is there."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket

    def get(self, key: str) -> bytes:
        """Raises ArtifactError when there is no such object."""
        try:
            return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError as error:
            # Without the right to list, S3 says AccessDenied of what is missing.
            if error.response["Error"]["Code"] in ("NoSuchKey", "404", "AccessDenied"):
                raise ArtifactError(
                    f"s3://{self.bucket}/{key} is missing or not readable; restore it from its versions"
                ) from error
            raise

    def put_once(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> bool:
        """Write unless the key is taken; returns whether this call wrote.

        Every key here is named after its content or its one writer, so what is
        there already is the same: a repeated event, or one's own write whose
        reply was lost.
        """
        try:
            self.s3.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "412"):
                return False
            raise
        return True

    def get_json(self, key: str) -> Any:
        return json.loads(self.get(key))

    def put_json_once(self, key: str, document: Any) -> bool:
        body = json.dumps(document, sort_keys=True, allow_nan=False).encode()
        return self.put_once(key, body, "application/json")


@dataclass(frozen=True)
class ObjectVersion:
    """A version of an object, opened for reading."""

    size: int
    uploaded_at: str
    version_id: str
    body: Any

    def save(self, path: Path) -> str:
        """Write the bytes to `path`; returns their SHA-256."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for chunk in self.body.iter_chunks(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()


def open_version(s3: Any, bucket: str, key: str, version_id: str) -> ObjectVersion | None:
    """Open exactly that version (the newest when none is named), or None when it is gone."""
    which = {"VersionId": version_id} if version_id else {}
    try:
        found = s3.get_object(Bucket=bucket, Key=key, **which)
    except ClientError as error:
        gone = ("NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed")
        if error.response["Error"]["Code"] in (*gone, "InvalidArgument"):  # the last: no version id at all
            return None
        raise
    when = found["LastModified"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ObjectVersion(found["ContentLength"], when, found.get("VersionId", ""), found["Body"])
