"""Noise inside a network: layers whose random numbers are named, as everything drawn here.

A layer of noise holds the name of its numbers in two buffers, which are no part of a checkpoint:
whoever trains the model sets `key` once, another for each layer and member of a stack, and `step`
before every training step. One member may be called, solo or under vmap, with x (B, …); or a whole
stack of R members, with x (R, B, …) and buffers (R,). The numbers are the same.
"""

import torch
from torch import Tensor, nn

from trainlab import parallel, streams


class Noisy(nn.Module):
    """Base of all layers that draw: `draw` is a function of `key`, `step` and the shape alone."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("key", torch.tensor(0), persistent=False)
        self.register_buffer("step", torch.tensor(0), persistent=False)

    def draw(self, x: Tensor, axes: int | None = None) -> Tensor:
        """Float32 numbers from U[0, 1) that broadcast to x, a fresh one for every element.

        With `axes`, only the first so many axes of a member's x have numbers of their own, and
        share them along the others.
        """
        shape, rows = x.shape[self.key.dim() :][:axes], parallel.present()
        return _aligned(streams.uniform(self.key, self.step[..., None], shape, rows), x)


def _aligned(values: Tensor, x: Tensor) -> Tensor:
    """`values` with axes of length 1 behind, until there are as many as of x."""
    return values.view(*values.shape, *[1] * (x.dim() - values.dim()))


class Dropout(Noisy):
    """x · mask / (1 − rate) in training, mask = 1[u ≥ rate], u ~ U[0, 1) per number; x in test.

    As torch.nn.Dropout, but the rate is a buffer: members of a stack may have rates of their own.
    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014 (JMLR 15).

    >>> Dropout(0.0)(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    axes: int | None = None  # the first so many axes have masks of their own; None: all

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("rate", torch.tensor(float(rate)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        rate = _aligned(self.rate, x)
        mask = self.draw(x, self.axes) >= rate
        return x * (mask / (1 - rate)).to(x.dtype)


class SpatialDropout(Dropout):
    """Dropout of whole feature maps: one number per example and channel; (B, features[, H, W]).

    Neighbouring pixels tell nearly the same, so that dropping single ones hides little. As
    torch.nn.Dropout2d; on (B, features) it is Dropout. Tompson, Goroshin, Jain, LeCun & Bregler
    2015, arXiv:1411.4280.
    """

    axes = 2
