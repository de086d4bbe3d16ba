"""Statistics against scipy, hand-counted cases, and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from trainlab.tables import statistics


@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_the_interval_is_students_t(n):
    values = np.random.default_rng(n).normal(3, 2, n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    mean, half = statistics.interval(values)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_one_run_has_no_interval():
    mean, half = statistics.interval([0.5])
    assert mean == 0.5
    assert math.isnan(half)
    assert all(map(math.isnan, statistics.interval([])))


@pytest.mark.parametrize("n", [3, 10, 25])
def test_intervals_of_normal_numbers_hold_the_mean_in_95_of_100(n):
    values = np.random.default_rng(0).normal(1, 2, (4000, n))
    covered = 0
    for row in values:
        mean, half = statistics.interval(row)
        covered += abs(mean - 1) <= half
    assert 0.93 <= covered / len(values) <= 0.97


@pytest.mark.parametrize("n", range(2, 11))
def test_sign_flips_count_what_scipy_counts(n):
    random = np.random.default_rng(n)
    for d in (random.normal(0.5, 1, n), random.integers(-3, 4, n).astype(float)):
        peer = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert statistics.sign_flips(d) == pytest.approx(peer.pvalue)


def test_sign_flips_by_hand():
    d = np.array([0.1, 0.2, 0.3])  # 0.6 and -0.6 of 8 sums, though 0.1 + 0.2 is not 0.3 in floats
    assert statistics.sign_flips(d) == 2 / 8
    assert statistics.sign_flips(np.array([0.1, 0.2, -0.3])) == 1.0
    assert statistics.sign_flips(np.zeros(5)) == 1.0


def test_twenty_pairs_are_counted_and_more_are_sampled():
    d = np.random.default_rng(0).normal(0.4, 1, 40)
    exact = statistics.sign_flips(d[:20])
    sums = np.zeros(1)
    for value in d[:20]:
        sums = np.concatenate([sums + value, sums - value])
    assert exact == pytest.approx((abs(sums) >= abs(d[:20].sum()) - 1e-9).mean())
    peer = stats.ttest_1samp(d, 0).pvalue  # close to the permutation test's in normal numbers
    assert statistics.sign_flips(d) == pytest.approx(peer, abs=0.01)


def test_a_paired_comparison_by_hand():
    found = statistics.compare_paired([3, 4, 6, 5], [2, 2, 3, 6])
    assert found.difference == 1.25
    assert (found.wins, found.ties, found.n) == (3, 0, (4, 4))
    assert found.effect == pytest.approx(1.25 / np.std([1, 2, 3, -1], ddof=1))
    assert found.p == 6 / 16  # |sum| ≥ 5: ±{1+2+3+1, 1+2+3-1, -1+2+3+1}
    assert found.least_p == 2 / 16
    low, high = stats.ttest_rel([3, 4, 6, 5], [2, 2, 3, 6]).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))


def test_above_twenty_pairs_the_interval_is_the_bootstraps():
    random = np.random.default_rng(1)
    a, b = random.exponential(1, 40) + 0.2, random.exponential(1, 40)
    found = statistics.compare_paired(a, b)
    peer = stats.bootstrap((a - b,), np.mean, rng=np.random.default_rng(7)).confidence_interval
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.03)
    student = stats.ttest_rel(a, b).confidence_interval()
    assert found.low != pytest.approx(student.low, abs=1e-4)


def test_an_unpaired_comparison_against_scipy():
    random = np.random.default_rng(2)
    a, b = random.normal(1, 1, 5), random.normal(0, 2, 6)
    found = statistics.compare_unpaired(a, b)
    pooled, count = np.concatenate([a, b]), 0
    for chosen in itertools.combinations(range(11), 5):
        mask = np.isin(range(11), chosen)
        difference = pooled[mask].mean() - pooled[~mask].mean()
        count += abs(difference) >= abs(a.mean() - b.mean()) - 1e-12
    # scipy doubles the smaller tail; with unequal sizes that is not the count of both.
    assert found.p == pytest.approx(count / math.comb(11, 5), rel=0.2)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    spread = math.sqrt((4 * a.var(ddof=1) + 5 * b.var(ddof=1)) / 9)
    assert found.effect == pytest.approx((a.mean() - b.mean()) / spread)
    assert not found.paired


def test_numbers_that_do_not_vary_are_no_error():
    same = statistics.compare_paired([1, 1, 1], [1, 1, 1])
    assert (same.difference, same.p, same.effect) == (0, 1, 0)
    apart = statistics.compare_paired([2] * 6, [1] * 6)
    assert (apart.p, apart.effect) == (2 / 64, math.inf)
    assert statistics.compare_unpaired([2] * 6, [1] * 6).low == 1
    assert statistics.student({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}) == 1
    assert statistics.compare_paired([2] * 30, [1] * 30).low == 1


def test_differences_that_are_alike_but_for_their_last_bits_have_no_spread():
    """As coarse metrics give: p = 0 for two seeds would be a discovery made of rounding."""
    a, b = {0: 0.9, 1: 0.7}, {0: 0.6, 1: 0.4}
    d = np.array([a[s] - b[s] for s in a])
    assert d.std() > 0
    assert statistics.student(a, b) == 0.5
    assert statistics.ranks([a, b]) == [1, 1]
    assert statistics.compare_paired(list(a.values()), list(b.values())).effect == math.inf


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1, 1]
    assert statistics.holm([0.01], count=10) == pytest.approx([0.1])
    with_unknown = statistics.holm([math.nan, 0.01])
    assert math.isnan(with_unknown[0])
    assert with_unknown[1] == 0.01


@pytest.mark.parametrize("effect", [0.3, 0.8, 2.0])
def test_so_many_seeds_find_the_difference_in_four_of_five_tries(effect):
    comparison = statistics.compare_paired([1, 2], [0, 0])._replace(effect=effect)
    n = statistics.seeds_needed(comparison)
    random = np.random.default_rng(3)
    d = random.normal(effect, 1, (4000, n))
    power = (stats.ttest_1samp(d, 0, axis=1).pvalue <= 0.05).mean()
    # For large effects the exact test asks for more seeds than power does.
    assert power >= 0.78
    fewer = random.normal(effect, 1, (4000, max(2, n - 2)))
    assert n <= 6 or (stats.ttest_1samp(fewer, 0, axis=1).pvalue <= 0.05).mean() < 0.81


def test_no_number_of_seeds_tells_nothing_from_nothing():
    comparison = statistics.compare_paired([1, 2], [0, 0])
    assert statistics.seeds_needed(comparison._replace(effect=0.0)) is None
    assert statistics.seeds_needed(comparison._replace(effect=0.01)) is None
    assert statistics.seeds_needed(comparison._replace(effect=math.inf)) == 6  # 2 / 2⁶ < 0.05
    assert statistics.seeds_needed(comparison._replace(effect=math.inf), tests=10) == 9
    unpaired = comparison._replace(effect=math.inf, paired=False)
    assert statistics.seeds_needed(unpaired) == 4  # 2 / C(8, 4) < 0.05 < 2 / C(6, 3)


def test_students_tests_are_scipys():
    random = np.random.default_rng(4)
    a, b = random.normal(0, 1, 6), random.normal(0.5, 2, 6)
    named = [dict(enumerate(values.tolist())) for values in (a, b)]
    assert statistics.student(*named) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    others = {seed + 100: value for seed, value in named[1].items()}
    peer = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert statistics.student(named[0], others) == pytest.approx(peer)


def simulated(random, recipes, seeds, better=0.0):
    """A sweep: what a seed does to all recipes, and what it does to each; the first is better."""
    common = random.normal(0, 0.01, seeds)
    own = random.normal(0, 0.01, (recipes, seeds)) + 0.9 + common
    own[0] += better
    return [dict(enumerate(row.tolist())) for row in own]


def test_ranks_find_differences_where_there_are_none_in_at_most_5_of_100_sweeps():
    random = np.random.default_rng(5)
    found = 0
    for _ in range(1000):
        groups = simulated(random, recipes=6, seeds=5)
        groups.sort(key=lambda group: -np.mean(list(group.values())))
        found += max(statistics.ranks(groups)) > 1
    assert found <= 50


def test_ranks_tell_apart_what_is_apart():
    random = np.random.default_rng(6)
    groups = simulated(random, recipes=3, seeds=10, better=0.1)
    assert statistics.ranks(groups) == [1, 2, 2]
    assert statistics.ranks(groups[:1]) == [1]
    assert statistics.ranks([]) == []
    assert statistics.ranks([{0: 1.0}, {0: 0.5}]) == [1, 1]


def test_the_chance_of_being_best_against_students_t():
    random = np.random.default_rng(7)
    for better in (0.0, 0.01, 0.02):
        first, second = simulated(random, recipes=2, seeds=6, better=better)
        d = np.array([first[s] - second[s] for s in first])
        peer = stats.t.cdf(d.mean() / stats.sem(d), 5)
        chances = statistics.chances_of_best([first, second], higher=True)
        assert sum(chances) == pytest.approx(1)
        assert chances[0] == pytest.approx(peer, abs=0.02)
        assert statistics.chances_of_best([first, second], higher=False)[0] == pytest.approx(
            chances[1], abs=0.02
        )


def test_the_chance_of_being_best_without_common_seeds():
    """Behrens and Fisher's: the difference of two independent ts, here by numerical integration."""
    random = np.random.default_rng(8)
    a, b = random.normal(1, 1, 5), random.normal(0, 2, 7)
    x = np.linspace(-30, 30, 20001)
    density = stats.t.pdf(x, 4, a.mean(), stats.sem(a))
    below = stats.t.cdf(x, 6, b.mean(), stats.sem(b))
    peer = np.trapezoid(density * below, x)
    groups = [dict(enumerate(a.tolist())), {10 + i: v for i, v in enumerate(b.tolist())}]
    assert statistics.chances_of_best(groups, higher=True)[0] == pytest.approx(peer, abs=0.02)
    chances = statistics.chances_of_best([*groups, {0: 1.0}], higher=True)
    assert math.isnan(chances[2])
    assert statistics.chances_of_best([], higher=True) == []


