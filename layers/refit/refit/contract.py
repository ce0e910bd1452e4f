"""The contract that every upload of a model must meet: columns, types, limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum


class ColumnType(StrEnum):
    NUMBER = "number"
    INTEGER = "integer"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    TEXT = "text"  # carried in the original file, never learned from


NUMERIC = (ColumnType.NUMBER, ColumnType.INTEGER, ColumnType.BOOLEAN)
FILE_RULES = ("fresh", "min_class_share")  # rules of a file that are soft unless `hard` names them


def same_kind(one: ColumnType, other: ColumnType) -> bool:
    """Whether a shard holds both alike, so that what was read as one is usable as the other."""
    return one is other or (one in NUMERIC and other in NUMERIC)


@dataclass(frozen=True)
class Column:
    """One column's rules.

    Type, presence and the null limit are always hard (a breach quarantines the
    file). `min`, `max` and `categories` are soft (reported, left to drift)
    unless `hard` is set. A column that the contract gained later says with
    `since` in which version, and with `fill` what older batches are given for it.
    """

    name: str
    type: ColumnType
    nulls: float = 0.0  # tolerated share of nulls, 0..1
    min: float | None = None
    max: float | None = None
    categories: tuple[str, ...] = ()
    max_categories: int = 1000
    hard: bool = False
    since: int = 1
    fill: float | str | None = None  # None: missing there


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written; what is None is found out from the file."""

    delimiter: str | None = None
    quote: str | None = None
    encoding: str | None = None  # utf-8 and utf-16 are found out; latin-1 and others only when declared
    decimal: str = "."


@dataclass(frozen=True)
class Contract:
    """What an upload must look like. `features` are what an estimator is shown."""

    columns: tuple[Column, ...]
    target: str
    time: str | None = None
    keys: tuple[str, ...] = ()
    min_rows: int = 1
    max_rows: int = 50_000_000
    max_bad_rows: float = 0.0  # tolerated share of rows that break a hard rule; they are left out
    version: int = 1
    fresh_seconds: int | None = None  # how old the newest row may be when it arrives
    min_class_share: float = 0.0  # labelled rows that the rarest known class must have
    constant_label: bool = False  # whether all labels of a file may be the same
    hard: tuple[str, ...] = ()  # rules of the file that quarantine: fresh, min_class_share
    csv: Dialect = Dialect()

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[Column, ...]:
        """Columns an estimator learns from: all but target, time, keys, timestamps and text."""
        aside = {self.target, self.time, *self.keys}
        return tuple(
            column
            for column in self.columns
            if column.name not in aside and column.type not in (ColumnType.TIMESTAMP, ColumnType.TEXT)
        )

    def gap(self, older: Mapping[str, str]) -> str:
        """Why batches that hold `older` columns (types by name) cannot be learned from under this contract.

        Empty when they can: a feature that they lack is given its `fill`, or is missing there.
        """
        for name in (self.target, self.time):
            if name and older.get(name, ColumnType.TEXT) == ColumnType.TEXT:
                return f"column {name!r} is missing"
        used = {self.target, self.time, *(column.name for column in self.features)}
        for column in self.columns:
            was = ColumnType(older.get(column.name, ColumnType.TEXT))
            # A text is not in the batch: the column begins where it became something else.
            if column.name in used and was is not ColumnType.TEXT and not same_kind(was, column.type):
                return f"column {column.name!r} was {'an' if was is ColumnType.INTEGER else 'a'} {was}"
        return ""

    @property
    def digest(self) -> str:
        """Hex digest of all rules; equal contracts have equal digests."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
