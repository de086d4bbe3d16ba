"""Ensembles: several nets that learn side by side, and are asked together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainlab.architectures.block import NUMBERS, Block, Shape, gives
from trainlab.architectures.convolutional import cnn
from trainlab.architectures.dense import mlp


class Ensemble(nn.Module):
    """The outputs of all members, nets of one architecture: (B, *inputs) -> (B, members, outputs).

    One after the other here; a stack of ensembles computes their members as one of its own.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members], 1)


@gives(*NUMBERS, members=True)
def ensemble(
    inputs: Shape,
    outputs: int,
    block: Block,
    members: int = 5,
    of: str = "mlp",
    hidden: Sequence[int] = (128, 64),
    channels: Sequence[int] = (16, 32),
    dense: int = 128,
) -> nn.Module:
    """Independent members that differ in their initial weights: (B, *inputs) -> (B, members,
    outputs).

    Each is an `mlp` with `hidden`, or a `cnn` with `channels` and `dense`. Hansen & Salamon 1990;
    Lakshminarayanan, Pritzel & Blundell 2016, arXiv:1612.01474.
    """

    def member() -> nn.Module:
        if of == "mlp":
            return mlp(inputs, outputs, block, hidden)
        return cnn(inputs, outputs, block, channels, dense)

    return Ensemble([member() for _ in range(members)])
