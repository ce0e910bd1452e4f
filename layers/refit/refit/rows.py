"""The order in which the rows of a file are looked at.

Columns that can be read by themselves are, each by one of two threads at a time: what
was just decoded is checked and counted while it is in the cache, and no more than two
columns are held. As soon as a row breaks a rule, all columns of a batch are looked at together, for what is
wrong in one column leaves the row out of all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np
import pyarrow as pa

from refit.batches import Code
from refit.contract import Column, ColumnType
from refit.errors import UnreadableFile
from refit.inspection import NO_ROWS, Found, Inspection, RowsBelongTogether, Task
from refit.reading import Part, Source
from refit.repeats import Repeats
from refit.shard import Writer

FEW_ROWS = 64 << 10  # that are not worth a thread
THREADS = 2
T = TypeVar("T")


def look_at(
    task: Task, sources: Sequence[Source], columns: Sequence[Column], excluded: np.ndarray, keyed: bool
) -> tuple[Found, Repeats | None]:
    """Look at every row once.

    `excluded` are positions of rows to leave out, rising; `keyed`: also tell which keys come again.
    """
    counted = sum(source.rows or 0 for source in sources)
    _check_rows(counted, task.limits.max_rows)
    separable = all(part.columns for source in sources for part in source.parts())
    if columns and separable and counted > FEW_ROWS:
        try:
            return _apart(task, sources, columns, excluded, keyed)
        except (RowsBelongTogether, UnreadableFile):
            pass  # of several errors the same is to be told always, whichever thread came first
    return _together(task, sources, columns, excluded, keyed)


def _check_rows(rows: int, most: int) -> None:
    if rows > most:
        raise UnreadableFile(f"{rows} rows, at most {most} are allowed; split the file.", Code.TOO_MANY_ROWS)


class _Shard:
    """The shard that is being written, if one is wanted."""

    def __init__(self, task: Task, columns: Sequence[Column]) -> None:
        learned = [(column.name, column.type) for column in columns if column.type is not ColumnType.TEXT]
        self.writer = Writer(task.shard, learned) if task.shard else None

    def chunk(self, rows: int) -> int:
        return self.writer.open_chunk(rows) if self.writer else 0

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer:
            self.writer.abandon()

    def close(self, found: Found) -> None:
        if self.writer:
            self.writer.close(np.concatenate([NO_ROWS, *found.left_out]))


# ---------------------------------------------------------------- column by column


def _apart(
    task: Task, sources: Sequence[Source], columns: Sequence[Column], excluded: np.ndarray, keyed: bool
) -> tuple[Found, Repeats | None]:
    """Raises RowsBelongTogether when it turns out that columns cannot be looked at apart, and UnreadableFile."""
    repeats = Repeats(task.folder) if keyed else None
    keys = [column for column in columns if keyed and column.name in task.contract.keys]
    # What takes longest comes first, lest one thread waits for it at the end.
    rest = sorted((c for c in columns if c not in keys), key=lambda c: c.type is not ColumnType.CATEGORY)
    with _Shard(task, columns) as shard:
        parts = [(s, part, shard.chunk(part.rows or 0)) for s in sources for part in s.parts()]
        units = [Inspection(task, keys, repeats, excluded, shard.writer, alone=True)] if keys else []
        units += [Inspection(task, [each], None, excluded, shard.writer, alone=True) for each in rest]
        _share(parts, units)
        ended = [unit.end() for unit in units]
        of = {name: found for each in ended for name, found in each.columns.items()}
        found = Found({c.name: of[c.name] for c in columns}, ended[0].rows, left_out=ended[0].left_out)
        shard.close(found)
    return found, repeats


def _share(parts: Sequence[tuple[Source, Part, int]], units: Sequence[Inspection]) -> None:
    """Look at all parts by all units on THREADS threads; each unit takes its parts in their order."""
    waiting: SimpleQueue[tuple[Inspection, int]] = SimpleQueue()
    for unit in units:
        waiting.put((unit, 0))
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                unit, i = waiting.get_nowait()
            except Empty:
                return
            source, part, chunk = parts[i]
            assert part.columns is not None
            for batch in part.columns([column.name for column in unit.columns]):
                unit.look_at(batch, range(len(unit.columns)), source, chunk)
            if i + 1 < len(parts):
                waiting.put((unit, i + 1))
                if unit is units[-1]:
                    pa.default_memory_pool().release_unused()  # what this part has freed

    with ThreadPoolExecutor(THREADS) as pool:
        threads = [pool.submit(work) for _ in range(THREADS)]
        try:
            wait(threads, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
    for thread in threads:
        thread.result()


# ---------------------------------------------------------------- all columns of a batch


def _together(
    task: Task, sources: Sequence[Source], columns: Sequence[Column], excluded: np.ndarray, keyed: bool
) -> tuple[Found, Repeats | None]:
    repeats = Repeats(task.folder) if keyed else None
    with _Shard(task, columns) as shard:
        unit = Inspection(task, columns, repeats, excluded, shard.writer)
        parts = [
            (source, part, None if part.rows is None else shard.chunk(part.rows))
            for source in sources
            for part in source.parts()
        ]
        for source, part, chunk in parts:
            places = [source.names.index(column.name) for column in columns]
            pa.default_memory_pool().release_unused()  # what the part before has freed
            batches = part.batches()
            ahead = part.rows is not None and part.rows > FEW_ROWS  # the reader of a CSV is ahead by itself
            for batch in _ahead(batches) if ahead else batches:
                if batch.num_rows:
                    into = shard.chunk(batch.num_rows) if chunk is None else chunk
                    unit.look_at(batch, places, source, into)
                    _check_rows(unit.found.rows, task.limits.max_rows)
        found = unit.end()
        shard.close(found)
    return found, repeats


def _ahead(things: Iterator[T]) -> Iterator[T]:
    """The same things; the next one is read on another thread while one is looked at."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, things, None)
        while (thing := following.result()) is not None:
            following = pool.submit(next, things, None)
            yield thing
