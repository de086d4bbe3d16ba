"""Readers of data files: files in the official formats, damaged and hostile ones, downloads."""

import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from trainlab import data
from trainlab.config import UserError, compose
from trainlab.data import files, images, tables
from trainlab.data.delimited import Form
from trainlab.data.examples import check


@pytest.fixture
def draw():
    return np.random.default_rng(0)


# ---------------------------------------------------------------- fashion_mnist


def clothes(folder, draw, form="NAME.gz"):
    """Thirty pictures and their classes, written into a folder as official files so called."""
    folder.mkdir(parents=True)
    x = draw.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    y = (np.arange(30) % 10).astype(np.uint8)
    for part, rows in (("train", slice(20)), ("t10k", slice(20, 30))):
        for name, array in (("images-idx3", x[rows]), ("labels-idx1", y[rows])):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            file = folder / form.replace("NAME", f"{part}-{name}-ubyte")
            if "kaggle" in form:
                file = file.with_name(f"{part}-{name}-ubyte".replace("-idx", ".idx"))
            file.parent.mkdir(exist_ok=True)
            raw = head + array.tobytes()
            file.write_bytes(gzip.compress(raw) if form.endswith(".gz") else raw)
    return x, y


def test_fashion_mnist_is_read_as_mnist_is(tmp_path, draw):
    x, y = clothes(tmp_path / "fashion_mnist", draw)
    examples = data.read(compose(["dataset=fashion_mnist", f"data_dir={tmp_path}"]))
    assert np.array_equal(examples.x[:, 0], x)
    assert np.array_equal(examples.y, y)
    assert (examples.test, examples.high) == (10, 255.0)
    assert (examples.classes[0], examples.classes[9]) == ("T-shirt/top", "Ankle boot")


@pytest.mark.parametrize(
    "place",
    ["FashionMNIST/raw", "fashion_mnist/FashionMNIST/raw", "fashion_mnist/raw", "fashion-mnist"],
)
@pytest.mark.parametrize("form", ["NAME.gz", "NAME", "NAME/NAME", "kaggle"])
def test_idx_files_are_found_where_others_put_them(tmp_path, draw, place, form):
    """torchvision's folders and Kaggle's names; and never the files of another dataset."""
    clothes(tmp_path / "MNIST" / "raw", np.random.default_rng(1))
    with pytest.raises(UserError, match="does not exist"):
        images.fashion_mnist(tmp_path)
    x, _ = clothes(tmp_path / place, draw, form)
    assert np.array_equal(images.fashion_mnist(tmp_path).x[:, 0], x)
    root = (tmp_path / place).parent if place.endswith("raw") else tmp_path / place
    assert np.array_equal(images.fashion_mnist(root).x[:, 0], x)  # data_dir is the folder itself


# ---------------------------------------------------------------- cifar


