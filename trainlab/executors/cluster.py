"""Processes of SLURM and Ray, on this machine or on others."""

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainlab.config import UserError, needed
from trainlab.executors.base import Executor, Handle, Packed, pack, unpack
from trainlab.files import Unwritable

if TYPE_CHECKING:
    from trainlab.progress import Display
    from trainlab.work import Job


def _sent(jobs: "Sequence[Job]") -> tuple[Packed, str, list[str]]:
    """What `train_packed` is called with."""
    return pack(jobs), os.getcwd(), sys.argv


def _last_line(error: Exception) -> str:
    """What an error with another machine's traceback comes down to."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)(:|$)", line)]
    return (raised[-1:] or lines[:1] or [type(error).__name__])[0]


def train_packed(packed: Packed, folder: str, typed: list[str]) -> Unwritable | None:
    """Train jobs in a process of a cluster's; SIGTERM stops it with a checkpoint. Gives what kept
    them from being written, if anything did.

    It begins elsewhere than in the `folder` that all paths of the configs start from, and with
    other arguments than those that were `typed`, which the runs note.
    """
    os.chdir(folder)
    sys.argv = typed
    from trainlab.progress import Display
    from trainlab.work import Worker, interruptible

    # Several are told to stop more than once: by the terminal, by us, by the cluster.
    with interruptible(patient=True) as interrupted:
        try:
            Worker()(unpack(packed), Display(len(packed), quiet=True), interrupted)
        except Unwritable as trouble:
            return trouble
    return None


def _raise_trouble(trouble: Unwritable | None) -> None:
    """A full disk is no death to be tried again: it ends the sweep."""
    if trouble:
        raise trouble


class Cluster(Executor):
    """Base of those whose processes may be on other machines, with a file system in common."""

    late = 30.0  # as a network's may show for a while what was there before


class Submitit(Cluster):
    """Jobs of SLURM, one for each stack, through submitit; `cluster=local` tries it without.

    The folder of the study has to be on a file system that all machines share.
    """

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
        # Of this command alone: submitit unpickles what is there, and a folder may be a stranger's.
        own = folder / ".submitit" / uuid.uuid4().hex
        try:
            self.executor = submitit.AutoExecutor(folder=own, cluster=cluster)
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
            return _SubmittedHere(self.executor.submit(train_packed, *_sent(jobs)))


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
        if error := self.job.exception():
            return f"job {self.job.job_id} failed: {_last_line(error)}"
        _raise_trouble(self.job.result())
        return None

    def interrupt(self) -> None:
        self.job.cancel()

    kill = interrupt


class _SubmittedHere(_Submitted):
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


class Ray(Cluster):
    """Tasks of Ray, one for each stack: of a running cluster's, or of this machine."""

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
            trouble = self.ray.get(self.reference)
        except Exception as error:
            return f"a task of Ray failed: {_last_line(error)}"
        _raise_trouble(trouble)
        return None

    def interrupt(self) -> None:
        self.ray.cancel(self.reference)

    def kill(self) -> None:
        self.ray.cancel(self.reference, force=True)
