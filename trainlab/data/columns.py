"""Columns of a table: which are numbers, which categories, and what numbers stand for them.

A text is looked at once, however many rows have it.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainlab.config import UserError, typed
from trainlab.data.units import Measured, are_measured, measured, numbers_in

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = "biuf"  # kinds of types, truth values among them
_TRUTHS = {word: word[0] in "Tt" for word in "True TRUE true False FALSE false".split()}
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}([,.])\d{3}(\1\d{3})*")
DECIMALS = {"point": ".", "comma": ","}
_SWAPPED = str.maketrans(",.", ".,")
_DATE = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}\b|\d{1,2}([-/.])\d{1,2}\2\d{2,4}\b")
_MOST_CATEGORIES = 1000  # of a column of text: with more it is a name, a date or a sentence
# What pandas takes for a missing value, beside the empty cell.
MISSING_WORDS = (
    "NA N/A n/a <NA> #N/A #NA NaN nan -NaN -nan NULL null None 1.#IND -1.#IND 1.#QNAN -1.#QNAN"
).split()
_ROWS_AT_ONCE = 4096  # of a table: they stay in the cache until all of their columns are written


class Source(NamedTuple):
    """Where columns come from; there, what stands between whole numbers and fractions, and for a
    missing value, and what is to be done with units of numbers."""

    file: Path
    decimal: str = "point"
    missing: tuple[str, ...] = ()
    units: str = "refuse"


class _Cells(NamedTuple):
    """The distinct values of a column, sorted; the position of each row's, −1 where it is missing;
    and each as a number, NaN where it is none."""

    values: np.ndarray
    codes: np.ndarray
    parsed: np.ndarray

    def rows(self, chosen: np.ndarray) -> int:
        """How many rows have one of the `chosen` (a mask) values."""
        return np.bincount(self.codes + 1, minlength=len(self.values) + 1)[1:][chosen].sum()

    def column(self, numbers: np.ndarray) -> np.ndarray:
        """The column (N,) with a number for each of its values, NaN where one is missing."""
        return np.append(numbers, np.nan)[self.codes]


def cells_of(column: "pd.Series", source: Source) -> _Cells:
    """A column, its texts without the spaces around them: see `name_of`."""
    codes, values = factorized(column.to_numpy())
    if values.dtype == object:
        names = [name_of(value) if isinstance(value, str) else value for value in values]
        if any(name is not value for name, value in zip(names, values, strict=True)):
            missing = {"", *source.missing}
            names = [None if name in missing else name for name in names]
            merged, values = factorized(np.array(names, object))
            codes = np.append(merged, -1)[codes]
    if all(str(value) in _TRUTHS for value in values):  # with gaps, pandas has no type for them
        parsed = np.array([_TRUTHS[str(value)] for value in values], np.float64)
    else:
        parsed = _parsed(values, source.decimal)
    return _Cells(values, codes, parsed)


def factorized(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of the values (N,) the position, −1 if it is missing, in those that differ, sorted;
    and these."""
    import pandas as pd

    few = 4 * _MOST_CATEGORIES  # a table for as many as there are rows would not stay in the cache
    if values.dtype != object:
        return pd.factorize(values, sort=True, size_hint=few)
    # Pandas keeps one object for many cells of the same text, and addresses are quick to compare.
    addresses = np.ndarray(len(values), np.intp, np.ascontiguousarray(values))
    same, objects = pd.factorize(addresses, size_hint=few)
    rows = np.empty(len(objects), np.intp)
    rows[same] = np.arange(len(same))
    codes, found = pd.factorize(values[rows], sort=True)
    return codes[same], found


def _parsed(values: np.ndarray, decimal: str) -> np.ndarray:
    import pandas as pd

    if decimal == "comma":  # then a point is none
        values = [v.translate(_SWAPPED) if isinstance(v, str) else v for v in values]
    return np.asarray(pd.to_numeric(np.asarray(values, object), errors="coerce"), np.float64)


def name_of(value: Any) -> str:
    """A category or class as text; 11 and 11.0, which it becomes where a cell is empty, are one.

    >>> name_of(" red"), name_of(11), name_of(11.0), name_of("11.0"), name_of("011")
    ('red', '11', '11', '11', '011')
    """
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    name = str(value).strip()
    whole, _, fraction = name.partition(".")
    return whole if fraction and not fraction.strip("0") and whole.lstrip("-").isdigit() else name


def are_texts(names: Sequence[str]) -> bool:
    """Whether a column with all of these values is text, and neither numbers nor truth values."""
    numbers = _parsed(np.array(names, object), "point")
    return bool(np.isnan(numbers).any()) and not set(names) <= {"False", "True"}


def known_codes(names: Iterable[str], known: Sequence[str]) -> np.ndarray:
    """The position in the `known` names of each (n,), NaN where it is none of them."""
    codes = {name: code for code, name in enumerate(known)}
    return np.array([codes.get(name, np.nan) for name in names], np.float32)


