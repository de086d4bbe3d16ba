"""What a config amounts to: settings by name, the run it is, the runs it may be stacked with."""

import hashlib
import json
from typing import Any

from trainlab.config.options import top_settings
from trainlab.config.sources import own_code

# Settings that say how, where or under which name a run is computed, but do not decide its result.
NOT_IDENTITY = frozenset(
    "device compile deterministic stack threads workers in_memory loader_workers checkpoint "
    "data_dir download output_dir study name fresh retry fail_fast dry_run until smoke quiet "
    "executor logger search trusted choices overrides".split()
)

# Groups whose numbers may differ between the members of a stack (besides the seed).
STACKABLE = ("optimizer", "schedule", "clip", "init", "reg")

Config = dict[str, Any]


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
    """Whole numbers as integers, so that `lr=1` and `lr=1.0` are one run; names as texts."""
    if isinstance(value, dict):
        return {str(key): _canonical(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _decisive(config: Config) -> Config:
    """What decides a run's result; steps that follow each other keep their order."""
    decisive = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    if config["loss"] != "negative_sampling":
        decisive.pop("negatives", None)  # and so runs of older versions keep their names
    for later, before in (("class_weights", "none"), ("rare_classes", "refuse")):
        if config.get(later, before) == before:
            decisive.pop(later, None)
    return decisive | {group: list(config[group].items()) for group in ("preprocess", "augment")}


def run_id(config: Config, fingerprint: str) -> str:
    """Ten hex digits that name the run: a hash of what decides its result, and nothing else: its
    settings, its data, and code of the user's own that it names."""
    decided = [_canonical(_decisive(config)), fingerprint]
    if code := own_code(config, NOT_IDENTITY):
        decided.append(code)
    text = json.dumps(decided, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def stack_key(config: Config) -> str:
    """Configs of one key may train in one stack: they differ in seed and stackable numbers only."""
    key = {k: v for k, v in _decisive(config).items() if k != "seed"}
    for group in STACKABLE:
        key[group] = {k: "number" if is_number(v) else v for k, v in config[group].items()}
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
