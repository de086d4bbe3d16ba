"""What numbers of several seeds tell: intervals, tests, effect sizes, how sure one can be.

Every function takes plain numbers, and knows nothing of runs. A group is what one recipe is worth:
a map seed -> number. Two groups are compared in pairs where they share seeds (`partners` decides),
and everything here goes by that: ranks, p-values, chances.

Nothing draws from a global generator: what is sampled is sampled from a fixed seed, so that a table
is the same twice. scipy.stats, whose import takes half a second, is left to those who need it.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

ALPHA = 0.05  # of every test and interval here
POWER = 0.8  # of the tests that are planned
MOST = 1000  # seeds that anyone would be asked for
_EXACT = 20  # pairs up to which the flips of their signs are counted as they are
_GRID = 2**14  # steps to which more pairs are rounded, to be counted all the same
_DIVISIONS = 100_000  # into two groups, up to which all are looked at
_DRAWS = 20_000  # from a posterior; resamples of a bootstrap

Group = dict[int, float]


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


def partners(a: Group, b: Group) -> list[int]:
    """The seeds by which two groups are compared in pairs: those they share, if there are two and
    at least half of the smaller group; else none.

    >>> partners({0: 1.0, 1: 1.0, 2: 1.0}, {0: 2.0, 1: 2.0})
    [0, 1]
    """
    common = sorted(a.keys() & b.keys())
    return common if len(common) >= max(2, min(len(a), len(b)) / 2) else []


def _array(group: Group) -> np.ndarray:
    return np.fromiter(group.values(), float, len(group))


def _differences(a: Group, b: Group, seeds: Sequence[int]) -> np.ndarray:
    return np.array([a[seed] - b[seed] for seed in seeds])


def _spread(x: np.ndarray) -> float:
    """Standard deviation; 0 where numbers differ in their last bits only."""
    spread = float(x.std(ddof=1)) if len(x) > 1 else math.nan
    return 0.0 if spread <= 1e-12 * float(np.abs(x).max()) else spread


def _ratio(difference: float, spread: float) -> float:
    if spread:
        return float(difference / spread)
    return math.copysign(math.inf, difference) if difference else 0.0


# ---------------------------------------------------------------- two groups


class Comparison(NamedTuple):
    """One group's numbers less another's."""

    n: tuple[int, int]  # numbers of each that are compared
    paired: bool
    difference: float  # of the means
    low: float  # 95 % confidence interval of the difference
    high: float
    p: float  # how often so large a difference comes by chance
    least_p: float  # the smallest that so many numbers can give
    d: float  # the difference in standard deviations of a recipe's own numbers (Cohen 1988)
    shift: float  # the same in those of what is tested: the pairs' differences, else d
    wins: int | None = None  # pairs in which the first is higher
    ties: int = 0


def compare(a: Group, b: Group) -> Comparison:
    """Compare two groups: in pairs where they are partners, else as they are.

    In pairs: p is that of the exact permutation test; where there is no difference, the sign of
    each pair's is a coin (Fisher 1935). The interval is Student's, above 20 pairs the BCa
    bootstrap's (Efron 1987). Else: p is the larger of the exact permutation test's, which takes
    different spreads for different means, and Welch's (1947), which takes numbers to be normal;
    above 100,000 divisions into two groups Welch's alone. The interval is Welch's.

    >>> compare({0: 3.0, 1: 4.0, 2: 5.0}, {0: 1.0, 1: 1.0, 2: 1.0}).p  # 2 of 2³ flips
    0.25
    """
    seeds = partners(a, b)
    if not seeds:
        return _unpaired(_array(a), _array(b))
    d, n = _differences(a, b, seeds), len(seeds)
    mean, half = interval(d)
    low, high, spread = mean - half, mean + half, _spread(d)
    if n > _EXACT and spread:
        from scipy import stats

        found = stats.bootstrap((d,), np.mean, n_resamples=_DRAWS, rng=np.random.default_rng(0))
        low, high = found.confidence_interval
    own = [_spread(np.array([group[seed] for seed in seeds])) for group in (a, b)]
    return Comparison(
        n=(n, n),
        paired=True,
        difference=mean,
        low=float(low),
        high=float(high),
        p=sign_flips(d),
        least_p=2.0 ** (1 - n),
        d=_ratio(mean, math.hypot(*own) / math.sqrt(2)),
        shift=_ratio(mean, spread),
        wins=int((d > 0).sum()),
        ties=int((d == 0).sum()),
    )


def sign_flips(d: np.ndarray) -> float:
    """Two-sided p-value of the mean of paired differences under all 2ⁿ flips of their signs.

    All sums are those of one half of the pairs plus those of the other: 2ⁿ of them are counted in
    the time it takes to sort 2^(n/2). Above 20 pairs the differences are rounded to 1/16,384 of the
    largest, and the sums of all flips counted on that grid.

    >>> sign_flips(np.array([1.0, 2.0, 3.0, -1.0]))
    0.375
    """
    n = len(d)
    if n > _EXACT and d.any():
        return _flips_on_a_grid(np.rint(d * (_GRID / np.abs(d).max())).astype(int))
    size = abs(d.sum()) - 1e-9 * np.abs(d).sum()  # sums in another order differ in their last bits
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


def _flips_on_a_grid(steps: np.ndarray) -> float:
    """The same of whole numbers: the distribution of the sum, one pair after the other."""
    reach = int(np.abs(steps).sum())
    chance = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chance[reach] = 1.0
    for step in np.abs(steps):
        moved = np.zeros_like(chance)
        moved[step:] += 0.5 * chance[: len(chance) - step]
        moved[: len(chance) - step] += 0.5 * chance[step:]
        chance = moved
    size = abs(int(steps.sum()))
    tails = chance[: reach - size + 1].sum() + chance[reach + size :].sum()
    return min(1.0, float(tails))


def _unpaired(a: np.ndarray, b: np.ndarray) -> Comparison:
    n, m = len(a), len(b)
    difference = float(a.mean() - b.mean()) if min(n, m) else math.nan
    if min(n, m) < 2:
        nan = math.nan
        return Comparison((n, m), False, difference, nan, nan, nan, 1.0, nan, nan)
    error, freedom = _welch(a, b)
    half = special.stdtrit(freedom, 1 - ALPHA / 2) * error if error else 0.0
    pooled = ((n - 1) * _spread(a) ** 2 + (m - 1) * _spread(b) ** 2) / (n + m - 2)
    effect = _ratio(difference, math.sqrt(pooled))
    p = 2 * special.stdtr(freedom, -abs(_ratio(difference, error)))
    least, divisions = 0.0, math.comb(n + m, n)
    if divisions <= _DIVISIONS:
        p = max(p, _divided(np.concatenate([a, b]), n))
        least = (2 if n == m else 1) / divisions  # of equal groups, the mirror image is as extreme
    return Comparison(
        (n, m), False, difference, difference - half, difference + half, float(p), least, effect,
        effect,
    )  # fmt: skip


def _welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The standard error of a difference of means whose variances may differ, and its degrees of
    freedom (Welch 1947)."""
    u, v = _spread(a) ** 2 / len(a), _spread(b) ** 2 / len(b)
    down = u**2 / (len(a) - 1) + v**2 / (len(b) - 1)
    return math.sqrt(u + v), (u + v) ** 2 / down if down else len(a) + len(b) - 2.0