# ---------------------------------------------------------------- inputs


def inputs_of(
    table: "pd.DataFrame",
    names: Sequence[str],
    categorical: Sequence[str],
    numeric: Sequence[str],
    source: Source,
) -> tuple[np.ndarray, dict[str, tuple[str, ...]]]:
    """Columns of a table: x (N, D); and what the codes stand for, of those of them that have codes.

    Raises UserError where texts look like a mistake.
    """
    places = table.columns.get_indexer(names)
    types = table.dtypes.to_numpy()[places]
    plain = [t.kind in NUMBERS and n not in categorical for t, n in zip(types, names, strict=True)]
    parts, categories = [], {}
    for (is_plain, _, shift), run in groupby(
        range(len(names)), lambda i: (plain[i], plain[i] and types[i], places[i] - i)
    ):
        run = list(run)
        for i in run:
            _check_filled(table.iloc[:, places[i]], source)
        if is_plain:  # neighbours of one type lie together, and need no copy
            parts.append(table.iloc[:, run[0] + shift : run[-1] + shift + 1].to_numpy())
            continue
        for i in run:
            name = names[i]
            column, known = _coded(table[name], name in categorical, name in numeric, source)
            parts.append(column[:, None])
            if known is not None:
                categories[name] = known
    return stacked(parts), categories


def _check_filled(column: "pd.Series", source: Source) -> None:
    """Raise UserError for a column in which every cell is missing."""
    import pandas as pd

    if pd.isna(column.iloc[0]) and column.isna().all():
        raise UserError(
            f"{source.file}: column {column.name!r} is empty. Leave it out: "
            f"{typed('dataset.drop', [column.name])}."
        )


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Parts of a table, (N, K) each, side by side: (N, D) float32."""
    ends = np.cumsum([part.shape[1] for part in parts])
    x = np.empty((len(parts[0]), ends[-1]), np.float32)
    with np.errstate(over="ignore"):  # what is not finite is refused later
        for start in range(0, len(x), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            for part, end in zip(parts, ends, strict=True):
                x[rows, end - part.shape[1] : end] = part[rows]
    return x


def numbers_of(column: "pd.Series", source: Source) -> np.ndarray:
    """A column (N,) as numbers, NaN where one is missing. Raises UserError where a cell is text."""
    if column.dtype.kind in NUMBERS:
        return column.to_numpy()
    cells = cells_of(column, source)
    words = cells.values[np.isnan(cells.parsed)]
    if len(words):
        _check_decimal(column.name, cells, source)
        _check_units(column.name, cells, source)
        remedy = f" If it is a missing value: {typed('dataset.missing', [words[0]])}."
        few = 2 * len(words) < len(cells.values)
        raise UserError(
            f"{source.file}: {words[0]!r} in column {column.name!r} is no number."
            f"{remedy if few else ' The column is text.'}"
        )
    return cells.column(cells.parsed)


def known_of(column: "pd.Series", known: Sequence[str], source: Source) -> np.ndarray:
    """A column of texts (N,) as positions in the `known` ones, NaN where it has another."""
    cells = cells_of(column, source)
    return cells.column(known_codes(map(name_of, cells.values), known))


def _coded(
    column: "pd.Series", categorical: bool, numeric: bool, source: Source
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A column (N,) as `numbers_of` it, or as positions in its sorted values, and their names."""
    if numeric:
        return numbers_of(column, source), None
    cells = cells_of(column, source)
    if not categorical:
        if not np.isnan(cells.parsed).any():
            return cells.column(cells.parsed), None
        remedy = typed("dataset.categorical", [column.name])
        check_words(column.name, cells, source, remedy)
        _check_dates(column.name, cells, source, remedy)
        present = np.count_nonzero(cells.codes >= 0)
        if len(cells.values) > _MOST_CATEGORIES or len(cells.values) == present:
            raise UserError(
                f"{source.file}: column {column.name!r} has {len(cells.values):,} different texts "
                f"in {present:,} rows, such as {cells.values[0]!r}; that is no category. Leave it "
                f"out, {typed('dataset.drop', [column.name])}, or say that it is: {remedy}."
            )
    names = tuple(map(name_of, cells.values))
    return cells.column(np.arange(len(names))), names


def check_words(name: str, cells: _Cells, source: Source, remedy: str) -> None:
    """Raise UserError for a column of numbers among which some texts stand, such as '?'."""
    words = np.isnan(cells.parsed)
    besides = f"; if all are names: {remedy}"
    _check_decimal(name, cells, source, besides)
    _check_units(name, cells, source, besides)
    if words.any() and not words.all() and cells.rows(~words) > cells.rows(words):
        word = cells.values[words][0]
        raise UserError(
            f"{source.file}: column {name!r} has numbers, but also {word!r}. If that is a missing "
            f"value: {typed('dataset.missing', [word])}; if all are names: {remedy}."
        )


