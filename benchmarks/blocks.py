"""Why the bootstrap of the gain draws 20 blocks and widens its bound by Student's t.

Two models are right with the same probability on each of 400 rows; in the second world each is often wrong on
stretches of 20 rows of its own. Prints how often the lower bound of the gain lies above 0 although there is none
(5 % are declared), and how often it does when there is a gain of 0.08.

    .venv/bin/python benchmarks/blocks.py
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm, t

ROWS, STRETCH, RUNS, DRAWS, CONFIDENCE, GAIN = 400, 20, 3000, 300, 0.95, 0.08


def right(stretches: bool, rng: np.random.Generator) -> np.ndarray:
    """Whether a model is right on each row."""
    well = rng.random(ROWS + 2 * STRETCH) < 0.75
    if not stretches:
        return well[:ROWS].astype(float)
    offset = rng.integers(0, STRETCH)
    bad = np.repeat(rng.random(ROWS // STRETCH + 2) < 0.25, STRETCH)[offset : offset + ROWS]
    return (well[:ROWS] & ~(bad & (rng.random(ROWS) < 0.7))).astype(float)


def shares(stretches: bool, blocks: int, widened: bool, rng: np.random.Generator) -> tuple[float, float]:
    by_luck = by_gain = 0
    factor = math.sqrt(blocks / (blocks - 1)) * t.ppf(CONFIDENCE, blocks - 1) / norm.ppf(CONFIDENCE)
    for _ in range(RUNS):
        difference = right(stretches, rng) - right(stretches, rng)
        means = difference.reshape(blocks, -1).mean(axis=1)
        draws = means[rng.integers(blocks, size=(DRAWS, blocks))].mean(axis=1)
        gain = difference.mean()
        below = (gain - np.quantile(draws, 1 - CONFIDENCE)) * (factor if widened else 1.0)
        by_luck += gain - below > 0
        by_gain += gain + GAIN - below > 0
    return by_luck / RUNS, by_gain / RUNS


def main() -> None:
    rng = np.random.default_rng(1)
    print(f"{'rows':<16} {'blocks':>6}  {'bound':<8} {'by luck':>8} {'with a gain':>12}")
    for stretches in (False, True):
        for blocks, widened in ((40, True), (20, True), (10, True), (40, False)):
            luck, power = shares(stretches, blocks, widened, rng)
            world = "in stretches" if stretches else "independent"
            bound = "widened" if widened else "bare"
            print(f"{world:<16} {blocks:>6}  {bound:<8} {luck:>8.1%} {power:>12.1%}", flush=True)


if __name__ == "__main__":
    main()
