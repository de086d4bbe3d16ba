"""Architectures: functions `(inputs, outputs, block, **settings) -> nn.Module`.

`inputs` is the shape of one input and `outputs` the number of outputs, both taken from the data;
`block` makes the hidden layers, with the recipe's normalization, activation and dropout around
them.
"""

import math
from collections.abc import Callable, Sequence
from inspect import signature
from typing import NamedTuple

from torch import nn

from trainlab.config import UserError
from trainlab.norms import BATCH

Shape = tuple[int, ...]


class Block(NamedTuple):
    """What a recipe puts around each hidden layer; the one place that orders it.

    >>> Block(nn.ReLU).dense(8, 4)
    [Linear(in_features=8, out_features=4, bias=True), ReLU()]
    """

    act: Callable[..., nn.Module]
    norm: Callable[..., nn.Module | None] | None = None
    place: str = "before"  # normalization before or after the activation
    dropout: Callable[[], nn.Module] | None = None  # behind every hidden layer
    spatial_dropout: Callable[[], nn.Module] | None = None  # behind convolutions

    def dense(self, n_in: int, n_out: int) -> list[nn.Module]:
        """(B, n_in) -> (B, n_out)."""
        return self._around(1, n_out, lambda width, bias: nn.Linear(n_in, width, bias=bias))

    def conv(self, n_in: int, n_out: int, size: int, **settings: int) -> list[nn.Module]:
        """(B, n_in, H, W) -> (B, n_out, H, W), H and W kept by padding unless settings say else."""
        settings = {"padding": size // 2} | settings
        return self._around(
            2, n_out, lambda width, bias: nn.Conv2d(n_in, width, size, bias=bias, **settings)
        )

    def _around(
        self, dims: int, n_out: int, layer: Callable[[int, bool], nn.Module]
    ) -> list[nn.Module]:
        act = self.activation(n_out)
        width = n_out * getattr(act, "widens", 1)
        before = self.norm(width, dims) if self.norm and self.place == "before" else None
        after = self.norm(n_out, dims) if self.norm and self.place == "after" else None
        # Batch norm subtracts whatever a bias adds, and has a shift of its own.
        bias = not isinstance(before, BATCH)
        spatial = self.spatial_dropout() if self.spatial_dropout and dims == 2 else None
        dropout = self.dropout() if self.dropout else None
        modules = [layer(width, bias), before, act, after, spatial, dropout]
        return [module for module in modules if module is not None]

    def activation(self, features: int) -> nn.Module:
        """The activation for so many features, which those with learnt slopes need to know."""
        wants = "features" in signature(self.act).parameters
        return self.act(features=features) if wants else self.act()


def linear(inputs: Shape, outputs: int, block: Block) -> nn.Module:
    """Softmax, logistic or linear regression: (B, *inputs) -> (B, outputs), no hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), outputs))


def mlp(
    inputs: Shape,
    outputs: int,
    block: Block,
    hidden: Sequence[int] = (128, 64),
) -> nn.Module:
    """Dense layers of the widths `hidden`: (B, *inputs) -> (B, outputs)."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(inputs)
    for units in hidden:
        layers += block.dense(width, units)
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def cnn(
    inputs: Shape,
    outputs: int,
    block: Block,
    channels: Sequence[int] = (16, 32),
    dense: int = 128,
) -> nn.Module:
    """LeNet-sized (LeCun 1998): (B, C, H, W) -> (B, outputs).

    For each of `channels` a 3×3 convolution, norm, act and 2×2 max pooling; then one dense layer.
    Raises UserError where the inputs are no images, or too small.
    """
    if len(inputs) != 3:
        raise UserError(
            f"arch=cnn needs images (channels, height, width), but an input of these data has "
            f"shape {inputs}. Use arch=mlp, or a dataset of images such as digits or mnist."
        )
    depth, height, width = inputs
    if min(height, width) < 2 ** len(channels):
        raise UserError(
            f"arch=cnn halves the image {len(channels)} times (arch.channels={list(channels)}), "
            f"and {height}×{width} pixels allow only {int(math.log2(min(height, width)))}."
        )
    layers: list[nn.Module] = []
    for n in channels:
        layers += block.conv(depth, n, 3)
        layers.append(nn.MaxPool2d(2))
        depth, height, width = n, height // 2, width // 2
    layers.append(nn.Flatten())
    layers += block.dense(depth * height * width, dense)
    return nn.Sequential(*layers, nn.Linear(dense, outputs))
