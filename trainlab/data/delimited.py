"""Tables in text, as spreadsheets, instruments and people write them, as pandas' tables."""

import gzip
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from csv import Error as CellError
from csv import reader
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import UserError, typed
from trainlab.data.columns import DECIMALS, MISSING_WORDS, Source
from trainlab.data.encodings import looked_at, misread
from trainlab.data.files import check_unzips

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = {
    "comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " ", "whitespace": r"\s+"
}  # fmt: skip
_GUESSED = ("comma", "semicolon", "tab", "bar")
_TOLD = re.compile(r'\ufeff?"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's first line
_BLANK = re.compile(r'[\ufeff\s,;|"]*')
_COMMENTS = "#%!*/;"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_TOO_MANY = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")  # of pandas' errors
_OPEN = re.compile(r"EOF inside string starting at row (\d+)")
_LINES = 60  # that are looked at to find out how a table is written
_YEARS = range(1800, 2200)
NAMELESS = "Unnamed: "  # so pandas begins its names for columns without one


@dataclass(frozen=True)
class Form:
    """How a table is written: the settings of dataset=csv that are about its text.

    They are a run's, and other files are read by them too: see conf/dataset/csv.yaml.
    """

    separator: str = "auto"
    header: bool | str = "auto"
    skip: int = 0
    comment: str | None = None
    encoding: str = "auto"
    decimal: str = "point"
    missing: Sequence[Any] = ()
    missing_words: bool = True
    units: str = "refuse"
    dates: Sequence[Any] = ()
    date_format: str = "auto"

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "Form":
        """What the settings of a dataset, or of a run's of another version, say of it."""
        return cls(**{f.name: settings[f.name] for f in fields(cls) if f.name in settings})

    def source(self, file: Path) -> Source:
        """That file, and what its cells mean."""
        words = MISSING_WORDS if self.missing_words else ()
        return Source(file, self.decimal, (*words, *map(str, self.missing)), self.units)


class _Top(NamedTuple):
    """How a table begins: the names of its columns, the lines before them, and whether the next
    line has the names; the separator, and whether spaces follow it."""

    names: list[str]
    skipped: int
    named: bool
    separator: str
    spaced: bool


def table_of(
    file: Path, form: Form, texts: Sequence[str] = (), wanted: Sequence[str] = ()
) -> "pd.DataFrame":
    """A file as a table whose columns have names; those in `texts` stay text, whatever they hold.

    Names that are `wanted` tell that a line has the names. Raises UserError where the file is no
    table, or another than it looks like.
    """
    encoding = form.encoding
    try:
        zipped, encoding = looked_at(file, form.encoding)
        if zipped:
            check_unzips(file)
        marked = "utf-8-sig" if encoding == "utf-8" else encoding
        with (gzip.open if zipped else open)(file, "rt", encoding=marked, newline="") as lines:
            top = _top(file, list(islice(lines, form.skip + _LINES)), form, wanted)
        return _read(file, form, top, encoding, zipped, texts)
    except UnicodeError as error:
        raise misread(file, encoding, error) from error
    except (OSError, EOFError, zlib.error, CellError) as error:
        raise UserError(f"{file} cannot be read: {error}.") from error


def _read(
    file: Path, form: Form, top: _Top, encoding: str, zipped: bool, texts: Sequence[str]
) -> "pd.DataFrame":
    import pandas as pd

    if twice := [n for n, count in Counter(top.names).items() if count > 1]:
        raise UserError(
            f"{file}: two columns are called {twice[0]!r}. The first line has to name the "
            "columns, each by another name; if it has no names: dataset.header=false."
        )
    options: dict[str, Any] = {
        "sep": _SEPARATORS.get(top.separator, top.separator),
        "names": top.names,
        "header": 0 if top.named else None,
        "skiprows": top.skipped,
        "comment": form.comment,
        "encoding": encoding,
        "decimal": DECIMALS[form.decimal],
        "index_col": False,
        "dtype": {name: object for name in top.names if name in texts},
        "keep_default_na": False,
        "na_values": ["", *form.source(file).missing],
        "compression": "gzip" if zipped else None,
        "skipinitialspace": top.spaced,  # a fifth of pandas' time
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than columns
            warnings.simplefilter("error", pd.errors.DtypeWarning)
            try:
                table = pd.read_csv(file, **options)
            except pd.errors.DtypeWarning:  # a column's pieces look like different types
                table = pd.read_csv(file, low_memory=False, **options)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise UserError(
            f"{file} is no table with columns separated by {top.separator}: "
            f"{_in_words(str(error), len(top.names))}"
        ) from error
    table = _without_blank_end(table)
    if table.empty:
        raise UserError(f"{file} has no rows below the names of its columns.")
    return table


def _in_words(said: str, width: int) -> str:
    """What pandas says of a table that is none, as sentences."""
    if found := _TOO_MANY.search(said):
        return (
            f"line {found[2]} has {found[3]} cells, and those before it {found[1]}. A cell with a "
            "separator in it has to stand in quotes; dataset.separator=… names another separator."
        )
    if found := _OPEN.search(said):
        return (
            f"a quotation mark that opens in row {found[1]}, counted from 0, is never closed. Take "
            'it out, or double it inside of quotes ("").'
        )
    if "Length of header" in said:
        return (
            f"rows have more cells than the {width} columns that the first line names. Name them "
            "all; dataset.separator=… names another separator."
        )
    return f"{' '.join(said.split())}. dataset.separator=… names another separator."


def _without_blank_end(table: "pd.DataFrame") -> "pd.DataFrame":
    """Without the rows of nothing but separators in which spreadsheets end."""
    end = len(table)
    while end and table.iloc[end - 1].isna().all():
        end -= 1
    return table.iloc[:end]


# ---------------------------------------------------------------- how a table begins


def _top(file: Path, lines: list[str], form: Form, wanted: Sequence[str]) -> _Top:
    if len(lines) <= form.skip:
        empty = "is empty" if not form.skip else f"has no line after dataset.skip={form.skip}"
        raise UserError(f"{file} {empty}.")
    start, separator = form.skip, form.separator
    if told := _TOLD.fullmatch(lines[start]):
        start += 1
        separator = told[1] if separator == "auto" else separator
    while start < len(lines) and _BLANK.fullmatch(lines[start]):
        start += 1
    if start == len(lines):
        raise UserError(f"{file} is empty.")
    if separator == "auto":
        separator = _guessed(_uncommented(lines[start:], form.comment))
    elif separator not in _SEPARATORS and len(separator) > 1:
        raise UserError(
            f"dataset.separator={separator}: it is a single character, or auto, "
            f"{', '.join(_SEPARATORS)}."
        )
    rows = _rows(_uncommented(lines[start:], form.comment), separator)
    if len(lines) == form.skip + _LINES and len(rows) > 2:
        rows.pop()  # of which a part may be below
    if not rows:
        raise UserError(f"{file} is empty.")
    first, rest = rows[0], rows[1:]
    named = form.header is not False
    if named:
        _check_above(file, lines, start, rows, separator)
        if form.header == "auto" and _is_row(first, rest, wanted):
            raise UserError(
                f"{file}: the first line, {_short(lines[start])}, looks like the rows below, and "
                "like no names of columns. If it is one of them: dataset.header=false, and the "
                f"columns are called 0 to {len(first) - 1}; if it has the names: "
                "dataset.header=true."
            )
    if named:
        full = [*first, *[""] * (_usual([len(row) for row in rest]) - len(first))]
        names = [name or f"{NAMELESS}{i}" for i, name in enumerate(full)]
    else:
        names = list(map(str, range(max(map(len, rows)))))
    spaces = _SEPARATORS.get(separator, separator) + " "
    spaced = any(spaces in line for line in lines[start : start + 2])
    return _Top(names, start, named, separator, spaced)


def _uncommented(lines: Iterable[str], comment: str | None) -> list[str]:
    """The lines up to the comment in them, without those that are nothing else."""
    if comment is None:
        return [line for line in lines if line.strip()]
    before = (line.partition(comment)[0] for line in lines)
    return [line for line in before if line.strip()]


def _rows(lines: Iterable[str], separator: str) -> list[list[str]]:
    """The cells of the lines, up to one that is too long."""
    mark = _SEPARATORS.get(separator, separator)
    if separator == "whitespace":
        lines, mark = (line.replace("\t", " ").strip() for line in lines), " "
    rows: list[list[str]] = []
    with suppress(CellError):
        for row in reader(lines, delimiter=mark, skipinitialspace=True):
            rows.append([cell.strip().lstrip("\ufeff") for cell in row])
    return rows


def _guessed(lines: list[str]) -> str:
    """The separator that splits all lines alike, or else the first one most."""
    counts = {name: [len(row) for row in _rows(lines, name)] for name in _GUESSED}
    whole = {name: found[:-1] if len(found) > 2 else found for name, found in counts.items()}
    even = [name for name, found in whole.items() if found and 1 < min(found) == max(found)]
    # A comma is also the mark of decimals, and in all lines alike where all have fractions.
    if others := [name for name in even if name != "comma"]:
        return max(others, key=lambda name: counts[name][0])
    usual = {name: _usual(found) for name, found in counts.items()}
    best = max(_GUESSED, key=lambda name: (counts[name][:1], usual[name]))
    blanks = [len(row) for row in _rows(lines, "whitespace")]
    if not even and len(set(blanks[1:])) <= 1 and min(blanks) > counts[best][0]:
        return "whitespace"
    return best


def _usual(counts: Sequence[int]) -> int:
    return Counter(counts).most_common(1)[0][0] if counts else 0


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell.replace(",", ".")))


