"""What all executors have in common: hand stacks out, take them back, try once more what died."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainlab.config import Config

if TYPE_CHECKING:  # importing torch is left to those who compute
    from trainlab.progress import Display
    from trainlab.work import Job

Packed = list[tuple[Config, str, dict[str, Any], dict[str, Any]]]

LISTEN = 0.1  # seconds between two looks at what is under way


class Handle(Protocol):
    """A stack under way."""

    def over(self, display: "Display") -> bool:
        """Whether it has ended; shows what has come of it so far."""
        ...

    def death(self) -> str | None:
        """Why its process died, once it is over; None if it did not. Raises Unwritable where
        nothing could be written."""
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
        time.sleep(LISTEN)

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
                    # Asked to end, it did not die.
                    over, more = [(jobs, None)], []
                    if not asked:
                        over, more = self._sorted(jobs, handle.death(), tried, display)
                    again += more
                    yield from over
        finally:
            for handle, _ in under_way:
                handle.kill()

    def _sorted(
        self, jobs: "list[Job]", death: str | None, tried: set[str], display: "Display"
    ) -> "tuple[list[tuple[list[Job], str | None]], list[list[Job]]]":
        """Of a stack whose process has ended or died: what is over, with the reason if it failed,
        and what to hand out again.

        `tried` are the ids of runs whose process has died before.
        """
        why = death or self._nothing_done(jobs)
        if why is None:
            return [(jobs, None)], []
        touched = [job for job in jobs if not job.untouched]
        left = [job for job in jobs if job.look()]
        finished = [job for job in jobs if job not in left]
        begun = [job for job in left if job in touched]
        waiting = [job for job in left if job not in touched]
        over: list[tuple[list[Job], str | None]] = [(finished, None)]
        again = [waiting] if begun and waiting else []  # they are no worse for it
        if struck := begun or waiting:
            ids = {job.run.id for job in struck}
            if ids.isdisjoint(tried):
                display.say(f"{why}; its stack is tried once more")
                again.append(struck)
            elif death and not begun and len(struck) > 1:
                again += [[job] for job in struck]  # to see of which it dies
            else:
                over.append((struck, why))
            tried |= ids
        return over, again

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
            time.sleep(LISTEN)
        return None


def pack(jobs: "Sequence[Job]", **how: Any) -> Packed:
    """What another process needs to make these jobs; `how` they are computed there, whatever was
    asked for."""
    return [(job.run.config, job.run.id, job.found, how) for job in jobs]


def unpack(packed: Packed) -> "list[Job]":
    from trainlab.store import Run
    from trainlab.work import Job

    return [Job(Run(config, run_id, how), found) for config, run_id, found, how in packed]
