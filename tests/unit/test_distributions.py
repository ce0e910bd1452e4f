"""What is drawn of a column before and now."""

import numpy as np
import pytest

from refit.contract import ColumnType
from refit.distributions import BINS, MOST_CATEGORIES, beside
from refit.shard import Shard
from refit.tally import profile


def numbers(values):
    values = np.array(values, float)
    return profile(Shard({"x": values}, {"x": ColumnType.NUMBER}, {})).columns["x"]


def words(*values):
    vocabulary = tuple(sorted(set(values) - {None}))
    codes = np.array([-1 if each is None else vocabulary.index(each) for each in values], np.int32)
    return profile(Shard({"x": codes}, {"x": ColumnType.CATEGORY}, {"x": vocabulary})).columns["x"]


def test_few_values_are_drawn_one_by_one():
    found = beside(numbers([0, 0, 0, 1]), numbers([1, 1, -3, np.nan]))
    assert (found["drawn"], found["names"]) == ("values", ["-3", "0", "1"])
    assert found["reference"] == [0, 75, 25]
    assert found["batch"] == pytest.approx([100 / 3, 0, 200 / 3])
    assert found["nulls"] == [0, 25]


def test_many_values_are_drawn_as_ranges_that_leave_out_the_farthest():
    even = np.arange(1000.0)
    found = beside(numbers(even), numbers([*even, *even, 1e12]))
    edges = found["edges"]
    assert len(edges) == BINS + 1
    assert 0 <= edges[0] < 20 and 980 < edges[-1] < 1010
    assert found["reference"] == pytest.approx([100 / BINS] * BINS, abs=0.6)
    assert found["batch"] == pytest.approx(found["reference"], abs=0.2)
    assert sum(found["batch"]) + found["outside"][1] == pytest.approx(100)


def test_what_is_drawn_as_now_is_the_batch():
    found = beside(numbers(np.arange(1000.0)), numbers(np.arange(500.0, 1000)))
    assert found["batch"][: BINS // 2 - 1] == [0] * (BINS // 2 - 1)
    assert min(found["reference"]) > 3


def test_rare_categories_are_drawn_together():
    names = [f"c{i:02}" for i in range(30)]
    found = beside(words(*names * 2, "c00"), words(*names, *["new"] * 30))
    assert found["names"][0] == "new"
    assert len(found["names"]) == MOST_CATEGORIES + 1
    assert found["names"][-1] == "all 22 others"
    assert (found["reference"][0], found["batch"][0]) == (0, 50)
    assert sum(found["reference"]) == pytest.approx(100) == sum(found["batch"])


def test_nothing_is_drawn_of_nothing_nor_of_two_kinds():
    assert beside(numbers([1, 2]), numbers([np.nan])) is None
    assert beside(words("a"), words(None)) is None
    assert beside(numbers([1]), words("a")) is None
