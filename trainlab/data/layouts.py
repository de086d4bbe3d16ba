"""How people lay out data of their own: splits and classes in the names of folders and arrays."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from trainlab.config import UserError

_SPLITS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
# What operating systems and other programs leave behind.
_LEFT = frozenset(
    "__macosx,__pycache__,@eadir,$recycle.bin,lost+found,system volume information,"
    "thumbs.db,ehthumbs.db,desktop.ini,icon\r".split(",")
)
_NO_IMAGES = frozenset(
    ".txt .csv .tsv .json .jsonl .xml .yaml .yml .toml .md .rst .html .htm .ini .db .log .py "
    ".ipynb .lnk .url .sh .bat .pdf .npy .npz .mat".split()
)


def split_in(name: str) -> tuple[str | None, str]:
    """The split that the first or the last word of a name says, and the other words.

    >>> split_in("Training_Set"), split_in("X_val"), split_in("labels")
    (('train', 'set'), ('val', 'x'), (None, 'labels'))
    """
    words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    if len(words) == 1 and (glued := re.fullmatch(r"([xy])([a-z]+)", words[0])):  # xtrain
        words = list(glued.groups()) if glued[2] in _SPLIT_OF else words
    for i in (0, len(words) - 1) if words else ():
        if split := _SPLIT_OF.get(words[i].removesuffix("set")):
            return split, "_".join(words[:i] + words[i + 1 :])
    return None, "_".join(words)


def folders(path: Path) -> list[str]:
    """The names of the folders in a folder, in order, without those of other programs."""
    if not path.is_dir():
        raise UserError(f"dataset=image_folder: {path} is no folder.")
    return sorted(p.name for p in path.iterdir() if p.is_dir() and not _left(p.name))


def image_files(path: Path) -> list[Path]:
    """The files below a folder, in order, that are images, or are to be: of any suffix but those
    that surely are something else."""
    return sorted(_image_files(path))


def _image_files(path: Path) -> Iterator[Path]:
    for entry in path.iterdir():
        if _left(entry.name):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _image_files(entry)
        elif entry.is_file() and entry.suffix.lower() not in _NO_IMAGES:
            yield entry


def _left(name: str) -> bool:
    """Whether a file or folder is hidden, or was left by another program."""
    return name.startswith(".") or name.lower() in _LEFT


def splits_of(root: Path, splits: str = "auto") -> dict[str, dict[str, Path]]:
    """The folder of each class, by split: {"train": {"cat": …, "dog": …}, "test": …}.

    Folders are named by class, alone or below folders named by split (train, val, test, in other
    words and cases too) or above these; all in one more folder, or not. Raises UserError for what
    may be splits and may be classes, unless `splits` is none: then all are classes.
    """
    root = _unwrapped(root)
    if splits == "none":
        return {"train": _classes(root)}
    if parts := _parts(root):
        found = {split: _classes(_unwrapped(part)) for split, part in parts.items()}
        return _alike(root, found)
    inside = {name: _parts(root / name) for name in folders(root)}
    if whole := next((name for name in inside if inside[name]), None):
        for name, own in inside.items():
            if own.keys() != inside[whole].keys():
                raise UserError(
                    f"{root / whole} has folders for the splits {', '.join(inside[whole])}, and "
                    f"{root / name} has not. Every class needs the same.{_AS_CLASSES}"
                )
        return {split: {name: inside[name][split] for name in inside} for split in inside[whole]}
    _check_classes(root)
    return {"train": _classes(root)}


def _unwrapped(path: Path) -> Path:
    """The folder itself, or the only one in it that has folders, as archives unpack to."""
    while len(there := folders(path)) == 1 and folders(path / there[0]):
        path = path / there[0]
    return path


def _parts(root: Path) -> dict[str, Path]:
    """The folder of each split, where training and another have one; else none."""
    named: dict[str | None, list[str]] = {}
    for name in folders(root):
        named.setdefault(split_in(name)[0], []).append(name)
    if "train" not in named or not named.keys() & {"val", "test"}:
        return {}
    for name in named.pop(None, []):
        if image_files(root / name):
            raise UserError(
                f"{root} has folders for splits, {', '.join(chain(*named.values()))}, and also "
                f"{name}, whose images belong to none. Move {name} elsewhere; "
                f"{_shown(root / named['train'][0])} takes one folder alone."
                f"{_AS_CLASSES}"
            )
    for split, names in named.items():
        if len(names) > 1:
            raise UserError(
                f"{root} has {len(names)} folders for the split {split}: {', '.join(names)}. Leave "
                f"one there.{_AS_CLASSES}"
            )
    return {split: root / named[split][0] for split in _SPLITS if split in named}


def _classes(path: Path) -> dict[str, Path]:
    return {name: path / name for name in folders(path)}


def _alike(root: Path, found: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """The splits found. Raises UserError where they have not the same classes."""
    train = found["train"]
    for split, classes in found.items():
        if not train:
            raise UserError(
                f"{root}: the split train has no folders, and there has to be one for each class."
                f"{_AS_CLASSES}"
            )
        if not classes:
            alone = next(iter(train.values())).parent
            raise UserError(
                f"{root}: the split {split} has no folders for the classes. If its images have no "
                f"labels, learn from the others alone, {_shown(alone)}, and let trainlab predict "
                "name these."
            )
        if odd := sorted(classes.keys() ^ train.keys()):
            raise UserError(
                f"{root}: the class {odd[0]} is in one of the splits train and {split}, and not in "
                "the other. Each needs a folder for every class, of the same name."
            )
    return found


def _check_classes(root: Path) -> None:
    """Raise UserError where the folders of one that has no splits may yet be some."""
    inside = {name: folders(root / name) for name in folders(root)}
    for name, below in inside.items():
        others = [other for other in inside if other != name]
        if split_in(name)[0] and below and not any(inside[other] for other in others):
            raise UserError(
                f"{root} has {name}, in which there are folders, and beside it {', '.join(others)}"
                f", in which there are none. {_shown(root / name)} takes the folders of {name} for "
                f"the classes.{_AS_CLASSES}"
            )
    first, below = next(iter(inside.items()), ("", []))
    if len(inside) > 1 and len(below) > 1 and all(names == below for names in inside.values()):
        raise UserError(
            f"{', '.join(inside)} in {root} each have the folders {', '.join(below)}. If these are "
            "the classes, name the folders above them train, val and test, or take one alone: "
            f"{_shown(root / first)}.{_AS_CLASSES}"
        )


_AS_CLASSES = " If all folders there are classes: dataset.splits=none."


def _shown(path: Path) -> str:
    return f"'dataset.path={path}'"
