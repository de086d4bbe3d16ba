"""What looks like a mistake in the inputs of a table, and may be none: it is said beforehand."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from trainlab.config import UserError, typed

_FEW = 100  # rows that rule out most columns
_IDENTIFIER = re.compile(r"(.*[\W_])?((?i:id|key|index|idx|nr|no|number|row))|.*I[dD]")


def doubts(x: np.ndarray, columns: Sequence[str], codes: Sequence[int]) -> Iterator[str]:
    """A sentence for the columns of x (N, D) that are the same in all rows, and one for those of
    numbers, no `codes`, that only tell rows apart. Raises UserError where all are the same."""
    if len(x) < 3:
        return
    constant = [name for name, column in zip(columns, x.T, strict=True) if _is_constant(column)]
    if len(constant) == len(columns):
        raise UserError(
            f"{_columns(constant, 'C')} the same in every row, and there is no other to learn from."
        )
    if constant:
        yield f"{_columns(constant)} the same in every row, and can teach nothing; {_try(constant)}"
    numbers = [(name, x[:, i]) for i, name in enumerate(columns) if i not in codes]
    counting = [name for name, column in numbers if _tells_apart(name, column)]
    if counting:
        yield (
            f"{_columns(counting)} another in every row, as numbers of rows are, and cannot tell "
            f"of others; {_try(counting)}"
        )


def _columns(names: Sequence[str], first: str = "c") -> str:
    shown = ", ".join(map(repr, names[:5])) + ", …" * (len(names) > 5)
    return f"{first}olumn{f' {shown} is' if len(names) == 1 else f's {shown} are'}"


def _try(names: Sequence[str]) -> str:
    return f"try {typed('dataset.drop', names)}"


def _is_constant(column: np.ndarray) -> bool:
    return (column[:_FEW] == column[0]).all() and (column == column[0]).all()


def _tells_apart(name: str, column: np.ndarray) -> bool:
    """Whether whole numbers count the rows, or are all different and called as identifiers are."""
    few = column[:_FEW]
    if not np.isfinite(few).all() or (few % 1 != 0).any():
        return False
    if (np.diff(few) == 1).all() and (np.diff(column) == 1).all():
        return True
    return bool(_IDENTIFIER.fullmatch(name)) and len(np.unique(column)) == len(column)
