"""`trainlab predict` and `trainlab export`: a finished run at work outside of trainlab."""

import numpy as np
import onnx.reference
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from trainlab import data, run
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
    model = run.build_model(config, examples)
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


def test_errors_of_one_paragraph(trainlab, folder):
    run = trainlab("train", "epochs=1", "max_examples=100")
    np.savez(folder / "wrong.npz", x=np.zeros((3, 5), np.float32))
    (folder / "a.csv").write_text("a\n1\n")
    path = str(run.path)
    for arguments, says in [
        (["predict", path], "Usage"),
        (["predict", path, "--input", "none.npz", "--output", "o.csv"], "no such file"),
        (["predict", path, "--input", "wrong.npz", "--output", "o.csv"], "[1, 8, 8]"),
        (["predict", path, "--input", "a.csv", "--output", "o.csv"], "no table"),
        (["export", path], "Usage"),
        (["export", path, "--format", "tflite"], "torch-export, onnx, safetensors"),
        (["export", "nowhere", "--format", "onnx"], "nowhere is no run"),
    ]:
        answer = trainlab(*arguments)
        assert answer.code == 2, arguments
        assert says in answer.err
        assert len(answer.err.splitlines()) == 1
