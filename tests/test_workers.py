"""Sweeps in several processes: the same rows, and nothing lost when one dies."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml

from trainlab import executors, work
from trainlab.config import compose, run_id
from trainlab.executors import cluster, local
from trainlab.prepare import Sources
from trainlab.progress import Display
from trainlab.store import Run
from trainlab.work import Job, Worker

SWEEP = ("-m", "seed=range(4)", "optimizer.lr=0.001,0.01", "max_examples=300", "arch.hidden=[16]")
SLOW = ("epochs=200", "checkpoint.every=20", "checkpoint.unit=epochs", "device=cpu")


def rows(study: Path) -> dict[str, pd.DataFrame]:
    """Run id -> metrics.csv, less what a clock says."""
    files = {path.parent.name: pd.read_csv(path) for path in study.glob("*/metrics.csv")}
    return {
        name: frame.drop(columns=["seconds", "examples_per_second"])
        for name, frame in sorted(files.items())
    }


def statuses(study: Path) -> list[str]:
    return [json.loads(p.read_text())["status"] for p in sorted(study.glob("*/status.json"))]


def children(pid: int) -> list[int]:
    """All processes below one, the youngest last."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found = [child for child, parent in parents if parent == pid]
    return sorted(found + [below for child in found for below in children(child)])


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether it still runs: a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def begun(study: Path, count: int) -> bool:
    """Whether so many runs have three epochs in their tables."""
    tables = [path.read_text().count("\n") for path in study.glob("*/metrics.csv")]
    return sum(lines > 3 for lines in tables) >= count


def assert_equal(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame], exact=True):
    assert list(left) == list(right)
    for name in left:
        pd.testing.assert_frame_equal(left[name], right[name], check_exact=exact)


def own(folder: Path, group: str, name: str, code: str):
    """A user's option of a group: the class of its name in the module my_<name>."""
    (folder / "conf" / group).mkdir(parents=True)
    text = f"_target_: my_{name}.{name.capitalize()}\n"
    (folder / "conf" / group / f"{name}.yaml").write_text(text)
    (folder / f"my_{name}.py").write_text(code)


@pytest.fixture
def undisturbed(trainlab):
    """The rows of a sweep in one process."""

    def call(*arguments):
        answer = trainlab("train", "-q", *SWEEP, *arguments, "study=whole", "workers=1")
        assert answer.code == 0
        return rows(answer.path)

    return call


def test_rows_do_not_depend_on_stacks_workers_or_order(trainlab, undisturbed):
    whole = undisturbed("epochs=3")
    for number, how in enumerate([
        ["stack=1", "workers=1"],
        ["stack=3", "workers=2"],
        ["workers=2", "seed=3,1,0,2", "optimizer.lr=0.01,0.001"],
    ]):  # fmt: skip
        answer = trainlab("train", "-q", *SWEEP, "epochs=3", f"study=s{number}", *how)
        assert answer.code == 0
        assert_equal(rows(answer.path), whole)


def test_what_workers_show_reaches_the_terminal(trainlab):
    answer = trainlab(
        "train", *SWEEP, "epochs=2", "workers=2", "stack=4", "act=selu", "reg.dropout=0.1"
    )
    assert "2 worker processes" in answer.err
    assert answer.err.count("4 runs as one stack") == 2
    assert answer.err.count("4 runs  epoch 2/2") == 2
    assert answer.err.count("warning: selu keeps mean 0") == 1
    assert " 8 │" in answer.err or " 4 │" in answer.err


