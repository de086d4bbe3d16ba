"""Overrides as people type them: what Hydra's grammar and a shell read as it was meant."""

import shlex
from typing import Any


def typed(key: str, value: Any) -> str:
    """The override that gives a key this value, ready to paste into a shell.

    >>> print(typed("dataset.path", "data (1).csv"), typed("dataset.drop", ["a", "b,c"]))
    'dataset.path="data (1).csv"' 'dataset.drop=[a,"b,c"]'
    >>> print(typed("optimizer.lr", 0.1), typed("study", "2024"), typed("act.factor", None))
    optimizer.lr=0.1 'study="2024"' act.factor=null
    """
    return shlex.quote(override(key, value))


def override(key: str, value: Any) -> str:
    """The same for Hydra alone.

    >>> print(override("dataset.path", "it's.csv"))
    dataset.path="it's.csv"
    """
    return f"{key}={_literal(value)}"


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    if isinstance(value, str):
        return value if _is_read_as(value, value) else _quoted(value)
    return "null" if value is None else str(value).lower()


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    # "${" would begin an interpolation, also within quotes.
    return QuotedString(text.replace("${", r"\${"), Quote.double).with_quotes()


def _is_read_as(text: str, value: Any) -> bool:
    """Whether Hydra reads this text, alone and in a list, as the value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"key=[{text}]"])
    except HydraException:
        return False
    return parsed.value() == [value] and "${" not in text
