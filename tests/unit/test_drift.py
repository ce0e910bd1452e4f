"""Drift: quiet without it, loud with it, and told in numbers that can be checked by hand."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from refit.batches import Outcome, Upload
from refit.contract import ColumnType
from refit.drift import (
    POINTS,
    SEASON_PROFILES,
    SPREAD,
    batches_a_year,
    compare,
    false_alarms_a_year,
    is_season,
    same_season,
    summary,
    told,
)
from refit.profile import CategoryProfile, Profile, merge
from refit.shard import Shard
from refit.tally import profile


def numbers(**columns) -> Profile:
    values = {name: np.asarray(v, float) for name, v in columns.items()}
    return profile(Shard(values, dict.fromkeys(values, ColumnType.NUMBER)))


def words(codes: np.ndarray, first: int = 0) -> Profile:
    vocabulary = [f"w{first + i}" for i in range(int(codes.max()) + 1)]
    return profile(Shard({"c": codes.astype(np.int32)}, {"c": ColumnType.CATEGORY}, {"c": vocabulary}))


def categories(nulls: int = 0, **counts: int) -> Profile:
    """A category with so many rows of each word."""
    codes = np.repeat(np.arange(-1, len(counts)), [nulls, *counts.values()]).astype(np.int32)
    return profile(Shard({"c": codes}, {"c": ColumnType.CATEGORY}, {"c": list(counts)}))


def verdict(reference: Profile, batch: Profile, column: str, **settings):
    return compare(reference, batch, [column], **settings).columns[0]


# ---------------------------------------------------------------- false alarms
@pytest.mark.parametrize("rows", [200, 5_000])
@pytest.mark.parametrize("reference", [300, 10_000])
def test_batches_without_drift_raise_no_alarm_beyond_the_budget(rows, reference):
    """One batch in 100 may: of 60 with a probability of 99.96 % at most 4 (binomial)."""
    rng = np.random.default_rng(rows + reference)

    def draw(n: int) -> Profile:
        return numbers(
            normal=rng.normal(size=n),
            skewed=rng.lognormal(0, 2, n),
            few=rng.poisson(1, n),
            holes=np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
            zeros=np.where(rng.random(n) < 0.95, 0, rng.random(n)),
            rare=rng.random(n) < 0.01,
        )

    alarms = 0
    for _ in range(60):
        before = draw(reference)
        alarms += bool(compare(before, draw(rows), list(before.columns)).drifted)
    assert alarms <= 4


@pytest.mark.parametrize("rows", [300, 3_000, 30_000])
@pytest.mark.parametrize("law", ["uniform", "zipf"])
def test_long_tailed_categories_do_not_fire(rows, law):
    """100,000 words: most words of a batch are new to the reference, and that is no drift. 1 in 100 may."""
    rng = np.random.default_rng(rows)
    shares = np.ones(100_000) if law == "uniform" else 1 / np.arange(1, 100_001)
    shares /= shares.sum()
    drifted = 0
    for _ in range(4):
        reference, batch = (words(rng.choice(100_000, n, p=shares)) for n in (20_000, rows))
        found = verdict(reference, batch, "c")
        assert found.new_share is None  # nobody knows which words a profile has left out
        drifted += found.drifted
    assert drifted <= 1  # two in four: 0.06 %


def test_a_few_rows_that_look_far_off_are_not_called_drift():
    rng = np.random.default_rng(5)
    reference = numbers(x=rng.normal(size=5_000))
    found = [verdict(reference, numbers(x=rng.normal(size=15)), "x") for _ in range(100)]
    assert sum(each.effect >= 1 for each in found) > 90  # far off they do look
    assert sum(each.drifted for each in found) <= 5  # 1 in 100; binomial, 99.95 %


# ---------------------------------------------------------------- power
def planted(rows: int, **moved) -> tuple[Profile, Profile, list[str]]:
    """A reference of ten times the rows and a batch, of 20 columns."""
    rng = np.random.default_rng(17)
    before = {f"x{i}": rng.normal(size=10 * rows) for i in range(19)}
    after = {f"x{i}": rng.normal(size=rows) for i in range(19)}
    return before, after, rng


def test_a_shift_of_a_fifth_of_a_standard_deviation_in_one_of_20_columns_is_found():
    """At 2,000 rows. The chance to miss one is below 1 in 1,000, to miss two of 20 below 1 in 5,000."""
    before, after, rng = planted(2_000)
    found = 0
    for _ in range(20):
        reference = numbers(**before, moved=rng.normal(size=20_000))
        batch = numbers(**after, moved=rng.normal(0.2, 1, 2_000))
        report = compare(reference, batch, list(reference.columns))
        found += "moved" in [column.column for column in report.drifted]
    assert found >= 19


def test_a_category_that_gains_five_points_among_20_columns_is_found():
    """From 10 % to 15 % of 2,000 rows: missed once in 100, twice in 20 in less than 2 of 100."""
    before, after, rng = planted(2_000)
    base, later = numbers(**before), numbers(**after)
    found = 0
    for _ in range(20):
        old = words(rng.choice(4, 20_000, p=[0.1, 0.4, 0.3, 0.2])).columns
        new = words(rng.choice(4, 2_000, p=[0.15, 0.38, 0.28, 0.19])).columns
        report = compare(
            Profile(20_000, {**base.columns, **old}),
            Profile(2_000, {**later.columns, **new}),
            [*base.columns, "c"],
        )
        found += "c" in [column.column for column in report.drifted]
    assert found >= 18


@pytest.mark.parametrize("rows", [5_000, 200_000])
def test_a_shift_too_small_to_matter_is_no_drift_however_sure_it_is(rows):
    """0.05 standard deviations. At 200,000 rows the test alone would call it certain."""
    rng = np.random.default_rng(1)
    found = verdict(numbers(x=rng.normal(size=200_000)), numbers(x=rng.normal(0.05, 1, rows)), "x")
    assert not found.drifted
    assert found.wasserstein == pytest.approx(0.05, abs=0.03)
    if rows == 200_000:
        assert found.p_value < 1e-30


def test_more_spread_around_the_same_mean_is_found():
    """Values must go 0.4 of a standard deviation times the mean of |z|, 0.798, on average: 0.32."""
    rng = np.random.default_rng(3)
    found = verdict(numbers(x=rng.normal(size=20_000)), numbers(x=rng.normal(0, 1.4, 5_000)), "x")
    assert found.drifted
    assert found.wasserstein == pytest.approx(0.4 * math.sqrt(2 / math.pi), abs=0.03)


def test_a_long_tail_that_changed_its_words_is_found_by_their_hashes():
    """5,000 words by Zipf's law, and in the batch the most frequent one has become twice as frequent."""
    rng = np.random.default_rng(8)
    shares = 1 / np.arange(1, 5_001)
    later = shares * np.where(np.arange(5_000) == 0, 2.0, 1.0)
    reference = words(rng.choice(5_000, 50_000, p=shares / shares.sum()))
    found = verdict(reference, words(rng.choice(5_000, 5_000, p=later / later.sum())), "c")
    assert reference.columns["c"].other > 0
    assert found.drifted
    assert found.message.startswith("c: shares moved, Jensen-Shannon distance ")


