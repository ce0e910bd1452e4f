"""What may never happen between two looks at a stack, whatever came in between."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from refit.aws.runtime import App

ONCE = ("GENERATION#", "VERSION#", "KNOCK#", "QUALITY#", "DRIFT#")  # written once, by sort key
ONCE_IN = ("CONTENT#", "REFUSED")  # the same by partition


@dataclass(frozen=True)
class Look:
    """All records, and the versions of all objects that Refit wrote."""

    records: dict[tuple[str, str], Any]
    objects: dict[str, list[str]]


def look(app: App) -> Look:
    records = {}
    for page in app.registry.dynamodb.get_paginator("scan").paginate(TableName=app.settings.table):
        for item in page["Items"]:
            records[item["pk"]["S"], item["sk"]["S"]] = json.loads(item["body"]["S"])
    objects: dict[str, list[str]] = {}
    listing = app.s3.get_paginator("list_object_versions").paginate(Bucket=app.settings.store_bucket)
    for page in listing:
        assert not page.get("DeleteMarkers")
        for version in page.get("Versions", []):
            objects.setdefault(version["Key"], []).append(version["VersionId"])
    return Look(records, objects)


def undone(before: Look, after: Look) -> list[str]:
    """What of the first look was lost, overwritten or taken back in the second."""
    found = [
        f"{key} has other versions" for key in before.objects if after.objects.get(key) != before.objects[key]
    ]
    found += [f"{key} was written twice" for key, versions in after.objects.items() if len(versions) > 1]
    for key, was in before.records.items():
        now = after.records.get(key)
        if now is None:
            found.append(f"{key} is lost")
        elif now != was and not _may_follow(key, was, now):
            found.append(f"{key} was {was} and is now {now}")
    return found


def _may_follow(key: tuple[str, str], was: Any, now: Any) -> bool:
    pk, sk = key
    if sk.startswith("KNOCK#"):  # an answer stays; that it was told of is noted
        return now == {**was, "announced": True}
    if sk == "TOLD":
        return now["generation"] > was["generation"]
    if sk.startswith(ONCE) or pk.startswith(ONCE_IN):
        return False
    if sk.startswith("RUN#"):
        return was["status"] == "running"
    if sk == "CHAMPION":
        return now["generation"] > was["generation"]
    if sk == "SLOT":
        return now["revision"] > was["revision"] and now["runs"] >= was["runs"]
    if pk.startswith("UPLOADS#"):
        kept = ("key", "version_id", "retracted" if was["retracted"] else "key")
        told = ("outcome", "batch_id", "sha256", "announced", "reasons") if was["announced"] else ()
        return now["revision"] > was["revision"] and all(now[name] == was[name] for name in (*kept, *told))
    return pk in ("TICK", "SWEPT")
