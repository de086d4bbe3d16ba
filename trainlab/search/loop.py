"""The search: ask for a batch of trials, train it in one launch (or rung by rung), tell."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainlab import plans, terminal
from trainlab.config import (
    NOT_IDENTITY,
    Config,
    UserError,
    compose_jobs,
    flat,
    settings_of,
    shared,
)
from trainlab.metrics import higher_is_better
from trainlab.search import halving, report, samplers, space
from trainlab.search.score import Result, Scored, returned, set_pruned, worth
from trainlab.search.trials import Trials

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna.trial import FrozenTrial

Launch = Callable[..., Sequence[Any]]  # (job_overrides, initial_job_idx) -> JobReturns
_FILE_NAME = re.compile(r"\w[\w.+-]{0,99}")
_SMOKE = 4  # trials of a smoke test
_LOOK_EVERY = 1.0  # seconds between two looks at a run that another process trains
# hydra-optuna-sweeper's name of a setting -> ours
_OFFICIAL = {
    "n_trials": "trials", "n_jobs": "batch", "direction": "direction", "storage": "storage",
    "study_name": "name",
}  # fmt: skip


def search(
    overrides: "Sequence[Override]",
    launch: Launch,
    loader: Any,
    master: Any,
    sampler: str,
    official: Mapping[str, Any],
) -> report.Found | None:
    """Try what is not tried yet, and tell what was found; a dry run only says what it would try.

    `launch` trains jobs (lists of overrides) and gives what each is worth; `loader` and `master`
    are what Hydra composes jobs with.
    """
    settings = _settings(sampler, master.search, official)
    varied = space.read(overrides, settings["seeds"], varied=sampler != "gradient")
    jobs = [[*job, *varied.seeds[:1]] for job in varied.corners()]
    config = compose_jobs(loader, master, jobs)[0]  # what is wrong with any is said here
    from trainlab import parallel  # and torch with it, once all that is typed is right

    if parallel.size() > 1:
        raise UserError(
            "torchrun trains one large run; a search trains several at once by workers=… instead."
        )
    if sampler == "gradient":
        if config["dry_run"]:
            print("one run to train, along the gradient; then at most 3 trials that depend on it")
            return None
        varied, settings = _descended(varied, settings, config)
    made = Search(sampler, settings, varied, config, launch)
    return made.plan() if config["dry_run"] else made.run()


def _descended(
    point: space.Space, settings: dict[str, Any], config: Config
) -> tuple[space.Space, dict[str, Any]]:
    """The space and the trials that gradient descent has found."""
    from trainlab.search import gradient

    console = terminal.console(error=True, quiet=config["quiet"])
    given = gradient.candidates(config, settings, partial(console.print, soft_wrap=True))
    parameters = gradient.parameters(given)
    fixed = [text for text in point.fixed if text.partition("=")[0] not in parameters]
    typed = {key: f"descended from {value}" for key, value in given[0].items()}
    return (
        point._replace(fixed=fixed, parameters=parameters, typed=typed),
        settings | {"given": given, "trials": len(given)},
    )


class _Ended(Exception):
    """The launcher has nothing to tell: a dry run, Ctrl-C, or an error that the command reports."""


class Search:
    """One search: a sampler with its settings, a space, and the config of one of its trials."""

    def __init__(
        self,
        sampler: str,
        settings: dict[str, Any],
        varied: space.Space,
        config: Config,
        launch: Launch,
    ):
        self.sampler, self.settings, self.space, self.config = sampler, settings, varied, config
        self.launch, self.launched = launch, 0
        self.metric = _metric(config, settings)
        # Of metrics that cost much a run has only those that it is told something goes by.
        same = self.metric == config["stop"]["monitor"]
        self.told = [] if same else [f"search.metric={self.metric}"]
        how = settings["direction"]
        self.higher = higher_is_better(self.metric) if how == "auto" else how == "maximize"
        self.console = terminal.console(error=True, quiet=config["quiet"])
        self.began = time.monotonic()
        if settings["halving"] != "none" and "epochs" in varied.parameters:
            raise UserError("search.halving shares out the epochs, so they cannot be searched.")
        if settings["halving"] != "none" and config["until"]:
            raise UserError("search.halving says itself until when each run goes; leave until out.")
        if advice := samplers.check(sampler, settings, varied.parameters):
            self._say(advice)

    def run(self) -> report.Found:
        why = None
        with self._trials() as self.trials:
            self._announce()
            try:
                while batch := self.trials.next(self._size, self._most):
                    self._check_metric(batch[0])
                    self._tell(batch, self._trained(batch))
                    self._write(found := self._found())
                    self._say(report.progress(found, batch))
                    if self._late():
                        why = f"{self.settings['minutes']:g} minutes are over"
                        break
            except _Ended:
                why = ""
            found = self._found(why)
            if found.done:
                self._write(found)
            return found

    def plan(self) -> None:
        """List the first launch that has something to train: the rest depends on what it is
        worth."""
        with self._trials() as self.trials:
            try:
                while batch := self.trials.next(self._size, self._most):
                    self._tell(batch, self._trained(batch))
            except _Ended:
                if rest := self._most - len(self.trials.all()):
                    print(f"then {rest} trials that depend on these")
            else:
                print(f"all {len(self.trials.all())} trials have ended")

    @property
    def _most(self) -> int:
        most = self.settings["trials"]
        return min(most, _SMOKE) if self.config["smoke"] else most

    def _write(self, found: report.Found) -> None:
        report.write(found)
        self.trials.note()

    # ------------------------------------------------------------ one batch

    def _size(self, number: int) -> int:
        return self._bracket(number).trials

    def _bracket(self, number: int) -> halving.Bracket:
        """How many trials the batch has that begins with trial `number`, and its rungs."""
        s, epochs = self.settings, self.config["epochs"]
        usual = samplers.batch(self.sampler, s, self.space.parameters, number)
        if s["halving"] == "successive" and s["batch"] == "auto" and self.sampler in ("tpe", "gp"):
            usual = halving.full(epochs, s["reduction"], s["min_epochs"])
        return halving.bracket(s, epochs, number, usual)

    def _trained(self, batch: "Sequence[FrozenTrial]") -> list[Result]:
        """What these trials are worth; at each rung those that fall behind are left."""
        results, alive = [Result() for _ in batch], list(range(len(batch)))
        rungs = self._bracket(batch[0].number).rungs
        for rung, epochs in enumerate(rungs):
            last = epochs == rungs[-1]
            scored = self._scores([batch[i] for i in alive], None if last else epochs, rung > 0)
            for i, runs in zip(alive, scored, strict=True):
                results[i].add(epochs, runs)
            if not last:
                costs = [results[i].cost(self.higher) for i in alive]
                kept = halving.survivors(costs, self.settings["reduction"])
                for place, i in enumerate(alive):
                    if place not in kept and math.isfinite(costs[place]):
                        better = sum(cost < costs[place] for cost in costs)
                        results[i].prune(f"{better} of {len(alive)} trials were better", epochs)
                alive = [alive[place] for place in kept]
            if not alive:
                break
        return results

    def _scores(
        self, trials: "Sequence[FrozenTrial]", until: int | None, later: bool
    ) -> list[list[Scored]]:
        """The runs of each trial, after one launch of them all."""
        rest = [*self.told, *([f"until={until}"] if until else [])]
        if later and self.config["fresh"]:
            rest.append("fresh=false")  # or a rung would forget the one before
        seeds = [[seed] for seed in self.space.seeds] or [[]]
        jobs = [self.space.job(trial.params, *seed, *rest) for trial in trials for seed in seeds]
        scored = [Scored.of(s, self.metric, self.higher, until) for s in self._launched(jobs)]
        rows = [scored[i : i + len(seeds)] for i in range(0, len(scored), len(seeds))]
        return [[run for run in row if run] for row in rows]

    def _launched(self, jobs: list[list[str]]) -> list[Any]:
        while True:
            scores = [returned(job) for job in self.launch(jobs, initial_job_idx=self.launched)]
            self.launched += len(jobs)
            states = {score.status for score in scores if score is not None}
            if not states or "stopped" in states or (self.config["dry_run"] and None in scores):
                raise _Ended
            if "busy" not in states:
                return scores
            time.sleep(_LOOK_EVERY)

    def _check_metric(self, trial: "FrozenTrial") -> None:
        """One epoch of one run tells whether the runs have the metric."""
        if self.launched or not self.told:
            return
        job = self.space.job(trial.params, *self.space.seeds[:1], *self.told, "until=1")
        (first,) = self._launched([job])
        if first.path:
            worth(Path(first.path), self.metric, self.higher)

    def _announce(self) -> None:
        """Say how many runs it will be, to those who watch."""
        ended = sum(trial.state.is_finished() for trial in self.trials.all())
        runs = (self._most - ended) * max(1, len(self.space.seeds))
        plans.note(self._folder, {}, {}, [], runs, self.metric)

    def _tell(self, batch: "Sequence[FrozenTrial]", results: list[Result]) -> None:
        """A diverged trial is told as the worst there is, so that samplers keep away from there."""
        before = [trial for trial in self.trials.all() if trial.state.is_finished()]
        if not before and all(result.state == "failed" for result in results):
            begun = any(run.path for result in results for run in result.runs)
            what = "All trials of the first batch failed: " if begun else ""
            raise UserError(f"{what}{results[0].reason}")
        known = [trial.value for trial in before if trial.value is not None]
        known += [r.value for r in results if r.state in ("done", "pruned")]
        worst = (min if self.higher else max)(known, default=None)
        for trial, result in zip(batch, results, strict=True):
            value = {"failed": None, "diverged": worst}.get(result.state, result.value)
            self.trials.tell(trial, result.facts(), value, samplers.knows_pruned(self.sampler))
            if result.state == "pruned" and not self.config["dry_run"]:
                for run in result.runs:
                    set_pruned(Path(run.path), result.reason)

    # ------------------------------------------------------------ what it amounts to

    def _trials(self) -> Trials:
        searched = self.space.parameters
        config = {
            key: value
            for key, value in flat(self.config).items()
            if key.partition(".")[0] not in {*NOT_IDENTITY, "seed", "experiment"}
            and not any(f"{key}.".startswith(f"{name.lstrip('+')}.") for name in searched)
        }
        s = self.settings
        rungs = f"{s['halving']}, 1 of {s['reduction']}, from epoch {s['min_epochs']}"
        facts = {
            "space": self.space.typed,
            "config": config,
            "metric": self.metric,
            "direction": "maximize" if self.higher else "minimize",
            "seeds": self.space.seeds,
            "halving": "none" if s["halving"] == "none" else rungs,
        }
        if s["storage"] == "memory":  # elsewhere other samplers go on with the same trials
            own = settings_of("search", self.sampler) | {"search.seed": None}
            chosen = {key: s[key.partition(".")[2]] for key in own}
            facts["sampler"] = {"search": self.sampler} | chosen
        return Trials(
            self._folder,
            s,
            searched,
            lambda number: samplers.sampler(self.sampler, s, searched, number),
            facts,
            **{how: self.config[how] for how in ("fresh", "retry", "dry_run")},
        )

    def _found(self, why: str | None = None) -> report.Found:
        return report.Found(
            trials=self.trials.all(),
            space=self.space,
            metric=self.metric,
            higher=self.higher,
            folder=self._folder,
            name=self.settings["name"],
            epochs=self.config["epochs"],
            in_study=bool(self.config["choices"].get("experiment")),
            why=why,
            quiet=self.config["quiet"],
        )

    @property
    def _folder(self) -> Path:
        return Path(self.config["output_dir"]) / self.config["study"]

    def _late(self) -> bool:
        minutes = self.settings["minutes"]
        return minutes is not None and time.monotonic() - self.began > 60 * minutes

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


def _settings(sampler: str, given: Any, official: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of this search, checked; those that its option brings have their defaults also
    where it was chosen by Hydra's name."""
    schemas = shared("search") | settings_of("search", sampler)
    settings = {key.partition(".")[2]: schema.default for key, schema in schemas.items()}
    settings |= {key: value for key, value in given.items() if value is not None}
    for theirs, value in official.items():
        if theirs not in _OFFICIAL:
            raise UserError(
                f"hydra.sweeper.{theirs}: a search has no such setting. There are: params, "
                f"{', '.join(_OFFICIAL)}; and those of `trainlab list search`."
            )
        if value is not None:
            settings[_OFFICIAL[theirs]] = value
    for key, value in settings.items():
        schema = schemas.get(f"search.{key}")
        url = key == "storage" and "://" in str(value)  # any that Optuna can open
        if schema and not url and (problem := schema.problem(value)):
            raise UserError(f"search.{key}={value}: {problem} ({schema.meaning})")
    if not _FILE_NAME.fullmatch(settings["name"]) or settings["name"] == "runs":
        raise UserError(
            f"search.name={settings['name']}: must be a plain file name (letters, digits, . _ + "
            "-), and not runs, which is the table of all runs."
        )
    return settings


def _metric(config: Config, settings: Mapping[str, Any]) -> str:
    """What is searched by."""
    chosen = [settings.get("fitness", "auto"), settings["metric"], config["stop"]["monitor"]]
    metric = next(name for name in chosen if name != "auto")
    if metric.startswith("test_"):
        raise UserError(
            f"{metric}: what was chosen by its test split cannot be tested on it any more. Use "
            f"{metric.replace('test_', 'val_')}."
        )
    return metric
