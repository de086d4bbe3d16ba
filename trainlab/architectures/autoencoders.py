"""Autoencoders: nets that put out their inputs, through a narrow code."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainlab.architectures.block import Block, Shape, gives
from trainlab.architectures.convolutional import check_images
from trainlab.config import UserError


class Transposed(nn.Module):
    """The way back through a layer: its weight transposed, and a bias of its own, 0 at the start.

    `layer` is linear or a convolution, and maps (B, *shape) to what this maps to (B, *shape).

    >>> Transposed(nn.Linear(8, 3), (8,), bias=True)(torch.ones(1, 3)).shape
    torch.Size([1, 8])
    """

    def __init__(self, layer: nn.Module, shape: Shape, bias: bool):
        super().__init__()
        self.layer = layer
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        # Of an even size, stride 2 does not reach the last pixel.
        self.reach = [(size - 1) % 2 for size in shape[1:]]

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight
        if not self.reach:
            return F.linear(x, weight.mT, self.bias)
        stride, padding = self.layer.stride, self.layer.padding
        return F.conv_transpose2d(x, weight, self.bias, stride, padding, self.reach)


@gives("reconstruction")
def autoencoder(
    inputs: Shape,
    outputs: int,
    block: Block,
    hidden: Sequence[int] = (128,),
    code: int = 32,
    convolutional: bool = False,
    tied: bool = False,
) -> nn.Module:
    """Hidden layers to a linear code, and the same back: (B, *inputs) -> (B, *inputs).

    `hidden` are the units of dense layers; or, if `convolutional`, the channels of 3×3 convolutions
    of stride 2, whose way back enlarges the image and convolves. If `tied`, the way back has no
    weights of its own, but the same transposed. `outputs` does not matter. Hinton & Salakhutdinov
    2006 (Science 313). Raises UserError where convolutional inputs are no images, or weights
    cannot be tied.
    """
    if convolutional:
        check_images(inputs, "autoencoder arch.convolutional=true")
    if tied and block.widens > 1:
        raise UserError(
            f"arch.tied=true cannot be with an activation of {block.widens} inputs for each "
            "output, for then the layers of both ways differ in shape. Use arch.tied=false, or "
            "another act."
        )
    dims = 2 if convolutional else 1

    def back(layer: nn.Module, n_in: int, shape: Shape, bias: bool) -> list[nn.Module]:
        """(B, n_in, …) -> (B, *shape), where `layer` came from."""
        if tied:
            return [Transposed(layer, shape, bias)]
        if len(shape) == 1:
            return [nn.Linear(n_in, shape[0], bias=bias)]
        enlarged = nn.Upsample(size=shape[1:])
        return [enlarged, nn.Conv2d(n_in, shape[0], 3, padding=1, bias=bias)]

    def mirrored(shape: Shape, result: Shape, bias: bool, hidden: Sequence[int]) -> list[nn.Module]:
        """(B, *shape) -> (B, *result), which differs where the activation behind it widens."""
        if not hidden:
            there = nn.Linear(math.prod(shape), code)
            coded = [there, *back(there, code, (math.prod(result),), bias)]
            return [nn.Flatten(), *coded, nn.Unflatten(1, result)] if convolutional else coded
        units, *deeper = hidden
        if convolutional:
            there = block.bare_conv(shape[0], units, 3, stride=2)
        else:
            there = block.bare_dense(shape[0], units)
        size = tuple((n + 1) // 2 for n in shape[1:])
        inner, wide = (units, *size), (block.widens * units, *size)
        return [
            there,
            *block.around(units, dims),
            *mirrored(inner, wide, block.biased(units, dims), deeper),
            *block.around(units, dims),
            *back(there, units, result, bias),
        ]

    if convolutional:
        return nn.Sequential(*mirrored(inputs, inputs, True, hidden))
    flat = (math.prod(inputs),)
    layers = mirrored(flat, flat, True, hidden)
    return nn.Sequential(nn.Flatten(), *layers, nn.Unflatten(1, inputs))
