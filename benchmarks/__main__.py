"""`python -m benchmarks [NAME …]`: those of `ALL` that are named; without any, all."""

import sys

from benchmarks import loading, optimizers, runs, startup, sweeps, tables

ALL = {
    "runs": runs.main,
    "sweeps": sweeps.main,
    "startup": startup.main,
    "optimizers": optimizers.main,
    "loading": loading.main,
    "tables": tables.main,
}

for name in sys.argv[1:] or ALL:
    ALL[name]()
