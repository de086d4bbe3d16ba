"""Tasks: what the outputs mean, the loss per example, and the metrics.

A task is made from the data; it has the `names` of its metrics and three methods. Shapes: R runs,
B examples, C outputs; runs never mix.

    loss(outputs (R, B, C), y, smoothing)  -> (R, B)      what is minimized, per example
    sums(outputs, losses, y)               -> {name: (R, …)}  statistics that add up over batches
    metrics(sums over any set of batches)  -> {name: (R,)}    what tables show; `loss` comes first

`smoothing` is the share of the target that label smoothing spreads over all classes: a number, or a
column (R, 1).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainlab.config import widest
from trainlab.data import Data

Number = float | Tensor


def _weight(smoothing: Number, like: Tensor) -> Tensor:
    return torch.as_tensor(smoothing, dtype=like.dtype, device=like.device)


def _sum(values: Tensor) -> Tensor:
    """Over the examples, (R, B, …) -> (R, …), in the widest floats there are."""
    return values.sum(1, dtype=widest(values.device))


class Classification:
    """C exclusive classes: cross-entropy of the softmax; accuracy."""

    names = ("loss", "accuracy")

    def __init__(self, data: Data):
        pass

    def loss(self, outputs: Tensor, y: Tensor, smoothing: Number = 0.0) -> Tensor:
        loss = F.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
        if isinstance(smoothing, float) and smoothing == 0:
            return loss
        even = torch.logsumexp(outputs, -1) - outputs.mean(-1)  # cross-entropy of 1/C each
        return torch.lerp(loss, even, _weight(smoothing, loss))

    def right(self, outputs: Tensor, y: Tensor) -> Tensor:
        return outputs.argmax(-1) == y

    def sums(self, outputs: Tensor, losses: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {
            "n": torch.full_like(losses[:, 0], losses.shape[1]),
            "loss": _sum(losses),
            "right": _sum(self.right(outputs, y)),
        }

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": sums["loss"] / sums["n"], "accuracy": sums["right"] / sums["n"]}


class Binary(Classification):
    """Two classes, one logit: cross-entropy of the logistic function; accuracy."""

    def loss(self, outputs: Tensor, y: Tensor, smoothing: Number = 0.0) -> Tensor:
        logits = outputs.squeeze(-1)
        target = torch.lerp(y.to(logits), torch.full_like(logits, 0.5), _weight(smoothing, logits))
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def right(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.squeeze(-1) > 0) == (y > 0)


class Regression:
    """K real targets, standardized for training.

    `loss` is the mean squared error of the standardized targets, `mae` the mean absolute error in
    their own units, `r2` the share of variance explained.
    """

    names = ("loss", "mae", "r2")

    def __init__(self, data: Data):
        assert data.target_scale is not None
        self.scale = data.target_scale  # (K,)

    def loss(self, outputs: Tensor, y: Tensor, smoothing: Number = 0.0) -> Tensor:
        return (outputs - y).square().mean(-1)  # no classes, so nothing to smooth (run.py refuses)

    def sums(self, outputs: Tensor, losses: Tensor, y: Tensor) -> dict[str, Tensor]:
        errors = outputs - y
        return {
            "n": torch.full_like(losses[:, 0], losses.shape[1]),
            "loss": _sum(losses),
            "absolute": _sum((errors.abs() * self.scale).mean(-1)),
            "squared": _sum(errors.square()),  # (R, K)
            "y": _sum(y),
            "yy": _sum(y.square()),
        }

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        n = sums["n"]
        total = sums["yy"] - sums["y"].square() / n[:, None]
        # Of a single example, or of equal ones, nothing is left but rounding.
        total = total.where(total > 1e-6 * sums["yy"], torch.nan)
        return {
            "loss": sums["loss"] / n,
            "mae": sums["absolute"] / n,
            "r2": (1 - sums["squared"] / total).mean(-1),
        }


def of(data: Data) -> Classification | Regression:
    """The task of a dataset, found by its name."""
    return {"classification": Classification, "binary": Binary, "regression": Regression}[
        data.task
    ](data)
