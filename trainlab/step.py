"""One step of training: from a batch to new weights, for every member of a stack.

x, y       -> augmented                      each member from its own stream
loss       -> g (R, P)                       in parts, if gradients are accumulated
g          += regularizers, then clipped
w, state   <- update rule
w          <- decayed, bounded
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainlab import parallel, streams, tasks
from trainlab.adapters import Adapted, factors, is_torchs
from trainlab.augmentation import Mixed
from trainlab.config import Config, UserError, build, build_each, column, setting, widest
from trainlab.data import Data
from trainlab.regularizers import Regularizers, regularizers
from trainlab.schedules import At, warm_up
from trainlab.stack import Stack
from trainlab.state import Progress
from trainlab.tasks.weights import class_weights

_NOTHING = contextlib.nullcontext()


class Recipe(NamedTuple):
    """The components a step calls, for the members of one stack."""

    update: Callable  # optimizers: (w, g, state, lr); or torch's, adapted
    schedule: Callable[[At], Tensor]  # -> (R, T)
    clip: Callable | None  # clipping: (g, w, lengths, layout)
    augment: dict[str, Callable]  # augmentation: (x, draw)
    keys: dict[str, Tensor]  # (R,) of the noise of each augmentation, and of the loss
    reg: Regularizers
    lr: Tensor  # (R, 1) starting rates, float64
    multipliers: Tensor | None  # (P,) of the learning rate
    task: Any
    weights: Tensor | None  # (C,) of classes, in the loss
    watched: bool  # whether metrics of a whole split are computed after every epoch
    precision: contextlib.AbstractContextManager
    scaled: bool  # whether the loss is scaled (fp16)
    parts: int  # of a batch, for gradient accumulation


def recipe_of(configs: Sequence[Config], stack: Stack, data: Data) -> Recipe:
    """What the configs of a stack's members describe."""
    config, device = configs[0], stack.device
    update, schedule, clip = (build(configs, g, device) for g in ("optimizer", "schedule", "clip"))
    if update is None or schedule is None:
        group = "optimizer" if update is None else "schedule"
        raise UserError(f"{group}={config['choices'][group]} names nothing to build.")
    if "lr" not in config["optimizer"]:
        name = config["choices"]["optimizer"]
        raise UserError(f"optimizer={name} has no lr; its YAML needs a line `lr: …`.")
    columns = None
    if config["lr_multipliers"]:
        multipliers = factors(stack.layout.names, config["lr_multipliers"])
        columns = stack.layout.columns(list(multipliers.values()))
    if is_torchs(update):
        update = _adapted(config, update, stack)
    augment = build_each(config, "augment")
    keys = {
        name: torch.tensor([streams.seed_of(c["seed"], "augment", name) for c in configs])
        for name in [*augment, "loss"]
    }
    task = tasks.described(config, data)
    kind = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config["precision"]]
    return Recipe(
        update=update,
        schedule=partial(warm_up, schedule, warmup=setting(configs, "schedule", "warmup", device)),
        clip=clip,
        augment=augment,
        keys={name: key.to(device) for name, key in keys.items()},
        reg=regularizers(configs, stack.layout, device),
        lr=column([c["optimizer"]["lr"] for c in configs], device),
        multipliers=columns,
        task=task,
        watched=tasks.watched(task, config),
        weights=class_weights(config, data),
        precision=torch.autocast(device.type, dtype=kind) if kind else _NOTHING,
        scaled=config["precision"] == "fp16",
        parts=config["accumulate"],
    )


def _adapted(config: Config, make: Callable, stack: Stack) -> Adapted:
    gradients = [gradient[0] for gradient in stack.gradients()]
    lr = config["optimizer"]["lr"]
    return Adapted(make, stack.leaves, gradients, lr, config["lr_multipliers"])


class Rehearsal(NamedTuple):
    """What a step tried before a run begins has shown."""

    stackable: bool  # whether the members can be computed together
    draws: bool  # whether the model draws from torch's global generator


