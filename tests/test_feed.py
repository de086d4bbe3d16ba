"""Where the batches come from: memory or a loader, the same either way; and streams in order."""

from contextlib import contextmanager
from itertools import count
from multiprocessing import reduction

import numpy as np
import pytest
import torch

from trainlab import data, run
from trainlab.config import UserError, compose
from trainlab.data.examples import Examples

CPU = torch.device("cpu")


@pytest.fixture
def rows(tmp_path):
    """metrics.csv of a run, less its clock."""

    def train(name, *overrides):
        config = compose(
            [
                "quiet=true",
                f"output_dir={tmp_path / name}",
                "epochs=3",
                "max_examples=300",
                *overrides,
            ]
        )
        (outcome,) = run.train([config])
        assert outcome.status == "done", outcome.reason
        lines = (outcome.run.path / "metrics.csv").read_text().splitlines()
        return [line.split(",")[:-2] for line in lines], outcome.run.id

    return train


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        ["dataset=diabetes"],
        [
            "arch=cnn",
            "norm=batch",
            "norm.exact=true",
            "augment=[crop,mixup]",
            "augment.crop.padding=1",
        ],
        ["preprocess=pca_whiten", "preprocess.pca_whiten.components=9", "act=selu"],
    ],
    ids=lambda recipe: "+".join(recipe) or "default",
)
def test_streamed_runs_equal_runs_in_memory(rows, recipe):
    inside = rows("inside", "in_memory=true", *recipe)
    for workers in (0, 2):
        streamed = rows(f"{workers}", "in_memory=false", f"loader_workers={workers}", *recipe)
        assert streamed == inside


def test_loaders_fetch_nothing_from_a_process_that_may_be_killed(rows, monkeypatch):
    offered, offer = [], reduction.DupFd  # a tensor's memory, to whoever comes for it

    def noted(descriptor):
        offered.append(descriptor)
        return offer(descriptor)

    monkeypatch.setattr(reduction, "DupFd", noted)
    rows("a", "in_memory=false", "loader_workers=1")
    assert offered == []