def _divided(x: np.ndarray, n: int) -> float:
    """The share of all divisions into n numbers and the rest whose means are as far apart as those
    of the first n and the rest."""
    chosen = np.array(list(itertools.combinations(range(len(x)), n)))  # (divisions, n)
    apart = np.abs(x[chosen].mean(1) - x.mean())  # as far as the means, up to a factor
    return float((apart >= apart[0] - 1e-12 * np.abs(x).max()).mean())


def student(a: Group, b: Group) -> float:
    """p-value of Student's t-test of two groups: in pairs where they are partners, else Welch's;
    NaN where one has fewer than two numbers.

    Numbers without any spread, as coarse metrics have by chance, would give p = 0; there it is the
    smallest that a permutation test of so many numbers could give.
    """
    if min(len(a), len(b)) < 2:
        return math.nan
    if seeds := partners(a, b):
        d = _differences(a, b, seeds)
        n, difference = len(d), d.mean()
        error, freedom, least = _spread(d) / math.sqrt(n), n - 1.0, 2.0 ** (1 - n)
    else:
        x, y = _array(a), _array(b)
        (error, freedom), difference = _welch(x, y), x.mean() - y.mean()
        least = 2 / math.comb(len(x) + len(y), len(x))
    if error == 0:
        return 1.0 if difference == 0 else least
    return float(2 * special.stdtr(freedom, -abs(difference / error)))


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


