"""Real data small enough to come with scikit-learn: no network, no files of one's own."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from trainlab.data.examples import Examples


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
