"""A running sweep seen from another terminal, by nothing but what it leaves on the disk.

gather   the study's folder -> a Frame: how much is done, what runs, what is best, what failed
picture  a Frame -> what rich draws, no larger than the terminal
watch    the two, once a second, until the sweep has ended

No lock is taken: the sweep would believe that another process trains the run.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from sys import intern
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainlab import plans
from trainlab.config import NOT_IDENTITY, UserError
from trainlab.metrics import higher_is_better
from trainlab.plans import Plan
from trainlab.store import FINISHED, lives, read_json
from trainlab.tables.recipes import Recipe, form_of, metric_of, with_interval
from trainlab.tables.runs import Entry
from trainlab.tables.statistics import interval

_EVERY = 1.0  # seconds between two frames
_QUIET = 300.0  # seconds without news, after which it is said of a run on another machine
# A run can be in one of these states, in this order they are told, and drawn so.
_STYLES = {
    "done": "green", "diverged": "red", "failed": "red", "pruned": "blue", "running": "cyan",
    "paused": "blue", "stopped": "yellow", "interrupted": "yellow", "waiting": "dim",
}  # fmt: skip
_ENDED = (*FINISHED, "failed", "pruned")
_LISTED = 3  # failures that are shown where running runs would fill the screen


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


# ---------------------------------------------------------------- one run's folder


class Folder:
    """A run's folder: read again only when a file of it has changed."""

    def __init__(self, path: Path):
        self.path, self.status, self.reason, self.mark = path, "waiting", "", ""
        self.typed: tuple[str, ...] = ()
        self.data, self.recipe = "", 0  # equal for the same data; for runs that differ in the seed
        self.search: str | None = None  # the metric of the search that it belongs to
        self.all_epochs, self.until, self.monitor = 1, None, "val_loss"
        self.process: tuple[int, str] | None = None
        self.result: Entry | None = None  # of a finished run, less its config
        self.changed = 0.0  # when something was last heard of it
        self._status = self._table = (0, 0)  # inode, and time or size
        self._forget()

    def _forget(self) -> None:
        self.offset, self.head = 0, [""]  # in metrics.csv
        self.epoch, self.latest, self.best = 0, None, None

    def look(self) -> "Folder":
        """Read what is new."""
        try:
            found = os.stat(self.path / "status.json")
        except OSError:  # it never started, or is gone
            self.status, self._status = "waiting", (0, 0)
            self._forget()
            return self
        if (found.st_ino, found.st_mtime_ns) != self._status:
            self._status, self.changed = (found.st_ino, found.st_mtime_ns), found.st_mtime
            self._read_status()
        if self.status not in _ENDED:
            self._read_table()
        if self.status == "running" and self.lives is False:
            self.status = "interrupted"
        return self

    @property
    def lives(self) -> bool | None:
        """Whether the process does that trains it; None where that cannot be told."""
        return lives(*self.process) if self.process else None

    @property
    def epochs(self) -> int:
        """How many it shall train. A search lets it pause, and goes on with it or not."""
        until = None if self.search else self.until
        return min(self.all_epochs, until or self.all_epochs)

    @property
    def share(self) -> float:
        """How much of it is done."""
        return 1.0 if self.status in _ENDED else min(1.0, self.epoch / max(1, self.epochs))

    @property
    def ended(self) -> bool:
        return self.status in _ENDED or (self.status == "paused" and self.share == 1)

    def _read_status(self) -> None:
        entry = read_json(self.path / "status.json")
        config = entry.get("config")
        if not isinstance(config, dict):  # damaged, or another program's
            self.status, self.mark = "waiting", ""
            return
        self.status, self.reason = str(entry.get("status")), str(entry.get("reason") or "")
        self.mark = plans.mark(entry)
        self.process = (entry["pid"], entry["host"]) if "host" in entry else None
        self.typed = tuple(intern(text) for text in entry.get("overrides") or ())
        decisive = [
            f"{key}={value}"
            for key, value in sorted(config.items())
            if key not in ("seed", "experiment") and _decides(key)
        ]
        self.data = intern(" ".join(text for text in decisive if text.startswith("dataset")))
        self.recipe = hash(tuple(decisive))
        self.all_epochs, self.until = config.get("epochs", 1), config.get("until")
        self.monitor = config.get("stop.monitor", "val_loss")
        self.result = None
        if self.status == "done":
            known = read_json(self.path / "result.json").items()
            numbers = {key: value for key, value in known if key.startswith(("val_", "train_"))}
            self.result = Entry({}, [], numbers, None, self.path)

    def _read_table(self) -> None:
        """The lines that metrics.csv has more; one that is cut is left for the next look."""
        try:
            found = os.stat(self.path / "metrics.csv")
            if (found.st_ino, found.st_size) == self._table:
                return
            with open(self.path / "metrics.csv", "rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._table[0] or found.st_size < self.offset:
                    self._forget()  # the run began anew, or goes on
                self._table = found.st_ino, found.st_size
                self.changed = max(self.changed, found.st_mtime)
                file.seek(self.offset)
                text, end, _ = file.read().rpartition(b"\n")
        except OSError:
            return
        self.offset += len(text + end)
        for line in text.decode(errors="replace").splitlines():
            self._read_row(line.split(","))

    def _read_row(self, cells: list[str]) -> None:
        if self.head == [""]:
            self.head = cells
            return
        try:
            row = dict(zip(self.head, cells, strict=True))
            self.epoch, self.latest = int(row["epoch"]), float(row[self.monitor])
        except (ValueError, KeyError):
            return
        pick = max if higher_is_better(self.monitor) else min
        if not math.isnan(self.latest):
            self.best = self.latest if self.best is None else pick(self.best, self.latest)


def _decides(key: str) -> bool:
    """Whether a setting is one of those that decide a run's result."""
    return key.lstrip("+~").partition(".")[0].partition("=")[0] not in NOT_IDENTITY


# ---------------------------------------------------------------- the study's folder


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
        counts={state: count[state] for state in _STYLES if count[state]},
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
    try:
        with os.scandir(study) as children:
            there = sorted(child.name for child in children if child.is_dir())
    except OSError:
        there = []
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


def _over(plan: Plan, ended: set[str]) -> bool:
    """Whether all it wants is done, or nobody is left to do it."""
    complete = ended.issuperset(plan.runs) and len(plan.runs) >= (plan.total or 0)
    return complete or plan.lives is False


def _names(runs: dict[str, Folder], alike: Sequence[list[str]]) -> Callable[[Folder], str]:
    """What was typed of a run, less what was typed of all, those to come included."""
    typed = [*alike, *(run.typed for run in runs.values() if run.mark)]
    common = set.intersection(*map(set, typed)) if len(typed) > 1 else set()

    def name(run: Folder) -> str:
        told = [text for text in run.typed if text not in common and _decides(text)]
        return _short(told) or run.path.name

    return name


def _short(typed: Sequence[str]) -> str:
    """As the tables name recipes.

    >>> _short(["act=relu", "optimizer.lr=0.1", "seed=0"])
    'relu lr=0.1 seed=0'
    """
    settings = dict(text.partition("=")[::2] for text in typed)
    return _line(Recipe(settings, {}, {}, []).name) if settings else ""


def _line(text: str) -> str:
    """On one line, and with nothing that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


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


# ---------------------------------------------------------------- what is seen


def picture(frame: Frame, width: int, height: int | None) -> Group:
    """The frame for a terminal of this size; all of it where there is no `height`."""
    head: list[Any] = [Text(_line(str(frame.study)), "bold", no_wrap=True, overflow="ellipsis")]
    for command in frame.commands[:2]:
        head.append(Text(_line(command), "dim", no_wrap=True, overflow="ellipsis"))
    head += [_progress(frame), _counts(frame), _times(frame)]
    best = [_best_line(best) for best in frame.best[: 3 if height else None]]
    console = Console(width=width)
    lines = sum(len(console.render_lines(part)) for part in (*head, *best))
    room = None if height is None else height - lines
    rest = len(frame.running) + 2 if frame.running else 0  # with a heading and a line before it
    shown = len(frame.troubles)
    if room is not None:
        shown = min(shown, max(_LISTED, room - rest), max(0, room - min(rest, 3) - 1))
        room -= shown + 1 if shown else 0
    parts = [*head, *best]
    if frame.running:
        parts += [Text(), _running(frame.running, None if room is None else max(1, room - 2))]
    if shown:
        parts += [Text(), _troubles(frame.troubles[:shown], width)]
    return Group(*parts)


def _progress(frame: Frame) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    bar = ProgressBar(total=1.0, completed=frame.share)
    grid.add_row(bar, Text(f"{frame.ended}/{'?' if frame.total is None else frame.total} runs"))
    return grid


def _counts(frame: Frame) -> Text:
    parts = (Text(f"{count} {status}", _STYLES[status]) for status, count in frame.counts.items())
    return Text(" · ").join(parts)


def _times(frame: Frame) -> Text:
    told, style = f"elapsed {_duration(frame.elapsed)}, left {_duration(frame.left)}", ""
    if frame.over and frame.ended >= (frame.total or sum(frame.counts.values())):
        told, style = f"finished after {_duration(frame.elapsed)}", "green"
    elif frame.over:
        told = f"ended after {_duration(frame.elapsed)}, unfinished; the same command continues"
        style = "yellow"
    return Text(told, style, no_wrap=True, overflow="ellipsis")


def _duration(seconds: float | None) -> str:
    """
    >>> _duration(3723.4), _duration(None)
    ('1:02:03', '–')
    """
    return "–" if seconds is None else str(timedelta(seconds=int(seconds)))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:{form_of(value)}}"


def _best_line(best: Best) -> Text:
    line = Text("best ", no_wrap=True, overflow="ellipsis")
    value = with_interval(*interval(best.values))
    return line.append(f"{best.metric} {value} (n = {len(best.values)})", "bold green").append(
        f"  {best.name}"
    )


def _running(running: Sequence[Running], room: int | None) -> Table:
    """As many as there is room for, the rest counted."""
    most = len(running) if room is None or len(running) <= room else max(0, room - 1)
    metrics = list(dict.fromkeys(run.metric for run in running))
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for _ in range(3):
        grid.add_column(justify="right", no_wrap=True)
    heading = metrics[0] if len(metrics) == 1 else "latest"
    grid.add_row("running", "epoch", heading, "best", style="dim")
    for run in running[:most]:
        name = Text(run.name)
        if run.quiet is not None:
            name.append(f"  nothing heard for {_duration(run.quiet)}", "yellow")
        epoch = f"{run.epoch}/{run.epochs}"
        grid.add_row(name, epoch, _number(run.latest), _number(run.best))
    if most < len(running):
        grid.add_row(Text(f"and {len(running) - most} more", "dim"))
    return grid


def _troubles(troubles: Sequence[Trouble], width: int) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=width // 3)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for trouble in troubles:
        status = Text(trouble.status, _STYLES[trouble.status])
        grid.add_row(status, Text(trouble.name), Text(_line(trouble.reason), "dim"))
    return grid


def watch(study: Path, console: Console, once: bool) -> None:
    """Show a study's sweep until it has ended; in a pipe, or if `once`, as it is now."""
    known: dict[str, Folder] = {}
    frame = gather(study, known)
    if once or not console.is_terminal or console.is_dumb_terminal:
        height = console.height - 2 if console.is_terminal else None
        console.print(picture(frame, console.width, height))
        return
    with Live(console=console, auto_refresh=False) as live:
        began = time.monotonic()
        while True:
            # Lines stay free for the prompt, or the first would scroll away behind the last frame.
            live.update(picture(frame, console.width, console.height - 2), refresh=True)
            if frame.over:
                return
            # Of a great many runs less often: whoever watches takes little from who trains.
            time.sleep(max(_EVERY, 10 * (time.monotonic() - began)))
            began = time.monotonic()
            frame = gather(study, known)
