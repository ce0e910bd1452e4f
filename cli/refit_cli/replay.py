"""`refit replay`: reading files of the past, and showing what would have happened with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refit import replay
from refit.errors import RefitError
from refit.models import ModelSpec
from refit.replay import Batch, File, Policy, Replay, Summary


def read(paths: Sequence[Path], spec: ModelSpec, say: Callable[[str], None]) -> list[File]:
    """Hold the files against the contract and put them in order."""
    folders = [str(path) for path in paths if path.is_dir()]
    if folders:
        raise RefitError(f"{', '.join(folders)} is a folder; name the files: {folders[0].rstrip('/')}/*")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise RefitError(f"no such file: {', '.join(missing)}")
    files = []
    for path in paths:
        say(f"reading {path}")
        files.append(replay.read(path, spec))
    return replay.in_order(files, spec)


def tell(
    files: Sequence[File], spec: ModelSpec, policy: Policy, say: Callable[[str], None]
) -> dict[str, Any]:
    """Replay one policy, a line a batch; returns the document."""
    batches: list[Batch] = []
    summary = None
    for step in replay.steps(files, spec, policy):
        if isinstance(step, Summary):
            summary = step
        else:
            batches.append(step)
            say(batch_text(step))
    assert summary is not None
    return replay.to_json(Replay(summary, tuple(batches)))


def compare(files: Sequence[File], spec: ModelSpec, say: Callable[[str], None]) -> dict[str, Any]:
    """Replay every policy; returns the document."""
    done: dict[str, Any] = {}
    for policy in replay.policies_to_compare(spec, sum(file.verdict.accepted for file in files)):
        say(f"replaying {policy.name}")
        done[policy.name] = replay.to_json(replay.replay(files, spec, policy))
    return {"policies": done, "baselines": replay.baselines(files, spec)}


def batch_text(batch: Batch) -> str:
    """One line: what the file was, how the champion did on it, what was decided and what came of it."""
    said = [f"{batch.file}  {batch.rows:,} rows {batch.outcome}"]
    if batch.batch_score is not None:
        said.append(f"the champion scored {batch.batch_score:.4f} on it")
    if batch.challenger_score is not None:
        against = "" if batch.champion_score is None else f" against {batch.champion_score:.4f}"
        said.append(f"tested {batch.candidate} {batch.challenger_score:.4f}{against}")
    if batch.version:
        said.append(f"{batch.version} serves")
    words = "; ".join(batch.reasons)
    decided = f"{batch.decision}: {words}" if batch.decision else words
    return " | ".join([*said, decided] if decided else said)


def summary_text(summary: Mapping[str, Any]) -> str:
    return table({"": summary}, summary["metric"], {})


def compare_text(document: Mapping[str, Any]) -> str:
    summaries = {name: each["summary"] for name, each in document["policies"].items()}
    metric = next(iter(summaries.values()))["metric"]
    return table(summaries, metric, document["baselines"])


def table(
    summaries: Mapping[str, Mapping[str, Any]], metric: str, baselines: Mapping[str, float | None]
) -> str:
    """Columns for people; the score is of all predictions on every batch after the first, pooled."""
    rows = [("policy", metric, "retrainings", "promotions", "AWS cost", "seconds")]
    for name, each in summaries.items():
        numbers = (str(each["retrainings"]), str(each["promotions"]))
        rows.append(
            (name, number(each["score"]), *numbers, f"${each['cost_usd']:.4f}", f"{each['seconds']:.0f}")
        )
    rows += [(f"baseline: {name}", number(value), "", "", "", "") for name, value in baselines.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
