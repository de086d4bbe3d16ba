"""The history of a search as a picture, for light and dark pages alike."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from trainlab.pictures.style import COLOURS, GREY
from trainlab.search.report import Found, facts
from trainlab.search.space import text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.trial import FrozenTrial

_GREY, (_BLUE, _RED) = GREY, COLOURS[:2]
_COLUMNS = 3
_SPREAD = 8.0  # interquartile ranges behind the median, past which values are cut off


def picture(found: Found, shares: dict[str, float]) -> Figure:
    """Above, the value of each trial and the best so far; below, the value over each parameter, the
    most important first."""
    names = sorted(found.space.parameters, key=lambda name: -shares.get(name, 0))
    rows = math.ceil(len(names) / _COLUMNS)
    columns = min(_COLUMNS, len(names))
    figure = Figure(figsize=(9, 2.8 + 2.3 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.3] + [1] * rows)
    history = figure.add_subplot(grid[0, :])
    history.set_ylim(*_limits([facts(trial)["value"] for trial in found.done]))
    _history(history, found)
    for i, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + i // columns, i % columns], sharey=history)
        _panel(axes, found, name)
        axes.set_xlabel(name.lstrip("+") + (f"  ({shares[name]:.2f})" if name in shares else ""))
        if i % columns:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(found.metric)
    return figure


def _history(axes: "Axes", found: Found) -> None:
    ended = sorted(found.done, key=lambda trial: trial.number)
    numbers = [trial.number for trial in ended]
    means = [facts(trial)["value"] for trial in ended]
    half = [facts(trial)["half"] or 0 for trial in ended]
    axes.errorbar(numbers, means, half, fmt="none", lw=1, alpha=0.6, color=_BLUE)
    pruned = _in_state(found, "pruned")
    _points(axes, [t.number for t in pruned], pruned, color=_GREY, alpha=0.6, label="left behind")
    _points(axes, numbers, ended, color=_BLUE, label="trained to the end")
    best, so_far = None, []
    for trial in ended:
        value = facts(trial)["value"]
        best = value if best is None else (max if found.higher else min)(best, value)
        so_far.append(best)
    axes.step(numbers, so_far, where="post", color=_RED, label="best so far")
    lost = [*_in_state(found, "diverged"), *_in_state(found, "failed")]
    if lost:
        axes.plot([t.number for t in lost], [0.02] * len(lost), "x", color=_GREY, ms=5,
                  transform=axes.get_xaxis_transform(), label="diverged or failed")  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel(found.metric)
    axes.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1))


def _panel(axes: "Axes", found: Found, name: str) -> None:
    distribution = found.space.parameters[name]
    choices = [str(c) for c in getattr(distribution, "choices", ())]

    for trials, style in (
        (_in_state(found, "pruned"), {"color": _GREY, "alpha": 0.5}),
        (found.done, {"color": _BLUE, "alpha": 0.8}),
        (found.done[:1], {"color": _RED}),
    ):
        values = [trial.params[name] for trial in trials]
        _points(axes, [choices.index(v) for v in values] if choices else values, trials, **style)
    if choices:
        axes.set_xticks(range(len(choices)), [text(distribution, c) for c in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
        if sum(map(len, choices)) > 24:
            axes.tick_params(axis="x", labelrotation=30)
    elif distribution.log:
        axes.set_xscale("log")


def _points(axes: "Axes", x: Sequence, trials: "Sequence[FrozenTrial]", **style: Any) -> None:
    """Trials by their value; a triangle at the edge where it lies beyond."""
    bottom, top = axes.get_ylim()
    placed = list(zip(x, (facts(trial)["value"] for trial in trials), strict=True))
    inside = [(a, b) for a, b in placed if bottom <= b <= top]
    axes.plot([a for a, _ in inside], [b for _, b in inside], "o", ms=4, **style)
    for marker, edge, beyond in (
        ("^", top, [a for a, b in placed if b > top]),
        ("v", bottom, [a for a, b in placed if b < bottom]),
    ):
        (line,) = axes.plot(beyond, [edge] * len(beyond), marker, **style | {"label": None})
        line.set(markersize=4, clip_on=False, in_layout=False)


def _limits(values: list[float]) -> tuple[float, float]:
    """The range of what is shown: a few trials that are far off would press the others flat."""
    ranked = sorted(values)
    low, middle, high = (ranked[int(q * (len(ranked) - 1))] for q in (0.25, 0.5, 0.75))
    reach = _SPREAD * (high - low) or abs(middle) or 1.0
    bottom, top = max(ranked[0], middle - reach), min(ranked[-1], middle + reach)
    margin = 0.08 * (top - bottom) or 0.1 * abs(middle) or 0.1
    return bottom - margin, top + margin


def _in_state(found: Found, state: str) -> "list[FrozenTrial]":
    return [trial for trial in found.trials if facts(trial).get("state") == state]
