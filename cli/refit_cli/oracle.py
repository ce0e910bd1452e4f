"""The oracle: reads registry and buckets and says which promises do not hold.

It knows nothing of how the functions work, only what must be true afterwards.
It changes nothing.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from refit import artifact
from refit.aws import inputs, keys, serving
from refit.aws.runtime import App
from refit.batches import Outcome, effective, upload_id
from refit.errors import RefitError
from refit.records import ApprovalStatus, Change, RunStatus, Version
from refit.shard import load


@dataclass(frozen=True)
class Breach:
    """A promise (its number in docs/promises.md) that does not hold."""

    promise: int
    model: str
    message: str
    upload: tuple[str, str] | None = None  # key and version id of the upload that it is about


def check(app: App, settled_before: datetime | None = None) -> list[Breach]:
    """All breaches, of a stack at rest: nothing is being validated or trained.

    Of a stack at work, uploads that came after `settled_before` may be on their way.
    """
    found = [breach for model in sorted(app.models) for breach in _check_model(app, model)]
    return found + _check_uploads(app, settled_before or datetime.max.replace(tzinfo=UTC))


def lasting(app: App, seconds: float = 30.0) -> list[Breach]:
    """The breaches that are still there after so many seconds.

    An alarm may knock when a stack seems to be at rest; between the answer and its announcement nothing is broken.
    """
    end = time.monotonic() + seconds
    while (found := check(app)) and time.monotonic() < end:
        time.sleep(1)
    return found


def _check_model(app: App, model: str) -> list[Breach]:
    found: list[Breach] = []

    def expect(promise: int, holds: bool, message: str) -> None:
        if not holds:
            found.append(Breach(promise, model, message))

    registry = app.registry
    champion, slot = registry.champion(model), registry.slot(model)
    generations = sorted(registry.generations(model), key=lambda g: g.generation)
    runs = {run.run_id: run for run in registry.runs(model)}
    knocks = registry.knocks(model)

    # 1: exactly one champion, unaltered and able to predict.
    expect(1, champion is not None or not generations, "there are generations, but no champion")
    if champion:
        expect(1, champion == generations[-1], "the champion pointer is not the newest generation")
        used = effective(registry.uploads(model))
        try:
            serving_now = registry.recorded(model, champion.version)
            estimator = serving.load_version(app.store, serving_now)
            if used:
                serving.probe(
                    estimator, serving_now, load(app.store.get(keys.shard(model, used[-1].batch_id)))
                )
        except RefitError as error:
            expect(1, False, f"the champion is not usable: {error}")

    # 4: one training for each frozen set of inputs; every knock that started a run has it.
    for knock in knocks:
        expect(4, not knock.run_id or knock.run_id in runs, f"knock {knock.knock_id} names no existing run")
    for knock in knocks:
        expect(4, knock.announced, f"knock {knock.knock_id} was answered, but nobody was told")
    asked = Counter(knock.run_id for knock in knocks if knock.run_id)
    for run_id in runs:
        expect(4, asked[run_id] == 1, f"{run_id} was started by {asked[run_id]} knocks")

    # 5: generations are gap-free and follow one another.
    numbers = [generation.generation for generation in generations]
    expect(5, numbers == list(range(1, len(numbers) + 1)), f"generations are {numbers}")
    for before, after in itertools.pairwise(generations):
        expect(
            5,
            after.previous == before.version,
            f"generation {after.generation} does not follow {before.version}",
        )

    told = registry.told_of(model)
    expect(5, told >= len(numbers), f"changes up to generation {told} were told of, there are {len(numbers)}")

    # 6 and 7: what was promoted beat the champion of that moment, on rows neither had seen, by a finite metric.
    for generation in generations:
        if generation.change in (Change.FIRST, Change.PROMOTION):
            run = runs.get(generation.run_id)
            expect(
                6,
                run is not None and run.status is RunStatus.PROMOTED,
                f"{generation.version} has no promoted run",
            )
            if run:
                for promise, message in _unproved(app, model, generation, run):
                    expect(promise, False, message)

    # 9: at most one run, and the slot says which.
    running = [run_id for run_id, run in runs.items() if run.status is RunStatus.RUNNING]
    expect(
        9,
        running == ([slot.running] if slot.running else []),
        f"running are {running}, the slot says {slot.running!r}",
    )

    # 10: an approval is somebody's; what was asked about was promoted only as it was approved.
    for shown in registry.approvals(model):
        if shown.status is ApprovalStatus.APPROVED:
            expect(
                10, bool(shown.answered_by and shown.answered_at), f"{shown.version} is approved by nobody"
            )
        for generation in generations:
            if generation.run_id == shown.run_id:
                promoted = registry.version(model, generation.version)
                covered = promoted is not None and shown.covers(promoted, generation.generation - 1)
                expect(10, covered, f"{generation.version} was promoted, but that was not approved")
    # 13: what a kept version was made of is there.
    versions = {version.version: version for version in registry.versions(model)}
    there: set[str] = set()
    for version in versions.values():
        if not version.pruned_at:
            for message in _broken_lineage(app, version, versions, runs, there):
                expect(13, False, f"{version.version}: {message}")
    return found


def _broken_lineage(
    app: App, version: Version, versions: Collection[str], runs: Collection[str], there: set[str]
) -> Iterator[str]:
    """What is missing of a version's lineage; `there` are keys that were found before."""
    try:
        data = app.store.get(keys.artifact(version.model, version.artifact_sha256))
        if artifact.digest(data) != version.artifact_sha256:
            yield "its artifact is not what was recorded"
        if version.candidate == "imported":
            return
        if version.run_id not in runs:
            yield f"{version.run_id!r} is not on record"
        if version.parent and version.parent not in versions:
            yield f"{version.parent!r}, which it was tested as, is not on record"
        needed = {keys.reference(version.model, version.version)} if version.parent else set()
        needed |= {version.fingerprints_key} - {""}
        for each in inputs.read(app.store, version.inputs_key).batches:
            needed |= {
                keys.shard(version.model, each.batch_id),
                keys.profile(version.model, each.batch_id),
            }
        for key in needed - there:
            app.store.get(key)
            there.add(key)
    except RefitError as error:
        yield str(error)