def test_a_worker_that_is_killed_costs_only_its_stack(trainlab_process, undisturbed, folder):
    whole = undisturbed(*SLOW)
    process = trainlab_process("train", *SWEEP, *SLOW, "study=cut", "workers=2", "stack=2")
    study = folder / "outputs" / "cut"
    until(lambda: begun(study, 4))
    workers = children(process.pid)
    os.kill(workers[-1], signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0
    assert "a worker was killed (SIGKILL); its stack is tried once more" in err
    assert_equal(rows(study), whole)
    until(lambda: not any(map(alive, workers)))


DEADLY = """
import multiprocessing, os
from torch import nn

class Deadly(nn.ReLU):
    def forward(self, x):
        if multiprocessing.parent_process():
            os.kill(os.getpid(), 9)
        return super().forward(x)
"""


def test_what_kills_its_worker_twice_is_reported(trainlab, folder):
    own(folder, "act", "deadly", DEADLY)
    arguments = ("-m", "act=deadly,relu", "seed=0,1", "max_examples=100", "epochs=2")
    answer = trainlab("train", *arguments, "trusted=[my_deadly]", "workers=2", "stack=2")
    assert answer.code == 1
    assert "tried once more" in answer.err
    assert answer.err.count("RuntimeError: a worker was killed (SIGKILL)") >= 2
    assert sorted(statuses(answer.path)) == ["done", "done", "failed", "failed"]


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_workers_end_with_their_sweep(trainlab, trainlab_process, undisturbed, folder, how):
    whole = undisturbed(*SLOW)
    process = trainlab_process("train", *SWEEP, *SLOW, "study=cut", "workers=2", "stack=2")
    study = folder / "outputs" / "cut"
    until(lambda: begun(study, 4))
    workers = children(process.pid)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    until(lambda: not any(map(alive, workers)))
    assert "stopped" in statuses(study)
    answer = trainlab("train", *SWEEP, *SLOW, "study=cut", "workers=1")
    assert answer.code == 0
    assert_equal(rows(study), whole)


def test_who_is_asked_to_end_has_not_died(trainlab, trainlab_process, undisturbed, folder):
    """Ctrl-C while the workers still start: no run is failed, and the same command goes on."""
    whole = undisturbed("epochs=3")
    arguments = ("train", *SWEEP, "epochs=3", "study=cut", "workers=2", "stack=2")
    process = trainlab_process(*arguments)
    for line in process.stderr:
        if "2 worker processes" in line:
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    study = folder / "outputs" / "cut"
    assert "failed" not in statuses(study)
    answer = trainlab(*arguments[:-2])
    assert answer.code == 0
    assert_equal(rows(study), whole)


@pytest.mark.parametrize(
    ("executor", "how"),
    [
        ("submitit", ["executor.cluster=local"]),
        pytest.param("ray", [], marks=pytest.mark.slow),
    ],
)
def test_other_executors_are_interrupted(trainlab, trainlab_process, folder, executor, how):
    pytest.importorskip(executor)
    arguments = [*SWEEP, "epochs=20000", "stack=4", "workers=2", f"executor={executor}", *how]
    process = trainlab_process("train", *arguments)
    until(lambda: begun(folder / "outputs" / "runs", 1))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "failed" not in statuses(folder / "outputs" / "runs")
    assert "the same command continues" in err
    assert out.splitlines()[-1] == "outputs/runs"


def test_a_single_run_goes_to_the_executor_that_was_asked_for(trainlab):
    pytest.importorskip("submitit")
    how = ("executor=submitit", "executor.cluster=local", "max_examples=100", "epochs=1")
    answer = trainlab("train", *how)
    assert answer.code == 0, answer.err
    assert (answer.path.parent / ".submitit").is_dir()
    assert answer.result["status"] == "done"


@pytest.mark.parametrize(
    ("executor", "how", "told"),
    [
        ("submitit", ["executor.cluster=slurm"], "executor.cluster=local tries it without"),
        ("submitit", ["executor.cluster=bogus"], "must be null or slurm or local or debug"),
        ("ray", ["executor.cpus=4096"], "no task would ever start"),
    ],
)
def test_executors_that_cannot_be_had(trainlab, executor, how, told):
    pytest.importorskip(executor)
    answer = trainlab("train", *SWEEP, "epochs=1", f"executor={executor}", *how)
    assert answer.code == 2
    assert told in answer.err


def test_what_kills_any_process_kills_no_sweep_of_workers(trainlab_process, folder):
    """Not by being measured either: stack=auto is the default."""
    own(folder, "act", "deadly", DEADLY.replace("multiprocessing.parent_process()", "True"))
    sweep = ("-m", "act=deadly,relu", "seed=0,1", "max_examples=100", "epochs=20")
    process = trainlab_process("train", *sweep, "trusted=[my_deadly]", "workers=2")
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1, err
    assert sorted(statuses(folder / "outputs" / "runs")) == ["done", "done", "failed", "failed"]


def test_a_run_that_kills_its_worker_costs_no_run_that_waits_behind_it(trainlab, folder):
    """Nets that train one by one come to a worker as a group; it dies of one of them."""
    huge = DEADLY.replace("multiprocessing.parent_process()", "x.abs().max() > 1e6")
    own(folder, "act", "deadly", huge)
    sweep = ("-m", "arch=cnn", "act=deadly", "seed=range(3)", "optimizer.lr=1e9,0.01")
    short = ("optimizer=sgd", "max_examples=60", "epochs=2", "workers=2", "device=cpu")
    answer = trainlab("train", *sweep, *short, "trusted=[my_deadly]")
    assert answer.code == 1
    status = {
        path.parent: json.loads(path.read_text()) for path in answer.path.glob("*/status.json")
    }
    ended = sorted((s["config"]["optimizer.lr"], s["status"]) for s in status.values())
    assert ended == [(0.01, "done")] * 3 + [(1e9, "failed")] * 3


def test_an_unwritable_folder_is_no_death(trainlab, folder):
    (folder / "outputs").write_text("a file")
    answer = trainlab("train", *SWEEP, "epochs=1", "workers=2", "stack=4")
    assert answer.code == 2
    assert "cannot be written" in answer.err
    assert "tried once more" not in answer.err


def test_two_sweeps_at_once_share_the_work(trainlab_process, undisturbed, folder):
    whole = undisturbed(*SLOW)
    arguments = ("train", *SWEEP, *SLOW, "study=both", "workers=1", "stack=2", "-q")
    processes = [trainlab_process(*arguments) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=100)
        assert process.returncode == 0
    assert_equal(rows(folder / "outputs" / "both"), whole)
    for log in (folder / "outputs" / "both").glob("*/log.txt"):
        assert log.read_text().count("started") == 1


def test_fail_fast_ends_a_sweep_at_its_first_failure(trainlab):
    arguments = ("-m", "arch=unet,mlp", "seed=0", "max_examples=100", "epochs=1")
    answer = trainlab("train", *arguments, "study=a", "--fail-fast")
    assert answer.code == 1
    assert "1 run left: --fail-fast ends a sweep" in answer.err
    assert "interrupted" not in answer.err
    assert statuses(answer.path) == ["failed"]
    answer = trainlab("train", *arguments, "study=b")
    assert answer.code == 1
    assert sorted(statuses(answer.path)) == ["done", "failed"]


def test_dry_run_lists_and_touches_nothing(trainlab, folder):
    sweep = ("-m", "act=relu,tanh", "seed=range(3)", "max_examples=100", "epochs=1")
    answer = trainlab("train", *sweep, "--dry-run")
    assert answer.code == 0
    assert answer.out.count("train ") == 6
    assert answer.out.count("a stack of 3") == 2
    assert not (folder / "outputs").exists()
    trainlab("train", "-q", "-m", "act=relu", "seed=0,1", *sweep[3:])
    answer = trainlab("train", *sweep, "--dry-run")
    assert answer.out.count("skip ") == 2
    assert answer.out.splitlines()[-1] == "4 runs to train, in 2 stacks; 2 to skip"


def test_a_changed_sweep_trains_only_what_is_new(trainlab):
    short = ("max_examples=100", "epochs=1")
    trainlab("train", "-q", "-m", "seed=0,1", *short)
    answer = trainlab("train", "-m", "seed=range(4)", *short)
    assert "2 of 4 runs are there already" in answer.err
    answer = trainlab("train", "-m", "seed=range(4)", "optimizer=adam,sgd", *short)
    assert "4 of 8 runs are there already" in answer.err


@pytest.mark.parametrize(
    ("executor", "how"), [("submitit", ["executor.cluster=local"]), ("ray", [])]
)
def test_other_executors_give_the_same_rows(trainlab, undisturbed, executor, how):
    pytest.importorskip(executor)
    whole = undisturbed("epochs=3", "stack=4")
    answer = trainlab("train", *SWEEP, "epochs=3", "stack=4", f"executor={executor}", *how)
    assert answer.code == 0
    assert_equal(rows(answer.path), whole)


def test_a_cluster_that_runs_already_trains_in_the_folder_of_the_command(
    trainlab, undisturbed, monkeypatch, tmp_path_factory
):
    ray = pytest.importorskip("ray")
    whole = undisturbed("epochs=1")
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path_factory.mktemp("elsewhere"))
        ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False, logging_level="error")
    try:
        answer = trainlab("train", *SWEEP, "epochs=1", "executor=ray")
        assert ray.is_initialized()  # it is not ours to end
    finally:
        ray.shutdown()
    assert answer.code == 0
    assert_equal(rows(answer.path), whole)
    told = json.loads(next(answer.path.glob("*/env.json")).read_text())["command"]
    assert "node-ip-address" not in told


