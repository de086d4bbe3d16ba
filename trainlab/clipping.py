"""Gradient clipping: `(g, w, lengths, layout, **settings)` shortens g (R, P) in place.

`lengths` (R, 1) are the Euclidean lengths of the rows, which the loop has measured anyway.
"""

import torch
from torch import Tensor

from trainlab.config import widest
from trainlab.layout import Layout

Number = float | Tensor  # a number for all members, or a column (R, 1)


def value(g: Tensor, w: Tensor, lengths: Tensor, layout: Layout, max: Number = 1.0) -> None:
    """Each component to [−max, max]; the direction may change. Equals torch's clip_grad_value_."""
    g.clamp_(-max, max) if not isinstance(max, Tensor) else g.clamp_(-max.to(g), max.to(g))


def norm(g: Tensor, w: Tensor, lengths: Tensor, layout: Layout, max: Number = 1.0) -> None:
    """Rows longer than max are scaled to that length; the direction is kept.

    Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063. Equals torch's clip_grad_norm_ (up to its
    1e-6).
    """
    lengths = lengths.to(widest(lengths.device))  # as where max is a column
    g.mul_((max / lengths).clamp_(max=1.0).nan_to_num_(1.0).to(g.dtype))


def agc(
    g: Tensor,
    w: Tensor,
    lengths: Tensor,
    layout: Layout,
    share: Number = 0.01,
    eps: Number = 1e-3,
    output: bool = False,
) -> None:
    """Adaptive: ‖gᵢ‖ ≤ share · max(‖wᵢ‖, ε) for each unit i; longer ones are scaled to that.

    Brock, De, Smith & Simonyan 2021, arXiv:2102.06171. The output layer is left alone unless
    `output`, as in the paper.
    """
    share, eps = (v.to(g.dtype) if isinstance(v, Tensor) else v for v in (share, eps))
    weights = torch.maximum(layout.lengths(w), torch.as_tensor(eps, dtype=w.dtype, device=w.device))
    shrink = (share * weights / layout.lengths(g)).clamp_(max=1.0).nan_to_num_(1.0)[:, layout.unit]
    g.mul_(shrink if output else torch.where(layout.output, 1.0, shrink))
