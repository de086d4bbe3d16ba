"""Weights of classes in the loss of training, for classes of unequal size.

The loss of an example of class y, or of such a pixel, counts w_y times. `balanced` weights are

    w_c = n / (C · n_c)

for n training examples, n_c of them of class c, and the C classes that occur among them: so each
class counts as much as any other (King & Zeng 2001, "Logistic regression in rare events data").
Weights that are given are divided by their mean over the training examples. So either way the loss
keeps its scale, and over all training examples is the mean that torch.nn.functional.cross_entropy
gives for such a `weight`. Validation and test are scored without weights.
"""

import torch
from torch import Tensor

from trainlab.config import Config, UserError, nearest
from trainlab.data import Data

_TASKS = ("classification", "binary", "segmentation")


def class_weights(config: Config, data: Data) -> Tensor | None:
    """The weights (C,) that a config asks for, or None.

    Raises UserError where there are no classes, one that is given a weight is unknown, or the
    classes of what is learnt are not known beforehand.
    """
    wanted = config["class_weights"]
    if wanted == "none":
        return None
    if data.task not in _TASKS:
        raise UserError(
            f"class_weights needs classes, and the task of these data is {data.task}. Use "
            "class_weights=none."
        )
    if config["online"]:
        raise UserError(
            "class_weights needs to know how frequent each class is, and with online=true that is "
            "not known before the end. Use class_weights=none."
        )
    labels = data.y[data.splits["train"]].flatten().cpu()
    counts = torch.bincount(labels, minlength=len(data.classes)).double()
    weights = 1 / counts if wanted == "balanced" else _given(wanted, data.classes)
    weights = weights.where(counts > 0, 0.0)  # what does not occur has no mean to keep
    return (weights * counts.sum() / (weights * counts).sum()).float().to(data.device)


def _given(wanted: dict, classes: list[str]) -> Tensor:
    """The weights of a map from classes, 1 where it has none."""
    named = {str(name): value for name, value in wanted.items()}
    for name in named:
        if name not in classes:
            raise UserError(
                f"class_weights: {name} is no class of these data.{nearest(name, classes)} There "
                f"are {', '.join(classes[:20])}{', …' * (len(classes) > 20)}."
            )
    return torch.tensor([named.get(name, 1.0) for name in classes], dtype=torch.float64)