def _is_row(first: Sequence[str], rest: Sequence[Sequence[str]], wanted: Sequence[str]) -> bool:
    """Whether the first row is one like the `rest`, and no names.

    Alike are numbers in a column of numbers, and texts that come again in their column.
    """
    if len(wanted) > 1 and set(wanted) <= set(first):
        return False
    numbers, again, others = [], 0, 0
    for i, cell in enumerate(first):
        below = [row[i] for row in rest if i < len(row) and row[i]]
        if not cell or not below:
            continue
        if _is_number(cell) and 2 * sum(map(_is_number, below)) > len(below):
            numbers.append(cell)
        elif cell in below:
            again += 1
        elif cell in wanted:
            return False
        else:
            others += 1
    if not again and _may_be_names(numbers):
        return False
    fractions = any(not cell.lstrip("+-").isdigit() for cell in numbers)
    return fractions or len(numbers) + again > others


def _may_be_names(numbers: Sequence[str]) -> bool:
    """Whether numbers are years, or count from 0 on, as those of unnamed columns do."""
    if len(numbers) < 2 or not all(cell.isdigit() for cell in numbers):
        return False
    whole = list(map(int, numbers))
    rising = all(a < b for a, b in pairwise(whole))
    counted = whole == list(range(len(whole))) and len(whole) > 2
    return counted or (rising and all(year in _YEARS for year in whole))


