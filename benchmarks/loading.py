"""From files to arrays: mnist against numpy reading the same bytes, csv files against pandas alone.

The files of mnist are made here, of the official size, and shrink about as much as the real ones.
A csv has 200 MB, or 50 MB where the environment variable TRAINLAB_BENCH_QUICK is set; what is read
from it is checked, too.
"""

import gzip
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import Comparison, interleave, show
from trainlab.data.examples import check
from trainlab.data.images import mnist
from trainlab.data.tables import csv


def timed(load: Callable[[], object]) -> float:
    start = time.perf_counter()
    load()
    return time.perf_counter() - start


def write_mnist(folder: Path) -> None:
    """Four IDX files of 60,000 and 10,000 images, a fifth of whose pixels are not black."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        ink = draw.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        ink[draw.random((n, 28, 28), np.float32) < 0.8] = 0
        for name, array in (
            ("images-idx3", ink),
            ("labels-idx1", draw.integers(0, 10, n, dtype=np.uint8)),
        ):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            packed = gzip.compress(head + array.tobytes(), compresslevel=6)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(packed)


def numpys_mnist(folder: Path) -> list[np.ndarray]:
    arrays = []
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        for name, shape, offset in (("images-idx3", (n, 28, 28), 16), ("labels-idx1", (n,), 8)):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz") as file:
                arrays.append(np.frombuffer(file.read(), np.uint8, offset=offset).reshape(shape))
    return arrays


def write_csv(file: Path, megabytes: int, texts: bool) -> None:
    """20 columns of floats, one of whole numbers, a target of 3 classes, which are whole numbers.

    Or `texts`, with two more columns of text and one of truth values.
    """
    draw = np.random.default_rng(0)
    rows = 10_000
    table = pd.DataFrame(draw.normal(size=(rows, 20))).add_prefix("number ")
    table["count"] = draw.integers(0, 100, rows)
    if texts:
        table["flag"] = draw.random(rows) < 0.5
        table["colour"] = draw.choice(["red", "green", "blue"], rows)
        table["town"] = draw.choice([f"town {n}" for n in range(500)], rows)
    table["kind"] = draw.choice(["a", "b", "c"] if texts else [0, 1, 2], rows)
    text = table.to_csv(index=False)
    head, _, body = text.partition("\n")
    with file.open("w") as out:
        out.write(f"{head}\n")
        for _ in range(megabytes * 1_000_000 // len(body)):
            out.write(body)


def against_pandas(file: Path, megabytes: int, what: str) -> Comparison:
    return interleave(
        f"a csv of {megabytes} MB, {what}, against pandas",
        lambda: timed(lambda: check(csv(path=str(file), target="kind"), "csv")),
        lambda: timed(lambda: pd.read_csv(file)),
        goal=1.3,
        rounds=21,
    )


def main() -> None:
    megabytes = 50 if os.environ.get("TRAINLAB_BENCH_QUICK") else 200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_mnist(folder / "mnist")
        write_csv(folder / "numbers.csv", megabytes, texts=False)
        write_csv(folder / "texts.csv", megabytes, texts=True)
        comparisons = [
            interleave(
                "mnist from gzip IDX, against numpy",
                lambda: timed(lambda: mnist(folder)),
                lambda: timed(lambda: numpys_mnist(folder / "mnist")),
                goal=1.3,
                rounds=5,
            ),
            against_pandas(folder / "numbers.csv", megabytes, "numbers"),
            against_pandas(folder / "texts.csv", megabytes, "texts too"),
        ]
    show("from files to arrays", comparisons)
