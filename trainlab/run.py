"""From configs to results: skip what is finished, stack the rest, hand the stacks out, write.

The sweep's side, wherever its stacks are computed; what each process does that computes them is in
work.py. The two meet in the run folders, so however many sweeps and processes are at it, a run is
trained once.
"""

import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import joblib
import torch

from trainlab import parallel, plans
from trainlab.config import Config, UserError, build, build_each, run_id
from trainlab.executors import Executor, Local
from trainlab.files import Unwritable
from trainlab.fit import due
from trainlab.memory import free_memory
from trainlab.prepare import pick_device
from trainlab.progress import Display, count
from trainlab.store import Run, edited, edited_note
from trainlab.tables.runs import write_runs
from trainlab.work import Job, Worker, fail, interruptible

_WRITE_EVERY = 10.0  # seconds between two writings of runs.csv during a sweep
# A reason for a run to be left.
LEFT_OUT = "--fail-fast ends a sweep at its first failure; the same command goes on"
_LOOK_EVERY = 0.5  # seconds between two looks at runs that another process trains
_WORTH = 10.0  # seconds of training, for less of which no worker processes are started
_WORKER = 400e6  # bytes that a worker process takes, besides its data


@dataclass
class Outcome:
    """How a run ended: `done`, `diverged`, `failed`, `paused`, `stopped`, or `busy` in another
    process."""

    run: Run
    status: str
    reason: str | None = None


