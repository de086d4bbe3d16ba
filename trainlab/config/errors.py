"""What the user can mend, and the names that were meant."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend; its message is one paragraph that says how."""

    code = 2  # of the command that ends with it


def nearest(word: str, choices: Iterable[str]) -> str:
    """' Did you mean gelu?' or nothing."""
    close = difflib.get_close_matches(word, list(choices), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""
