"""Preprocessing: fitted on the training split only, then applied to every split.

A preprocessing is a function `(x, limits, **settings) -> transform`: `x` (n, *shape) are the
training inputs, `limits` the (low, high) of the data's type or (None, None).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from trainlab.config import UserError


class Affine(NamedTuple):
    """x ↦ (x − shift) / scale, per feature or for all; both broadcast against (n, *shape)."""

    shift: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


def _nonzero(scale: Tensor) -> Tensor:
    """A constant feature is left as it is rather than divided by zero."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def scale(x: Tensor, limits: tuple[float | None, float | None]) -> Affine:
    """To [0, 1] by the range of the data's type: bytes by 255, the digits data by 16."""
    low, high = limits
    if low is None or high is None:
        raise UserError(
            "preprocess=scale needs data with a range of their own (images of bytes, say); these "
            "have none. preprocess=minmax takes the range from the training split."
        )
    return Affine(x.new_tensor(low), x.new_tensor(high - low))


def center(x: Tensor, limits: tuple[float | None, float | None]) -> Affine:
    """Mean 0 for each feature: subtracts the mean image."""
    return Affine(x.mean(0), x.new_tensor(1.0))


def standardize(x: Tensor, limits: tuple[float | None, float | None]) -> Affine:
    """Mean 0 and variance 1 for each feature; equals scikit-learn's StandardScaler."""
    return Affine(x.mean(0), _nonzero(x.std(0, correction=0)))


def channel_standardize(x: Tensor, limits: tuple[float | None, float | None]) -> Affine:
    """Mean 0 and variance 1 for each channel of images (n, C, H, W), one scale for all its pixels.

    Unlike `standardize` it does not blow up the pixels that are nearly always black.
    """
    if x.dim() < 3:
        raise UserError(
            f"preprocess=channel_standardize needs images (channels, height, width), and an input "
            f"of these data has shape {tuple(x.shape[1:])}. Use preprocess=standardize."
        )
    over = [0, *range(2, x.dim())]
    return Affine(
        x.mean(over, keepdim=True)[0], _nonzero(x.std(over, correction=0, keepdim=True))[0]
    )


def auto(x: Tensor, limits: tuple[float | None, float | None]) -> Affine:
    """Mean 0 and variance 1: of each channel for images, of each feature for everything else."""
    return channel_standardize(x, limits) if x.dim() > 2 else standardize(x, limits)


def minmax(x: Tensor, limits: tuple[float | None, float | None]) -> Affine:
    """Each feature to [0, 1]; equals scikit-learn's MinMaxScaler."""
    low = x.amin(0)
    return Affine(low, _nonzero(x.amax(0) - low))
