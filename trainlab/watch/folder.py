"""One run's folder, as long as it is watched."""

import math
import os
from pathlib import Path
from sys import intern

from trainlab import plans
from trainlab.config import NOT_IDENTITY
from trainlab.files import TEXT, Unreadable, opened, read_json
from trainlab.metrics import higher_is_better
from trainlab.store import FINISHED, lives
from trainlab.tables.runs import Entry, problem_of

# A run in one of these states is not trained any more by the command that it belongs to.
ENDED = (*FINISHED, "failed", "pruned")


class Folder:
    """A run's folder: read again only when a file of it has changed."""

    def __init__(self, path: Path):
        self.path, self.status, self.reason, self.mark = path, "waiting", "", ""
        self.typed: tuple[str, ...] = ()
        self.data, self.recipe = "", 0  # equal for the same data; for runs that differ in the seed
        self.search: str | None = None  # the metric of the search that it belongs to
        self.all_epochs, self.until, self.monitor = 1, None, "val_loss"
        self.process: tuple[int, str] | None = None
        self.result: Entry | None = None  # of a finished run, less its config
        self.changed = 0.0  # when something was last heard of it
        self._status = self._table = (0, 0)  # inode, and time or size
        self._forget()

    def _forget(self) -> None:
        self.offset, self.head = 0, [""]  # in metrics.csv
        self.epoch, self.latest, self.best = 0, None, None

    def look(self) -> "Folder":
        """Read what is new."""
        try:
            found = os.stat(self.path / "status.json")
        except OSError:  # it never started, or is gone
            self.status, self._status = "waiting", (0, 0)
            self._forget()
            return self
        if (found.st_ino, found.st_mtime_ns) != self._status:
            self._status, self.changed = (found.st_ino, found.st_mtime_ns), found.st_mtime
            self._read_status()
        if self.status not in ENDED:
            self._read_table()
        if self.status == "running" and self.lives is False:
            self.status = "interrupted"
        return self

    @property
    def lives(self) -> bool | None:
        """Whether the process does that trains it; None where that cannot be told."""
        return lives(*self.process) if self.process else None

    @property
    def epochs(self) -> int:
        """How many it shall train. A search lets it pause, and goes on with it or not."""
        until = None if self.search else self.until
        return min(self.all_epochs, until or self.all_epochs)

    @property
    def share(self) -> float:
        """How much of it is done."""
        return 1.0 if self.status in ENDED else min(1.0, self.epoch / max(1, self.epochs))

    @property
    def ended(self) -> bool:
        return self.status in ENDED or (self.status == "paused" and self.share == 1)

    def _read_status(self) -> None:
        entry = read_json(self.path / "status.json")
        if problem_of(entry):  # damaged, or another program's
            self.status, self.mark = "waiting", ""
            return
        config = entry["config"]
        self.status, self.reason = entry["status"], entry.get("reason") or ""
        self.mark = plans.mark(entry)
        pid, host = entry.get("pid"), entry.get("host")
        known = isinstance(pid, int) and isinstance(host, str)
        self.process = (pid, host) if known else None
        self.typed = tuple(intern(text) for text in entry.get("overrides") or ())
        decisive = [
            f"{key}={value}"
            for key, value in sorted(config.items())
            if key not in ("seed", "experiment") and decides(key)
        ]
        self.data = intern(" ".join(text for text in decisive if text.startswith("dataset")))
        self.recipe = hash(tuple(decisive))
        epochs, until = config.get("epochs", 1), config.get("until")
        self.all_epochs = epochs if isinstance(epochs, int) else 1
        self.until = until if isinstance(until, int) else None
        self.monitor = str(config.get("stop.monitor", "val_loss"))
        self.result = None
        if self.status == "done":
            known = read_json(self.path / "result.json").items()
            numbers = {key: value for key, value in known if key.startswith(("val_", "train_"))}
            self.result = Entry({}, [], numbers, None, self.path)

    def _read_table(self) -> None:
        """The lines that metrics.csv has more; one that is cut is left for the next look."""
        try:
            found = os.stat(self.path / "metrics.csv")
            if (found.st_ino, found.st_size) == self._table:
                return
            with opened(self.path / "metrics.csv", TEXT) as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._table[0] or found.st_size < self.offset:
                    self._forget()  # the run began anew, or goes on
                self._table = found.st_ino, found.st_size
                self.changed = max(self.changed, found.st_mtime)
                file.seek(self.offset)
                text, end, _ = file.read().rpartition(b"\n")
        except (OSError, Unreadable):
            return
        self.offset += len(text + end)
        for line in text.decode(errors="replace").splitlines():
            self._read_row(line.split(","))

    def _read_row(self, cells: list[str]) -> None:
        if self.head == [""]:
            self.head = cells
            return
        try:
            row = dict(zip(self.head, cells, strict=True))
            self.epoch, self.latest = int(row["epoch"]), float(row[self.monitor])
        except (ValueError, KeyError):
            return
        pick = max if higher_is_better(self.monitor) else min
        if not math.isnan(self.latest):
            self.best = self.latest if self.best is None else pick(self.best, self.latest)


def decides(key: str) -> bool:
    """Whether a setting is one of those that decide a run's result."""
    return key.lstrip("+~").partition(".")[0].partition("=")[0] not in NOT_IDENTITY
