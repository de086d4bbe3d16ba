"""What a run needs before its first step: device, threads, data, model."""

import json
from functools import partial
from inspect import signature

import torch
from torch import nn

from trainlab import data, norms, parallel, streams, tasks
from trainlab.architectures import Block
from trainlab.config import Config, UserError, build
from trainlab.initializers import initialize, looks_at_data
from trainlab.layout import LAYERS
from trainlab.noise import Dropout, Noisy, SpatialDropout

THREADS = torch.get_num_threads()  # what torch would use
_FIRST_BATCH = 256  # training examples that an initializer may look at
_SMALL = 4_000_000  # multiplications of a dense net's batch, below which a second thread only waits


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
        # Not torch.manual_seed: it notes a stack trace for every GPU there might be.
        torch.default_generator.manual_seed(streams.seed_of(seed, "build"))
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
    if parallel.size() > 1:
        norms.across_ranks(model)
    return model


def _first_batch(config: Config, examples: data.Data) -> torch.Tensor:
    """Training inputs for initializers that look at data, on the CPU."""
    train = examples.splits["train"]
    order = torch.randperm(len(train), generator=streams.stream(config["seed"], "init", "batch"))
    return examples.inputs(train[order[:_FIRST_BATCH].to(train.device)]).cpu()


def pick_device(name: str) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that is there; anything else must be there."""
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available() and parallel.size() == 1  # it has no all-reduce
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"device={name} is no device. Use auto, cpu, cuda, cuda:1 or mps."
        ) from None
    if parallel.size() > 1 and device.index is not None:
        raise UserError(f"device={name} is one for all processes of torchrun; use device=auto.")
    there = {"cpu": True, "cuda": cuda, "mps": mps}.get(device.type, False)
    if device.type == "cuda" and device.index is not None:
        there = there and device.index < torch.cuda.device_count()
    if not there:
        raise UserError(
            f"device={name}: no such device on this machine. Use device=auto or device=cpu."
        )
    return device


def threads(config: Config, model: nn.Module, examples: int) -> int:
    """CPU threads for a model: a small net only waits for a second one, long on a busy machine."""
    if config["threads"] != "auto":
        return config["threads"]
    batch = examples if config["batch_size"] == "all" else min(config["batch_size"], examples)
    work = batch * sum(parameter.numel() for parameter in model.parameters())
    return 1 if dense(model) and work < _SMALL else THREADS


def dense(model: nn.Module) -> bool:
    """Whether a model has no convolutions."""
    return all(parameter.dim() <= 2 for parameter in model.parameters())


# The settings that decide which examples are read.
_READ = (
    "dataset", "data_dir", "max_examples", "split_seed", "rare_classes", "task", "online"
)  # fmt: skip


class Sources:
    """Data of the sweep's configs: read and prepared once for configs that agree, the last kept."""

    def __init__(self) -> None:
        self._fingerprints: dict[str, str] = {}
        self.largest = 0  # numbers that the inputs of a config have, of those read so far
        self._read: tuple[str, data.Examples] | None = None
        self._prepared: tuple[str, data.Data] | None = None

    def _key(self, config: Config) -> str:
        return json.dumps([config[k] for k in _READ])

    def _examples(self, config: Config) -> tuple[str, data.Examples]:
        key = self._key(config)
        if self._read is None or self._read[0] != key:
            self._read = key, (examples := data.read(config))
            self.largest = max(self.largest, examples.x.size)
            # Of what is there now, if it was read before: a file may have been replaced.
            self._fingerprints[key] = examples.fingerprint
        return self._read

    def fingerprint(self, config: Config) -> str:
        """Of the data as they were read last."""
        key = self._key(config)
        if key not in self._fingerprints:
            self._examples(config)
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
