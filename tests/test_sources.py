"""The user's own code is part of a run's identity: what counts of it, and what does not."""

import sys
from pathlib import Path

import pytest

from trainlab.config.sources import own_code

TWICE = """\
import torch
from helper import factor


class Twice(torch.nn.Module):
    def forward(self, x):
        return factor() * torch.relu(x)
"""
HELPER = "def factor():\n    return 2.0\n"
MINE = {"act": {"_target_": "mine.Twice"}, "optimizer": {"_target_": "torch.optim.SGD"}}


@pytest.fixture
def code(folder) -> Path:
    Path("mine.py").write_text(TWICE)
    Path("helper.py").write_text(HELPER)
    return folder


def test_configs_without_own_code_have_none(code):
    assert own_code({"act": {"_target_": "torch.nn.ReLU"}}) is None
    assert own_code({"arch": {"_target_": "trainlab.architectures.mlp"}}) is None
    assert own_code({"act": {"_target_": "nowhere.at.all"}}) is None
    assert own_code(MINE, left_out=["act"]) is None


@pytest.mark.parametrize(
    ("file", "text", "same"),
    [
        ("mine.py", TWICE.replace("relu", "tanh"), False),
        ("mine.py", TWICE.replace("\n\n\n", "\n\n# a comment\n\n\n\n"), True),
        ("mine.py", TWICE.replace("relu(x)", "relu(x)   # why"), True),
        ("mine.py", TWICE + "\nNAME = '#1'\n", False),
        ("helper.py", HELPER.replace("2.0", "3.0"), False),
        ("helper.py", "# of a helper\n" + HELPER, True),
        ("other.py", "factor = 1\n", True),
        ("helper.py", "def factor(:\n", False),
    ],
)
def test_what_is_said_counts(code, file, text, same):
    before = own_code(MINE)
    Path(file).write_text(text)
    assert (own_code(MINE) == before) is same


def test_blank_lines_in_texts_count(code):
    Path("helper.py").write_text('TEXT = """a\n\nb # no comment\n"""\n')
    before = own_code(MINE)
    Path("helper.py").write_text('TEXT = """a\nb # no comment\n"""\n')
    assert own_code(MINE) != before
    Path("helper.py").write_text('TEXT = """a\n\nb\n"""\n')
    assert own_code(MINE) != before


@pytest.fixture
def package(folder) -> dict:
    """own.act.wide names what it imports in all the ways there are."""
    for name, text in {
        "own/__init__.py": "",
        "own/act/__init__.py": "from own.act.wide import Wide\n",
        "own/act/wide.py": "from . import near\nfrom ..far import f\nimport own.deep.inner as i\n",
        "own/act/near.py": "import os\n",
        "own/far.py": "from own.deep import other\nf = 1\n",
        "own/deep/__init__.py": "",
        "own/deep/inner.py": "",
        "own/deep/other.py": "import beside\n",
        "own/unused.py": "",
        "beside.py": "",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    return {"act": {"_target_": "own.act.wide.Wide", "inner": [{"_target_": "torch.nn.ReLU"}]}}


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("own/__init__.py", True),
        ("own/act/__init__.py", True),
        ("own/act/wide.py", True),
        ("own/act/near.py", True),
        ("own/far.py", True),
        ("own/deep/__init__.py", True),
        ("own/deep/inner.py", True),
        ("own/deep/other.py", True),
        ("beside.py", True),
        ("own/unused.py", False),
    ],
)
def test_imports_are_followed(package, file, counts):
    before = own_code(package)
    Path(file).write_text(Path(file).read_text() + "ANSWER = 42\n")
    assert (own_code(package) != before) is counts


def test_of_an_installed_package_neighbours_are_other_peoples(package, monkeypatch, tmp_path):
    place = tmp_path / "site-packages"
    place.mkdir()
    for name in ("own", "beside.py"):
        Path(name).rename(place / name)
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    before = own_code(package)
    (place / "beside.py").write_text("ANSWER = 42\n")
    assert own_code(package) == before
    (place / "own/far.py").write_text("f = 2\n")
    assert own_code(package) != before


def test_the_folder_may_move(package, tmp_path, monkeypatch):
    before = own_code(package)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("own", "beside.py"):
        Path(name).rename(moved / name)
    monkeypatch.chdir(moved)
    assert own_code(package) == before


def test_a_run_is_of_the_code_that_it_was_trained_with(code, trainlab, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("conf/act").mkdir(parents=True)
    Path("conf/act/mine.yaml").write_text("# twice\n_target_: mine.Twice\n")
    train = ["train", "act=mine", "trusted=[mine]", "epochs=1", "max_examples=100"]

    def anew(*more: str):
        for name in ("mine", "helper"):  # as a command of its own finds them
            sys.modules.pop(name, None)
        return trainlab(*train, *more)

    first = anew()
    assert first.code == 0, first.err
    Path("mine.py").write_text("# the same, with a comment\n" + TWICE)
    assert anew().path == first.path
    Path("helper.py").write_text(HELPER.replace("2.0", "-2.0"))
    second = anew()
    assert second.path != first.path
    assert second.result["val_loss"] != first.result["val_loss"]
    assert anew("logger=none").path == second.path
