"""Tables and arrays of one's own: csv and npz files."""

import gzip
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from csv import Error as CellError
from csv import reader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainlab.config import UserError, nearest
from trainlab.data.examples import Examples
from trainlab.data.files import located

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
_MOST_CLASSES = 20  # of a csv target of whole numbers: with more values it is a quantity
_MOST_CATEGORIES = 1000  # of a column of text: with more it is a name, a date or a sentence


def csv(
    data_dir: Path | None = None,
    download: bool = False,
    path: str | None = None,
    target: Any = None,
    separator: str = "auto",
    task: str = "auto",
    categorical: Sequence[Any] = (),
    numeric: Sequence[Any] = (),
    drop: Sequence[Any] = (),
    missing: Sequence[Any] = (),
    drop_unlabelled: bool = False,
) -> Examples:
    """A table whose first line names the columns: x (N, D) float32, y from the column `target`.

    .csv or .tsv, gzipped or not, in UTF-8. A cell is missing (NaN) if it is empty, or NA, null or
    another of pandas' words, or in `missing`. Each column but `drop` and the target is

        numeric      if its cells are numbers or truth values (0, 1), or it is in `numeric`
        categorical  if there is any other text, or it is in `categorical`: codes 0, 1, … in the
                     order of the sorted values

    The target is

        classes      if it is text, truth values, or whole numbers of at most 20 different values;
                     two classes are task binary
        a quantity   if it is other numbers, or a list of columns: y (N, K) float32

    unless `task` is classification, binary or regression. A row without a target is an error, or
    left out with `drop_unlabelled`.

    >>> csv(path="iris.csv", target="species", drop=["id"])  # doctest: +SKIP
    """
    file = located(path, "csv", data_dir)
    table = _table(file, separator, _texts(missing))
    targets = _texts(target if isinstance(target, list | tuple) else [target])
    if target is None or not targets:
        raise UserError(
            "dataset=csv needs to be told which column to predict: dataset.target=NAME. "
            f"{file} has {', '.join(table)}."
        )
    _check_names("target", targets, list(table), file)
    inputs = [name for name in table if name not in targets]
    drop, categorical, numeric = _texts(drop), _texts(categorical), _texts(numeric)
    for key, names in {"drop": drop, "categorical": categorical, "numeric": numeric}.items():
        _check_names(key, names, inputs, file)
    if both := set(categorical) & set(numeric):
        raise UserError(f"Column {min(both)!r} is in dataset.categorical and dataset.numeric.")
    inputs = [name for name in inputs if name not in drop]
    if not inputs:
        raise UserError(f"{file} has no column left to predict {', '.join(targets)} from.")

    unlabelled = table[targets].isna().any(axis=1)
    if unlabelled.any():
        if unlabelled.all() or not drop_unlabelled:
            raise UserError(
                f"{file}: {', '.join(targets)} is missing in {unlabelled.sum():,} of "
                f"{len(table):,} rows. dataset.drop_unlabelled=true leaves these rows out, where "
                "there are others."
            )
        table = table[~unlabelled]

    for name in set(inputs) - set(categorical) - set(numeric):
        _check_unmixed(table[name], file)
    numbers = {
        n for n in inputs if n not in categorical and (n in numeric or _is_numeric(table[n]))
    }
    x = np.empty((len(table), len(inputs)), np.float32)
    categories = []
    for column, name in zip(x.T, inputs, strict=True):
        if name in numbers:
            column[:] = _numbers(table[name], file)
        else:
            column[:], values = _codes(table[name], file, unlimited=name in categorical)
            categories.append(tuple(map(_name, values)))
    y, kind, classes = _csv_target(table[targets], task, file)
    return Examples(
        x, y, kind, classes,
        categorical=tuple(n for n, name in enumerate(inputs) if name not in numbers),
        columns=tuple(inputs), categories=tuple(categories),
    )  # fmt: skip


def like(
    file: Path,
    columns: Sequence[str],
    categorical: Sequence[int],
    categories: Sequence[Sequence[str]],
    separator: str = "auto",
    missing: Sequence[Any] = (),
) -> np.ndarray:
    """The columns of a csv file as the inputs (N, D) of a table that had them, and these codes.

    What was no category there is missing (NaN). Columns besides are not looked at.
    """
    table = _table(file, separator, _texts(missing))
    if absent := [name for name in columns if name not in table]:
        raise UserError(f"{file} has no column {', '.join(absent)}, as the run's data have.")
    codes = dict(zip(categorical, categories, strict=True))
    x = np.empty((len(table), len(columns)), np.float32)
    for i, name in enumerate(columns):
        if i in codes:
            known = {value: code for code, value in enumerate(codes[i])}
            x[:, i] = [known.get(_name(value), np.nan) for value in table[name]]
        else:
            x[:, i] = _numbers(table[name], file)
    return x


