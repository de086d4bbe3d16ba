"""npz files of one's own: what their arrays are, and what is refused."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from trainlab.config import UserError
from trainlab.data import arrays
from trainlab.data.examples import check


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.fixture
def npz(tmp_path):
    """Read arrays from a file; settings by the name of their parameter."""

    def read(content, **settings):
        np.savez(tmp_path / "a.npz", **content)
        examples = arrays.npz(path=str(tmp_path / "a.npz"), **settings)
        check(examples, "npz")
        return examples

    return read


@pytest.mark.parametrize(
    ("y", "override", "task", "expected", "classes"),
    [
        ([0, 2, 1, 0], "auto", "classification", [0, 2, 1, 0], ["0", "1", "2"]),
        ([7, 3, 7, 3], "auto", "binary", [1, 0, 1, 0], ["3", "7"]),
        ([7, 3, 7, 3], "classification", "classification", [1, 0, 1, 0], ["3", "7"]),
        ([True, False, True, True], "auto", "binary", [1, 0, 1, 1], ["False", "True"]),
        (["b", "a", "c", "b"], "auto", "classification", [1, 0, 2, 1], ["a", "b", "c"]),
        ([0.5, 1, 2, 3], "auto", "regression", [[0.5], [1], [2], [3]], []),
        ([5, 1, 2, 3], "regression", "regression", [[5], [1], [2], [3]], []),
        ([[0.5, 1]] * 4, "auto", "regression", [[0.5, 1]] * 4, []),
        ([[0, 1, 1]] * 4, "auto", "multi_label", [[0, 1, 1]] * 4, ["0", "1", "2"]),
        ([[0], [1], [1], [0]], "multi_label", "multi_label", [[0], [1], [1], [0]], ["0"]),
        ([[0], [1], [1], [0]], "auto", "binary", [0, 1, 1, 0], ["0", "1"]),
        (np.uint8([[3], [1], [2], [3]]), "auto", "classification", [2, 0, 1, 2], ["1", "2", "3"]),
        ([1.0, 2.0, 3.0, 1.0], "auto", "classification", [0, 1, 2, 0], ["1", "2", "3"]),
        (np.float32([[1], [0], [0], [1]]), "auto", "binary", [1, 0, 0, 1], ["0", "1"]),
        ([1.0, 2.0, 3.0, 1.0], "regression", "regression", [[1], [2], [3], [1]], []),
        (np.array([b"b", b"a", b"b", b"a"]), "auto", "binary", [1, 0, 1, 0], ["a", "b"]),
        (np.eye(3)[[0, 2, 1, 0]], "auto", "classification", [0, 2, 1, 0], ["0", "1", "2"]),
        (np.eye(3, dtype=int)[[0, 2, 2, 0]], "auto", "classification", [0, 2, 2, 0], list("012")),
        (np.eye(3, dtype=bool)[[0, 2, 1, 0]], "classification", "classification", [0, 2, 1, 0],
         ["0", "1", "2"]),
        (np.eye(2, dtype="f4")[[0, 1, 1, 0]], "auto", "binary", [0, 1, 1, 0], ["0", "1"]),
        (np.eye(2)[[0, 1, 1, 0]], "classification", "classification", [0, 1, 1, 0], ["0", "1"]),
        (np.eye(2, dtype=int)[[0, 1, 1, 0]], "multi_label", "multi_label",
         [[1, 0], [0, 1], [0, 1], [1, 0]], ["0", "1"]),
        (np.eye(2)[[0, 1, 1, 0]], "regression", "regression",
         [[1, 0], [0, 1], [0, 1], [1, 0]], []),
        ([[0.0, 1, 1], [0, 0, 0]] * 2, "auto", "multi_label", [[0, 1, 1], [0, 0, 0]] * 2,
         ["0", "1", "2"]),
        ([[0.0, 1, 2]] * 4, "auto", "regression", [[0, 1, 2]] * 4, []),
        ([[[[0.0, 1], [1, 2]]]] * 4, "auto", "segmentation", [[[0, 1], [1, 2]]] * 4,
         ["0", "1", "2"]),
        ([[[[0], [9]], [[0], [9]]]] * 4, "auto", "segmentation",
         [[[0, 1], [0, 1]]] * 4, ["0", "9"]),
        (np.float32([0.1, 2, 0.1, 2]), "binary", "binary", [0, 1, 0, 1], ["0.1", "2"]),
        (
            [[[0, 5], [5, 9]]] * 4, "auto", "segmentation", [[[0, 1], [1, 2]]] * 4, ["0", "5", "9"],
        ),
    ],
)  # fmt: skip
def test_the_task_of_an_npz(npz, y, override, task, expected, classes):
    x = np.arange(16, dtype=np.float64).reshape(4, 1, 2, 2)
    examples = npz({"x": x, "y": y}, task=override)
    assert np.array_equal(examples.x, x)
    assert examples.x.dtype == np.float32
    assert (examples.task, examples.classes) == (task, classes)
    assert examples.y.tolist() == expected
    assert examples.y.dtype == (np.float32 if task == "regression" else np.int64)


NAMES = [  # of inputs and targets for train, val and test; the settings that say them
    ("x y", "x_val y_val", "x_test y_test", {}),
    ("x_train y_train", None, "x_test y_test", dict(x="x_train", y="y_train")),
    ("x_train y_train", None, "x_test y_test", {}),
    ("X_train Y_train", "X_valid Y_valid", "X_test Y_test", {}),
    ("xtrain ytrain", "xval yval", None, {}),
    ("trainX trainY", None, "testX testY", {}),
    ("train_images train_labels", "val_images val_labels", "test_images test_labels", {}),
    ("images labels", None, "images_test labels_test", {}),
    ("train_data train_targets", "dev_data dev_targets", "test_data test_targets", {}),
    ("a b", None, "a_test b_test", dict(x="a", y="b")),
    ("pixels_train who_train", None, "pixels_test who_test", dict(x="pixels_train", y="who_train")),
    ("x_test y_test", None, None, dict(x="x_test", y="y_test")),
]


@pytest.mark.parametrize(("train", "val", "test", "settings"), NAMES)
def test_an_npz_brings_its_splits(npz, draw, train, val, test, settings):
    x = draw.integers(0, 256, (12, 3, 6, 6), dtype=np.uint8)
    y = np.arange(12) % 3
    content = {"others": np.ones(3)}
    for names, rows in ((test, slice(9, 12)), (val, slice(6, 9)), (train, slice(6))):
        if names:
            content |= dict(zip(names.split(), (x[rows], y[rows]), strict=True))
    examples = npz(content, **settings)
    kept = np.r_[0:6, 6 : 9 if val else 6, 9 : 12 if test else 9]
    assert np.array_equal(examples.x, x[kept])
    assert np.array_equal(examples.y, y[kept])
    assert examples.x.dtype == np.uint8
    assert (examples.val, examples.test) == (3 if val else 0, 3 if test else 0)
    assert (examples.low, examples.high) == (0.0, 255.0)


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((4, 6, 9), "u1", (4, 1, 6, 9)),
        ((4, 8, 8), "f4", (4, 1, 8, 8)),
        ((4, 6, 9), "f4", (4, 6, 9)),  # may be a sequence
        ((4, 6, 9, 3), "u1", (4, 3, 6, 9)),
        ((4, 8, 8, 1), "f8", (4, 1, 8, 8)),
        ((4, 3, 6, 9), "u1", (4, 3, 6, 9)),
        ((4, 3, 3, 3), "u1", (4, 3, 3, 3)),
        ((4, 6, 9, 7), "f4", (4, 6, 9, 7)),
        ((4, 30), "u1", (4, 30)),
    ],
)
def test_images_have_their_channels_first(npz, draw, shape, kind, expected):
    x = draw.integers(0, 256, shape).astype(kind)
    read = npz({"x": x, "y": np.arange(4) % 2}).x
    assert read.shape == expected
    moved = np.moveaxis(x, 3, 1) if shape[3:] != expected[3:] and len(shape) == 4 else x
    assert np.array_equal(read, moved.reshape(expected))
    assert read.flags.c_contiguous


def test_a_run_on_images_predicts_them_as_they_were_saved(trainlab, folder, draw):
    """Channels last, an array of another name, and no targets: as when it was trained."""
    x = draw.integers(0, 256, (30, 6, 7, 3), dtype=np.uint8)
    y = np.eye(3)[np.arange(30) % 3]
    np.savez("all.npz", train_images=x[:18], train_labels=y[:18], val_images=x[18:24],
             val_labels=y[18:24], test_images=x[24:], test_labels=y[24:])  # fmt: skip
    np.savez("new.npz", images=x[:5])
    run = trainlab("train", "-q", "dataset=npz", "dataset.path=all.npz", "arch=linear", "epochs=1")
    assert run.code == 0, run.err
    answer = trainlab("predict", str(run.path), "--input", "new.npz", "--output", "out.npz")
    assert answer.code == 0, answer.err
    with np.load("out.npz") as out:
        assert out["outputs"].shape == (5, 3)
    found = trainlab("eval", str(run.path), "--json").out
    assert json.loads(found)["test"].keys() == json.loads(found)["val"].keys()


@pytest.mark.parametrize(
    ("y", "few", "arch"),
    [
        (np.linspace(0, 1, 40), np.float64([1, 0, 1, 0]), "linear"),
        (np.arange(40)[:, None] >> np.arange(3) & 1, np.eye(3)[[0, 2, 1, 0]], "multi_label"),
        (np.arange(40.0) % 3, np.float64([2, 2, 2, 2]), "linear"),
    ],
    ids=["numbers", "labels", "classes"],
)
def test_few_examples_of_a_run_s_data_are_for_its_task(trainlab, draw, folder, y, few, arch):
    """However they may look: whole numbers, one label each, one class."""
    np.savez("all.npz", x=draw.normal(size=(40, 3)), y=y)
    np.savez("few.npz", x=draw.normal(size=(4, 3)), y=few)
    typed = ["dataset=npz", "dataset.path=all.npz", f"arch={arch}", "epochs=1"]
    run = trainlab("train", "-q", *typed)
    assert run.code == 0, run.err
    answer = trainlab("eval", str(run.path), "--data", "few.npz", "--json")
    assert answer.code == 0, answer.err


X, Y = np.zeros((4, 2)), np.arange(4)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ({"x": X}, {}, "no array called y .*It has x: dataset.x=… and dataset.y=…"),
        ({"x": X, "y": Y}, dict(y="z"), "no array 'z'. It has x, y"),
        ({"a": X, "b": Y}, {}, "no array called x .*It has a, b"),
        ({"x": X, "y": Y, "x_test": X}, {}, "x_test for the split test, .*belongs to y"),
        ({"x": X, "y": Y, "y_val": Y}, {}, "y_val for the split val, .*belongs to x"),
        ({"x": X, "y": Y, "x_test": X, "x_testing": X, "y_test": Y}, {}, "2 arrays .*split test"),
        (
            {"x": X.astype("u1"), "y": Y, "x_test": X, "y_test": Y},
            {},
            "x_test one has bytes.*another type",
        ),
        ({"x": np.zeros((60, 2)), "y": np.arange(60)}, {}, "60 different.*task=regression"),
        ({"x": X, "y": np.eye(4)}, dict(task="binary"), "do not fit task binary"),
        ({"x": X, "y": Y[:3]}, {}, "4 inputs but 3 targets"),
        ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, {}, "do not fit together"),
        ({"x": X, "y": Y, "x_test": X[:3], "y_test": Y}, {}, "3 inputs but 4 targets"),
        ({"x": X[:, 0], "y": Y}, {}, r"numbers \(N, …\)"),
        ({"x": X.astype(str), "y": Y}, {}, r"numbers \(N, …\)"),
        ({"x": X, "y": Y * 1j}, {}, "complex128"),
        ({"x": X, "y": np.zeros((4, 2, 2, 2), int)}, {}, "do not fit task"),
        ({"x": X, "y": np.zeros((4, 2), int)}, dict(task="binary"), "do not fit task binary"),
        ({"x": X, "y": Y.astype(str)}, dict(task="regression"), "do not fit task regression"),
        ({"x": X, "y": np.full((4, 2), 3)}, {}, r"\(4, 2\), have to be 0 or 1.*y \(N,\)"),
        ({"x": X[:, :0], "y": Y}, {}, r"numbers \(N, …\)"),
        ({"x": np.float64(3), "y": Y}, {}, r"numbers \(N, …\)"),
        ({"x": X, "y": np.float64(3)}, {}, "4 inputs but no array of targets"),
        ({"x": X + 1e300, "y": Y}, {}, "infinite inputs.*too large.*example 1 "),
        ({"x": X, "y": Y * 1e300 + 0.5}, {}, "targets .*infinite.*example 2 "),
        ({"x": X, "y": np.array([0, 1, np.nan, 1])}, dict(task="binary"), "missing values"),
        (
            {"x": np.zeros((60, 2)), "y": np.arange(60) / 7},
            dict(task="classification"),
            "60 different values.*dataset.task=regression",
        ),
        ({"x": X, "y": Y * 0}, {}, "1 different values"),
        ({"x": X, "y": Y}, dict(task="binary"), "4 different values"),
    ],
)
def test_an_npz_that_cannot_be_used_is_refused(npz, content, settings, message):
    with pytest.raises(UserError, match=message):
        npz(content, **settings)


class Hostile:
    """A pickle that runs a command when it is read."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_an_npz_of_objects_is_not_unpickled(tmp_path, npz):
    flag = tmp_path / "called"
    hostile = np.array([Hostile(f"touch {flag}")] * 4, dtype=object)
    with pytest.raises(UserError, match=r"refused.*Python objects.*astype\(str\)"):
        npz({"x": X, "y": hostile})
    assert not flag.exists()


def npy(shape, content=b""):
    head = str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"",
        lambda raw: raw[:100],
        lambda raw: raw[:60] + bytes(100) + raw[160:],
        lambda raw: raw.replace(b"<i8", b"<x8"),
        lambda raw: pickle.dumps({"x": 1}),
        lambda raw: zipped({"x.npy": npy((10**15,)), "y.npy": npy((1,))}),  # announced, not there
        lambda raw: zipped({"x.npy": npy((4, 2), bytes(9)), "y.npy": npy((1,))}),
        lambda raw: zipped({"x.npy": b"junk", "y.npy": b"junk"}),
    ],
)
def test_a_damaged_npz_is_refused(tmp_path, spoil):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(spoil(raw))
    with pytest.raises(UserError, match=r"a\.npz"):
        check(arrays.npz(path=str(tmp_path / "a.npz")), "npz")


def zipped(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()
