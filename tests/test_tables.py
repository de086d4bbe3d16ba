"""From run folders to tables: what is read, grouped, ranked, compared, and how it is written."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import trainlab as package
from trainlab.config import UserError
from trainlab.tables import compare, effects, forms, recipes, runs, statistics, where

# ---------------------------------------------------------------- real runs


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


def test_a_sweep_summarized(sweep):
    entries = runs.find_runs(sweep.path).runs
    (summary,) = recipes.summaries(entries)
    assert (summary.keys, summary.metric, summary.second) == (
        ["optimizer"], "val_accuracy", "test_accuracy",
    )  # fmt: skip
    assert [recipe.settings["optimizer"] for recipe in summary.recipes] == ["adam", "sgd"]
    for recipe in summary.recipes:
        of_it = [e for e in entries if e.config["optimizer"] == recipe.settings["optimizer"]]
        expected = {e.config["seed"]: e.result["val_accuracy"] for e in of_it}
        assert recipe.numbers["val_accuracy"] == expected


def test_the_verb_prints_a_table_csv_and_json(sweep, trainlab):
    shown = trainlab("table").out
    assert "adam" in shown
    assert "±" in shown
    rows = list(csv.DictReader(trainlab("table", "outputs", "--csv").out.splitlines()))
    objects = json.loads(trainlab("table", "--json").out)
    assert [row["run_id"] for row in rows] == [entry["run_id"] for entry in objects]
    accuracies = [entry["val_accuracy"] for entry in objects]
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_library_gives_a_typed_data_frame(sweep):
    frame = package.table("outputs")
    assert len(frame) == 6
    assert frame.val_accuracy.dtype == float
    assert frame.seed.dtype == "Int64"
    assert frame.optimizer.dtype == "string"
    assert list(frame.columns)[:4] == ["optimizer", "run_id", "status", "seed"]
    assert frame.folder.map(lambda path: (Path(path) / "result.json").is_file()).all()
    assert len(package.table("outputs", where="optimizer==adam and seed<2")) == 2
    everything = package.table("outputs", settings="all")
    assert everything["batch_size"].dtype == "Int64"
    assert everything["quiet"].dtype == "boolean"
    assert set(everything["optimizer.lr"]) == {0.01, 0.001}
    with pytest.raises(ValueError, match="no folder nowhere"):
        package.table("nowhere")
    with pytest.raises(AttributeError):
        package.tabel  # noqa: B018


def test_failed_and_diverged_runs_are_counted(trainlab):
    answer = trainlab(
        "train", "-m", "-q", "epochs=1", "optimizer=momentum", "optimizer.lr=0.01,1e6", "seed=0,1"
    )
    assert answer.code == 0
    (summary,) = recipes.summaries(runs.find_runs(answer.path).runs)
    rows = [(len(r.numbers["val_accuracy"]), r.not_done, r.rank) for r in summary.recipes]
    assert rows == [(2, {}, 1), (0, {"diverged": 2}, None)]
    assert "2 diverged" in trainlab("table").out


def test_only_settings_that_decide_a_result_are_columns(trainlab):
    trainlab("train", "-q", "epochs=1", "device=cpu", "optimizer=sgd")
    trainlab("train", "-q", "epochs=2", "quiet=true", "study=other", "optimizer=sgd")
    assert runs.varied(runs.find_runs("outputs").runs) == ["study", "epochs"]


def test_tasks_have_tables_of_their_own_and_what_is_unknown_comes_last(trainlab):
    sweep = ("train", "-m", "-q", "max_examples=300", "dataset=diabetes,digits,moons")
    answer = trainlab(*sweep, "stop=early", "stop.patience=1", "epochs=30,40")
    entries = runs.find_runs(answer.path).runs
    assert sorted(row["epochs"] for row in runs.rows(entries)) == [30] * 3 + [40] * 3
    found = {summary.metric: summary for summary in recipes.summaries(entries)}
    assert set(found) == {"val_r2", "val_accuracy"}
    assert [r.settings["dataset"] for r in found["val_accuracy"].recipes] in (
        ["digits", "digits", "moons", "moons"],
        ["moons", "moons", "digits", "digits"],
    )
    shown = trainlab("table").out
    assert "val_r2" in shown
    assert "val_accuracy" in shown


def test_maps_are_settings_like_others(trainlab):
    typed = ["lr_multipliers={1.*:0},{3.*:0.5},null", "epochs=1", "max_examples=100"]
    answer = trainlab("train", "-m", *typed)
    grid = pd.DataFrame(runs.rows(runs.find_runs(answer.path).runs))
    assert grid["lr_multipliers"].astype(str).nunique(dropna=False) == 3
    assert answer.err.count("│ 1 │") == 3  # n
    assert "one seed tells nothing apart" in " ".join(answer.err.split())


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


# ---------------------------------------------------------------- what is read


def test_damaged_and_foreign_files_are_told_and_passed_over(leave, trainlab):
    paths = [leave("a", {"act": "relu"}, seed=seed, val=0.9) for seed in range(6)]
    (paths[0] / "status.json").write_text('{"run_id": ')
    (paths[1] / "status.json").write_text("")
    (paths[2] / "status.json").write_bytes(b"\xff\xfe\x00")
    (paths[3] / "result.json").write_text('{"val_acc')
    (paths[4] / "result.json").unlink()
    mine = Path("outputs/notes/status.json")
    mine.parent.mkdir()
    mine.write_text('{"mine": 1}')
    found = runs.find_runs("outputs")
    assert [run.folder.name for run in found.runs] == [paths[5].name]
    reasons = {path.parent.name: why for path, why in found.skipped.items()}
    assert reasons == {
        paths[0].name: "is cut short or not JSON",
        paths[1].name: "is empty",
        paths[2].name: "is not text in UTF-8",
        paths[3].name: "is cut short or not JSON",
        paths[4].name: "is missing",
        "notes": "is not a run's",
    }
    answer = trainlab("table")
    assert answer.code == 0
    assert answer.err.count("skipped: ") == 6
    assert trainlab("table", "nowhere").code == 2
    Path("empty").mkdir()
    assert "no runs below empty" in trainlab("table", "empty").err


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": {"seed": None}}, "has no seed"),
        ({"config": {"seed": "7"}}, "has no seed"),
        ({"config": 3}, "has no config"),
        ({"overrides": [1, 2]}, "has overrides that are no texts"),
        ({"reason": ["x"]}, "has a reason that is no text"),
        ({"run_id": 7}, "is not a run's"),
    ],
)
def test_what_is_no_run_is_told(leave, trainlab, changes, why):
    run = leave("a", {}, val=0.9)
    leave("a", {"act": "gelu"}, val=0.8)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | changes))
    answer = trainlab("table")
    assert answer.code == 0
    assert f"status.json {why}" in answer.err


def test_links_are_followed_and_each_run_counts_once(leave, folder):
    run = leave("a", {}, val=0.9)
    (folder / "links").mkdir()
    (folder / "links" / "a").symlink_to(folder / "outputs" / "a")
    (folder / "links" / "loop").symlink_to(folder / "links")
    assert [entry.folder.name for entry in runs.find_runs("links").runs] == [run.name]
    assert len(runs.find_runs("links", "outputs", "./outputs/a", run).runs) == 1


def test_a_run_is_found_once_and_not_looked_into(leave):
    run = leave("a", {}, val=0.9)
    inside = run / "tensorboard" / "x"
    inside.mkdir(parents=True)
    (inside / "status.json").write_text("{}")
    found = runs.find_runs("outputs")
    assert len(found.runs) == 1
    assert not found.skipped


def test_a_default_that_was_changed_between_two_sweeps_is_a_column(leave):
    leave("a", {"act": "relu", "optimizer.lr": 0.1}, val=0.9)
    leave("a", {"act": "gelu", "optimizer.lr": 0.1}, val=0.9)
    entries = runs.find_runs("outputs").runs
    assert runs.varied(entries) == ["act"]
    changed = entries[0]._replace(config=entries[0].config | {"batch_size": 64})
    assert runs.varied([*entries, changed]) == ["act", "batch_size"]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("act==gelu", [2, 3]),
        ("act!=gelu and seed>=1", [1]),
        ("optimizer.lr<0.05", [0, 2]),
        ("act in relu,tanh", [0, 1]),
        ("act in (relu, gelu) and optimizer.lr == 1e-1", [1, 3]),
        ("arch.hidden==[100,50]", [3]),
        ("arch.hidden in [100,50],[10]", [0, 1, 2, 3]),
        ("val_accuracy>0.85", [2, 3]),
        ("status==done", [0, 1, 2, 3]),
        ("act=='gelu' and seed==3", [3]),
        ("name=='rock and roll' and seed<2", [0]),
        ("name=='a & b'", [1]),
    ],
)
def test_where(leave, text, seeds):
    for seed in range(4):
        settings = {"act": "relu" if seed < 2 else "gelu", "optimizer.lr": [0.01, 0.1][seed % 2]}
        hidden = [100, 50] if seed == 3 else [10]
        settings |= {"arch.hidden": hidden, "name": ["rock and roll", "a & b", None, None][seed]}
        leave("a", settings, seed=seed, val=0.8 if seed < 2 else 0.9)
    found = where.matching(runs.find_runs("outputs").runs, text)
    assert [entry.config["seed"] for entry in found] == seeds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("act=gelu", "Conditions look like"),
        ("act==", "Conditions look like"),
        ("__import__('os')", "Conditions look like"),
        ("atc==gelu", "Did you mean act?"),
        ("act==swish", "No run meets"),
        ("act==relu or act==gelu", "act in relu,gelu"),
        ("act==relu,gelu", "act in relu,gelu"),
        ("val_accuracy>60%", "is between numbers"),
        ("act>=relu", "is between numbers"),
    ],
)
def test_conditions_that_cannot_be_met_or_read(leave, trainlab, text, told):
    leave("a", {"act": "relu"}, val=0.9)
    answer = trainlab("table", "--where", text)
    assert answer.code == 2
    assert told in answer.err


def test_a_seed_that_is_a_truth_value_is_none(leave):
    leave("a", {}, seed=True, val=0.9)
    assert list(runs.find_runs("outputs").skipped.values()) == ["has no seed"]


def test_quotes_in_conditions(leave, trainlab):
    for seed, name in enumerate(("don't", "x,y", "z")):
        leave("a", {"name": name}, seed, val=0.9)

    def seeds(text):
        found = where.matching(runs.find_runs("outputs").runs, text)
        return [entry.config["seed"] for entry in found]

    assert seeds('act==relu and name=="don\'t"') == [0]
    assert seeds("name in 'x,y',z") == [1, 2]
    told = trainlab("table", "--where", "act==relu and name==don't").err
    assert "a quote that does not end" in told


def test_a_condition_of_compare_is_no_option(leave, trainlab):
    leave("a", {"optimizer": "adam"}, val=0.9)
    for typed in ("optimizer=adam", "optimiser==adam"):
        answer = trainlab("compare", typed, "optimizer==sgd")
        assert answer.code == 2
        assert typed in answer.err
        assert "--where" not in answer.err


# ---------------------------------------------------------------- recipes


def grid(leave, values, study="a"):
    """Runs of some recipes: {(optimizer, act): numbers of seeds 0, 1, …}."""
    for (optimizer, act), numbers in values.items():
        for seed, value in enumerate(numbers):
            leave(study, {"optimizer": optimizer, "act": act}, seed=seed, val=value)


def test_ranks_are_shared_by_what_cannot_be_told_apart(leave, trainlab):
    noise = np.random.default_rng(0).normal(0, 0.002, (3, 6))
    grid(leave, {
        ("adam", "relu"): 0.95 + noise[0], ("adam", "gelu"): 0.95 + noise[1],
        ("sgd", "relu"): 0.7 + noise[2],
    })  # fmt: skip
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    assert [recipe.rank for recipe in summary.recipes] == [1, 1, 3]
    assert summary.recipes[2].settings == {"optimizer": "sgd", "act": "relu"}
    shown = trainlab("table").out
    assert "recipes of one rank cannot be" in shown
    assert "│    3 │ sgd" in shown


def test_a_finished_run_without_its_number_is_counted(leave, trainlab):
    leave("a", {"act": "relu"}, 0, val=0.9)
    run = leave("a", {"act": "relu"}, 1, val=0.8)
    result = json.loads((run / "result.json").read_text()) | {"val_accuracy": None}
    (run / "result.json").write_text(json.dumps(result))
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    assert summary.recipes[0].not_done == {"without val_accuracy": 1}
    assert "1 without" in trainlab("table").out


def test_by_pools_and_says_so(leave, trainlab):
    grid(
        leave,
        {("adam", "relu"): [0.9, 0.8], ("adam", "gelu"): [0.7, 0.6], ("sgd", "relu"): [0.5, 0.5]},
    )
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs, by=["optimizer"])
    adam = summary.recipes[0]
    assert adam.numbers["val_accuracy"] == pytest.approx({0: 0.8, 1: 0.7})  # a seed counts once
    assert summary.pooled == ["act"]
    assert "its mean over act" in trainlab("table", "--by", "optimizer").out
    assert "Did you mean optimizer?" in trainlab("table", "--by", "optimiser").err
    assert "no run has it. Did you mean val_loss?" in trainlab("table", "--metric", "val_los").err


def test_who_ranks_by_the_test_split_is_warned(leave, trainlab):
    leave("a", {"act": "relu"}, val=0.9, test=0.1)
    leave("a", {"act": "gelu"}, val=0.8, test=0.2)
    answer = trainlab("table", "--metric", "test_accuracy")
    assert "warning: ranked by test_accuracy" in answer.err
    assert "--metric val_accuracy" in answer.err
    assert answer.out.index("gelu") < answer.out.index("relu")
    for verb in ("effects", "plot"):
        assert "warning: ranked by" in trainlab(verb, "--metric", "test_accuracy").err
    plain = trainlab("table")
    assert not plain.err
    assert plain.out.index("relu") < plain.out.index("gelu")
    assert "0.1000" in plain.out


def test_each_dataset_is_a_contest_of_its_own(leave):
    for dataset, best in (("iris", 0.99), ("wine", 0.6)):
        for act, less in (("relu", 0.0), ("gelu", 0.3)):
            for seed in range(5):
                noise = 0.001 * seed * (1 if act == "relu" else -1)
                settings = {"dataset": dataset, "act": act}
                leave("a", settings, seed=seed, val=best - less + noise)
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    assert [recipe.rank for recipe in summary.recipes] == [1, 2, 1, 2]


def test_csv_cells_are_no_formulas(leave, trainlab):
    leave("a", {"act": "=cmd|' /C calc'!A0", "name": "@x"}, val=0.9)
    leave("a", {"act": "-1", "name": "+1e3"}, val=-0.5, metric="r2")
    rows = list(csv.DictReader(trainlab("table", "--csv").out.splitlines()))
    assert {row["act"] for row in rows} == {"'=cmd|' /C calc'!A0", "-1"}
    assert {row["name"] for row in rows} == {"'@x", "+1e3"}
    assert "-0.5" in {row["val_r2"] for row in rows}


def test_other_forms(leave, trainlab, folder):
    grid(leave, {("adam", "relu"): [0.9, 0.8], ("sgd", "a|b_c&d"): [0.5, 0.4]})
    text = trainlab("table", "--markdown").out
    assert text.startswith("| rank | optimizer | act | val_accuracy | test_accuracy | n |\n|---|")
    assert r"a\|b_c&d" in text
    text = trainlab("table", "--latex").out
    assert r"a|b\_c\&d" in text
    assert r"0.8500 $\pm$ 0.6353" in text
    assert text.count(r"\\") == 3
    assert trainlab("table", "-o", "runs.json").out == "runs.json\n"
    assert len(json.loads((folder / "runs.json").read_text())) == 4
    assert "exclude each other" in trainlab("table", "--csv", "--json").err
    assert trainlab("table", "-o", "no/runs.csv").code == 2
    assert "a table ends in .csv" in trainlab("table", "-o", "runs.doc").err


def test_json_has_no_number_that_is_none(leave, trainlab):
    run = leave("a", {}, val=0.9)
    result = json.loads((run / "result.json").read_text()) | {"val_loss": math.inf}
    (run / "result.json").write_text(json.dumps(result))
    (row,) = json.loads(trainlab("table", "--json").out)
    assert row["val_loss"] is None


def test_options_are_not_given_twice_but_conditions_are_joined(leave, trainlab):
    grid(leave, {("adam", "relu"): [0.9], ("adam", "gelu"): [0.8], ("sgd", "relu"): [0.5]})
    both = ("--where", "optimizer==adam", "--where", "act==relu", "--csv")
    assert len(trainlab("table", *both).out.splitlines()) == 2
    assert "--by is given twice" in trainlab("table", "--by", "act", "--by", "optimizer").err


def test_json_has_none_in_lists_either(leave, trainlab):
    leave("a", {"betas": [math.inf, 0.9]}, val=0.9)
    leave("a", {"betas": [0.8, 0.9]}, val=0.8)
    assert json.loads(trainlab("table", "--json").out)[0]["betas"] == [None, 0.9]


def test_one_option_by_two_names_is_given_twice(leave, trainlab):
    leave("a", {}, val=0.9)
    answer = trainlab("table", "-o", "a.csv", "--output", "b.csv")
    assert "--output is given twice" in answer.err


def test_parquet(leave, trainlab, folder):
    pytest.importorskip("pyarrow")
    grid(leave, {("adam", "relu"): [0.9, 0.8]})
    assert trainlab("table", "--parquet").code == 2
    assert trainlab("table", "-o", "runs.parquet").code == 0
    pd.testing.assert_frame_equal(
        pd.read_parquet("runs.parquet").sort_values("run_id", ignore_index=True),
        package.table("outputs"),
    )


# ---------------------------------------------------------------- compare


def test_compare_pairs_by_seed(leave, trainlab):
    random = np.random.default_rng(0)
    seeds = random.normal(0.8, 0.05, 8)
    grid(leave, {
        ("adam", "relu"): seeds + 0.01 + random.normal(0, 0.002, 8), ("sgd", "relu"): seeds,
    })  # fmt: skip
    verdict = compare.compare(compare.contestants(["optimizer==sgd", "optimizer==adam"], "outputs"))
    (versus,) = verdict.versus
    assert (verdict.best, versus.other) == ("optimizer==adam", "optimizer==sgd")
    assert versus.comparison.paired
    assert versus.apart
    assert verdict.standings[0].chance > 0.99
    answer = trainlab("compare", "optimizer==sgd", "optimizer==adam")
    assert answer.code == 0
    assert "better" in answer.out
    assert "8 of 8" in answer.out
    found = json.loads(trainlab("compare", "outputs/a", "--json").out)
    assert found["best"] == "adam"
    assert found["versus"][0]["p"] == 2 / 2**8
    assert found["versus"][0]["verdict"] == "better"


def test_a_narrow_terminal_gets_a_paragraph_for_each(leave, trainlab, monkeypatch):
    grid(leave, {("adam", "relu"): [0.9, 0.8, 0.7], ("sgd", "relu"): [0.5, 0.4, 0.31]})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    shown = trainlab("compare").out
    assert "adam less sgd: +0.3967" in shown
    assert "better in 3 of 3" in " ".join(shown.split())


def test_three_seeds_are_too_few_however_large_the_difference(leave, trainlab):
    grid(leave, {("adam", "relu"): [0.98, 0.97, 0.98], ("sgd", "relu"): [0.1, 0.1, 0.11]})
    answer = trainlab("compare", "outputs", "--json")
    (versus,) = json.loads(answer.out)["versus"]
    assert versus["p"] == 0.25
    assert versus["verdict"] == "n too small to tell; 6 seeds each at the least"
    assert versus["seeds_able"] == 6


def test_partners_are_alike_in_all_that_both_have(leave):
    grid(leave, {
        ("adam", "relu"): [0.9, 0.91], ("adam", "gelu"): [0.7, 0.71],
        ("sgd", "relu"): [0.8, 0.81], ("sgd", "tanh"): [0.1, 0.11],
    })  # fmt: skip
    found = compare.contestants(["optimizer==adam", "optimizer==sgd"], "outputs")
    (versus,) = compare.compare(found).versus
    assert versus.comparison.paired
    assert versus.comparison.difference == pytest.approx(0.1)  # of relu, which both have
    assert compare.compare(found).left_out == 4


def test_runs_that_differ_only_on_one_side_count_by_their_mean(leave):
    for seed in range(2):
        for rate, value in ((0.1, 0.9), (0.2, 0.7)):
            leave("a", {"optimizer": "adam", "optimizer.lr": rate}, seed, val=value + 0.01 * seed)
        leave("a", {"optimizer": "sgd", "optimizer.lr": 1.0}, seed, val=0.6 + 0.01 * seed)
    found = compare.contestants(["optimizer==adam", "optimizer==sgd"], "outputs")
    verdict = compare.compare(found)
    assert verdict.versus[0].comparison.difference == pytest.approx(0.2)
    assert verdict.left_out == 0
    assert verdict.pooled == ["optimizer.lr"]


def test_the_best_is_chosen_among_what_all_were_run_on(leave, trainlab):
    """Simpson's paradox: sgd is worse on both, and was hardly run on the harder."""
    for seed in range(6):
        for dataset, value in (("iris", 0.7), ("digits", 0.95)):
            adam = {"optimizer": "adam", "dataset": dataset}
            leave("a", adam, seed, val=value + 0.02 + 0.001 * seed)
            if dataset == "digits" or seed < 2:
                leave("a", adam | {"optimizer": "sgd"}, seed, val=value + 0.002 * seed)
    verdict = compare.compare(compare.contestants([], "outputs", by=["optimizer"]))
    assert verdict.best == "adam"
    assert verdict.versus[0].apart
    assert verdict.versus[0].better
    assert verdict.left_out == 4
    shown = trainlab("table", "--by", "optimizer").out
    assert "not all were run with the same dataset" in " ".join(shown.split())
    assert "several datasets" in trainlab("compare").err


