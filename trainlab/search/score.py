"""What a run is worth to a search: read from the folder that it left, wherever it was computed."""

import math
from collections.abc import Collection
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import UserError, nearest
from trainlab.files import read_json
from trainlab.store import Run
from trainlab.tables.runs import read_metrics

if TYPE_CHECKING:
    from trainlab.run import Outcome


class Score(float):
    """The monitored metric of a run's best epoch, which is all that other sweepers look at; and
    where the run is."""

    path = ""
    status = "done"
    reason = ""


def score(outcome: "Outcome | None") -> Score | None:
    """What a sweeper optimizes; not a number where a run diverged or failed."""
    if outcome is None:
        return None
    run, config = outcome.run, outcome.run.config
    metric = config["search"]["metric"]
    metric = config["stop"]["monitor"] if metric == "auto" else metric
    value = run.result().get(metric) if outcome.status == "done" else None
    made = Score(math.nan if value is None else value)
    made.path, made.status, made.reason = str(run.path), outcome.status, outcome.reason or ""
    return made


def failed(error: Exception) -> Score:
    """What a run is worth that failed, or could not even begin."""
    made = Score(math.nan)
    made.status, made.reason = "failed", str(error)
    if isinstance(error, RunFailed):
        made.path = error.path
    return made


class RunFailed(RuntimeError):
    """What another launcher's process raises for a run that failed; its folder says more."""

    def __init__(self, reason: str, path: str):
        super().__init__(reason, path)  # both survive the way between processes
        self.reason, self.path = reason, path

    def __str__(self) -> str:
        return self.reason


class Swept(NamedTuple):
    """What the jobs of a sweep are worth; None for those that were not trained."""

    scores: list[Score | None]

    def outcomes(self) -> "list[Outcome]":
        """Of the runs that have a folder, each once."""
        from trainlab.run import Outcome

        ended = {score.path: score for score in self.scores if score is not None and score.path}
        return [Outcome(Run.at(Path(p)), s.status, s.reason or None) for p, s in ended.items()]

    def failures(self) -> list[Exception]:
        """Of the jobs that have none."""
        return [UserError(s.reason) for s in self.scores if s is not None and not s.path]


class Worth(NamedTuple):
    """A run as a search sees it: the best value so far, and the epochs it took."""

    value: float
    epochs: int


def worth(path: Path, metric: str, higher: bool, until: int | None = None) -> Worth:
    """The metric at the best epoch of a finished run; of one that is not, or as it was after
    `until` epochs, the best so far.

    Raises UserError for a metric that the run does not have.
    """
    columns = read_metrics(path)
    epochs = len(columns.get("epoch", ()))
    if until is not None and epochs:
        epochs = int((columns["epoch"] <= until).sum())
    result = read_json(path / "result.json")
    known = [n for n in dict.fromkeys([*columns, *result]) if _searchable(n, columns, result)]
    if known and metric not in known:
        raise UserError(
            f"{metric} is no metric of these runs.{nearest(metric, known)} There are: "
            f"{', '.join(known)}."
        )
    finished = result.get("epochs") is not None and (until is None or result["epochs"] <= until)
    if finished and result.get(metric) is not None:
        return Worth(float(result[metric]), result["epochs"])
    values = [v for v in columns.get(metric, ())[:epochs] if math.isfinite(v)]
    best = float((max if higher else min)(values)) if values else math.nan
    return Worth(best, epochs)


def _searchable(name: str, columns: Collection[str], result: dict) -> bool:
    number = name in columns or isinstance(result.get(name), int | float)
    return number and not name.startswith("test_") and name not in ("epoch", "step", "seed")


def returned(job: Any) -> Score | None:
    """What a launcher says of a job; None where it was not trained."""
    try:
        value = job.return_value
    except Exception as error:  # another launcher's job
        return failed(error)
    return value if value is None or isinstance(value, Score) else Score(value)


class Scored(NamedTuple):
    """One run of a trial."""

    state: str  # done, diverged, failed
    value: float
    epochs: int
    path: str
    reason: str

    @classmethod
    def of(
        cls, score: Score | None, metric: str, higher: bool, until: int | None
    ) -> "Scored | None":
        if score is None:
            return None
        if score.status == "failed":
            return cls("failed", math.nan, 0, score.path, score.reason)
        value, epochs = float(score), until or 0
        if score.path:
            value, epochs = worth(Path(score.path), metric, higher, until)
        diverged = score.status == "diverged" or not math.isfinite(value)
        return cls("diverged" if diverged else "done", value, epochs, score.path, score.reason)


class Result:
    """A trial: its runs as they are, and its value after each rung, the mean over its seeds."""

    def __init__(self) -> None:
        self.runs: list[Scored] = []
        self.rungs: list[tuple[int, float]] = []
        self.state, self.reason = "failed", ""

    def add(self, epochs: int, runs: list[Scored]) -> None:
        """Its runs after so many epochs. The worst of them says how the trial ended."""
        self.runs = runs
        worst = next((r for s in ("failed", "diverged") for r in runs if r.state == s), None)
        self.state, self.reason = (worst.state, worst.reason) if worst else ("done", "")
        if self.state == "done":
            self.rungs.append((epochs, self.value))

    @property
    def value(self) -> float:
        return fmean(run.value for run in self.runs)

    def cost(self, higher: bool) -> float:
        """What survivors are chosen by: lower is better, infinite for what cannot go on."""
        if self.state != "done":
            return math.inf
        return -self.value if higher else self.value

    def prune(self, why: str, epochs: int) -> None:
        self.state, self.reason = "pruned", f"{why} after epoch {epochs}"

    def facts(self) -> dict[str, Any]:
        """What is noted of the trial."""
        from trainlab.tables.statistics import interval  # scipy: only searches need it

        there = self.state in ("done", "pruned")
        half = interval([run.value for run in self.runs])[1] if there else math.nan
        return {
            "state": self.state,
            "reason": self.reason,
            "value": self.value if there else None,
            "half": half if math.isfinite(half) else None,
            "n": len(self.runs),
            "epochs": sum(run.epochs for run in self.runs),
            "runs": [Path(run.path).name for run in self.runs if run.path],
            "rungs": self.rungs,
        }


def set_pruned(path: Path, reason: str) -> None:
    """Say in a run's folder why it paused; unless another process has it in hand."""
    status = read_json(path / "status.json")
    if status.get("status") != "paused":
        return
    run = Run.at(path)
    if run.acquire():
        run.set_status("pruned", reason)
        run.release()
