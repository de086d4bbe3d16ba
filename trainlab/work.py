"""What each process does that trains runs: look at them, stack them, build, lock, fit."""

import itertools
import math
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from torch import nn

from trainlab import advice, data, parallel
from trainlab.config import Config, UserError, run_id, stack_key
from trainlab.files import Unwritable
from trainlab.fit import fit
from trainlab.memory import explained, out_of_memory
from trainlab.prepare import THREADS, Sources, build_model, pick_device, threads
from trainlab.progress import Display
from trainlab.stack import Stack
from trainlab.step import Rehearsal, rehearse
from trainlab.store import FINISHED, Run
from trainlab.widths import Widths

_KNOWN = (UserError, parallel.Lost)  # errors that say all there is to say


class Job:
    """A run that a command wants trained: its status when the command began, and when last looked
    at.

    What happened to it since then, in whichever process, happened for this command too: `fresh` and
    `retry` speak of what was there before.
    """

    def __init__(self, run: Run, found: dict[str, Any]):
        self.run, self.found, self.status = run, found, found
        # Of its checkpoint: epochs, steps into the next, and the threads it was computed with.
        self.place: tuple[int, int, int | None] | None = None

    def look(self) -> bool:
        """Whether there is something to train."""
        self.status = self.run.status()
        before, config = self.status == self.found, self.run.config
        state = self.status.get("status")
        if state in FINISHED and self.run.result():
            return before and config["fresh"]
        if state == "failed":
            return before and (config["fresh"] or config["retry"])
        checkpoint = None if self.anew else self.run.checkpoint()
        self.place = None
        if checkpoint:
            threads = checkpoint.get("threads") if self.run.asked["threads"] == "auto" else None
            self.place = checkpoint["epoch"], checkpoint["position"], threads
        paused = self.place and config["until"] and self.place[0] >= config["until"]
        return not paused

    @property
    def anew(self) -> bool:
        """Whether what is there is to be forgotten."""
        return self.run.config["fresh"] and self.status == self.found

    @property
    def share(self) -> float:
        """How much of it there is already."""
        return self.place[0] / self.run.config["epochs"] if self.place else 0.0

    @property
    def untouched(self) -> bool:
        """Whether it is as when last looked at, and nobody trains it."""
        return self.run.status() == self.status and not self.run.busy()

    def take(self) -> bool:
        """Lock the run; False where another process is training it, or has been since we looked."""
        return self.run.acquire() and self.run.status() == self.status


