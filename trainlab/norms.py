"""Normalization: a factory `(features, dims, **settings) -> nn.Module`, or one of weights.

`features` is the number of units (dims=1: inputs (B, features)) or of channels (dims=2: (B,
features, H, W)). Options with `place: weights` are functions `(layer, **settings)` instead, which
re-parametrize the weight of a linear or convolution layer, as those of
torch.nn.utils.parametrizations do.
"""

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion, parametrize

from trainlab import parallel
from trainlab.config import UserError

BATCH = (nn.BatchNorm1d, nn.BatchNorm2d)


def batch(features: int, dims: int, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module:
    """(x − mean) / √(var + ε) over the batch, per unit or channel, then a learnt scale and shift.

    Running averages stand in for the batch when evaluating. Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    return BATCH[dims - 1](features, eps=eps, momentum=momentum)


def across_ranks(model: nn.Module) -> None:
    """Let every batch norm of a model, while it trains, see the batch of all processes."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.forward = partial(_forward, module)


def _forward(layer: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    if not layer.training or parallel.present() is None:
        return type(layer).forward(layer, x)
    momentum = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked += 1
        momentum = 1 / layer.num_batches_tracked if momentum is None else momentum
    averages = layer.running_mean, layer.running_var
    return over_ranks(x, *averages, layer.weight, layer.bias, momentum, layer.eps)


def over_ranks(
    x: Tensor,  # (B, features, …)
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm` in training, of the rows of all processes."""
    axes, shape = [0, *range(2, x.dim())], [-1, *[1] * (x.dim() - 2)]
    rows = parallel.present()
    n = rows.total * math.prod(x.shape[2:])
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # under autocast
    mean = parallel.summed(wide[: rows.count].sum(axes)) / n  # (features,)
    centred = wide - mean.view(shape)
    var = parallel.summed(centred[: rows.count].square().sum(axes)) / n
    if running_mean is not None:
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(var.detach() * (n / max(1, n - 1)), momentum)
    y = centred * torch.rsqrt(var + eps).view(shape)
    if weight is not None:
        y = torch.addcmul(bias.view(shape), y, weight.view(shape))
    return y.to(x.dtype)


def layer(features: int, dims: int, eps: float = 1e-5) -> nn.Module:
    """(x − mean) / √(var + ε) over the features of each example, then a learnt scale and shift.

    On images over channels and pixels together, which is a group norm of one group.
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    return nn.LayerNorm(features, eps=eps) if dims == 1 else nn.GroupNorm(1, features, eps=eps)


def group(features: int, dims: int, groups: int = 8, eps: float = 1e-5) -> nn.Module:
    """(x − mean) / √(var + ε) over each group of features of each example, then scale and shift.

    Wu & He 2018, arXiv:1803.08494. Raises UserError where the groups do not divide the features.
    """
    if features % groups:
        raise UserError(
            f"norm.groups={groups} does not divide the {features} features of a layer. "
            "Choose a number that divides all of them."
        )
    return nn.GroupNorm(groups, features, eps=eps)


def instance(features: int, dims: int, eps: float = 1e-5) -> nn.Module | None:
    """(x − mean) / √(var + ε) over the pixels of each channel of each example, scale and shift.

    A dense layer has no pixels, and is left without. Ulyanov, Vedaldi & Lempitsky 2016,
    arXiv:1607.08022.
    """
    return nn.InstanceNorm2d(features, eps=eps, affine=True) if dims == 2 else None


class RMS(nn.Module):
    """x / √(mean x² + ε) over the features (and pixels) of each example, then a learnt scale.

    Zhang & Sennrich 2019, arXiv:1910.07467. On (B, features) it equals torch.nn.RMSNorm.
    """

    def __init__(self, features: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        square = x.square().mean(tuple(range(1, x.dim())), keepdim=True)
        return x * torch.rsqrt(square + self.eps) * self.weight.view(-1, *[1] * (x.dim() - 2))


def rms(features: int, dims: int, eps: float = 1e-6) -> nn.Module:
    """`RMS` for either kind of layer."""
    return RMS(features, eps)


class LocalResponse(nn.Module):
    """x / (k + α · mean x²)^β, the mean over `size` neighbours: channels, or pixels of a channel.

    Krizhevsky, Sutskever & Hinton 2012. Across channels it equals torch.nn.LocalResponseNorm;
    within a channel the window has `size` × `size` pixels, those outside the image counting as 0.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float, across: bool):
        super().__init__()
        self.size, self.alpha, self.beta, self.k, self.across = size, alpha, beta, k, across

    def forward(self, x: Tensor) -> Tensor:
        if self.across:
            padded = x.unsqueeze(2) if x.dim() == 2 else x  # torch's needs an axis behind
            y = nn.functional.local_response_norm(padded, self.size, self.alpha, self.beta, self.k)
            return y.view_as(x)
        mean = nn.functional.avg_pool2d(x.square(), self.size, stride=1, padding=self.size // 2)
        return x / (self.k + self.alpha * mean) ** self.beta


def local_response(
    features: int,
    dims: int,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    across: bool = True,
) -> nn.Module:
    """`LocalResponse` for either kind of layer. Raises UserError where there are no pixels."""
    if not across and (dims == 1 or size % 2 == 0):
        raise UserError(
            "norm=local_response within channels (norm.across=false) needs convolutions and an odd "
            "norm.size."
        )
    return LocalResponse(size, alpha, beta, k, across)


class _LengthAndDirection(nn.Module):
    """w from a length per unit, (n_out, 1, …), and a direction, of w's shape."""

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        # A unit of zeros has no direction, and stays where it is.
        tiny = torch.finfo(direction.dtype).tiny
        return direction * (length / self._lengths(direction).clamp_min(tiny))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._lengths(weight), weight

    @staticmethod
    def _lengths(weight: Tensor) -> Tensor:
        over = tuple(range(1, weight.dim()))
        return torch.linalg.vector_norm(weight, dim=over, keepdim=True)


def weight(layer: nn.Module) -> nn.Module:
    """w = g v / ‖v‖ for each unit: its length g and its direction v are learnt apart.

    Salimans & Kingma 2016, arXiv:1602.07868. Equals torch.nn.utils.parametrizations.weight_norm,
    whose kernel would train the members of a stack one by one.
    """
    return parametrize.register_parametrization(layer, "weight", _LengthAndDirection())


def fold(model: nn.Module) -> nn.Module:
    """Join each batch norm into the linear or convolution layer right before it, in place.

    The model is put into evaluation mode, where it gives the same outputs as before, to rounding.
    A batch norm that stands elsewhere (behind an activation) stays.

    >>> net = fold(nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.ReLU()))
    >>> [type(layer).__name__ for layer in net]
    ['Linear', 'Identity', 'ReLU']
    """
    model.eval()
    for parent in list(model.modules()):
        children = list(parent.named_children()) if isinstance(parent, nn.Sequential) else []
        for (name, layer), (after, norm) in pairwise(children):
            if type(norm) is nn.BatchNorm1d and type(layer) is nn.Linear:
                setattr(parent, name, fusion.fuse_linear_bn_eval(layer, norm))
                setattr(parent, after, nn.Identity())
            elif type(norm) is nn.BatchNorm2d and type(layer) is nn.Conv2d:
                setattr(parent, name, fusion.fuse_conv_bn_eval(layer, norm))
                setattr(parent, after, nn.Identity())
    return model
