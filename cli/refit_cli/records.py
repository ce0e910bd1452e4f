"""Rows of a file as the records that `refit predict` sends: read as an upload is, by the contract's own rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from refit.columns import is_text, typed
from refit.contract import NUMERIC, ColumnType, Dialect
from refit.errors import UnreadableFile
from refit.prose import counted
from refit.reading import Limits, Source, open_source, swap_decimal
from refit_cli.usage import files, near

MOST_ROWS, MOST_BYTES = 50_000_000, 16 << 30
NAMED = 5  # columns in a note


@dataclass(frozen=True)
class Rows:
    """Records of the features alone, a missing value None; `notes` say what of the file the model does not see."""

    records: list[dict[str, Any]]
    notes: tuple[str, ...]


def read(path: Path, features: Sequence[Mapping[str, str]], dialect: Dialect) -> Rows:
    """Read the features (name and type of each) of a Parquet or CSV file.

    Target, time and keys may be there or not. A feature that is not there, and a value
    that is not of its type, are missing values for the model, and are told.

    Raises
    ------
    UsageError
        When there is no such file.
    UnreadableFile
        When it is no table, or has none of the features.
    """
    files([path])
    try:
        return _read(path, {each["name"]: ColumnType(each["type"]) for each in features}, dialect)
    except UnreadableFile as error:
        raise UnreadableFile(f"{path}: {error}", error.code, error.column) from None


def _read(path: Path, kinds: Mapping[str, ColumnType], dialect: Dialect) -> Rows:
    source = open_source(path, Limits(MOST_ROWS, MOST_BYTES), dialect)
    doubled = [name for name, n in Counter(source.names).items() if n > 1 and name in kinds]
    if doubled:
        raise UnreadableFile(f"columns of the same name: {_listed(doubled)}; rename or drop one of each")
    here = [name for name in source.names if name in kinds]
    if not here:
        raise UnreadableFile(
            f"none of the columns that the model learned from is there: {_listed(list(kinds))}; "
            f"there are: {_listed(list(source.names))}"
        )
    wrong: Counter[str] = Counter()
    records: list[dict[str, Any]] = []
    for columns in _columns(source, kinds, wrong):
        records += [dict(zip(here, row, strict=True)) for row in zip(*columns, strict=True)]
    absent = [name for name in kinds if name not in here]
    others = [name for name in source.names if name not in kinds]
    notes = [
        f"no column {name!r}, predicted as if its values were missing{near(name, others)}" for name in absent
    ]
    if len(wrong) > NAMED:  # how numbers are written, most likely
        notes.append(
            f"{wrong.total()} values of {_listed(list(wrong))} are not of the columns' types, predicted as if "
            "missing; is [csv] in model.toml how this file is written?"
        )
        return Rows(records, tuple(notes))
    notes += [
        f"{counted(count, 'value')} of {name!r} cannot be read as {kinds[name].value}, "
        "predicted as if missing"
        for name, count in wrong.items()
    ]
    return Rows(records, tuple(notes))


def _columns(
    source: Source, kinds: Mapping[str, ColumnType], wrong: Counter[str]
) -> Iterator[list[list[Any]]]:
    """The values of the features of each batch, in the order of the file."""
    commas = source.dialect is not None and source.dialect.decimal == ","
    for part in source.parts():
        for batch in part.batches():
            yield [
                _values(
                    swap_decimal(array) if commas and kinds[name] in NUMERIC else array, name, kinds, wrong
                )
                for name, array in zip(source.names, batch.columns, strict=True)
                if name in kinds
            ]


def _values(array: pa.Array, name: str, kinds: Mapping[str, ColumnType], wrong: Counter[str]) -> list[Any]:
    if is_text(array.type) and pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    found = typed(array, kinds[name])
    missing = np.zeros(len(array), bool)
    bad = np.zeros(len(array), bool) if found.wrong is None else found.wrong.copy()
    if found.null is not None:
        missing |= found.null
    if kinds[name] is ColumnType.CATEGORY:
        words = found.words.to_pylist() if found.words is not None else []
        said = [words[code] if 0 <= code < len(words) else None for code in found.values.tolist()]
    else:
        bad |= ~np.isfinite(found.values) & ~missing
        said = found.values.tolist()
    if count := int(bad.sum()):
        wrong[name] += count
    return [None if none else value for value, none in zip(said, (missing | bad).tolist(), strict=True)]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + more