def test_more_columns_need_stronger_evidence_each():
    """The budget is for the batch: what one column alone would be called for is noise among 500."""
    reference, batch = categories(a=500, b=500), categories(a=67, b=33)
    assert verdict(reference, batch, "c").drifted
    many = {f"c{i}": reference.columns["c"] for i in range(500)}
    later = {**many, "c0": batch.columns["c"]}
    report = compare(Profile(1000, many), Profile(100, later), list(many))
    assert not report.drifted
    assert report.tests == 500
    assert report.level == pytest.approx(1 - 0.99 ** (1 / 500))


def test_columns_in_which_nothing_can_differ_use_up_none_of_the_budget():
    constant = {f"k{i}": np.ones(400) for i in range(9)}
    report = compare(
        numbers(x=np.arange(400), **constant), numbers(x=np.arange(400), **constant), ["x", *constant]
    )
    assert (report.tests, report.level) == (1, pytest.approx(0.01))


def test_the_budget_is_the_one_number_to_set():
    reference, batch = categories(a=500, b=500), categories(a=62, b=38)
    p = verdict(reference, batch, "c").p_value
    assert not verdict(reference, batch, "c", budget=p * 0.99).drifted
    assert verdict(reference, batch, "c", budget=p * 1.01).drifted


def test_the_effect_multiplies_what_is_far_enough():
    rng = np.random.default_rng(3)
    reference, batch = numbers(x=rng.normal(size=9_000)), numbers(x=rng.normal(1, 1, 9_000))
    size = verdict(reference, batch, "x").effect
    assert size == pytest.approx(1 / SPREAD, rel=0.1)
    assert verdict(reference, batch, "x", effect=size * 0.99).drifted
    assert not verdict(reference, batch, "x", effect=size * 1.01).drifted


