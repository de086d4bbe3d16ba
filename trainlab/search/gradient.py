"""Learning rate and weight decay along the gradient of the validation loss.

The descent itself is no trial: a rate that is best for the next few steps is often too small for a
whole run (short-horizon bias, Wu et al. 2018, arXiv:1803.02021). What is tried, as ordinary runs,
is the start, where the descent ended, and where its learning rate was highest.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from trainlab import advice
from trainlab.config import Config
from trainlab.hypergradient import descend, learnt
from trainlab.prepare import Sources, build_model, pick_device, threads
from trainlab.work import interruptible

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_SHOWN = 6  # values of the descent that are shown


def candidates(
    config: Config, settings: Mapping[str, Any], say: Callable[[str], None]
) -> list[dict[str, float]]:
    """The settings to try, by their keys; raises UserError where a recipe has no such gradient."""
    keys, device = learnt(config), pick_device(config["device"])
    examples = Sources().data(config, device)
    model = build_model(config, examples)
    advice.refuse(config, model, examples)
    before = torch.get_num_threads()
    torch.set_num_threads(threads(config, model, len(examples.splits["train"])))
    try:
        with interruptible() as interrupted:
            rows = descend(
                config, examples, settings["unroll"], settings["hyper_lr"], interrupted=interrupted
            )
            if interrupted():
                raise KeyboardInterrupt
    finally:
        torch.set_num_threads(before)
    names = {key: key.rpartition(".")[2] for key in keys}
    tried = [rows[0], rows[-1], max(_after_the_last_setback(rows), key=lambda row: row["lr"])]
    for key, name in names.items():
        say(f"{key} along the gradient: {' → '.join(f'{row[name]:.3g}' for row in _some(rows))}")
    if len(rows) == 1:
        say(
            f"one step of it takes search.unroll={settings['unroll']} steps of training, and there "
            "are no more: train for more epochs, or unroll fewer"
        )
    if len(keys) == 1:
        say("weight decay is 0, which has no logarithm: only the learning rate is learnt")
    found = [{key: float(f"{row[name]:.3g}") for key, name in names.items()} for row in tried]
    return [one for i, one in enumerate(found) if one not in found[:i]]


def _after_the_last_setback(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Rows since the rate was halved for the last time: one that was higher was too high."""
    halved = [
        i + 1 for i, (row, after) in enumerate(pairwise(rows)) if after["lr"] < 0.6 * row["lr"]
    ]
    return rows[halved[-1] if halved else 0 :]


def _some(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """A few rows from the first to the last."""
    places = {round(i * (len(rows) - 1) / (_SHOWN - 1)) for i in range(_SHOWN)}
    return [rows[i] for i in sorted(places)]


def parameters(found: list[dict[str, float]]) -> dict[str, "BaseDistribution"]:
    """The smallest that holds them, as parameters of a search."""
    from optuna.distributions import FloatDistribution

    return {
        key: FloatDistribution(
            min(one[key] for one in found), max(one[key] for one in found), log=True
        )
        for key in found[0]
    }
