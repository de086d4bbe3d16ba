"""Dense nets: for inputs of any shape, which they flatten."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainlab.architectures.block import NUMBERS, Block, Shape, gives
from trainlab.config import UserError


@gives(*NUMBERS)
def linear(inputs: Shape, outputs: int, block: Block) -> nn.Module:
    """Softmax, logistic or linear regression: (B, *inputs) -> (B, outputs), no hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), outputs))


@gives(*NUMBERS)
def mlp(
    inputs: Shape,
    outputs: int,
    block: Block,
    hidden: Sequence[int] = (128, 64),
    input_norm: bool = False,
) -> nn.Module:
    """Dense layers of the widths `hidden`: (B, *inputs) -> (B, outputs).

    With `input_norm` the recipe's normalization stands before the first layer, too.
    """
    features = math.prod(inputs)
    first = block.normalization(features, 1) if input_norm else []
    width = [features, *hidden][-1]
    layers = _layers(features, hidden, block)
    return nn.Sequential(nn.Flatten(), *first, *layers, nn.Linear(width, outputs))


@gives(*NUMBERS)
def mlp_deep(
    inputs: Shape,
    outputs: int,
    block: Block,
    depth: int = 50,
    width: int = 100,
    input_norm: bool = False,
) -> nn.Module:
    """`mlp` of `depth` hidden layers, `width` units each: (B, *inputs) -> (B, outputs)."""
    return mlp(inputs, outputs, block, [width] * depth, input_norm)


@gives("multi_label")
def multi_label(
    inputs: Shape,
    outputs: int,
    block: Block,
    hidden: Sequence[int] = (128, 64),
    input_norm: bool = False,
) -> nn.Module:
    """`mlp` with a logit for each label: (B, *inputs) -> (B, labels)."""
    return mlp(inputs, outputs, block, hidden, input_norm)


class Branches(nn.Module):
    """One module per part of x, their outputs side by side: (B, Σ parts) -> (B, Σ outputs)."""

    def __init__(self, branches: Sequence[nn.Module], parts: Sequence[int]):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.parts = list(parts)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.parts, 1)
        outputs = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        return torch.cat(outputs, 1)


@gives(*NUMBERS)
def multi_input(
    inputs: Shape,
    outputs: int,
    block: Block,
    hidden: Sequence[int] = (64,),
    joined: Sequence[int] = (64,),
    parts: Sequence[int] = (),
) -> nn.Module:
    """A branch of dense layers `hidden` for each input, then layers `joined` behind all of them.

    x (B, Σ parts) is the inputs side by side, `parts` the columns of each. Raises UserError where
    the data have a single input, or preprocessing has changed the number of columns.
    """
    if not parts:
        raise UserError(
            "arch=multi_input needs data of several inputs, such as dataset=pair. "
            "For data of a single input use arch=mlp."
        )
    if inputs != (sum(parts),):
        raise UserError(
            f"arch=multi_input: the inputs have {' + '.join(map(str, parts))} columns, and "
            f"preprocessing has made shape {inputs} of them. Use a preprocess that keeps columns "
            "apart, such as preprocess=standardize."
        )
    branches = [nn.Sequential(*_layers(part, hidden, block)) for part in parts]
    widths = [len(parts) * hidden[-1], *joined]
    layers = _layers(widths[0], joined, block)
    return nn.Sequential(Branches(branches, parts), *layers, nn.Linear(widths[-1], outputs))


def _layers(features: int, widths: Sequence[int], block: Block) -> list[nn.Module]:
    pairs = pairwise([features, *widths])
    return [module for n_in, n_out in pairs for module in block.dense(n_in, n_out)]
