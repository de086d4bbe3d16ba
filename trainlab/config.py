"""From what the user typed to a checked config, and from a config to the objects it names.

A config is a plain nested dict: Hydra's composition, resolved, with two additions: `choices` (the
option of each group, as typed) and `overrides` (the command-line overrides it was made from).
"""

import copy
import difflib
import functools
import hashlib
import importlib
import inspect
import json
import operator
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from trainlab import schema

_PACKAGE = Path(__file__).parent
CONF = next(p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if p.is_dir())

_signature = functools.cache(inspect.signature)

# Only code below these may be named by a config, because a config may come from a stranger.
_FAMILIES = (
    "data preprocess augmentation architectures activations noise initializers norms optimizers "
    "adapters schedules clipping executors loggers"
).split()
TRUSTED = ("torch.nn", "torch.optim", *(f"trainlab.{family}" for family in _FAMILIES))

# Settings that say how, where or under which name a run is computed, but do not decide its result.
NOT_IDENTITY = frozenset(
    "device compile deterministic stack threads workers in_memory loader_workers checkpoint "
    "data_dir download output_dir study name fresh retry fail_fast dry_run until smoke quiet "
    "executor logger search trusted choices overrides".split()
)

# Groups whose numbers may differ between the members of a stack (besides the seed).
STACKABLE = ("optimizer", "schedule", "clip", "init", "reg")

# Groups of which several options may be chosen: `preprocess=[impute,standardize]`.
COMBINED = ("preprocess", "augment", "reg", "logger")

Config = dict[str, Any]
Schemas = dict[tuple, dict[str, schema.Setting]]  # of the settings that a set of choices brings


