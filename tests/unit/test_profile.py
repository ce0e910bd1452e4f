"""Profiles: what is remembered of a batch, and that merging loses nothing."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refit.contract import ColumnType
from refit.errors import ArtifactError
from refit.profile import (
    MAX_BINS,
    MAX_CATEGORIES,
    CategoryProfile,
    NumberProfile,
    Profile,
    Sketch,
    aligned,
    from_json,
    iso,
    merge,
    to_json,
)
from refit.shard import NAT, Shard, packed
from refit.tally import CategoryTally, NumberTally, profile

TYPES = {"x": ColumnType.NUMBER, "c": ColumnType.CATEGORY, "at": ColumnType.TIMESTAMP}
WORDS = ["a", "b", "c", "d"]


def shard(x, c, at) -> Shard:
    columns = {"x": np.array(x, float), "c": np.array(c, np.int32), "at": np.array(at, np.int64)}
    return Shard(columns, TYPES, {"c": WORDS})


def sketch(values) -> Sketch:
    tally = NumberTally()
    values = np.asarray(values, float)
    tally.add(values, values.min(), values.max())
    return tally.profile(len(values)).sketch


def categories(rows, nulls, counts, other=0) -> CategoryProfile:
    tally, rest = CategoryTally(), np.zeros(256, np.int64)
    numbers = np.array(list(counts.values()), np.int64)
    tally.add(*packed(list(counts)), numbers, numbers)
    made, rest[0] = tally.profile(rows), other
    return CategoryProfile(rows, nulls, made.counts, other, made.buckets + rest, made.distinct)


def exact(value: Profile) -> dict:
    """All of a profile but mean and m2, which are sums of floats."""
    document = to_json(value)
    for column in document["columns"].values():
        column.pop("mean", None)
        column.pop("m2", None)
    return document


def test_a_profile_counts_what_is_there():
    """Of 2, 4, 4, 6: mean 4, squared deviations 4 + 0 + 0 + 4."""
    day = 86_400 * 10**9
    found = profile(shard([2, 4, 4, 6, np.nan], [0, 0, 2, -1, -1], [0, 3 * day, NAT, day, -day]), time="at")
    x, c = found.columns["x"], found.columns["c"]
    assert (x.rows, x.nulls, x.mean, x.m2, x.min, x.max) == (5, 1, 4.0, 8.0, 2.0, 6.0)
    assert x.sketch.counts.tolist() == [1, 2, 1]
    assert (c.rows, c.nulls, c.counts, c.other) == (5, 2, {"a": 2, "c": 1}, 0)
    assert c.buckets.sum() == 3
    assert (x.distinct.estimate(), c.distinct.estimate()) == (3, 2)
    assert found.period == ("1969-12-31T00:00:00Z", "1970-01-04T00:00:00Z")
    assert set(found.columns) == {"x", "c"}, "a timestamp has a period, no distribution"


def test_an_empty_column_has_a_profile_too():
    found = profile(shard([np.nan], [-1], [NAT]), time="at")
    assert (found.columns["x"].nulls, found.columns["x"].mean, found.columns["x"].m2) == (1, 0.0, 0.0)
    assert found.period is None
    assert from_json(json.loads(json.dumps(to_json(found), allow_nan=False))).columns["x"].min == np.inf


def test_times_are_told_to_the_second_in_utc():
    assert iso(1_711_886_400 * 10**9 + 999_999_999) == "2024-03-31T12:00:00Z"


FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100)
ROW = st.tuples(
    FINITE | st.just(np.nan) | st.sampled_from([0.0, -0.0, 1.0]), st.integers(-1, 3), st.integers(NAT, 10**18)
)


@settings(deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    data=st.data(),
)
def test_merging_any_split_in_any_order_gives_the_profile_of_the_whole(rows, cuts, data):
    x, c, at = zip(*rows, strict=True)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [profile(shard(x[a:b], c[a:b], at[a:b]), "at") for a, b in pairwise(edges)]
    whole, joined = profile(shard(x, c, at), "at"), merge(data.draw(st.permutations(parts)))
    assert exact(joined) == exact(whole)
    present = np.array([value for value in x if value == value])
    scale = max(1.0, np.abs(present).max()) if len(present) else 1.0
    assert joined.columns["x"].mean == pytest.approx(whole.columns["x"].mean, abs=1e-9 * scale)
    assert joined.columns["x"].m2 == pytest.approx(whole.columns["x"].m2, rel=1e-6, abs=1e-9 * scale**2)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([1e-3, 1.0, 1e6]),
    cut=st.integers(1, 2299),
    skew=st.booleans(),
)
def test_sketches_that_had_to_coarsen_merge_as_exactly(seed, spread, cut, skew):
    """3000 distinct values do not fit into 512 bins; parts coarsen to different widths on the way."""
    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 3, 3000) * spread if skew else rng.normal(0, spread, 3000)
    whole = sketch(values)
    a, b, c = (sketch(part) for part in np.split(values, [cut, cut + 700]))
    for joined in (a.merged(b).merged(c), c.merged(a.merged(b)), b.merged(c).merged(a)):
        assert joined.shift == whole.shift
        assert joined.keys.tolist() == whole.keys.tolist()
        assert joined.counts.tolist() == whole.counts.tolist()
    assert len(whole.keys) <= MAX_BINS
    assert whole.counts.sum() == 3000


LARGE = {
    "few whole numbers": lambda rng, n: rng.integers(-3, 4, n),
    "mostly zeros": lambda rng, n: rng.integers(-300, 2, n).clip(0),
    "both signs": lambda rng, n: rng.normal(0, 1, n),
    "wide": lambda rng, n: rng.normal(0, 1, n) * 10.0 ** rng.integers(-150, 120, n),
    "whole numbers that grow": lambda rng, n: (rng.random(n) * 2.0 ** np.linspace(1, 40, n)).astype(int) - 3,
    "late and small": lambda rng, n: np.where(np.arange(n) < n - 5, rng.integers(0, 9, n), 1e-9),
    "a level with gaps": lambda rng, n: np.where(rng.random(n) < 0.1, 0, rng.normal(1013, 7, n)),
    "whole numbers below zero": lambda rng, n: rng.integers(-40, 3, n) - (np.arange(n) > 2e5) * 30_000,
    "two labels": lambda rng, n: (rng.random(n) < 0.3).astype(int),
    "negative": lambda rng, n: -rng.lognormal(0, 1, n),
    "rising": lambda rng, n: 1e9 + np.arange(float(n)),
    "one value": lambda rng, n: np.full(n, 0.1),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_is_counted_of_many_rows_is_what_numpy_counts(kind):
    """Beyond one block and one piece: moments, extremes, every bin, the number of values, quantiles within a bin."""
    values = np.asarray(LARGE[kind](np.random.default_rng(3), 300_000), float)
    tally = NumberTally()
    for part in np.split(values, [10, 40_000, 200_000]):
        tally.add(part, part.min(), part.max())
    found = tally.profile(len(values))
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9 * np.abs(values).max())
    assert found.m2 == pytest.approx(np.square(values - values.mean()).sum(), rel=1e-9, abs=1e-9)
    lower, upper = found.sketch.edges()
    assert 0 < len(lower) <= MAX_BINS
    for low, high, count in zip(lower, upper, found.sketch.counts, strict=True):
        if low < 0:  # the outer edge belongs to the next bin
            assert count == np.count_nonzero((values > low) & (values <= high))
        else:
            assert count == np.count_nonzero((values >= low) & (values < high)) or low == high == 0
    assert found.sketch.counts.sum() == len(values)
    assert found.sketch.counts[found.sketch.keys == 0].sum() == np.count_nonzero(values == 0)
    distinct = len(np.unique(values))
    assert found.distinct.estimate() == pytest.approx(distinct, rel=0 if distinct < 256 else 0.25)
    for share in (0.01, 0.25, 0.5, 0.9, 0.999):
        true = np.quantile(values, share, method="inverted_cdf")
        width = 2.0 ** (found.sketch.shift - 52)
        assert abs(found.sketch.quantile(share) - true) <= width * abs(true)
    whole = NumberTally(whole=bool(np.all(values == np.floor(values))))
    for part in np.split(values, [10, 40_000, 200_000]):
        whole.add(part, part.min(), part.max())
    again = whole.profile(len(values))
    assert again.mean == pytest.approx(found.mean, rel=1e-9)
    assert again.m2 == pytest.approx(found.m2, rel=1e-9, abs=1e-9)
    assert again.sketch.keys.tolist() == found.sketch.keys.tolist()
    assert again.sketch.counts.tolist() == found.sketch.counts.tolist()
    assert again.distinct.hashes.tolist() == found.distinct.hashes.tolist()


def test_two_sketches_are_laid_on_common_bins():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 5000), rng.lognormal(2, 2, 300)
    lower, upper, of_a, of_b = aligned(sketch(a), sketch(b))
    assert (of_a.sum(), of_b.sum()) == (5000, 300)
    assert np.all(lower[1:] >= upper[:-1])
    for place in range(0, len(lower), 7):
        low, high = lower[place], upper[place]
        inside = [(v > low) & (v <= high) if low < 0 else (v >= low) & (v < high) for v in (a, b)]
        assert [np.count_nonzero(each) for each in inside] == [of_a[place], of_b[place]]
    empty = aligned(sketch(a), NumberTally().profile(0).sketch)
    assert (empty[2].sum(), empty[3].sum()) == (5000, 0)


def test_the_bins_of_a_narrow_column_stay_narrow_beside_zeros():
    values = np.where(np.arange(10_000) % 10 == 0, 0.0, np.random.default_rng(0).normal(1013, 7, 10_000))
    lower, upper = sketch(values).edges()
    assert np.median((upper - lower)[lower > 0]) < 0.1


@pytest.mark.parametrize("n", [1, 100, 255, 1000, 50_000])
@pytest.mark.parametrize(
    "make",
    [lambda i: i, lambda i: i / 10, lambda i: i * 1e6, lambda i: -np.exp(i / 1e4), lambda i: i * 86400e9],
)
def test_the_number_of_values_is_estimated_within_its_error(n, make):
    """Four standard errors of 6 %, and exact while there are few; regular values must not fool the hash."""
    values = make(np.arange(1.0, n + 1))
    tally = NumberTally()
    for _ in range(2):
        tally.add(values, values.min(), values.max())
    assert tally.profile(2 * n).distinct.estimate() == pytest.approx(n, rel=0.25 if n > 255 else 0)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("others", [[], [1.5], list(np.arange(1.0, 400.0) / 7)])
def test_zero_is_one_value_whatever_its_sign_and_however_often_it_comes(others, whole):
    """The smallest of all hashes is its own, so it is one of those that are kept."""
    zeros = np.tile([0.0, -0.0], 40_000)
    values = np.concatenate([zeros, [] if whole else others, zeros])
    tally, bare = NumberTally(whole), NumberTally()
    tally.add(values, values.min(), values.max())
    bare.add(np.append(values[80_000:], 0.0), values.min(), values.max())
    found = tally.profile(len(values)).distinct
    assert found.hashes[0] == 0
    assert found.hashes.tolist() == bare.profile(len(values)).distinct.hashes.tolist()
    if whole or len(others) < 2:
        assert found.estimate() == 1 + (0 if whole else len(others))


def test_a_profile_of_another_format_says_what_to_do():
    with pytest.raises(ArtifactError, match="profile format 3 is not 1; deploy matching code"):
        from_json(to_json(profile(shard([1.0], [0], [0]))) | {"format": 3})


def test_a_sketch_keeps_the_order_of_numbers_across_zero():
    values = np.array([-1e300, -1.0, -1e-300, 0.0, 1e-300, 1.0, 1e300])
    keys = [int(sketch(values[i : i + 1]).keys[0]) for i in range(len(values))]
    assert keys == sorted(set(keys))
    assert sketch(np.array([0.0, -0.0])).counts.tolist() == [2]


def test_numbers_that_lie_close_together_keep_bins_of_their_own():
    """A sensor around 1013 hPa with steps of 0.1: relative bins of a coarse sketch would swallow them."""
    assert len(sketch(np.arange(10_000, 10_400) / 10).keys) == 400


def test_beyond_the_limit_the_most_frequent_categories_are_kept_and_the_rest_is_counted():
    words = [f"w{i:05d}" for i in range(MAX_CATEGORIES + 5)]
    codes = np.concatenate([np.arange(len(words)), [len(words) - 1]]).astype(np.int32)
    found = profile(Shard({"c": codes}, {"c": ColumnType.CATEGORY}, {"c": words})).columns["c"]
    assert (len(found.counts), found.other) == (MAX_CATEGORIES, 5)
    assert found.counts[words[-1]] == 2, "more frequent than the others, though last in order"
    assert sum(found.counts.values()) + found.other == found.rows == MAX_CATEGORIES + 6


def test_what_was_counted_as_other_stays_counted_in_a_merge():
    a, b = categories(10, 1, {"a": 4}, 5), categories(3, 0, {"a": 1, "b": 1}, 1)
    joined = a.merged(b)
    assert (joined.rows, joined.nulls, joined.counts, joined.other) == (13, 1, {"a": 5, "b": 1}, 6)
    assert joined.buckets.sum() == 12


def test_columns_that_only_one_side_has_or_whose_kind_changed_are_left_out():
    number = profile(shard([1.0], [0], [0]))
    other = Profile(2, {"x": categories(2, 0, {"a": 2})}, ("2024", "2025"))
    joined = number.merged(other)
    assert (joined.rows, dict(joined.columns), joined.period) == (3, {}, ("2024", "2025"))


@given(st.lists(st.floats(allow_infinity=False) | FINITE, min_size=1, max_size=20))
def test_a_profile_survives_strict_json_however_large_its_numbers(values):
    """JSON knows no infinity, and the squares of numbers beyond 1e154 are infinite."""
    n = len(values)
    given_profile = profile(shard(values, np.arange(n) % 4 - 1, np.arange(n)), "at")
    back = from_json(json.loads(json.dumps(to_json(given_profile), allow_nan=False)))
    assert to_json(back) == to_json(given_profile)
    assert isinstance(back.columns["x"], NumberProfile)
    assert to_json(back.merged(given_profile)) == to_json(given_profile.merged(given_profile))
