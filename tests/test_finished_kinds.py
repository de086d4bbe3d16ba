"""Eval, predict and export of every task from every kind of data agree with training."""

import json
import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from trainlab import cli, finished
from trainlab.finished import Finished

ROWS = 36


def table(**targets):
    """A table with a number, a category and a gap, and these targets."""
    rows = np.arange(ROWS)
    columns = {"a": rows * 7 % 11 + 0.5, "town": np.array(["Rome", "Oslo", "Bern"])[rows % 3]}
    frame = pd.DataFrame(columns | targets)
    frame.loc[4, "a"] = np.nan
    return frame


def tables():
    rows = np.arange(ROWS)
    two, three = rows % 2, rows % 3
    targets = {
        "text": np.array(["no", "yes"])[two], "truth": two == 1, "number": two, "three": three,
        "words": np.array(["red", "01", "true"])[three], "size": rows / 7, "weight": rows**1.5,
    }  # fmt: skip
    return {name: table(**{name: values}) for name, values in targets.items()} | {
        "both": table(size=targets["size"], weight=targets["weight"])
    }


CSV = {  # name -> the table, its target, and what else is typed
    "csv, binary of texts": ("text", "text", ""),
    "csv, binary of truth values": ("truth", "truth", ""),
    "csv, binary of numbers": ("number", "number", ""),
    "csv, binary as it is told": ("number", "number", "dataset.task=binary"),
    "csv, two classes as it is told": ("number", "number", "dataset.task=classification"),
    "csv, an ensemble": ("number", "number", "arch=ensemble arch.members=2"),
    "csv, classes of numbers": ("three", "three", ""),
    "csv, classes of texts": ("words", "words", ""),
    "csv, regression": ("size", "size", ""),
    "csv, regression of classes": ("number", "number", "dataset.task=regression"),
    "csv, two targets": ("both", "[size,weight]", ""),
    "csv, reconstruction": ("three", "three", "arch=autoencoder arch.code=2"),
}


def arrays():
    draw, rows = np.random.default_rng(0), np.arange(ROWS)
    flat, images = draw.normal(size=(ROWS, 4)), draw.normal(size=(ROWS, 1, 8, 8))
    return {
        "npz, classes": (flat, rows % 3, ""),
        "npz, binary": (flat, rows % 2, ""),
        "npz, binary of texts": (flat, np.array(["no", "yes"])[rows % 2], ""),
        "npz, labels": (flat, draw.integers(0, 2, (ROWS, 3)), ""),
        "npz, regression": (flat, flat[:, 0] + 0.5, ""),
        "npz, two targets": (flat, flat[:, :2], ""),
        "npz, segmentation": (
            images, (images[:, 0] > 0).astype(int), "arch=unet arch.depth=1 arch.base=2"
        ),
        "npz, reconstruction": (flat, rows % 3, "arch=autoencoder arch.code=2"),
    }  # fmt: skip


IMAGES = {"images, classes": 3, "images, binary": 2}
OWN = {  # data that trainlab brings
    "text, words": "dataset=text dataset.path=some.txt dataset.min_count=1 arch=skipgram",
    "embedded, classes": "dataset=iris",
    "embedded, binary": "dataset=breast_cancer max_examples=60",
    "embedded, regression": "dataset=diabetes max_examples=60",
    "generated, binary": "dataset=moons dataset.examples=40",
    "generated, labels": "dataset=tags max_examples=60",
    "generated, pixels": "dataset=shapes dataset.examples=30 arch=unet arch.depth=1 arch.base=2",
    "generated, words": "dataset=toy_corpus max_examples=60 arch=cbow",
    "generated, reconstruction": "dataset=blobs max_examples=40 arch=autoencoder arch.code=2",
}


def prepared(kind, home):
    """Write the data of a kind below `home`: what is typed, the same data in another order, a file
    to predict, and its targets where they are columns."""
    if kind in CSV:
        name, target, typed = CSV[kind]
        frame = tables()[name]
        frame.to_csv(home / "own.csv", index=False)
        other = frame.sample(frac=1, random_state=0)
        other.iloc[:, ::-1].to_csv(home / "other.csv", index=False)
        names = target.strip("[]").split(",")
        other.drop(columns=names).to_csv(home / "in.csv", index=False)
        typed = f"dataset=csv dataset.path={home}/own.csv dataset.target={target} {typed}"
        return typed, "other.csv", "in.csv", other[names].to_numpy()
    if kind in IMAGES:
        for i in range(ROWS):
            place = home / "own" / "uvw"[i % IMAGES[kind]] / f"{i:02d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 40 * (i % 5)).save(place)
        (home / "other").symlink_to(home / "own")
        typed = f"dataset=image_folder dataset.path={home}/own dataset.size=8 dataset.channels=1"
        targets = sorted((home / "own").glob("*/*.png"))
        return typed, "other", "own", np.array([[file.parent.name] for file in targets])
    if kind in OWN:
        (home / "some.txt").write_text("the cat sat on the mat and the dog sat too\n" * 8)
        return OWN[kind].replace("some.txt", f"{home}/some.txt"), None, None, None
    x, y, typed = arrays()[kind]
    np.savez(home / "own.npz", x=x, y=y)
    np.savez(home / "other.npz", x=x[::-1], y=y[::-1])
    targets = y[::-1] if y.ndim < 3 else None
    typed = f"dataset=npz dataset.path={home}/own.npz {typed}"
    return typed, "other.npz", "other.npz", targets


