"""What may keep trainlab from working on this machine, and what to do about it.

packages   Python, what trainlab needs and what it can use, and who disagrees about versions
machine    devices, memory, limits, temporary files, encodings
storage    the folder of the outputs: room, speed, locks, links
content    recipes, options of one's own, data files

Every check stands alone: it imports what it needs by itself, and if it raises, that is a line of
the examination too. So one of a broken installation ends like any other.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainlab.doctor import content, machine, packages, storage
from trainlab.doctor.findings import LEVELS, Finding, trouble

__all__ = ["LEVELS", "Finding", "examined"]

Check = Callable[[], Iterable[Finding]]


def examined(folder: Path) -> Iterator[Finding]:
    """The findings, as they come, with `folder` as the place of the outputs. Leaves nothing behind
    there or elsewhere."""
    with ThreadPoolExecutor(1) as beside:
        imports = beside.submit(lambda: list(packages.imports()))  # takes as long as the rest
        checks: dict[str, Check] = {
            "python": packages.python,
            "packages": packages.required,
            "extras": packages.extras,
            "versions": packages.disagreements,
            "outputs": lambda: storage.outputs(folder),
            "temporary": machine.temporary,
            "encoding": machine.encodings,
            "limits": machine.limits,
            "own conf": content.own,
            "recipes": content.recipes,
            "device": machine.devices,  # imports torch
            "memory": machine.memory,
            "cache": storage.cache,
            "data": content.data,
            "imports": imports.result,
        }
        for name, check in checks.items():
            yield from _alone(name, check)


def _alone(name: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except ImportError as error:
        yield trouble(name, f"This needs a package that cannot be imported: {error}.")
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        yield trouble(name, f"This could not be looked at: {what}")
