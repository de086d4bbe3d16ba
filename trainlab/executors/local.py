"""Worker processes on this machine, kept alive between stacks."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainlab.config import UserError
from trainlab.executors.base import LISTEN, Executor, Handle, pack, unpack

if TYPE_CHECKING:
    from trainlab.progress import Display
    from trainlab.store import Row, Run
    from trainlab.work import Job

_ORPHANED = 0.5  # seconds between two looks of a worker at whether the sweep still lives
_LEAVE = 10.0  # seconds that workers have to end by themselves


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
        wait(busy, LISTEN)

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
            self.connection.send(pack(jobs, **how))

    def over(self, display: "Display") -> bool:
        try:
            while self.connection.poll():
                kind, *content = self.connection.recv()
                if kind == "over":
                    self.error, wrong = content
                    self.idle = True
                    if wrong:
                        raise wrong
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
        if rows or time.monotonic() - self.sent > LISTEN:
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
                worker(unpack(packed), display, interrupted)
            except UserError as problem:  # the same for every stack, as a full disk
                wrong = problem
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"
            working = False
            connection.send(("over", error, wrong))
