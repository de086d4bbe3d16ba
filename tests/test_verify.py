"""`trainlab verify`: a run comes out again to the last bit, or it is said where it does not."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from trainlab import cli
from trainlab.verify import _pairs

TRAIN = [
    "train", "-q", "max_examples=150", "arch.hidden=[8]", "norm=batch", "reg.dropout=0.1",
    "optimizer=momentum", "log_steps=true",
]  # fmt: skip
KINDS = {
    "done": ["epochs=4"],
    "early": ["epochs=30", "stop=early", "stop.patience=1", "optimizer.lr=0.3", "seed=2"],
    "paused": ["epochs=4", "until=2", "seed=3"],
    "diverged": ["epochs=3", "norm=none", "optimizer.lr=1e30", "seed=4"],
    "lbfgs": ["epochs=2", "optimizer=lbfgs", "reg.dropout=0.0"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, more in KINDS.items():
            cli.main([*TRAIN, f"study={kind}", *more])
    return folder


@pytest.fixture
def run(trained, folder):
    def of(kind: str) -> Path:
        shutil.copytree(trained / "outputs" / kind, Path("outputs") / kind)
        (path,) = (file.parent for file in Path("outputs", kind).glob("*/status.json"))
        return path

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_runs_come_out_again(run, trainlab, kind):
    path = run(kind)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    answer = trainlab("verify", str(path), "--json")
    found = json.loads(answer.out)
    assert (answer.code, found["equal"], found["reasons"]) == (0, True, []), answer.out
    files = {one["file"]: one["numbers"] for one in found["compared"]}
    rows = len((path / "metrics.csv").read_text().splitlines()) - 1
    assert found["epochs"] == rows
    assert found["stretches"] == min(3, rows)
    assert files["metrics.csv"] > 5 * rows
    assert files["steps.csv"] > 0
    if kind != "paused":
        assert files["checkpoints/last.pt"] > 500
        assert "result.json" in files
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert not list(Path(tempfile.gettempdir()).glob("trainlab-verify-*"))
    assert [p.name for p in Path("outputs").iterdir()] == [kind]


def nudged(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    weight = next(iter(state["model"].values()))
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
    torch.save(state, file)


def swapped(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("checkpoints/best.pt", nudged, "1 of 512 numbers"),
        ("result.json", lambda f: swapped(f, '"epochs": 4', '"epochs": 5'), "epochs: 5 there, 4"),
        ("metrics.csv", lambda f: swapped(f, "\n2,", "\n2,9"), "epoch 2, step: 9"),
        ("config.yaml", lambda f: swapped(f, "seed: 0", "seed: 1"), "It has another id now"),
        ("env.json", lambda f: swapped(f, torch.__version__, "1.0"), None),
    ],
)
def test_what_differs_is_told(run, trainlab, file, change, told):
    path = run("done")
    change(path / file)
    answer = trainlab("verify", str(path), "--segments", "1")
    if told is None:  # a version that makes no difference
        assert answer.code == 0
        return
    assert answer.code == 1
    assert told in answer.out
    assert "does not come out again" in answer.out
    if file.endswith((".json", ".csv", ".yaml")):
        assert f"{Path(file).name} was edited" in answer.out


def test_the_first_epochs_alone(run, trainlab):
    path = run("done")
    swapped(path / "metrics.csv", "\n4,", "\n4,9")
    assert trainlab("verify", str(path), "--epochs", "2").code == 0
    assert "2 epochs, trained in 2 stretches" in trainlab("verify", str(path), "--epochs", "2").out
    assert trainlab("verify", str(path)).code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "is no run"),
        ([], "Usage: trainlab verify RUN"),
        (["RUN", "--segments", "0"], "--segments 0: give a whole number >= 1"),
        (["RUN", "--epochs", "two"], "--epochs two: give a whole number >= 1"),
        (["RUN", "seed=1"], "seed=1: of a finished run only these can be set"),
    ],
)
def test_what_cannot_be_verified(run, trainlab, arguments, told):
    path = str(run("paused"))
    answer = trainlab("verify", *(path if word == "RUN" else word for word in arguments))
    assert answer.code == 2
    assert told in answer.err


def test_a_run_without_an_epoch(run, trainlab):
    path = run("paused")
    (path / "metrics.csv").write_text("")
    answer = trainlab("verify", str(path))
    assert answer.code == 2
    assert "nothing to verify" in answer.err


def test_nested_values_are_compared_in_pairs():
    there, here = {"a": [1, {"b": 2.0}], "seconds": 1}, {"a": [1, {"b": 3.0}], "c": 0, "seconds": 2}
    found = {place: (a, b) for place, a, b in _pairs(there, here)}
    assert found["a, 2, b"] == (2.0, 3.0)
    assert set(found) == {"a, 1", "a, 2, b", "c"}
