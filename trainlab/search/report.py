"""What a search found: the best trial and its command, a table, importances, a csv, a picture."""

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import UserError
from trainlab.files import make_folder, write_atomically
from trainlab.search.space import Space
from trainlab.tables.runs import write_csv

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import Console, JustifyMethod
    from rich.table import Table

_SHOWN = 10  # trials of the table
_FEW, _MANY = 4, 200  # finished trials: fewer say nothing of importances, more only take time
_TREES = 32
# Settings that say what to do about runs that exist, and nothing of a run.
_NOT_OF_THE_RUN = ("quiet", "fresh", "retry", "fail_fast", "dry_run", "until")


class Found(NamedTuple):
    """The trials of a search as they are now, and what they were tried for."""

    trials: "list[FrozenTrial]"
    space: Space
    metric: str
    higher: bool
    folder: Path
    name: str
    epochs: int  # of a run that is trained to its end
    in_study: bool  # whether a study (experiment=…) was typed, which may choose a search itself
    why: str | None  # why it ended before all was tried
    quiet: bool

    @property
    def done(self) -> "list[FrozenTrial]":
        """Trials that were trained to their end, best first."""
        sign = -1 if self.higher else 1
        ended = [t for t in self.trials if facts(t).get("state") == "done"]
        return sorted(ended, key=lambda t: sign * facts(t)["value"])

    def count(self, state: str) -> int:
        return sum(facts(trial).get("state") == state for trial in self.trials)


def facts(trial: "FrozenTrial") -> dict[str, Any]:
    """What was noted of a trial; empty while it is trained."""
    return trial.user_attrs.get("facts", {})


def progress(found: Found, batch: "Sequence[FrozenTrial]") -> str:
    """One line after a batch."""
    numbers = [trial.number for trial in batch]
    which = f"trials {numbers[0]}–{numbers[-1]}" if len(numbers) > 1 else f"trial {numbers[0]}"
    if not found.done:
        return f"{which}: none was trained to its end"
    best = found.done[0]
    return f"{which}: best {found.metric} {facts(best)['value']:.4f} (trial {best.number})"


# ---------------------------------------------------------------- on the terminal


def show(found: Found, console: "Console") -> None:
    """The table, what the parameters matter, and the best trial's command."""
    if found.why:
        console.print(f"{found.why}; the same command continues")
    if not found.done:
        return
    shares = importances(found)
    console.print(_table(found, shares, console.width))
    console.print(_importance_line(found, shares), soft_wrap=True)
    if found.count("pruned"):
        trained, whole = _epochs(found)
        console.print(f"halving trained {trained:,} epochs instead of {whole:,}", soft_wrap=True)
    if missing := drawn(found, shares):
        console.print(missing, soft_wrap=True)
    if count := found.count("failed"):
        console.print(f"failed trials: {count}; retry=true tries them again")
    best = found.done[0]
    value = f"{found.metric} {_with_interval(facts(best))}"
    console.print(f"best trial: {best.number}, {value}", soft_wrap=True)
    console.print(command(found), soft_wrap=True)


def _table(found: Found, shares: dict[str, float], width: int) -> "Table":
    """As many columns as fit: epochs, then the parameters that matter least, are left out."""
    from rich.table import Table

    best, names = found.done[:_SHOWN], list(found.space.parameters)
    columns: list[tuple[str, JustifyMethod, list[str]]] = [
        ("trial", "right", [str(trial.number) for trial in best]),
        *(
            (short, "left", [_shown(found, trial, name) for trial in best])
            for short, name in zip(_short(names), names, strict=True)
        ),
        (found.metric, "right", [_with_interval(facts(trial)) for trial in best]),
        ("epochs", "right", [f"{f['epochs'] / max(1, f['n']):g}" for f in map(facts, best)]),
    ]
    least = sorted(columns[1:-2], key=lambda c: shares.get(names[columns.index(c) - 1], 0))
    left_out = []
    for column in (columns[-1], *least):
        if sum(2 + max(map(len, (head, *cells))) for head, _, cells in columns) - 2 <= width:
            break
        columns.remove(column)
        left_out.append(column[0])
    states = ("done", "pruned", "diverged", "failed")
    counts = ", ".join(f"{found.count(s)} {s}" for s in states if found.count(s))
    caption = _caption(found, counts)
    if left_out:
        caption += f"; no room for {', '.join(left_out)}"
    table = Table(caption=caption, caption_justify="left", box=None)
    table.padding, table.pad_edge = (0, 2, 0, 0), False
    for head, justify, _ in columns:
        table.add_column(head, justify=justify, no_wrap=True)
    for row in zip(*(cells for _, _, cells in columns), strict=True):
        table.add_row(*row)
    return table


