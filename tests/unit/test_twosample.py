"""The tests' p-values: against scipy, against enumeration, and at the level that they promise, far in the tail."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from refit.twosample import (
    FEWEST,
    GROUPS,
    cell_test,
    gamma_tail,
    grouped,
    homogeneity_test,
    normal_tail,
    rank_test,
    share_test,
    sidak,
)


def counts(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


@pytest.mark.parametrize("shape", [0.5, 2, 7.5, 40, 127.5, 500])
@pytest.mark.parametrize("times", [0.3, 0.9, 1, 1.3, 2, 4])
def test_the_gamma_tail_is_that_of_scipy(shape, times):
    x = shape * times
    assert gamma_tail(shape, x) == pytest.approx(stats.gamma.sf(x, shape), rel=1e-9, abs=1e-14)


def test_tails_at_their_ends():
    assert gamma_tail(3, 0) == gamma_tail(3, -1) == 1.0
    assert normal_tail(0) == 0.5
    assert normal_tail(6) == pytest.approx(stats.norm.sf(6), rel=1e-12)
    assert sidak(0.5, 2) == 0.75
    assert sidak(1e-20, 3) == pytest.approx(3e-20)
    assert sidak(1.0, 5) == 1.0


@pytest.mark.parametrize(
    ("a", "n", "b", "m"),
    [
        (2, 1_800, 9, 200),
        (0, 2_000, 20, 200),
        (100, 10_000, 150, 10_000),
        (300_000, 1_000_000, 303_000, 1_000_000),
        (50, 200, 20, 200),
        (5, 100, 0, 100),
        (1_990, 2_000, 1_000, 1_100),
    ],
)
def test_shares_are_compared_as_scipy_does_by_the_hypergeometric_distribution(a, n, b, m):
    """Twice the smaller tail, in which what was seen itself counts half."""
    drawn = stats.hypergeom(n + m, a + b, m)
    tail = min(drawn.sf(b - 1), drawn.cdf(b)) - drawn.pmf(b) / 2
    assert share_test(a, n, b, m) == pytest.approx(min(1, 2 * tail), rel=1e-6)


def test_a_share_by_hand():
    """3 of 3 against 0 of 3: one of 20 ways to deal, counted half and for both sides: 2 * (1/20)/2."""
    assert share_test(0, 3, 3, 3) == pytest.approx(1 / 20)
    assert share_test(3, 3, 0, 3) == pytest.approx(1 / 20)


@pytest.mark.parametrize("case", [(0, 10, 0, 10), (10, 10, 20, 20), (0, 0, 1, 2), (1, 2, 0, 0)])
def test_where_nothing_can_differ_nothing_does(case):
    assert share_test(*case) == 1.0


def deal(before: np.ndarray, after: np.ndarray):
    """Each way to deal the rows of both into samples of these sizes, and its chance."""
    both, m = (before + after).astype(int), int(after.sum())
    for drawn in itertools.product(*(range(count + 1) for count in both)):
        if sum(drawn) == m:
            ways = math.prod(math.comb(int(c), d) for c, d in zip(both, drawn, strict=True))
            yield np.array(drawn, float), ways / math.comb(int(both.sum()), m)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (counts(14, 9, 6, 3, 0), counts(2, 3, 5, 7, 8)),  # ties, skewed
        (counts(36, 1, 1, 1, 1), counts(6, 1, 1, 2, 2)),  # nearly all in one bin
        (counts(0, 1, 2, 8, 9), counts(7, 6, 3, 2, 2)),
    ],
)
def test_the_rank_test_is_near_the_enumerated_permutation_distribution(before, after):
    """Within a third, here with 20 to 52 rows; the rank sums of both sides are as far from their mean as seen."""
    both = before + after
    score = np.cumsum(both) - both / 2 - both.sum() / 2
    seen = float(after @ score)
    exact = sum(
        chance * (1 if abs(float(drawn @ score)) > abs(seen) + 1e-9 else 0.5)
        for drawn, chance in deal(before, after)
        if float(drawn @ score) * np.sign(seen) >= abs(seen) - 1e-9
    )
    assert rank_test(before, after) == pytest.approx(2 * exact, rel=0.35)
    assert exact < 0.02


def test_the_rank_test_is_that_of_mann_and_whitney_where_nothing_is_tied():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.normal(0.9, 1, 30)
    ordered = np.sort(np.concatenate([x, y]))
    ours = rank_test(np.isin(ordered, x).astype(float), np.isin(ordered, y).astype(float))
    theirs = stats.mannwhitneyu(x, y, method="exact").pvalue
    assert theirs < 1e-3
    assert ours == pytest.approx(theirs, rel=0.06)


def test_samples_that_do_not_overlap_are_as_unlikely_as_dealing_them_so():
    """Two of choose(200, 100) ways: 2.2e-59; the approximation may be off by a few powers of ten there."""
    before, after = counts(50, 50, 0, 0), counts(0, 0, 50, 50)
    assert 1e-64 < rank_test(before, after) < 1e-56
    assert rank_test(after, before) == pytest.approx(rank_test(before, after))


def test_homogeneity_is_the_chi_square_test_where_all_is_large():
    """60,000/40,000 against 59,400/40,600 of each: chi-square 7.48 on one degree of freedom."""
    before, after = counts(60_000, 40_000, 90_000), counts(59_400, 40_600, 90_500)
    statistic = stats.chi2_contingency(np.array([before, after]), correction=False)
    assert homogeneity_test(before, after) == pytest.approx(statistic.pvalue, rel=0.01)


@pytest.mark.parametrize("rows", [10**6, 10**10])
def test_samples_may_be_of_any_size_and_of_integers(rows):
    """Twice the same shares is no finding; a point more of ten, at a million rows, is beyond all doubt."""
    before, after = np.array([6, 3, 1]) * (rows // 10), np.array([59, 31, 10]) * (rows // 100)
    for test in (homogeneity_test, rank_test):
        assert test(before, before) == pytest.approx(1.0, abs=1e-4)
        assert test(before, after) < 1e-30
    share = share_test(int(before[0]), rows, int(after[0]), rows)
    assert share < 1e-30


def test_too_little_to_compare_is_no_finding():
    assert homogeneity_test(counts(5), counts(7)) == 1.0
    assert homogeneity_test(counts(5, 5), counts(0, 0)) == 1.0
    assert rank_test(counts(5, 0), counts(5, 0)) == 1.0
    assert rank_test(counts(5, 5), counts(0, 0)) == 1.0
    assert cell_test(counts(5, 5), counts(5, 5), np.array([False, False])) == 1.0


@pytest.mark.parametrize(
    ("n", "m", "shares"),
    [
        (200, 200, [1] * 13),
        (10_000, 200, [1] * 13),
        (10_000, 200, [8, 1, 1]),
        (2_000, 2_000, [40, 20, 10, 5, 1]),
        (50_000, 4_000, [1] * 256),
    ],
)
def test_homogeneity_keeps_its_level(n, m, shares):
    """Tables without a difference: the share below 1e-2 and 1e-3 is that, within 5 standard errors and a fifth."""
    both = np.round((n + m) * np.array(shares, float) / sum(shares)).astype(int)
    rng = np.random.default_rng(11)
    draws = 8_000 if len(shares) < 100 else 3_000
    drawn = rng.multivariate_hypergeometric(both, m, size=draws, method="marginals").astype(float)
    found = np.array([homogeneity_test(both - each, each) for each in drawn])
    for level in (1e-2, 1e-3):
        error = 5 * math.sqrt(level / draws)
        assert abs((found < level).mean() - level) < error + 0.2 * level


def test_the_smallest_of_many_cells_is_corrected_for_their_number():
    before, after = np.full(50, 400.0), np.full(50, 40.0)
    after[7] += 30
    among = np.ones(50, bool)
    alone = share_test(400, 20_000, 70, 2_030)
    assert cell_test(before, after, among) == pytest.approx(sidak(alone, 50))
    assert cell_test(before, after, np.arange(50) < 10) == pytest.approx(sidak(alone, 10))


@pytest.mark.parametrize("most", [GROUPS, 10**9])
def test_groups_are_filled_and_lose_no_row(most):
    rng = np.random.default_rng(4)
    for _ in range(50):
        before = rng.poisson(rng.lognormal(1, 2, 300)).astype(float)
        after = rng.poisson(rng.lognormal(0, 2, 300)).astype(float)
        a, b = grouped(before, after, most)
        assert (a.sum(), b.sum()) == (before.sum(), after.sum())
        share = min(a.sum(), b.sum()) / (a.sum() + b.sum())
        assert len(a) == 1 or ((a + b) * share).min() >= FEWEST - 1e-9
        assert len(a) <= most


def test_groups_by_hand():
    """100 rows of each: 15 expected in the smaller sample are 30 of both."""
    a, b = grouped(counts(10, 10, 20, 60), counts(10, 10, 20, 60))
    assert a.tolist() == b.tolist() == [20, 20, 60]
    assert [len(each) for each in grouped(counts(1, 2), counts(0, 0))] == [0, 0]
