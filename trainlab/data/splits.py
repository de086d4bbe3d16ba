"""Which examples are for training, for validation and for the test."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from trainlab import streams
from trainlab.config import Config, UserError
from trainlab.data.examples import Examples

_NAMED = 5  # classes in a message


def split_of(examples: Examples, config: Config) -> dict[str, np.ndarray]:
    """The splits a config asks for: see `split`."""
    fractions = config["val_fraction"], config["test_fraction"]
    every_class = config["task"] != "reconstruction" and config.get("rare_classes") != "keep"
    return split(examples, *fractions, config["split_seed"], every_class)


def by_class(examples: Examples, config: Config) -> bool:
    """Whether every split is to have each class."""
    drawn = config["task"] != "reconstruction" and not config["online"]
    return drawn and examples.task in ("classification", "binary")


def needed_of(examples: Examples) -> int:
    """How many examples it takes for each split that is drawn to have one."""
    return 3 - len(official(examples))


def numbered(classes: Sequence[str], counts: np.ndarray, chosen: np.ndarray) -> str:
    """The chosen (a mask) of the classes with how many examples each has, the first of them.

    >>> numbered(["a", "b", "c"], np.array([9, 2, 1]), np.array([False, True, True]))
    'b (2 examples), c (1 example)'
    """
    named = []
    for i in chosen.nonzero()[0]:
        named.append(f"{classes[i]} ({counts[i]} example{'' if counts[i] == 1 else 's'})")
    more = f" and {len(named) - _NAMED} more" * (len(named) > _NAMED)
    return ", ".join(named[:_NAMED]) + more


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
    needed = needed_of(examples)
    if not every_class:
        strata = _joined(strata, needed)
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for stratum in strata:
        if len(stratum) < needed:
            raise UserError(_too_few(examples, pool, needed, len(strata) > 1))
        shuffled = stratum[torch.randperm(len(stratum), generator=rng).numpy()]
        n_test = _share(test_fraction, stratum, needed - 1) if "test" in drawn else 0
        n_val = _share(val_fraction, stratum, n_test + 1) if "val" in drawn else 0
        parts["test"].append(shuffled[:n_test])
        parts["val"].append(shuffled[n_test : n_test + n_val])
        parts["train"].append(shuffled[n_test + n_val :])
    return {name: np.sort(np.concatenate(chunks)) for name, chunks in parts.items()} | own


def _too_few(examples: Examples, pool: np.ndarray, needed: int, stratified: bool) -> str:
    splits = {3: "train, val and test", 2: "train and one that is drawn from it", 1: "train"}
    if not stratified:
        return (
            f"Too small to split: there are {len(pool)} examples, and each of the splits, "
            f"{splits[needed]}, needs one at least. Use more (max_examples limits them)."
        )
    counts = np.bincount(examples.y[pool], minlength=len(examples.classes))
    rare = (counts > 0) & (counts < needed)
    return (
        f"Too small to split: {numbered(examples.classes, counts, rare)}; each of the splits, "
        f"{splits[needed]}, needs an example of every class. rare_classes=drop leaves such classes "
        "out, rare_classes=merge makes one of them, rare_classes=keep splits them together. Or use "
        "more examples (max_examples limits them)."
    )


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