def test_tasks_are_not_compared_with_each_other(leave, trainlab):
    for seed in range(2):
        for act in ("relu", "gelu"):
            leave("a", {"act": act, "dataset": "diabetes"}, seed, val=0.4, metric="r2")
            leave("a", {"act": act}, seed, val=0.9 + 0.01 * seed)
    answer = trainlab("compare", "act==relu", "act==gelu")
    assert answer.code == 2
    assert "several tasks" in answer.err
    assert trainlab("compare", "act==relu", "act==gelu", "--metric", "val_accuracy").code == 0


def test_a_recipe_is_not_compared_with_itself(leave, trainlab):
    grid(leave, {("adam", "relu"): [0.9, 0.8], ("sgd", "relu"): [0.5, 0.4]})
    answer = trainlab("compare", "optimizer==adam", "act==relu")
    assert answer.code == 2
    assert "runs in common" in answer.err


def test_many_pairs_and_many_recipes_can_be_told_apart(leave):
    random = np.random.default_rng(5)
    for number in range(8):
        values = 0.5 + 0.05 * number + random.normal(0, 0.002, 25)
        for seed, value in enumerate(values):
            leave("a", {"optimizer.lr": float(number)}, seed, val=float(value))
    verdict = compare.compare(compare.contestants([], "outputs"), of=1000)
    assert all(versus.apart for versus in verdict.versus)


