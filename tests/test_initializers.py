"""Initial weights: moments against the formulas, streams per layer, biases and norms left alone."""

import math

import pytest
import torch
from torch import nn

from trainlab.config import build, compose
from trainlab.initializers import auto, initialize
from trainlab.streams import stream

LINEAR, CONV = (400, 300), (64, 32, 3, 3)  # n_out, n_in, kernel


def fans(shape):
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


VARIANCE = {
    "glorot_normal": lambda i, o: 2 / (i + o),
    "glorot_uniform": lambda i, o: 2 / (i + o),
    "he_normal": lambda i, o: 2 / i,
    "he_uniform": lambda i, o: 2 / i,
    "normal": lambda i, o: 0.05**2,
}


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("name", VARIANCE)
def test_moments_follow_the_formula(name, shape):
    std = ["init.std=0.05"] if name == "normal" else []
    init = build(compose([f"init={name}", *std]), "init")
    weight = torch.empty(shape)
    init(weight, generator=stream(0, "test"))
    variance = VARIANCE[name](*fans(shape))
    n = weight.numel()
    assert weight.mean().abs().item() < 5 * math.sqrt(variance / n)
    assert weight.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))
    if name.endswith("uniform"):
        assert weight.abs().max().item() == pytest.approx(math.sqrt(3 * variance), rel=1e-3)


@pytest.mark.parametrize(
    ("act", "variance"),
    [("torch.nn.ReLU", lambda i, o: 2 / i), ("torch.nn.Tanh", lambda i, o: 2 / (i + o)),
     ("torch.nn.SELU", lambda i, o: 1 / i), ("mine.Own", lambda i, o: 2 / (i + o))],
)  # fmt: skip
def test_auto_suits_the_activation(act, variance):
    weight = auto(torch.empty(LINEAR), stream(0, "test"), act=act)
    assert weight.var().item() == pytest.approx(variance(*fans(LINEAR)), rel=0.03)


def test_auto_takes_the_activation_from_the_config():
    assert build(compose(["act=tanh"]), "init").keywords["act"] == "torch.nn.Tanh"


def model():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


def test_same_seed_same_values_and_layers_have_streams_of_their_own():
    init = build(compose(["init=he_normal"]), "init")
    one, other = initialize(model(), init, seed=3), initialize(model(), init, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    wider = nn.Sequential(nn.Conv2d(1, 4, 5), *list(model())[1:])  # another first layer
    assert torch.equal(initialize(wider, init, seed=3)[3].weight, one[3].weight)
    assert not torch.equal(initialize(model(), init, seed=4)[3].weight, one[3].weight)


def test_biases_are_zero_and_norm_layers_as_made():
    made = initialize(model(), build(compose(["init=he_normal"]), "init"), seed=0)
    assert made[0].bias.abs().max() == made[3].bias.abs().max() == 0
    assert made[1].weight.tolist() == [1.0] * 4
