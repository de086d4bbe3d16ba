"""What is told of some runs, whatever it becomes: a page or a study's write-up."""

import functools
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import options, schema
from trainlab.files import Unreadable, opened, read_json
from trainlab.tables import compare, effects, recipes
from trainlab.tables.runs import Entry, Found, cell, metrics_edited, rows
from trainlab.tables.statistics import Effects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COMPARED = 12  # recipes that are compared with the best
COMMANDS = 8
_NOTES = 30
_LOG = 2**16  # characters of a log that are looked at


class Picture(NamedTuple):
    name: str
    caption: str
    draw: "Callable[[], Figure]"  # in style.styled


class Part(NamedTuple):
    """The runs of one task: all are worth the same metric."""

    summary: recipes.Summary
    verdict: compare.Verdict | None  # None where there is nothing to compare
    effects: Effects | None  # None where no choice varies
    pictures: list[Picture]

    @property
    def compared(self) -> str:
        """Which recipes are compared, where these are not all."""
        able = sum(len(r.numbers[self.summary.metric]) > 1 for r in self.summary.recipes)
        return f"the best {_COMPARED} of {able} recipes" if able > _COMPARED else ""


class Story(NamedTuple):
    title: str
    question: str  # of the study; empty where the runs are of none
    commands: list[str]
    first: str  # when the first and the last run ended
    last: str
    counts: dict[str, int]  # status -> runs
    parts: list[Part]
    runs: list[Entry]  # best first
    failures: list[tuple[Entry, str]]  # failed and diverged runs, and why
    notes: dict[str, int]  # what was noticed while runs trained -> how many runs
    environments: dict[str, int]  # where they were computed -> how many runs
    skipped: dict[Path, str]  # files that could not be read
    edited: list[Path]  # files that are not as the runs left them

    @property
    def shown(self) -> list[str]:
        """As many of the commands as one wants to read."""
        more = len(self.commands) - COMMANDS
        return [*self.commands[:COMMANDS], *([f"# and {more} more"] if more > 0 else [])]


def told(found: Found, title: str) -> Story:
    """The story of the runs that were found."""
    runs = found.runs
    where = [read_json(run.folder / "env.json") for run in runs]
    times = [run.time[:16].replace("T", " ") for run in runs]
    return Story(
        title=title,
        question=_question(runs),
        commands=list(_counted(map(_command, where))),
        first=min(filter(None, times), default=""),
        last=max(filter(None, times), default=""),
        counts=_counted(run.status for run in runs),
        parts=[_part(summary) for summary in recipes.summaries(runs)],
        runs=recipes.best_first(runs),
        failures=[(run, run.reason or "") for run in runs if run.status in ("failed", "diverged")],
        notes=_noticed(runs),
        environments=_counted(map(_environment, where)),
        skipped=found.skipped,
        edited=[*found.edited, *metrics_edited(runs)],
    )


def _part(summary: recipes.Summary) -> Part:
    finished = [recipe for recipe in summary.recipes if recipe.numbers[summary.metric]]
    able = [recipe for recipe in finished if len(recipe.numbers[summary.metric]) > 1]
    several = len(able) > 1 and len({recipe.data for recipe in finished}) == 1
    verdict = None
    if several:
        named = [compare.Contestant(r.name, r.runs) for r in able[:_COMPARED]]
        if len({contestant.name for contestant in named}) == len(named):
            verdict = compare.compare(named, summary.metric, len(able))
    runs = [run for recipe in summary.recipes for run in recipe.runs]
    found = effects.effects(runs, summary.metric) if len(summary.keys) > 1 else None
    return Part(summary, verdict, found, _pictures(summary))


