"""The trials of a search: in memory, or in a file that several processes add to.

In memory no trial is kept: the same command asks for the same ones again, and finds their runs in
the study's folder; beside the csv, `<name>.json` says which search it is of. In a file
(`<study>/<name>.db` or `.journal`) every trial notes its owner, a process that holds a lock as long
as it lives. What a dead owner left is finished first, with its own parameters; what a live one is
at is left to it.
"""

import contextlib
import errno
import json
import logging
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from trainlab.config import UserError
from trainlab.files import Unwritable, make_folder, read_json, write_text
from trainlab.search.samplers import Parameters

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_PATIENCE = 10  # seconds that a locked database is waited for


class Trials:
    """Asked for in batches, told of one by one."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        parameters: Parameters,
        sampler: Callable[[int], "BaseSampler"],
        facts: Mapping[str, Any],
        fresh: bool = False,
        retry: bool = False,
        dry_run: bool = False,
    ):
        """`facts` say what the values of its trials are the values of; another search under the
        same name is refused. `fresh` forgets what is there, `retry` tries again what failed, and a
        `dry_run` does all this to a copy."""
        self.parameters, self.sampler, self.facts = parameters, sampler, dict(facts)
        self.kind, self.name, self.folder = settings["storage"], settings["name"], folder
        self.alone, self.id = dry_run or self.kind == "memory", uuid.uuid4().hex[:8]
        self.alive: filelock.BaseFileLock | None = None
        with self._explained(KeyError, ValueError):  # of a journal that is cut or not one
            self.storage = self._copy() if dry_run else self._open()
            if fresh:
                self._forget()
            known = {} if fresh or self.kind != "memory" else read_json(self._note)
            self.study = self._begin(known or self.facts)
            self._compare(self.study.user_attrs["facts"])
            if retry:
                self._retry()
        if not self.alone:
            self.alive = self._lock(self.id)
            self.alive.acquire()

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, *error: object) -> None:
        if self.alive:
            self.alive.release()
            Path(self.alive.lock_file).unlink(missing_ok=True)
        _close(self.storage)

    def all(self) -> "list[FrozenTrial]":
        with self._explained():
            return self.study.get_trials(deepcopy=False)

    def next(self, size: Callable[[int], int], most: int) -> "list[FrozenTrial]":
        """The next batch, `size(number of its first trial)` large as long as there are fewer than
        `most`: one that a dead process left, else a new one; empty where there is none."""
        with self._explained(), self._turn():
            first, wanted = self._left() or (None, 0)
            if first is None:
                first = len(self.all())
                wanted = min(size(first), most - first)
            batch = [first, wanted]
            for _ in range(wanted - len(self._of(batch))):  # all noted before the first is asked
                self.study.enqueue_trial({}, {"owner": self.id, "batch": batch})
            for trial in self._of(batch):
                self._ask(trial)
            return self._of(batch)

    def tell(
        self,
        trial: "FrozenTrial",
        facts: Mapping[str, Any],
        value: float | None,
        knows_pruned: bool,
    ) -> None:
        """What is noted of a trial; and its value as the sampler is to see it, None for a failure.

        A trial that was told before is left as it is.
        """
        from optuna.trial import TrialState

        if trial.state.is_finished():
            return
        with self._explained():
            for epochs, reached in facts["rungs"]:
                self.study._storage.set_trial_intermediate_value(trial._trial_id, epochs, reached)
            self.study._storage.set_trial_user_attr(trial._trial_id, "facts", dict(facts))
            if value is None:
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif facts["state"] == "pruned" and knows_pruned:
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                self.study.tell(trial.number, value)

    # ------------------------------------------------------------ asking

    def _of(self, batch: list[int]) -> "list[FrozenTrial]":
        return [trial for trial in self.all() if trial.user_attrs.get("batch") == batch]

    def _ask(self, trial: "FrozenTrial") -> None:
        """Draw a trial's parameters, all or those that a dead process did not come to."""
        import optuna
        from optuna.trial import TrialState

        self.study.sampler = self.sampler(trial.number)
        if trial.state == TrialState.WAITING:
            asked = self.study.ask(dict(self.parameters))
            assert asked.number == trial.number, "batches are asked for one after the other"
        elif trial.state == TrialState.RUNNING and set(trial.params) != set(self.parameters):
            again = optuna.trial.Trial(self.study, trial._trial_id)
            for name, distribution in self.parameters.items():
                again._suggest(name, distribution)

    def _left(self) -> tuple[int, int] | None:
        """The first batch of which dead processes left something, now ours."""
        left = []
        for trial in self.all():
            owner = trial.user_attrs.get("owner")
            if trial.state.is_finished() or owner is None:
                continue
            if owner == self.id or self._adopt(owner):
                left.append(trial)
        return tuple(left[0].user_attrs["batch"]) if left else None

    def _adopt(self, owner: str) -> bool:
        """Take over what a dead process left; False where it lives."""
        if not self._dead(owner):
            return False
        for trial in self.all():
            if trial.user_attrs.get("owner") == owner and not trial.state.is_finished():
                self.study._storage.set_trial_user_attr(trial._trial_id, "owner", self.id)
        Path(self._lock(owner).lock_file).unlink(missing_ok=True)
        return True

    def _dead(self, owner: str) -> bool:
        """Whether nobody holds the lock of that process any more, which it never takes again."""
        lock = self._lock(owner)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        lock.release()
        return True

    # ------------------------------------------------------------ the file

    def _open(self) -> Any:
        from optuna import storages
        from optuna.storages import journal

        if self.kind == "memory":
            return storages.InMemoryStorage()
        if self._file:
            make_folder(self._file.parent)
        if self.kind == "journal":
            lock = _JournalLock(self.folder / f".{self.name}.journal.lock")
            lock.acquire()
            _cut_torn_line(self._file)
            lock.release()
            return storages.JournalStorage(journal.JournalFileBackend(str(self._file), lock))
        url = f"sqlite:///{self._file}" if self.kind == "sqlite" else self.kind
        timeout = {"connect_args": {"timeout": _PATIENCE}} if url.startswith("sqlite") else {}
        storage = storages.RDBStorage(url, engine_kwargs=timeout)
        make_folder(self.folder)  # where the locks are
        return storage

    @property
    def _file(self) -> Path | None:
        """Where the trials are; None for a server, or for what ends with the command."""
        if self.kind in ("sqlite", "journal"):
            return self.folder / f"{self.name}.{'db' if self.kind == 'sqlite' else 'journal'}"
        path = self.kind.partition("?")[0].removeprefix("sqlite:///")
        return Path(path) if self.kind.startswith("sqlite:///") else None

    @property
    def _note(self) -> Path:
        return self.folder / f"{self.name}.json"

    def note(self) -> None:
        """Say beside the csv which search it is of, where no storage does."""
        if self.kind == "memory":
            text = json.dumps(self.facts, indent=1) + "\n"
            write_text(self._note, text, sync=True)

    def _begin(self, facts: Mapping[str, Any], trials: "Sequence[FrozenTrial]" = ()) -> "Study":
        """The study that is in the storage; where there is none, one of these facts and trials."""
        import optuna

        study = optuna.create_study(
            storage=self.storage,
            study_name=self.name,
            direction=facts["direction"],
            load_if_exists=True,
        )
        if "facts" not in study.user_attrs:
            study.set_user_attr("facts", dict(facts))
            study.add_trials(trials)
        return study

    def _copy(self) -> Any:
        """What the storage holds, in memory; one that is not there is not made."""
        import optuna

        memory = optuna.storages.InMemoryStorage()
        if self.kind == "memory" or (self._file and not self._file.exists()):
            return memory
        storage = self._open()
        try:
            if self.name in optuna.get_all_study_names(storage):
                optuna.copy_study(
                    from_study_name=self.name, from_storage=storage, to_storage=memory
                )
        finally:
            _close(storage)
        return memory

    def _retry(self) -> None:
        """Make what failed what a dead process left: trained first, with its own parameters.

        A storage does not open a trial that has ended, so the study is written anew.
        """
        from optuna.trial import TrialState

        facts, trials = self.study.user_attrs["facts"], self.study.get_trials()
        failed = [t for t in trials if t.state == TrialState.FAIL and "batch" in t.user_attrs]
        for trial in failed:
            trial.state, trial.datetime_complete = TrialState.RUNNING, None
            trial.intermediate_values = {}
            trial.user_attrs = {"owner": self.id, "batch": trial.user_attrs["batch"]}
        if failed:
            self._forget()
            self.study = self._begin(facts, trials)

    def _forget(self) -> None:
        import optuna

        if self.name not in optuna.get_all_study_names(self.storage):
            return
        study = optuna.load_study(study_name=self.name, storage=self.storage)
        for trial in study.get_trials(deepcopy=False):
            owner = trial.user_attrs.get("owner")
            if not trial.state.is_finished() and owner and not self._dead(owner):
                raise UserError(
                    f"fresh=true and retry=true change the trials of the search {self.name}, and "
                    "another process is at them."
                )
        optuna.delete_study(study_name=self.name, storage=self.storage)

    def _lock(self, owner: str) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder / f".{self.name}.{owner}.lock")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One process asks at a time, so that the trials of a batch follow each other."""
        if self.alone:
            yield
            return
        with self._lock("asking"):
            yield

    def _compare(self, before: Mapping[str, Any]) -> None:
        """Refuse what another search has the name of."""
        differences = []
        for part, values in self.facts.items():
            old = before.get(part)
            if not isinstance(values, dict) or not isinstance(old, dict):
                differences += [(part, old, values)] if old != values else []
                continue
            # Settings that one of the two versions of trainlab does not have are no difference.
            keys = old.keys() | values.keys() if part == "space" else old.keys() & values.keys()
            differences += [
                (key, old.get(key, "not there"), values.get(key, "not there"))
                for key in sorted(keys)
                if old.get(key) != values.get(key)
            ]
        if differences:
            told = "; ".join(f"{key} was {old} and is {new}" for key, old, new in differences)
            raise UserError(
                f"There is another search named {self.name} in {self.folder}: {told}. Give this "
                "one its own name with search.name=…, or forget the other with fresh=true."
            )

    @contextlib.contextmanager
    def _explained(self, *more: type[Exception]) -> Iterator[None]:
        """Errors of the storage as advice; Optuna's log and its warnings of novelties kept away."""
        import optuna
        import sqlalchemy.exc

        optuna.logging.set_verbosity(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                yield
            except UserError:
                raise
            except OSError as error:  # of a journal
                raise Unwritable.of(self._file or self.folder, error) from error
            except (
                optuna.exceptions.StorageInternalError,
                sqlalchemy.exc.SQLAlchemyError,
                json.JSONDecodeError,
                ImportError,  # of a database's driver
                *more,
            ) as error:
                if self.kind == "memory":
                    raise
                cause = str(error.__cause__ or error).splitlines()[0]
                if "disk is full" in cause or "readonly database" in cause:  # SQLite's words
                    number = errno.ENOSPC if "full" in cause else errno.EROFS
                    raise Unwritable.of(
                        self._file or self.folder, OSError(number, os.strerror(number))
                    ) from error
                what = "is locked by another program" if "locked" in cause else "cannot be read"
                raise UserError(
                    f"The search's storage, {self._where}, {what} ({cause}). Mend it or move it "
                    "away: the runs are kept, and the same command finds them."
                ) from error

    @property
    def _where(self) -> str:
        """The storage as a person knows it, without a password."""
        if "://" in self.kind:
            return re.sub(r"(//[^/:@]*):[^/@]*@", r"\1:***@", self.kind)
        return f"{self.name} in {self.folder}"


def _close(storage: Any) -> None:
    """Let go of a database's file."""
    if engine := getattr(storage, "engine", None):
        storage.remove_session()
        engine.dispose()


def _cut_torn_line(journal: Path) -> None:
    """Drop what a process that died did not write to its end: the next line would be joined to
    it."""
    text = journal.read_bytes() if journal.exists() else b""
    if text and not text.endswith(b"\n"):
        with open(journal, "ab") as file:
            file.truncate(text.rfind(b"\n") + 1)


class _JournalLock:
    """A lock that dies with its holder; Optuna's own outlives it by half a minute."""

    def __init__(self, path: Path):
        self.lock = filelock.FileLock(path)

    def acquire(self) -> bool:
        self.lock.acquire()
        return True

    def release(self) -> None:
        self.lock.release()
