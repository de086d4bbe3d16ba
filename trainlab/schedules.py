"""Learning-rate schedules: pure functions of the time, `schedule(at, **settings) -> lr` (R, T) or
(R, 1).

`at` says when: the steps asked about, the horizon, the starting rates and the metrics so far.
Settings are numbers, or (R, 1) columns where the members of a stack differ.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainlab.config import UserError, nearest


class At(NamedTuple):
    """The steps of one epoch, as a schedule sees them."""

    lr: Tensor  # (R, 1) starting rates η₀
    steps: Tensor  # (T,) numbers of the steps asked about, from 0
    total_steps: int
    epoch: int  # from 0
    epochs: int
    history: Sequence[Sequence[dict[str, float]]]  # per member: the metrics of each epoch so far

    def time(self, unit: str) -> tuple[Tensor, int]:
        """t and its end, in steps (T,) or in whole epochs (1,)."""
        if unit == "step":
            return self.steps, self.total_steps
        return self.steps.new_tensor([self.epoch]), self.epochs


def constant(at: At) -> Tensor:
    """η₀ throughout."""
    return at.lr


def step(
    at: At, every: int | Tensor = 10, factor: float | Tensor = 0.5, unit: str = "epoch"
) -> Tensor:
    """η₀ factor^⌊t / every⌋. Equals torch's StepLR(every, factor)."""
    t, _ = at.time(unit)
    return at.lr * factor ** torch.floor(t / every)


def exponential(at: At, k: float | Tensor = 0.05, unit: str = "epoch") -> Tensor:
    """η₀ exp(−k t). Equals torch's ExponentialLR(exp(−k))."""
    t, _ = at.time(unit)
    return at.lr * torch.exp(-k * t)


def inverse_time(at: At, k: float | Tensor = 0.1, unit: str = "epoch") -> Tensor:
    """η₀ / (1 + k t)."""
    t, _ = at.time(unit)
    return at.lr / (1 + k * t)


def cosine(at: At, final: float | Tensor = 0.0, unit: str = "step") -> Tensor:
    """η₀ (final + (1 − final) (1 + cos(π t / T)) / 2), T the last step's number.

    Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts. Equals torch's
    CosineAnnealingLR(T).
    """
    t, total = at.time(unit)
    share = 0.5 * (1 + torch.cos(torch.pi * t / max(total - 1, 1)))
    return at.lr * (final + (1 - final) * share)


def plateau(
    at: At,
    monitor: str = "val_loss",
    factor: float | Tensor = 0.1,
    patience: int | Tensor = 5,
    min_delta: float | Tensor = 1e-4,
    min_lr: float | Tensor = 0.0,
) -> Tensor:
    """η times `factor` after each `patience`+1 epochs in which the monitored metric did not
    improve.

    A pure function of the metric's history, so a resumed run needs nothing saved. Equals torch's
    ReduceLROnPlateau with its relative threshold.
    """
    rates = []
    for r, rows in enumerate(at.history):
        lr = float(at.lr[r])
        cut, wait, delta, floor = (float(_of(v, r)) for v in (factor, patience, min_delta, min_lr))
        best, bad = float("inf"), 0
        for row in rows:
            if monitor not in row:
                raise UserError(
                    f"schedule.monitor={monitor} is no metric of this run.{nearest(monitor, row)}"
                )
            value = -row[monitor] if higher_is_better(monitor) else row[monitor]
            if value < best - delta * abs(best if best != float("inf") else 0):
                best, bad = value, 0
            else:
                bad += 1
            if bad > wait:
                lr, bad = max(lr * cut, floor), 0
        rates.append(lr)
    return at.lr.new_tensor(rates)[:, None]


def higher_is_better(metric: str) -> bool:
    """Losses and errors fall, everything else rises."""
    return not metric.endswith(("loss", "mae", "mse", "error"))


def _of(value: float | Tensor, r: int) -> float | Tensor:
    return value[r, 0] if isinstance(value, Tensor) else value
