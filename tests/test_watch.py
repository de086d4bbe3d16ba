"""A sweep watched from outside: what its folder tells, and what is drawn of it."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from trainlab import cli, plans
from trainlab.config import UserError
from trainlab.store import HOST
from trainlab.watch import folder as folders
from trainlab.watch import frame as frames
from trainlab.watch.frame import gather
from trainlab.watch.picture import picture

STUDY = Path("outputs/s")
SWEEP = ("-m", "act=relu,tanh", "seed=0,1", "max_examples=200", "arch.hidden=[8]", "device=cpu")


def epochs(*losses):
    """Rows of metrics.csv."""
    return [{"epoch": k + 1, "val_loss": loss} for k, loss in enumerate(losses)]


def here(**more):
    """Where a run says it trains: in this process."""
    return {"status": "running", "pid": os.getpid(), "host": HOST} | more


def drawn(frame, width=80, height=24) -> list[str]:
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(picture(frame, width, height))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def dead():
    """A process id that nobody has."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def plan(folder):
    """Write sweep.json as another process would; began at the time 1000 of the clock."""

    def call(*runs, **more):
        entry = {"command": "trainlab train -m x", "began": "1970-01-01T00:16:40+0000"}
        entry |= {"pid": os.getppid(), "host": HOST, "total": None, "metric": None}
        entry |= {"runs": dict.fromkeys((str(run) for run in runs), 0.0), "again": {}, "alike": []}
        STUDY.mkdir(parents=True, exist_ok=True)
        made = [plan._asdict() for plan in plans.read(STUDY)]
        (STUDY / "sweep.json").write_text(json.dumps({"plans": [*made, entry | more]}))

    return call


# ---------------------------------------------------------------- frames


def test_a_frame_by_hand(leave, plan):
    done = [leave("s", {"act": "relu"}, seed, val) for seed, val in enumerate((0.7, 0.9))]
    worse = leave("s", {"act": "tanh"}, 0, 0.75)
    failed = leave("s", {"act": "gelu"}, status="failed", reason="ValueError: no")
    goes = leave("s", {"act": "selu"}, rows=epochs(0.5, 0.4, 0.6), **here())
    told = json.loads((goes / "status.json").read_text())
    told["config"]["epochs"] = 4
    (goes / "status.json").write_text(json.dumps(told))
    names = [path.name for path in (*done, worse, failed, goes)]
    plan(*names, "a", "b", "c")
    frame = gather(STUDY, {}, now=1095)
    assert (frame.ended, frame.total) == (4, 8)
    assert frame.counts == {"done": 3, "failed": 1, "running": 1, "waiting": 3}
    # 4 runs and 3 of 4 epochs took 95 s: 20 s each; 3.25 are left
    assert frame.share == pytest.approx(4.75 / 8)
    assert (frame.elapsed, frame.left) == (95, pytest.approx(65))
    assert frame.running == [frames.Running("selu seed=0", 3, 4, "val_loss", 0.6, 0.4, None)]
    assert frame.best == [frames.Best("relu", "val_accuracy", [0.7, 0.9])]
    assert frame.troubles == [frames.Trouble("failed", "gelu seed=0", "ValueError: no")]
    assert not frame.over


def test_what_was_there_before_is_no_measure_of_the_rate(leave, plan):
    before = leave("s", {}, 0, 0.9)
    going_on = leave("s", {}, 1, rows=epochs(0.5), **here())
    plan(before.name, going_on.name, "a", runs={before.name: 1.0, going_on.name: 0.5, "a": 0.0})
    assert gather(STUDY, {}, now=1010).left is None
    with open(going_on / "metrics.csv", "a") as file:
        file.write("2,0.4\n")
    frame = gather(STUDY, {}, now=1010)  # half a run in 10 s
    assert frame.left == pytest.approx(20)


def test_runs_trained_anew_wait_until_they_begin(leave, plan):
    run = leave("s", {}, 0, 0.9)
    status = json.loads((run / "status.json").read_text())
    plan(run.name, again={run.name: plans.mark(status)})
    frame = gather(STUDY, {})
    assert (frame.counts, frame.ended, frame.over) == ({"waiting": 1}, 0, False)
    (run / "status.json").write_text(json.dumps(status | {"time": "2026-02-01T00:00:00+0000"}))
    frame = gather(STUDY, {})
    assert (frame.counts, frame.ended, frame.over) == ({"done": 1}, 1, True)


