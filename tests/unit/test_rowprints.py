"""Row fingerprints: what they depend on, when equality means anything, and how they are kept."""

from pathlib import Path

import numpy as np
import pytest

from refit import rowprints
from refit.contract import Column, ColumnType, Contract
from refit.errors import ArtifactError
from refit.shard import Shard

KINDS = {
    "id": "text",
    "no": "integer",
    "at": "timestamp",
    "x": "number",
    "c": "category",
    "w": "number",
    "y": "boolean",
}
CONTRACT = Contract(
    tuple(Column(name, ColumnType(kind)) for name, kind in KINDS.items()), "y", "at", ("id", "no"), weight="w"
)


def shard(**columns) -> Shard:
    kinds = {name: ColumnType(KINDS[name]) for name in columns}
    words = {"c": ["ulm", "bonn", "kiel", "jena"]} if "c" in columns else {}
    kept = {"c": np.int32, "at": np.int64}
    return Shard({n: np.asarray(v, kept.get(n, float)) for n, v in columns.items()}, kinds, words)


def test_a_row_is_its_features_target_time_and_keys_but_for_text():
    features = [column.name for column in CONTRACT.features]
    assert features == ["x", "c"]
    assert rowprints.identity(CONTRACT, features) == ["at", "c", "no", "x", "y"]


def test_a_champion_of_other_columns_is_asked_in_its_own():
    rows = shard(x=[1, 2, 3], c=[0, 1, 2], y=[0, 1, 0])
    whole, part = (rowprints.of(rows, columns) for columns in (["c", "x", "y"], ["x", "y"]))
    assert rowprints.of(shard(x=[1, 2, 3], y=[0, 1, 0]), ["x", "y"]).tolist() == part.tolist()
    assert not set(whole) & set(part)


def test_categories_are_words_not_codes():
    one = Shard({"c": np.array([0, 1], np.int32)}, {"c": ColumnType.CATEGORY}, {"c": ["a", "b"]})
    two = Shard({"c": np.array([1, 0], np.int32)}, {"c": ColumnType.CATEGORY}, {"c": ["b", "a"]})
    assert rowprints.of(one, ["c"]).tolist() == rowprints.of(two, ["c"]).tolist()


def test_known_ones_are_found_in_any_place():
    learned = np.array([3, 5, 9], np.uint64)
    prints = np.array([9, 1, 3, 10, 5, 4], np.uint64)
    assert rowprints.known(prints, learned).tolist() == [True, False, True, False, True, False]
    for nothing in (None, learned[:0]):
        assert not rowprints.known(prints, nothing).any()


def test_union_is_sorted_and_has_each_once():
    found = rowprints.union(np.array([5, 3, 5], np.uint64), None, np.array([4, 3], np.uint64))
    assert (found.tolist(), found.dtype) == ([3, 4, 5], np.uint64)


@pytest.mark.parametrize(
    ("columns", "apart"),
    [
        ({"x": np.arange(1000)}, True),
        # 200 different rows of 50 values and 4 words: two agree once in about 200, so each would have a twin
        ({"x": np.arange(1000) % 50, "c": np.arange(1000) // 50 % 4}, False),
        ({"x": np.arange(1000) % 50, "c": np.arange(1000) // 50 % 4, "at": np.arange(1000)}, True),
        ({"y": np.zeros(1)}, True),
        ({"y": np.zeros(0)}, True),
    ],
)
def test_rows_are_told_apart_where_chance_makes_no_equal_ones(columns, apart):
    rows = shard(**columns)
    assert rowprints.told_apart(rows, list(rows.columns)) is apart


def test_a_file_with_every_row_twice_is_still_told_apart():
    values = np.random.default_rng(0).normal(size=500)
    assert rowprints.told_apart(shard(x=np.r_[values, values], y=np.r_[values > 0, values > 0]), ["x", "y"])


def test_what_is_kept_is_read_again_and_nothing_else():
    prints = np.array([1, 2, 2**64 - 1], np.uint64)
    assert rowprints.load(rowprints.dump(prints)).tolist() == prints.tolist()
    assert rowprints.load(rowprints.dump(prints[:0])).tolist() == []
    for bad in (b"", b"PK", Path(__file__).read_bytes(), rowprints.dump(prints)[:-3]):
        with pytest.raises(ArtifactError, match="not row fingerprints"):
            rowprints.load(bad)
    for other in (prints[::-1], prints.astype(np.int64), prints[:, None], np.array([1, 1], np.uint64)):
        with pytest.raises(ArtifactError, match="sorted numbers of 64 bits"):
            rowprints.load(rowprints.dump(other))


def test_no_pickle_is_read():
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="not row fingerprints"):
        rowprints.load(buffer.getvalue())
