"""Words as targets, and the embedding that a model of words learns."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainlab.data import Data
from trainlab.tasks.classes import Classification, binary_cross_entropy, cross_entropy
from trainlab.tasks.task import Draw, Number, Sums, Task, total


class Words(Classification):
    """One of V words: cross-entropy of the softmax, or negative sampling; accuracy, perplexity.

    Negative sampling asks of the true word t, and of `negatives` that are drawn, whether they
    are true: −log σ(z_t) − Σ_i log σ(−z_i), words i drawn as often as they are targets of the
    training split, to the power 3/4. Without `draw` it is what that is on average. Label smoothing
    moves each answer towards 1/2. Perplexity is always that of the softmax. Mikolov, Sutskever,
    Chen, Corrado & Dean 2013, arXiv:1310.4546.
    """

    names = ("loss", "accuracy", "perplexity")
    extra = ()
    losses = ("softmax", "negative_sampling")

    def __init__(self, data: Data, loss: str, negatives: int = 5):
        super().__init__(data, loss)
        self.negatives = negatives
        self.sampled = loss == "negative_sampling"
        targets = data.y[data.splits["train"]]
        often = torch.bincount(targets, minlength=len(data.classes)).cpu().double() ** 0.75
        below = often.cumsum(0)
        self.often = (often / below[-1]).float().to(data.device)  # (V,)
        self.below = (below / below[-1]).float().to(data.device)

    def loss(
        self,
        outputs: Tensor,
        y: Tensor,
        smoothing: Number = 0.0,
        draw: Draw | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        if not self.sampled:
            return cross_entropy(outputs, y, smoothing)
        true = outputs.gather(2, y[..., None])  # (R, B, 1)
        loss = binary_cross_entropy(true, torch.ones_like(true), smoothing).squeeze(2)
        if draw is None:
            others = binary_cross_entropy(outputs, torch.zeros_like(outputs), smoothing)
            return loss + self.negatives * (others @ self.often)
        drawn = torch.searchsorted(self.below, draw((y.shape[1], self.negatives)), right=True)
        others = outputs.gather(2, drawn)  # (R, B, k)
        return loss + binary_cross_entropy(others, torch.zeros_like(others), smoothing).sum(2)

    def counts(self, outputs: Tensor, y: Tensor) -> Sums:
        return {"surprise": total(cross_entropy(outputs, y))}

    def ratios(self, sums: Sums) -> dict[str, Tensor]:
        return {"perplexity": (sums["surprise"] / sums["n"]).exp()}

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        return {}  # a probability for every word of the vocabulary

    # Not V² numbers that nobody reads; but see `nearest`.
    whole, tally, report = Task.whole, Task.tally, Task.report


def nearest(embedding: Tensor, words: Sequence[str], k: int = 5) -> dict[str, dict[str, float]]:
    """The k nearest of each word by the cosine of the angle between vectors (V, d), nearest first.

    >>> nearest(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), ["a", "b", "c"], k=1)["a"]
    {'b': 1.0}
    """
    directions = F.normalize(embedding.detach().float(), dim=1)
    cosines = (directions @ directions.T).fill_diagonal_(-torch.inf)  # (V, V)
    values, positions = cosines.topk(min(k, len(words) - 1))
    return {
        word: {words[i]: cosine for i, cosine in zip(row, of_row, strict=True)}
        for word, row, of_row in zip(words, positions.tolist(), values.tolist(), strict=True)
    }
