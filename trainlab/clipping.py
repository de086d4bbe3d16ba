"""Gradient clipping: functions `(g, lengths, **settings)` that shorten g (R, P) in place.

`lengths` (R, 1) are the Euclidean lengths of the rows, which the loop has measured anyway.
"""

from torch import Tensor

from trainlab.config import widest


def value(g: Tensor, lengths: Tensor, max: float | Tensor = 1.0) -> None:
    """Each component to [−max, max]; the direction may change. Equals torch's clip_grad_value_."""
    g.clamp_(-max, max) if not isinstance(max, Tensor) else g.clamp_(-max.to(g), max.to(g))


def norm(g: Tensor, lengths: Tensor, max: float | Tensor = 1.0) -> None:
    """Rows longer than max are scaled to that length; the direction is kept.

    Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063. Equals torch's clip_grad_norm_ (up to its
    1e-6).
    """
    lengths = lengths.to(widest(lengths.device))  # as where max is a column
    g.mul_((max / lengths).clamp_(max=1.0).nan_to_num_(1.0).to(g.dtype))
