"""What a search varies, in Hydra's own grammar, and how a value is typed back.

optimizer.lr=tag(log,interval(1e-4,1e-1))      a number, on a logarithmic scale
'optimizer.beta1=interval(0.8,0.99)'           a number
'batch_size=int(interval(8,64))'               a whole number
'epochs=range(10,50,10)'                       10, 20, 30, 40
'act=choice(relu,gelu)'  'arch.hidden=[100],[200,100]'      one of these
'seed=range(3)'                                never searched: the seeds of every trial
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trainlab.config import NOT_IDENTITY, UserError, groups, settings_of, top_settings

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution

_DIGITS = 6  # significant digits of a number that is tried, where the interval allows
_ROUNDING = 1e-4  # of the interval's width, more than which rounding may not move a number


class Space(NamedTuple):
    """What all trials share, what they differ in, and the seeds each is trained with."""

    fixed: list[str]  # overrides
    parameters: "dict[str, BaseDistribution]"
    typed: dict[str, str]  # parameter -> its sweep as typed
    seeds: list[str]  # overrides; empty where nothing is said of seeds
    foreign: dict[str, set[str]]  # choice as typed -> settings that do not apply to it

    def typed_values(self, values: dict[str, Any]) -> dict[str, str]:
        """A trial's parameters as they are typed, those that are drawn and apply to it."""
        there = applying(self._overrides(values), self.foreign)
        return dict(override.split("=", 1) for override in there)

    def job(self, values: dict[str, Any], *more: str) -> list[str]:
        """A trial's overrides."""
        return applying([*self.fixed, *self._overrides(values), *more], self.foreign)

    def _overrides(self, values: dict[str, Any]) -> list[str]:
        found = ((name, d) for name, d in self.parameters.items() if name in values)
        return [f"{name}={text(d, values[name])}" for name, d in found]

    def corners(self) -> list[list[str]]:
        """Jobs among which every choice, beginning and end of an interval is: what is wrong with a
        trial is wrong with one of these, unless it takes two parameters."""
        ends = {name: _ends(d) for name, d in self.parameters.items()}
        first = {name: values[0] for name, values in ends.items()}
        others = [first | {name: v} for name, values in ends.items() for v in values[1:]]
        return [self.job(values) for values in (first, *others)]


def foreign(choices: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Of each choice of a swept group: the settings that another of its choices has, and it has
    not.

    >>> sorted(foreign({"optimizer": ["momentum", "sgd"]})["optimizer=sgd"])
    ['optimizer.momentum']
    """
    found, everywhere = {}, top_settings().keys()
    for group in choices.keys() & set(groups()):
        have = {one: set(settings_of(group, _joined(one))) for one in choices[group]}
        every = set().union(*have.values()) - everywhere
        found |= {f"{group}={one}": every - own for one, own in have.items()}
    return found


def _joined(options: str) -> str:
    """Several options of a group as `settings_of` wants them: [impute,pca] is impute+pca."""
    return "+".join(name.strip() for name in options.strip("[]").split(","))


def applying(job: Sequence[str], foreign: Mapping[str, set[str]]) -> list[str]:
    """A job without the settings that its choice of a swept group does not have."""
    without = set().union(*(foreign.get(text, ()) for text in job))
    return [text for text in job if text.partition("=")[0] not in without]


def read(overrides: "Sequence[Override]", seeds: int, varied: bool = True) -> Space:
    """The space that overrides describe, which is `varied` or a single point; the last one of each
    key counts."""
    latest = {override.get_key_element(): override for override in overrides}
    fixed, parameters, typed = [], {}, {}
    seed = latest.pop("seed", None)
    for key, override in latest.items():
        _refuse(key, override)
        if key.partition(".")[0] == "search":
            continue
        if not override.is_sweep_override():
            fixed.append(_plain(override))
            continue
        distribution = _distribution(key, override)
        if distribution.single():
            fixed.append(f"{key}={text(distribution, _ends(distribution)[0])}")
        else:
            parameters[key] = distribution
            typed[key] = override.get_value_string()
    if parameters and not varied:
        raise UserError(
            f"search=gradient finds the learning rate and the weight decay by itself, from where "
            f"they start; {', '.join(typed)} cannot be searched with it."
        )
    if varied and not parameters:
        raise UserError(
            "There is nothing to search: no parameter has more than one value. Say what may vary, "
            "as in 'optimizer.lr=tag(log,interval(1e-4,1e-1))' 'act=choice(relu,gelu)'."
        )
    choices = {name: getattr(d, "choices", ()) for name, d in parameters.items()}
    return Space(fixed, parameters, typed, _seeds(seed, seeds), foreign(choices))


def enumerable(overrides: "Sequence[Override]", config: Any, grid: bool) -> "list[Override]":
    """The overrides of a sweep over all combinations; the last one of each key counts.

    Only a `grid` is a search; without one, what a study says of its search is not asked for.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    latest = {override.get_key_element(): override for override in overrides}
    settings, listed = config.search, {}
    if grid and settings.halving != "none":
        raise UserError(
            f"search.halving={settings.halving} leaves out what falls behind, and a grid is all "
            "combinations. Use search=random or another search."
        )
    for key, override in latest.items():
        _refuse(key, override)
        if override.is_interval_sweep():
            raise UserError(
                f"{override.input_line}: an interval has no grid. Use a range or a choice, as in "
                f"'{key}=choice(0.001,0.01,0.1)', or search=random, or another search."
            )
        if key.startswith("search.") and not grid:
            raise UserError(
                f"{override.input_line}: there is no search. Choose one, as in search=tpe; "
                "search=grid tries all combinations."
            )
        if override.is_range_sweep():
            listed[key] = [str(value) for value in _range(override)]
    seeds = _seeds(latest.get("seed"), settings.seeds if grid else 1)
    if seeds:
        listed["seed"] = [text.partition("=")[2] for text in seeds]
    for key, values in listed.items():
        (latest[key],) = OverridesParser.create().parse_overrides([f"{key}={','.join(values)}"])
    return [o for key, o in latest.items() if key.partition(".")[0] != "search"]


def choices(overrides: "Sequence[Override]") -> dict[str, list[str]]:
    """What a sweep over all combinations chooses from."""
    swept = {o.get_key_element(): o for o in overrides if o.is_discrete_sweep()}
    return {key: list(override.sweep_string_iterator()) for key, override in swept.items()}


def _refuse(key: str, override: "Override") -> None:
    """A sweep over what decides nothing of a result: its runs would all be the same one."""
    name = key.lstrip("+").partition(".")[0]
    if not override.is_sweep_override() or name not in NOT_IDENTITY:
        return
    if name == "search":
        raise UserError(f"{override.input_line}: the search itself cannot be searched, nor swept.")
    if name != "data_dir":  # where other data may be
        raise UserError(
            f"{override.input_line}: {name} decides nothing of a run's result, so it cannot be "
            "swept over."
        )


def _plain(override: "Override") -> str:
    if override.is_delete():
        return str(override.input_line)
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


def _seeds(override: "Override | None", count: int) -> list[str]:
    """Overrides of the seeds of every trial."""
    if override is None:
        return [f"seed={seed}" for seed in range(count)] if count > 1 else []
    if count > 1:
        raise UserError(
            f"{override.input_line} and search.seeds={count} both say which seeds each trial has; "
            "leave one of them out."
        )
    if not override.is_sweep_override():
        return [_plain(override)]
    if override.is_interval_sweep():
        raise UserError(
            f"{override.input_line}: seeds are not searched, but listed: seed=range(3), or seed=0,1"
        )
    seeds = [f"seed={seed}" for seed in override.sweep_string_iterator()]
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"{override.input_line}: each trial needs seeds, and each of them once.")
    return seeds


