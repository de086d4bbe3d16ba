"""Architectures: functions `(inputs, outputs, act, norm, **settings) -> nn.Module`.

`inputs` is the shape of one input and `outputs` the number of outputs, both taken from the data;
`act()` gives an activation module, `norm(features, dims)` a normalization module, or `norm` is
None.
"""

import math
from collections.abc import Callable, Sequence

from torch import nn

from trainlab.config import UserError

Shape = tuple[int, ...]
Factory = Callable[..., nn.Module]


def _needs_bias(norm: nn.Module | None) -> bool:
    # Batch norm subtracts whatever a bias adds, and has a shift of its own.
    return not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)


def _block(
    layer: Callable[..., nn.Module], width: int, dims: int, act: Factory, norm: Factory | None
):
    """Layer, normalization if any, activation: the one place that orders them."""
    normalization = norm(width, dims) if norm else None
    block = [layer(bias=_needs_bias(normalization)), normalization, act()]
    return [module for module in block if module is not None]


def _dense(n_in: int, n_out: int) -> Callable[..., nn.Module]:
    return lambda bias: nn.Linear(n_in, n_out, bias=bias)


def linear(inputs: Shape, outputs: int, act: Factory, norm: Factory | None) -> nn.Module:
    """Softmax, logistic or linear regression: (B, *inputs) -> (B, outputs), no hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), outputs))


def mlp(
    inputs: Shape,
    outputs: int,
    act: Factory,
    norm: Factory | None,
    hidden: Sequence[int] = (128, 64),
) -> nn.Module:
    """Dense layers of the widths `hidden`: (B, *inputs) -> (B, outputs)."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(inputs)
    for units in hidden:
        layers += _block(_dense(width, units), units, 1, act, norm)
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def cnn(
    inputs: Shape,
    outputs: int,
    act: Factory,
    norm: Factory | None,
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
        layers += _block(
            lambda bias, n_in=depth, n_out=n: nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias),
            n,
            2,
            act,
            norm,
        )
        layers.append(nn.MaxPool2d(2))
        depth, height, width = n, height // 2, width // 2
    layers.append(nn.Flatten())
    layers += _block(_dense(depth * height * width, dense), dense, 1, act, norm)
    return nn.Sequential(*layers, nn.Linear(dense, outputs))
