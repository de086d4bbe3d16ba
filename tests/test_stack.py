"""A stack's members are their solo runs: outputs, gradients, buffers, and back to modules."""

from functools import partial

import pytest
import torch
from torch import nn

from trainlab import noise, norms
from trainlab.activations import Maxout, RReLU, Step, Swish, swiglu
from trainlab.architectures.ensembles import Ensemble
from trainlab.stack import Stack

R, B, K = 5, 9, 3


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
@pytest.mark.parametrize("nets", [0, 2])
def test_dense_members_equal_their_solo_runs_to_the_last_bit(norm, nets):
    """At usual widths, also of ensembles: this keeps chaotic runs the same, stacked or not."""

    def model(seed):
        torch.manual_seed(seed)
        layers = [nn.Flatten(), nn.Linear(64, 128)] + ([norm(128)] if norm else [])
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 10))

    models = [model(seed) for seed in range(R)]
    if nets:
        models = [Ensemble([model(nets * r + i) for i in range(nets)]) for r in range(R)]
    stack, solos = Stack(models), [Stack([module]) for module in models]
    x = torch.randn(R, 32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    outputs = stack(x)
    stack.backward(outputs.square().flatten(1).sum(1))
    for r, solo in enumerate(solos):
        output = solo(x[r : r + 1])
        solo.backward(output.square().flatten(1).sum(1))
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


# ---------------------------------------------------------------- ensembles


def ensembles(name, size):
    """R ensembles, and their nets: each with its own weights, key and rate of dropout."""
    nets = [[MODELS[name](K * r + i) for i in range(K)] for r in range(size)]
    return [Ensemble(each) for each in nets], nets


def called(*arguments):
    raise AssertionError("nets one by one")


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    "name", ["mlp", "gelu", "no bias", "batch norm", "dropout", "rrelu", "prelu", "cnn"]
)
def test_nets_of_ensembles_equal_plain_modules(name, size, monkeypatch):
    """Outputs, gradients, running averages and noise, without a call of the ensembles unless R = 1
    and the nets are not dense ones."""
    models, nets = ensembles(name, size)
    stack = Stack(models)
    if size > 1 or name not in ("prelu", "cnn"):
        monkeypatch.setattr(Ensemble, "forward", called)
    close = partial(torch.testing.assert_close, rtol=2e-6, atol=1e-6)
    for step in range(3):
        x = inputs(step)[:size]
        stack.at(step)
        outputs = stack(x)
        assert outputs.shape == (size, B, K, 3)
        stack.backward(outputs.square().mean((1, 2, 3)), add=step > 0)
        for r, each in enumerate(nets):
            for i, net in enumerate(each):
                for layer in net.modules():
                    if isinstance(layer, noise.Noisy):
                        layer.step.fill_(step)
                expected = net(x[r])
                (expected.square().mean() / K).backward()
                close(outputs[r, :, i], expected)
                gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
                close(stack.g[r].view(K, -1)[i], gradient)
            found, expected = stack.state_dict(r), models[r].state_dict()
            assert list(found) == list(expected)
            for key, value in expected.items():
                close(found[key], value)
    stack.train(False)
    outputs = stack(inputs(7)[:size])
    for r, each in enumerate(nets):
        for i, net in enumerate(each):
            close(outputs[r, :, i], net.eval()(inputs(7)[r]))
    monkeypatch.undo()
    member = stack.member(size - 1).eval()
    close(member(inputs(7)[size - 1]), outputs[size - 1])
    program = torch.export.export(member, (inputs(7)[0],))
    assert torch.equal(program.module()(inputs(7)[0]), member(inputs(7)[0]))


@pytest.mark.parametrize("size", [1, 3])
def test_batch_norm_of_all_nets_is_measured_at_once(size):
    """As fit.py does it: with the momentum of layers in the template."""
    stack = Stack(ensembles("batch norm", size)[0])
    for layer in stack.template.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = 1.0
    x = inputs()[:size]
    stack(x)
    for r in range(size):
        for name, mean in stack.state_dict(r).items():
            if name.endswith("running_mean"):
                first = stack.member(r).get_submodule(name.removesuffix(".2.running_mean"))[:2]
                torch.testing.assert_close(mean, first(x[r]).mean(0))


def test_torchs_optimizers_get_the_parameters_of_an_ensemble():
    (model,), _ = ensembles("mlp", 1)
    stack, x = Stack([model]), inputs()[:1]
    names = [name for name, _ in model.named_parameters()]
    assert list(stack.leaves) == names
    for leaf, gradient, own in zip(
        stack.leaves.values(), stack.gradients(), model.parameters(), strict=True
    ):
        assert leaf.shape == gradient[0].shape == own.shape
    for leaf in stack.leaves.values():
        leaf.data.zero_()
    assert not stack(x).any()


def test_ensembles_are_compiled_as_the_modules_they_are(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    (model,), _ = ensembles("mlp", 1)
    stack = Stack([model], compiled=True)
    assert compiled == [stack.template]
    assert torch.equal(stack(inputs()[:1])[0], model(inputs()[0]))


def test_a_stack_of_ensembles_of_one_net():
    models = [Ensemble([mlp(seed)]) for seed in range(R)]
    outputs = Stack(models)(inputs())
    assert outputs.shape == (R, B, 1, 3)
    torch.testing.assert_close(outputs[4], models[4](inputs()[4]))