# ---------------------------------------------------------------- effects by hand
def test_the_distance_is_in_spreads_of_the_reference():
    """0 to 100 evenly: 90 between the quantiles of 5 % and 95 %, 3.29 standard deviations. A shift of 20 is 0.731 of one."""
    ramp = np.linspace(0, 100, 5_001)
    found = verdict(numbers(x=1_000 + ramp), numbers(x=1_020 + ramp), "x")
    assert found.wasserstein == pytest.approx(20 * 3.29 / 90, rel=0.03)
    assert found.message == f"x: mean 1050 -> 1070, {found.wasserstein:.2f} of its spread"


def test_a_wild_value_is_neither_drift_nor_hides_it():
    ramp = np.linspace(0, 100, 5_001)
    wild = np.append(ramp, 1e300)
    assert not verdict(numbers(x=wild), numbers(x=ramp), "x").drifted
    assert not verdict(numbers(x=ramp), numbers(x=wild), "x").drifted
    found = verdict(numbers(x=wild), numbers(x=wild + 20), "x")
    assert found.drifted
    assert found.wasserstein == pytest.approx(20 * 3.29 / 90, rel=0.05)


def test_a_share_moves_in_units_of_its_own_spread():
    """20 % to 25 %: 0.05 of sqrt(.225 * .775) = .4176 is .1197, and .1 is far enough: 1.197 times."""
    found = verdict(categories(a=2_000, b=8_000), categories(a=2_500, b=7_500), "c")
    assert found.effect == pytest.approx(0.05 / math.sqrt(0.225 * 0.775) / SPREAD, abs=1e-4)
    assert found.share_change in (0.05, -0.05)
    yes_no = verdict(numbers(x=np.arange(10_000) < 2_000), numbers(x=np.arange(10_000) < 2_500), "x")
    assert yes_no.effect == found.effect


def test_what_is_few_of_all_rows_is_not_far():
    """From 0.1 % to 1.5 % is a lot for a word, and 1.4 points of the rows; 2 are far enough."""
    found = verdict(categories(a=100, b=99_900), categories(a=1_500, b=98_500), "c")
    assert abs(found.share_change) == 0.014 < POINTS
    assert found.p_value < 1e-100
    assert found.effect < 1
    assert not found.drifted


def test_the_index_and_the_jensen_shannon_distance_are_what_a_hand_computes():
    """500/500 against 800/200.

    Index, with half a row added to each bin: p = 500.5/1001 = .5 twice, q = 800.5/1001 and 200.5/1001; the sum of
    (q - p) ln(q/p) is .41491, less its expectation without drift (2 - 1)(1/1000 + 1/1000) = .002.
    Divergence: the entropy of .65/.35, .934068 bits, less the mean of those of .5/.5 and .8/.2, 1 and .721928; that is
    .073104, less (1/1000 + 1/1000)/(8 ln 2) = .000361: .072743, whose root is .2697.
    """
    q = 800.5 / 1001
    by_hand = (q - 0.5) * math.log(q / 0.5) + (0.5 - q) * math.log((1 - q) / 0.5) - 0.002
    assert by_hand == pytest.approx(0.41291, abs=1e-5)
    found = verdict(categories(a=500, b=500), categories(a=800, b=200), "c")
    assert found.psi == round(by_hand, 4)
    assert found.jensen_shannon == 0.2697


def test_many_shares_that_each_change_a_little_are_far_together():
    """100 words; each second one half as frequent again, the others half as frequent: 1/2 of a point each, distance .22."""
    before, after = np.repeat(np.arange(100), 100), np.repeat(np.arange(100), [150, 50] * 50)
    found = verdict(words(before), words(after), "c")
    assert abs(found.share_change) == 0.005
    assert found.drifted
    assert found.message == f"c: shares moved, Jensen-Shannon distance {found.jensen_shannon:.2f}"
    assert found.jensen_shannon == pytest.approx(0.217, abs=0.005)


@pytest.mark.parametrize(("rate", "drifted"), [(0.015, False), (0.03, True)])
def test_a_change_of_the_null_rate_is_drift_from_two_points_on(rate, drifted):
    rng = np.random.default_rng(3)
    values = rng.normal(size=10_000)
    batch = np.where(np.arange(10_000) < rate * 10_000, np.nan, rng.normal(size=10_000))
    found = verdict(numbers(x=values), numbers(x=batch), "x")
    assert found.null_change == rate
    assert found.null_p_value < 1e-20
    assert found.drifted is drifted
    assert (found.message == "x: nulls 0.0% -> 3.0%") is drifted


