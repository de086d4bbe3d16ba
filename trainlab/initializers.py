"""Initial weights: functions `(weight, generator, **settings)` that fill a weight in place.

Any function of torch.nn.init with a generator is one. Applied to the weights of linear and
convolution layers, each from a stream of its own; biases start at 0, norm layers as they are made.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainlab import streams

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

# Activations that are zero, or nearly so, on half of their inputs: He's factor 2 makes up for it.
_RELU_FAMILY = frozenset(
    "ReLU LeakyReLU RReLU PReLU ReLU6 ELU CELU GELU SiLU Mish Softplus Hardswish".split()
)


def initialize(model: nn.Module, init: Callable | None, seed: int) -> nn.Module:
    """Fill the weights of `model` in place, layer by layer; `init=None` leaves torch's own values.

    The stream of a layer is named by the run's seed and the layer's place: none shifts another's.
    """
    if init is None:
        return model
    with torch.no_grad():
        for name, layer in model.named_modules():
            if isinstance(layer, _LAYERS):
                init(layer.weight, generator=streams.stream(seed, "init", name))
                if layer.bias is not None:
                    layer.bias.zero_()
    return model


def auto(weight: Tensor, generator: torch.Generator, act: str = "torch.nn.ReLU") -> Tensor:
    """He's normal for the relu family, LeCun's for selu, Glorot's uniform for everything else.

    He et al. 2015 (arXiv:1502.01852), LeCun et al. 1998 (Efficient BackProp), Glorot & Bengio 2010.
    """
    name = act.rpartition(".")[2]
    if name in _RELU_FAMILY:
        return nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    if name == "SELU":
        return nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)
    return nn.init.xavier_uniform_(weight, generator=generator)