LAZY = """
from trainlab.executors import Executor

class Lazy(Executor):
    def start(self, jobs):
        return self
    def over(self, display):
        return True
    def death(self):
        return None
"""


def test_an_executor_that_trains_nothing_is_not_asked_for_ever(trainlab, folder):
    own(folder, "executor", "lazy", LAZY)
    answer = trainlab(
        "train", "-m", "seed=0,1", "epochs=1", "executor=lazy", "trusted=[my_lazy]", "workers=1"
    )
    assert answer.code == 1
    assert "tried once more" in answer.err
    assert "is it the same folder there?" in answer.err
    assert statuses(folder / "outputs" / "runs") == ["failed", "failed"]


class Late(executors.Executor):
    """Its work is seen after a while, as through a network's file system."""

    late, looks = 30.0, 0

    def start(self, jobs):
        self.jobs = jobs
        return self

    def over(self, display):
        return True

    def death(self):
        status = self.jobs[0].run.status

        def later():
            self.looks += 1
            return status() if self.looks > 3 else {}

        Worker()(self.jobs, Display(len(self.jobs), quiet=True), lambda: False)
        for job in self.jobs:
            job.run.status = later
        return


def test_work_that_is_seen_late_is_not_done_again(trainlab, tmp_path):
    config = compose(["max_examples=100", "epochs=1", f"output_dir={tmp_path}", "executor=ray"])
    job = Job(Run(config, run_id(config, Sources().fingerprint(config))), {})
    executor = Late(1, tmp_path)
    ((_, death),) = executor(iter([[job]]), Display(1, quiet=True), lambda: False)
    assert death is None
    assert executor.looks > 3
    assert (job.run.path / "log.txt").read_text().count("started") == 1


