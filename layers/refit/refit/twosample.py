"""Two-sample tests on counts: did two samples come from one distribution?

Each takes the counts of both samples in the same bins, float or int arrays of
shape (bins,), and gives a p-value that holds far out in the tail, where a
budget shared by many columns lies: 1e-4, 1e-6. All are permutation tests: given the
rows of both together, every way of dealing them out is as likely as any other
when nothing changed. So neither sample is taken for the truth, however small it is.

numpy and math alone: scipy.stats would cost a cold start 0.7 s. The functions
are held against scipy and against exact enumeration in tests/unit/test_twosample.py.
"""

from __future__ import annotations

import math

import numpy as np

FEWEST = 15  # rows expected in a bin of the smaller sample; with fewer, bins share a group
GROUPS = 16  # of ordered bins; more would see finer changes, and the coarse ones less


def normal_tail(z: float) -> float:
    """P(Z >= z) of the standard normal distribution."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def gamma_tail(shape: float, x: float) -> float:
    """P(X >= x) of the gamma distribution of scale 1, to 1e-10 of the value.

    Series below the mean, Lentz's continued fraction above it (Abramowitz, Stegun: 6.5.29, 6.5.31).
    """
    if x <= 0:
        return 1.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        k = shape
        while term > total * 1e-16:
            k += 1
            term *= x / k
            total += term
        return max(0.0, 1 - front * total)
    tiny = 1e-300
    b = x + 1 - shape
    c, d = 1 / tiny, 1 / b
    value = d
    for i in range(1, 100_000):
        a = i * (shape - i)
        b += 2
        d = 1 / (a * d + b or tiny)
        c = b + a / c or tiny
        step = c * d
        value *= step
        if abs(step - 1) < 1e-15:
            break
    return front * value


def sidak(p: float, tests: int) -> float:
    """Chance that the smallest of so many independent p-values is at most p."""
    return 1.0 if p >= 1 else -math.expm1(tests * math.log1p(-p))


def share_test(a: int, n: int, b: int, m: int) -> float:
    """Two-sided p-value of a of n rows against b of m, by the hypergeometric distribution as in Fisher's exact test.

    Twice the smaller tail, of what was seen itself only half (Lancaster's mid-p): with all of it, rare events would
    use up a part of the budget that they can never spend. Rounding of log-gamma: 1e-6 of the value at a billion rows.
    """
    total, marked = n + m, a + b
    if not n or not m or not marked or marked == total:
        return 1.0
    # The tail on the side on which b lies, summed away from the mean: from b, each term is smaller than the last.
    if b * total < m * marked:
        b, marked = m - b, total - marked
    return min(1.0, 2 * _hypergeometric_tail(b, m, marked, total))


def _hypergeometric_tail(x: int, m: int, marked: int, total: int) -> float:
    """P(X > x) + P(X = x) / 2 for x at or above the mean, X marked ones among m rows drawn from `total`."""
    top = min(m, marked)
    first = math.exp(_choose(marked, x) + _choose(total - marked, m - x) - _choose(total, m))
    tail, scale, at = 0.5, 1.0, x
    while at < top:
        i = np.arange(at, min(top, at + 4096), dtype=float)
        ratios = (marked - i) * (m - i) / ((i + 1) * (total - marked - m + i + 1))
        terms = scale * np.cumprod(ratios)
        tail += float(terms.sum())
        scale, at = float(terms[-1]), at + len(i)
        if scale < tail * 1e-17:
            break
    return min(1.0, first * tail)


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def rank_test(before: np.ndarray, after: np.ndarray) -> float:
    """Two-sided p-value that one sample lies lower than the other: Wilcoxon's rank sum with ties.

    Bins are in value order. The tail is a double saddlepoint approximation of the permutation distribution
    (Skovgaard: Saddlepoint expansions for conditional distributions, 1987), within a third of the value for a
    few dozen rows and near it for more, however skewed the ties make it.
    """
    both = before + after
    n, m = float(before.sum()), float(after.sum())
    total = n + m
    used = both > 0
    if not n or not m or used.sum() < 2:
        return 1.0
    both, drawn = both[used], after[used]
    score = (np.cumsum(both) - both / 2) / total - 0.5  # mid-ranks, their mean is 0
    score /= math.sqrt(float(np.sum(both * score**2)) / total)
    t = float(np.sum(drawn * score))
    if t < 0:
        t, score = -t, -score
    z = t / math.sqrt(m * n / (total - 1))
    if z < 1:  # far from being a finding
        return 2 * normal_tail(z)
    return min(1.0, 2 * _drawn_tail(score, both, m, t))


def _drawn_tail(score: np.ndarray, both: np.ndarray, m: float, t: float) -> float:
    """P(sum of scores of m rows drawn from `both` >= t)."""
    total = float(both.sum())
    n = total - m
    s, u = t * total / (m * n), math.log(m / n)

    def height(s: float, u: float) -> float:
        return float(np.sum(both * np.logaddexp(0, u + s * score))) - s * t - u * m

    at = height(s, u)
    for _ in range(60):
        q = 1 / (1 + np.exp(-np.clip(u + s * score, -700, 700)))
        weight = both * q * (1 - q)
        slope = np.array([np.sum(both * q * score) - t, np.sum(both * q) - m])
        ss, su, uu = np.sum(weight * score**2), np.sum(weight * score), np.sum(weight)
        det = ss * uu - su * su
        if not det > 1e-12 * ss * uu:
            break  # as far apart as the rows can be: the minimum lies at infinity
        step = np.array([uu * slope[0] - su * slope[1], ss * slope[1] - su * slope[0]]) / det
        size, gain = 1.0, float(slope @ step)
        while size > 1e-6 and height(s - size * step[0], u - size * step[1]) > at - 1e-4 * size * gain:
            size /= 2
        s, u = s - size * step[0], u - size * step[1]
        at = height(s, u)
        if gain < 1e-9:
            break
    w = math.sqrt(max(0.0, 2 * (total * math.log(total / n) - math.log(m / n) * m - at)))
    v = s * math.sqrt(max(0.0, float(det)) / (m * n / total))
    if not (w > 1e-6 and v > 1e-6):
        return normal_tail(w)
    bend = math.exp(-w * w / 2) / math.sqrt(2 * math.pi) * (1 / v - 1 / w)
    return min(1.0, max(0.0, normal_tail(w) + bend))


def homogeneity_test(before: np.ndarray, after: np.ndarray) -> float:
    """P-value of the chi-square test that both samples have the same shares.

    Of the statistic, mean and variance under permutation are exact (Dawson: A simplified expression for the variance
    of the chi-square function on a contingency table, Biometrika 1954), its third moment is close; its tail is
    that of the shifted gamma distribution which has them. Bins must be filled, see `grouped`; then it is within a
    factor of 2 at 1e-4, where the chi-square distribution is off by 3.
    """
    both = (before + after).astype(float)  # products of integers would overflow at a billion rows
    n, m, k = float(before.sum()), float(after.sum()), len(both)
    total = n + m
    if k < 2 or total < 4 or not n or not m:
        return 1.0
    moved = after - both * (m / total)
    statistic = float(np.sum(moved**2 / both)) * total**2 / (n * m)
    mean = total * (k - 1) / (total - 1)
    v1, v2 = (total - 2) / (total - 1), (k - 1) * (total - k) / (total - 1)
    w1 = (total * (1 / n + 1 / m) - 4) / (total - 2)
    w2 = (total * float(np.sum(1 / both)) - k * k) / (total - 2)
    variance = 2 * total / (total - 3) * (v1 - w1) * (v2 - w2) + total**2 / (total - 1) * w1 * w2
    shape = 4 * variance**3 / _third_cumulant(both, m) ** 2
    return gamma_tail(shape, shape + math.sqrt(shape / variance) * (statistic - mean))


def _third_cumulant(both: np.ndarray, m: float) -> float:
    """Of the chi-square statistic: that of the chi-square distribution, and what the counts' own skewness and kurtosis add."""
    total = float(both.sum())
    rest, n = total - both, total - m
    skewed = (total - 2 * both) * (total - 2 * m) / (total - 2)
    skewed = skewed * np.sqrt((total - 1) / (m * n * both * rest))
    curved = (total - 1) * total**2 * (total * (total + 1) - 6 * both * rest - 6 * m * n)
    curved = (curved + 6 * m * n * both * rest * (5 * total - 6)) / (
        m * n * both * rest * (total - 2) * (total - 3)
    )
    added = (rest / total) ** 3 * (12 * curved + 10 * skewed**2 + skewed**4)
    return 8 * (len(both) - 1) + max(float(added.sum()), -4.0 * (len(both) - 1))


def cell_test(before: np.ndarray, after: np.ndarray, among: np.ndarray) -> float:
    """P-value that the share of some bin of the mask `among` changed: the smallest of their exact tests, corrected for their number."""
    both = before + after
    n, m = float(before.sum()), float(after.sum())
    if not among.any() or not n or not m:
        return 1.0
    expected = both * (m / (n + m))
    # Deviances rank the bins as the exact tests would, so that few of those are needed.
    deviance = _deviance(after, expected) + _deviance(before, both - expected)
    deviance += _deviance(m - after, m - expected) + _deviance(n - before, n - (both - expected))
    farthest = np.argsort(np.where(among, deviance, -1.0))[-min(3, int(among.sum())) :]
    smallest = min(share_test(int(before[i]), int(n), int(after[i]), int(m)) for i in farthest)
    return sidak(smallest, int(among.sum()))


def _deviance(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.where(seen > 0, seen * np.log(np.maximum(seen, 1e-300) / np.maximum(expected, 1e-300)), 0.0)


def grouped(before: np.ndarray, after: np.ndarray, groups: int = 10**9) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring bins together until at least FEWEST rows are expected of each group in the smaller sample.

    At most about `groups` groups of equal size are made; a heavy bin is one alone.
    Only the counts of both together decide, so the grouping favours neither.
    """
    both = before + after
    n, m = float(before.sum()), float(after.sum())
    if not n or not m:
        return before[:0], after[:0]
    need = max((n + m) / groups, FEWEST * (n + m) / min(n, m))
    ends, held = [], 0.0
    for i, count in enumerate(both.tolist()):
        held += count
        if held >= need:
            ends.append(i)
            held = 0.0
    if not ends:
        return before.sum(keepdims=True), after.sum(keepdims=True)
    ends[-1] = len(both) - 1  # the rest joins the last group
    starts = [0, *(end + 1 for end in ends[:-1])]
    return np.add.reduceat(before, starts), np.add.reduceat(after, starts)
