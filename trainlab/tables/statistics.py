"""What numbers of several seeds tell: intervals, tests, effect sizes, how sure one can be.

Every function takes plain arrays, one number per seed, and knows nothing of runs. The word "pair"
means two recipes' numbers with the same seed. Nothing here draws at random from a global generator:
what is sampled is sampled from a fixed seed, so that a table is the same twice. scipy.stats, whose
import takes half a second, is left to those who need it.
"""

import bisect
import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

ALPHA = 0.05  # of every test and interval here
POWER = 0.8  # of the tests that are planned
MOST = 1000  # seeds that anyone would be asked for
_EXACT = 20  # pairs up to which all sign flips are counted
_SAMPLED = 20_000  # permutations, resamples or posterior draws where all are too many
_GROUPED = 100_000  # divisions into two groups up to which all are counted


def interval(values: ArrayLike) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval (Student's t; NaN for fewer than two
    values).

    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.484...)
    """
    array = np.asarray(values, dtype=float)
    n = len(array)
    if n < 2:
        return float(array.mean()) if n else math.nan, math.nan
    half = special.stdtrit(n - 1, 1 - ALPHA / 2) * array.std(ddof=1) / math.sqrt(n)
    return float(array.mean()), float(half)


# ---------------------------------------------------------------- two recipes


class Comparison(NamedTuple):
    """One recipe's numbers less another's."""

    n: tuple[int, int]  # numbers of each
    paired: bool
    difference: float  # of the means
    low: float  # 95 % confidence interval of the difference
    high: float
    p: float  # that as large a difference comes by chance, where there is none
    least_p: float  # the smallest that so many numbers can give
    effect: float  # the difference in standard deviations
    wins: int | None = None  # pairs in which the first is higher
    ties: int = 0


def compare_paired(a: ArrayLike, b: ArrayLike) -> Comparison:
    """Compare two recipes that were run with the same seeds; a[i] and b[i] are of one seed.

    The p-value is that of the exact permutation test: where there is no difference, the sign of
    each pair's is a coin (Fisher 1935); above 20 pairs of 20,000 sampled permutations. The interval
    is Student's, above 20 pairs the BCa bootstrap's (Efron 1987). The effect is Cohen's d of the
    differences.

    >>> compare_paired([3, 4, 5], [1, 1, 1]).p  # 2 of 2³ flips are as extreme
    0.25
    """
    from scipy import stats

    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    n = len(d)
    mean, half = interval(d)
    low, high = mean - half, mean + half
    if n > _EXACT and _spread(d):
        found = stats.bootstrap((d,), np.mean, n_resamples=_SAMPLED, rng=np.random.default_rng(0))
        low, high = found.confidence_interval
    return Comparison(
        n=(n, n),
        paired=True,
        difference=mean,
        low=float(low),
        high=float(high),
        p=sign_flips(d),
        least_p=2.0 ** (1 - n) if n <= _EXACT else 1 / (_SAMPLED + 1),
        effect=_ratio(mean, _spread(d)) if n > 1 else math.nan,
        wins=int((d > 0).sum()),
        ties=int((d == 0).sum()),
    )


def sign_flips(d: np.ndarray) -> float:
    """Two-sided p-value of the mean of paired differences under all 2ⁿ flips of their signs, or a
    sample of them.

    All sums are those of one half of the pairs plus those of the other: 2ⁿ of them are counted in
    the time it takes to sort 2^(n/2).

    >>> sign_flips(np.array([1.0, 2.0, 3.0, -1.0]))
    0.375
    """
    n, size = len(d), abs(d.sum())
    size -= 1e-9 * np.abs(d).sum()  # sums in another order differ in their last bits
    if n > _EXACT:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (_SAMPLED, n))
        return float((1 + (np.abs(signs @ d) >= size).sum()) / (1 + _SAMPLED))
    first, second = (_signed_sums(half) for half in (d[: n // 2], d[n // 2 :]))
    second.sort()
    above = len(second) - np.searchsorted(second, size - first, side="left")
    below = np.searchsorted(second, -size - first, side="right")
    return min(1.0, float((above + below).sum() / 2**n))


def _signed_sums(d: np.ndarray) -> np.ndarray:
    """± d[0] ± d[1] …, (2ⁿ,)."""
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def compare_unpaired(a: ArrayLike, b: ArrayLike) -> Comparison:
    """Compare two recipes that share no seeds.

    The p-value is that of the permutation test of the difference of means, over all divisions into
    two groups or 20,000 of them; the interval is Welch's; the effect is Cohen's d with the pooled
    standard deviation.
    """
    from scipy import stats

    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    n, m = len(a), len(b)
    all_of_them = math.comb(n + m, n)
    p = math.nan
    low = high = effect = math.nan
    if min(n, m) > 1:
        p = float(
            stats.permutation_test(
                (a, b),
                lambda x, y, axis: x.mean(axis) - y.mean(axis),
                n_resamples=math.inf if all_of_them <= _GROUPED else _SAMPLED,
                vectorized=True,
                batch=10_000,
                rng=np.random.default_rng(0),
            ).pvalue
        )
        low, high = welch(a, b)
        squares = (n - 1) * _spread(a) ** 2 + (m - 1) * _spread(b) ** 2
        pooled = math.sqrt(squares / (n + m - 2))
        effect = _ratio(a.mean() - b.mean(), pooled)
    both = 1 if n != m else 2  # of equal groups, the mirror image is as extreme
    least = both / all_of_them if all_of_them <= _GROUPED else 1 / (_SAMPLED + 1)
    difference = float(a.mean() - b.mean()) if min(n, m) else math.nan
    return Comparison((n, m), False, difference, low, high, p, least, effect)


def welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of a difference of means whose variances may differ (Welch 1947)."""
    from scipy import stats

    if not (_spread(a) or _spread(b)):
        return (float(a.mean() - b.mean()),) * 2
    found = stats.ttest_ind(a, b, equal_var=False).confidence_interval(1 - ALPHA)
    return float(found.low), float(found.high)


