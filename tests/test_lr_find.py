"""The range test: its curve on losses of known shape, and the command on real runs."""

import math

import pytest

from trainlab.config import UserError, compose
from trainlab.lr_find import curve
from trainlab.store import Run

RATES = [10 ** (k / 40 - 6) for k in range(281)]  # 1e-6 … 10


def fall(rate, centre):
    """2.3 down to 0.3, steepest in log(rate) at `centre`."""
    return 0.3 + 2 / (1 + (rate / centre) ** 1.5)


@pytest.mark.parametrize("centre", [1e-4, 1e-2])
def test_suggests_the_steepest_fall_and_ends_at_the_rise(centre):
    losses = [fall(rate, centre) + (rate / (300 * centre)) ** 4 for rate in RATES]
    found = curve(RATES, losses)
    assert centre / 1.5 < found.suggested < 1.5 * centre
    assert found.suggested < found.lowest < 300 * centre
    assert found.lr[-1] < 3000 * centre


def test_a_loss_that_is_not_finite_ends_the_curve():
    losses = [fall(rate, 1e-4) if rate < 1e-2 else math.nan for rate in RATES]
    assert curve(RATES, losses).lr[-1] < 1e-2


def test_a_loss_that_never_falls():
    with pytest.raises(UserError, match="never fell"):
        curve(RATES, [1.0 + rate for rate in RATES])
    with pytest.raises(UserError, match="never fell"):
        curve(RATES, [math.nan] * len(RATES))


def test_the_command_gives_an_override_that_trains_well(trainlab):
    answer = trainlab("lr-find", "optimizer=momentum", "arch.hidden=[50]")
    assert answer.code == 0, answer.err
    assert "steepest" in answer.err
    override = answer.out.strip()
    suggested = float(override.removeprefix("optimizer.lr="))
    assert 1e-3 < suggested < 0.3

    def loss(rate):
        typed = ["optimizer=momentum", "arch.hidden=[50]", "epochs=5", f"optimizer.lr={rate}"]
        run = trainlab("train", *typed)
        return run.result["val_loss"] if run.code == 0 else math.inf

    assert loss(suggested) < 0.5 * loss(suggested / 100)
    again = trainlab("lr-find", "optimizer=momentum", "arch.hidden=[50]")
    assert again.out == answer.out  # from the run that is there


def test_every_step_is_in_steps_csv(trainlab):
    answer = trainlab("train", "epochs=3", "max_examples=150", "log_steps=true")
    lines = (answer.path / "steps.csv").read_text().splitlines()
    assert lines[0] == "step,lr,loss"
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(
        range(1, answer.result["steps"] + 1)
    )


def test_usage(trainlab):
    assert "Usage" in trainlab("lr-find", "-m").err
    for wrong in ("schedule=cosine", "schedule.warmup=2", "log_steps=false"):
        assert "sets" in trainlab("lr-find", wrong).err
    for wrong in ("optimizer.lr=0", "optimizer=rprop"):
        assert "lr above 0" in trainlab("lr-find", wrong).err


def test_a_resumed_run_keeps_the_steps_before_its_checkpoint(folder):
    run = Run(compose([]), "0123456789")
    run.acquire()
    run.start([])
    run.log_steps({"step": step, "lr": 0.1, "loss": 1.0} for step in range(1, 6))
    run.start([], step=3)
    run.log_steps([{"step": 4, "lr": 0.1, "loss": 2.0}])
    run.release()
    lines = (run.path / "steps.csv").read_text().splitlines()
    assert lines == ["step,lr,loss", *(f"{k},0.1,1.0" for k in (1, 2, 3)), "4,0.1,2.0"]
