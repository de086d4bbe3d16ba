"""What is shown to people: standard output and standard error, whatever is at their other end.

Progress and tables are no part of a run. A pipe that nobody reads any more, a full disk or a closed
descriptor makes the display fall silent, and the run goes on; what an encoding lacks is spelt in
ASCII; and text from files is shown so that a terminal obeys nothing in it.

All that is printed goes through here: within `ready`, sys.stdout and sys.stderr cannot fail, and
`console` makes the consoles of rich.
"""

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# C0 and C1 controls; what ends a line; what turns the direction of text around.
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_OBEYED_BUT_LINES = re.compile(_OBEYED.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))
_SPELT = {
    "±": "+-", "–": "-", "−": "-", "—": "-", "…": "...", "×": "x", "·": ".", "≥": ">=", "≤": "<=",
    "²": "2", "→": "->", "√": "sqrt", "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta",
    "ε": "epsilon", "η": "eta", "θ": "theta", "λ": "lambda", "μ": "mu", "µ": "u", "σ": "sigma",
    "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "█": "#", "━": "-", "─": "-", "│": "|",
}  # fmt: skip


def escaped(text: str, lines: bool = False) -> str:
    r"""A text with nothing in it that a terminal, or a reader of tables, would obey. Ends of lines
    and tabs are left where `lines` is true.

    >>> print(escaped("a\x1b[31mb\nc"), escaped("a\nb\u202e", lines=True))
    a\x1b[31mb\nc a
    b\u202e
    """
    obeyed = _OBEYED_BUT_LINES if lines else _OBEYED
    return obeyed.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def all_escaped(value: Any) -> Any:
    """The texts in what a JSON file says, at any depth, and the names."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {escaped(key): all_escaped(inner) for key, inner in value.items()}
    return [all_escaped(inner) for inner in value] if isinstance(value, list) else value


def console(error: bool = False, quiet: bool = False) -> "Console":
    """rich's console for standard output or standard error. Texts are shown as they are: markup in
    them means nothing. A pipe for output is wide enough that `grep` finds whole lines."""
    from rich.console import Console
    from rich.text import Text

    class Escaping(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            spelt = text.encode(self.encoding, "trainlab.spelt").decode(self.encoding, "replace")
            return super().render_str(escaped(spelt, lines=True), **how)

    width = None if error or sys.stdout.isatty() else 160
    return Escaping(
        stderr=error, quiet=quiet, width=width, highlight=False, markup=False, emoji=False
    )


def say(text: str) -> None:
    """A line to standard error, now."""
    print(escaped(text, lines=True), file=sys.stderr, flush=True)


@contextmanager
def ready() -> Iterator["Stream"]:
    """Within it, writing to sys.stdout and sys.stderr never fails; gives the former, which knows
    what went wrong."""
    _reopen()
    before = sys.stdout, sys.stderr
    output, error = (Stream(stream) for stream in before)
    sys.stdout, sys.stderr = output, error
    try:
        yield output
    finally:
        output.flush()
        error.flush()
        sys.stdout, sys.stderr = before


class Stream(io.TextIOBase):
    """A stream that falls silent where it cannot be written to."""

    def __init__(self, below: TextIO):
        self._below, self.failure = below, None
        if isinstance(below, io.TextIOWrapper):
            below.reconfigure(errors="trainlab.spelt")

    @property
    def lost(self) -> OSError | None:
        """Why output is lost that somebody waits for: not where a reader has enough, as `head`."""
        enough = self.failure is None or self.failure.errno == errno.EPIPE
        return None if enough else self.failure

    def write(self, text: str) -> int:
        with self._silently():
            self._below.write(text)
        return len(text)

    def flush(self) -> None:
        with self._silently():
            self._below.flush()

    @contextmanager
    def _silently(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
            # Also for what is still in a buffer, for C libraries and for processes begun later.
            _to_nowhere(self._below.fileno())

    @property
    def encoding(self) -> str:
        return self._below.encoding

    @property
    def errors(self) -> str | None:
        return self._below.errors

    @property
    def buffer(self) -> Any:
        return self._below.buffer

    def isatty(self) -> bool:
        return self._below.isatty()

    def fileno(self) -> int:
        return self._below.fileno()

    def writable(self) -> bool:
        return True


def _reopen() -> None:
    """Closed standard descriptors lead nowhere, before a file that is opened gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
        if getattr(sys, name) is None:  # and `print` would take the other
            stream = open(number, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """What an encoding lacks, in ASCII; and the bytes of file names that are in no encoding."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    mark = error.object[error.start]
    if "\udc80" <= mark <= "\udcff":
        return bytes([ord(mark) - 0xDC00]), error.start + 1
    return _SPELT.get(mark, "?"), error.start + 1


codecs.register_error("trainlab.spelt", _spell)
