"""What is drawn: numbers of runs over epochs, and over settings."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainlab.config import UserError, nearest
from trainlab.tables.recipes import Recipe, Summary
from trainlab.tables.runs import Entry, cell, naturally, read_metrics
from trainlab.tables.statistics import interval
from trainlab.tables.where import value_of

_POINTS = 1000  # of a curve: as many as a picture's width has room for


class Curve(NamedTuple):
    """A recipe's metric over its epochs: the mean over seeds, and its 95 % interval."""

    name: str
    x: list[float]  # (T,)
    mean: np.ndarray  # (T,)
    half: np.ndarray  # (T,), NaN where there is one seed
    seeds: int


def curve(recipe: Recipe, metric: str, x: str = "epoch") -> Curve | None:
    """As far as at least half of the seeds went; of finished runs, if there are any. None where no
    run has an epoch. Of a long one the lowest and the highest points of each stretch.

    Raises UserError for a column that metrics.csv does not have.
    """
    of_seed: dict[int, list[dict[str, np.ndarray]]] = {}
    finished = [entry for entry in recipe.runs if entry.status == "done"]
    known: dict[str, None] = {}
    for entry in finished or recipe.runs:
        columns = read_metrics(entry.folder)
        if _length(columns):
            of_seed.setdefault(entry.result["seed"], []).append(columns)
            known |= dict.fromkeys(columns)
    if not of_seed:
        return None
    for name in (metric, x):
        if name not in known:
            others = [name for name in known if name not in ("epoch", "step")]
            raise UserError(
                f"metrics.csv has no {name}.{nearest(name, known)} It has: {', '.join(others)}."
            )
    lengths = sorted((max(map(_length, runs)) for runs in of_seed.values()), reverse=True)
    length = lengths[(len(lengths) - 1) // 2]
    # What shares a seed is no independent number: it counts by its mean.
    place, table = (
        np.stack([_mean([c[name] for c in runs if name in c], length) for runs in of_seed.values()])
        for name in (x, metric)
    )  # (seeds, T) each
    place = _mean(place, length)
    chosen = np.flatnonzero(np.isfinite(place))
    chosen = chosen[_extremes(_mean(table, length)[chosen], _POINTS)]
    found = [interval(row[np.isfinite(row)].tolist()) for row in table.T[chosen]]
    mean, half = np.array(found).reshape(-1, 2).T
    return Curve(recipe.name, place[chosen].tolist(), mean, half, len(of_seed))


def _length(columns: dict[str, np.ndarray]) -> int:
    return max(map(len, columns.values()), default=0)


def _mean(series: Iterable[np.ndarray], length: int) -> np.ndarray:
    """The mean of the finite ones that there are at each place (length,), NaN where there is
    none."""
    sums, counts = np.zeros(length), np.zeros(length)
    for values in series:
        there = np.flatnonzero(np.isfinite(values[:length]))
        sums[there] += values[there]
        counts[there] += 1
    return np.divide(sums, counts, out=np.full(length, np.nan), where=counts > 0)


def _extremes(values: np.ndarray, most: int) -> np.ndarray:
    """Positions of `most` of the values at the most, in order: of each stretch of a long series the
    lowest and the highest, so that no spike is lost.

    >>> _extremes(np.array([0.0, 5, 1, 2, -3, 2]), 4).tolist()
    [0, 1, 3, 4]
    """
    if len(values) <= most:
        return np.arange(len(values))
    chosen = set()
    for part in np.array_split(np.arange(len(values)), most // 2):
        known = values[part]
        if np.isfinite(known).any():
            chosen |= {part[np.nanargmin(known)], part[np.nanargmax(known)]}
    return np.array(sorted(chosen), dtype=int)


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
