"""What whole runs have to learn, on data that come with the package."""

import numpy as np
import pytest

from trainlab import data
from trainlab.config import compose, options
from trainlab.data import splits
from trainlab.data.words import GROUPS


def test_an_mlp_reads_digits(trainlab):
    answer = trainlab("train", "-m", "schedule=cosine", "epochs=30", "seed=range(4)", "-q")
    rows = [line.split(",") for line in (answer.path / "runs.csv").read_text().splitlines()]
    column = rows[0].index("test_accuracy")
    assert np.mean([float(row[column]) for row in rows[1:]]) >= 0.97


@pytest.mark.parametrize(
    "recipe",
    [
        ["arch=skipgram"],
        ["arch=skipgram", "loss=negative_sampling"],
        ["arch=cbow", "dataset.model=cbow"],
    ],
    ids="+".join,
)
def test_words_that_share_contexts_come_together(trainlab, recipe):
    typed = ["dataset=toy_corpus", "optimizer.lr=0.01", "epochs=15", "batch_size=64"]
    answer = trainlab("train", "-q", *typed, *recipe)
    assert answer.code == 0, answer.err
    nearest = answer.result["nearest"]
    group_of = {word: name for name, words in GROUPS.items() for word in words}
    first = [
        group_of[word] == group_of.get(next(iter(neighbours)))
        for word, neighbours in nearest.items()
        if word in group_of
    ]
    assert len(first) > 20
    assert np.mean(first) >= 0.9


def test_an_ensembles_mean_is_better_than_its_mean_member(trainlab):
    typed = ["arch=ensemble", "arch.hidden=[12]", "arch.members=5", "epochs=6"]
    result = trainlab("train", "-q", *typed).result
    assert result["test_accuracy"] > result["test_member_accuracy"]
    assert result["test_vote_accuracy"] > result["test_member_accuracy"]
    assert len(result["confusion"]) == 10


def test_a_unet_finds_shapes(trainlab):
    typed = ["dataset=shapes", "dataset.examples=200", "arch=unet", "arch.depth=2", "arch.base=8"]
    typed += ["norm=batch", "batch_size=8", "optimizer.lr=0.01", "epochs=12"]
    result = trainlab("train", "-q", *typed).result
    assert result["test_mean_iou"] > 0.6  # background alone gives 0.2


def test_a_stream_that_changes_is_learnt_again(trainlab):
    typed = ["dataset=drift", "online=true", "epochs=20", "batch_size=10", "arch=linear"]
    answer = trainlab("train", "-q", *typed, "optimizer=sgd", "optimizer.lr=0.5")
    assert answer.code == 0, answer.err
    rows = np.genfromtxt(answer.path / "metrics.csv", delimiter=",", names=True)
    accuracy = rows["train_accuracy"]
    assert accuracy.max() > 0.85
    assert accuracy.min() < accuracy.max() - 0.1


FILES = "mnist fashion_mnist cifar10 cifar100 csv npz image_folder text".split()


@pytest.mark.parametrize("dataset", [name for name in options("dataset") if name not in FILES])
def test_splits_are_disjoint_and_whole(dataset):
    """By position; and equal examples, where data have any, are no work of the split."""
    examples = data.read(compose([f"dataset={dataset}"]))
    parts = splits.split(examples, 0.15, 0.15, seed=3)
    together = np.concatenate(list(parts.values()))
    assert sorted(together) == list(range(len(examples.x)))
    assert all(len(part) for part in parts.values())
    rows = [row.tobytes() for row in examples.x]
    if len(set(rows)) == len(rows):
        hashes = {name: {rows[i] for i in part} for name, part in parts.items()}
        assert not hashes["train"] & (hashes["val"] | hashes["test"])
        assert not hashes["val"] & hashes["test"]
