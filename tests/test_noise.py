"""Dropout: how much is dropped, what is left, and that the numbers are those of key and step."""

import math

import pytest
import torch
from torch.func import functional_call, vmap

from trainlab.noise import Dropout, SpatialDropout

KINDS = [Dropout, SpatialDropout]
SHAPES = [(8, 6), (8, 6, 5, 4)]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=["dense", "images"])


def named(kind, rate, key=1, step=0):
    layer = kind(rate)
    layer.key.fill_(key)
    layer.step.fill_(step)
    return layer


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("kind", "shape", "draws"),
    [(Dropout, (500, 100), 50_000), (Dropout, (100, 20, 5, 5), 50_000),
     (SpatialDropout, (500, 100), 50_000), (SpatialDropout, (500, 100, 2, 2), 50_000)],
)  # fmt: skip
def test_the_rate_is_dropped_and_the_rest_scaled(kind, shape, draws, rate):
    y = named(kind, rate)(torch.ones(shape))
    dropped = (y == 0).float().mean().item()
    assert abs(dropped - rate) < 5 * math.sqrt(rate * (1 - rate) / draws)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - rate)))


def test_dropout_drops_single_numbers_and_spatial_dropout_whole_maps():
    ones = torch.ones(64, 16, 5, 4)
    (dropped, spatial) = (named(kind, 0.5)(ones).flatten(2) for kind in KINDS)
    alike = (dropped == dropped[:, :, :1]).float().mean().item()
    assert alike == pytest.approx(0.5 + 0.5 / 20, abs=0.02)  # a number is like itself
    assert torch.equal(spatial, spatial[:, :, :1].expand_as(spatial))
    maps = spatial[:, :, 0]
    assert len({tuple(row.tolist()) for row in maps}) > 60  # every example has its own
    assert torch.equal(named(SpatialDropout, 0.5)(ones[..., 0, 0]), maps)
    assert torch.equal(named(Dropout, 0.5)(ones[..., 0, 0]), maps)


@every_kind
@every_shape
def test_identity_in_test_and_at_rate_zero(kind, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(named(kind, 0.7).eval()(x), x)
    assert torch.equal(named(kind, 0.0)(x), x)
    assert not torch.equal(named(kind, 0.7)(x), x)


def test_at_rate_zero_even_the_number_zero_is_kept():
    layer, x = named(Dropout, 0.0, key=73427), torch.ones(8, 6)  # a key found by search
    assert layer.draw(x).min() == 0
    assert torch.equal(layer(x), x)


@every_kind
@every_shape
def test_the_same_name_gives_the_same_mask_and_another_another(kind, shape):
    x = torch.ones(shape)
    mask = named(kind, 0.5, key=3, step=7)(x)
    assert torch.equal(named(kind, 0.5, key=3, step=7)(x), mask)
    assert not torch.equal(named(kind, 0.5, key=3, step=8)(x), mask)
    assert not torch.equal(named(kind, 0.5, key=4, step=7)(x), mask)


@every_kind
@every_shape
def test_the_gradient_is_the_scaled_mask(kind, shape):
    layer = named(kind, 0.3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    assert gradient.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert torch.equal(gradient, layer(torch.ones(shape)))


@every_kind
@every_shape
@pytest.mark.parametrize("shared_step", [True, False])
def test_members_equal_solo_calls_exactly(kind, shape, shared_step):
    """Under vmap, and with a leading axis R; each with a key and a rate of its own."""
    keys, rates = torch.tensor([5, -6, 2**62]), torch.tensor([0.0, 0.25, 0.8])
    steps = torch.tensor(9) if shared_step else torch.tensor([9, 10, 2**20])
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    layer = kind()

    def call(key, step, rate, x):
        return functional_call(layer, {"key": key, "step": step, "rate": rate}, (x,))

    solo = [
        named(kind, rate.item(), key.item(), step.item())(row)
        for key, step, rate, row in zip(keys, steps.expand(3), rates, x, strict=True)
    ]
    mapped = vmap(call, (0, None if shared_step else 0, 0, 0))(keys, steps, rates, x)
    assert torch.equal(mapped, torch.stack(solo))
    assert torch.equal(call(keys, steps, rates, x), torch.stack(solo))


@every_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_keeps_the_type_of_its_input(kind, dtype):
    for shape in SHAPES:
        assert named(kind, 0.5)(torch.ones(shape, dtype=dtype)).dtype is dtype


@every_kind
def test_nothing_of_it_is_saved(kind):
    assert not kind(0.5).state_dict()
    assert set(dict(kind(0.5).named_buffers())) == {"key", "step", "rate"}
