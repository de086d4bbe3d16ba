"""Where the stacks of a sweep are computed: local worker processes, a cluster, Ray.

An executor takes stacks of jobs as it has room for them, and gives each back when it is over, with
the reason why its process died, if it did. What became of the runs is in their folders. A stack
whose process died is tried once more, in another.

    for jobs, death in executor(stacks, display, interrupted): ...
"""

import contextlib
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainlab.config import Config, UserError, needed

if TYPE_CHECKING:  # importing torch is left to those who compute
    from trainlab.progress import Display
    from trainlab.store import Row, Run
    from trainlab.work import Job

Packed = list[tuple[Config, str, dict[str, Any], dict[str, Any]]]

_LISTEN = 0.1  # seconds between two looks at what is under way
_ORPHANED = 0.5  # seconds between two looks of a worker at whether the sweep still lives
_LATE = 30.0  # seconds for which a network's file system may show what was there before
_LEAVE = 10.0  # seconds that workers have to end by themselves


class Handle(Protocol):
    """A stack under way."""

    def over(self, display: "Display") -> bool:
        """Whether it has ended; shows what has come of it so far."""
        ...

    def death(self) -> str | None:
        """Why its process died, once it is over; None if it did not."""
        ...

    def interrupt(self) -> None:
        """Ask it to stop at the next step, with a checkpoint."""
        ...

    def kill(self) -> None: ...


class Executor:
    """Base of all: at most `workers` stacks at once."""

    late = 0.0  # seconds until all processes see what one has written

    def __init__(self, workers: int, folder: Path):
        self.workers, self.folder = workers, folder

    def start(self, jobs: "Sequence[Job]") -> Handle:
        raise NotImplementedError

    def pause(self, under_way: Sequence[Handle]) -> None:
        """Until something may have happened."""
        time.sleep(_LISTEN)

    def close(self) -> None:
        """Let go of what was kept alive."""

    def __call__(
        self, stacks: "Iterator[list[Job]]", display: "Display", interrupted: Callable[[], bool]
    ) -> "Iterator[tuple[list[Job], str | None]]":
        again: deque[list[Job]] = deque()
        tried: set[str] = set()  # ids of runs whose process died
        under_way: list[tuple[Handle, list[Job]]] = []
        asked = False
        try:
            while True:
                while len(under_way) < self.workers and not interrupted():
                    jobs = again.popleft() if again else next(stacks, None)
                    if jobs is None:
                        break
                    under_way.append((self.start(jobs), jobs))
                if not under_way:
                    return
                if interrupted() and not asked:
                    asked = True
                    for handle, _ in under_way:
                        handle.interrupt()
                self.pause([handle for handle, _ in under_way])
                for entry in [entry for entry in under_way if entry[0].over(display)]:
                    under_way.remove(entry)
                    handle, jobs = entry
                    if asked:  # to end, it did not die
                        yield jobs, None
                        continue
                    death = handle.death()
                    why = death or self._nothing_done(jobs)
                    if why is None:
                        yield jobs, None
                        continue
                    finished, begun, waiting = _sorted(jobs)
                    yield finished, None
                    if begun and waiting:  # which are no worse for it
                        again.append(waiting)
                    struck = begun or waiting
                    ids = {job.run.id for job in struck}
                    if ids and not ids & tried:
                        display.say(f"{why}; its stack is tried once more")
                        again.append(struck)
                    elif death and not begun and len(struck) > 1:
                        again += [[job] for job in struck]  # to see of which it dies
                    elif ids:
                        yield struck, why
                    tried |= ids
        finally:
            for handle, _ in under_way:
                handle.kill()

    def _nothing_done(self, jobs: "Sequence[Job]") -> str | None:
        """That a process came back and left all its runs as they were, or None: without this, they
        would be handed out for ever."""
        end = time.monotonic() + self.late
        while all(job.untouched for job in jobs):
            if time.monotonic() >= end:
                return (
                    "the process that should have trained this run left "
                    f"{self.folder.absolute()} as it was: is it the same folder there?"
                )
            time.sleep(_LISTEN)
        return None


def _sorted(jobs: "Sequence[Job]") -> "tuple[list[Job], list[Job], list[Job]]":
    """Of the jobs of a process that has ended: those that are finished, those it had begun, and
    those it had not come to."""
    touched = {job.run.id for job in jobs if not job.untouched}
    left = [job for job in jobs if job.look()]
    return (
        [job for job in jobs if job not in left],
        [job for job in left if job.run.id in touched],
        [job for job in left if job.run.id not in touched],
    )


def _packed(jobs: "Sequence[Job]", **how: Any) -> Packed:
    """What another process needs to make these jobs; `how` they are computed there, whatever was
    asked for."""
    return [(job.run.config, job.run.id, job.found, how) for job in jobs]


def _unpacked(packed: Packed) -> "list[Job]":
    from trainlab.store import Run
    from trainlab.work import Job

    return [Job(Run(config, run_id, how), found) for config, run_id, found, how in packed]


