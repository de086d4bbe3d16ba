import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from trainlab import table


@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_the_interval_is_students_t(n):
    values = np.random.default_rng(n).normal(3, 2, n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    mean, half = table.interval(values)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_one_run_has_no_interval():
    mean, half = table.interval([0.5])
    assert mean == 0.5
    assert math.isnan(half)


@pytest.fixture
def sweep(trainlab):
    answer = trainlab(
        "train", "-m", "-q", "epochs=2", "max_examples=300", "optimizer=sgd,adam", "seed=range(3)"
    )
    assert answer.code == 0
    return answer


def test_runs_csv_has_the_varied_keys_first_then_the_results(sweep):
    with open(sweep.path / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["optimizer", "run_id", "status", "seed"]
    assert sorted((row["optimizer"], row["seed"]) for row in rows) == [
        (name, str(seed)) for name in ("adam", "sgd") for seed in range(3)
    ]
    for row in rows:
        result = json.loads((sweep.path / row["run_id"] / "result.json").read_text())
        assert float(row["test_accuracy"]) == result["test_accuracy"]


def test_summary_has_mean_interval_and_n_best_first(sweep):
    entries = table.find_runs(sweep.path)
    summary = table.summarize(entries)
    assert [row["optimizer"] for row in summary] == ["adam", "sgd"]
    for row in summary:
        values = [
            e["result"]["val_accuracy"]
            for e in entries
            if e["config"]["optimizer"] == row["optimizer"]
        ]
        assert row["n"] == 3
        assert (row["val_accuracy"], row["val_accuracy_ci95"]) == pytest.approx(
            table.interval(values)
        )


def test_the_verb_prints_a_table_csv_and_json(sweep, trainlab):
    shown = trainlab("table").out
    assert "adam" in shown
    assert "±" in shown
    rows = list(csv.DictReader(trainlab("table", "outputs", "--csv").out.splitlines()))
    objects = json.loads(trainlab("table", "--json").out)
    assert [row["run_id"] for row in rows] == [entry["run_id"] for entry in objects]
    accuracies = [entry["val_accuracy"] for entry in objects]
    assert accuracies == sorted(accuracies, reverse=True)


def test_damaged_and_foreign_files_are_passed_over(sweep, trainlab):
    runs = sorted(path for path in sweep.path.iterdir() if path.is_dir())
    (runs[0] / "status.json").write_text('{"run_id": ')
    (runs[1] / "status.json").write_text("[]")
    (sweep.path / "notes").mkdir()
    (sweep.path / "notes" / "status.json").write_text('{"mine": 1}')
    assert len(table.find_runs(sweep.path)) == 4
    assert trainlab("table").code == 0


def test_failed_and_diverged_runs_are_counted(trainlab):
    answer = trainlab(
        "train", "-m", "-q", "epochs=1", "optimizer=momentum", "optimizer.lr=0.01,1e6", "seed=0,1"
    )
    assert answer.code == 0
    rows = table.summarize(table.find_runs(answer.path))
    assert [(row["n"], row["not_done"]) for row in rows] == [(2, ""), (0, "2 diverged")]


def test_runs_is_a_data_frame(sweep):
    frame = table.runs("outputs")
    assert len(frame) == 6
    assert frame.val_accuracy.dtype == float


def test_only_settings_that_decide_a_result_are_columns(trainlab):
    trainlab("train", "-q", "epochs=1", "device=cpu", "optimizer=sgd")
    trainlab("train", "-q", "epochs=2", "quiet=true", "study=other", "optimizer=sgd")
    assert table.varied(table.find_runs(Path("outputs"))) == ["study", "epochs"]


def test_what_was_typed_stays_and_what_is_unknown_comes_last(trainlab):
    sweep = ("train", "-m", "-q", "max_examples=300", "dataset=diabetes,digits,moons")
    answer = trainlab(*sweep, "stop=early", "stop.patience=1", "epochs=30,40")
    entries = table.find_runs(answer.path)
    assert sorted(row["epochs"] for row in table.rows(entries)) == [30] * 3 + [40] * 3
    accuracies = [row["val_accuracy"] for row in table.summarize(entries)]
    known = [value for value in accuracies if not math.isnan(value)]
    assert known == sorted(known, reverse=True)
    assert all(math.isnan(value) for value in accuracies[len(known) :])


def test_maps_are_settings_like_others(trainlab):
    typed = ["lr_multipliers={1.*:0},{3.*:0.5},null", "epochs=1", "max_examples=100"]
    answer = trainlab("train", "-m", *typed)
    grid = pd.DataFrame(table.rows(table.find_runs(answer.path)))
    assert grid["lr_multipliers"].astype(str).nunique(dropna=False) == 3
    assert answer.err.count("│ 1 │") == 3  # n


def test_settings_named_like_metrics_are_no_metrics(trainlab):
    short = ("dataset=iris", "arch=linear", "epochs=1")
    answer = trainlab("train", "-m", "val_fraction=0.1,0.3", *short)
    assert answer.code == 0
    assert "val_fraction" in answer.err


def test_numbers_are_never_cut_in_a_narrow_terminal(trainlab, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    sweep = ("-m", "seed=0,1", "optimizer=adam,sgd", "dataset=iris", "arch=linear", "epochs=1")
    shown = trainlab("train", *sweep, "reg.weight_decay=0.001,0.01").err
    table = [line for line in shown.splitlines() if "│" in line]
    assert len(table) > 4
    assert not any("…" in line for line in table)