def seeds_able(paired: bool, tests: int = 1) -> int:
    """How many seeds each recipe needs for a permutation test to find anything at all.

    >>> seeds_able(True), seeds_able(False)
    (6, 4)
    """
    n = 2
    while (2.0 ** (1 - n) if paired else 2 / math.comb(2 * n, n)) > ALPHA / tests:
        n += 1
    return n


def seeds_needed(comparison: Comparison, tests: int = 1) -> int | None:
    """How many seeds each recipe would need for a difference as large as this one to be found in
    four of five tries; None where more than 1,000 would not do.

    By the power of Student's test (noncentral t, Cohen 1988) at 5 % over the number of `tests`, and
    no fewer than `seeds_able`.
    """
    alpha, shift = ALPHA / tests, abs(comparison.shift)
    least = seeds_able(comparison.paired, tests)
    if math.isnan(shift) or shift == 0:
        return None
    if math.isinf(shift):
        return least

    def found(n: int) -> bool:
        freedom = n - 1 if comparison.paired else 2 * n - 2
        moved = shift * math.sqrt(n if comparison.paired else n / 2)
        critical = special.stdtrit(freedom, 1 - alpha / 2)
        missed = special.nctdtr(freedom, moved, critical)
        # Far out the series for the noncentral t gives up; there the answer is plain.
        return moved > critical if math.isnan(missed) else 1 - missed >= POWER

    n = bisect.bisect_left(range(MOST + 1), True, lo=least, key=found)
    return n if n <= MOST else None


# ---------------------------------------------------------------- many groups


def ranks(groups: Sequence[Group]) -> list[int | None]:
    """Competition ranks of groups that come best first: those that cannot be told apart from the
    first of their rank share it, as in 1 1 1 4.

    Told apart is what Student's test does at 5 %, corrected for all pairs of groups by Bonferroni,
    since which are compared is only known from the numbers. A group of fewer than two numbers
    cannot be tested, and has no rank.

    >>> ranks([{0: 1.0, 1: 1.1, 2: 0.9}, {0: 1.0, 1: 1.0, 2: 0.9}, {0: 0.1, 1: 0.2, 2: 0.0}])
    [1, 1, 3]
    """
    able = [i for i, group in enumerate(groups) if len(group) > 1]
    count = max(1, math.comb(len(able), 2))
    ranked: list[int | None] = [None] * len(groups)
    first = None
    for place, i in enumerate(able):
        if first is None or student(groups[first], groups[i]) * count <= ALPHA:
            first, rank = i, place + 1
        ranked[i] = rank
    return ranked


def chances_of_best(groups: Sequence[Group], higher: bool) -> list[float]:
    """How probable it is that each group's true mean is the best of all, given its numbers.

    20,000 draws from the posterior of the means of normal numbers with unknown spreads and nothing
    known before (Student's t; Gelman et al. 2013, 3.2). A seed's part in a mean is drawn once for
    all groups that have it, so that what a seed does to several takes none of their order: of two
    groups with the same seeds, the difference has Student's t distribution of their pairs. NaN for
    groups of fewer than two.
    """
    able = [i for i, group in enumerate(groups) if len(group) > 1]
    chances = [math.nan] * len(groups)
    if not able:
        return chances
    random = np.random.default_rng(0)
    seeds = sorted({seed for i in able for seed in groups[i]})
    normal = dict(zip(seeds, random.standard_normal((len(seeds), _DRAWS)), strict=True))
    spread: dict[frozenset[int], np.ndarray] = {}  # of the same seeds, one draw
    best, leader = np.full(_DRAWS, -math.inf), np.zeros(_DRAWS, int)
    for place, i in enumerate(able):
        group, n = groups[i], len(groups[i])
        if (key := frozenset(group)) not in spread:
            spread[key] = np.sqrt((n - 1) / random.chisquare(n - 1, _DRAWS))
        mean = sum(group.values()) / n
        drawn = sum((value - mean) * normal[seed] for seed, value in group.items())
        means = mean + drawn * spread[key] / math.sqrt(n * (n - 1))
        means = means if higher else -means
        leader[means > best] = place
        best = np.maximum(best, means)
    for place, i in enumerate(able):
        chances[i] = float((leader == place).mean())
    return chances