class Worker:
    """Trains jobs in this process. Data and measurements stay from one call to the next."""

    def __init__(self) -> None:
        self.sources = Sources()
        self.widths = Widths(self.sources)

    def __call__(
        self,
        jobs: Sequence[Job],
        display: Display,
        interrupted: Callable[[], bool],
        alone: bool = False,
    ) -> None:
        """Train those that nobody has trained meanwhile; the folders tell what became of them.

        A run that cannot be trained is noted in its folder; only if `alone` its error is raised.
        Raises Unwritable, once the runs that it happened to are `stopped`: the next ones would end
        like that too.
        """
        free = [job for job in jobs if job.look() and not job.run.busy()]
        stacks = deque(self.stacks(free))
        while stacks and not interrupted():
            smaller = self._train(stacks.popleft(), display, interrupted, alone)
            stacks.extendleft(reversed(smaller))

    def stacks(
        self, jobs: Sequence[Job], most: int | None = None, measure: bool = True
    ) -> Iterator[list[Job]]:
        """Groups of jobs that train together: of one stack key, and at the same step; none with
        more than `most`. Unless `measure`, the width is what is usual."""
        for members in _groups(jobs):
            configs = [job.run.config for job in members]
            width = self.widths.of(configs, measure and configs[0]["stack"] == "auto").runs
            yield from _evenly(members, min(width, most or width))

    def refusals(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Run id -> why it could not be trained, as far as that shows in the first step of one of
        its stack key. Nothing is written."""
        found = {}
        for members in _groups(jobs):
            config = members[0].run.config
            try:
                _prepare([config], self.sources, Display(1, quiet=True))
            except Exception as error:
                found |= {job.run.id: _reason(error, config) for job in members}
            finally:
                torch.set_num_threads(THREADS)
        return found

    def seconds(self, jobs: Sequence[Job]) -> float:
        """How long training these jobs will take in this process, about; 0 where nobody knows."""
        return sum(
            len(members) * self.widths.of([job.run.config for job in members]).seconds
            for members in _groups(jobs)
        )

    def _train(
        self,
        jobs: list[Job],
        display: Display,
        interrupted: Callable[[], bool],
        alone: bool,
    ) -> list[list[Job]]:
        """Build, lock, train one stack; what is left of it to be computed in smaller ones."""
        runs, too_wide = [job.run for job in jobs], False
        taken: list[Job] = []
        try:
            begun = jobs[0].place[2] if jobs[0].place else None
            ready = _prepare([run.config for run in runs], self.sources, display, begun)
            _check_identity(runs[0], self.sources)
            if len(jobs) > 1 and not ready.rehearsal.stackable:
                display.say("these runs cannot be computed as one stack; they train one by one")
                return [[job] for job in jobs]
            models = dict(zip(runs, ready.models, strict=True))
            taken = [job for job in jobs if job.take()]
            if taken:
                mine = {job.run: models[job.run] for job in taken}
                _fit(taken, ready._replace(models=list(mine.values())), display, interrupted)
        except Exception as error:
            parallel.part()
            if not parallel.first():
                raise
            too_wide = len(jobs) > 1 and out_of_memory(error)
            if not too_wide:
                if alone and isinstance(error, UserError) and not taken:
                    raise
                fail([job.run for job in taken] or runs, error, bool(taken))
                if isinstance(error, Unwritable):
                    raise
                if not alone:
                    display.failed(_reason(error, runs[0].config))
        finally:
            torch.set_num_threads(THREADS)
            for run in runs:
                run.release()
        if not too_wide:
            return []
        half = len(jobs) // 2
        self.widths.limit(runs[0].config, half)
        display.say(f"a stack of {len(jobs)} does not fit into memory; going on with {half}")
        return _evenly([job for job in jobs if job.look()], half)


def _groups(jobs: Iterable[Job]) -> Iterable[list[Job]]:
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        key = stack_key(job.run.config), job.place, job.anew
        groups.setdefault(key, []).append(job)
    return groups.values()


def _evenly(jobs: list[Job], width: int) -> list[list[Job]]:
    """In as few parts as `width` allows, of about equal size."""
    count = math.ceil(len(jobs) / width)
    bounds = [len(jobs) * k // count for k in range(count + 1)]
    return [jobs[start:end] for start, end in itertools.pairwise(bounds)]


def _check_identity(run: Run, sources: Sources) -> None:
    """Raise UserError where the run would not be what its id says: this process has read the data,
    and imported the user's code, later than the one that named it."""
    if run_id(run.asked, sources.fingerprint(run.config)) != run.id:
        raise UserError(
            f"The data of dataset={run.config['choices']['dataset']}, or code that the config "
            "names, have changed since the command began, so this run was not trained. The same "
            "command trains what is there now."
        )


class _Ready(NamedTuple):
    """What the members of a stack need before the first step."""

    device: torch.device
    examples: data.Data
    models: list[nn.Module]
    rehearsal: Rehearsal
    warnings: list[str]


def _prepare(
    configs: Sequence[Config], sources: Sources, display: Display, begun: int | None = None
) -> _Ready:
    """Everything that can be wrong with a config shows here, before its folder is touched.

    `begun`: the threads that the runs began with. Sums in other parts would give other last bits.
    """
    config, device = configs[0], pick_device(configs[0]["device"])
    if torch.are_deterministic_algorithms_enabled() != config["deterministic"]:
        # Only where it changes something: the call imports torch's compiler, as slow as torch.
        torch.use_deterministic_algorithms(config["deterministic"])
    examples = sources.data(config, device)
    if examples.x is None and config["in_memory"] == "auto":
        display.warn("the inputs do not fit into memory; they are read batch by batch")
    models = [build_model(c, examples) for c in configs]
    advice.refuse(config, models[0], examples)
    usual = threads(config, models[0], len(examples.splits["train"]))
    torch.set_num_threads(begun or usual)
    rehearsal = rehearse(configs, models, examples, device)
    if rehearsal.draws and parallel.size() > 1:
        raise UserError(
            "The model draws from torch's global generator, which several processes cannot do as "
            "one. Use layers of trainlab's own noise (reg.dropout=…), or one process."
        )
    warnings = [w for c in configs for w in advice.warnings(c, models[0], examples)]
    return _Ready(device, examples, models, rehearsal, list(dict.fromkeys(warnings)))


def _fit(
    jobs: Sequence[Job], ready: _Ready, display: Display, interrupted: Callable[[], bool]
) -> None:
    """Train runs that are locked, into their folders."""
    runs, config = [job.run for job in jobs], jobs[0].run.config
    states = [run.checkpoint() for run in runs] if jobs[0].place else []
    _open(jobs, states, ready.examples, display)
    display.training(runs, states[0]["epoch"] if states else None)
    for warning in ready.warnings:
        display.warn(warning)
        for run in runs:
            run.say(f"warning: {warning}")
    stack = Stack(ready.models, ready.device, config["compile"])
    stack.seed = config["seed"] if ready.rehearsal.draws else None
    with torch.random.fork_rng() if ready.rehearsal.draws else nullcontext():
        for run in fit(runs, stack, ready.examples, states, display.epoch, interrupted):
            if interrupted():
                run.set_status("stopped", "interrupted; the same command continues it")
            else:
                run.set_status("paused", f"paused after epoch {config['until']}")
    for run in runs:
        status = run.status()
        run.say(status["reason"] or status["status"])


def _open(
    jobs: Sequence[Job],
    states: Sequence[dict[str, Any]],
    examples: data.Data,
    display: Display,
) -> None:
    """Make or clear the folders of runs that are about to train."""
    saved = data.saved(examples)
    for r, job in enumerate(jobs):
        if job.anew:
            job.run.clear()
        rows, step = (states[r]["history"], states[r]["t"]) if states else ([], 0)
        job.run.start(rows, step, display.warn)
        if job is jobs[0]:
            job.run.save("data", saved, sync=False)
        else:
            job.run.share("data", jobs[0].run)
        job.run.say(f"resumed in epoch {states[r]['epoch'] + 1}" if states else "started")


def fail(runs: Iterable[Run], error: Exception, started: bool = False) -> None:
    """Note the error in the folders of runs that did not finish, unless others train them.

    Those that are none the worse for it are `stopped`; where not even that can be written they stay
    as they are, which the same command takes for the same.
    """
    for run in runs:
        with suppress(Unwritable):
            if not run.acquire():
                continue
            status = run.status().get("status")  # as nobody changes it any more
            if status not in FINISHED or (run.config["fresh"] and not started):
                if status is None:
                    run.start([])
                known = isinstance(error, _KNOWN)
                run.say(str(error) if known else "".join(traceback.format_exception(error)))
                sound = isinstance(error, parallel.Lost | Unwritable)
                run.set_status("stopped" if sound else "failed", _reason(error, run.config))
        run.release()


def _reason(error: Exception, config: Config) -> str:
    if isinstance(error, _KNOWN):
        return str(error)
    what = f"{type(error).__name__}: {error}"
    return explained(error, config) if out_of_memory(error) else what


@contextmanager
def interruptible(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and a closed terminal ask the loop to stop at the next step; a second one
    stops at once, unless `patient`.

    Where several processes train the run, all stop at the same step.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked and not patient:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # or nohup wants it ignored
    previous = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: parallel.agreed(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
