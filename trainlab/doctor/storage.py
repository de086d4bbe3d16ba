"""The folder of the outputs, tried out: is there room, is it fast enough, does it keep promises?"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainlab.config import UserError
from trainlab.doctor.findings import Finding, ok, size, trouble, warning
from trainlab.files import write_atomically

_GB, _MB = 2**30, 2**20
_BRIEFLY = 0.25  # seconds that a measurement takes at most
_SLOW, _SLOW_SYNC = 0.02, 0.2  # seconds for a small file
_FILES = 16  # that a run leaves, about
_ELSEWHERE = "Choose another place with output_dir=…"
_MORE = "Make room, or choose another place with output_dir=…"
# What another process has to find of a lock that we hold.
_HELD = """
import sys, filelock
try:
    filelock.FileLock(sys.argv[1]).acquire(blocking=False)
except filelock.Timeout:
    sys.exit(7)
"""


def outputs(folder: Path) -> Iterator[Finding]:
    """Whether runs can be kept in this folder, or in what will hold it."""
    place = _existing(folder)
    if not place.is_dir():
        yield trouble("outputs", f"{place} is no folder, and runs are to be below. {_ELSEWHERE}")
        return
    yield from _room(place)
    try:
        inside = tempfile.TemporaryDirectory(prefix=".trainlab-doctor-", dir=place)
    except OSError as error:
        yield trouble(
            "outputs",
            f"{place.absolute()} cannot be written: {error.strerror}. Runs that are finished can "
            f"be shown, none can be trained. {_ELSEWHERE}",
            folder=str(place),
        )
        return
    with inside as name:
        try:
            for check in (_content, _speed, _locks, _links):
                yield from check(Path(name))
        except (OSError, UserError) as error:
            cause = error.__cause__ or error
            yield trouble(
                "outputs",
                f"Files in {place.absolute()} cannot be written and read: "
                f"{getattr(cause, 'strerror', None) or cause}. {_ELSEWHERE}",
                folder=str(place),
            )
    yield from _others(folder)


def _existing(folder: Path) -> Path:
    """The folder, or that above it which is there."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))


def _room(place: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(place).free
    facts: dict[str, Any] = {"folder": str(place.absolute()), "free": free}
    text = f"{place.absolute()} has {size(free)} free"
    files = None
    if hasattr(os, "statvfs"):
        found = os.statvfs(place)
        # Some file systems do not count files, and say 0 of 0.
        files = found.f_favail if found.f_files else None
        facts["files_free"] = files
    if files is not None:
        text += f" and room for {files:,} files"
    if free < 10 * _MB or (files is not None and files < 2 * _FILES):
        yield trouble("outputs", f"{text}: no run can be kept there. {_MORE}", **facts)
    elif free < _GB or (files is not None and files < 1000 * _FILES):
        yield warning("outputs", f"{text}, which a sweep may use up. {_MORE}", **facts)
    else:
        yield ok("outputs", f"{text}.", **facts)


def _content(inside: Path) -> Iterator[Finding]:
    """A quota shows only when something is written."""
    file, written = inside / "content", os.urandom(_MB)
    write_atomically(file, lambda beside: beside.write_bytes(written))
    if file.read_bytes() != written:
        yield trouble("outputs", f"What was written is not what is read there. {_ELSEWHERE}")


def _speed(inside: Path) -> Iterator[Finding]:
    plain, synced = (_milliseconds(inside, sync) for sync in (False, True))
    facts = {"seconds": plain / 1000, "seconds_synced": synced / 1000}
    text = (
        f"A small file takes {plain:.1f} ms there, or {synced:.1f} ms until it would survive a "
        "loss of power"
    )
    if plain > 1000 * _SLOW or synced > 1000 * _SLOW_SYNC:
        yield warning(
            "speed",
            f"{text}. That is slow, and a run writes about {_FILES} files: for many short runs "
            f"take a disk of this machine. {_ELSEWHERE}",
            **facts,
        )
    else:
        yield ok("speed", f"{text}.", **facts)


def _milliseconds(inside: Path, sync: bool) -> float:
    """The median time to write a small file and put it in its place."""
    times: list[float] = []
    while sum(times) < _BRIEFLY and len(times) < 20:
        begin = time.perf_counter()
        write_atomically(inside / "small", lambda beside: beside.write_bytes(bytes(4096)), sync)
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times)


def _locks(inside: Path) -> Iterator[Finding]:
    """Whether who comes second is told so, in this process and in another."""
    import filelock

    first, second = (filelock.FileLock(inside / "lock") for _ in range(2))
    where = None
    try:
        with first:
            try:
                second.acquire(blocking=False)
                where = "in one process"
            except filelock.Timeout:
                if not _told_elsewhere(inside / "lock"):
                    where = "in two processes"
    finally:
        second.release()
    if where:
        yield trouble(
            "locks",
            f"Locks do not hold there ({where}): two commands at once would train the same run. "
            f"Run one at a time. {_ELSEWHERE}",
        )
    else:
        yield ok("locks", "Locks hold there: several commands can share a study.")


def _told_elsewhere(lock: Path) -> bool:
    """Whether another process finds the lock held."""
    command = [sys.executable, "-P", "-c", _HELD, str(lock)]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError as error:  # which says nothing of the folder
        raise RuntimeError(f"no process that tries the lock can be started: {error}") from error
    if tried.returncode not in (0, 7):
        raise RuntimeError(f"a process that tried the lock failed: {tried.stderr[-200:]}")
    return tried.returncode == 7


def _links(inside: Path) -> Iterator[Finding]:
    file, link = inside / "file", inside / "link"
    file.write_text("new")
    link.write_text("old")
    os.replace(file, link)
    if file.exists() or link.read_text() != "new":
        yield trouble("links", f"Files cannot be replaced in one step there. {_ELSEWHERE}")
        return
    try:
        os.link(link, file)
    except OSError as error:
        yield ok(
            "links",
            "Files are replaced in one step there; there are no hard links "
            f"({error.strerror}), so that checkpoints that runs could share are copied.",
            hard_links=False,
        )
        return
    yield ok("links", "Files are replaced in one step there, and hard links work.", hard_links=True)


def _others(folder: Path) -> Iterator[Finding]:
    """Folders of runs that someone else has made, as a container's root does."""
    closed: list[Path] = []
    with suppress(OSError):  # told of already
        closed = [p for p in folder.iterdir() if p.is_dir() and not os.access(p, os.W_OK)]
    if closed:
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        yield warning(
            "outputs",
            f"{closed[0]}{more} cannot be written: the runs in it can be shown and not continued. "
            "Did another user, or a container, make it? Then `sudo chown -R $USER` mends it.",
            folders=[str(path) for path in closed],
        )


def cache() -> Iterator[Finding]:
    """Where downloads go if data_dir names no other folder."""
    from trainlab.data import files

    folder = files.cache()
    place = _existing(folder)
    if place.is_dir() and os.access(place, os.W_OK):
        yield ok("cache", f"download=true can write to {folder}.", folder=str(folder))
    else:
        yield warning(
            "cache",
            f"{place} cannot be written, and download=true puts data in {folder}. Let the "
            "environment variable TRAINLAB_DATA name another folder.",
            folder=str(folder),
        )
