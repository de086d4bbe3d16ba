"""Every option of every group builds and trains two steps. Adding a YAML adds its test."""

import pytest
import torch

from trainlab import data, prepare, run
from trainlab.config import CONF, compose, groups, options

# Their files are no part of the package: test_data.py, test_data_files.py.
FROM_FILES = [
    ("dataset", name)
    for name in "mnist fashion_mnist cifar10 cifar100 csv npz image_folder text".split()
]
OPTIONS = [
    (group, option)
    for group in groups()
    if group != "experiment"
    for option in options(group)
    if (group, option) not in FROM_FILES
]

# What an option goes with, where it does not go with the defaults.
NEEDS = {
    ("dataset", "shapes"): ["arch=unet", "arch.depth=1", "arch.base=4"],
    ("dataset", "toy_corpus"): ["arch=skipgram"],
    ("arch", "unet"): ["dataset=shapes", "arch.depth=1", "arch.base=4"],
    ("arch", "skipgram"): ["dataset=toy_corpus"],
    ("arch", "cbow"): ["dataset=toy_corpus", "dataset.model=cbow"],
    ("arch", "multi_input"): ["dataset=pair"],
    ("arch", "multi_label"): ["dataset=tags"],
    ("arch", "mlp_deep"): ["init=orthogonal"],  # or the first layers hardly move in two steps
}


def test_the_walk_finds_the_options():
    files = len(list(CONF.glob("*/*.yaml")))
    assert len(OPTIONS) == files - len(FROM_FILES) - len(options("experiment"))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_trains_two_steps(group, option, tmp_path):
    needs = NEEDS.get((group, option), [])
    needs = [*needs, "preprocess=none"] if group == "dataset" else needs
    common = [
        "epochs=2",
        "batch_size=all",
        "max_examples=80",
        "quiet=true",
        f"output_dir={tmp_path}",
    ]
    config = compose([*common, *needs, f"{group}={option}"])
    (outcome,) = run.train([config])
    assert outcome.status == "done", outcome.reason
    assert outcome.run.result()["steps"] == 2
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    before = prepare.build_model(config, examples).state_dict()
    after = torch.load(outcome.run.path / "checkpoints" / "last.pt", weights_only=True)["model"]
    weights = [name for name in before if "weight" in name]
    moved = [not torch.equal(before[name], after[name]) for name in weights]
    if (group, option) == ("init", "zeros"):
        assert not any(moved)  # no gradient arrives anywhere: only the last biases learn
    else:
        assert weights
        assert all(moved)
