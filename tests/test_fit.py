"""The loop against a loop written by hand, and against itself interrupted, split and stacked."""

import csv
import math

import pytest
import torch
import torch.nn.functional as F

from trainlab import data, prepare, run, streams
from trainlab.config import compose


@pytest.fixture
def train(tmp_path):
    """Train composed configs quietly in a folder of their own; their outcomes."""

    def call(*overrides, sweep=({},), name="runs"):
        common = [*overrides, "quiet=true", f"output_dir={tmp_path}", f"study={name}", "device=cpu"]
        configs = [compose([*common, *(f"{k}={v}" for k, v in each.items())]) for each in sweep]
        return run.train(configs)

    return call


def metrics(outcome):
    with open(outcome.run.path / "metrics.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def weights(outcome, which="last"):
    path = outcome.run.path / "checkpoints" / f"{which}.pt"
    return torch.load(path, weights_only=True)["model"]


def numbers(outcome):
    result = outcome.run.result()
    return {k: v for k, v in result.items() if k != "seconds" and isinstance(v, int | float)}


def same_weights(one, other):
    one, other = weights(one), weights(other)
    return all(torch.equal(one[name], other[name]) for name in one)


def by_hand(config, make_optimizer, epochs):
    """The plain PyTorch loop on the same work: train_loss, val_loss, val_accuracy per epoch."""
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    model = prepare.build_model(config, examples)
    optimizer = make_optimizer(model.parameters())
    train, val = examples.splits["train"], examples.splits["val"]
    rows = []
    for epoch in range(epochs):
        order = train[
            torch.randperm(len(train), generator=streams.stream(config["seed"], "order", epoch))
        ]
        model.train()
        total = 0.0
        for index in order.split(config["batch_size"]):
            loss = F.cross_entropy(model(examples.x[index]), examples.y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
        model.eval()
        with torch.no_grad():
            outputs = model(examples.x[val])
            val_loss = F.cross_entropy(outputs, examples.y[val]).item()
            accuracy = (outputs.argmax(1) == examples.y[val]).float().mean().item()
        rows.append((total / len(train), val_loss, accuracy))
    return rows


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    ("overrides", "make"),
    [
        (
            ["optimizer=momentum", "optimizer.lr=0.02"],
            lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
        ),
        (["optimizer=adam"], lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-7)),
    ],
)
def test_equals_a_plain_torch_loop(train, overrides, make, norm):
    # Standardized per feature: a pixel that is constant but not 0 has a gradient of nothing but
    # rounding under batch norm, which adam would blow up to whole steps.
    overrides = [*overrides, f"norm={norm}", "preprocess=standardize", "epochs=3", "seed=4"]
    (outcome,) = train(*overrides)
    expected = by_hand(compose(overrides), make, 3)
    rows = [(r["train_loss"], r["val_loss"], r["val_accuracy"]) for r in metrics(outcome)]
    for row, plain in zip(rows, expected, strict=True):
        assert row == pytest.approx(plain, abs=1e-6)


SWEEP = [{"seed": s, "optimizer.lr": lr} for s in range(3) for lr in (0.001, 0.01)]


@pytest.mark.parametrize(
    "overrides", [[], ["norm=layer", "clip=norm"], ["dataset=diabetes", "act=tanh"]]
)
def test_a_sweep_gives_the_same_rows_stacked_unstacked_and_in_another_order(train, overrides):
    common = ["epochs=2", "max_examples=400", *overrides]
    solo = train(*common, "stack=1", sweep=SWEEP, name="solo")
    stacked = train(*common, "stack=16", sweep=SWEEP, name="stacked")
    mixed = train(*common, "stack=4", sweep=SWEEP[::-1], name="mixed")[::-1]
    for one, *others in zip(solo, stacked, mixed, strict=True):
        for other in others:
            assert one.run.id == other.run.id
            assert one.status == other.status == "done"
            a, b = (numbers(outcome) for outcome in (one, other))
            assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


class Interrupt:
    """Asks the loop to stop the n-th time it looks."""

    def __init__(self, looks):
        self.looks = looks

    def __call__(self):
        self.looks -= 1
        return self.looks < 0


