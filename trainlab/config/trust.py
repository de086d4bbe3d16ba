"""What a config may build. A config may come from a stranger, so every group has its own answer:

- what trainlab's options of that group name, and nothing else of trainlab's: conf/ is the list;
- what torch makes for that purpose, as every torch.nn.Module for `act`;
- what is below a package that the user trusts.

Nothing here imports torch, so that a config is refused before anything heavy is loaded.
"""

import functools
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainlab.config.identity import Config
from trainlab.config.options import CONF

_TARGET = re.compile(r"^_target_: (\S+)$", re.M)  # YAML itself would take a tenth of a second


class _Kind(NamedTuple):
    """What torch makes for a group: classes derived from `base`, or functions, of a module."""

    module: str
    base: str | None = None

    def has(self, component: Any) -> bool:
        # An address like torch.nn.functional.torch.hub.load only begins right: what counts is
        # where the thing it leads to was defined.
        if not below(getattr(component, "__module__", None) or "", [self.module]):
            return False
        if self.base is None:
            return inspect.isfunction(component)
        base = getattr(importlib.import_module(self.module), self.base)
        return inspect.isclass(component) and issubclass(component, base)

    def __str__(self) -> str:
        return f"any {self.base or 'function'} of {self.module}"


_OF_TORCH = {
    "act": [_Kind("torch.nn", "Module")],
    "norm": [_Kind("torch.nn", "Module"), _Kind("torch.nn.utils.parametrizations")],
    "init": [_Kind("torch.nn.init")],
    "optimizer": [_Kind("torch.optim", "Optimizer")],
}


def below(name: str, packages: Iterable[str]) -> bool:
    """Whether an address is in one of these packages or modules.

    >>> below("mine.act.Twice", ["mine"]), below("mines.act.Twice", ["mine"])
    (True, False)
    """
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@functools.cache
def packaged(group: str) -> dict[str, list[Path]]:
    """Every target that trainlab's own options of a group name, with the files that name it."""
    found: dict[str, list[Path]] = {}
    for file in sorted((CONF / group).glob("*.yaml")):
        if target := _TARGET.search(file.read_text(encoding="utf-8")):
            found.setdefault(target[1], []).append(file)
    return found


def files(target: Any) -> Iterator[Path]:
    """The files of trainlab's own options that name a target, of whatever group."""
    for group in CONF.iterdir():
        yield from packaged(group.name).get(str(target), ())


def may_be(target: Any, group: str, trusted: Sequence[str]) -> bool:
    """Whether an address can be that of a component of the group; `is_one` tells when it is
    imported."""
    if not isinstance(target, str):
        return False
    modules = [kind.module for kind in _OF_TORCH.get(group, ())]
    return target in packaged(group) or below(target, [*modules, *trusted])


def is_one(component: Any, target: str, group: str, trusted: Sequence[str]) -> bool:
    """Whether what stands at an address is a component of the group, or of a trusted package."""
    if target in packaged(group) or any(kind.has(component) for kind in _OF_TORCH.get(group, ())):
        return True
    return below(target, trusted) and below(origin(component), trusted)


def origin(component: Any) -> str:
    """The address at which a class or function was defined."""
    name = getattr(component, "__qualname__", type(component).__name__)
    return f"{getattr(component, '__module__', None) or 'no module'}.{name}"


def refusal(target: Any, group: str, place: str, origin: str = "") -> str:
    """Why a target is not built, and what to do about it. `origin` is the address of what stands
    there, where that is known."""
    named = f"{target} (that is {origin})" if origin else str(target)
    shown = f" (`trainlab list {group}` shows them)" if (CONF / group).is_dir() else ""
    kinds = "".join(f", nor {kind}" for kind in _OF_TORCH.get(group, ()))
    package = (origin or str(target)).rpartition(".")[0]
    return (
        f"{place} names {named}, which is none of trainlab's for {group}{shown}{kinds}. If you "
        f"know what it does and trust it, type 'trusted=[{package}]'."
    )


class Component(NamedTuple):
    """A node of a config that names what is to be built."""

    place: str  # logger.mlflow
    group: str  # logger
    node: Config

    def problems(self, trusted: Sequence[str]) -> Iterator[str]:
        """What it may not be or have; nothing of it is imported for that."""
        target = self.node.get("_target_")
        if not target:
            yield f"{self.place} is no option of {self.group}: it names nothing to build."
        elif not may_be(target, self.group, trusted):
            yield refusal(target, self.group, self.place)
        for key in inner(self.node, ("_target_",)):
            yield (
                f"{self.place}.{key}: a component has one _target_, and settings whose names do "
                "not begin with an underscore."
            )


def inner(node: Any, allowed: Sequence[str] = ()) -> Iterator[str]:
    """The keys, at any depth, by which Hydra's instantiate is told what to do: those that
    begin with an underscore."""
    if isinstance(node, dict):
        for key, value in node.items():
            if str(key).startswith("_") and key not in allowed:
                yield str(key)
            yield from (f"{key}.{below}" for below in inner(value))
    elif isinstance(node, list):
        for value in node:
            yield from inner(value)


def components(config: Config) -> Iterator[Component]:
    """All that a config names to be built."""
    for group in config["choices"]:
        node = config.get(group)
        if not isinstance(node, dict) or not (CONF / group).is_dir():
            continue
        if node.get("_target_"):
            yield Component(group, group, node)
            continue
        for name, part in node.items():  # of a group that combines
            if isinstance(part, dict):
                yield Component(f"{group}.{name}", group, part)
