"""What tests share: one torch thread, an empty working folder, trainlab called as a user would."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from trainlab import cli

# Two test processes of several threads each would only fight for the cores.
torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass
class Answer:
    """What a command left: exit code, output, and the folder it named last."""

    code: int
    out: str
    err: str

    @property
    def path(self) -> Path:
        return Path(self.out.splitlines()[-1])

    @property
    def result(self) -> dict:
        return json.loads((self.path / "result.json").read_text())


@pytest.fixture
def trainlab(folder, capfd) -> Callable[..., Answer]:
    """Call the command line in this process, in an empty folder."""

    def call(*arguments: str) -> Answer:
        capfd.readouterr()
        root = logging.getLogger()
        before = root.level, list(root.handlers)
        try:
            code = cli.main(list(arguments))
        finally:  # Hydra's --info turns its log on, for good
            root.setLevel(before[0])
            root.handlers[:] = before[1]
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def trainlab_process(folder) -> Callable[..., subprocess.Popen]:
    """Start the command line as a process of its own."""

    def start(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "trainlab", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    return start
