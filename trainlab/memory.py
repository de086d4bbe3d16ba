"""Main memory and a GPU's: how much is free, and what to say where it is not enough."""

import re
from collections.abc import Mapping
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


def free_memory() -> int | None:
    """Bytes of main memory that could be used now, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(li.split()[1]) for li in lines if li.startswith("MemAvailable")), None)


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
