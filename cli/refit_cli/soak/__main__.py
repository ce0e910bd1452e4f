"""`make soak`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from refit.errors import RefitError
from refit_cli.local.errors import LocalStackError
from refit_cli.soak.run import FULL, Figures, soak

RESULTS = Path(".refit/soak")
PROMISES = Path(__file__).resolve().parents[3] / "docs/promises.md"
BEGIN, END = "<!-- soak: written by `make soak` -->", "<!-- soak: end -->"


def main() -> int:
    """Returns 0 when everything held, 1 when something did not, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="make soak", description="Many uploads through the real template.")
    parser.add_argument("--uploads", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.uploads < 20:
        parser.error("--uploads: at least 20")
    signal.signal(signal.SIGTERM, _interrupt)
    begun = time.monotonic()
    try:
        figures = soak(args.uploads, args.seed, lambda line: print(line, flush=True), RESULTS)
    except (RefitError, LocalStackError, TimeoutError) as error:
        print(f"the soak failed: {error}\nwhat the functions logged: {RESULTS}/engine.log", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; nothing is left running", file=sys.stderr)
        return 130
    text = told(figures)
    print(f"\n{text}\n\ndone in {time.monotonic() - begun:.0f} s")
    for breach in figures.breaches[:20]:
        print(f"  NO  {breach}")
    if args.uploads >= FULL:
        _record(text)
    return 1 if figures.breaches else 0


def told(figures: Figures) -> str:
    """The figures as they stand in the docs."""
    (engine, engine_after), (workers, workers_after) = figures.engine, figures.workers
    first, second = figures.grown
    return f"""\
{datetime.now(UTC):%Y-%m-%d}, seed {figures.seed}: {figures.uploads:,} uploads ({figures.bad:,} bad) in {figures.messages:,} messages, \
{figures.lost} told of by none, in {figures.minutes:.1f} minutes: {figures.rate:.0f} a minute to their outcome; \
after {figures.decided:.1f} minutes all accepted ones were decided on.
{figures.runs} retrainings, {figures.promotions} promotions; {figures.knocks} copies of one wish were one decision. \
{figures.predictions:,} predictions meanwhile, the slowest took {figures.slowest:.1f} s.
Over the second half, one warm worker of each function: {workers / 1e6:.0f} MB, then {workers_after / 1e6:.0f} MB \
({(workers_after / workers - 1) * 100:+.1f} %). The embedded engine, which keeps everything in memory: \
{engine / 1e6:.0f} MB, then {engine_after / 1e6:.0f} MB, {second / 1e3:.0f} kB an upload ({first / 1e3:.0f} in the first half), \
of which {figures.stored / 1e3:.0f} are the bytes of objects, records and logs.
Breaches: {len(figures.breaches) or "none"}."""


def _record(text: str) -> None:
    page = PROMISES.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        PROMISES.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
