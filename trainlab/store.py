"""Run folders: identity, status, metrics, checkpoints, resume. The only module that writes a run's
files.

    outputs/<study>/<run id>/
        config.yaml  .hydra/overrides.yaml  env.json   what was asked for, and where it ran
        status.json                                    running, done, failed, diverged, stopped, …
        metrics.csv  log.txt                           a row per epoch; what happened
        result.json                                    flat; what tables are made of
        checkpoints/{last,best}.pt                     torch.load(weights_only=True)

Files are written beside and renamed, so whatever moment a process dies at, a reader finds the old
file or the new one; what could not be made again is synced to the disk first. A lock that dies with
its holder keeps two processes from training one run.
"""

import json
import math
import os
import pickle
import platform
import re
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TextIO

import filelock
import yaml

import trainlab
from trainlab.config import Config, UserError, build_each, flat
from trainlab.loggers import Logger

Row = dict[str, float]

# A run in one of these states is finished: the same command does not train it again.
FINISHED = ("done", "diverged")
HOST = socket.gethostname()
_BESIDE = re.compile(r"\.[\w.]+\.\d+")  # names of files that are not in their places yet


def write_atomically(path: Path, write: Callable[[Path], None], sync: bool = True) -> None:
    """Let `write` fill a file beside `path`, then put it in its place in one step.

    With `sync` it survives a loss of power too, which takes a millisecond or more.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)  # a dead process may have had our number
    try:
        write(beside)
        if sync:
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.filename == str(beside):  # which nobody asked for
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def _write_text(path: Path, text: str, sync: bool = False) -> None:
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"), sync)


def _write_json(path: Path, value: dict[str, Any], sync: bool = False) -> None:
    """An object with a line for each key."""
    lines = (f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in value.items())
    _write_text(path, "{\n" + ",\n".join(lines) + "\n}\n", sync)


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {path} cannot be written: {error.strerror or error}. Choose another "
            "place with output_dir=…"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The file's object; {} where it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def lives(pid: int, host: str) -> bool | None:
    """Whether a process still runs; None where that cannot be told: on another machine.

    A run's lock would tell too, but whoever tries it keeps the trainer from it for that moment.
    """
    if host != HOST or os.name == "nt":  # where asking for a process ends it
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def command() -> str:
    """What was typed; before a sweep's first job Hydra has the verb taken away."""
    program, words = Path(sys.argv[0]).stem, sys.argv[1:]
    if program in ("trainlab", "__main__"):
        return shlex.join(["trainlab", "train", *(word for word in words if word != "train")])
    return shlex.join([program, *words])


