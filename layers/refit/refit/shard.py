"""The typed form of an accepted batch: what validation writes and training reads.

A shard is an `.npz` without pickles, so that the functions
that fit models need no pyarrow. Columns are float64 (numbers, integers,
booleans; NaN is null), int64 nanoseconds (timestamps; NaT is null) or int32
codes into a vocabulary (categories; -1 is null).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.contract import Column, ColumnType, same_kind
from refit.errors import ArtifactError

if TYPE_CHECKING:
    import pandas as pd

NAT = np.iinfo(np.int64).min
_FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """Rows of one batch, by column; every array has shape (rows,)."""

    columns: Mapping[str, np.ndarray]
    types: Mapping[str, ColumnType]
    vocabularies: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def is_null(self, name: str) -> np.ndarray:
        """Boolean mask of nulls, shape (rows,)."""
        values = self.columns[name]
        if self.types[name] is ColumnType.CATEGORY:
            return values < 0
        if self.types[name] is ColumnType.TIMESTAMP:
            return values == NAT
        return np.isnan(values)

    def take(self, index: np.ndarray) -> Shard:
        """The rows at `index` (a mask or positions), in that order."""
        columns = {name: values[index] for name, values in self.columns.items()}
        return Shard(columns, self.types, self.vocabularies)

    def fingerprints(self) -> np.ndarray:
        """One uint64 per row that depends on every value and on column names, not on row order."""
        mixed = np.zeros(self.rows, dtype=np.uint64)
        for name in sorted(self.columns):
            salt = _hash(name)
            if self.types[name] is ColumnType.CATEGORY:
                words = np.array([_hash(v) for v in self.vocabularies[name]] + [0], dtype=np.uint64)
                bits = words[self.columns[name]]
            else:
                bits = (self.columns[name] + 0).view(np.uint64)
            mixed = _mix(mixed ^ _mix(bits ^ salt))
        return mixed


def dump(shard: Shard) -> bytes:
    """Bytes of a shard; the same rows give the same bytes."""
    header = {
        "format": _FORMAT,
        "columns": [{"name": name, "type": shard.types[name]} for name in shard.columns],
        "vocabularies": {name: list(words) for name, words in shard.vocabularies.items()},
    }
    members = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
    # Column names may hold anything, member names may not.
    members |= {f"c{i}": values for i, values in enumerate(shard.columns.values())}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in members.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def load(data: bytes) -> Shard:
    """Read a shard; raises ArtifactError when the bytes are not one."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            if header["format"] != _FORMAT:
                raise ArtifactError(f"shard format {header['format']} is not {_FORMAT}; deploy matching code")
            names = [column["name"] for column in header["columns"]]
            types = {column["name"]: ColumnType(column["type"]) for column in header["columns"]}
            columns = {name: archive[f"c{i}"] for i, name in enumerate(names)}
            return Shard(columns, types, header["vocabularies"])
    except ArtifactError:
        raise
    except Exception as error:  # zip, deflate, npy and JSON each fail in ways of their own
        raise ArtifactError(f"not a shard: {type(error).__name__}: {error}") from error


def concatenate(shards: Sequence[Shard], columns: Sequence[Column]) -> Shard:
    """One shard of all rows in the order given, restricted to `columns`, over joint vocabularies.

    A column that an older shard lacks, or holds as another kind, is the column's `fill` there, else null.
    """
    joint_columns, joint_types, joint_words = {}, {}, {}
    for column in columns:
        name = column.name
        joint_types[name] = column.type
        parts = []
        if column.type is ColumnType.CATEGORY:
            words = sorted({word for s in shards for word in _words(s, column)})
            position = {word: code for code, word in enumerate(words)}
            for shard in shards:
                lookup = [position[word] for word in _words(shard, column)]
                table = np.array([*lookup, -1], dtype=np.int32)  # code -1 finds the last entry
                # A shard without the column has one word at most: the fill.
                codes = shard.columns[name] if _holds(shard, column) else np.zeros(shard.rows, np.int32)
                parts.append(table[codes])
            joint_words[name] = words
        else:
            null: Any = NAT if column.type is ColumnType.TIMESTAMP else np.nan
            kind = np.int64 if column.type is ColumnType.TIMESTAMP else np.float64
            given = null if column.fill is None else column.fill
            for shard in shards:
                held = _holds(shard, column)
                parts.append(shard.columns[name] if held else np.full(shard.rows, given, kind))
        joint_columns[name] = np.concatenate(parts)
    return Shard(joint_columns, joint_types, joint_words)


def _holds(shard: Shard, column: Column) -> bool:
    return column.name in shard.columns and same_kind(shard.types[column.name], column.type)


def _words(shard: Shard, column: Column) -> Sequence[str]:
    if _holds(shard, column):
        return shard.vocabularies[column.name]
    return [] if column.fill is None else [str(column.fill)]


def to_frame(shard: Shard, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns as a DataFrame, shape (rows, len(columns)).

    Numbers, integers and booleans are float64, categories are pandas
    categoricals of strings.
    """
    import pandas as pd

    data = {}
    for name in columns:
        values = shard.columns[name]
        if shard.types[name] is ColumnType.CATEGORY:
            # Object strings, whatever string type this pandas prefers: the frame must not depend on pyarrow.
            words = pd.Index(list(shard.vocabularies[name]), dtype=object)
            data[name] = pd.Categorical.from_codes(values, categories=words)
        else:
            data[name] = values
    return pd.DataFrame(data)


def _hash(text: str) -> np.uint64:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digest, dtype=np.uint64)[0]


def _mix(x: np.ndarray) -> np.ndarray:
    # The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
