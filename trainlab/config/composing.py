"""From what the user typed to a checked config."""

import copy
import functools
import operator
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainlab.config import schema, strangers, trust
from trainlab.config.errors import UserError, nearest
from trainlab.config.identity import Config
from trainlab.config.options import (
    CONF,
    groups,
    known_keys,
    options,
    settings_of,
    shared,
    top_settings,
)  # fmt: skip
from trainlab.config.overrides import typed

# Groups of which several options may be chosen: `preprocess=[impute,standardize]`.
COMBINED = ("preprocess", "augment", "reg", "logger")

Schemas = dict[tuple, dict[str, schema.Setting]]  # of the settings that a set of choices brings


def compose(overrides: Sequence[str] = ()) -> Config:
    """One checked config from overrides, without the command line.

    >>> compose(["optimizer=adam", "optimizer.lr=0.1"])["optimizer"]["lr"]
    0.1
    """
    import hydra

    with (
        strangers.guarded(),
        hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="trainlab"),
    ):
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
    config = _copied(config)
    for key, value in values.items():
        *path, name = key.split(".")
        node = _at(config, ".".join(path)) if path else config
        known = isinstance(node, dict) and name in node and not isinstance(node[name], dict)
        linked = any(f"{key}." in f"{used}." for used in config["_used_"])
        if not known or linked or isinstance(value, dict) or "${" in str(value):
            return None
        node[name] = copy.copy(value)
    return config


def _copied(node: Any) -> Any:
    """A copy that shares its texts and numbers with the original: faster than copy.deepcopy, and a
    sweep has thousands."""
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


def plain(composed: Any) -> Config:
    """Hydra's composition as a checked plain dict."""
    return _finished(_resolved(composed), list(composed.hydra.overrides.task))


def _resolved(composed: Any) -> Config:
    """Hydra's composition as a plain dict, with the choices, under `_used_` the keys that other
    values are made of, and under `_strangers_` whether it is a stranger's."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    runtime = composed.hydra.runtime.choices
    masked = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    try:
        config = OmegaConf.to_container(masked, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raised, _, inner = str(error).splitlines()[0].partition("while resolving interpolation: ")
        reason = inner.strip('"') or raised
        place = f"{error.full_key}: " if error.full_key else ""
        raise UserError(f"{place}{reason}.") from error
    config["choices"] = {
        group: runtime[group] for group in sorted(runtime) if not group.startswith("hydra/")
    }
    raw = str(OmegaConf.to_container(masked, resolve=False))
    foreign = strangers.is_strangers(composed.hydra)
    return config | {"_used_": re.findall(r"\$\{([^{}]*)", raw), "_strangers_": foreign}


def _finished(config: Config, overrides: list[str], schemas: Schemas | None = None) -> Config:
    """Complete, checked, and shrunk for a smoke test."""
    config.pop("_used_")
    foreign = config.pop("_strangers_")
    _refuse_misplaced(config)
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
    if foreign:
        strangers.refuse_values(config)
    schemas = {} if schemas is None else schemas
    _fit_kinds(config, _schema(config, schemas))
    check(config, schemas)
    return shrunk(config) if config["smoke"] else config


def restored(saved: dict, file: Path) -> Config:
    """A config that a run saved in a file; what is younger than the run has its default.

    The file may be a stranger's: `check` it, with those that the user trusts, before it is used.
    Raises UserError where it is no config.
    """
    _check_shape(saved, file)
    for key, setting in top_settings().items():
        *path, name = key.split(".")
        node = saved
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise UserError(f"{file} is no config of a run: {key} is missing.")
        if name not in node:
            node[name] = setting.usual
    return saved


def _check_shape(saved: dict, file: Path) -> None:
    """Raise UserError unless it has a config's parts."""
    choices = saved.get("choices")
    texts = isinstance(choices, dict) and all(
        isinstance(group, str) and isinstance(option, str | None)
        for group, option in choices.items()
    )
    if not texts or not isinstance(saved.get("overrides"), list):
        raise UserError(f"{file} is no config of a run.")
    for group in groups():
        odd = group != "experiment" and not isinstance(saved.get(group), dict)
        if group not in choices or odd:
            raise UserError(f"{file} is no config of a run: it has no {group}.")


def _refuse_misplaced(config: Config) -> None:
    """Raise UserError where a value stands in the place of a group's settings."""
    for group in (*config["choices"], *COMBINED):
        value = config.get(group, {})
        if not isinstance(value, dict):
            raise UserError(
                f"{group}: {value} stands where the settings of the chosen {group} belong. A study "
                f"chooses an option in its list of defaults: `- override /{group}: {value}`."
            )


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


def _schema(config: Config, schemas: Schemas) -> dict[str, schema.Setting]:
    """The settings that the config's choices bring; `schemas` keeps them."""
    choices = tuple(config["choices"].items())
    if choices not in schemas:
        own = (settings_of(group, option) for group, option in choices if option)
        schemas[choices] = functools.reduce(operator.or_, own, top_settings())
    return schemas[choices]


def _fit_kinds(config: Config, settings: dict[str, schema.Setting]) -> None:
    """Make texts of the numbers in `study=2024`, as they were typed, and numbers and truth values
    of texts that come from the environment."""
    for key, setting in settings.items():
        value = _at(config, key)
        if value is _ABSENT or value is None or not setting.problem(value):
            continue
        *path, name = key.split(".")
        node = _at(config, ".".join(path)) if path else config
        texts = (t.partition("=")[2] for t in config["overrides"] if t.startswith(f"{key}="))
        node[name] = setting.fitted(value, next(texts, str(value)))


def check(config: Config, schemas: Schemas | None = None) -> None:
    """Raise UserError where a value is not what its schema allows.

    `schemas` keeps the settings of each set of choices, for other configs of a sweep.
    """
    strangers.refuse_control(config, "")
    problems = [
        problem for part in trust.components(config) for problem in part.problems(config["trusted"])
    ]
    found = _schema(config, {} if schemas is None else schemas)
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
    folder = Path(str(config["study"]))
    if folder.is_absolute() or ".." in folder.parts:
        problems.append(f"study={folder} must stay below output_dir; set output_dir for elsewhere")
    if not problems and config["val_fraction"] + config["test_fraction"] >= 1:
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
        key, has_value, value = override.partition("=")
        forms = "Overrides look like group=option, key=value or 'arch.hidden=[300,100]'."
        if not has_value:
            return f"Cannot read {override!r}. {forms}"
        meant = f"If its value is a text as it stands, type {typed(key, value)}."
        return f"Cannot read {override!r}. {meant} {forms}"
    cause = error.__cause__
    return f"{text} {str(cause).splitlines()[0]}" if cause and str(cause) not in text else text
