"""The real MNIST, from the folder that TRAINLAB_DATA names."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("TRAINLAB_DATA", "nowhere"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (FOLDER / "mnist").is_dir(), reason="needs mnist below TRAINLAB_DATA"),
]


def test_an_mlp_reaches_97_5_percent(trainlab):
    answer = trainlab(
        "train", "dataset=mnist", "arch=mlp", "arch.hidden=[300,100]", "optimizer=adam", "-q"
    )
    assert answer.code == 0, answer.err
    assert answer.result["test_accuracy"] >= 0.975


def test_a_cnn_learns_in_an_epoch(trainlab):
    answer = trainlab("train", "dataset=mnist", "arch=cnn", "epochs=1", "batch_size=128", "-q")
    assert answer.code == 0, answer.err
    assert answer.result["test_accuracy"] >= 0.97
