"""`python -m benchmarks [runs] [startup] [optimizers] [loading]`: all of them without arguments."""

import sys

from benchmarks import loading, optimizers, runs, startup

ALL = {
    "runs": runs.main,
    "startup": startup.main,
    "optimizers": optimizers.main,
    "loading": loading.main,
}

for name in sys.argv[1:] or ALL:
    ALL[name]()
