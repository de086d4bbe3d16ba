"""`trainlab predict` and `trainlab export`: a finished run at work outside of trainlab."""

import json

import numpy as np
import onnx.reference
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from trainlab import data, finished, prepare, preprocess
from trainlab.config import compose

RECIPES = {
    "classes": ["norm=batch", "reg=dropout"],
    "two classes": ["dataset=moons", "preprocess=standardize"],
    "numbers": ["dataset=diabetes"],
    "labels": ["dataset=tags", "arch=multi_label"],
    "images": ["arch=cnn", "preprocess=[minmax,zca_whiten]", "norm=group"],
    "ensemble": ["arch=ensemble", "arch.members=3", "arch.hidden=[9]"],
    "pixels": ["dataset=shapes", "arch=unet", "arch.depth=1", "arch.base=4"],
}


@pytest.fixture(params=RECIPES)
def trained(request, trainlab):
    """A run, its data, and the outputs of its best model on all examples."""
    typed = [*RECIPES[request.param], "epochs=2", "max_examples=150"]
    answer = trainlab("train", *typed)
    assert answer.code == 0, answer.err
    config = compose(typed)
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    model = prepare.build_model(config, examples)
    state = torch.load(answer.path / "checkpoints" / "best.pt", weights_only=True)
    model.load_state_dict(state["model"])
    with torch.no_grad():
        outputs = model.eval()(examples.x)
    if examples.task == "regression":  # what leaves trainlab is in the units of the targets
        outputs = outputs * examples.target_scale + examples.target_mean
    return request.param, answer.path, examples, outputs


def test_predictions_are_the_models(trained, trainlab, folder):
    name, path, examples, outputs = trained
    np.savez(folder / "in.npz", x=examples.source)
    call = ["predict", str(path), "--input", "in.npz", "--output"]
    answer = trainlab(*call, "out.npz")
    assert answer.code == 0, answer.err
    with np.load(folder / "out.npz") as found:
        np.testing.assert_allclose(found["outputs"], outputs, rtol=1e-4, atol=1e-5)
    answer = trainlab(*call, "out.csv")
    if name == "pixels":
        assert answer.code == 2
        assert "written as .npz" in answer.err
        return
    table = pd.read_csv(folder / "out.csv", dtype={"prediction": str})
    if name in ("classes", "images", "ensemble"):
        p = outputs.softmax(-1)
        p = (p.mean(1) if name == "ensemble" else p).numpy()
        assert table["prediction"].tolist() == [examples.classes[c] for c in p.argmax(1)]
        np.testing.assert_allclose(table[[f"p_{c}" for c in examples.classes]], p, atol=1e-5)
    elif name == "two classes":
        p = torch.sigmoid(outputs[:, 0]).numpy()
        np.testing.assert_allclose(table["p_lower"], p, atol=1e-5)
        assert ((table["prediction"] == "lower") == (p > 0.5)).all()
    elif name == "labels":
        p = torch.sigmoid(outputs).numpy()
        np.testing.assert_allclose(table[[f"p_{c}" for c in examples.classes]], p, atol=1e-5)
        assert (table[examples.classes].to_numpy() == (p > 0.5)).all()
    else:
        np.testing.assert_allclose(table["prediction"].astype(float), outputs[:, 0], rtol=1e-4)


def test_exported_models_give_the_same_outputs_from_raw_inputs(trained, trainlab):
    _, path, examples, outputs = trained
    raw = torch.from_numpy(examples.source[:5]).float()
    for kind in ("torch-export", "onnx", "safetensors"):
        answer = trainlab("export", str(path), "--format", kind)
        assert answer.code == 0, answer.err
    program = torch.export.load(path / "model.pt2").module()
    torch.testing.assert_close(program(raw), outputs[:5], rtol=1e-4, atol=1e-5)
    session = onnx.reference.ReferenceEvaluator(str(path / "model.onnx"))
    (found,) = session.run(None, {"x": raw.numpy()})
    np.testing.assert_allclose(found, outputs[:5], rtol=1e-3, atol=1e-4)
    best = torch.load(path / "checkpoints" / "best.pt", weights_only=True)["model"]
    weights = load_file(path / "model.safetensors")
    assert weights.keys() == best.keys()
    assert all(torch.equal(weights[name], best[name]) for name in best)


