"""`trainlab eval`: what a run left gives the run's own metrics again, also on other data."""

import json
import math
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from trainlab import data, fit
from trainlab.config import compose
from trainlab.finished import Finished
from trainlab.prepare import build_model
from trainlab.stack import Stack
from trainlab.step import recipe_of

TYPED = ["epochs=3", "max_examples=300"]


@pytest.mark.parametrize(
    "recipe",
    [
        ["norm=batch"],
        ["preprocess=pca_whiten", "preprocess.pca_whiten.components=20"],
        ["preprocess=[minmax,zca_whiten]", "arch=cnn"],
        ["dataset=diabetes"],
        ["act=prelu", "norm=weight", "reg=dropout"],
        ["optimizer=schedule_free"],
    ],
    ids=lambda recipe: "+".join(recipe),
)
def test_gives_the_metrics_of_the_run(trainlab, recipe):
    run = trainlab("train", *TYPED, *recipe)
    assert run.code == 0, run.err
    answer = trainlab("eval", str(run.path), "--json")
    assert answer.code == 0, answer.err
    splits = json.loads(answer.out)
    assert list(splits) == ["train", "val", "test"]
    for split in ("val", "test"):
        for name, value in splits[split].items():
            assert value == pytest.approx(run.result[f"{split}_{name}"], rel=1e-4), (split, name)


def test_an_online_run_is_scored_where_it_was_best(trainlab):
    """The window after the one that the best weights had learnt, not just the second."""
    typed = ["dataset=drift", "online=true", "arch=linear", "batch_size=10", "epochs=8"]
    run = trainlab("train", "-q", *typed)
    assert run.result["best_epoch"] > 1
    splits = json.loads(trainlab("eval", str(run.path), "--json").out)
    for split in ("val", "test"):
        for name, value in splits[split].items():
            assert value == pytest.approx(run.result[f"{split}_{name}"], rel=1e-6), (split, name)
    best = run.result["best_epoch"]
    said = f"train, val and test are windows {best}, {best + 1} and 10 of 10"
    assert said in trainlab("eval", str(run.path)).out


