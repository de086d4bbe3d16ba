"""Random numbers by name: published values of the generator, moments, laws, and members' own."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import vmap

from trainlab.streams import bits, normal, uniform

KEYS, COUNT = [0, 1, -7, 2**62 + 12345], 100_001  # odd, so that one half of the bits is left over
every_key = pytest.mark.parametrize("key", KEYS)

# SplitMix64 from seed 1234567, as published with the reference code.
PUBLISHED = [
    6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
    16408922859458223821,
]  # fmt: skip


def unsigned(values):
    return [value % 2**64 for value in values.tolist()]


def splitmix64(state):
    """One number from a state, by Python's integers."""
    z = state % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_bits_are_the_published_ones():
    assert unsigned(bits(torch.tensor(1234567), 0, 5)) == PUBLISHED
    assert [splitmix64(1234567 + i * 0x9E3779B97F4A7C15) for i in range(1, 6)] == PUBLISHED


@every_key
@pytest.mark.parametrize("step", [1, 1000, 2**31 - 1])
def test_a_step_is_a_place_in_the_sequence(key, step):
    places = range((step << 32) + 1, (step << 32) + 8)
    expected = [splitmix64(key + place * 0x9E3779B97F4A7C15) for place in places]
    assert unsigned(bits(torch.tensor(key), step, 7)) == expected
    assert unsigned(bits(torch.tensor(key), torch.tensor(step), 7)) == expected


@every_key
def test_uniform(key):
    numbers = uniform(torch.tensor(key), 3, (COUNT,)).double()
    assert numbers.shape == (COUNT,)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert torch.equal(numbers * 2**24, (numbers * 2**24).floor())
    for power in (1, 2, 3, 4):  # E uⁿ = 1/(n+1), Var uⁿ = 1/(2n+1) − 1/(n+1)²
        spread = math.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / COUNT)
        assert abs(numbers.pow(power).mean().item() - 1 / (power + 1)) < 5 * spread
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3


@every_key
def test_normal(key):
    numbers = normal(torch.tensor(key), 3, (COUNT,)).double()
    assert numbers.shape == (COUNT,)
    for power in (1, 2, 3, 4):  # E zⁿ = (n−1)!! for even n, else 0
        mean, square = (stats.norm.moment(n) for n in (power, 2 * power))
        spread = math.sqrt((square - mean**2) / COUNT)
        assert abs(numbers.pow(power).mean().item() - mean) < 5 * spread
    assert stats.kstest(numbers.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("law", [uniform, normal])
def test_numbers_are_independent(law):
    """Of neighbours, of the other half of the sequence, of other steps and of other keys."""
    rows = [law(torch.tensor(key), step, (COUNT,)).numpy() for key in KEYS for step in (0, 1, 2)]
    half = (COUNT + 1) // 2
    pairs = [(row[:-lag], row[lag:]) for row in rows for lag in (1, half)]
    correlations = [stats.pearsonr(*pair).statistic for pair in pairs]
    correlations += list(np.corrcoef(rows)[np.triu_indices(len(rows), 1)])
    assert max(map(abs, correlations)) < 5 / math.sqrt(COUNT - half)


@pytest.mark.parametrize("law", [uniform, normal])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4, 5)])
def test_members_draw_what_they_draw_alone(law, shape):
    keys = torch.tensor(KEYS)
    together = law(keys, 5, shape)
    assert together.shape == (len(KEYS), *shape)
    assert together.dtype is torch.float32
    mapped = vmap(lambda key: law(key, 5, shape))(keys)
    for r, key in enumerate(keys):
        assert torch.equal(together[r], law(key, 5, shape))
        assert torch.equal(mapped[r], together[r])
