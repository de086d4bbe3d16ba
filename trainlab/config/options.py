"""What there is to choose from: the groups, their options, and the settings each brings."""

import functools
from pathlib import Path

import yaml

from trainlab.config import schema
from trainlab.config.errors import UserError

_PACKAGE = Path(__file__).parents[1]
CONF = next(p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if p.is_dir())


def search_path() -> list[Path]:
    """Folders with options, the user's own `conf/` first."""
    own = Path.cwd() / "conf"
    return [own, CONF] if own.is_dir() and not own.samefile(CONF) else [CONF]


def check_own() -> None:
    """Raise UserError where the working folder's conf/config.yaml is another program's."""
    own, ours = (path / "config.yaml" for path in (search_path()[0], CONF))
    if own == ours or not own.is_file():
        return
    missing = [key for key in schema.read(ours)[1] if key not in schema.read(own)[1]]
    if missing:
        raise UserError(
            f"{own} takes the place of trainlab's table of contents, and has no {missing[0]} "
            f"({len(missing)} settings are missing). Is it another program's? Then run trainlab in "
            "another folder. For defaults of your own, write a study: conf/experiment/NAME.yaml."
        )


def groups() -> list[str]:
    """Every group, in the order of the table of contents, then those only the user has."""
    first = [
        next(iter(entry))
        for entry in yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
        if isinstance(entry, dict)
    ]
    order = [name for name in first if not name.startswith("override")]
    folders = {p.name for path in search_path() for p in path.iterdir() if p.is_dir()}
    return order + sorted(folders - set(order) - {"hydra", "__pycache__"})


def options(group: str) -> dict[str, Path]:
    """Option name -> file, the user's own replacing ours."""
    found = {}
    for path in reversed(search_path()):
        folder = path / group
        if folder.is_dir():
            found |= _files(folder, folder.stat().st_mtime_ns)
    return dict(sorted(found.items()))


@functools.lru_cache(maxsize=256)
def _files(folder: Path, changed: int) -> dict[str, Path]:
    return {file.stem: file for file in folder.glob("*.yaml")}


def settings_of(group: str, option: str) -> dict[str, schema.Setting]:
    """The settings an option brings (or several, joined by +) under their full keys."""
    found = {}
    for file in (options(group).get(name) for name in option.split("+")):
        if file and group != "experiment":
            place = schema.package(file) or group
            found |= {f"{place}.{key}": s for key, s in schema.read(file)[1].items()}
    return found


def shared(group: str) -> dict[str, schema.Setting]:
    """The settings all options of a group share: those of the group in the table of contents.

    They are trainlab's own, and not handed to the component.
    """
    return {key: s for key, s in top_settings().items() if key.startswith(f"{group}.")}


def top_settings() -> dict[str, schema.Setting]:
    found = {}
    for path in reversed(search_path()):
        if (path / "config.yaml").is_file():
            found |= schema.read(path / "config.yaml")[1]
    return found


def known_keys() -> list[str]:
    """Everything that can stand to the left of `=`."""
    keys = [*groups(), *top_settings()]
    for group in groups():
        for name in options(group):
            keys += settings_of(group, name)
    return list(dict.fromkeys(keys))