def rehearse(
    configs: Sequence[Config], models: Sequence[nn.Module], data: Data, device: torch.device
) -> Rehearsal:
    """Make everything a step needs, and take it up to the model's outputs, with two examples.

    Raises the UserErrors that a run would end with. Members cannot be stacked where vmap has no
    rule for an operation, or where they draw from the global generator.
    """
    stack = Stack(models[:2], device)
    recipe = recipe_of(configs[:2], stack, data)
    start = torch.zeros(1, dtype=recipe.lr.dtype, device=device)
    recipe.schedule(At(recipe.lr, start, 2, 1, [[]] * stack.size))
    x = data.inputs(data.splits["train"][:2])
    inputs, _ = _augmented(recipe, x.expand(stack.size, *x.shape), 0)
    before = torch.get_rng_state()
    try:
        with torch.no_grad(), recipe.precision:
            stack(inputs)
    except RuntimeError:
        if stack.size == 1:
            raise
        return Rehearsal(stackable=False, draws=False)
    draws = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    return Rehearsal(stackable=not draws, draws=draws)


class Seen(NamedTuple):
    """What was made of a batch, part by part: of the rows that this process has computed."""

    outputs: list[Tensor]  # (R, B, …) each
    losses: list[Tensor]  # (R, B)
    targets: list[Tensor]  # (R, B, …)


def take(
    stack: Stack,
    p: Progress,
    recipe: Recipe,
    x: Tensor,
    y: Tensor,
    lr: Tensor,
) -> tuple[Seen, Tensor]:
    """One step of every member: what it made of the batch, and the lengths of the gradients
    (R, 1)."""
    step = p.optimizer.t
    seen = _gradient(stack, p, recipe, x, y, step)
    with torch.no_grad(), _overflow_guard(stack, p) if recipe.scaled else _NOTHING:
        length = _prepared(stack, recipe, step)
        p.optimizer.t += 1
        rates = lr if recipe.multipliers is None else lr * recipe.multipliers
        if isinstance(recipe.update, Adapted):
            first = _value(stack, recipe, seen.losses, y.shape[1])
            recipe.update.step(lr.item(), _again(stack, p, recipe, x, y, step, first))
        else:
            recipe.update(stack.w, stack.g, p.optimizer, lr=rates)
        recipe.reg.on_weights(stack.w, rates)
    return seen, length


def _gradient(stack: Stack, p: Progress, recipe: Recipe, x: Tensor, y: Tensor, step: int) -> Seen:
    """The gradient of the mean loss into g."""
    batch, seen = y.shape[1], Seen([], [], [])
    for part, (inputs, targets) in enumerate(_parts(x, y, recipe.parts)):
        number = step * recipe.parts + part  # of the noise
        stack.at(number)
        inputs, mixed = _augmented(recipe, inputs, number)
        rows = parallel.rows(targets.shape[1])
        with recipe.precision:
            output = parallel.computed(stack, inputs)  # (R, B, C)
        output = output.float()
        loss = _loss(recipe, output, targets, mixed, number, rows)
        weights = _mean_of(batch, loss.shape, stack.device)
        stack.backward(loss, weights * p.scale[:, None] if recipe.scaled else weights, add=part > 0)
        seen.outputs.append(output.detach())
        seen.losses.append(loss.detach())
        seen.targets.append(parallel.own(targets, rows))
    parallel.add(stack.g)
    return seen


def _loss(
    recipe: Recipe,
    output: Tensor,
    targets: Tensor,
    mixed: Mixed | None,
    number: int,
    rows: parallel.Rows | None,
) -> Tensor:
    """The loss of each example, (R, B); of mixed ones that of both targets, by their shares.

    `output` has these rows only, `targets` and `mixed` have all.
    """
    smoothing, draw = recipe.reg.label_smoothing, _draws(recipe.keys["loss"], number, rows)
    loss = recipe.task.loss(output, parallel.own(targets, rows), smoothing, draw, recipe.weights)
    if mixed is None:
        return loss
    members = torch.arange(len(targets), device=targets.device)[:, None]
    partners = targets[members, parallel.own(mixed.partner, rows)]
    return mixed.share * loss + (1 - mixed.share) * recipe.task.loss(
        output, partners, smoothing, draw, recipe.weights
    )


