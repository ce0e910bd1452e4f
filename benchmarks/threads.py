"""Why the functions run with OMP_WAIT_POLICY=PASSIVE: two fits side by side on a busy machine.

Waiting OpenMP threads spin by default, and take the cores from those that work.
Prints the seconds of the slower of two simultaneous fits for each setting, one after the other, in rounds.

    .venv/bin/python benchmarks/threads.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

SETTINGS = ({}, {"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_NUM_THREADS": "1"})
ROUNDS = 3
FIT = """
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
rng = np.random.default_rng(0)
X = rng.normal(size=(100_000, 16))
y = (X[:, 0] + rng.normal(size=len(X)) > 0).astype(int)
HistGradientBoostingClassifier(max_iter=60, early_stopping=False).fit(X, y)
"""


def side_by_side(setting: dict[str, str]) -> float:
    """Seconds until both of two fits are done."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    begun = time.monotonic()
    fits = [subprocess.Popen([sys.executable, "-c", FIT], env=environment | setting) for _ in range(2)]
    for fit in fits:
        fit.wait(600)
    return time.monotonic() - begun


def main() -> None:
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for setting in SETTINGS:
            name = " ".join(f"{key}={value}" for key, value in setting.items()) or "default"
            seconds.setdefault(name, []).append(side_by_side(setting))
    best = min(min(each) for each in seconds.values())
    for name, each in seconds.items():
        figures = "  ".join(f"{value:6.1f}" for value in sorted(each))
        print(f"{name:<24} {figures} s   {sorted(each)[len(each) // 2] / best:5.1f} times the best")


if __name__ == "__main__":
    main()