def _unproved(app: App, model: str, generation: Any, run: Any) -> list[tuple[int, str]]:
    """Promises 6 and 7 of one promotion."""
    try:
        evaluation = app.store.get_json(keys.evaluation(model, run.run_id))
        frozen = inputs.read(app.store, run.inputs_key)
    except RefitError as error:
        return [(6, f"{generation.version}: {error}")]
    found = []
    scores = [evaluation["challenger_score"]]
    if generation.change is Change.PROMOTION:
        scores += [evaluation["champion_score"], evaluation["gain_low"]]
        if frozen.champion != generation.previous or frozen.generation != generation.generation - 1:
            found.append(
                (6, f"{generation.version} was compared with {frozen.champion}, not {generation.previous}")
            )
    unseen = sum(each.rows for each in frozen.batches if not each.seen)
    if not evaluation["promote"] or not 0 < evaluation["test_rows"] <= unseen:
        found.append((6, f"{generation.version} was not proved on unseen rows"))
    if not all(score is not None and math.isfinite(score) for score in scores):
        found.append((7, f"{generation.version} was promoted on {scores}"))
    return found


def _check_uploads(app: App, settled_before: datetime) -> list[Breach]:
    """2: every object version ends in one outcome, with a record that says why."""
    found = []
    bucket = app.settings.data_bucket
    for page in app.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=keys.INCOMING):
        for version in page.get("Versions", []):
            if version["LastModified"] > settled_before:
                continue
            model, _ = keys.model_of_incoming(version["Key"])
            which = (version["Key"], version["VersionId"])
            upload = app.registry.upload(model, upload_id(bucket, version["Key"], version["VersionId"]))
            if upload is None:
                found.append(Breach(2, model, f"{which[0]} ({which[1]}) has no outcome", which))
            elif upload.outcome is Outcome.ACCEPTED:
                try:
                    app.store.get(keys.profile(model, upload.batch_id))
                    load(app.store.get(keys.shard(model, upload.batch_id)))
                except RefitError as error:
                    found.append(Breach(2, model, f"{upload.key} is accepted, but {error}"))
            elif not upload.reasons:
                found.append(Breach(2, model, f"{upload.key} is {upload.outcome} without a reason"))
            if upload and not upload.announced:
                found.append(
                    Breach(3, model, f"{upload.key} is {upload.outcome}, but nobody was told", which)
                )
    return found
