"""kill -9 at every writing of a run, at many of a sweep and a search, and at random moments:
the same command ends with the bits of the undisturbed one, and every run is there once."""

import shutil
import time
from pathlib import Path

import pytest
from children import died
from test_storage import left_by

from trainlab import cli

pytestmark = pytest.mark.reliability

SMALL = ["train", "-q", "max_examples=120", "arch.hidden=[8]"]
EVERY = ["checkpoint.every=1", "checkpoint.unit=epochs"]
COMMANDS = {
    "run": [*SMALL, *EVERY, "norm=batch", "reg.dropout=0.2", "epochs=3", "log_steps=true"],
    "sweep": [*SMALL, *EVERY, "-m", "optimizer=momentum,adam", "seed=0,1", "epochs=2"],
    "sqlite": [
        *SMALL, "search=tpe", "search.storage=sqlite", "search.trials=5", "search.batch=1",
        "search.startup=2", "epochs=1", "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    ],
    "journal": [
        *SMALL, "search=random", "search.storage=journal", "search.trials=5", "search.batch=2",
        "search.halving=successive", "search.min_epochs=1", "epochs=3",
        "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    ],
}  # fmt: skip
# Every so many writings: a search writes hundreds of times, a run and a sweep are tried at each.
STEPS = {"run": 1, "sweep": 3, "sqlite": 9, "journal": 9}
RECIPES = [
    "optimizer=momentum norm=batch epochs=4",
    "optimizer=nesterov reg.dropout=0.3 epochs=4",
    "optimizer=adam act=rrelu epochs=4",
    "optimizer=adamw reg.gradient_noise=0.1 epochs=4",
    "optimizer=momentum schedule=plateau epochs=5",
    "optimizer=lbfgs epochs=3",
    "optimizer=muon precision=bf16 epochs=3",
    "optimizer=schedule_free norm=batch epochs=4",
    "optimizer=momentum arch=cnn norm=batch augment=mixup epochs=2",
    "optimizer=adam arch=ensemble epochs=3",
    "optimizer=sgd stop=early stop.patience=1 optimizer.lr=0.3 epochs=20",
    "optimizer=momentum accumulate=2 schedule=cosine schedule.warmup=1 epochs=4",
    "optimizer=sgd dataset=drift online=true epochs=6 max_examples=600",
    "optimizer=momentum in_memory=false loader_workers=0 epochs=3",
    "optimizer=sgd dataset=toy_corpus arch=skipgram loss=negative_sampling epochs=3",
]


def begun_anew() -> None:
    shutil.rmtree("outputs", ignore_errors=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_writing(folder, trainlab, tally, name):
    command = COMMANDS[name]
    assert trainlab(*command).code == 0
    whole = left_by(Path("outputs"))
    writing = 0
    while True:
        begun_anew()
        if not died(lambda: cli.main(command), at_writing=writing):
            break
        tally["kills"] += 1
        assert trainlab(*command).code == 0, f"killed at writing {writing}"
        assert left_by(Path("outputs")) == whole, f"killed at writing {writing}"
        writing += STEPS[name]
    assert tally["kills"] > 10


def test_killed_at_random_moments(folder, trainlab, tally, draw, lasting):
    for number in lasting(0.4):
        recipe = RECIPES[number % len(RECIPES)].split()
        if not any(text.startswith("max_examples") for text in recipe):
            recipe.append("max_examples=150")
        command = ["train", "-q", *EVERY, *recipe, f"seed={number}"]
        begun_anew()
        start = time.monotonic()
        assert trainlab(*command).code == 0
        lasted = time.monotonic() - start
        whole = left_by(Path("outputs"))
        begun_anew()
        for _ in range(2):
            moment = draw.uniform(0, lasted)
            tally["kills"] += died(lambda c=command: cli.main(c), after=moment)
        assert trainlab(*command).code == 0, command
        assert left_by(Path("outputs")) == whole, command
        tally["runs"] += 1
    assert tally["kills"] >= 2 or tally["runs"] < 3
