"""Augmentation: every step sees the training images changed a little, drawn anew.

An augmentation is a function `(x, draw, **settings) -> Tensor | Mixed`: `x` (R, B, *shape) are a
batch of preprocessed inputs for each of R runs, and `draw(shape)` gives (R, *shape) uniform numbers
in [0, 1), each run's from its own stream, new ones at every call. All of it is arithmetic on x's
device, which is never waited for.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from trainlab.preprocess import check_images

Draw = Callable[[Sequence[int]], Tensor]


class Mixed(NamedTuple):
    """Inputs of two examples each: loss = share · loss(y) + (1 − share) · loss(y[partner])."""

    x: Tensor  # (R, B, *shape)
    partner: Tensor  # (R, B) int64, positions in the batch
    share: Tensor  # (R, 1) weight of the example's own target


def _check_images(x: Tensor, option: str) -> None:
    check_images(
        f"augment={option}", x.shape[2:], "Leave it out; augment=mixup works for any shape."
    )


def _whole(u: Tensor, count: int) -> Tensor:
    """Uniform whole numbers 0 … count − 1; u ≤ 1 − 2⁻²⁴ never rounds up to count."""
    return (u * count).long()


# ---------------------------------------------------------------- moved


def _pixels(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of x (R, B, C, H, W) at rows (R, B, h) × columns (R, B, w): (R, B, C, h, w)."""
    position = rows[..., :, None] * x.shape[-1] + columns[..., None, :]  # (R, B, h, w)
    index = position.flatten(-2)[:, :, None].expand(*x.shape[:3], -1)
    return x.flatten(-2).gather(-1, index).unflatten(-1, position.shape[-2:])


def flip(x: Tensor, draw: Draw, horizontal: float = 0.5, vertical: float = 0.0) -> Tensor:
    """Each image mirrored left to right, and top to bottom, with these probabilities.

    As torchvision's RandomHorizontalFlip and RandomVerticalFlip.
    """
    _check_images(x, "flip")
    axes = []
    for length, probability in zip(x.shape[-2:], (vertical, horizontal), strict=True):
        place = torch.arange(length, device=x.device)
        flipped = draw(x.shape[1:2])[..., None] < probability
        axes.append(torch.where(flipped, length - 1 - place, place))
    return _pixels(x, *axes)


def crop(x: Tensor, draw: Draw, padding: int = 4) -> Tensor:
    """Each image padded with zeros on all sides, then cut back to its size at a random place.

    So moved by up to `padding` pixels. The standard of CIFAR (He et al. 2015, arXiv:1512.03385).
    After preprocessing 0 is the mean, if that centers. As torchvision's RandomCrop.
    """
    _check_images(x, "crop")
    axes = []
    for length in x.shape[-2:]:
        start = _whole(draw(x.shape[1:2]), 2 * padding + 1)
        axes.append(start[..., None] + torch.arange(length, device=x.device))
    return _pixels(torch.nn.functional.pad(x, (padding,) * 4), *axes)


# ---------------------------------------------------------------- covered


def _box(x: Tensor, draw: Draw, count: int, extent: Sequence[int | Tensor]) -> Tensor:
    """(R, count, 1, H, W): true in a box `extent` high and wide, its centre uniform over the image.

    The box is clipped at the border. An even one has its centre just after the middle.
    """
    inside = []
    for length, size in zip(x.shape[-2:], extent, strict=True):
        start = _whole(draw((count,)), length) - size // 2
        place = torch.arange(length, device=x.device)
        inside.append((place >= start[..., None]) & (place < (start + size)[..., None]))
    rows, columns = inside
    return (rows[..., :, None] & columns[..., None, :])[:, :, None]


def cutout(x: Tensor, draw: Draw, size: int = 8) -> Tensor:
    """A square of each image becomes 0; its centre is anywhere, so that it may stick out.

    DeVries & Taylor 2017, arXiv:1708.04552.
    """
    _check_images(x, "cutout")
    return x.masked_fill(_box(x, draw, x.shape[1], (size, size)), 0.0)


# ---------------------------------------------------------------- mixed


def mixup(x: Tensor, draw: Draw, alpha: float = 0.2) -> Mixed:
    """Each example averaged with another of the batch: λx + (1 − λ)x[partner], λ ~ Beta(α, α).

    One λ for the batch, as in the authors' code. Zhang et al. 2017, arXiv:1710.09412.
    """
    share = _beta(draw((1,)), alpha)  # (R, 1)
    weight = share.view(-1, *[1] * (x.dim() - 1))
    partner, other = _partners(x, draw)
    return Mixed(weight * x + (1 - weight) * other, partner, share)


def cutmix(x: Tensor, draw: Draw, alpha: float = 1.0) -> Mixed:
    """A box of each image comes from another of the batch; targets weighted by the pixels of each.

    The box covers 1 − λ of the image, λ ~ Beta(α, α), before it is clipped at the border; one λ and
    one box for the batch, as in the authors' code. Yun et al. 2019, arXiv:1905.04899.
    """
    _check_images(x, "cutmix")
    side = (1 - _beta(draw((1,)), alpha)).sqrt()  # (R, 1)
    box = _box(x, draw, 1, [(side * length).long() for length in x.shape[-2:]])
    partner, other = _partners(x, draw)
    share = 1 - box.float().mean((-3, -2, -1))
    return Mixed(torch.where(box, other, x), partner, share)


def _partners(x: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """A random permutation of each run's batch (R, B), and the examples in that order."""
    partner = draw(x.shape[1:2]).argsort(dim=-1, stable=True)
    runs = torch.arange(len(x), device=x.device)[:, None]
    return partner, x[runs, partner]


_LOGIT = 17.0  # u is 0, or from 2⁻²⁴ to 1 − 2⁻²⁴: a logit within ±16.7


def _beta(u: Tensor, alpha: float) -> Tensor:
    """Uniform u to Beta(α, α), by linear interpolation of its quantile function.

    The table is even in log(u/(1 − u)), where the function is smooth for small and large α. Against
    scipy.stats.beta.ppf, u ≥ 2⁻²⁴, it is off by less than 1e-5 for α ≥ 0.1 and 6e-4 for α ≥ 0.01;
    u = 0 gives the value at e⁻¹⁷.
    """
    table = _quantiles(alpha, u.device)
    place = (u.logit().clamp(min=-_LOGIT) / _LOGIT + 1) / 2 * (len(table) - 1)
    low = place.long()
    return torch.lerp(table[low], table[low + 1], place - low)


@cache
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    from scipy import special

    logit = torch.linspace(-_LOGIT, _LOGIT, 2**13, dtype=torch.float64)
    quantiles = special.betaincinv(alpha, alpha, logit.sigmoid().numpy())
    return torch.from_numpy(quantiles).to(device, torch.float32)
