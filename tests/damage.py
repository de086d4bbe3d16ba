"""Damage to files, and what becomes of it when they are read.

    counts = Counter(outcome(file, content, read, expected) for content in damaged(...))

`right`: what was read is what was written. `told`: a UserError, or a note that the file was edited
or damaged. `wrong`: something else was believed. `raw`: an exception that nobody wrote for people.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainlab.config import UserError


def flipped(content: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` copies with one bit flipped each, drawn evenly over the file; and what was done."""
    draw = random.Random(seed)
    for k in range(count):
        start, end = len(content) * k // count, max(1, len(content) * (k + 1) // count)
        place, bit = draw.randrange(min(start, end - 1), end), draw.randrange(8)
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", bytes(damaged)


def cut(content: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` copies that end too early, from empty to one byte less; and what was done."""
    for k in range(count):
        end = len(content) * k // count
        yield f"cut at byte {end}", content[:end]
    yield "cut at the last byte", content[:-1]


def zeroed(content: bytes, count: int, length: int = 64) -> Iterator[tuple[str, bytes]]:
    """`count` copies with zeros over `length` bytes; and what was done."""
    for k in range(count):
        start = len(content) * k // count
        blank = bytes(len(content[start : start + length]))
        yield (
            f"{length} zeros from byte {start}",
            content[:start] + blank + content[start + length :],
        )


def outcome(
    file: Path,
    content: bytes,
    read: Callable[[], Any],
    expected: Any,
    noted: Callable[[], bool] = lambda: False,
) -> str:
    """What becomes of reading a `file` that has this `content`; it is put right again.

    `noted` tells whether a person is told that a file is not what it was.
    """
    before = file.read_bytes()
    try:
        file.write_bytes(content)
        try:
            if read() == expected:
                return "right"
            return "told" if noted() else "wrong"
        except UserError as error:
            return "told" if str(file) in str(error) or file.name in str(error) else "unclear"
        except Exception as error:
            return f"raw {type(error).__name__}: {error}"
    finally:
        file.write_bytes(before)