def test_what_has_ended_well_is_not_made_a_failure(tmp_path):
    run = Run(compose(["max_examples=100", f"output_dir={tmp_path}"]), "run")
    assert run.acquire()
    run.start([{"epoch": 1, "val_loss": 0.5}])
    run.finish("done", {"best_epoch": 1})
    run.release()
    work.fail([run], RuntimeError("a machine went away"))
    assert run.status()["status"] == "done"
    assert (run.path / "metrics.csv").read_text().count("\n") == 2


def test_streamed_data_train_in_worker_processes(trainlab):
    sweep = ("-q", "-m", "seed=0,1", "max_examples=100", "epochs=1", "in_memory=false")
    answer = trainlab("train", *sweep, "workers=2", "stack=1", "study=a")
    assert answer.code == 0, answer.err
    alone = trainlab("train", *sweep, "workers=1", "stack=1", "study=b")
    assert_equal(rows(answer.path), rows(alone.path))
    configs = [
        yaml.safe_load((path / "config.yaml").read_text()) | {"study": ""}
        for study in (answer.path, alone.path)
        for path in sorted(study.iterdir())
        if path.is_dir()
    ]
    asked = ("stack", "threads", "device", "loader_workers", "seed")
    assert [[c[key] for key in asked] for c in configs[:2]] == [
        [c[key] for key in asked] for c in configs[2:]
    ]