def interrupted_and_resumed(train, monkeypatch, looks, *overrides, sweep=({},)):
    from contextlib import contextmanager

    @contextmanager
    def interruption():
        yield Interrupt(looks)

    with monkeypatch.context() as patch:
        patch.setattr(run, "interruptible", interruption)
        first = train(*overrides, sweep=sweep, name="broken")
    assert {outcome.status for outcome in first} == {"stopped"}
    return train(*overrides, sweep=sweep, name="broken")


@pytest.mark.parametrize("looks", [0, 5, 39, 44, 100])
@pytest.mark.parametrize(
    "overrides",
    [
        ["norm=batch", "optimizer=adam", "schedule=plateau"],
        ["optimizer=adadelta", "precision=fp16"],
    ],
)
def test_an_interrupted_run_goes_on_exactly(train, monkeypatch, looks, overrides):
    """In the middle of an epoch or at its end: weights and rows are the undisturbed run's."""
    overrides = ["epochs=3", *overrides]
    (whole,) = train(*overrides, name="whole")
    (resumed,) = interrupted_and_resumed(train, monkeypatch, looks, *overrides)
    assert resumed.status == "done"
    assert same_weights(whole, resumed)
    for a, b in zip(metrics(whole), metrics(resumed), strict=True):
        for row in (a, b):
            row.pop("seconds"), row.pop("examples_per_second")
        assert a == b
    assert numbers(whole) == numbers(resumed)


def test_an_interrupted_stack_goes_on_exactly(train, monkeypatch):
    whole = train("epochs=2", sweep=SWEEP, name="whole")
    resumed = interrupted_and_resumed(train, monkeypatch, 50, "epochs=2", sweep=SWEEP)
    assert all(same_weights(a, b) for a, b in zip(whole, resumed, strict=True))


def test_accumulation_changes_memory_not_the_step(train):
    (whole,) = train("epochs=2", "batch_size=48", name="whole")
    (parts,) = train("epochs=2", "batch_size=48", "accumulate=5", name="parts")
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(parts)[name], rtol=1e-4, atol=1e-5)


def test_full_batch_takes_one_step_an_epoch(train):
    (outcome,) = train("epochs=4", "batch_size=all", "optimizer=sgd", "optimizer.lr=0.1")
    assert [row["step"] for row in metrics(outcome)] == [1, 2, 3, 4]
    expected = by_hand(
        compose(["optimizer=sgd"]) | {"batch_size": 10**6}, lambda p: torch.optim.SGD(p, lr=0.1), 4
    )
    assert metrics(outcome)[-1]["train_loss"] == pytest.approx(expected[-1][0], abs=1e-5)


def test_a_member_that_diverges_leaves_the_others_untouched(train):
    sweep = [{"optimizer.lr": lr} for lr in (0.01, 1e6, 0.02)]
    common = ["optimizer=momentum", "epochs=3"]
    together = train(*common, sweep=sweep, name="together")
    assert [outcome.status for outcome in together] == ["done", "diverged", "done"]
    for outcome, each in zip(together, sweep, strict=True):
        (alone,) = train(*common, sweep=[each], name="alone")
        assert alone.status == outcome.status
        if outcome.status == "done":
            assert same_weights(alone, outcome)
    result = together[1].run.result()
    assert result["diverged_at_step"] <= 10
    assert "test_loss" not in result
    assert "optimizer.lr=100000" in together[1].reason


def test_a_run_that_diverges_late_says_what_it_was_worth(train):
    (outcome,) = train(
        "optimizer=sgd", "optimizer.lr=0.05", "schedule=exponential", "schedule.k=0", "epochs=2"
    )
    assert outcome.status == "done"
    (outcome,) = train("optimizer=sgd", "optimizer.lr=0.001", "schedule=step", "schedule.every=1",
                       "schedule.factor=1e9", "epochs=4")  # fmt: skip
    assert outcome.status == "diverged"
    result = outcome.run.result()
    assert result["best_epoch"] == 1
    assert result["val_loss"] == metrics(outcome)[0]["val_loss"]
    steps = metrics(outcome)[0]["step"]
    assert steps < result["diverged_at_step"] <= 2 * steps
    assert "last good epoch" in outcome.reason


