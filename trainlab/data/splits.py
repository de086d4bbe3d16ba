"""Which examples are for training, for validation and for the test."""

from dataclasses import replace

import numpy as np
import torch

from trainlab import streams
from trainlab.config import Config, UserError
from trainlab.data.examples import Examples


def split_of(examples: Examples, config: Config) -> dict[str, np.ndarray]:
    """The splits a config asks for: see `split`."""
    fractions = config["val_fraction"], config["test_fraction"]
    return split(examples, *fractions, config["split_seed"], config["task"] != "reconstruction")


def split(
    examples: Examples,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    every_class: bool = True,
) -> dict[str, np.ndarray]:
    """Disjoint positions of the training, validation and test examples, in rising order.

    Stratified for classes: every split gets each class in proportion, and at least one of each.
    Where it need not get `every_class`, the split is the same, so that what is learnt on one task
    can be tested on the other; classes too small for it are split as one. Official validation and
    test sets are kept where the data bring them; without one of them it is drawn from the rest.
    """
    own = official(examples)
    pool = np.arange(len(examples.x) - examples.val - examples.test)
    rng = streams.stream(seed, "split")
    if examples.task not in ("classification", "binary"):
        strata = [pool]
    else:
        labels = examples.y[: len(pool)]
        strata = [pool[labels == c] for c in range(len(examples.classes)) if (labels == c).any()]
    drawn = [name for name in ("val", "test") if name not in own]
    needed = 1 + len(drawn)
    if not every_class:
        strata = _joined(strata, needed)
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for stratum in strata:
        if len(stratum) < needed:
            stratified = len(strata) > 1
            what = f"class {examples.classes[examples.y[stratum[0]]]}" if stratified else "it"
            raise UserError(
                f"Too small to split: {what} has {len(stratum)} examples, and the splits "
                f"{', '.join(['train', *drawn])} need at least one each. Use more examples "
                "(max_examples, dataset settings)."
            )
        shuffled = stratum[torch.randperm(len(stratum), generator=rng).numpy()]
        n_test = _share(test_fraction, stratum, needed - 1) if "test" in drawn else 0
        n_val = _share(val_fraction, stratum, n_test + 1) if "val" in drawn else 0
        parts["test"].append(shuffled[:n_test])
        parts["val"].append(shuffled[n_test : n_test + n_val])
        parts["train"].append(shuffled[n_test + n_val :])
    return {name: np.sort(np.concatenate(chunks)) for name, chunks in parts.items()} | own


def official(examples: Examples) -> dict[str, np.ndarray]:
    """The positions of the validation and test sets that the data bring, which come last."""
    start = len(examples.x) - examples.val - examples.test
    val, test = np.split(np.arange(start, len(examples.x)), [examples.val])
    return {name: part for name, part in (("val", val), ("test", test)) if len(part)}


def _share(fraction: float, stratum: np.ndarray, others: int) -> int:
    """How many of a stratum a split gets: one at least, and `others` are left."""
    return min(max(1, round(fraction * len(stratum))), len(stratum) - others)


def _joined(strata: list[np.ndarray], needed: int) -> list[np.ndarray]:
    """The strata, those with less than `needed` examples as one, which a large one fills up."""
    large = [stratum for stratum in strata if len(stratum) >= needed]
    small = [stratum for stratum in strata if len(stratum) < needed]
    if not small:
        return large
    rest = np.sort(np.concatenate(small))
    if len(rest) < needed and large:
        rest = np.sort(np.concatenate([large.pop(), rest]))
    return [*large, rest]


def thinned(examples: Examples, limit: int, seed: int) -> Examples:
    """At most `limit` examples, the same share of every class, also of an official validation or
    test set."""
    n = len(examples.x)
    order = torch.randperm(n, generator=streams.stream(seed, "thin")).numpy()
    is_test = np.arange(n) >= n - examples.test
    is_val = ~is_test & (np.arange(n) >= n - examples.test - examples.val)
    group = is_test + 2 * is_val
    if examples.task in ("classification", "binary"):
        group = group * len(examples.classes) + examples.y
    # Rank of each example inside its group, as a share: the lowest shares of all groups are kept.
    share = np.empty(n)
    for value in np.unique(group):
        members = order[group[order] == value]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    kept = np.sort(np.lexsort((np.argsort(order), share))[:limit])
    val, test = (int(part[kept].sum()) for part in (is_val, is_test))
    return replace(examples, x=examples.x[kept], y=examples.y[kept], val=val, test=test)
