"""Drift: quiet without it, loud with it, and told in numbers that can be checked by hand."""

import math

import numpy as np
import pytest

from refit.contract import ColumnType
from refit.drift import BINS, NULL_LIMIT, compare, summary
from refit.profile import CategoryProfile, Profile
from refit.shard import Shard
from refit.tally import profile


def numbers(**columns) -> Profile:
    values = {name: np.asarray(v, float) for name, v in columns.items()}
    return profile(Shard(values, dict.fromkeys(values, ColumnType.NUMBER)))


def categories(nulls: int = 0, other: int = 0, **counts: int) -> Profile:
    rows = sum(counts.values()) + nulls + other
    return Profile(rows, {"c": CategoryProfile(rows, nulls, counts, other, np.zeros(256, np.int64))})


def words(codes: np.ndarray) -> Profile:
    vocabulary = [f"w{i}" for i in range(int(codes.max()) + 1)]
    return profile(Shard({"c": codes.astype(np.int32)}, {"c": ColumnType.CATEGORY}, {"c": vocabulary}))


def verdict(reference: Profile, batch: Profile, column: str):
    return compare(reference, batch, [column]).columns[0]


@pytest.mark.parametrize("rows", [200, 2_000, 10_000])
def test_batches_without_drift_raise_no_alarm_beyond_the_budget(rows):
    """One batch in 100 may: of 150 that is 1.5, and with a probability of 99.6 % at most 5 (binomial)."""
    rng = np.random.default_rng(rows)

    def draw(n: int) -> Profile:
        return numbers(
            normal=rng.normal(size=n),
            skewed=rng.lognormal(0, 2, n),
            few=rng.poisson(1, n),
            holes=np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
        )

    alarms = 0
    for _ in range(3):
        reference = draw(20_000)
        alarms += sum(
            bool(compare(reference, draw(rows), list(reference.columns)).drifted) for _ in range(50)
        )
    assert alarms <= 5


@pytest.mark.parametrize("rows", [500, 5_000, 50_000])
def test_a_shift_of_half_a_standard_deviation_is_found(rows):
    """Between N(0, 1) and N(0.5, 1) the index is 0.25 in theory, less when cut into deciles."""
    rng = np.random.default_rng(rows)
    found = verdict(numbers(x=rng.normal(size=20_000)), numbers(x=rng.normal(0.5, 1, rows)), "x")
    assert found.drifted
    assert 0.15 < found.psi < 0.35
    assert found.p_value < 1e-3


@pytest.mark.parametrize("rows", [5_000, 200_000])
def test_a_shift_too_small_to_matter_is_no_drift_however_sure_it_is(rows):
    """0.1 standard deviations: an index of 0.01. At 200,000 rows the test alone would call it certain."""
    rng = np.random.default_rng(1)
    found = verdict(numbers(x=rng.normal(size=200_000)), numbers(x=rng.normal(0.1, 1, rows)), "x")
    assert not found.drifted
    assert found.psi == pytest.approx(0.01, abs=0.006)
    if rows == 200_000:
        assert found.p_value < 1e-50


def test_a_few_rows_that_look_far_off_are_not_called_drift():
    rng = np.random.default_rng(5)
    reference = numbers(x=rng.normal(size=5_000))
    alarms = sum(verdict(reference, numbers(x=rng.normal(size=15)), "x").drifted for _ in range(100))
    assert alarms <= 4  # at 1 in 100; binomial, 99.6 %


@pytest.mark.parametrize("rows", [300, 3_000])
def test_long_tailed_categories_do_not_fire(rows):
    """2000 words by Zipf's law: each batch has words that the reference has not, and that is no drift."""
    rng = np.random.default_rng(rows)
    shares = 1 / np.arange(1, 2001)
    shares /= shares.sum()
    reference = words(rng.choice(2000, 20_000, p=shares))
    found = [verdict(reference, words(rng.choice(2000, rows, p=shares)), "c") for _ in range(60)]
    assert sum(each.drifted for each in found) <= 3  # 1 in 100; binomial, 99.7 %


def test_a_category_that_takes_over_is_found_and_new_ones_are_told():
    found = verdict(categories(a=800, b=200), categories(a=400, b=200, z=400), "c")
    assert found.drifted
    assert found.new_share == 0.4
    assert "40.0% of the rows in categories never seen" in found.message


def test_new_categories_are_not_claimed_where_the_reference_forgot_some():
    assert verdict(categories(a=800, other=200), categories(a=700, z=300), "c").new_share == 0.0


