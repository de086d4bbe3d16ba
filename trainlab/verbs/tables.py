"""What runs have left, or are leaving: table, compare, effects, plot, report, watch."""

import json
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainlab import terminal
from trainlab.config import UserError, nearest
from trainlab.verbs import parsed

if TYPE_CHECKING:
    from trainlab.report.story import Story
    from trainlab.tables.runs import Found

_FILTERS = ("--by", "--metric", "--where")
_TOLD = 5  # files that could not be read, by their names


def table(arguments: list[str]) -> int:
    """`trainlab table`: recipes with intervals and ranks; or all runs, or recipes, for other
    programs."""
    usage = (
        "table [FOLDERS] [--by act,optimizer] [--metric val_loss] [--where 'optimizer==adam'] "
        "[--csv|--json|--parquet|--markdown|--latex] [-o FILE]"
    )
    from trainlab.tables import forms, recipes

    flags = tuple(f"--{form}" for form in (*forms.RUNS, *forms.RECIPES))
    folders, options = parsed(arguments, usage, (*_FILTERS, "--output"), flags)
    chosen = [flag.removeprefix("--") for flag in flags if flag in options]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]} exclude each other.")
    output = options.get("--output")
    form = chosen[0] if chosen else _form_of(output)
    found = runs_below(folders, options)
    by, metric = listed(options.get("--by")), options.get("--metric")
    if form in forms.RUNS:
        if by:
            raise UserError(f"--by groups recipes; --{form} has a row for each run.")
        ordered = recipes.best_first(found.runs, metric)
        text = forms.write(forms.of_runs(ordered, form), output, form)
        print(text or output, end="" if text else "\n")
        return 0
    summaries = recipes.summaries(found.runs, by, metric)
    warn_of_test(options.get("--metric"))
    if form:
        text = forms.write(forms.of_recipes(summaries, form), output, form)
        print(text or output, end="" if text else "\n")
        return 0
    console = terminal.console()
    for summary in summaries:
        console.print(recipes.shown(summary))
    return 0


def _form_of(output: str | None) -> str | None:
    """What a file's name says it is."""
    if output is None:
        return None
    endings = {"csv": "csv", "json": "json", "parquet": "parquet", "md": "markdown", "tex": "latex"}
    ending = output.rpartition(".")[2]
    if ending not in endings:
        raise UserError(f"-o {output}: a table ends in .{', .'.join(endings)}")
    return endings[ending]


def compare(arguments: list[str]) -> int:
    """`trainlab compare A B …`: paired differences, with intervals, p-values and a verdict."""
    usage = (
        "compare A B … [--in FOLDER] [--metric val_loss] [--json], A and B folders or filters like "
        "'optimizer==adam'; or compare FOLDER [--by optimizer] [--where …]"
    )
    named, options = parsed(arguments, usage, (*_FILTERS, "--in"), ("--json",))
    from trainlab.tables import compare as comparing

    for name in named:
        if not Path(name).is_dir() and not any(
            symbol in name for symbol in ("=", "<", ">", " in ")
        ):
            raise UserError(f"There is no folder {name}, and it is no condition: {usage}")
    recipes = comparing.contestants(
        named, options.get("--in", "outputs"), listed(options.get("--by")),
        options.get("--metric"), options.get("--where"), tell,
    )  # fmt: skip
    verdict = comparing.compare(recipes, options.get("--metric"))
    if len(verdict.standings) > 2:  # of two that were named before, none is chosen
        warn_of_test(options.get("--metric"))
    if "--json" in options:
        print(json.dumps(comparing.as_dict(verdict), indent=1))
        return 0
    comparing.show(verdict, terminal.console())
    return 0


def effects(arguments: list[str]) -> int:
    """`trainlab effects`: which choice of a sweep matters, and what each level does."""
    usage = "effects [FOLDERS] [--by act,optimizer] [--metric val_loss] [--where …]"
    folders, options = parsed(arguments, usage, _FILTERS)
    from trainlab.tables import effects as analysis
    from trainlab.tables import recipes

    runs = runs_below(folders, options).runs
    summaries = recipes.summaries(runs, None, options.get("--metric"))
    warn_of_test(options.get("--metric"))
    for summary in summaries:
        members = [run for recipe in summary.recipes for run in recipe.runs]
        found = analysis.effects(members, summary.metric, listed(options.get("--by")))
        analysis.show(found, summary.metric, terminal.console())
    return 0


