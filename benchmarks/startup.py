"""From the shell: help, completion and the first training step against `import torch`."""

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import interleave, show

FIRST_STEP = """
import sys
from trainlab import fit
from trainlab.__main__ import main
step = fit.take
def first(*arguments):
    step(*arguments)
    raise SystemExit(0)
fit.take = first
sys.argv = ["trainlab", "train", "-q", "epochs=1", "fresh=true"]
sys.exit(main())
"""


def seconds(arguments: list[str], **environment: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, env=os.environ | environment
    )
    return time.perf_counter() - start


def main() -> None:
    line = "trainlab train optimizer=ad"
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        os.chdir(folder)

        def compare(name: str, arguments: list[str], goal: float, **environment: str):
            return interleave(
                name,
                lambda: seconds(arguments, **environment),
                lambda: seconds(["-c", "import torch"]),
                goal,
            )

        try:
            comparisons = [
                compare("trainlab --help", ["-m", "trainlab", "--help"], 0.4),
                compare("completion", ["-m", "trainlab", "-sc", "query=bash"], 0.4, COMP_LINE=line),
                compare("first training step", ["-c", FIRST_STEP], 1.5),
            ]
        finally:
            os.chdir(here)
    show("from the shell, against `import torch`", comparisons)