# ---------------------------------------------------------------- which choice matters


class Effect(NamedTuple):
    """What one choice of a sweep does to the metric."""

    share: float  # of the variance of all runs that the choice explains by itself
    levels: dict[str, tuple[float, float, int]]  # level -> its mean less the grand one, ± half, n


class Effects(NamedTuple):
    choices: dict[str, Effect]  # the one that matters most first
    tied: list[str]  # choices that cannot be told from others they go together with: no levels
    shared: float  # share that belongs to several choices, as they go together
    together: float  # share that combinations of choices explain beyond each; NaN without seeds
    chance: float  # share within the same choices: seeds; NaN without
    n: int


NOT_THERE = "–"  # the level of a setting that a run does not have


def effects(choices: dict[str, Sequence[str]], values: ArrayLike) -> Effects:
    """Shares of the variance and main effects of a sweep's choices, each a level per run.

    Analysis of variance (Fisher 1925; of unbalanced sweeps, type II): what the sum of squares grows
    by where a choice is left out of the additive model. What as many meaningless levels would
    explain by chance is taken off (ε², Kelley 1935), so that a choice that does nothing gets about
    0. A level's effect is its coefficient in the additive model, coded so that the mean over the
    levels of a choice is 0; its interval is Student's with the residuals of that model. A setting
    that only some runs have (`optimizer.momentum`) has effects among those.

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
    cells: dict[tuple[str, ...], list[int]] = {}
    for i, cell in enumerate(zip(*(choices[name] for name in names), strict=True)):
        cells.setdefault(cell, []).append(i)
    within = sum(float(((y[rows] - y[rows].mean()) ** 2).sum()) for rows in cells.values())
    free = len(y) - len(cells)
    # Without seeds there is nothing but the combinations to tell chance from.
    noise = within / free if free else additive / max(1, len(y) - rank)

    def share(squares: float, freedom: int) -> float:
        return max(0.0, (squares - freedom * noise) / total) if total else 0.0

    x = np.concatenate([ones, *(coded[name][0] for name in names)], 1)
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    spread = additive / max(1, len(y) - rank) * np.linalg.pinv(x.T @ x)
    critical = special.stdtrit(max(1, len(y) - rank), 1 - ALPHA / 2) if len(y) > rank else math.nan
    found, tied, start = {}, [], 1
    for name in names:
        columns, levels = coded[name]
        squares, smaller = fitted([coded[other][0] for other in names if other != name])
        part = slice(start, start + columns.shape[1])
        start, means = part.stop, {}
        if rank - smaller < columns.shape[1]:
            tied.append(name)
        else:
            codes = np.vstack([np.eye(len(levels) - 1), -np.ones(len(levels) - 1)])
            halves = critical * np.sqrt(np.einsum("lk,kj,lj->l", codes, spread[part, part], codes))
            effect = (codes @ solution[part]).tolist()
            counts = [sum(level == other for other in choices[name]) for level in levels]
            means = dict(
                zip(levels, zip(effect, halves.tolist(), counts, strict=True), strict=True)
            )
        found[name] = Effect(share(squares - additive, rank - smaller), means)
    ordered = dict(sorted(found.items(), key=lambda item: -item[1].share))
    together = share(additive - within, len(cells) - rank) if free else math.nan
    explained = share(total - additive, rank - 1) - sum(e.share for e in ordered.values())
    chance = max(0.0, 1 - share(total - within, len(cells) - 1)) if free else math.nan
    return Effects(ordered, tied, max(0.0, explained), together, chance, len(y))


def _sum_coded(levels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Columns (N, k - 1) of a choice of k levels, each 1 for its own and -1 for the last, and 0
    where there is none; and the levels in their order."""
    names = [name for name in dict.fromkeys(levels) if name != NOT_THERE]
    if len(names) < 2:  # whether it is there at all is the choice
        names = list(dict.fromkeys(levels))
    codes = np.vstack([np.eye(len(names) - 1), -np.ones(len(names) - 1), np.zeros(len(names) - 1)])
    places = {name: place for place, name in enumerate(names)}
    return codes[[places.get(level, len(names)) for level in levels]], names