def _check_decimal(name: str, cells: _Cells, source: Source, besides: str = "") -> None:
    """Raise UserError for a column whose texts are mostly numbers with another mark, as '3,14'."""
    (other,) = DECIMALS.keys() - {source.decimal}
    words = np.isnan(cells.parsed)
    thousands = [isinstance(v, str) and bool(_THOUSANDS.fullmatch(v)) for v in cells.values]
    marked = words & (~np.isnan(_parsed(cells.values, other)) | np.array(thousands, bool))
    if not marked.any() or 2 * cells.rows(marked) <= cells.rows(words):
        return
    if all(np.array(thousands)[marked]):
        mark = DECIMALS[other]
        remedy = f"If these are thousands: dataset.units=strip takes each {mark!r} out of them"
    else:
        remedy = f"If these are numbers with a decimal {other}: dataset.decimal={other}"
    raise UserError(
        f"{source.file}: column {name!r} has texts such as {cells.values[marked][0]!r}. "
        f"{remedy}{besides}."
    )


def _check_units(name: str, cells: _Cells, source: Source, besides: str = "") -> None:
    """Raise UserError for a column whose texts are mostly numbers with units, as '3 kg'."""
    (other,) = DECIMALS.keys() - {source.decimal}
    for decimal in (source.decimal, other):
        found = _measured(cells, decimal)
        if marked := [value for value, one in zip(cells.values, found, strict=True) if one]:
            comma = f" dataset.decimal={other}" if decimal == other else ""
            raise UserError(
                f"{source.file}: column {name!r} has texts such as {marked[0]!r}. If these are "
                f"numbers: dataset.units=strip{comma} takes away what is around them{besides}."
            )


def _check_dates(name: str, cells: _Cells, source: Source, remedy: str) -> None:
    """Raise UserError for a column whose texts mostly look like dates."""
    dates = np.array([isinstance(v, str) and bool(_DATE.match(v)) for v in cells.values], bool)
    if 2 * cells.rows(dates) > cells.rows(np.ones(len(dates), bool)):
        raise UserError(
            f"{source.file}: column {name!r} has dates such as {cells.values[dates][0]!r}. "
            f"{typed('dataset.dates', [name])} makes numbers of them: year, month, day, weekday, "
            f"hour; if they are names: {remedy}."
        )


def _measured(cells: _Cells, decimal: str) -> list[Measured | None]:
    """The numbers with units that values of a column are, if its texts mostly are such."""
    words = np.isnan(cells.parsed)
    texts = [
        v.translate(_SWAPPED) if decimal == "comma" and isinstance(v, str) else v
        for v in cells.values
    ]
    found = [measured(v) if word else None for v, word in zip(texts, words, strict=True)]
    marked = np.array([one is not None for one in found], bool)
    if 2 * cells.rows(marked) <= cells.rows(words) or not are_measured(found):
        return [None] * len(found)
    return found


def without_units(
    table: "pd.DataFrame",
    names: Sequence[str],
    source: Source,
    known: dict[str, str] | None = None,
) -> tuple["pd.DataFrame", dict[str, str]]:
    """The table with numbers in those of its columns that have numbers with a unit; and the units.

    Raises UserError where a column has several, or another than the one that is `known`: their
    numbers do not compare.
    """
    import pandas as pd

    bare, units = {}, {}
    for name in names:
        if table[name].dtype.kind in NUMBERS:
            continue
        cells = cells_of(table[name], source)
        found = _measured(cells, source.decimal)
        if not any(found):
            continue
        plain = ~np.isnan(cells.parsed)
        examples: dict[str, Any] = {}
        for one, value in zip(found, cells.values, strict=True):
            if one:
                examples.setdefault(one.unit, value)
        if plain.any():
            examples.setdefault("", cells.values[plain][0])
        if len(examples) > 1:
            raise UserError(
                f"{source.file}: column {name!r} has numbers of different units, such as "
                f"{' and '.join(repr(str(value)) for value in examples.values())}. Bring them to "
                "one, and leave the unit out."
            )
        (unit,) = examples
        if known is not None and unit not in ("", known.get(name)):
            raise UserError(
                f"{source.file}: column {name!r} has numbers such as {str(examples[unit])!r}, and "
                f"the run has learnt from {known.get(name) or 'numbers without a unit'} there. "
                "Bring them to the same."
            )
        units[name] = unit
        numbers = np.where(plain, cells.parsed, numbers_in(found))
        if np.isnan(numbers).any():  # with words among them, as before
            mark = DECIMALS[source.decimal]
            texts = [
                v if np.isnan(n) else repr(float(n)).replace(".", mark)
                for n, v in zip(numbers, cells.values, strict=True)
            ]
            column = np.append(np.array(texts, object), None)[cells.codes]
        else:
            column = cells.column(numbers)
        bare[name] = pd.Series(column, index=table.index)
    return table.assign(**bare), units
