"""The base of all tasks."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from trainlab.config import widest
from trainlab.data import Data

Number = float | Tensor
Draw = Callable[[Sequence[int]], Tensor]
Sums = dict[str, Tensor]


class Task:
    """What tasks share. Each adds its `loss`, and its `score`: the second metric, as the mean of a
    number per example; where there are more metrics, `counts` and the `ratios` made of them; where
    there is a report, made of all sums, what it needs besides these: `tally`.

    `mean(outputs (R, B, k, …))` are the outputs of the mean of k models, and `vote` those of their
    majority, ties going to the mean.
    """

    names: tuple[str, ...] = ("loss", "accuracy")
    losses: tuple[str, ...] = ("cross_entropy",)  # to choose from; `auto` is the first
    extra: tuple[str, ...] = ()
    costly = False  # whether these are computed at the end only, unless something goes by them
    votes = True  # whether there is a majority

    def __init__(self, data: Data, loss: str):
        self.classes = data.classes

    def sums(self, outputs: Tensor, losses: Tensor, y: Tensor) -> Sums:
        score = self.score(outputs, y)
        runs, examples = losses.shape
        n = losses.new_full((runs,), examples, dtype=widest(losses.device))
        return {"n": n, "loss": total(losses), "score": total(score)} | self.counts(outputs, y)

    def metrics(self, sums: Sums) -> dict[str, Tensor]:
        means = (sums[name] / sums["n"] for name in ("loss", "score"))
        return dict(zip(self.names[:2], means, strict=True)) | self.ratios(sums)

    def counts(self, outputs: Tensor, y: Tensor) -> Sums:
        return {}

    def ratios(self, sums: Sums) -> dict[str, Tensor]:
        return {}

    def whole(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {}

    def tally(self, outputs: Tensor, y: Tensor) -> Sums:
        return {}

    def report(self, sums: Sums) -> list[dict[str, Any]]:
        return [{} for _ in sums["n"]]

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        return {}


def total(values: Tensor) -> Tensor:
    """Over the examples, (R, B, …) -> (R, …), in the widest floats there are."""
    return values.sum(1, dtype=widest(values.device))
