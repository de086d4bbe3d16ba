"""From configs to results: skip what is finished, stack the rest, build, train, write."""

import json
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainlab import data, progress, streams, table, tasks
from trainlab.config import Config, UserError, build, nearest, run_id, stack_key
from trainlab.fit import fit
from trainlab.initializers import initialize
from trainlab.stack import Stack
from trainlab.store import FINISHED, Run

_WIDEST = 32  # members of a stack under stack=auto
_THREADS = torch.get_num_threads()  # what torch would use
_SMALL = 4_000_000  # multiplications of a dense net's batch, below which a second thread only waits


@dataclass
class Outcome:
    """How a run ended: `done`, `diverged`, `failed`, `stopped`, or `busy` in another process."""

    run: Run
    status: str
    reason: str | None = None


def train(configs: Sequence[Config]) -> list[Outcome | None]:
    """Train every config that is not trained yet; their outcomes, in the order given.

    A single config that cannot be trained raises its error; in a sweep it is listed and the others
    go on. None stands for a config that a smoke test leaves out.
    """
    sweep, sources, few = len(configs) > 1, _Sources(), _few_seeds(configs)
    made = [Run(c, run_id(c, sources.fingerprint(c))) if c in few else None for c in configs]
    runs = {run.id: run for run in made if run}
    outcomes: dict[str, Outcome] = {}
    with (
        progress.Display(len(runs), configs[0]["quiet"]) as display,
        _interruptible() as interrupted,
    ):
        outcomes |= {run.id: outcome for run in runs.values() if (outcome := _settled(run))}
        display.skipped([outcome.run for outcome in outcomes.values()])
        for members, states in _stacks([run for run in runs.values() if run.id not in outcomes]):
            if interrupted():
                break
            outcomes |= _train_stack(members, states, sources, display, interrupted, sweep)
            display.settled(outcomes)
    study = Path(configs[0]["output_dir"]) / configs[0]["study"]
    if study.is_dir():
        table.write_runs(study)
    return [outcomes.get(run.id, Outcome(run, "stopped")) if run else None for run in made]


def build_model(config: Config, examples: data.Data) -> nn.Module:
    """The model a config describes, with its initial weights, on the CPU."""
    arch, act, norm, init = (build(config, group) for group in ("arch", "act", "norm", "init"))
    if arch is None or act is None:
        raise UserError("A model needs an arch and an act (act=identity for none).")
    with torch.random.fork_rng(devices=[]):
        # Layers draw values of their own when made; `init` replaces most of them.
        torch.manual_seed(streams.seed_of(config["seed"], "build"))
        model = arch(inputs=examples.shape, outputs=examples.outputs, act=act, norm=norm)
    return initialize(model, init, config["seed"])


def pick_device(name: str) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that is there; anything else must be there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"device={name} is no device. Use auto, cpu, cuda, cuda:1 or mps."
        ) from None
    there = {"cpu": True, "cuda": cuda, "mps": mps}.get(device.type, False)
    if device.type == "cuda" and device.index is not None:
        there = there and device.index < torch.cuda.device_count()
    if not there:
        raise UserError(
            f"device={name}: no such device on this machine. Use device=auto or device=cpu."
        )
    return device


class _Sources:
    """Data of the sweep's configs: read and prepared once for configs that agree, the last kept."""

    def __init__(self) -> None:
        self._fingerprints: dict[str, str] = {}
        self._read: tuple[str, data.Examples] | None = None
        self._prepared: tuple[str, data.Data] | None = None

    def _examples(self, config: Config) -> tuple[str, data.Examples]:
        key = json.dumps([config[k] for k in ("dataset", "data_dir", "max_examples", "split_seed")])
        if self._read is None or self._read[0] != key:
            self._read = key, data.read(config)
        return self._read

    def fingerprint(self, config: Config) -> str:
        key = json.dumps([config[k] for k in ("dataset", "data_dir", "max_examples", "split_seed")])
        if key not in self._fingerprints:
            self._fingerprints[key] = self._examples(config)[1].fingerprint()
        return self._fingerprints[key]

    def data(self, config: Config, device: torch.device) -> data.Data:
        key, examples = self._examples(config)
        key += json.dumps(
            [config[k] for k in ("preprocess", "val_fraction", "test_fraction")]
        ) + str(device)
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # before the next takes its place in memory
            self._prepared = key, data.prepare(examples, config, device)
        return self._prepared[1]


def _few_seeds(configs: Sequence[Config]) -> list[Config]:
    """All configs; of a smoke test those of its first two seeds."""
    few = list(dict.fromkeys(config["seed"] for config in configs))[:2]
    return [config for config in configs if not config["smoke"] or config["seed"] in few]


def _settled(run: Run) -> Outcome | None:
    """The outcome of a run that this command need not train, or None."""
    status = run.status()
    if run.config["fresh"] or not status:
        return None
    if status["status"] in FINISHED or (status["status"] == "failed" and not run.config["retry"]):
        return Outcome(run, status["status"], status["reason"])
    return None


