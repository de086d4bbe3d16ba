"""Recipes: runs that differ in nothing but their seed, as one row of a table, best first."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import UserError, nearest
from trainlab.metrics import counterpart, higher_is_better
from trainlab.tables.runs import Entry, cell, varied
from trainlab.tables.statistics import interval, ranks

if TYPE_CHECKING:
    from rich.table import Table

# What runs are ranked by: the first that they have, else val_loss.
_RANKING = ("val_accuracy", "val_r2", "val_f1_macro", "val_mean_iou", "val_explained")
# Fields of a result by which nothing is ranked.
_NO_METRIC = ("seed", "best_epoch", "parameters", "epochs", "steps")


class Recipe(NamedTuple):
    """One row of a summary."""

    settings: dict[str, str]
    numbers: dict[str, dict[int, float]]  # metric -> seed -> number; of finished runs
    not_done: dict[str, int]  # status -> runs that ended, or are, so
    runs: list[Entry]
    rank: int | None = None  # shared by those that cannot be told apart; None without a number

    @property
    def name(self) -> str:
        """'adam gelu': its settings in short, those with a dot by their last part."""
        parts = (
            f"{key.rpartition('.')[2]}={value}" if "." in key or not _is_word(value) else value
            for key, value in self.settings.items()
        )
        return " ".join(parts) or "all runs"

    @property
    def data(self) -> tuple[str, ...]:
        """What was learnt from, as far as recipes differ in it."""
        data = (key for key in self.settings if key.partition(".")[0] == "dataset")
        return tuple(self.settings[key] for key in data)


def _is_word(value: str) -> bool:
    return bool(value) and not value[0].isdigit() and value not in ("true", "false", "null")


class Summary(NamedTuple):
    """Recipes that are worth the same metric."""

    keys: list[str]  # the settings in which they differ
    metric: str  # they are ranked by
    second: str | None  # the same of the test split (or of validation, if ranked by test)
    recipes: list[Recipe]  # best first; within each problem, where there are several
    pooled: list[str]  # settings in which runs of one row differ besides the seed
    uneven: list[str]  # those of them of which not all rows have the same values

    @property
    def metrics(self) -> list[str]:
        return [self.metric, self.second] if self.second else [self.metric]


def metric_of(entry: Entry) -> str | None:
    """What a finished run is ranked by: validation accuracy, else R², …, else loss."""
    return next((name for name in (*_RANKING, "val_loss") if name in entry.result), None)


def summaries(
    entries: Sequence[Entry], by: Sequence[str] | None = None, metric: str | None = None
) -> list[Summary]:
    """One summary for each metric that runs are ranked by: those of different tasks are worth
    nothing to each other.

    `by` groups by these settings instead of all that vary; `metric` ranks by it.
    """
    if metric:
        _check_metric(entries, metric)
    if by:
        known = dict.fromkeys(key for entry in entries for key in entry.config)
        for key in by:
            if key not in known:
                raise UserError(f"--by {key}: no run has such a setting.{nearest(key, known)}")
    return [
        _summary(part, list(dict.fromkeys(by)) if by else varied(part), chosen)
        for chosen, part in _parts(entries, metric)
    ]


def _check_metric(entries: Sequence[Entry], metric: str) -> None:
    names = dict.fromkeys(
        name for entry in entries for name in entry.result if entry.number(name) is not None
    )
    known = [name for name in names if name not in _NO_METRIC]
    if known and metric not in known:
        raise UserError(
            f"--metric {metric}: no run has it.{nearest(metric, known)} There are: "
            f"{', '.join(known)}."
        )


def _parts(entries: Sequence[Entry], metric: str | None) -> Iterator[tuple[str, list[Entry]]]:
    if metric:
        yield metric, list(entries)
        return
    own = [metric_of(entry) for entry in entries]
    # A run without a result belongs to those of its data and task.
    kinds = {_problem(entry): name for entry, name in zip(entries, own, strict=True) if name}
    usual = next((name for name in own if name), "val_loss")
    own = [name or kinds.get(_problem(e), usual) for e, name in zip(entries, own, strict=True)]
    for chosen in dict.fromkeys(own):
        yield chosen, [e for e, name in zip(entries, own, strict=True) if name == chosen]


def _problem(entry: Entry) -> tuple[str, str]:
    return str(entry.config.get("dataset")), str(entry.config.get("task"))


def _summary(entries: Sequence[Entry], keys: list[str], metric: str) -> Summary:
    second = counterpart(metric)
    if all(entry.number(second) is None for entry in entries):
        second = None
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        place = tuple(cell(entry.config.get(key)) for key in keys)
        groups.setdefault(place, []).append(entry)
    metrics = [metric, second] if second else [metric]
    recipes = [
        _recipe(dict(zip(keys, values, strict=True)), members, metrics)
        for values, members in groups.items()
    ]
    pooled = list(dict.fromkeys(key for members in groups.values() for key in varied(members)))
    uneven = [
        key
        for key in pooled
        if len({one for recipe in recipes for one in _values(recipe, key, metric)}) > 1
    ]
    return Summary(keys, metric, second, _ranked(recipes, metric), pooled, uneven)


def _values(recipe: Recipe, key: str, metric: str) -> set[frozenset[str]]:
    """The sets of values of a setting that a recipe's seeds were run with."""
    of_seed: dict[int, set[str]] = {}
    for entry in recipe.runs:
        if entry.status == "done" and entry.number(metric) is not None:
            of_seed.setdefault(entry.result["seed"], set()).add(cell(entry.config.get(key)))
    return {frozenset(values) for values in of_seed.values()}


