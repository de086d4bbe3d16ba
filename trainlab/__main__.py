"""`python -m trainlab` is `trainlab`: `cli.main` in a process of its own."""

import gc
import sys


def main() -> int:
    # Importing torch makes half a million objects and hardly any garbage. To look for cycles among
    # them, again and again and once more at the end, would be a quarter of a short command's time.
    gc.set_threshold(100_000, 50, 50)
    from trainlab import cli

    try:
        return cli.main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
