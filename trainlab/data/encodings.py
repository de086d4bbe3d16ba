"""What a file that should be text is, by its first bytes: its encoding, or what it is instead."""

import codecs
import gzip
import re
from pathlib import Path

from trainlab.config import UserError

_HEAD = 2**16  # bytes that are looked at
GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_PANDAS = "In Python: pandas.read_{0}(…).to_csv('mine.csv', index=False)."
_SHEET = "Export it as csv where it was made. " + _PANDAS.format("excel")
_KINDS = {  # what files begin with -> what they are, and how they become text
    b"PK\x03\x04": ("a zip archive", "Unpack it: unzip FILE."),
    b"\xd0\xcf\x11\xe0": ("an old Excel or Office file", _SHEET),
    b"PAR1": ("a parquet file", _PANDAS.format("parquet")),
    b"ARROW1": ("a feather or Arrow file", _PANDAS.format("feather")),
    b"SQLite format 3\x00": (
        "a SQLite database",
        "Export a table: sqlite3 -header -csv FILE 'SELECT * FROM …' > mine.csv.",
    ),
    b"\x89HDF": ("an HDF5 file", _PANDAS.format("hdf")),
    b"\x93NUMPY": (
        "a numpy array",
        "Save inputs and targets by numpy.savez, and read them with dataset=npz.",
    ),
    b"BZh": ("compressed by bzip2", "Unpack it: bunzip2 FILE."),
    b"\xfd7zXZ\x00": ("compressed by xz", "Unpack it: unxz FILE."),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "Unpack it: unzstd FILE."),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it: 7z x FILE."),
    b"Rar!": ("a rar archive", "Unpack it: unrar x FILE."),
    b"%PDF": ("a PDF document", "Its tables have to be exported as csv."),
    b"{\\rtf": ("a document in RTF", "Save it as plain text (csv)."),
    b"version https://git-lfs": ("a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
}
_PAGE = re.compile(rb"\s*<(!doctype\s+html|html|head|body|\?xml|!--)", re.IGNORECASE)
_JSON = re.compile(rb"\s*(\{\s*\"|\[\s*[\[{])")
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95c}\](\x8c]")


def looked_at(file: Path, encoding: str = "auto") -> tuple[bool, str]:
    """Whether a file of text is gzipped, and its encoding: UTF-8, UTF-16 or the one that is told.

    UTF-16 and UTF-32 are known by their marks, UTF-16 also by the zeros between its letters.
    Raises UserError where the first bytes are those of another kind of file.

    >>> looked_at(Path("mine.csv"))  # doctest: +SKIP
    (False, 'utf-8')
    """
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    zipped = head.startswith(GZIP)
    if zipped:
        with gzip.open(file) as stream:
            head = stream.read(_HEAD)
    if encoding == "auto":
        encoding = _marked(head) or _spaced(head)
        if encoding == "auto":
            _refuse_others(file, head)
            encoding = "utf-8"
    try:
        "".encode(encoding)
    except LookupError as error:
        raise UserError(
            f"dataset.encoding={encoding} is no encoding that is known. There are utf-8, utf-16, "
            "cp1252 (Windows, Excel), latin-1, mac-roman, shift-jis, gb18030 and many more."
        ) from error
    encoding = codecs.lookup(encoding).name
    marked = encoding.startswith("utf-16") and _marked(head) == "utf-16"
    return zipped, "utf-16" if marked else encoding


def _marked(head: bytes) -> str | None:
    """The encoding that a byte order mark tells."""
    return next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)


def _spaced(head: bytes) -> str:
    """UTF-16 where nearly every other byte is zero, as between letters of European scripts."""
    for zeros, letters, name in ((1, 0, "utf-16-le"), (0, 1, "utf-16-be")):
        if 2 * head[zeros::2].count(0) > len(head[zeros::2]) > 0 == head[letters::2].count(0):
            return name
    return "auto"


def _refuse_others(file: Path, head: bytes) -> None:
    what = next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)
    if head.startswith(b"PK\x03\x04") and (b"xl/" in head or b"[Content_Types].xml" in head):
        what = ("an Excel workbook", _SHEET)
    elif head.startswith(b"PK\x03\x04") and b".npy" in head:
        what = ("an archive of numpy arrays", "Read it with dataset=npz.")
    elif head.startswith(b"PK\x03\x04") and b"opendocument.spreadsheet" in head:
        what = ("a spreadsheet of LibreOffice", _SHEET)
    elif _PICKLE.match(head):
        what = (
            "a pickle of Python, which could run a program when it is read",
            "Who made it can save it as csv.",
        )
    elif _PAGE.match(head):
        what = (
            "a page of the web (HTML) or XML",
            "Often it is the page about the data, or an error: fetch the file itself.",
        )
    elif _JSON.match(head):
        what = ("JSON", _PANDAS.format("json"))
    elif b"\0" in head and not what:
        what = ("not text: it has zero bytes", "A table has to be exported as csv.")
    if what:
        raise UserError(f"{file} is {what[0]}, and no table in text. {what[1]}")


def misread(file: Path, encoding: str, error: UnicodeError) -> UserError:
    """The error for a file that is not in that encoding: what it says in that of Windows."""
    told = ""
    if isinstance(error, UnicodeDecodeError):
        start = max(error.start - 12, 0)
        line = error.object[start : error.end + 12].decode("cp1252", "replace")
        word = next((part for part in re.split(r"[\r\n,;\t|]", line) if not part.isascii()), line)
        told = f" It has {word.strip()!r} if it is in cp1252, as programs of Windows write."
    return UserError(
        f"{file} is not text in {encoding.upper()}.{told} Say what it is in: "
        "dataset.encoding=cp1252, or latin-1, mac-roman, shift-jis, …"
    )