def test_a_column_that_went_empty_is_drift_and_one_that_no_longer_is():
    full, empty = numbers(x=np.arange(1000)), numbers(x=[np.nan] * 1000)
    assert verdict(full, empty, "x").message == "x: nulls 0.0% -> 100.0%"
    assert verdict(empty, full, "x").null_change == -1.0
    assert verdict(full, empty, "x").drifted
    assert verdict(empty, full, "x").drifted


def test_a_constant_that_changes_is_drift():
    assert verdict(numbers(x=[1.0] * 500), numbers(x=[2.0] * 500), "x").drifted
    assert not verdict(numbers(x=[1.0] * 500), numbers(x=[1.0] * 50), "x").drifted


def test_a_category_that_takes_over_is_found_and_new_ones_are_told():
    found = verdict(categories(a=800, b=200), categories(a=400, b=200, z=400), "c")
    assert found.drifted
    assert found.new_share == 0.4
    assert found.message == "c: 'z' 0.0% -> 40.0% of the rows; 40.0% of the rows in categories never seen"


def test_the_same_data_is_no_distance_at_all():
    same = numbers(x=np.arange(1000))
    found = verdict(same, same, "x")
    assert (found.effect, found.psi, found.p_value, found.null_change) == (0.0, 0.0, 1.0, 0.0)
    assert (found.drifted, found.fired) == (False, ())
    assert found.message == "x: as before"


def test_a_column_whose_type_changed_or_that_is_absent_is_not_judged():
    reference = Profile(1000, {"x": categories(a=1000).columns["c"]})
    report = compare(reference, numbers(x=np.arange(1000), more=np.arange(1000)), ["x", "more", "gone"])
    assert [column.column for column in report.columns] == ["x"]
    assert not report.drifted
    assert "its type changed" in report.columns[0].message


def test_an_empty_batch_is_no_drift():
    assert not verdict(numbers(x=np.arange(100)), numbers(x=[]), "x").drifted
    assert not verdict(numbers(x=[]), numbers(x=np.arange(100)), "x").drifted
    assert compare(numbers(x=[1]), numbers(x=[1]), []).columns == ()


# ---------------------------------------------------------------- reports
def test_the_farthest_columns_come_first_and_the_summary_keeps_them():
    rng = np.random.default_rng(2)
    base = {name: rng.normal(size=3000) for name in "abc"}
    moved = {"a": base["a"] + 0.6, "b": base["b"], "c": base["c"] + 2}
    report = compare(numbers(**base), numbers(**moved), "abc", label="a")
    assert [column.column for column in report.columns] == ["c", "a", "b"]
    short = summary(report, most=2)
    assert short["drifted"] == ["c", "a"]
    assert [(column["column"], column["kind"]) for column in short["columns"]] == [
        ("c", "feature"),
        ("a", "label"),
    ]
    assert (short["rows"], short["reference_rows"], short["season_rows"]) == (3000, 3000, 0)


def test_reports_are_json():
    report = compare(
        numbers(x=np.arange(1000), k=np.ones(1000)), numbers(x=np.arange(900), k=np.zeros(900)), "xk"
    )
    assert json.loads(json.dumps(asdict(report), allow_nan=False))["columns"][0]["column"] == "k"
    json.dumps(summary(report), allow_nan=False)
    single = compare(numbers(prediction=np.ones(300)), numbers(prediction=np.zeros(300)), ["prediction"])
    assert told(single)["drifted"]
    json.dumps(told(single), allow_nan=False)


# ---------------------------------------------------------------- seasons
RNG = np.random.default_rng(6)
WARM, COLD = RNG.normal(25, 3, 2_000), RNG.normal(5, 3, 2_000)


def test_what_is_as_a_year_ago_is_seasonal_and_no_drift():
    found = verdict(numbers(x=WARM), numbers(x=COLD), "x", season=numbers(x=COLD[::-1]))
    assert (found.fired, found.drifted, found.seasonal) == (("champion",), False, True)
    assert found.message.endswith("of its spread; but as a year ago")


def test_what_is_unlike_both_has_drifted():
    found = verdict(numbers(x=WARM), numbers(x=COLD), "x", season=numbers(x=COLD + 9))
    assert (found.fired, found.drifted, found.seasonal) == (("champion", "season"), True, False)
    assert found.message.endswith("; far from a year ago, too")


