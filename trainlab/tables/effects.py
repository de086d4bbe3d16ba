"""Which choice of a sweep matters: shares of the variance, and what each level does."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trainlab.config import UserError
from trainlab.tables import statistics
from trainlab.tables.recipes import form_of
from trainlab.tables.runs import Entry, cell, naturally, varied

if TYPE_CHECKING:
    from rich.console import Console

_LEVELS = 8  # more numbers than these are taken in parts
_PARTS = 4


def effects(
    entries: Sequence[Entry], metric: str, by: Sequence[str] | None = None
) -> statistics.Effects | None:
    """Of the settings that vary, on the finished runs; None where there is nothing to tell."""
    good = [e for e in entries if e.status == "done" and e.number(metric) is not None]
    names = list(by) if by else varied(good)
    choices = {name: _levels([entry.config.get(name) for entry in good]) for name in names}
    # A setting that some runs do not have is not there; one of which all have a null is.
    choices = {
        name: [
            level if name in entry.config else statistics.NOT_THERE
            for level, entry in zip(levels, good, strict=True)
        ]
        for name, levels in choices.items()
    }
    choices = {name: levels for name, levels in choices.items() if len(set(levels)) > 1}
    if not choices or len(good) < 3:
        return None
    found = statistics.effects(choices, [entry.number(metric) or 0.0 for entry in good])
    ordered = {
        name: effect._replace(levels=dict(sorted(effect.levels.items(), key=_naturally)))
        for name, effect in found.choices.items()
    }
    return found._replace(choices=ordered)


def _naturally(level: tuple[str, Any]) -> tuple[int, float, str]:
    """Numbers by size, before words; parts by where they begin."""
    return naturally(level[0].partition("…")[0])


def _levels(values: Sequence[Any]) -> list[str]:
    """As typed; numbers of which there are many in four parts with as many runs each."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(set(map(cell, values))) <= _LEVELS or len(numbers) < len(values):
        return [cell(value) for value in values]
    ranked = sorted(numbers)
    bounds = [ranked[len(ranked) * part // _PARTS] for part in range(1, _PARTS)]
    ends = [ranked[0], *bounds, ranked[-1]]
    names = [f"{low:.3g}…{high:.3g}" for low, high in pairwise(ends)]
    return [names[sum(value >= bound for bound in bounds)] for value in numbers]


def show(found: statistics.Effects | None, metric: str, console: "Console") -> None:
    """A table of choices and levels, and a line for each number."""
    from rich.table import Table

    if found is None:
        raise UserError("No setting varies over at least three finished runs: nothing to tell.")
    table = Table("choice", caption=caption(metric), caption_justify="left")
    table.add_column("share", justify="right")
    table.add_column("level", overflow="fold")
    table.add_column(metric, justify="right")
    table.add_column("n", justify="right")
    for row in rows(found):
        table.add_row(*row, end_section=False)
    console.print(table)


def rows(found: statistics.Effects) -> list[list[str]]:
    """Cells: choice, share, level, effect, n; a choice's name and share stand on its first line."""
    table = []
    for name, effect in found.choices.items():
        first = [name, _percent(effect.share)]
        if name in found.tied:
            table.append([*first, "goes together with others", "–", ""])
        form = form_of(max((abs(mean) for mean, _, _ in effect.levels.values()), default=0.0))
        for level, (mean, half, n) in effect.levels.items():
            shown = f"{mean:+{form}}" + ("" if math.isnan(half) else f" ± {half:{form}}")
            table.append([*first, level, shown, str(n)])
            first = ["", ""]
    if found.shared >= 0.005:
        table.append(["shared", _percent(found.shared), "", "", ""])
    if not math.isnan(found.together):
        table.append(["together", _percent(found.together), "", "", ""])
    table.append(["chance", _percent(found.chance), "", "", str(found.n)])
    return table


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.0%}"[:-1] + " %"


def caption(metric: str) -> str:
    """What the numbers are."""
    return (
        f"share: of the variance of {metric}, corrected for chance (ANOVA, ε²); level: its mean "
        "less that of all, ± 95 % interval; shared: of choices that go together; together: what "
        "combinations add; chance: what is left among runs alike in all of these, as seeds"
    )
