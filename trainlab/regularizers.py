"""Regularizers: what acts on the loss, the gradient and the weights, besides the data.

Their settings are the keys of `reg`, all zero unless chosen, so that any of them go together and
each may differ between the members of a stack. Dropout is part of the model (noise.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainlab import streams
from trainlab.config import Config, setting
from trainlab.layout import Layout

Number = float | Tensor  # a number for all members, or a column (R, 1)

_DECAY_OF_NOISE = 0.55  # of its variance with the step, as in the paper


class Regularizers(NamedTuple):
    """The regularizers of a stack; with all numbers 0, nothing is done."""

    l1: Number
    l2: Number
    weight_decay: Number
    max_norm: Number
    label_smoothing: Number
    gradient_noise: Number
    layout: Layout
    mask: Tensor  # (P,) 1 where l1, l2 and weight_decay act
    keys: Tensor  # (R,) of the noise

    def on_gradient(self, g: Tensor, w: Tensor, step: int) -> None:
        """g += ∂(l1 Σ|w| + l2 Σw²)/∂w + N(0, γ/(1 + t)^0.55)."""
        if _any(self.l1):
            g.add_(w.sign() * (self._as(self.l1, w) * self.mask))
        if _any(self.l2):
            g.addcmul_(w, self._as(self.l2, w) * (2 * self.mask))
        if _any(self.gradient_noise):
            variance = self._as(self.gradient_noise, w) / (1 + step) ** _DECAY_OF_NOISE
            g.add_(streams.normal(self.keys, step, g.shape[1:]) * variance**0.5)

    def on_weights(self, w: Tensor, lr: Tensor) -> None:
        """After a step: w ← (1 − η λ) w, then units longer than max_norm to that length.

        `lr` (R, 1) or (R, P); what has rate 0 stays as it is.
        """
        if _any(self.weight_decay):
            w.mul_(1 - (lr.to(w) * self._as(self.weight_decay, w)) * self.mask)
        if _any(self.max_norm):
            longest = self._as(self.max_norm, w)
            shrink = (longest / self.layout.lengths(w).clamp_min_(1e-12)).clamp_(max=1.0)
            moves = self.layout.weight & (lr > 0)
            w.mul_(torch.where(moves, shrink[:, self.layout.unit], 1.0))

    def penalty(self, w: Tensor) -> Tensor | None:
        """l1 Σ|w| + l2 Σw² of every member, (R,); None where there is neither."""
        if not (_any(self.l1) or _any(self.l2)):
            return None
        l1, l2 = self._as(self.l1, w), self._as(self.l2, w)
        return ((l1 * w.abs() + l2 * w.square()) * self.mask).sum(1)

    @staticmethod
    def _as(number: Number, like: Tensor) -> Number:
        return number.to(like.dtype) if isinstance(number, Tensor) else number


def _any(number: Number) -> bool:
    # Whether a regularizer is there at all is the same for all members of a stack (stack_key).
    return isinstance(number, Tensor) or number != 0


def regularizers(configs: Sequence[Config], layout: Layout, device: torch.device) -> Regularizers:
    """Those of the configs of a stack's members."""
    names = ("l1", "l2", "weight_decay", "max_norm", "label_smoothing", "gradient_noise")
    numbers = [setting(configs, "reg", name, device) for name in names]
    mask = torch.ones_like(layout.weight) if configs[0]["reg"]["biases"] else layout.weight
    keys = [streams.seed_of(config["seed"], "gradient noise") for config in configs]
    return Regularizers(*numbers, layout, mask.float(), torch.tensor(keys, device=device))