def _recipe(settings: dict[str, str], members: list[Entry], metrics: Sequence[str]) -> Recipe:
    ended = [
        entry.status if entry.status != "done" else f"without {metrics[0]}"
        for entry in members
        if entry.status != "done" or entry.number(metrics[0]) is None
    ]
    return Recipe(
        settings,
        {metric: by_seed(members, metric) for metric in metrics},
        {status: ended.count(status) for status in sorted(set(ended))},
        members,
    )


def by_seed(entries: Sequence[Entry], metric: str) -> dict[int, float]:
    """Seed -> number of the finished runs. Runs that share a seed are no independent numbers, and
    count as one: their mean."""
    found: dict[int, list[float]] = {}
    for entry in entries:
        value = entry.number(metric) if entry.status == "done" else None
        if value is not None:
            found.setdefault(entry.result["seed"], []).append(value)
    return {seed: fmean(values) for seed, values in sorted(found.items())}


def _ranked(recipes: list[Recipe], metric: str) -> list[Recipe]:
    """Best first, with their ranks; what was learnt from other data is another contest."""
    contests: dict[tuple, list[Recipe]] = {}
    for recipe in recipes:
        contests.setdefault(recipe.data, []).append(recipe)
    sign = -1 if higher_is_better(metric) else 1
    ordered = []
    for contest in contests.values():
        known = [recipe for recipe in contest if recipe.numbers[metric]]
        known.sort(key=lambda recipe: sign * interval(list(recipe.numbers[metric].values()))[0])
        places = ranks([recipe.numbers[metric] for recipe in known])
        ordered += [r._replace(rank=rank) for r, rank in zip(known, places, strict=True)]
        ordered += [recipe for recipe in contest if not recipe.numbers[metric]]
    return ordered


# ---------------------------------------------------------------- as cells


def columns(summary: Summary) -> list[str]:
    """The headings: rank, settings, metrics, n, and what did not end well, where something did."""
    failed = ["not done"] if any(recipe.not_done for recipe in summary.recipes) else []
    rank = ["rank"] if len(summary.recipes) > 1 else []
    return [*rank, *summary.keys, *summary.metrics, "n", *failed]


def cells(summary: Summary) -> Iterator[list[str]]:
    """One row of texts for each recipe, below `columns`."""
    for recipe in summary.recipes:
        row = {"rank": "–" if recipe.rank is None else str(recipe.rank)} | recipe.settings
        for metric in summary.metrics:
            row[metric] = with_interval(*interval(list(recipe.numbers[metric].values())))
        row["n"] = str(len(recipe.numbers[summary.metric]))
        row["not done"] = ", ".join(f"{count} {s}" for s, count in recipe.not_done.items())
        yield [row[name] for name in columns(summary)]


def with_interval(mean: float, half: float) -> str:
    """
    >>> with_interval(0.5, 0.01), with_interval(0.5, math.nan), with_interval(math.nan, math.nan)
    ('0.5000 ± 0.0100', '0.5000', '–')
    """
    if math.isnan(mean):
        return "–"
    form = form_of(mean)
    return f"{mean:{form}}" if math.isnan(half) else f"{mean:{form}} ± {half:{form}}"


def form_of(value: float) -> str:
    """How numbers of this size are written: four decimals, or four digits if these say little."""
    return ".4f" if value == 0 or 1e-3 <= abs(value) < 1e4 else ".3e"


def caption(summary: Summary) -> str:
    """What the numbers are."""
    parts = ["mean ± 95 % interval over n seeds"]
    how = "(t-test at 5 %, all pairs)"
    ranked = [recipe.rank for recipe in summary.recipes if recipe.rank]
    if any(rank > 1 for rank in ranked):
        parts.append(f"recipes of one rank cannot be told apart from the first of it {how}")
    elif len(ranked) > 1:
        parts.append(f"none can be told apart from the first {how}")
    elif len(summary.recipes) > 1 and not ranked:
        parts.append("one seed tells nothing apart: add 'seed=range(5)'")
    if summary.pooled:
        parts.append(f"each seed's is its mean over {', '.join(summary.pooled)}")
    if summary.uneven:
        parts.append(
            f"not all were run with the same {' and '.join(summary.uneven)}, so that the means are "
            "of different things: `trainlab compare` takes what all have"
        )
    return "; ".join(parts)


def ranked_by_test(metric: str) -> str | None:
    """The warning where recipes are chosen by the split that should judge the choice."""
    if not metric.startswith("test_"):
        return None
    return (
        f"ranked by {metric}: the best of several on the test split looks better than it is. "
        f"Choose by --metric {counterpart(metric)} and report {metric} of the one chosen."
    )


def shown(summary: Summary) -> "Table":
    """As a rich table for the terminal."""
    from rich.table import Table

    table = Table(caption=caption(summary), caption_justify="left")
    for name in columns(summary):
        right = name in ("rank", "n", *summary.metrics)
        style: Any = "red" if name == "not done" else None
        table.add_column(name, justify="right" if right else "left", overflow="fold", style=style)
    previous = None
    for recipe, row in zip(summary.recipes, cells(summary), strict=True):
        if previous not in (None, recipe.data):
            table.add_section()
        previous = recipe.data
        table.add_row(*row)
    return table


def best_first(entries: Sequence[Entry], metric: str | None = None) -> list[Entry]:
    """The runs by their metric, each task's together; those that did not finish last."""
    ordered = []
    for chosen, part in _parts(entries, metric):
        sign = -1 if higher_is_better(chosen) else 1

        def place(entry: Entry, sign: int = sign, chosen: str = chosen) -> float:
            value = entry.number(chosen) if entry.status == "done" else None
            return math.inf if value is None else sign * value

        ordered += sorted(part, key=place)
    return ordered