def _distribution(key: str, override: "Override") -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    sweep, typed = override.value(), override.input_line
    log = "log" in getattr(sweep, "tags", ())
    if override.is_interval_sweep():
        low, high = sweep.start, sweep.end
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UserError(f"{typed}: an interval needs a beginning and an end.")
        if low > high:
            raise UserError(f"{typed} ends before it begins; did you mean interval({high},{low})?")
        _refuse_log(typed, log, low)
        whole = isinstance(low, int) and isinstance(high, int)
        return (IntDistribution if whole else FloatDistribution)(low, high, log=log)
    if override.is_range_sweep():
        values, step = sorted(_range(override)), _rounded(abs(sweep.step))
        low, high = values[0], values[-1]
        _refuse_log(typed, log, low)
        if log and step != 1:
            raise UserError(f"{typed}: a logarithmic range has no step. Use an interval or choice.")
        if isinstance(low, int):
            return IntDistribution(low, high, log=log, step=step)
        return FloatDistribution(low, high, step=None if low == high else step)
    choices = list(dict.fromkeys(override.sweep_string_iterator()))
    if not choices:
        raise UserError(f"{typed} has nothing to choose from.")
    return CategoricalDistribution(choices)


def _range(override: "Override") -> list[float]:
    """The numbers of a range, in their order."""
    values = [_rounded(value) for value in override.sweep_iterator()]
    if not values:
        raise UserError(f"{override.input_line} is empty: a range ends before its last number.")
    return values


def _rounded(value: float) -> float:
    """In floats 0.1 + 2 · 0.1 is not 0.3."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _refuse_log(typed: str | None, log: bool, low: float) -> None:
    if log and low <= 0:
        raise UserError(f"{typed}: a logarithmic scale begins above 0, as in interval(1e-4,1e-1).")


def _ends(distribution: "BaseDistribution") -> Sequence[Any]:
    choices = getattr(distribution, "choices", None)
    return choices if choices else (distribution.low, distribution.high)


def text(distribution: "BaseDistribution", value: Any) -> str:
    """A value as it is typed: numbers in as few digits as change nothing.

    >>> from optuna.distributions import FloatDistribution
    >>> text(FloatDistribution(1e-4, 1e-1, log=True), 0.012345678912345)
    '0.0123457'
    """
    if not isinstance(value, float):
        return str(value)
    if distribution.step:
        return str(_rounded(value))  # as a grid has it
    low, high = distribution.low, distribution.high
    short = f"{value:.{_DIGITS}g}"
    moved = abs(float(short) - value) > _ROUNDING * (high - low)
    return repr(value) if moved or not low <= float(short) <= high else short
