"""What a dataset gives."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from trainlab.config import UserError
from trainlab.data.columns import known_codes

_EXCLUSIVE = ("classification", "binary", "segmentation")  # tasks: an example has a single class


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
    of the last examples are the official test set; `val`: how many before these are the official
    validation set. `notes`: what there is to say of them before training, each a sentence.
    `units`: what was taken away from the numbers of columns.
    """

    x: np.ndarray
    y: np.ndarray
    task: str = ""
    classes: list[str] = field(default_factory=list)
    low: float | None = None
    high: float | None = None
    test: int = 0
    categorical: tuple[int, ...] = ()
    parts: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    val: int = 0
    notes: tuple[str, ...] = field(default=(), compare=False)
    units: dict[str, str] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that it says: part of a run's identity."""
        digest = hashlib.blake2b(digest_size=8)
        for part in fields(self):
            if not part.compare:  # what is only said of the data
                continue
            value = getattr(self, part.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{part.name} {value.dtype} {value.shape}\n".encode())
                digest.update(np.ascontiguousarray(value).data)
            else:
                digest.update(f"{json.dumps([part.name, value])}\n".encode())
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
    x = _columns(examples, saved) if examples.columns and saved["columns"] else examples.x
    task, classes, y = examples.task, examples.classes, examples.y
    if saved["task"] != "reconstruction":  # for which it does not matter what the targets are
        y = _codes(y, classes, saved["classes"]) if task in _EXCLUSIVE else y
        task, classes = saved["task"], saved["classes"]  # of three classes two may be left
    return replace(
        examples, x=x, y=y, task=task, classes=classes, columns=tuple(saved["columns"]),
        categorical=tuple(saved["categorical"]), categories=tuple(saved["categories"]),
    )  # fmt: skip


def _columns(examples: Examples, saved: dict[str, Any]) -> np.ndarray:
    """The inputs (N, D) of a table with the columns of the run's, and its codes in them."""
    x = examples.x[:, [examples.columns.index(name) for name in saved["columns"]]].copy()
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
        codes = np.append(known_codes(names, known), np.nan)
        x[:, column] = codes[np.nan_to_num(x[:, column], nan=len(names)).astype(int)]
    return x


def _codes(y: np.ndarray, classes: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Classes y (N, …) as positions in the `known` ones. Raises UserError where one is new."""
    if list(classes) == list(known):
        return y
    if new := [name for name in classes if name not in known]:
        raise UserError(
            f"The run knows the classes {', '.join(known)}; these data have {new[0]} as well."
        )
    return np.asarray([known.index(name) for name in classes])[y]


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


def surely_finite(x: np.ndarray) -> bool:
    """Whether the sum is finite: if so then all are, and it takes little time."""
    with np.errstate(all="ignore"):
        return x.dtype.kind != "f" or bool(np.isfinite(x.sum()))


def where(odd: np.ndarray, columns: Sequence[str], first: int = 0) -> str:
    """The first place in inputs (n, *shape) that is `odd`, in words; they begin at the `first`."""
    row, *place = np.unravel_index(odd.argmax(), odd.shape)
    column = f"column {columns[place[0]]!r} of " if len(columns) and odd.any() else ""
    return f"{column}example {first + row + 1} (the first is 1)"


_AXES = {  # of y, by task
    "classification": "N", "binary": "N", "words": "N", "multi_label": "NL", "regression": "NK",
    "segmentation": "NHW",
}  # fmt: skip


def check(examples: Examples, name: str, to_learn: bool = True) -> None:
    """Raise UserError where a dataset does not give what it has to, inputs are infinite, or targets
    none of their task; or, if they are `to_learn`, nothing is to be told apart."""
    for wrong in _malformed(examples):
        raise UserError(
            f"dataset={name}: {wrong}. A dataset gives Examples(x, y, task, classes), as their "
            "docstring says (trainlab.data.Examples)."
        )
    if not surely_finite(examples.x) and (odd := np.isinf(examples.x)).any():
        raise UserError(
            f"dataset={name} has infinite inputs, or too large ones for float32: "
            f"{where(odd, examples.columns)}."
        )
    if examples.task == "regression":
        if (odd := ~np.isfinite(examples.y)).any():
            raise UserError(
                f"dataset={name} has targets that are missing (NaN) or infinite, the first in "
                f"{where(odd, examples.classes)}."
            )
        return
    classes = len(examples.classes)
    if to_learn and classes < 2 and examples.task in _EXCLUSIVE:
        raise UserError(
            f"dataset={name}: the target has {classes} different values, and task "
            "classification needs at least two."
        )
    if examples.task == "multi_label":
        classes = 2  # of each label: it is there or not
    low, high = int(examples.y.min()), int(examples.y.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"dataset={name}: labels run from {low} to {high}, but there are {classes} classes "
            f"(0 to {classes - 1}); the label file is damaged or belongs to other data."
        )


def _malformed(given: Examples) -> Iterator[str]:
    """What is wrong with the form of what a dataset gives, the first thing first."""
    if not isinstance(given, Examples):
        yield f"it gives a {type(given).__name__}"
        return
    for key, array in (("x", given.x), ("y", given.y)):
        if not isinstance(array, np.ndarray):
            yield f"{key} is a {type(array).__name__}, and has to be an array of numpy"
            return
        if array.dtype.kind not in "biuf":
            yield f"{key} is of type {array.dtype}, and has to be of numbers"
    if given.x.ndim < 2:
        yield f"x has the shape {given.x.shape}, and has to be (N, …), a row for each example"
    if len(given.x) != len(given.y):
        yield f"there are {len(given.x)} inputs but {len(given.y)} targets"
    if len(given.x) <= given.val + given.test:
        yield "it has no examples" + " besides validation and test set" * bool(len(given.x))
    if given.task not in _AXES:
        yield f"the task is {given.task!r}, and has to be one of {', '.join(_AXES)}"
        return
    axes = _AXES[given.task]
    if given.y.ndim != len(axes):
        yield (
            f"y has the shape {given.y.shape}, and for task={given.task!r} has to be "
            f"({', '.join(axes)}{',' * (len(axes) == 1)})"
        )
        return
    if given.task == "regression":
        return
    if given.y.dtype.kind == "f":
        yield f"y is of type {given.y.dtype}, and task={given.task!r} needs whole numbers from 0"
    if not len(given.classes):
        yield "classes is empty: name the class that each number of y stands for, from 0 on"
    wanted = {"binary": 2, "multi_label": given.y.shape[-1]}.get(given.task)
    if wanted not in (None, len(given.classes)):
        yield f"task={given.task!r} needs {wanted} classes, and {len(given.classes)} have a name"
