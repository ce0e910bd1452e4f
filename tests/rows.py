"""Rows for the models in tests/models, learnable by construction, as the bytes people would upload."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

NOISE = 0.05  # share of labels turned around, so that no model is perfect


def flights(rows: int = 400, *, month: int = 1, seed: int = 0, flipped: bool = False) -> pd.DataFrame:
    """Flights of one month of 2013: those after noon are late; `flipped`: those before noon."""
    rng = np.random.default_rng([seed, month])
    minute = rng.integers(0, 1440, rows)
    late = (minute > 720) ^ flipped ^ (rng.random(rows) < NOISE)
    start = pd.Timestamp(2013, month, 1, tz="UTC")
    return pd.DataFrame(
        {
            "flight_id": [f"2013{month:02}-{seed}-{i}" for i in range(rows)],
            "scheduled_departure": start + pd.to_timedelta(np.arange(rows) * 60, unit="s"),
            "late": late,
            "carrier": rng.choice(["AA", "B6", "UA"], rows),
            "origin": rng.choice(["EWR", "JFK", "LGA"], rows),
            "distance": rng.uniform(100, 2500, rows),
            "departure_minute": minute,
            "temperature": rng.normal(50, 10, rows),
        }
    )


def species(rows: int = 300, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    petal = rng.uniform(0, 3, rows)
    names = np.array(["setosa", "versicolor", "virginica"])
    return pd.DataFrame(
        {
            "species": names[petal.astype(int)],
            "petal": petal,
            "sepal": rng.normal(5, 1, rows),
            "colour": rng.choice(["blue", "white"], rows),
        }
    )


def fares(rows: int = 300, *, month: int = 1, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng([seed, month])
    distance = rng.uniform(100, 2500, rows)
    start = pd.Timestamp(2013, month, 1, tz="UTC")
    return pd.DataFrame(
        {
            "sold_at": start + pd.to_timedelta(np.arange(rows) * 60, unit="s"),
            "fare": 40 + distance / 10 + rng.normal(0, 5, rows),
            "distance": distance,
            "seats_left": rng.integers(0, 200, rows),
        }
    )


def parquet(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


def csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()
