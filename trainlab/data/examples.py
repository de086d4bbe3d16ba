"""What a dataset gives."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trainlab.config import UserError


@dataclass
class Examples:
    """What a dataset gives: inputs and targets as arrays, before any split or preprocessing.

    `x` (N, *shape); what `y` is depends on the task:

        classification, binary   (N,) classes 0…C−1; C = 2 for binary
        multi_label              (N, L) of 0 and 1, a column for each label
        regression               (N, K) floats
        segmentation             (N, H, W) classes 0…C−1 of the pixels
        words                    (N,) words 0…V−1, and x (N, n) words too

    `classes` names the classes, labels, words or, if they have names, the numbers of a regression.
    `low`, `high`: the range of the type of inputs, if it has one. `parts`: where x (N, D) is
    several inputs side by side, the columns of each. `columns`: names of the columns of x, where it
    is a table. `categorical`: those of them, from 0, that hold codes of categories, and
    `categories` what the codes 0, 1, … of each stand for. NaN is a missing value. `test`: how many
    of the last examples are the official test set.
    """

    x: np.ndarray
    y: np.ndarray
    task: str
    classes: list[str] = field(default_factory=list)
    low: float | None = None
    high: float | None = None
    test: int = 0
    categorical: tuple[int, ...] = ()
    parts: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()

    def fingerprint(self) -> str:
        """A hash of the bytes: part of a run's identity."""
        digest = hashlib.blake2b(digest_size=8)
        for array in (self.x, self.y):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def aligned(examples: Examples, saved: dict[str, Any]) -> Examples:
    """The examples with the columns, the codes and the classes that a run has `saved`.

    Another file of the same table may have its columns in another order, other categories or
    classes, and so other codes. Raises UserError where a column is missing, or a class is new.
    """
    counts = {"regression": len(saved["target_scale"]) if saved["target_scale"] is not None else 0}
    counts["multi_label"] = len(saved["classes"])
    _same_kind(examples, saved, counts)
    if saved["columns"] and set(saved["columns"]) - set(examples.columns):
        missing = sorted(set(saved["columns"]) - set(examples.columns))
        raise UserError(f"These data have no column {', '.join(missing)}, as the run's have.")
    x, y = examples.x, examples.y
    if examples.columns and saved["columns"]:
        x = x[:, [examples.columns.index(name) for name in saved["columns"]]].copy()
        names = {examples.columns[c] for c in examples.categorical} & set(saved["columns"])
        if names != {saved["columns"][c] for c in saved["categorical"]}:
            raise UserError(
                "Other columns of these data are categories than of the run's: "
                f"{', '.join(sorted(names)) or 'none'}. Say which with dataset.categorical=[…] and "
                "dataset.numeric=[…]."
            )
        here = dict(zip(examples.categorical, examples.categories, strict=False))
        for column, known in zip(saved["categorical"], saved["categories"], strict=False):
            names = here.get(examples.columns.index(saved["columns"][column]), ())
            codes = [known.index(name) if name in known else np.nan for name in names] + [np.nan]
            found = np.nan_to_num(x[:, column], nan=len(names)).astype(int)
            x[:, column] = np.asarray(codes, np.float32)[found]
    task = examples.task
    if (
        task in ("classification", "binary", "segmentation")
        and examples.classes != saved["classes"]
    ):
        new = [name for name in examples.classes if name not in saved["classes"]]
        if new:
            raise UserError(
                f"The run knows the classes {', '.join(saved['classes'])}; these data have "
                f"{new[0]} as well."
            )
        y = np.asarray([saved["classes"].index(name) for name in examples.classes])[y]
        task = saved["task"]  # of three classes two may be left
    return replace(
        examples, x=x, y=y, task=task, classes=saved["classes"], columns=tuple(saved["columns"]),
        categorical=tuple(saved["categorical"]), categories=tuple(saved["categories"]),
    )  # fmt: skip


def _same_kind(examples: Examples, saved: dict[str, Any], counts: dict[str, int]) -> None:
    """Raise UserError for data of another task, other words, or another number of targets."""
    alike = {"binary": "classification", "reconstruction": examples.task}
    kinds = [alike.get(task, task) for task in (examples.task, saved["task"])]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"The run has learnt {saved['task']}, and the task of these data is {examples.task}."
        )
    if examples.task == "words" and examples.classes != saved["classes"]:
        raise UserError("These data have another vocabulary than the run's.")
    wanted = counts.get(examples.task) if saved["task"] == examples.task else None
    if wanted and examples.y.shape[1] != wanted:
        raise UserError(f"The run has {wanted} targets, and these data {examples.y.shape[1]}.")


def check(examples: Examples, name: str) -> None:
    if len(examples.x) != len(examples.y):
        raise UserError(f"dataset={name}: {len(examples.x)} inputs but {len(examples.y)} targets.")
    if len(examples.x) == 0:
        raise UserError(f"dataset={name} has no examples.")
    if not np.issubdtype(examples.x.dtype, np.integer) and np.isinf(examples.x).any():
        raise UserError(f"dataset={name} has infinite inputs.")
    if examples.task == "regression":
        if not np.isfinite(examples.y).all():
            raise UserError(f"dataset={name} has targets that are not finite (NaN or infinity).")
        return
    classes = len(examples.classes)
    low, high = int(examples.y.min()), int(examples.y.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"dataset={name}: labels run from {low} to {high}, but there are {classes} classes "
            f"(0 to {classes - 1}); the label file is damaged or belongs to other data."
        )
