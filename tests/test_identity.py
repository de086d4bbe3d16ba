"""A run's number is of the data that its id says, in every process that reads them."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from trainlab.config import compose
from trainlab.data import read
from trainlab.data.examples import Examples
from trainlab.executors import local
from trainlab.prepare import Sources
from trainlab.tables.runs import find_runs

X, Y = np.arange(12, dtype=np.float32).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    "change",
    [
        {"x": X + 1}, {"x": X.reshape(6, 1, 2)}, {"x": X.astype(np.float64)}, {"y": Y[::-1].copy()},
        {"task": "segmentation"}, {"classes": ["cat", "dog", "cow"]}, {"low": 0.0},
        {"high": 255.0}, {"test": 2}, {"val": 2}, {"categorical": (0,)}, {"parts": (1, 1)},
        {"columns": ("a", "c")}, {"columns": ("a,b", "")}, {"categories": (("x", "y"),)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_fingerprint_is_of_all_that_decides(change):
    examples = Examples(X, Y, "classification", ["a", "b", "c"], columns=("a", "b"))
    assert examples.fingerprint == dataclasses.replace(examples).fingerprint
    assert dataclasses.replace(examples, **change).fingerprint != examples.fingerprint


def written(path: str, rows: list[str], head: str = "a,b,y") -> None:
    beside = Path(f"{path}.new")
    beside.write_text("\n".join([head, *rows]) + "\n")
    os.replace(beside, path)


NUMBERS = [f"{i},{i * 7 % 11},{'yes' if i % 2 else 'no'}" for i in range(40)]
TABLE = ["dataset=csv", "dataset.path=d.csv", "dataset.target=y", "epochs=1", "arch.hidden=[4]"]


@pytest.mark.parametrize(
    ("rows", "head"),
    [
        ([row.replace("yes", "cat") for row in NUMBERS], "a,b,y"),
        (NUMBERS, "a,c,y"),
        (["uvw"[i % 3] + row[len(str(i)) :] for i, row in enumerate(NUMBERS)], "a,b,y"),
    ],
    ids=["classes", "columns", "categories"],
)
def test_a_table_that_says_something_else_is_another_run(folder, trainlab, rows, head):
    written("d.csv", NUMBERS)
    first = trainlab("train", "-q", *TABLE)
    assert trainlab("train", "-q", *TABLE).path == first.path
    written("d.csv", rows, head)
    assert trainlab("train", "-q", *TABLE).path != first.path


def test_a_test_set_of_another_size_is_another_run(folder, trainlab):
    npz = ["train", "-q", "dataset=npz", "dataset.path=d.npz", "epochs=1", "arch.hidden=[4]"]
    x, y = np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) % 2
    paths = set()
    for size in (80, 50):
        np.savez("d.npz", x=x[:size], y=y[:size], x_test=x[size:], y_test=y[size:])
        paths.add(trainlab(*npz).path)
    assert len(paths) == 2


def test_what_is_read_again_is_looked_at_again(folder):
    written("d.csv", NUMBERS)
    config, other = compose(TABLE), compose(["dataset=iris"])
    sources = Sources()
    before = sources.fingerprint(config)
    written("d.csv", NUMBERS[::-1])
    assert sources.fingerprint(config) == before  # which is in memory
    sources.fingerprint(other)  # takes its place there
    sources.data(config, torch.device("cpu"))
    assert sources.fingerprint(config) != before


def test_data_replaced_as_workers_begin_fail_no_number(folder, trainlab, monkeypatch):
    """Each worker reads the file itself."""
    written("d.csv", NUMBERS)
    begin = local.Local.start

    def replaced(self, jobs):
        written("d.csv", NUMBERS[::-1])
        return begin(self, jobs)

    monkeypatch.setattr(local.Local, "start", replaced)
    sweep = ["train", "-q", *TABLE, "-m", "act=relu,tanh", "seed=0,1", "workers=2"]
    answer = trainlab(*sweep)
    assert answer.code == 1
    runs = find_runs("outputs").runs
    assert [run.status for run in runs] == ["failed"] * 4
    assert all("have changed since the command began" in run.reason for run in runs)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    again = trainlab(*[word for word in sweep if word != "workers=2"])
    assert again.code == 0
    assert {run.folder for run in find_runs("outputs").runs if run.status == "done"}.isdisjoint(
        run.folder for run in runs
    )


def test_eval_says_that_the_data_have_changed(folder, trainlab):
    written("d.csv", NUMBERS)
    run = str(trainlab("train", "-q", *TABLE).path)
    said = "the data have changed since the run was trained"
    assert said not in trainlab("eval", run).err
    written("d.csv", NUMBERS[::-1])
    written("other.csv", NUMBERS[::-1])
    answer = trainlab("eval", run)
    assert (answer.code, said in answer.err) == (0, True)
    assert said not in trainlab("eval", run, "--data", "other.csv").err


@pytest.mark.parametrize(
    "dataset", ["digits", "diabetes", "tags", "pair", "shapes", "toy_corpus", "moons"]
)
def test_data_as_a_run_knows_them_are_still_the_same(dataset, folder, trainlab):
    """Read with what was saved of them, they have the same fingerprint."""
    arch = {"toy_corpus": "skipgram", "pair": "multi_input", "tags": "multi_label"}
    arch |= {"shapes": "unet"}
    more = [f"arch={arch[dataset]}"] if dataset in arch else []
    answer = trainlab("train", "-q", f"dataset={dataset}", "epochs=1", "max_examples=60", *more)
    assert answer.code == 0, answer.err
    assert "have changed" not in trainlab("eval", str(answer.path)).err
    assert read(compose([f"dataset={dataset}", *more])).fingerprint
