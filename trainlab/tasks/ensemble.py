"""Several models as one."""

from typing import Any

from torch import Tensor

from trainlab.tasks.task import Draw, Number, Sums, Task, total


class Ensemble:
    """k models of one task as one model: outputs (R, B, k, …).

    Minimized is the sum of their losses, so that each trains as it would alone. Metrics and report
    are those of their mean: of probabilities, or of real predictions. The score that follows the
    loss (`accuracy`) is also that of the majority (`vote_accuracy`) and that of the k models on
    average (`member_accuracy`).
    """

    def __init__(self, task: Task):
        self.task, self.extra, self.costly = task, task.extra, task.costly
        self.also = [*(["vote"] if task.votes else []), "member"]
        self.names = (*task.names, *(f"{name}_{task.names[1]}" for name in self.also))

    def loss(
        self,
        outputs: Tensor,
        y: Tensor,
        smoothing: Number = 0.0,
        draw: Draw | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        outputs, y, k = _apart(outputs, y)
        return self.task.loss(outputs, y, smoothing, draw, weights).unflatten(1, (-1, k)).sum(2)

    def sums(self, outputs: Tensor, losses: Tensor, y: Tensor) -> Sums:
        mean = self.task.mean(outputs)
        sums = self.task.sums(mean, self.task.loss(mean, y), y)
        if self.task.votes:
            sums["vote"] = total(self.task.score(self.task.vote(outputs), y))
        each, targets, k = _apart(outputs, y)
        return sums | {"member": total(self.task.score(each, targets)) / k}

    def metrics(self, sums: Sums) -> dict[str, Tensor]:
        score = self.task.names[1]
        also = {f"{name}_{score}": sums[name] / sums["n"] for name in self.also}
        return self.task.metrics(sums) | also

    def whole(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        return self.task.whole(self.task.mean(outputs), y)

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        return self.task.predictions(self.task.mean(outputs))

    def tally(self, outputs: Tensor, y: Tensor) -> Sums:
        return self.task.tally(self.task.mean(outputs), y)

    def report(self, sums: Sums) -> list[dict[str, Any]]:
        return self.task.report(sums)


def _apart(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor, int]:
    """Outputs (R, B, k, …) and targets (R, B, …) of k models as those of B · k examples; k."""
    k = outputs.shape[2]
    return outputs.flatten(1, 2), y.repeat_interleave(k, 1), k