FILES = [*CSV, *arrays(), *IMAGES]


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    """A run on data of a kind: trained once for all tests."""
    home, said = tmp_path_factory.mktemp("kind"), StringIO()
    typed, other, inputs, targets = prepared(request.param, home)
    before = os.getcwd()
    os.chdir(home)
    try:
        with redirect_stdout(said):
            assert cli.main(["train", "-q", "epochs=2", "seed=1", *typed.split()]) == 0
    finally:
        os.chdir(before)
    run = home / said.getvalue().splitlines()[-1]
    result = json.loads((run / "result.json").read_text())
    return SimpleNamespace(
        run=run, result=result, targets=targets, own=home / f"own{Path(other or '').suffix}",
        other=home / (other or ""), inputs=home / (inputs or ""),
    )  # fmt: skip


def scores(trainlab, run, *typed):
    answer = trainlab("eval", str(run), *typed, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def predictions(trainlab, trained, output):
    typed = ["--input", str(trained.inputs), "--output", output]
    answer = trainlab("predict", str(trained.run), *typed)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("trained", [*FILES, *OWN], indirect=True)
def test_eval_repeats_the_result(trained, trainlab):
    """Each metric of each split that result.json has, and its report wherever it has one."""
    found = scores(trainlab, trained.run, "--report")
    assert list(found["metrics"]) == ["train", "val", "test"]
    for split in ("val", "test"):
        for name, value in found["metrics"][split].items():
            known = trained.result[f"{split}_{name}"]
            assert value is known is None or value == pytest.approx(known, rel=1e-4, abs=1e-6), name
    for name in ("classes", "confusion", "support"):
        assert found["report"]["test"].get(name) == trained.result.get(name)


@pytest.mark.parametrize("trained", FILES, indirect=True)
def test_predictions_are_those_that_eval_scores(trained, trainlab, folder):
    """Also where rows and columns have another order than in training."""
    found = scores(trainlab, trained.run, "--data", str(trained.other))
    assert list(found) == ["all"]
    found = found["all"]
    if trained.targets is None or "explained" in found:
        (trained.own.parent / f"copy{trained.own.suffix}").symlink_to(trained.own)
        copy = str(trained.own.parent / f"copy{trained.own.suffix}")
        assert scores(trainlab, trained.run, "--data", copy)["all"] == pytest.approx(found)
        predictions(trainlab, trained, "out.npz")
        with np.load("out.npz") as arrays:
            assert len(arrays["outputs"]) == ROWS
        return
    predictions(trainlab, trained, "out.csv")
    out = pd.read_csv("out.csv", dtype={"prediction": str})
    targets = trained.targets.reshape(len(out), -1)
    if "exact_match" in found:
        right = (out[list("012")].to_numpy() == targets).all(1).mean()
        assert right == pytest.approx(found["exact_match"])
    elif "accuracy" in found:
        right = (out["prediction"] == targets[:, 0].astype(str)).mean()
        assert right == pytest.approx(found["accuracy"])
    else:
        error = np.abs(out.filter(like="prediction").astype(float).to_numpy() - targets).mean()
        assert error == pytest.approx(found["mae"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("trained", FILES, indirect=True)
def test_exports_give_the_outputs_of_predict(trained, trainlab, folder):
    predictions(trainlab, trained, "out.npz")
    answer = trainlab("export", str(trained.run), "--format", "torch-export")
    assert answer.code == 0, answer.err
    run = Finished.open(trained.run)
    raw = torch.from_numpy(finished._inputs(trained.inputs, run)[0]).float()
    outputs = torch.export.load(trained.run / "model.pt2").module()(raw)
    with np.load("out.npz") as arrays:
        np.testing.assert_allclose(outputs.detach(), arrays["outputs"], rtol=1e-4, atol=1e-5)
