"""How many runs to train as one stack: what a short measurement says, and what memory holds."""

import contextlib
import json
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from trainlab.adapters import is_torchs
from trainlab.config import Config, UserError, build
from trainlab.data import Data, batches
from trainlab.memory import free_memory, out_of_memory
from trainlab.prepare import THREADS, Sources, build_model, dense, pick_device, threads
from trainlab.stack import Stack
from trainlab.state import begin
from trainlab.step import recipe_of, take

_CANDIDATES = (4, 8, 16, 32, 64)
_USUAL = 32  # best for small dense nets, and safe on a GPU: where measuring would not pay
_STEPS = 4  # of each measurement; the first warms up
_SHARE = 0.02  # of the expected training time that measuring may take
_GAIN = 0.95  # of a narrower stack's time per run: a wider one has to be faster than that
_COPIES = 12  # of the weights that training and its bookkeeping hold at once, at most
_ROOM = 0.5  # of the free memory that the weights of a stack may take


class Width(NamedTuple):
    """How many runs to stack, and the seconds that training one of them will take."""

    runs: int
    seconds: float = 0.0  # 0 where nothing was measured
    among: int = 0  # runs there were when it was measured


class Widths:
    """The best number of runs for each kind of stack: one architecture, batch size, data, device.

    Under `stack=auto` a few steps are timed at growing widths, as long as a wider stack is faster
    per run, and measuring takes a small part of what the training will.
    """

    def __init__(self, sources: Sources):
        self.sources = sources
        self.known: dict[str, Width] = {}
        self.limits: dict[str, int] = {}  # what memory has shown to hold

    def limit(self, config: Config, runs: int) -> None:
        """A stack of more than so many runs does not fit into memory."""
        self.limits[_kind(config)] = max(1, runs)

    def of(self, configs: Sequence[Config], measure: bool = True) -> Width:
        """For runs of one stack key; what is usual, unless `measure`."""
        config, kind, runs = configs[0], _kind(configs[0]), len(configs)
        if runs == 1:
            return Width(1)
        before = self.known.get(kind)
        # As many as there were then says nothing of more.
        if measure and (not before or before.runs == before.among < runs):
            # Whatever is wrong with them, those who train them meet it again, and tell.
            with contextlib.suppress(Exception):
                self.known[kind] = self._measured(configs)
        width, seconds, _ = self.known.get(kind, Width(_USUAL))
        if config["stack"] != "auto":
            width = config["stack"]
        with contextlib.suppress(UserError):  # of an optimizer that cannot be built
            if config["compile"] or is_torchs(build(config, "optimizer")):
                width = 1
        return Width(min(width, runs, self.limits.get(kind, runs)), seconds)

    def _measured(self, configs: Sequence[Config]) -> Width:
        config, device = configs[0], pick_device(configs[0]["device"])
        examples = self.sources.data(config, device)
        n = len(examples.splits["train"])
        batch = n if config["batch_size"] == "all" else min(config["batch_size"], n)
        steps = config["epochs"] * math.ceil(n / batch)
        model = build_model(config, examples)
        weights = sum(parameter.numel() for parameter in model.parameters())
        held = _ROOM * _free(device) / (_COPIES * 4 * weights)
        widest = max(1, int(min(_CANDIDATES[-1], len(configs), held)))
        usual = min(widest, _USUAL) if dense(model) or device.type != "cpu" else 1
        torch.set_num_threads(threads(config, model, n))
        width, best, spent = 1, 0.0, _STEPS  # steps of one run
        try:
            best = _seconds(configs[:1], examples, device, batch)
            for more in [*(w for w in _CANDIDATES if w < widest), widest]:
                spent += _STEPS * more
                if spent > _SHARE * steps * len(configs):
                    width = max(width, usual)
                    break
                if config["stack"] != "auto":
                    break
                seconds = _seconds(configs[:more], examples, device, batch)
                if seconds > _GAIN * best:
                    break
                width, best = more, seconds
        except Exception as error:
            if not out_of_memory(error):
                raise
        finally:
            torch.set_num_threads(THREADS)
        return Width(width, steps * best, len(configs))


def _seconds(configs: Sequence[Config], examples: Data, device: torch.device, batch: int) -> float:
    """The seconds of one run's step in a stack of these."""
    stack = Stack([build_model(config, examples) for config in configs], device)
    recipe = recipe_of(configs, stack, examples)
    progress = begin(stack, recipe.scaled)
    index = examples.splits["train"][:batch].expand(len(configs), -1)
    x, y = next(iter(batches(examples, index, batch, 0)))
    stack.train()
    times = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(_STEPS):
            start = time.perf_counter()
            take(stack, progress, recipe, x, y, recipe.lr)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    return min(times) / len(configs)


def _free(device: torch.device) -> float:
    """Bytes that could be used now."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    return math.inf if free is None else free


def _kind(config: Config) -> str:
    """What decides how long a step takes, less what hardly does: optimizer, activation, …"""
    keys = (
        "arch norm dataset preprocess augment batch_size accumulate precision task max_examples "
        "device threads stack epochs"
    ).split()
    return json.dumps([config[key] for key in keys])