def _augmented(recipe: Recipe, x: Tensor, number: int) -> tuple[Tensor, Mixed | None]:
    """The batch after every augmentation, and how examples were mixed, if they were."""
    mixed = None
    for name, augment in recipe.augment.items():
        x = augment(x, _draws(recipe.keys[name], number))
        if isinstance(x, Mixed):
            if mixed:
                raise UserError(
                    f"augment: {name} mixes examples that are mixed already; only one option can."
                )
            x, mixed = x.x, x
    return x, mixed


def _draws(
    key: Tensor, number: int, rows: parallel.Rows | None = None
) -> Callable[[Sequence[int]], Tensor]:
    """`draw(shape)` -> (R, *shape) uniform numbers, others at every call."""
    call = itertools.count()
    return lambda shape: streams.uniform(key + next(call), number, shape, rows)


def _prepared(stack: Stack, recipe: Recipe, step: int) -> Tensor:
    """Regularize and clip g in place; the lengths before clipping, (R, 1)."""
    recipe.reg.on_gradient(stack.g, stack.w, step)
    lengths = torch.linalg.vector_norm(stack.g, dim=1, keepdim=True)
    if recipe.clip:
        recipe.clip(stack.g, stack.w, lengths, stack.layout)
    return lengths


def _value(stack: Stack, recipe: Recipe, losses: list[Tensor], batch: int) -> Tensor:
    """What is minimized: the mean loss, and the penalties on the weights."""
    penalty = recipe.reg.penalty(stack.w)
    # Wide: line searches go by small differences.
    mean = parallel.add(torch.cat(losses, 1).sum(dtype=widest(stack.device))) / batch
    return mean + (0 if penalty is None else penalty.sum())


def _again(
    stack: Stack, p: Progress, recipe: Recipe, x: Tensor, y: Tensor, step: int, first: Tensor
) -> Callable[[], Tensor]:
    """For optimizers that evaluate several times a step: the loss, its gradient in g.

    The first time what has just been computed; the noise is that of this step every time.
    """
    values = iter([first])

    def closure() -> Tensor:
        value = next(values, None)
        if value is not None:
            return value
        with torch.enable_grad():
            seen = _gradient(stack, p, recipe, x, y, step)
        with torch.no_grad():
            _prepared(stack, recipe, step)
        return _value(stack, recipe, seen.losses, y.shape[1])

    return closure


def _parts(x: Tensor, y: Tensor, count: int) -> Iterable[tuple[Tensor, Tensor]]:
    """A batch in `count` parts (gradient accumulation)."""
    if count == 1:
        return [(x, y)]
    count = min(count, max(1, y.shape[1] // 2))  # batch normalization needs two examples at least
    return zip(x.tensor_split(count, 1), y.tensor_split(count, 1), strict=True)


@lru_cache(maxsize=16)
def _mean_of(batch: int, shape: tuple[int, int], device: torch.device) -> Tensor:
    """The weights (R, B), or a part of them, that make the sum over a batch its mean: 1/B each."""
    return torch.full(shape, 1 / batch, device=device)


@contextlib.contextmanager
def _overflow_guard(stack: Stack, p: Progress) -> Iterator[None]:
    """fp16: undo the loss scale, take back the step of members whose gradient overflowed, adapt the
    scale.

    Halved after an overflow, doubled after 2,000 good steps, as torch.amp.GradScaler does; but the
    step count of adam's bias correction, which all members share, goes on.
    """
    good = stack.g.isfinite().all(1)  # (R,)
    stack.g.div_(p.scale[:, None])
    stack.g.nan_to_num_(0.0, 0.0, 0.0)
    before = {name: value.clone() for name, value in [("w", stack.w), *p.optimizer.items()]}
    yield
    for name, value in [("w", stack.w), *p.optimizer.items()]:
        old = before.get(name, torch.zeros((), device=stack.device))
        value.copy_(torch.where(good[:, None], value, old))
    p.good_steps = torch.where(good, p.good_steps + 1, 0)
    grown = p.good_steps >= 2000
    p.scale = torch.where(good, torch.where(grown, p.scale * 2, p.scale), p.scale / 2)
    p.good_steps = torch.where(grown, 0, p.good_steps)