def _stacks(runs: Sequence[Run]) -> Iterator[tuple[list[Run], list[dict[str, Any]] | None]]:
    """Groups of runs that train together, with their checkpoints where they resume."""
    groups: dict[tuple, list[tuple[Run, dict[str, Any] | None]]] = {}
    for run in runs:
        state = None if run.config["fresh"] else run.checkpoint()
        place = (state["epoch"], state["position"]) if state else None
        groups.setdefault((stack_key(run.config), place), []).append((run, state))
    for members in groups.values():
        width = _width(members[0][0].config, len(members))
        for start in range(0, len(members), width):
            chosen, states = zip(*members[start : start + width], strict=True)
            yield list(chosen), list(states) if states[0] else None


def _width(config: Config, runs: int) -> int:
    """How many runs to stack: stacking pays for dense nets, and for everything on a GPU."""
    if config["compile"]:
        return 1
    if config["stack"] != "auto":
        return config["stack"]
    convolutional = config["choices"]["arch"] not in ("linear", "mlp")
    if convolutional and pick_device(config["device"]).type == "cpu":
        return 1
    return min(runs, _WIDEST)


def _train_stack(
    runs: list[Run],
    states: list[dict[str, Any]] | None,
    sources: _Sources,
    display: progress.Display,
    interrupted: Any,
    sweep: bool,
) -> dict[str, Outcome]:
    """Build, lock, train: the outcomes of one stack's members."""
    taken = []
    try:
        config = runs[0].config
        device = pick_device(config["device"])
        if torch.are_deterministic_algorithms_enabled() != config["deterministic"]:
            # Only where it changes something: the call imports torch's compiler, as long as torch
            # itself.
            torch.use_deterministic_algorithms(config["deterministic"])
        examples = sources.data(config, device)
        _check_monitors(config, tasks.of(examples))
        # Everything that can be wrong with a config shows before its folder is touched.
        models = [build_model(run.config, examples) for run in runs]
        torch.set_num_threads(_threads(config, models[0], len(examples.splits["train"])))
        busy = [run for run in runs if not run.acquire()]
        outcomes = {run.id: Outcome(run, "busy", "another process is training it") for run in busy}
        taken = [run for run in runs if run not in busy]
        if busy:
            models = [model for run, model in zip(runs, models, strict=True) if run not in busy]
            states = (
                [s for run, s in zip(runs, states, strict=True) if run not in busy]
                if states
                else None
            )
        if not taken:
            return outcomes
        for r, run in enumerate(taken):
            if run.config["fresh"]:
                run.clear()
            run.start(states[r]["history"] if states else [])
            run.say(f"resumed in epoch {states[r]['epoch'] + 1}" if states else "started")
        stack = Stack(models, device, config["compile"])
        display.training(taken, states)
        stopped = fit(taken, stack, examples, states, display, interrupted)
        for run in stopped:
            run.set_status("stopped", "interrupted; the same command continues it")
        for run in taken:
            status = run.status()
            outcomes[run.id] = Outcome(run, status["status"], status["reason"])
            run.say(status["reason"] or status["status"])
        return outcomes
    except Exception as error:
        known = isinstance(error, UserError)
        if not sweep and known and not taken:
            raise
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        for run in taken or runs:
            if not taken:
                run.acquire()
                run.start([])
            if run.status().get("status") not in FINISHED:
                run.say(reason if known else traceback.format_exc())
                run.set_status("failed", reason)
        display.failed(error)
        return {
            run.id: Outcome(run, run.status()["status"], run.status()["reason"]) for run in runs
        }
    finally:
        torch.set_num_threads(_THREADS)
        for run in runs:
            run.release()


def _threads(config: Config, model: nn.Module, examples: int) -> int:
    """CPU threads for a model: a small net only waits for a second one, long on a busy machine."""
    if config["threads"] != "auto":
        return config["threads"]
    batch = examples if config["batch_size"] == "all" else min(config["batch_size"], examples)
    parameters = list(model.parameters())
    dense = all(parameter.dim() <= 2 for parameter in parameters)
    work = batch * sum(parameter.numel() for parameter in parameters)
    return 1 if dense and work < _SMALL else _THREADS


def _check_monitors(config: Config, task: tasks.Classification | tasks.Regression) -> None:
    columns = [f"{split}_{name}" for split in ("train", "val") for name in task.names]
    for group in ("stop", "schedule"):
        monitor = config[group].get("monitor")
        if monitor is not None and monitor not in columns:
            raise UserError(
                f"{group}.monitor={monitor} is no metric of these data.{nearest(monitor, columns)} "
                f"There are: {', '.join(columns)}."
            )


@contextmanager
def _interruptible() -> Iterator[Any]:
    """Ctrl-C and SIGTERM ask the loop to stop at the next step; a second one stops at once."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
