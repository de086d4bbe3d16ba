"""Golden runs: what some recipes come to, so that no change moves a number unseen.

    python tests/golden.py            trains them and shows what differs from golden.csv
    python tests/golden.py --write    writes golden.csv anew (make golden)

All data are embedded or generated. The numbers are losses and gradient lengths, which are smooth:
on other processors, with other kernels and other numbers of threads they agree to about 1e-6, and
counts like an accuracy would not.
"""

import contextlib
import csv
import math
import os
import sys
import tempfile
from pathlib import Path

import yaml

FILE = Path(__file__).with_suffix(".csv")
COLUMNS = ("train_loss", "val_loss", "grad_norm", "lr")  # of each epoch
TOLERANCE = 1e-6
LOOSER = {"muon": 1e-3}  # which computes in bf16


def recipes() -> dict[str, list[str]]:
    """Name -> overrides."""
    parts = yaml.safe_load(FILE.with_suffix(".yaml").read_text(encoding="utf-8"))
    return {
        name: [*part["shared"].split(), *more.split()]
        for part in parts
        for name, more in part["recipes"].items()
    }


def measured(names: list[str]) -> dict[tuple[str, int, str], float]:
    """(recipe, epoch, column) -> number, trained in the working folder."""
    from trainlab.config import compose
    from trainlab.run import train
    from trainlab.tables.runs import read_metrics

    configs = [compose([*recipes()[name], "quiet=true", "workers=1"]) for name in names]
    found = {}
    for name, outcome in zip(names, train(configs), strict=True):
        assert outcome.status == "done", (name, outcome.reason)
        columns = read_metrics(outcome.run.path)
        for epoch in range(len(columns["epoch"])):
            for column in COLUMNS:
                found[name, epoch + 1, column] = float(columns[column][epoch])
        found[name, 0, "test_loss"] = float(outcome.run.result()["test_loss"])
    return found


def read() -> dict[tuple[str, int, str], float]:
    with open(FILE, newline="", encoding="utf-8") as file:
        return {(r[0], int(r[1]), r[2]): float(r[3]) for r in list(csv.reader(file))[1:]}


def moved(before: dict, now: dict) -> dict[tuple[str, int, str], float]:
    """What differs by more than the tolerance -> by how much, relative to a size of 0.1 or more."""
    differences = {}
    for key in before.keys() | now.keys():
        a, b = before.get(key, math.nan), now.get(key, math.nan)
        difference = abs(a - b) / max(abs(a), abs(b), 0.1)
        if not difference <= LOOSER.get(key[0], TOLERANCE):
            differences[key] = difference
    return differences


def main(arguments: list[str]) -> int:
    import torch

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        now = measured(list(recipes()))
    before = read() if FILE.exists() else {}
    for key, difference in sorted(moved(before, now).items()):
        name, epoch, column = key
        change = f"{before.get(key)} -> {now.get(key)} ({difference:.1e})"
        print(f"{name}, epoch {epoch}, {column}: {change}")
    if "--write" in arguments:
        with open(FILE, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["recipe", "epoch", "column", "value", f"torch {torch.__version__}"])
            writer.writerows([*key, repr(value)] for key, value in now.items())
        print(f"{len(now)} numbers of {len(recipes())} recipes: {os.path.relpath(FILE)}")
        return 0
    return 1 if moved(before, now) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