def test_early_stopping_keeps_the_best_weights(train):
    (outcome,) = train(
        "stop=early", "stop.patience=2", "epochs=60", "optimizer.lr=0.02", "max_examples=300"
    )
    rows, result = metrics(outcome), outcome.run.result()
    best = min(rows, key=lambda row: row["val_loss"])
    assert result["best_epoch"] == best["epoch"] == len(rows) - 2
    assert len(rows) < 60
    assert result["val_loss"] == pytest.approx(best["val_loss"], rel=1e-5)
    assert not all(torch.equal(weights(outcome, "best")[k], v) for k, v in weights(outcome).items())


def test_members_stop_early_one_by_one_as_alone(train):
    common = ["stop=early", "stop.patience=1", "epochs=40", "max_examples=300"]
    sweep = [{"seed": s, "optimizer.lr": lr} for s in range(2) for lr in (0.003, 0.03)]
    together = train(*common, sweep=sweep, name="together")
    alone = train(*common, "stack=1", sweep=sweep, name="alone")
    assert len({outcome.run.result()["epochs"] for outcome in alone}) > 1
    for a, b in zip(together, alone, strict=True):
        assert a.run.result()["epochs"] == b.run.result()["epochs"]
        assert a.run.result()["val_loss"] == pytest.approx(b.run.result()["val_loss"], rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_nearly_as_well(train, precision):
    full = train("epochs=4", name="full")[0].run.result()["val_accuracy"]
    low = train("epochs=4", f"precision={precision}", name="low")[0].run.result()["val_accuracy"]
    assert low == pytest.approx(full, abs=0.03)


def test_fp16_overflow_takes_the_step_back_and_halves_the_scale(train):
    """As torch's GradScaler does."""
    from trainlab.stack import Stack
    from trainlab.state import begin
    from trainlab.step import _overflow_guard

    stack = Stack([torch.nn.Linear(2, 1) for _ in range(2)])
    progress = begin(stack, scaling=True)
    progress.optimizer["m"].fill_(3.0)
    before = stack.w.clone()
    stack.g[0] = 2.0**16
    stack.g[1] = math.inf
    with torch.no_grad(), _overflow_guard(stack, progress):
        assert stack.g[0].tolist() == [1.0] * 3
        stack.w -= stack.g
        progress.optimizer["m"] += 1
    assert torch.equal(stack.w[0], before[0] - 1)
    assert torch.equal(stack.w[1], before[1])
    assert progress.optimizer["m"].tolist() == [[4.0] * 3, [3.0] * 3]
    assert progress.scale.tolist() == [2.0**16, 2.0**15]


def test_metrics_have_the_promised_columns(train):
    (outcome,) = train("epochs=2", "clip=value", "schedule=cosine")
    rows = metrics(outcome)
    assert list(rows[0]) == [
        "epoch",
        "step",
        "lr",
        "train_loss",
        "train_accuracy",
        "train_balanced_accuracy",
        "train_f1",
        "val_loss",
        "val_accuracy",
        "val_balanced_accuracy",
        "val_f1",
        "grad_norm",
        "seconds",
        "examples_per_second",
    ]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1]["lr"] < 1e-9
    assert rows[0]["grad_norm"] > 0
    assert 0 < rows[0]["seconds"] < rows[1]["seconds"]
    names = "run_id status test_accuracy test_loss val_accuracy val_loss train_accuracy train_loss "
    names += "best_epoch epochs steps seconds parameters seed"
    assert set(names.split()) <= set(outcome.run.result())


def test_binary_and_regression(train):
    moons = train("dataset=moons", "epochs=30", "optimizer.lr=0.01", name="moons")[0].run.result()
    assert moons["test_accuracy"] > 0.93
    diabetes = train("dataset=diabetes", "arch=linear", "epochs=60", name="diabetes")[
        0
    ].run.result()
    assert diabetes["test_r2"] > 0.3
    assert 30 < diabetes["test_mae"] < 60  # in the target's own units


