"""The verbs besides `train`: each takes its arguments and gives the exit code.

Neither torch nor pandas is imported until a verb needs it.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainlab.config import UserError, nearest


def _parsed(
    arguments: Sequence[str], usage: str, named: Sequence[str] = (), flags: Sequence[str] = ()
) -> tuple[list[str], list[str], dict[str, str]]:
    """Positional arguments, overrides (with a =), and `--name value` or `--flag`.

    Raises UserError with the usage where something else is typed.
    """
    plain, overrides, options, rest = [], [], {}, list(arguments)
    while rest:
        argument = rest.pop(0)
        name, is_joined, value = argument.partition("=")
        if name in flags and not is_joined:
            options[name] = ""
        elif name in named and (is_joined or rest):
            options[name] = value if is_joined else rest.pop(0)
        elif argument.startswith("-"):
            why = "needs a value" if name in named else "is no option here"
            raise UserError(
                f"{name} {why}.{nearest(name, [*named, *flags])} Usage: trainlab {usage}"
            )
        else:
            (overrides if is_joined else plain).append(argument)
    return plain, overrides, options


def list_options(arguments: list[str]) -> int:
    """`trainlab list [group]`: groups, options with their description, settings and defaults."""
    from rich.table import Table

    from trainlab import schema
    from trainlab.config import groups, options, top_settings

    known = groups()
    if any(group not in known for group in arguments):
        wrong = next(group for group in arguments if group not in known)
        raise UserError(
            f"There is no group {wrong}.{nearest(wrong, known)} Groups: {', '.join(known)}."
        )
    console = _stdout()
    if not arguments:
        grid = Table(
            title="settings of every run", title_justify="left", box=None, padding=(0, 2, 0, 0)
        )
        for heading in ("key", "default", "meaning"):
            grid.add_column(heading, overflow="fold")
        for key, setting in top_settings().items():
            grid.add_row(key, _default(setting.default), setting.meaning)
        console.print(grid)
    for group in arguments or known:
        grid = Table(title=f"\n{group}=", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in ("option", "what it is", "settings"):
            grid.add_column(heading, overflow="fold", no_wrap=heading == "option")
        for option, file in options(group).items():
            description, settings = schema.read(file)
            if group == "experiment":
                settings = {}
            listed = "  ".join(f"{key}={_default(s.default)}" for key, s in settings.items())
            grid.add_row(option, description, listed)
        console.print(grid)
        if arguments:
            _list_settings(console, group)
    return 0


def _list_settings(console: Any, group: str) -> None:
    from rich.table import Table

    from trainlab.config import options, settings_of, shared

    grid = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("setting", "may be", "meaning"):
        grid.add_column(heading, overflow="fold")
    seen = shared(group)
    for option in options(group):
        seen |= {k: s for k, s in settings_of(group, option).items() if k not in seen}
    for key, setting in seen.items():
        grid.add_row(key, setting.allowed, setting.meaning)
    if seen:
        console.print(grid)


def _default(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def summary(arguments: list[str]) -> int:
    """`trainlab summary [overrides]`: the model layer by layer."""
    from trainlab.config import compose

    if any(argument.startswith("-") for argument in arguments):
        raise UserError("Usage: trainlab summary [overrides]")
    config = compose(arguments)
    from trainlab.summary import show

    show(config)
    return 0


def table(arguments: list[str]) -> int:
    """`trainlab table [folder] [--csv|--json]`: the runs found, best first."""
    flags = [a for a in arguments if a.startswith("-")]
    folders = [a for a in arguments if not a.startswith("-")] or ["outputs"]
    if any(flag not in ("--csv", "--json") for flag in flags) or len(folders) > 1:
        raise UserError("Usage: trainlab table [folder] [--csv|--json]")
    folder = Path(folders[0])
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}. Runs are in outputs/<study>, or where output_dir= said."
        )
    from trainlab import table as tables

    entries = tables.find_runs(folder)
    if not entries:
        raise UserError(f"There are no runs below {folder}.")
    if flags:
        print(tables.as_text(entries, flags[0].removeprefix("--")), end="")
        return 0
    _stdout().print(tables.shown(entries))
    return 0


def evaluate(arguments: list[str]) -> int:
    """`trainlab eval RUN [--data …] [overrides] [--json] [--report]`: a run's best weights, on any
    data."""
    usage = (
        "eval RUN [--data FILE or DATASET] [overrides] [--json] [--report]; RUN is a run's folder"
    )
    flags = ("--json", "--report")
    folders, overrides, options = _parsed(arguments, usage, ("--data",), flags)
    if other := options.get("--data"):
        overrides.append(f"dataset.path='{other}'" if Path(other).exists() else f"dataset={other}")
    if len(folders) != 1:
        raise UserError(f"Usage: trainlab {usage}")
    from trainlab.finished import evaluated

    found = evaluated(Path(folders[0]), overrides)
    if "--json" in options:
        numbers = {split: _json_numbers(metrics) for split, metrics in found.metrics.items()}
        both = {"metrics": numbers, "report": found.reports}
        print(json.dumps(both if "--report" in options else numbers))
        return 0
    console = _stdout()
    console.print(metrics_table(found.metrics))
    if found.windows:
        console.print(found.windows, soft_wrap=True)
    if "--report" in options:
        split = "test" if "test" in found.reports else "all"
        for part in _report_tables(found.reports[split], split):
            console.print(part)
    return 0


def _json_numbers(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def metrics_table(splits: dict[str, dict[str, float | None]]) -> Any:
    """A table of metrics, one column per split."""
    from rich.table import Table

    grid = Table("metric", *splits)
    for name in dict.fromkeys(name for metrics in splits.values() for name in metrics):
        grid.add_row(name, *(_cell(metrics.get(name)) for metrics in splits.values()))
    return grid


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value}"


def _report_tables(report: dict[str, Any], split: str) -> list[Any]:
    """Per class, and the confusion matrix, where there is one; else a line that says so."""
    from rich.table import Table

    if not report:
        return ["This task has no report per class."]
    columns = [name for name in report if name not in ("classes", "confusion")]
    grid = Table("class", *columns, title=f"split {split}", title_justify="left")
    for i, name in enumerate(report["classes"]):
        values = (report[column][i] for column in columns)
        cells = (
            "–" if v is None else f"{v:.4f}" if isinstance(v, float) else f"{v}" for v in values
        )
        grid.add_row(name, *cells)
    if "confusion" not in report:
        return [grid]
    matrix = Table("true \\ predicted", *report["classes"])
    for name, row in zip(report["classes"], report["confusion"], strict=True):
        matrix.add_row(name, *(str(count) if count else "·" for count in row))
    return [grid, matrix]


def predict(arguments: list[str]) -> int:
    """`trainlab predict RUN --input FILE --output FILE`: predictions for inputs of one's own."""
    usage = "predict RUN --input FILE --output FILE; files are .csv or .npz"
    folders, overrides, options = _parsed(arguments, usage, named=("--input", "--output"))
    if len(folders) != 1 or len(options) < 2:
        raise UserError(f"Usage: trainlab {usage}")
    from trainlab.finished import predicted

    output = Path(options["--output"])
    predicted(Path(folders[0]), Path(options["--input"]), output, overrides)
    print(output)
    return 0