def test_effects_by_hand():
    """Two choices of two levels, two seeds: cells (0, 2), (4, 6), (10, 12), (14, 16)."""
    choices = {"a": list("00001111"), "b": list("00110011")}
    found = statistics.effects(choices, [0, 2, 4, 6, 10, 12, 14, 16])
    # Grand mean 8; a: ±5, b: ±2, no interaction; SS 200, 32, 0, 8 within, in all 240; MSE 8/4.
    assert found.choices["a"].share == pytest.approx((200 - 2) / 240)
    assert found.choices["b"].share == pytest.approx((32 - 2) / 240)
    assert found.together == 0
    assert found.chance == pytest.approx(1 - 228 / 240)
    mean, half, n = found.choices["a"].levels["1"]
    # The additive model leaves 8 with 5 degrees of freedom; the effect is half a difference of
    # two means of four.
    error = math.sqrt(8 / 5) * math.sqrt(1 / 8)
    assert (mean, n) == (pytest.approx(5), 4)
    assert half == pytest.approx(stats.t.ppf(0.975, 5) * error)
    assert list(found.choices) == ["a", "b"]


def test_effects_see_what_only_combinations_do():
    values = [0, 1, 10, 11, 10, 11, 0, 1]
    found = statistics.effects({"a": list("00001111"), "b": list("00110011")}, values)
    assert found.choices["a"].share == found.choices["b"].share == 0
    assert found.together > 0.9


