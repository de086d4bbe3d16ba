"""Datasets: raw examples in, three splits out.

A dataset is a function `(data_dir, download, **settings) -> Examples`, named by a YAML file in
conf/dataset.
"""

import gzip
import hashlib
import importlib.util
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainlab import preprocess, streams
from trainlab.config import Config, UserError, build, build_each, find


@dataclass
class Examples:
    """What a dataset gives: inputs and targets as arrays, before any split or preprocessing.

    `x` (N, *shape); `y` (N,) integer classes 0…C−1 for tasks `classification` and `binary`,
    (N, K) floats for `regression`. `low`, `high`: the range of the inputs' type, where it has one.
    `categorical`: columns of `x` (N, D) that hold codes of categories; NaN is a missing value.
    `test`: how many of the last examples are the official test set.
    """

    x: np.ndarray
    y: np.ndarray
    task: str
    classes: list[str] = field(default_factory=list)
    low: float | None = None
    high: float | None = None
    test: int = 0
    categorical: tuple[int, ...] = ()

    def fingerprint(self) -> str:
        """A hash of the bytes: part of a run's identity."""
        digest = hashlib.blake2b(digest_size=8)
        for array in (self.x, self.y):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass
class Data:
    """Examples on the device, preprocessed, with their splits.

    `x` (N, *shape) float32; `y` (N,) int64 or (N, K) float32; `splits` name -> positions (n,) into
    both. Targets of a regression are standardized on the training split; `target_mean` and
    `target_scale` (K,) are their zero and unit.
    """

    x: Tensor
    y: Tensor
    splits: dict[str, Tensor]
    task: str
    classes: list[str]
    preprocess: preprocess.Chain
    raw_shape: list[int]  # of one input before it
    target_mean: Tensor | None = None
    target_scale: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, without the batch axis."""
        return tuple(self.x.shape[1:])

    @property
    def outputs(self) -> int:
        """How many a model needs: C logits, one for a binary task, K values for regression."""
        if self.task == "classification":
            return len(self.classes)
        return 1 if self.task == "binary" else self.y.shape[1]


def read(config: Config) -> Examples:
    """The examples a config names, checked; `max_examples` of them at most."""
    load = build(config, "dataset")
    if load is None:
        raise UserError("dataset has no _target_: nothing to load.")
    folder = Path(config["data_dir"]).expanduser() if config["data_dir"] else None
    examples = load(data_dir=folder, download=config["download"])
    name = config["choices"]["dataset"]
    _check(examples, name)
    if config["max_examples"] and config["max_examples"] < len(examples.x):
        examples = _thinned(examples, config["max_examples"], config["split_seed"])
    return examples


def prepare(
    examples: Examples, config: Config, device: torch.device, saved: dict[str, Any] | None = None
) -> Data:
    """Split, move to the device, fit the preprocessing on the training split, apply it to all.

    With what a run has `saved` of its own preprocessing, on this device, nothing is fitted.
    """
    splits = split_of(examples, config)
    x = torch.from_numpy(np.ascontiguousarray(examples.x)).to(device).float()
    y = torch.from_numpy(np.ascontiguousarray(examples.y)).to(device)
    positions = {name: torch.from_numpy(p).to(device) for name, p in splits.items()}
    raw_shape = list(x.shape[1:])
    if saved:
        if saved["shape"] != raw_shape:
            raise UserError(
                f"The run was trained on inputs of shape {saved['shape']}; those of "
                f"dataset={config['choices']['dataset']} have {raw_shape}."
            )
        chain = preprocess.load(saved["preprocess"], partial(find, trusted=config["trusted"]))
    else:
        about = preprocess.About(examples.low, examples.high, examples.categorical)
        steps = list(build_each(config, "preprocess").values())
        chain = preprocess.fit(steps, x[positions["train"]], about)
    x = chain(x)
    preprocess.check_finite(x)
    if examples.task != "regression":
        return Data(x, y.long(), positions, examples.task, examples.classes, chain, raw_shape)
    y = y.float()
    if saved:
        mean, scale = saved["target_mean"], saved["target_scale"]
    else:
        targets = y[positions["train"]]
        mean, scale = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-12)
    y = (y - mean) / scale
    return Data(
        x, y, positions, examples.task, examples.classes, chain, raw_shape, mean, scale
    )  # fmt: skip


def saved(data: Data) -> dict[str, Any]:
    """What has to be kept to prepare other data the same way: see `prepare`."""
    return {
        "preprocess": preprocess.state(data.preprocess),
        "shape": data.raw_shape,
        "target_mean": data.target_mean,
        "target_scale": data.target_scale,
    }


def split_of(examples: Examples, config: Config) -> dict[str, np.ndarray]:
    """The splits a config asks for: see `split`."""
    return split(examples, config["val_fraction"], config["test_fraction"], config["split_seed"])


def split(
    examples: Examples, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, np.ndarray]:
    """Disjoint positions of the training, validation and test examples, in rising order.

    Stratified for classes: every split gets each class in proportion, and at least one of each. The
    official test set is kept where the data bring one.
    """
    own_test = examples.test > 0
    pool = np.arange(len(examples.x) - examples.test)
    rng = streams.stream(seed, "split")
    if examples.task == "regression":
        strata = [pool]
    else:
        labels = examples.y[: len(pool)]
        strata = [pool[labels == c] for c in range(len(examples.classes))]
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for c, stratum in enumerate(strata):
        needed = 2 if own_test else 3
        if len(stratum) < needed:
            what = f"class {examples.classes[c]}" if examples.classes else "the dataset"
            raise UserError(
                f"Too small to split: {what} has {len(stratum)} examples, and training, validation"
                f"{'' if own_test else ' and test'} need at least one each. Use more examples"
                " (max_examples, dataset settings)."
            )
        shuffled = stratum[torch.randperm(len(stratum), generator=rng).numpy()]
        n_test = 0 if own_test else max(1, round(test_fraction * len(stratum)))
        n_val = max(1, round(val_fraction * len(stratum)))
        n_val = min(n_val, len(stratum) - n_test - 1)
        if n_val < 1:
            n_test, n_val = len(stratum) - 2, 1
        parts["test"].append(shuffled[:n_test])
        parts["val"].append(shuffled[n_test : n_test + n_val])
        parts["train"].append(shuffled[n_test + n_val :])
    if own_test:
        parts["test"] = [np.arange(len(pool), len(examples.x))]
    return {name: np.sort(np.concatenate(chunks)) for name, chunks in parts.items()}


def _thinned(examples: Examples, limit: int, seed: int) -> Examples:
    """At most `limit` examples, the same share of every class (and of an official test set)."""
    n = len(examples.x)
    order = torch.randperm(n, generator=streams.stream(seed, "thin")).numpy()
    is_test = np.arange(n) >= n - examples.test
    group = is_test.astype(np.int64)
    if examples.task != "regression":
        group = group * len(examples.classes) + examples.y
    # Rank of each example inside its group, as a share: the lowest shares of all groups are kept.
    share = np.empty(n)
    for value in np.unique(group):
        members = order[group[order] == value]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    kept = np.sort(np.lexsort((np.argsort(order), share))[:limit])
    return Examples(
        examples.x[kept], examples.y[kept], examples.task, examples.classes,
        examples.low, examples.high, int(is_test[kept].sum()), examples.categorical,
    )  # fmt: skip


def _check(examples: Examples, name: str) -> None:
    if len(examples.x) != len(examples.y):
        raise UserError(f"dataset={name}: {len(examples.x)} inputs but {len(examples.y)} targets.")
    if len(examples.x) == 0:
        raise UserError(f"dataset={name} has no examples.")
    if not np.issubdtype(examples.x.dtype, np.integer) and np.isinf(examples.x).any():
        raise UserError(f"dataset={name} has infinite inputs.")
    if examples.task == "regression":
        if not np.isfinite(examples.y).all():
            raise UserError(f"dataset={name} has targets that are not finite (NaN or infinity).")
        return
    classes = len(examples.classes)
    low, high = int(examples.y.min()), int(examples.y.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"dataset={name}: labels run from {low} to {high}, but there are {classes} classes "
            f"(0 to {classes - 1}); the label file is damaged or belongs to other data."
        )


# ---------------------------------------------------------------- embedded


def _sklearn_file(name: str) -> Path:
    # scikit-learn's own loader would import all of scikit-learn, as long as importing torch itself.
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / name


def digits(data_dir: Path | None = None, download: bool = False) -> Examples:
    """1,797 handwritten digits: x (N, 1, 8, 8) in 0…16, y in 0…9 (Alpaydin & Kaynak 1998, UCI)."""
    with gzip.open(_sklearn_file("digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    names = [str(c) for c in range(10)]
    return Examples(
        table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].astype(np.int64), "classification", names,
        low=0.0, high=16.0,
    )  # fmt: skip


def diabetes(data_dir: Path | None = None, download: bool = False) -> Examples:
    """442 patients: x (N, 10) measurements, y (N, 1) disease progression (Efron et al. 2004)."""
    with gzip.open(_sklearn_file("diabetes_data_raw.csv.gz"), "rt") as file:
        x = np.loadtxt(file).astype(np.float32)
    with gzip.open(_sklearn_file("diabetes_target.csv.gz"), "rt") as file:
        y = np.loadtxt(file).astype(np.float32)
    return Examples(x, y[:, None], "regression")


def moons(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1000,
    noise: float = 0.2,
    seed: int = 0,
) -> Examples:
    """Two interleaving half circles: x (N, 2), y in {0, 1}.

    The upper moon is (cos t, sin t), the lower one (1 − cos t, 1/2 − sin t), t even in [0, π].
    """
    upper = examples // 2
    t0 = np.linspace(0, np.pi, upper)
    t1 = np.linspace(0, np.pi, examples - upper)
    x = np.concatenate(
        [np.stack([np.cos(t0), np.sin(t0)], 1), np.stack([1 - np.cos(t1), 0.5 - np.sin(t1)], 1)]
    )
    with np.errstate(over="ignore"):  # what is not finite is refused later
        noises = torch.randn(x.shape, generator=streams.stream(seed, "moons")).double().numpy()
        x = (x + noise * noises).astype(np.float32)
    y = np.repeat([0, 1], [upper, examples - upper])
    return Examples(x, y, "binary", ["upper", "lower"])


# ---------------------------------------------------------------- from files

_MNIST_FILES = {  # name -> SHA-256 of the gzip file
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def mnist(data_dir: Path | None = None, download: bool = False) -> Examples:
    """70,000 handwritten digits: x (N, 1, 28, 28) bytes, y in 0…9, the last 10,000 the test set.

    LeCun et al. 1998. Reads the four official IDX files, gzipped or not, from `data_dir`/mnist.
    """
    arrays = [
        read_idx(_file(name + ".gz", "mnist", data_dir, download, _MNIST_URL, checksum))
        for name, checksum in _MNIST_FILES.items()
    ]
    for images, labels in (arrays[:2], arrays[2:]):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise UserError(
                f"dataset=mnist: images of shape {images.shape} and labels of shape {labels.shape} "
                "do not belong together; a file is not what its name says."
            )
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise UserError("dataset=mnist: training and test images differ in size.")
    x = np.concatenate([arrays[0], arrays[2]])[:, None]
    y = np.concatenate([arrays[1], arrays[3]]).astype(np.int64)
    names = [str(c) for c in range(10)]
    return Examples(x, y, "classification", names, low=0.0, high=255.0, test=len(arrays[2]))


def _file(
    name: str, folder: str, data_dir: Path | None, download: bool, url: str, checksum: str
) -> Path:
    """The path of a data file: as it is where it lies there, else downloaded if that is allowed."""
    if data_dir is None:
        import platformdirs

        data_dir = Path(platformdirs.user_cache_dir("trainlab"))
    target = data_dir / folder
    for candidate in (target / name, target / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate
    if not download:
        raise UserError(
            f"dataset={folder}: {target / name} does not exist. Put the official files there, set "
            "data_dir (or the environment variable TRAINLAB_DATA) to the folder that holds "
            f"{folder}/, or allow fetching them with download=true."
        )
    import pooch

    try:
        return Path(pooch.retrieve(url + name, f"sha256:{checksum}", fname=name, path=target))
    except Exception as error:
        raise UserError(f"dataset={folder}: cannot download {url + name}: {error}") from error


_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """An array from a file in the IDX format, gzipped or not: magic (0, 0, type, rank), sizes,
    values.

    Raises UserError where the file is truncated, damaged, or something else.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or raw[3] == 0:
        raise UserError(
            f"{path} is not an IDX file (it begins with {raw[:4].hex(' ') or 'nothing'})."
        )
    rank, start = raw[3], 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:start], ">u4") if len(raw) >= start else np.empty(0)
    dtype = np.dtype(_IDX_TYPES[raw[2]])
    expected = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(shape) < rank or len(raw) != expected:
        raise UserError(
            f"{path} is damaged: its header announces {expected:,} bytes, it has {len(raw):,}. "
            "Fetch it again."
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(tuple(int(n) for n in shape))