def test_predictions_are_made_batch_by_batch(trainlab, folder, monkeypatch):
    """So memory does not grow with the file; and the result is the same."""
    run = trainlab("train", "-q", "epochs=1", "max_examples=100", "preprocess=standardize")
    np.savez(folder / "in.npz", x=np.random.default_rng(0).integers(0, 17, (150, 1, 8, 8)))
    call = ["predict", str(run.path), "--input", "in.npz", "--output"]
    assert trainlab(*call, "whole.npz").code == 0
    sizes, chain = [], preprocess.Chain.__call__
    monkeypatch.setattr(finished, "_AT_ONCE", 32)
    monkeypatch.setattr(
        preprocess.Chain, "__call__", lambda self, x: sizes.append(len(x)) or chain(self, x)
    )
    assert trainlab(*call, "parts.npz").code == 0
    assert sizes == [1, 32, 32, 32, 32, 22]  # the first tells the shape
    with np.load(folder / "whole.npz") as whole, np.load(folder / "parts.npz") as parts:
        assert len(whole["outputs"]) == 150
        assert (parts["prediction"] == whole["prediction"]).all()
        for name in ("outputs", "p_3"):
            np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6)


def test_arrays_are_called_as_in_training(trainlab, folder):
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.savez(folder / "mine.npz", features=x, label=(x[:, 0] > 0).astype(int), x=-x)
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "other.npz", a=x, b=x)
    typed = "dataset=npz dataset.path=mine.npz dataset.x=features dataset.y=label epochs=2".split()
    call = ["predict", str(trainlab("train", "-q", *typed).path), "--output", "o.csv", "--input"]
    tables = []
    for file in ("mine.npz", "x.npz"):
        answer = trainlab(*call, file)
        assert answer.code == 0, answer.err
        tables.append(pd.read_csv(folder / "o.csv"))
    pd.testing.assert_frame_equal(*tables)
    answer = trainlab(*call, "other.npz")
    assert answer.code == 2
    assert "features or x; it has a, b" in answer.err


@pytest.mark.parametrize("wrong", [54, -2, 1.5, np.nan])
def test_words_out_of_range_are_refused(trainlab, folder, wrong):
    run = trainlab("train", "-q", "dataset=toy_corpus", "arch=skipgram", "epochs=1")
    call = ["predict", str(run.path), "--input", "in.npz", "--output", "out.npz"]
    for words, code in [([[0], [53]], 0), ([[0], [wrong]], 2)]:
        np.savez(folder / "in.npz", x=np.array(words))
        answer = trainlab(*call)
        assert answer.code == code, answer.err
    assert f"{wrong} is no word of the run's: these are the numbers 0 to 53" in answer.err


@pytest.mark.parametrize(
    ("options", "columns", "says"),
    [
        ([], "a=1 b=inf", "column 'b' of row 2 is inf"),
        (["preprocess=standardize"], "a=nan b=2", "column 'a' of row 2 is nan"),
        (["preprocess=[standardize,one_hot]"], "c=Paris b=nan", "column 'b' of row 2 is nan"),
        (["dataset.drop=[c]", "preprocess=none"], "b=1e300", "column 'b' of row 2 is inf"),
    ],
)
def test_a_number_that_preprocessing_cannot_take_is_named(trainlab, folder, options, columns, says):
    rows = [dict(a=i % 7, b=i % 5, c=["Rome", "Oslo"][i % 2], y=i % 3) for i in range(40)]
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    new = [rows[0], rows[1] | dict(pair.split("=") for pair in columns.split())]
    pd.DataFrame(new).to_csv(folder / "new.csv", index=False)
    typed = "dataset=csv dataset.path=train.csv dataset.target=y epochs=1".split()
    run = trainlab("train", "-q", *typed, *options)
    answer = trainlab("predict", str(run.path), "--input", "new.csv", "--output", "out.csv")
    assert answer.code == 2
    assert says in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (folder / "out.csv").exists()


