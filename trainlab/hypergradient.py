"""`search=gradient`: learning rate and weight decay descend along the gradient of the validation
loss.

The gradient is taken through k steps of training, in forward mode (Franceschi, Donini, Frasconi &
Pontil 2017, arXiv:1703.01785): a stack has one member for each hyper-parameter, all alike, and
member i carries along how its weights and its optimizer's memory change with the logarithm of
hyper-parameter i. They are dual numbers, and go through the very step that trains (`step.take`):
whatever the update rule, clipping, decay and schedule are, none is written a second time.

Weights and memory go on from one k steps to the next; how they change begins with zero again. What
is learnt is therefore right for short horizons, which favour learning rates too small for a whole
run, all the more the smaller k and the noisier the batches (Wu, Ren, Liao & Grosse 2018,
arXiv:1803.02021).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual
from torch.overrides import TorchFunctionMode

from trainlab.activations import Step
from trainlab.adapters import Adapted
from trainlab.config import Config, UserError
from trainlab.data import Data, batches
from trainlab.fit import sizes
from trainlab.norms import BATCH
from trainlab.optimizers import State, momentum_ewma
from trainlab.prepare import build_model
from trainlab.schedules import At
from trainlab.stack import Stack
from trainlab.state import Progress, begin
from trainlab.step import Recipe, recipe_of, rehearse, take
from trainlab.streams import stream

_DECAYS = ("optimizer.weight_decay", "reg.weight_decay", "reg.l2")
_RANGE = 1e4  # times its start, and a part of it, is as far as a hyper-parameter goes
_MEMORY = 0.8  # of the running mean of the derivatives' signs
_TOO_HIGH = 1.2  # times the untrained model's loss, where steps are taken back
_VALIDATION_NUMBERS = 2**20  # of inputs in a validation batch, as in evaluation

Row = dict[str, float]


def learnt(config: Config) -> list[str]:
    """The keys of what is learnt: the learning rate, and the first weight decay that is not 0.

    A weight decay of 0 has no logarithm, and stays 0.
    """
    return ["optimizer.lr", *[key for key in _DECAYS if _value(config, key)][:1]]


def descend(
    config: Config,
    examples: Data,
    unroll: int = 10,
    hyper_lr: float = 0.1,
    steps: int | None = None,
    show: Callable[[Row, float], None] = lambda row, share: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Train a config while what is `learnt` descends; a row after each `unroll` steps.

    A row holds the step, the hyper-parameters of the steps before it, the validation loss they led
    to, and its derivatives in their logarithms: step, lr, weight_decay, val_loss, d_lr,
    d_weight_decay. From row to row a logarithm moves by at most `hyper_lr`, down the running mean
    of the signs of its derivatives, whose sizes differ by orders of magnitude in the course of a
    run. Steps that make a model worse than an untrained one are taken back, and the learning rate
    is halved. There are `steps` of training, or the config's epochs; `show(row, share)` is told of
    each row and of the share done.

    Batch norm evaluates with the statistics of the validation examples themselves: what its running
    averages owe to the weights has no derivative. Raises UserError where a recipe has none either.
    """
    keys = learnt(config)
    names = [key.rpartition(".")[2] for key in keys]
    stack, recipe = _begin(config, examples, len(keys))
    p, done, rows = begin(stack, scaling=False), 0, []
    _, _, per_epoch = sizes(len(examples.splits["train"]), config["batch_size"])
    total = steps or config["epochs"] * per_epoch
    feed = _batches(config, examples, len(keys))
    start = torch.tensor([[math.log(_value(config, key)) for key in keys]], dtype=torch.float64)
    logs, memory = start.clone(), State(start)  # (1, R)
    untrained, _ = _validation(stack, p, recipe, config, examples, torch.zeros_like(stack.w))
    while done < total and not interrupted():
        before = stack.w.clone(), p.optimizer.t, {k: v.clone() for k, v in p.optimizer.items()}
        values = logs.exp()[0].tolist()
        numbers = torch.arange(done, min(done + unroll, total), device=stack.device)
        with dual_level():
            moving = _moving(recipe, dict(zip(keys, values, strict=True)))
            at = At(moving.lr, numbers.to(moving.lr), total, per_epoch, [[]] * stack.size)
            along = _train(stack, p, moving, at, feed)
        loss, slopes = _validation(stack, p, recipe, config, examples, along)
        done += len(numbers)
        row = {"step": done, **dict(zip(names, values, strict=True)), "val_loss": loss}
        rows.append(row | {f"d_{name}": d for name, d in zip(names, slopes, strict=True)})
        show(rows[-1], done / total)
        if loss <= _TOO_HIGH * untrained and all(map(math.isfinite, slopes)):
            memory.t += 1
            momentum_ewma(logs, logs.new_tensor([slopes]).sign(), memory, hyper_lr, _MEMORY)
        else:
            w, p.optimizer.t, state = before
            stack.w.copy_(w)
            p.optimizer.clear()
            p.optimizer.update(state)
            logs[0, 0] -= math.log(2)
        logs.clamp_(start - math.log(_RANGE), start + math.log(_RANGE))
    return rows


def _value(config: Config, key: str) -> float:
    group, _, name = key.partition(".")
    return config[group].get(name, 0.0)


