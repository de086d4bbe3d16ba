"""What may come from elsewhere. What a person types, and the `conf/` of the folder they work in,
are theirs; a study from another folder is a stranger's, whoever names that folder.

Hydra acts on a composition before trainlab sees it: it sets up logging, calls callbacks, makes
folders. `guarded` looks at it first.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainlab.config import trust
from trainlab.config.errors import UserError
from trainlab.config.identity import Config
from trainlab.config.options import known_keys, search_path, top_settings
from trainlab.config.schema import Setting, read

# Tabs are let through: they stand between the cells of tables.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

# What Hydra would do with these, trainlab does itself or not at all.
_HYDRAS = {
    "job_logging": {"version": 1, "root": None, "disable_existing_loggers": False},
    "hydra_logging": {"version": 1, "root": None, "disable_existing_loggers": False},
    "callbacks": {},
    "run.dir": ".",
    "sweep.dir": ".",
    "sweep.subdir": ".",
    "output_subdir": None,
    "job.chdir": False,
    "job.env_copy": [],
    "job.env_set": {},
}
_PLUGINS = ["hydra_plugins", "hydra._internal.core_plugins"]
_OURS = ["hydra_plugins.trainlab_stack"]


@contextmanager
def guarded() -> Iterator[None]:
    """Within it, Hydra acts on no composition that tells it what a config must not."""
    from hydra._internal import hydra as main
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    class Loader(ConfigLoaderImpl):
        def load_configuration(
            self, config_name: str | None, overrides: list[str], *more: Any, **how: Any
        ) -> Any:
            _check_overrides(overrides)
            composed = super().load_configuration(config_name, overrides, *more, **how)
            _admit(composed.hydra, overrides)
            return composed

    # Hydra has no hook there.
    before, main.ConfigLoaderImpl = main.ConfigLoaderImpl, Loader
    try:
        yield
    finally:
        main.ConfigLoaderImpl = before


def _check_overrides(overrides: Sequence[str]) -> None:
    for text in overrides:
        refuse_control(text, "an override")
        key, _, value = text.lstrip("+~").partition("=")
        group = key.partition("@")[0]
        first = group.partition("/")[0]
        if not group:
            raise UserError(f"Cannot read {text!r}: an override begins with a name, as key=value.")
        if text.startswith("~"):
            _refuse_deleting(group.replace("/", "."))
        if first == "hydra" or any((path / first).is_dir() for path in search_path()):
            _refuse_elsewhere(group, value)


def _refuse_deleting(key: str) -> None:
    """Nothing that every recipe has can be taken out of one."""
    known = [key for key in known_keys() if key != "experiment"]
    if key.partition(".")[0] == "hydra" or any(f"{name}.".startswith(f"{key}.") for name in known):
        raise UserError(
            f"~{key}: a recipe has all of its parts, and none can be taken out. Leave this "
            f"away, or choose another value for {key}; `trainlab list` shows what there is."
        )


def _admit(hydra: Any, overrides: Sequence[str]) -> None:
    """Raise UserError where Hydra's own part of a composition, unresolved, is not a config's to
    say."""
    from omegaconf import OmegaConf

    said = OmegaConf.to_container(hydra.overrides, resolve=False)
    if sorted([*said["task"], *said["hydra"]]) != sorted(overrides):
        raise UserError("hydra.overrides cannot be set: it is what you type that stands there.")
    for group, option in hydra.runtime.choices.items():
        _refuse_elsewhere(group, str(option))
    _refuse_actions(hydra)
    if is_strangers(hydra):
        _refuse_strangers(hydra)


def _refuse_elsewhere(group: str, option: str) -> None:
    """An option is a file of its group: `act=../optimizer/adam` would be one of another."""
    if "/" in option or "\\" in option or ".." in option:
        raise UserError(
            f"{group}={option}: an option is chosen by its plain name. `trainlab list {group}` "
            f"shows them; your own stand in conf/{group}/ of the working folder, or of one that "
            "--config-dir names."
        )


def _refuse_actions(hydra: Any) -> None:
    from omegaconf import OmegaConf

    for key, usual in _HYDRAS.items():
        node = hydra
        *path, name = key.split(".")
        for part in path:
            node = node[part]
        value = node._get_node(name)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=False)
        elif value is not None:
            value = value._value()
        if value != usual:
            raise UserError(
                f"hydra.{key} cannot be set: trainlab lets Hydra neither log nor make folders nor "
                "call what a config names. Each run has a log.txt, and output_dir=… and study=… "
                "say where. Leave it out."
            )
    for part in ("launcher", "sweeper"):
        node = OmegaConf.to_container(hydra[part] or OmegaConf.create(), resolve=True)
        target = node.pop("_target_", None)
        if not trust.below(str(target), _PLUGINS) or any(trust.inner(node)):
            raise UserError(
                f"hydra.{part}: it is one of Hydra's plugins, chosen by its name as in "
                f"hydra/{part}=NAME, and its settings name nothing that is to be built."
            )


def is_strangers(hydra: Any) -> bool:
    """Whether a composition has a folder to draw from that is neither trainlab's nor the working
    folder's: by --config-dir, --config-path or hydra.searchpath."""
    ours = {str(path.resolve()) for path in search_path()}
    named = [
        source.path
        for source in hydra.runtime.config_sources
        if source.provider in ("main", "command-line")
        or source.provider.startswith("hydra.searchpath")
    ]
    return any(str(Path(path).resolve()) not in ours for path in named)