@pytest.mark.parametrize(
    "recipe", [["dataset=diabetes"], ["dataset=toy_corpus", "arch=skipgram"]], ids=" ".join
)
def test_a_task_without_a_report_says_so(trainlab, recipe):
    run = trainlab("train", "-q", *TYPED, *recipe)
    answer = trainlab("eval", str(run.path), "--report")
    assert answer.code == 0
    assert "no report per class" in answer.out
    assert "loss" in answer.out
    answer = trainlab("eval", str(run.path), "--report", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["report"] == {"train": {}, "val": {}, "test": {}}


def test_json_has_no_nan(trainlab):
    """Of a single example r2 is not defined."""
    run = trainlab("train", "-q", *TYPED, "dataset=diabetes")
    answer = trainlab("eval", str(run.path), "max_examples=5", "--json")
    assert json.loads(answer.out, parse_constant=pytest.fail)["test"]["r2"] is None


@pytest.mark.parametrize(
    "recipe", [[], ["dataset=shapes", "arch=unet", "arch.depth=1", "arch.base=4"]], ids=" ".join
)
def test_reports_are_summed_over_batches(monkeypatch, recipe):
    """No outputs are kept but those of the batch at hand, unless a metric needs all of a split; the
    report is that of one large batch."""
    config = compose([*recipe, "max_examples=90"])
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    stack = Stack([build_model(config, examples)], torch.device("cpu"))
    recipe = recipe_of([config], stack, examples)
    whole = fit.evaluate(stack, examples, "train", recipe, report=True)
    outputs, alive, sums = [], [], recipe.task.sums

    def watched(output, losses, y):
        outputs.append(weakref.ref(output))
        alive.append(sum(reference() is not None for reference in outputs))
        return sums(output, losses, y)

    monkeypatch.setattr(recipe.task, "sums", watched)
    monkeypatch.setattr(fit, "_EVALUATED_NUMBERS", 10 * math.prod(examples.shape))
    parts = fit.evaluate(stack, examples, "train", recipe, report=True)
    assert alive == (list(range(1, 8)) if recipe.task.extra else [1] * 7)
    assert parts == whole
    assert "confusion" in parts[1][0]


def test_other_data_go_through_the_preprocessing_of_the_training_split(trainlab):
    """Inputs moved far away must stay far away: fitting anew would bring them back."""
    run = trainlab("train", "dataset=moons", "dataset.noise=0.05", "epochs=5")
    easy = json.loads(trainlab("eval", str(run.path), "--json").out)["test"]
    noisy = trainlab("eval", str(run.path), "dataset.noise=1.5", "--json")
    assert json.loads(noisy.out)["test"]["accuracy"] < easy["accuracy"] - 0.1


def test_a_table_for_people(trainlab):
    run = trainlab("train", *TYPED)
    answer = trainlab("eval", str(run.path))
    assert answer.code == 0
    assert all(word in answer.out for word in ("metric", "train", "val", "test", "accuracy"))


def test_errors_of_one_paragraph(trainlab, folder):
    run = trainlab("train", *TYPED)
    for arguments, says in [
        ([], "Usage: trainlab eval RUN"),
        (["nowhere"], "nowhere is no run"),
        ([str(run.path), "dataset=moons"], "these data have upper as well"),
        ([str(run.path), "--what"], "Usage"),
    ]:
        answer = trainlab("eval", *arguments)
        assert answer.code == 2
        assert says in answer.err
        assert len(answer.err.splitlines()) == 1
    (run.path / "checkpoints" / "best.pt").unlink()
    assert "no weights to evaluate" in trainlab("eval", str(run.path)).err


def test_a_foreign_runs_folder_runs_no_code_of_its_own(trainlab, folder):
    run = trainlab("train", *TYPED)
    file = run.path / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["act"] = {"_target_": "subprocess.getoutput", "cmd": f"touch {folder}/pwned"}
    config["trusted"] = ["subprocess"]
    config["overrides"] += ["trusted=[subprocess]"]
    file.write_text(yaml.safe_dump(config))
    answer = trainlab("eval", str(run.path))
    assert answer.code == 2
    assert "none of trainlab's for act" in answer.err
    assert not (folder / "pwned").exists()


def test_damaged_files_and_settings_that_are_fixed(trainlab):
    run = trainlab("train", *TYPED)
    assert "only these can be set" in trainlab("eval", str(run.path), "seed=5").err
    for name in ("data", "best"):
        file = run.path / "checkpoints" / f"{name}.pt"
        intact = file.read_bytes()
        file.write_bytes(b"nonsense")
        assert f"{name}.pt is damaged" in trainlab("eval", str(run.path)).err
        torch.save([name], file)  # an intact file of something else
        assert f"{name}.pt is damaged" in trainlab("eval", str(run.path)).err
        file.write_bytes(intact)
    for text, says in [
        ("[]", "holds no settings"),
        ("overrides: []", "is no config of a run"),
        ("a: [1", "is damaged: it is no YAML"),
    ]:
        (run.path / "config.yaml").write_text(text)
        assert says in trainlab("eval", str(run.path)).err


def test_another_table_keeps_the_runs_codes_and_classes(trainlab, folder):
    """Other order of columns, fewer categories and classes: the same rows, the same predictions."""
    rows = [("Rome", 1, "no"), ("Oslo", 2, "yes"), ("Bern", 3, "maybe"), ("Oslo", 5, "no")] * 12
    table = pd.DataFrame(rows, columns=["city", "size", "bought"])
    table["size"] += np.arange(len(table)) % 7
    table.to_csv(folder / "train.csv", index=False)
    few = table[table["city"] != "Bern"][["size", "bought", "city"]]
    few.to_csv(folder / "few.csv", index=False)
    run = trainlab(
        "train", "dataset=csv", "dataset.path=train.csv", "dataset.target=bought", "epochs=3"
    )
    assert run.code == 0, run.err
    answer = trainlab("eval", str(run.path), "dataset.path=few.csv", "--json")
    assert answer.code == 0, answer.err
    scores = json.loads(answer.out)
    call = ["predict", str(run.path), "--input", "few.csv", "--output", "out.csv"]
    assert trainlab(*call).code == 0
    right = pd.read_csv(folder / "out.csv")["prediction"].to_numpy() == few["bought"].to_numpy()
    assert scores["all"]["accuracy"] == pytest.approx(right.mean())
    reported = trainlab("eval", str(run.path), "--data", "few.csv", "--report")
    assert "split all" in reported.out
    assert f"{scores['all']['accuracy']:.4f}" in reported.out
    assert "There is no dataset=fw.csv" in trainlab("eval", str(run.path), "--data", "fw.csv").err
    pd.concat([few, few.assign(bought="never")]).to_csv(folder / "new.csv", index=False)
    assert "have never as well" in trainlab("eval", str(run.path), "dataset.path=new.csv").err
    few[["size", "bought"]].to_csv(folder / "less.csv", index=False)
    assert "no column city" in trainlab("eval", str(run.path), "dataset.path=less.csv").err


@pytest.mark.parametrize(
    ("typed", "other", "says"),
    [
        (["dataset=diabetes"], "dataset=iris", "has learnt regression"),
        (["dataset=toy_corpus", "arch=skipgram"], "dataset.sentences=40", "another vocabulary"),
        (["dataset=tags", "arch=multi_label"], "dataset=digits", "has learnt multi_label"),
    ],
)
def test_data_of_another_kind_are_refused(trainlab, typed, other, says):
    run = trainlab("train", "-q", *typed, "epochs=1", "max_examples=150")
    assert run.code == 0, run.err
    answer = trainlab("eval", str(run.path), other)
    assert answer.code == 2
    assert says in answer.err


def test_a_run_cannot_say_whom_it_trusts(trainlab):
    run = trainlab("train", *TYPED)
    file = run.path / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["overrides"] += ["++trusted=[os]"]
    file.write_text(yaml.safe_dump(config))
    assert Finished.open(run.path).config["trusted"] == []
    assert Finished.open(run.path, ["trusted=[mine]"]).config["trusted"] == ["mine"]