@pytest.mark.parametrize(("rate", "drifted"), [(0.02, False), (0.09, True)])
def test_a_change_of_the_null_rate_is_drift_from_five_points_on(rate, drifted):
    rng = np.random.default_rng(3)
    values = rng.normal(size=10_000)
    batch = np.where(np.arange(10_000) < rate * 10_000, np.nan, rng.normal(size=10_000))
    found = verdict(numbers(x=values), numbers(x=batch), "x")
    assert NULL_LIMIT == 0.05
    assert found.null_change == rate
    assert found.drifted is drifted
    assert ("nulls 0.0% -> 9.0%" in found.message) is drifted


def test_a_column_that_went_empty_is_drift():
    found = verdict(numbers(x=np.arange(1000)), numbers(x=[np.nan] * 1000), "x")
    assert found.drifted
    assert found.null_change == 1.0


def test_a_column_that_was_empty_and_no_longer_is_is_drift():
    found = verdict(numbers(x=[np.nan] * 1000), numbers(x=np.arange(1000)), "x")
    assert found.drifted
    assert found.null_change == -1.0


def test_the_index_is_what_a_hand_computes():
    """500/500 against 800/200, with half a row added to each bin.

    p = 500.5/1001 = .5 twice, q = 800.5/1001 and 200.5/1001; the sum of (q - p) ln(q/p) is .41491,
    less its expectation without drift (2 - 1)(1/1000 + 1/1000) = .002.
    """
    q = 800.5 / 1001
    by_hand = (q - 0.5) * math.log(q / 0.5) + (0.5 - q) * math.log((1 - q) / 0.5) - 0.002
    assert by_hand == pytest.approx(0.41291, abs=1e-5)
    found = verdict(categories(a=500, b=500), categories(a=800, b=200), "c")
    assert found.psi == round(by_hand, 4)


def test_the_p_value_is_that_of_the_chi_square_test():
    """60/40 against 40/60 of 100 each: chi-square 8 on one degree of freedom, p = .004678 (tables)."""
    found = verdict(categories(a=60, b=40), categories(a=40, b=60), "c")
    assert found.p_value == pytest.approx(0.004678, rel=0.05)


def test_the_same_data_is_no_distance_at_all():
    same = numbers(x=np.arange(1000))
    found = verdict(same, same, "x")
    assert (found.psi, found.p_value, found.null_change, found.drifted) == (0.0, 1.0, 0.0, False)
    assert found.message == "x: as before"


def test_a_constant_that_changes_is_drift():
    assert verdict(numbers(x=[1.0] * 500), numbers(x=[2.0] * 500), "x").drifted
    assert not verdict(numbers(x=[1.0] * 500), numbers(x=[1.0] * 50), "x").drifted


def test_a_message_tells_how_far_and_which_way():
    ramp = np.linspace(-3, 3, 1001)
    found = verdict(numbers(x=10 + ramp), numbers(x=12 + ramp), "x")
    assert found.message.startswith("x: distribution moved, PSI ")
    assert found.message.endswith(f", mean {10.0:.4g} -> {12.0:.4g}")


def test_a_column_whose_type_changed_or_that_is_absent_is_not_judged():
    reference = Profile(1000, {"x": CategoryProfile(1000, 0, {"a": 1000}, 0, np.zeros(256, np.int64))})
    report = compare(reference, numbers(x=np.arange(1000), more=np.arange(1000)), ["x", "more", "gone"])
    assert [column.column for column in report.columns] == ["x"]
    assert not report.drifted
    assert "its type changed" in report.columns[0].message


def test_more_columns_need_stronger_evidence_each():
    """The budget is for the batch: what one column alone would be called for is noise among 500."""
    reference, batch = categories(a=500, b=500), categories(a=70, b=30)
    assert verdict(reference, batch, "c").drifted
    many = {f"c{i}": reference.columns["c"] for i in range(500)}
    later = {**many, "c0": batch.columns["c"]}
    assert not compare(Profile(1000, many), Profile(100, later), list(many)).drifted


def test_the_farthest_columns_come_first_and_the_summary_keeps_them():
    rng = np.random.default_rng(2)
    base = {name: rng.normal(size=3000) for name in "abc"}
    moved = {"a": base["a"] + 0.6, "b": base["b"], "c": base["c"] + 2}
    report = compare(numbers(**base), numbers(**moved), "abc")
    assert [column.column for column in report.columns] == ["c", "a", "b"]
    short = summary(report, most=2)
    assert short["drifted"] == ["c", "a"]
    assert [column["column"] for column in short["columns"]] == ["c", "a"]
    assert (short["rows"], short["reference_rows"]) == (3000, 3000)


def test_an_empty_batch_is_no_drift():
    assert not verdict(numbers(x=np.arange(100)), numbers(x=[]), "x").drifted
    assert not verdict(numbers(x=[]), numbers(x=np.arange(100)), "x").drifted
    assert BINS == 10