# ---------------------------------------------------------------- local processes


def context() -> multiprocessing.context.BaseContext:
    """How processes are started: forked from a server that has imported everything, where there is
    such a thing.

    The server begins its imports at once, beside ours.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["trainlab.work"])
    forkserver.ensure_running()
    return server


class Local(Executor):
    """Worker processes on this machine, one torch thread each; where there are GPUs, one of them
    each, in turn."""

    def __init__(self, workers: int, folder: Path):
        super().__init__(workers, folder)
        self.context = context()
        self.processes: list[_Process] = []

    def start(self, jobs: "Sequence[Job]") -> "_Process":
        idle = next((process for process in self.processes if process.idle), None)
        if idle is None:
            self.processes = [process for process in self.processes if process.alive]
            taken = {process.number for process in self.processes}
            number = next(n for n in range(self.workers) if n not in taken)
            idle = _Process(self.context, number)
            self.processes.append(idle)
        idle.begin(jobs)
        return idle

    def pause(self, under_way: Sequence[Handle]) -> None:
        busy = [p.connection for p in self.processes if p.alive and not p.idle]
        wait(busy, _LISTEN)

    def close(self) -> None:
        for process in self.processes:
            process.connection.close()  # tells it to leave
        for process in self.processes:
            process.process.join(_LEAVE)
            process.kill()


class _Process:
    """A worker process, kept alive between stacks: a Handle while it trains one."""

    def __init__(self, context: Any, number: int):
        self.number = number
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.idle, self.alive, self.error = True, True, None

    def begin(self, jobs: "Sequence[Job]") -> None:
        self.idle, self.runs = False, {job.run.id: job.run for job in jobs}
        # Processes of the daemon kind have no children: they read their data themselves.
        how: dict[str, Any] = {"loader_workers": 0}
        if jobs[0].run.config["threads"] == "auto":
            how["threads"] = 1
        if jobs[0].run.config["device"] in ("auto", "cuda") and (gpus := _gpus()):
            how["device"] = f"cuda:{self.number % gpus}"
        with contextlib.suppress(OSError):  # it died meanwhile: `over` sees it
            self.connection.send(_packed(jobs, **how))

    def over(self, display: "Display") -> bool:
        try:
            while self.connection.poll():
                kind, *content = self.connection.recv()
                if kind == "over":
                    self.error, wrong = content
                    self.idle = True
                    if wrong:
                        raise UserError(wrong)
                    return True
                if kind in ("training", "epoch"):
                    content[0] = [self.runs[run_id] for run_id in content[0]]
                getattr(display, kind)(*content)
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            return True
        return False

    def death(self) -> str | None:
        if self.alive:
            return self.error
        code = self.process.exitcode or 0
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended ({code})"
        return f"a worker {how}"

    def interrupt(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.alive = False


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


class _Remote:
    """The display of a worker: what is to be shown is sent to the sweep's."""

    def __init__(self, connection: Connection):
        self.connection, self.sent = connection, 0.0

    def _send(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # the sweep is gone, and `interrupted` says so
            self.connection.send(message)

    def say(self, text: str) -> None:
        self._send("say", text)

    def warn(self, text: str) -> None:
        self._send("warn", text)

    def failed(self, reason: str) -> None:
        self._send("failed", reason)

    def training(self, runs: "Sequence[Run]", epochs: int | None) -> None:
        self._send("training", [run.id for run in runs], epochs)

    def epoch(self, runs: "Sequence[Run]", rows: "Sequence[Row]", share: float) -> None:
        if rows or time.monotonic() - self.sent > _LISTEN:
            self.sent = time.monotonic()
            self._send("epoch", [run.id for run in runs], rows, share)


def _serve(connection: Connection) -> None:
    """A worker process: train what comes, until the connection is closed."""
    asked = working = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        if not working:
            os._exit(0)

    for name in ("SIGINT", "SIGHUP"):  # Ctrl-C and a closed terminal are the sweep's to handle
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ask)
    import torch

    from trainlab.work import Worker

    torch.set_num_threads(1)
    sweep, looked = multiprocessing.parent_process(), time.monotonic()

    def interrupted() -> bool:
        nonlocal asked, looked
        if time.monotonic() - looked > _ORPHANED:
            looked = time.monotonic()
            asked = asked or not sweep.is_alive()
        return asked

    worker, display = Worker(), _Remote(connection)
    with contextlib.suppress(EOFError, OSError):
        while packed := connection.recv():
            working, asked, error, wrong = True, False, None, None
            try:
                worker(_unpacked(packed), display, interrupted)
            except UserError as problem:  # the same for every stack, as a folder without access
                wrong = str(problem)
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"
            working = False
            connection.send(("over", error, wrong))


# ---------------------------------------------------------------- other machines


def _sent(jobs: "Sequence[Job]") -> tuple[Packed, str, list[str]]:
    """What `train_packed` is called with."""
    return _packed(jobs), os.getcwd(), sys.argv


