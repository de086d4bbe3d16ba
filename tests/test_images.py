"""Folders of images of one's own."""

import json

import numpy as np
import pandas as pd
import pytest

from trainlab import data
from trainlab.config import UserError, compose
from trainlab.data import images


@pytest.fixture
def draw():
    return np.random.default_rng(0)


@pytest.fixture
def pil():
    return pytest.importorskip("PIL.Image")


@pytest.fixture
def photographs(tmp_path, pil, draw):
    """Write 8×8 images (N, 8, 8, 3) of classes, as PNG files that lose nothing."""

    def write(folder, classes):
        written = {}
        for name, count in classes.items():
            (tmp_path / folder / name).mkdir(parents=True)
            written[name] = draw.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
            for number, pixels in enumerate(written[name]):
                pil.fromarray(pixels).save(tmp_path / folder / name / f"{number}.png")
        return written

    return write


def test_image_folder_equals_what_was_written(tmp_path, photographs):
    written = photographs("mine", {"dog": 2, "cat": 3, "ant": 1})
    for left in (".hidden", "Thumbs.db", "._0.png", "notes.txt"):
        (tmp_path / "mine" / "cat" / left).write_text("passed over")
    examples = data.read(
        compose(["dataset=image_folder", f"dataset.path={tmp_path}/mine", "dataset.size=8"])
    )
    expected = np.concatenate([written[name] for name in ("ant", "cat", "dog")])
    assert np.array_equal(examples.x, expected.transpose(0, 3, 1, 2))
    assert examples.y.tolist() == [0, 1, 1, 1, 2, 2]
    assert examples.classes == ["ant", "cat", "dog"]
    assert (examples.task, examples.high, examples.test) == ("classification", 255.0, 0)


def test_image_folder_with_splits(tmp_path, photographs):
    """Official splits are split as they are, in the order train, val, test."""
    train = photographs("mine/Train", {"a": 3, "b": 2})
    test = photographs("mine/Test", {"a": 1, "b": 1})
    val = photographs("mine/valid", {"a": 2, "b": 1})
    examples = images.image_folder(path=str(tmp_path / "mine"), size=8)
    assert (examples.val, examples.test, examples.task) == (3, 2, "binary")
    assert examples.classes == ["a", "b"]
    assert examples.y.tolist() == [0, 0, 0, 1, 1, 0, 0, 1, 0, 1]
    for row, written in ((0, train["a"]), (5, val["a"]), (-1, test["b"])):
        assert np.array_equal(examples.x[row], written[0].transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(20, 60), (60, 20)])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_the_shorter_side_is_scaled_and_the_middle_cut(tmp_path, pil, draw, shape, channels, mode):
    photograph = pil.fromarray(draw.integers(0, 256, (*shape, 3), dtype=np.uint8))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        photograph.save(tmp_path / name / "x.png")
    x = images.image_folder(path=str(tmp_path), size=10, channels=channels).x
    height, width = shape
    scaled = photograph.convert(mode).resize((width // 2, height // 2), pil.Resampling.BILINEAR)
    left, upper = (scaled.width - 10) // 2, (scaled.height - 10) // 2
    expected = np.asarray(scaled.crop((left, upper, left + 10, upper + 10)))
    assert np.array_equal(x[1], expected.reshape(10, 10, channels).transpose(2, 0, 1))


def test_an_image_is_turned_as_its_camera_noted(tmp_path, pil):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0] = 255  # a light upper edge
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image = pil.fromarray(pixels)
        exif = image.getexif()
        exif[0x0112] = 6  # the camera lay on its side: turn clockwise
        image.save(tmp_path / name / "x.png", exif=exif)
    x = images.image_folder(path=str(tmp_path), size=4).x
    assert (x[0, :, :, -1] == 255).all()
    assert (x[0, :, :, :-1] == 0).all()


def test_damaged_images_are_named(tmp_path, photographs, pil, monkeypatch):
    photographs("mine", {"a": 2, "b": 2})
    folder = tmp_path / "mine"
    (folder / "a" / "0.png").write_bytes((folder / "a" / "0.png").read_bytes()[:60])
    (folder / "b" / "photo.heic").write_text("no image")
    with pytest.raises(UserError, match=r"2 of 5 files.*a/0\.png.*b/photo\.heic"):
        images.image_folder(path=str(folder))


def test_an_image_of_too_many_pixels_is_refused(tmp_path, photographs, pil, monkeypatch):
    photographs("mine", {"a": 1, "b": 1})
    monkeypatch.setattr(pil, "MAX_IMAGE_PIXELS", 50)  # of 64
    with pytest.raises(UserError, match=r"2 of 2 files.*decompression bomb"):
        images.image_folder(path=str(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "has no folders: at least two"),
        (["a"], "a has no images"),
        (["a", "b"], "a has no images"),
        (["train/a", "train/b", "test/a", "test/b"], "train/a has no images"),
    ],
)
def test_folders_that_are_no_classes_are_refused(tmp_path, folders, message):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        images.image_folder(path=str(tmp_path))


