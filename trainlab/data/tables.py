"""Tables of one's own: csv files."""

import gzip
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from csv import Error as CellError
from csv import reader
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainlab.config import UserError, nearest
from trainlab.data.columns import (
    DECIMALS,
    MISSING_WORDS,
    Source,
    are_texts,
    inputs_of,
    known_of,
    numbers_of,
    stacked,
    targets_of,
    typed,
)
from trainlab.data.examples import Examples
from trainlab.data.files import check_unzips, located

if TYPE_CHECKING:
    import pandas as pd

# Of a table, by what a run has learnt; of three classes two may be left, or one.
_TASKS = dict(classification="classification", binary="classification", regression="regression")
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
_NAMELESS = "Unnamed: "  # so pandas begins its names for columns without one


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
    missing_words: bool = True,
    drop_unlabelled: bool = False,
    decimal: str = "point",
    known: dict[str, Any] | None = None,
) -> Examples:
    """A table whose first line names the columns: x (N, D) float32, y from the column `target`.

    .csv or .tsv, gzipped or not, in UTF-8. Spaces around a text are no part of it. A cell is
    missing (NaN) if it is empty or in `missing`, or, with `missing_words`, NA, null or another of
    pandas' words. Each column but `drop` and the target is

        numeric      if its cells are numbers or truth values (0, 1), or it is in `numeric`
        categorical  if there is any other text, or it is in `categorical`: codes 0, 1, … in the
                     order of the sorted values

    The target is

        classes      if it is text, truth values, or whole numbers of at most 20 different values;
                     two classes are task binary
        a quantity   if it is other numbers, or a list of columns: y (N, K) float32

    unless `task` is classification, binary or regression. A row without a target is an error, or
    left out with `drop_unlabelled`. With what a run has saved of its data, `known`, all is as
    there: the columns, their types and codes, and what the target is.

    >>> csv(path="iris.csv", target="species", drop=["id"])  # doctest: +SKIP
    """
    file = located(path, "csv", data_dir)
    source = Source(file, decimal, _missing(missing, missing_words))
    targets = _strings(target if isinstance(target, list | tuple) else [target])
    drop, categorical, numeric = _strings(drop), _strings(categorical), _strings(numeric)
    texts = categorical
    if known:
        task = _TASKS.get(known["task"], task)
        are_words = task == "classification" and are_texts(known["classes"])
        texts = [*_categories(known), *(targets if are_words else [])]
    table = _table(source, separator, texts)
    if target is None or not targets:
        raise UserError(
            "dataset=csv needs to be told which column to predict: dataset.target=NAME. "
            f"{file} has {', '.join(table)}."
        )
    _check_names("target", targets, list(table), file)
    if len(set(targets)) < len(targets):
        raise UserError(f"dataset.target names a column twice: {', '.join(targets)}.")
    labelled, y, kind, classes = targets_of(table[targets], task, source, drop_unlabelled)
    if not labelled.all():
        table = table[labelled]
    if known:
        inputs, categories = known["columns"], _categories(known)
        x = _like(table, known, source)
    else:
        inputs = _inputs(table, targets, drop, categorical, numeric, file)
        x, categories = inputs_of(table, inputs, categorical, numeric, source)
    return Examples(
        x, y, kind, classes, columns=tuple(inputs),
        categorical=tuple(map(inputs.index, categories)), categories=tuple(categories.values()),
    )  # fmt: skip


def _inputs(
    table: "pd.DataFrame",
    targets: Sequence[str],
    drop: Sequence[str],
    categorical: Sequence[str],
    numeric: Sequence[str],
    file: Path,
) -> list[str]:
    """The columns to predict the targets from. Raises UserError where a setting names no column."""
    inputs = [name for name in table if name not in targets]
    for key, names in {"drop": drop, "categorical": categorical, "numeric": numeric}.items():
        _check_names(key, names, inputs, file)
    if both := set(categorical) & set(numeric):
        raise UserError(f"Column {min(both)!r} is in dataset.categorical and dataset.numeric.")
    inputs = [name for name in inputs if name not in drop]
    if not inputs:
        raise UserError(f"{file} has no column left to predict {', '.join(targets)} from.")
    for name in set(inputs) - set(categorical) - set(numeric):
        if name.startswith(_NAMELESS):
            raise UserError(
                f"{file}: column {name.removeprefix(_NAMELESS)} (counted from 0) has no name. If "
                f"it is empty, or numbers the rows, leave it out: 'dataset.drop=[{typed(name)}]'; "
                "else give it one."
            )
    return inputs


