"""What values a setting may take, read from the comment behind its default in the YAML file.

    lr: 0.01            # number >= 0: learning rate
    batch_size: 32      # int >= 1 or all: examples per step
    monitor: val_loss   # text: a column of metrics.csv
    hidden: [128, 64]   # int >= 1: units of each hidden layer

Before the colon stand alternatives joined by "or": `number` or `int`, with a bound (`> 0`,
`in [0, 1)`) or without; `bool`; `text`; `any`; a literal word such as `null`, `all`, `seconds`; and
last `map of` and what its values may be, its names being words unless `by any name` follows. A
list checks its items. A value without such a comment must be of its default's type. So one place
holds a setting's default, range and meaning.
`, private` behind all of this says that only the user sets it, and no study from another folder.
"""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_NUMBER = re.compile(
    r"^(?P<kind>int|number)"
    r"(?:\s*(?P<op>>=|>)\s*(?P<bound>\S+)|\s+in\s+(?P<open>[\[(])\s*(?P<low>[^,\s]+)\s*,\s*"
    r"(?P<high>[^\])\s]+)\s*(?P<close>[\])]))?$"
)
_NAME = re.compile(r"[\w.*?!\[\]-]+")  # of a map's entry; lr_multipliers have patterns
_ANY_NAME = " by any name"
_SETTING = re.compile(r"^(?P<indent>\s*)(?P<key>\w+):\s*(?P<value>[^#]*?)(?:\s+#\s*(?P<note>.*))?$")


@dataclass(frozen=True)
class Setting:
    """One setting of a component: its default, what it may be (`allowed`), and what it means."""

    default: Any
    allowed: str
    meaning: str
    private: bool = False

    @property
    def usual(self) -> Any:
        """The default, as it is here and now where it depends on the environment."""
        from omegaconf import OmegaConf

        return OmegaConf.to_container(OmegaConf.create({"default": self.default}), resolve=True)[
            "default"
        ]

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, or None.

        >>> Setting(0.01, "number >= 0", "learning rate").problem(-1)
        'must be a number >= 0'
        """
        alternatives, listed = _alternatives(self.allowed), isinstance(self.default, list)
        misshapen = listed and (not isinstance(value, list) or (self.default and not value))
        values = value if listed else [value]
        if not misshapen and all(any(_accepts(k.strip(), v) for k in alternatives) for v in values):
            return None
        words = " or ".join(map(_in_words, alternatives))
        if misshapen:
            return f"must be a list, not empty, of items each {words}"
        return f"{'each item ' if listed else ''}must be {words}"

    def fitted(self, value: Any, typed: str) -> Any:
        """The value as another kind, if this setting takes that: a text as the number it tells, a
        number as the text that was `typed`.

        >>> Setting(0, "int", "seed").fitted("7", "7"), Setting("runs", "text", "").fitted(7, "07")
        (7, '07')
        """
        known = {"true": True, "false": False, "null": None}
        candidates: list[Any] = [] if isinstance(value, list | dict) else [typed]
        if isinstance(value, str):
            candidates = [known[value.lower()]] if value.lower() in known else []
            for kind in (int, float):
                with suppress(ValueError):
                    candidates.append(kind(value))
        return next((other for other in candidates if not self.problem(other)), value)


def _alternatives(allowed: str) -> list[str]:
    """Those joined by "or"; a map has all that follows it for its values."""
    before, is_map, values = allowed.partition("map of ")
    alternatives = [kind for kind in before.split(" or ") if kind]
    return [*alternatives, f"{is_map}{values}"] if is_map else alternatives


def _in_words(kind: str) -> str:
    kind = kind.strip()
    if kind.startswith("map of "):
        of = kind[7:].removesuffix(_ANY_NAME)
        names = "" if kind.endswith(_ANY_NAME) else "each name a word and "
        values = " or ".join(map(_in_words, _alternatives(of)))
        return f"{{name: value, …}} with {names}each value {values}"
    kind = re.sub(r"^int\b", "a whole number", kind)
    kind = re.sub(r"^number\b", "a number", kind)
    return {"bool": "true or false", "text": "a text"}.get(kind, kind)


def _accepts(kind: str, value: Any) -> bool:
    if kind == "any":
        return True
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str)
    if kind.startswith("map of "):
        of, any_name = _alternatives(kind[7:].removesuffix(_ANY_NAME)), kind.endswith(_ANY_NAME)
        return isinstance(value, dict) and all(
            (any_name or (isinstance(name, str) and _NAME.fullmatch(name)))
            and any(_accepts(k.strip(), v) for k in of)
            for name, v in value.items()
        )
    match = _NUMBER.match(kind)
    if not match:  # a literal word
        return value is None if kind == "null" else value == kind
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if match["kind"] == "int" and not isinstance(value, int):
        return False
    if match["op"]:
        bound = float(match["bound"])
        return value > bound or (match["op"] == ">=" and value == bound)
    if match["open"]:
        low, high = float(match["low"]), float(match["high"])
        above = value > low or (match["open"] == "[" and value == low)
        below = value < high or (match["close"] == "]" and value == high)
        return above and below
    return True


_TYPES = {
    bool: "bool",
    int: "int",
    float: "number",
    str: "text",
    dict: "map of any",
    type(None): "any",
}


def package(path: Path) -> str | None:
    """Where an option's settings stand, if a first line `# @package preprocess.pca` says so."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# @package").strip() if first.startswith("# @package") else None


@cache
def read(path: Path) -> tuple[str, dict[str, Setting]]:
    """The description (first comment line) and the settings of a YAML file, nested keys dotted."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    description = next((c for c in comments if not c.startswith("@package")), "")
    values = yaml.safe_load(text) or {}
    settings: dict[str, Setting] = {}
    parents: list[tuple[int, str]] = []
    for line in lines:
        match = _SETTING.match(line)
        if not match:
            continue
        indent = len(match["indent"])
        parents = [(i, key) for i, key in parents if i < indent]
        parents.append((indent, match["key"]))
        keys = [key for _, key in parents]
        if keys[0] in ("defaults", "hydra") or keys[-1].startswith("_"):
            continue
        default = values
        for key in keys:
            default = default.get(key) if isinstance(default, dict) else None
        if isinstance(default, dict) and not match["value"].strip():
            continue  # not a map, but settings below a key
        # `1e-3` is a text to YAML and a number to everyone else.
        if isinstance(default, str) and re.fullmatch(r"[-+]?[\d.]+e[-+]?\d+", default, re.I):
            default = float(default)
        item = default[0] if isinstance(default, list) and default else default
        allowed, _, meaning = (match["note"] or "").partition(":")
        if not meaning:
            allowed, meaning = _TYPES.get(type(item), "any"), allowed
        allowed, private, _ = allowed.partition(", private")
        settings[".".join(keys)] = Setting(
            default, allowed.strip(), meaning.strip(), private=bool(private)
        )
    return description, settings
