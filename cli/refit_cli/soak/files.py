"""What is uploaded: seeded files, and for each what has to become of it."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd

from refit.aws import keys
from refit.batches import Code, Outcome

MODEL = "tides"
STRAY = "tidse"  # a folder that is no model's
ROWS = 40
RECENT = 200  # drops; a key is written again, or a content repeated, within so many
START = pd.Timestamp("2020-01-01", tz="UTC")

# What is wrong with a file, what it ends as, and the code that has to be among the reasons.
FAULTS = {
    "random bytes": (Outcome.QUARANTINED, Code.UNREADABLE),
    "missing column": (Outcome.QUARANTINED, Code.MISSING_COLUMN),
    "too many nulls": (Outcome.QUARANTINED, Code.TOO_MANY_NULLS),
    "empty": (Outcome.QUARANTINED, Code.EMPTY_FILE),
    "truncated": (Outcome.QUARANTINED, Code.UNREADABLE),
    "unknown model": (Outcome.IGNORED, Code.UNKNOWN_MODEL),
}


@dataclass(frozen=True)
class Drop:
    """One PutObject."""

    key: str
    content: bytes
    outcome: Outcome
    code: str = ""  # among its reasons; empty for an accepted one
    lost: bool = False  # no event ever tells of it


def drops(uploads: int, seed: int, turns: int) -> list[Drop]:
    """A fifth is bad; of the good ones some write a key again, some have the content of another.

    The world turns around `turns` times: what flooded stays dry, at another level.
    """
    rng = np.random.default_rng(seed)
    bad = dict.fromkeys(rng.choice(uploads, uploads // 5, replace=False).tolist(), "")
    for i, number in enumerate(bad):
        bad[number] = list(FAULTS)[i % len(FAULTS)]
    lost = set(rng.choice(uploads, uploads // 20, replace=False).tolist())
    made: list[Drop] = []
    for number in range(uploads):
        frame = _frame(number, number * (turns + 1) // uploads, rng)
        fault, how = bad.get(number, ""), rng.random()
        key, content = keys.incoming(MODEL, f"{number:05d}{_suffix(number)}"), _content(frame, number)
        before = [drop for drop in made[-RECENT:] if drop.outcome is Outcome.ACCEPTED]
        if before and how < 0.06:
            key = before[int(rng.integers(len(before)))].key
        elif before and not fault and how < 0.12:
            content = before[int(rng.integers(len(before)))].content
        outcome, code = FAULTS.get(fault, (Outcome.ACCEPTED, ""))
        if fault == "unknown model":
            key = keys.incoming(STRAY, key.rpartition("/")[2])
        elif fault:
            content = _spoiled(fault, frame, rng)
        made.append(Drop(key, content, outcome, code, number in lost))
    return made


def records() -> list[dict[str, float | str]]:
    """What a caller of predict sends."""
    return [{"level": 0.5, "wind": -1.0, "coast": "north"}, {"level": 2.0, "wind": 0.0, "coast": "south"}]


def _frame(number: int, turn: int, rng: np.random.Generator) -> pd.DataFrame:
    tide, wind = rng.normal(size=ROWS), rng.normal(size=ROWS)
    log_odds = (-1) ** turn * 3 * tide + wind
    start = START + pd.Timedelta(hours=number)
    return pd.DataFrame(
        {
            "at": start + pd.to_timedelta(np.arange(ROWS), unit="min"),
            "flooded": np.where(rng.random(ROWS) < 1 / (1 + np.exp(-log_odds)), "yes", "no"),
            "level": tide + 2 * turn,
            "wind": wind,
            "coast": rng.choice(["north", "south"], ROWS),
        }
    )


def _suffix(number: int) -> str:
    return (".parquet", ".csv", ".csv.gz")[number % 3]


def _content(frame: pd.DataFrame, number: int) -> bytes:
    if number % 3 == 0:
        return _parquet(frame)
    text = frame.to_csv(index=False).encode()
    return text if number % 3 == 1 else gzip.compress(text, mtime=0)


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _spoiled(fault: str, frame: pd.DataFrame, rng: np.random.Generator) -> bytes:
    match fault:
        case "random bytes":
            return rng.bytes(3000)
        case "missing column":
            return frame.drop(columns="wind").to_csv(index=False).encode()
        case "too many nulls":
            frame.loc[: ROWS // 2, "level"] = np.nan
            return _parquet(frame)
        case "truncated":
            return _parquet(frame)[:-100]
        case _:
            return b""