ODD = """
from torch import nn

class Odd(nn.ReLU):
    def forward(self, x):
        raise Trouble(1, 2)

class Trouble(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
"""


def test_one_that_fails_oddly_in_a_worker_is_listed(trainlab, folder):
    own(folder, "act", "odd", ODD)
    sweep = ("-m", "act=odd,relu", "seed=0,1", "max_examples=100", "epochs=1")
    answer = trainlab("train", *sweep, "trusted=[my_odd]", "workers=2", "stack=1")
    assert answer.code == 1
    assert "Trouble: 1 and 2" in answer.err
    assert sorted(statuses(answer.path)) == ["done", "done", "failed", "failed"]


def test_what_cannot_be_read_or_built_stops_no_others(trainlab, folder):
    (folder / "conf" / "optimizer").mkdir(parents=True)
    (folder / "conf" / "optimizer" / "strange.yaml").write_text(
        "_target_: torch.optim.Strange\nlr: 0.1\n"
    )
    for wrong in ("optimizer=strange,sgd", "dataset=mnist,iris"):
        sweep = ("-m", wrong, "seed=0,1", "epochs=1", "data_dir=nowhere", f"study={wrong[:4]}")
        answer = trainlab("train", *sweep)
        assert answer.code == 1
        assert sorted(statuses(answer.path)) == ["done", "done", "failed", "failed"]


def test_a_dead_worker_costs_no_core(tmp_path, monkeypatch):
    """What is waited for does not have a dead one's connection, which is always ready."""
    made, waited = executors.Local(2, tmp_path), []
    monkeypatch.setattr(local, "wait", lambda connections, timeout: waited.append(connections))
    workers = [SimpleNamespace(alive=a, idle=False, connection=a) for a in (True, False)]
    made.processes = workers
    made.pause([])
    assert waited == [[True]]


def test_ctrl_c_in_the_terminal_of_local_jobs_loses_nothing(trainlab_process, folder):
    pytest.importorskip("submitit")
    arguments = [*SWEEP, "epochs=20000", "stack=4", "executor=submitit", "executor.cluster=local"]
    process = trainlab_process("train", *arguments, start_new_session=True)
    study = folder / "outputs" / "runs"
    until(lambda: begun(study, 8))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert set(statuses(study)) == {"stopped"}
    assert len(list(study.glob("*/checkpoints/last.pt"))) == 8


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminals here")
def test_a_closed_terminal_stops_a_sweep_with_checkpoints(trainlab_process, folder):
    arguments = [*SWEEP, "epochs=20000", "stack=4", "workers=2", "device=cpu"]
    process = trainlab_process("train", *arguments, start_new_session=True)
    study = folder / "outputs" / "runs"
    until(lambda: begun(study, 8))
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=90)
    assert set(statuses(study)) == {"stopped"}
    assert len(list(study.glob("*/checkpoints/last.pt"))) == 8


def test_what_a_killed_process_left_half_written_goes(trainlab):
    answer = trainlab("train", "-q", "max_examples=100", "epochs=2", "until=1")
    left = answer.path / "checkpoints" / ".last.pt.12345"
    left.write_bytes(b"half")
    assert trainlab("train", "-q", "max_examples=100", "epochs=2").code == 0
    assert not left.exists()


