"""Arrays of one's own: npz files."""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from trainlab.config import UserError
from trainlab.data.examples import Examples
from trainlab.data.files import bomb, located
from trainlab.data.layouts import split_in
from trainlab.data.targets import MOST_CLASSES, classes_of

_INPUTS = ("x", "images", "image", "imgs", "inputs", "input", "features", "data")
_TARGETS = ("y", "labels", "label", "targets", "target")
_AXES = {"classification": 1, "binary": 1, "multi_label": 2, "regression": 2, "segmentation": 3}
# Of arrays, by what a run has learnt; of three classes two may be left, or one.
_TASKS = {task: task for task in _AXES} | {"binary": "classification"}
_SMALLEST_IMAGE = 8  # pixels of a square of numbers, (N, n, n), that is an image


def npz(
    data_dir: Path | None = None,
    download: bool = False,
    path: str | None = None,
    x: str = "auto",
    y: str = "auto",
    task: str = "auto",
    known: dict[str, Any] | None = None,
) -> Examples:
    """Arrays of a file that numpy.savez wrote: inputs `x` (N, …) and targets `y`, by their names.

    By themselves are found x and y, X_train and y_train, train_images and train_labels, and the
    like. Arrays of the same names for val or test are the validation and the test set. The task,
    unless given:

        classification, binary    y of whole numbers, of floats too if at most 20 different ones, of
                                  truth values or texts, (N,) or (N, 1); or one-hot, (N, C)
        multi_label               y of 0 and 1, (N, L)
        regression                y of other floats (N,) or (N, K)
        segmentation              y of whole numbers (N, H, W), also (N, 1, H, W) or (N, H, W, 1)

    Classes are the sorted values of y; of one-hot ones the columns. Images may be (N, C, H, W),
    (N, H, W, C) with at most four channels, or (N, H, W), if they are bytes or squares. Inputs of
    the type uint8 stay bytes, with their range; all others become float32. With what a run has
    saved of its data, `known`, y is for its task, where few examples may look like another.

    >>> np.savez("mine.npz", x=images, y=labels)  # doctest: +SKIP
    >>> npz(path="mine.npz")                      # doctest: +SKIP
    """
    file = located(path, "npz", data_dir)
    if known and task == "auto":
        task = _TASKS.get(known["task"], "auto")
    splits: dict[str, tuple[str, str]] = {}

    def named(there: list[str]) -> Iterator[str]:
        splits.update(_splits(there, x, y))
        return chain(*splits.values())

    arrays = arrays_of(file, named)
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    for (name, _), (inputs, targets) in zip(splits.values(), pairs, strict=True):
        check_inputs(name, inputs, file)
        if not targets.ndim or len(inputs) != len(targets):
            many = len(targets) if targets.ndim else "no array of"
            raise UserError(f"{file}: {len(inputs)} inputs but {many} targets.")
        if (inputs.dtype == np.uint8) != (pairs[0][0].dtype == np.uint8):
            raise UserError(
                f"{file}: of {splits['train'][0]} and {name} one has bytes, from 0 to 255, and the "
                "other has numbers of another type. Save both as the same."
            )
    try:
        inputs, targets = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    except ValueError as error:
        raise UserError(
            f"{file}: the splits {', '.join(splits)} do not fit together: {error}."
        ) from error
    inputs = channels_first(inputs)
    low, high = (0.0, 255.0) if inputs.dtype == np.uint8 else (None, None)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        labels, kind, classes = _targets(targets, task, file)
        inputs = inputs.astype(inputs.dtype if high else np.float32)
    own = {split: len(y) for split, (_, y) in zip(splits, pairs, strict=True)}
    return Examples(
        inputs, labels, kind, classes, low, high, val=own.get("val", 0), test=own.get("test", 0)
    )


def _splits(there: Sequence[str], x: str, y: str) -> dict[str, tuple[str, str]]:
    """The names of inputs and targets of each split, those of train first, as it is to be."""
    train = _train_array(there, "x", x, _INPUTS), _train_array(there, "y", y, _TARGETS)
    found = {"train": train}
    for split in ("val", "test"):
        names = [_partner(there, name, split) for name in train]
        if any(names) and not all(names):
            lonely, other = (names[0] or names[1]), train[0 if names[1] else 1]
            raise UserError(
                f"it has {lonely} for the split {split}, but nothing for it that belongs to "
                f"{other}. Save inputs and targets of that split, or neither."
            )
        if all(names):
            found[split] = (names[0], names[1])
    return found


def _train_array(there: Sequence[str], key: str, name: str, words: Sequence[str]) -> str:
    """The array of that name; `auto` is one that is called by one of the `words`."""
    found = _called(there, words) if name == "auto" and name not in there else name
    if found not in there:
        what = f"no array {name!r}" if found else f"no array called {key} or the like"
        raise UserError(
            f"it has {what}. It has {', '.join(there) or 'nothing'}: dataset.x=… and dataset.y=… "
            "name the arrays to use."
        )
    return found


def _called(there: Sequence[str], words: Sequence[str]) -> str | None:
    """The array called by the first possible of the `words`, by itself or for training."""
    meant = {split_in(name): name for name in there}
    wanted = [(split, word) for word in words for split in (None, "train")]
    return next((meant[name] for name in wanted if name in meant), None)


