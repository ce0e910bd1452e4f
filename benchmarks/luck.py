"""How often a challenger that is no better is promoted by luck, by Refit's own choice and verdict.

All candidates and the champion are equally good: the same skill, each with errors of its own. Candidates are chosen
between on a selection block by `choose`, the chosen one is tested once by `evaluate`, with no gate but the gain at the
default confidence, 95 %: up to 5 % may be promoted. Beside it, what becomes of it when the test rows choose, as is
often done. Rows are independent, or 20 in a row share their luck, as those of a storm do: every fourth time, a model is
wrong on most of such a stretch.

A refresh, the champion's own recipe on newer data, is asked for less: that it surely loses no more than a fifth of what
the champion has over the trivial baseline. So its promotions are counted for one that guesses on a share of the rows, and
loses just that share of it: at a fifth up to 5 % may be promoted.

    .venv/bin/python benchmarks/luck.py [--metric accuracy roc_auc] [--runs 1000] [--seed 0] [--write]

Each run has 200 rows to select on and 400 to test on. --write puts the tables into docs/decisions-trust.md.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from refit.evaluation import choose, evaluate
from refit.metrics import METRICS, Task, score
from refit.models import REFRESH_SHARE, Gates

PAGE = Path(__file__).parents[1] / "docs/decisions-trust.md"
BEGIN, END = "<!-- benchmarks/luck.py: -->", "<!-- :benchmarks/luck.py -->"
SELECTION, TEST, STRETCH = 200, 400, 20
CANDIDATES = (1, 4, 8)
WORLDS = ("independent rows", "stretches of 20")
WAYS = ("selected, then tested", "selected on the test rows")
LOST = (0.0, 0.1, REFRESH_SHARE, 0.3)  # by a refresh, of what the champion has over the trivial baseline


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
    test, gates = slice(SELECTION, None), Gates(metric)

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


def refreshed(metric: str, world: str, lost: float, seed: int) -> bool:
    """Whether a refresh is promoted that guesses on a share of the rows, and so loses that share of the lift.

    A guess is what it says of another row. Of such an accuracy a is left (1 - lost) a + lost / 2 where both classes
    are as frequent; of an area under the curve as well, since against a guess each row wins half of its pairs.
    """
    rng = np.random.default_rng([seed, LOST.index(lost), WORLDS.index(world), 1])
    truth, said = rows(metric, world, 2, rng)
    truth, challenger, champion = truth[-TEST:], said[0, -TEST:], said[1, -TEST:]
    guessed = rng.random(TEST) < lost
    challenger = np.where(guessed, rng.permutation(challenger), challenger)
    ignorant = {
        "ignorant": np.zeros(TEST, dtype=int) if METRICS[metric].needs == "label" else np.full(TEST, 0.5)
    }
    gates = Gates(metric)
    found = evaluate(
        truth, challenger, champion, ignorant, Task.BINARY, gates, n_classes=2, seed=seed, refresh=True
    )
    return found.promote


def share_refreshed(metric: str, world: str, lost: float, runs: int, seed: int) -> float:
    return float(np.mean([refreshed(metric, world, lost, seed * runs + i) for i in range(runs)]))


def table(metric: str, runs: int, seed: int) -> list[str]:
    def told(share: float) -> str:
        return f"{share:.1%} ± {math.sqrt(share * (1 - share) / runs):.1%}"

    lines = [f"| by {metric} | candidates | {' | '.join(WAYS)} |", "| --- | ---: | ---: | ---: |"]
    for world in WORLDS:
        for candidates in CANDIDATES:
            found = shares(metric, world, candidates, runs, seed)
            lines.append(f"| {world} | {candidates} | {' | '.join(map(told, found))} |")
            print(lines[-1], flush=True)
    heads = " | ".join("as good" if not lost else f"loses {lost:.0%}" for lost in LOST)
    lines += ["", f"| a refresh, by {metric} | {heads} |", "| --- |" + " ---: |" * len(LOST)]
    for world in WORLDS:
        found = [share_refreshed(metric, world, lost, runs, seed) for lost in LOST]
        lines.append(f"| {world} | {' | '.join(map(told, found))} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ("accuracy", "roc_auc")
    parser.add_argument("--metric", nargs="+", default=known, choices=known)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    lines = [line for metric in args.metric for line in [*table(metric, args.runs, args.seed), ""]]
    if args.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        said = f"{args.runs} runs each, seed {args.seed}; ± is one standard error."
        PAGE.write_text("\n".join([before + BEGIN, *lines, said, END + after]))


if __name__ == "__main__":
    main()
