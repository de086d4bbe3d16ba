"""Regularizers against autograd of the penalized loss, torch's optimizers, and their formulas."""

import pytest
import torch
from torch import nn

from trainlab import streams
from trainlab.config import UserError, compose
from trainlab.regularizers import regularizers
from trainlab.stack import Stack


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def setup(*overrides, members=1):
    stack = Stack([net(seed) for seed in range(members)])
    configs = [compose([*overrides, f"seed={seed}"]) for seed in range(members)]
    return stack, regularizers(configs, stack.layout, torch.device("cpu"))


@pytest.mark.parametrize("biases", [False, True])
def test_l1_and_l2_are_terms_of_the_loss(biases):
    stack, reg = setup("reg.l1=0.3", "reg.l2=0.2", f"reg.biases={biases}")
    model = net(0)
    chosen = [
        p for name, p in model.named_parameters() if biases or name in ("0.weight", "3.weight")
    ]
    penalty = sum(0.3 * p.abs().sum() + 0.2 * p.square().sum() for p in chosen)
    gradients = torch.autograd.grad(penalty, list(model.parameters()), materialize_grads=True)
    reg.on_gradient(stack.g, stack.w, step=0)
    torch.testing.assert_close(stack.g[0], torch.cat([g.flatten() for g in gradients]))
    torch.testing.assert_close(reg.penalty(stack.w)[0], penalty.detach())


def test_without_regularizers_nothing_is_touched():
    stack, reg = setup()
    before = stack.w.clone()
    reg.on_gradient(stack.g, stack.w, step=0)
    reg.on_weights(stack.w, torch.tensor([[0.1]]))
    assert torch.equal(stack.w, before)
    assert not stack.g.any()
    assert reg.penalty(stack.w) is None


def test_decoupled_weight_decay_equals_torchs_adamw():
    """One step with no gradient: all that is left is the decay."""
    stack, reg = setup("reg.weight_decay=0.2", "reg.biases=true")
    model = net(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.2)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    reg.on_weights(stack.w, torch.tensor([[0.1]]))
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(stack.w[0], expected)


def test_max_norm_bounds_the_incoming_weights_of_units_and_nothing_else():
    stack, reg = setup("reg.max_norm=0.5")
    model = net(0)
    reg.on_weights(stack.w, torch.tensor([[0.1]]))
    after = stack.state_dict(0)
    for name, value in model.state_dict().items():
        if name in ("0.weight", "3.weight"):
            expected = torch.renorm(value, 2, 0, 0.5)
            assert not torch.equal(expected, value)
            torch.testing.assert_close(after[name], expected)
        else:
            torch.testing.assert_close(after[name], value)


def test_gradient_noise_falls_with_the_step_and_differs_between_members():
    stack, reg = setup("reg.gradient_noise=0.04", members=2)
    drawn = []
    for step in (0, 99):
        stack.g.zero_()
        reg.on_gradient(stack.g, stack.w, step)
        drawn.append(stack.g.clone())
    keys = [streams.seed_of(seed, "gradient noise") for seed in range(2)]
    for r, key in enumerate(keys):
        normal = streams.normal(torch.tensor(key), 99, (stack.parameters,))
        torch.testing.assert_close(drawn[1][r], normal * (0.04 / 100**0.55) ** 0.5)
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert drawn[0].std().item() == pytest.approx(0.2, rel=0.2)


def test_members_with_their_own_numbers_equal_solo():
    names = dict(l1=(0.1, 0.3), l2=(0.2, 0.1), weight_decay=(0.3, 0.1), max_norm=(0.5, 0.9))
    names |= dict(gradient_noise=(0.1, 0.2))
    lr = torch.tensor([[0.1], [0.2]])

    def config(r):
        return compose([*(f"reg.{k}={v[r]}" for k, v in names.items()), f"seed={r}"])

    def apply(models, configs, lr):
        stack = Stack(models)
        reg = regularizers(configs, stack.layout, torch.device("cpu"))
        reg.on_gradient(stack.g, stack.w, step=3)
        stack.w -= lr * stack.g
        reg.on_weights(stack.w, lr)
        return stack.w

    together = apply([net(0), net(1)], [config(0), config(1)], lr)
    for r in range(2):
        torch.testing.assert_close(together[r : r + 1], apply([net(r)], [config(r)], lr[r : r + 1]))


def test_keys_and_options_are_the_same_run():
    one, other = compose(["reg=[l2,dropout]"]), compose(["reg.l2=1e-4", "reg.dropout=0.5"])
    assert one["reg"] == other["reg"]
    assert one["choices"]["reg"] == other["choices"]["reg"] == "l2+dropout"
    with pytest.raises(UserError, match=r"reg.ll2 is no regularizer. Did you mean reg.l2"):
        compose(["+reg.ll2=1"])
