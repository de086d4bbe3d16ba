"""Optimizers of torch's own, over views of the parameter matrix."""

import copy

import pytest
import torch
from torch import nn

from trainlab.adapters import Adapted, factors, is_torchs, muon
from trainlab.config import UserError, build, compose
from trainlab.optimizers import adam
from trainlab.stack import Stack


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)
    )


X, Y = torch.randn(8, 1, 3, 3, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3


def loss_of(model):
    return nn.functional.cross_entropy(model(X), Y)


def adapted(stack, make, lr, multipliers=None):
    gradients = [gradient[0] for gradient in stack.gradients()]
    return Adapted(make, stack.leaves, gradients, lr, multipliers)


def ours(make, lr, steps=10, shares=None, multipliers=None):
    stack = Stack([net()])
    optimizer = adapted(stack, make, lr, multipliers)

    def gradient():
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(stack(X[None])[0], Y)
            stack.backward(loss[None])
        return loss.detach()

    for step in range(steps):
        gradient()
        optimizer.step(lr * (shares[step] if shares else 1), gradient)
    return stack.state_dict(0)


def torchs(make, lr, steps=10, shares=None):
    model = net()
    optimizer = make(model)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (shares[step] if shares else 1)

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)
    return model.state_dict()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.Adam, dict(lr=0.01)),
        (torch.optim.SGD, dict(lr=0.1, momentum=0.9)),
        (torch.optim.Adafactor, dict(lr=0.01)),
        (torch.optim.LBFGS, dict(lr=1.0, line_search_fn="strong_wolfe", max_iter=5)),
    ],
)
def test_equals_torch_on_the_same_model(kind, settings):
    expected = torchs(lambda model: kind(model.parameters(), **settings), settings["lr"])
    result = ours(lambda params: kind(params, **settings), settings["lr"])
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value, msg=name)


def test_the_schedule_sets_the_rate():
    shares = [1.0, 0.5, 0.1, 0.1]
    expected = torchs(lambda m: torch.optim.Adam(m.parameters(), lr=0.1), 0.1, 4, shares)
    result = ours(lambda params: torch.optim.Adam(params, lr=0.1), 0.1, 4, shares)
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value)


def test_multipliers_are_parameter_groups():
    frozen = ours(lambda p: torch.optim.SGD(p, lr=0.1), 0.1, multipliers={"0.*": 0, "*.bias": 2})

    def make(model):
        weights = [p for n, p in model.named_parameters() if n in ("2.weight", "4.weight")]
        return torch.optim.SGD(weights, lr=0.1)

    assert torch.equal(frozen["0.weight"], net()[0].weight)
    assert not torch.equal(frozen["2.weight"], net()[2].weight)
    one_step = ours(lambda p: torch.optim.SGD(p, lr=0.1), 0.1, 1, multipliers={"*.bias": 2})
    model = net()
    loss_of(model).backward()
    torch.testing.assert_close(one_step["4.bias"], model[4].bias - 0.2 * model[4].bias.grad)
    torch.testing.assert_close(one_step["4.weight"], model[4].weight - 0.1 * model[4].weight.grad)


def test_factors_by_pattern():
    assert factors(["a.weight", "a.bias"], {"a.*": 0.5, "*.bias": 2}) == {
        "a.weight": 0.5,
        "a.bias": 2,
    }
    with pytest.raises(UserError, match=r"no parameter is called b.*There are: a.weight"):
        factors(["a.weight"], {"b": 1})


def test_muon_takes_matrices_and_kernels_and_adamw_the_rest():
    model = net()
    kernel = nn.Parameter(model[0].weight.detach().flatten(1).clone())
    loss_of(model).backward()
    kernel.grad = model[0].weight.grad.flatten(1)
    matrices = [kernel, model[2].weight, model[4].weight]
    vectors = [model[0].bias, model[2].bias, model[4].bias]
    torch.optim.Muon(
        matrices, lr=0.02, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0
    ).step()
    torch.optim.AdamW(vectors, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01).step()
    result = ours(muon, 0.02, steps=1)
    torch.testing.assert_close(result["0.weight"].flatten(1), kernel.detach())
    for name in ("0.bias", "2.weight", "2.bias", "4.weight", "4.bias"):
        torch.testing.assert_close(result[name], model.state_dict()[name], msg=name)


def test_what_counts_as_torchs():
    assert is_torchs(torch.optim.Adam)
    assert is_torchs(build(compose(["optimizer=muon"]), "optimizer"))
    assert is_torchs(build(compose(["optimizer=lbfgs"]), "optimizer"))
    assert not is_torchs(adam)


@pytest.mark.parametrize("optimizer", ["muon", "lbfgs"])
def test_going_on_from_a_saved_state_is_exact(optimizer):
    make = build(compose([f"optimizer={optimizer}"]), "optimizer")
    lr = make.keywords["lr"]
    stack = Stack([net()])
    used = adapted(stack, make, lr)

    def advance(stack, optimizer, steps):
        def gradient():
            with torch.enable_grad():
                loss = nn.functional.cross_entropy(stack(X[None])[0], Y)
                stack.backward(loss[None])
            return loss.detach()

        for _ in range(steps):
            gradient()
            optimizer.step(lr, gradient)

    advance(stack, used, 3)
    other = Stack([stack.member(0)])
    again = adapted(other, make, lr)
    again.load(copy.deepcopy(used.state()))
    advance(stack, used, 3)
    advance(other, again, 3)
    assert torch.equal(stack.w, other.w)


def test_fp16_is_refused(trainlab):
    answer = trainlab("train", "optimizer=muon", "precision=fp16", "epochs=1")
    assert answer.code == 2
    assert "Use bf16 or fp32" in answer.err
