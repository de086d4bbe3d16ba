"""What happens where nothing can be written, or no memory is left: no run is lost for it."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_damage import TRAIN, _plain

from trainlab import memory
from trainlab.files import Unwritable, appending, load_torch, make_folder, write_text
from trainlab.tables.runs import find_runs

SWEEP = [*TRAIN, "-m", "act=relu,tanh", "seed=0,1"]


@pytest.fixture
def disk(monkeypatch):
    """disk(n, errno) lets the n-th of the writings that follow fail, and all after it; disk(None)
    heals it. Counts them in disk.count."""
    replace, opened = os.replace, os.open
    state = {"count": 0, "left": None, "error": errno.ENOSPC}

    def check() -> None:
        state["count"] += 1
        if state["left"] is not None and state["count"] > state["left"]:
            raise OSError(state["error"], os.strerror(state["error"]))

    def open_to_write(path, flags, *rest, **how):
        if flags & os.O_APPEND:
            check()
        return opened(path, flags, *rest, **how)

    def put(*names, **how):
        check()
        return replace(*names, **how)

    monkeypatch.setattr(os, "replace", put)
    monkeypatch.setattr(os, "open", open_to_write)

    def fail_from(n: int | None, number: int = errno.ENOSPC) -> int:
        before = state["count"]
        state.update(count=0, left=n, error=number)
        return before

    return fail_from


def left_by(study: Path) -> dict[str, list]:
    """Weights and metrics of a study's runs, less their seconds."""
    found = {}
    for run in find_runs(study).runs:
        assert run.status == "done"
        result = {k: v for k, v in run.result.items() if k != "seconds"}
        state = load_torch(run.folder / "checkpoints" / "last.pt", "cpu")
        state.pop("seconds")
        for row in state["history"]:
            for name in ("seconds", "examples_per_second"):
                row.pop(name)
        found[run.folder.name] = [result, _plain(state)]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, list]:
    from trainlab import cli

    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(SWEEP) == 0
        return left_by(Path("outputs/runs"))


def test_a_disk_that_is_full_at_any_writing_costs_nothing(folder, trainlab, disk, undisturbed):
    disk(None)
    assert trainlab(*TRAIN).code == 0
    writings = disk(None)
    assert writings > 15
    for n in range(0, writings, 3):  # every one of them in the reliability suite
        shutil.rmtree("outputs")
        disk(n)
        answer = trainlab(*TRAIN)
        if answer.code == 0:  # of what only watchers read
            continue
        assert answer.code == 1
        assert "cannot be written: No space left on device. Make room there" in answer.err
        assert answer.err.count("\n") == 1
        disk(None)
        for status in Path("outputs").glob("*/*/status.json"):
            assert json.loads(status.read_text())["status"] in ("running", "stopped", "done")
        assert trainlab(*TRAIN).code == 0
        ((name, found),) = left_by(Path("outputs")).items()
        assert found == undisturbed[name], n


@pytest.mark.parametrize("n", [3, 30])
def test_a_sweep_on_a_full_disk_ends_at_once(folder, trainlab, disk, undisturbed, n):
    disk(n)
    answer = trainlab(*SWEEP)
    tried = disk(None) - n
    assert answer.code == 1
    assert tried < 20  # and not run after run
    assert "No space left on device" in answer.err
    assert "failed" not in answer.err
    assert trainlab(*SWEEP).code == 0
    assert left_by(Path("outputs/runs")) == undisturbed


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EMFILE]
)
def test_other_troubles_of_the_machine_are_alike(folder, trainlab, disk, number):
    disk(8, number)
    answer = trainlab(*TRAIN)
    assert answer.code == 1
    assert os.strerror(number) in answer.err
    disk(None)
    assert trainlab(*TRAIN).code == 0


def test_what_is_finished_shows_its_result_where_nothing_can_be_written(folder, trainlab, disk):
    assert trainlab(*SWEEP).code == 0
    assert trainlab(*SWEEP[:-2], "act=gelu", "until=1").code == 0  # paused
    quiet = [word for word in SWEEP if word != "-q"]
    disk(0, errno.EROFS)
    answer = trainlab(*quiet)
    assert answer.code == 0
    assert "val_accuracy" in answer.err
    assert trainlab(*TRAIN, "act=relu").code == 0
    run = next(Path("outputs/runs").glob("*/"))
    for verb in (["table"], ["compare", "--by", "act"], ["watch", "--once"], ["eval", str(run)]):
        assert trainlab(*verb).code == 0, verb
    for verb in (["report"], ["table", "-o", "t.csv"], ["plot"], [*TRAIN, "seed=9"],
                 ["export", str(run), "--format", "safetensors"]):  # fmt: skip
        answer = trainlab(*verb)
        assert answer.code == 1, verb
        assert "cannot be written: Read-only file system" in answer.err
        assert "/." not in answer.err.partition(":")[2]  # no hidden file that nobody asked for


