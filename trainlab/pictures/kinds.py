"""The kinds of pictures: each takes a summary of recipes and gives a figure.

They are drawn in `style.styled`, which says in which colour.
"""

import math
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainlab.config import UserError
from trainlab.metrics import higher_is_better
from trainlab.pictures import style
from trainlab.pictures.data import Field, curve, field, finished
from trainlab.tables.recipes import Summary, form_of
from trainlab.tables.statistics import interval

_CURVES = len(style.COLOURS)  # that can be told apart
_BARS = 30
_LETTERS = 60  # of a label
_HALF = 34  # of one that has half the width
_LEVELS = 30  # on a side of a heat map that has numbers in its cells, and all labels


def curves(summary: Summary, x: str | None = None, y: str | None = None) -> Figure:
    """A metric (`y`) over epochs, steps or seconds (`x`): the mean over seeds, and its 95 %
    interval as a band; the best recipes, if there are many."""
    metric, along = y or summary.metric, x or "epoch"
    found = [c for recipe in summary.recipes[:_CURVES] if (c := curve(recipe, metric, along))]
    if not found:
        raise UserError("No run has left a metrics.csv with an epoch in it.")
    columns = 1 if max(len(_short(one.name)) for one in found) > _HALF else 2
    figure = Figure(
        figsize=(7.5, 4.2 + 0.2 * math.ceil(len(found) / columns)), layout="constrained"
    )
    axes = figure.add_subplot()
    for number, one in enumerate(found):
        label = f"{_short(one.name)} (n = {one.seeds})"
        alone = {"marker": "o"} if len(one.x) == 1 else {}
        axes.plot(one.x, one.mean, lw=1.6, label=label, **style.line(number), **alone)
        colour = style.line(number)["color"]
        band = np.nan_to_num(one.half)
        axes.fill_between(one.x, one.mean - band, one.mean + band, color=colour, alpha=0.15, lw=0)
    axes.set_xlabel(along)
    axes.set_ylabel(metric)
    if along != "seconds":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    seen = [float(v) for one in found for v in one.mean if math.isfinite(v)]
    if metric.endswith("loss") and style.logarithmic(seen):
        axes.set_yscale("log")
    if len(summary.recipes) > len(found):
        axes.set_title(f"the {len(found)} best of {len(summary.recipes)} recipes", loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=columns, borderaxespad=0)
    return figure


def bars(summary: Summary) -> Figure:
    """Each recipe's mean with its 95 % interval, and the number of every seed.

    Points, not bars: what begins at 0 hides differences, what does not exaggerates them.
    """
    finished = [recipe for recipe in summary.recipes if recipe.numbers[summary.metric]]
    shown = finished[:_BARS]
    if not shown:
        raise UserError(f"No finished run has {summary.metric}.")
    figure = Figure(figsize=(7.5, 1.0 + 0.3 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(shown))
    for number, metric in enumerate(summary.metrics):
        colour = style.COLOURS[number]
        shift = 0.14 * (number - (len(summary.metrics) - 1) / 2)
        for place, recipe in zip(places + 2 * shift, shown, strict=True):
            values = list(recipe.numbers[metric].values())
            mean, half = interval(values)
            axes.plot(values, [place] * len(values), "|", color=colour, alpha=0.5, ms=7)
            label = metric if place == 2 * shift else None
            axes.errorbar(
                mean, place, xerr=0 if math.isnan(half) else half, fmt=style.MARKERS[number],
                ms=5, lw=1.6, color=colour, label=label,
            )  # fmt: skip
    axes.set_yticks(places, [_short(recipe.name) for recipe in shown])
    axes.invert_yaxis()
    left_out = f"; the best {_BARS} of {len(finished)} recipes" if len(finished) > _BARS else ""
    axes.set_xlabel(f"mean ± 95 % interval; each seed is a dash{left_out}")
    axes.margins(y=0.5 / len(shown))
    axes.grid(axis="x", color=style.GREY, alpha=0.2)
    axes.tick_params(axis="y", length=0)
    if len(summary.metrics) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    return figure


def heatmap(summary: Summary, x: str | None = None, y: str | None = None) -> Figure:
    """The mean of the metric over two settings: all runs of a cell together."""
    runs = finished(summary)
    names = _two_settings(summary, x, y)
    entries = [entry for recipe in summary.recipes for entry in recipe.runs]
    across, down = (_levels(field(entries, name)) for name in names)
    index = {id(entry): i for i, entry in enumerate(entries)}
    sums, counts = (np.zeros((len(down[0]), len(across[0]))) for _ in range(2))
    for entry, value in runs:
        place = down[1][index[id(entry)]], across[1][index[id(entry)]]
        sums[place] += value
        counts[place] += 1
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    tall, wide = means.shape
    size = (min(14, 2.6 + 0.75 * wide), min(14, 1.6 + 0.42 * tall))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    cmap = style.MAP if higher_is_better(summary.metric) else f"{style.MAP}_r"
    image = axes.imshow(means, cmap=cmap, aspect="auto")
    if max(means.shape) <= _LEVELS:
        _numbers_in(axes, means, image)
    longest = max(map(len, across[0]))
    turned = longest > 10 or longest * min(wide, _LEVELS) > 50
    across_ticks, down_ticks = _thinned(across[0]), _thinned(down[0])
    axes.set_xticks(*across_ticks, rotation=40 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(*down_ticks)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, label=summary.metric).outline.set_visible(False)
    return figure


def _thinned(labels: list[str]) -> tuple[list[int], list[str]]:
    """Places and labels, as many as can be read."""
    places = list(range(0, len(labels), math.ceil(len(labels) / _LEVELS)))
    return places, [labels[place] for place in places]


def _numbers_in(axes, means: np.ndarray, image) -> None:
    """Each cell's mean, in black or white; a cross where no run finished."""
    digits = form_of(float(np.nanmax(np.abs(means)))) if np.isfinite(means).any() else ".4f"
    for (i, j), mean in np.ndenumerate(means):
        if math.isnan(mean):
            axes.text(j, i, "×", ha="center", va="center")
            continue
        red, green, blue, _ = image.cmap(image.norm(mean))
        light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        colour = "black" if light else "white"
        text = f"{mean:{digits.replace('4', '3')}}"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)