def test_what_is_unlike_a_year_ago_alone_is_told_and_no_drift():
    report = compare(numbers(x=COLD), numbers(x=COLD[::-1]), ["x"], season=numbers(x=WARM))
    (found,) = report.columns
    assert (found.fired, found.drifted, found.seasonal) == (("season",), False, False)
    assert found.message.startswith("x: near what the champion learned from, but not as a year ago (mean 2")
    assert (report.season_rows, report.drifted, report.seasonal) == (2_000, (), ())


def test_a_column_that_the_season_lacks_is_judged_by_the_champions_reference():
    both = numbers(x=COLD, y=COLD)
    found = compare(numbers(x=WARM, y=WARM), both, "xy", season=numbers(y=COLD))
    assert [column.column for column in found.drifted] == ["x"]
    assert summary(found)["seasonal"] == ["y"]


def test_what_cannot_be_compared_with_the_season_is_not_excused_by_it():
    found = verdict(
        numbers(x=WARM), numbers(x=COLD), "x", season=Profile(2_000, {"x": categories(a=2_000).columns["c"]})
    )
    assert (found.fired, found.drifted) == (("champion",), True)


def upload(batch: str, first: str, last: str = "", **changes) -> Upload:
    period = (f"{first}T00:00:00Z", f"{last or first}T23:00:00Z")
    return replace(
        Upload(batch, "m", f"incoming/m/{batch}", "v", Outcome.ACCEPTED, batch_id=batch, period=period),
        **changes,
    )


def seasonal(uploads: list[Upload], first: str, last: str) -> list[str]:
    found = same_season(uploads, "own", (f"{first}T00:00:00Z", f"{last}T23:00:00Z"))
    return [each.batch_id for each in found]


def test_the_season_is_the_batchs_own_period_a_year_before_give_or_take_two_weeks():
    months = [
        upload(f"{y}-{m:02d}", f"{y}-{m:02d}-01", f"{y}-{m:02d}-28")
        for y in (2023, 2024)
        for m in range(1, 13)
    ]
    assert seasonal(months, "2025-06-01", "2025-06-30") == ["2024-06"]
    days = [upload(f"05-{d:02d}", f"2024-05-{d:02d}") for d in range(1, 32)]
    assert seasonal(days, "2025-06-01", "2025-06-30")[0] == "05-18"
    assert seasonal(days, "2026-06-01", "2026-06-30") == []


def test_a_batch_of_many_months_has_no_season_nor_is_one_part_of_it():
    assert seasonal([upload("a", "2024-06-01")], "2025-01-01", "2025-12-31") == []
    assert seasonal([upload("a", "2022-01-01", "2024-12-31")], "2025-06-01", "2025-06-30") == []


def test_a_batch_is_not_its_own_season_and_what_has_no_time_is_none():
    own = [upload("own", "2024-06-01"), upload("timeless", "2024-06-01", period=None)]
    assert seasonal(own, "2025-06-01", "2025-06-30") == []


def test_of_many_profiles_a_bounded_number_is_read():
    hours = [upload(f"{d:02d}-{i}", f"2024-06-{d:02d}") for d in range(1, 31) for i in range(24)]
    assert 40 <= len(seasonal(hours, "2025-06-01", "2025-06-30")) <= SEASON_PROFILES


def test_a_few_rows_are_no_season():
    assert not is_season(numbers(x=np.arange(999)), numbers(x=np.arange(5000)))
    assert is_season(numbers(x=np.arange(1000)), numbers(x=np.arange(5000)))
    assert is_season(numbers(x=np.arange(50)), numbers(x=np.arange(50)))


# ---------------------------------------------------------------- what is to be expected
def test_false_alarms_a_year_are_the_budget_times_the_batches():
    daily = [upload(f"{d}", f"2024-06-{d:02d}") for d in range(1, 31)]
    assert batches_a_year(daily) == pytest.approx(365)
    assert false_alarms_a_year(365, 0.01) == pytest.approx(3.65)
    assert batches_a_year(daily[:1]) is None
    assert batches_a_year([]) is None
    timeless = [replace(each, period=None, uploaded_at=(each.period or ("",))[0]) for each in daily]
    assert batches_a_year(timeless) == pytest.approx(365)


def test_counts_by_hash_are_of_all_words_however_profiles_are_merged():
    codes = np.random.default_rng(0).integers(0, 3_000, 9_000)
    whole = words(np.append(codes, 2_999)).columns["c"]
    parts = merge([words(np.append(codes[:4_000], 2_999)), words(codes[4_000:])]).columns["c"]
    assert isinstance(parts, CategoryProfile)
    assert parts.buckets.tolist() == whole.buckets.tolist()
    assert parts.buckets.sum() == 9_001
    assert parts.other > 0
