"""Statistics against scipy, hand-counted cases, and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from trainlab.tables import statistics


def group(values, first=0):
    """Numbers as those of seeds first, first + 1, …"""
    return {first + i: float(value) for i, value in enumerate(values)}


def paired(a, b):
    return statistics.compare(group(a), group(b))


def unpaired(a, b):
    return statistics.compare(group(a), group(b, first=1000))


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


@pytest.mark.parametrize("n", [12, 20])
def test_more_than_twenty_pairs_are_counted_on_a_grid(n):
    """The grid of whole numbers against all 2ⁿ sums, and the grid against itself."""
    random = np.random.default_rng(n)
    steps = random.integers(-9, 15, n)
    assert statistics._flips_on_a_grid(steps) == pytest.approx(
        statistics.sign_flips(steps.astype(float)), rel=1e-9
    )
    d = random.normal(0.4, 1, 60)
    peer = stats.ttest_1samp(d, 0).pvalue  # close to the permutation test's in normal numbers
    assert statistics.sign_flips(d) == pytest.approx(peer, rel=0.3)
    always = np.ones(60) + random.uniform(0, 0.1, 60)
    assert statistics.sign_flips(always) == pytest.approx(2 / 2**60)
    assert paired([1] * 25, [1] * 25).p == 1


def test_a_paired_comparison_by_hand():
    found = paired([3, 4, 6, 5], [2, 2, 3, 6])
    assert found.difference == 1.25
    assert (found.wins, found.ties, found.n) == (3, 0, (4, 4))
    assert found.shift == pytest.approx(1.25 / np.std([1, 2, 3, -1], ddof=1))
    own = math.sqrt((np.var([3, 4, 6, 5], ddof=1) + np.var([2, 2, 3, 6], ddof=1)) / 2)
    assert found.d == pytest.approx(1.25 / own)
    assert found.p == 6 / 16  # |sum| ≥ 5: ±{1+2+3+1, 1+2+3-1, -1+2+3+1}
    assert found.least_p == 2 / 16
    low, high = stats.ttest_rel([3, 4, 6, 5], [2, 2, 3, 6]).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))


def test_above_twenty_pairs_the_interval_is_the_bootstraps():
    random = np.random.default_rng(1)
    a, b = random.exponential(1, 40) + 0.2, random.exponential(1, 40)
    found = paired(a, b)
    peer = stats.bootstrap((a - b,), np.mean, rng=np.random.default_rng(7)).confidence_interval
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.03)
    student = stats.ttest_rel(a, b).confidence_interval()
    assert found.low != pytest.approx(student.low, abs=1e-4)


@pytest.mark.parametrize("sizes", [(5, 6), (4, 4), (3, 7)])
def test_an_unpaired_comparison_counts_all_divisions(sizes):
    random = np.random.default_rng(2)
    a, b = random.normal(1, 1, sizes[0]), random.normal(0, 2, sizes[1])
    found = unpaired(a, b)
    all_of_them, count = np.concatenate([a, b]), 0
    for chosen in itertools.combinations(range(sum(sizes)), sizes[0]):
        mask = np.isin(range(sum(sizes)), chosen)
        gap = all_of_them[mask].mean() - all_of_them[~mask].mean()
        count += abs(gap) >= abs(a.mean() - b.mean()) - 1e-9
    welch = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert found.p == pytest.approx(max(welch, count / math.comb(sum(sizes), sizes[0])))
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    n, m = sizes
    spread = math.sqrt(((n - 1) * a.var(ddof=1) + (m - 1) * b.var(ddof=1)) / (n + m - 2))
    assert found.d == found.shift == pytest.approx((a.mean() - b.mean()) / spread)
    assert not found.paired


def test_the_smallest_p_of_few_numbers_is_what_the_largest_difference_gives():
    for n, m in ((3, 4), (4, 4), (3, 6)):
        found = unpaired(np.arange(n) * 1e-6 + 5, np.arange(m) * 1e-6)
        assert found.p == pytest.approx(found.least_p)
    assert paired([5, 6, 7], [0, 0, 0]).p == paired([5, 6, 7], [0, 0, 0]).least_p


def test_many_unpaired_numbers_are_welchs():
    random = np.random.default_rng(3)
    a, b = random.normal(0.5, 1, 15), random.normal(0, 3, 20)
    peer = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert unpaired(a, b).p == pytest.approx(peer)
    assert unpaired(a, b).least_p == 0


@pytest.mark.parametrize(("n", "m", "wide"), [(6, 6, 5.0), (5, 10, 5.0), (4, 15, 3.0)])
def test_unequal_spreads_are_not_taken_for_a_difference(n, m, wide):
    """A permutation test of the means alone finds one in 18 of 100 for 5 and 10 numbers."""
    random = np.random.default_rng(4)
    found = sum(
        unpaired(random.normal(0, wide, n), random.normal(0, 1, m)).p <= 0.05 for _ in range(400)
    )
    assert found <= 0.07 * 400


def test_partners():
    assert statistics.partners(group([1, 2, 3]), group([1, 2])) == [0, 1]
    assert statistics.partners(group([1, 2, 3]), group([1, 2], first=2)) == []
    assert statistics.partners(group(range(8)), group(range(8), first=6)) == []
    assert statistics.partners(group(range(8)), group(range(8), first=4)) == [4, 5, 6, 7]


def test_numbers_that_do_not_vary_are_no_error():
    same = paired([1, 1, 1], [1, 1, 1])
    assert (same.difference, same.p, same.d) == (0, 1, 0)
    apart = paired([2] * 6, [1] * 6)
    assert (apart.p, apart.d) == (2 / 64, math.inf)
    assert unpaired([2] * 6, [1] * 6).low == 1
    assert statistics.student({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}) == 1
    assert paired([2] * 30, [1] * 30).low == 1


def test_differences_that_are_alike_but_for_their_last_bits_have_no_spread():
    """As coarse metrics give: p = 0 for two seeds would be a discovery made of rounding."""
    a, b = {0: 0.9, 1: 0.7}, {0: 0.6, 1: 0.4}
    d = np.array([a[s] - b[s] for s in a])
    assert d.std() > 0
    assert statistics.student(a, b) == 0.5
    assert statistics.ranks([a, b]) == [1, 1]
    assert statistics.compare(a, b).shift == math.inf


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
    comparison = paired([1, 2], [0, 0])._replace(shift=effect)
    n = statistics.seeds_needed(comparison)
    random = np.random.default_rng(3)
    d = random.normal(effect, 1, (4000, n))
    power = (stats.ttest_1samp(d, 0, axis=1).pvalue <= 0.05).mean()
    # For large effects the exact test asks for more seeds than power does.
    assert power >= 0.78
    fewer = random.normal(effect, 1, (4000, max(2, n - 2)))
    assert n <= 6 or (stats.ttest_1samp(fewer, 0, axis=1).pvalue <= 0.05).mean() < 0.81


@pytest.mark.parametrize("paired_", [True, False])
@pytest.mark.parametrize("tests", [1, 105])
def test_a_larger_difference_never_needs_more_seeds(paired_, tests):
    comparison = paired([1, 2], [0, 0])._replace(paired=paired_)
    needed = [
        statistics.seeds_needed(comparison._replace(shift=0.5 + 0.01 * i), tests)
        for i in range(1950)
    ]
    assert all(a >= b for a, b in itertools.pairwise(needed))
    assert needed[-1] == statistics.seeds_able(paired_, tests)


def test_no_number_of_seeds_tells_nothing_from_nothing():
    comparison = paired([1, 2], [0, 0])
    assert statistics.seeds_needed(comparison._replace(shift=0.0)) is None
    assert statistics.seeds_needed(comparison._replace(shift=0.01)) is None
    assert statistics.seeds_needed(comparison._replace(shift=math.inf)) == 6  # 2 / 2⁶ < 0.05
    assert statistics.seeds_needed(comparison._replace(shift=math.inf), tests=10) == 9
    others = comparison._replace(shift=math.inf, paired=False)
    assert statistics.seeds_needed(others) == 4  # 2 / C(8, 4) < 0.05 < 2 / C(6, 3)


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
    assert statistics.ranks([{0: 1.0}, {0: 0.5}]) == [None, None]
    clear = [{0: 0.9, 1: 0.91, 2: 0.92}, {0: 0.1, 1: 0.11, 2: 0.13}]
    assert statistics.ranks([{0: 0.95}, *clear]) == [None, 1, 2]  # one seed voids no ranking


def test_a_missing_seed_does_not_undo_the_pairs():
    random = np.random.default_rng(20)
    seeds = random.normal(0, 0.1, 10)
    better, worse = group(seeds + 0.02 + random.normal(0, 0.005, 10)), group(seeds)
    del worse[9]
    assert statistics.ranks([better, worse]) == [1, 2]
    assert statistics.compare(better, worse).n == (9, 9)
    assert statistics.chances_of_best([better, worse], higher=True)[0] > 0.95


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


def test_a_bad_and_noisy_recipe_takes_nothing_of_the_order_of_the_others():
    random = np.random.default_rng(21)
    first, second = simulated(random, recipes=2, seeds=8, better=0.03)
    alone = statistics.chances_of_best([first, second], higher=True)
    bad = group(random.normal(0.5, 0.1, 8))
    chances = statistics.chances_of_best([first, second, bad], higher=True)
    assert chances[:2] == pytest.approx(alone, abs=0.01)
    assert chances[2] < 0.01


def test_chances_are_as_frequent_as_they_say():
    """Of those that say 60 to 90 %, about so many are right; with a noisy third recipe."""
    random, said, right = np.random.default_rng(22), [], []
    for _ in range(600):
        gap = random.normal(0, 0.006)  # what a prior that knows little would draw
        first, second = simulated(random, recipes=2, seeds=8, better=gap)
        chances = statistics.chances_of_best(
            [first, second, group(random.normal(0.5, 0.1, 8))], higher=True
        )
        leader = int(np.argmax(chances))
        if 0.6 <= chances[leader] <= 0.9:
            said.append(chances[leader])
            right.append((gap > 0) == (leader == 0))
    assert len(said) > 100
    assert np.mean(right) == pytest.approx(np.mean(said), abs=0.1)


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
    # Corrected, the four cells explain (232 - 3 · 2) / 240; what is left is the seeds'.
    assert found.chance == pytest.approx(1 - 226 / 240)
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


def test_choices_that_go_together_share_what_they_explain():
    """The second names the same runs as the first: neither explains anything by itself."""
    random = np.random.default_rng(23)
    names = list("aaaabbbb")
    values = np.where(np.array(names) == "a", 0.9, 0.5) + random.normal(0, 0.01, 8)
    found = statistics.effects({"one": names, "two": names}, values)
    assert found.choices["one"].share == found.choices["two"].share == 0
    assert set(found.tied) == {"one", "two"}
    assert found.choices["one"].levels == {}
    assert found.shared > 0.99
    assert found.chance < 0.01


def test_a_setting_that_some_runs_do_not_have_takes_nothing_of_the_choice_that_has_it():
    random = np.random.default_rng(24)
    optimizers = ["adam"] * 6 + ["momentum"] * 12
    momenta = [statistics.NOT_THERE] * 6 + ["0.5"] * 6 + ["0.9"] * 6
    truth = {"adam": 0.9, "momentum": 0.5}
    values = [truth[o] + 0.02 * (m == "0.9") for o, m in zip(optimizers, momenta, strict=True)]
    found = statistics.effects(
        {"optimizer": optimizers, "momentum": momenta}, values + random.normal(0, 0.005, 18)
    )
    assert found.tied == []
    assert found.choices["optimizer"].share > 0.9
    assert found.chance < 0.05
    levels = found.choices["momentum"].levels
    assert set(levels) == {"0.5", "0.9"}
    assert levels["0.9"][0] == pytest.approx(0.01, abs=0.005)


def test_effects_of_one_kind_of_run():
    same = statistics.effects({"a": list("aabb")}, [1.0] * 4)
    assert same.choices["a"].share == 0
    without_seeds = statistics.effects({"a": list("abc")}, [1.0, 2.0, 3.0])
    assert math.isnan(without_seeds.chance)
    assert math.isnan(without_seeds.together)