def test_a_pixel_that_preprocessing_cannot_take_is_named(trainlab, folder):
    run = trainlab("train", "-q", "epochs=1", "max_examples=100")
    x = np.ones((3, 1, 8, 8))
    x[2, 0, 4, 5] = np.nan
    np.savez(folder / "in.npz", x=x)
    answer = trainlab("predict", str(run.path), "--input", "in.npz", "--output", "o.csv")
    assert "x[2, 0, 4, 5] is nan" in answer.err


CSV = """age,city,grade,bought
31,Rome,1.5,no
25,Oslo,2.5,yes
40,Oslo,,yes
35,Bern,3.5,no
"""


def test_tables_keep_their_codes(trainlab, folder):
    """Other rows, other order of columns, a city that training has not seen, a missing grade."""
    (folder / "train.csv").write_text(CSV + "\n".join(CSV.splitlines()[1:] * 9) + "\n")
    answer = trainlab(
        "train", "dataset=csv", "dataset.path=train.csv", "dataset.target=bought", "epochs=3"
    )
    assert answer.code == 0, answer.err
    (folder / "new.csv").write_text("grade,age,city\n2.5,25,Oslo\n,31,Paris\n2.5,25,Rome\n")
    call = ["predict", str(answer.path), "--input", "new.csv", "--output", "out.csv"]
    assert trainlab(*call).code == 0
    table = pd.read_csv(folder / "out.csv")
    np.savez(folder / "same.npz", x=np.float32([[25, 1, 2.5], [31, np.nan, np.nan], [25, 2, 2.5]]))
    call[3:] = ["same.npz", "--output", "same.csv"]
    assert trainlab(*call).code == 0
    pd.testing.assert_frame_equal(table, pd.read_csv(folder / "same.csv"))
    assert table["p_yes"].nunique() == 3


@pytest.fixture
def coded(trainlab, folder):
    """A run on a table whose texts look like truth values and numbers wherever they are few."""
    flags, zips = ["true", "false", "unknown"], ["01", "02", "10"]
    rows = [
        dict(
            flag=flags[i % 3],
            zip=zips[i // 3 % 3],
            town="uvw"[i % 3],
            size=i % 7 / 2,
            y=flags[i % 3],
        )
        for i in range(90)
    ]
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)
    typed = "dataset.path=train.csv dataset.target=y dataset.categorical=[zip] epochs=4".split()
    run = trainlab("train", "-q", "dataset=csv", *typed, "optimizer.lr=0.1")
    assert run.code == 0, run.err
    return run, rows


@pytest.mark.parametrize("few", [slice(0, 1), slice(0, 2), slice(0, 3), slice(0, 90, 3)])
def test_a_row_is_predicted_the_same_among_any_others(trainlab, folder, coded, few):
    """And scored: its texts are the run's, though alone they would be truth values or numbers."""
    run, rows = coded
    tables = []
    for some in (rows, rows[few]):
        pd.DataFrame(some).to_csv(folder / "new.csv", index=False)
        answer = trainlab("predict", str(run.path), "--input", "new.csv", "--output", "out.csv")
        assert answer.code == 0, answer.err
        tables.append(pd.read_csv(folder / "out.csv", dtype={"prediction": str}))
    expected = tables[0][few].reset_index(drop=True)
    assert (expected["prediction"] == [row["y"] for row in rows[few]]).all()
    pd.testing.assert_frame_equal(tables[1], expected)
    answer = trainlab("eval", str(run.path), "dataset.path=new.csv", "--json")
    assert answer.code == 0, answer.err
    scores = json.loads(answer.out)
    assert list(scores) == ["all"]
    assert scores["all"]["accuracy"] == 1


def test_the_runs_own_data_keep_their_splits(trainlab, coded):
    run, _ = coded
    for typed in ([], ["dataset=csv"], ["dataset.path=train.csv"]):
        answer = trainlab("eval", str(run.path), "--json", *typed)
        assert answer.code == 0, answer.err
        scores = json.loads(answer.out)
        assert list(scores) == ["train", "val", "test"]
        assert scores["test"]["loss"] == pytest.approx(run.result["test_loss"])


