"""Losses against torch's, metrics against scikit-learn's, ensembles against numpy's arithmetic."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as sk
from torch.utils._python_dispatch import TorchDispatchMode

from trainlab import streams, tasks
from trainlab.config import UserError, compose, run_id
from trainlab.tasks import classes
from trainlab.tasks.words import nearest

R, N, K = 3, 41, 3  # runs, examples, models of an ensemble
BATCHES = (1, 17, 23)
NAN = float("nan")


def dataset(task, y, classes=0, shape=(4,), **more):
    """What a task looks at of its data."""
    return SimpleNamespace(
        task=task, y=y, classes=[f"class {c}" for c in range(classes)], shape=shape,
        splits={"train": torch.arange(len(y))}, target_scale=torch.ones(y.shape[1:]),
        target_mean=torch.zeros(y.shape[1:]), device=y.device, **more,
    )  # fmt: skip


def example(task, n=N, runs=R, models=()):
    """Data, outputs of all runs (R, n, *models, …) and targets (R, n, …) of a task.

    One class or label neither occurs nor is ever predicted, another is only predicted.
    """
    torch.manual_seed(7)
    lead = (runs, n, *models)
    if task in ("classification", "words", "segmentation"):
        size = (4, 5) if task == "segmentation" else ()
        y = torch.randint(4, (runs, n, *size))
        outputs = torch.randn(*lead, 6, *size) * 2
        # Better than chance, so that no metric is near its floor.
        right = F.one_hot(y, 6).movedim(-1, 2)
        outputs += 2 * (right.unsqueeze(2) if models else right)
        outputs.select(2 + len(models), 5).fill_(-99)
        data = dataset(task, y[0], classes=6)
    elif task == "binary":
        y = torch.randint(2, (runs, n))
        outputs, data = torch.randn(*lead, 1), dataset(task, y[0], classes=2)
    elif task == "multi_label":
        y = torch.randint(2, (runs, n, 5))
        y[..., 3:] = 0
        outputs = torch.randn(*lead, 5)
        outputs[..., 4] = -99
        data = dataset(task, y[0], classes=5)
    else:
        shape = (2,) if task == "regression" else (2, 3)
        y = torch.randn(runs, n, *shape) * 3 + 1
        noise = torch.randn(*lead, *shape)
        outputs = (y.unsqueeze(2) if models else y) + noise
        data = dataset(task, y[0], shape=shape)
        if task == "regression":
            data.target_scale = torch.tensor([10.0, 0.5])
    return data, outputs, y


KINDS = sorted(tasks._KINDS)


# ---------------------------------------------------------------- losses


def one_label(outputs, y, smoothing):
    target = y * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(outputs, target, reduction="none")


def classes_loss(outputs, y, smoothing):
    return F.cross_entropy(outputs, y, label_smoothing=smoothing, reduction="none")


LOSSES = [
    ("classification", "cross_entropy", classes_loss),
    ("words", "softmax", classes_loss),
    ("segmentation", "cross_entropy", lambda o, y, s: classes_loss(o, y, s).mean((1, 2))),
    ("binary", "cross_entropy", lambda o, y, s: one_label(o[:, 0], y, s)),
    ("multi_label", "cross_entropy", lambda o, y, s: one_label(o, y, s).mean(1)),
    ("regression", "mse", lambda o, y, s: ((o - y) ** 2).mean(1)),
    ("regression", "mae", lambda o, y, s: (o - y).abs().mean(1)),
    ("regression", "huber", lambda o, y, s: F.huber_loss(o, y, reduction="none").mean(1)),
    ("reconstruction", "mse", lambda o, y, s: ((o - y) ** 2).mean((1, 2))),
]


@pytest.mark.parametrize(("kind", "loss", "reference"), LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, (0.0, 0.3, 0.8)])
def test_losses_equal_torchs(kind, loss, reference, smoothing):
    data, outputs, y = example(kind)
    task = tasks.of(data, loss)
    column = smoothing if isinstance(smoothing, float) else torch.tensor(smoothing)[:, None]
    found = task.loss(outputs, y, column)
    assert found.shape == (R, N)
    for r in range(R):
        share = smoothing if isinstance(smoothing, float) else smoothing[r]
        torch.testing.assert_close(found[r], reference(outputs[r], y[r], share))


@pytest.mark.parametrize("kind", KINDS)
def test_auto_is_the_first_loss_of_the_task(kind):
    data, outputs, y = example(kind)
    first = next(loss for task, loss, _ in LOSSES if task == kind)
    chosen = tasks.of(data, first).loss(outputs, y)
    assert torch.equal(tasks.of(data).loss(outputs, y), chosen)


@pytest.mark.parametrize(
    ("kind", "loss", "valid"),
    [
        ("classification", "huber", "auto, cross_entropy"),
        ("binary", "mse", "auto, cross_entropy"),
        ("regression", "cross_entropy", "auto, mse, mae, huber"),
        ("words", "cross_entropi", "auto, softmax, negative_sampling"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(kind, loss, valid):
    data = example(kind)[0]
    with pytest.raises(UserError, match=rf"loss={loss} .* task is {kind}; valid: {valid}\."):
        tasks.of(data, loss)


@pytest.mark.parametrize(
    ("kind", "shape", "classes", "outputs"),
    [
        ("classification", (), 7, 7),
        ("binary", (), 2, 1),
        ("multi_label", (4,), 4, 4),
        ("regression", (3,), 0, 3),
        ("segmentation", (5, 5), 3, 3),
        ("words", (), 50, 50),
    ],
)
def test_how_many_numbers_a_model_gives(kind, shape, classes, outputs):
    data = dataset(kind, torch.zeros(9, *shape), classes)
    assert tasks.outputs_of(data) == outputs


def test_a_reconstruction_gives_as_many_numbers_as_there_are_inputs():
    data = SimpleNamespace(task="reconstruction", shape=(3, 8, 8), y=None, classes=["a", "b"])
    assert tasks.outputs_of(data) == 192


# ---------------------------------------------------------------- negative sampling


def words_data():
    """Words 0 to 3 are targets 0, 1, 16 and 81 times: to the power 3/4, 0, 1, 8 and 27."""
    return dataset("words", torch.tensor([1] * 1 + [2] * 16 + [3] * 81), classes=4)


NOISE = np.array([0, 1, 8, 27]) / 36


def test_how_many_words_are_drawn_is_a_setting():
    """Of runs that draw some, and part of their identity."""
    typed = ["dataset=toy_corpus", "arch=skipgram", "loss=negative_sampling"]
    for more, count in ([], 5), (["negatives=2"], 2):
        assert tasks.described(compose([*typed, *more]), words_data()).negatives == count
    ids = {run_id(compose([*typed, *more]), "") for more in ([], ["negatives=2"])}
    assert len(ids) == 2
    assert tasks.described(compose(["negatives=2"]), words_data()).loss
    with pytest.raises(UserError, match="whole number >= 1"):
        compose(["negatives=0"])


@pytest.mark.parametrize("count", [5, 3])
def test_negative_sampling_is_the_formula_on_the_words_drawn(count):
    task = tasks.of(words_data(), "negative_sampling", negatives=count)
    torch.manual_seed(0)
    outputs, y = torch.randn(2, 1, 4), torch.tensor([[2], [3]])
    edges = [0.0, 1 / 36 - 1e-5, 1 / 36 + 1e-5, 9 / 36 + 1e-5, 1 - 2.0**-24][:count]
    drawn = [1, 1, 2, 3, 3][:count]  # word 0 never occurs, so it is never drawn
    asked = []

    def draw(shape):
        asked.append(tuple(shape))
        return torch.tensor([[edges]] * 2)

    found = task.loss(outputs, y, draw=draw)
    assert asked == [(1, count)]
    sigmoid = 1 / (1 + np.exp(-outputs.double().numpy()))
    for r in range(2):
        true, others = sigmoid[r, 0, y[r, 0]], sigmoid[r, 0, drawn]
        assert found[r, 0].item() == pytest.approx(-np.log(true) - np.log(1 - others).sum())


@pytest.mark.parametrize("count", [5, 2])
def test_negative_sampling_without_draws_is_their_mean(count):
    task = tasks.of(words_data(), "negative_sampling", negatives=count)
    torch.manual_seed(0)
    outputs, y = torch.randn(2, 3, 4), torch.tensor([[0, 1, 2], [3, 3, 1]])
    sigmoid = 1 / (1 + np.exp(-outputs.double().numpy()))
    expected = -np.log(np.take_along_axis(sigmoid, y.numpy()[..., None], 2))[..., 0]
    expected -= count * np.log(1 - sigmoid) @ NOISE
    found = task.loss(outputs, y)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    # A mean over 20,000 draws of some words each has about a hundredth of error.
    many = outputs.repeat_interleave(20_000, 1), y.repeat_interleave(20_000, 1)
    key = torch.tensor([1, 2])
    sampled = task.loss(*many, draw=lambda shape: streams.uniform(key, 0, shape))
    sampled = sampled.unflatten(1, (3, -1)).mean(2)
    np.testing.assert_allclose(sampled.numpy(), expected, atol=0.03)
    assert not torch.allclose(sampled, found, atol=1e-5)


@pytest.mark.parametrize("drawn", [True, False])
def test_negative_sampling_smooths_every_answer(drawn):
    task = tasks.of(words_data(), "negative_sampling")
    outputs, y = torch.tensor([[[2.0, 1.0, -1.0, 0.5]]]), torch.tensor([[0]])
    draw = (lambda shape: torch.full((1, *shape), 0.5)) if drawn else None
    found = task.loss(outputs, y, 0.2, draw)
    log_sigmoid = F.logsigmoid(outputs.double())[0, 0].numpy()
    log_other = F.logsigmoid(-outputs.double())[0, 0].numpy()
    noise = [0, 0, 0, 1] if drawn else NOISE  # word 3 lies at 1/2
    expected = -0.9 * log_sigmoid[0] - 0.1 * log_other[0]
    expected -= 5 * (0.9 * log_other + 0.1 * log_sigmoid) @ noise
    assert found.item() == pytest.approx(expected)


# ---------------------------------------------------------------- metrics


def of_classes(data, outputs, y):
    predicted = outputs.argmax(1)
    return {
        "accuracy": sk.accuracy_score(y, predicted),
        "balanced_accuracy": sk.recall_score(y, predicted, labels=y.unique(), average="macro"),
        "f1": sk.f1_score(y, predicted, average="macro"),
    }


def of_binary(data, outputs, y):
    predicted = outputs[:, 0] > 0
    return {
        "accuracy": sk.accuracy_score(y, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        "f1": sk.f1_score(y, predicted),
    }


def of_labels(data, outputs, y):
    predicted = outputs > 0
    return {
        "exact_match": sk.accuracy_score(y, predicted),
        "f1_micro": sk.f1_score(y, predicted, average="micro", zero_division=NAN),
        "f1_macro": sk.f1_score(y, predicted, average="macro", zero_division=NAN),
    }


def of_pixels(data, outputs, y):
    y, predicted = y.flatten(), outputs.argmax(1).flatten()
    return {
        "pixel_accuracy": sk.accuracy_score(y, predicted),
        "mean_iou": sk.jaccard_score(y, predicted, average="macro"),
        "dice": sk.f1_score(y, predicted, average="macro"),
    }


def of_numbers(data, outputs, y):
    scale = data.target_scale
    return {
        "mae": sk.mean_absolute_error(y * scale, outputs * scale),
        "r2": sk.r2_score(y, outputs),
    }


def of_inputs(data, outputs, y):
    y, outputs = y.flatten(1), outputs.flatten(1)
    return {
        "mae": sk.mean_absolute_error(y, outputs),
        "explained": sk.r2_score(y, outputs, multioutput="variance_weighted"),
    }


def of_words(data, outputs, y):
    probability = np.exp(outputs.double().log_softmax(1).numpy())
    cross_entropy = sk.log_loss(y, probability, labels=range(6))
    return {
        "accuracy": sk.accuracy_score(y, outputs.argmax(1)),
        "perplexity": np.exp(cross_entropy),
    }


REFERENCES = {
    "classification": of_classes,
    "binary": of_binary,
    "multi_label": of_labels,
    "segmentation": of_pixels,
    "regression": of_numbers,
    "reconstruction": of_inputs,
    "words": of_words,
}


def summed(task, outputs, y, batches=BATCHES):
    """Metrics from sums that were added up over batches."""
    return task.metrics(totals(task, outputs, y, batches))


def reported(task, outputs, y, batches=BATCHES):
    """The reports from such sums."""
    return task.report(totals(task, outputs, y, batches))


def totals(task, outputs, y, batches):
    sums = {}
    for output, target in zip(outputs.split(batches, 1), y.split(batches, 1), strict=True):
        more = task.sums(output, task.loss(output, target), target) | task.tally(output, target)
        sums = {name: sums.get(name, 0) + value for name, value in more.items()}
    return sums


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_of_uneven_batches_equal_scikit_learns_of_the_whole(kind):
    data, outputs, y = example(kind)
    task = tasks.of(data)
    found = summed(task, outputs, y)
    assert tuple(found) == task.names
    for r in range(R):
        expected = REFERENCES[kind](data, outputs[r], y[r])
        expected["loss"] = task.loss(outputs, y)[r].double().mean().item()
        assert {name: v[r].item() for name, v in found.items()} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("models", [(), (K,)], ids=["one", "ensemble"])
@pytest.mark.parametrize("kind", KINDS)
def test_members_equal_solo(kind, models):
    data, outputs, y = example(kind, models=models)
    task = tasks.of(data, ensemble=bool(models))
    together, whole = summed(task, outputs, y), task.whole(outputs, y)
    for r in range(R):
        solo = outputs[r : r + 1], y[r : r + 1]
        torch.testing.assert_close(task.loss(*solo)[0], task.loss(outputs, y)[r])
        for name, value in (summed(task, *solo) | task.whole(*solo)).items():
            torch.testing.assert_close(value[0], (together | whole)[name][r])


@pytest.mark.parametrize("models", [(), (K,)], ids=["one", "ensemble"])
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"words"}))
def test_members_are_reported_as_solo(kind, models):
    data, outputs, y = example(kind, models=models)
    task = tasks.of(data, ensemble=bool(models))
    reports = reported(task, outputs, y)
    for r in range(R):
        assert reported(task, outputs[r : r + 1], y[r : r + 1]) == [reports[r]]
    assert reports[0] == {} or reports[0] != reports[1]


def test_r2_of_a_single_example_is_undefined_and_everything_else_is_not():
    for kind in KINDS:
        data, outputs, y = example(kind, n=1)
        found = summed(tasks.of(data), outputs, y, batches=(1,))
        for name, value in found.items():
            # The F1 of two classes is that of the second, which may not be there either.
            undefined = name in ("r2", "explained")
            assert value.isnan().all() == undefined or (kind, name) == ("binary", "f1"), (
                kind,
                name,
            )


def test_errors_in_a_number_that_is_always_the_same_count_for_a_reconstruction():
    data, outputs, y = example("reconstruction")
    y[..., 0] = 2.0
    found = summed(tasks.of(data), outputs, y)["explained"]
    wide, errors = y.double(), (outputs - y).double()
    spread = (wide - wide.mean(1, keepdim=True)).square().sum((1, 2, 3))
    torch.testing.assert_close(found, 1 - errors.square().sum((1, 2, 3)) / spread)


def test_no_label_at_all_leaves_f1_undefined():
    data, outputs, y = example("multi_label")
    found = summed(tasks.of(data), torch.full_like(outputs, -1.0), torch.zeros_like(y))
    assert found["f1_micro"].isnan().all()
    assert found["f1_macro"].isnan().all()
    assert torch.equal(found["exact_match"], torch.ones(R, dtype=torch.double))


def test_perplexity_of_negative_sampling_is_that_of_the_softmax():
    data, outputs, y = example("words")
    found = summed(tasks.of(data, "negative_sampling"), outputs, y)
    softmax = summed(tasks.of(data), outputs, y)
    torch.testing.assert_close(found["perplexity"], softmax["perplexity"])
    assert not torch.allclose(found["loss"], softmax["loss"])


@pytest.mark.parametrize("decimals", [0, 3], ids=["ties", "no ties"])
def test_average_precision_equals_scikit_learns(decimals):
    data, outputs, y = example("multi_label")
    task, outputs = tasks.of(data), outputs.round(decimals=decimals)
    assert task.extra == ("average_precision",)
    found = task.whole(outputs, y)
    assert tuple(found) == task.extra
    for r in range(R):
        expected = sk.average_precision_score(y[r, :, :3], outputs[r, :, :3])  # 3, 4 never occur
        assert found["average_precision"][r].item() == pytest.approx(expected)


@pytest.mark.parametrize("decimals", [0, 3], ids=["ties", "no ties"])
@pytest.mark.parametrize("ranked", [10**6, 50], ids=["at once", "in parts"])
@pytest.mark.parametrize("kind", ["classification", "binary"])
def test_auc_equals_scikit_learns(kind, decimals, ranked, monkeypatch):
    """By probability, of each class that occurs against the rest."""
    monkeypatch.setattr(classes, "_RANKED", ranked)
    data, outputs, y = example(kind)
    task, outputs = tasks.of(data), outputs.round(decimals=decimals)
    assert task.extra == ("auc",)
    found = task.whole(outputs, y)["auc"]
    for r in range(R):
        p = task.probabilities(outputs)[r]
        own = [sk.roc_auc_score(y[r] == c, p[:, c]) for c in y[r].unique()]
        assert found[r].item() == pytest.approx(np.mean(own), rel=1e-12)
    if kind == "binary":
        assert found[0].item() == pytest.approx(sk.roc_auc_score(y[0], outputs[0, :, 0]))


def test_auc_of_classes_that_all_occur_is_scikit_learns_of_one_against_the_rest():
    data, outputs, y = example("classification")
    data.classes, outputs = data.classes[:4], outputs[:, :, :4]
    task = tasks.of(data)
    p = task.probabilities(outputs).double()
    p /= p.sum(2, keepdim=True)
    expected = [sk.roc_auc_score(y[r], p[r], multi_class="ovr") for r in range(R)]
    assert task.whole(outputs, y)["auc"].tolist() == pytest.approx(expected)


def test_where_only_one_class_occurs_there_is_no_auc():
    for kind in ("classification", "binary"):
        data, outputs, y = example(kind)
        task = tasks.of(data)
        assert task.whole(outputs, torch.zeros_like(y))["auc"].isnan().all()
        assert task.whole(outputs * NAN, y)["auc"].isnan().all()  # of a run that diverged


@pytest.mark.parametrize(
    ("typed", "watched"),
    [
        ([], False),
        (["stop.monitor=val_auc"], True),
        (["stop=early", "stop.monitor=val_f1"], False),
        (["schedule=plateau", "schedule.monitor=val_auc"], True),
        (["search=random", "search.metric=val_auc"], True),
    ],
)
def test_what_costs_much_is_computed_where_something_goes_by_it(typed, watched):
    config = compose(typed)
    assert tasks.watched(tasks.of(example("classification")[0]), config) == watched
    assert tasks.watched(tasks.of(example("multi_label")[0]), config)
    assert not tasks.watched(tasks.of(example("regression")[0]), config)


# ---------------------------------------------------------------- reports


@pytest.mark.parametrize("kind", ["classification", "binary", "segmentation", "multi_label"])
def test_reports_equal_scikit_learns(kind):
    data, outputs, y = example(kind)
    reports = reported(tasks.of(data), outputs, y)
    for r, report in enumerate(json.loads(json.dumps(reports, allow_nan=False))):
        if kind in ("binary", "multi_label"):
            true, predicted = y[r], outputs[r] > 0
        else:
            true, predicted = y[r].flatten(), outputs[r].argmax(1).flatten()
        labels = range(len(data.classes))
        expected = sk.precision_recall_fscore_support(
            true, predicted, labels=labels, zero_division=NAN
        )
        for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            found = np.array(report.pop(name), float)
            np.testing.assert_allclose(found, values, rtol=1e-12, err_msg=name)
        assert report.pop("classes") == data.classes
        if kind != "multi_label":
            confusion = sk.confusion_matrix(true, predicted, labels=labels)
            assert report.pop("confusion") == confusion.tolist()
        assert report == {}


@pytest.mark.parametrize("kind", ["regression", "reconstruction"])
def test_there_is_no_report_where_there_are_no_classes(kind):
    data, outputs, y = example(kind)
    assert reported(tasks.of(data), outputs, y) == [{}] * R


def test_nearest_words_by_cosine():
    torch.manual_seed(3)
    embedding = torch.randn(9, 4)
    words = list("abcdefghi")
    found = nearest(embedding, words, k=3)
    similarity = sk.pairwise.cosine_similarity(embedding)
    for v, word in enumerate(words):
        others = [i for i in np.argsort(-similarity[v]) if i != v][:3]
        assert list(found[word]) == [words[i] for i in others]
        assert list(found[word].values()) == pytest.approx(similarity[v, others].tolist(), rel=1e-5)
    assert nearest(embedding[:2], ["a", "b"], k=5).keys() == {"a", "b"}


# ---------------------------------------------------------------- ensembles


def test_an_ensemble_of_classifiers_by_hand():
    """Three models, three classes; votes 2:1, a tie of three, and a majority against the mean."""
    p = np.array(
        [
            [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]],  # votes 0, 0, 1; mean says 0
            [[0.5, 0.4, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]],  # votes 0, 1, 2; mean says 1
            [[0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [0.0, 0.9, 0.1]],  # votes 0, 0, 1; mean says 1
            [[0.2, 0.3, 0.5], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]],  # votes 2, 2, 0; mean says 2
        ]
    )
    y = np.array([0, 1, 0, 1])
    outputs = torch.tensor(np.log(p + 1e-30))[None].float() + 5.0  # any constant is the same
    task = tasks.of(dataset("classification", torch.tensor(y), 3), ensemble=True)
    losses = task.loss(outputs, torch.tensor(y)[None])
    each = -np.log(p[np.arange(4), :, y] + 1e-30)  # (examples, models)
    np.testing.assert_allclose(losses[0].numpy(), each.sum(1), rtol=1e-5)
    found = summed(task, outputs, torch.tensor(y)[None], batches=(1, 3))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {
            "loss": -np.log(p.mean(1)[np.arange(4), y]).mean(),
            "accuracy": 2 / 4,
            "balanced_accuracy": (1 / 2 + 1 / 2) / 2,
            "f1": sk.f1_score(y, p.mean(1).argmax(1), average="macro"),
            "vote_accuracy": 3 / 4,
            "member_accuracy": (p.argmax(2) == y[:, None]).mean(),
        }
    )
    assert tuple(found) == task.names
    (report,) = reported(task, outputs, torch.tensor(y)[None], batches=(1, 3))
    assert report["confusion"] == sk.confusion_matrix(y, p.mean(1).argmax(1)).tolist()


def test_an_ensemble_of_one_logit_by_hand():
    """Two models, so that votes tie, and three."""
    for p, mean, vote in [
        ([[0.9, 0.2], [0.6, 0.1], [0.2, 0.1]], [1, 0, 0], [1, 0, 0]),
        ([[0.6, 0.6, 0.1], [0.4, 0.4, 0.9], [0.9, 0.8, 0.7]], [0, 1, 1], [1, 0, 1]),
    ]:
        p = np.array(p)
        for y in np.ndindex(2, 2, 2):
            y = np.array(y)
            task = tasks.of(dataset("binary", torch.tensor(y), 2), ensemble=True)
            outputs = torch.tensor(np.log(p / (1 - p)))[None, ..., None].float()
            target = torch.tensor(y)[None]
            found = summed(task, outputs, target, batches=(2, 1))
            together = p.mean(1)
            assert {name: value.item() for name, value in found.items()} == pytest.approx(
                {
                    "loss": sk.log_loss(y, together, labels=[0, 1]),
                    "accuracy": (y == mean).mean(),
                    "balanced_accuracy": sk.recall_score(
                        y, mean, labels=np.unique(y), average="macro"
                    ),
                    "f1": sk.f1_score(y, mean, zero_division=NAN),
                    "vote_accuracy": (y == vote).mean(),
                    "member_accuracy": ((p > 0.5) == y[:, None]).mean(),
                },
                nan_ok=True,
            )


def mean_outputs(kind, outputs):
    """Outputs of one model that says what the mean of k models (n, k, …) says."""
    if kind in ("regression", "reconstruction"):
        return outputs.mean(1)
    if kind in ("binary", "multi_label"):
        return outputs.sigmoid().mean(1).logit()
    return outputs.softmax(2).mean(1).log()


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_of_an_ensemble_are_those_of_the_mean_and_of_its_models(kind):
    data, outputs, y = example(kind, models=(K,))
    outputs = outputs.clamp(-15, 15)  # a probability of 0 has no logarithm here
    task, alone = tasks.of(data, ensemble=True), tasks.of(data)
    mean = torch.stack([mean_outputs(kind, o.double()).float() for o in outputs])
    found = summed(task, outputs, y)
    whole = task.whole(outputs, y)
    assert task.extra == tuple(whole) == alone.extra
    expected = summed(alone, mean, y) | alone.whole(mean, y)
    for name, value in expected.items():
        torch.testing.assert_close((found | whole)[name], value, rtol=1e-4, atol=1e-5)
    if kind != "words":
        assert reported(task, outputs, y) == reported(alone, mean, y)
    score = task.names[1]
    models = [summed(alone, outputs[:, :, j], y) for j in range(K)]
    member = torch.stack([model[score] for model in models]).mean(0)
    torch.testing.assert_close(found[f"member_{score}"], member)
    assert (f"vote_{score}" in found) == (kind not in ("regression", "reconstruction"))
    assert tuple(found) == task.names


@pytest.mark.parametrize("loss", ["softmax", "negative_sampling"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_of_an_ensemble_gets_the_gradient_it_would_get_alone(kind, loss):
    if kind != "words":
        loss = "auto"
    data, outputs, y = example(kind, models=(K,))
    smoothing = torch.tensor([[0.0], [0.2], [0.4]])
    tracked = outputs.requires_grad_()
    together = tasks.of(data, loss, ensemble=True).loss(tracked, y, smoothing)
    assert together.shape == (R, N)
    alone = [tasks.of(data, loss).loss(tracked[:, :, j], y, smoothing) for j in range(K)]
    torch.testing.assert_close(together, torch.stack(alone).sum(0))
    (gradient,) = torch.autograd.grad(together.sum(), tracked)
    for j in range(K):
        (expected,) = torch.autograd.grad(alone[j].sum(), tracked)
        torch.testing.assert_close(gradient[:, :, j], expected[:, :, j])


def test_models_of_an_ensemble_draw_their_own_words():
    data, outputs, y = example("words", models=(K,))
    task = tasks.of(data, "negative_sampling", ensemble=True)
    shapes = []

    def draw(shape):
        shapes.append(tuple(shape))
        return streams.uniform(torch.arange(R), 0, shape)

    assert task.loss(outputs, y, draw=draw).shape == (R, N)
    assert shapes == [(N * K, 5)]


# ---------------------------------------------------------------- nothing waits for the device


class NothingRead(TorchDispatchMode):
    """Refuses what makes a GPU wait for its values."""

    waits = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique", "is_nonzero")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        masks = [t for t in args[1] or [] if t is not None] if "aten.index" in name else []
        assert not any(wait in name for wait in self.waits), name
        assert not any(isinstance(t, torch.Tensor) and t.dtype == torch.bool for t in masks), name
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("models", [(), (K,)], ids=["one", "ensemble"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_read_back_from_the_device(kind, models):
    data, outputs, y = example(kind, models=models)
    task = tasks.of(data, ensemble=bool(models))
    with NothingRead():
        losses = task.loss(outputs, y, torch.full((R, 1), 0.1))
        task.metrics(task.sums(outputs, losses, y) | task.tally(outputs, y))
        task.whole(outputs, y)
    with NothingRead(), pytest.raises(AssertionError):
        outputs[outputs > 0]
    with NothingRead(), pytest.raises(AssertionError):
        outputs.sum().item()
