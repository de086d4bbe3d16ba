"""Every study in experiments/ runs at smoke size."""

import csv

import pytest

from trainlab.config import options


@pytest.mark.parametrize("study", options("experiment"))
def test_runs_at_smoke_size(trainlab, study):
    answer = trainlab("train", f"experiment={study}", "smoke=true")
    assert answer.code == 0, answer.err
    assert answer.path.name == f"{study}-smoke"
    with open(answer.path / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert {row["status"] for row in rows} <= {"done", "diverged"}
    assert len({row["seed"] for row in rows}) <= 2
    assert all(int(row["epochs"]) <= 2 for row in rows)


def test_smoke_shrinks_a_single_run(trainlab):
    answer = trainlab("train", "smoke=true", "epochs=500")
    assert answer.code == 0
    assert answer.result["epochs"] == 2


@pytest.mark.parametrize("line", ["optimizer: adam", "reg: dropout"])
def test_a_study_that_names_an_option_where_its_settings_belong(trainlab, folder, line):
    (folder / "conf" / "experiment").mkdir(parents=True)
    study = folder / "conf" / "experiment" / "mine.yaml"
    study.write_text(f"# @package _global_\n# Which?\n{line}\n")
    answer = trainlab("train", "experiment=mine", "epochs=1")
    assert answer.code == 2
    group = line.partition(":")[0]
    assert f"- override /{group}: " in answer.err
    assert answer.err.count("\n") == 1