def test_a_stack_is_streamed_too(tmp_path):
    def train(name, *overrides):
        common = [f"output_dir={tmp_path / name}", "quiet=true", "epochs=2", "max_examples=200"]
        configs = [compose([*common, *overrides, f"seed={seed}"]) for seed in range(3)]
        return [outcome.run.result()["val_loss"] for outcome in run.train(configs)]

    assert train("a", "in_memory=false", "loader_workers=1") == train("b", "in_memory=true")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_streamed_run_interrupted_within_an_epoch_ends_with_the_same_bits(
    tmp_path, monkeypatch, workers
):
    def train(name, typed):
        common = [f"output_dir={tmp_path / name}", "quiet=true", "epochs=3", "max_examples=300"]
        (outcome,) = run.train([compose([*common, "norm=batch", "reg.dropout=0.2", *typed])])
        return outcome

    @contextmanager
    def interruption():
        looks = count()
        yield lambda: next(looks) >= 13  # of 7 steps an epoch

    def checkpoint(outcome):
        path = outcome.run.path / "checkpoints" / "last.pt"
        return torch.load(path, weights_only=True)

    streamed = ["in_memory=false", f"loader_workers={workers}"]
    whole = train("whole", ["in_memory=true"])
    with monkeypatch.context() as patch:
        patch.setattr(run, "interruptible", interruption)
        cut = train("cut", streamed)
    assert cut.status == "stopped"
    assert checkpoint(cut)["epoch"] == 1
    assert 0 < checkpoint(cut)["position"] < 7
    resumed = train("cut", streamed)
    assert resumed.status == "done"
    ours, theirs = (checkpoint(outcome)["model"] for outcome in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def table(missing=()):
    """600 rows of two columns, with gaps in the second."""
    x = torch.randn(600, 2, generator=torch.Generator().manual_seed(0)).numpy()
    x[list(missing), 1] = np.nan
    return Examples(x, np.arange(600) % 2, "binary", ["no", "yes"], columns=("width", "height"))


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_input_that_is_missing_is_named_wherever_it_is(monkeypatch, in_memory):
    """Also where streamed inputs are not among those that preprocessing is fitted on."""
    monkeypatch.setattr(data, "_FITTED_NUMBERS", 100)
    monkeypatch.setattr(data, "_CHECKED_NUMBERS", 64)
    config = compose([f"in_memory={in_memory}", "preprocess=minmax"])
    splits = data.split_of(table(), config)
    unseen = [splits["val"][-1], splits["test"][0]] + [splits["train"][1]] * (not in_memory)
    for row in unseen:
        with pytest.raises(UserError, match=f"'height' of example {row + 1} .*impute"):
            data.prepare(table([row]), config, CPU)
    with pytest.raises(UserError, match="in column height"):
        data.prepare(table(splits["train"]), config, CPU)
    filled = data.prepare(table(unseen), compose([f"in_memory={in_memory}"]), CPU)
    assert filled.inputs(torch.arange(600)).isfinite().all()


def test_what_does_not_fit_is_streamed(monkeypatch):
    config = compose([])
    examples = data.read(config)
    monkeypatch.setattr(data, "free_memory", lambda: 12 * examples.x.size + 1)
    assert data.fits(examples, config, CPU)
    assert data.prepare(examples, config, CPU).x is not None
    monkeypatch.setattr(data, "free_memory", lambda: 12 * examples.x.size - 1)
    assert not data.fits(examples, config, CPU)
    assert data.prepare(examples, config, CPU).x is None
    monkeypatch.setattr(data, "free_memory", lambda: None)  # a system that does not tell
    assert data.fits(examples, config, CPU)


def test_it_is_said_aloud(trainlab, monkeypatch):
    monkeypatch.setattr(data, "free_memory", lambda: 1000)
    answer = trainlab("train", "epochs=1", "max_examples=100")
    assert "read batch by batch" in answer.err
    monkeypatch.undo()
    assert "batch by batch" not in trainlab("train", "epochs=1", "fresh=true").err


# ---------------------------------------------------------------- online


def stream(n=1200):
    """A rule that turns around in the middle of the stream."""
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0)).numpy()
    y = (x[:, 0] > 0).astype(np.int64)
    y[n // 2 :] = 1 - y[n // 2 :]
    return Examples(x, y, "binary", ["no", "yes"])


@pytest.fixture
def online(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "read", lambda config: stream())

    def train(*overrides):
        typed = ["online=true", "epochs=10", "batch_size=10", "arch=linear", "preprocess=none"]
        typed += ["quiet=true", f"output_dir={tmp_path}", "optimizer=sgd", "optimizer.lr=0.5"]
        (outcome,) = run.train([compose([*typed, *overrides])])
        path = outcome.run.path / "metrics.csv"
        return np.genfromtxt(path, delimiter=",", names=True)

    return train


def test_the_prequential_error_rises_at_the_change_and_falls_again(online):
    accuracy = online()["train_accuracy"]
    assert len(accuracy) == 10
    assert accuracy[5] > 0.9  # twelve windows of 100; the last before the change is the sixth
    assert accuracy[6] < 0.8
    assert accuracy[9] > 0.9


def test_it_equals_test_then_train_by_hand(online):
    """Logistic regression, every batch predicted before it is learnt."""
    accuracy = online("init=zeros")["train_accuracy"]
    examples = stream()
    w, b, right = np.zeros(3), 0.0, []
    for start in range(0, 1000, 10):
        x, y = examples.x[start : start + 10].astype(float), examples.y[start : start + 10]
        logit = x @ w + b
        right += list((logit > 0) == y)
        error = 1 / (1 + np.exp(-logit)) - y
        w -= 0.5 * error @ x / 10
        b -= 0.5 * error.mean()
    np.testing.assert_allclose(accuracy, np.reshape(right, (10, 100)).mean(1), atol=1e-6)


def test_validation_is_the_next_window_and_the_test_the_last():
    config = compose(["online=true", "epochs=10", "preprocess=none"])
    prepared = data.prepare(stream(), config, CPU)
    assert prepared.windows.shape == (12, 100)
    assert prepared.windows.flatten().tolist() == list(range(1200))
    assert prepared.splits["test"].tolist() == list(range(1100, 1200))


def test_a_stream_too_short():
    with pytest.raises(UserError, match="too few"):
        data.prepare(stream(20), compose(["online=true", "epochs=10"]), CPU)


def test_preprocessing_is_fitted_on_the_first_window():
    examples = stream()
    examples.x += np.arange(1200, dtype=np.float32)[:, None]
    config = compose(["online=true", "epochs=10", "preprocess=center"])
    prepared = data.prepare(examples, config, CPU)
    np.testing.assert_allclose(prepared.x[:100].mean(0), 0, atol=1e-3)
