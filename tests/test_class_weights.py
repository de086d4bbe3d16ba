"""Weights of classes in the loss of training: against torch's, scikit-learn's, and solo runs."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from trainlab import tasks
from trainlab.config import UserError, compose, run_id
from trainlab.store import Run
from trainlab.tasks.weights import class_weights

R, N = 2, 30


def data_of(task, y, classes):
    """What is looked at of data; the first N of them are the training split."""
    return SimpleNamespace(
        task=task, y=y, classes=classes, splits={"train": torch.arange(N)}, device=y.device
    )


def uneven(*shape, classes=4):
    """Classes as rare as the numbers of uneven dice, none of the last."""
    torch.manual_seed(1)
    return (torch.rand(*shape) ** 2 * (classes - 1)).long()


def weights_of(task, y, wanted, classes):
    config = {"class_weights": wanted, "online": False}
    return class_weights(config, data_of(task, y, classes))


def test_balanced_weights_equal_scikit_learns():
    y = uneven(50)
    found = weights_of("classification", y, "balanced", list("abcd"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y[:N].numpy())
    np.testing.assert_allclose(found, [*expected, 0], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("wanted", ["balanced", {"b": 3, "c": 0.5}])
@pytest.mark.parametrize("size", [(), (3, 5)], ids=["examples", "pixels"])
def test_weighted_cross_entropy_equals_torchs(size, wanted, smoothing):
    """Each example's loss, and over the whole training split the mean."""
    kind = "segmentation" if size else "classification"
    y = uneven(N, *size)
    data = data_of(kind, y, list("abcd"))
    weights = class_weights({"class_weights": wanted, "online": False}, data)
    outputs = torch.randn(R, N, 4, *size, requires_grad=True)
    loss = tasks.of(data).loss(outputs, y.expand(R, *y.shape), smoothing, weights=weights)
    assert loss.shape == (R, N)
    for r in range(R):
        own = {"weight": weights, "label_smoothing": smoothing}
        each = F.cross_entropy(outputs[r], y, reduction="none", **own).reshape(N, -1).mean(1)
        torch.testing.assert_close(loss[r], each)
        mean = F.cross_entropy(outputs[r], y, **own)
        torch.testing.assert_close(loss[r].mean(), mean)
        gradients = [
            torch.autograd.grad(v, outputs, retain_graph=True)[0] for v in (loss[r].mean(), mean)
        ]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_weighted_logits_equal_torchs(smoothing):
    """With torch's `pos_weight` w_1 / w_0, and as much as a softmax of two classes."""
    y = uneven(N, classes=3)
    data = data_of("binary", y, ["no", "yes"])
    weights = class_weights({"class_weights": "balanced", "online": False}, data)
    logits = torch.randn(R, N, 1)
    loss = tasks.of(data).loss(logits, y.expand(R, N), smoothing, weights=weights)
    target = (y * (1 - smoothing) + smoothing / 2).expand(R, N)
    expected = weights[0] * F.binary_cross_entropy_with_logits(
        logits[..., 0], target, pos_weight=weights[1] / weights[0], reduction="none"
    )
    torch.testing.assert_close(loss, expected)
    two = F.pad(logits, (1, 0)).flatten(0, 1)
    own = {"weight": weights, "label_smoothing": smoothing, "reduction": "none"}
    torch.testing.assert_close(loss.flatten(), F.cross_entropy(two, y.repeat(R), **own))


def test_given_weights_have_the_mean_1_over_the_training_examples():
    y = torch.tensor([0] * 20 + [1] * 10 + [0] * 9)
    found = weights_of("binary", y, {"1": 4}, ["0", "1"])
    torch.testing.assert_close(found, torch.tensor([0.5, 2.0]))  # (20 · 1/2 + 10 · 2) / 30 = 1


@pytest.mark.parametrize(
    ("task", "changed", "message"),
    [
        ("regression", {}, "needs classes, and the task .* is regression"),
        ("multi_label", {}, "is multi_label"),
        ("binary", {"online": True}, "online=true"),
        (
            "binary",
            {"class_weights": {"yess": 2}},
            "yess is no class .*mean yes.*There are no, yes",
        ),
    ],
)
def test_what_has_no_weights_is_refused(task, changed, message):
    config = {"class_weights": "balanced", "online": False} | changed
    with pytest.raises(UserError, match=message):
        class_weights(config, data_of(task, uneven(N), ["no", "yes"]))


