"""Who goes on, and for how long: successive halving and Hyperband, in epochs.

Jamieson & Talwalkar 2016, arXiv:1502.07943; Li et al. 2018, JMLR 18(185), arXiv:1603.06560.
Synchronous: a rung is one launch of all trials that are left, so that they train as stacks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Bracket(NamedTuple):
    """So many trials, and the epochs at which the worst of them are left behind."""

    trials: int
    rungs: list[int]


def rungs(epochs: int, reduction: int, least: int) -> list[int]:
    """The epochs R, R/η, R/η², … down to `least`, ascending.

    >>> rungs(81, 3, 1), rungs(20, 3, 1)
    ([1, 3, 9, 27, 81], [2, 7, 20])
    """
    count = 1
    while epochs / reduction**count >= least:
        count += 1
    return [round(epochs / reduction**s) for s in reversed(range(count))]


def full(epochs: int, reduction: int, least: int) -> int:
    """Trials of which one is trained to the end: η to the number of steps between the rungs."""
    return reduction ** (len(rungs(epochs, reduction, least)) - 1)


def brackets(epochs: int, reduction: int, least: int) -> list[Bracket]:
    """Hyperband's: from many trials that begin with few epochs, to few that are all trained to the
    end (Algorithm 1).

    >>> [b.trials for b in brackets(81, 3, 1)]
    [81, 34, 15, 8, 5]
    """
    every = rungs(epochs, reduction, least)
    return [
        Bracket(math.ceil(len(every) * reduction**s / (s + 1)), every[-(s + 1) :])
        for s in reversed(range(len(every)))
    ]


def bracket(settings: Mapping[str, Any], epochs: int, number: int, usual: int) -> Bracket:
    """The bracket that begins with trial `number`; `usual` is the size of a batch without."""
    how = epochs, settings["reduction"], settings["min_epochs"]
    if settings["halving"] == "hyperband":
        cycle = brackets(*how)
        number %= sum(b.trials for b in cycle)
        for one in cycle:
            if number < one.trials:
                return one._replace(trials=one.trials - number)
            number -= one.trials
    if settings["halving"] == "successive":
        return Bracket(usual, rungs(*how))
    return Bracket(usual, [epochs])


def survivors(values: Sequence[float], reduction: int) -> list[int]:
    """The positions of the best 1/η, at least one, in their order; lower is better, and what is
    not finite goes on nowhere.

    >>> survivors([0.3, 0.1, float("inf"), 0.2], 2)
    [1, 3]
    """
    finite = [i for i, value in enumerate(values) if math.isfinite(value)]
    best = sorted(finite, key=lambda i: values[i])[: max(1, len(values) // reduction)]
    return sorted(best)
