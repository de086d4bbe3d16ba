"""From a config to the objects it names. The only place where a config turns into code."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trainlab.config import trust
from trainlab.config.errors import UserError, nearest
from trainlab.config.identity import Config, is_number
from trainlab.config.options import settings_of, shared

_signature = functools.cache(inspect.signature)


def build(members: Config | Sequence[Config], group: str, device: Any = "cpu") -> Callable | None:
    """The component a group names, as a factory with the config's settings filled in; None if it
    names none.

    For several members of a stack, a number that differs between them becomes a column (R, 1) on
    `device`. This is the only place where a config turns into code, and only trusted code is let
    in.
    """
    configs = [members] if isinstance(members, dict) else members
    return _built(configs, group, [config[group] for config in configs], device)


def build_each(config: Config, group: str) -> dict[str, Callable]:
    """The components of a group that combines, by name, in the order chosen."""
    node = config[group]
    if node.get("_target_"):  # a user's option without a `# @package` line
        node = {config["choices"][group]: node}
    parts = {name: _built([config], group, [part]) for name, part in node.items()}
    return {name: part for name, part in parts.items() if part}


def _built(
    configs: Sequence[Config], group: str, nodes: Sequence[Config], device: Any = "cpu"
) -> Callable | None:
    node, option = nodes[0], configs[0]["choices"].get(group)
    if not node or not node.get("_target_"):
        return None
    component = find(node["_target_"], group, configs[0]["trusted"], f"{group}={option}")
    own = {key.partition(".")[2] for key in shared(group)}
    settings = {k: v for k, v in node.items() if not k.startswith("_") and k not in own}
    _check_settings(component, settings, group, option)
    settings = {key: _joined([other[key] for other in nodes], device) for key in settings}
    return partial(component, **settings)


def setting(members: Sequence[Config], group: str, key: str, device: Any) -> Any:
    """One setting of a stack's members: its value, or a column (R, 1) where they differ in it."""
    return _joined([config[group][key] for config in members], device)


def _joined(values: Sequence[Any], device: Any) -> Any:
    different = is_number(values[0]) and any(value != values[0] for value in values)
    return column(values, device) if different else values[0]


def column(values: Sequence[float], device: Any) -> Any:
    """Numbers of R members as a column (R, 1), in the widest floats of the device."""
    import torch

    return torch.tensor([[float(v)] for v in values], dtype=widest(device), device=device)


def find(target: str, group: str, trusted: Sequence[str] = (), place: str = "") -> Callable:
    """The class or function of that address, if it is a component of the group or trusted.

    `place` is where the address stands, for the error.
    """
    if not trust.may_be(target, group, trusted):
        raise UserError(trust.refusal(target, group, place or group))
    if trust.below(target, trusted) and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a user's class lives in a module beside the conf/
    component = _imported(target, place or group)
    if not trust.is_one(component, target, group, trusted):
        raise UserError(trust.refusal(target, group, place or group, trust.origin(component)))
    return component


def needed(module: str, extra: str, what: str = "This") -> Any:
    """A module that comes with an extra of trainlab's; UserError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what} needs {module.partition('.')[0]}: pip install 'trainlab[{extra}]'."
        ) from error


def widest(device: Any) -> Any:
    """The widest floats of a device, for sums and settings: float64, which mps does not have."""
    import torch

    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def _imported(target: str, where: str) -> Callable:
    # Not hydra.utils.instantiate: its partials cost 100 µs a call, too much for an update rule.
    from hydra.utils import get_object

    try:
        return get_object(target)
    except Exception as error:
        raise UserError(f"{where} cannot be built: {' '.join(str(error).split())}") from error


def _check_settings(component: Any, settings: dict, group: str, option: str | None) -> None:
    try:
        parameters = _signature(component).parameters
    except ValueError:  # a builtin does not tell
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in settings:
        if key not in parameters:
            raise UserError(
                f"{group}.{key}: {group}={option} has no such setting.{nearest(key, parameters)} "
                f"It takes: {', '.join(settings_of(group, option or '')) or 'none'}."
            )
