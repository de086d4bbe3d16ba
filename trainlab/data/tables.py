"""Tables of one's own: csv files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainlab.config import UserError, nearest, typed
from trainlab.data.columns import (
    Source,
    are_texts,
    inputs_of,
    known_of,
    numbers_of,
    stacked,
    without_units,
)
from trainlab.data.dates import dated
from trainlab.data.delimited import NAMELESS, Form, table_of
from trainlab.data.doubts import doubts
from trainlab.data.examples import Examples
from trainlab.data.files import located
from trainlab.data.targets import targets_of

if TYPE_CHECKING:
    import pandas as pd

# Of a table, by what a run has learnt; of three classes two may be left, or one.
_TASKS = dict(classification="classification", binary="classification", regression="regression")


def csv(
    data_dir: Path | None = None,
    download: bool = False,
    path: str | None = None,
    target: Any = None,
    task: str = "auto",
    categorical: Sequence[Any] = (),
    numeric: Sequence[Any] = (),
    drop: Sequence[Any] = (),
    drop_unlabelled: bool = False,
    known: dict[str, Any] | None = None,
    **form: Any,
) -> Examples:
    """A table in text: x (N, D) float32, y from the column `target`.

    `form` says how it is written, where that is not to be found out: see Form. Spaces around a
    text are no part of it. A cell is missing (NaN) if it is empty or in `missing`, or, with
    `missing_words`, NA, null or another of pandas' words. Rows and columns without a name in which
    every cell is missing are left out. Each column but `drop` and the target is

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
    form = Form(**form)
    source = form.source(file)
    targets = _strings(target if isinstance(target, list | tuple) else [target])
    drop, categorical, numeric = _strings(drop), _strings(categorical), _strings(numeric)
    texts = categorical
    if known:
        task = _TASKS.get(known["task"], task)
        are_words = task == "classification" and are_texts(known["classes"])
        texts = [*_categories(known), *(targets if are_words else [])]
    dates = _strings(form.dates)
    table = table_of(file, form, [*texts, *dates], known["columns"] if known else targets)
    if target is None or not targets:
        raise UserError(
            "dataset=csv needs to be told which column to predict: dataset.target=NAME. "
            f"{file} has {', '.join(table)}."
        )
    _check_names("target", targets, list(table), file)
    _check_names("dates", dates, [name for name in table if name not in targets], file)
    table = dated(table, form, source, whole=known is not None)
    if len(set(targets)) < len(targets):
        raise UserError(f"dataset.target names a column twice: {', '.join(targets)}.")
    if table[targets].isna().to_numpy().any():
        table = table[table.notna().any(axis=1)]
        if table.empty:
            raise UserError(f"{file} has no row with anything in it.")
    units: dict[str, str] = {}
    if form.units == "strip":
        aside = {*texts, *drop, *(targets if task in ("classification", "binary") else [])}
        numbers = [name for name in table if name not in aside]
        table, units = without_units(table, numbers, source, known and known.get("units"))
    labelled, y, kind, classes = targets_of(table[targets], task, source, drop_unlabelled)
    if not labelled.all():
        table = table[labelled]
    if known:
        inputs, categories, notes = known["columns"], _categories(known), []
        x = _like(table, known, source)
    else:
        inputs, notes = _inputs(table, targets, drop, categorical, numeric, file)
        x, categories = inputs_of(table, inputs, categorical, numeric, source)
        notes += doubts(x, inputs, list(map(inputs.index, categories)))
    return Examples(
        x, y, kind, classes, columns=tuple(inputs),
        categorical=tuple(map(inputs.index, categories)), categories=tuple(categories.values()),
        notes=tuple(notes), units=units,
    )  # fmt: skip


def _inputs(
    table: "pd.DataFrame",
    targets: Sequence[str],
    drop: Sequence[str],
    categorical: Sequence[str],
    numeric: Sequence[str],
    file: Path,
) -> tuple[list[str], list[str]]:
    """The columns to predict the targets from; and what there is to say of others.

    Raises UserError where a setting names no column.
    """
    inputs = [name for name in table if name not in targets]
    for key, names in {"drop": drop, "categorical": categorical, "numeric": numeric}.items():
        _check_names(key, names, inputs, file)
    if both := set(categorical) & set(numeric):
        raise UserError(f"Column {min(both)!r} is in dataset.categorical and dataset.numeric.")
    nameless = [n for n in inputs if n.startswith(NAMELESS) and n not in (*categorical, *numeric)]
    empty = [name for name in nameless if name not in drop and table[name].isna().all()]
    inputs = [name for name in inputs if name not in (*drop, *empty)]
    if not inputs:
        raise UserError(f"{file} has no column left to predict {', '.join(targets)} from.")
    for name in set(inputs) & set(nameless):
        raise UserError(
            f"{file}: column {name.removeprefix(NAMELESS)} (counted from 0) has no name. If it "
            f"numbers the rows, leave it out: {typed('dataset.drop', [name])}; else give it one."
        )
    count = f"{len(empty)} columns" if len(empty) > 1 else "a column"
    notes = [f"{count} of {file} without a name and without a value are left out"] * bool(empty)
    return inputs, notes


def like(file: Path, known: dict[str, Any], form: Form) -> np.ndarray:
    """A csv file as inputs (N, D) of the run that has saved what is `known` of its table.

    What was no category there is missing (NaN). Columns besides are not looked at.
    """
    texts, source = _categories(known), form.source(file)
    table = table_of(file, form, [*texts, *_strings(form.dates)], known["columns"])
    table = dated(table, form, source, whole=True)
    if form.units == "strip":
        numbers = [name for name in table if name in known["columns"] and name not in texts]
        table, _ = without_units(table, numbers, source, known.get("units"))
    return _like(table, known, source)


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


def _check_names(key: str, names: Sequence[str], columns: Sequence[str], file: Path) -> None:
    for name in names:
        if name not in columns:
            raise UserError(
                f"dataset.{key}: {name!r} is no column of {file}.{nearest(name, columns)} It has "
                f"{', '.join(columns[:20])}{', …' * (len(columns) > 20)}; a single one is a sign "
                "of another separator (dataset.separator=…)."
            )
