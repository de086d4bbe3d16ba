"""Interleaved rounds, ratios, and one table for all benchmarks."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass
class Comparison:
    """Seconds of every round, ours and the peer's, and what the ratio is to stay below."""

    name: str
    ours: list[float]
    peer: list[float]
    goal: float

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]


def interleave(
    name: str, ours: Callable[[], float], peer: Callable[[], float], goal: float, rounds: int = 7
) -> Comparison:
    """Alternate the two, each returning the seconds of one round; the first of each warms up."""
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return Comparison(name, [a for a, _ in pairs], [b for _, b in pairs], goal)


def show(title: str, comparisons: list[Comparison]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("work")
    for heading in ("trainlab", "peer", "ratio (min…max)", "goal", "n"):
        table.add_column(heading, justify="right")
    for c in comparisons:
        digits = 2 if c.goal >= 0.1 else 3
        median, least, most = (
            f"{value:.{digits}f}"
            for value in (statistics.median(c.ratios), min(c.ratios), max(c.ratios))
        )
        seconds = (f"{statistics.median(values):.2f} s" for values in (c.ours, c.peer))
        goal = f"≤ {c.goal:.{digits}f}"
        table.add_row(c.name, *seconds, f"{median} ({least}…{most})", goal, str(len(c.ratios)))
    Console(width=110).print(table)
