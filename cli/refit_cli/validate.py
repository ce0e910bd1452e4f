"""`refit validate`: the verdict on files, offline, by the code that runs in the function."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refit import manifest, times
from refit.batches import Outcome, Reason
from refit.contract import Contract
from refit.errors import UnreadableFile
from refit.models import ModelSpec
from refit.profile import CategoryProfile, ColumnProfile, Profile, from_json, merge, to_json
from refit.validation import Verdict, validate_file
from refit_cli.usage import UsageError

WIDTH = 24  # of a name in the table
MANY = 3  # converted columns; more are told of on one line


def judge(paths: Sequence[Path], spec: ModelSpec, bad_rows: Path | None = None) -> Verdict:
    """The verdict on files that form one batch, as if they arrived now."""
    try:
        files = [file for path in paths for file in _with_parts(path, spec.name)]
    except UnreadableFile as error:
        return Verdict(False, 0, 0, (Reason(error.code, str(error)),), ())
    return validate_file(files, spec.contract, now=times.text(datetime.now(UTC)), bad_rows=bad_rows)


def _with_parts(path: Path, model: str) -> Sequence[Path]:
    """The file, or if it is a manifest those that it names: by their keys from here, or beside it by their names."""
    with path.open("rb") as file:
        document = file.read(manifest.MAX_BYTES + 1)
    if not manifest.is_manifest(document):
        return [path]
    found = []
    for key in manifest.files_of(document, model):
        places = [Path(key), path.parent / Path(key).name]
        if not any(place.is_file() for place in places):
            raise manifest.missing(key)
        found.append(next(place for place in places if place.is_file()))
    return found


def reference(paths: Sequence[Path], spec: ModelSpec) -> Profile:
    """What to compare with: profiles as `refit validate --json` prints or Refit stores them, or files."""
    return merge(_profile(path, spec) for path in paths)


def _profile(path: Path, spec: ModelSpec) -> Profile:
    with path.open("rb") as file:
        is_json = file.read(64).lstrip().startswith(b"{")
    if not is_json:
        verdict = judge([path], spec)
        if verdict.accepted and verdict.profile:
            return verdict.profile
        why = "; ".join(f"{reason.code}: {reason.message}" for reason in verdict.reasons[:3])
        raise UsageError(f"--reference {path} is not accepted itself: {why}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return from_json(document.get("profile") or document)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"--reference {path} is no profile; give a profile.json of Refit, what `refit validate --json` "
            "printed, or a data file"
        ) from None


def document(verdict: Verdict, spec: ModelSpec, compared: Profile | None) -> dict[str, Any]:
    """What --json prints."""
    found: dict[str, Any] = {
        "outcome": outcome(verdict).value,
        "rows": verdict.rows,
        "bad_rows": verdict.bad_rows,
        "reasons": [asdict(reason) for reason in verdict.reasons],
        "warnings": [asdict(reason) for reason in verdict.warnings],
        "coercions": [asdict(reason) for reason in verdict.coercions],
        "profile": to_json(verdict.profile) if verdict.profile else None,
    }
    if compared and verdict.profile:
        found["drift"] = drift(compared, verdict.profile, spec)
    elif compared:
        found["drift"] = None  # nothing could be read that could be compared
    return found


def drift(compared: Profile, profile: Profile, spec: ModelSpec) -> dict[str, Any]:
    """Drift as check_drift finds it."""
    from refit.drift import check, summary

    return dict(summary(check(spec, compared, profile)))


def outcome(verdict: Verdict) -> Outcome:
    return Outcome.ACCEPTED if verdict.accepted else Outcome.QUARANTINED


def text(verdict: Verdict, spec: ModelSpec, compared: Profile | None) -> str:
    """The verdict for people: first what it is, then why, then what the columns look like."""
    share = f", {verdict.bad_rows} break a hard rule" if verdict.bad_rows else ""
    if verdict.accepted and verdict.bad_rows:
        share = f", {verdict.bad_rows} more are left out"
    period = verdict.profile.period if verdict.profile else None
    when = f", {period[0][:10]} to {period[1][:10]}" if period else ""
    lines = [f"{outcome(verdict).value}: {verdict.rows} rows{share}{when}"]
    lines += [f"  {reason.code}: {reason.message}" for reason in verdict.reasons]
    notes = [f"  {reason.code}: {reason.message}" for reason in verdict.warnings]
    if notes or verdict.coercions:
        lines += ["notes:", *notes, *_converted(verdict.coercions)]
    if compared and verdict.profile:
        found = drift(compared, verdict.profile, spec)
        moved = [column for column in found["columns"] if column["column"] in found["drifted"]]
        lines += [f"drift: {len(found['drifted'])} columns" if moved else "drift: none"]
        lines += [f"  {column['message']}" for column in moved]
    if verdict.profile and verdict.profile.columns:
        lines += ["", *table(verdict.profile, spec.contract)]
    return "\n".join(lines)


def _converted(coercions: Sequence[Reason]) -> list[str]:
    """A line for each column, and of many columns one: all of a CSV are converted from text."""
    if len(coercions) <= MANY:
        return [f"  {reason.code}: {reason.message}" for reason in coercions]
    named = ", ".join(repr(reason.column) for reason in coercions[:MANY])
    return [
        f"  {coercions[0].code}: Values of {named} and {len(coercions) - MANY} more were converted; nothing was "
        "lost. All of them: --json."
    ]


def table(profile: Profile, contract: Contract) -> list[str]:
    """A line for each column, aligned."""
    rows = [("column", "type", "empty", "values")]
    for name, column in profile.columns.items():
        kind = contract.column(name).type.value if name in contract.names else ""
        empty = f"{column.nulls / column.rows:.1%}" if column.rows else ""
        rows.append((_short(name), kind, empty, _values(column)))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
        for row in rows
    ]


def _values(column: ColumnProfile) -> str:
    if isinstance(column, CategoryProfile):
        top = sorted(column.counts.items(), key=lambda item: (-item[1], item[0]))[:3]
        present = column.rows - column.nulls
        shown = [f"{_short(word, 16)} {count / present:.0%}" for word, count in top]
        rest = len(column.counts) - len(top)
        more = f"{rest} more" if not column.other else f"{rest} and more"
        return ", ".join([*shown, *([more] if rest or column.other else [])])
    if column.rows == column.nulls or not math.isfinite(column.min):
        return ""
    return f"{column.min:.4g} .. {column.mean:.4g} .. {column.max:.4g}"


def _short(name: str, width: int = WIDTH) -> str:
    """On one line, however it is written in the file."""
    plain = name if name.isprintable() else repr(name)[1:-1]
    return plain if len(plain) <= width else plain[: width - 1] + "…"
