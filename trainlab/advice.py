"""Combinations known to be impossible, which are refused, or to be wrong, which are warned of.

A warning says why, and the override to try.
"""

from collections.abc import Iterator
from inspect import signature

import torch
import yaml
from torch import nn

from trainlab import tasks
from trainlab.activations import Step
from trainlab.adapters import is_torchs
from trainlab.architectures import given_by
from trainlab.config import CONF, Config, UserError, build, find, nearest, top_settings
from trainlab.data import Data, sorted_by_target
from trainlab.layout import LAYERS
from trainlab.noise import Dropout, SpatialDropout
from trainlab.norms import BATCH

_DEEP = 10  # sigmoid layers, behind which hardly any gradient arrives
_FULL = {  # optimizers for full batches
    "lbfgs": "lbfgs estimates curvature from differences of gradients",
    "rprop": "rprop goes by the signs of gradients",
}
_SEEN = 1000  # training inputs that are looked at
_STANDARD = 0.5  # how far mean and standard deviation of inputs may be from 0 and 1


def refuse(config: Config, model: nn.Module, data: Data) -> None:
    """Raise UserError for what cannot be computed, or would not be what it says."""
    task = tasks.described(config, data)
    columns = [f"train_{name}" for name in task.names]
    columns += [f"val_{name}" for name in (*task.names, *task.extra)]
    for group in ("stop", "schedule"):
        monitor = config[group].get("monitor")
        if monitor is not None and monitor not in columns:
            raise UserError(
                f"{group}.monitor={monitor} is no metric of these data.{nearest(monitor, columns)} "
                f"There are: {', '.join(columns)}."
            )
    if config["batch_size"] == 1 and _has(model, nn.BatchNorm1d):
        raise UserError(
            "Batch normalization cannot train on batches of one example (batch_size=1). "
            "Use a larger batch_size, or norm=layer."
        )
    if config["precision"] == "fp16" and is_torchs(build(config, "optimizer")):
        raise UserError(
            f"optimizer={config['choices']['optimizer']} is torch's own, and cannot take back the "
            "steps that overflow in precision=fp16. Use bf16 or fp32."
        )
    if config["reg"]["label_smoothing"] and data.task in ("regression", "reconstruction"):
        raise UserError(f"reg.label_smoothing needs classes, and these data are a {data.task}.")
    if config["online"] and config["norm"]["exact"]:
        raise UserError("norm.exact=true looks at the whole training split, and a stream has none.")
    if config["augment"] and data.task in ("segmentation", "reconstruction", "words"):
        raise UserError(
            f"augment changes inputs only, and in a {data.task} the targets would have to change "
            "as they do. Use augment=none."
        )
    if data.task == "reconstruction" and config["choices"]["dataset"] in ("toy_corpus", "text"):
        raise UserError("Words have no order, and cannot be given back as numbers.")
    _refuse_arch(config, data)


def _refuse_arch(config: Config, data: Data) -> None:
    name = config["choices"]["arch"]
    arch = find(config["arch"]["_target_"], "arch", config["trusted"])
    wanted = given_by(arch).tasks
    if wanted and data.task not in wanted:
        raise UserError(
            f"arch={name} is for {' or '.join(wanted)}, and the task of these data is {data.task}. "
            f"Use other data, or arch={' or '.join(_fitting(data.task))}."
        )
    if data.parts and "parts" in signature(arch).parameters and _mixed(data):
        raise UserError(
            f"arch={name} sees each input by itself, and preprocess="
            f"{config['choices']['preprocess']} mixes the columns of several. Use a preprocess "
            "that keeps columns apart, such as preprocess=standardize."
        )


def _fitting(task: str) -> Iterator[str]:
    """Architectures of ours whose outputs are for that task."""
    for file in sorted((CONF / "arch").glob("*.yaml")):
        target = yaml.safe_load(file.read_text(encoding="utf-8"))["_target_"]
        if task in given_by(find(target, "arch")).tasks:
            yield file.stem


def _mixed(data: Data) -> bool:
    """Whether preprocessing carries what one input says into the columns of another."""
    raw = torch.tensor(data.source[:_SEEN])  # (n, Σ parts)
    whole = data.arrived(raw)
    for own in torch.arange(raw.shape[1]).split(data.parts):
        others = raw.clone()
        others[:, own] = raw[:, own].flip(0)
        moved = (data.arrived(others) != whole).any(0)
        moved[own] = False
        if moved.any():
            return True
    return False


