"""What computes, how much of it may be used, and what else the system has to offer."""

import locale
import multiprocessing
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

from trainlab import memory as available
from trainlab.doctor.findings import Finding, ok, size, trouble, warning

_GB, _MB = 2**30, 2**20
_GPU = Path("/dev/nvidia0")  # of a driver that works
_SHARED = Path("/dev/shm")


def devices() -> Iterator[Finding]:
    import torch

    facts: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    with warnings.catch_warnings(record=True) as said:  # of a driver that does not fit
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    for number in range(torch.cuda.device_count() if there else 0):
        device, name = f"cuda:{number}", torch.cuda.get_device_name(number)
        try:
            torch.ones(2, device=device).sum().item()
            free, total = torch.cuda.mem_get_info(number)
        except RuntimeError as error:
            yield trouble(
                "device",
                f"{device} ({name}) computes nothing: {str(error).splitlines()[0]} Until that is "
                "mended, device=cpu trains.",
                device=device,
                name=name,
            )
            continue
        yield ok(
            "device",
            f"{device} is {name}, with {size(free)} free of {size(total)}.",
            device=device,
            name=name,
            free=free,
            total=total,
        )
    if torch.backends.mps.is_available():
        yield ok("device", "mps, the GPU of this Mac, is there.", device="mps")
    if _GPU.exists() and not there:
        yield warning(
            "device",
            f"There is an NVIDIA GPU that torch {torch.__version__} does not use: "
            f"{_why_unused(said)}.",
            **facts,
        )
    yield ok(
        "device",
        f"torch {torch.__version__} computes on the CPU; threads: {facts['threads']}.",
        device="cpu",
        **facts,
    )


def _why_unused(said: list[warnings.WarningMessage]) -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"the environment variable CUDA_VISIBLE_DEVICES is {hidden!r}, which hides others"
    if said:
        return " ".join(str(said[0].message).split()).rstrip(".")
    return "it is a build for CPUs. https://pytorch.org/get-started has the command for another"


def memory() -> Iterator[Finding]:
    left = available.left()
    if not left:
        yield ok("memory", "This system does not say how much memory is free.")
        return
    by = min(left, key=lambda name: left[name])
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = f"{size(left[by])} are free, of {size(total)} of the machine"
    text += "." if by == "the machine" else f": {by} allows no more."
    facts = {"free": left[by], "total": total}
    if left[by] < _GB // 2:
        yield warning(
            "memory",
            f"{text} Every process that trains takes about 400 MB besides its data: take "
            "workers=1, and in_memory=false for large data.",
            **facts,
        )
    else:
        yield ok("memory", text, **facts)


def limits() -> Iterator[Finding]:
    import joblib

    cores, of = joblib.cpu_count(), os.cpu_count()
    facts: dict[str, Any] = {"cores": cores, "cores_of_machine": of}
    text = f"{cores} of {of} cores may be used" if cores != of else f"{cores} cores may be used"
    bad = False
    if os.name == "posix":
        import resource

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        longest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        infinite = resource.RLIM_INFINITY
        facts |= {"open_files": None if files == infinite else files}
        facts |= {"file_size": None if longest == infinite else longest}
        if files != infinite and files < 256:
            bad = True
            yield warning(
                "limits",
                f"A process may have {files} files open, and a sweep with many workers needs more: "
                "ulimit -n 1024",
                **facts,
            )
        if longest != infinite:
            bad = True
            tell = trouble if longest < 10 * _MB else warning
            yield tell(
                "limits",
                f"No file may be longer than {size(longest)}, checkpoints among them: "
                "ulimit -f unlimited",
                **facts,
            )
    if not bad:
        yield ok("limits", f"{text}, and no limit on files is in the way.", **facts)


def temporary() -> Iterator[Finding]:
    """Where workers meet: sockets in the folder of temporary files, and shared memory."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:
        yield trouble(
            "temporary",
            "No folder for temporary files can be written, and workers need one. Let the "
            "environment variable TMPDIR name one.",
        )
        return
    free = shutil.disk_usage(folder).free
    facts = {"folder": str(folder), "free": free}
    named = os.environ.get("TMPDIR")
    if named and not (os.path.isdir(named) and folder.samefile(named)):
        yield warning(
            "temporary",
            f"TMPDIR names {named}, which cannot be written: {folder} is used instead.",
            named=named,
        )
    try:
        with tempfile.TemporaryDirectory(prefix="pymp-") as inside:
            (Path(inside) / "probe").write_bytes(bytes(_MB))
            if os.name == "posix":
                Listener(str(Path(inside) / "listener-xxxxxxxx"), "AF_UNIX").close()
    except OSError as error:
        yield trouble(
            "temporary",
            f"Workers cannot use {folder}, the folder of temporary files: "
            f"{error.strerror or error}. Let the environment variable TMPDIR name another, with a "
            "short path and some room.",
            **facts,
        )
        return
    start = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    if free < 100 * _MB:
        yield warning(
            "temporary",
            f"{folder}, the folder of temporary files, has only {size(free)} left. Make room, or "
            "let the environment variable TMPDIR name another.",
            **facts,
        )
    else:
        yield ok(
            "temporary",
            f"Workers (started by {start}) can use {folder}, with {size(free)} free.",
            start_method=start,
            **facts,
        )
    if _SHARED.is_dir() and (shared := shutil.disk_usage(_SHARED).free) < 128 * _MB:
        yield warning(
            "temporary",
            f"Shared memory ({_SHARED}) has only {size(shared)} left, and data that are not kept "
            "in memory go through it: a process may die of it (Bus error). loader_workers=0 does "
            "without; in a container, --shm-size=1g gives more.",
            folder=str(_SHARED),
            free=shared,
        )


def encodings() -> Iterator[Finding]:
    """Whether names and texts in all languages can be written."""
    used = {
        "names of files": sys.getfilesystemencoding(),
        "texts": locale.getpreferredencoding(False),
        "the terminal": getattr(sys.stdout, "encoding", None) or "utf-8",
    }
    odd = {what: name for what, name in used.items() if not _is_utf8(name)}
    if not odd:
        yield ok("encoding", "Names, texts and the terminal are in UTF-8.", **used)
        return
    told = ", ".join(f"{what} in {name}" for what, name in odd.items())
    yield warning(
        "encoding",
        f"Python has {told}, so that not every letter can be read and written. Set the "
        "environment variables LC_ALL=C.UTF-8 and PYTHONUTF8=1.",
        **used,
    )


def _is_utf8(name: str) -> bool:
    return name.lower().replace("_", "").replace("-", "") in ("utf8", "cp65001")
