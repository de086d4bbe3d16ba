"""Clipping against torch.nn.utils, and the adaptive kind against its formula unit by unit."""

import pytest
import torch
from torch import nn

from trainlab import clipping
from trainlab.stack import Stack


def clipped(clip, g, **settings):
    g = g.clone()
    clip(g, None, torch.linalg.vector_norm(g, dim=1, keepdim=True), None, **settings)
    return g


def test_value_bounds_each_component_and_turns_the_gradient():
    assert clipped(clipping.value, torch.tensor([[0.9, 100.0]]), max=1.0).tolist() == [
        [pytest.approx(0.9), 1.0]
    ]


def test_norm_keeps_the_direction():
    g = clipped(clipping.norm, torch.tensor([[0.9, 100.0]]), max=1.0)[0]
    assert g.norm().item() == pytest.approx(1.0)
    assert (g[0] / g[1]).item() == pytest.approx(0.009)


@pytest.mark.parametrize("length", [0.0, 0.5, 1e30])
def test_short_rows_stay_as_they_are(length):
    g = torch.tensor([[0.3, 0.4]]) * length * 2
    expected = g if g.norm() <= 1 else g / g.norm()
    torch.testing.assert_close(clipped(clipping.norm, g, max=1.0), expected)


def test_rows_and_their_bounds_are_independent_and_equal_torch():
    g, bounds = torch.randn(4, 50) * 3, torch.tensor([[0.1], [1.0], [5.0], [1000.0]])
    for ours, torchs in (
        (clipping.norm, torch.nn.utils.clip_grad_norm_),
        (clipping.value, torch.nn.utils.clip_grad_value_),
    ):
        rows = clipped(ours, g, max=bounds)
        for row, raw, bound in zip(rows, g, bounds, strict=True):
            w = torch.zeros(50, requires_grad=True)
            w.grad = raw.clone()
            torchs([w], bound.item())
            torch.testing.assert_close(row, w.grad, rtol=1e-5, atol=1e-6)


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 2))


length = torch.linalg.vector_norm


@pytest.mark.parametrize("output", [False, True])
def test_adaptive_clipping_bounds_each_unit_by_its_weights(output):
    models, shares = [net(0), net(1)], torch.tensor([[0.01], [0.5]], dtype=torch.float64)
    stack = Stack(models)
    stack.g.normal_(generator=torch.Generator().manual_seed(2))
    stack.g[:, :2] *= 1e-4  # short ones stay
    raw = [g.clone() for g in stack.gradients()]
    clipping.agc(stack.g, stack.w, None, stack.layout, share=shares, eps=1e-3, output=output)
    for r, model in enumerate(models):
        named = list(model.named_parameters())
        for (name, w), before, after in zip(named, raw, stack.gradients(), strict=True):
            g = before[r]
            over = tuple(range(1, w.dim())) if w.dim() > 1 else (0,)
            longest = shares[r].item() * length(w, dim=over, keepdim=True).clamp_min(1e-3)
            expected = g * (longest / length(g, dim=over, keepdim=True)).clamp(max=1)
            if name.startswith("3") and not output:
                expected = g
            torch.testing.assert_close(after[r], expected.detach(), msg=name)