def test_shares_of_choices_that_do_nothing_are_small():
    random = np.random.default_rng(9)
    names = list(itertools.product("abcd", "xyz", range(3)))
    choices = {"a": [n[0] for n in names], "b": [n[1] for n in names]}
    shares = [
        statistics.effects(choices, random.normal(size=len(names))).choices["a"].share
        for _ in range(300)
    ]
    # Uncorrected it would be 3/35 = 0.086 on average; corrected, what is below 0 counts as 0.
    assert np.mean(shares) < 0.06


def test_the_coverage_of_main_effects():
    random = np.random.default_rng(10)
    names = list(itertools.product(range(3), range(2), range(3)))
    choices = {"a": [str(n[0]) for n in names], "b": [str(n[1]) for n in names]}
    truth, covered = np.array([-1.0, 0.0, 1.0]), []
    for _ in range(600):
        y = truth[[n[0] for n in names]] + random.normal(size=len(names))
        mean, half, _ = statistics.effects(choices, y).choices["a"].levels["2"]
        covered.append(abs(mean - 1.0) <= half)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_unbalanced_and_confounded_choices_are_no_error():
    found = statistics.effects({"a": list("aab"), "b": list("xxy")}, [1.0, 2.0, 5.0])
    assert set(found.choices) == {"a", "b"}
    assert all(0 <= effect.share <= 1 for effect in found.choices.values())
    same = statistics.effects({"a": list("aabb")}, [1.0] * 4)
    assert same.choices["a"].share == 0
