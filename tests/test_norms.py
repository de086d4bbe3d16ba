"""Normalization against torch and against formulas; folding; statistics of the whole split."""

import pytest
import torch
from torch import nn

from trainlab import data, norms, prepare
from trainlab.architectures import Block
from trainlab.config import UserError, build, compose, options

DENSE, IMAGES = (7, 16), (7, 16, 5, 6)


def random(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def made(name, *overrides, dims=1, features=16):
    return build(compose([f"norm={name}", *overrides]), "norm")(features, dims)


def centred(x, over):
    return (x - x.mean(over, keepdim=True)) / (
        x.var(over, correction=0, keepdim=True) + 1e-5
    ).sqrt()


def grouped(x, groups):
    parts = x.view(len(x), groups, -1, *x.shape[2:])
    return centred(parts, tuple(range(2, parts.dim()))).view_as(x)


# What each gives for x, its scale and shift as they are at the start.
EXPECTED = {
    "batch": lambda x: centred(x, (0, *range(2, x.dim()))),
    "layer": lambda x: centred(x, tuple(range(1, x.dim()))),
    "group": lambda x: grouped(x, 8),
    "instance": lambda x: centred(x, (2, 3)),
    "rms": lambda x: x / (x.square().mean(tuple(range(1, x.dim())), keepdim=True) + 1e-6).sqrt(),
    "local_response": lambda x: nn.functional.local_response_norm(
        x if x.dim() > 2 else x[..., None], 5, 1e-4, 0.75, 1.0
    ).view_as(x),
}


def test_every_norm_of_activations_is_in_the_table():
    own = [name for name in options("norm") if name not in ("none", "weight", "spectral")]
    assert sorted(EXPECTED) == sorted(own)


@pytest.mark.parametrize("shape", [DENSE, IMAGES], ids=["dense", "images"])
@pytest.mark.parametrize("name", EXPECTED)
def test_equals_its_formula(name, shape):
    if (name, shape) == ("instance", DENSE):
        assert made(name) is None  # no pixels
        return
    module = made(name, dims=len(shape) // 2)
    x = random(shape)
    torch.testing.assert_close(module(x), EXPECTED[name](x), rtol=1e-4, atol=1e-5)


def test_rms_equals_torch_with_a_learnt_scale():
    ours, torchs = made("rms"), nn.RMSNorm(16, eps=1e-6)
    for module in (ours, torchs):
        module.weight.data = torch.linspace(0.5, 2, 16)
    torch.testing.assert_close(ours(random(DENSE)), torchs(random(DENSE)))


def test_local_response_within_channels_looks_at_a_window_of_pixels():
    module = made("local_response", "norm.across=false", "norm.size=3", "norm.alpha=0.5", dims=2)
    x = random(IMAGES)
    y = module(x)
    padded = nn.functional.pad(x.square(), (1, 1, 1, 1))
    for row, column in ((0, 0), (2, 3), (4, 5)):
        mean = padded[:, :, row : row + 3, column : column + 3].sum((2, 3)) / 9
        expected = x[:, :, row, column] / (1 + 0.5 * mean) ** 0.75
        torch.testing.assert_close(y[:, :, row, column], expected)
    with pytest.raises(UserError, match="needs convolutions"):
        made("local_response", "norm.across=false", dims=1)


def test_groups_that_do_not_divide_the_features():
    with pytest.raises(UserError, match=r"groups=5 does not divide the 16"):
        made("group", "norm.groups=5")


@pytest.mark.parametrize("place", ["before", "after"])
def test_place_and_bias(place):
    block = Block(nn.ReLU, norms.batch, place)
    linear, *rest = block.dense(8, 4)
    kinds = [type(layer) for layer in rest]
    assert kinds == ([nn.BatchNorm1d, nn.ReLU] if place == "before" else [nn.ReLU, nn.BatchNorm1d])
    assert (linear.bias is None) == (place == "before")
    assert Block(nn.ReLU, norms.layer, place).dense(8, 4)[0].bias is not None


# ---------------------------------------------------------------- weights


def model_of(*overrides):
    config = compose(["max_examples=100", *overrides])
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    return prepare.build_model(config, examples), examples


def test_weight_normalization_starts_as_the_plain_net_and_learns_length_and_direction():
    plain, examples = model_of("arch=cnn")
    normed, _ = model_of("arch=cnn", "norm=weight")
    torch.testing.assert_close(normed(examples.x), plain(examples.x))
    layer = normed[0]
    length = layer.parametrizations.weight.original0
    direction = layer.parametrizations.weight.original1
    expected = length * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(layer.weight, expected)


def test_weight_normalization_equals_torch():
    ours, torchs = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
    torchs.load_state_dict(ours.state_dict())
    norms.weight(ours)
    nn.utils.parametrizations.weight_norm(torchs)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    for module in (ours, torchs):
        module(torch.ones(1, 2, 5, 5)).square().sum().backward()
    for mine, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
        torch.testing.assert_close(mine.grad, other.grad)


def test_spectral_normalization_divides_by_the_largest_singular_value():
    normed, examples = model_of("norm=spectral", "norm.n_power_iterations=50")
    normed(examples.x)
    for layer in normed:
        if isinstance(layer, nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-3)


# ---------------------------------------------------------------- folding


@pytest.mark.parametrize("arch", ["mlp", "cnn"])
def test_folding_keeps_the_outputs(arch):
    model, examples = model_of(f"arch={arch}", "norm=batch")
    model.train()
    for _ in range(3):
        model(examples.x * 2 + 1)  # running averages and scales that are not 0 and 1
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, norms.BATCH):
                layer.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
                layer.bias.fill_(0.3)
    expected = model.eval()(examples.x)
    folded = norms.fold(model)
    torch.testing.assert_close(folded(examples.x), expected, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(layer, norms.BATCH) for layer in folded.modules())


def test_batch_norm_behind_an_activation_stays():
    model, _ = model_of("norm=batch", "norm.place=after")
    assert sum(isinstance(layer, norms.BATCH) for layer in norms.fold(model).modules()) == 2


def test_a_run_leaves_its_folded_weights(trainlab):
    answer = trainlab("train", "norm=batch", "norm.fold=true", "epochs=2", "max_examples=200")
    state = torch.load(answer.path / "checkpoints" / "folded.pt", weights_only=True)["model"]
    assert sorted(state) == sorted(f"{i}.{kind}" for i in (1, 4, 7) for kind in ("weight", "bias"))


# ---------------------------------------------------------------- exact statistics


@pytest.mark.parametrize("arch", ["mlp", "cnn"])
def test_exact_statistics_are_those_of_the_training_split(arch, trainlab):
    """The running averages of the saved model are mean and variance over the whole split."""
    typed = [f"arch={arch}", "norm=batch", "norm.exact=true", "epochs=2", "max_examples=200"]
    answer = trainlab("train", *typed, "reg.dropout=0.3")
    assert answer.code == 0, answer.err
    config = compose(typed)
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    model = prepare.build_model(config, examples)
    state = torch.load(answer.path / "checkpoints" / "best.pt", weights_only=True)["model"]
    names = [name for name in state if "running" in name]
    saved = {name: state[name].clone() for name in names}
    plain = iter(state.values())  # without the dropout layers the names differ
    model.load_state_dict({name: next(plain) for name in model.state_dict()})
    for layer in model.modules():
        if isinstance(layer, norms.BATCH):
            layer.momentum = 1.0
    model.train()
    model(examples.x[examples.splits["train"]])
    expected = [value for name, value in model.state_dict().items() if "running" in name]
    assert len(expected) == len(saved) >= 4
    for value, ours in zip(expected, saved.values(), strict=True):
        torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-5)
