"""npz files of one's own: what their arrays are, and what is refused."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from trainlab import data
from trainlab.config import UserError, compose
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
        ([[0], [1], [1], [0]], "auto", "multi_label", [[0], [1], [1], [0]], ["0"]),
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


def test_an_npz_brings_a_test_set_and_the_range_of_bytes(tmp_path, draw):
    x = draw.integers(0, 256, (9, 3, 4, 4), dtype=np.uint8)
    y = np.arange(9) % 3
    np.savez(tmp_path / "m.npz", a=x[:6], b=y[:6], a_test=x[6:], b_test=y[6:])
    path = f"dataset.path={tmp_path}/m.npz"
    examples = data.read(compose(["dataset=npz", path, "dataset.x=a", "dataset.y=b"]))
    assert np.array_equal(examples.x, x)
    assert examples.x.dtype == np.uint8
    assert np.array_equal(examples.y, y)
    assert (examples.test, examples.low, examples.high) == (3, 0.0, 255.0)


X, Y = np.zeros((4, 2)), np.arange(4)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ({"x": X}, {}, "y is not a file in the archive, which has x"),
        ({"x": X, "y": Y, "x_test": X}, {}, "y_test is not a file"),
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
        ({"x": np.zeros((4, 8, 8, 3)), "y": Y}, {}, r"x = np\.moveaxis\(x, -1, 1\)"),
        ({"x": np.float64(3), "y": Y}, {}, r"numbers \(N, …\)"),
        ({"x": X, "y": np.float64(3)}, {}, "4 inputs but no array of targets"),
        ({"x": X + 1e300, "y": Y}, {}, "infinite inputs.*too large.*example 1 "),
        ({"x": X, "y": Y * 1e300}, {}, "targets .*infinite.*example 2 "),
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
