"""A manifest: a small JSON document under incoming/ that names the files which together form one batch.

    {"files": ["parts/<model>/2013-05/a.parquet", "parts/<model>/2013-05/b.parquet"]}

The files lie in the same bucket outside of incoming/, so that none of them is an
upload by itself; the manifest is uploaded last and is the upload.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from refit.batches import Code, UploadPart
from refit.errors import UnreadableFile

PARTS = "parts/"
MAX_FILES = 1000
MAX_BYTES = 2 << 20  # of the document: a thousand keys of the greatest length that S3 allows, and some
KEYS_BYTES = 128 << 10  # of all keys: an upload's record names them, and has to fit into the registry
_SHOWN = 100


def is_manifest(head: bytes) -> bool:
    """Whether a file that begins so is meant as a manifest, well made or not: a JSON object with `files` near."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text.startswith(b"{") and b'"files"' in text[: 64 << 10]


def files_of(document: bytes, model: str) -> tuple[str, ...]:
    """The keys that a manifest names, in its order.

    Raises
    ------
    UnreadableFile
        With the code `bad_manifest`, when it is not what a manifest must be.
    """
    if len(document) > MAX_BYTES:
        raise _bad(f"it is larger than {MAX_BYTES >> 20} MiB", f"name at most {MAX_FILES} files")
    try:
        found = json.loads(document.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise _bad("it is no JSON", 'write {"files": [...]}') from error
    if not isinstance(found, dict):
        raise _bad("it is no JSON object", 'write {"files": [...]}')
    if unknown := [name for name in found if name != "files"]:
        raise _bad(f"field {unknown[0][:_SHOWN]!r} is unknown", 'it has the one field "files"')
    files = found.get("files")
    if not isinstance(files, list) or not all(isinstance(each, str) for each in files):
        raise _bad('"files" is no list of keys', 'write {"files": [...]}')
    if not files:
        raise _bad("it names no file", "name at least one")
    if len(files) > MAX_FILES:
        raise _bad(f"it names {len(files)} files", f"name at most {MAX_FILES}, or make several batches")
    if sum(len(key.encode("utf-8", "surrogatepass")) for key in files) > KEYS_BYTES:
        raise _bad(
            f"its keys are longer than {KEYS_BYTES >> 10} KiB together", "give the files shorter names"
        )
    folder = f"{PARTS}{model}/"
    for key in files:
        if (
            not key.startswith(folder)
            or key.endswith("/")
            or not key.isprintable()
            or len(key.encode()) > 1024
        ):
            raise _bad(f"{key[:_SHOWN]!r} is no file under {folder}", "upload the files there")
    if len(set(files)) < len(files):
        twice = next(key for i, key in enumerate(files) if key in files[:i])
        raise _bad(f"{twice[:_SHOWN]!r} is named twice", "name each file once")
    return tuple(files)


def missing(key: str) -> UnreadableFile:
    """The refusal of a manifest one of whose files is not there."""
    return _bad(
        f"{key[:_SHOWN]!r} does not exist",
        "upload all files first and the manifest last, then the manifest again",
    )


def content_hash(parts: Iterable[UploadPart]) -> str:
    """SHA-256 of what all parts hold: the same contents in the same order are the same batch, whatever they are called."""
    return hashlib.sha256("\0".join(("manifest", *(part.sha256 for part in parts))).encode()).hexdigest()


def _bad(what: str, fix: str) -> UnreadableFile:
    return UnreadableFile(f"The manifest is not right: {what}; {fix}.", Code.BAD_MANIFEST)
