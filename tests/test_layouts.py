"""What folders and arrays are called, and which splits and classes these are taken for."""

import pytest

from trainlab.config import UserError
from trainlab.data.layouts import image_files, split_in, splits_of


def made(root, *files):
    """Files, empty, below a folder; and the folder."""
    root.mkdir(exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def tree(*folders):
    return [f"{folder}/1.png" for folder in folders]


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("train", "train", ""),
        ("Train", "train", ""),
        ("TRAINING", "train", ""),
        ("Training_Set", "train", "set"),
        ("trainset", "train", ""),
        ("seg_train", "train", "seg"),
        ("valid", "val", ""),
        ("Validation", "val", ""),
        ("x_val", "val", "x"),
        ("X_test", "test", "x"),
        ("XTest", "test", "x"),
        ("xtest", "test", "x"),
        ("testX", "test", "x"),
        ("y-testing", "test", "y"),
        ("test_images", "test", "images"),
        ("trains", None, "trains"),
        ("latest", None, "latest"),
        ("contest", None, "contest"),
        ("2024", None, "2024"),
        ("été", None, "t"),
        ("", None, ""),
    ],
)
def test_the_split_in_a_name(name, split, rest):
    assert split_in(name) == (split, rest)


@pytest.mark.parametrize("wrapped", ["", "archive/", "a/b/"])
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train/{}", None, "Test/{}"),
        ("train/{}", "val/{}", "test/{}"),
        ("TRAINING/{}", "Valid/{}", "Testing/{}"),
        ("training_set/training_set/{}", "validation-set/{}", "test_set/test_set/{}"),
        ("seg_train/seg_train/{}", None, "seg_test/{}"),
        ("train/{}", "dev/{}", None),
        ("{}/train", "{}/validation", "{}/test"),
        ("{}/Train", None, "{}/Test"),
    ],
)
def test_folders_of_splits(tmp_path, wrapped, train, val, test):
    """Whatever they are called, above the classes or below them, packed in other folders or not."""
    forms = {name: form for name, form in dict(train=train, val=val, test=test).items() if form}
    expected = {
        split: {name: tmp_path / "all" / f"{wrapped}{form}".format(name) for name in ("cat", "dog")}
        for split, form in forms.items()
    }
    folders = [folder for classes in expected.values() for folder in classes.values()]
    made(tmp_path / "all", *tree(*folders), "notes.txt", "__MACOSX/._x/._1.png", ".git/a/b")
    assert splits_of(tmp_path / "all") == expected


@pytest.mark.parametrize(
    "folders",
    [
        ["cat", "dog"],
        ["bus", "car", "train"],
        ["test_tubes", "bus"],
        ["cat/indoor", "cat/outdoor", "dog"],
        ["bus/new", "bus/old", "train/express", "train/freight"],
        ["Contest", "latest"],
    ],
)
def test_folders_of_classes(tmp_path, folders):
    names = sorted({folder.partition("/")[0] for folder in folders})
    root = made(tmp_path / "all", *tree(*folders))
    assert splits_of(root) == {"train": {name: root / name for name in names}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (tree("train/a", "train/b", "test/a", "test/b", "extra"), "also extra, .*dataset.path="),
        (tree("train/a", "train/b", "Train/a", "test/a", "test/b"), "2 folders for the split tr"),
        (tree("train/a", "train/b", "test"), "split test has no folders.*dataset.path=.*train'"),
        (tree("train", "test"), "split train has no folders.*dataset.splits=none"),
        (tree("train/a", "train/b", "test/a"), "class b is in one of the splits train and test"),
        (tree("train/a", "train/b", "val/a", "val/c"), "class b is in one of the splits train and"),
        (tree("a/train", "b/train", "a/test", "c/train", "c/test"), "a has folders for.*b has not"),
        (tree("fold1/a", "fold1/b", "fold2/a", "fold2/b"), r"fold1, fold2 .*each have.*path=.*/fo"),
        (tree("train/a", "train/b", "more"), "has train, in which there are folders"),
    ],
)
def test_what_may_be_splits_is_not_taken_for_classes(tmp_path, files, message):
    root = made(tmp_path / "all", *files)
    with pytest.raises(UserError, match=message):
        splits_of(root)


def test_folders_of_any_name_can_be_called_classes(tmp_path):
    root = made(tmp_path / "all", *tree("train/a", "train/b", "test/a", "test/b"))
    assert list(splits_of(root, "none")["train"]) == ["test", "train"]


def test_a_folder_without_images_beside_splits_is_passed_over(tmp_path):
    root = made(tmp_path / "all", *tree("train/a", "train/b", "test/a", "test/b"), "lists/a.csv")
    assert list(splits_of(root)) == ["train", "test"]


def test_what_other_programs_leave_is_no_image(tmp_path):
    root = made(
        tmp_path / "all", "1.png", "sub/2.JPG", "3", "4.heic", "Thumbs.db", "desktop.ini",
        "._1.png", ".DS_Store", "notes.TXT", "labels.csv", "__MACOSX/5.png", "@eaDir/6.png",
        "Icon\r", ".ipynb_checkpoints/7-checkpoint.png", "sub/boxes.xml",
    )  # fmt: skip
    names = [str(file.relative_to(root)) for file in image_files(root)]
    assert names == ["1.png", "3", "4.heic", "sub/2.JPG"]  # a photograph of any kind is tried