class UserError(ValueError):
    """Something the user can mend; its message is one paragraph that says how. Exit code 2."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """' Did you mean gelu?' or nothing."""
    close = difflib.get_close_matches(word, list(choices), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


# ---------------------------------------------------------------- what there is to choose from


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


# ---------------------------------------------------------------- composing and checking


def compose(overrides: Sequence[str] = ()) -> Config:
    """One checked config from overrides, without the command line.

    >>> compose(["optimizer=adam", "optimizer.lr=0.1"])["optimizer"]["lr"]
    0.1
    """
    import hydra

    with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="trainlab"):
        composed = hydra.compose("config", list(overrides), return_hydra_config=True)
    return plain(composed)


def compose_jobs(loader: Any, master: Any, jobs: Sequence[Sequence[str]]) -> list[Config]:
    """The configs of a sweep's jobs, composed once per distinct choice of groups.

    Composing costs tens of milliseconds, setting a value next to nothing: of each job only what
    changes the composition (a group's option, an added or deleted key) goes through Hydra, plain
    values are set.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType

    parser, parsed, composed, schemas, configs = OverridesParser.create(), {}, {}, {}, []
    for job in jobs:
        structure, values = [], {}
        for text in job:
            if text not in parsed:
                (parsed[text],) = parser.parse_overrides([text])
            override = parsed[text]
            key = override.key_or_group
            changes = override.type is OverrideType.CHANGE and not key.startswith("hydra")
            if changes and not loader.repository.group_exists(key):
                values[key] = override.value()
            else:
                structure.append(text)
        texts = tuple(structure)
        if texts not in composed:
            composed[texts] = _resolved(loader.load_sweep_config(master, structure))
        task = [text for text in job if not text.startswith("hydra")]
        config = _with(composed[texts], values)
        if config is None:  # let Hydra compose it, or say what is wrong
            config = _resolved(loader.load_sweep_config(master, list(job)))
        configs.append(_finished(config, task, schemas))
    return configs


def _with(config: Config, values: dict[str, Any]) -> Config | None:
    """A copy with other values under some dotted keys; None where that is not all that changes."""
    config = pickle.loads(pickle.dumps(config))  # a tenth of the time of copy.deepcopy
    for key, value in values.items():
        *path, name = key.split(".")
        node = _at(config, ".".join(path)) if path else config
        known = isinstance(node, dict) and name in node and not isinstance(node[name], dict)
        linked = any(f"{key}." in f"{used}." for used in config["_used_"])
        if not known or linked or isinstance(value, dict) or "${" in str(value):
            return None
        node[name] = copy.copy(value)
    return config


def plain(composed: Any) -> Config:
    """Hydra's composition as a checked plain dict."""
    return _finished(_resolved(composed), list(composed.hydra.overrides.task))


def _resolved(composed: Any) -> Config:
    """Hydra's composition as a plain dict, with the choices, and under `_used_` the keys that other
    values are made of."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    runtime = composed.hydra.runtime.choices
    masked = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    try:
        config = OmegaConf.to_container(masked, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    config["choices"] = {
        group: runtime[group] for group in sorted(runtime) if not group.startswith("hydra/")
    }
    raw = str(OmegaConf.to_container(masked, resolve=False))
    return config | {"_used_": re.findall(r"\$\{([^{}]*)", raw)}


def _finished(config: Config, overrides: list[str], schemas: Schemas | None = None) -> Config:
    """Complete, checked, and shrunk for a smoke test."""
    config.pop("_used_")
    for group in COMBINED:  # Hydra does not record a choice of several
        config.setdefault(group, {})
        _refuse_twice(group, overrides)
        nested = [key for key, value in config[group].items() if isinstance(value, dict)]
        if nested and "_target_" in config[group]:
            raise UserError(
                f"{group}: an option chosen beside {nested[0]} has no place of its own. Begin its "
                f"YAML with the line `# @package {group}.NAME`."
            )
        # Regularizers are numbers, all always there: those that are not zero count as chosen.
        names = options(group)
        chosen = [key for key, value in config[group].items() if value and key in names]
        if chosen or "_target_" not in config[group]:
            config["choices"][group] = "+".join(chosen) or "none"
    config["overrides"] = overrides
    _fix(config)
    check(config, {} if schemas is None else schemas)
    return shrunk(config) if config["smoke"] else config


def _refuse_twice(group: str, overrides: Sequence[str]) -> None:
    for text in overrides:
        key, _, value = text.partition("=")
        names = [name.strip() for name in value.strip("[]").split(",")]
        if key == group and len(set(names)) < len(names):
            raise UserError(f"{text}: each option of {group} can be used once.")


def _fix(config: Config) -> None:
    """Settings that an option of another group decides: `_fixes_: {batch_size: all}` in its YAML.

    One that the chosen options do not have is left out.
    """
    for group, node in config.items():
        if group not in config["choices"] or not isinstance(node, dict):
            continue
        for key, value in node.pop("_fixes_", {}).items():
            *path, name = key.split(".")
            place = _at(config, path[0]) if path else config
            if name not in place:
                continue
            known = settings_of(path[0], config["choices"][path[0]]) if path else top_settings()
            typed = any(t.lstrip("+").startswith(f"{key}=") for t in config["overrides"])
            if place[name] != value and (typed or place[name] != known[key].default):
                raise UserError(
                    f"{group}={config['choices'][group]} needs {key}={value}, and you set "
                    f"{key}={place[name]}; leave one of them out."
                )
            place[name] = value


_ABSENT = object()


def _at(config: Config, key: str) -> Any:
    """The value under a dotted key."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return _ABSENT
        node = node[name]
    return node


def check(config: Config, schemas: Schemas) -> None:
    """Raise UserError where a value is not what its schema allows.

    `schemas` keeps the settings of each set of choices, for other configs of a sweep.
    """
    problems = []
    choices = tuple(config["choices"].items())
    if choices not in schemas:
        own = (settings_of(group, option) for group, option in choices if option)
        schemas[choices] = functools.reduce(operator.or_, own, top_settings())
    found = schemas[choices]
    for key, setting in found.items():
        value = _at(config, key)
        if value is not _ABSENT and (problem := setting.problem(value)):
            meaning = f" ({setting.meaning})" if setting.meaning else ""
            default = "null" if setting.default is None else setting.default
            problems.append(f"{key}={value}: {problem}{meaning}; the default is {default}")
    known = {key.partition(".")[0] for key in found} | {"choices", "overrides"}
    for key in config:
        if key not in known and key not in config["choices"]:
            problems.append(f"{key} is no setting of a run.{nearest(key, known)}")
    regularizers = shared("reg")
    problems += [
        f"reg.{key} is no regularizer.{nearest(f'reg.{key}', regularizers)}"
        for key in config["reg"]
        if f"reg.{key}" not in regularizers
    ]
    folder = Path(config["study"])
    if folder.is_absolute() or ".." in folder.parts:
        problems.append(f"study={folder} must stay below output_dir; set output_dir for elsewhere")
    if config["val_fraction"] + config["test_fraction"] >= 1 and not problems:
        problems.append(
            "val_fraction + test_fraction must stay below 1, or nothing is left to train on"
        )
    if problems:
        raise UserError("; ".join(problems))


def shrunk(config: Config) -> Config:
    """The same config at a size that runs in seconds (`smoke=true`)."""
    size = config["batch_size"]
    return config | {
        "epochs": min(config["epochs"], 2),
        "batch_size": size if size == "all" else min(size, 16),
        "max_examples": min(config["max_examples"] or 120, 120),
        "study": f"{config['study']}-smoke",
    }


def explain(error: Exception) -> str:
    """One paragraph for an error of Hydra's: what was not found, and the nearest names."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if match := re.search(r"(?:Could not load|Could not find) '([\w/]+)/([^'/]+)'", text):
        group, option = match.groups()
        if group == "hydra/launcher":
            return (
                f"There is no {group}={option}; launchers come with packages of their own: "
                f"pip install hydra-{option.partition('_')[0]}-launcher"
            )
        names = options(group)
        return f"There is no {group}={option}.{nearest(option, names)} Options: {', '.join(names)}."
    if match := re.search(r"(?:Could not override|In '[^']*': Could not find) '([^']+)'", text):
        key = match[1].partition("@")[0].replace("/", ".")
        keys = known_keys()
        group, _, setting = key.partition(".")
        if group in groups():
            having = [
                f"{group}={name}" for name in options(group) if key in settings_of(group, name)
            ]
            names = [k.removeprefix(f"{group}.") for k in keys if k.startswith(f"{group}.")]
            verb = "have" if len(having) > 1 else "has"
            hint = f" {' and '.join(having)} {verb} it." if having else nearest(setting, names)
            more = (
                f"in a sweep over {group}, {key}=choice(…) is for those that have it"
                if having
                else f"+{key}=… adds one"
            )
            return (
                f"{key} is no setting of the chosen {group}.{hint} "
                f"`trainlab list {group}` shows the settings of each option; {more}."
            )
        return (
            f"There is no group or setting {key}.{nearest(key, keys)} "
            f"Groups: {', '.join(groups())}; `trainlab list` shows everything."
        )
    override = getattr(error, "override", None)
    if override is not None:
        return (
            f"Cannot read {override!r}: {text}. Overrides look like group=option or key=value; "
            "put quotes around those with brackets, commas or spaces: 'arch.hidden=[300,100]'."
        )
    cause = error.__cause__
    return f"{text} {str(cause).splitlines()[0]}" if cause and str(cause) not in text else text


# ---------------------------------------------------------------- what a config amounts to


def flat(config: Config) -> dict[str, Any]:
    """The config under the names people type: groups by their option, settings by their dotted key.

    >>> flat({"seed": 0, "optimizer": {"lr": 0.1}, "choices": {"optimizer": "sgd"}})
    {'optimizer': 'sgd', 'seed': 0, 'optimizer.lr': 0.1}
    """
    values = {group: option for group, option in config["choices"].items() if option is not None}
    maps = {key for key, setting in top_settings().items() if "map of" in setting.allowed}

    def walk(node: dict, prefix: str) -> None:
        for key, value in node.items():
            if key in ("choices", "overrides") or key.startswith("_"):
                continue
            if isinstance(value, dict) and f"{prefix}{key}" not in maps:
                walk(value, f"{prefix}{key}.")
            else:
                values[f"{prefix}{key}"] = value

    walk(config, "")
    return values


def _canonical(value: Any) -> Any:
    """Whole numbers as integers, so that `lr=1` and `lr=1.0` are one run."""
    if isinstance(value, dict):
        return {key: _canonical(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _decisive(config: Config) -> Config:
    """What decides a run's result; steps that follow each other keep their order."""
    decisive = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    if config["loss"] != "negative_sampling":
        decisive.pop("negatives", None)  # and so runs of older versions keep their names
    return decisive | {group: list(config[group].items()) for group in ("preprocess", "augment")}


def run_id(config: Config, fingerprint: str) -> str:
    """Ten hex digits that name the run: a hash of what decides its result, and nothing else."""
    decisive = _decisive(config)
    text = json.dumps([_canonical(decisive), fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def stack_key(config: Config) -> str:
    """Configs of one key may train in one stack: they differ in seed and stackable numbers only."""
    key = {k: v for k, v in _decisive(config).items() if k != "seed"}
    for group in STACKABLE:
        key[group] = {k: "number" if _is_number(v) else v for k, v in config[group].items()}
    # Whether a regularizer is there at all changes what is computed.
    key["reg"] |= {k: 0 for k, v in config["reg"].items() if v == 0}
    key |= {
        k: config[k]
        for k in (
            "device",
            "compile",
            "deterministic",
            "threads",
            "in_memory",
            "checkpoint",
            "data_dir",
            "until",
        )
    }
    return json.dumps(_canonical(key), sort_keys=True)


# ---------------------------------------------------------------- from names to objects


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
    component = find(node["_target_"], configs[0]["trusted"], f"{group}={option}")
    own = {key.partition(".")[2] for key in shared(group)}
    settings = {k: v for k, v in node.items() if not k.startswith("_") and k not in own}
    _check_settings(component, settings, group, option)
    settings = {key: _joined([other[key] for other in nodes], device) for key in settings}
    return partial(component, **settings)


def setting(members: Sequence[Config], group: str, key: str, device: Any) -> Any:
    """One setting of a stack's members: its value, or a column (R, 1) where they differ in it."""
    return _joined([config[group][key] for config in members], device)


def _joined(values: Sequence[Any], device: Any) -> Any:
    different = _is_number(values[0]) and any(value != values[0] for value in values)
    return column(values, device) if different else values[0]


def column(values: Sequence[float], device: Any) -> Any:
    """Numbers of R members as a column (R, 1), in the widest floats of the device."""
    import torch

    return torch.tensor([[float(v)] for v in values], dtype=widest(device), device=device)


def find(target: str, trusted: Sequence[str] = (), where: str = "a saved run") -> Callable:
    """The trusted class or function of that address."""
    allowed = (*TRUSTED, *trusted)
    _admit(target, allowed, where)
    if trusted and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a user's class lives in a module beside the conf/
    component = _imported(target, where)
    _check_origin(component, target, allowed)
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


def _below(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _admit(target: str, allowed: Sequence[str], where: str) -> None:
    if not _below(target, allowed):
        package = target.partition(".")[0]
        raise UserError(
            f"{where} names {target}, which is not in a trusted package ({', '.join(TRUSTED[:2])}, "
            f"trainlab's components). If you trust it, add it: 'trusted=[{package}]', or `trusted: "
            f"[{package}]` in a study of yours."
        )


def _check_origin(component: Any, target: str, allowed: Sequence[str]) -> None:
    # `torch.nn.x.os.system` begins like a trusted name, and is not: ask the object where it is
    # from.
    origin = getattr(component, "__module__", None) or ""
    if not _below(origin, (*allowed, "torch._C._nn")):
        raise UserError(
            f"{target} is defined in {origin or 'no module'}, which is not a trusted package."
        )


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
