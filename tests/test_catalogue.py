"""Every option of every group builds and trains two steps. Adding a YAML adds its test."""

import pytest
import torch

from trainlab import data, run
from trainlab.config import CONF, compose, groups, options

OPTIONS = [
    (group, option)
    for group in groups()
    if group != "experiment"
    for option in options(group)
    if (group, option) != ("dataset", "mnist")  # its files are no part of the package: test_data.py
]


def test_the_walk_finds_the_options():
    assert len(OPTIONS) == len(list(CONF.glob("*/*.yaml"))) - 1 - len(options("experiment"))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_trains_two_steps(group, option, tmp_path):
    needs = ["preprocess=none"] if group == "dataset" else []
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
    before = run.build_model(config, examples).state_dict()
    after = torch.load(outcome.run.path / "checkpoints" / "last.pt", weights_only=True)["model"]
    weights = [name for name in before if "weight" in name]
    moved = [not torch.equal(before[name], after[name]) for name in weights]
    if (group, option) == ("init", "zeros"):
        assert not any(moved)  # no gradient arrives anywhere: only the last biases learn
    else:
        assert weights
        assert all(moved)