@pytest.mark.parametrize("classes", [[0], [1], [0, 1, 1]])
def test_a_file_of_few_classes_and_examples_is_scored_as_a_whole(trainlab, folder, classes):
    """Beside its official test set, if it has one."""
    draw = np.random.default_rng(0)
    y = np.arange(60) % 3
    np.savez(folder / "mine.npz", x=draw.normal(size=(60, 2)) + 9 * y[:, None], y=y)
    typed = ["dataset=npz", "dataset.path=mine.npz", "epochs=1"]
    run = trainlab("train", "-q", *typed)
    some = dict(x=np.ones((len(classes), 2)), y=np.array(classes))
    np.savez(folder / "few.npz", **some)
    np.savez(folder / "more.npz", **some, x_test=np.ones((1, 2)), y_test=np.array([2]))
    for file, splits in [("few.npz", ["all"]), ("more.npz", ["all", "test"])]:
        answer = trainlab("eval", str(run.path), f"dataset.path={file}", "--json")
        assert answer.code == 0, answer.err
        assert sorted(json.loads(answer.out)) == splits


def test_another_dataset_has_settings_of_its_own(trainlab, folder):
    """The run's say nothing about it; those typed now do."""
    draw = np.random.default_rng(0)
    np.savez(folder / "mine.npz", x=draw.normal(size=(60, 2)), y=np.array(["lower", "upper"] * 30))
    run = trainlab("train", "-q", "dataset=npz", "dataset.path=mine.npz", "epochs=1")
    typed = ["dataset=moons", "dataset.examples=50", "--json"]
    answer = trainlab("eval", str(run.path), *typed)
    assert answer.code == 0, answer.err
    assert list(json.loads(answer.out)) == ["all"]


def test_images_may_have_the_channels_last_or_not_at_all(trainlab, folder):
    run = trainlab("train", "-q", "epochs=1", "max_examples=100")
    x = np.random.default_rng(0).integers(0, 17, (3, 1, 8, 8)).astype(np.float64)
    tables = []
    for form in (x, x[:, 0], np.moveaxis(x, 1, -1)):
        np.savez(folder / "in.npz", x=form)
        answer = trainlab("predict", str(run.path), "--input", "in.npz", "--output", "o.csv")
        assert answer.code == 0, answer.err
        tables.append((folder / "o.csv").read_text())
    assert tables[0] == tables[1] == tables[2]


def test_errors_of_one_paragraph(trainlab, folder, monkeypatch):
    run = trainlab("train", "epochs=1", "max_examples=100")
    np.savez(folder / "wrong.npz", x=np.zeros((3, 5), np.float32))
    np.save(folder / "array.npy", np.zeros((3, 5)))
    (folder / "array.npy").rename(folder / "array.npz")
    (folder / "a.csv").write_text("a\n1\n")
    (folder / "taken.csv").mkdir()
    (folder / "closed").mkdir()
    monkeypatch.setattr("os.access", lambda place, mode: place.name != "closed")  # root may write
    path = str(run.path)
    for arguments, says in [
        (["predict", path], "Usage"),
        (["predict", path, "--input", "none.npz", "--output", "o.csv"], "no such file"),
        (["predict", path, "--input", "wrong.npz", "--output", "o.csv"], "[1, 8, 8]"),
        (["predict", path, "--input", "array.npz", "--output", "o.csv"], "no zip archive"),
        (["predict", path, "--input", "a.csv", "--output", "o.csv"], "no table"),
        (["predict", path, "--input", "a.csv", "--output", "./a.csv"], "overwrite the inputs"),
        (["predict", path, "--input", "a.csv", "--output", "taken.csv"], "is a folder"),
        (["predict", path, "--input", "a.csv", "--output", "closed/o.csv"], "cannot be written"),
        (["export", path], "Usage"),
        (["export", path, "--format", "tflite"], "torch-export, onnx, safetensors"),
        (["export", "nowhere", "--format", "onnx"], "nowhere is no run"),
    ]:
        answer = trainlab(*arguments)
        assert answer.code == 2, arguments
        assert says in answer.err
        assert len(answer.err.splitlines()) == 1