def plot(arguments: list[str]) -> int:
    """`trainlab plot`: curves, bars, heatmap, scatter or parallel, as png, svg or pdf."""
    usage = (
        "plot [FOLDERS] --kind curves|bars|heatmap|scatter|parallel [--x …] [--y …] "
        "[--by act,optimizer] [--metric val_loss] [--where …] [-o FILE.png|svg|pdf]"
    )
    named = (*_FILTERS, "--kind", "--x", "--y", "--output")
    folders, options = parsed(arguments, usage, named)
    from trainlab.pictures import style

    kind = options.get("--kind", "curves")
    path = Path(options.get("--output", f"{kind}.png"))
    style.check(path)
    from trainlab.pictures.kinds import KINDS
    from trainlab.store import edited_note
    from trainlab.tables import recipes
    from trainlab.tables.runs import metrics_edited

    if kind not in KINDS:
        raise UserError(
            f"There is no --kind {kind}.{nearest(kind, KINDS)} Kinds: {', '.join(KINDS)}."
        )
    found = runs_below(folders, options)
    if kind == "curves" and (files := metrics_edited(found.runs)):
        terminal.say(f"note: {edited_note(files)}")
    first, *others = recipes.summaries(
        found.runs, listed(options.get("--by")), options.get("--metric")
    )
    if others:
        told = ", ".join(summary.metric for summary in others)
        terminal.say(f"drawn are the runs with {first.metric}; for those with {told} use --where")
    warn_of_test(options.get("--metric"))
    axes = {name: options[f"--{name}"] for name in ("x", "y") if f"--{name}" in options}
    if axes and kind in ("bars", "parallel"):
        raise UserError(f"--kind {kind} has its axes by itself: no --x and no --y.")
    with style.styled(style.ink(path)):
        style.save(KINDS[kind](first, **axes), path)
    print(path)
    return 0


def report(arguments: list[str]) -> int:
    """`trainlab report`: one HTML page of some runs; or a study's write-up."""
    usage = "report [FOLDERS] [-o report.html] [--open]; or report --study NAME"
    folders, options = parsed(arguments, usage, ("--output", "--study"), ("--open",))
    if "--study" in options:
        if folders or len(options) > 1:
            raise UserError(f"A study's write-up has its own place. Usage: trainlab {usage}")
        from trainlab.report import study

        print(study.write(options["--study"]))
        return 0
    from trainlab.report import page

    paths = [Path(folder) for folder in folders or ["outputs"]]
    output = Path(options.get("--output", paths[0] / "report.html"))
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent} to write {output.name} to.")
    told = page.write(paths, output)
    tell(told)
    if not any(part.pictures for part in told.parts):
        terminal.say("no pictures: `pip install trainlab[plot]` draws them")
    print(output)
    if "--open" in options:
        webbrowser.open(output.resolve().as_uri())
    return 0


def watch(arguments: list[str]) -> int:
    """`trainlab watch`: a sweep that another process is at, until it ends or Ctrl-C."""
    usage = "watch [FOLDER] [--once]; FOLDER is a study's folder"
    folders, options = parsed(arguments, usage, (), ("--once",))
    if len(folders) > 1:
        raise UserError(f"Usage: trainlab {usage}")
    try:
        from trainlab.watch import frame, picture

        study = frame.newest(Path(folders[0] if folders else "outputs"))
        picture.watch(study, terminal.console(), "--once" in options)
    except KeyboardInterrupt:  # how one leaves; the sweep goes on
        pass
    return 0


def runs_below(folders: Sequence[str], options: dict[str, str]) -> "Found":
    """The runs asked for; what could not be read is told."""
    from trainlab.tables.runs import read

    found = read(folders or ["outputs"], options.get("--where"))
    tell(found)
    return found


def tell(found: "Found | Story") -> None:
    """What could not be read, and what is not as its run left it, to stderr."""
    from trainlab.store import edited_note
    from trainlab.tables.runs import several_versions

    for path, why in list(found.skipped.items())[:_TOLD]:
        terminal.say(f"skipped: {path} {why}")
    if len(found.skipped) > _TOLD:
        terminal.say(f"skipped: {len(found.skipped) - _TOLD} more files that could not be read")
    if found.edited:
        terminal.say(f"note: {edited_note(found.edited)}")
    if warning := several_versions(found.runs):
        terminal.say(f"warning: {warning}")


def warn_of_test(metric: str | None) -> None:
    """Who ranks by the test split is told why not to."""
    from trainlab.tables.recipes import ranked_by_test

    if metric and (warning := ranked_by_test(metric)):
        terminal.say(f"warning: {warning}")


def listed(text: str | None) -> list[str] | None:
    """'act,optimizer' -> its parts."""
    return None if text is None else [part for part in text.split(",") if part]
