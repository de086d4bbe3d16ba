"""Tasks whose targets are classes or labels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainlab.config import widest
from trainlab.tasks.task import Draw, Number, Sums, Task, total

_RANKED = 2**22  # scores ranked at once


class Classification(Task):
    """Exclusive classes: cross-entropy of the softmax.

    `accuracy` is the share of examples that are right, `balanced_accuracy` the mean of that over
    the classes that occur, `f1` the mean of theirs, and `auc` of the areas under the ROC curves of
    each class against the rest (Hand & Till 2001), by its probability.
    """

    names = ("loss", "accuracy", "balanced_accuracy", "f1")
    extra = ("auc",)
    costly = True

    def loss(
        self,
        outputs: Tensor,
        y: Tensor,
        smoothing: Number = 0.0,
        draw: Draw | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        return cross_entropy(outputs, y, smoothing, weights)

    def predicted(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(2)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.predicted(outputs) == y

    def counts(self, outputs: Tensor, y: Tensor) -> Sums:
        return _met(y, self.predicted(outputs).long(), len(self.classes))

    def ratios(self, sums: Sums) -> dict[str, Tensor]:
        recall = sums["right"] / sums["true"]
        return {"balanced_accuracy": recall.nanmean(1), "f1": self.f1(sums)}

    def f1(self, sums: Sums) -> Tensor:
        return _f1(sums["right"], sums["predicted"], sums["true"]).nanmean(1)

    def whole(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        scores = self.probabilities(outputs).transpose(1, 2)  # (R, C, N)
        return {"auc": _auc(scores, y).nanmean(1)}

    def mean(self, outputs: Tensor) -> Tensor:
        return _mean(outputs)

    def vote(self, outputs: Tensor) -> Tensor:
        return _vote(outputs)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(2)

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        columns = self.probabilities(outputs)[0].T.tolist()  # (C, N)
        chosen = [self.classes[c] for c in self.predicted(outputs)[0].long().tolist()]
        named = zip(self.classes, columns, strict=True)
        return {"prediction": chosen} | {f"p_{name}": column for name, column in named}

    def tally(self, outputs: Tensor, y: Tensor) -> Sums:
        return {"confusion": _confusion(y, self.predicted(outputs), len(self.classes))}

    def report(self, sums: Sums) -> list[dict[str, Any]]:
        confusion = sums["confusion"].long()
        return _report(self.classes, *_margins(confusion), confusion=confusion)


class Binary(Classification):
    """Two classes, one logit: cross-entropy of the logistic function.

    As for more classes, but `f1` is that of the second class, as in scikit-learn.
    """

    def loss(
        self,
        outputs: Tensor,
        y: Tensor,
        smoothing: Number = 0.0,
        draw: Draw | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        return binary_cross_entropy(outputs.squeeze(2), y, smoothing, weights)

    def predicted(self, outputs: Tensor) -> Tensor:
        return outputs.squeeze(2) > 0

    def f1(self, sums: Sums) -> Tensor:
        return _f1(*(sums[name][:, 1] for name in ("right", "predicted", "true")))

    def probabilities(self, outputs: Tensor) -> Tensor:
        return torch.cat([-outputs, outputs], 2).sigmoid()

    def mean(self, outputs: Tensor) -> Tensor:
        return _of_two(_mean, outputs)

    def vote(self, outputs: Tensor) -> Tensor:
        return _of_two(_vote, outputs)


class MultiLabel(Task):
    """Any number of labels: binary cross-entropy averaged over them.

    A label is predicted where its probability is above 1/2. `exact_match` is the share of examples
    whose labels are all right; `f1_micro` counts all labels together, `f1_macro` averages theirs,
    as does `average_precision`, the area under precision by recall.
    """

    names = ("loss", "exact_match", "f1_micro", "f1_macro")
    extra = ("average_precision",)

    def loss(
        self,
        outputs: Tensor,
        y: Tensor,
        smoothing: Number = 0.0,
        draw: Draw | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        return binary_cross_entropy(outputs, y, smoothing).mean(2)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        return ((outputs > 0) == (y > 0)).all(2)

    def mean(self, outputs: Tensor) -> Tensor:
        return _of_two(_mean, outputs)

    def vote(self, outputs: Tensor) -> Tensor:
        return _of_two(_vote, outputs)

    def counts(self, outputs: Tensor, y: Tensor) -> Sums:
        predicted, true = outputs > 0, y > 0  # (R, B, L)
        met = {"right": predicted & true, "predicted": predicted, "true": true}
        return {name: total(value) for name, value in met.items()}  # (R, L)

    def ratios(self, sums: Sums) -> dict[str, Tensor]:
        labels = [sums[name] for name in ("right", "predicted", "true")]
        pooled = (count.sum(1) for count in labels)
        return {"f1_micro": _f1(*pooled), "f1_macro": _f1(*labels).nanmean(1)}

    def whole(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        scores, true = (v.transpose(1, 2).contiguous() for v in (outputs, y))  # (R, L, N)
        return {"average_precision": _average_precision(scores, true).nanmean(1)}

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        found, columns = {}, outputs[0].sigmoid().T
        for name, p in zip(self.classes, columns, strict=True):
            found |= {name: (p > 0.5).long().tolist(), f"p_{name}": p.tolist()}
        return found

    def report(self, sums: Sums) -> list[dict[str, Any]]:
        return _report(self.classes, sums["right"], sums["predicted"], sums["true"])


class Segmentation(Classification):
    """A class for each pixel: cross-entropy averaged over them; pixel accuracy.

    `mean_iou` (Jaccard) and `dice` (F1) are means over the classes, from all pixels together.
    """

    names = ("loss", "pixel_accuracy", "mean_iou", "dice")
    extra = ()
    whole = Task.whole

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        return {}  # an image for each example: no columns

    def loss(
        self,
        outputs: Tensor,
        y: Tensor,
        smoothing: Number = 0.0,
        draw: Draw | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        return cross_entropy(outputs, y, smoothing, weights).flatten(2).mean(2)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        return super().score(outputs, y).flatten(2).float().mean(2)

    def counts(self, outputs: Tensor, y: Tensor) -> Sums:
        # Example by example, so that threads of a GPU do not all add to the same few cells.
        predicted = self.predicted(outputs)
        confusion = _confusion(y.flatten(2), predicted.flatten(2), outputs.shape[2])
        return {"confusion": total(confusion)}  # (R, C, C)

    def tally(self, outputs: Tensor, y: Tensor) -> Sums:
        return {}  # the confusion is counted already

    def ratios(self, sums: Sums) -> dict[str, Tensor]:
        right, predicted, true = _margins(sums["confusion"])
        iou = right / (predicted + true - right)
        return {"mean_iou": iou.nanmean(1), "dice": _f1(right, predicted, true).nanmean(1)}


# ---------------------------------------------------------------- losses


def cross_entropy(
    outputs: Tensor, y: Tensor, smoothing: Number = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Of the softmax of outputs (R, B, C, …), for classes y (R, B, …) that count `weights` (C,)."""
    loss = F.cross_entropy(
        outputs.flatten(0, 1), y.flatten(0, 1), weight=weights, reduction="none"
    ).view(y.shape)
    if isinstance(smoothing, float) and smoothing == 0:
        return loss
    if weights is None:
        even = outputs.logsumexp(2) - outputs.mean(2)  # cross-entropy of 1/C each
    else:
        of_each = outputs.logsumexp(2, keepdim=True) - outputs
        even = (of_each * weights.view(-1, *[1] * (outputs.dim() - 3))).mean(2)
    return _between(loss, even, smoothing)


