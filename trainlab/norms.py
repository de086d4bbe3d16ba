"""Normalization: a factory `(features, dims, **settings) -> nn.Module`.

`features` is the number of units (dims=1: inputs (B, features)) or of channels (dims=2: (B,
features, H, W)).
"""

from torch import nn


def batch(features: int, dims: int, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module:
    """(x − mean) / √(var + ε) over the batch, per unit or channel, then a learnt scale and shift.

    Running averages stand in for the batch when evaluating. Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[dims]
    return kind(features, eps=eps, momentum=momentum)


def layer(features: int, dims: int, eps: float = 1e-5) -> nn.Module:
    """(x − mean) / √(var + ε) over the features of each example, then a learnt scale and shift.

    On images over channels and pixels together, which is a group norm of one group.
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    return nn.LayerNorm(features, eps=eps) if dims == 1 else nn.GroupNorm(1, features, eps=eps)
