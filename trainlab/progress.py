"""What people see while runs train: a live line on a terminal, lines in a pipe, nothing with -q.

All of it goes to stderr.
"""

import time
from collections.abc import Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from trainlab import terminal
from trainlab.metrics import higher_is_better
from trainlab.store import Row, Run


class Display:
    """Told of every epoch by the loop, and of every run by `run.train`."""

    def __init__(self, runs: int, quiet: bool):
        self.runs, self.quiet, self.ended, self.drawn = runs, quiet, 0, 0.0
        self.under_way: dict[str, float] = {}  # run id -> the share that is done
        self.best: dict[str, float] = {}
        self.warned: set[str] = set()
        self.console = terminal.console(error=True)
        self.live: Progress | None = None
        if self.console.is_terminal and not quiet:
            # The text takes what the bar leaves; in a narrow terminal its end is cut.
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            text = TextColumn("{task.description}", markup=False, table_column=rest)
            columns = [BarColumn(bar_width=12), TimeRemainingColumn(compact=True), text]
            self.live = Progress(*columns, console=self.console, transient=True, expand=True)

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
            self.bar = self.live.add_task("starting", total=1.0)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, soft_wrap=True)

    def skipped(self, states: Sequence[str]) -> None:
        """Runs that are not trained, by how they ended before."""
        self.ended += len(states)
        failed, it = states.count("failed"), "it" if self.runs == 1 else "them"
        remedies = [f"retry=true tries {it} again"] if failed else []
        if failed < len(states):
            remedies.append(f"fresh=true trains {it} anew")
        if states and self.runs == 1:
            self.say(f"This run is there already ({states[0]}); {remedies[0]}.")
        elif states:
            some = f" ({failed} failed)" if failed else ""
            self.say(
                f"{len(states)} of {self.runs} runs are there already{some}; {', '.join(remedies)}."
            )

    def training(self, runs: Sequence[Run], epochs: int | None) -> None:
        """A stack begins; or goes on behind so many epochs."""
        resumed = "" if epochs is None else f", continuing in epoch {epochs + 1}"
        if self.runs > 1 or resumed:
            stacked = " as one stack" if len(runs) > 1 else ""
            self.say(f"{_recipe(runs)}{count(runs)}{stacked}{resumed}")

    def warn(self, text: str) -> None:
        """Say it, once for all runs."""
        if text not in self.warned:
            self.warned.add(text)
            self.say(f"warning: {text}")

    def failed(self, reason: str) -> None:
        self.say(f"failed: {reason}")

    def settled(self, outcomes: dict) -> None:
        self.ended = len(outcomes)
        self.under_way = {i: share for i, share in self.under_way.items() if i not in outcomes}

    def epoch(self, runs: Sequence[Run], rows: Sequence[Row], share: float) -> None:
        """One epoch of a stack: its rows; or no rows, and only the share that is done."""
        if self.quiet:
            return
        if rows:
            text = self._text(runs, rows)
            if self.live:
                self.live.update(self.bar, description=text)
            else:
                terminal.say(text)
        self.under_way |= {run.id: share for run in runs}
        if self.live and (rows or time.monotonic() - self.drawn > 0.2):
            self.drawn = time.monotonic()
            done = (self.ended + sum(self.under_way.values())) / self.runs
            self.live.update(self.bar, completed=done)

    def _text(self, runs: Sequence[Run], rows: Sequence[Row]) -> str:
        config = runs[0].config
        monitor = config["stop"]["monitor"]
        second = [name for name in rows[0] if name.startswith("val_") and name != "val_loss"][:1]
        shown = ["train_loss", "val_loss", *second]
        for run, row in zip(runs, rows, strict=True):
            pick = max if higher_is_better(monitor) else min
            self.best[run.id] = pick(row[monitor], self.best.get(run.id, row[monitor]))
        parts = [f"epoch {rows[0]['epoch']}/{config['epochs']}"]
        parts += [f"{name} {_range([row[name] for row in rows])}" for name in shown]
        parts.append(f"best {monitor} {_range([self.best[run.id] for run in runs])}")
        if len(runs) > 1:
            parts.insert(0, count(runs))
        return "  ".join(parts)


def _recipe(runs: Sequence[Run]) -> str:
    """What was typed for all of these runs: 'optimizer=sgd act=relu: '."""
    typed = [run.config["overrides"] for run in runs]
    common = [text for text in typed[0] if all(text in other for other in typed)]
    return f"{' '.join(common)}: " if common else ""


def count(things: Sequence, name: str = "run") -> str:
    """'1 run', '2 runs'."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4f}", f"{max(values):.4f}"
    return low if low == high else f"{low}…{high}"
