"""A disk that is full at any writing, clocks that jump, processes that share a folder."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_kills import COMMANDS, STEPS, begun_anew
from test_storage import disk, left_by  # noqa: F401

from trainlab.tables.runs import find_runs

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_full_at_many_writings(folder, trainlab, disk, tally, name):  # noqa: F811
    command = COMMANDS[name]
    disk(None)
    assert trainlab(*command).code == 0
    writings, whole = disk(None), left_by(Path("outputs"))
    for n in range(0, writings, STEPS[name]):
        begun_anew()
        disk(n)
        answer = trainlab(*command)
        tally["full"] += 1
        assert answer.code in (0, 1), answer.err
        assert answer.code == 0 or "cannot be written" in answer.err, (n, answer.err)
        disk(None)
        assert "failed" not in {run.status for run in find_runs("outputs").runs}, n
        assert trainlab(*command).code == 0, n
        assert left_by(Path("outputs")) == whole, n


@pytest.mark.parametrize("name", ["run", "sweep", "journal"])
def test_clocks_that_jump(folder, trainlab, monkeypatch, tally, draw, name):
    command = COMMANDS[name]
    assert trainlab(*command).code == 0
    whole, clock = left_by(Path("outputs")), time.time
    for _ in range(10):
        begun_anew()
        monkeypatch.setattr(time, "time", lambda: clock() + draw.uniform(-1e9, 1e9))
        assert trainlab(*command).code == 0
        tally["jumping clocks"] += 1
        for file in Path("outputs").rglob("*.*"):
            os.utime(file, (0, 0))
        assert trainlab(*command).code == 0
        assert trainlab("watch", "--once").code == 0
        assert trainlab("table").code == 0
        monkeypatch.setattr(time, "time", clock)
        assert left_by(Path("outputs")) == whole


@pytest.mark.parametrize("name", ["sweep", "sqlite", "journal"])
@pytest.mark.parametrize("processes", [2, 6])
def test_processes_that_share_a_folder(folder, trainlab, tally, name, processes):
    command = [sys.executable, "-m", "trainlab", *COMMANDS[name]]
    assert trainlab(*COMMANDS[name]).code == 0
    whole = left_by(Path("outputs"))
    begun_anew()
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=one_thread, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(processes)
    ]
    for process in started:
        _, err = process.communicate(timeout=500)
        assert process.returncode == 0, err
        tally["processes"] += 1
    found = left_by(Path("outputs"))
    assert found == whole if name == "sweep" else len(found) >= len(whole)
    for run in find_runs("outputs").runs:
        log = (run.folder / "log.txt").read_text()
        assert log.count("started") == 1, log
        assert json.loads((run.folder / "status.json").read_text())["status"] == "done"
        tally["runs"] += 1
    shutil.rmtree("outputs")
