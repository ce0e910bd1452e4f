"""What may go: nothing that the lineage of a kept version refers to, and by default nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from refit import times
from refit.batches import Outcome, Upload, UploadPart, is_final
from refit.models import Retention
from refit.records import Answered, Generation, Quality, Run, RunStatus, Slot, Version

OPEN = (Outcome.ACCEPTED, Outcome.PARKED)  # learned from, or to be tried again


@dataclass(frozen=True)
class Remembered:
    """What the registry knows of a model, read in this order.

    A run that starts after the slot was read records its versions later than
    that; one that had recorded any by then is among the runs, and if it ended by
    a promotion, among the generations.
    """

    slot: Slot
    versions: Sequence[Version] = ()
    runs: Sequence[Run] = ()
    generations: Sequence[Generation] = ()
    knocks: Sequence[Answered] = ()
    qualities: Sequence[Quality] = ()
    drifts: Sequence[Mapping[str, Any]] = ()
    uploads: Sequence[Upload] = ()


@dataclass(frozen=True)
class Plan:
    """What may go."""

    generation: int = 0  # of the champion under which this holds
    versions: tuple[Version, ...] = ()  # to be marked; the rows stay
    artifacts: frozenset[str] = frozenset()  # hashes, those of versions marked before as well
    references: frozenset[str] = frozenset()  # of versions, those marked before as well
    reports_before: str = ""  # reports older than this, but for
    evaluations_kept: frozenset[str] = frozenset()  # those of these runs
    uploads: tuple[Upload, ...] = ()  # whose object versions and reasons go; the records stay
    parts: tuple[UploadPart, ...] = ()  # files that manifests among them named, and no other that stays
    runs: tuple[tuple[Run, tuple[str, ...]], ...] = ()  # each with the knocks that started it
    knocks: tuple[Answered, ...] = ()
    qualities: tuple[Quality, ...] = ()
    drifts: tuple[tuple[str, str], ...] = ()  # batch and version


def plan(known: Remembered, settings: Retention, now: str) -> Plan:
    """Pure: the same records, settings and time give the same plan. `now` is ISO 8601 in UTC."""
    audit, reports = _before(now, settings.audit_days), _before(now, settings.report_days)
    marked, artifacts, references = _versions(known, settings.versions)
    uploads = _uploads(known.uploads, _before(now, settings.quarantine_days))
    waits = known.slot.pending["knock_id"] if known.slot.pending else ""
    decided = {upload.batch_id: upload.decided_at for upload in sorted(known.uploads, key=_decided)}
    return Plan(
        generation=_champion(known).generation if known.generations else 0,
        versions=marked,
        artifacts=artifacts,
        references=references,
        reports_before=reports,
        evaluations_kept=frozenset(
            run.run_id for run in known.runs if not _ended_unproved(run) or run.ended_at >= reports
        ),
        uploads=uploads,
        parts=_parts(known.uploads, uploads),
        runs=_runs(known, audit),
        knocks=tuple(
            knock
            for knock in known.knocks
            if knock.decided_at < audit and not knock.run_id and knock.knock_id != waits
        ),
        qualities=tuple(quality for quality in known.qualities if quality.at < audit),
        drifts=tuple(
            (each["batch_id"], each["version"])
            for each in known.drifts
            if decided.get(each["batch_id"], now) < audit
        ),
    )


def shared_before(settings: Iterable[Retention], now: str) -> str:
    """Audit records that are of no model are kept as long as those of the model that keeps them longest."""
    days = [each.audit_days for each in settings]
    return _before(now, max(days)) if days and all(days) else ""


def kept(known: Remembered, newest: int) -> frozenset[str]:
    """Names of the versions whose artifacts stay: in service, lately in service, lately made, and their parents."""
    served: dict[str, None] = {}
    for generation in sorted(known.generations, key=_number, reverse=True):
        served[generation.version] = None
    runs = {run.run_id for run in sorted(known.runs, key=lambda run: run.run_id)[-newest:]}
    runs.add(known.slot.running)
    stay = {*list(served)[:newest], *(each.version for each in known.versions if each.run_id in runs - {""})}
    # Parents have none: what is tested is made by no other version.
    return frozenset(stay | {each.parent for each in known.versions if each.version in stay and each.parent})


def _versions(known: Remembered, newest: int) -> tuple[tuple[Version, ...], frozenset[str], frozenset[str]]:
    """Versions to be marked, and hashes and names of all that marked ones leave behind."""
    if not newest or not known.generations or _may_record(known):
        return (), frozenset(), frozenset()
    stay = kept(known, newest)
    marked = tuple(each for each in known.versions if not each.pruned_at and each.version not in stay)
    gone = {each.version for each in known.versions if each.pruned_at} | {each.version for each in marked}
    needed = {each.artifact_sha256 for each in known.versions if each.version not in gone}
    left = {each.artifact_sha256 for each in known.versions if each.version in gone}
    return marked, frozenset(left - needed), frozenset(gone)


def _may_record(known: Remembered) -> bool:
    """Whether a run may be about to record a version, perhaps of an artifact that others leave behind.

    It does not after the version that is to be promoted, however long that waits.
    """
    running = known.slot.running
    return bool(running) and not any(each.run_id == running and each.parent for each in known.versions)


def _runs(known: Remembered, before: str) -> tuple[tuple[Run, tuple[str, ...]], ...]:
    # Versions that are marked now are looked at again the next time: the mark may fail.
    named = {each.run_id for each in known.versions if not each.pruned_at} | {known.slot.last_run}
    old = [
        run
        for run in known.runs
        if _ended_unproved(run) and run.ended_at < before and run.run_id not in named
    ]
    return tuple(
        (run, tuple(knock.knock_id for knock in known.knocks if knock.run_id == run.run_id)) for run in old
    )


def _uploads(uploads: Iterable[Upload], before: str) -> tuple[Upload, ...]:
    return tuple(
        upload
        for upload in uploads
        if upload.outcome not in OPEN
        and is_final(upload, {upload.model})
        and upload.decided_at < before
        and upload.version_id  # without it, another version would be hidden instead
        and not upload.removed
    )


def _parts(uploads: Iterable[Upload], going: Sequence[Upload]) -> tuple[UploadPart, ...]:
    """Object versions that manifests which go were read with, but for those that one which stays names as well."""
    gone = {upload.upload_id for upload in going}
    needed = {
        (part.key, part.version_id)
        for upload in uploads
        if upload.upload_id not in gone and not upload.removed
        for part in upload.parts
    }
    found = {(part.key, part.version_id): part for upload in going for part in upload.parts}
    # Without its version another one would be hidden instead, as of uploads.
    return tuple(part for name, part in found.items() if name not in needed and part.version_id)


def _ended_unproved(run: Run) -> bool:
    return run.status in (RunStatus.KEPT, RunStatus.FAILED)


def _before(now: str, days: int) -> str:
    """What is older than that time goes; nothing is older than the empty one."""
    if not days:
        return ""
    return times.text(times.moment(now) - timedelta(days=days))


def _champion(known: Remembered) -> Generation:
    return max(known.generations, key=_number)


def _number(generation: Generation) -> int:
    return generation.generation


def _decided(upload: Upload) -> str:
    return upload.decided_at
