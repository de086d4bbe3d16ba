"""From configs to results: skip what is finished, stack the rest, build, train, write."""

import json
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from trainlab import advice, data, progress, streams, table, tasks
from trainlab.adapters import is_torchs
from trainlab.architectures import Block
from trainlab.config import Config, UserError, build, run_id, stack_key
from trainlab.fit import due, fit
from trainlab.initializers import initialize, looks_at_data
from trainlab.layout import LAYERS
from trainlab.noise import Dropout, Noisy, SpatialDropout
from trainlab.stack import Stack
from trainlab.step import rehearse
from trainlab.store import FINISHED, Run

_FIRST_BATCH = 256  # training examples that an initializer may look at
_WIDEST = 32  # members of a stack under stack=auto
_SLOW_STACKED = ("cnn", "vgg", "resnet", "wide_resnet", "unet")  # convolutions, on a CPU
_WRITE_EVERY = 10.0  # seconds between two writings of runs.csv during a sweep
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
    sweep, sources = len(configs) > 1, _Sources()
    study = _study(configs)
    made = [_run(c, sources, sweep) if few else None for c, few in _few_seeds(configs)]
    runs = {run.id: run for run in made if run}
    same = sum(run is not None for run in made) - len(runs)
    outcomes: dict[str, Outcome] = {}
    with (
        progress.Display(len(runs), configs[0]["quiet"]) as display,
        _interruptible() as interrupted,
    ):
        if same:
            display.say(f"{same} of these configs are the same run as another of them")
        outcomes |= {run.id: outcome for run in runs.values() if (outcome := _settled(run))}
        display.skipped([outcome.run for outcome in outcomes.values()])
        waiting = []
        for run in runs.values():
            if run.id not in outcomes:
                try:
                    waiting.append(_Waiting.look(run))
                except UserError as error:
                    if not sweep:
                        raise
                    outcomes[run.id] = Outcome(run, "failed", str(error))
        written = time.monotonic()
        for members in _stacks(waiting):
            if interrupted():
                break
            outcomes |= _train_stack(members, sources, display, interrupted, sweep)
            display.settled(outcomes)
            if due(written, _WRITE_EVERY) and study.is_dir():
                table.write_runs(study)
                written = time.monotonic()
        for run in runs.values():  # what another process trained may be there by now
            if run.id in outcomes and outcomes[run.id].status == "busy":
                outcomes[run.id] = _settled(run) or outcomes[run.id]
    if study.is_dir():
        table.write_runs(study)
    return [outcomes.get(run.id, Outcome(run, "stopped")) if run else None for run in made]


def _study(configs: Sequence[Config]) -> Path:
    """The study folder, one for all runs of a sweep."""
    folders = {Path(config["output_dir"]) / config["study"] for config in configs}
    if len(folders) > 1:
        raise UserError("A sweep fills one folder: study and output_dir cannot be swept over.")
    return folders.pop()


def _run(config: Config, sources: "_Sources", sweep: bool) -> Run:
    try:
        fingerprint = sources.fingerprint(config)
    except UserError:
        if not sweep:
            raise
        fingerprint = "unreadable"  # it fails again, and is listed, when its turn comes
    return Run(config, run_id(config, fingerprint))


def build_model(config: Config, examples: data.Data) -> nn.Module:
    """The model a config describes, with its initial weights, on the CPU."""
    arch, act, norm, init = (build(config, group) for group in ("arch", "act", "norm", "init"))
    if arch is None or act is None:
        raise UserError("A model needs an arch and an act (act=identity for none).")
    place, reg, seed = config["norm"]["place"], config["reg"], config["seed"]
    on_weights = place == "weights"
    block = Block(
        act=act,
        norm=None if on_weights else norm,
        place=place,
        dropout=partial(Dropout, reg["dropout"]) if reg["dropout"] else None,
        spatial_dropout=(
            partial(SpatialDropout, reg["spatial_dropout"]) if reg["spatial_dropout"] else None
        ),
    )
    with torch.random.fork_rng(devices=[]):
        # Layers draw values of their own when made; `init` replaces most of them.
        torch.manual_seed(streams.seed_of(seed, "build"))
        sizes = dict(inputs=examples.shape, outputs=tasks.outputs_of(examples))
        if "parts" in signature(arch).parameters:
            sizes["parts"] = examples.parts
        model = arch(**sizes, block=block)
        x = _first_batch(config, examples) if looks_at_data(init) else None
        initialize(model, init, seed, x, config["init"]["bias"])
        for name, layer in list(model.named_modules()):
            if on_weights and norm and isinstance(layer, LAYERS):
                norm(layer)
            elif isinstance(layer, Noisy):
                layer.key.fill_(streams.seed_of(seed, "noise", name))
    return model


