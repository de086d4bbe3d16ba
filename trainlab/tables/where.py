"""Which runs: conditions on settings and results, read, never evaluated.

optimizer==adam and val_accuracy>0.9
act in relu,gelu and optimizer.lr<=0.01 and status!=failed
"""

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trainlab.config import UserError, nearest
from trainlab.tables.runs import Entry, cell

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le,
    ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_CONDITION = re.compile(r"^\s*([\w./-]+)\s*(==|!=|>=|<=|>|<|\s+in\s+)\s*(.*?)\s*$", re.S)
_QUOTED = r"""(?:'[^']*'|"[^"]*")"""
_OUTSIDE = rf"""(?=(?:[^'"]|{_QUOTED})*$)"""  # of quotes
_AND = re.compile(rf"(?:\s+and\s+|\s*&&?\s*){_OUTSIDE}")
_OR = re.compile(rf"(?:\s+or\s+|\s*\|\|?\s*){_OUTSIDE}")


class Condition(NamedTuple):
    key: str
    symbol: str  # of _OPERATORS, or `in`
    values: list[str]

    def __call__(self, entry: Entry) -> bool:
        mine = value_of(entry, self.key)
        if self.symbol == "in":
            return any(_compared("==", mine, value) for value in self.values)
        return _compared(self.symbol, mine, self.values[0])


def conditions(text: str) -> list[Condition]:
    """
    >>> conditions("act in relu,gelu and optimizer.lr<0.1")[1]
    Condition(key='optimizer.lr', symbol='<', values=['0.1'])
    """
    found = []
    if re.search("['\"]", re.sub(_QUOTED, "", text)):
        raise UserError(f'{text!r} has a quote that does not end. Write name=="don\'t".')
    if _OR.search(text):
        raise UserError(f"{text!r}: there is no `or`; one of several is: act in relu,gelu")
    for part in _AND.split(text):
        match = _CONDITION.match(part)
        if not match or not match[3]:
            raise UserError(
                f"Cannot read {part.strip()!r} in {text!r}. Conditions look like "
                "optimizer==adam, val_accuracy>=0.9, act in relu,gelu; `and` joins them."
            )
        key, symbol, value = match[1], match[2].strip(), match[3]
        values = _listed(value) if symbol == "in" else [value]
        if (
            len(_listed(value)) > 1
            and symbol != "in"
            and not value.startswith(("[", "{", "'", '"'))
        ):
            raise UserError(f"{part.strip()!r} names several values: {key} in {value}")
        if symbol in (">", "<", ">=", "<=") and not _is_number(value):
            raise UserError(f"{part.strip()!r}: {symbol} is between numbers, and {value} is none.")
        found.append(Condition(key, symbol, [_unquoted(v.strip()) for v in values]))
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def matching(entries: Sequence[Entry], where: str) -> list[Entry]:
    """The entries that meet all conditions; UserError for a name that none of them has."""
    wanted = conditions(where)
    known = {key for entry in entries for key in (*entry.config, *entry.result)} | {"reason"}
    for condition in wanted:
        if condition.key not in known:
            raise UserError(
                f"{where!r}: no run has {condition.key}.{nearest(condition.key, known)}"
            )
    return [entry for entry in entries if all(condition(entry) for condition in wanted)]


def value_of(entry: Entry, key: str) -> Any:
    """A setting, else a field of the result."""
    if key == "reason":
        return entry.reason
    return entry.config[key] if key in entry.config else entry.result.get(key)


def _listed(text: str) -> list[str]:
    """Parts between commas that stand in no brackets and quotes: lists are values of one
    setting."""
    return re.split(rf",(?![^\[(]*[\])]){_OUTSIDE}", text.strip("()"))


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _compared(symbol: str, mine: Any, typed: str) -> bool:
    """Numbers as numbers, all else as it is typed; a value that is missing is only ever unequal."""
    if _is_number(typed) and isinstance(mine, int | float) and not isinstance(mine, bool):
        return _OPERATORS[symbol](mine, float(typed))
    if symbol not in ("==", "!="):
        return False
    spaceless = typed.replace(" ", "") if typed.startswith(("[", "{")) else typed
    return _OPERATORS[symbol](cell(mine), spaceless)
