"""Tasks whose targets are real numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainlab.data import Data
from trainlab.tasks.task import Draw, Number, Sums, Task, total

_CRITERIA = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


class Regression(Task):
    """Real targets: squared, absolute or Huber's error (δ = 1), averaged over an example's numbers.

    `loss` is of the standardized targets, `mae` the mean absolute error in their own units, `r2`
    the share of variance explained, averaged over targets.
    """

    names = ("loss", "mae", "r2")
    losses = tuple(_CRITERIA)
    votes = False

    def __init__(self, data: Data, loss: str):
        super().__init__(data, loss)
        self.criterion = _CRITERIA[loss]
        self.zero = 0.0 if data.target_mean is None else data.target_mean  # (K,)
        self.scale = 1.0 if data.target_scale is None else data.target_scale

    def loss(
        self,
        outputs: Tensor,
        y: Tensor,
        smoothing: Number = 0.0,
        draw: Draw | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        # There are no classes to smooth or to weigh, and who asks for it is refused.
        return self.criterion(outputs, y, reduction="none").flatten(2).mean(2)

    def score(self, outputs: Tensor, y: Tensor) -> Tensor:
        return ((outputs - y).abs() * self.scale).flatten(2).mean(2)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs.mean(2)

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        columns = (outputs[0] * self.scale + self.zero).T.tolist()
        if len(columns) == 1:
            return {"prediction": columns[0]}
        names = self.classes or range(len(columns))
        return {f"prediction_{name}": column for name, column in zip(names, columns, strict=True)}

    def counts(self, outputs: Tensor, y: Tensor) -> Sums:
        errors, y = (outputs - y).flatten(2), y.flatten(2)
        return {"squared": total(errors.square()), "y": total(y), "yy": total(y.square())}  # (R, K)

    def ratios(self, sums: Sums) -> dict[str, Tensor]:
        return {"r2": _explained(sums["squared"], _spread(sums), sums["yy"]).mean(1)}


class Reconstruction(Regression):
    """The inputs themselves as targets: `explained` is the share of their variance, all numbers of
    an input together, for some may always be the same."""

    names = ("loss", "mae", "explained")

    def predictions(self, outputs: Tensor) -> dict[str, list]:
        return {}  # whole inputs: no columns

    def ratios(self, sums: Sums) -> dict[str, Tensor]:
        pooled = (values.sum(1) for values in (sums["squared"], _spread(sums), sums["yy"]))
        return {"explained": _explained(*pooled)}


def _spread(sums: Sums) -> Tensor:
    """Σ (y − ȳ)², (R, K)."""
    return sums["yy"] - sums["y"].square() / sums["n"][:, None]


def _explained(squared: Tensor, spread: Tensor, yy: Tensor) -> Tensor:
    # Of a single example, or of equal ones, nothing is left but rounding.
    return 1 - squared / spread.where(spread > 1e-6 * yy, torch.nan)