def binary_cross_entropy(
    logits: Tensor, y: Tensor, smoothing: Number = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Of the logistic function, for y of 0 and 1, both (R, B, …), that count `weights` (2,)."""
    target = _between(y.to(logits), torch.full_like(logits, 0.5), smoothing)
    if weights is None:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    absent, present = weights
    of_present, of_absent = F.logsigmoid(logits), F.logsigmoid(-logits)
    return -present * target * of_present - absent * (1 - target) * of_absent


def _between(start: Tensor, end: Tensor, share: Number) -> Tensor:
    """So much of the way from start to end (R, B, …); `share` is a number or a column (R, 1)."""
    if isinstance(share, Tensor):
        share = share.to(start).view(-1, *[1] * (start.dim() - 1))
    return torch.lerp(start, end, share)


# ---------------------------------------------------------------- metrics


def _confusion(y: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often each pair of classes is met, (…, M) -> (…, C, C): true in rows, predicted in
    columns."""
    cells = y * classes + predicted
    counts = cells.new_zeros(*cells.shape[:-1], classes**2)
    return counts.scatter_add_(-1, cells, torch.ones_like(cells)).unflatten(-1, (classes, classes))


def _margins(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right, predicted and true of each class, (R, C)."""
    return confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-2), confusion.sum(-1)


def _met(y: Tensor, predicted: Tensor, classes: int) -> Sums:
    """How often each class is right, predicted and true, (R, C) each, of y and predicted (R, B)."""
    cells = torch.stack([y, predicted, y], 1)
    counted = torch.ones_like(cells)
    counted[:, 0] = predicted == y
    counts = cells.new_zeros(len(cells), 3, classes).scatter_add_(2, cells, counted)
    return dict(
        zip(("right", "predicted", "true"), counts.to(widest(y.device)).unbind(1), strict=True)
    )


def _f1(right: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    return 2 * right / (predicted + true)


def _average_precision(scores: Tensor, y: Tensor) -> Tensor:
    """Σ (R_n − R_{n−1}) P_n over falling thresholds n, y of 0 and 1, both (…, N) -> (…).

    The same as the mean over the positives of the precision at their score, equal scores together.
    """
    rising, order = scores.sort(-1)
    below = torch.searchsorted(rising, scores)  # how many have a lower score
    true = y.gather(-1, order).cumsum(-1, dtype=widest(y.device))
    positives = true[..., -1:]
    found = positives - F.pad(true, (1, 0)).gather(-1, below)
    precision = found / (scores.shape[-1] - below)
    return (precision * y).sum(-1) / positives.squeeze(-1)


def _auc(scores: Tensor, y: Tensor) -> Tensor:
    """The area under the ROC curve of each class against the rest, (R, C, N) and (R, N) -> (R, C).

    It is the chance that an example of the class has a higher score than another, a half where they
    are equal: from the sum of the ranks of the class (Mann & Whitney 1947).
    """
    runs, classes, n = scores.shape
    areas = []
    for part in torch.arange(classes, device=y.device).split(max(1, _RANKED // (runs * n))):
        own = scores[:, part].contiguous()
        rising = own.sort(-1).values
        below, upto = (torch.searchsorted(rising, own, right=right) for right in (False, True))
        true = y[:, None] == part[:, None]  # (R, part, N)
        occurs = true.sum(-1)
        wins = ((below + upto + 1) * true).sum(-1) - occurs * (occurs + 1)  # twice their number
        wide = widest(y.device)
        areas.append(
            (wins.to(wide) / (2 * occurs * (n - occurs)).to(wide)).where(
                ~own.isnan().any(-1), torch.nan
            )
        )
    return torch.cat(areas, 1)


def _report(
    classes: list[str], right: Tensor, predicted: Tensor, true: Tensor, **tables: Tensor
) -> list[dict[str, Any]]:
    """What is known of each class, run by run, from counts (R, C), and other `tables` (R, …)."""
    right, predicted, true = (count.cpu().double() for count in (right, predicted, true))
    columns = {
        "support": true.long(),
        "precision": _or_none(right / predicted),
        "recall": _or_none(right / true),
        "f1": _or_none(_f1(right, predicted, true)),
    } | tables
    return [
        {"classes": classes} | {name: column[r].tolist() for name, column in columns.items()}
        for r in range(len(true))
    ]


def _or_none(shares: Tensor) -> np.ndarray:
    """JSON has no NaN."""
    return np.where(shares.isnan(), None, shares)


# ---------------------------------------------------------------- of k models


def _mean(outputs: Tensor) -> Tensor:
    """Outputs whose softmax is the mean of those of k models, (R, B, k, C, …) -> (R, B, C, …)."""
    return outputs.log_softmax(3).logsumexp(2)


def _vote(outputs: Tensor) -> Tensor:
    """Outputs as of `_mean`, but −∞ for classes with less than the most votes."""
    chosen = outputs.argmax(3, keepdim=True)
    votes = torch.zeros_like(outputs).scatter_(3, chosen, 1.0).sum(2)
    return _mean(outputs).where(votes == votes.amax(2, keepdim=True), -torch.inf)


def _of_two(combine: Callable[[Tensor], Tensor], outputs: Tensor) -> Tensor:
    """Combine logits (R, B, k, L) -> (R, B, L); each, z, is a softmax of the two classes (0, z)."""
    return combine(F.pad(outputs.unsqueeze(3), (0, 0, 1, 0))).diff(dim=2).squeeze(2)