def _refuse_strangers(hydra: Any) -> None:
    """What a stranger's study may not tell Hydra, though one's own may."""
    if not all(trust.below(hydra[part]["_target_"], _OURS) for part in ("launcher", "sweeper")):
        raise UserError(
            "Studies from other folders are trained by trainlab's own launcher and sweepers. To "
            "use others, copy the study to conf/experiment/ of the working folder: then it is "
            "yours."
        )
    typed = _typed([*hydra.overrides.task, *hydra.overrides.hydra])
    private = {key for key, setting in top_settings().items() if setting.private}
    params = hydra.sweeper.params or {}
    for key in params:
        (name,) = _typed([f"{key}=0"])
        first = name.partition(".")[0]
        odd = {name, first} & {*private, "hydra", "experiment", "executor", "logger"}
        if odd or "/" in name or "@" in str(key):
            raise UserError(f"hydra.sweeper.params.{key}: {_NOT_A_STRANGERS}")
    storage = hydra.sweeper.get("storage")
    if storage not in (None, "memory", "sqlite", "journal") and (
        "hydra.sweeper.storage" not in typed
    ):
        raise UserError(f"hydra.sweeper.storage={storage}: {_NOT_A_STRANGERS}")


_NOT_A_STRANGERS = (
    "a study from another folder cannot set this. If you want it, type it, or copy the study to "
    "conf/experiment/ of the working folder: then it is yours."
)


def refuse_values(config: Config) -> None:
    """Raise UserError where the config of a stranger's study sets what only the user may."""
    typed, trusted = _typed(config["overrides"]), config["trusted"]
    if trusted and "trusted" not in typed:
        wanted = "; ".join(
            problem for part in trust.components(config) for problem in part.problems([])
        )
        raise UserError(
            f"The study, which is from another folder, says trusted: [{', '.join(trusted)}] about "
            f"itself. {wanted or 'It needs none of that: type trusted=[].'}"
        )
    settings = dict(top_settings())
    for place, _, node in trust.components(config):
        for file in trust.files(node.get("_target_")):
            settings |= {f"{place}.{key}": setting for key, setting in read(file)[1].items()}
    for key, setting in settings.items():
        if setting.private and (wrong := _untyped(config, key, setting, typed)):
            raise UserError(f"{wrong}: {_NOT_A_STRANGERS}")


def _untyped(config: Config, key: str, setting: Setting, typed: set[str]) -> str | None:
    """What a private setting is set to, unless it is its default or was typed."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None or value == setting.usual or key in typed:
        return None
    if not isinstance(value, dict):
        return f"{key}={value}"
    return next((f"{key}.{k}={v}" for k, v in value.items() if f"{key}.{k}" not in typed), None)


def _typed(overrides: Sequence[str]) -> set[str]:
    """The keys that overrides set, those of maps one by one.

    >>> sorted(_typed(["+executor.slurm={account: mine, qos: high}", "seed=1"]))
    ['executor.slurm.account', 'executor.slurm.qos', 'seed']
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    keys = set()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        value = None if override.is_sweep_override() else override.value()
        key = override.key_or_group
        keys |= {f"{key}.{name}" for name in value} if isinstance(value, dict) else {key}
    return keys


def refuse_control(value: Any, where: str) -> None:
    """Raise UserError where a text, at any depth, has characters that end a line, or that a
    terminal obeys: in a job's script or on a screen they would say something else."""
    if isinstance(value, str):
        if found := _CONTROL.search(value):
            raise UserError(
                f"{where} has the character U+{ord(found[0]):04X} in it, in {value!a}: no "
                "setting may have line breaks or other control characters."
            )
    elif isinstance(value, dict):
        for key, inner in value.items():
            refuse_control(key, f"a name below {where}")
            refuse_control(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for inner in value:
            refuse_control(inner, where)