def scatter(summary: Summary, x: str | None = None, y: str | None = None) -> Figure:
    """Every run: a metric over a setting or a number of the result."""
    runs = finished(summary)
    if not runs:
        raise UserError(f"No finished run has {summary.metric}.")
    entries = [entry for entry, _ in runs]
    fields = [field(entries, name) for name in summary.keys]
    numeric = {f.name: len(set(f.values)) for f in fields if not f.words and len(set(f.values)) > 2}
    across = field(entries, x or max(numeric, key=numeric.__getitem__, default="seconds"))
    up = field(entries, y or summary.metric)
    groups = next((f for f in fields if f.words and len(f.words) <= _CURVES), None)
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, word in enumerate(groups.words if groups else [""]):
        mine = [i for i in range(len(runs)) if not groups or groups.values[i] == number]
        axes.plot(
            [across.values[i] for i in mine], [up.values[i] for i in mine],
            style.MARKERS[number], ms=4, alpha=0.7, color=style.COLOURS[number], label=word,
        )  # fmt: skip
    _scaled(axes, across, "x")
    _scaled(axes, up, "y")
    if groups:
        axes.legend(title=groups.name, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def parallel(summary: Summary) -> Figure:
    """Every run as a line through its settings to its metric; the better, the more on top."""
    runs = sorted(
        finished(summary), key=lambda run: run[1], reverse=not higher_is_better(summary.metric)
    )
    if not runs or not summary.keys:
        raise UserError("No setting varies over finished runs: there is nothing to draw.")
    entries = [entry for entry, _ in runs]
    fields = [field(entries, name) for name in (*summary.keys, summary.metric)]
    figure = Figure(figsize=(max(5, 1.7 * len(fields)), 4.2), layout="constrained")
    axes = figure.add_subplot()
    heights = [_height(one) for one in fields]
    cmap = _map()
    for i in range(len(runs)):
        shade = heights[-1][i] if higher_is_better(summary.metric) else 1 - heights[-1][i]
        axes.plot(
            range(len(fields)), [h[i] for h in heights], color=cmap(0.95 * shade), alpha=0.7, lw=1
        )
    for place, one in enumerate(fields):
        axes.axvline(place, color=style.GREY, lw=0.8)
        left = place == 0  # where no line begins
        for height, label in _ticks(one):
            axes.text(
                place - 0.03 if left else place + 0.03, height, label, fontsize=7, va="center",
                ha="right" if left else "left",
            )  # fmt: skip
    axes.set_xticks(range(len(fields)), [one.name for one in fields])
    axes.set_xlim(-0.2, len(fields) - 0.4)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


KINDS: dict[str, Callable[..., Figure]] = {
    "curves": curves, "bars": bars, "heatmap": heatmap, "scatter": scatter, "parallel": parallel,
}  # fmt: skip


# ---------------------------------------------------------------- axes


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _map():
    import matplotlib

    return matplotlib.colormaps[style.MAP]


def _two_settings(summary: Summary, x: str | None, y: str | None) -> tuple[str, str]:
    """Those asked for; else the first that vary, the one of more values across."""
    rest = [key for key in summary.keys if key not in (x, y)]
    wanted = [name for name in (x, y) if name]
    if len(wanted) + len(rest) < 2:
        raise UserError("A heat map needs two settings that vary: --x and --y.")
    if x and y:
        return x, y
    if wanted:
        return (x, rest[0]) if x else (rest[0], str(y))
    counts = {k: len({recipe.settings[k] for recipe in summary.recipes}) for k in rest}
    first, second = sorted(rest, key=lambda key: -counts[key])[:2]
    return first, second


def _levels(one: Field) -> tuple[list[str], list[int]]:
    """The distinct values as labels, in order, and the place of each run among them."""
    if one.words:
        return one.words, [int(value) for value in one.values]
    ordered = sorted(set(one.values))
    return [f"{value:g}" for value in ordered], [ordered.index(value) for value in one.values]


def _scaled(axes, one: Field, which: str) -> None:
    axis, set_scale = (
        (axes.xaxis, axes.set_xscale) if which == "x" else (axes.yaxis, axes.set_yscale)
    )
    axis.set_label_text(one.name)
    if one.words:
        axis.set_ticks(range(len(one.words)), one.words)
    elif style.logarithmic(one.values):
        set_scale("log")


def _height(one: Field) -> list[float]:
    """Places between 0 and 1 on an axis of parallel coordinates."""
    values = np.array(one.values)
    if not one.words and style.logarithmic(one.values):
        values = np.log(values)
    spread = values.max() - values.min()
    return ((values - values.min()) / spread).tolist() if spread else [0.5] * len(values)


def _ticks(one: Field) -> list[tuple[float, str]]:
    """A few places with their labels."""
    heights = _height(one)
    if one.words:
        return sorted({(h, one.words[int(v)]) for h, v in zip(heights, one.values, strict=True)})
    ranked = sorted(zip(heights, one.values, strict=True))
    distinct = list(dict.fromkeys(ranked))
    if len(distinct) > 6:
        distinct = [min(distinct, key=lambda tick: abs(tick[0] - h)) for h in (0, 0.5, 1)]
    return [(height, f"{value:.4g}") for height, value in dict.fromkeys(distinct)]
