"""Sweeps from command to table: 32 runs against Lightning with Hydra and bare loops; a thousand.

Each measurement is a command in a process of its own, from an empty folder, with one torch thread;
the rounds of all commands are interleaved. The peers (benchmarks/peers) find the digits split and
standardized, take as many steps, evaluate as often and choose the same weights; that the mean test
accuracies agree to 1 % is checked. Lightning is left out where it is not installed.

Of a thousand short runs it is shown what each costs beyond its training: the seconds of the whole
command, start-up and final evaluations too, less the sum of the results' `seconds` (the steps).
As file systems differ, it is shown beside it what copying those run folders there takes. TMPDIR
chooses the file system. Peak memory is the operating system's, of the largest process.

TRAINLAB_BENCH_QUICK makes it two epochs and one round: whether all works, not how fast it is.
"""

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.measure import Comparison, show
from trainlab import data
from trainlab.config import compose

PEERS = Path(__file__).parent / "peers"
TRAIN = ["-m", "trainlab", "train", "-q", "-m", "device=cpu", "optimizer=momentum"]
SEEDS, RATES = "seed=range(8)", "lr=0.003,0.01,0.03,0.05"
# A process between, as a child's peak begins with what its parent has in memory.
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
Accuracies = Callable[[Path, str], Sequence[float]]  # of the folder, and of what was printed


def seconds(arguments: list[str], folder: str) -> tuple[float, str]:
    """Of a Python command in a folder, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout)
    return time.perf_counter() - start, done.stdout


def write_digits(file: Path) -> None:
    """The digits as trainlab splits and standardizes them."""
    config = compose(["device=cpu"])
    digits = data.prepare(data.read(config), config, torch.device("cpu"))
    splits = {name: positions.numpy() for name, positions in digits.splits.items()}
    np.savez(file, x=digits.x.flatten(1).numpy(), y=digits.y.numpy(), **splits)


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "outputs" / "runs" / "runs.csv")


def ours(epochs: int, workers: int) -> tuple[list[str], Accuracies]:
    sweep = ["arch.hidden=[100,100]", "batch_size=32", SEEDS, f"optimizer.{RATES}"]
    command = [*TRAIN, *sweep, f"epochs={epochs}", f"workers={workers}"]
    return command, lambda folder, printed: table(folder)["test_accuracy"]


def lightning(file: Path, epochs: int) -> tuple[list[str], Accuracies]:
    script = str(PEERS / "lightning_sweep.py")
    return [script, "-m", f"data={file}", SEEDS, RATES, f"epochs={epochs}"], (
        lambda folder, printed: [
            pd.read_csv(metrics)["test_accuracy"].max() for metrics in folder.rglob("metrics.csv")
        ]
    )


def bare(file: Path, epochs: int) -> tuple[list[str], Accuracies]:
    command = [str(PEERS / "bare.py"), str(file), str(epochs)]
    return command, lambda folder, printed: [float(line) for line in printed.split()]


def rounds(works: dict[str, tuple[list[str], Accuracies]], n: int) -> dict[str, list[float]]:
    """Seconds of every command in n rounds: all take turns, so that one of Lightning's long ones
    serves several comparisons."""
    times, means = {name: [] for name in works}, []
    for _ in range(n):
        for name, (command, accuracies) in works.items():
            with tempfile.TemporaryDirectory() as folder:
                spent, printed = seconds(command, folder)
                found = accuracies(Path(folder), printed)
            assert len(found) == 32, f"{name}: {len(found)} runs"
            times[name].append(spent)
            means.append(statistics.fmean(found))
    assert max(means) - min(means) <= 0.01, f"mean test accuracies {means}"
    return times


def against_peers(file: Path, quick: bool) -> None:
    """32 runs of 64-100-100-10: 8 seeds × 4 learning rates, batches of 32."""
    few, many, n, more = (2, 2, 1, 1) if quick else (10, 50, 4, 3)
    works = {"1 worker": ours(many, 1), "2 workers": ours(many, 2), "bare": bare(file, many)}
    comparisons = []
    if importlib.util.find_spec("lightning"):
        short = rounds({"ours": ours(few, 1), "peer": lightning(file, few)}, 1 + n)
        warm = {name: times[1:] for name, times in short.items()}
        comparisons.append(Comparison(f"{few} epochs, 1 worker, Lightning", goal=1 / 6, **warm))
        long = rounds(works | {"Lightning": lightning(file, many)}, n)
    else:
        print("no Lightning to compare with: pip install lightning")
        long = rounds(works, n)
    for name, times in rounds(works, more).items():
        long[name] += times
    for workers, peer, goal in (
        ("1 worker", "Lightning", 1 / 12),
        ("2 workers", "Lightning", 1 / 18),
        ("1 worker", "bare", 1 / 2.2),
        ("2 workers", "bare", 1 / 3.3),
    ):
        if times := long.get(peer):
            name = f"{many} epochs, {workers}, {peer}"
            comparisons.append(Comparison(name, long[workers][: len(times)], times, goal))
    show("32 digits runs from command to table", comparisons)


def short_runs(seeds: int) -> tuple[float, float, float]:
    """Milliseconds per run beyond its steps, and to copy its folder, and MB at the most, of
    4 × seeds runs."""
    sweep = ["arch.hidden=[16]", "max_examples=100", f"seed=range({seeds})", f"optimizer.{RATES}"]
    with tempfile.TemporaryDirectory() as folder:
        spent, printed = seconds(["-c", PEAK, *TRAIN, *sweep, "epochs=1", "workers=1"], folder)
        results, start = table(Path(folder)), time.perf_counter()
        shutil.copytree(Path(folder, "outputs"), Path(folder, "copies"))
        copying = time.perf_counter() - start
    assert len(results) == 4 * seeds
    assert set(results["status"]) == {"done"}
    beyond = spent - results["seconds"].sum()
    peak = int(printed.split()[-1]) * (1 if sys.platform == "darwin" else 1024)
    return 1000 * beyond / len(results), 1000 * copying / len(results), peak / 1e6


def thousand(quick: bool) -> None:
    few, all_of_them = [], []
    for _ in range(1 if quick else 5):
        few.append(short_runs(25))
        all_of_them.append(short_runs(250))
    beyond, copying, peaks = zip(*all_of_them, strict=True)
    print(
        f"a thousand short runs: {statistics.median(beyond):.1f} ms each beyond its steps "
        f"({min(beyond):.1f}…{max(beyond):.1f}, n = {len(beyond)}; goal ≤ 10), to copy its folder "
        f"{statistics.median(copying):.1f} ({min(copying):.1f}…{max(copying):.1f}); peak memory "
        f"{max(peaks):.0f} MB, of a hundred {max(peak for *_, peak in few):.0f} MB"
    )


def main() -> None:
    quick = bool(os.environ.get("TRAINLAB_BENCH_QUICK"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.npz"
        write_digits(file)
        against_peers(file, quick)
    thousand(quick)
