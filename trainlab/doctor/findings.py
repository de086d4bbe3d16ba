"""What an examination finds."""

from typing import Any, NamedTuple

OK, WARNING, TROUBLE = LEVELS = ("ok", "warning", "trouble")


class Finding(NamedTuple):
    """One line of an examination: what was looked at, how bad it is, and what to do about it."""

    check: str
    level: str
    text: str
    facts: dict[str, Any]  # the numbers behind it, for programs; bytes and seconds


def ok(check: str, text: str, **facts: Any) -> Finding:
    return Finding(check, OK, text, facts)


def warning(check: str, text: str, **facts: Any) -> Finding:
    """Something that costs time, or keeps some of trainlab from working."""
    return Finding(check, WARNING, text, facts)


def trouble(check: str, text: str, **facts: Any) -> Finding:
    """Something that keeps runs from being trained or kept."""
    return Finding(check, TROUBLE, text, facts)


def size(count: float) -> str:
    """Bytes in words.

    >>> size(3 * 2**30), size(1500)
    ('3.0 GB', '1.5 kB')
    """
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count:.0f} bytes"
