"""What trainlab reads: its recipes, the user's own, and data files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from trainlab.config import CONF, UserError, check_own, compose, explain, search_path
from trainlab.config.composing import COMBINED
from trainlab.doctor.findings import Finding, ok, trouble, warning

_SOME = 20  # options of one's own that are composed: 50 ms each


def recipes() -> Iterator[Finding]:
    """Whether Hydra, with all plugins that are installed, composes the default recipe."""
    if problem := _problem([]):
        yield trouble(
            "recipes",
            f"The default recipe cannot be composed: {problem} Unless a line above explains it, "
            f"{CONF} is damaged, or a plugin of Hydra's is: install trainlab and Hydra anew.",
        )
    else:
        yield ok("recipes", f"Recipes are composed from {CONF}.", folder=str(CONF))


def own() -> Iterator[Finding]:
    """Options and studies of the working folder's conf/."""
    folder = search_path()[0]
    if folder == CONF:
        yield ok("own conf", "There is no conf/ of your own in this folder, and none is needed.")
        return
    try:
        check_own()
    except (UserError, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        told = _line(error)
        yield trouble(
            "own conf",
            told if isinstance(error, UserError) else f"{folder / 'config.yaml'}: {told}",
        )
        return
    files = sorted(
        path for path in folder.glob("*/*.yaml") if path.parent.name not in ("hydra", "executor")
    )
    wrong = 0
    for path in files[:_SOME]:
        if problem := _problem(_typed(path)):
            wrong += 1
            yield trouble("own conf", f"{path}: {problem}", file=str(path))
    if not wrong:
        tried = f"{len(files)} options" if len(files) <= _SOME else f"the first {_SOME} options"
        yield ok("own conf", f"{folder} is yours, and {tried} in it can be composed.", n=len(files))


def _typed(path: Path) -> list[str]:
    """What chooses an option, as one who trusts it would type it."""
    group, name = path.parent.name, path.stem
    node = _loaded(path)
    target = node.get("_target_")
    trusted = [f"trusted=[{str(target).partition('.')[0]}]"] if target else []
    chosen = f"{group}=[{name}]" if group in COMBINED else f"{group}={name}"
    return [chosen, *trusted]


def _loaded(path: Path) -> dict[str, Any]:
    """{} for what is no map: Hydra says better what is wrong with it."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _problem(overrides: list[str]) -> str | None:
    """Why a recipe cannot be composed; None if it can."""
    from hydra.errors import HydraException

    try:
        compose(overrides)
    except HydraException as error:
        return explain(error)
    except Exception as error:  # of whatever stands in a file, or of a plugin
        return _line(error)
    return None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}."


def data() -> Iterator[Finding]:
    """Which of the official datasets lie where they are looked for."""
    from trainlab.data import images

    named = os.environ.get("TRAINLAB_DATA")
    folder = Path(named).expanduser() if named else None
    if folder and not folder.is_dir():
        yield warning(
            "data",
            f"The environment variable TRAINLAB_DATA names {folder}, and there is no such folder.",
            folder=named,
        )
        return
    there, partly = [], {}
    for name in images.OFFICIAL:
        missing = images.missing(name, folder)
        if not missing:
            there.append(name)
        elif len(missing) < len(images.OFFICIAL[name]):
            partly[name] = missing
    for name, files in partly.items():
        yield warning(
            "data",
            f"dataset={name} is not complete: {', '.join(files)} cannot be found. download=true "
            "fetches what is missing.",
            dataset=name,
            missing=files,
        )
    where = f"in {folder} (TRAINLAB_DATA)" if folder else "in the cache folder"
    lacking = [name for name in images.OFFICIAL if name not in there]
    text = f"Found {where}: {', '.join(there) or 'no official datasets'}."
    if lacking:
        text += f" download=true fetches {', '.join(lacking)}."
    yield ok("data", text, folder=named, found=there, missing=lacking)
