"""Run folders -> entries -> rows: one for each run, of the settings that vary and its result."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from trainlab.config import NOT_IDENTITY, UserError
from trainlab.files import (
    Unreadable,
    digest,
    digests,
    parsed_json,
    read_bytes,
    untouched,
    write_atomically,
)
from trainlab.terminal import all_escaped

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# Settings that are no question of a study, besides those that do not decide a result.
_NOT_VARIED = ("seed", "experiment", "overrides", "choices")
# A program that calculates with cells takes these for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Entry(NamedTuple):
    """One run as its folder tells."""

    config: dict[str, Any]  # flat, under the names people type: "optimizer", "optimizer.lr"
    overrides: list[str]  # as typed
    result: dict[str, Any]  # run_id, status, seed; then what result.json has
    reason: str | None
    folder: Path
    time: str = ""  # of its last status: 2026-01-31T12:00:00+0000
    versions: Mapping[str, str] = MappingProxyType({})  # of what trained it: trainlab, torch, code
    digests: Mapping[str, str] = MappingProxyType({})  # of a finished run's files, as it left them

    @property
    def status(self) -> str:
        return self.result["status"]

    def number(self, name: str) -> float | None:
        """A field of the result, where it is a number and finite."""
        value = self.result.get(name)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        return value if known and math.isfinite(value) else None


class Found(NamedTuple):
    runs: list[Entry]  # oldest first
    skipped: dict[Path, str]  # file or folder -> why it could not be read
    edited: list[Path]  # files that are read, but are not as the run left them


def find_runs(*folders: str | Path) -> Found:
    """Every run below the folders, each once. What is damaged, another program's or cannot be
    looked at is passed over and listed."""
    found = Found([], {}, [])
    seen: set[str] = set()  # real paths: a folder may be named twice, or linked to
    for path in (run for f in folders for run in _run_folders(str(f), seen, found.skipped)):
        try:
            entry, edited = _entry(Path(path))
        except Unreadable as error:
            found.skipped[error.file] = error.reason
            continue
        found.runs.append(entry)
        found.edited.extend(edited)
    found.runs.sort(key=lambda entry: (entry.time, str(entry.folder)))
    return found


def _entry(folder: Path) -> tuple[Entry, list[Path]]:
    """A run, and those of the files read that it did not leave so. Raises Unreadable."""
    content = read_bytes(file := folder / "status.json")
    status = _parsed(file, content)
    if problem := problem_of(status):
        raise Unreadable(file, problem)
    edited = [] if untouched(content) else [file]
    known, result = status.get("digests"), {}
    known = known if isinstance(known, dict) else {}
    versions = status.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    try:
        content = read_bytes(file := folder / "result.json")
        result = _parsed(file, content)
        if known.get("result.json") not in (None, digest(content)):
            edited.append(file)
    except Unreadable:
        if status["status"] == "done":
            raise
    config, typed = status["config"], status.get("overrides") or []
    head = {"run_id": status["run_id"], "status": status["status"], "seed": config["seed"]}
    time, reason = str(status.get("time", "")), status.get("reason")
    return Entry(config, typed, result | head, reason, folder, time, versions, known), edited


def _parsed(file: Path, content: bytes) -> dict[str, Any]:
    """What a JSON file says. Its texts are shown, written and drawn in many ways, and it may be
    anyone's: so they are escaped here, once for all. Raises Unreadable."""
    try:
        return all_escaped(parsed_json(file, content))
    except RecursionError as error:
        raise Unreadable(file, "is nested too deeply") from error


def problem_of(status: dict[str, Any]) -> str | None:
    """What keeps a status.json from being a run's."""
    if not isinstance(status.get("run_id"), str) or not isinstance(status.get("status"), str):
        return "is not a run's"
    config, typed = status.get("config"), status.get("overrides") or []
    if not isinstance(config, dict):
        return "has no config"
    if type(config.get("seed")) is not int:  # true is one to isinstance
        return "has no seed"
    if not isinstance(typed, list) or not all(isinstance(text, str) for text in typed):
        return "has overrides that are no texts"
    return None if isinstance(status.get("reason"), str | None) else "has a reason that is no text"