def test_few_common_seeds_make_no_pairs(leave):
    for seed in range(8):
        leave("a", {"act": "relu"}, seed=seed, val=0.9 + 0.01 * seed)
        leave("a", {"act": "gelu"}, seed=seed + 6, val=0.5 + 0.01 * seed)
    (versus,) = compare.compare(compare.contestants([], "outputs")).versus
    assert not versus.comparison.paired
    assert versus.comparison.n == (8, 8)


def test_recipes_without_a_finished_run_are_set_aside(leave, trainlab):
    grid(leave, {("adam", "relu"): [0.9, 0.8], ("sgd", "relu"): [0.5, 0.4]})
    leave("a", {"optimizer": "lion"}, status="failed")
    answer = trainlab("compare")
    assert answer.code == 0
    assert "without two finished seeds: lion" in answer.out


def test_recipes_without_common_seeds_are_compared_unpaired(leave):
    for seed in range(5):
        leave("a", {"act": "relu"}, seed=seed, val=0.9 + 0.01 * seed)
        leave("b", {"act": "gelu"}, seed=10 + seed, val=0.5 + 0.01 * seed)
    verdict = compare.compare(compare.contestants(["outputs/a", "outputs/b"], "outputs"))
    (versus,) = verdict.versus
    assert not versus.comparison.paired
    assert versus.comparison.p == pytest.approx(2 / math.comb(10, 5))
    assert versus.apart
    assert any("not shared" in line for line in compare.explained(verdict))


