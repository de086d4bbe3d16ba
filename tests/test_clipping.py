import pytest
import torch

from trainlab import clipping


def clipped(clip, g, **settings):
    g = g.clone()
    clip(g, torch.linalg.vector_norm(g, dim=1, keepdim=True), **settings)
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
