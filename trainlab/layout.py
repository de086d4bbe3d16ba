"""Which parameter each column of the matrix w belongs to."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Layout(NamedTuple):
    """The columns of w (R, P), one entry each.

    A unit is what one neuron or channel weighs its inputs with: a row of a linear layer's weight,
    a filter of a convolution; every other parameter (a bias, the scales of a norm) is one as a
    whole.
    """

    names: list[str]  # of the parameters, in their order
    sizes: list[int]
    unit: Tensor  # (P,) number of the unit
    units: int
    weight: Tensor  # (P,) bool: in the weight of a linear or convolution layer
    output: Tensor  # (P,) bool: in the last of these layers

    def columns(self, values: list[float]) -> Tensor:
        """One value per parameter, spread over its columns (P,)."""
        return torch.tensor(values).repeat_interleave(torch.tensor(self.sizes)).to(self.unit.device)

    def lengths(self, w: Tensor) -> Tensor:
        """Euclidean length of every unit of every member, (R, P) -> (R, units)."""
        sums = w.new_zeros(len(w), self.units).index_add_(1, self.unit, w.square())
        return sums.sqrt_()


def layout(model: nn.Module, device: torch.device) -> Layout:
    """The layout of a model's trainable parameters.

    >>> layout(nn.Linear(3, 2), torch.device("cpu")).unit
    tensor([0, 0, 0, 1, 1, 1, 2, 2])
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LAYERS)}
    last = list(layers)[-1] if layers else None
    names, sizes, unit, weight, output = [], [], [], [], []
    units = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Of a re-parametrized weight the name goes on: 1.parametrizations.weight.original0.
        owner = next((n for n in layers if name.startswith(f"{n}." if n else "")), None)
        # A weight's direction has no length that matters (norm=weight): original0 has it.
        direction = name.endswith("weight.original1")
        is_weight = owner is not None and parameter.dim() > 1 and not direction
        rows = len(parameter) if is_weight else 1
        unit.append(torch.arange(units, units + rows).repeat_interleave(parameter.numel() // rows))
        units += rows
        names.append(name)
        sizes.append(parameter.numel())
        weight.append(torch.full((parameter.numel(),), is_weight))
        output.append(torch.full((parameter.numel(),), owner is not None and owner == last))
    unit, weight, output = (torch.cat(parts).to(device) for parts in (unit, weight, output))
    return Layout(names, sizes, unit, units, weight, output)
