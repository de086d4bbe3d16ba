"""A study's folder -> what there is to see of its sweep."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from trainlab import plans
from trainlab.config import UserError
from trainlab.metrics import higher_is_better
from trainlab.plans import Plan
from trainlab.tables.recipes import Recipe, metric_of
from trainlab.terminal import escaped
from trainlab.watch.folder import Folder, decides

# The states of a run, in the order they are told.
STATES = "done diverged failed pruned running paused stopped interrupted waiting".split()
_QUIET = 300.0  # seconds without news, after which it is said of a run on another machine


class Running(NamedTuple):
    name: str  # what was typed of it, less what was typed of all
    epoch: int
    epochs: int
    metric: str
    latest: float | None
    best: float | None
    quiet: float | None  # seconds without news, if it may be dead on another machine


class Best(NamedTuple):
    """A recipe: runs that differ in nothing but their seed."""

    name: str
    metric: str
    values: list[float]  # of its seeds


class Trouble(NamedTuple):
    status: str  # failed or diverged
    name: str
    reason: str


class Frame(NamedTuple):
    """What there is to see at one moment."""

    study: Path
    commands: list[str]
    total: int | None  # None where no plan says
    ended: int  # runs
    counts: dict[str, int]  # of the states that occur
    share: float  # of all work that is done; 0 where the total is not known
    elapsed: float | None  # seconds since the first of the commands began
    left: float | None  # seconds, at the rate so far
    running: list[Running]
    best: list[Best]  # one for each problem and metric
    troubles: list[Trouble]  # the latest first
    over: bool  # nobody is training any more, or there is nothing more to train


def gather(study: Path, known: dict[str, Folder], now: float | None = None) -> Frame:
    """What there is to see. `known` keeps what was read, from one frame to the next.

    >>> gather(Path("outputs/first_steps"), {}).counts
    {'done': 17, 'diverged': 1, 'running': 9, 'waiting': 18}
    """
    now = time.time() if now is None else now
    made = plans.read(study)
    since = min((plan.since for plan in made), default=None)
    runs = _watched(study, made, since, known)
    states, shares = {}, {}
    for name, run in runs.items():
        states[name], shares[name] = run.status, run.share
        if run.ended and any(plan.again.get(name) == run.mark for plan in made):
            # Finished by another command, and to be trained anew or further by this one.
            states[name] = "waiting"
            shares[name] = min(plan.runs[name] for plan in made if name in plan.again)
    live = "running" in states.values()
    ended = {name for name, run in runs.items() if run.ended and states[name] != "waiting"}
    over = not live and all(_over(plan, ended) for plan in made)
    total = max([len(runs), *(plan.total or 0 for plan in made)]) if made else None
    elapsed = left = None
    if since is not None:
        last = max((run.changed for run in runs.values()), default=since)
        elapsed = max(0.0, (last if over else now) - since)
        gained = sum(shares.values()) - sum(
            min((plan.runs[name] for plan in made if name in plan.runs), default=0.0)
            for name in runs
        )
        if not over and gained > 0:
            left = (total - sum(shares.values())) / gained * elapsed
    count = Counter(states.values())
    name_of = _names(runs, [plan.alike for plan in made])
    return Frame(
        study=study,
        commands=[plan.command for plan in made],
        total=total,
        ended=len(ended),
        counts={state: count[state] for state in STATES if count[state]},
        share=sum(shares.values()) / total if total else 0.0,
        elapsed=elapsed,
        left=left,
        running=[_now(r, name_of(r), now) for name, r in runs.items() if states[name] == "running"],
        best=_best([runs[name] for name in runs if name in ended], name_of),
        troubles=[
            Trouble(run.status, name_of(run), run.reason)
            for run in sorted(runs.values(), key=lambda run: -run.changed)
            if states[run.path.name] in ("failed", "diverged")
        ],
        over=over,
    )


def _watched(
    study: Path, made: Sequence[Plan], since: float | None, known: dict[str, Folder]
) -> dict[str, Folder]:
    """The runs that are planned, and others in the folder of which something was heard since."""
    planned = dict.fromkeys(name for plan in made for name in plan.runs)
    there = sorted(name for name in _names_in(study) if (study / name).is_dir())
    for name in (*planned, *there):
        if name not in known:
            known[name] = Folder(study / name)
    for plan in made:
        for name in plan.runs:
            known[name].search = plan.metric
    runs = {name: known[name].look() for name in planned}
    for name in there:
        if name not in planned and known[name].look().mark and known[name].changed >= (since or 0):
            runs[name] = known[name]
    return runs


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _over(plan: Plan, ended: set[str]) -> bool:
    """Whether all it wants is done, or nobody is left to do it."""
    complete = ended.issuperset(plan.runs) and len(plan.runs) >= (plan.total or 0)
    return complete or plan.lives is False


def _names(runs: dict[str, Folder], alike: Sequence[list[str]]) -> Callable[[Folder], str]:
    """What was typed of a run, less what was typed of all, those to come included."""
    typed = [*alike, *(run.typed for run in runs.values() if run.mark)]
    common = set.intersection(*map(set, typed)) if len(typed) > 1 else set()

    def name(run: Folder) -> str:
        told = [text for text in run.typed if text not in common and decides(text)]
        return _short(told) or run.path.name

    return name


def _short(typed: Sequence[str]) -> str:
    """As the tables name recipes.

    >>> _short(["act=relu", "optimizer.lr=0.1", "seed=0"])
    'relu lr=0.1 seed=0'
    """
    settings = dict(text.partition("=")[::2] for text in typed)
    return one_line(Recipe(settings, {}, {}, []).name) if settings else ""


def one_line(text: str) -> str:
    """On one line, and with nothing that a terminal would obey."""
    return escaped(" ".join(text.split()))


def _now(run: Folder, name: str, now: float) -> Running:
    since = now - run.changed
    quiet = since if run.lives is None and since > _QUIET else None
    return Running(name, run.epoch, run.epochs, run.monitor, run.latest, run.best, quiet)


def _best(runs: Sequence[Folder], name_of: Callable[[Folder], str]) -> list[Best]:
    """For each problem and metric the recipe with the best mean."""
    contests: dict[tuple[str, str], dict[int, list[tuple[Folder, float]]]] = {}
    for run in runs:
        metric = run.result and (run.search or metric_of(run.result))
        if metric and (value := run.result.number(metric)) is not None:
            contest = contests.setdefault((run.data, metric), {})
            contest.setdefault(run.recipe, []).append((run, value))
    found = []
    for (_, metric), recipes in contests.items():
        pick = max if higher_is_better(metric) else min
        best = pick(recipes.values(), key=lambda members: fmean(value for _, value in members))
        name = " ".join(t for t in name_of(best[-1][0]).split() if not t.startswith("seed="))
        found.append(Best(name or "all runs", metric, [value for _, value in best]))
    return found


def newest(folder: Path) -> Path:
    """The study that changed last, below a folder or this folder itself."""
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}. Give a study's folder, outputs/<study>; a sweep makes "
            "it when it begins."
        )
    studies = list(_studies(folder))
    if not studies:
        raise UserError(
            f"There are no runs in {folder} yet. `trainlab train -m …` begins a sweep; with "
            "output_dir= or study= give its folder here."
        )
    return max(studies, key=lambda study: study.stat().st_mtime)


def _studies(folder: Path) -> Iterator[Path]:
    for path, below, files in os.walk(folder):
        if "sweep.json" in files or any(Path(path, b, "status.json").is_file() for b in below):
            yield Path(path)
            below.clear()