class _Sweep:
    """The jobs of one command, those that are left to be trained, and what became of the others."""

    def __init__(
        self,
        jobs: Sequence[Job],
        study: Path,
        alone: bool,
        fail_fast: bool,
        interrupted: Callable[[], bool],
    ):
        self.jobs, self.study, self.alone = jobs, study, alone
        self.fail_fast, self.interrupted = fail_fast, interrupted
        self.outcomes: dict[str, Outcome] = {}
        self.failed, self.written = False, time.monotonic()
        self.trouble: str | None = None  # why nothing can be written any more
        self.left = self.look(jobs)

    def look(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that are still to be trained; the outcomes of the others are noted."""
        left = []
        for job in jobs:
            if job.run.id in self.outcomes:
                continue
            try:
                if job.look():
                    left.append(job)
                    continue
                status = job.status
            except UserError as error:
                if self.alone:
                    raise
                status = {"status": "failed", "reason": str(error)}
            self.outcomes[job.run.id] = Outcome(job.run, status["status"], status["reason"])
        return left

    def note_plan(self) -> None:
        """Tell those who watch what is about to be trained."""
        shares = {
            job.run.id: 1.0 if job.run.id in self.outcomes else job.share for job in self.jobs
        }
        again = {job.run.id: plans.mark(job.found) for job in self.left if job.found}
        plans.note(self.study, shares, again, [job.run.config["overrides"] for job in self.jobs])

    def edited(self) -> list[Path]:
        """Files of runs that are not trained again, and are not as these left them."""
        return [file for outcome in self.outcomes.values() for file in edited(outcome.run.path)]

    def settle(self, stack: Sequence[Job]) -> None:
        """A stack is over."""
        self.look(stack)
        ended = (self.outcomes.get(job.run.id) for job in stack)
        if self.fail_fast and any(outcome.status == "failed" for outcome in ended if outcome):
            self.failed = True
        if due(self.written, _WRITE_EVERY):
            self.write()
            self.written = time.monotonic()

    def enough(self) -> bool:
        """Whether no more is to be trained."""
        return self.failed or self.interrupted() or self.trouble is not None

    def write(self) -> None:
        if self.study.is_dir() and parallel.first():
            write_runs(self.study)

    def stop(self, trouble: Unwritable) -> None:
        """No more of it can be trained: the disk is full, or the like."""
        self.trouble = str(trouble)
        self.left = self.look(self.left)

    def end(self) -> None:
        """Say of what is left why it was not trained."""
        with suppress(Unwritable):  # which is told of the runs, if there are any left
            self.write()
        for job in self.left:
            if self.trouble:
                outcome = Outcome(job.run, "stopped", self.trouble)
            elif self.failed and not self.interrupted():
                outcome = Outcome(job.run, "stopped", LEFT_OUT)
            elif self.interrupted() or job.run.status().get("status") == "stopped":
                outcome = Outcome(job.run, "stopped")
            else:
                outcome = Outcome(job.run, "busy", "another process is training it")
            self.outcomes[job.run.id] = outcome


def train(configs: Sequence[Config]) -> list[Outcome | None]:
    """One sweep: see Session.train."""
    with Session() as session:
        return session.train(configs)


class Session:
    """Trains sweeps, one after the other; data, measurements and worker processes stay in between.

    >>> with Session() as session:
    ...     outcomes = session.train([compose(["epochs=1"])])
    """

    def __init__(self) -> None:
        self.worker = Worker()
        self.executors: dict[str, Executor] = {}
        self.refused = 0  # runs that a dry run found could not be trained

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        for executor in self.executors.values():
            executor.close()

    def train(self, configs: Sequence[Config], whole: bool = True) -> list[Outcome | None]:
        """Train every config that is not trained yet; their outcomes, in the order given.

        A single config that cannot be trained raises its error; in a sweep it is listed and the
        others go on. None stands for a config that a smoke test leaves out, or that a dry run would
        train. `whole` says that the command does not train others besides.
        """
        study, alone = _study(configs), len(configs) == 1
        made = [self._run(c, alone) if few else None for c, few in _few_seeds(configs)]
        runs = {run.id: run for run in made if run}
        jobs = [Job(run, run.status()) for run in runs.values()]
        with (
            Display(len(runs), configs[0]["quiet"]) as display,
            interruptible() as interrupted,
        ):
            if same := sum(run is not None for run in made) - len(runs):
                display.say(f"{same} of these configs are the same run as another of them")
            sweep = _Sweep(jobs, study, alone, configs[0]["fail_fast"], interrupted)
            _check_loggers(sweep.left)
            if configs[0]["dry_run"]:
                if sweep.left and not self._is_local(configs[0]):
                    self._executor(sweep.left, display)  # or says why it cannot be had
                self._show_plan(sweep.left, sweep.outcomes)
                return [sweep.outcomes.get(run.id) if run else None for run in made]
            # What is wrong with a single config is found later, and then no folder was made.
            if whole and sweep.left and parallel.first() and (study.is_dir() or not alone):
                sweep.note_plan()
            display.skipped([outcome.status for outcome in sweep.outcomes.values()])
            if files := sweep.edited():
                display.warn(edited_note(files))
            try:
                self._train_left(sweep, display)
            except Unwritable as trouble:
                if alone:
                    raise
                sweep.stop(trouble)
        sweep.end()
        return [sweep.outcomes[run.id] if run else None for run in made]

    def _train_left(self, sweep: _Sweep, display: Display) -> None:
        """Until nothing is left to be trained, or there is a reason to stop."""
        waited = False
        while sweep.left and not sweep.enough():
            free = [job for job in sweep.left if not job.run.busy()]
            if not free and not sweep.alone:
                if not waited:
                    display.say(f"waiting for {count(sweep.left)} that another process trains")
                waited = True
                time.sleep(_LOOK_EVERY)
            for stack in self._trained(free, display, sweep.enough, sweep.alone):
                sweep.settle(stack)
                display.settled(sweep.outcomes)
            sweep.left = sweep.look(sweep.left)
            if sweep.alone:
                break

    def _show_plan(self, left: Sequence[Job], outcomes: dict[str, Outcome]) -> None:
        """Print what would be done: a line for each run, stack by stack; and what could not."""
        refused, lines = self.worker.refusals(left), {job.run.id: _line(job.run) for job in left}
        left = [job for job in left if job.run.id not in refused]
        for outcome in outcomes.values():
            print(f"skip      {_line(outcome.run)}  ({outcome.status})")
        stacks = list(self.worker.stacks(left))
        for stack in stacks:
            if len(stack) > 1:
                print(f"a stack of {len(stack)}:")
            for job in stack:
                failed = job.status.get("status") == "failed"
                verb = "continue" if job.place else "retry" if failed else "train"
                print(f"{verb:9s} {_line(job.run)}")
        for key, reason in refused.items():
            print(f"refuse    {lines[key]}: {reason}")
        more = f"; {len(refused)} cannot be trained" if refused else ""
        print(f"{count(left)} to train, in {count(stacks, 'stack')}; {len(outcomes)} to skip{more}")
        self.refused += len(refused)

    def _run(self, config: Config, alone: bool) -> Run:
        try:
            # Rank 0 reads first: files are fetched once.
            fingerprint = parallel.told(lambda: self.worker.sources.fingerprint(config))
        except UserError:
            if alone:
                raise
            fingerprint = "unreadable"  # it fails again, and is listed, when its turn comes
        run = Run(config, run_id(config, fingerprint))
        return parallel.Shared(run) if parallel.size() > 1 else run

    def _trained(
        self, jobs: list[Job], display: Display, interrupted: Callable[[], bool], alone: bool
    ) -> Iterator[list[Job]]:
        """Stacks of these jobs, each when it is over, wherever it was computed."""
        here = not jobs or (alone and self._is_local(jobs[0].run.config))
        executor = None if here else self._executor(jobs, display)
        if executor is None:
            for stack in self.worker.stacks(jobs):
                if interrupted():
                    break
                self.worker(stack, display, interrupted, alone)
                yield stack
            return
        spread = isinstance(executor, Local) or jobs[0].run.config["workers"] != "auto"
        most = math.ceil(len(jobs) / executor.workers) if spread else None
        # They measure for themselves: with workers=N nothing that could die is computed here.
        stacks = self.worker.stacks(jobs, most, measure=False)
        for stack, death in executor(stacks, display, interrupted):
            if death:
                fail([job.run for job in stack], RuntimeError(death))
                display.failed(death)
            yield stack

    def _is_local(self, config: Config) -> bool:
        return config["choices"]["executor"] == "local" or parallel.size() > 1

    def _executor(self, jobs: Sequence[Job], display: Display) -> Executor | None:
        """What computes these jobs; None for this process."""
        config = jobs[0].run.config
        name, workers = config["choices"]["executor"], config["workers"]
        if name == "local":
            workers = self._workers(jobs)
            if workers == 1:
                return None
        elif workers == "auto":
            workers = len(jobs)
        key = json.dumps([name, config["executor"]])
        if key not in self.executors:
            if name == "local":
                display.say(f"{workers} worker processes")
            self.executors[key] = build(config, "executor")(workers, _study([config]))
        self.executors[key].workers = workers
        return self.executors[key]

    def _workers(self, jobs: Sequence[Job]) -> int:
        """How many local processes: as asked for; else, where there is work enough, one for each
        GPU or core that memory allows."""
        config = jobs[0].run.config
        if config["workers"] != "auto":
            return min(config["workers"], len(jobs))
        if pick_device(config["device"]).type == "cuda":
            return min(torch.cuda.device_count(), len(jobs))
        seconds = self.worker.seconds(jobs)
        data = 3 * 4 * self.worker.sources.largest
        free = free_memory()
        room = math.inf if free is None else free / 2 / (_WORKER + data)
        workers = int(min(joblib.cpu_count(), len(jobs), room))
        return max(1, workers) if seconds > _WORTH else 1


def _line(run: Run) -> str:
    """A run as it was asked for, ready to paste."""
    typed = (text for text in run.config["overrides"] if not text.startswith("dry_run="))
    return f"{run.id}  {shlex.join(typed)}"


def _study(configs: Sequence[Config]) -> Path:
    """The study folder, one for all runs of a sweep."""
    folders = {Path(config["output_dir"]) / config["study"] for config in configs}
    if len(folders) > 1:
        raise UserError("A sweep fills one folder: study and output_dir cannot be swept over.")
    return folders.pop()


def _few_seeds(configs: Sequence[Config]) -> list[tuple[Config, bool]]:
    """The configs, and whether to train them: of a smoke test only those of its first two seeds."""
    few = list(dict.fromkeys(config["seed"] for config in configs))[:2]
    return [(config, not config["smoke"] or config["seed"] in few) for config in configs]


def _check_loggers(jobs: Sequence[Job]) -> None:
    """Make each logger once: of one that is not installed, people learn before anything is
    trained."""
    for job in jobs:
        for make in build_each(job.run.config, "logger").values():
            make()
