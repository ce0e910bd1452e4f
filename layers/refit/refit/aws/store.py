"""Reading and writing the two buckets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from refit import times
from refit.errors import ArtifactError


@dataclass(frozen=True)
class Stored:
    """A version of an object of the store."""

    key: str
    version_id: str
    at: str
    size: int


class Store:
    """Objects of the store bucket by key. Writes never replace what is there by something else."""

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
        return self._put_once(key, body, content_type)

    def put_file_once(self, key: str, path: Path, content_type: str = "application/octet-stream") -> bool:
        """As `put_once`, of a file, which is not read into memory: S3 takes up to 5 GB at once."""
        with path.open("rb") as file:
            return self._put_once(key, file, content_type)

    def _put_once(self, key: str, body: bytes | BinaryIO, content_type: str) -> bool:
        try:
            self.s3.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "412"):
                return False
            raise
        return True

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write what a key is named after, whether it is there or not."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)

    def versions_under(self, prefix: str) -> list[Stored]:
        """All versions of all objects whose keys begin so, delete markers too: all that takes space."""
        found = []
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix):
            for each in page.get("Versions", []) + page.get("DeleteMarkers", []):
                at = times.text(each["LastModified"])
                found.append(Stored(each["Key"], each["VersionId"], at, each.get("Size", 0)))
        return found

    def delete(self, stored: Iterable[Stored]) -> None:
        """Delete exactly these versions; those that are gone already are passed over."""
        for each in stored:
            # One by one: to delete many by one call, AWS asks for the right to hide objects, too.
            self.s3.delete_object(Bucket=self.bucket, Key=each.key, VersionId=each.version_id)

    def get_json(self, key: str) -> Any:
        """Raises ArtifactError when there is no such object, or it is no JSON."""
        try:
            return json.loads(self.get(key))
        except ValueError as error:
            raise ArtifactError(
                f"s3://{self.bucket}/{key} is not what was written there; restore it from its versions"
            ) from error

    def put_json_once(self, key: str, document: Any) -> bool:
        return self.put_once(key, _json(document), "application/json")

    def put_json(self, key: str, document: Any) -> None:
        self.put(key, _json(document), "application/json")


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, allow_nan=False).encode()


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
    when = times.text(found["LastModified"])
    return ObjectVersion(found["ContentLength"], when, found.get("VersionId", ""), found["Body"])