def _run_folders(folder: str, seen: set[str], skipped: dict[Path, str]) -> Iterator[str]:
    """Folders with a status.json, and not what is inside these; links are followed, once. What
    cannot be looked at is passed over alone."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    below, odd = [], {}
    try:
        with os.scandir(folder) as children:
            for child in children:
                if child.name == "status.json":
                    yield folder
                    return
                try:
                    if child.name != ".hydra" and child.is_dir():
                        below.append(child.path)
                except OSError as error:  # a loop of links
                    odd[Path(child.path)] = f"cannot be read: {error.strerror or error}"
    except OSError as error:
        skipped[Path(folder)] = f"cannot be read: {error.strerror or error}"
        return
    skipped |= odd
    for path in sorted(below):
        yield from _run_folders(path, seen, skipped)


def read_metrics(run: Path) -> dict[str, "np.ndarray"]:
    """The columns of a run's metrics.csv, name -> a number for each epoch, NaN where there is none.

    A line that was cut off is left out. {} where there is no such file, or not one of a run.
    """
    import pandas as pd

    try:
        content = read_bytes(run / "metrics.csv")
        whole = content[: content.rfind(b"\n") + 1]
        frame = pd.read_csv(io.BytesIO(whole), index_col=False, on_bad_lines="skip")
    except (Unreadable, ValueError, pd.errors.ParserWarning):
        return {}
    columns = frame.apply(pd.to_numeric, errors="coerce").astype("float64")
    return {str(name): columns[name].to_numpy() for name in columns}


def trained_by(entries: Iterable[Entry]) -> dict[str, int]:
    """Versions of trainlab and torch, in words -> how many runs they trained; of runs of before it
    is not known."""
    known = [e.versions for e in entries if {"trainlab", "torch"} <= e.versions.keys()]
    texts = [f"trainlab {versions['trainlab']}, torch {versions['torch']}" for versions in known]
    return {text: texts.count(text) for text in dict.fromkeys(texts)}


def several_versions(entries: Iterable[Entry]) -> str | None:
    """A warning where runs of one table were trained by different versions."""
    counts = trained_by(entries)
    if len(counts) < 2:
        return None
    told = "; ".join(f"{count} by {text}" for text, count in counts.items())
    return (
        f"these runs were trained by different versions ({told}), which may be what makes a "
        "difference. `trainlab list runs` shows which run is of which."
    )


def metrics_edited(entries: Sequence[Entry]) -> list[Path]:
    """The metrics.csv of finished runs that are not as these left them."""
    known = {e.folder: e.digests["metrics.csv"] for e in entries if "metrics.csv" in e.digests}
    here = {folder: digests(folder, ["metrics.csv"]).get("metrics.csv") for folder in known}
    return [folder / "metrics.csv" for folder in known if here[folder] != known[folder]]


# ---------------------------------------------------------------- columns


def varied(entries: Sequence[Entry]) -> list[str]:
    """The settings in which the runs differ; never the seed.

    Those that were typed, and the study; and others where runs differ in them that are alike in all
    of these (a default that was changed between two sweeps).
    """
    typed = [text.lstrip("+~") for entry in entries for text in entry.overrides]
    keys = dict.fromkeys(["study", *(text.partition("=")[0].partition("@")[0] for text in typed)])
    hidden = (NOT_IDENTITY | set(_NOT_VARIED)) - {"study", "name"}

    def differs(key: str) -> bool:
        return len({_text(entry.config.get(key)) for entry in entries}) > 1

    chosen = [key for key in keys if _shown(key, hidden) and differs(key)]
    others = dict.fromkeys(key for entry in entries for key in entry.config)
    hidden |= {"study", "name"}
    for key in others:
        if key not in keys and _shown(key, hidden) and differs(key):
            alike: dict[tuple, set[str]] = {}
            for entry in entries:
                row = tuple(_text(entry.config.get(k)) for k in chosen)
                alike.setdefault(row, set()).add(_text(entry.config.get(key)))
            if any(len(values) > 1 for values in alike.values()):
                chosen.append(key)
    return chosen


def _shown(key: str, hidden: Iterable[str]) -> bool:
    return key not in hidden and key.partition(".")[0] not in hidden


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One flat row per run: the varied settings, then the fields of result.json."""
    keys = varied(entries)
    # What was typed comes first, also where the result has a field of that name (epochs).
    typed = [{key: entry.config.get(key) for key in keys} for entry in entries]
    head = ("run_id", "status", "seed")
    flat = [
        {key: entry.result[key] for key in head}
        | {k: v for k, v in entry.result.items() if not isinstance(v, list | dict)}
        for entry in entries
    ]
    return [row | (result | row) for row, result in zip(typed, flat, strict=True)]