def _pictures(summary: recipes.Summary) -> list[Picture]:
    """Those that have something to show; none without matplotlib."""
    finished = [recipe for recipe in summary.recipes if recipe.numbers[summary.metric]]
    if not finished:
        return []
    try:
        from trainlab.pictures import kinds
    except ImportError:
        return []
    made = []
    if any((run.folder / "metrics.csv").is_file() for run in finished[0].runs):
        band = "mean over seeds, with its 95 % interval"
        for metric in dict.fromkeys([summary.metric, "val_loss"]):
            draw = functools.partial(kinds.curves, summary, None, metric)
            made.append(Picture(f"curves-{metric}", f"{metric} over epochs: {band}", draw))
    if len(finished) > 1:
        draw = functools.partial(kinds.bars, summary)
        made.append(Picture("bars", "the recipes: mean, 95 % interval, and each seed", draw))
    levels = {key: len({recipe.settings[key] for recipe in finished}) for key in summary.keys}
    across = math.prod(sorted(levels.values())[-2:])
    filled = len(finished) >= across / 2  # else most of a map would be empty
    if sum(count > 1 for count in levels.values()) >= 2 and max(levels.values()) <= 30 and filled:
        draw = functools.partial(kinds.heatmap, summary)
        made.append(Picture("heatmap", f"mean {summary.metric} over two settings", draw))
    numeric = any(_is_number(recipe.settings[k]) for k in summary.keys for recipe in finished)
    if numeric and max(levels.values()) > 4:
        draw = functools.partial(kinds.scatter, summary)
        made.append(Picture("scatter", f"{summary.metric} of every run", draw))
    if len(summary.keys) >= 3:
        draw = functools.partial(kinds.parallel, summary)
        made.append(Picture("parallel", "every run through its settings to its metric", draw))
    return made


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _question(runs: Sequence[Entry]) -> str:
    """The first line of the study's file, if all runs are of one that is there."""
    studies = {str(run.config.get("experiment") or "") for run in runs}
    file = options("experiment").get(studies.pop()) if len(studies) == 1 else None
    return schema.read(file)[0] if file else ""


def _command(where: dict[str, Any]) -> str:
    """As it can be typed, with what it shows."""
    try:
        words = shlex.split(str(where.get("command", "")))
    except ValueError:  # not written by us
        return ""
    return shlex.join(word for word in words if word != "-q")


def _environment(where: dict[str, Any]) -> str:
    if not where:
        return ""
    device = where.get("gpu") or f"{where.get('machine')} with {where.get('cores')} cores"
    system = str(where.get("platform")).partition("-")[0]
    return (
        f"trainlab {where.get('trainlab')}, torch {where.get('torch')}, "
        f"Python {where.get('python')}, {system}, {device}, "
        f"threads: {where.get('threads')}"
    )


def _noticed(runs: Sequence[Entry]) -> dict[str, int]:
    """Warnings in the runs' logs, the most frequent first."""
    found: list[str] = []
    for run in runs:
        try:
            with opened(run.folder / "log.txt") as file:
                lines = file.read(_LOG).decode(errors="replace").splitlines()
        except Unreadable:
            continue
        marked = (line.partition(" warning: ")[2] for line in lines)
        found += dict.fromkeys(filter(None, marked))
    return dict(list(_counted(found).items())[:_NOTES])


def _counted(values: Any) -> dict[str, int]:
    """How often each comes, without the empty one; the most frequent first."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    counts.pop("", None)
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


# ---------------------------------------------------------------- as tables of texts


class Grid(NamedTuple):
    """Headings, and rows of texts."""

    headings: list[str]
    rows: list[list[str]]


def of_recipes(part: Part) -> Grid:
    return Grid(recipes.columns(part.summary), list(recipes.cells(part.summary)))


def of_contestants(verdict: compare.Verdict) -> Grid:
    """How sure it is that each recipe is the best."""
    rows = [
        [standing.name, compare.percent(standing.chance)]
        for standing in verdict.standings
        if not standing.chance < 0.01
    ]
    return Grid(["recipe", "best of all"], rows)


def of_versus(verdict: compare.Verdict) -> Grid:
    headings = [f"{verdict.best} less", "difference", "95 % interval", "p", "p corrected"]
    return Grid([*headings, "d", "better in", "verdict"], compare.rows(verdict))


def of_effects(part: Part) -> Grid:
    assert part.effects
    headings = ["choice", "share", "level", part.summary.metric, "n"]
    return Grid(headings, effects.rows(part.effects))


def of_runs(runs: Sequence[Entry]) -> Grid:
    """Settings, how it ended, metrics; a column for each that any run has."""
    table = rows(runs)
    columns = dict.fromkeys(key for row in table for key in row)
    return Grid(list(columns), [[_text(row.get(key)) for key in columns] for row in table])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else cell(value)
