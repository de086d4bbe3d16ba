"""Tables: from the folders runs leave to one DataFrame, and to mean ± 95 % interval over seeds."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainlab.config import NOT_IDENTITY
from trainlab.schedules import higher_is_better
from trainlab.store import read_json, write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_RESULT = "result.json"
# What runs are ranked by: the first that they have, else val_loss.
_RANKING = ("val_accuracy", "val_r2", "val_f1_macro", "val_mean_iou", "val_explained")
# Typed settings that are no question of a study, besides those that do not decide a result.
_NOT_VARIED = ("seed", "experiment")


def find_runs(folder: Path) -> list[dict[str, Any]]:
    """Every run below a folder, oldest first: config, overrides, result, reason, folder."""
    found = []
    for path in folder.rglob("status.json"):
        status = read_json(path)
        if not {"run_id", "status"} <= set(status) or not isinstance(status.get("config"), dict):
            continue  # not ours, or damaged
        found.append((status.get("time", ""), path.parent, status))
    entries = []
    for _, run_folder, status in sorted(found, key=lambda entry: (entry[0], str(entry[1]))):
        head = {
            "run_id": status["run_id"],
            "status": status["status"],
            "seed": status["config"].get("seed"),
        }
        result = read_json(run_folder / _RESULT)
        entries.append(
            {
                "config": status["config"],
                "overrides": status.get("overrides") or [],
                "result": head | {k: v for k, v in result.items() if k not in head},
                "reason": status.get("reason"),
                "folder": run_folder,
            }
        )
    return entries


def varied(entries: Sequence[dict[str, Any]]) -> list[str]:
    """The settings, as typed, in which the runs differ, and the study; never the seed."""
    typed = [text.lstrip("+~") for entry in entries for text in entry["overrides"]]
    keys = dict.fromkeys(["study", *(text.partition("=")[0].partition("@")[0] for text in typed)])
    hidden = (NOT_IDENTITY | set(_NOT_VARIED)) - {"study", "name"}
    values = {key: {str(entry["config"].get(key)) for entry in entries} for key in keys}
    return [key for key in keys if len(values[key]) > 1 and key not in hidden]


def rows(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat row per run: the varied settings, then the fields of result.json."""
    keys = varied(entries)
    # What was typed comes first, also where the result has a field of that name (epochs).
    typed = [{key: entry["config"].get(key) for key in keys} for entry in entries]
    flat = [
        {k: v for k, v in entry["result"].items() if not isinstance(v, list | dict)}
        for entry in entries
    ]
    return [row | (result | row) for row, result in zip(typed, flat, strict=True)]


def write_runs(study: Path) -> None:
    """(Re)write <study>/runs.csv."""

    def write(beside: Path) -> None:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            write_csv(rows(find_runs(study)), file)

    write_atomically(study / "runs.csv", write)


def runs(folder: str | Path = "outputs") -> "pd.DataFrame":
    """The runs below a folder as a DataFrame, one row per run."""
    import pandas as pd

    return pd.DataFrame(rows(find_runs(Path(folder))))


def metric_of(entries: Sequence[dict[str, Any]]) -> str:
    """What the runs are ranked by: validation accuracy, else R², else loss."""
    names = {name for entry in entries for name in entry["result"]}
    return next((m for m in _RANKING if m in names), "val_loss")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval (Student's t; NaN for fewer than two
    values).

    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.484...)
    """
    import numpy as np
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=float)
    n = len(array)
    if n < 2:
        return float(array.mean()) if n else float("nan"), float("nan")
    half = stdtrit(n - 1, 0.975) * array.std(ddof=1) / n**0.5
    return float(array.mean()), float(half)


def summarize(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per recipe, its seeds together: n, mean and 95 % half-width; best first."""
    keys, rank_by = varied(entries), metric_of(entries)
    test = rank_by.replace("val_", "test_")
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(tuple(str(entry["config"].get(key)) for key in keys), []).append(entry)
    summary = []
    for values, members in groups.items():
        good = [entry["result"] for entry in members if entry["result"]["status"] == "done"]
        row: dict[str, Any] = dict(zip(keys, values, strict=True)) | {"n": len(good)}
        for metric in (rank_by, test):
            known = [r[metric] for r in good if r.get(metric) is not None]
            row[metric], row[f"{metric}_ci95"] = interval(known)
        row["not_done"] = ", ".join(
            f"{sum(e['result']['status'] == s for e in members)} {s}"
            for s in sorted({e["result"]["status"] for e in members} - {"done"})
        )
        summary.append(row)
    sign = -1 if higher_is_better(rank_by) else 1
    known = [row for row in summary if not math.isnan(row[rank_by])]
    unknown = [row for row in summary if math.isnan(row[rank_by])]
    return sorted(known, key=lambda row: sign * row[rank_by]) + unknown


def shown(entries: Sequence[dict[str, Any]]) -> "Table":
    """The summary as a rich table for the terminal."""
    from rich.table import Table

    summary = summarize(entries)
    keys, rank_by = varied(entries), metric_of(entries)
    metrics = [rank_by, rank_by.replace("val_", "test_")]
    table = Table(caption="mean ± 95 % interval over seeds; n runs", caption_justify="left")
    for key in keys:
        table.add_column(key, overflow="fold")
    for name in (*metrics, "n"):
        table.add_column(name, justify="right", overflow="fold")
    if any(row["not_done"] for row in summary):
        table.add_column("not done", style="red")
    for row in summary:
        cells = [str(row[key]) for key in keys]
        cells += [_cell(row[m], row[f"{m}_ci95"], row["n"]) for m in metrics]
        cells += [str(row["n"]), row["not_done"]]
        table.add_row(*cells[: len(table.columns)])
    return table


def as_text(entries: Sequence[dict[str, Any]], form: str) -> str:
    """All runs as `csv` or `json`, one row or object per run, best first."""
    metric = metric_of(entries)
    sign = -1 if higher_is_better(metric) else 1

    def place(row: dict[str, Any]) -> float:
        value = row.get(metric)
        return sign * value if row["status"] == "done" and value is not None else float("inf")

    table = sorted(rows(entries), key=place)
    if form == "json":
        return json.dumps(table, indent=1) + "\n"
    text = io.StringIO(newline="")
    write_csv(table, text)
    return text.getvalue()


def write_csv(table: Sequence[dict[str, Any]], file: TextIO) -> None:
    """Rows of different columns as one CSV, the union of their columns as the header."""
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in table for key in row)))
    writer.writeheader()
    writer.writerows(table)


def _cell(mean: float, half: float, n: int) -> str:
    if n == 0 or mean != mean:
        return "–"
    return f"{mean:.4f}" if half != half else f"{mean:.4f} ± {half:.4f}"