def test_several_recipes_are_corrected_for_all_pairs(leave):
    random = np.random.default_rng(1)
    values = {("adam", act): 0.9 + random.normal(0, 0.01, 12) for act in ("a", "b", "c")}
    grid(leave, values | {("adam", "d"): 0.5 + random.normal(0, 0.01, 12)})
    verdict = compare.compare(compare.contestants([], "outputs"))
    assert len(verdict.versus) == 3
    worst = verdict.versus[-1]
    assert worst.other == "d"
    assert worst.p == pytest.approx(6 * worst.comparison.p)
    assert any("6 pairs" in line for line in compare.explained(verdict))
    assert sum(standing.chance for standing in verdict.standings) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["outputs", "--by", "optimizer"], "Two recipes with two finished seeds"),
        (["act==relu", "act==tanh"], "There are fewer of: act==relu, act==tanh"),
        (["act==relu", "act==relu"], "named twice"),
        (["act==relu", "outputs/nowhere"], "There is no folder outputs/nowhere"),
        (["act==relu", "act==gelu", "--by", "act"], "are recipes already"),
        (
            ["act==relu", "act==gelu", "--metric", "val_acuracy"],
            "two finished seeds of val_acuracy",
        ),
    ],
)
def test_what_cannot_be_compared(leave, trainlab, arguments, told):
    leave("a", {"act": "relu"}, val=0.9)
    leave("a", {"act": "gelu"}, val=0.8)
    leave("a", {"act": "tanh"}, status="failed")
    answer = trainlab("compare", *arguments)
    assert answer.code == 2
    assert told in answer.err