def _check_above(
    file: Path, lines: Sequence[str], start: int, rows: Sequence[list[str]], separator: str
) -> None:
    """Raise UserError where the first row cannot have the names, as a title does not."""
    first, rest = rows[0], rows[1:]
    width = _usual([len(row) for row in rest])
    lacking = any(any(row[len(first) :]) for row in rest if len(row) == width > len(first))
    padded = 2 * sum(map(bool, first)) <= len(first) > 1  # a spreadsheet fills a title's line up
    if not lacking and not padded:
        return
    named = (
        row for i, row in enumerate(rest)
        if len(row) == width > 1 and all(row) and not any(map(_is_number, row))
        and rest[i + 1 :] and not _is_row(row, rest[i + 1 :], ())
    )  # fmt: skip
    if names := next(named, None):
        above = next(i for i in range(start, len(lines)) if names in _rows([lines[i]], separator))
        marks = {line.lstrip()[:1] for line in lines[start:above] if line.strip()}
        comment = f", or {typed('dataset.comment', min(marks))}" * (len(marks) == 1)
        raise UserError(
            f"{file}: the first line, {_short(lines[start])}, is no line of names, as line "
            f"{above + 1} seems to be: {_short(lines[above])}. To leave out what stands above it: "
            f"dataset.skip={above}{comment if marks <= set(_COMMENTS) else ''}."
        )
    if lacking:
        raise UserError(
            f"{file} is no table with columns separated by {separator}: the first line, "
            f"{_short(lines[start])}, has {len(first)} cells, and most lines have {width}. Lines "
            "above the names are left out by dataset.skip=N, dataset.separator=… names another "
            "separator; if the first column, with names of rows, has none itself, give it one."
        )


def _short(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