def tarred(members):
    """A tar.gz of files by name; a value may be a TarInfo, for members that no honest one has."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def pickled(**entries):
    """As the official files are: protocol 2, the keys bytes."""
    return pickle.dumps({key.encode(): value for key, value in entries.items()}, protocol=2)


@pytest.fixture
def cifar10_members(draw):
    x = draw.integers(0, 256, (6, 4, 3072), dtype=np.uint8)
    y = draw.integers(0, 10, (6, 4))
    members = {
        f"cifar-10-batches-py/{name}": pickled(
            batch_label=name.encode(), labels=y[n].tolist(), data=x[n], filenames=[b"a.png"] * 4
        )
        for n, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"])
    }
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    members["cifar-10-batches-py/batches.meta"] = pickled(
        num_cases_per_batch=4, label_names=[name.encode() for name in names], num_vis=3072
    )
    members["cifar-10-batches-py/readme.html"] = b"<html>"
    return members, x, y


def placed(tmp_path, dataset, name, content):
    folder = tmp_path / dataset
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


def unpacked(tmp_path, dataset, members):
    for name, content in members.items():
        (tmp_path / dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / dataset / name).write_bytes(content)


@pytest.mark.parametrize("form", ["tar.gz", "tar", "folder"])
def test_cifar10_equals_what_was_written(tmp_path, cifar10_members, form):
    members, x, y = cifar10_members
    if form == "folder":
        unpacked(tmp_path, "cifar10", members)
    else:
        packed = tarred(members)
        packed = packed if form == "tar.gz" else gzip.decompress(packed)
        placed(tmp_path, "cifar10", f"cifar-10-python.{form}", packed)
    examples = data.read(compose(["dataset=cifar10", f"data_dir={tmp_path}"]))
    # Pixel (row, column) of a colour stands at 1024 · colour + 32 · row + column.
    assert examples.x.shape == (24, 3, 32, 32)
    assert examples.x.dtype == np.uint8
    assert np.array_equal(examples.x[:, 2, 5, 7], x.reshape(24, 3072)[:, 2048 + 5 * 32 + 7])
    assert np.array_equal(examples.x.reshape(24, 3072), x.reshape(24, 3072))
    assert np.array_equal(examples.y, y.ravel())
    assert (examples.test, examples.task) == (4, "classification")
    assert (examples.classes[0], examples.classes[9]) == ("airplane", "truck")


@pytest.mark.parametrize(
    "place", ["", "cifar10", "CIFAR-10", "data", "cifar10/archive", "CIFAR10/"]
)
@pytest.mark.parametrize("packed", [True, False])
def test_cifar10_is_found_where_others_put_it(tmp_path, cifar10_members, place, packed):
    """torchvision: right below its root, whatever that is; Kaggle: in one more folder."""
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / "cifar100" / "cifar-100-python").mkdir(parents=True)
    if packed:
        placed(tmp_path, place, "cifar-10-python.tar.gz", tarred(cifar10_members[0]))
    else:
        unpacked(tmp_path, place, cifar10_members[0])
    assert len(images.cifar10(tmp_path).x) == 24


@pytest.mark.parametrize(("fine", "kind", "classes"), [(True, "fine", 100), (False, "coarse", 20)])
def test_cifar100_has_fine_and_coarse_labels(tmp_path, draw, fine, kind, classes):
    labels = {"fine": draw.integers(0, 100, 9).tolist(), "coarse": draw.integers(0, 20, 9).tolist()}
    x = draw.integers(0, 256, (9, 3072), dtype=np.uint8)
    members = {
        f"cifar-100-python/{name}": pickled(
            fine_labels=labels["fine"][rows], coarse_labels=labels["coarse"][rows], data=x[rows]
        )
        for name, rows in (("train", slice(6)), ("test", slice(6, 9)))
    }
    members["cifar-100-python/meta"] = pickled(
        fine_label_names=[f"fine {n}".encode() for n in range(100)],
        coarse_label_names=[f"coarse {n}".encode() for n in range(20)],
    )
    placed(tmp_path, "cifar100", "cifar-100-python.tar.gz", tarred(members))
    examples = data.read(
        compose(["dataset=cifar100", f"data_dir={tmp_path}", f"dataset.fine={fine}"])
    )
    assert examples.y.tolist() == labels[kind]
    assert examples.classes == [f"{kind} {n}" for n in range(classes)]
    assert np.array_equal(examples.x.reshape(9, 3072), x)
    assert examples.test == 3


def python2_array(array):
    """An array as Python 2 pickled it, whose texts are bytes: written opcode by opcode."""
    raw = array.tobytes()
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01M" + struct.pack("<H", len(array)) + b"M" + struct.pack("<H", array.shape[1])
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb\x89T" + struct.pack("<I", len(raw)) + raw + b"tb."
    )  # fmt: skip


def test_an_array_as_python_2_wrote_it(draw):
    array = draw.integers(0, 256, (3, 3072), dtype=np.uint8)
    written = python2_array(array)
    assert np.array_equal(pickle.loads(written, encoding="bytes"), array)  # it is one
    assert np.array_equal(images._pixels(images._unpickled(written)).reshape(3, -1), array)


class Calls:
    """A pickle that calls something when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, np.load, getattr, pickle.loads])
def test_a_pickle_that_calls_something_is_refused_before_it_does(
    tmp_path, cifar10_members, function
):
    members, _, _ = cifar10_members
    flag = tmp_path / "called"
    members["cifar-10-batches-py/data_batch_3"] = pickled(labels=Calls(function, f"touch {flag}"))
    placed(tmp_path, "cifar10", "cifar-10-python.tar.gz", tarred(members))
    with pytest.raises(UserError, match=rf"refused.*wants to call .*{function.__name__}"):
        images.cifar10(tmp_path)
    assert not flag.exists()