def _name(value: Any) -> str:
    """A category as text; 11 and 11.0, which it becomes where a cell is empty, are one."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def _texts(names: Sequence[Any]) -> list[str]:
    """Names of columns, which to a config may look like numbers."""
    return [str(name) for name in names]


def _table(file: Path, separator: str, missing: list[str]) -> "pd.DataFrame":
    """A csv file as pandas reads it. Raises UserError where it is no table with named columns."""
    import pandas as pd

    try:
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
        if separator == "auto":
            separator = max(_SEPARATORS, key=lambda name: len(_cells(first, name)))
        names = _cells(first, separator)
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(
                f"{file}: two columns are called {twice[0]!r}. The first line has to name the "
                "columns, each by another name."
            )
        options: dict[str, Any] = {
            "sep": _SEPARATORS[separator],
            "index_col": False,
            "na_values": missing,
            "skipinitialspace": f"{_SEPARATORS[separator]} " in first,  # a fifth of pandas' time
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than columns
            warnings.simplefilter("error", pd.errors.DtypeWarning)
            try:
                table = pd.read_csv(file, **options)
            except pd.errors.DtypeWarning:  # a column's pieces look like different types
                table = pd.read_csv(file, low_memory=False, **options)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not text in UTF-8 ({error.reason}). If it is in Latin-1, convert it: "
            "iconv -f latin1 -t utf-8 OLD > NEW."
        ) from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise UserError(
            f"{file} is no table with columns separated by {separator}: "
            f"{' '.join(str(error).split())}. dataset.separator=… names another separator."
        ) from error
    except (OSError, EOFError, zlib.error, CellError) as error:
        raise UserError(f"{file} cannot be read: {error}.") from error
    if table.empty:
        raise UserError(f"{file} has no rows below the names of its columns.")
    return table


def _cells(line: str, separator: str) -> list[str]:
    return next(reader([line], delimiter=_SEPARATORS[separator], skipinitialspace=True), [])


def _check_names(key: str, names: Sequence[str], columns: Sequence[str], file: Path) -> None:
    for name in names:
        if name not in columns:
            raise UserError(
                f"dataset.{key}: {name!r} is no column of {file}.{nearest(name, columns)} It has "
                f"{', '.join(columns[:20])}{', …' * (len(columns) > 20)}; a single one is a sign "
                "of another separator (dataset.separator=…)."
            )


def _is_numeric(column: "pd.Series") -> bool:
    """Of numbers or truth values; where some of these are missing, pandas has no type for them."""
    from pandas.api.types import is_numeric_dtype

    if column.dtype == object:
        column = column.dropna().infer_objects()
    return is_numeric_dtype(column)


def _check_unmixed(column: "pd.Series", file: Path) -> None:
    """Raise UserError for a column of numbers among which some texts stand, such as '?'."""
    import pandas as pd

    if column.dtype.kind in "biuf":
        return
    values = pd.to_numeric(column, errors="coerce")
    words = column[values.isna() & column.notna()]
    if len(words) and values.notna().sum() > len(words):
        raise UserError(
            f"{file}: column {column.name!r} has numbers, but also {words.iloc[0]!r}. If that is a "
            f"missing value: 'dataset.missing=[{words.iloc[0]}]'; if all are names: "
            f"'dataset.categorical=[{column.name}]'."
        )


def _numbers(column: "pd.Series", file: Path) -> np.ndarray:
    """A column (N,) as floats. Raises UserError where a cell is text."""
    import pandas as pd

    if column.dtype.kind == "O":
        values = pd.to_numeric(column, errors="coerce")
        words = column[values.isna() & column.notna()]
        if len(words):
            raise UserError(
                f"{file}: {words.iloc[0]!r} in column {column.name!r} is no number. If it stands "
                f"for a missing value: 'dataset.missing=[{words.iloc[0]}]'."
            )
        column = values
    with np.errstate(over="ignore"):  # what is not finite is refused later
        return column.to_numpy(np.float32)


def _codes(column: "pd.Series", file: Path, unlimited: bool) -> tuple[np.ndarray, Sequence[Any]]:
    """A column (N,) as positions in its sorted values, NaN where one is missing; these values.

    Raises UserError where there are too many of them for categories, unless that is `unlimited`.
    """
    import pandas as pd

    codes, values = pd.factorize(column.to_numpy(), sort=True)
    present = np.count_nonzero(codes >= 0)
    if not unlimited and (len(values) > _MOST_CATEGORIES or len(values) == present):
        raise UserError(
            f"{file}: column {column.name!r} has {len(values):,} different texts in {present:,} "
            f"rows, such as {values[0]!r}; that is no category. Leave it out, "
            f"'dataset.drop=[{column.name}]', or say that it is: "
            f"'dataset.categorical=[{column.name}]'."
        )
    return np.where(codes < 0, np.nan, codes), values


def _csv_target(
    columns: "pd.DataFrame",  # (N, K), nothing missing
    task: str,
    file: Path,
) -> tuple[np.ndarray, str, list[str]]:
    """y, the task, and the names of the classes."""
    values = columns.iloc[:, 0].infer_objects()
    if task == "auto" and (columns.shape[1] > 1 or _is_quantity(values)):
        task = "regression"
    if task == "regression":
        y = [_numbers(column, file) for _, column in columns.items()]
        names = list(map(str, columns)) if len(y) > 1 else []
        return np.stack(y, axis=1), task, names
    if columns.shape[1] > 1:
        raise UserError(f"dataset.target names several columns: dataset.task={task} takes one.")
    return _classes(values.to_numpy(), task, file)


def _is_quantity(column: "pd.Series") -> bool:
    if column.dtype.kind not in "iuf":
        return False
    return column.nunique() > _MOST_CLASSES or bool((column % 1 != 0).any())


def _classes(values: np.ndarray, task: str, file: Path) -> tuple[np.ndarray, str, list[str]]:
    """Classes 0, 1, … for values of any shape, in their order; the task; the names."""
    import pandas as pd

    codes, found = pd.factorize(values.ravel(), sort=True)
    if len(found) < 2 or (task == "binary" and len(found) > 2):
        raise UserError(
            f"{file}: the target has {len(found)} different values, and task "
            f"{'binary needs two' if task == 'binary' else 'classification at least two'}."
        )
    if task == "auto":
        task = "binary" if len(found) == 2 else "classification"
    names = [f"{v:g}" if isinstance(v, float) else str(v) for v in found.tolist()]
    return codes.reshape(values.shape).astype(np.int64), task, names


# ---------------------------------------------------------------- npz

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
    pairs = _arrays(file, [(x, y), (f"{x}_test", f"{y}_test")])
    for inputs, targets in pairs:
        if len(inputs) != len(targets):
            raise UserError(f"{file}: {len(inputs)} inputs but {len(targets)} targets.")
    try:
        inputs, targets = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    except ValueError as error:
        raise UserError(f"{file}: training and test set do not fit together: {error}.") from error
    if inputs.ndim < 2 or inputs.dtype.kind not in "biuf":
        raise UserError(
            f"{file}: inputs have to be numbers (N, …); those of {x!r} are {inputs.dtype} of shape "
            f"{inputs.shape}."
        )
    low, high = (0.0, 255.0) if inputs.dtype == np.uint8 else (None, None)
    labels, kind, classes = _npz_target(targets, task, file)
    return Examples(
        inputs.astype(inputs.dtype if high else np.float32), labels, kind, classes, low, high,
        test=sum(len(test) for test, _ in pairs[1:]),
    )  # fmt: skip


def npz_inputs(file: Path) -> np.ndarray:
    """The array `x` of a file."""
    ((x, _),) = _arrays(file, [("x", "x")])
    if x.ndim < 2 or not len(x) or x.dtype.kind not in "biuf":
        raise UserError(f"{file}: x has to be numbers (N, …), not {x.dtype} of shape {x.shape}.")
    return x.astype(np.float32)


def _arrays(file: Path, names: Sequence[tuple[str, str]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of arrays by their names; the second pair may be missing. Never unpickles."""
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is no npz file, or damaged: it is no zip archive.")
    try:
        with np.load(file, allow_pickle=False) as archive:
            there = archive.files
            wanted = [names[0], *(pair for pair in names[1:] if set(pair) & set(there))]
            return [(archive[first], archive[second]) for first, second in wanted]
    except KeyError as error:
        raise UserError(
            f"{file}: {error.args[0]}, which has {', '.join(there) or 'nothing'}. dataset.x=… and "
            "dataset.y=… name the arrays to use."
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
            raise UserError(f"{file}: the targets of a multi_label task have to be 0 or 1.")
        return y.astype(np.int64), task, [str(label) for label in range(y.shape[1])]
    return _classes(y, task, file)