def test_weights_decide_the_result_and_none_is_as_if_they_were_not_there():
    bare, none, balanced, given = (
        compose(typed)
        for typed in (
            [],
            ["class_weights=none"],
            ["class_weights=balanced"],
            ["class_weights={1: 2}"],
        )
    )
    assert len({run_id(config, "") for config in (bare, none)}) == 1
    assert len({run_id(config, "") for config in (bare, balanced, given)}) == 3
    del bare["class_weights"]  # a run of an older version
    assert run_id(bare, "") == run_id(none, "")
    mixed = compose(["class_weights={1: 2, a b: 1, T-shirt/top: 3, true: 1}"])
    assert run_id(mixed, "") != run_id(given, "")
    with pytest.raises(UserError, match=r"class_weights.*number > 0"):
        compose(["class_weights={1: -2}"])


@pytest.fixture
def rare(folder):
    """A table of 200 rows, a fifth of them of the class yes, which overlaps with no."""
    draw = np.random.default_rng(0)
    y = np.arange(200) % 5 == 0
    x = draw.normal(size=200) + y
    pd.DataFrame({"x": x, "y": np.where(y, "yes", "no")}).to_csv("rare.csv", index=False)
    return ["dataset=csv", "dataset.path=rare.csv", "dataset.target=y", "arch=linear", "epochs=8"]


def test_weights_move_the_border_and_stacks_equal_solo_runs(trainlab, folder, rare):
    found = {}
    for study, more in {
        "none": [],
        "solo": ["class_weights=balanced", "stack=1"],
        "stack": ["class_weights=balanced", "stack=2"],
    }.items():
        answer = trainlab(
            "train", "-q", "-m", "seed=0,1", "optimizer.lr=0.1", *rare, *more, f"study={study}"
        )
        assert answer.code == 0, answer.err
        found[study] = {
            path.parent.name: pd.read_csv(path) for path in answer.path.glob("*/metrics.csv")
        }
    assert found["solo"].keys() == found["stack"].keys()
    for run, rows in found["solo"].items():
        same = [name for name in rows if "second" not in name]
        pd.testing.assert_frame_equal(rows[same], found["stack"][run][same], check_exact=True)
    recall = {
        path.parent.parent.name: json.loads(path.read_text())["recall"]
        for path in folder.glob("outputs/*/*/result.json")
    }
    assert recall["none"][1] < 0.3 < 0.5 < recall["solo"][1]


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1", "auc"])
def test_metrics_for_rare_classes_stop_rank_and_search(trainlab, folder, rare, metric):
    """And are those of scikit-learn's on the predictions; of stacks and solo runs the same."""
    typed = [*rare, "-q", "-m", "seed=0,1", "optimizer.lr=0.1", f"stop.monitor=val_{metric}"]
    found = []
    for stack in (1, 2):
        answer = trainlab("train", *typed, f"stack={stack}", f"study=s{stack}", "stop.patience=2")
        assert answer.code == 0, answer.err
        found.append({p.parent.name: pd.read_csv(p) for p in answer.path.glob("*/metrics.csv")})
    for run, rows in found[0].items():
        same = [name for name in rows if "second" not in name]
        pd.testing.assert_frame_equal(rows[same], found[1][run][same], check_exact=True)
        result = json.loads((folder / "outputs" / "s1" / run / "result.json").read_text())
        best = rows[f"val_{metric}"]
        assert result["best_epoch"] == best.argmax() + 1
        assert result[f"val_{metric}"] == best.max()
        for name in ("balanced_accuracy", "f1", "auc"):
            assert 0 <= result[f"test_{name}"] <= 1
            assert 0 <= result[f"val_{name}"] <= 1
    table = trainlab("table", "outputs/s1", "--metric", f"val_{metric}")
    assert f"test_{metric}" in table.out, table.err


def test_a_search_by_auc_halves_by_it(trainlab, folder, rare):
    answer = trainlab(
        "train", "-q", *rare, "search=random", "search.trials=3", "search.metric=val_auc",
        "search.halving=successive", "epochs=4", "optimizer.lr=interval(0.001,0.1)",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = [pd.read_csv(path) for path in folder.glob("outputs/*/*/metrics.csv")]
    assert all("val_auc" in row for row in rows)


def test_metrics_that_a_later_epoch_has_more_leave_the_columns_as_they_are(folder):
    run = Run(compose([]), "0123456789")
    run.acquire()
    run.start([{"epoch": 1, "val_loss": 0.5}])
    run.log({"epoch": 2, "val_auc": 0.9, "val_loss": 0.4})
    run.log({"epoch": 3, "val_loss": 0.3})
    run.release()
    assert (run.path / "metrics.csv").read_text().splitlines() == [
        "epoch,val_loss", "1,0.5", "2,0.4", "3,0.3",
    ]  # fmt: skip
