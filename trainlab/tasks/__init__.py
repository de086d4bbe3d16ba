"""Tasks: what the outputs mean, the loss per example, and the metrics.

A task is made from the data by `of`. Shapes: R runs, B examples of a batch, N of a split; runs
never mix. Outputs of a model, and targets:

    classification  (R, B, C)        (R, B)          C exclusive classes
    binary          (R, B, 1)        (R, B)          two of them, one logit
    multi_label     (R, B, L)        (R, B, L)       L labels, each there (1) or not (0)
    regression      (R, B, K)        (R, B, K)       K numbers, standardized for training
    segmentation    (R, B, C, H, W)  (R, B, H, W)    a class for each pixel
    reconstruction  (R, B, *shape)   (R, B, *shape)  the inputs themselves
    words           (R, B, V)        (R, B)          one of V words

What a task has:

    names                                           of the metrics; `loss` comes first
    loss(outputs, y, smoothing, draw, weights) -> (R, B)  what is minimized, per example
    sums(outputs, losses, y) -> {name: (R, …)}      statistics that add up over batches
    metrics(sums of all batches) -> {name: (R,)}    what tables show
    extra, costly                                   names of those that need a split as a whole, and
                                                    whether they are left out while a run trains
    whole(outputs (R, N, …), y) -> {name: (R,)}     these
    predictions(outputs (1, N, …)) -> {column: list}  what `trainlab predict` writes into a table
    tally(outputs, y) -> {name: (R, …)}             statistics that only a report needs
    report(sums of both kinds) -> [{name: …}]       of each run: lists and numbers for result.json

`smoothing` is the share of the target that label smoothing spreads over all classes: a number, or a
column (R, 1). `draw(shape)` gives uniform numbers (R, *shape) to losses that are a matter of
chance. `weights` (C,) are those of classes (weights.py). All three are of training alone. Only
`report` reads tensors back from the device. What is 0/0, such as the F1 of a label that neither
occurs nor is predicted, is NaN, in a report None; means over classes leave it out.
"""

import math

from trainlab.architectures import given_by
from trainlab.config import Config, UserError, find
from trainlab.data import Data
from trainlab.tasks.classes import Binary, Classification, MultiLabel, Segmentation
from trainlab.tasks.ensemble import Ensemble
from trainlab.tasks.numbers import Reconstruction, Regression
from trainlab.tasks.task import Task
from trainlab.tasks.words import Words

_KINDS = {
    "classification": Classification,
    "binary": Binary,
    "multi_label": MultiLabel,
    "regression": Regression,
    "segmentation": Segmentation,
    "reconstruction": Reconstruction,
    "words": Words,
}

_MONITORS = (("stop", "monitor"), ("schedule", "monitor"), ("search", "metric"))


def of(data: Data, loss: str = "auto", ensemble: bool = False, **settings: int) -> Task | Ensemble:
    """The task of the data with the loss of that name and these settings of it; for the outputs of
    k models if `ensemble`.

    Raises UserError where the task has no such loss.
    """
    kind = _KINDS[data.task]
    if loss not in ("auto", *kind.losses):
        raise UserError(
            f"loss={loss} does not fit these data, whose task is {data.task}; "
            f"valid: auto, {', '.join(kind.losses)}."
        )
    task = kind(data, kind.losses[0] if loss == "auto" else loss, **settings)
    return Ensemble(task) if ensemble else task


def described(config: Config, data: Data) -> Task | Ensemble:
    """The task of a run: its data's, with its loss, for one model or for an ensemble's members."""
    loss, arch = config["loss"], find(config["arch"]["_target_"], "arch", config["trusted"])
    settings = {"negatives": config["negatives"]} if loss == "negative_sampling" else {}
    return of(data, loss, given_by(arch).members, **settings)


def watched(task: Task | Ensemble, config: Config) -> bool:
    """Whether metrics that need a whole split are computed after every epoch: those that cost
    little, and those that something goes by."""
    monitors = {config[group].get(key) for group, key in _MONITORS}
    return bool(task.extra) and (
        not task.costly or any(f"val_{name}" in monitors for name in task.extra)
    )


def outputs_of(data: Data) -> int:
    """How many numbers a model gives for an example; in a segmentation, for each pixel."""
    if data.task == "binary":
        return 1
    if data.task == "regression":
        return len(data.target_scale)
    return math.prod(data.shape) if data.task == "reconstruction" else len(data.classes)
