"""`python -m benchmarks [runs] [sweeps] [startup] [optimizers] [loading]`; without any, all."""

import sys

from benchmarks import loading, optimizers, runs, startup, sweeps

ALL = {
    "runs": runs.main,
    "sweeps": sweeps.main,
    "startup": startup.main,
    "optimizers": optimizers.main,
    "loading": loading.main,
}

for name in sys.argv[1:] or ALL:
    ALL[name]()