def like(
    file: Path,
    known: dict[str, Any],
    separator: str = "auto",
    missing: Sequence[Any] = (),
    missing_words: bool = True,
    decimal: str = "point",
) -> np.ndarray:
    """A csv file as inputs (N, D) of the run that has saved what is `known` of its table.

    What was no category there is missing (NaN). Columns besides are not looked at.
    """
    source = Source(file, decimal, _missing(missing, missing_words))
    return _like(_table(source, separator, list(_categories(known))), known, source)


def _like(table: "pd.DataFrame", known: dict[str, Any], source: Source) -> np.ndarray:
    if absent := [name for name in known["columns"] if name not in table]:
        raise UserError(f"{source.file} has no column {', '.join(absent)}, as the run's data have.")
    categories, x = _categories(known), []
    for name in known["columns"]:
        if name in categories:
            column = known_of(table[name], categories[name], source)
        else:
            column = numbers_of(table[name], source)
        x.append(column[:, None])
    return stacked(x)


def _categories(known: dict[str, Any]) -> dict[str, Sequence[str]]:
    """Those of a run's columns that hold codes, and what these stand for."""
    names = [known["columns"][i] for i in known["categorical"]]
    return dict(zip(names, known["categories"], strict=True))


def _strings(names: Sequence[Any]) -> list[str]:
    """Names of columns, which to a config may look like numbers."""
    return [str(name) for name in names]


def _missing(missing: Sequence[Any], words: bool) -> tuple[str, ...]:
    return *(MISSING_WORDS if words else ()), *_strings(missing)


def _table(source: Source, separator: str, texts: Sequence[str]) -> "pd.DataFrame":
    """A csv file as pandas reads it, but these columns as texts, whatever they look like.

    Raises UserError where it is no table with named columns.
    """
    import pandas as pd

    file = source.file
    try:
        zipped = file.suffix == ".gz"
        if zipped:
            check_unzips(file)
        with (gzip.open if zipped else open)(file, "rt", encoding="utf-8-sig", newline="") as lines:
            first = next((line for line in lines if line.strip()), "")
            second = next(lines, "")
            if not first:
                raise UserError(f"{file} is empty.")
            if separator == "auto":
                separator = max(_SEPARATORS, key=lambda name: len(_header([first], name)))
            names = _header(chain([first, second], lines), separator)  # in quotes of many lines
        if twice := [n for n, count in Counter(map(str.strip, names)).items() if count > 1]:
            raise UserError(
                f"{file}: two columns are called {twice[0]!r}. The first line has to name the "
                "columns, each by another name."
            )
        options: dict[str, Any] = {
            "sep": _SEPARATORS[separator],
            "decimal": DECIMALS[source.decimal],
            "index_col": False,
            "dtype": {name: object for name in names if name.strip() in texts},
            "keep_default_na": False,
            "na_values": ["", *source.missing],
            "compression": "gzip" if zipped else None,
            # A fifth of pandas' time.
            "skipinitialspace": f"{_SEPARATORS[separator]} " in first + second,
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
            "iconv -f latin1 -t utf-8 OLD > NEW. A spreadsheet has to be exported as csv."
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
    return table.rename(columns=str.strip)


def _header(lines: Iterable[str], separator: str) -> list[str]:
    return next(reader(lines, delimiter=_SEPARATORS[separator], skipinitialspace=True), [])


def _check_names(key: str, names: Sequence[str], columns: Sequence[str], file: Path) -> None:
    for name in names:
        if name not in columns:
            raise UserError(
                f"dataset.{key}: {name!r} is no column of {file}.{nearest(name, columns)} It has "
                f"{', '.join(columns[:20])}{', …' * (len(columns) > 20)}; a single one is a sign "
                "of another separator (dataset.separator=…)."
            )
