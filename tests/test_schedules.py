"""Schedules against the formula and torch's, at every step; stacks and warm-up for all of them."""

import inspect
import math
from functools import partial

import pytest
import torch
import yaml
from torch.optim import lr_scheduler as torchs

from trainlab import schedules
from trainlab.config import CONF, UserError
from trainlab.schedules import At

EPOCHS, STEPS, LR = 30, 4, 0.1
TOTAL = EPOCHS * STEPS
UNITS = {"step": TOTAL, "epoch": EPOCHS}


def noisy(start, end, early):
    """Values that improve with setbacks, the third one better than those soon after it."""
    noise = 0.2 * torch.rand(EPOCHS, generator=torch.Generator().manual_seed(3))
    values = (torch.linspace(start, end, EPOCHS) + noise).tolist()
    return [*values[:2], early, *values[3:]]


HISTORY = [
    {"val_loss": loss, "val_accuracy": accuracy}
    for loss, accuracy in zip(noisy(1, 0.5, 0.8), noisy(0.3, 0.8, 0.7), strict=True)
]


def fall(share):
    return (1 + math.cos(math.pi * share)) / 2


def restarts(t, _):
    period = 6
    while t >= period:
        t, period = t - period, period * 2
    return LR * (0.1 + 0.9 * fall(t / period))


def cycle(t, end):
    peak, last, low = 0.4 * end - 1, end - 1, LR / 10
    if t <= peak:
        return low + (LR - low) * fall(1 - t / peak)
    return low / 100 + (LR - low / 100) * fall((t - peak) / (last - peak))


