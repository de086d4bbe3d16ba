"""What the reliability suite shares: its time, its seed, and the table of counts at its end.

    make reliability
    RELIABILITY_MINUTES=60 RELIABILITY_SEED=7 make reliability

Each test counts what it tried and what became of it. One that fails says what to type to see it.
"""

import os
import random
import time
from collections import Counter

import pytest

MINUTES = float(os.environ.get("RELIABILITY_MINUTES", "10"))
SEED = int(os.environ.get("RELIABILITY_SEED", "0"))
_COUNTS: dict[str, Counter] = {}


@pytest.fixture
def tally(request):
    """Counts by name, shown at the end."""
    counter = _COUNTS.setdefault(request.node.name, Counter())
    yield counter
    print(dict(counter))


@pytest.fixture
def draw() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def lasting():
    """lasting(share): goes on, round by round, for this share of the suite's minutes."""

    def rounds(share: float):
        end, number = time.monotonic() + 60 * MINUTES * share, 0
        while number == 0 or time.monotonic() < end:
            yield number
            number += 1

    return rounds


def pytest_terminal_summary(terminalreporter):
    if not _COUNTS:
        return
    terminalreporter.section(f"what was tried (seed {SEED}, {MINUTES:g} minutes)")
    for name, counter in _COUNTS.items():
        told = ", ".join(f"{what}: {count:,}" for what, count in counter.items())
        terminalreporter.write_line(f"{name}: {told}")