def _first_batch(config: Config, examples: data.Data) -> torch.Tensor:
    """Training inputs for initializers that look at data, on the CPU."""
    train = examples.splits["train"]
    order = torch.randperm(len(train), generator=streams.stream(config["seed"], "init", "batch"))
    return examples.inputs(train[order[:_FIRST_BATCH].to(train.device)]).cpu()


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

    def _key(self, config: Config) -> str:
        return json.dumps(
            [config[k] for k in ("dataset", "data_dir", "max_examples", "split_seed")]
        )

    def _examples(self, config: Config) -> tuple[str, data.Examples]:
        key = self._key(config)
        if self._read is None or self._read[0] != key:
            self._read = key, data.read(config)
        return self._read

    def fingerprint(self, config: Config) -> str:
        key = self._key(config)
        if key not in self._fingerprints:
            self._fingerprints[key] = self._examples(config)[1].fingerprint()
        return self._fingerprints[key]

    def data(self, config: Config, device: torch.device) -> data.Data:
        key, examples = self._examples(config)
        key += json.dumps(
            [
                config[k]
                for k in (
                    "preprocess",
                    "trusted",
                    "val_fraction",
                    "test_fraction",
                    "task",
                    "online",
                    "epochs",
                    "in_memory",
                )
            ]
        ) + str(device)
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # before the next takes its place in memory
            self._prepared = key, data.prepare(examples, config, device)
        return self._prepared[1]


def _few_seeds(configs: Sequence[Config]) -> list[tuple[Config, bool]]:
    """The configs, and whether to train them: of a smoke test only those of its first two seeds."""
    few = list(dict.fromkeys(config["seed"] for config in configs))[:2]
    return [(config, not config["smoke"] or config["seed"] in few) for config in configs]


def _settled(run: Run) -> Outcome | None:
    """The outcome of a run that this command need not train, or None."""
    status = run.status()
    if run.config["fresh"] or not status:
        return None
    finished = status["status"] in FINISHED and run.result()
    if finished or (status["status"] == "failed" and not run.config["retry"]):
        return _outcome(run)
    return None


class _Waiting(NamedTuple):
    """A run to train: its status when looked at, and where its checkpoint is, if there is one."""

    run: Run
    status: dict[str, Any]
    place: tuple[int, int] | None  # finished epochs, steps into the next

    @classmethod
    def look(cls, run: Run) -> "_Waiting":
        state = None if run.config["fresh"] else run.checkpoint()
        return cls(run, run.status(), (state["epoch"], state["position"]) if state else None)

    def take(self) -> bool:
        """Lock the run; False where another process is training it, or has been since we looked."""
        return self.run.acquire() and self.run.status() == self.status


