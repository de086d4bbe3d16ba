"""Learning-rate schedules: pure functions of the time, `schedule(at, **settings) -> lr` (R, T) or
(R, 1).

`at` says when: the steps asked about, the horizon, the starting rates and the metrics so far.
Settings are numbers, or (R, 1) columns where the members of a stack differ.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainlab.config import UserError, nearest
from trainlab.metrics import higher_is_better

Number = float | Tensor  # a number for all members, or a column (R, 1) float64


class At(NamedTuple):
    """The steps a schedule is asked about, and what it may look at to answer."""

    lr: Tensor  # (R, 1) float64 starting rates η₀
    steps: Tensor  # (T,) or (R, T) float64 numbers of the steps asked about, from 0
    total_steps: int | Tensor  # of the run, or (R, 1)
    steps_per_epoch: int
    history: Sequence[Sequence[dict[str, float]]]  # per member: the metrics of each epoch so far

    def time(self, unit: str) -> tuple[Tensor, int | Tensor]:
        """t, in steps or in whole epochs, and how many of them the run has."""
        if unit == "step":
            return self.steps, self.total_steps
        return self.steps // self.steps_per_epoch, _ceil(self.total_steps, self.steps_per_epoch)


def warm_up(schedule: Callable[[At], Tensor], at: At, warmup: Number) -> Tensor:
    """η₀ (t + 1) / W in the first W = ⌈warmup · steps per epoch⌉ steps, then `schedule`.

    The schedule sees a run that begins at step W: its time is counted from there, and its history
    begins with the first epoch that has no step of the warm-up. Goyal et al. 2017,
    arXiv:1706.02677.

    >>> at = At(torch.tensor([[0.4]]), torch.arange(6.0), 6, 4, [[]])
    >>> warm_up(linear, at, warmup=1.0)
    tensor([[0.1000, 0.2000, 0.3000, 0.4000, 0.4000, 0.0000]])
    """
    # 0.55 · 100 is 55.00000000000001, and not meant to be 56 steps.
    length = _ceil(warmup * at.steps_per_epoch - 1e-9, 1)
    epochs = _ceil(length, at.steps_per_epoch)
    later = at._replace(
        steps=(at.steps - length).clamp(min=0),
        total_steps=at.total_steps - length,
        history=[rows[int(_of(epochs, r)) :] for r, rows in enumerate(at.history)],
    )
    return torch.where(at.steps < length, at.lr * (at.steps + 1) / length, schedule(later))


def constant(at: At) -> Tensor:
    """η₀ throughout."""
    return at.lr


def step(at: At, every: Number = 10, factor: Number = 0.5, unit: str = "epoch") -> Tensor:
    """η₀ factor^⌊t / every⌋. Equals torch's StepLR(every, factor)."""
    t, _ = at.time(unit)
    return at.lr * factor ** (t // every)


def piecewise(
    now: At,
    at: Sequence[float] = (10, 15),
    values: Sequence[float] = (0.1, 0.01),
    unit: str = "epoch",
) -> Tensor:
    """η₀, and η₀ · values[i] from t = at[i] on. Equals torch's MultiStepLR(at, γ) if values[i] is
    γ^(i+1).

    Raises UserError where the two lists do not fit.
    """
    if len(at) != len(values) or list(at) != sorted(at):
        raise UserError(
            f"schedule.at={list(at)} must rise, and schedule.values={list(values)} have one value "
            f"for each of its {len(at)} times."
        )
    t, _ = now.time(unit)
    piece = torch.bucketize(t, t.new_tensor(at), right=True)
    return now.lr * now.lr.new_tensor([1.0, *values])[piece]


def exponential(at: At, k: Number = 0.05, unit: str = "epoch") -> Tensor:
    """η₀ exp(−k t). Equals torch's ExponentialLR(exp(−k))."""
    t, _ = at.time(unit)
    return at.lr * torch.exp(-k * t)


def inverse_time(at: At, k: Number = 0.1, unit: str = "epoch") -> Tensor:
    """η₀ / (1 + k t)."""
    t, _ = at.time(unit)
    return at.lr / (1 + k * t)


def polynomial(at: At, power: Number = 2.0, final: Number = 0.0, unit: str = "step") -> Tensor:
    """η₀ (final + (1 − final) (1 − t/T)^power), T the last step's number.

    Power 2 as in You et al. 2017 (arXiv:1708.03888). Equals torch's PolynomialLR(T, power) where
    final is 0.
    """
    return at.lr * _between(final, 1, (1 - _done(at, unit)) ** power)


def linear(at: At, final: Number = 0.0, unit: str = "step") -> Tensor:
    """η₀ (1 − (1 − final) t/T), T the last step's number. Equals torch's LinearLR(1, final, T)."""
    return polynomial(at, 1.0, final, unit)


def cosine(at: At, final: Number = 0.0, unit: str = "step") -> Tensor:
    """η₀ (final + (1 − final) (1 + cos(π t/T)) / 2), T the last step's number.

    Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts. Equals torch's
    CosineAnnealingLR(T).
    """
    return at.lr * _between(final, 1, _fall(_done(at, unit)))


def warm_restarts(
    at: At, period: Number = 10, growth: Number = 2, final: Number = 0.0, unit: str = "epoch"
) -> Tensor:
    """Cosines from η₀ down towards final · η₀, one after the other, each `growth` times as long.

    η₀ (final + (1 − final) (1 + cos(π t′/P)) / 2), t′ the time since the last restart, P the length
    of this cosine: period, period · growth, … Loshchilov & Hutter 2017, arXiv:1608.03983. Equals
    torch's CosineAnnealingWarmRestarts(period, growth).
    """
    t, _ = at.time(unit)
    growth = torch.as_tensor(growth, dtype=t.dtype, device=t.device)
    # P (1 + growth + … + growth^(n−1)) is the time of restart n; solved for n, and summed.
    restarts = torch.where(
        growth > 1, torch.log1p((growth - 1) * t / period) / torch.log(growth), t / period
    )
    n = torch.floor(restarts + 1e-6)  # log 243 / log 3 is 4.999999999999999
    start = period * torch.where(growth > 1, (growth**n - 1) / (growth - 1), n)
    return at.lr * _between(final, 1, _fall((t - start) / (period * growth**n)))


def one_cycle(
    at: At,
    rise: Number = 0.3,
    start_divisor: Number = 25.0,
    final_divisor: Number = 1e4,
    unit: str = "step",
) -> Tensor:
    """From η₀/start_divisor up to η₀ in a share `rise` of the run, and down to the start's rate /
    final_divisor, both on half a cosine: the optimizer's lr is the maximum.

    Smith & Topin 2018, arXiv:1708.07120. Equals torch's OneCycleLR(cycle_momentum=False).
    """
    t, total = at.time(unit)
    peak, last = rise * total - 1, total - 1
    start = at.lr / start_divisor
    up = _between(at.lr, start, _fall(t / peak))
    down = _between(start / final_divisor, at.lr, _fall((t - peak) / (last - peak)))
    return torch.where(t < peak, up, down)


def range_test(at: At, high: Number = 10.0, unit: str = "step") -> Tensor:
    """η₀^(1 − t/T) high^(t/T): an exponential rise from η₀ to the rate `high` at the last step.

    The learning-rate range test (Smith 2015, arXiv:1506.01186): the loss begins to fall where the
    rate is large enough, and rises where it is too large.
    """
    done = _done(at, unit)
    return at.lr ** (1 - done) * high**done


def plateau(
    at: At,
    monitor: str = "val_loss",
    factor: Number = 0.1,
    patience: Number = 5,
    min_delta: Number = 1e-4,
    min_lr: Number = 0.0,
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


def _done(at: At, unit: str) -> Tensor:
    """The share of the run that is done: 0 at its first step (or epoch), 1 at its last."""
    t, total = at.time(unit)
    return t / torch.as_tensor(total - 1).clamp(min=1)


def _fall(share: Tensor) -> Tensor:
    """Half a cosine from 1 down to 0."""
    return 0.5 * (1 + torch.cos(torch.pi * share))


def _between(low: Number, high: Number, share: Tensor) -> Tensor:
    return low + (high - low) * share


def _ceil(a: Number, b: int) -> Number:
    """⌈a / b⌉ of numbers and of tensors."""
    return -(-a // b)


def _of(value: Number, r: int) -> Number:
    return value[r, 0] if isinstance(value, Tensor) else value