def test_a_dead_process_is_told(leave, plan, dead):
    leave("s", {}, 0, rows=epochs(0.5), **here(pid=dead))
    leave("s", {}, 1, **here(pid=1, host="elsewhere"))
    leave("s", {}, 2, status="running")  # of a version that did not say where
    frame = gather(STUDY, {})
    assert frame.counts == {"running": 2, "interrupted": 1}
    assert frame.running[0].quiet is None
    assert not frame.over
    for path in STUDY.iterdir():
        os.utime(path / "status.json", (1000, 1000))
    assert gather(STUDY, {}, now=2000).running[0].quiet == 1000
    assert "nothing heard for 0:16:40" in "\n".join(drawn(gather(STUDY, {}, now=2000)))


def test_it_is_over_when_all_is_done_or_nobody_is_left(leave, plan, dead):
    done = leave("s", {}, 0, 0.9)
    plan(done.name)
    assert gather(STUDY, {}).over
    plan(done.name, "a")
    assert not gather(STUDY, {}).over
    (STUDY / "sweep.json").unlink()
    plan(done.name, "a", pid=dead)
    frame = gather(STUDY, {})
    assert frame.over
    assert "unfinished; the same command continues" in "\n".join(drawn(frame))
    leave("s", {}, 1, **here())  # a worker that outlives its sweep
    assert not gather(STUDY, {}).over


def test_a_search_is_not_over_between_two_batches(leave, plan):
    done = [leave("s", {"act": act}, 0, 0.9) for act in ("relu", "tanh")]
    paused = leave("s", {"act": "selu", "until": 1}, rows=epochs(0.5), status="paused")
    names = [path.name for path in (*done, paused)]
    plan(*names, total=6, metric="val_loss")
    frame = gather(STUDY, {})
    assert (frame.total, frame.ended, frame.over) == (6, 2, False)
    assert frame.best[0].metric == "val_loss"
    (STUDY / "sweep.json").unlink()
    plan(*names)  # of a sweep that wants one epoch
    frame = gather(STUDY, {})
    assert (frame.total, frame.ended, frame.over) == (3, 3, True)


def test_without_a_plan_all_runs_are_shown_and_the_total_is_not_known(leave):
    leave("s", {}, 0, 0.9)
    leave("s", {}, 1, **here())
    frame = gather(STUDY, {})
    assert (frame.total, frame.left, frame.counts) == (None, None, {"done": 1, "running": 1})
    assert "1/? runs" in "\n".join(drawn(frame))


def test_a_run_that_was_stopped_is_not_finished(leave):
    leave("s", {}, 0, 0.9)
    assert "finished" in drawn(gather(STUDY, {}))
    leave("s", {}, 1, status="stopped")
    frame = gather(STUDY, {})
    assert frame.over
    assert "unfinished" in drawn(frame)[3]


def test_runs_of_before_the_sweep_are_left_out(leave, plan):
    old, new = leave("s", {}, 0, 0.9), leave("s", {}, 1, 0.8)
    os.utime(old / "status.json", (900, 900))
    plan("a")
    assert gather(STUDY, {}).counts == {"done": 1, "waiting": 1}
    assert gather(STUDY, {}).total == 2
    assert new.is_dir()


def test_half_written_files_are_waited_for(leave, plan):
    run = leave("s", {}, rows=epochs(0.5), **here())
    known = {}
    with open(run / "metrics.csv", "a") as file:
        file.write("2,0.")
        file.flush()
        assert gather(STUDY, known).running[0].epoch == 1
        file.write("25\n3,nan\n")
    (now,) = gather(STUDY, known).running
    assert (now.epoch, now.best) == (3, 0.25)
    # and from the beginning when the run begins anew
    (run / "beside").write_text("epoch,val_loss\n1,0.75\n")
    os.replace(run / "beside", run / "metrics.csv")
    (now,) = gather(STUDY, known).running
    assert (now.epoch, now.latest, now.best) == (1, 0.75, 0.75)
    for text in ("", "{", "[]", '{"status": "running", "config": 3}'):
        (run / "status.json").write_text(text)
        (STUDY / "sweep.json").write_text(text)
        assert gather(STUDY, {}).running == []
    (STUDY / "sweep.json").write_text('{"plans": [{"pid": 1}]}')
    assert gather(STUDY, {}).total is None


