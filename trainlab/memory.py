"""Main memory and a GPU's: how much is free, and what to say where it is not enough."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# What torch says where it has no class of error for it: CPU, C++, cuBLAS and cuDNN, Apple's GPUs.
_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "Storage size calculation overflowed",
)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_AMOUNT = re.compile(rf"(?:allocate|of which) (\d+(?:\.\d+)?) ({'|'.join(_UNITS)})")


# Where Linux says how much a group of processes, as those of a container, may use, has in use, and
# which of it is files that it would forget: version 2 of groups, and version 1.
_GROUPS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_memory() -> int | None:
    """Bytes of main memory that could be used now, where the system tells."""
    return min(left().values(), default=None)


def left() -> dict[str, int]:
    """The bytes that can still be used for the machine, for a container and for `ulimit -v`: the
    least counts. {} where the system tells nothing.

    >>> all(size >= 0 for size in left().values())
    True
    """
    found = {}
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        found["the machine"] = 1024 * int(line.split()[1])
    for top, *names in _GROUPS:
        for folder in {Path(top + _group()), Path(top)}:
            with suppress(OSError, ValueError):  # no such thing here, or no limit: "max"
                found[f"the limit of a container ({folder / names[0]})"] = _of_group(folder, *names)
    with suppress(ImportError, OSError, ValueError):  # not on Windows
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found["`ulimit -v`"] = most - pages * resource.getpagesize()
    return {name: max(0, size) for name, size in found.items()}


def _of_group(folder: Path, limit: str, used: str, forgettable: str) -> int:
    most, now = (int((folder / name).read_text()) for name in (limit, used))
    entries = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return most - now + int(entries.get(forgettable, 0))


def _group() -> str:
    """The group that this process is in, as a path below that of all."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    groups = dict(line.split(":", 2)[1:] for line in lines)
    return groups.get("memory", groups.get("", ""))


def out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no more memory to give."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of torch
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def explained(error: BaseException, config: Mapping[str, Any] | None = None) -> str:
    """What was too much, and what to try; for an error of `out_of_memory`.

    >>> explained(MemoryError("Unable to allocate 7.28 TiB for an array"))[:53]
    'It does not fit into memory: 7.3 TiB were asked for at'
    """
    text = str(error)
    amounts = [float(number) * _UNITS[unit] for number, unit in _AMOUNT.findall(text)]
    wanted = f": {_amount(amounts[0])} were asked for at once" if amounts else ""
    free = amounts[1] if "CUDA" in text and len(amounts) > 1 else free_memory()
    place = "the GPU's memory" if "CUDA" in text else "memory"
    there = f", and {_amount(free)} are free" if wanted and free is not None else ""
    return f"It does not fit into {place}{wanted}{there}. Try {_remedies(config or {})}."


def _amount(size: float) -> str:
    """
    >>> _amount(3 * 2**30), _amount(2**20)
    ('3.0 GiB', '1.0 MiB')
    """
    unit = [name for name, least in _UNITS.items() if size >= least] or ["bytes"]
    return f"{size / _UNITS[unit[-1]]:.1f} {unit[-1]}"


def _remedies(config: Mapping[str, Any]) -> str:
    """Settings that take less memory, those that usually help first."""
    size, arch = config.get("batch_size"), config.get("arch") or {}
    smaller = max(1, size // 4) if isinstance(size, int) else 64
    found = [f"batch_size={smaller}"] if size != 1 else []
    shape = next((name for name in ("hidden", "channels", "width", "depth") if name in arch), None)
    found.append(f"a smaller network (arch.{shape}=…)" if shape else "a smaller network")
    if config.get("in_memory") is not False:
        found.append("in_memory=false")
    found.append("max_examples=…")
    return f"{', '.join(found[:-1])} or {found[-1]}"
