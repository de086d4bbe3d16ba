"""Files that may be anybody's: read with care, written in one step.

What stands in a run's folder may be damaged, huge, a pipe, or a link to a device. Whatever is read
there comes through here: regular files only, none larger than its kind has reason to be, and one
kind of error, `Unreadable`, with the reason in words.
"""

import errno
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import yaml

from trainlab.config.errors import UserError

MB = 2**20
TEXT = 64 * MB  # the largest text that is read: a hundred thousand epochs take 20 MB
_CONFIG = MB  # of YAML, which is read slowly; a run's takes a few kB
_VALUES = 100_000  # in a YAML file, where one line may stand for many others


class Unreadable(UserError):
    """A file that is missing, damaged, or none that could be read; `reason` goes on after its
    name."""

    def __init__(self, file: Path, reason: str):
        super().__init__(f"{file} {reason}.")
        self.file, self.reason = file, reason


# Errors that say nothing of what was to be written, nor of where: the machine is in trouble.
_TROUBLE = tuple(
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EIO EROFS EFBIG EMFILE ENFILE ESTALE ETIMEDOUT ENXIO ENODEV".split()
    if hasattr(errno, name)
)
_REMEDIES = {
    errno.ENOSPC: "Make room there",
    getattr(errno, "EDQUOT", None): "Make room there, or ask for a larger quota",
    errno.EROFS: "Mount it so that it can be written to",
    errno.EFBIG: "`ulimit -f` tells how large a file may be here; allow more",
    errno.EMFILE: "`ulimit -n` tells how many files may be open at once here; allow more",
}


class Unwritable(UserError):
    """A file or folder cannot be written. What was to be written is none the worse for it: a run
    stops, and goes on once it can be.

    Exit code 1 where the disk is full or the machine is in trouble otherwise; 2, as of other input,
    where it is the place that was chosen.
    """

    @classmethod
    def of(cls, path: Path, error: OSError) -> "Unwritable":
        """For the file or folder that was meant, which may not be the one in the error."""
        made = cls(f"{path} cannot be written: {error.strerror or error}. {_remedy(path, error)}")
        made.code = 1 if in_trouble(error) else made.code
        return made


def in_trouble(error: OSError) -> bool:
    """Whether the machine is to blame, and not the place that was chosen."""
    return error.errno in _TROUBLE


def _remedy(path: Path, error: OSError) -> str:
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        place = path if path.is_dir() else path.parent
        what = "folder" if path.is_dir() else "file"
        return (
            f"{place} is a {what}, which is in the way: move it, or choose another place "
            "(output_dir=… for runs)."
        )
    if in_trouble(error):
        what = _REMEDIES.get(error.errno, "Once that is mended")
        return f"{what}; the same command goes on from where it was."
    return "Choose another place (output_dir=… for runs), or see who may write there."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever goes wrong as this file or folder is written is raised as Unwritable."""
    try:
        yield
    except OSError as error:
        raise Unwritable.of(path, error) from error


# ---------------------------------------------------------------- reading


def opened(file: Path, most: int | None = None) -> BinaryIO:
    """A regular file of `most` bytes at most, open for reading. Raises Unreadable.

    A pipe nobody writes to does not keep us waiting, and a device is not read at all.
    """
    # Opened before it is looked at: what a name stands for may change in between.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(file, flags)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                raise Unreadable(file, "is a folder")
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(file, "is no regular file")
            if most is not None and found.st_size > most:
                raise Unreadable(file, f"is larger than {most // MB} MB, more than trainlab reads")
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError as error:
        raise Unreadable(file, "is missing") from error
    except OSError as error:
        raise Unreadable(file, f"cannot be read: {error.strerror or error}") from error


def read_bytes(file: Path, most: int = TEXT) -> bytes:
    """The content of a regular file. Raises Unreadable."""
    with opened(file, most) as content:
        try:
            return content.read(most + 1)  # it may grow as we read
        except OSError as error:
            raise Unreadable(file, f"cannot be read: {error.strerror or error}") from error


def read_text(file: Path, most: int = TEXT) -> str:
    """The content of a text file in UTF-8. Raises Unreadable."""
    return _decoded(file, read_bytes(file, most))


def _decoded(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(file, "is not text in UTF-8") from error


def load_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises Unreadable."""
    return parsed_json(file, read_bytes(file))


def parsed_json(file: Path, content: bytes) -> dict[str, Any]:
    """The object in the content of a JSON file. Raises Unreadable."""
    text = _decoded(file, content)
    try:
        value = json.loads(text, parse_int=_whole)
    except RecursionError as error:
        raise Unreadable(file, "is nested too deeply") from error
    except ValueError as error:
        what = "is cut short or not JSON" if text.strip() else "is empty"
        raise Unreadable(file, what) from error
    if not isinstance(value, dict):
        raise Unreadable(file, "holds no JSON object")
    return value