def _last_line(error: Exception) -> str:
    """What an error with another machine's traceback comes down to."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)(:|$)", line)]
    return (raised[-1:] or lines[:1] or [type(error).__name__])[0]


def train_packed(packed: Packed, folder: str, typed: list[str]) -> None:
    """Train jobs in a process of a cluster's; SIGTERM stops it with a checkpoint.

    It begins elsewhere than in the `folder` that all paths of the configs start from, and with
    other arguments than those that were `typed`, which the runs note.
    """
    os.chdir(folder)
    sys.argv = typed
    from trainlab.progress import Display
    from trainlab.work import Worker, interruptible

    # Several are told to stop more than once: by the terminal, by us, by the cluster.
    with interruptible(patient=True) as interrupted:
        Worker()(_unpacked(packed), Display(len(packed), quiet=True), interrupted)


class Submitit(Executor):
    """Jobs of SLURM, one for each stack, through submitit; `cluster=local` tries it without.

    The folder of the study has to be on a file system that all machines share.
    """

    late = _LATE

    def __init__(
        self,
        workers: int,
        folder: Path,
        cluster: str | None = None,
        minutes: int = 60,
        cpus: int = 1,
        gpus: int = 0,
        memory: float = 4.0,
        partition: str | None = None,
        slurm: dict[str, Any] | None = None,
    ):
        super().__init__(workers, folder)
        submitit = needed("submitit", "submitit", "executor=submitit")
        try:
            self.executor = submitit.AutoExecutor(folder=folder / ".submitit", cluster=cluster)
        except RuntimeError as error:  # no SLURM here
            raise UserError(
                f"executor.cluster={cluster}: {error}. executor.cluster=local tries it without."
            ) from error
        settings = dict(timeout_min=minutes, cpus_per_task=cpus, gpus_per_node=gpus, mem_gb=memory)
        settings |= {f"slurm_{key}": value for key, value in (slurm or {}).items()}
        if partition:
            settings["slurm_partition"] = partition
        self.executor.update_parameters(name="trainlab", **settings)

    def start(self, jobs: "Sequence[Job]") -> Handle:
        if self.executor.cluster != "local":
            return _Submitted(self.executor.submit(train_packed, *_sent(jobs)))
        with _deaf_children():
            return _Local(self.executor.submit(train_packed, *_sent(jobs)))


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started meanwhile do not hear the Ctrl-C of the terminal we share."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Submitted:
    def __init__(self, job: Any):
        self.job = job

    def over(self, display: "Display") -> bool:
        return self.job.done()

    def death(self) -> str | None:
        error = self.job.exception()
        return f"job {self.job.job_id} failed: {_last_line(error)}" if error else None

    def interrupt(self) -> None:
        self.job.cancel()

    def kill(self) -> None:
        self.job.cancel()


class _Local(_Submitted):
    """A job on this machine: submitit's own `cancel` leaves it a second for its checkpoint."""

    asked = False

    def over(self, display: "Display") -> bool:
        over = super().over(display)
        if self.asked and not over:  # again: as it starts, submitit passes over the signal
            self.kill()
        return over

    def interrupt(self) -> None:
        self.asked = True

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self.job.job_id), signal.SIGTERM)


class Ray(Executor):
    """Tasks of Ray, one for each stack: of a running cluster's, or of this machine."""

    late = _LATE

    def __init__(
        self,
        workers: int,
        folder: Path,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
    ):
        super().__init__(workers, folder)
        self.ray = needed("ray", "ray", "executor=ray")
        self.ours = not self.ray.is_initialized()
        if self.ours:
            logging.getLogger("ray").setLevel(logging.ERROR)
            self.ray.init(
                address=address, log_to_driver=False, include_dashboard=False, logging_level="error"
            )
        there = self.ray.cluster_resources()
        for name, wanted in (("CPU", cpus), ("GPU", gpus)):
            # A cluster may grow; this machine does not.
            if address is None and wanted > there.get(name, 0):
                self.close()
                raise UserError(
                    f"executor.{name.lower()}s={wanted:g}: this machine has "
                    f"{there.get(name, 0):g}, and no task would ever start."
                )
        self.task = self.ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(train_packed)

    def start(self, jobs: "Sequence[Job]") -> Handle:
        return _Task(self.ray, self.task.remote(*_sent(jobs)))

    def close(self) -> None:
        if self.ours:
            self.ray.shutdown()


class _Task:
    def __init__(self, ray: Any, reference: Any):
        self.ray, self.reference = ray, reference

    def over(self, display: "Display") -> bool:
        return bool(self.ray.wait([self.reference], timeout=0)[0])

    def death(self) -> str | None:
        try:
            self.ray.get(self.reference)
        except Exception as error:
            return f"a task of Ray failed: {_last_line(error)}"
        return None

    def interrupt(self) -> None:
        self.ray.cancel(self.reference)

    def kill(self) -> None:
        self.ray.cancel(self.reference, force=True)
