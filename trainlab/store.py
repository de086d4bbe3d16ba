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
its holder keeps two processes from training one run. What is read back to be believed is compared
with a digest: those of texts are in status.json, which is written last.
"""

import math
import os
import pickle
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import filelock
import yaml

from trainlab.config import Config, UserError, build_each, flat
from trainlab.environment import HOST, environment, versions
from trainlab.files import (
    Unreadable,
    Unwritable,
    appending,
    digests,
    json_lines,
    load_torch,
    load_yaml,
    make_folder,
    opened,
    parsed_json,
    read_bytes,
    read_json,
    sealed,
    untouched,
    write_atomically,
    write_text,
    write_torch,
    writing,
)
from trainlab.loggers import Logger

Row = dict[str, float]

# A run in one of these states is finished: the same command does not train it again.
FINISHED = ("done", "diverged")
# Texts of a finished run that are believed when they are read back.
_BELIEVED = ("config.yaml", "result.json", "metrics.csv")
_BESIDE = re.compile(r"\.[\w.]+\.\d+")  # names of files that are not in their places yet


def lives(pid: int, host: str) -> bool | None:
    """Whether a process still runs; None where that cannot be told: on another machine.

    A run's lock would tell too, but whoever tries it keeps the trainer from it for that moment.
    """
    if host != HOST or os.name == "nt":  # where asking for a process ends it
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return False
    except PermissionError:  # another user's
        return True
    return True


def edited(folder: Path) -> list[Path]:
    """The files of a finished run that are not as it left them; none where it noted no digests."""
    try:
        content = read_bytes(folder / "status.json")
        known = parsed_json(folder / "status.json", content).get("digests")
    except Unreadable:
        return []
    here = digests(folder, _BELIEVED)
    changed = [] if untouched(content) else ["status.json"]
    if isinstance(known, dict):
        changed += [name for name in _BELIEVED if known.get(name, here.get(name)) != here.get(name)]
    return [folder / name for name in changed]


def edited_note(files: Sequence[Path]) -> str:
    """What to tell of such files, one or more."""
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    return (
        f"{files[0]}{more} is not as the run left it: it was edited, or it is damaged. To have it "
        f"written anew, delete {files[0].parent / 'result.json'} and run the run's command again; "
        "that trains nothing."
    )


class Run:
    """One run's folder. Made without touching the disk; `start` creates it.

    `how` are settings of a process that computes it otherwise than was asked for.
    """

    def __init__(self, config: Config, run_id: str, how: Config | None = None):
        self.asked, self.config, self.id = config, config | (how or {}), run_id
        self.path = Path(config["output_dir"]) / config["study"] / run_id
        self._lock = filelock.FileLock(self.path / ".lock")
        self._columns: list[str] = []  # of metrics.csv
        self._loggers: dict[str, Logger] = {}  # those that are told of the run as it goes on
        self._warn: Callable[[str], None] = lambda text: None

    @classmethod
    def at(cls, path: Path) -> "Run":
        """The run that left this folder, wherever the folder is now."""
        run = cls(load_yaml(path / "config.yaml"), path.name)
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
        try:
            return load_torch(path, "cpu", "model", "epoch", "position", "history")
        except Unreadable as error:
            raise UserError(
                f"{error} The run cannot be continued from it; once it is deleted, the same "
                "command begins the run anew."
            ) from error

    # -- the life of a run

    def acquire(self) -> bool:
        """Take the run's lock; False where another process is training it. Raises Unwritable."""
        make_folder(self.path)
        with writing(self.path / ".lock"):
            try:
                self._lock.acquire(blocking=False)
            except filelock.Timeout:
                return False
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
        self._lock.release(force=True)

    def clear(self) -> None:
        """Forget everything about the run; the lock is held."""
        with writing(self.path):
            for child in self.path.iterdir():
                if child.is_dir() and not child.is_symlink():
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
        self._refuse_links()
        for folder in (".hydra", "checkpoints"):
            make_folder(self.path / folder)
        if (self.path / "status.json").exists():
            for left in self.path.rglob(".*.*"):  # by a process that was killed as it wrote
                if _BESIDE.fullmatch(left.name):
                    left.unlink(missing_ok=True)
        # Entry by entry: most are the same as of the sweep's run before.
        entries = (_yaml_of(key, pickle.dumps(value)) for key, value in self.asked.items())
        write_text(self.path / "config.yaml", "".join(entries))
        write_text(self.path / ".hydra" / "overrides.yaml", _yaml(self.asked["overrides"]))
        write_text(self.path / "env.json", json_lines(environment()))
        write_text(self.path / "metrics.csv", "")
        self._add("metrics.csv", rows)
        self._columns = list(rows[0]) if rows else []
        self._keep_steps(step)
        self.set_status("running")
        self._warn = warn
        for name, make in build_each(self.config, "logger").items():
            with self._harmless(name):
                logger = make()
                logger.begin(self.path, flat(self.asked), rows)
                self._loggers[name] = logger

    def _refuse_links(self) -> None:
        """Raise Unwritable where a folder in ours is a link: the run may be a stranger's, and what
        it writes has to stay with it."""
        for child in self.path.iterdir():
            if child.is_symlink() and child.is_dir():
                raise Unwritable(
                    f"{child} is a link to another folder, and a run writes into its own only. Put "
                    "the folder itself in its place, or choose another output_dir=…"
                )

    def set_status(self, status: str, reason: str | None = None) -> None:
        if status != "running":
            self._end(status)
        # To the microsecond: the time tells a status from the next one of its kind.
        now = datetime.now().astimezone().isoformat(timespec="microseconds")
        entry = {"run_id": self.id, "status": status, "reason": reason}
        entry |= {"pid": os.getpid(), "host": HOST, "time": now}
        entry |= {"overrides": self.asked["overrides"], "config": flat(self.asked)}
        entry["versions"] = versions(self.asked)
        if status in FINISHED:
            entry["digests"] = digests(self.path, _BELIEVED)
        write_text(self.path / "status.json", sealed(entry))

    def log(self, row: Row) -> None:
        """Append one epoch's metrics, in the columns of the first epoch: a later one may have more,
        where a search goes on that looks at them."""
        self._columns = self._columns or list(row)
        self._add("metrics.csv", [{name: row.get(name, math.nan) for name in self._columns}])
        for name, logger in list(self._loggers.items()):
            with self._harmless(name):
                logger.log(row)

    def log_steps(self, rows: Iterable[Row]) -> None:
        """Append steps' losses and rates to steps.csv."""
        self._add("steps.csv", rows)

    def _add(self, name: str, rows: Iterable[Row]) -> None:
        """Append rows to a table, below the names of its columns."""
        with appending(self.path / name) as file:
            for row in rows:
                if file.tell() == 0:
                    file.write(",".join(row) + "\n")
                file.write(",".join(map(repr, row.values())) + "\n")

    def _keep_steps(self, last: int) -> None:
        """Forget what steps.csv has of steps after the last; one that is not ours is forgotten."""
        path, kept = self.path / "steps.csv", [b""]
        if not os.path.lexists(path):
            return
        with suppress(Unreadable, ValueError), opened(path) as file:
            head, *lines = file.read().splitlines(keepends=True) or [b""]
            whole = (line for line in lines if line.endswith(b"\n"))
            kept = [head, *(line for line in whole if int(line.partition(b",")[0]) <= last)]
        write_atomically(path, lambda beside: beside.write_bytes(b"".join(kept)), sync=False)

    def say(self, line: str) -> None:
        """Append a line to log.txt."""
        with appending(self.path / "log.txt") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def save(self, name: str, state: dict[str, Any], sync: bool = True) -> None:
        """Write checkpoints/<name>.pt."""
        write_torch(self.path / "checkpoints" / f"{name}.pt", state, sync)

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
        write_text(self.path / "result.json", json_lines(head | clean), sync=True)
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