def test_the_error_of_another_machine_is_named():
    trace = "Job (task=0) failed:\n---\nTraceback …\nmine.OddError: 1 and 2\n---\nsee /x_log.err"
    assert cluster._last_line(RuntimeError(trace)) == "mine.OddError: 1 and 2"
    silent = "Job 1 has not produced any output\nError stream produced:\nsubmitit INFO: Loading"
    assert cluster._last_line(RuntimeError(silent)) == "Job 1 has not produced any output"


def test_a_sweep_with_failures_names_both_remedies(trainlab):
    sweep = ("-m", "arch=unet,mlp", "seed=0", "max_examples=100", "epochs=1")
    assert trainlab("train", *sweep).code == 1
    answer = trainlab("train", *sweep)
    assert "2 of 2 runs are there already (1 failed); retry=true tries them again" in answer.err


def test_an_executor_that_is_not_installed_says_what_to_install(trainlab, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = trainlab("train", *SWEEP, "epochs=3", "executor=ray")
    assert answer.code == 2
    assert "pip install 'trainlab[ray]'" in answer.err


@pytest.mark.slow
def test_fifty_random_kills_lose_and_repeat_nothing(
    trainlab, trainlab_process, undisturbed, folder
):
    """kill -9 of workers and of the sweep itself, at random moments, until it has come through."""
    sweep = ("act=relu,tanh,gelu", "epochs=100", "checkpoint.every=5", "checkpoint.unit=epochs")
    arguments = ("-q", *SWEEP, *sweep, "device=cpu", "stack=2", "workers=2", "retry=true")
    whole = undisturbed(*sweep, "device=cpu")
    study, chance, kills = folder / "outputs" / "cut", random.Random(0), 0
    while kills < 50:
        process = trainlab_process("train", *arguments, "study=cut")
        time.sleep(chance.uniform(2.0, 5.0))  # it takes two seconds to begin
        if process.poll() is not None:  # all trained: begin anew, other moments are left to try
            _, err = process.communicate()
            assert process.returncode == 0, err
            shutil.rmtree(study)
            continue
        workers = [pid for pid in children(process.pid) if alive(pid)]
        victim = chance.choice([process.pid, *workers])
        os.kill(victim, signal.SIGKILL)
        kills += 1
        if victim != process.pid and chance.random() < 0.5:
            continue_until = time.monotonic() + 2
            while process.poll() is None and time.monotonic() < continue_until:
                time.sleep(0.05)
        process.kill()
        process.communicate(timeout=60)
        until(lambda left=workers: not any(map(alive, left)))
    answer = trainlab("train", *arguments, "study=cut")
    assert answer.code == 0
    assert set(statuses(study)) == {"done"}
    assert_equal(rows(study), whole)


def test_a_stack_that_does_not_fit_into_memory_is_halved(trainlab, undisturbed, monkeypatch):
    whole = undisturbed("epochs=3")
    fit, sizes = work.fit, []

    def small(runs, stack, *rest):
        sizes.append(stack.size)
        if stack.size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fit(runs, stack, *rest)

    monkeypatch.setattr(work, "fit", small)
    answer = trainlab("train", *SWEEP, "epochs=3", "workers=1", "stack=8")
    assert answer.code == 0
    assert "a stack of 8 does not fit into memory; going on with 4" in answer.err
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert_equal(rows(answer.path), whole)


def test_a_run_paused_after_some_epochs_goes_on_exactly(trainlab, undisturbed):
    whole = undisturbed("epochs=4")
    answer = trainlab("train", "-q", *SWEEP, "epochs=4", "until=2", "study=cut")
    assert answer.code == 0
    assert set(statuses(answer.path)) == {"paused"}
    assert all(len(frame) == 2 for frame in rows(answer.path).values())
    again = trainlab("train", *SWEEP, "epochs=4", "until=2", "study=cut")
    assert "8 of 8 runs are there already" in again.err
    answer = trainlab("train", "-q", *SWEEP, "epochs=4", "study=cut")
    assert answer.code == 0
    assert_equal(rows(answer.path), whole)