def _spread(x: np.ndarray) -> float:
    """Standard deviation; 0 where numbers differ in their last bits only."""
    spread = float(x.std(ddof=1))
    return spread if spread > 1e-12 * float(np.abs(x).max()) else 0.0


def _ratio(difference: float, spread: float) -> float:
    if spread:
        return float(difference / spread)
    return math.copysign(math.inf, difference) if difference else 0.0


def holm(p: Sequence[float], count: int | None = None) -> list[float]:
    """p-values corrected for their number, or for `count` of which these are some: below α if and
    only if Holm's procedure rejects at α (1979). It bounds the chance of any false finding.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [math.nan] * len(p), 0.0
    known = [i for i in range(len(p)) if not math.isnan(p[i])]
    m = len(known) if count is None else count
    for place, i in enumerate(sorted(known, key=lambda i: p[i])):
        largest = max(largest, min(1.0, (m - place) * p[i]))
        corrected[i] = largest
    return corrected


def seeds_needed(comparison: Comparison, tests: int = 1) -> int | None:
    """How many seeds each recipe would need for the difference seen here, were it real, to be found
    in four of five tries; None where more than 1,000 would not do.

    By the power of Student's test (noncentral t, Cohen 1988) at 5 % over the number of `tests`, and
    no fewer than the exact test can tell anything of.
    """
    alpha, effect = ALPHA / tests, abs(comparison.effect)
    least = 2
    while _least_p(least, comparison.paired) > alpha:
        least += 1
    if math.isnan(effect) or effect == 0:
        return None
    if math.isinf(effect):
        return least

    def found(n: int) -> bool:
        freedom = n - 1 if comparison.paired else 2 * n - 2
        shift = effect * math.sqrt(n if comparison.paired else n / 2)
        critical = special.stdtrit(freedom, 1 - alpha / 2)
        return 1 - special.nctdtr(freedom, shift, critical) >= POWER

    n = bisect.bisect_left(range(MOST + 1), True, lo=least, key=found)
    return n if n <= MOST else None


def _least_p(n: int, paired: bool) -> float:
    """The smallest p-value that n seeds of each recipe can give."""
    return 2.0 ** (1 - n) if paired else 2 / math.comb(2 * n, n)


# ---------------------------------------------------------------- many recipes


def student(a: dict[int, float], b: dict[int, float]) -> float:
    """p-value of Student's test of two groups, maps seed -> number: in pairs if they have all seeds
    in common, else Welch's; NaN where one has fewer than two numbers.

    Numbers without any spread, as coarse metrics have by chance, would give p = 0; there it is the
    smallest that a permutation test of so many numbers could give.
    """
    if min(len(a), len(b)) < 2:
        return math.nan
    paired = a.keys() == b.keys()
    if paired:
        d = np.array([a[seed] - b[seed] for seed in a])
        error, freedom, difference = _spread(d) / math.sqrt(len(d)), len(d) - 1, d.mean()
    else:
        x, y = (np.fromiter(group.values(), float) for group in (a, b))
        u, v = _spread(x) ** 2 / len(x), _spread(y) ** 2 / len(y)
        error, difference = math.sqrt(u + v), x.mean() - y.mean()
        spread = u**2 / (len(x) - 1) + v**2 / (len(y) - 1)
        freedom = (u + v) ** 2 / spread if spread else len(x) + len(y) - 2
    if error == 0:
        return 1.0 if difference == 0 else _least_p(min(len(a), len(b)), paired)
    return float(2 * special.stdtr(freedom, -abs(difference / error)))


def ranks(groups: Sequence[dict[int, float]]) -> list[int]:
    """Competition ranks of groups (seed -> number) that come best first: those that cannot be told
    apart from the first of their rank share it, as in 1 1 1 4.

    Told apart is what Student's test does at 5 %, corrected for all pairs of groups by Bonferroni,
    since which are compared is only known from the numbers. A group of fewer than two numbers
    cannot be tested, and shares the rank of those above it.

    >>> ranks([{0: 1.0, 1: 1.1, 2: 0.9}, {0: 1.0, 1: 1.0, 2: 0.9}, {0: 0.1, 1: 0.2, 2: 0.0}])
    [1, 1, 3]
    """
    count = max(1, len(groups) * (len(groups) - 1) // 2)
    ranked: list[int] = []
    first = 0
    for i, group in enumerate(groups):
        if ranked and student(groups[first], group) * count <= ALPHA:
            first = i
        ranked.append(first + 1)
    return ranked


def chances_of_best(groups: Sequence[dict[int, float]], higher: bool) -> list[float]:
    """How probable it is that each group's true mean is the best of all, given its numbers.

    20,000 draws from the posterior of the means of normal numbers with unknown variances and
    nothing known before (Student's t; Gelman et al. 2013, 3.2). Where all groups have the same
    seeds, what a seed adds to all of them is taken out first. NaN for groups of fewer than two.
    """
    able = [i for i, group in enumerate(groups) if len(group) > 1]
    chances = [math.nan] * len(groups)
    if not able:
        return chances
    random = np.random.default_rng(0)
    arrays = [np.fromiter(groups[i].values(), float) for i in able]
    means = np.array([a.mean() for a in arrays])
    sizes = np.array([len(a) for a in arrays])
    freedom = np.broadcast_to(sizes - 1, (_SAMPLED, len(able)))
    if len(able) > 1 and len({frozenset(groups[i]) for i in able}) == 1:
        seeds = list(groups[able[0]])
        x = np.array([[groups[i][seed] for seed in seeds] for i in able])  # (G, S)
        arrays = list((x - x.mean(0)) * math.sqrt(len(able) / (len(able) - 1)))
        # One draw of the spread for all: the difference of two is then Student's own.
        scale = random.chisquare(len(seeds) - 1, (_SAMPLED, 1))
    else:
        scale = random.chisquare(freedom)
    error = np.array([a.std(ddof=1) for a in arrays]) / np.sqrt(sizes)
    normal = random.standard_normal((_SAMPLED, len(able)))
    draws = means + error * normal * np.sqrt(freedom / scale)  # (draws, G)
    best = (draws == (draws.max(1) if higher else draws.min(1))[:, None]).astype(float)
    shares = (best / best.sum(1, keepdims=True)).mean(0)
    for i, share in zip(able, shares.tolist(), strict=True):
        chances[i] = share
    return chances


# ---------------------------------------------------------------- which choice matters


class Effect(NamedTuple):
    """What one choice of a sweep does to the metric."""

    share: float  # of the variance of all runs that the choice explains by itself
    levels: dict[str, tuple[float, float, int]]  # level -> its mean less the grand one, ± half, n


class Effects(NamedTuple):
    choices: dict[str, Effect]  # the one that matters most first
    together: float  # share that combinations of choices explain beyond each by itself
    chance: float  # share that is left: seeds
    n: int


def effects(choices: dict[str, Sequence[str]], values: ArrayLike) -> Effects:
    """Shares of the variance and main effects of a sweep's choices, each a level per run.

    Analysis of variance (Fisher 1925; of unbalanced sweeps, type II): what the sum of squares grows
    by where a choice is left out of the additive model. What as many meaningless levels would
    explain by chance is taken off (ε², Kelley 1935), so that a choice that does nothing gets about
    0. A level's effect is its coefficient in the additive model, coded so that the mean over the
    levels of a choice is 0; its interval is Student's with the residuals of that model.

    >>> effects({"act": ["a", "a", "b", "b"]}, [0, 2, 4, 6]).choices["act"].levels["b"]
    (2.0, 3.04..., 2)
    """
    y = np.asarray(values, dtype=float)
    names = list(choices)
    coded = {name: _sum_coded(choices[name]) for name in names}
    ones = np.ones((len(y), 1))

    def fitted(blocks: Sequence[np.ndarray]) -> tuple[float, int]:
        """Residual sum of squares and rank of a linear model."""
        x = np.concatenate([ones, *blocks], 1)
        solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
        return float(((y - x @ solution) ** 2).sum()), int(rank)

    total, _ = fitted([])
    additive, rank = fitted([coded[name][0] for name in names])
    cells = list(zip(*(choices[name] for name in names), strict=True))
    within = sum(
        float(((y[rows] - y[rows].mean()) ** 2).sum())
        for cell in dict.fromkeys(cells)
        if (rows := [i for i, other in enumerate(cells) if other == cell])
    )
    free = len(y) - len(set(cells))
    # Without seeds there is nothing but the combinations to tell chance from.
    noise = within / free if free else additive / max(1, len(y) - rank)

    def share(squares: float, freedom: int) -> float:
        return max(0.0, (squares - freedom * noise) / total) if total else 0.0

    x = np.concatenate([ones, *(coded[name][0] for name in names)], 1)
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    spread = additive / max(1, len(y) - rank) * np.linalg.pinv(x.T @ x)
    critical = special.stdtrit(max(1, len(y) - rank), 1 - ALPHA / 2) if len(y) > rank else math.nan
    found, start = {}, 1
    for name in names:
        columns, levels = coded[name]
        squares, smaller = fitted([coded[other][0] for other in names if other != name])
        codes = np.vstack([np.eye(columns.shape[1]), -np.ones(columns.shape[1])])  # (levels, k-1)
        part = slice(start, start + columns.shape[1])
        means = codes @ solution[part]
        halves = critical * np.sqrt(np.einsum("lk,kj,lj->l", codes, spread[part, part], codes))
        counts = [sum(level == other for other in choices[name]) for level in levels]
        found[name] = Effect(
            share(squares - additive, rank - smaller),
            {
                level: (float(mean), float(half), count)
                for level, mean, half, count in zip(levels, means, halves, counts, strict=True)
            },
        )
        start = part.stop
    ordered = dict(sorted(found.items(), key=lambda item: -item[1].share))
    together = share(additive - within, len(set(cells)) - rank) if free else math.nan
    rest = [s for s in (*(e.share for e in ordered.values()), together) if not math.isnan(s)]
    return Effects(ordered, together, max(0.0, 1 - sum(rest)), len(y))


def _sum_coded(levels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Columns (N, k - 1) of a choice of k levels, each 1 for its own and -1 for the last; and the
    levels in their order."""
    names = list(dict.fromkeys(levels))
    codes = np.vstack([np.eye(len(names) - 1), -np.ones(len(names) - 1)])
    return codes[[names.index(level) for level in levels]], names


def all_combinations(choices: dict[str, Sequence[str]]) -> bool:
    """Whether every combination of the levels was run, and equally often."""
    cells = list(zip(*choices.values(), strict=True))
    counts = {cell: cells.count(cell) for cell in set(cells)}
    grid = set(product(*(set(levels) for levels in choices.values())))
    return counts.keys() == grid and len(set(counts.values())) == 1
