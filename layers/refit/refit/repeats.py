"""Keys that must name a row once: found by 64-bit hashes, on disk when there are many.

Sixteen bytes are kept of a row. Beyond IN_MEMORY rows they go to PARTITIONS
temporary files by their leading bits, so memory stays under 32 bytes times
IN_MEMORY plus what one partition takes, a sixty-fourth of all rows.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

IN_MEMORY = 2_000_000
PARTITIONS = 64


class Repeats:
    """Gathers the hash of every row's key; may be used from several threads."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._rows = 0
        self._files: list[Any] = []

    def add(self, hashes: np.ndarray, first_row: int) -> None:
        """The hashes of consecutive rows, uint64 of shape (n,)."""
        rows = np.arange(first_row, first_row + len(hashes), dtype=np.int64)
        with self._lock:
            self._held.append((hashes, rows))
            self._rows += len(hashes)
            if self._rows > IN_MEMORY:
                self._spill()

    def _spill(self) -> None:
        if not self._files:
            self._files = [tempfile.TemporaryFile(dir=self._folder) for _ in range(PARTITIONS)]  # noqa: SIM115
        hashes, rows = self._joined()
        which = (hashes >> np.uint64(58)).astype(np.uint8)
        order = np.argsort(which, kind="stable")
        ends = np.cumsum(np.bincount(which, minlength=PARTITIONS)).tolist()
        pairs = np.stack([hashes.view(np.int64), rows], axis=1)[order]
        for file, start, end in zip(self._files, [0, *ends[:-1]], ends, strict=True):
            file.write(pairs[start:end].tobytes())
        self._held, self._rows = [], 0

    def _joined(self) -> tuple[np.ndarray, np.ndarray]:
        hashes = [np.empty(0, np.uint64), *(hashes for hashes, _ in self._held)]
        rows = [np.empty(0, np.int64), *(rows for _, rows in self._held)]
        return np.concatenate(hashes), np.concatenate(rows)

    def suspects(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose hash another row has, in rising order, and their hashes; shape (rows,) each."""
        hashes, rows = self._joined()
        found = [_shared(hashes, rows)] if not self._files else []
        if self._files:
            self._spill()
            for file in self._files:
                file.seek(0)
                pairs = np.frombuffer(file.read(), np.int64).reshape(-1, 2)
                found.append(_shared(pairs[:, 0].view(np.uint64), pairs[:, 1]))
                file.close()
        hashes, rows = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort(rows)
        return rows[order], hashes[order]


def _shared(hashes: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ranked = np.sort(hashes)  # which takes a third of the time of sorting places
    if not (ranked[1:] == ranked[:-1]).any():
        return ranked[:0], rows[:0]
    order = np.argsort(hashes)
    ranked = hashes[order]
    same = np.zeros(len(ranked) + 1, bool)
    same[1:-1] = ranked[1:] == ranked[:-1]
    both = same[1:] | same[:-1]  # like the next or like the one before
    return ranked[both], rows[order][both]
