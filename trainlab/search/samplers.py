"""Who proposes the next trial: Optuna's samplers by our names, and how many trials at once.

A sampler is made anew for every trial, seeded by the search's seed and the trial's number. So what
it proposes depends on the trials before it and on nothing else, and a search that was killed goes
on as if it had not been.
"""

import io
import math
import pickle
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from trainlab.config import UserError
from trainlab.streams import seed_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler, CmaEsSampler
    from optuna.trial import FrozenTrial

Parameters = Mapping[str, "BaseDistribution"]

# Proposals that do not look at the trials before: all can be asked for at once.
BLIND = ("random", "qmc")
# Samplers that learn from a trial that was not trained to its end as from one that was pruned; the
# others take its last value for its value.
_KNOW_PRUNED = ("tpe", *BLIND)
# Trials at once that a model proposes before it sees what they are worth: on a bowl of four
# parameters the best of 40 trials is as good with 3 as with 10 (n = 40), and worse with 16.
_FEW = 8
_CHUNK = 16  # trials at once where time is limited


def sampler(
    name: str, settings: Mapping[str, Any], parameters: Parameters, number: int
) -> "BaseSampler":
    """The sampler that proposes trial `number`."""
    import optuna
    from optuna import samplers

    seed = seed_of(settings["seed"], "search", number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "random":
            return samplers.RandomSampler(seed=seed)
        if name == "tpe":
            return samplers.TPESampler(
                n_startup_trials=settings["startup"],
                n_ei_candidates=settings["candidates"],
                multivariate=True,
                constant_liar=True,  # or all trials of a batch would be about the same
                seed=seed,
            )
        if name == "gp":
            return samplers.GPSampler(n_startup_trials=settings["startup"], seed=seed)
        if name == "evolution":
            return _evolution(settings, seed)
        if name == "cmaes":
            return _cmaes(settings, parameters, seed)
        if name == "gradient":
            given = settings["given"][number % len(settings["given"])]
            return samplers.PartialFixedSampler(given, samplers.RandomSampler(seed=seed))
        assert name == "qmc", name
        return _qmc(settings, parameters, number, seed)


def _evolution(settings: Mapping[str, Any], seed: int) -> "BaseSampler":
    """NSGA-II with one objective: parents win a tournament of two, children replace the worst of
    both generations. Deb et al. 2002, doi:10.1109/4235.996017."""
    from optuna.samplers import NSGAIISampler, nsgaii

    crossovers = {
        "uniform": lambda: nsgaii.UniformCrossover(settings["swapping_prob"]),
        "blxalpha": nsgaii.BLXAlphaCrossover,
        "sbx": nsgaii.SBXCrossover,
        "vsbx": nsgaii.VSBXCrossover,
        "undx": nsgaii.UNDXCrossover,
        "spx": nsgaii.SPXCrossover,
    }
    crossover = crossovers[settings["crossover"]]()
    if settings["population"] < crossover.n_parents:
        raise UserError(
            f"search.crossover={settings['crossover']} has {crossover.n_parents} parents, and "
            f"search.population={settings['population']} are fewer."
        )
    return NSGAIISampler(
        population_size=settings["population"],
        crossover=crossover,
        crossover_prob=settings["crossover_prob"],
        swapping_prob=settings["swapping_prob"],
        mutation=nsgaii.PolynomialMutation() if settings["mutation"] == "polynomial" else None,
        mutation_prob=settings["mutation_prob"],
        seed=seed,
    )


def _cmaes(settings: Mapping[str, Any], parameters: Parameters, seed: int) -> "BaseSampler":
    from optuna.samplers import CmaEsSampler

    numbers = _numbers(parameters)
    steps = any(getattr(d, "step", None) is not None for d in numbers.values())
    made = CmaEsSampler(
        popsize=_population(settings, parameters),
        with_margin=steps,  # or whole numbers get stuck: Hamano et al. 2022, arXiv:2205.13482
        n_startup_trials=0,
        warn_independent_sampling=False,
        seed=seed,
    )
    # Optuna learns the space from finished trials; the first generation has none.
    made.infer_relative_search_space = lambda study, trial: numbers  # type: ignore[method-assign]
    made._restore_optimizer = partial(_restored, made)  # type: ignore[method-assign]
    return made


def _restored(sampler: "CmaEsSampler", trials: "Sequence[FrozenTrial]") -> Any:
    """The state of CMA-ES that the last of these trials has, as Optuna keeps it, None if none has;
    a pickle, from a file that may be a stranger's."""
    for trial in reversed(trials):
        attributes = {
            key: value
            for key, value in trial.system_attrs.items()
            if key.startswith(sampler._attr_key_optimizer)
        }
        if attributes:
            text = sampler._concat_optimizer_attrs(attributes)
            return _StateOfCma(io.BytesIO(bytes.fromhex(text))).load()
    return None


class _StateOfCma(pickle.Unpickler):
    """Makes nothing but the state of CMA-ES and the arrays and numbers in it."""

    _MADE = (
        "cmaes._cma.CMA", "cmaes._cmawm.CMAwM", "numpy.ndarray", "numpy.dtype",
        "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
    )  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self._MADE:
            raise UserError(
                f"The search's storage is refused: what it keeps as the state of CMA-ES would call "
                f"{module}.{name}. It is no storage that trainlab wrote; search.name=… begins one "
                "of your own."
            )
        return super().find_class(module, name)


def _qmc(
    settings: Mapping[str, Any], parameters: Parameters, number: int, seed: int
) -> "BaseSampler":
    from optuna.samplers import QMCSampler, RandomSampler

    made = QMCSampler(
        qmc_type=settings["sequence"],
        scramble=True,
        seed=seed_of(settings["seed"], "search") % 2**32,  # one sequence for all trials
        independent_sampler=RandomSampler(seed=seed),
    )
    space = dict(sorted(parameters.items()))
    made.infer_relative_search_space = lambda study, trial: space  # type: ignore[method-assign]
    # Optuna counts the points it has handed out, also those of a process that died meanwhile.
    made._find_sample_id = lambda study, space: number  # type: ignore[method-assign]
    return made


def _numbers(parameters: Parameters) -> Parameters:
    return {name: d for name, d in sorted(parameters.items()) if not hasattr(d, "choices")}


def _population(settings: Mapping[str, Any], parameters: Parameters) -> int:
    """Hansen's 4 + ⌊3 ln n⌋ for n numbers (2016, arXiv:1604.00772, eq. 48)."""
    dimensions = len(_numbers(parameters))
    return settings["population"] or 4 + math.floor(3 * math.log(max(1, dimensions)))


def check(name: str, settings: Mapping[str, Any], parameters: Parameters) -> str | None:
    """What the user should know of this sampler in this space; raises UserError where it has
    nothing to do there."""
    if name != "cmaes":
        sampler(name, settings, parameters, 0)
        return None
    choices = sorted(set(parameters) - set(_numbers(parameters)))
    if len(choices) == len(parameters):
        raise UserError(
            f"search=cmaes moves numbers, and {' and '.join(choices)} are choices. Use search=tpe "
            "or search=evolution."
        )
    if choices:
        return f"search=cmaes moves numbers; {', '.join(choices)}: drawn at random"
    return None


def batch(name: str, settings: Mapping[str, Any], parameters: Parameters, number: int) -> int:
    """How many trials are asked for at once, beginning with trial `number`: a generation, all where
    a proposal does not depend on others, else few."""
    if settings["batch"] != "auto":
        return settings["batch"]
    if name in BLIND:
        return _CHUNK if settings["minutes"] else settings["trials"]
    if name == "evolution":
        return settings["population"]
    if name == "gradient":
        return len(settings["given"])
    if name == "cmaes":
        return _population(settings, parameters)
    return settings["startup"] - number if number < settings["startup"] else _FEW


def knows_pruned(name: str) -> bool:
    return name in _KNOW_PRUNED