def entries_of(numbers):
    """Entries of recipes as arrays (recipes, seeds)."""
    return [
        compare.Contestant(str(i), [
            runs.Entry({"seed": seed, "act": str(i)}, [f"act={i}"],
                       {"run_id": "", "status": "done", "seed": seed, "val_accuracy": value},
                       None, Path(str(i), str(seed)))
            for seed, value in enumerate(row.tolist())
        ])
        for i, row in enumerate(numbers)
    ]  # fmt: skip


@pytest.mark.parametrize("paired", [True, False])
def test_compare_finds_differences_where_there_are_none_in_at_most_5_of_100_sweeps(paired):
    random, found = np.random.default_rng(2), 0
    for _ in range(1000):
        seeds = random.normal(0.9, 0.02, (1, 9)) if paired else 0.9
        contestants = entries_of(seeds + random.normal(0, 0.01, (3, 9)))
        if not paired:
            for k, contestant in enumerate(contestants):
                for entry in contestant.runs[:4]:
                    entry.result["seed"] += 100 * k
            contestants = [c._replace(runs=c.runs[:4]) for c in contestants]
        verdict = compare.compare(contestants)
        assert all(versus.comparison.paired is paired for versus in verdict.versus)
        found += any(versus.apart for versus in verdict.versus)
    assert found <= 50


