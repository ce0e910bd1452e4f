"""How often a challenger that is no better is promoted by luck, by Refit's own choice and verdict.

All candidates and the champion are equally good: the same skill, each with errors of its own. Candidates are chosen
between on a selection block by `choose`, the chosen one is tested once by `evaluate`, with no gate but the gain at
95 %: up to 5 % may be promoted. Beside it, what becomes of it when the test rows choose, as is often done. Rows
are independent, or 20 in a row share their luck, as those of a storm do: every fourth time, a model is wrong on
most of such a stretch.

    .venv/bin/python benchmarks/luck.py [--metric accuracy] [--runs 1000] [--seed 0] [--write]

Each run has 200 rows to select on and 400 to test on. --write puts the table into docs/decisions-trust.md.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from refit.evaluation import choose, evaluate
from refit.metrics import METRICS, Task, score
from refit.models import Gates

PAGE = Path(__file__).parents[1] / "docs/decisions-trust.md"
BEGIN, END = "<!-- benchmarks/luck.py: -->", "<!-- :benchmarks/luck.py -->"
SELECTION, TEST, STRETCH = 200, 400, 20
CANDIDATES = (1, 4, 8)
WORLDS = ("independent rows", "stretches of 20")
WAYS = ("selected, then tested", "selected on the test rows")


def rows(metric: str, world: str, models: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and predictions (models, n) of equally good models."""
    n = SELECTION + TEST
    truth = rng.integers(0, 2, n)
    noise = rng.normal(0, 1.5, (models, n))
    if world == WORLDS[1]:
        bad = np.repeat(rng.random((models, n // STRETCH + 1)) < 0.25, STRETCH, axis=1)
        begin = rng.integers(STRETCH)  # a storm does not begin where a block does
        noise -= bad[:, begin : begin + n] * (2 * truth - 1) * 2.0
    proba = 1 / (1 + np.exp(-(2 * truth - 1 + noise)))
    return truth, (proba > 0.5).astype(int) if METRICS[metric].needs == "label" else proba


def promoted(metric: str, world: str, candidates: int, seed: int) -> tuple[bool, bool]:
    """Whether one of so many equal candidates is promoted: by selection and test, and by the test rows alone."""
    rng = np.random.default_rng([seed, candidates, WORLDS.index(world)])
    truth, said = rows(metric, world, candidates + 1, rng)
    champion, names = said[-1], [str(i) for i in range(candidates)]
    test, gates = slice(SELECTION, None), Gates(metric, confidence=0.95, min_test_rows=TEST)

    def chosen_on(part: slice) -> int:
        scores = {name: score(metric, truth[part], said[int(name), part], 2) for name in names}
        return int(choose(scores, names) or 0)

    def verdict(which: int) -> bool:
        found = evaluate(
            truth[test], said[which, test], champion[test], {}, Task.BINARY, gates, n_classes=2, seed=seed
        )
        return found.promote

    honest, greedy = chosen_on(slice(0, SELECTION)), chosen_on(test)
    first = verdict(honest)
    return first, first if greedy == honest else verdict(greedy)


def shares(metric: str, world: str, candidates: int, runs: int, seed: int) -> tuple[float, float]:
    """Shares of promotions by luck, in the order of WAYS."""
    found = [promoted(metric, world, candidates, seed * runs + i) for i in range(runs)]
    return float(np.mean([one for one, _ in found])), float(np.mean([two for _, two in found]))


def table(metric: str, runs: int, seed: int) -> list[str]:
    lines = [f"| rows | candidates | {' | '.join(WAYS)} |", "| --- | ---: | ---: | ---: |"]
    for world in WORLDS:
        for candidates in CANDIDATES:
            told = []
            for share in shares(metric, world, candidates, runs, seed):
                told.append(f"{share:.1%} ± {math.sqrt(share * (1 - share) / runs):.1%}")
            lines.append(f"| {world} | {candidates} | {' | '.join(told)} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metric", default="accuracy", choices=("accuracy", "roc_auc"))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    lines = table(args.metric, args.runs, args.seed)
    if args.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        said = f"By {args.metric}; {args.runs} runs each, seed {args.seed}; ± is one standard error."
        PAGE.write_text("\n".join([before + BEGIN, *lines, "", said, END + after]))


if __name__ == "__main__":
    main()