def test_a_split_without_images_and_a_single_class_are_refused(tmp_path, photographs):
    photographs("mine/train", {"a": 1, "b": 1})
    photographs("mine/test", {"a": 0, "b": 0})
    with pytest.raises(UserError, match="split test has no images"):
        images.image_folder(path=str(tmp_path / "mine"))
    photographs("one", {"a": 2})
    with pytest.raises(UserError, match="at least two"):
        data.read(compose(["dataset=image_folder", f"dataset.path={tmp_path}/one"]))


def test_sixteen_bits_become_eight_and_other_ranges_are_refused(tmp_path, pil):
    """Equal shares of the range; Pillow itself cuts what is above 255."""
    folder = tmp_path / "grey"
    for name, value in (("dark", 0x3000), ("light", 0xD000)):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((8, 8), value + i, np.uint16)
            pil.fromarray(pixels).save(folder / name / f"{i}.png")
    examples = images.image_folder(path=str(folder), size=8, channels=1)
    assert sorted(np.unique(examples.x).tolist()) == [48, 207]  # value / 257
    pil.fromarray(np.full((8, 8), 0.5, np.float32)).save(folder / "dark" / "float.tiff")
    with pytest.raises(UserError, match="no range"):
        images.image_folder(path=str(folder), size=8, channels=1)


@pytest.fixture(scope="module")
def two_shades(tmp_path_factory):
    """Bright and dark images, the working folder of a run on them, and its folder."""
    pil = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("shades")
    draw = np.random.default_rng(0)
    for name, low in (("bright", 160), ("dark", 0)):
        (root / "all" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(low, low + 90, (6, 6, 3), dtype=np.uint8)
            pil.fromarray(pixels).save(root / "all" / name / f"{number:02}.png")
    return root


def test_images_are_predicted_by_their_files(two_shades, trainlab, folder):
    """From one image or a folder of folders, each with its name; and a folder is evaluated."""
    typed = ["dataset=image_folder", f"dataset.path={two_shades}/all", "dataset.size=6"]
    run = trainlab("train", "-q", *typed, "epochs=40", "arch=linear", "optimizer.lr=0.05")
    assert run.code == 0, run.err
    call = ["predict", str(run.path), "--output", "out.csv", "--input"]
    assert trainlab(*call, f"{two_shades}/all").code == 0
    table = pd.read_csv(folder / "out.csv")
    assert list(table) == ["file", "prediction", "p_bright", "p_dark"]
    assert table["file"].tolist()[:2] == ["bright/00.png", "bright/01.png"]
    assert (table["file"].str.partition("/")[0] == table["prediction"]).all()
    assert trainlab(*call, f"{two_shades}/all/dark/03.png").code == 0
    one = pd.read_csv(folder / "out.csv")
    assert one.to_dict("records")[0] == pytest.approx(
        table.set_index("file", drop=False).loc["dark/03.png"].to_dict() | {"file": "03.png"}
    )
    (folder / "few" / "dark").mkdir(parents=True)
    (folder / "few" / "Thumbs.db").touch()
    for call_of, message in (
        ([*call, "few"], "no images"), ([*call, "nothing"], "no such file"),
        ([*call, str(run.path / "config.yaml")], "1 of 1 files"),
    ):  # fmt: skip
        answer = trainlab(*call_of)
        assert (answer.code, message in answer.err) == (2, True), answer.err
    for number in range(3):
        file = f"dark/{number:02}.png"
        (folder / "few" / file).write_bytes((two_shades / "all" / file).read_bytes())
    answer = trainlab("eval", str(run.path), "--data", "few", "--json")  # of one class only
    assert json.loads(answer.out)["all"]["accuracy"] == 1.0
