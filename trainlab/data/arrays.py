"""Arrays of one's own: npz files."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from trainlab.config import UserError
from trainlab.data.columns import classes_of
from trainlab.data.examples import Examples
from trainlab.data.files import located

_AXES = {"classification": 1, "binary": 1, "multi_label": 2, "regression": 2, "segmentation": 3}


def npz(
    data_dir: Path | None = None,
    download: bool = False,
    path: str | None = None,
    x: str = "x",
    y: str = "y",
    task: str = "auto",
) -> Examples:
    """Arrays of a file that numpy.savez wrote: inputs `x` (N, …) and targets `y`, by their names.

    Where the file has `x`_test and `y`_test too, these are the test set. The task, unless given:

        regression                y of floats (N,) or (N, K)
        classification, binary    y of whole numbers, truth values or texts (N,)
        multi_label               y of whole numbers or truth values (N, L), 0 or 1
        segmentation              y of whole numbers (N, H, W)

    Classes are the sorted values of y. Inputs of the type uint8 stay bytes, with their range; all
    others become float32.

    >>> np.savez("mine.npz", x=images, y=labels)  # doctest: +SKIP
    >>> npz(path="mine.npz")                      # doctest: +SKIP
    """
    file = located(path, "npz", data_dir)
    wanted, test = (x, y), (f"{x}_test", f"{y}_test")
    arrays = arrays_of(file, lambda there: [*wanted, *(test if set(test) & set(there) else ())])
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    for inputs, targets in pairs:
        check_inputs(x, inputs, file)
        if not targets.ndim or len(inputs) != len(targets):
            many = len(targets) if targets.ndim else "no array of"
            raise UserError(f"{file}: {len(inputs)} inputs but {many} targets.")
    try:
        inputs, targets = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    except ValueError as error:
        raise UserError(f"{file}: training and test set do not fit together: {error}.") from error
    low, high = (0.0, 255.0) if inputs.dtype == np.uint8 else (None, None)
    with np.errstate(over="ignore"):  # what is not finite is refused later
        labels, kind, classes = _npz_target(targets, task, file)
        inputs = inputs.astype(inputs.dtype if high else np.float32)
    own_test = sum(len(inputs) for inputs, _ in pairs[1:])
    return Examples(inputs, labels, kind, classes, low, high, own_test)


def check_inputs(name: str, x: np.ndarray, file: Path) -> None:
    """Raise UserError where an array is no inputs (N, …), or images with the channels last."""
    if x.ndim < 2 or not np.prod(x.shape) or x.dtype.kind not in "biuf":
        raise UserError(
            f"{file}: inputs have to be numbers (N, …); those of {name!r} are {x.dtype} of shape "
            f"{x.shape}."
        )
    if x.ndim == 4 and x.shape[1] == x.shape[2] > x.shape[3] and x.shape[3] in (1, 3, 4):
        raise UserError(
            f"{file}: images are (N, channels, height, width); those of {name!r}, {x.shape}, seem "
            f"to have the channels last. In numpy: {name} = np.moveaxis({name}, -1, 1)."
        )


def arrays_of(file: Path, names: Callable[[list[str]], Sequence[str]]) -> list[np.ndarray]:
    """The arrays that `names` chooses among those an npz file has. Never unpickles."""
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is no npz file, or damaged: it is no zip archive.")
    try:
        with np.load(file, allow_pickle=False) as archive:
            there = archive.files
            # What is no array is bytes there.
            return [np.asarray(archive[name]) for name in names(there)]
    except KeyError as error:
        raise UserError(
            f"{file}: {error.args[0]}, which has {', '.join(there) or 'nothing'}. dataset.x=… and "
            "dataset.y=… name the arrays to use."
        ) from error
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise UserError(f"{file} is refused: {error}") from error
        raise UserError(
            f"{file} is refused: it has an array of Python objects, which could run a program when "
            "they are read. Save numbers, or texts as array.astype(str)."
        ) from error
    except Exception as error:  # numpy, zipfile and zlib have one for each kind of damage
        raise UserError(f"{file} is refused: {error}") from error


def _npz_target(y: np.ndarray, task: str, file: Path) -> tuple[np.ndarray, str, list[str]]:
    """y, the task, and the names of the classes."""
    if task == "auto":
        by_axes = {2: "multi_label", 3: "segmentation"}
        task = "regression" if y.dtype.kind == "f" else by_axes.get(y.ndim, "auto")
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
