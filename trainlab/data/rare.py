"""Classes of too few examples for every split to have one: left out, or merged."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trainlab.config import Config, UserError
from trainlab.data.examples import Examples
from trainlab.data.splits import by_class, needed_of, numbered, official

OTHER = "other"  # the class that rare ones are merged into


def treated(examples: Examples, config: Config, known: Sequence[str] | None = None) -> Examples:
    """The examples with their rare classes left out or merged, if `rare_classes` says so.

    Rare is a class of which not every split can have an example; for a run that has `known` its
    classes, each other one. Raises UserError where that leaves too few classes or examples.
    """
    wanted = config.get("rare_classes", "refuse")
    if wanted not in ("drop", "merge") or not by_class(examples, config):
        return examples
    counts = np.bincount(
        examples.y[: len(examples.y) - examples.val - examples.test],
        minlength=len(examples.classes),
    )
    needed = needed_of(examples)
    if known is None:
        rare = (counts > 0) & (counts < needed)
    else:
        rare = np.array([name not in known for name in examples.classes])
    if not rare.any():
        return examples
    named = numbered(examples.classes, counts, rare)
    left = [name for name, few in zip(examples.classes, rare, strict=True) if not few]
    if wanted == "drop":
        if known is None and len(left) < 2:
            raise UserError(
                f"rare_classes=drop leaves out {named}, and of the classes {len(left)}, where two "
                "are needed. Use more examples, or rare_classes=keep."
            )
        return _without(examples, rare, left)
    together = counts[rare | (np.array(examples.classes) == OTHER)].sum()
    if known is None and together < needed:
        raise UserError(
            f"rare_classes=merge: {named} are too few even as one class, of which the splits need "
            f"{needed} examples. Use rare_classes=drop or rare_classes=keep."
        )
    left = left if OTHER in left else [*left, OTHER]
    names = np.where(rare, OTHER, examples.classes)
    return replace(examples, y=np.array(list(map(left.index, names)))[examples.y], classes=left)


def _without(examples: Examples, rare: np.ndarray, left: list[str]) -> Examples:
    kept = ~rare[examples.y]
    if not kept.any():
        raise UserError(
            f"rare_classes=drop leaves nothing of these data: the run knows none of their classes, "
            f"{', '.join(examples.classes)}."
        )
    own = {name: int(kept[part].sum()) for name, part in official(examples).items()}
    codes = np.cumsum(~rare) - 1
    return replace(
        examples, x=examples.x[kept], y=codes[examples.y[kept]], classes=left,
        val=own.get("val", 0), test=own.get("test", 0),
    )  # fmt: skip
