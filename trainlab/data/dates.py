"""Dates in a table: their parts as numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainlab.config import UserError, typed
from trainlab.data.columns import Source
from trainlab.data.delimited import Form

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("year", "month", "day", "weekday", "hour")
_DAYS = (
    "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y",
    "%m/%d/%y", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")


def dated(table: "pd.DataFrame", form: Form, source: Source, whole: bool) -> "pd.DataFrame":
    """The table with the parts of each date, such as signup.year, in place of its column.

    year, month (1 to 12), day, weekday (0 is Monday), and hour (with its fraction, in UTC where the
    zone is told), which is left out where no date has a time, unless the `whole` is wanted. A
    missing date has missing parts. Raises UserError where a cell is no date, or may be two.
    """
    import pandas as pd

    wanted = set(map(str, form.dates))
    if not wanted & set(table):
        return table
    columns: dict[str, pd.Series] = {}
    for name in table:
        if name not in wanted:
            columns[name] = table[name]
            continue
        for part, values in _parts(table[name], form.date_format, source).items():
            if part != "hour" or whole or np.nan_to_num(values).any():
                columns[f"{name}.{part}"] = pd.Series(values, table.index)
    if len(columns) < len(table.columns) - len(wanted):
        raise UserError(f"{source.file}: a column has the name of a date's part, as signup.year.")
    return pd.DataFrame(columns)


def _parts(column: "pd.Series", style: str, source: Source) -> dict[str, np.ndarray]:
    """Each part of a column of dates (N,), NaN where the date is missing."""
    import pandas as pd

    codes, texts = pd.factorize(column.astype(object).where(column.notna(), None))
    times = pd.Series(_read([str(text).strip() for text in texts], style, str(column.name), source))
    days = times.dt
    hour = days.hour + days.minute / 60 + days.second / 3600
    found = dict(zip(PARTS, (days.year, days.month, days.day, days.day_of_week, hour), strict=True))
    return {part: np.append(v.to_numpy(np.float64), np.nan)[codes] for part, v in found.items()}


def _read(texts: Sequence[str], style: str, name: str, source: Source) -> "pd.DatetimeIndex":
    import pandas as pd

    def parsed(form: str) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(pd.to_datetime(texts, format=form, errors="coerce", utc=True))

    styles = [style]
    if style == "auto":
        styles = ["ISO8601", *(day + time for time in _TIMES for day in _DAYS)]
        if not parsed("ISO8601").isna().any() and not all(text.isdigit() for text in texts):
            return parsed("ISO8601")
    found = {form: parsed(form) for form in styles}
    fitting = {form: times for form, times in found.items() if not times.isna().any()}
    if not fitting:
        best = max(found.values(), key=lambda times: times.notna().sum())
        odd = texts[int(best.isna().argmax())]
        raise UserError(
            f"{source.file}: {odd!r} in column {name!r} is no date as the others are. If it is a "
            f"missing value: {typed('dataset.missing', [odd])}; dataset.date_format tells "
            "the format, as %d/%m/%Y does."
        )
    first = next(iter(fitting.values()))
    for form, times in fitting.items():
        if (times != first).any():
            row = int((times != first).argmax())
            raise UserError(
                f"{source.file}: dates such as {texts[row]!r} in column {name!r} are read in two "
                f"ways. Say which: {typed('dataset.date_format', next(iter(fitting)))} or "
                f"{typed('dataset.date_format', form)}."
            )
    return first
