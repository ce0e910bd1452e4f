"""The fault sweep: every fault at every request of every scenario; exits with 1 when something did not hold.

.venv/bin/python scripts/sweep.py                               # all of it, and the table in docs/promises.md
.venv/bin/python scripts/sweep.py rollback                      # one scenario
.venv/bin/python scripts/sweep.py --every 17                    # one of 17 worlds
.venv/bin/python scripts/sweep.py rollback 7 'killed after'     # one world, with its log
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- make faults: -->", "<!-- :make faults -->"
PROMISES = ROOT / "docs/promises.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scenario", nargs="?")
    parser.add_argument("position", nargs="?", type=int)
    parser.add_argument("fault", nargs="?")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one of N worlds; a prime")
    parser.add_argument("--table", action="store_true", help="write the table, of a sample too")
    args = parser.parse_args()
    prepare(replay=args.fault is not None)
    from faults.scenarios import BY_NAME
    from faults.sweep import Report, every, only, sweep

    if args.scenario and args.scenario not in BY_NAME:
        parser.error(f"there is no scenario {args.scenario!r}; there are: {', '.join(BY_NAME)}")
    if args.fault:
        report = sweep(BY_NAME[args.scenario], only(args.position, args.fault), 1)
        held = "it held" if report.worlds else "there is no such world"
        print(*report.breaches or [held], sep="\n")
        return int(bool(report.breaches) or not report.worlds)

    reports: list[Report] = []
    print(f"{'scenario':<20} {'calls':>6} {'worlds':>7} {'held':>7} {'seconds':>8}")
    chosen = [BY_NAME[args.scenario]] if args.scenario else list(BY_NAME.values())
    for number, scenario in enumerate(chosen):
        report = sweep(scenario, every(args.every, first=number), args.jobs)
        reports.append(report)
        calls = len(report.calls)
        print(
            f"{report.scenario:<20} {calls:>6} {report.worlds:>7} {report.held:>7} {report.seconds:>8.1f}",
            flush=True,
        )
        for breach in report.breaches:
            print(f"  {breach}", flush=True)
    if args.table or (not args.scenario and args.every == 1):
        write(reports, args.every)
    total = sum(report.worlds for report in reports)
    held = sum(report.held for report in reports)
    print(f"{held} of {total} worlds held, {sum(report.seconds for report in reports):.0f} s")
    return int(any(report.breaches for report in reports))


def prepare(replay: bool) -> None:
    """What must be in place before any code is loaded: see tests/conftest.py."""
    sys.path[:0] = [str(ROOT / "tests")]
    import conftest  # noqa: F401

    if replay:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        for noisy in ("botocore", "boto3"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    else:
        os.environ["POWERTOOLS_LOG_LEVEL"] = "CRITICAL"


def write(reports: list, step: int) -> None:
    """The table of docs/promises.md."""
    lines = ["| scenario | requests to AWS | worlds | held |", "| --- | ---: | ---: | ---: |"]
    rows = [(each.scenario, len(each.calls), each.worlds, each.held) for each in reports]
    rows.append(("all", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    lines += [f"| {name} | {calls} | {worlds} | {held} |" for name, calls, worlds, held in rows]
    if step > 1:
        lines += [
            "",
            f"An evenly spaced sample: one of {step} worlds (`scripts/sweep.py --every {step} --table`).",
        ]
    text = PROMISES.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    PROMISES.write_text(f"{head}{BEGIN}\n{chr(10).join(lines)}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
