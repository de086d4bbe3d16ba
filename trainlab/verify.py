"""Whether a run comes out again: it is trained anew elsewhere, in stretches that each go on from
the checkpoint of the one before, and what it leaves is compared bit for bit."""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainlab.config import Config, UserError
from trainlab.files import Unreadable, load_torch, read_json, read_text
from trainlab.finished import config_of
from trainlab.run import train
from trainlab.store import FINISHED, edited

# What is never the same twice, or says how a run was computed.
_APART = ("seconds", "examples_per_second", "threads")
_MACHINE = tuple("trainlab torch python machine platform cores gpu processes threads".split())


class Compared(NamedTuple):
    """One of a run's files, as it is and as it came out again."""

    file: str
    numbers: int  # that were compared
    differences: list[str]  # where they are not the same: the first, and how many more


class Verified(NamedTuple):
    epochs: int
    stretches: int
    compared: list[Compared]
    reasons: list[str]  # why numbers may differ; empty where none does

    @property
    def equal(self) -> bool:
        return not any(one.differences for one in self.compared)


def verified(
    folder: Path,
    segments: int = 3,
    epochs: int | None = None,
    overrides: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Verified:
    """Train a run's first `epochs` (all that it has) anew, in a folder that is gone afterwards.

    Of a finished run that is trained to its end, result.json and the checkpoints are compared as
    well as the epochs. `overrides` say where data are and whom to trust, as for `trainlab eval`.
    """
    status, rows = read_json(folder / "status.json"), _table(folder / "metrics.csv")
    config = config_of(folder, overrides)
    if not rows:
        raise UserError(f"{folder} has no epoch in metrics.csv yet: there is nothing to verify.")
    count = min(len(rows), epochs or len(rows))
    whole = status.get("status") in FINISHED and count == len(rows)
    ends = sorted({max(1, round(count * k / segments)) for k in range(1, segments + 1)})
    noted = read_json(folder / "env.json")
    with tempfile.TemporaryDirectory(prefix="trainlab-verify-") as place:
        for end in ends:
            tell(f"to epoch {end} of {count}")
            last = whole and end == count
            run = _trained(_elsewhere(config, noted, place), None if last else end)
        compared = [_of_rows("metrics.csv", rows[:count], _table(run.path / "metrics.csv"))]
        if config["log_steps"]:
            steps = _table(run.path / "steps.csv")
            compared.append(
                _of_rows("steps.csv", _table(folder / "steps.csv")[: len(steps)], steps)
            )
        if whole:
            results = [read_json(path / "result.json") for path in (folder, run.path)]
            compared.append(_of_values("result.json", *results))
            for name in ("best", "last"):
                file = f"checkpoints/{name}.pt"
                if (folder / file).exists() or (run.path / file).exists():
                    states = [load_torch(path / file, "cpu") for path in (folder, run.path)]
                    compared.append(_of_values(file, *states))
        found = Verified(count, len(ends), compared, [])
        if found.equal:
            return found
        reasons = [f"{file.name} was edited, or is damaged." for file in edited(folder)]
        if status.get("run_id") != run.id:
            reasons.append(
                "It has another id now: the data, code of your own, or what a version of trainlab "
                "takes for the identity of a run have changed."
            )
        here = read_json(run.path / "env.json")
        return found._replace(reasons=[*reasons, *_reasons(noted, here)])


def _elsewhere(config: Config, noted: dict[str, Any], place: str) -> Config:
    """The config, to be trained alone, with the run's threads, and told to nobody else."""
    threads = noted.get("threads")
    known = config["threads"] == "auto" and isinstance(threads, int) and threads > 0
    how = {"output_dir": place, "study": "verify", "stack": 1, "workers": 1, "quiet": True}
    how |= {"fresh": False, "retry": False, "dry_run": False, "smoke": False, "logger": {}}
    choices = config["choices"] | {"logger": "none", "executor": "local"}
    return config | how | {"choices": choices} | ({"threads": threads} if known else {})


def _trained(config: Config, until: int | None) -> Any:
    (outcome,) = train([config | {"until": until}])
    assert outcome is not None
    if outcome.status == "stopped":
        raise KeyboardInterrupt
    if outcome.status not in (*FINISHED, "paused"):
        raise UserError(f"The run cannot be trained again: {outcome.reason}")
    return outcome.run


# ---------------------------------------------------------------- comparing


def _table(file: Path) -> list[dict[str, str]]:
    """Rows of a table as they were written; a line that was cut off is left out."""
    try:
        head, *lines = read_text(file).splitlines(keepends=True) or [""]
    except Unreadable:
        return []
    names = head.rstrip("\n").split(",")
    whole = [line.rstrip("\n").split(",") for line in lines if line.endswith("\n")]
    return [dict(zip(names, cells, strict=True)) for cells in whole if len(cells) == len(names)]


def _of_rows(file: str, there: Sequence[dict], here: Sequence[dict]) -> Compared:
    """Rows as numbers, each under the epoch or step that it begins with."""

    def named(rows: Sequence[dict]) -> dict[str, dict]:
        values = [{name: _number(text) for name, text in row.items()} for row in rows]
        return {" ".join(next(iter(row.items()))): v for row, v in zip(rows, values, strict=True)}

    return _of_values(file, named(there), named(here))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _of_values(file: str, there: Any, here: Any) -> Compared:
    differences, numbers = [], 0
    for place, a, b in _pairs(there, here):
        numbers += a.numel() if isinstance(a, Tensor) else 1
        if what := _difference(a, b):
            differences.append(f"{place}: {what}")
    return Compared(file, numbers, differences)


_MISSING = object()


def _pairs(a: Any, b: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What stands at the same place in nested values, down to numbers, texts and tensors."""
    if isinstance(a, dict) and isinstance(b, dict):
        inner = [(key, a.get(key, _MISSING), b.get(key, _MISSING)) for key in {**a, **b}]
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        inner = [(i + 1, *both) for i, both in enumerate(zip(a, b, strict=True))]
    else:
        yield place, a, b
        return
    for key, *both in inner:
        if key not in _APART:
            yield from _pairs(*both, f"{place}, {key}" if place else str(key))


def _difference(a: Any, b: Any) -> str | None:
    """What is different about two values; None where every bit is the same."""
    if a is _MISSING or b is _MISSING:
        return "is only in the run" if b is _MISSING else "is only in what came out again"
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _of_tensors(a, b)
    if isinstance(a, float) and isinstance(b, float):
        if a == b or (math.isnan(a) and math.isnan(b)):
            return None
        return f"{a!r} there, {b!r} here, {_apart(abs(a - b), max(abs(a), abs(b)))}"
    return None if type(a) is type(b) and a == b else f"{a!r} there, {b!r} here"


def _apart(distance: float, size: float) -> str:
    """
    >>> _apart(2.220446049250313e-16, 1.0)
    '2.2e-16 apart (1 ulp)'
    """
    if not math.isfinite(distance):
        return "not both finite"
    ulps = round(distance / math.ulp(size)) if size else 0
    return f"{distance:.1e} apart ({ulps:,} ulp{'s' * (ulps != 1)})"


def _of_tensors(a: Tensor, b: Tensor) -> str | None:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {tuple(a.shape)} there, {b.dtype} {tuple(b.shape)} here"
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    if torch.equal(*bits):
        return None
    differs = ~((a == b) | (a.isnan() & b.isnan())) if a.is_floating_point() else a != b
    most = (a.double() - b.double()).abs().nan_to_num(math.inf).max().item()
    return f"{int(differs.sum()):,} of {a.numel():,} numbers, by {most:.1e} at most"


def _reasons(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What is not the same about where a run was computed, and what that does not tell."""
    reasons = [
        f"{name}: {there.get(name)} there, {here.get(name)} here."
        for name in _MACHINE
        if there.get(name) != here.get(name)
    ]
    reasons.append(
        "A run that was trained in a stack, or continued on another machine, may differ in its "
        "last bits where sums are taken in another order: convolutions, nets that vmap computes."
    )
    return reasons