def member(name, **settings):
    info = tarfile.TarInfo(name)
    for key, value in settings.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (member("../evil", size=0), "outside"),
        (member("/etc/evil", size=0), "outside"),
        (member("cifar-10-batches-py/../../evil", size=0), "outside"),
        (member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "neither a file nor a folder"),
        (member("a", type=tarfile.LNKTYPE, linkname="b"), "neither a file nor a folder"),
        (member("a", type=tarfile.FIFOTYPE), "neither a file nor a folder"),
        (member("a", size=10 * 10**9), r"announces 10,000,000,000 bytes"),
    ],
)
def test_a_hostile_archive_is_refused(tmp_path, cifar10_members, hostile, message):
    members, _, _ = cifar10_members
    placed(tmp_path, "cifar10", "cifar-10-python.tar.gz", tarred({"evil": hostile} | members))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"refused.*{message}"):
        images.cifar10(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: tarred(m)[:-2000], "cannot be read"),
        (lambda m: gzip.compress(gzip.decompress(tarred(m))[:20_000]), "damaged"),
        (lambda m: gzip.compress(gzip.decompress(tarred(m))[:12_800]), "damaged"),
        (lambda m: gzip.compress(b"no tar at all" * 100), "damaged"),
        (lambda m: b"", "damaged"),
        (lambda m: tarred({k: v for k, v in m.items() if "test" not in k}), "no .*test_batch"),
        (lambda m: tarred(m | {"cifar-10-batches-py/test_batch": b"junk"}), "not what CIFAR's"),
        (lambda m: tarred(m | {"cifar-10-batches-py/test_batch": b""}), "not what CIFAR's"),
        (lambda m: tarred(m | {"cifar-10-batches-py/test_batch": pickled(a=1)}), "not what CIFAR"),
        (lambda m: tarred(m | {"cifar-10-batches-py/test_batch": pickled(
            labels=[1], data=np.zeros((4, 3072), np.uint8))}), "one label for each image"),
        (lambda m: tarred(m | {"cifar-10-batches-py/test_batch": pickled(
            labels=[1] * 4, data=np.zeros((4, 3072), np.int16))}), "no array"),
        (lambda m: tarred(m | {"cifar-10-batches-py/test_batch": pickled(
            labels=[1] * 4, data=np.zeros((3072, 4), np.uint8).T)}), "no array"),
        (lambda m: tarred(m | {"cifar-10-batches-py/test_batch": pickled(
            labels=[77] * 4, data=np.zeros((4, 3072), np.uint8))}), "labels run from"),
    ],
)  # fmt: skip
def test_a_damaged_cifar_is_refused(tmp_path, cifar10_members, spoil, message):
    members, _, _ = cifar10_members
    placed(tmp_path, "cifar10", "cifar-10-python.tar.gz", spoil(members))
    with pytest.raises(UserError, match=message):
        data.read(compose(["dataset=cifar10", f"data_dir={tmp_path}"]))


