"""Python and the packages around trainlab, by what they say about themselves."""

import functools
import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from trainlab.doctor.findings import Finding, ok, trouble, warning

_FOR_US = ("dev", "bench")  # extras of those who work on trainlab
_SHOWN = ("torch", "hydra-core", "omegaconf", "numpy", "pandas", "optuna")
# What compiled code of theirs is made for does not show in their versions. The last two are not
# needed, but other packages import them if they are there.
_IMPORTED = ("pandas", "scipy.stats", "sklearn", "optuna", "PIL.Image")
_BESIDE_TORCH = ("torchvision", "timm")
_PATIENCE = 60.0  # seconds that imports may take on a slow disk


def python() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    here = platform.python_version()
    try:
        trainlab = metadata.distribution("trainlab")
    except metadata.PackageNotFoundError:
        yield warning(
            "python",
            f"Python is {here}, and trainlab is not installed but only found: nothing says which "
            "versions it needs. Install it: pip install .",
        )
        return
    wanted = trainlab.metadata["Requires-Python"]
    facts = {"python": here, "trainlab": trainlab.version, "executable": sys.executable}
    if SpecifierSet(wanted).contains(here, prereleases=True):
        yield ok("python", f"trainlab {trainlab.version} runs on Python {here}.", **facts)
    else:
        yield trouble(
            "python",
            f"Python is {here}, and trainlab needs {wanted}. Make an environment with another one.",
            **facts,
        )


def required() -> Iterator[Finding]:
    """What trainlab cannot do without."""
    versions = {}
    for wanted in _requirements():
        versions[wanted.name] = found = _installed(wanted.name)
        if problem := _problem(wanted, found):
            yield trouble("packages", problem, name=wanted.name, version=found)
    if not versions:
        return
    told = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if versions.get(name))
    more = f", and {len(versions) - len(_SHOWN)} more" if len(versions) > len(_SHOWN) else ""
    yield ok("packages", f"Installed are {told}{more}.", versions=versions)


def extras() -> Iterator[Finding]:
    """What trainlab can use if it is there."""
    complete, lacking = [], {}
    for extra in metadata.metadata("trainlab").get_all("Provides-Extra") or ():
        if extra in _FOR_US:
            continue
        wanted = _requirements(extra)
        missing = [one.name for one in wanted if _installed(one.name) is None]
        for one in wanted:
            if one.name not in missing and (problem := _problem(one, _installed(one.name))):
                yield warning("extras", problem, name=one.name)
        if missing:
            lacking[extra] = missing
        else:
            complete.append(extra)
    told = f"These extras are installed: {', '.join(complete) or 'none'}."
    if lacking:
        named = ",".join(lacking)
        told += f" Not installed: {', '.join(lacking)}; pip install 'trainlab[{named}]' adds them."
    yield ok("extras", told, installed=complete, missing=lacking)


def disagreements() -> Iterator[Finding]:
    """Packages that say they need other versions of what trainlab uses than are installed."""
    from packaging.requirements import InvalidRequirement, Requirement

    ours = {_plain(one.name): _installed(one.name) for one in _requirements()}
    found = False
    for package in metadata.distributions():
        if _plain(package.name or "") == "trainlab":
            continue
        for text in package.requires or ():
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                continue
            version = ours.get(_plain(wanted.name))
            applies = not wanted.marker or wanted.marker.evaluate({"extra": ""})
            if version and applies and not wanted.specifier.contains(version, prereleases=True):
                found = True
                yield warning(
                    "versions",
                    f"{package.name} {package.version} needs {wanted.name}{wanted.specifier}, and "
                    f"{wanted.name} is {version}: what imports {package.name} may fail. Install "
                    f"another version of it, or do without: pip uninstall {package.name}",
                    name=package.name,
                    needs=text,
                )
    if not found:
        yield ok("versions", "No installed package needs other versions of them.")


def imports() -> Iterator[Finding]:
    """Whether compiled packages can be imported: tried in a process of its own, which may die of
    it."""
    names = [name for name in (*_IMPORTED, *_BESIDE_TORCH) if _is_there(name)]
    tried = subprocess.run(
        [sys.executable, "-P", "-c", _TRY, *names],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE,
    )  # fmt: skip
    answers = dict(json.loads(line) for line in tried.stdout.splitlines() if line[:1] == "[")
    wrong = {name: why for name, why in answers.items() if why}
    if died := next((name for name in names if name not in answers), None):
        wrong[died] = f"Python ends with {tried.returncode}"
    for name, why in wrong.items():
        package, what = _as_typed(name.partition(".")[0]), " ".join(why.split())
        if name in _BESIDE_TORCH:
            yield warning(
                "imports",
                f"{package} cannot be imported beside this torch ({what}). trainlab does not need "
                f"it, but other packages import it where it is: pip uninstall {package}",
                name=package,
            )
        else:
            yield trouble(
                "imports",
                f"{package} is installed and cannot be imported ({what}). Install it anew: "
                f"pip install --force-reinstall {package}",
                name=package,
            )
    if not wrong:
        told = ", ".join(_as_typed(name.partition(".")[0]) for name in names)
        yield ok("imports", f"Compiled packages can be imported: {told}.")


_TRY = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        print(json.dumps([name, None]), flush=True)
    except Exception as error:
        print(json.dumps([name, f"{type(error).__name__}: {error}"]), flush=True)
"""


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _as_typed(package: str) -> str:
    """A module's package by the name that pip knows."""
    return {"PIL": "pillow", "sklearn": "scikit-learn"}.get(package, package)


@functools.cache
def _requirements(extra: str = "") -> list[Any]:
    """What trainlab says it needs, for an extra or without any."""
    from packaging.requirements import Requirement

    every = [Requirement(text) for text in metadata.requires("trainlab") or ()]
    if not extra:
        return [one for one in every if not one.marker or one.marker.evaluate({"extra": ""})]
    return [one for one in every if one.marker and one.marker.evaluate({"extra": extra})]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _problem(wanted: Any, version: str | None) -> str | None:
    """What is wrong with the version of a package; None for nothing."""
    line = f"pip install '{wanted.name}{wanted.specifier}'"
    if version is None:
        return f"{wanted.name} is not installed, and trainlab needs it: {line}"
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return f"{wanted.name} is {version}, and trainlab needs {wanted.specifier}: {line}"


def _plain(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
