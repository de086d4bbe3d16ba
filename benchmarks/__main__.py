"""`python -m benchmarks [runs] [startup]`: all of them without arguments."""

import sys

from benchmarks import runs, startup

ALL = {"runs": runs.main, "startup": startup.main}

for name in sys.argv[1:] or ALL:
    ALL[name]()