# ---------------------------------------------------------------- effects


def test_effects_of_a_sweep(leave, trainlab):
    random = np.random.default_rng(3)
    grid(leave, {
        (optimizer, act): 0.5 + 0.3 * (optimizer == "adam") + random.normal(0, 0.01, 4)
        for optimizer in ("adam", "sgd") for act in ("relu", "gelu")
    })  # fmt: skip
    found = effects.effects(runs.find_runs("outputs").runs, "val_accuracy")
    assert next(iter(found.choices)) == "optimizer"
    assert found.choices["optimizer"].share > 0.95
    assert found.choices["optimizer"].levels["adam"][0] == pytest.approx(0.15, abs=0.01)
    shown = trainlab("effects").out
    assert "optimizer" in shown
    assert "+0.1" in shown


def test_many_numbers_are_taken_in_four_parts(leave):
    random = np.random.default_rng(4)
    for _ in range(40):
        rate = float(10 ** random.uniform(-4, 0))
        leave("a", {"optimizer.lr": rate}, val=0.9 - 0.1 * abs(math.log10(rate) + 2))
    found = effects.effects(runs.find_runs("outputs").runs, "val_accuracy")
    levels = found.choices["optimizer.lr"].levels
    assert [n for _, _, n in levels.values()] == [10] * 4
    assert found.choices["optimizer.lr"].share > 0.5


def test_effects_of_nothing(leave, trainlab):
    leave("a", {"act": "relu"}, val=0.9)
    answer = trainlab("effects")
    assert answer.code == 2
    assert "nothing to tell" in answer.err


def test_an_interval_is_that_of_the_statistics():
    assert recipes.with_interval(*statistics.interval([0.9, 0.8])) == "0.8500 ± 0.6353"
    assert forms.markdown(["a"], [["x|y"]]).splitlines()[2] == r"| x\|y |"
    with pytest.raises(UserError):
        where.conditions("")
