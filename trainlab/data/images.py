"""Images from files in their official formats, and from folders of one's own."""

import io
import math
import pickle
import tarfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from trainlab.config import UserError
from trainlab.data.examples import Examples
from trainlab.data.files import contents, fetched, located, lying
from trainlab.data.layouts import image_files, splits_of

# ---------------------------------------------------------------- IDX: mnist and its likes

_MNIST_FILES = {  # name -> SHA-256 of the gzip file
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"

_FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"


def mnist(data_dir: Path | None = None, download: bool = False) -> Examples:
    """70,000 handwritten digits: x (N, 1, 28, 28) bytes, y in 0…9, the last 10,000 the test set.

    LeCun et al. 1998. Reads the four official IDX files, gzipped or not, from `data_dir`/mnist, or
    where torchvision puts them.
    """
    digits = [str(c) for c in range(10)]
    return _idx_dataset("mnist", data_dir, download, _MNIST_URL, _MNIST_FILES, digits)


def fashion_mnist(data_dir: Path | None = None, download: bool = False) -> Examples:
    """70,000 pictures of clothes in the form of `mnist`, from `data_dir`/fashion_mnist.

    Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.
    """
    return _idx_dataset(
        "fashion_mnist", data_dir, download, _FASHION_MNIST_URL, _FASHION_MNIST_FILES,
        _CLOTHES.split(","),
    )  # fmt: skip


def _idx_dataset(
    dataset: str,
    data_dir: Path | None,
    download: bool,
    url: str,
    files: dict[str, str],
    classes: list[str],
) -> Examples:
    """Four files: training images and labels, test images and labels."""
    arrays = [
        read_idx(fetched(f"{name}.gz", dataset, data_dir, download, url, checksum, _dotted(name)))
        for name, checksum in files.items()
    ]
    for images, labels in (arrays[:2], arrays[2:]):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise UserError(
                f"dataset={dataset}: images of shape {images.shape} and labels of shape "
                f"{labels.shape} do not belong together; a file is not what its name says."
            )
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise UserError(f"dataset={dataset}: training and test images differ in size.")
    x = np.concatenate([arrays[0], arrays[2]])[:, None]
    y = np.concatenate([arrays[1], arrays[3]]).astype(np.int64)
    return Examples(x, y, "classification", classes, low=0.0, high=255.0, test=len(arrays[2]))


def _dotted(name: str) -> tuple[str, str]:
    """Other names of an IDX file: Kaggle's train-images.idx3-ubyte, gzipped or not."""
    dotted = name.replace("-idx", ".idx")
    return dotted, f"{dotted}.gz"


_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """An array from a file in the IDX format, gzipped or not: magic (0, 0, type, rank), sizes,
    values.

    Raises UserError where the file is truncated, damaged, or something else.
    """
    raw = contents(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or raw[3] == 0:
        raise UserError(
            f"{path} is not an IDX file (it begins with {raw[:4].hex(' ') or 'nothing'})."
        )
    rank, start = raw[3], 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:start], ">u4") if len(raw) >= start else np.empty(0)
    dtype = np.dtype(_IDX_TYPES[raw[2]])
    expected = start + math.prod(map(int, shape)) * dtype.itemsize
    if len(shape) < rank or len(raw) != expected:
        raise UserError(
            f"{path} is damaged: its header announces {expected:,} bytes, it has {len(raw):,}. "
            "Fetch it again."
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(tuple(int(n) for n in shape))


# ---------------------------------------------------------------- python pickles: cifar

_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_CIFAR10, _CIFAR10_FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
_CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
_CIFAR100, _CIFAR100_FOLDER = "cifar-100-python.tar.gz", "cifar-100-python"
_CIFAR100_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"


def cifar10(data_dir: Path | None = None, download: bool = False) -> Examples:
    """60,000 photographs: x (N, 3, 32, 32) bytes, y in 0…9, the last 10,000 the test set.

    Krizhevsky 2009. Reads the official python version from `data_dir`/cifar10: the archive
    cifar-10-python.tar.gz, or the folder cifar-10-batches-py that is in it.
    """
    path = fetched(
        _CIFAR10, "cifar10", data_dir, download, _CIFAR_URL, _CIFAR10_SHA256, [_CIFAR10_FOLDER]
    )
    batches = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return _cifar(path, _CIFAR10_FOLDER, batches, b"labels", "batches.meta", b"label_names")


def cifar100(data_dir: Path | None = None, download: bool = False, fine: bool = True) -> Examples:
    """60,000 photographs in the form of `cifar10`, of 100 classes, or of their 20 superclasses.

    Reads cifar-100-python.tar.gz, or the folder cifar-100-python, from `data_dir`/cifar100.
    """
    folder = _CIFAR100_FOLDER
    path = fetched(
        _CIFAR100, "cifar100", data_dir, download, _CIFAR_URL, _CIFAR100_SHA256, [folder]
    )
    kind = b"fine" if fine else b"coarse"
    return _cifar(
        path, folder, ["train", "test"], kind + b"_labels", "meta", kind + b"_label_names"
    )


def _cifar(
    path: Path, folder: str, batches: Sequence[str], labels: bytes, meta: str, names: bytes
) -> Examples:
    """The examples of some batches, the last of which is the test set."""
    members = _members(path, folder, [*batches, meta])
    try:
        read = [_unpickled(members[batch]) for batch in batches]
        images = [_pixels(batch[b"data"]) for batch in read]
        y = [np.array(batch[labels], np.int64) for batch in read]
        classes = [name.decode() for name in _unpickled(members[meta])[names]]
        if [len(part) for part in images] != [len(part) for part in y]:
            raise ValueError("it has not one label for each image")
    except Exception as error:  # a hostile pickle can raise whatever it likes
        raise UserError(
            f"{path} is refused: it is not what CIFAR's files are ({error})."
        ) from error
    return Examples(
        np.concatenate(images), np.concatenate(y), "classification", classes,
        low=0.0, high=255.0, test=len(y[-1]),
    )  # fmt: skip


def _members(path: Path, folder: str, names: Sequence[str]) -> dict[str, bytes]:
    """Files of a folder, or of a tar archive that holds the folder; nothing is extracted to disk.

    Raises UserError where one is missing, or the archive has what no honest one has.
    """
    if path.is_dir():
        found = {name: contents(path / name) for name in names if (path / name).is_file()}
    else:
        found = {}
        raw = contents(path)
        try:
            with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
                for member in archive:
                    place = PurePosixPath(member.name)
                    _check_member(path, member, place, len(raw))
                    if str(place.parent) == folder and place.name in names and member.isreg():
                        found[place.name] = archive.extractfile(member).read()
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{path} is damaged: {error}. Fetch it again.") from error
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{path} is damaged: it has no {folder}/{missing[0]}. Fetch it again.")
    return found


def _check_member(path: Path, member: tarfile.TarInfo, place: PurePosixPath, limit: int) -> None:
    for wrong, what in (
        (not (member.isreg() or member.isdir()), "is neither a file nor a folder"),
        (place.is_absolute() or ".." in place.parts, "lies outside the archive"),
        (member.size > limit, f"announces {member.size:,} bytes, more than the archive has"),
    ):
        if wrong:
            raise UserError(f"{path} is refused: its member {member.name!r} {what}.")


class _Inert:
    """Stands in for what a pickle makes of numpy: keeps what it is told, and does nothing."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Admits the names in a pickled array of numbers, and even of these runs nothing."""

    def find_class(self, module: str, name: str) -> Callable:
        if f"{module}.{name}" in (
            "numpy.core.multiarray._reconstruct",
            "numpy._core.multiarray._reconstruct",
            "numpy.ndarray",
            "numpy.dtype",
        ):
            return _Inert
        if f"{module}.{name}" == "_codecs.encode":  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin-1")
        raise UserError(f"a pickle in it wants to call {module}.{name}")


def _unpickled(raw: bytes) -> Any:
    """What a pickle of Python 2 holds, its texts as bytes, its arrays as `_Inert`."""
    return _Unpickler(io.BytesIO(raw), encoding="bytes").load()


def _pixels(stored: _Inert) -> np.ndarray:
    """Images (n, 3, 32, 32) from a pickled array (n, 3072) of bytes: red, then green, then blue."""
    _, shape, dtype, columns_first, raw = stored.state
    if dtype.arguments[0] not in (b"u1", "u1") or columns_first or shape[1:] != (3072,):
        raise ValueError("the images are no array (n, 3072) of bytes")
    return np.frombuffer(raw, np.uint8).reshape(shape[0], 3, 32, 32)


OFFICIAL = {  # dataset -> its files -> other names that they have
    "mnist": {f"{name}.gz": _dotted(name) for name in _MNIST_FILES},
    "fashion_mnist": {f"{name}.gz": _dotted(name) for name in _FASHION_MNIST_FILES},
    "cifar10": {_CIFAR10: (_CIFAR10_FOLDER,)},
    "cifar100": {_CIFAR100: (_CIFAR100_FOLDER,)},
}


def missing(dataset: str, data_dir: Path | None = None) -> list[str]:
    """The files of an official dataset that are not where they are looked for; none is read."""
    files = OFFICIAL[dataset].items()
    return [name for name, also in files if not lying(name, dataset, data_dir, also)]


# ---------------------------------------------------------------- a folder of images

_MODES = ("L", "LA", "RGB", "RGBA")  # Pillow's names, by number of channels


def image_folder(
    data_dir: Path | None = None,
    download: bool = False,
    path: str | None = None,
    size: int = 32,
    channels: int = 3,
    splits: str = "auto",
) -> Examples:
    """Images of a folder that has a folder for each class, alone or in train/, val/ and test/.

    x (N, channels, size, size) bytes, of each image the largest square in its middle, scaled; y the
    class, in the order of the names. Anything Pillow reads but EPS; what other programs leave in
    folders is passed over. Layouts: `layouts.splits_of`.
    """
    root = located(path, "image_folder", data_dir)
    found = splits_of(root, splits)
    classes = list(found["train"])
    if not classes:
        raise UserError(f"{root} has no folders: at least two are needed, one for each class.")
    files = {
        split: [
            (file, classes.index(name))
            for name, folder in folders.items()
            for file in image_files(folder)
        ]
        for split, folders in found.items()
    }
    there = {label for _, label in files["train"]}
    for name, folder in found["train"].items():
        if classes.index(name) not in there:
            raise UserError(f"{folder} has no images.")
    for split, pairs in files.items():
        if not pairs:
            raise UserError(f"{root}: the split {split} has no images.")
    labelled = [pair for part in files.values() for pair in part]
    y = np.array([label for _, label in labelled], np.int64)
    return Examples(
        pictures([file for file, _ in labelled], root, size, channels),
        y, "binary" if len(classes) == 2 else "classification", classes, low=0.0, high=255.0,
        val=len(files.get("val", ())), test=len(files.get("test", ())),
    )  # fmt: skip


def pictures(files: Sequence[Path], root: Path, size: int, channels: int) -> np.ndarray:
    """Images from files below `root` as one array (N, channels, size, size) of bytes.

    Raises UserError that names those that are damaged.
    """
    x = np.empty((len(files), channels, size, size), np.uint8)
    damaged = []
    for row, file in zip(x, files, strict=True):
        try:
            row[:] = _image(file, size, channels)
        except Exception as error:  # each of Pillow's many readers has its own
            damaged.append(f"{file.relative_to(root)} ({error})")
    if damaged:
        raise UserError(
            f"{len(damaged)} of {len(files)} files in {root} are damaged or no images; repair or "
            f"remove them: {'; '.join(damaged[:5])}{'; …' * (len(damaged) > 5)}"
        )
    return x


def _image(file: Path, size: int, channels: int) -> np.ndarray:
    """One image (channels, size, size), turned upright as its camera noted."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file) as image:
            if image.format == "EPS":  # which Pillow would hand to Ghostscript
                raise ValueError("it is a program that draws; save it as PNG")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # Pillow would cut what is above 255
                upright = Image.fromarray(np.round(np.asarray(upright) / 257).astype(np.uint8))
            elif upright.mode in ("I", "F"):
                raise ValueError("its numbers have no range that images of bytes could have")
            upright = upright.convert(_MODES[channels - 1])
    fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(size, size, channels).transpose(2, 0, 1)