def test_workers_on_a_full_disk_fail_no_run(folder, trainlab, undisturbed):
    """A limit to the size of files, which the workers have too."""
    limit = min(p.stat().st_size for p in [Path(__file__)])  # some kB: less than a checkpoint
    command = [sys.executable, "-m", "trainlab", *SWEEP, "workers=2"]
    small = dict(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    ended = subprocess.run(command, capture_output=True, text=True, **small)
    assert ended.returncode == 1, ended.stderr
    assert "File too large" in ended.stderr
    assert "Error" not in ended.stderr
    statuses = {run.status for run in find_runs("outputs").runs}
    assert "failed" not in statuses
    assert trainlab(*SWEEP).code == 0
    assert left_by(Path("outputs/runs")) == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", ["100k", "200k", "400k", "nr_inodes=12"])
def test_file_systems_of_limited_size(folder, trainlab, undisturbed, size, workers):
    place = Path("small").resolve()
    place.mkdir()
    limit = size if "=" in size else f"size={size}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", limit, "tmpfs", place])
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        sweep = [*SWEEP, f"output_dir={place}", f"workers={workers}"]
        command = [sys.executable, "-m", "trainlab", *sweep]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 1, ended.stderr
        assert "No space left on device" in ended.stderr
        subprocess.run(["mount", "-o", "remount,size=50m,nr_inodes=1000", place], check=True)
        assert trainlab(*sweep).code == 0
        assert left_by(place / "runs") == undisturbed
    finally:
        subprocess.run(["umount", place], check=True)


def test_errors_name_the_file_and_a_remedy(folder):
    closed = Path("closed")
    closed.write_text("")
    with pytest.raises(Unwritable, match=r"^closed/a cannot .* closed is a file, which") as caught:
        make_folder(closed / "a")
    assert caught.value.code == 2
    with pytest.raises(Unwritable, match=r"^/proc/nothing cannot be written"):
        write_text(Path("/proc/nothing"), "")
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(Unwritable, match=r"^log\.txt cannot .* Make room there") as caught,
        appending(Path("log.txt")),
    ):
        raise full
    assert caught.value.code == 1


# ---------------------------------------------------------------- memory


def test_a_run_that_does_not_fit_into_memory_says_what_to_try(trainlab):
    huge = [*TRAIN, "arch.hidden=[1000000000000000]"]
    answer = trainlab(*huge)
    assert answer.code == 1
    assert "It does not fit into memory: " in answer.err
    assert "were asked for at once" in answer.err
    assert "arch.hidden=" in answer.err
    answer = trainlab(*TRAIN, "-m", "arch.hidden=[8],[1000000000000000]")
    assert answer.code == 1
    assert answer.err.count("It does not fit into memory") == 1
    assert {run.status for run in find_runs("outputs").runs} == {"done", "failed"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "into memory. Try"),
        (MemoryError("Unable to allocate 7.28 TiB for an array with shape (1, 2)"), "7.3 TiB"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 1610612736 bytes. Error code 12"
            ),
            "memory: 1.5 GiB were asked for at once, and",
        ),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
                "79.15 GiB of which 1.50 GiB is free."
            ),
            "the GPU's memory: 2.0 GiB were asked for at once, and 1.5 GiB are free",
        ),
        (RuntimeError("std::bad_alloc"), "into memory. Try"),
    ],
)
def test_words_for_too_little_memory(error, told):
    assert memory.out_of_memory(error)
    assert told in memory.explained(error, {"batch_size": 32, "arch": {"hidden": [8]}})
    assert "batch_size=8" in memory.explained(error, {"batch_size": 32})
    assert "in_memory" not in memory.explained(error, {"in_memory": False})


def test_other_errors_are_no_lack_of_memory():
    assert not memory.out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not memory.out_of_memory(ValueError("can't allocate memory"))