def warnings(config: Config, model: nn.Module, data: Data) -> Iterator[str]:
    """One sentence for each combination that is known not to work, with the override to try; and
    what there is to say of the data."""
    yield from data.notes
    if _has(model, nn.SELU):
        yield from _selu(config, model, data)
    norm, reg = config["choices"]["norm"], config["reg"]
    no_pixels = norm == "instance" and not _has(model, nn.InstanceNorm2d)
    idle = norm != "none" and (no_pixels or not _hidden(model))
    if idle:
        yield (
            f"norm={norm} has no effect: arch={config['choices']['arch']} has no hidden layer that "
            "it acts on; try norm=none, or another arch"
        )
    if _has(model, BATCH):
        if config["batch_size"] == 1:
            yield (
                "batch normalization of a single example sees no batch, only the example itself; "
                "try norm=group or norm=layer, or a larger batch_size"
            )
        full = config["batch_size"] == "all" or config["batch_size"] >= len(data.splits["train"])
        averaged = config["choices"]["optimizer"] in ("schedule_free", "asgd")
        if full and not config["norm"]["exact"]:
            yield (
                "with one step an epoch, batch norm's running averages lag far behind the weights, "
                "and evaluation is wrong; try norm.exact=true"
            )
        elif averaged and not config["norm"]["exact"]:
            yield (
                "the weights that are evaluated are averages, and batch norm's running averages "
                "belong to others; try norm.exact=true"
            )
        if config["norm"]["fold"] and config["norm"]["place"] == "after":
            yield (
                "batch norm behind an activation cannot be joined into the layer before it: "
                "norm.fold=true leaves it; try norm.place=before"
            )
    elif config["norm"]["fold"] and not idle:
        yield "norm.fold=true has no effect without batch normalization; try norm=batch"
    sigmoids = sum(isinstance(layer, nn.Sigmoid) for layer in model.modules())
    if sigmoids >= _DEEP and norm == "none":
        yield (
            f"gradients vanish behind {sigmoids} sigmoid layers: each multiplies them by 1/4 at "
            "most; try act=relu or norm=batch"
        )
    if any(isinstance(layer, Step) and not layer.straight_through for layer in model.modules()):
        yield (
            "the true gradient of act=step is zero everywhere: nothing before the last layer "
            "learns; try act.straight_through=true"
        )
    if config["choices"]["init"] in ("zeros", "constant") and _hidden(model):
        yield (
            f"with init={config['choices']['init']} all units of a layer start equal and stay "
            "equal; try init=auto"
        )
    if norm == "spectral" and any(reg[name] for name in ("l1", "l2", "max_norm")):
        yield (
            "l1, l2 and max_norm act on the weights before spectral normalization, which undoes "
            "their scale; try norm=none, or leave them out"
        )
    for name, kind in (("dropout", Dropout), ("spatial_dropout", SpatialDropout)):
        if reg[name] and not _has(model, kind):
            yield (
                f"reg.{name} has no effect: arch={config['choices']['arch']} has no layer that it "
                f"acts on; try reg.{name}=0"
            )
    if config["schedule"]["warmup"] >= config["epochs"]:
        yield (
            f"schedule.warmup={config['schedule']['warmup']} leaves nothing of epochs="
            f"{config['epochs']} to the schedule; try schedule.warmup={config['epochs'] // 10}"
        )
    drawn = top_settings()["negatives"].default
    if config["negatives"] != drawn and config["loss"] != "negative_sampling":
        yield (
            f"negatives={config['negatives']} has no effect with loss={config['loss']}; try "
            "loss=negative_sampling"
        )
    if config["online"] and sorted_by_target(data):
        yield (
            "online=true takes the examples in the order they come, and these come sorted by "
            "target: what is learnt first is forgotten; try online=false"
        )
    if config["batch_size"] != "all" and (why := _FULL.get(config["choices"]["optimizer"])):
        yield f"{why}, which differ between batches anyway; try batch_size=all"


def _selu(config: Config, model: nn.Module, data: Data) -> Iterator[str]:
    why = "selu keeps mean 0 and variance 1 from layer to layer only "
    if config["choices"]["init"] not in ("lecun_normal", "auto"):
        yield f"{why}from weights of variance 1/n_in; try init=lecun_normal"
    inputs = data.inputs(data.splits["train"][:_SEEN])
    if inputs.mean().abs() > _STANDARD or (inputs.std() - 1).abs() > _STANDARD:
        yield f"{why}if the inputs have them; try preprocess=standardize"
    if config["reg"]["dropout"]:
        yield f"{why}if nothing else changes them, and dropout does; try reg.dropout=0"
    if _has(model, BATCH):
        yield "selu normalizes by itself, and batch normalization undoes its scale; try norm=none"


def _has(model: nn.Module, kinds: type | tuple[type, ...]) -> bool:
    return any(isinstance(layer, kinds) for layer in model.modules())


def _hidden(model: nn.Module) -> bool:
    return sum(isinstance(layer, LAYERS) for layer in model.modules()) > 1
