"""Files of datasets: where they lie, how they are fetched, and how they are unzipped safely."""

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainlab import terminal
from trainlab.config import UserError


def fetched(
    name: str,
    folder: str,
    data_dir: Path | None,
    download: bool,
    url: str,
    checksum: str,
    also: Sequence[str] = (),
) -> Path:
    """The path of a data file: as it is where it lies there, else downloaded if that is allowed.

    As it is, also without its .gz, or by another name, `also`, as a file or a folder; in
    `data_dir`/`folder`, or where torchvision or an archive from Kaggle has put it. A download has
    to have the SHA-256 `checksum`; one that broke off goes on where it stopped.
    """
    if path := lying(name, folder, data_dir, also):
        return path
    target = (data_dir or cache()) / folder
    if not download:
        raise UserError(
            f"dataset={folder}: {target / name} does not exist. Put the official files there, set "
            "data_dir (or the environment variable TRAINLAB_DATA) to the folder that holds "
            f"{folder}/, or allow fetching them with download=true."
        )
    import pooch

    part = target / f"{name}.part"
    try:
        return Path(
            pooch.retrieve(
                url + name, f"sha256:{checksum}", fname=name, path=target, downloader=resuming(part)
            )
        )
    except Exception as error:
        kept = "; what has arrived is kept, the same command goes on from there"
        raise UserError(
            f"dataset={folder}: cannot download {url + name}: {error}"
            f"{kept if part.exists() else ''}"
        ) from error


def lying(name: str, folder: str, data_dir: Path | None, also: Sequence[str] = ()) -> Path | None:
    """Where a data file is: see `fetched`. None if it is nowhere."""
    for place in _places(data_dir or cache(), folder, name):
        for candidate in (name, name.removesuffix(".gz"), *also):
            for path in (place / candidate / candidate, place / candidate):
                if path.is_file() or (path.is_dir() and path.name in also):
                    return path
    return None


def cache() -> Path:
    """Where data files are, and are fetched to, if `data_dir` names no other folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("trainlab"))


def _places(data_dir: Path, dataset: str, name: str) -> Iterator[Path]:
    """Folders where a file of a dataset may lie: those called like it, and torchvision's in these;
    for a file whose own name tells the dataset also `data_dir` and those in it."""
    wanted = _plain(dataset)
    tops = [data_dir / dataset, *(p for p in _folders(data_dir) if _plain(p.name) == wanted)]
    if _plain(data_dir.name) == wanted:
        tops.append(data_dir)
    for top in tops:
        for place in (top, *(p for p in _folders(top) if _plain(p.name) == wanted)):
            yield from (place, place / "raw")
    if wanted in _plain(name):
        yield data_dir
        for top in (data_dir, *tops):
            yield from _folders(top)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def resuming(part: Path) -> Callable[[str, str, Any], None]:
    """A downloader for pooch that leaves in `part` what had arrived when it broke off.

    Who goes on takes `part` away for as long as that lasts, so two processes never write one file.
    """

    def download(url: str, output_file: str, pooch: Any) -> None:
        with suppress(FileNotFoundError):
            os.replace(part, output_file)
        try:
            _append(url, Path(output_file))
        except BaseException:
            if Path(output_file).stat().st_size:
                os.replace(output_file, part)
            raise

    return download


def _append(url: str, file: Path) -> None:
    """Download by http or https what `file` lacks, with progress on a terminal."""
    import requests
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    arrived = file.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={arrived}-"} if arrived else {})
    console = terminal.console(error=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with (
        requests.get(url, headers=headers, stream=True, timeout=30) as response,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            file.write_bytes(b"")  # it is not the file that was begun
            raise OSError("the server has another file than the one begun; try again")
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:  # the server sends all of it
            arrived = 0
        size = int(response.headers.get("Content-Length", 0))
        task = bar.add_task(url.rpartition("/")[2], total=arrived + size, completed=arrived)
        with file.open("ab" if arrived else "wb") as out:
            for chunk in response.iter_content(2**16):
                out.write(chunk)
                bar.advance(task, len(chunk))


def located(path: str | None, dataset: str, data_dir: Path | None) -> Path:
    """A file or folder the user named: below the working folder, else below `data_dir`."""
    if path is None:
        raise UserError(f"dataset={dataset} needs to be told which file or folder: dataset.path=…")
    places = [Path(path).expanduser(), *([data_dir / path] if data_dir else [])]
    for place in places:
        if place.exists():
            return place
    raise UserError(
        f"dataset={dataset}: there is no {' nor '.join(str(place) for place in places)}. "
        "dataset.path is looked for below the working folder, then below data_dir."
    )


def contents(path: Path, limit: int = 2**30) -> bytes:
    """The bytes of a file, unzipped where it is gzipped.

    Raises UserError where it is damaged, or unzips to more than `limit` bytes.
    """
    try:
        packed = path.read_bytes()
        if packed[:2] != b"\x1f\x8b":
            return packed
        parts, room = [], limit + 1
        while packed[:2] == b"\x1f\x8b":  # a file may be several, one after the other
            stream = zlib.decompressobj(wbits=31)  # gzip's header and checksum
            parts.append(stream.decompress(packed, room))
            room -= len(parts[-1])
            if room == 0:
                raise UserError(f"{path} is refused: it unzips to more than {limit:,} bytes.")
            if not stream.eof:
                raise EOFError("it ends too early")
            packed = stream.unused_data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}. Fetch it again.") from error
    return b"".join(parts)


_HONEST = 2**30  # bytes that any file may unzip to
_RATIO = 100  # times its own size that a larger one may; numbers and texts shrink to a tenth, or so
_DEFLATE = 1032  # times its own size that anything can


def bomb(size: int, unzipped: int) -> str | None:
    """Why a file of that size is refused that unzips to what no honest one does, and memory may not
    hold; None where it is not."""
    if unzipped <= max(_HONEST, _RATIO * size):
        return None
    return (
        f"its {size:,} bytes unzip to more than {_RATIO} times as many. If it is yours, save it "
        "without compression."
    )


def check_unzips(path: Path) -> None:
    """Raise UserError where a gzipped file is a `bomb`; what is damaged is left to its reader."""
    size, unzipped = path.stat().st_size, 0
    if size * _DEFLATE <= _HONEST:
        return
    with suppress(OSError, EOFError, zlib.error), gzip.open(path) as content:
        while chunk := content.read(2**20):
            unzipped += len(chunk)
            if why := bomb(size, unzipped):
                raise UserError(f"{path} is refused: {why}")