def _whole(digits: str) -> int | float:
    """Numbers beyond 64 bits as floats, which may be infinite: no number of ours has 400 digits."""
    return int(digits) if len(digits) < 19 else float(digits)


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds; {} where it is missing or damaged."""
    try:
        return load_json(file)
    except Unreadable:
        return {}


def load_yaml(file: Path) -> dict[str, Any]:
    """The map that a YAML file holds. Raises Unreadable."""
    text = read_text(file, _CONFIG)
    try:
        value = yaml.safe_load(text)
        too_many = _count(value, _VALUES) > _VALUES
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise Unreadable(file, "is damaged: it is no YAML") from error
    except RecursionError as error:
        raise Unreadable(file, "is nested too deeply") from error
    if too_many:
        raise Unreadable(file, f"stands for more than {_VALUES:,} values")
    if not isinstance(value, dict):
        raise Unreadable(file, "holds no settings")
    return value


def _count(value: Any, most: int) -> int:
    """How many values there are in nested ones; counting ends beyond `most`."""
    count = 1
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            count += _count(inner, most - count)
            if count > most:
                break
    return count


def load_torch(file: Path, device: Any, *entries: str) -> dict[str, Any]:
    """What torch.save wrote, a dict with these entries, its tensors on `device`. Raises Unreadable.

    What was written is compared with its digest, which torch.load does not do: a flipped bit would
    give other weights without a word. No code is run (`weights_only`).
    """
    import torch

    with opened(file) as content:
        try:
            sound = _is_sound(content)
            content.seek(0)
            state = torch.load(content, device, weights_only=True) if sound else None
        except MemoryError:
            raise
        except Exception as error:  # zipfile, pickle and torch have one for each kind of damage
            raise Unreadable(file, "is damaged") from error
    if not isinstance(state, dict) or not all(entry in state for entry in entries):
        raise Unreadable(file, "is damaged")
    return state


# ---------------------------------------------------------------- digests

# What torch.save writes is a zip archive, which ends with the length of a comment: 0. The digest is
# that comment, so that the two are never of different moments, and other programs read the file.
_LENGTH = 2
_DIGITS = 32
_CHUNK = MB


def _sign(content: BinaryIO) -> None:
    """Add the digest to an archive that is open to be read and written."""
    digits = _digest_of(content, content.seek(0, os.SEEK_END))
    content.seek(-_LENGTH, os.SEEK_END)
    content.write(_DIGITS.to_bytes(_LENGTH, "little") + digits)


def _is_sound(content: BinaryIO) -> bool:
    """Whether an archive is as it was written: by its digest, or, of a file without one, by the
    CRC-32 of its records."""
    end = content.seek(0, os.SEEK_END) - _DIGITS
    if end > _LENGTH:
        content.seek(end - _LENGTH)
        length, digits = content.read(_LENGTH), content.read()
        if int.from_bytes(length, "little") == _DIGITS:
            return digits == _digest_of(content, end)
    with zipfile.ZipFile(content) as archive:
        return archive.testzip() is None and not archive.comment


def _digest_of(content: BinaryIO, end: int) -> bytes:
    """Of the bytes before the length of the comment."""
    found = hashlib.blake2b(digest_size=_DIGITS // 2)
    content.seek(0)
    left = end - _LENGTH
    while left > 0 and (part := content.read(min(left, _CHUNK))):
        found.update(part)
        left -= len(part)
    return found.hexdigest().encode()


def digest(content: bytes) -> str:
    """Sixteen hex digits that tell whether a content is what it was (BLAKE2b)."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """File name -> digest, of those of these files that can be read."""
    found = {}
    for name in names:
        with suppress(Unreadable):
            found[name] = digest(read_bytes(folder / name))
    return found


def json_lines(value: dict[str, Any]) -> str:
    """A JSON object with a line for each key."""
    lines = (f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in value.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


_SEAL = ',\n"digest": "'


def sealed(value: dict[str, Any]) -> str:
    """`json_lines`, with the digest of the lines before it as the last.

    >>> untouched(sealed({"lr": 0.1}).encode()), untouched(sealed({"lr": 0.1})[1:].encode())
    (True, False)
    """
    body = json_lines(value).removesuffix("\n}\n")
    return f'{body}{_SEAL}{digest(body.encode())}"\n}}\n'


def untouched(content: bytes) -> bool:
    """Whether a sealed text is as it was written; True for one without a seal."""
    body, seal, rest = content.rpartition(_SEAL.encode())
    return not seal or rest == f'{digest(body)}"\n}}\n'.encode()


# ---------------------------------------------------------------- writing


def write_atomically(file: Path, write: Callable[[Path], None], sync: bool = True) -> None:
    """Let `write` fill a file beside `file`, then put it in its place in one step. Raises
    Unwritable.

    With `sync` it survives a loss of power too, which takes a millisecond or more.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with writing(file):
        try:
            beside.unlink(missing_ok=True)  # a dead process may have had our number
            write(beside)
            if sync:
                with open(beside, "rb") as content:
                    os.fsync(content.fileno())
            os.replace(beside, file)
        finally:
            with suppress(OSError):
                beside.unlink()


def write_text(file: Path, text: str, sync: bool = False) -> None:
    write_atomically(file, lambda beside: beside.write_text(text, encoding="utf-8"), sync)


def write_torch(file: Path, state: dict[str, Any], sync: bool = True) -> None:
    """What `load_torch` reads. Raises Unwritable."""
    import torch

    def write(beside: Path) -> None:
        with open(beside, "w+b") as content:  # to a name torch writes with errors of its own
            torch.save(state, content)
            _sign(content)

    write_atomically(file, write, sync)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there. Raises Unwritable."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def appending(file: Path) -> Iterator[TextIO]:
    """A text file, open to be added to; never one elsewhere, or one that has another name as well.
    Raises Unwritable.

    A run's folder may be a stranger's: a link in the place of its log could lead anywhere.
    """
    with writing(file):
        found = os.lstat(file) if os.path.lexists(file) else None
        regular = found and stat.S_ISREG(found.st_mode)
        if found and not stat.S_ISDIR(found.st_mode) and not (regular and found.st_nlink == 1):
            content = read_bytes(file) if regular else b""
            write_atomically(file, lambda beside: beside.write_bytes(content), sync=False)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(file, flags, 0o666), "a", encoding="utf-8") as content:
            yield content
