"""What is drawn: numbers of runs over epochs, and over settings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trainlab.config import UserError, nearest
from trainlab.tables.recipes import Recipe, Summary
from trainlab.tables.runs import Entry, cell, naturally, read_metrics
from trainlab.tables.statistics import interval
from trainlab.tables.where import value_of


class Curve(NamedTuple):
    """A recipe's metric over its epochs: the mean over seeds, and its 95 % interval."""

    name: str
    x: list[float]
    mean: np.ndarray  # (T,)
    half: np.ndarray  # (T,), NaN where there is one seed
    seeds: int


def curve(recipe: Recipe, metric: str, x: str = "epoch") -> Curve | None:
    """As far as at least half of the seeds went; of finished runs, if there are any. None where no
    run has an epoch.

    Raises UserError for a column that metrics.csv does not have.
    """
    of_seed: dict[int, list[list[dict[str, float]]]] = {}
    finished = [entry for entry in recipe.runs if entry.status == "done"]
    for entry in finished or recipe.runs:
        if rows := read_metrics(entry.folder):
            of_seed.setdefault(entry.result["seed"], []).append(rows)
    series = [_averaged(runs) for runs in of_seed.values()]
    columns = dict.fromkeys(name for rows in series for row in rows for name in row)
    for name in (metric, x) if series else ():
        if name not in columns:
            known = [name for name in columns if name not in ("epoch", "step")]
            raise UserError(
                f"metrics.csv has no {name}.{nearest(name, columns)} It has: {', '.join(known)}."
            )
    lengths = sorted((len(rows) for rows in series), reverse=True)
    if not lengths:
        return None
    length = lengths[(len(lengths) - 1) // 2]
    means, halves, places = [], [], []
    for t in range(length):
        there = [rows[t] for rows in series if t < len(rows) and x in rows[t]]
        if not there:
            continue
        values = [row[metric] for row in there if np.isfinite(row.get(metric, np.nan))]
        mean, half = interval(values)
        means.append(mean)
        halves.append(half)
        places.append(float(np.mean([row[x] for row in there])))
    return Curve(recipe.name, places, np.array(means), np.array(halves), len(series))


def _averaged(runs: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Runs of one seed as one: what shares a seed is no independent number."""
    if len(runs) == 1:
        return runs[0]
    epochs = [[rows[t] for rows in runs if t < len(rows)] for t in range(max(map(len, runs)))]
    return [
        {
            name: float(np.mean([row[name] for row in rows if name in row]))
            for name in dict.fromkeys(name for row in rows for name in row)
        }
        for rows in epochs
    ]


class Field(NamedTuple):
    """A setting or a metric as an axis: numbers, or places of words."""

    name: str
    words: list[str]  # ticks of what is no number; empty for numbers
    values: list[float]  # one per run


def field(entries: Sequence[Entry], name: str) -> Field:
    """Raises UserError for a name that no run has."""
    known = dict.fromkeys(key for entry in entries for key in (*entry.config, *entry.result))
    if name not in known:
        raise UserError(f"No run has {name}.{nearest(name, known)}")
    values: list[Any] = [value_of(entry, name) for entry in entries]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return Field(name, [], [float(value) for value in values])
    words = sorted({cell(value) for value in values}, key=naturally)
    return Field(name, words, [float(words.index(cell(value))) for value in values])


def finished(summary: Summary) -> list[tuple[Entry, float]]:
    """The runs that have the metric, and its value."""
    runs = [entry for recipe in summary.recipes for entry in recipe.runs if entry.status == "done"]
    known = ((entry, entry.number(summary.metric)) for entry in runs)
    return [(entry, value) for entry, value in known if value is not None]