def test_gzip_files_one_after_the_other_are_one(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert files.contents(tmp_path / "a.gz") == b"one two"


@pytest.mark.parametrize("parts", [1, 2])
def test_what_unzips_to_too_much_is_refused(tmp_path, parts):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000 // parts)) * parts)
    assert len(files.contents(tmp_path / "a.gz", limit=1000)) == 1000
    with pytest.raises(UserError, match="more than 999 bytes"):
        files.contents(tmp_path / "a.gz", limit=999)


# ---------------------------------------------------------------- downloads


class Flaky(BaseHTTPRequestHandler):
    """Serves `content` in the way of `server.how`, and notes the ranges it was asked for."""

    def do_GET(self):
        content, how = self.server.content, self.server.how
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(re.match(r"bytes=(\d+)-$", asked)[1]) if asked else 0
        if how == "no ranges":
            start = 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: len(rest) // 2] if how == "breaks off" else rest)

    def log_message(self, *message):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as http:
        http.content, http.how, http.asked = bytes(range(256)) * 4000, "whole", []
        http.url = f"http://127.0.0.1:{http.server_port}/"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http
        http.shutdown()


def fetch(server, folder, content=None, download=True):
    checksum = hashlib.sha256(content or server.content).hexdigest()
    return files.fetched("a.bin", "mine", folder, download, server.url, checksum)


def everything(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.how = "breaks off"
    with pytest.raises(UserError, match="kept, the same command goes on"):
        fetch(server, tmp_path)
    assert everything(tmp_path) == ["a.bin.part"]
    arrived = (tmp_path / "mine" / "a.bin.part").stat().st_size
    assert 400_000 < arrived <= 512_000  # of a piece that broke off nothing is kept
    server.how = "whole"
    assert fetch(server, tmp_path).read_bytes() == server.content
    assert everything(tmp_path) == ["a.bin"]
    assert server.asked == [None, f"bytes={arrived}-"]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(server, tmp_path):
    server.how = "breaks off"
    with pytest.raises(UserError):
        fetch(server, tmp_path)
    server.how = "no ranges"
    assert fetch(server, tmp_path).read_bytes() == server.content
    assert everything(tmp_path) == ["a.bin"]


def test_a_part_of_another_file_is_thrown_away(server, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.bin.part").write_bytes(bytes(5))
    with pytest.raises(UserError, match="cannot download"):  # the checksum of the whole tells
        fetch(server, tmp_path)
    assert everything(tmp_path) == []
    (tmp_path / "mine" / "a.bin.part").write_bytes(bytes(len(server.content)))
    with pytest.raises(UserError, match="another file than the one begun"):
        fetch(server, tmp_path)
    assert everything(tmp_path) == []
    assert fetch(server, tmp_path).read_bytes() == server.content


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(UserError, match="cannot download"):
        fetch(server, tmp_path, content=b"something else")
    assert everything(tmp_path) == []


def test_only_http_is_fetched_and_only_if_allowed(server, tmp_path):
    with pytest.raises(UserError, match="download=true"):
        fetch(server, tmp_path, download=False)
    assert server.asked == []
    (tmp_path / "a.bin").write_bytes(server.content)
    server.url = f"file://{tmp_path}/"
    with pytest.raises(UserError, match="cannot download"):
        fetch(server, tmp_path)
    assert everything(tmp_path) == ["a.bin"]


# ---------------------------------------------------------------- csv


@pytest.fixture
def csv(tmp_path):
    """Read a table from its text (or bytes)."""

    def read(text, name="table.csv", **settings):
        raw = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        examples = tables.csv(path=str(tmp_path / name), **settings)
        check(examples, "csv")
        return examples

    return read


FLOWERS = """width,colour,wild,petals,kind
1.5,red,True,5,rose
,white,False,6,lily
2.5,red,True,5,rose
0.5,,False,6,lily
3.5,blue,False,,iris
"""


@pytest.mark.parametrize(
    ("separator", "name"),
    [(",", "a.csv"), (";", "a.csv"), ("\t", "a.tsv"), ("|", "a.csv"), (",", "a.csv.gz")],
)
def test_csv_types_are_found_out(csv, separator, name):
    examples = csv(FLOWERS.replace(",", separator), target="kind", name=name)
    nan = np.nan
    expected = [[1.5, 1, 1, 5], [nan, 2, 0, 6], [2.5, 1, 1, 5], [0.5, nan, 0, 6], [3.5, 0, 0, nan]]
    np.testing.assert_array_equal(examples.x, np.array(expected, np.float32))
    assert examples.columns == ("width", "colour", "wild", "petals")
    assert examples.categorical == (1,)
    assert examples.y.tolist() == [2, 1, 2, 1, 0]
    assert examples.classes == ["iris", "lily", "rose"]
    assert examples.task == "classification"


def test_csv_types_can_be_overridden(tmp_path):
    (tmp_path / "a.csv").write_text(FLOWERS)
    settings = "target=width categorical=[petals] drop=[colour] drop_unlabelled=true".split()
    overrides = ["dataset=csv", f"data_dir={tmp_path}", "dataset.path=a.csv"]
    examples = data.read(compose(overrides + [f"dataset.{setting}" for setting in settings]))
    assert examples.columns == ("wild", "petals", "kind")
    assert examples.categorical == (1, 2)
    np.testing.assert_array_equal(examples.x[:, 1], [0, 0, 1, np.nan])
    assert examples.task == "regression"
    assert examples.y.tolist() == [[1.5], [2.5], [0.5], [3.5]]


@pytest.mark.parametrize(
    ("values", "override", "task", "classes"),
    [
        (["b", "a", "b", "a"], "auto", "binary", ["a", "b"]),
        (["True", "False", "True"], "auto", "binary", ["False", "True"]),
        (["10", "9", "10", "2"], "auto", "classification", ["2", "9", "10"]),
        (["1.0", "2.0", "1.0"], "auto", "binary", ["1", "2"]),
        (["1.0", "2.5", "1.0"], "auto", "regression", []),
        ([str(n) for n in range(20)], "auto", "classification", [str(n) for n in range(20)]),
        ([str(n) for n in range(21)], "auto", "regression", []),
        (["0", "1", "0"], "classification", "classification", ["0", "1"]),
        (["0", "1", "0"], "binary", "binary", ["0", "1"]),
        (["0", "1", "0"], "regression", "regression", []),
        (["0.5", "1", "0.5"], "classification", "classification", ["0.5", "1"]),
        (
            [str(n) for n in range(30)],
            "classification",
            "classification",
            list(map(str, range(30))),
        ),
    ],
)
def test_the_task_of_a_csv(csv, values, override, task, classes):
    text = "x,y\n" + "".join(f"{i / 7},{value}\n" for i, value in enumerate(values))
    examples = csv(text, target="y", task=override)
    assert examples.task == task
    assert examples.classes == classes
    if classes:
        assert [classes[label] for label in examples.y] == [
            value.removesuffix(".0") for value in values
        ]
    else:
        assert examples.y[:, 0].tolist() == [float(value) for value in values]


def test_several_targets_are_a_regression(csv):
    examples = csv("a,b,c\n1,2,3\n4,5,6\n", target=["c", "a"])
    assert (examples.task, examples.columns) == ("regression", ("b",))
    assert examples.y.tolist() == [[3, 1], [6, 4]]


def test_a_word_for_a_missing_value_and_a_mark_in_front(csv):
    examples = csv("\ufeffa,b\n1,x\n?,y\n-9,x\n", target="b", missing=["?", "-9"])
    np.testing.assert_array_equal(examples.x[:, 0], [1, np.nan, np.nan])
    assert examples.columns == ("a",)


def test_a_csv_of_all_kinds_equals_pandas(csv, draw):
    n = 500
    table = pd.DataFrame(
        {
            "float": draw.normal(size=n) * 10.0 ** draw.integers(-30, 30, n),
            "int": draw.integers(-1000, 1000, n),
            "bool": draw.random(n) < 0.5,
            "text": draw.choice(["ü", "a, b", 'say "x"', "NaNa", "two\nlines"], n),
            "2020": draw.integers(0, 5, n),
            "maybe": draw.choice(np.array([True, False, None]), n),
            "target": draw.normal(size=n),
        }
    )
    table.loc[draw.random(n) < 0.1, ["float", "text"]] = np.nan
    examples = csv(table.to_csv(index=False), target="target", categorical=["2020"])
    assert examples.categorical == (3, 4)
    for number, name in enumerate(["float", "int", "bool", "text", "2020", "maybe"]):
        column = table[name]
        if name in ("text", "2020"):
            codes = column.astype("category").cat.codes
            expected = codes.where(codes >= 0, np.nan)
        else:
            expected = column.astype(float)
        np.testing.assert_array_equal(examples.x[:, number], expected.to_numpy(np.float32))
    np.testing.assert_array_equal(examples.y[:, 0], table["target"].to_numpy(np.float32))


def test_a_column_that_becomes_text_late_is_text_from_the_start(csv):
    rows = 300_000  # more than pandas looks at in one piece
    examples = csv("a,y\n" + "1,0\n" * rows + "x,1\n" * 2, target="y", categorical=["a"])
    assert examples.categorical == (0,)
    assert examples.x[:, 0].sum() == 2  # the code of x; that of 1 is 0


@pytest.mark.parametrize("head", ["a,t,b\n1,u,x\n", "a, t, b\n1, u, x\n", "a ,t ,b \n1 ,u ,x \n"])
def test_spaces_around_texts_are_no_part_of_them(csv, head):
    """Wherever the first one stands."""
    examples = csv(head + "2, u,y\n3 ,v ,x \n ,v, y\n5,  ,\ty\n", target="b")
    assert (examples.classes, examples.y.tolist()) == (["x", "y"], [0, 1, 0, 1, 1])
    assert (examples.columns, examples.categories) == (("a", "t"), (("u", "v"),))
    nan = np.nan
    np.testing.assert_array_equal(examples.x, [[1, 0], [2, 0], [3, 1], [nan, 1], [5, nan]])


def test_truth_values_and_words_for_missing_ones_may_have_spaces(csv):
    examples = csv("a,b,y\n1,true,0\n2,false ,1\n3, NA,0\n4,true,1\n", target="y")
    assert examples.categorical == ()
    np.testing.assert_array_equal(examples.x[:, 1], [1, 0, np.nan, 1])


def test_categories_are_what_the_file_says(csv):
    """Not what pandas makes of them; but a gap, which makes 11.0 of 11, changes nothing."""
    examples = csv("zip,y\n01,0\n1,1\n11.0,0\n11,1\n", target="y", categorical=["zip"])
    assert examples.categories == (("01", "1", "11"),)
    assert examples.x[:, 0].tolist() == [0, 1, 2, 2]


def test_a_word_such_as_na_can_be_kept(csv):
    text = "a,y\nNA,NA\nDE,DE\n,NA\nNA,DE\n"
    examples = csv(text, target="y", missing_words=False)
    assert examples.classes == ["DE", "NA"]
    np.testing.assert_array_equal(examples.x[:, 0], [1, 0, np.nan, 1])


def test_classes_of_large_numbers_keep_their_names_apart(csv):
    text = "a,y\n1,1000001\n2,1000002\n3,\n4,1000001\n"
    assert csv(text, target="y", drop_unlabelled=True).classes == ["1000001", "1000002"]


THIRTY = "".join(f"{n},{n / 10}\n" for n in range(30))
COMMAS = "x;y\n" + "2.5;1.5\n1.5;2.5\n" * 3
THOUSANDS = "sum;y\n" + "-1,400;0\n12,500;1\n500;0\n" * 3
PRICES = "price;y\n" + "1,5;0\n2,5;1\n3;0\n?;1\n1,5;0\n" * 3
MANY = "day,y\n" + "".join(f"d{n},{n % 2}\n" for n in range(1002)) + "d0,0\n"


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (FLOWERS, {}, r"dataset\.target=NAME.*width, colour"),
        (FLOWERS, dict(target="knd"), "no column.*Did you mean kind"),
        (FLOWERS, dict(target="kind", separator="semicolon"), "a sign of another separator"),
        (FLOWERS, dict(target="kind", drop=["kind"]), "drop: 'kind' is no column"),
        (FLOWERS, dict(target="kind", numeric=["size"]), "numeric: 'size' is no column"),
        (FLOWERS, dict(target="kind", numeric=["colour"]), r"'blue' in .*'colour' is no number"),
        (FLOWERS, dict(target="kind", numeric=["wild"], categorical=["wild"]), "'wild' is in data"),
        (FLOWERS, dict(target="kind", task="regression"), "'iris' in column 'kind' is no number"),
        (FLOWERS, dict(target="kind", task="binary"), "3 different values, and task binary needs"),
        (FLOWERS, dict(target=["kind", "wild"], task="binary"), "names several columns"),
        (FLOWERS, dict(target=["kind", "wild"]), "'iris' in column 'kind' is no number"),
        (
            FLOWERS,
            dict(target="petals"),
            "missing in 1 of 5 rows, first in row 5.*unlabelled=t",
        ),
        (FLOWERS, dict(target="kind", drop="width colour wild petals".split()), "no column left"),
        ("a,b\n1,\n2,\n", dict(target="b", drop_unlabelled=True), "missing in 2 of 2 rows"),
        ("a,b\n1,x\n2,x\n", dict(target="b"), "1 different values"),
        ("a,b,a\n1,2,3\n", dict(target="b"), "two columns are called 'a'"),
        ("a,b\n1,2,3\n1,2,3\n", dict(target="b"), "no table"),
        ("a,b\n1,2\n1,2,3\n", dict(target="b"), "no table"),
        ('a,b\n"1,2\n', dict(target="b"), "no table"),
        ("", dict(target="b"), "is empty"),
        (" \n\n", dict(target="b"), "is empty"),
        ("a,e,b\n1,,x\n2,,y\n", dict(target="b"), r"'e' is empty.*'dataset.drop=\[e\]'"),
        (COMMAS, dict(target="y", decimal="comma"), "'1.5'.*decimal point: dataset.decimal=point"),
        (COMMAS, dict(target="x", decimal="comma"), "'1.5'.*decimal point: dataset.decimal=point"),
        (THOUSANDS, dict(target="y"), "'-1,400'.*thousands: dataset.units=strip takes each ','"),
        (THOUSANDS, dict(target="sum"), "'-1,400'.*thousands: dataset.units=strip takes each ','"),
        ("x,y\n1,?\n2,3\n3,1.5\n", dict(target="y", task="regression"), r"missing=\[\?\]"),
        (
            FLOWERS,
            dict(target=["wild", "kind"]),
            "'iris' .* no number. The column is text",
        ),
        ("x,y\n1,NA\n2,SA\n3,DE\n", dict(target="y"), "such as NA.*dataset.missing_words=false"),
        ("a,b\n", dict(target="b"), "no rows"),
        (
            "a,b\né,1\n".encode("latin-1"),
            dict(target="b"),
            "not text in UTF-8.*encoding=cp1252",
        ),
        (
            "é,b\n2,1\n".encode("latin-1"),
            dict(target="b"),
            "not text in UTF-8.*encoding=cp1252",
        ),
        (b"\x1f\x8b junk", dict(target="b"), "cannot be read"),
        ("a,b\n2,y\ninf,x\n", dict(target="b"), "infinite inputs.*'a' of example 2 "),
        ("a,b\n1e39,x\n2,y\n", dict(target="b"), "infinite inputs.*'a' of example 1 "),
        ("a,b\n2,1.5\n1,inf\n", dict(target="b"), "targets .*infinite.*example 2 "),
        (FLOWERS, dict(target=["wild", "wild"]), "dataset.target names a column twice: wild, wild"),
        ("a,y\n" + THIRTY, dict(target="y", task="classification"), "30 diff.*0.1: .*=regression"),
        (",y\n" + THIRTY, dict(target="y"), r"column 0 .* has no name.*drop=\[Unnamed: 0\]"),
        ('"a\nb","a\nb",y\n1,2,3\n', dict(target="y"), "two columns are called"),
        (PRICES, dict(target="y"), "'price' has texts such as '1,5'.*decimal=comma.*l=.price"),
        (PRICES, dict(target="price"), "'1,5'.*dataset.decimal=comma.*dataset.task=classification"),
        (PRICES, dict(target="price", task="regression"), "'1,5'.*dataset.decimal=comma"),
        (PRICES, dict(target="y", numeric=["price"]), "'1,5'.*dataset.decimal=comma"),
        (PRICES, dict(target="y", decimal="comma"), r"'price' has numbers.*'\?'.*missing=\[\?\]"),
        ("a,y\n1,?\n" + THIRTY, dict(target="y"), r"'y' has numbers.*missing=\[\?\].*=classif"),
        ('"a,b",y\nu,1\nv,2\n', dict(target="y"), r"drop=\[\"a,b\"\]"),
        (b"PK\x03\x04" + bytes(range(256)), dict(target="y"), "zip archive"),
        (MANY, dict(target="y"), r"column 'day' has 1,002 different texts.*dataset\.drop=\[day\]"),
        ("day,y\nmon,1\ntue,2\nwed,1\n", dict(target="y"), "3 different texts in 3 rows"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(csv, text, settings, message):
    with pytest.raises(UserError, match=message):
        csv(text, **settings)


def test_decimal_commas(csv):
    settings = dict(target="y", decimal="comma")
    examples = csv(PRICES, missing=["?"], **settings)
    np.testing.assert_array_equal(examples.x[:5, 0], [1.5, 2.5, 3, np.nan, 1.5])
    assert csv(PRICES, target="y", categorical=["price"]).categories == (("1,5", "2,5", "3", "?"),)
    quoted = csv('a,y\n"1,5",u\n"2,5",v\n', **settings)
    assert quoted.x[:, 0].tolist() == [1.5, 2.5]
    assert csv("y;a\n0,5;1\n1,5;2\n", **settings).y.tolist() == [[0.5], [1.5]]


def test_columns_of_all_types_in_any_order_keep_their_places(csv, draw):
    rows = 9000  # more than are written at once
    columns = {
        "a": draw.normal(size=rows), "b": draw.normal(size=rows), "c": draw.integers(0, 9, rows),
        "d": draw.choice(["u", "v"], rows), "e": draw.random(rows) < 0.5,
        "f": draw.normal(size=rows), "g": draw.integers(0, 3, rows), "h": draw.normal(size=rows),
    }  # fmt: skip
    for order in ("abcdefgh", "hgfedcba", "dahbgcfe"):
        table = pd.DataFrame({name: columns[name] for name in order})
        settings = dict(target="f", drop=["b"], categorical=["g"])
        examples = csv(table.to_csv(index=False), **settings)
        assert examples.columns == tuple(name for name in order if name not in "fb")
        for name, column in zip(examples.columns, examples.x.T, strict=True):
            whole = columns[name] if name != "d" else columns[name] == "v"
            np.testing.assert_array_equal(column, whole.astype(np.float32))
        assert [examples.columns[i] for i in examples.categorical] == [
            c for c in order if c in "dg"
        ]
        np.testing.assert_array_equal(examples.y[:, 0], columns["f"].astype(np.float32))


@pytest.mark.parametrize(
    ("text", "x", "classes"),
    [
        ("\n\n  \na;y\n1;u\n2;v\n", [1, 2], ["u", "v"]),
        ('\ufeff"a"\t"y"\n1\tu\n2\tv\n', [1, 2], ["u", "v"]),
        ("a,y\r\n1,u\n2,v\r\n", [1, 2], ["u", "v"]),
        ("a,y\r1,u\r2,v\r", [1, 2], ["u", "v"]),
        ('"a\nb",y\n1,"u\nu"\n2,"v, ""w"""\n', [1, 2], ["u\nu", 'v, "w"']),
        ("a,y\n1, u\n2, v\n", [1, 2], ["u", "v"]),
        (f"a,y\n1,{'u' * 200_000}\n2,v\n", [1, 2], ["u" * 200_000, "v"]),
        ("a,y\n,u\nTrue,v\nFalse,u\n", [np.nan, 1, 0], ["u", "v"]),
        (f"a,y\n{10**20},u\n1,v\n", [1e20, 1], ["u", "v"]),
    ],
    ids="blank,BOM and tabs,mixed ends,old ends,in quotes,spaces,long,gaps,huge".split(","),
)
def test_an_odd_csv_is_read_all_the_same(csv, text, x, classes):
    examples = csv(text, target="y")
    np.testing.assert_array_equal(examples.x[:, 0], np.array(x, np.float32))
    assert examples.classes == classes
    assert examples.categorical == ()


def test_rows_without_a_target_are_left_out_of_everything(csv):
    text = "a,b,y\n1,u,x\n2,v,\n3,u,z\n4,w,z\n"
    examples = csv(text, target="y", drop_unlabelled=True)
    assert examples.x.tolist() == [[1, 0], [3, 0], [4, 1]]
    assert (examples.y.tolist(), examples.classes) == ([0, 1, 1], ["x", "z"])
    assert examples.categories == (("u", "w"),)


def test_other_texts_become_the_run_s_codes(csv, tmp_path):
    csv("a,b,y\n1,u,0\n2,v,1\n3,v,1\n", target="y")
    (tmp_path / "new.csv").write_text("b;more;a\nv;?;1,5\nw;?;2\n;?;\n")
    known = dict(columns=["a", "b"], categorical=[1], categories=[["u", "v"]])
    new = tables.like(tmp_path / "new.csv", known, Form(decimal="comma"))
    np.testing.assert_array_equal(new, [[1.5, 1], [2, np.nan], [np.nan, np.nan]])


def test_a_column_of_many_texts_can_be_insisted_on(csv):
    assert csv(MANY, target="y", categorical=["day"]).x.max() == 1001
    assert csv(MANY.replace("d", ""), target="y").categorical == ()  # numbers are no texts


def test_a_truncated_gzip_is_refused(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(os.urandom(2000).hex().encode())[:-100])
    with pytest.raises(UserError, match="cannot be read"):
        tables.csv(path=str(tmp_path / "a.csv.gz"), target="b")


def test_a_path_is_looked_for_in_the_working_folder_then_in_data_dir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("x,y\n1,0\n2,1\n")
    assert tables.csv(tmp_path / "data", path="a.csv", target="y").x[0, 0] == 1
    (tmp_path / "a.csv").write_text("x,y\n3,0\n4,1\n")
    assert tables.csv(tmp_path / "data", path="a.csv", target="y").x[0, 0] == 3
    with pytest.raises(UserError, match=r"no b\.csv nor .*data.b\.csv"):
        tables.csv(tmp_path / "data", path="b.csv", target="y")
    with pytest.raises(UserError, match=r"which file or folder: dataset\.path="):
        tables.csv(target="y")


def test_numbers_with_a_word_among_them_are_no_categories(tmp_path):
    file = tmp_path / "mixed.csv"
    file.write_text("a,y\n" + "".join(f"{'?' if i % 5 == 0 else i},{i % 2}\n" for i in range(40)))
    with pytest.raises(UserError, match=r"but also '\?'.*dataset.missing=\[\?\]"):
        tables.csv(path=str(file), target="y")
    examples = tables.csv(path=str(file), target="y", missing=["?"])
    assert np.isnan(examples.x[:, 0]).sum() == 8
    assert tables.csv(path=str(file), target="y", categorical=["a"]).categorical == (0,)
