"""Datasets, their files, and splits that never leak."""

import gzip
import hashlib
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from sklearn import datasets as sk

from trainlab import data, tasks
from trainlab.config import UserError, compose
from trainlab.data import embedded, generated, images
from trainlab.data.examples import Examples, check
from trainlab.data.splits import split, thinned


def idx(array, kind=8):
    """An array in the official IDX layout."""
    head = struct.pack(">BBBB", 0, 0, kind, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return head + array.tobytes()


@pytest.fixture
def tiny_mnist(tmp_path):
    """Four files in the official format: 40 training and 20 test images."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, n in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))  # not gzipped
    return tmp_path


def test_digits_equal_scikit_learns():
    ours, theirs = embedded.digits(), sk.load_digits()
    assert np.array_equal(ours.x[:, 0], theirs.images)
    assert np.array_equal(ours.y, theirs.target)


def test_diabetes_equals_scikit_learns():
    ours, theirs = embedded.diabetes(), sk.load_diabetes(scaled=False)
    np.testing.assert_allclose(ours.x, theirs.data, rtol=1e-6)
    np.testing.assert_allclose(ours.y[:, 0], theirs.target)


def test_moons_without_noise_equal_scikit_learns():
    ours = generated.moons(examples=101, noise=0.0)
    x, y = sk.make_moons(101, shuffle=False)
    np.testing.assert_allclose(ours.x, x, atol=1e-6)
    assert np.array_equal(ours.y, y)


def test_moons_have_the_noise_they_say():
    clean, noisy = (generated.moons(examples=4000, noise=noise) for noise in (0.0, 0.3))
    assert (noisy.x - clean.x).std() == pytest.approx(0.3, rel=0.05)
    assert noisy.fingerprint == generated.moons(examples=4000, noise=0.3, seed=0).fingerprint
    assert noisy.fingerprint != generated.moons(examples=4000, noise=0.3, seed=1).fingerprint


@pytest.mark.parametrize("dataset", ["digits", "moons", "diabetes"])
def test_splits_partition_the_examples(dataset):
    config = compose([f"dataset={dataset}"])
    examples = data.read(config)
    parts = split(examples, 0.15, 0.25, seed=0)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(examples.x)))
    assert len(parts["test"]) == pytest.approx(0.25 * len(examples.x), rel=0.02)
    again = split(examples, 0.15, 0.25, seed=0)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)
    assert not np.array_equal(parts["test"], split(examples, 0.15, 0.25, seed=1)["test"])


def test_splits_are_stratified():
    examples = embedded.digits()
    for positions in split(examples, 0.15, 0.15, seed=0).values():
        share = np.bincount(examples.y[positions]) / len(positions)
        np.testing.assert_allclose(share, np.bincount(examples.y) / len(examples.y), atol=0.01)


def test_an_official_test_set_is_kept(tiny_mnist):
    config = compose(["dataset=mnist", f"data_dir={tiny_mnist}"])
    prepared = data.prepare(data.read(config), config, torch.device("cpu"))
    assert prepared.splits["test"].tolist() == list(range(40, 60))
    assert len(prepared.splits["train"]) + len(prepared.splits["val"]) == 40
    assert prepared.shape == (1, 28, 28)
    assert tasks.outputs_of(prepared) == 10


@pytest.mark.parametrize(("val", "test"), [(8, 4), (8, 0), (0, 8), (0, 0)])
def test_official_validation_and_test_sets_are_kept(val, test):
    """What the data bring is a split as it is; what they do not bring is drawn from the rest."""
    y = np.arange(40) % 2
    examples = Examples(np.zeros((40, 2), np.float32), y, "binary", ["a", "b"], val=val, test=test)
    parts = split(examples, 0.2, 0.3, seed=0)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(40))
    rest = 40 - val - test
    assert parts["test"].tolist() == list(range(40 - test, 40)) if test else len(parts["test"]) > 1
    if val:
        assert parts["val"].tolist() == list(range(rest, 40 - test))
    else:
        assert len(parts["val"]) == 2 * round(0.2 * rest / 2)
    assert np.bincount(y[parts["train"]]).min() == np.bincount(y[parts["train"]]).max()
    few = thinned(examples, 20, 0)
    assert (few.val, few.test) == (val // 2, test // 2)


def test_one_example_of_a_class_is_enough_where_nothing_is_drawn():
    y = np.array([0, 1, 1, 0, 1, 0])
    examples = Examples(np.zeros((6, 2)), y, "binary", ["a", "b"], val=2, test=2)
    assert split(examples, 0.2, 0.2, 0)["train"].tolist() == [0, 1]


def test_max_examples_keeps_the_classes_even(tiny_mnist):
    config = compose(["dataset=mnist", f"data_dir={tiny_mnist}", "max_examples=45"])
    examples = data.read(config)
    assert len(examples.x) == 45
    assert examples.test == 15
    assert np.ptp(np.bincount(examples.y)) <= 1
    few = data.read(compose(["max_examples=100"]))
    assert np.bincount(few.y).tolist() == [10] * 10


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">u1").reshape(2, 3),
        np.arange(24, dtype=">i4").reshape(2, 3, 4),
        np.linspace(0, 1, 5, dtype=">f4"),
    ],
)
def test_idx_types(tmp_path, array):
    kind = {">u1": 8, ">i4": 12, ">f4": 13}[array.dtype.str.replace("|", ">")]
    (tmp_path / "a").write_bytes(idx(array, kind))
    read = images.read_idx(tmp_path / "a")
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"hello world, this is no image", "not an IDX file"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "damaged"),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", "damaged"),
        (b"\0\0\x08\x03\0\0", "damaged"),
        (gzip.compress(idx(np.zeros((9, 9), np.uint8)))[:-12], "cannot be read"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "damaged"),
    ],
    ids=["empty", "text", "truncated", "too long", "half a header", "gzip truncated", "huge"],
)
def test_a_damaged_idx_file_is_refused(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=message):
        images.read_idx(tmp_path / "a")


def test_labels_out_of_range_are_refused(tiny_mnist):
    labels = np.full(40, 12, np.uint8)
    (tiny_mnist / "mnist" / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(UserError, match="labels run from 0 to 12"):
        data.read(compose(["dataset=mnist", f"data_dir={tiny_mnist}"]))


def test_files_that_do_not_belong_together_are_refused(tiny_mnist):
    folder = tiny_mnist / "mnist"
    (folder / "train-labels-idx1-ubyte").write_bytes(
        (folder / "t10k-labels-idx1-ubyte").read_bytes()
    )
    with pytest.raises(UserError, match="do not belong together"):
        data.read(compose(["dataset=mnist", f"data_dir={tiny_mnist}"]))


def test_a_missing_file_says_where_it_should_be(tmp_path):
    with pytest.raises(UserError, match=r"train-images.*does not exist.*download=true"):
        data.read(compose(["dataset=mnist", f"data_dir={tmp_path}"]))


def test_a_class_too_small_to_split_is_refused():
    examples = data.Examples(
        np.zeros((7, 2), np.float32), np.array([0, 0, 0, 0, 0, 1, 1]), "classification", ["a", "b"]
    )
    with pytest.raises(UserError, match=r"b \(2 examples\).*rare_classes=drop.*max_examples"):
        split(examples, 0.2, 0.2, 0)


OWN = dict(x=np.zeros((6, 2)), y=np.arange(6) % 2, task="binary", classes=["a", "b"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(task=""), "the task is '', and has to be one of classification, binary"),
        (dict(task="classify"), "the task is 'classify'"),
        (dict(classes=[]), "classes is empty: name the class"),
        (dict(classes=["a", "b", "c"]), "task='binary' needs 2 classes, and 3 have a name"),
        (dict(x=OWN["x"].tolist()), "x is a list"),
        (dict(x=torch.zeros(6, 2)), "x is a Tensor"),
        (dict(y=None), "y is a NoneType"),
        (dict(x=np.zeros(6)), r"x has the shape \(6,\)"),
        (dict(x=np.full((6, 2), "1")), "x is of type <U1"),
        (dict(y=np.array(["a", "b"] * 3)), "y is of type <U1"),
        (dict(y=OWN["y"][:5]), "6 inputs but 5 targets"),
        (dict(y=OWN["y"][:, None]), r"y has the shape \(6, 1\).*has to be \(N,\)"),
        (dict(y=OWN["y"] / 1), "y is of type float64.*whole numbers"),
        (dict(task="regression"), r"has to be \(N, K\)"),
        (dict(task="multi_label", y=np.zeros((6, 3), int)), "needs 3 classes, and 2 have"),
        (dict(x=OWN["x"][:0], y=OWN["y"][:0]), "no examples"),
        (dict(val=2, test=4), "no examples besides validation and test set"),
    ],
)
def test_what_a_dataset_of_one_s_own_gives_is_looked_at(changed, message):
    check(Examples(**OWN), "mine")
    with pytest.raises(UserError, match=f"dataset=mine: .*{message}.*Examples"):
        check(Examples(**OWN | changed), "mine")


def test_a_dataset_that_gives_something_else_is_an_error_of_one_paragraph(
    trainlab, folder, monkeypatch
):
    monkeypatch.syspath_prepend(folder)
    (folder / "conf" / "dataset").mkdir(parents=True)
    (folder / "own_examples.py").write_text(
        "import numpy\nfrom trainlab.data import Examples\n"
        "def pair(data_dir, download):\n    return numpy.zeros((9, 2)), numpy.arange(9) % 2\n"
        "def bare(data_dir, download):\n    return Examples(*pair(data_dir, download))\n"
    )
    for name, message in (("pair", "it gives a tuple"), ("bare", "the task is ''")):
        (folder / "conf" / "dataset" / f"{name}.yaml").write_text(
            f"# mine\n_target_: own_examples.{name}\n"
        )
        answer = trainlab("train", "-q", f"dataset={name}", "trusted=[own_examples]")
        assert answer.code == 2, answer.err
        assert message in answer.err
        assert len(answer.err.splitlines()) == 1


def lopsided():
    """40 examples of a, 10 of b, 1 of c, 1 of d."""
    y = np.array([0] * 40 + [2] + [1] * 10 + [3])
    return Examples(np.zeros((52, 2), np.float32), y, "classification", list("abcd"))


def test_a_reconstruction_needs_no_example_of_every_class():
    examples = lopsided()
    config = compose(["task=reconstruction"])
    parts = data.split_of(examples, config)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(52))
    assert (np.bincount(examples.y[parts["test"]], minlength=2)[:2] >= [6, 1]).all()
    prepared = data.prepare(examples, config, torch.device("cpu"))
    assert prepared.y is None
    with pytest.raises(UserError, match=r"c \(1 example\)"):
        data.split_of(examples, compose([]))
    examples.y = np.arange(52) // 18  # a class more or less does not matter
    assert all(len(part) for part in data.split_of(examples, config).values())


@pytest.mark.parametrize("dataset", ["digits", "diabetes", "moons"])
def test_the_split_does_not_depend_on_what_is_learnt(dataset):
    """So that what an autoencoder has seen is no other model's test."""
    config = compose([f"dataset={dataset}"])
    examples = data.read(config)
    own, other = (data.split_of(examples, config | {"task": t}) for t in ("auto", "reconstruction"))
    assert all(np.array_equal(own[name], other[name]) for name in own)


def ordered(y, task, classes=(), **more):
    x = np.random.default_rng(0).normal(size=(len(y), 2)).astype(np.float32)
    return Examples(x, np.asarray(y), task, list(classes), **more)


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        (ordered(np.arange(60) // 20, "classification", "abc"), True),
        (ordered(2 - np.arange(60) // 20, "classification", "abc"), True),
        (ordered(np.arange(120) % 60 // 20, "classification", "abc"), True),  # training, test
        (ordered(np.arange(60) % 3, "classification", "abc"), False),
        (ordered(np.arange(60) // 5 % 3, "classification", "abc"), False),  # a stream that changes
        (ordered(np.arange(60) // 30, "binary", "ab"), True),
        (ordered(np.arange(60)[:, None] / 7, "regression"), True),
        (ordered(-np.arange(60)[:, None] / 7, "regression"), True),
        (ordered(np.sin(np.arange(60))[:, None], "regression"), False),
        (ordered(np.arange(120).reshape(60, 2) / 7, "regression"), False),
        (ordered(np.zeros((60, 3), int), "multi_label", "abc"), False),
    ],
)
def test_an_order_by_target_is_noticed(examples, expected):
    online = ["online=true", "epochs=4", "preprocess=none"]
    prepared = data.prepare(examples, compose(online), torch.device("cpu"))
    assert data.sorted_by_target(prepared) is expected
    learnt = compose([*online, "task=reconstruction"])
    assert not data.sorted_by_target(data.prepare(examples, learnt, torch.device("cpu")))


def test_inputs_that_are_not_finite_are_refused():
    x = np.array([[1.0], [np.inf]] * 4, np.float32)
    examples = data.Examples(x, np.arange(8) % 2, "binary", ["a", "b"])
    with pytest.raises(UserError, match=r"infinite inputs.*example 2 "):
        check(examples, "mine")
    examples.columns = ("width",)
    with pytest.raises(UserError, match=r"'width' of example 2 "):
        check(examples, "mine")
    huge = np.full((8, 1), 3e38, np.float32)  # whose sum is infinite
    check(data.Examples(huge, np.arange(8) % 2, "binary", ["a", "b"]), "mine")


def test_missing_values_have_to_be_filled_in():
    x = np.array([[1.0], [2.0]] * 10, np.float32)
    x[3] = np.nan
    examples = data.Examples(x, np.arange(20) // 10, "binary", ["a", "b"])
    for chosen in ("none", "standardize"):
        with pytest.raises(UserError, match="impute"):
            data.prepare(examples, compose([f"preprocess={chosen}"]), torch.device("cpu"))
    for chosen in ("auto", "[impute,minmax]"):
        config = compose([f"preprocess={chosen}"])
        assert data.prepare(examples, config, torch.device("cpu")).x.isfinite().all()


@pytest.fixture
def server(tiny_mnist):
    """The tiny files behind http on this machine, all gzipped; its address and their checksums."""
    folder, checksums = tiny_mnist / "mnist", {}
    for name in images._MNIST_FILES:
        plain, zipped = folder / name, folder / f"{name}.gz"
        if plain.exists():
            zipped.write_bytes(gzip.compress(plain.read_bytes()))
        checksums[name] = hashlib.sha256(zipped.read_bytes()).hexdigest()
    handler = partial(QuietHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/", checksums
        http.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *message):
        pass


def test_a_download_is_verified_and_kept(server, tmp_path, monkeypatch):
    url, checksums = server
    monkeypatch.setattr(images, "_MNIST_URL", url)
    monkeypatch.setattr(images, "_MNIST_FILES", checksums)
    target = tmp_path / "fresh"
    config = compose(["dataset=mnist", f"data_dir={target}", "download=true"])
    assert len(data.read(config).x) == 60
    monkeypatch.setattr(images, "_MNIST_URL", "http://127.0.0.1:9/")  # not asked again
    assert len(data.read(config).x) == 60


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(
    server, tmp_path, monkeypatch
):
    url, checksums = server
    monkeypatch.setattr(images, "_MNIST_URL", url)
    monkeypatch.setattr(images, "_MNIST_FILES", dict.fromkeys(checksums, "0" * 64))
    target = tmp_path / "fresh"
    with pytest.raises(UserError, match="cannot download"):
        data.read(compose(["dataset=mnist", f"data_dir={target}", "download=true"]))
    assert [path for path in target.rglob("*") if path.is_file()] == []
