"""Schedules against torch's and against the formula, at every step."""

import math

import pytest
import torch

from trainlab import schedules
from trainlab.schedules import At

EPOCHS, STEPS = 30, 4


def ours(schedule, lr0=0.1, history=None, **settings):
    """The rate of every step, epoch by epoch as the loop asks."""
    rates = []
    for epoch in range(EPOCHS):
        steps = epoch * STEPS + torch.arange(STEPS)
        past = [history[:epoch]] if history else [[]]
        at = At(
            torch.tensor([[lr0]], dtype=torch.float64), steps, EPOCHS * STEPS, epoch, EPOCHS, past
        )
        rates += schedule(at, **settings).expand(1, STEPS)[0].tolist()
    return rates


def torchs(make, per_step, metric=None):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = make(optimizer)
    rates = []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per_step:
                scheduler.step()
        if not per_step:
            scheduler.step(*([metric[epoch]] if metric else []))
    return rates


def test_constant():
    assert ours(schedules.constant) == [0.1] * (EPOCHS * STEPS)


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_step_equals_torch(unit):
    expected = torchs(lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.3), unit == "step")
    assert ours(schedules.step, every=7, factor=0.3, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_exponential_equals_torch(unit):
    expected = torchs(
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, math.exp(-0.1)), unit == "step"
    )
    assert ours(schedules.exponential, k=0.1, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_inverse_time_equals_its_formula(unit):
    times = [i if unit == "step" else i // STEPS for i in range(EPOCHS * STEPS)]
    expected = [0.1 / (1 + 0.2 * t) for t in times]
    assert ours(schedules.inverse_time, k=0.2, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_cosine_equals_torch(unit):
    last = (EPOCHS * STEPS if unit == "step" else EPOCHS) - 1
    make = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = torchs(lambda o: make(o, last, eta_min=0.01), unit == "step")
    assert ours(schedules.cosine, final=0.1, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_plateau_equals_torch(metric):
    generator = torch.Generator().manual_seed(3)
    values = (
        torch.linspace(1, 0.5, EPOCHS) + 0.2 * torch.rand(EPOCHS, generator=generator)
    ).tolist()
    mode = "max" if metric == "val_accuracy" else "min"
    settings = dict(factor=0.5, patience=2, min_lr=0.005)
    make = torch.optim.lr_scheduler.ReduceLROnPlateau
    expected = torchs(
        lambda o: make(o, mode=mode, threshold=1e-3, eps=0, **settings), False, values
    )
    rates = ours(
        schedules.plateau,
        history=[{metric: v} for v in values],
        monitor=metric,
        min_delta=1e-3,
        **settings,
    )
    assert len(set(rates)) > 2  # it did cut
    assert rates == pytest.approx(expected)


def test_members_with_their_own_settings():
    at = At(torch.tensor([[0.1], [0.2]]), torch.arange(4), 8, 0, 2, [[], []])
    k = torch.tensor([[0.5], [0.0]])
    both = schedules.inverse_time(at, k=k, unit="step")
    assert both.shape == (2, 4)
    assert both[1].tolist() == pytest.approx([0.2] * 4)
    assert both[0].tolist() == pytest.approx([0.1 / (1 + 0.5 * t) for t in range(4)])