def export(arguments: list[str]) -> int:
    """`trainlab export RUN --format KIND [--output FILE]`: the best model for other programs."""
    usage = "export RUN --format torch-export|onnx|safetensors [--output FILE]"
    folders, overrides, options = _parsed(arguments, usage, named=("--format", "--output"))
    if len(folders) != 1 or "--format" not in options:
        raise UserError(f"Usage: trainlab {usage}")
    from trainlab.finished import exported

    output = Path(options["--output"]) if "--output" in options else None
    print(exported(Path(folders[0]), options["--format"], output, overrides))
    return 0


def find_rate(arguments: list[str]) -> int:
    """`trainlab lr-find [overrides]`: the curve to stderr, the override to try to stdout."""
    from rich.console import Console

    if any(argument.startswith("-") for argument in arguments):
        raise UserError("Usage: trainlab lr-find [overrides]")
    from trainlab import lr_find

    curve, outcome = lr_find.find(arguments)
    console = Console(stderr=True, highlight=False)
    lr_find.show(curve, console)
    console.print(f"every step: {outcome.run.path / 'steps.csv'}", soft_wrap=True)
    print(f"optimizer.lr={curve.suggested:.2g}")
    return 0


def _stdout() -> Any:
    """The terminal at its width; a pipe wide enough that `grep` finds whole lines."""
    from rich.console import Console

    class Stdout(Console):
        def on_broken_pipe(self) -> None:  # rich would end the process with code 1
            raise BrokenPipeError

    return Stdout(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
