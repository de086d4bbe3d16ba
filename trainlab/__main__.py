"""`python -m trainlab` is `trainlab`: `cli.main` in a process of its own."""

import gc
import sys

from trainlab import cli


def main() -> int:
    try:
        return cli.main()
    finally:
        gc.freeze()  # or Python ends with a search for cycles in all that torch has made


if __name__ == "__main__":
    sys.exit(main())
