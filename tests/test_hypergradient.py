"""The gradient through training: against finite differences of whole descents, in float64."""

import copy
import dataclasses
import itertools
import math

import pytest
import torch

from trainlab import run, step
from trainlab.config import UserError, compose, options
from trainlab.hypergradient import descend, learnt
from trainlab.prepare import Sources

SOURCES = Sources()
H = 1e-5  # of a difference: adam's first steps g/|g| turn sharply where g is small
SMALL = ["max_examples=150", "batch_size=16", "arch.hidden=[12,8]", "act=gelu"]
IMAGES = [*SMALL[:2], "arch=cnn", "arch.channels=[3,4]", "arch.dense=8"]
REFUSED = {"rprop", "lbfgs", "muon"}


def examples_of(config):
    return SOURCES.data(config, torch.device("cpu"))


@pytest.fixture
def float64(monkeypatch):
    """Everything in float64, so that differences have digits enough."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    step._mean_of.cache_clear()
    yield
    torch.set_default_dtype(torch.float32)
    step._mean_of.cache_clear()


def first_row(config, data, k):
    (row,) = descend(config, data, unroll=k, steps=k)
    return row


def moved(config, key, by):
    group, name = key.split(".")
    other = copy.deepcopy(config)
    other[group][name] *= math.exp(by)
    return other


def check_against_differences(overrides, k=5):
    config = compose(["optimizer.lr=0.01", "reg.weight_decay=0.5", *overrides])
    data = examples_of(config)
    y = data.y.double() if data.y is not None and data.y.is_floating_point() else data.y
    data = dataclasses.replace(data, x=data.x.double(), y=y)
    row = first_row(config, data, k)
    for key in learnt(config):
        high, low = (first_row(moved(config, key, h), data, k)["val_loss"] for h in (H, -H))
        slope = row["d_" + key.split(".")[1]]
        assert slope != 0
        assert slope == pytest.approx((high - low) / (2 * H), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("option", [name for name in options("optimizer") if name not in REFUSED])
@pytest.mark.usefixtures("float64")
def test_equals_differences_with_every_optimizer(option):
    size = [override for override in SMALL if option != "gd" or "batch" not in override]
    check_against_differences([*size, f"optimizer={option}"])


@pytest.mark.parametrize("option", ["adamw", "lion", "schedule_free"])
@pytest.mark.usefixtures("float64")
def test_equals_differences_in_the_optimizers_own_weight_decay(option):
    own = [f"optimizer={option}", "optimizer.weight_decay=0.3", "reg.weight_decay=0"]
    assert learnt(compose(own)) == ["optimizer.lr", "optimizer.weight_decay"]
    check_against_differences([*SMALL, *own])


@pytest.mark.parametrize(
    "overrides",
    [
        [*SMALL, "act=relu"],
        [*SMALL, "act=tanh"],
        [*SMALL, "norm=batch"],
        [*SMALL, "norm=layer"],
        [*SMALL, "norm=weight"],
        [*SMALL, "reg=dropout"],
        [*SMALL, "reg=[l1,l2,max_norm,label_smoothing,gradient_noise]", "reg.weight_decay=0"],
        [*SMALL, "clip=norm", "clip.max=0.5"],
        [*SMALL, "clip=agc"],
        [*SMALL, "schedule=cosine", "schedule.warmup=0.3"],
        [*SMALL, "schedule=one_cycle"],
        [*SMALL, "accumulate=2"],
        [*SMALL, "lr_multipliers={1.*: 0.3}"],
        [*SMALL, "dataset=diabetes"],
        [*SMALL, "arch=ensemble"],
        [*SMALL[:2], "arch=autoencoder", "act=gelu"],
        [*SMALL[:2], "arch=linear", "dataset=diabetes", "loss=mae"],
        IMAGES,
        [*IMAGES, "norm=batch"],
        [*IMAGES, "augment=cutout", "act=prelu"],
    ],
    ids=lambda overrides: " ".join(overrides[-2:]),
)
@pytest.mark.usefixtures("float64")
def test_equals_differences_with_every_recipe(overrides):
    check_against_differences(overrides)


@pytest.mark.parametrize("option", ["adam", "nesterov", "schedule_free"])
def test_without_hyper_lr_it_is_plain_training(option, folder):
    config = compose([*SMALL, f"optimizer={option}", "epochs=2", "reg=weight_decay"])
    rows = descend(config, examples_of(config), unroll=7, hyper_lr=0.0)  # 105 examples an epoch
    (outcome,) = run.train([config])
    assert rows[-1]["step"] == outcome.run.result()["steps"]
    history = (outcome.run.path / "metrics.csv").read_text().splitlines()
    names, last = history[0].split(","), history[-1].split(",")
    assert rows[-1]["val_loss"] == pytest.approx(float(last[names.index("val_loss")]), rel=1e-4)


@pytest.mark.parametrize(("option", "usual"), [("sgd", 0.1), ("adam", 1e-3)])
def test_a_rate_30_times_too_small_grows_into_the_useful_range(option, usual):
    for seed in range(3):
        overrides = [f"optimizer={option}", f"optimizer.lr={usual / 30}", f"seed={seed}"]
        config = compose([*overrides, "arch.hidden=[32]", "epochs=6"])
        data = examples_of(config)
        rows = descend(config, data, unroll=5)
        fixed = descend(config, data, unroll=5, hyper_lr=0.0)
        assert usual / 5 < rows[-1]["lr"] < usual * 5
        assert rows[-1]["val_loss"] < 0.6 * fixed[-1]["val_loss"]
        assert fixed[-1]["lr"] == pytest.approx(usual / 30)


def test_steps_that_diverge_are_taken_back():
    config = compose([*SMALL, "optimizer=sgd", "optimizer.lr=1e4", "epochs=20"])
    rows = descend(config, examples_of(config))
    rates = [row["lr"] for row in rows]
    assert rates[1] == pytest.approx(rates[0] / 2)
    assert rates[-1] < 10
    assert rows[-1]["val_loss"] < rows[0]["val_loss"] or not math.isfinite(rows[0]["val_loss"])
    assert math.isfinite(rows[-1]["val_loss"])


def test_the_same_twice_and_told_of_every_row():
    config, told = compose([*SMALL, "reg=[weight_decay,dropout]", "epochs=2"]), []
    data = examples_of(config)
    rows = descend(config, data, show=lambda row, share: told.append((row, share)))
    assert descend(config, data) == rows == [row for row, _ in told]
    assert list(rows[0]) == ["step", "lr", "weight_decay", "val_loss", "d_lr", "d_weight_decay"]
    assert [row["step"] for row in rows] == [10, 14]
    assert told[-1][1] == 1
    for before, after in itertools.pairwise(rows):
        for name in ("lr", "weight_decay"):
            assert abs(math.log(after[name] / before[name])) <= 0.1 + 1e-9


def test_ends_where_it_is_asked_to():
    config = compose(SMALL)
    assert descend(config, examples_of(config), interrupted=lambda: True) == []


def test_a_weight_decay_of_zero_stays():
    config = compose([*SMALL, "epochs=1"])
    assert learnt(config) == ["optimizer.lr"]
    assert "weight_decay" not in descend(config, examples_of(config))[0]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        *[([f"optimizer={name}"], f"optimizer={name}") for name in sorted(REFUSED)],
        (["optimizer.lr=0"], "no logarithm"),
        (["schedule=plateau"], "metrics"),
        (["act=step"], "stands in"),
        (["act=hard_sigmoid"], "second derivatives, and derivative for aten::hardsigmoid"),
        (["online=true", "dataset=drift"], "other examples"),
        (["precision=fp16"], "leaves steps out"),
        (["norm=spectral"], "side by side"),
    ],
)
def test_refuses_what_has_no_gradient(overrides, reason):
    size = [o for o in SMALL[2:] if o.split("=")[0] not in " ".join(overrides)]
    config = compose([*size, "reg.weight_decay=0.1", *overrides])
    with pytest.raises(UserError, match=reason):
        descend(config, examples_of(config))