class Run:
    """One run's folder. Made without touching the disk; `start` creates it.

    `how` are settings of a process that computes it otherwise than was asked for.
    """

    def __init__(self, config: Config, run_id: str, how: Config | None = None):
        self.asked, self.config, self.id = config, config | (how or {}), run_id
        self.path = Path(config["output_dir"]) / config["study"] / run_id
        self._lock = filelock.FileLock(self.path / ".lock")
        self._metrics: TextIO | None = None
        self._loggers: dict[str, Logger] = {}  # those that are told of the run as it goes on
        self._warn: Callable[[str], None] = lambda text: None

    @classmethod
    def at(cls, path: Path) -> "Run":
        """The run that left this folder, wherever the folder is now."""
        run = cls(yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")), path.name)
        run.path, run._lock = path, filelock.FileLock(path / ".lock")
        return run

    # -- what is there

    def status(self) -> dict[str, Any]:
        """status.json less what was asked for: `status`, `reason`, `time`, …; {} for a run that
        never started."""
        status = {"reason": None} | read_json(self.path / "status.json")
        for asked in ("config", "overrides"):
            status.pop(asked, None)
        return status if isinstance(status.get("status"), str) else {}

    def result(self) -> dict[str, Any]:
        return read_json(self.path / "result.json")

    def checkpoint(self) -> dict[str, Any] | None:
        """What last.pt holds, or None where there is none to continue from."""
        path = self.path / "checkpoints" / "last.pt"
        if not path.is_file():
            return None
        import torch

        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(
                f"{path} is damaged; once it is deleted, the run begins anew."
            ) from error

    # -- the life of a run

    def acquire(self) -> bool:
        """Take the run's lock; False where another process is training it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        except OSError as error:
            raise UserError(
                f"The run folder {self.path} cannot be written: {error.strerror or error}. "
                "Choose another place with output_dir=…"
            ) from error
        return True

    def busy(self) -> bool:
        """Whether another process is training it."""
        if not self.path.is_dir():
            return False
        free = self.acquire()
        self.release()
        return not free

    def release(self) -> None:
        self._end("stopped")
        if self._metrics:
            self._metrics.close()
            self._metrics = None
        self._lock.release(force=True)

    def clear(self) -> None:
        """Forget everything about the run; the lock is held."""
        for child in self.path.iterdir():
            if child.is_dir():
                shutil.rmtree(child)
            elif child.name != ".lock":
                child.unlink()

    def start(
        self,
        rows: list[Row],
        step: int = 0,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Write what was asked for; `rows` and `step` are what a checkpoint knows of.

        `warn` shows what a person should know of while the run goes on.
        """
        for folder in (".hydra", "checkpoints"):
            (self.path / folder).mkdir(exist_ok=True)
        if (self.path / "status.json").exists():
            for left in self.path.rglob(".*.*"):  # by a process that was killed as it wrote
                if _BESIDE.fullmatch(left.name):
                    left.unlink(missing_ok=True)
        # Entry by entry: most are the same as of the sweep's run before.
        entries = (_yaml_of(key, pickle.dumps(value)) for key, value in self.asked.items())
        _write_text(self.path / "config.yaml", "".join(entries))
        _write_text(self.path / ".hydra" / "overrides.yaml", _yaml(self.asked["overrides"]))
        _write_json(self.path / "env.json", environment() | _threads())
        _write_text(self.path / "metrics.csv", "")
        for row in rows:
            self.log(row)
        self._keep_steps(step)
        self.set_status("running")
        self._warn = warn
        for name, make in build_each(self.config, "logger").items():
            with self._harmless(name):
                logger = make()
                logger.begin(self.path, flat(self.asked), rows)
                self._loggers[name] = logger

    def set_status(self, status: str, reason: str | None = None) -> None:
        if status != "running":
            self._end(status)
        # To the microsecond: the time tells a status from the next one of its kind.
        now = datetime.now().astimezone().isoformat(timespec="microseconds")
        entry = {"run_id": self.id, "status": status, "reason": reason}
        entry |= {"pid": os.getpid(), "host": HOST, "time": now}
        entry |= {"overrides": self.asked["overrides"], "config": flat(self.asked)}
        _write_json(self.path / "status.json", entry)

    def log(self, row: Row) -> None:
        """Append one epoch's metrics."""
        if self._metrics is None:
            self._metrics = open(self.path / "metrics.csv", "a", encoding="utf-8")  # noqa: SIM115
            if self._metrics.tell() == 0:
                self._metrics.write(",".join(row) + "\n")
        self._metrics.write(",".join(map(repr, row.values())) + "\n")
        self._metrics.flush()
        for name, logger in list(self._loggers.items()):
            with self._harmless(name):
                logger.log(row)

    def log_steps(self, rows: Iterable[Row]) -> None:
        """Append steps' losses and rates to steps.csv."""
        with open(self.path / "steps.csv", "a", encoding="utf-8") as file:
            for row in rows:
                if file.tell() == 0:
                    file.write(",".join(row) + "\n")
                file.write(",".join(map(repr, row.values())) + "\n")

    def _keep_steps(self, last: int) -> None:
        path = self.path / "steps.csv"
        if path.is_file():
            head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
            whole = (line for line in lines if line.endswith("\n"))
            kept = [line for line in whole if int(line.partition(",")[0]) <= last]
            _write_text(path, "".join([head, *kept]))

    def say(self, line: str) -> None:
        """Append a line to log.txt."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def save(self, name: str, state: dict[str, Any], sync: bool = True) -> None:
        """Write checkpoints/<name>.pt."""
        import torch

        path = self.path / "checkpoints" / f"{name}.pt"
        write_atomically(path, lambda beside: torch.save(state, beside), sync)

    def share(self, name: str, other: "Run") -> None:
        """Have the same checkpoints/<name>.pt as another run: one file, where links are possible.

        Nobody changes a file in its place, so nothing of one run is ever seen in the other.
        """
        source, path = (run.path / "checkpoints" / f"{name}.pt" for run in (other, self))

        def link(beside: Path) -> None:
            try:
                os.link(source, beside)
            except OSError:
                shutil.copyfile(source, beside)

        write_atomically(path, link, sync=False)

    def finish(self, status: str, result: dict[str, Any], reason: str | None = None) -> None:
        """Write result.json, then the status that says it is complete."""
        head = {"run_id": self.id, "status": status}
        infinite = {k for k, v in result.items() if isinstance(v, float) and not math.isfinite(v)}
        clean = {k: None if k in infinite else v for k, v in result.items()}
        _write_json(self.path / "result.json", head | clean, sync=True)
        # Before the status: a run that dies in between is continued, and its loggers told again.
        self._end(status, head | clean)
        self.set_status(status, reason)

    # -- loggers

    def _end(self, status: str, result: dict[str, Any] | None = None) -> None:
        """Tell the loggers, for the last time."""
        for name, logger in list(self._loggers.items()):
            with self._harmless(name):
                logger.end(status, result or {})
        self._loggers = {}

    @contextmanager
    def _harmless(self, name: str) -> Iterator[None]:
        """No run is lost for a logger: one that raises is told nothing more."""
        try:
            yield
        except Exception as error:
            self._loggers.pop(name, None)
            what = " ".join(f"{type(error).__name__}: {error}".split())
            text = f"logger={name} failed, and the run goes on without it: {what}"
            self.say(f"warning: {text}")
            self._warn(text)


def _yaml(value: Any) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True)


@lru_cache(maxsize=256)
def _yaml_of(key: str, pickled: bytes) -> str:
    return _yaml({key: pickle.loads(pickled)})


def _threads() -> dict[str, int]:
    import torch

    from trainlab import parallel

    return {"threads": torch.get_num_threads(), "processes": parallel.size()}


@cache
def environment() -> dict[str, Any]:
    """Where a run was computed."""
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
    }
