"""Residual nets: blocks learn what to add to their inputs, so that depth does no harm."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from trainlab.architectures.block import NUMBERS, Block, Shape, gives
from trainlab.architectures.convolutional import check_images, mean_and_linear
from trainlab.config import UserError
from trainlab.noise import Dropout


class Residual(nn.Module):
    """shortcut(x) + scale · branch(x)."""

    def __init__(self, branch: Sequence[nn.Module], shortcut: nn.Module, scale: float = 1.0):
        super().__init__()
        self.branch, self.shortcut, self.scale = nn.Sequential(*branch), shortcut, scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.shortcut(x), self.branch(x), alpha=self.scale)


@gives(*NUMBERS)
def mlp_residual(
    inputs: Shape, outputs: int, block: Block, depth: int = 100, width: int = 100
) -> nn.Module:
    """Pre-activation residual dense layers: (B, *inputs) -> (B, outputs).

    A linear layer to `width` features, then n = depth/2 blocks x + F(x)/√n, F being twice norm, act
    and a dense layer; norm, act and the output layer. He, Zhang, Ren & Sun 2016, arXiv:1603.05027.
    They have no 1/√n: it keeps the variance bounded at any depth, also without normalization (Zhang
    et al. 2019, arXiv:1903.07120). Raises UserError where the depth is odd.
    """
    if depth % 2:
        raise UserError(
            f"arch=mlp_residual has blocks of two layers: arch.depth={depth} must be even, such as "
            f"{depth + 1}."
        )
    layers: list[nn.Module] = [nn.Flatten(), block.bare_dense(math.prod(inputs), width)]
    for _ in range(depth // 2):
        first, second = (
            [*block.around(width, 1), block.bare_dense(width, width)] for _ in range(2)
        )
        layers.append(Residual([*first, *second], nn.Identity(), math.sqrt(2 / depth)))
    return nn.Sequential(*layers, *block.around(width, 1), nn.Linear(width, outputs))


# ---------------------------------------------------------------- images


@gives(*NUMBERS)
def resnet(
    inputs: Shape, outputs: int, block: Block, depth: int = 20, width: int = 16
) -> nn.Module:
    """The residual net for CIFAR, of depth 6n + 2: (B, C, H, W) -> (B, outputs).

    A 3×3 convolution, then three stages of n blocks act(x + F(x)), F being two 3×3 convolutions, of
    `width`, 2 · `width` and 4 · `width` channels, each later stage halving the image; the mean over
    the pixels and the output layer. Shortcuts have no parameters (option A: `PaddedShortcut`). He,
    Zhang, Ren & Sun 2015, arXiv:1512.03385, section 4.2; made for norm=batch. Raises UserError
    where the inputs are no images, or the depth is another.
    """
    layers = block.conv(inputs[0], width, 3)
    for n_in, n_out, stride in _stages("resnet", inputs, depth, 2, width, width):
        branch = [
            *block.conv(n_in, n_out, 3, stride=stride),
            block.bare_conv(n_out, n_out, 3),
            *block.before(n_out, 2),
        ]
        channels = block.widens * n_out
        same = channels == n_in and stride == 1
        shortcut = nn.Identity() if same else PaddedShortcut(channels, stride)
        layers += [Residual(branch, shortcut), *block.behind(n_out, 2)]
    return nn.Sequential(*layers, *mean_and_linear(4 * width, outputs))


class PaddedShortcut(nn.Module):
    """Every `stride`-th pixel, and zeros for new channels: (B, C, H, W) -> (B, channels, H', W').

    Option A of He et al. 2015.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


@gives(*NUMBERS)
def wide_resnet(
    inputs: Shape,
    outputs: int,
    block: Block,
    depth: int = 16,
    widening: int = 4,
    dropout: float = 0.0,
) -> nn.Module:
    """Pre-activation residual net, wide instead of deep, of depth 6n + 4: (B, C, H, W) -> (B,
    outputs).

    A 3×3 convolution of 16 channels, then three stages of n blocks x + F(x), F being twice norm,
    act and a 3×3 convolution, of 16, 32 and 64 times `widening` channels, each later stage halving
    the image; norm, act, the mean over the pixels and the output layer. Where the shape changes,
    the shortcut is a 1×1 convolution of what F's first convolution sees. `dropout`, where it is not
    0, stands between the convolutions of each block, in the place of the recipe's. Zagoruyko &
    Komodakis 2016, arXiv:1605.07146. Raises UserError where the inputs are no images, or the depth
    is another.
    """
    inner = block._replace(dropout=partial(Dropout, dropout)) if dropout else block
    stages = _stages("wide_resnet", inputs, depth, 4, 16, 16 * widening)
    layers: list[nn.Module] = [block.bare_conv(inputs[0], 16, 3)]
    for n_in, n_out, stride in stages:
        first = block.around(n_in, 2)
        branch = [
            block.bare_conv(n_in, n_out, 3, stride=stride),
            *inner.around(n_out, 2),
            block.bare_conv(n_out, n_out, 3),
        ]
        if n_in == n_out and stride == 1:
            layers.append(Residual([*first, *branch], nn.Identity()))
        else:
            layers += [*first, Residual(branch, block.bare_conv(n_in, n_out, 1, stride=stride))]
    channels = 64 * widening
    return nn.Sequential(*layers, *block.around(channels, 2), *mean_and_linear(channels, outputs))


def _stages(
    arch: str, inputs: Shape, depth: int, rest: int, n_in: int, width: int
) -> list[tuple[int, int, int]]:
    """Channels in, channels out and stride of every block, in three stages of (depth − rest)/6.

    Raises UserError where the inputs are no images, or the depth is not 6n + rest.
    """
    check_images(inputs, arch)
    blocks, odd = divmod(depth - rest, 6)
    if odd or blocks < 1:
        near = 6 * max(1, round((depth - rest) / 6)) + rest
        raise UserError(
            f"arch={arch} has three stages of n blocks of two layers, and so a depth of 6n + "
            f"{rest}; arch.depth={depth} is none. Use arch.depth={near}."
        )
    stages = []
    for stage in range(3):
        for number in range(blocks):
            stride = 2 if stage > 0 and number == 0 else 1
            stages.append((n_in, width * 2**stage, stride))
            n_in = width * 2**stage
    return stages
