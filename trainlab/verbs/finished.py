"""Finished runs at work: eval, predict, export."""

import json
import math
from pathlib import Path
from typing import Any

from trainlab import terminal
from trainlab.config import UserError, override
from trainlab.verbs import with_overrides


def evaluate(arguments: list[str]) -> int:
    """`trainlab eval RUN [--data …] [overrides] [--json] [--report]`: a run's best weights, on any
    data."""
    usage = (
        "eval RUN [--data FILE or DATASET] [overrides] [--json] [--report]; RUN is a run's folder"
    )
    flags = ("--json", "--report")
    folders, overrides, options = with_overrides(arguments, usage, ("--data",), flags)
    if other := options.get("--data"):
        overrides.append(override("dataset.path" if Path(other).exists() else "dataset", other))
    if len(folders) != 1:
        raise UserError(f"Usage: trainlab {usage}")
    from trainlab.finished import evaluated

    _tell_edited(Path(folders[0]))
    found = evaluated(Path(folders[0]), overrides)
    if found.changed:
        terminal.say(
            "note: the data have changed since the run was trained on them: what follows is of the "
            "data as they are now, split anew."
        )
    if "--json" in options:
        numbers = {split: _json_numbers(metrics) for split, metrics in found.metrics.items()}
        both = {"metrics": numbers, "report": found.reports}
        print(json.dumps(both if "--report" in options else numbers))
        return 0
    console = terminal.console()
    console.print(metrics_table(found.metrics))
    if found.windows:
        console.print(found.windows, soft_wrap=True)
    if "--report" in options:
        split = "test" if "test" in found.reports else "all"
        for part in _report_tables(found.reports[split], split):
            console.print(part)
    return 0


def _tell_edited(folder: Path) -> None:
    from trainlab.store import edited, edited_note

    if files := edited(folder):
        terminal.say(f"note: {edited_note(files)}")


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
    usage = (
        "predict RUN --input FILE --output FILE; files are .csv or .npz, and the input of a run on "
        "images may be an image or a folder of them"
    )
    folders, overrides, options = with_overrides(arguments, usage, named=("--input", "--output"))
    if len(folders) != 1 or len(options) < 2:
        raise UserError(f"Usage: trainlab {usage}")
    from trainlab.finished import predicted

    _tell_edited(Path(folders[0]))
    output = Path(options["--output"])
    predicted(Path(folders[0]), Path(options["--input"]), output, overrides)
    print(output)
    return 0


def export(arguments: list[str]) -> int:
    """`trainlab export RUN --format KIND [--output FILE]`: the best model for other programs."""
    usage = "export RUN --format torch-export|onnx|safetensors [--output FILE]"
    folders, overrides, options = with_overrides(arguments, usage, named=("--format", "--output"))
    if len(folders) != 1 or "--format" not in options:
        raise UserError(f"Usage: trainlab {usage}")
    from trainlab.finished import exported

    _tell_edited(Path(folders[0]))
    output = Path(options["--output"]) if "--output" in options else None
    print(exported(Path(folders[0]), options["--format"], output, overrides))
    return 0
