"""Searches: what they find, that they resume exactly, and that they train no more than they say."""

import csv
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import optuna
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus

from trainlab import parallel
from trainlab.config import UserError
from trainlab.search import halving, space, trials
from trainlab.search.halving import brackets, rungs, survivors
from trainlab.search.score import RunFailed, failed

TINY = ("-q", "max_examples=100", "epochs=1", "arch.hidden=[4]")
LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
BETA = "optimizer.beta1=interval(0,0.9)"
SAMPLERS = ("random", "tpe", "gp", "cmaes", "evolution", "qmc")


def values(job):
    return dict(text.split("=", 1) for text in job)


def bowl(job):
    """Lowest, 0, at lr = 1e-2.5 and beta1 = 0.45."""
    v = values(job)
    return (math.log10(float(v["optimizer.lr"])) + 2.5) ** 2 + (
        4 * float(v.get("optimizer.beta1", 0.45)) - 1.8
    ) ** 2


class Launcher:
    """In the place of training: a function of the job. Remembers the launches."""

    def __init__(self, objective):
        self.objective, self.launches, self.dies_at = objective, [], None

    def launch(self, jobs, initial_job_idx):
        if len(self.launches) == self.dies_at:
            raise RuntimeError("killed")
        self.launches.append([list(job) for job in jobs])
        return [
            JobReturn(status=JobStatus.COMPLETED, _return_value=self.objective(job)) for job in jobs
        ]

    @property
    def jobs(self):
        return [job for jobs in self.launches for job in jobs]


@pytest.fixture
def launcher(monkeypatch):
    """No run is trained: jobs are worth what `launcher.objective` says."""
    made = Launcher(bowl)
    Plugins.instance()  # which makes plugin modules anew
    monkeypatch.setattr(
        sys.modules["hydra_plugins.trainlab_stack"].StackLauncher,
        "launch",
        lambda self, jobs, initial_job_idx: made.launch(jobs, initial_job_idx),
    )
    return made


def table(folder=Path("outputs/runs"), name="search"):
    with open(folder / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- samplers


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_finds_the_bowl(trainlab, launcher, sampler):
    """And those that learn end closer to it than they began."""
    trials = 24 if sampler == "gp" else 40
    answer = trainlab("train", f"search={sampler}", f"search.trials={trials}", LR, BETA)
    assert answer.code == 0, answer.err
    assert answer.out == "outputs/runs\n"
    worth = [bowl(job) for job in launcher.jobs]
    best = min(worth)
    # The best of 40 random draws is 0.06 in the median: π r² / 10.8 = 1 - 0.5^(1/40).
    assert best < {"random": 0.3, "qmc": 0.15}.get(sampler, 0.05)
    assert sampler in ("random", "qmc") or median(worth[-10:]) < 0.6 * median(worth[:10])
    assert [row["state"] for row in table()] == ["done"] * trials


def test_hydras_name_is_the_same_search(trainlab, launcher):
    trainlab("train", "search=tpe", "search.trials=15", LR)
    ours, launcher.launches = launcher.jobs, []
    answer = trainlab("train", "hydra/sweeper=tpe", "hydra.sweeper.n_trials=15", LR)
    assert answer.code == 0, answer.err
    assert launcher.jobs == ours


def test_the_keys_of_the_official_sweeper(trainlab, launcher, folder):
    answer = trainlab(
        "train", "-m", "hydra/sweeper=tpe", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=3",
        "hydra.sweeper.direction=maximize", "hydra.sweeper.study_name=other",
        "hydra.sweeper.storage=sqlite:///own.db", LR,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert [len(jobs) for jobs in launcher.launches] == [3, 3]
    best = max(launcher.jobs, key=bowl)
    assert f"optimizer.lr={values(best)['optimizer.lr']}" in answer.err
    assert (folder / "own.db").is_file()
    assert len(table(name="other")) == 6


def test_a_study_chooses_its_search_and_the_command_line_wins(trainlab, launcher, folder):
    study = folder / "conf" / "experiment" / "mine.yaml"
    study.parent.mkdir(parents=True)
    study.write_text(
        "# @package _global_\n# What is best?\ndefaults:\n  - override /search: evolution\n\n"
        "search:\n  trials: 8\n  population: 4\nhydra:\n  sweeper:\n    params:\n"
        "      optimizer.lr: interval(0.01,0.1)\n      act: relu,gelu\n      epochs: 3\n"
    )
    answer = trainlab("train", "experiment=mine", "act=tanh")
    assert answer.code == 0, answer.err
    assert [len(jobs) for jobs in launcher.launches] == [4, 4]
    assert {values(job)["act"] for job in launcher.jobs} == {"tanh"}
    assert {values(job)["epochs"] for job in launcher.jobs} == {"3"}
    assert "experiment=mine" in answer.err
    assert "search=none" in answer.err


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        (["search=evolution", "search.population=10"], [10, 10, 10]),
        (["search=cmaes"], [6] * 5),  # 4 + ⌊3 ln 2⌋
        (["search=random"], [30]),
        (["search=qmc"], [30]),
        (["search=tpe"], [10, 8, 8, 4]),
        (["search=tpe", "search.batch=15"], [15, 15]),
    ],
)
def test_a_generation_is_one_launch(trainlab, launcher, arguments, sizes):
    trainlab("train", *arguments, "search.trials=30", LR, BETA)
    assert [len(jobs) for jobs in launcher.launches] == sizes


def test_blind_samplers_propose_the_same_whatever_the_batch(trainlab, launcher):
    for sampler in ("random", "qmc"):
        trainlab("train", f"search={sampler}", "search.trials=12", LR, "act=choice(relu,gelu)")
        whole, launcher.launches = launcher.jobs, []
        trainlab(
            "train", f"search={sampler}", "search.trials=12", LR, "act=choice(relu,gelu)",
            "search.batch=5",
        )  # fmt: skip
        assert launcher.jobs == whole
        launcher.launches = []


