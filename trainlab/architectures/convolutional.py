"""Convolutional nets without shortcuts around layers: for images (channels, height, width)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainlab.architectures.block import NUMBERS, Block, Shape, gives
from trainlab.config import UserError


def check_images(inputs: Shape, arch: str) -> None:
    """Raise UserError where the inputs are no images."""
    if len(inputs) != 3:
        raise UserError(
            f"arch={arch} needs images (channels, height, width), but an input of these data has "
            f"shape {inputs}. Give images as (examples, channels, height, width), or choose "
            "another arch."
        )


def _check_halvings(inputs: Shape, arch: str, setting: str, values: Sequence[int]) -> None:
    """Raise UserError where the inputs are no images, or too small to halve for each value."""
    check_images(inputs, arch)
    _, height, width = inputs
    if min(height, width) < 2 ** len(values):
        raise UserError(
            f"arch={arch} halves the image {len(values)} times (arch.{setting}={list(values)}), "
            f"and {height}×{width} pixels allow only {int(math.log2(min(height, width)))}."
        )


@gives(*NUMBERS)
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
    _check_halvings(inputs, "cnn", "channels", channels)
    depth, height, width = inputs
    layers: list[nn.Module] = []
    for n in channels:
        layers += block.conv(depth, n, 3)
        layers.append(nn.MaxPool2d(2))
        depth, height, width = n, height // 2, width // 2
    layers.append(nn.Flatten())
    layers += block.dense(depth * height * width, dense)
    return nn.Sequential(*layers, nn.Linear(dense, outputs))


@gives(*NUMBERS)
def vgg(
    inputs: Shape,
    outputs: int,
    block: Block,
    stages: Sequence[int] = (32, 64, 128),
    convolutions: Sequence[int] = (2, 2, 2),
) -> nn.Module:
    """Plain deep convolutions (Simonyan & Zisserman 2014, arXiv:1409.1556).

    (B, C, H, W) -> (B, outputs). Stage i is `convolutions[i]` 3×3 convolutions of `stages[i]`
    channels and a 2×2 max pooling. Where the paper ends in three large dense layers, for images of
    224 pixels, here the mean over the pixels left goes into one (Lin, Chen & Yan 2013,
    arXiv:1312.4400). Raises UserError where the inputs are no images or too small, or the two lists
    differ in length.
    """
    _check_halvings(inputs, "vgg", "stages", stages)
    if len(stages) != len(convolutions):
        raise UserError(
            f"arch=vgg has {len(stages)} stages (arch.stages={list(stages)}), and "
            f"arch.convolutions={list(convolutions)} counts {len(convolutions)}; give both lists "
            "the same length."
        )
    layers: list[nn.Module] = []
    depth = inputs[0]
    for n, count in zip(stages, convolutions, strict=True):
        for _ in range(count):
            layers += block.conv(depth, n, 3)
            depth = n
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *mean_and_linear(depth, outputs))


def mean_and_linear(channels: int, outputs: int) -> list[nn.Module]:
    """(B, channels, H, W) -> (B, outputs), a linear layer of the channels' means."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)]


class Beside(nn.Module):
    """x, and what `inner` makes of it, side by side: (B, C, H, W) -> (B, C + C', H, W)."""

    def __init__(self, *inner: nn.Module):
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


@gives("segmentation")
def unet(inputs: Shape, outputs: int, block: Block, depth: int = 3, base: int = 16) -> nn.Module:
    """Encoder and decoder with connections between them: (B, C, H, W) -> (B, outputs, H, W).

    Two 3×3 convolutions, then `depth` times 2×2 max pooling, the channels doubled from `base` on,
    and two more; the way back up halves the channels again, and sees at each size what the way down
    saw there. Ronneberger, Fischer & Brox 2015, arXiv:1505.04597, with padded convolutions, so that
    the output has the size of the input, and 3×3 where they have 2×2 behind the enlargement.
    Raises UserError where the inputs are no images, or cannot be halved so often.
    """
    check_images(inputs, "unet")
    channels, height, width = inputs
    sides = math.gcd(height, width)
    if sides % 2**depth:
        fits = (sides & -sides).bit_length() - 1  # halvings without a remainder
        raise UserError(
            f"arch=unet halves the image arch.depth={depth} times, and {height}×{width} pixels are "
            f"not divisible by 2^{depth} = {2**depth}. Use arch.depth={fits}, or other pixels."
        )
    return nn.Sequential(*_level(channels, base, depth, block), nn.Conv2d(base, outputs, 1))


def _level(n_in: int, n: int, depth: int, block: Block) -> list[nn.Module]:
    """(B, n_in, H, W) -> (B, n, H, W), with `depth` smaller sizes below."""
    down = [*block.conv(n_in, n, 3), *block.conv(n, n, 3)]
    if depth == 0:
        return down
    below = [nn.MaxPool2d(2), *_level(n, 2 * n, depth - 1, block)]
    enlarged = [nn.Upsample(scale_factor=2), *block.conv(2 * n, n, 3)]
    return [
        *down, Beside(*below, *enlarged), *block.conv(2 * n, n, 3), *block.conv(n, n, 3)
    ]  # fmt: skip
