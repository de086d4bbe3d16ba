"""Reading what 10,000 runs have left, against pandas reading the same bytes from one file.

The runs are copies of one that was really trained, with other names, seeds and settings. Ours is
from folders to a summary with intervals and ranks (`trainlab table`) and to a DataFrame
(`trainlab.table`); the peer is `pandas.read_json` of one file of JSON lines that holds the same
status.json and result.json, and pandas alone reads nothing else.
"""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pandas as pd

import trainlab
from benchmarks.measure import Comparison, show
from trainlab import cli
from trainlab.tables.recipes import summaries
from trainlab.tables.runs import find_runs


def copies(run: Path, study: Path, count: int) -> None:
    """Folders like `run`: count / 10 recipes of 10 seeds."""
    status, result = (
        json.loads((run / name).read_text()) for name in ("status.json", "result.json")
    )
    for number in range(count):
        recipe, seed = divmod(number, 10)
        rate = 0.001 * (1 + recipe)
        name = f"{number:010x}"
        config = status["config"] | {"seed": seed, "optimizer.lr": rate}
        typed = [f"optimizer.lr={rate}", f"seed={seed}"]
        folder = study / name
        shutil.copytree(run, folder)
        changed = status | {"run_id": name, "config": config, "overrides": typed}
        (folder / "status.json").write_text(json.dumps(changed, indent=1))
        better = result["val_accuracy"] - 0.0001 * recipe + 0.001 * seed
        changed = result | {"run_id": name, "seed": seed, "val_accuracy": better}
        (folder / "result.json").write_text(json.dumps(changed, indent=1))


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    quick = bool(os.environ.get("TRAINLAB_BENCH_QUICK"))
    count, rounds = (200, 1) if quick else (10_000, 7)
    with tempfile.TemporaryDirectory() as folder:
        place, study = Path(folder), Path(folder) / "many"
        code = cli.main(
            ["train", "-q", "epochs=1", "max_examples=100", f"output_dir={folder}", "study=one"]
        )
        assert code == 0
        (run,) = (path.parent for path in (place / "one").glob("*/status.json"))
        copies(run, study, count)
        lines = place / "all.jsonl"
        with open(lines, "w", encoding="utf-8") as file:
            for path in study.iterdir():
                both = [json.loads((path / n).read_text()) for n in ("status.json", "result.json")]
                file.write(json.dumps({"status": both[0], "result": both[1]}) + "\n")

        def peer() -> None:
            frame = pd.read_json(lines, lines=True)
            parts = [pd.json_normalize(frame[name].tolist()) for name in ("status", "result")]
            assert len(pd.concat(parts, axis=1)) == count

        def summary() -> None:
            (found,) = summaries(find_runs(study).runs)
            assert len(found.recipes) == count / 10

        def frame() -> None:
            assert len(trainlab.table(study)) == count

        works = {"summary": summary, "DataFrame": frame, "peer": peer}
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(1 + rounds):
            for name, work in works.items():
                times[name].append(seconds(work))
        show(
            f"{count:,} runs",
            [
                Comparison(name, ours=times[name][1:], peer=times["peer"][1:], goal=1.5)
                for name in ("summary", "DataFrame")
            ],
        )
        best = sorted(times["summary"][1:])[rounds // 2]
        print(f"a summary takes {1000 * best / count:.2f} ms a run (goal ≤ 0.5)")
