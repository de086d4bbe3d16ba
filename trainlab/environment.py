"""Where a run is computed, by what, and from which command: what env.json says."""

import os
import platform
import shlex
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import trainlab
from trainlab.config import NOT_IDENTITY, Config
from trainlab.config.sources import own_code

HOST = socket.gethostname()
_GIT_SECONDS = 2.0  # that a repository may take to say how it stands
_DIFF = 20_000  # characters of a diff that are kept


def environment() -> dict[str, Any]:
    """Versions, machine, command, repository; and the threads and processes of this moment."""
    import torch

    from trainlab import parallel

    now = {"threads": torch.get_num_threads(), "processes": parallel.size()}
    return _of_this_process() | now


@cache
def _of_this_process() -> dict[str, Any]:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "trainlab": trainlab.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "gpu": device,
        "command": command(),
        "git": repository(Path.cwd()),
    }


def versions(config: Config) -> dict[str, str]:
    """Of what decides a run's result besides its settings and data: trainlab, torch, and the
    digest of the user's own code, if it names any."""
    known = {key: _of_this_process()[key] for key in ("trainlab", "torch")}
    code = own_code(config, NOT_IDENTITY)
    return known | ({"code": code} if code else {})


def command() -> str:
    """What was typed; before a sweep's first job Hydra has the verb taken away."""
    program, words = Path(sys.argv[0]).stem, sys.argv[1:]
    if program in ("trainlab", "__main__"):
        return shlex.join(["trainlab", "train", *(word for word in words if word != "train")])
    return shlex.join([program, *words])


def repository(folder: Path) -> dict[str, Any] | None:
    """The commit of the git repository that a folder is in, whether files differ from it, and the
    difference, unless it is long; None outside of one, or where git is not to be had.

    >>> repository(Path("/"))
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        # Files that git does not know count as well: they may be imported.
        dirty = bool(_git(folder, "status", "--porcelain").strip())
        diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "HEAD") if dirty else ""
    except (OSError, subprocess.SubprocessError):
        return None
    kept = {"diff": diff} if 0 < len(diff) <= _DIFF else {}
    return {"commit": commit, "dirty": dirty} | kept


def _git(folder: Path, *words: str) -> str:
    """What git says; it starts no other program, asks nothing and locks nothing."""
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(
        ["git", "-c", "core.fsmonitor=false", *words],
        cwd=folder,
        env=os.environ | quiet,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_GIT_SECONDS,
        check=True,
    ).stdout
