"""What tests share: one torch thread, an empty working folder, trainlab called as a user would."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from trainlab import cli

# Two test processes of several threads each would only fight for the cores.
torch.set_num_threads(1)

# No test may find a server that is set on this machine, or report that it ran.
for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
    del os.environ[name]
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


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
def leave(folder) -> Callable[..., Path]:
    """Leave a run's folder as if it had been trained: leave("a", {"act": "relu"}, val=0.9)."""
    count = 0

    def call(
        study: str, settings: dict, seed: int = 0, val: float | None = None,
        test: float | None = None, status: str = "done", rows: list[dict] | None = None,
        metric: str = "accuracy", **more,
    ) -> Path:  # fmt: skip
        nonlocal count
        count += 1
        run = folder / "outputs" / study / f"{count:010x}"
        run.mkdir(parents=True)
        config = {"dataset": "digits", "task": "auto", "study": study, "seed": seed, "epochs": 2}
        config |= {"optimizer": "adam", "act": "relu"} | settings
        entry = {"run_id": run.name, "status": status, "reason": more.pop("reason", None)}
        entry |= {
            "time": f"2026-01-01T00:{count // 60:02d}:{count % 60:02d}+0000",
            "config": config,
        }
        entry |= {"overrides": [f"{k}={v}" for k, v in settings.items()] + [f"seed={seed}"]}
        (run / "status.json").write_text(json.dumps(entry | more))
        if val is not None:
            result = {"run_id": run.name, "status": status, f"test_{metric}": test or val}
            result |= {f"val_{metric}": val, "val_loss": 1 - val, "best_epoch": 1, "epochs": 2}
            result |= {"steps": 20, "seconds": 0.5, "parameters": 100, "seed": seed}
            (run / "result.json").write_text(json.dumps(result))
        if rows:
            lines = [",".join(rows[0]), *(",".join(map(repr, row.values())) for row in rows)]
            (run / "metrics.csv").write_text("\n".join(lines) + "\n")
        return run

    return call


@pytest.fixture
def trainlab_process(folder) -> Callable[..., subprocess.Popen]:
    """Start the command line as a process of its own."""

    def start(*arguments: str, **how: Any) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "trainlab", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            **how,
        )

    return start
