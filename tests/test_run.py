"""Grouping into stacks, threads, identity, data shared by the runs of a sweep."""

import json

import pytest
import torch

from trainlab import data, run
from trainlab.config import compose, run_id, stack_key


def model_of(*overrides):
    config = compose(overrides)
    return config, run.build_model(config, data.prepare(data.read(config), config, "cpu"))


def test_small_dense_nets_take_one_thread(monkeypatch):
    monkeypatch.setattr(run, "_THREADS", 7)
    for overrides, threads in [
        ([], 1),
        (["arch=cnn"], 7),
        (["batch_size=all"], 7),
        (["arch.hidden=[2000,2000]"], 7),
        (["threads=3"], 3),
    ]:
        config, model = model_of(*overrides)
        assert run._threads(config, model, 1000) == threads


def test_env_json_tells_the_threads(trainlab):
    answer = trainlab("train", "-q", "epochs=1", "threads=2")
    assert json.loads((answer.path / "env.json").read_text())["threads"] == 2


def test_identity_is_what_decides_the_result():
    base = run_id(compose([]), "data")
    for same in (
        "device=cpu", "study=x", "name=y", "stack=4", "threads=2", "output_dir=z",
        "checkpoint.every=1",
        "data_dir=d", "fresh=true", "quiet=true", "optimizer.lr=1e-3", "compile=true",
    ):  # fmt: skip
        assert run_id(compose([same]), "data") == base, same
    others = (
        "seed=1", "epochs=21", "optimizer=sgd", "optimizer.lr=0.002", "act=gelu", "precision=bf16",
        "split_seed=1", "val_fraction=0.2", "stop=early", "arch.hidden=[128]", "clip=norm",
    )  # fmt: skip
    ids = {run_id(compose([other]), "data") for other in others} | {
        base,
        run_id(compose([]), "else"),
    }
    assert len(ids) == len(others) + 2
    assert run_id(compose([f"seed={2**53}"]), "") != run_id(compose([f"seed={2**53 + 1}"]), "")
    assert run_id(compose(["optimizer.lr=1"]), "") == run_id(compose(["optimizer.lr=1.0"]), "")


def test_what_may_share_a_stack():
    base = stack_key(compose(["clip=norm", "schedule=step"]))
    for same in (
        "seed=3",
        "optimizer.lr=0.5",
        "optimizer.beta2=0.9",
        "clip.max=2",
        "schedule.factor=0.1",
    ):
        assert stack_key(compose(["clip=norm", "schedule=step", same])) == base, same
    for other in (
        "optimizer=sgd",
        "act=gelu",
        "batch_size=16",
        "arch.hidden=[9]",
        "schedule.unit=step",
    ):
        assert stack_key(compose(["clip=norm", "schedule=step", other])) != base, other


def test_a_stack_of_different_settings_equals_the_solo_runs(tmp_path):
    """Every stackable number at once: betas, eps, weight decay, schedule, clipping, initial std."""
    sweep = [
        [
            "optimizer.beta1=0.8",
            "optimizer.beta2=0.99",
            "schedule.k=0.3",
            "clip.max=0.1",
            "init.std=0.1",
        ],
        [
            "optimizer.eps=1e-3",
            "optimizer.weight_decay=0.2",
            "optimizer.lr=0.01",
            "clip.max=5",
            "seed=2",
        ],
        ["schedule.k=0", "seed=1"],
    ]
    common = ["optimizer=adamw", "schedule=exponential", "clip=norm", "init=normal",
              "init.std=0.05", "epochs=2", "max_examples=300", "quiet=true",
              "device=cpu"]  # fmt: skip

    def train(stack):
        folder = f"output_dir={tmp_path / str(stack)}"
        configs = [compose([*common, *own, f"stack={stack}", folder]) for own in sweep]
        assert len({stack_key(config) for config in configs}) == 1
        return [outcome.run.result() for outcome in run.train(configs)]

    for solo, member in zip(train(1), train(3), strict=True):
        assert solo["status"] == "done"
        for metric in ("train_loss", "val_loss", "test_loss"):
            assert member[metric] == pytest.approx(solo[metric], rel=1e-4)


def test_the_width_of_a_stack():
    assert run._width(compose([]), 100) == 32
    assert run._width(compose([]), 5) == 5
    assert run._width(compose(["stack=7"]), 100) == 7
    assert run._width(compose(["arch=cnn", "device=cpu"]), 100) == 1
    assert run._width(compose(["compile=true"]), 100) == 1


def test_no_global_generator_decides_a_result(tmp_path):
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        folder = f"output_dir={tmp_path / str(global_seed)}"
        (outcome,) = run.train([compose(["epochs=1", "quiet=true", folder])])
        results.append(outcome.run.result()["val_loss"])
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(global_seed))
    assert results[0] == results[1]
