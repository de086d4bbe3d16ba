"""`trainlab lr-find`: the learning-rate range test.

One short run whose learning rate rises from step to step. Where the loss falls steepest, the rate
is useful; where it rises again, too large. Smith 2015, arXiv:1506.01186.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter1d

from trainlab import data, run
from trainlab.config import UserError, compose

_STEPS = 200  # at least, of the whole test
_SMOOTHING = 0.04  # standard deviation of the window that smooths the loss, in lengths of the test
_PAST = 0.9  # weight of the past in the running average that says when the loss explodes
_TOO_HIGH = 4.0  # times the lowest loss, where the test is over (Smith's plots end there too)
_ROWS, _BAR = 24, 40  # of the table

_NEVER = (
    "The loss never fell in this test: start it lower (optimizer.lr=1e-8), or look at the recipe."
)


class Curve(NamedTuple):
    """What a test has seen, and what follows."""

    lr: list[float]
    loss: list[float]  # smoothed
    suggested: float  # where the loss falls steepest
    lowest: float  # where it is lowest


def find(overrides: Sequence[str]) -> tuple[Curve, run.Outcome]:
    """Run the test of a recipe. Raises UserError where the loss never falls."""
    typed = ["optimizer.lr=1e-6", "study=lr-find"]
    ours = ("schedule=range_test", "schedule.warmup=0", "log_steps=true", "quiet=true")
    for override in overrides:
        key = override.partition("=")[0]
        if key in ("schedule", "schedule.warmup", "log_steps"):
            raise UserError(f"{override}: the range test sets {key} itself.")
    overrides = [*overrides, *ours]
    config = compose([*typed, *overrides])
    if not any(override.startswith("epochs=") for override in overrides):
        train = len(data.split_of(data.read(config), config)["train"])
        size = train if config["batch_size"] == "all" else config["batch_size"]
        typed.append(f"epochs={math.ceil(_STEPS / math.ceil(train / size))}")
    if config["optimizer"]["lr"] <= 0 or config["choices"]["optimizer"] == "rprop":
        raise UserError("The range test needs a learning rate that rises: lr above 0, not rprop.")
    (outcome,) = run.train([compose([*typed, *overrides])])
    assert outcome is not None
    if outcome.status not in ("done", "diverged"):
        raise UserError(f"The test ended early: {outcome.reason}")
    steps = pd.read_csv(outcome.run.path / "steps.csv")
    return curve(steps["lr"].tolist(), steps["loss"].tolist()), outcome


def curve(rates: Sequence[float], losses: Sequence[float]) -> Curve:
    """Smooth the losses, end where they are far above the lowest, and find the steepest fall.

    >>> rates = [10 ** (k / 10 - 5) for k in range(60)]
    >>> curve(rates, [2 / (1 + 100 * rate) for rate in rates]).suggested > 0.005
    True
    """
    end = _end(losses)
    if end < 3:
        raise UserError(_NEVER)
    lr = np.asarray(rates[:end])
    loss = gaussian_filter1d(np.asarray(losses[:end]), _SMOOTHING * len(losses), mode="nearest")
    best = int(loss.argmin())
    slopes = np.gradient(loss, np.log(lr))[: best + 1]
    if best == 0 or slopes.min() >= 0:
        raise UserError(_NEVER)
    return Curve(lr.tolist(), loss.tolist(), float(lr[slopes.argmin()]), float(lr[best]))


def _end(losses: Sequence[float]) -> int:
    """How many losses there are before they explode."""
    average, lowest = 0.0, math.inf
    for step, loss in enumerate(losses, start=1):
        average = _PAST * average + (1 - _PAST) * loss
        value = average / (1 - _PAST**step)
        if not value <= _TOO_HIGH * lowest:  # NaN as well
            return step - 1
        lowest = min(lowest, value)
    return len(losses)


def show(found: Curve, console: Console) -> None:
    """The curve as a table with bars, lowest and suggested rate marked."""
    grid = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("lr", "loss"):
        grid.add_column(heading, justify="right")
    grid.add_column("")
    low, high = min(found.loss), max(found.loss)
    wanted = {found.suggested: " ← steepest", found.lowest: " ← lowest"}
    every = max(1, len(found.lr) // _ROWS)
    for k, (rate, loss) in enumerate(zip(found.lr, found.loss, strict=True)):
        if k % every == 0 or rate in wanted:
            bar = "█" * round(_BAR * (loss - low) / (high - low or 1))
            grid.add_row(f"{rate:.2g}", f"{loss:.4f}", bar + wanted.get(rate, ""))
    console.print(grid)
