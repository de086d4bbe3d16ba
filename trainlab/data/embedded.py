"""Real data small enough to come with scikit-learn: no network, no files of one's own."""

import gzip
import importlib.util
from collections.abc import Iterable
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
    columns = tuple("age sex bmi bp s1 s2 s3 s4 s5 s6".split())
    return Examples(x, y[:, None], "regression", columns=columns)


def iris(data_dir: Path | None = None, download: bool = False) -> Examples:
    """150 flowers: x (N, 4) lengths and widths in cm, y one of 3 species (Fisher 1936)."""
    columns = (f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width"))
    return _labelled("iris.csv", "classification", columns)


def wine(data_dir: Path | None = None, download: bool = False) -> Examples:
    """178 wines: x (N, 13) measurements, y one of 3 growers (Aeberhard & Forina 1991, UCI)."""
    columns = (
        "alcohol malic_acid ash alcalinity_of_ash magnesium total_phenols flavanoids "
        "nonflavanoid_phenols proanthocyanins color_intensity hue od280/od315_of_diluted_wines "
        "proline"
    ).split()
    return _labelled("wine_data.csv", "classification", columns)


def breast_cancer(data_dir: Path | None = None, download: bool = False) -> Examples:
    """569 tumours: x (N, 30), y malignant or benign (Wolberg, Street & Mangasarian 1993, UCI).

    Ten measures of the cell nuclei of a sample: their mean, its standard error, the worst.
    """
    measures = (
        "radius,texture,perimeter,area,smoothness,compactness,concavity,concave points,symmetry,"
        "fractal dimension"
    ).split(",")
    columns = [kind.format(m) for kind in ("mean {}", "{} error", "worst {}") for m in measures]
    return _labelled("breast_cancer.csv", "binary", columns)


def _labelled(name: str, task: str, columns: Iterable[str]) -> Examples:
    """A csv of scikit-learn's: sizes and class names in the first line, the class last in each."""
    with _sklearn_file(name).open(encoding="utf-8") as file:
        _, _, *classes = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",")
    x, y = table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64)
    return Examples(x, y, task, classes, columns=tuple(columns))
