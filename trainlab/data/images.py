"""Images from files in their official formats."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from trainlab.config import UserError
from trainlab.data.examples import Examples
from trainlab.data.files import fetched

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
        read_idx(fetched(name + ".gz", "mnist", data_dir, download, _MNIST_URL, checksum))
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
