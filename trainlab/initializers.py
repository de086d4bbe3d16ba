"""Initial weights, by two kinds of functions.

`init(weight, generator, **settings)` fills a weight in place; any function of torch.nn.init with a
generator is one. `init(model, x, stream, **settings)` fills a whole model, looking at what it makes
of the inputs x (N, …); `stream(name)` is the generator of the layer `name`.

Filled are the weights of linear and convolution layers, each from a stream of its own; norm layers
stay as they are made.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from trainlab import streams
from trainlab.layout import LAYERS

Stream = Callable[[str], torch.Generator]

# Activations that are zero, or nearly so, on half of their inputs: He's factor 2 makes up for it.
_RELU_FAMILY = frozenset(
    "relu leakyrelu rrelu prelu relu6 squaredrelu elu celu gelu quickgelu silu swish mish softplus "
    "hardswish maxout geglu swiglu".split()
)


def looks_at_data(init: Callable | None) -> bool:
    """Whether `init` fills a whole model, with inputs before its eyes, or weight by weight."""
    return init is not None and next(iter(inspect.signature(init).parameters)) == "model"


def initialize(
    model: nn.Module,
    init: Callable | None,
    seed: int,
    x: Tensor | None = None,
    bias: float | str = 0.0,
) -> nn.Module:
    """Fill the weights of `model` in place; `init=None` leaves torch's own values.

    Before that all biases become `bias`, or stay as torch drew them where it is "torch"; of ours
    only data_dependent sets them anew. `x` are training inputs for initializers that look at data.
    The stream of a layer is named by the run's seed and the layer's place: none shifts another's.
    """
    stream = partial(streams.stream, seed, "init")
    with torch.no_grad():
        for layer in _layers(model).values():
            if layer.bias is not None and bias != "torch":
                layer.bias.fill_(bias)
        if looks_at_data(init):
            init(model, x, stream)
        elif init:
            _fill(model, init, stream)
    return model


def _fill(model: nn.Module, init: Callable, stream: Stream) -> None:
    for name, layer in _layers(model).items():
        # The groups of a convolution are layers side by side, with a fan of their own.
        groups = 1 if isinstance(layer, nn.Linear) else layer.groups
        values, generator = torch.empty_like(layer.weight), stream(name)
        for part in values.chunk(groups):
            init(part, generator=generator)
        _put(layer, values)


def _put(layer: Any, weight: Tensor) -> None:
    if parametrize.is_parametrized(layer, "weight"):
        layer.weight = weight  # which the parametrization takes apart
    else:
        layer.weight.copy_(weight)


def _layers(model: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LAYERS)}


# ---------------------------------------------------------------- weight by weight


def constant(weight: Tensor, generator: torch.Generator, value: float = 0.01) -> Tensor:
    """Every weight the same, so that all units of a layer stay the same."""
    return nn.init.constant_(weight, value)


def truncated_normal(
    weight: Tensor, generator: torch.Generator, mean: float = 0.0, std: float = 0.02
) -> Tensor:
    """N(mean, std²), drawn again where it is more than two std from the mean.

    What is left has the standard deviation 0.8796 std. Equals torch's trunc_normal_ with bounds
    that follow mean and std.
    """
    low, high = mean - 2 * std, mean + 2 * std
    return nn.init.trunc_normal_(weight, mean, std, low, high, generator=generator)


def variance_scaling(
    weight: Tensor,
    generator: torch.Generator,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
) -> Tensor:
    """Mean 0 and variance scale/n, n being n_in, n_out or (n_in + n_out)/2: Keras' VarianceScaling.

    The truncated normal is widened to have this variance after being cut.
    """
    n_in, n_out = _fans(weight)
    n = {"fan_in": n_in, "fan_out": n_out, "fan_avg": (n_in + n_out) / 2}[mode]
    std = math.sqrt(scale / n)
    if distribution == "normal":
        return nn.init.normal_(weight, 0, std, generator=generator)
    if distribution == "uniform":
        r = math.sqrt(3) * std
        return nn.init.uniform_(weight, -r, r, generator=generator)
    return truncated_normal(weight, generator, std=std / 0.87962566103423978)


def auto(weight: Tensor, generator: torch.Generator, act: str = "torch.nn.ReLU") -> Tensor:
    """He's normal for the relu family, LeCun's for selu, Glorot's uniform for everything else.

    He et al. 2015 (arXiv:1502.01852), LeCun et al. 1998 (Efficient BackProp), Glorot & Bengio 2010.
    """
    if _name(act) in _RELU_FAMILY:
        return nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    if _name(act) == "selu":
        return nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)
    return nn.init.xavier_uniform_(weight, generator=generator)


def random_walk(weight: Tensor, generator: torch.Generator, act: str = "torch.nn.ReLU") -> Tensor:
    """N(0, g²/n_in), g such that a back-propagated signal's log-length drifts neither up nor down.

    The length takes a random walk from layer to layer; 1/n_in keeps the mean of its square, and so
    lets its logarithm sink in narrow layers. For linear units g = exp(1/(2 n_in)), for the relu
    family g = √2 exp(1.2 / (max(n_in, 6) − 2.4)). Sussillo & Abbott 2014, arXiv:1412.6558.
    """
    n_in, _ = _fans(weight)
    if _name(act) in _RELU_FAMILY:
        gain = math.sqrt(2) * math.exp(1.2 / (max(n_in, 6) - 2.4))
    else:
        gain = math.exp(1 / (2 * n_in))
    return nn.init.normal_(weight, 0, gain / math.sqrt(n_in), generator=generator)


def _name(act: str) -> str:
    """torch.nn.LeakyReLU, or a function leaky_relu: leakyrelu."""
    return act.rpartition(".")[2].replace("_", "").lower()


def _fans(weight: Tensor) -> tuple[int, int]:
    """n_in and n_out of (n_out, n_in) or (channels out, channels in, *kernel)."""
    return weight[0].numel(), weight[:, 0].numel()


# ---------------------------------------------------------------- a model, looking at data


def lsuv(
    model: nn.Module, x: Tensor, stream: Stream, tolerance: float = 0.01, tries: int = 10
) -> None:
    """Layer-sequential unit variance: orthogonal weights, divided by the standard deviation of what
    their layer puts out for x.

    In order of execution, each layer until the variance is within `tolerance` of 1 (the paper's is
    0.1). Mishkin & Matas 2015, arXiv:1511.06422; Saxe et al. 2013, arXiv:1312.6120.
    """

    def scale(layer: Any, inputs: Tensor) -> None:
        for _ in range(tries):
            std = layer.forward(inputs).std(correction=0)
            if std == 0 or abs(std**2 - 1) < tolerance:
                break
            _put(layer, layer.weight / std)

    _fill(model, nn.init.orthogonal_, stream)
    _visit(model, x, scale)


def data_dependent(
    model: nn.Module, x: Tensor, stream: Stream, rounds: int = 10, damping: float = 0.5
) -> None:
    """Every channel standardized on x, then the layers scaled so that all learn at one rate.

    Within a layer: weights from N(0, 1), scaled and shifted (by the biases) so that each channel
    has mean 0 and variance 1. Between layers, `rounds` times: W_k ← W_k (C_k/C)^(damping/2), C_k =
    ‖∂ℓ/∂W_k‖ / ‖W_k‖ the relative size of the gradient and C the geometric mean of all; the biases
    keep the channels' mean at 0. Krähenbühl, Doersch, Donahue & Darrell 2015, arXiv:1511.06856,
    their version without clustering.
    """
    _fill(model, nn.init.normal_, stream)
    _visit(model, x, _standardize)
    layers = list(_layers(model).values())
    for _ in range(rounds):
        rates = _change_rates(model, layers, x, stream("a random loss"))
        reached = rates > 0  # a layer that x does not reach has no gradient
        centre = rates[reached].log().mean().exp()
        factors = torch.where(reached, rates / centre, 1) ** (damping / 2)
        for layer, factor in zip(layers, factors, strict=True):
            _put(layer, layer.weight * factor)
        _visit(model, x, _center)


def _change_rates(
    model: nn.Module, layers: list[Any], x: Tensor, generator: torch.Generator, losses: int = 10
) -> Tensor:
    """‖∂ℓ/∂W‖ / ‖W‖ of every layer, (layers,): root mean square over random linear losses.

    ℓ = Σ η · model(x), η ~ N(0, 1): no target is needed.
    """
    squares = torch.zeros(len(layers))
    # Cached, so that re-parametrized weights seen here are the ones the pass uses.
    with torch.enable_grad(), parametrize.cached():
        weights = [layer.weight for layer in layers]
        output = functional_call(model, _own_buffers(model), (x,))
        for _ in range(losses):
            eta = torch.randn(output.shape, generator=generator)
            gradients = torch.autograd.grad(
                output, weights, eta, retain_graph=True, materialize_grads=True
            )
            squares += torch.stack([gradient.square().sum() for gradient in gradients])
    norms = torch.stack([weight.detach().norm() for weight in weights])
    return (squares / losses).sqrt() / norms


def _visit(model: nn.Module, x: Tensor, treat: Callable[[Any, Tensor], None]) -> None:
    """`treat(layer, inputs)` each layer before its first use, in one forward pass of x.

    So the inputs of a layer are those it will have, everything before it being treated already.
    """

    def first_use(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        handles[layer].remove()
        treat(layer, *inputs)

    layers = _layers(model).values()
    handles = {layer: layer.register_forward_pre_hook(first_use) for layer in layers}
    functional_call(model, _own_buffers(model), (x,))
    for handle in handles.values():  # of layers without use
        handle.remove()


def _own_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copies for one forward pass, so that running statistics begin with the training."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _standardize(layer: Any, inputs: Tensor) -> None:
    std = _by_channel(layer, inputs).std(1, correction=0)
    std = torch.where(std > 0, std, 1).view(-1, *[1] * (layer.weight.dim() - 1))
    _put(layer, layer.weight / std)
    _center(layer, inputs)


def _center(layer: Any, inputs: Tensor) -> None:
    if layer.bias is not None:
        layer.bias -= _by_channel(layer, inputs).mean(1)


def _by_channel(layer: Any, inputs: Tensor) -> Tensor:
    """A layer's outputs, (channels, examples and places)."""
    axis = -1 if isinstance(layer, nn.Linear) else 1
    return layer.forward(inputs).movedim(axis, 0).flatten(1)
