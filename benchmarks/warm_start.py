"""Why a transfer does not use the warm start of histogram gradient boosting.

Its warm start bins the new rows anew and reads the trees it has by the new bins. A champion learned a curve on
one half of it; 300 new rows come from the other. Prints mean squared errors on fresh rows of that half.

    .venv/bin/python benchmarks/warm_start.py
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

TREES = {"early_stopping": False, "random_state": 0}


def rows(n: int, centre: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(centre, 1, (n, 1))
    return x, np.sin(x[:, 0]) + 0.05 * rng.normal(size=n)


def main() -> None:
    rng = np.random.default_rng(0)
    old, new, fresh = rows(3000, 0, rng), rows(300, 2, rng), rows(3000, 2, rng)
    champion = HistGradientBoostingRegressor(max_iter=100, **TREES).fit(*old)
    own = champion.predict(fresh[0])
    left = HistGradientBoostingRegressor(max_iter=30, **TREES).fit(new[0], new[1] - champion.predict(new[0]))
    beside = HistGradientBoostingRegressor(max_iter=30, **TREES)
    beside.fit(np.c_[new[0], champion.predict(new[0])], new[1])
    predicted = {
        "the champion alone": own,
        "on top of the champion": own + left.predict(fresh[0]),
        "its output as an input": beside.predict(np.c_[fresh[0], own]),
    }
    champion.set_params(warm_start=True, max_iter=130).fit(*new)
    predicted["warm start"] = champion.predict(fresh[0])
    for name, values in predicted.items():
        print(f"{name:<24} {np.mean((values - fresh[1]) ** 2):8.4f}")


if __name__ == "__main__":
    main()
