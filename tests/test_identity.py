"""A run's number is of the data that its id says, in every process that reads them."""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from trainlab import environment
from trainlab.config import compose
from trainlab.data import read
from trainlab.data.examples import Examples
from trainlab.executors import local
from trainlab.files import load_torch
from trainlab.prepare import Sources
from trainlab.progress import Display
from trainlab.store import Run
from trainlab.tables.runs import find_runs
from trainlab.work import Job, Worker

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


# ---------------------------------------------------------------- threads and versions

NORMED = ["max_examples=200", "arch.hidden=[16]", "norm=batch", "optimizer=momentum", "epochs=3"]


def test_a_continued_run_keeps_its_threads(folder, trainlab):
    """The order of sums, and so the last bits, depends on them."""
    train = ["train", "-q", *NORMED, "seed=0"]
    undisturbed = trainlab(*train, "threads=2", "study=whole").path
    path = trainlab(*train, "threads=2", "until=1").path
    run = Run.at(path)
    config = run.config | {"until": None, "threads": "auto"}
    # As a worker process of a sweep has it: one thread, whatever was asked for.
    job = Job(Run(config, run.id, {"threads": 1}), run.status())
    Worker()([job], Display(1, quiet=True), lambda: False)
    assert json.loads((path / "env.json").read_text())["threads"] == 2
    assert run.status()["status"] == "done"
    for name in ("last", "best"):
        states = [
            load_torch(p / "checkpoints" / f"{name}.pt", "cpu", "model")["model"]
            for p in (undisturbed, path)
        ]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_threads_that_are_typed_are_taken(folder, trainlab):
    train = ["train", "-q", *NORMED, "seed=1"]
    path = trainlab(*train, "threads=2", "until=1").path
    assert trainlab(*train, "threads=1").path == path
    assert json.loads((path / "env.json").read_text())["threads"] == 1


def test_runs_of_different_threads_are_no_stack(folder, trainlab):
    sweep = ["train", "-q", *NORMED, "-m"]
    trainlab(*sweep, "seed=0", "threads=2", "until=1")
    trainlab(*sweep, "seed=1", "threads=1", "until=1")
    plan = trainlab(*sweep, "seed=0,1", "--dry-run").out
    assert "2 runs to train, in 2 stacks" in plan


def test_tables_tell_of_different_versions(leave, trainlab):
    for seed in range(4):
        versions = {"trainlab": "0.1.0", "torch": "2.6.0" if seed == 3 else "2.13.0"}
        leave("a", {}, seed, val=0.9, versions=versions)
    leave("a", {}, 4, val=0.9)  # of before versions were noted
    said = "(3 by trainlab 0.1.0, torch 2.13.0; 1 by trainlab 0.1.0, torch 2.6.0)"
    for verb in (["table"], ["effects"], ["report"]):
        assert said in trainlab(*verb).err
    assert said not in trainlab("table", "--where", "seed!=3").err
    rows = json.loads(trainlab("list", "runs", "--json").out)
    assert [row.get("torch") for row in rows] == ["2.13.0"] * 3 + ["2.6.0", None]
    assert trainlab("list", "runs", "--where", "seed==3").out.count("2.6.0") == 1


def test_a_run_notes_its_versions_and_its_repository(folder, trainlab, monkeypatch):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@e"]
    for words in (["init", "-q"], ["add", "a.txt"], ["commit", "-qm", "first"]):
        Path("a.txt").write_text("one\n")
        subprocess.run([*git, *words], check=True)
    assert environment.repository(folder)["dirty"] is False
    Path("a.txt").write_text("two\n")
    found = environment.repository(folder)
    assert (found["dirty"], len(found["commit"])) == (True, 40)
    assert "-one\n+two\n" in found["diff"]
    Path("a.txt").write_text("long\n" * 10_000)
    assert "diff" not in environment.repository(folder)
    monkeypatch.setenv("PATH", "")
    assert environment.repository(folder) is None
    environment._of_this_process.cache_clear()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    run = trainlab("train", "-q", *NORMED, "epochs=1").path
    environment._of_this_process.cache_clear()
    noted = json.loads((run / "env.json").read_text())
    assert noted["git"] == environment.repository(folder)
    versions = json.loads((run / "status.json").read_text())["versions"]
    assert versions == {"trainlab": noted["trainlab"], "torch": torch.__version__}
