"""`python -m benchmarks [runs] [startup] [optimizers]`: all of them without arguments."""

import sys

from benchmarks import optimizers, runs, startup

ALL = {"runs": runs.main, "startup": startup.main, "optimizers": optimizers.main}

for name in sys.argv[1:] or ALL:
    ALL[name]()
