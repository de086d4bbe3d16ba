"""Grouping into stacks, threads, identity, data shared by the runs of a sweep."""

import json
import os
import shutil

import pytest
import torch

from trainlab import data, prepare, run
from trainlab.config import compose, run_id, stack_key
from trainlab.prepare import pick_device


def model_of(*overrides):
    config = compose(overrides)
    return config, prepare.build_model(
        config, data.prepare(data.read(config), config, pick_device("cpu"))
    )


def test_small_dense_nets_take_one_thread(monkeypatch):
    monkeypatch.setattr(prepare, "THREADS", 7)
    for overrides, threads in [
        ([], 1),
        (["arch=cnn"], 7),
        (["batch_size=all"], 7),
        (["arch.hidden=[2000,2000]"], 7),
        (["threads=3"], 3),
    ]:
        config, model = model_of(*overrides)
        assert prepare.threads(config, model, 1000) == threads


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


def test_no_global_generator_decides_a_result(tmp_path):
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        folder = f"output_dir={tmp_path / str(global_seed)}"
        (outcome,) = run.train([compose(["epochs=1", "quiet=true", folder])])
        results.append(outcome.run.result()["val_loss"])
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(global_seed))
    assert results[0] == results[1]


# ---------------------------------------------------------------- what the catalogue needs of runs


def test_the_order_of_steps_is_part_of_a_runs_identity():
    for group, one, other in (("preprocess", "minmax", "pca"), ("augment", "flip", "crop")):
        ids = {
            run_id(compose([f"{group}=[{','.join(order)}]"]), "data")
            for order in ((one, other), (other, one))
        }
        assert len(ids) == 2
    assert run_id(compose(["reg=[l1,l2]"]), "") == run_id(compose(["reg=[l2,l1]"]), "")


def test_layers_with_rate_zero_stay_as_they_are_whatever_the_regularizers(tmp_path):
    reg = ["reg.weight_decay=0.5", "reg.max_norm=0.1", "reg.l2=0.1", "optimizer.lr=0.1"]
    for optimizer in ("sgd", "adam", "muon"):
        config = compose(
            [
                *reg,
                f"optimizer={optimizer}",
                "lr_multipliers={1.*:0}",
                "epochs=1",
                "quiet=true",
                f"output_dir={tmp_path}",
                "max_examples=100",
            ]
        )
        examples = data.prepare(data.read(config), config, torch.device("cpu"))
        before = prepare.build_model(config, examples).state_dict()
        (outcome,) = run.train([config])
        saved = torch.load(outcome.run.path / "checkpoints" / "last.pt", weights_only=True)["model"]
        assert torch.equal(saved["1.weight"], before["1.weight"]), optimizer
        assert not torch.equal(saved["3.weight"], before["3.weight"])


def test_torchs_own_noise_is_made_repeatable(folder, trainlab):
    """A module that draws from the global generator trains alone, seeded at every step."""
    (folder / "conf" / "act").mkdir(parents=True)
    (folder / "conf/act/loud.yaml").write_text("# torch's own\n_target_: torch.nn.RReLU\n")
    typed = ["train", "-m", "act=loud", "seed=0,1", "epochs=2", "max_examples=100"]
    first = trainlab(*typed)
    assert first.code == 0, first.err
    losses = [json.loads(p.read_text())["train_loss"] for p in first.path.glob("*/result.json")]
    torch.manual_seed(5)
    torch.rand(3)
    again = trainlab(*typed, "fresh=true")
    assert losses == [
        json.loads(p.read_text())["train_loss"] for p in again.path.glob("*/result.json")
    ]
    assert "one by one" in first.err


def test_what_fails_under_vmap_trains_one_by_one(trainlab):
    typed = ["precision=bf16", "act=prelu", "norm=batch", "seed=0,1", "max_examples=100"]
    answer = trainlab("train", "-m", *typed, "epochs=1")
    assert answer.code == 0, answer.err
    answer = trainlab("train", "-m", "norm=spectral", "seed=0,1", "max_examples=100", "epochs=1")
    assert answer.code == 0, answer.err
    assert "one by one" in answer.err


def test_members_may_differ_in_everything_that_is_a_number(trainlab):
    """Warm-up, dropout, weight decay and momentum in one stack; each as it trains alone."""
    sweep = [
        "schedule.warmup=0,1", "reg.dropout=0.1,0.4", "reg.weight_decay=0.01,0.1",
        "optimizer=momentum", "optimizer.momentum=0.5,0.9", "epochs=2", "max_examples=100",
    ]  # fmt: skip
    together = trainlab("train", "-m", *sweep, "study=together")
    assert "16 runs as one stack" in together.err
    alone = trainlab("train", "-m", *sweep, "study=alone", "stack=1")
    for path in together.path.glob("*/result.json"):
        one, other = (
            json.loads(p.read_text()) for p in (path, alone.path / path.parent.name / path.name)
        )
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-5)


def test_configs_that_are_one_run_are_told(trainlab):
    answer = trainlab(
        "train", "-m", "optimizer=gd,sgd", "batch_size=all", "optimizer.lr=0.1", "epochs=1"
    )
    assert "1 of these configs are the same run" in answer.err


@pytest.mark.parametrize("links", [True, False])
def test_what_runs_of_a_stack_have_in_common_is_each_ones_own(trainlab, monkeypatch, links):
    def refuse(source, target):
        raise OSError("no links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    answer = trainlab("train", "-q", "-m", "seed=0,1", "max_examples=100", "epochs=1")
    one, other = (
        next(path for path in answer.path.glob("*/") if f"seed: {seed}\n" in config(path))
        for seed in (0, 1)
    )
    files = [path / "checkpoints" / "data.pt" for path in (one, other)]
    assert os.path.samefile(*files) == links
    assert not list(answer.path.rglob(".data.pt*"))
    shutil.rmtree(one)
    assert trainlab("eval", str(other)).code == 0


def test_a_run_that_is_trained_anew_leaves_the_files_of_others_alone(trainlab):
    short = ("max_examples=100", "epochs=1")
    answer = trainlab("train", "-q", "-m", "seed=0,1", *short)
    files = list(answer.path.glob("*/checkpoints/data.pt"))
    before = files[0].stat().st_mtime_ns
    for file in files:  # what a process of our number left that died
        stale = file.with_name(f".data.pt.{os.getpid()}")
        stale.symlink_to(file) if file is files[0] else os.link(file, stale)
    for seed in (0, 1):
        assert trainlab("train", "-q", f"seed={seed}", *short, "fresh=true").code == 0
        changed = [file.stat().st_mtime_ns != before for file in files]
        assert sum(changed) == seed + 1
    assert not os.path.samefile(*files)


def config(path):
    return (path / "config.yaml").read_text()
