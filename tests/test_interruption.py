"""Processes that die in the middle: the same command continues, and ends with the same bits."""

import json
import signal
import time

import pytest
import torch

ARGUMENTS = (
    "checkpoint.every=1",
    "checkpoint.unit=epochs",
    "norm=batch",
    "epochs=60",
    "device=cpu",
)


def last_weights(path):
    return torch.load(path / "checkpoints" / "last.pt", weights_only=True)["model"]


def wait_for(process, path, rows):
    """Until metrics.csv has so many rows; the process must still be training."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        files = list(path.glob("*/metrics.csv"))
        if files and all(len(f.read_text().splitlines()) > rows for f in files):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("no progress")


def undisturbed(trainlab, *arguments):
    answer = trainlab("train", "-q", "study=whole", *ARGUMENTS, *arguments)
    assert answer.code == 0
    return answer.path


@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)],
    ids=["kill -9", "Ctrl-C", "SIGTERM"],
)
def test_a_run_that_was_ended_continues_to_the_same_weights(
    trainlab, trainlab_process, folder, how, code
):
    whole = undisturbed(trainlab)
    process = trainlab_process("train", "study=cut", *ARGUMENTS)
    wait_for(process, folder / "outputs" / "cut", 5)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == code
    (cut,) = (p for p in (folder / "outputs" / "cut").iterdir() if p.is_dir())
    assert not (cut / "result.json").exists()
    if how != signal.SIGKILL:
        assert json.loads((cut / "status.json").read_text())["status"] == "stopped"
    answer = trainlab("train", "study=cut", *ARGUMENTS)
    assert answer.code == 0
    assert "continuing in epoch" in answer.err
    ours, theirs = last_weights(answer.path), last_weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len((cut / "metrics.csv").read_text().splitlines()) == 61


def test_a_killed_sweep_neither_loses_nor_repeats_a_run(trainlab, trainlab_process, folder):
    sweep = ("-m", "seed=range(2)", "optimizer.lr=0.001,0.01", "act=relu,tanh")
    whole = undisturbed(trainlab, *sweep)
    process = trainlab_process("train", "study=cut", *ARGUMENTS, *sweep)
    wait_for(process, folder / "outputs" / "cut", 5)
    process.kill()
    process.communicate(timeout=60)
    answer = trainlab("train", "-q", "study=cut", *ARGUMENTS, *sweep)
    assert answer.code == 0
    runs = sorted(path.name for path in whole.iterdir() if path.is_dir())
    assert sorted(path.name for path in answer.path.iterdir() if path.is_dir()) == runs
    assert len(runs) == 8
    for name in runs:
        ours, theirs = last_weights(answer.path / name), last_weights(whole / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_two_processes_never_train_one_run(trainlab, trainlab_process, folder):
    process = trainlab_process("train", "study=both", "epochs=100000", "device=cpu")
    wait_for(process, folder / "outputs" / "both", 1)
    answer = trainlab("train", "study=both", "epochs=100000", "device=cpu")
    assert answer.code == 2
    assert "another process is training it" in answer.err
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ["epochs=2"],
        ["stop=early", "stop.patience=1", "optimizer.lr=0.05", "epochs=60"],
        ["optimizer=momentum", "optimizer.lr=1e6", "epochs=3"],
    ],
    ids=["all epochs", "stopped early", "diverged"],
)
@pytest.mark.parametrize("lost", ["result and status", "result", "status"])
def test_a_run_that_died_before_its_result_was_written_is_finished(trainlab, arguments, lost):
    """Its last checkpoint says that it had ended: nothing is trained, the result is the same."""
    arguments = ("-q", "max_examples=300", *arguments)
    first = trainlab("train", *arguments)
    result = first.result
    metrics = (first.path / "metrics.csv").read_text()
    if "status" in lost:
        status = json.loads((first.path / "status.json").read_text())
        (first.path / "status.json").write_text(json.dumps(status | {"status": "running"}))
    if "result" in lost:
        (first.path / "result.json").write_text('{"run_id": ')
    again = trainlab("train", *arguments)
    assert again.code == first.code
    assert again.result == result
    assert (first.path / "metrics.csv").read_text() == metrics


def test_a_damaged_checkpoint_stops_no_other_run(trainlab):
    sweep = ("train", "-q", "-m", "max_examples=200", "epochs=2", "seed=range(3)")
    path = trainlab(*sweep).path
    runs = sorted(file.parent for file in path.glob("*/result.json"))
    for run in runs[:2]:
        (run / "result.json").unlink()
    last = runs[0] / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:500])
    answer = trainlab(*sweep)
    assert answer.code == 1
    assert "last.pt is damaged" in answer.err
    assert (runs[1] / "result.json").exists()
    assert trainlab(*sweep, "fresh=true").code == 0