def test_only_what_has_changed_is_read(leave, plan, monkeypatch):
    runs = [leave("s", {}, seed, 0.9) for seed in range(3)]
    goes = leave("s", {}, 3, rows=epochs(0.5), **here())
    plan(*[run.name for run in runs], goes.name)
    known, read = {}, []
    gather(STUDY, known)
    monkeypatch.setattr(folders, "read_json", lambda path: read.append(path) or {})
    monkeypatch.setattr(folders.Folder, "_read_row", lambda *_: read.append("row"))
    frame = gather(STUDY, known)
    assert frame.counts == {"done": 3, "running": 1}
    assert read == []


# ---------------------------------------------------------------- pictures


@pytest.fixture
def crowded(leave, plan):
    """More runs and failures than fit, with names that are long and look like markup."""
    for seed in range(40):
        leave("s", {"act": "[red]", "optimizer.lr": 0.1234567}, seed, rows=epochs(0.5), **here())
        leave("s", {"act": "[/]"}, seed, status="failed", reason="a [bold]b[/bold]\n\x1b[2Jend")
    leave("s", {"act": "[blue]"}, 1, 0.9)
    plan(*(path.name for path in STUDY.iterdir() if path.is_dir()), command="x " * 80)
    return gather(STUDY, {})


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 24), (60, 20), (40, 12), (200, 60)])
def test_a_frame_is_no_larger_than_the_terminal(crowded, width, height):
    lines = drawn(crowded, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    shown = sum("1/2" in line for line in lines)
    assert f"and {40 - shown} more" in text
    assert sum(line.startswith("failed") for line in lines) == {12: 2, 60: 12}.get(height, 3)
    assert "1 done · 40 failed · 40 running"[:width] in text.replace("\n", " ")


def test_markup_and_controls_are_printed_as_they_are(crowded):
    lines = drawn(crowded, 160, None)
    text = "\n".join(lines)
    assert sum("[red]" in line for line in lines) == 40
    assert "[/] seed=39" in text
    assert "[blue]" in text
    assert r"a [bold]b[/bold] \x1b[2Jend" in text
    assert "\x1b" not in text


# ---------------------------------------------------------------- the verb


def test_folders_that_are_empty_or_missing(trainlab, folder, leave):
    answer = trainlab("watch")
    assert answer.code == cli.BAD_INPUT
    assert "There is no folder outputs" in answer.err
    (folder / "outputs").mkdir()
    answer = trainlab("watch", "outputs")
    assert answer.code == cli.BAD_INPUT
    assert "begins a sweep" in answer.err
    assert "Usage" in trainlab("watch", "a", "b").err
    with pytest.raises(UserError):
        frames.newest(Path("nowhere"))


def test_the_study_that_changed_last_is_watched(leave, trainlab):
    for study in ("old", "new/est", "older"):
        leave(study, {}, 0, 0.9)
    for study, when in (("old", 2000), ("new/est", 3000), ("older", 1000)):
        os.utime(Path("outputs") / study, (when, when))
    assert trainlab("watch").out.startswith("outputs/new/est\n")
    assert trainlab("watch", "outputs/old").out.startswith("outputs/old\n")


def test_a_real_sweep_from_another_process(trainlab, trainlab_process, folder):
    slow = ("epochs=150", "workers=2", "stack=2")
    process = trainlab_process("train", *SWEEP, *slow, "study=s")
    deadline = time.monotonic() + 60
    while not (STUDY.is_dir() and gather(STUDY, {}).running):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = trainlab("watch", "--once")
    assert answer.code == 0
    assert process.poll() is None
    assert "0/4 runs" in answer.out
    assert "running" in answer.out
    assert "val_loss" in answer.out
    assert "trainlab train -m act=relu,tanh seed=0,1" in answer.out
    assert "\x1b" not in answer.out
    process.communicate(timeout=100)
    assert process.returncode == 0
    answer = trainlab("watch", "outputs/s")
    assert "4/4 runs" in answer.out
    assert "4 done" in answer.out
    assert "finished after" in answer.out
    assert "(n = 2)" in answer.out
    (entry,) = plans.read(STUDY)
    assert len(entry.runs) == 4
    assert entry.alike == ["max_examples=200", "arch.hidden=[8]", "device=cpu", *slow, "study=s"]


def test_plans_of_the_living_are_kept_and_of_the_dead_replaced(plan, dead):
    plan("a", pid=dead)
    plan("b", pid=os.getppid())
    plan("c", host="elsewhere")  # and long ago
    plans.note(STUDY, {"d": 0.5}, {}, [["x=1"]])
    assert [list(entry.runs) for entry in plans.read(STUDY)] == [["b"], ["d"]]
    plans.note(STUDY, {"e": 0.0}, {}, [["x=1"]])
    assert [list(entry.runs) for entry in plans.read(STUDY)] == [["b"], ["e"]]
    plans.note(STUDY, {}, {}, [], 3, "val_loss")
    for name in ("f", "g"):
        plans.note(STUDY, {name: 0.0}, {}, [["x=1", f"y={name}"], ["x=1", "y=0"]])
    entry = plans.read(STUDY)[1]
    assert (set(entry.runs), entry.total, entry.alike) == ({"f", "g"}, 3, ["x=1"])


def test_a_search_says_how_many_runs_it_will_be(trainlab):
    space = ("act=relu,tanh", "optimizer.lr=interval(0.01,0.1)", "seed=0,1", "search.trials=5")
    small = ("max_examples=200", "arch.hidden=[4]", "epochs=1", "search.batch=2", "workers=1")
    answer = trainlab("train", "search=random", *space, *small, "study=s")
    assert answer.code == 0
    (entry,) = plans.read(STUDY)
    assert (entry.total, len(entry.runs), entry.metric) == (10, 10, "val_loss")
    assert entry.alike[:2] == ["max_examples=200", "arch.hidden=[4]"]
    assert gather(STUDY, {}).over
    trainlab("train", "search=random", *space, *small, "study=other", "--dry-run")
    assert not Path("outputs/other").exists()


def test_a_dry_run_and_bad_input_leave_no_plan(trainlab, folder):
    trainlab("train", *SWEEP, "epochs=1", "--dry-run")
    trainlab("train", "dataset=moons", "arch=cnn")
    assert list(folder.iterdir()) == []


class Terminal:
    """`trainlab watch` on a terminal of its own."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainlab", "watch", *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
            # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.close(slave)
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while read := os.read(self.master, 4096):
                self.text += read.decode(errors="replace")
        except OSError:  # all have closed it
            return

    def shows(self, text, seconds=30):
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def ended(self):
        code = self.process.wait(30)
        os.close(self.master)
        return code


def test_on_a_terminal_it_ends_with_the_sweep(leave, plan):
    run = leave("s", {"act": "[red]"}, rows=epochs(0.5), **here())
    plan(run.name)
    terminal = Terminal()
    terminal.shows("1 running")
    status = json.loads((run / "status.json").read_text()) | {"status": "done"}
    (run / "beside").write_text(json.dumps(status))
    os.replace(run / "beside", run / "status.json")
    terminal.shows("finished after")
    assert terminal.ended() == 0


def test_ctrl_c_leaves_quietly(leave, plan):
    leave("s", {}, rows=epochs(0.5), **here())
    terminal = Terminal("outputs/s")
    terminal.shows("1 running")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.ended() == 0
    assert "Traceback" not in terminal.text
    assert "interrupted" not in terminal.text


def test_it_imports_neither_torch_nor_pandas(leave):
    leave("s", {}, 0, 0.9)
    code = (
        "import sys; from trainlab import cli; cli.main(['watch', 'outputs/s']);"
        "print([name for name in ('torch', 'pandas', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
