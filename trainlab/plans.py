"""What sweeps mean to train, for those who watch them: <study>/sweep.json.

Nothing is decided by it: which runs are trained is told by their folders alone.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import filelock

from trainlab.environment import HOST, command
from trainlab.files import make_folder, read_json, write_text
from trainlab.store import lives

_DAY = 86400.0


class Plan(NamedTuple):
    """One command's."""

    command: str
    began: str
    pid: int
    host: str
    total: int | None  # how many runs a search wants, which learns of them batch by batch
    metric: str | None  # it searches by
    runs: dict[str, float]  # run id -> the share of it that was there before
    again: dict[str, str]  # runs to be trained further or anew -> `mark` of the status they had
    alike: list[str]  # what was typed of all

    @property
    def lives(self) -> bool | None:
        """Whether its process does; None where that cannot be told from here."""
        return lives(self.pid, self.host)

    @property
    def since(self) -> float:
        """When it began, on the clock of time.time()."""
        return datetime.fromisoformat(self.began).timestamp()


def mark(status: Mapping[str, str]) -> str:
    """What tells a run's status from its next one."""
    return f"{status.get('status')} {status.get('time')}"


def read(study: Path) -> list[Plan]:
    """The plans of a study, oldest first; those that cannot be read are passed over."""
    plans = []
    for entry in read_json(study / "sweep.json").get("plans", []):
        try:
            plans.append(Plan(**entry))
        except TypeError:  # of another version of trainlab
            continue
    return plans


def note(
    study: Path,
    runs: Mapping[str, float],
    again: Mapping[str, str],
    typed: Sequence[Sequence[str]],
    total: int | None = None,
    metric: str | None = None,
) -> None:
    """Write down what this process is about to train, over what processes that have ended were.

    A search says its `total` and `metric` first; then each of its batches is added to those before.
    """
    make_folder(study)
    with filelock.FileLock(study / ".sweep.lock"):
        me, before = (os.getpid(), HOST), read(study)
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        alike = _alike(typed) if len(typed) > 1 else []
        mine = Plan(command(), now, *me, total, metric, dict(runs), dict(again), alike)
        for plan in before:
            if (plan.pid, plan.host) == me and plan.total and not total:
                alike = _alike([plan.alike, *typed]) if plan.runs else alike
                runs, again = mine.runs | plan.runs, plan.again | mine.again
                mine = plan._replace(runs=runs, again=again, alike=alike)
        others = [plan for plan in before if (plan.pid, plan.host) != me and _kept(plan)]
        text = json.dumps({"plans": [plan._asdict() for plan in (*others, mine)]})
        write_text(study / "sweep.json", text)


def _alike(typed: Sequence[Sequence[str]]) -> list[str]:
    shared = set(typed[0]).intersection(*typed[1:])
    return [text for text in typed[0] if text in shared]


def _kept(plan: Plan) -> bool:
    """Whether it may still be at work: another machine's is believed for a day."""
    return time.time() - plan.since < _DAY if plan.lives is None else plan.lives