def table(
    *folders: str | Path, where: str | None = None, settings: str = "varied"
) -> "pd.DataFrame":
    """The runs below some folders (default: outputs) as a DataFrame, a row per run, oldest first.

    Columns: the settings that vary, under the names people type (with `settings="all"` every one);
    `run_id`, `status`, `seed`; then what result.json has: `val_…` and `train_…` of the best epoch,
    `test_…`, `best_epoch`, `epochs`, `steps`, `seconds` (of training), `parameters`; last `reason`
    (of failed and diverged runs) and `folder`. Numbers are float64, or Int64 where they are whole;
    truth values boolean; all else string; what a run does not have is missing.

    `where` filters as `trainlab table --where` does. Raises UserError (a ValueError) for a folder
    that is not there, a `where` that cannot be read, and unknown names in it.

    >>> import trainlab
    >>> df = trainlab.table("outputs/first_steps", where="act==relu")
    >>> df.groupby("optimizer")["val_accuracy"].mean()
    """
    if settings not in ("varied", "all"):
        raise UserError(f"settings={settings!r}: give varied or all.")
    return frame(read(folders or ("outputs",), where).runs, settings)


def frame(entries: Sequence[Entry], settings: str = "varied") -> "pd.DataFrame":
    """The table as a DataFrame."""
    import pandas as pd

    table = rows(entries)
    if settings == "all":
        table = [entry.config | row for entry, row in zip(entries, table, strict=True)]
    table = [
        row | {"reason": entry.reason, "folder": str(entry.folder)}
        for row, entry in zip(table, entries, strict=True)
    ]
    columns = dict.fromkeys(key for row in table for key in row)
    return pd.DataFrame({key: _column([row.get(key) for row in table]) for key in columns})


def _column(values: list[Any]) -> "pd.Series":
    """Typed by what is in it: truth values, whole numbers, numbers, else text."""
    import pandas as pd

    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return pd.Series(values, dtype="boolean")
    if known and all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        whole = all(isinstance(value, int) and abs(value) < 2**63 for value in known)
        return pd.Series(values, dtype="Int64" if whole else "float64")
    return pd.Series([None if v is None else cell(v) for v in values], dtype="string")


def cell(value: Any) -> str:
    """A value as people type it.

    >>> cell(True), cell(None), cell([300, 100]), cell(0.1)
    ('true', 'null', '[300,100]', '0.1')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "") if isinstance(value, list | dict) else str(value)


def naturally(text: str) -> tuple[int, float, str]:
    """A key to sort by: numbers by size, before words."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def read(folders: Sequence[str | Path], where: str | None = None) -> Found:
    """The runs below folders that meet a condition; UserError where there are none to be found."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(
                f"There is no folder {folder}. Runs are in outputs/<study>, or where output_dir= "
                "said."
            )
    found = find_runs(*folders)
    if not found.runs:
        unread = f" {len(found.skipped)} files could not be read." if found.skipped else ""
        raise UserError(f"There are no runs below {' and '.join(map(str, folders))}.{unread}")
    if where:
        from trainlab.tables.where import matching

        found = found._replace(runs=matching(found.runs, where))
        if not found.runs:
            raise UserError(f"No run meets --where {where!r}.")
    return found


# ---------------------------------------------------------------- csv


def write_runs(study: Path) -> None:
    """(Re)write <study>/runs.csv."""

    def write(beside: Path) -> None:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            write_csv(rows(find_runs(study).runs), file)

    write_atomically(study / "runs.csv", write)


def write_csv(table: Sequence[dict[str, Any]], file: TextIO) -> None:
    """Rows of different columns as one CSV, the union of their columns as the header.

    Texts that a spreadsheet would take for a formula get an apostrophe in front.
    """
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in table for key in row)))
    writer.writerow({key: _harmless(key) for key in writer.fieldnames})
    writer.writerows({key: _harmless(value) for key, value in row.items()} for row in table)


def _harmless(value: Any) -> Any:
    """
    >>> _harmless("=1+2"), _harmless("-0.5"), _harmless(-0.5)
    ("'=1+2", '-0.5', -0.5)
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def as_json(table: Sequence[dict[str, Any]]) -> str:
    """A list of objects; what is not finite is null, for which JSON has no number."""
    return json.dumps(_finite(table), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """
    >>> _finite([{"betas": [math.inf, 0.9]}])
    [{'betas': [None, 0.9]}]
    """
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
