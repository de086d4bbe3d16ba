"""The target of a table: which rows have one, and whether it is classes or quantities."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainlab.config import UserError
from trainlab.data.columns import (
    NUMBERS,
    Source,
    cells_of,
    check_words,
    factorized,
    name_of,
    numbers_of,
    stacked,
)

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 20  # of a target of numbers: with more values it is a quantity


def targets_of(
    columns: "pd.DataFrame", task: str, source: Source, drop_unlabelled: bool
) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
    """Which rows have all targets (N,), y of these, the task, and the names of the classes, or of
    several numbers."""
    first = columns.iloc[:, 0]
    if columns.shape[1] == 1 and task != "regression" and first.dtype.kind not in NUMBERS:
        cells = cells_of(first, source)
        labelled = _labelled(cells.codes >= 0, columns, source, drop_unlabelled)
        if task == "auto":
            check_words(first.name, cells, source, "dataset.task=classification")
        return labelled, cells.codes[labelled], *_named(cells.values, task, source.file)
    labelled = _labelled(columns.notna().all(axis=1).to_numpy(), columns, source, drop_unlabelled)
    if not labelled.all():
        columns = columns[labelled]
    if task == "auto" and (columns.shape[1] > 1 or _is_quantity(columns.iloc[:, 0])):
        task = "regression"
    if task == "regression":
        y = stacked([numbers_of(column, source)[:, None] for _, column in columns.items()])
        return labelled, y, task, list(map(str, columns)) if y.shape[1] > 1 else []
    if columns.shape[1] > 1:
        raise UserError(f"dataset.target names several columns: dataset.task={task} takes one.")
    codes, values = factorized(columns.iloc[:, 0].to_numpy())
    return labelled, codes, *_named(values, task, source.file)


def _labelled(
    there: np.ndarray, columns: "pd.DataFrame", source: Source, drop_unlabelled: bool
) -> np.ndarray:
    """`there`, which rows have a target. Raises UserError where some may not lack it."""
    lacking = len(there) - np.count_nonzero(there)
    if lacking == len(there) or (lacking and not drop_unlabelled):
        raise UserError(
            f"{source.file}: {', '.join(columns)} is missing in {lacking:,} of {len(there):,} "
            f"rows, first in row {np.argmin(there) + 1:,}. dataset.drop_unlabelled=true leaves "
            "such rows out, where there are others. A word such as NA counts as missing, unless "
            "dataset.missing_words=false."
        )
    return there


def _is_quantity(column: "pd.Series") -> bool:
    if column.dtype.kind not in "iuf":
        return False
    return column.nunique() > MOST_CLASSES or bool((column % 1 != 0).any())


def classes_of(values: np.ndarray, task: str, file: Path) -> tuple[np.ndarray, str, list[str]]:
    """Classes 0, 1, … for values of any shape, in their order; the task; the names."""
    codes, found = factorized(values.ravel())
    if (codes < 0).any():
        raise UserError(f"{file}: the target has missing values (NaN).")
    return codes.reshape(values.shape), *_named(found, task, file)


def _named(values: np.ndarray, task: str, file: Path) -> tuple[str, list[str]]:
    """The task of classes with these values, which are sorted, and their names.

    Raises UserError where so many are fractions that they are quantities.
    """
    if task == "binary" and len(values) > 2:
        raise UserError(
            f"{file}: the target has {len(values)} different values, and task binary needs two."
        )
    fractions = values[values % 1 != 0] if values.dtype.kind == "f" else values[:0]
    if len(fractions) and len(values) > MOST_CLASSES:
        raise UserError(
            f"{file}: the target has {len(values):,} different values, such as {fractions[0]:g}: "
            "these are no classes. dataset.task=regression learns quantities."
        )
    if task == "auto":
        task = "binary" if len(values) == 2 else "classification"
    return task, list(map(name_of, values))