def _short(names: Iterable[str]) -> list[str]:
    """The last part of each dotted name, where that tells it from the others.

    >>> _short(["optimizer.lr", "act", "reg.l1", "other.l1"])
    ['lr', 'act', 'reg.l1', 'other.l1']
    """
    names = [name.lstrip("+") for name in names]
    last = [name.rpartition(".")[2] for name in names]
    return [
        short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)
    ]


def _shown(found: Found, trial: "FrozenTrial", name: str) -> str:
    """A trial's value in few digits; the csv has all of them."""
    if name not in found.space.typed_values(trial.params):
        return "–"
    value = trial.params[name]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _caption(found: Found, counts: str) -> str:
    n = facts(found.done[0])["n"]
    seeds = f"mean ± 95 % interval over {n} seeds; " if n > 1 else ""
    return f"{seeds}{len(found.trials)} trials: {counts}"


def _with_interval(noted: dict[str, Any]) -> str:
    half = noted["half"]
    return f"{noted['value']:.4f}" if half is None else f"{noted['value']:.4f} ± {half:.4f}"


def _epochs(found: Found) -> tuple[int, int]:
    """Epochs that were trained, and those that all would be without halving."""
    noted = [facts(trial) for trial in found.trials]
    trained = sum(f.get("epochs", 0) for f in noted)
    left = sum(found.epochs * f["n"] - f["epochs"] for f in noted if f.get("state") == "pruned")
    return trained, trained + left


def command(found: Found) -> str:
    """What trains the best trial, ready to paste; its runs are there already."""
    fixed = [
        text
        for text in found.space.fixed
        if text.lstrip("+~").partition("=")[0] not in _NOT_OF_THE_RUN
    ]
    seeds = found.space.seeds
    if len(seeds) > 1:
        seeds = ["-m", "seed=" + ",".join(text.partition("=")[2] for text in seeds)]
    whole = ["search=none"] if found.in_study else []
    job = found.space._replace(fixed=fixed).job(found.done[0].params)
    return shlex.join(["trainlab", "train", *job, *seeds, *whole])


def importances(found: Found) -> dict[str, float]:
    """Parameter -> share of the values' variance that it explains by itself, by fANOVA (Hutter
    2014); empty where the trials trained to their end are too few, or all alike."""
    import optuna
    from optuna.importance import FanovaImportanceEvaluator

    trials = sorted(found.done, key=lambda trial: trial.number)
    trials = trials[:: max(1, math.ceil(len(trials) / _MANY))]
    values = [facts(trial)["value"] for trial in trials]
    if len(values) < _FEW or max(values) == min(values):
        return {}
    study = optuna.create_study()
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=facts(trial)["value"],
            )
        )
    evaluator = FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _importance_line(found: Found, shares: dict[str, float]) -> str:
    if not shares:
        return f"importance: {len(found.done)} finished trials do not tell"
    told = ", ".join(f"{name.lstrip('+')} {share:.2f}" for name, share in shares.items())
    return f"importance: {told} (shares of the variance, by fANOVA)"


# ---------------------------------------------------------------- files


def write(found: Found) -> None:
    """<study>/<name>.csv: a row per trial."""
    rows = []
    for trial in found.trials:
        noted = facts(trial)
        typed = found.space.typed_values(trial.params)
        rows.append(
            {"trial": trial.number, "state": noted.get("state", "running")}
            | {name.lstrip("+"): typed.get(name, "") for name in found.space.parameters}
            | {found.metric: noted.get("value"), "ci95": noted.get("half"), "n": noted.get("n")}
            | {"epochs": noted.get("epochs"), "runs": " ".join(noted.get("runs", []))}
        )

    def fill(beside: Path) -> None:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            write_csv(rows, file)

    make_folder(found.folder)
    write_atomically(found.folder / f"{found.name}.csv", fill)


def drawn(found: Found, shares: dict[str, float]) -> str | None:
    """<study>/<name>.svg: the value of each trial, and of each of its parameters; what is missing
    where it cannot be drawn."""
    from trainlab.pictures import style

    try:
        style.check(path := found.folder / f"{found.name}.svg")
    except UserError:
        return "no picture: `pip install trainlab[plot]` draws one"
    from trainlab.search.picture import picture

    with style.styled(style.ink(path)):
        style.save(picture(found, shares), path)
    return None