def _stacks(waiting: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    """Groups of runs that train together: of one stack key, and at the same step."""
    groups: dict[tuple, list[_Waiting]] = {}
    for member in waiting:
        groups.setdefault((stack_key(member.run.config), member.place), []).append(member)
    for members in groups.values():
        width = _width(members[0].run.config, len(members))
        for start in range(0, len(members), width):
            yield members[start : start + width]


def _width(config: Config, runs: int) -> int:
    """How many runs to stack: stacking pays for dense nets, and for everything on a GPU."""
    if config["compile"] or is_torchs(build(config, "optimizer")):
        return 1
    if config["stack"] != "auto":
        return config["stack"]
    if config["choices"]["arch"] in _SLOW_STACKED and pick_device(config["device"]).type == "cpu":
        return 1
    return min(runs, _WIDEST)


def _train_stack(
    waiting: list[_Waiting],
    sources: _Sources,
    display: progress.Display,
    interrupted: Callable[[], bool],
    sweep: bool,
) -> dict[str, Outcome]:
    """Build, lock, train: the outcomes of one stack's members."""
    runs = [member.run for member in waiting]
    taken: list[_Waiting] = []
    try:
        config, device = runs[0].config, pick_device(runs[0].config["device"])
        if torch.are_deterministic_algorithms_enabled() != config["deterministic"]:
            # Only where it changes something: the call imports torch's compiler, as slow as torch.
            torch.use_deterministic_algorithms(config["deterministic"])
        examples = sources.data(config, device)
        if examples.x is None and config["in_memory"] == "auto":
            display.warn("the inputs do not fit into memory; they are read batch by batch")
        # Everything that can be wrong with a config shows before its folder is touched.
        models = {run.id: build_model(run.config, examples) for run in runs}
        first = models[runs[0].id]
        advice.refuse(config, first, examples)
        torch.set_num_threads(_threads(config, first, len(examples.splits["train"])))
        rehearsal = rehearse([run.config for run in runs], list(models.values()), examples, device)
        if len(runs) > 1 and not rehearsal.stackable:
            display.say("these runs cannot be computed as one stack; they train one by one")
            return {
                id: outcome
                for member in waiting
                for id, outcome in _train_stack(
                    [member], sources, display, interrupted, sweep
                ).items()
            }
        warnings = [w for run in runs for w in advice.warnings(run.config, first, examples)]
        taken = [member for member in waiting if member.take()]
        if taken:
            mine = [member.run for member in taken]
            states = [run.checkpoint() for run in mine] if taken[0].place else []
            _open(mine, states, examples)
            display.training(mine, states)
            for warning in dict.fromkeys(warnings):
                display.warn(warning)
                for run in mine:
                    run.say(f"warning: {warning}")
            stack = Stack([models[run.id] for run in mine], device, config["compile"])
            stack.seed = config["seed"] if rehearsal.draws else None
            with torch.random.fork_rng() if rehearsal.draws else nullcontext():
                for run in fit(mine, stack, examples, states, display, interrupted):
                    run.set_status("stopped", "interrupted; the same command continues it")
    except Exception as error:
        if not sweep and isinstance(error, UserError) and not taken:
            raise
        _fail([member.run for member in taken] or runs, error, bool(taken))
        if sweep:
            display.failed(error)
        if not taken:
            return {run.id: _outcome(run) for run in runs}
    finally:
        torch.set_num_threads(_THREADS)
        for run in runs:
            run.release()
    outcomes = {run.id: Outcome(run, "busy", "another process is training it") for run in runs}
    for member in taken:
        outcome = outcomes[member.run.id] = _outcome(member.run)
        member.run.say(outcome.reason or outcome.status)
    return outcomes


def _open(runs: Sequence[Run], states: Sequence[dict[str, Any]], examples: data.Data) -> None:
    """Make or clear the folders of runs that are about to train."""
    saved = data.saved(examples)
    for r, run in enumerate(runs):
        if run.config["fresh"]:
            run.clear()
        run.start(*(states[r]["history"], states[r]["t"]) if states else ([],))
        run.save("data", saved)
        run.say(f"resumed in epoch {states[r]['epoch'] + 1}" if states else "started")


def _fail(runs: Sequence[Run], error: Exception, started: bool) -> None:
    """Note the error in the folders of runs that did not finish."""
    known = isinstance(error, UserError)
    for run in runs:
        if not started:
            run.acquire()
            run.start([])
        if run.status().get("status") not in FINISHED:
            run.say(str(error) if known else traceback.format_exc())
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            run.set_status("failed", reason)


def _outcome(run: Run) -> Outcome:
    status = run.status()
    return Outcome(run, status["status"], status["reason"])


def _threads(config: Config, model: nn.Module, examples: int) -> int:
    """CPU threads for a model: a small net only waits for a second one, long on a busy machine."""
    if config["threads"] != "auto":
        return config["threads"]
    batch = examples if config["batch_size"] == "all" else min(config["batch_size"], examples)
    parameters = list(model.parameters())
    dense = all(parameter.dim() <= 2 for parameter in parameters)
    work = batch * sum(parameter.numel() for parameter in parameters)
    return 1 if dense and work < _SMALL else _THREADS


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
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
