"""Numbers with something around them: units, signs of money, brackets of accounts, thousands."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_MONEY = "$€£¥₹"
_WHOLE = r"(?:\d{1,3}(?:[,'’ \u00a0\u2009\u202f]\d{3})+|\d+)"  # marks between thousands
_NUMBER = rf"(?P<number>{_WHOLE}(?:\.\d*)?|\.\d+)(?P<power>[eE][+-]?\d+)?"
_WORD = r"(?:[^\W\d_]+[23²³]?)"
_MEASURED = re.compile(
    rf"(?P<sign>[+-]?)(?P<before>[A-Z]{{0,3}}[{_MONEY}]|[A-Z]{{3}}(?=\s))?\s*(?P<own>[+-]?){_NUMBER}"
    rf"\s*(?P<after>(?:[%‰°\"'{_MONEY}]|{_WORD})(?:[ /·*^.-]?(?:[%°]|{_WORD})){{0,3}})?"
)
_ORDINALS = ("st", "nd", "rd", "th")  # 1st and 2nd are names
_UNITS = 3  # of a column at most; what has more of them are names, as those of houses (10a)


class Measured(NamedTuple):
    """A number and the unit it has in a text."""

    number: float
    unit: str


def measured(text: object) -> Measured | None:
    """What a text says that is a number with a unit, in brackets for less than zero, or with marks
    between thousands; None where it says no number. Decimals have a point.

    >>> measured("$1,200.50"), measured("(5)")
    (Measured(number=1200.5, unit='$'), Measured(number=-5.0, unit=''))
    """
    if not isinstance(text, str):
        return None
    text = text.strip()
    negative = text.startswith("(") and text.endswith(")")
    match = _MEASURED.fullmatch(text[1:-1].strip() if negative else text)
    if not match or (match["before"] and match["after"]) or (match["sign"] and match["own"]):
        return None
    unit = match["before"] or match["after"] or ""
    if unit in _ORDINALS:
        return None
    number = float(re.sub(r"[,'’\s]", "", match["number"]) + (match["power"] or ""))
    below = negative != ("-" in (match["sign"], match["own"]))
    if len(unit) > 2 and unit.isalpha():
        unit = unit.removesuffix("s")  # 1 month, 2 months
    return Measured(-number if below else number, unit)


def are_measured(found: Sequence[Measured | None]) -> bool:
    """Whether distinct texts are rather numbers with units than names with numbers in them."""
    units = [one.unit for one in found if one]
    different = set(units)
    return 0 < len(different) <= _UNITS and (
        len(different) == 1 or all(units.count(unit) > 1 for unit in different - {""})
    )


def numbers_in(found: Sequence[Measured | None]) -> np.ndarray:
    """The numbers (n,), NaN where there is none."""
    return np.array([one.number if one else np.nan for one in found])