def _partner(there: Sequence[str], name: str, split: str) -> str | None:
    """The array that is for another split what `name` is for training, if there is one."""
    own, rest = split_in(name)
    found = [array for array in there if split_in(array) == (split, rest)]
    if own not in (None, "train") or not found:
        return None
    if len(found) > 1:
        raise UserError(f"it has {len(found)} arrays for the split {split}: {', '.join(found)}.")
    return found[0]


def inputs_among(there: Sequence[str], name: str) -> str:
    """The array of inputs in a file for a run that learnt from `name`; targets it need not have."""
    if name in there or len(there) == 1:
        return name if name in there else there[0]
    if found := _called(there, _INPUTS):
        return found
    wanted = "x" if name == "auto" else f"{name} or x"
    raise UserError(
        f"the inputs have to be the array {wanted}; it has {', '.join(there) or 'none'}."
    )


def channels_first(x: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) or (N, H, W) as (N, C, H, W); other inputs (N, …) as they are."""
    if x.ndim == 4 and x.shape[3] <= 4 < min(x.shape[1:3]):
        return np.ascontiguousarray(np.moveaxis(x, 3, 1))
    if x.ndim == 3 and (x.dtype == np.uint8 or x.shape[1] == x.shape[2] >= _SMALLEST_IMAGE):
        return x[:, None]
    return x


def check_inputs(name: str, x: np.ndarray, file: Path) -> None:
    """Raise UserError where an array is no inputs (N, …)."""
    if x.ndim < 2 or not np.prod(x.shape) or x.dtype.kind not in "biuf":
        raise UserError(
            f"{file}: inputs have to be numbers (N, …); those of {name!r} are {x.dtype} of shape "
            f"{x.shape}."
        )


def arrays_of(file: Path, names: Callable[[list[str]], Iterable[str]]) -> list[np.ndarray]:
    """The arrays that `names` chooses among those an npz file has. Never unpickles."""
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is no npz file, or damaged: it is no zip archive.")
    try:
        with zipfile.ZipFile(file) as archive:
            unzipped = sum(member.file_size for member in archive.infolist())
        if why := bomb(file.stat().st_size, unzipped):
            raise UserError(why)
        with np.load(file, allow_pickle=False) as archive:
            there = archive.files
            # What is no array is bytes there.
            return [np.asarray(archive[name]) for name in names(there)]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise UserError(f"{file} is refused: {error}") from error
        raise UserError(
            f"{file} is refused: it has an array of Python objects, which could run a program when "
            "they are read. Save numbers, or texts as array.astype(str)."
        ) from error
    except Exception as error:  # numpy, zipfile and zlib have one for each kind of damage
        raise UserError(f"{file} is refused: {error}") from error


def _targets(y: np.ndarray, task: str, file: Path) -> tuple[np.ndarray, str, list[str]]:
    """y, the task, and the names of the classes."""
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.ndim > 1 and task != "multi_label" and y.size == len(y):
        y = y.ravel()  # (N, 1)
    if y.ndim == 4 and 1 in (y.shape[1], y.shape[3]) and task in ("auto", "segmentation"):
        y = y.squeeze(1 if y.shape[1] == 1 else 3)
    if task in ("auto", "classification", "binary") and _one_hot(y):
        classes = list(map(str, range(y.shape[1])))
        if task == "auto":
            task = "binary" if len(classes) == 2 else "classification"
        if task == "classification" or len(classes) == 2:
            return y.argmax(1), task, classes
    if task == "auto":
        task = _task(y, file)
    if task == "regression" and y.ndim == 1:
        y = y[:, None]
    axes = _AXES.get(task, 1)
    if y.ndim != axes or y.dtype.kind not in ("biuf" if axes == 2 else "biufU"):
        raise UserError(
            f"{file}: targets of type {y.dtype} and shape {y.shape} do not fit task {task}; "
            "dataset.task=… names another."
        )
    if task == "regression":
        return y.astype(np.float32), task, []
    if task == "multi_label":
        if not np.isin(y, (0, 1)).all():
            raise UserError(
                f"{file}: the targets of a multi_label task, here of shape {y.shape}, have to be 0 "
                "or 1. For classes give one number an example: y (N,)."
            )
        return y.astype(np.int64), task, [str(label) for label in range(y.shape[1])]
    return classes_of(y, task, file)


def _task(y: np.ndarray, file: Path) -> str:
    """The task that targets are for, by their type and shape; `auto` for one kind of classes."""
    if y.ndim == 2 and y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all():
        return "multi_label"
    floats = y.dtype.kind == "f"
    if floats and (y % 1 != 0).any():
        return "regression"
    if y.ndim > 1:
        return {2: "regression" if floats else "multi_label", 3: "segmentation"}.get(y.ndim, "auto")
    different = len(np.unique(y))
    if different <= MOST_CLASSES:
        return "auto"
    if not floats and y.dtype.kind in "iu" and 2 * different > len(y):
        raise UserError(
            f"{file}: the targets are {different:,} different whole numbers in {len(y):,} "
            "examples. If these are quantities: dataset.task=regression; if they are classes: "
            "dataset.task=classification."
        )
    return "regression" if floats else "auto"


def _one_hot(y: np.ndarray) -> bool:
    """Whether every row (N, C) has a single 1, and else 0."""
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "biuf":
        return False
    return bool(np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all())
