"""A stack's members are their solo runs: outputs, gradients, buffers, and back to modules."""

import pytest
import torch
from torch import nn

from trainlab import noise, norms
from trainlab.activations import Maxout, RReLU, Step, Swish, swiglu
from trainlab.stack import Stack

R, B = 5, 9


def noisy(seed, kind, act=nn.ReLU):
    """Each member with its own key and rate."""
    model = mlp(seed, act=act)
    model.insert(3, kind())
    for layer in model:
        if isinstance(layer, noise.Noisy):
            layer.key.fill_(seed)
            layer.step.fill_(7)
        if isinstance(layer, noise.Dropout):
            layer.rate.fill_(0.1 + 0.1 * seed)
    return model


def gated(seed, act):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), act(), nn.Linear(8, 3))


def wrapped(seed, wrap):
    model = cnn(seed)
    wrap(model[0]), wrap(model[4])
    return model


def mlp(seed, *, norm=None, act=nn.ReLU, bias=True):
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(12, 8, bias=bias)]
    layers += [norm(8)] if norm else []
    return nn.Sequential(*layers, act(), nn.Linear(8, 3))


def cnn(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)
    )


MODELS = {
    "mlp": mlp,
    "gelu": lambda seed: mlp(seed, act=nn.GELU),
    "no bias": lambda seed: mlp(seed, bias=False),
    "batch norm": lambda seed: mlp(seed, norm=nn.BatchNorm1d),
    "layer norm": lambda seed: mlp(seed, norm=nn.LayerNorm),
    "prelu": lambda seed: mlp(seed, act=nn.PReLU),
    "cnn": cnn,
    "dropout": lambda seed: noisy(seed, noise.Dropout),
    "spatial dropout": lambda seed: noisy(seed, noise.SpatialDropout),
    "dropout under vmap": lambda seed: noisy(seed, noise.Dropout, act=nn.PReLU),
    "rrelu": lambda seed: noisy(seed, nn.Identity, act=RReLU),
    "maxout": lambda seed: gated(seed, Maxout),
    "swiglu": lambda seed: gated(seed, swiglu),
    "swish": lambda seed: mlp(seed, act=Swish),
    "step": lambda seed: mlp(seed, act=Step),
    "rms": lambda seed: mlp(seed, norm=lambda features: norms.rms(features, 1)),
    "weight norm": lambda seed: wrapped(seed, norms.weight),
}


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(R, B, 1, 4, 3, generator=generator)


@pytest.mark.parametrize("name", MODELS)
def test_members_equal_plain_modules(name):
    """Outputs, gradients and running averages of R members and of R modules on their own."""
    modules = [MODELS[name](seed) for seed in range(R)]
    stack = Stack(modules)
    for seed in range(3):
        x = inputs(seed)
        outputs = stack(x)
        stack.backward(outputs.square().sum((1, 2)))
        for r, module in enumerate(modules):
            module.zero_grad()
            expected = module(x[r])
            expected.square().sum().backward()
            gradient = torch.cat([p.grad.flatten() for p in module.parameters()])
            torch.testing.assert_close(outputs[r], expected)
            torch.testing.assert_close(stack.g[r], gradient)
            for key, value in module.state_dict().items():
                torch.testing.assert_close(stack.state_dict(r)[key], value)
    stack.train(False)
    outputs = stack(inputs(7))
    for r, module in enumerate(modules):
        module.eval()
        torch.testing.assert_close(outputs[r], module(inputs(7)[r]))


@pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="other kernels, equal to rounding"
)
@pytest.mark.parametrize("norm", [None, nn.BatchNorm1d])
def test_dense_members_equal_their_solo_runs_to_the_last_bit(norm):
    """At usual widths; this is what keeps chaotic runs the same, stacked or not."""

    def model(seed):
        torch.manual_seed(seed)
        layers = [nn.Flatten(), nn.Linear(64, 128)] + ([norm(128)] if norm else [])
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 10))

    models = [model(seed) for seed in range(R)]
    stack, solos = Stack(models), [Stack([module]) for module in models]
    x = torch.randn(R, 32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    outputs = stack(x)
    stack.backward(outputs.square().sum((1, 2)))
    for r, solo in enumerate(solos):
        output = solo(x[r : r + 1])
        solo.backward(output.square().sum((1, 2)))
        assert torch.equal(outputs[r], output[0])
        assert torch.equal(stack.g[r], solo.g[0])


@pytest.mark.parametrize("size", [1, 3])
def test_changing_w_changes_the_members(size):
    stack = Stack([mlp(seed) for seed in range(size)])
    with torch.no_grad():
        stack.w.zero_()
    assert stack(inputs()[:size]).abs().max() == 0
    assert all(value.abs().max() == 0 for value in stack.state_dict(size - 1).values())


@pytest.mark.parametrize("name", ["mlp", "batch norm", "cnn"])
def test_a_member_is_an_ordinary_module_of_its_own(name):
    stack = Stack([MODELS[name](seed) for seed in range(R)])
    member = stack.member(2)
    expected = MODELS[name](2)
    assert list(member.state_dict()) == list(expected.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(member.parameters(), expected.parameters(), strict=True)
    )
    before = stack.w.clone()
    torch.optim.SGD(member.parameters(), lr=1.0).zero_grad()
    member(inputs()[0]).sum().backward()
    torch.optim.SGD(member.parameters(), lr=1.0).step()
    assert torch.equal(stack.w, before)


def test_load_puts_a_state_dict_into_a_row():
    stack, other = Stack([cnn(seed) for seed in range(3)]), cnn(9)
    stack.load(1, other.state_dict())
    for key, value in other.state_dict().items():
        assert torch.equal(stack.state_dict(1)[key], value)
    assert not torch.equal(stack.w[0], stack.w[1])


def test_shared_weights_stay_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(6, 6)
            self.decoder = nn.Linear(6, 6)
            self.decoder.weight = self.encoder.weight

        def forward(self, x):
            return self.decoder(torch.relu(self.encoder(x)))

    for size in (1, 2):
        stack = Stack([Tied() for _ in range(size)])
        assert stack.parameters == 6 * 6 + 6 + 6
        member = stack.member(size - 1)
        assert member.decoder.weight is member.encoder.weight
        state = stack.state_dict(0)
        assert torch.equal(state["decoder.weight"], state["encoder.weight"])


def test_frozen_parameters_are_no_part_of_the_matrix():
    for size in (1, 2):
        models = [mlp(seed) for seed in range(size)]
        for model in models:
            model[1].weight.requires_grad_(False)
        stack = Stack(models)
        assert stack.parameters == 8 + 8 * 3 + 3
        assert torch.equal(stack.state_dict(size - 1)["1.weight"], models[-1][1].weight)


def test_a_parameter_the_loss_does_not_reach_has_gradient_zero():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x):
            return self.used(x)

    for size in (1, 2):
        stack = Stack([Idle() for _ in range(size)])
        stack.backward(stack(torch.ones(size, 4, 3)).sum((1, 2)))
        assert stack.g[:, :4].abs().min() > 0
        assert stack.g[:, 4:].abs().max() == 0