def _begin(config: Config, examples: Data, members: int) -> tuple[Stack, Recipe]:
    """The members, all alike, and their recipe. Raises UserError where it cannot be followed."""
    configs, choices, lr = [config] * members, config["choices"], config["optimizer"]["lr"]
    models = [build_model(config, examples)] * members
    stack = Stack(models, examples.device)
    recipe = recipe_of(configs, stack, examples)
    shown = rehearse(configs, models, examples, stack.device)
    steps = any(isinstance(layer, Step) for layer in stack.template.modules())
    obstacles = {
        f"optimizer.lr={lr}, which has no logarithm": lr <= 0,
        f"optimizer={choices['optimizer']}, whose steps are torch's": (
            isinstance(recipe.update, Adapted)
        ),
        "optimizer=rprop, which uses its learning rate once": choices["optimizer"] == "rprop",
        "schedule=plateau, which follows metrics": choices["schedule"] == "plateau",
        "act=step, whose gradient stands in for a derivative": steps,
        "online=true, which validates on other examples in each window": config["online"],
        "precision=fp16, which leaves steps out": recipe.scaled,
        "layers that draw from torch's global generator": shown.draws,
        "layers that cannot be computed side by side": not (shown.stackable or shown.draws),
    }
    for obstacle, there in obstacles.items():
        if there:
            raise UserError(f"search=gradient has no gradient with {obstacle}.")
    return stack, recipe


def _batches(config: Config, data: Data, members: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The training batches of one epoch after the other, the same for every member."""
    train = data.splits["train"]
    n, batch_size, _ = sizes(len(train), config["batch_size"])
    for epoch in itertools.count():
        order = torch.randperm(len(train), generator=stream(config["seed"], "order", epoch))[:n]
        index = train[order.to(train.device)].expand(members, -1)
        yield from batches(data, index, batch_size, config["loader_workers"])


def _moving(recipe: Recipe, values: dict[str, float]) -> Recipe:
    """The recipe with these hyper-parameters, member i moving along the logarithm of number i."""
    columns = {}
    for i, (key, value) in enumerate(values.items()):
        column = torch.full_like(recipe.lr, value)
        tangent = torch.zeros_like(column)
        tangent[i] = value  # the derivative of a number in its logarithm
        columns[key] = make_dual(column, tangent)
    lr = columns.pop("optimizer.lr")
    own = {key.partition(".")[2]: column for key, column in columns.items() if "optimizer" in key}
    reg = {key.partition(".")[2]: column for key, column in columns.items() if "reg." in key}

    def update(w: Tensor, g: Tensor, state: State, lr: Tensor) -> None:
        # With a rate for each weight, rules leave out the fused kernels, which have no derivative.
        with _Differentiable():
            recipe.update(w, g, state, lr=lr.expand_as(w), **own)

    return recipe._replace(lr=lr, reg=recipe.reg._replace(**reg), update=update)


class _Differentiable(TorchFunctionMode):
    """What update rules call, where torch has no derivative for it or none that is finite.

    `out=` becomes a copy. The derivative of √v̂ at 0, where no gradient has arrived, counts as 0.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        others = dict(kwargs or {})
        out = others.pop("out", None)
        result = function(*args, **others)
        tangent = unpack_dual(result).tangent if isinstance(result, Tensor) else None
        if tangent is not None and tangent.is_contiguous():  # else it may be an expanded one
            tangent.nan_to_num_(0.0, 0.0, 0.0)
        return result if out is None else out.copy_(result)


def _train(
    stack: Stack, p: Progress, recipe: Recipe, at: At, feed: Iterator[tuple[Tensor, Tensor]]
) -> Tensor:
    """A step at each of these times; how the weights that would be evaluated move, (R, P)."""
    rates = recipe.schedule(at).expand(stack.size, at.steps.numel())
    stack.train()
    stack.w = make_dual(stack.w, torch.zeros_like(stack.w))  # in the same memory
    try:
        for rate, (x, y) in zip(rates.split(1, 1), feed, strict=False):
            take(stack, p, recipe, x, y, rate)
    except RuntimeError as error:
        if "implemented" not in str(error):
            raise
        raise UserError(f"search=gradient needs second derivatives, and {error}.") from error
    return unpack_dual(p.optimizer.get("average", stack.w)).tangent


def _validation(
    stack: Stack, p: Progress, recipe: Recipe, config: Config, data: Data, along: Tensor
) -> tuple[float, list[float]]:
    """The mean validation loss, and its derivatives where the weights move `along`, (R,).

    Of the whole split, or of as many of its examples as one batch holds, drawn anew each time.
    """
    index, most = data.splits["val"], max(1, _VALIDATION_NUMBERS // math.prod(data.shape))
    if len(index) > most:
        drawn = stream(config["seed"], "hypergradient", p.optimizer.t)
        index = index[torch.randperm(len(index), generator=drawn)[:most].to(index.device)]
    trained = stack.w.clone()
    stack.w.copy_(p.optimizer.get("average", trained))
    stack.train(False)
    for layer in stack.template.modules():
        if isinstance(layer, BATCH):
            layer.train()
    x = data.inputs(index)
    x, y = (v.expand(stack.size, *v.shape) for v in (x, data.targets(index, x)))
    with recipe.precision:
        outputs = stack(x)
    loss = recipe.task.loss(outputs.float(), y).mean(1)  # (R,)
    stack.backward(loss)
    stack.w.copy_(trained)
    return loss[0].item(), torch.linalg.vecdot(stack.g, along).tolist()