CASES = {  # option: settings, formula of t and its end, torch's scheduler of the same end
    "constant": ({}, lambda t, end: LR, None),
    "step": (
        dict(every=7, factor=0.3),
        lambda t, end: LR * 0.3 ** (t // 7),
        lambda o, end: torchs.StepLR(o, 7, 0.3),
    ),
    "piecewise": (
        dict(at=[3, 12], values=[0.2, 0.04]),
        lambda t, end: LR * (1 if t < 3 else 0.2 if t < 12 else 0.04),
        lambda o, end: torchs.MultiStepLR(o, [3, 12], 0.2),
    ),
    "exponential": (
        dict(k=0.1),
        lambda t, end: LR * math.exp(-0.1 * t),
        lambda o, end: torchs.ExponentialLR(o, math.exp(-0.1)),
    ),
    "inverse_time": (dict(k=0.2), lambda t, end: LR / (1 + 0.2 * t), None),
    "polynomial": (
        dict(power=3.0, final=0.0),
        lambda t, end: LR * (1 - t / (end - 1)) ** 3,
        lambda o, end: torchs.PolynomialLR(o, end - 1, 3.0),
    ),
    "linear": (
        dict(final=0.2),
        lambda t, end: LR * (1 - 0.8 * t / (end - 1)),
        lambda o, end: torchs.LinearLR(o, 1.0, 0.2, end - 1),
    ),
    "cosine": (
        dict(final=0.1),
        lambda t, end: LR * (0.1 + 0.9 * fall(t / (end - 1))),
        lambda o, end: torchs.CosineAnnealingLR(o, end - 1, eta_min=0.1 * LR),
    ),
    "warm_restarts": (
        dict(period=6, growth=2, final=0.1),
        restarts,
        lambda o, end: torchs.CosineAnnealingWarmRestarts(o, 6, 2, eta_min=0.1 * LR),
    ),
    "one_cycle": (
        dict(rise=0.4, start_divisor=10.0, final_divisor=100.0),
        cycle,
        lambda o, end: torchs.OneCycleLR(
            o, LR, end, pct_start=0.4, div_factor=10, final_div_factor=100, cycle_momentum=False
        ),
    ),
    "plateau": (dict(factor=0.5, patience=2, min_delta=0.15, min_lr=0.005), None, None),
    "range_test": (dict(high=3.0), lambda t, end: LR * (3.0 / LR) ** (t / (end - 1)), None),
}
CASES["warmup_cosine"] = CASES["cosine"]  # its warm-up is the key that all options share
FORMULAS = [name for name in CASES if CASES[name][1]]


def option(name):
    """The function an option names, and its settings."""
    node = yaml.safe_load((CONF / "schedule" / f"{name}.yaml").read_text(encoding="utf-8"))
    schedule = getattr(schedules, node.pop("_target_").removeprefix("trainlab.schedules."))
    return schedule, {key: value for key, value in node.items() if key != "warmup"}


def rates(schedule, lr=((LR,),), total=TOTAL, first=0, skip=0):
    """The rate of every step from `first` on, (R, steps), epoch by epoch as the loop asks."""
    lr = torch.tensor(lr, dtype=torch.float64)
    asked = []
    for epoch in range(first // STEPS, EPOCHS):
        steps = torch.arange(epoch * STEPS, (epoch + 1) * STEPS, dtype=torch.float64)
        steps = steps[steps >= first] - first
        past = [HISTORY[skip:epoch]] * len(lr)
        asked.append(schedule(At(lr, steps, total, STEPS, past)).expand(len(lr), len(steps)))
    return torch.cat(asked, 1)


def of_torch(make, unit, metric=None):
    """The rate torch uses at every step, its scheduler moved on once per step or per epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = make(optimizer)
    used = []
    for t in range(TOTAL):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        epoch, rest = divmod(t + 1, STEPS)
        # OneCycleLR refuses to be asked about what comes after its end.
        if t + 1 < TOTAL and (unit == "step" or rest == 0):
            scheduler.step(*([metric[epoch - 1]] if metric else []))
    return used


def test_every_option_is_in_the_table():
    assert {path.stem for path in (CONF / "schedule").glob("*.yaml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_option_and_function_have_the_same_defaults(name):
    schedule, settings = option(name)
    parameters = list(inspect.signature(schedule).parameters.values())[1:]
    defaults = {p.name: p.default for p in parameters}
    assert settings == {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", FORMULAS)
def test_equals_its_formula(name, unit):
    settings, formula, _ = CASES[name]
    settings = settings | ({"unit": unit} if settings else {})
    times = [t if unit == "step" else t // STEPS for t in range(TOTAL)]
    expected = [formula(t, UNITS[unit]) for t in times]
    assert rates(partial(option(name)[0], **settings))[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
def test_equals_torch(name, unit):
    settings, _, make = CASES[name]
    expected = of_torch(lambda optimizer: make(optimizer, UNITS[unit]), unit)
    ours = rates(partial(option(name)[0], **settings, unit=unit))[0]
    assert ours.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_plateau_equals_torch(metric):
    settings = dict(factor=0.5, patience=2, min_lr=0.005)
    mode = "max" if metric == "val_accuracy" else "min"
    expected = of_torch(
        lambda o: torchs.ReduceLROnPlateau(o, mode=mode, threshold=0.15, eps=0, **settings),
        "epoch",
        [row[metric] for row in HISTORY],
    )
    ours = rates(partial(schedules.plateau, monitor=metric, min_delta=0.15, **settings))[0]
    assert len(set(ours.tolist())) > 2  # it did cut
    assert ours.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("growth", [1, 1.5, 3])
def test_restarts_come_exactly_when_a_period_is_over(growth):
    """With growth 3 the fifth restart is at log 243 / log 3 = 4.999… in floating point."""
    starts, length = [0.0], 8.0
    while starts[-1] < 3000:
        starts.append(starts[-1] + length)
        length *= growth
    steps = torch.tensor(starts, dtype=torch.float64)
    at = At(torch.ones(1, 1, dtype=torch.float64), steps, 4000, 1, [[]])
    assert schedules.warm_restarts(at, 8, growth, unit="step").tolist() == [
        pytest.approx([1.0] * len(starts))
    ]


@pytest.mark.parametrize(("at", "values"), [([5], [0.1, 0.01]), ([9, 5], [0.1, 0.01])])
def test_piecewise_refuses_lists_that_do_not_fit(at, values):
    with pytest.raises(UserError, match="must rise"):
        rates(partial(schedules.piecewise, at=at, values=values))


def test_plateau_names_the_metric_that_was_meant():
    with pytest.raises(UserError, match="Did you mean val_loss"):
        rates(partial(schedules.plateau, monitor="val_los"))


@pytest.mark.parametrize("name", CASES)
def test_a_run_of_one_step_has_a_rate(name):
    at = At(torch.tensor([[LR]]), torch.zeros(1), 1, 1, [[]])
    assert 0 < option(name)[0](at, **CASES[name][0]).item() <= LR * (1 + 1e-6)


# ---------------------------------------------------------------- stacks and warm-up, of every one


@pytest.mark.parametrize("name", CASES)
def test_members_with_their_own_settings_equal_solo_runs(name):
    """Every number may be a column, the warm-up's length too; rows never mix."""
    schedule, settings = option(name)[0], CASES[name][0]
    numbers = {key for key, value in settings.items() if isinstance(value, int | float)}
    scales, warmups, lr = (1.0, 0.5, 0.75), (0.0, 2.5, 40.0), [[0.1], [0.2], [0.4]]
    solo = [settings | {key: settings[key] * scale for key in numbers} for scale in scales]
    columns = {k: torch.tensor([[m[k]] for m in solo], dtype=torch.float64) for k in numbers}
    warmup = torch.tensor(warmups, dtype=torch.float64)[:, None]
    stack = partial(schedules.warm_up, partial(schedule, **settings | columns), warmup=warmup)
    together = rates(stack, lr)
    for r, member in enumerate(solo):
        alone = partial(schedules.warm_up, partial(schedule, **member), warmup=warmups[r])
        torch.testing.assert_close(together[r : r + 1], rates(alone, lr[r : r + 1]))


@pytest.mark.parametrize("name", CASES)
def test_after_the_warm_up_comes_the_schedule_of_a_shorter_run(name):
    """2.5 epochs are 10 steps; the first epoch with none of them, and so plateau's first, is 3."""
    schedule = partial(option(name)[0], **CASES[name][0])
    warmed = rates(partial(schedules.warm_up, schedule, warmup=2.5))
    assert warmed[0, :10].tolist() == pytest.approx([LR * (t + 1) / 10 for t in range(10)])
    assert torch.equal(warmed[:, 10:], rates(schedule, total=TOTAL - 10, first=10, skip=3))


@pytest.mark.parametrize("name", CASES)
def test_no_warm_up_changes_nothing(name):
    schedule = partial(option(name)[0], **CASES[name][0])
    for nothing in (0, 0.0, torch.zeros(1, 1, dtype=torch.float64)):
        assert torch.equal(
            rates(partial(schedules.warm_up, schedule, warmup=nothing)), rates(schedule)
        )


@pytest.mark.parametrize(
    ("warmup", "steps_per_epoch", "length"),
    [(1.0, 10, 10), (0.55, 100, 55), (0.25, 10, 3), (0.01, 10, 1), (3, 7, 21)],
)
def test_length_of_the_warm_up(warmup, steps_per_epoch, length):
    lr = torch.ones(1, 1, dtype=torch.float64)
    at = At(lr, torch.arange(60.0), 60, steps_per_epoch, [[]])
    warmed = schedules.warm_up(schedules.constant, at, warmup=warmup)[0]
    assert int((warmed < 1).sum()) + 1 == length
    assert warmed[0] == pytest.approx(1 / length)


@pytest.mark.parametrize("warmup", [1.0, 99.0])
def test_no_schedule_is_asked_about_a_time_before_its_own_run(warmup):
    asked = []
    rates(partial(schedules.warm_up, lambda at: asked.append(at.steps) or at.lr, warmup=warmup))
    assert torch.cat(asked).min() == 0