def test_a_sobol_sequence_is_balanced(trainlab, launcher):
    """Of 2^k points of a scrambled Sobol sequence one lies in each of 2^k equal intervals."""
    trainlab("train", "search=qmc", "search.trials=16", LR, BETA)
    for name, place in (
        ("optimizer.lr", lambda v: (math.log10(v) + 4) / 3),
        ("optimizer.beta1", lambda v: v / 0.9),
    ):
        cells = [int(16 * place(float(values(job)[name]))) for job in launcher.jobs]
        assert sorted(cells) == list(range(16))


@pytest.mark.parametrize("crossover", "uniform blxalpha sbx vsbx undx spx".split())
@pytest.mark.parametrize("mutation", ["resample", "polynomial"])
def test_options_of_evolution(trainlab, launcher, crossover, mutation):
    answer = trainlab(
        "train", "search=evolution", "search.population=6", "search.trials=18", LR, BETA,
        "act=relu,gelu", f"search.crossover={crossover}", f"search.mutation={mutation}",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert len(launcher.jobs) == 18


def test_without_mutation_and_crossover_children_are_their_parents(trainlab, launcher):
    trainlab(
        "train", "search=evolution", "search.population=5", "search.trials=10", LR, BETA,
        "search.crossover_prob=0", "search.mutation_prob=0",
    )  # fmt: skip
    first, second = ({tuple(job) for job in jobs} for jobs in launcher.launches)
    assert second <= first


def test_cmaes_says_what_it_draws_at_random(trainlab, launcher):
    answer = trainlab("train", "search=cmaes", "search.trials=12", LR, BETA, "act=relu,gelu")
    assert "act: drawn at random" in answer.err
    assert {values(job)["act"] for job in launcher.jobs} == {"relu", "gelu"}


# ---------------------------------------------------------------- the space


def parsed(*texts, seeds=1):
    return space.read(OverridesParser.create().parse_overrides(list(texts)), seeds)


def test_grammar():
    read = parsed(
        "a=interval(0,1)", "b=tag(log,interval(1e-4,1e-1))", "c=int(interval(1,8))",
        "d=tag(log,int(interval(1,64)))", "e=range(10,50,10)", "f=range(0.1,0.45,0.1)",
        "g=choice(x,y)", "h=1,2", "i=[100],[200,100]", "j=5", "seed=range(3)", "k=choice(only)",
        "l=tag(log,range(1,9))",
    )  # fmt: skip
    d = read.parameters
    Float, Int = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    Choice = optuna.distributions.CategoricalDistribution
    assert d["a"] == Float(0, 1)
    assert d["b"] == Float(1e-4, 1e-1, log=True)
    assert d["c"] == Int(1, 8)
    assert d["d"] == Int(1, 64, log=True)
    assert d["e"] == Int(10, 40, step=10)
    assert d["f"] == Float(0.1, 0.4, step=0.1)
    assert d["g"] == Choice(["x", "y"])
    assert d["h"] == Choice(["1", "2"])
    assert d["i"] == Choice(["[100]", "[200,100]"])
    assert d["l"] == Int(1, 8, log=True)
    assert read.fixed == ["j=5", "k=only"]
    assert read.seeds == ["seed=0", "seed=1", "seed=2"]
    assert parsed("a=interval(0,1)", seeds=2).seeds == ["seed=0", "seed=1"]
    assert parsed("a=interval(0,1)", "a=interval(0,2)").parameters["a"] == Float(0, 2)


def test_numbers_are_typed_in_few_digits_and_stay_in_the_interval():
    Float = optuna.distributions.FloatDistribution
    assert space.text(Float(1e-4, 1e-1, log=True), 0.0123456789) == "0.0123457"
    narrow = Float(1.00000001, 1.00000002)
    assert float(space.text(narrow, 1.000000013)) == 1.000000013
    assert float(space.text(Float(0, 0.12345678), 0.12345678)) <= 0.12345678


def test_a_range_ends_before_its_stop(trainlab, launcher):
    launcher.objective = lambda job: 0.0
    trainlab("train", "search=random", "search.trials=60", "epochs=range(10,50,10)")
    assert {values(job)["epochs"] for job in launcher.jobs} == {"10", "20", "30", "40"}


BAD = [
    (["search=tpe"], "nothing to search"),
    (["search=tpe", "seed=range(3)"], "nothing to search"),
    (["search=tpe", "optimizer.lr=interval(0.1,0.01)"], "did you mean interval(0.01,0.1)"),
    (["search=tpe", "optimizer.lr=tag(log,interval(0,0.1))"], "begins above 0"),
    (["search=tpe", "optimizer.lr=interval(-1,0.1)"], "must be a number >= 0"),
    (["search=tpe", "optimizer.rho=interval(0,1)"], "optimizer=adadelta"),
    (["search=tpe", "act=relu,gleu"], "Did you mean glu or gelu"),
    (["search=tpe", LR, "search.trials=0"], "a whole number >= 1"),
    (["hydra/sweeper=tpe", LR, "hydra.sweeper.n_trials=0"], "a whole number >= 1"),
    (["hydra/sweeper=tpe", LR, "+hydra.sweeper.max_failure_rate=1"], "no such setting"),
    (["search=tpe", LR, "search.startup=0"], "a whole number >= 1"),
    (["search=evolution", LR, "search.crossover=undx", "search.population=2"], "3 parents"),
    (["search=tpe", LR, "search.population=2"], "search=cmaes and search=evolution have it"),
    (["search=tpe", LR, "seed=range(3)", "search.seeds=2"], "leave one of them out"),
    (["search=tpe", LR, "seed=1,1"], "each of them once"),
    (["search=tpe", LR, "seed=interval(0,3)"], "seeds are not searched, but listed"),
    (["search=grid", LR], "an interval has no grid"),
    (["search=grid", "act=relu,gelu", "search.halving=successive"], "a grid is all"),
    (["-m", "act=relu,gelu", "search.seeds=2"], "there is no search"),
    (["search=cmaes", "act=relu,gelu"], "Use search=tpe or"),
    (["search=tep", LR], "Did you mean tpe"),
    (["search=tpe", LR, "search.metric=test_accuracy"], "Use val_accuracy"),
    (["search=tpe", LR, "search.halving=hyperband", "epochs=range(1,5)"], "shares out the epochs"),
    (["search=tpe", "epochs=range(5,5)"], "empty"),
    (["-m", "epochs=range(5,5)"], "empty"),
    (["search=tpe", LR, "search.trials=1,2"], "cannot be searched"),
    (["-m", "search=random,tpe", LR], "search=random,tpe: the search itself"),
    (["search=tpe", LR, "study=a,b"], "trainlab: study=a,b: study decides nothing"),
    (["search=tpe", LR, "device=cpu,cuda"], "device=cpu,cuda: device decides nothing"),
    (["search=grid", "act=relu,gelu", "workers=choice(1,2)"], "cannot be swept over"),
    (["-m", "act=relu,gelu", "name=a,b"], "cannot be swept over"),
    (["search=evolution", LR, "search.fitness=test_f1"], "trainlab: test_f1: what was"),
    (
        ["search=tpe", LR, "search.storage=mysql://me:secret@nope/x"],
        "mysql://me:***@nope/x, cannot",
    ),
    (["search=tpe", LR, "search.storage=nope://x"], "storage, nope://x, cannot be read"),
    (["search=tpe", "optimizer=adam", "optimizer.momentum=interval(0,1)"], "optimizer=momentum"),
    (["search=tpe", LR, "search.name=a/b"], "must be a plain file name"),
    (["search=tpe", LR, "search.name=../x", "search.storage=sqlite"], "must be a plain file name"),
    (["search=tpe", LR, "search.name=''"], "must be a plain file name"),
    (["hydra/sweeper=tpe", LR, "hydra.sweeper.study_name=.."], "must be a plain file name"),
    (["search=tpe", LR, "search.name=runs"], "the table of all runs"),
    (["search=tpe", "optimizer.lr=choice()"], "optimizer.lr=choice()"),
]


def test_a_folder_that_cannot_be_written_is_the_whole_story(trainlab, folder):
    (folder / "outputs").write_text("a file")
    answer = trainlab("train", "search=random", "search.trials=2", *TINY, LR)
    assert answer.code == 2
    assert "All trials" not in answer.err
    assert "outputs" in answer.err


def test_a_setting_applies_to_the_choices_that_have_it(trainlab, launcher):
    conditional = ("optimizer=momentum,adam", "optimizer.momentum=interval(0.1,0.9)")
    launcher.objective = lambda job: float(values(job).get("optimizer.momentum", 0.5))
    answer = trainlab("train", "search=random", "search.trials=12", *conditional)
    assert answer.code == 0, answer.err
    assert {values(job)["optimizer"] for job in launcher.jobs} == {"momentum", "adam"}
    for job in launcher.jobs:
        assert ("optimizer.momentum" in values(job)) == (values(job)["optimizer"] == "momentum")
    for row in table():
        assert bool(row["optimizer.momentum"]) == (row["optimizer"] == "momentum")
    assert " –  " in answer.err
    arguments = shlex.split(answer.err.strip().splitlines()[-1])
    assert trainlab(*arguments[1:], "--dry-run").code == 0


def test_a_sweeps_setting_applies_to_the_choices_that_have_it(trainlab, folder):
    answer = trainlab(
        "train", "-m", *TINY, "optimizer=momentum,adam", "optimizer.momentum=0.5,0.9",
        "optimizer.beta1=0.8,0.85",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert len(json.loads((answer.path / "sweep.json").read_text())["plans"][0]["runs"]) == 4
    typed = {
        frozenset(json.loads(path.read_text())["overrides"]) - {"quiet=True"}
        for path in folder.rglob("status.json")
    }
    kinds = {tuple(sorted(t for t in texts if t.startswith("optimizer"))) for texts in typed}
    assert kinds == {
        ("optimizer.beta1=0.8", "optimizer=adam"),
        ("optimizer.beta1=0.85", "optimizer=adam"),
        ("optimizer.momentum=0.5", "optimizer=momentum"),
        ("optimizer.momentum=0.9", "optimizer=momentum"),
    }
    answer = trainlab("train", "-m", "optimizer=momentum,adam", "optimizer.momentum=0.5")
    assert answer.code == 2
    assert "optimizer.momentum=choice(…) is for those that have it" in answer.err


def test_a_grids_numbers_are_those_of_a_search(trainlab, launcher):
    trainlab("train", "-m", "optimizer.lr=range(0.1,0.45,0.1)", "epochs=range(1,3)")
    assert {values(job)["optimizer.lr"] for job in launcher.jobs} == {"0.1", "0.2", "0.3", "0.4"}
    assert {values(job)["epochs"] for job in launcher.jobs} == {"1", "2"}
    launcher.objective, launcher.launches = lambda job: 0.0, []
    trainlab("train", "search=random", "search.trials=40", "optimizer.lr=range(0.1,0.45,0.1)")
    assert {values(job)["optimizer.lr"] for job in launcher.jobs} == {"0.1", "0.2", "0.3", "0.4"}


def test_several_processes_search_nothing_and_leave_nothing(trainlab, folder, monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 2)
    answer = trainlab("train", "search=tpe", LR, "search.storage=sqlite")
    assert answer.code == 2
    assert "torchrun trains one large run" in answer.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("width", "shown"), [(40, 3), (60, 4), (100, 7)])
def test_a_table_has_as_many_columns_as_fit(trainlab, launcher, monkeypatch, width, shown):
    monkeypatch.setenv("COLUMNS", str(width))
    launcher.objective = lambda job: 0.1 + float(values(job)["optimizer.beta1"])
    answer = trainlab(
        "train", "search=random", "search.trials=12", LR, BETA, "act=leaky_relu,hard_sigmoid",
        "arch.hidden=[200,100,50],[100,50,20]",
    )  # fmt: skip
    head, *rows = answer.err.splitlines()[1:12]
    assert head.split()[0] == "trial"
    assert "beta1" in head
    assert "val_loss" in head
    assert all(len(line.rstrip()) <= width for line in [head, *rows])
    best = min(float(row["val_loss"]) for row in table())
    assert f"{best:.4f}" in rows[0]
    assert len(head.split()) >= min(shown, 7) - 1


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_paragraph(trainlab, folder, arguments, message):
    answer = trainlab("train", *arguments)
    assert answer.code == 2, answer.err
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_a_metric_that_does_not_exist_costs_one_epoch(trainlab, folder):
    answer = trainlab(
        "train", "search=random", LR, "max_examples=100", "epochs=5", "search.metric=val_acuracy",
        "-q",
    )  # fmt: skip
    assert answer.code == 2
    assert "trainlab: val_acuracy is no metric of these runs. Did you mean val_acc" in answer.err
    (metrics,) = folder.rglob("metrics.csv")
    assert len(metrics.read_text().splitlines()) == 2


# ---------------------------------------------------------------- resuming


def same(ours, theirs):
    keys = [key for key in theirs[0] if key != "runs"]
    return [[row[key] for key in keys] for row in ours] == [
        [row[key] for key in keys] for row in theirs
    ]


@pytest.mark.parametrize(
    ("sampler", "storage"),
    [(name, "sqlite") for name in SAMPLERS]
    + [(name, storage) for name in ("tpe", "evolution") for storage in ("memory", "journal")],
)
def test_a_search_that_was_killed_equals_one_that_was_not(trainlab, launcher, sampler, storage):
    command = (
        "train", f"search={sampler}", "search.trials=16", LR, BETA, "act=relu,gelu",
        f"search.storage={storage}", "search.batch=4",
    )  # fmt: skip
    command += tuple({"tpe": ["search.startup=4"], "gp": ["search.startup=4"]}.get(sampler, []))
    trainlab(*command, "study=whole")
    launcher.launches, launcher.dies_at = [], 2
    assert trainlab(*command, "study=cut").code == 1
    launcher.launches, launcher.dies_at = [], None
    answer = trainlab(*command, "study=cut")
    assert answer.code == 0, answer.err
    assert same(table(Path("outputs/cut")), table(Path("outputs/whole")))
    # What was told is not asked for again, where a file remembers it.
    assert len(launcher.launches) == (4 if storage == "memory" else 2)


@pytest.mark.parametrize(
    ("sampler", "point"),
    [(name, "_ask") for name in ("tpe", "cmaes", "evolution", "qmc")] + [("tpe", "tell")],
)
def test_killed_in_the_middle_of_a_batch(trainlab, launcher, monkeypatch, sampler, point):
    command = (
        "train", f"search={sampler}", "search.trials=12", LR, BETA, "search.storage=sqlite",
        "search.batch=6",
    )  # fmt: skip
    command += ("search.startup=6",) if sampler == "tpe" else ()
    trainlab(*command, "study=whole")
    original, calls = getattr(trials.Trials, point), []

    def dies(self, *arguments):
        calls.append(1)
        if len(calls) == 9:
            raise RuntimeError("killed")
        return original(self, *arguments)

    monkeypatch.setattr(trials.Trials, point, dies)
    assert trainlab(*command, "study=cut").code == 1
    monkeypatch.setattr(trials.Trials, point, original)
    answer = trainlab(*command, "study=cut")
    assert answer.code == 0, answer.err
    assert same(table(Path("outputs/cut")), table(Path("outputs/whole")))


def test_killed_between_two_parameters_of_a_trial(trainlab, launcher, monkeypatch):
    command = (
        "train", "search=tpe", "search.trials=8", LR, BETA, "search.storage=sqlite",
        "search.batch=4", "search.startup=4",
    )  # fmt: skip
    trainlab(*command, "study=whole")
    original, calls = optuna.trial.Trial._suggest, []

    def dies(self, *arguments):
        calls.append(1)
        if len(calls) == 2 * 7:
            raise RuntimeError("killed")
        return original(self, *arguments)

    monkeypatch.setattr(optuna.trial.Trial, "_suggest", dies)
    assert trainlab(*command, "study=cut").code == 1
    monkeypatch.setattr(optuna.trial.Trial, "_suggest", original)
    assert trainlab(*command, "study=cut").code == 0
    assert same(table(Path("outputs/cut")), table(Path("outputs/whole")))


def test_more_trials_go_on_where_the_search_ended(trainlab, launcher):
    for storage in ("memory", "sqlite"):
        command = ("train", "search=tpe", LR, BETA, f"search.storage={storage}")
        trainlab(*command, "search.trials=15", f"study={storage}-whole")
        trainlab(*command, "search.trials=10", f"study={storage}")
        trainlab(*command, "search.trials=15", f"study={storage}")
        assert same(table(Path(f"outputs/{storage}")), table(Path(f"outputs/{storage}-whole")))


def test_another_search_under_the_same_name_is_refused(trainlab, launcher):
    first = ("train", "search=tpe", "search.trials=4", "search.storage=journal", LR)
    assert trainlab(*first).code == 0
    for change, message in (
        (["act=relu,gelu"], "act was not there and is relu,gelu"),
        (["optimizer.lr=interval(1e-4,1e-1)"], "optimizer.lr was tag(log,interval(1e-4,1e-1))"),
        (["epochs=3"], "epochs was 20 and is 3"),
        (["search.metric=val_accuracy"], "metric was val_loss and is val_accuracy"),
        (["optimizer=sgd"], "optimizer was adam and is sgd"),
    ):
        answer = trainlab(*first, *change)
        assert answer.code == 2
        assert message in answer.err
        assert len(answer.err.strip().splitlines()) == 1
    assert trainlab(*first, "epochs=3", "search.name=short").code == 0
    assert trainlab(*first, "epochs=3", "fresh=true").code == 0
    assert trainlab(*first, "device=cpu", "epochs=3", "search.trials=5", "search=random").code == 0


def test_another_search_in_memory_does_not_replace_the_first_ones_files(trainlab, launcher):
    first = ("train", "search=random", "search.trials=4", LR)
    assert trainlab(*first).code == 0
    rows = table()
    for change, message in (
        (["act=relu,gelu"], "act was not there and is relu,gelu"),
        (["search=tpe"], "search was random and is tpe"),
        (["search.seed=1"], "search.seed was 0 and is 1"),
    ):
        for more in [], ["--dry-run"]:
            answer = trainlab(*first, *change, *more)
            assert answer.code == 2, answer.err
            assert message in answer.err
            assert table() == rows
    assert trainlab(*first, "search.trials=6").code == 0
    assert trainlab(*first, "search=tpe", "search.name=model").code == 0
    assert trainlab(*first, "search=tpe", "fresh=true").code == 0
    assert trainlab(*first, "search=tpe").code == 0


@pytest.mark.parametrize("storage", ["memory", "sqlite", "journal"])
def test_retry_tries_failed_trials_again(trainlab, launcher, storage):
    command = (
        "train", "search=tpe", "search.trials=12", "search.batch=6", LR, BETA,
        f"search.storage={storage}",
    )  # fmt: skip
    assert trainlab(*command, "study=whole").code == 0
    broken = [True]

    def sometimes(job):
        if broken[0] and 0.3 < float(values(job)["optimizer.beta1"]) < 0.6:
            return failed(RunFailed("no space left", "outputs/runs/0123456789"))
        return bowl(job)

    launcher.objective = sometimes
    answer = trainlab(*command)
    assert answer.code == 1
    lost = [row["trial"] for row in table() if row["state"] == "failed"]
    assert lost
    assert f"{len(lost)} failed" in answer.err
    assert "retry=true" in answer.err
    broken[0] = False
    if storage != "memory":  # where no trial is kept, their runs are found failed
        launcher.launches = []
        assert trainlab(*command).code == 1
        assert not launcher.launches
    before = {row["trial"]: row["optimizer.lr"] for row in table()}
    answer = trainlab(*command, "retry=true")
    assert answer.code == 0, answer.err
    rows = table()
    assert [row["state"] for row in rows] == ["done"] * 12
    if storage != "memory":
        assert {row["trial"]: row["optimizer.lr"] for row in rows} == before
        assert len(launcher.launches) == len({int(trial) // 6 for trial in lost})


@pytest.mark.parametrize(("storage", "suffix"), [("sqlite", "db"), ("journal", "journal")])
def test_a_corrupt_storage(trainlab, launcher, folder, storage, suffix):
    command = ("train", "search=tpe", "search.trials=4", f"search.storage={storage}", LR)
    trainlab(*command)
    file = folder / "outputs" / "runs" / f"search.{suffix}"
    file.write_bytes(b"no storage at all\n" * 300)
    answer = trainlab(*command)
    assert answer.code == 2
    assert "cannot be read" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_locked_storage(trainlab, launcher, folder, monkeypatch):
    import sqlite3

    monkeypatch.setattr(trials, "_PATIENCE", 0.1)
    command = ("train", "search=tpe", "search.storage=sqlite", LR)
    trainlab(*command, "search.trials=2")
    other = sqlite3.connect(folder / "outputs" / "runs" / "search.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    answer = trainlab(*command, "search.trials=4")
    other.execute("ROLLBACK")
    other.close()
    assert answer.code == 2
    assert "locked by another program" in answer.err


def test_trials_of_a_live_process_are_left_to_it(folder):
    settings = {"storage": "journal", "name": "search"}
    facts = {"direction": "minimize", "space": {}}
    distributions = {"x": optuna.distributions.FloatDistribution(0, 1)}

    def opened():
        return trials.Trials(
            folder, settings, distributions, lambda n: optuna.samplers.RandomSampler(n), facts
        )

    with opened() as one, opened() as two:
        mine = one.next(lambda n: 3, 10)
        theirs = two.next(lambda n: 3, 10)
        assert [t.number for t in mine] == [0, 1, 2]
        assert [t.number for t in theirs] == [3, 4, 5]
        params = [t.params for t in mine]
        one.alive.release()  # it dies
        assert [t.params for t in two.next(lambda n: 3, 10)] == params


def test_two_processes_share_the_trials_of_a_journal(trainlab, trainlab_process, folder):
    command = (
        "train", "search=random", "search.storage=journal", "search.trials=6", "search.batch=1",
        "search.halving=none", LR, "max_examples=100", "epochs=2", "-q",
    )  # fmt: skip
    both = [trainlab_process(*command) for _ in range(2)]
    for process in both:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    rows = table()
    assert [row["state"] for row in rows] == ["done"] * 6
    assert len({row["runs"] for row in rows}) == 6
    assert not list(folder.glob("outputs/runs/.search.????????.lock"))


@pytest.mark.parametrize("storage", [pytest.param("memory", marks=pytest.mark.slow), "journal"])
def test_a_search_killed_while_training_continues(trainlab, trainlab_process, folder, storage):
    command = (
        "train", "search=tpe", "search.trials=6", "search.batch=2", "search.startup=2", LR,
        "epochs=20", "checkpoint.every=1", "checkpoint.unit=epochs", "device=cpu",
        f"search.storage={storage}", "-q", "search.halving=successive", "search.min_epochs=4",
        "search.reduction=2",
    )  # fmt: skip
    assert trainlab(*command, "study=whole").code == 0
    process = trainlab_process(*command, "study=cut")
    deadline = time.monotonic() + 60
    while len(list(folder.glob("outputs/cut/*/metrics.csv"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert trainlab(*command, "study=cut").code == 0
    assert table(Path("outputs/cut")) == table(Path("outputs/whole"))


def test_ctrl_c_ends_the_search_and_the_same_command_continues(trainlab, trainlab_process, folder):
    command = ("train", "search=random", "search.trials=4", LR, "epochs=60", "device=cpu")
    process = trainlab_process(*command)
    deadline = time.monotonic() + 60
    while not list(folder.glob("outputs/runs/*/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command continues" in err
    assert out == "outputs/runs\n"
    answer = trainlab(*command)
    assert answer.code == 0
    assert len(table()) == 4


# ---------------------------------------------------------------- what a trial is worth


def test_a_trial_is_the_mean_over_its_seeds(trainlab, launcher):
    launcher.objective = lambda job: bowl(job) + float(values(job)["seed"])
    answer = trainlab("train", "search=random", "search.trials=5", LR, "seed=range(1,4)")
    assert [values(job)["seed"] for job in launcher.jobs] == ["1", "2", "3"] * 5
    for row, job in zip(table(), launcher.jobs[::3], strict=True):
        assert float(row["val_loss"]) == pytest.approx(bowl(job) + 2)
        assert float(row["ci95"]) == pytest.approx(4.3027 / 3**0.5, abs=1e-3)  # t of 2, 0.975
        assert row["n"] == "3"
    assert "95 % interval over 3 seeds" in answer.err
    assert "-m seed=1,2,3" in answer.err


def test_higher_is_better_where_the_metric_says_so(trainlab, launcher):
    command = ("train", "search=random", "search.trials=9", LR)
    for name, extra, best in (
        ("a", ["stop.monitor=val_accuracy"], max),
        ("b", ["stop.monitor=val_accuracy", "search.direction=minimize"], min),
        ("c", [], min),
    ):
        launcher.launches = []
        answer = trainlab(*command, f"search.name={name}", *extra)
        number = launcher.jobs.index(best(launcher.jobs, key=bowl))
        assert f"best trial: {number}," in answer.err


def test_a_trial_that_diverged_is_the_worst_and_the_search_goes_on(trainlab, launcher):
    launcher.objective = lambda job: math.nan if bowl(job) > 1 else bowl(job)
    answer = trainlab("train", "search=tpe", "search.trials=30", "search.storage=sqlite", LR, BETA)
    assert answer.code == 0, answer.err
    rows = table()
    lost = [row for row in rows if row["state"] == "diverged"]
    assert 0 < len(lost) < 15
    assert all(row["val_loss"] == "" for row in lost)
    assert f"{len(lost)} diverged" in answer.err
    study = optuna.load_study(study_name="search", storage="sqlite:///outputs/runs/search.db")
    known = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    for row in lost:
        assert study.trials[int(row["trial"])].value <= max(known)
    study._storage.remove_session()
    study._storage._backend.engine.dispose()


def test_runs_that_diverge_or_fail(trainlab):
    answer = trainlab(
        "train",
        "search=random",
        "search.trials=6",
        *TINY[:3],
        LR,
        "dataset=moons,digits",
        "arch=cnn",
    )
    assert answer.code == 1, answer.err
    assert "needs images" in answer.err
    for row in table():
        assert row["state"] == {"moons": "failed", "digits": "done"}[row["dataset"]]
    answer = trainlab(
        "train", "search=random", "search.trials=4", "-q", "epochs=1", "study=diverging",
        "search.batch=1", "optimizer=momentum", "optimizer.lr=tag(log,interval(1e-4,1e7))",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    states = [row["state"] for row in table(Path("outputs/diverging"))]
    assert "done" in states
    assert "diverged" in states


def test_where_all_of_the_first_batch_fails_the_search_ends(trainlab):
    answer = trainlab("train", "search=random", "search.trials=6", *TINY, "stop.monitor=val_f2", LR)
    assert answer.code == 2
    assert "All trials of the first batch failed" in answer.err
    assert "val_f2" in answer.err


def test_minutes_end_a_search(trainlab, launcher):
    def slow(job):
        time.sleep(0.01)
        return bowl(job)

    launcher.objective = slow
    command = ("train", "search=random", "search.trials=200", LR)
    answer = trainlab(*command, "search.minutes=0.005")
    assert answer.code == 0
    assert "minutes are over" in answer.err
    assert 16 <= len(table()) < 100


@pytest.mark.parametrize("storage", ["memory", "sqlite", "journal"])
def test_a_dry_run_shows_the_first_batch_that_is_not_trained(trainlab, folder, storage):
    command = (
        "train", "search=tpe", *TINY, "search.startup=3", LR, f"search.storage={storage}",
        "search.metric=val_accuracy",
    )  # fmt: skip
    answer = trainlab(*command, "search.trials=8", "--dry-run")
    assert answer.code == 0, answer.err
    assert "3 runs to train" in answer.out
    assert answer.out.endswith("then 5 trials that depend on these\n")
    assert list(folder.iterdir()) == []
    assert trainlab(*command, "search.trials=3").code == 0
    before = contents(folder)
    answer = trainlab(*command, "search.trials=6", "--dry-run")
    assert answer.code == 0, answer.err
    assert "3 runs to train" in answer.out
    assert "that depend on" not in answer.out
    answer = trainlab(*command, "search.trials=3", "--dry-run")
    assert answer.out.endswith("all 3 trials have ended\n")
    answer = trainlab(*command, "search.trials=3", "act=relu,gelu", "--dry-run")
    assert answer.code == 2
    assert "act was not there and is relu,gelu" in answer.err
    trainlab(*command, "search.trials=3", "act=relu,gelu", "fresh=true", "--dry-run")
    assert contents(folder) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_goes_on_rung_by_rung(trainlab, folder):
    command = (
        "train", "search=random", "search.trials=4", *TINY[:2], TINY[3], "-q", "epochs=4", LR,
        "search.halving=successive", "search.reduction=2",
    )  # fmt: skip
    answer = trainlab(*command, "--dry-run")
    assert "4 runs to train" in answer.out
    assert answer.out.count("until=1") == 4
    assert trainlab(*command).code == 0
    before = contents(folder)
    answer = trainlab(*command, "--dry-run")
    assert answer.out.endswith("all 4 trials have ended\n")
    assert contents(folder) == before


def test_a_dry_run_does_not_descend(trainlab, folder):
    answer = trainlab("train", *GRADIENT, "optimizer.lr=0.01", "--dry-run")
    assert answer.code == 0, answer.err
    assert "one run to train, along the gradient" in answer.out
    assert "→" not in answer.err
    assert list(folder.iterdir()) == []


def test_a_smoke_test_is_small(trainlab):
    answer = trainlab("train", "search=evolution", LR, "smoke=true", "-q")
    assert answer.code == 0, answer.err
    assert len(table(Path("outputs/runs-smoke"))) == 4


# ---------------------------------------------------------------- halving


def test_hyperband_has_the_brackets_of_the_paper():
    """Li et al. 2018, table 1: R = 81, η = 3."""
    expected = [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    for bracket, row in zip(brackets(81, 3, 1), expected, strict=True):
        left, rows = bracket.trials, []
        for epochs in bracket.rungs:
            rows.append((left, epochs))
            left = len(survivors(list(range(left)), 3))
        assert rows == row
    assert rungs(81, 3, 9) == [9, 27, 81]
    assert rungs(1, 3, 1) == [1]


def test_brackets_follow_each_other():
    settings = {"halving": "hyperband", "reduction": 3, "min_epochs": 1}
    sizes, number = [], 0
    while len(sizes) < 6:
        sizes.append(halving.bracket(settings, 81, number, 7).trials)
        number += sizes[-1]
    assert sizes == [81, 34, 15, 8, 5, 81]


def test_survivors():
    assert survivors([3.0, 1.0, 2.0, 0.0, 5.0, 4.0], 3) == [1, 3]
    assert survivors([math.inf, 1.0, math.inf, math.inf], 2) == [1]
    assert survivors([1.0, 1.0, 1.0, 1.0], 2) == [0, 1]
    assert survivors([math.inf], 2) == []


def test_halving_leaves_the_worst_behind(trainlab, launcher):
    """A fake run is worth its place in the bowl at whatever epoch: the best must survive."""
    answer = trainlab(
        "train", "search=random", "search.trials=27", "epochs=9", LR, "search.halving=successive"
    )
    assert [len(jobs) for jobs in launcher.launches] == [27, 9, 3]
    assert [values(jobs[0]).get("until") for jobs in launcher.launches] == ["1", "3", None]
    ranked = sorted(launcher.launches[0], key=bowl)
    for jobs, kept in zip(launcher.launches[1:], (9, 3), strict=True):
        lrs = {values(job)["optimizer.lr"] for job in jobs}
        assert lrs == {values(job)["optimizer.lr"] for job in ranked[:kept]}
    states = [row["state"] for row in table()]
    assert states.count("pruned") == 24
    assert states.count("done") == 3
    assert "halving trained" in answer.err


def test_halving_trains_fewer_epochs_and_finds_what_training_all_finds(trainlab, folder):
    command = (
        "train", "search=random", "search.trials=9", "-q", "max_examples=300", "epochs=9", LR,
        "device=cpu",
    )  # fmt: skip
    trainlab(*command, "study=all")
    answer = trainlab(*command, "study=halved", "search.halving=successive")
    assert answer.code == 0, answer.err
    every, halved = table(Path("outputs/all")), table(Path("outputs/halved"))
    lengths = [
        len((folder / "outputs" / "halved" / row["runs"] / "metrics.csv").read_text().splitlines())
        - 1
        for row in halved
    ]
    assert sorted(lengths) == [1] * 6 + [3] * 2 + [9]
    assert sum(int(row["epochs"]) for row in halved) == 21
    done = [row for row in halved if row["state"] == "done"]
    assert [row for row in every if row["trial"] == done[0]["trial"]] == done
    for row in halved:
        status = json.loads(
            (folder / "outputs" / "halved" / row["runs"] / "status.json").read_text()
        )
        assert status["status"] == row["state"]
        if row["state"] == "pruned":
            assert "were better after epoch" in status["reason"]
    # The same again trains nothing, and a pruned run that is wanted goes on.
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("metrics.csv")}
    trainlab(*command, "study=halved", "search.halving=successive")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("metrics.csv")} == before
    assert trainlab(*command, "study=halved", "search.name=whole").code == 0
    assert table(Path("outputs/halved"), "whole") == every


def test_a_model_proposes_as_many_as_halving_leaves_one_of(trainlab, launcher):
    trainlab("train", "search=tpe", "search.trials=18", "epochs=9", LR, "search.halving=successive")
    assert [len(jobs) for jobs in launcher.launches] == [9, 3, 1] * 2


def test_hyperband_trains_its_brackets(trainlab, launcher):
    trainlab("train", "search=tpe", "search.trials=22", "epochs=9", LR, "search.halving=hyperband")
    sizes = [(len(jobs), values(jobs[0]).get("until")) for jobs in launcher.launches]
    assert sizes == [
        (9, "1"), (3, "3"), (1, None), (5, "3"), (1, None), (3, None), (5, "1"), (1, "3"), (1, None)
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "evolution"])
def test_halving_goes_with_every_sampler_and_resumes(trainlab, launcher, sampler):
    command = (
        "train", f"search={sampler}", "search.trials=18", "epochs=9", LR, BETA,
        "search.halving=successive", "search.storage=sqlite", "search.batch=9",
    )  # fmt: skip
    assert trainlab(*command, "study=whole").code == 0
    launcher.launches, launcher.dies_at = [], 4
    assert trainlab(*command, "study=cut").code == 1
    launcher.launches, launcher.dies_at = [], None
    assert trainlab(*command, "study=cut").code == 0
    assert same(table(Path("outputs/cut")), table(Path("outputs/whole")))


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    "extra", [[], ["seed=range(2)"], ["search.halving=successive"], ["search.seeds=2"]]
)
def test_the_best_trials_command_finds_its_run_there(trainlab, extra):
    answer = trainlab(
        "train", "search=random", "search.trials=4", "max_examples=100", "epochs=3", LR,
        "arch.hidden=choice([4],[6,4])", "act=relu,gelu", *extra,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "best trial:" in answer.err
    program, *arguments = shlex.split(answer.err.strip().splitlines()[-1])
    assert program == "trainlab"
    again = trainlab(*arguments)
    assert again.code == 0
    assert "are there already" in again.err or "is there already" in again.err
    assert "epoch 1/" not in again.err


@pytest.mark.parametrize(
    ("more", "extra"),
    [("", []), ("  seeds: 2\n", []), ("  halving: successive\n", ["seed=0,1"])],
    ids=["plain", "seeds", "halving"],
)
def test_a_studys_command_does_not_search_again(trainlab, folder, more, extra):
    study = folder / "conf" / "experiment" / "mine.yaml"
    study.parent.mkdir(parents=True)
    study.write_text(
        "# @package _global_\n# What is best?\ndefaults:\n  - override /search: random\n\n"
        f"search:\n  trials: 3\n{more}max_examples: 100\nepochs: 1\nhydra:\n"
        "  mode: MULTIRUN\n  sweeper:\n    params:\n      optimizer.lr: interval(0.01,0.1)\n"
    )
    answer = trainlab("train", "experiment=mine", *extra)
    assert answer.code == 0, answer.err
    again = trainlab(*shlex.split(answer.err.strip().splitlines()[-1])[1:])
    assert again.code == 0, again.err
    assert "there already" in again.err


def test_importances_say_what_matters(trainlab, launcher):
    launcher.objective = lambda job: (
        math.log10(float(values(job)["optimizer.lr"]))
        + (0.01 * float(values(job)["optimizer.beta1"]))
    )
    answer = trainlab("train", "search=random", "search.trials=30", LR, BETA)
    (line,) = [line for line in answer.err.splitlines() if line.startswith("importance:")]
    assert line.startswith("importance: optimizer.lr 0.9")
    few = trainlab("train", "search=random", "search.trials=3", LR, BETA)
    assert "3 finished trials do not tell" in few.err


def test_the_history_is_a_picture(trainlab, launcher, folder):
    launcher.objective = lambda job: math.nan if bowl(job) > 3 else bowl(job)
    command = (
        "train", "search=tpe", "search.trials=20", LR, BETA, "act=relu,gelu", "epochs=9",
        "search.halving=hyperband",
    )  # fmt: skip
    trainlab(*command)
    picture = (folder / "outputs" / "runs" / "search.svg").read_text()
    for word in ("optimizer.lr", "optimizer.beta1", "act", "best so far", "val_loss"):
        assert word in picture
    trainlab(*command)
    assert (folder / "outputs" / "runs" / "search.svg").read_text() == picture


def test_without_matplotlib_there_is_a_line_instead(trainlab, launcher, monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = trainlab("train", "search=random", "search.trials=5", LR)
    assert answer.code == 0
    assert "trainlab[plot]" in answer.err
    assert not (folder / "outputs" / "runs" / "search.svg").exists()


def test_a_grid_has_seeds_too(trainlab):
    answer = trainlab("train", "search=grid", *TINY, "act=relu,gelu", "search.seeds=2")
    assert answer.code == 0, answer.err
    assert len(list(answer.path.glob("*/result.json"))) == 4


def test_another_launcher(trainlab):
    answer = trainlab(
        "train", "search=random", "search.trials=3", *TINY, LR, "hydra/launcher=basic"
    )
    assert answer.code == 0, answer.err
    assert [row["state"] for row in table()] == ["done"] * 3


def test_nothing_heavy_is_imported_without_a_search(folder):
    code = (
        "import sys; from trainlab import cli; cli.main(['train', '-m', 'act=relu,gelu', "
        "'epochs=1', 'max_examples=100', '-q', 'optimizer.lr=abc']);"
        "print([m for m in ('optuna', 'matplotlib', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_space_without_a_parameter_says_so():
    with pytest.raises(UserError, match="nothing to search"):
        parsed("j=5")


GRADIENT = ("search=gradient", "optimizer=sgd", "arch.hidden=[16]", "max_examples=300", "epochs=3")


def test_a_rate_that_is_too_small_is_mended_along_the_gradient(trainlab):
    typed = (*GRADIENT, "optimizer.lr=0.003", "seed=0,1", "search.unroll=2", "search.hyper_lr=0.2")
    answer = trainlab("train", *typed)
    assert answer.code == 0, answer.err
    assert "only the learning rate is learnt" in answer.err
    found = pd.read_csv(answer.path / "search.csv").set_index("trial")
    assert found.loc[0, "optimizer.lr"] == 0.003
    best = found.loc[found["val_loss"].idxmin()]
    assert best["optimizer.lr"] > 0.006
    assert best["val_loss"] < found.loc[0, "val_loss"] - 2 * 0.01
    again = trainlab("train", *typed)
    assert "runs are there already" in again.err


def test_weight_decay_is_learnt_where_there_is_one(trainlab):
    answer = trainlab("train", *GRADIENT, "optimizer.lr=0.1", "reg.weight_decay=0.01")
    assert answer.code == 0, answer.err
    assert "reg.weight_decay along the gradient: 0.01 →" in answer.err
    assert {"optimizer.lr", "reg.weight_decay"} <= set(pd.read_csv(answer.path / "search.csv"))


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["act=relu,tanh"], "act cannot be searched with it"),
        (["optimizer=muon"], "muon"),
        (["act=step"], "step"),
        (["search.unroll=0"], "search.unroll=0"),
    ],
)
def test_what_has_no_gradient_is_refused(trainlab, typed, says):
    answer = trainlab("train", *GRADIENT, *typed)
    assert answer.code == 2
    assert says in answer.err


def test_a_journal_with_a_torn_line_loses_only_that(trainlab, folder):
    short = ("-q", "max_examples=100", "epochs=1", "search=random", "search.storage=journal")
    space = ("optimizer.lr=interval(1e-3,1e-1)", "search.trials=2")
    answer = trainlab("train", *short, *space)
    assert answer.code == 0
    journal = answer.path / "search.journal"
    journal.write_bytes(journal.read_bytes()[:-20])  # as a full disk leaves it
    for _ in range(2):
        assert trainlab("train", *short, *space).code == 0
        assert len(pd.read_csv(answer.path / "search.csv")) == 2


def test_a_folder_that_cannot_be_made_is_told_by_every_storage(trainlab, folder):
    (folder / "afile").write_text("")
    for storage in ("memory", "sqlite", "journal"):
        answer = trainlab(
            "train", "search=random", "optimizer.lr=interval(1e-3,1e-1)", "output_dir=afile",
            f"search.storage={storage}",
        )  # fmt: skip
        assert answer.code == 2
        assert "afile is a file, which is in the way" in answer.err
        assert "choose another place (output_dir=" in answer.err


def test_a_descent_with_no_step_to_take_says_so(trainlab):
    answer = trainlab("train", "search=gradient", "max_examples=200", "epochs=1")
    assert answer.code == 0
    assert "train for more epochs, or unroll fewer" in answer.err