def test_regression_metrics_equal_scikit_learn(train):
    from sklearn.metrics import mean_absolute_error, r2_score

    (outcome,) = train("dataset=diabetes", "arch=linear", "epochs=5")
    config = outcome.run.config
    raw = data.read(config)
    examples = data.prepare(raw, config, torch.device("cpu"))
    model = prepare.build_model(config, examples)
    model.load_state_dict(weights(outcome, "best"))
    test, train_split = examples.splits["test"], examples.splits["train"]
    y = torch.from_numpy(raw.y)
    with torch.no_grad():
        predicted = model(examples.x[test]) * y[train_split].std(0, correction=0) + y[
            train_split
        ].mean(0)
    result = outcome.run.result()
    assert result["test_r2"] == pytest.approx(r2_score(y[test], predicted), abs=1e-5)
    assert result["test_mae"] == pytest.approx(mean_absolute_error(y[test], predicted), rel=1e-5)


def test_the_test_split_is_evaluated_once(train, monkeypatch):
    from trainlab import fit

    seen, evaluate = [], fit.evaluate

    def spy(stack, examples, split, *rest, **more):
        seen.append(split)
        return evaluate(stack, examples, split, *rest, **more)

    monkeypatch.setattr(fit, "evaluate", spy)
    train("epochs=3")
    assert seen.count("test") == 1
    assert seen.index("test") == 3


def test_checkpoints_load_into_an_ordinary_module(train):
    outcomes = train("epochs=1", "norm=batch", sweep=SWEEP[:3])
    config = outcomes[1].run.config
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    model = prepare.build_model(config, examples)
    model.load_state_dict(weights(outcomes[1], "best"))
    model.eval()
    with torch.no_grad():
        right = (model(examples.x[examples.splits["test"]]).argmax(1)
                 == examples.y[examples.splits["test"]])  # fmt: skip
    assert right.float().mean().item() == pytest.approx(outcomes[1].run.result()["test_accuracy"])


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_last_batch_of_one_example_is_left_out(train, norm):
    """Batch norm cannot train on one example, and whether there is one is nobody's business."""
    (outcome,) = train(
        "max_examples=93", "batch_size=6", "epochs=1", f"norm={norm}", "arch.hidden=[8]"
    )
    split = data.prepare(
        data.read(outcome.run.config), outcome.run.config, torch.device("cpu")
    ).splits
    assert len(split["train"]) % 6 == 1
    assert outcome.status == "done", outcome.reason
    assert outcome.run.result()["steps"] == len(split["train"]) // 6


@pytest.mark.parametrize(
    "sweep",
    [
        [{"clip": "norm", "clip.max": m} for m in (0.1, 1.0)],
        [{"schedule": "exponential", "schedule.k": k} for k in (0.01, 0.1)],
        [{"schedule": "cosine", "schedule.final": f} for f in (0, 0.5)],
        [{"optimizer": "adamw", "optimizer.beta2": b} for b in (0.99, 0.999)],
        [{"optimizer": "sgd", "optimizer.lr": lr, "batch_size": 8} for lr in (0.01, 1e30)],
    ],
)
@pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="other kernels, equal to rounding"
)
def test_stacked_numbers_equal_solo_numbers_exactly(train, sweep):
    solo = train("epochs=2", "max_examples=800", "stack=1", sweep=sweep, name="solo")
    stacked = train("epochs=2", "max_examples=800", "stack=8", sweep=sweep, name="stacked")
    assert [numbers(a) for a in solo] == [numbers(b) for b in stacked]


def test_accumulation_and_batch_norm_meet_without_a_part_of_one(train):
    (outcome,) = train("norm=batch", "accumulate=8", "epochs=1", "batch_size=9")
    assert outcome.status == "done", outcome.reason


def test_r2_of_a_single_example_is_none(train):
    (outcome,) = train("dataset=diabetes", "max_examples=6", "stop.monitor=val_r2", "epochs=2")
    assert outcome.status == "done"
    assert outcome.run.result()["test_r2"] is None
    assert outcome.run.result()["best_epoch"] == 1
