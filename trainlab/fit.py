"""The training loop. There is one.

It trains a stack of R runs at once; a single run is a stack of one. Nothing in the hot path reads a
tensor back from the device or writes a file: outputs, losses and gradient lengths of a chunk of
steps are kept as tensors and looked at together. Whatever happens "sometimes" is an `if due` line
here.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from trainlab import parallel
from trainlab.adapters import Adapted
from trainlab.config import Config, widest
from trainlab.data import Data, batches
from trainlab.metrics import higher_is_better
from trainlab.norms import BATCH, fold
from trainlab.schedules import At
from trainlab.stack import Stack
from trainlab.state import Progress, begin, best_checkpoint, checkpoint, member_state, resume
from trainlab.step import Recipe, Seen, recipe_of, take
from trainlab.store import Row, Run
from trainlab.streams import stream
from trainlab.tasks.words import nearest

_SHOWN_WORDS = 200  # the most frequent, whose neighbours a run of words reports
_LOOK_EVERY = 50  # steps between two looks at losses, clock and metrics
_EVALUATED_NUMBERS = 2**20  # of inputs per evaluation batch
_MEASURED_NUMBERS = 2**24  # of inputs per batch when batch norm's statistics are measured


def due(last: float, every: float) -> bool:
    """Whether `every` seconds have passed since the clock showed `last`."""
    return time.monotonic() - last >= every


def fit(
    runs: Sequence[Run],
    stack: Stack,
    data: Data,
    resumed: Sequence[dict[str, Any]] | None = None,
    show: Callable[[list[Run], list[Row], float], None] = lambda runs, rows, share: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[Run]:
    """Train the members of a stack, each into its run folder; returns those that are not finished:
    that were interrupted, or pause at the epoch `until`.

    `resumed` are the members' checkpoints, all from one step. `show(runs, rows, share)` is told of
    every epoch, and with empty rows of the share that is done in between.
    """
    runs, config, train = list(runs), runs[0].config, data.splits["train"]
    epochs, online = config["epochs"], config["online"]
    n, batch_size, steps = sizes(len(train), config["batch_size"])
    every, by_time = config["checkpoint"]["every"], config["checkpoint"]["unit"] == "seconds"
    recipe = recipe_of([run.config for run in runs], stack, data)
    p = resume(stack, resumed) if resumed else begin(stack, recipe.scaled)
    if isinstance(recipe.update, Adapted):
        p.adapted = recipe.update
        if resumed:
            recipe.update.load(resumed[0]["adapted"])
    # A process may have died after a member's last epoch and before its result was written.
    runs, stack, p, recipe = _let_go(runs, stack, p, recipe, data)
    saved = time.monotonic()

    while runs:
        clock, before = time.perf_counter(), p.seconds
        if online:
            train, data.splits["val"] = data.windows[p.epoch], data.windows[p.epoch + 1]
            order = train.expand(len(runs), -1)[:, :n]
        else:
            order = train[_orders(runs, p.epoch, len(train)).to(train.device)][:, :n]
        numbers = p.epoch * steps + torch.arange(steps, device=stack.device, dtype=recipe.lr.dtype)
        at = At(recipe.lr, numbers, epochs * steps, steps, p.history)
        lr = recipe.schedule(at).expand(len(runs), steps)  # (R, T)
        stack.train()
        rest = order[:, p.position * batch_size :]
        feed = batches(data, rest, batch_size, config["loader_workers"])
        while p.position < steps:
            seen, lengths, means, used, stopping = Seen([], [], []), [], [], [], False
            for x, y in islice(feed, _LOOK_EVERY):  # (R, B, …)
                rate = lr[:, p.position : p.position + 1]
                tested = _test(stack, recipe, x, y) if online else None
                trained, length = take(stack, p, recipe, x, y, rate)
                for kept, more in zip(seen, tested or trained, strict=True):
                    kept += more
                lengths.append(length)
                if config["log_steps"]:
                    means.append(torch.cat((tested or trained).losses, 1).sum(1) / y.shape[1])
                    used.append(p.optimizer["lr"].clone() if "lr" in p.optimizer else rate)
                p.position += 1
                if stopping := interrupted():
                    break
            output, loss, target = (torch.cat(parts, 1) for parts in seen)  # (R, examples, …)
            sums = recipe.task.sums(output, loss, target)
            sums["finite"] = loss.isfinite().sum(1)
            if config["log_steps"]:
                sums["means"] = torch.stack(means, 1)  # (R, T)
            sums = parallel.total(sums)
            if config["log_steps"]:
                _log_steps(runs, sums.pop("means"), torch.cat(used, 1), p, steps)
            sums["length"] = torch.cat(lengths, 1).sum(1, dtype=widest(stack.device))
            _add(p.sums, sums)
            p.seconds = before + (time.perf_counter() - clock) / len(runs)
            if p.position < steps:
                if stopping or (by_time and due(saved, every)):
                    checkpoint(runs, stack, p)
                    saved = time.monotonic()
                if stopping:
                    return runs
            show(runs, [], (p.epoch + p.position / steps) / epochs)

        with _averaged(stack, p):
            if config["norm"]["exact"]:
                _measure_batch_norm(stack, data, recipe)
            rows = _rows(p, stack, data, recipe, lr, n, batch_size, p.seconds - before)
            for run, row, history in zip(runs, rows, p.history, strict=True):
                history.append(row)
                run.log(row)
            _keep_best(p, stack, config["stop"]["monitor"], config["stop"]["min_delta"])
        show(runs, rows, p.epoch / epochs)
        runs, stack, p, recipe = _let_go(runs, stack, p, recipe, data)
        leaving = interrupted() or p.epoch == config["until"]
        if runs and (leaving or (due(saved, every) if by_time else p.epoch % every == 0)):
            checkpoint(runs, stack, p)
            saved = time.monotonic()
        if leaving:
            break
    return runs


def _let_go(
    runs: list[Run], stack: Stack, p: Progress, recipe: Recipe, data: Data
) -> tuple[list[Run], Stack, Progress, Recipe]:
    """Finish the members that have ended; what is left of the stack."""
    config = runs[0].config
    epochs, patience = config["epochs"], config["stop"]["patience"]
    ended = [_ended(p, r, epochs, patience) for r in range(len(runs))]
    if any(ended):
        alone = Stack([stack.member(0)], stack.device)
    for r, run in enumerate(runs):
        if ended[r]:
            _finish(run, r, stack, alone, p, data, recipe)
    kept = [r for r in range(len(runs)) if not ended[r]]
    runs = [runs[r] for r in kept]
    if not runs or all(not e for e in ended):
        return runs, stack, p, recipe
    states = [member_state(stack, p, r) for r in kept]
    smaller = Stack([stack.member(r) for r in kept], stack.device, stack.compiled)
    recipe = recipe_of([run.config for run in runs], smaller, data)
    return runs, smaller, resume(smaller, states), recipe


# ---------------------------------------------------------------- before the loop


def sizes(examples: int, wanted: int | str) -> tuple[int, int, int]:
    """Examples used in an epoch, batch size, and steps.

    A last batch of a single example is left out (another one every epoch): batch norm cannot
    use it, and it would weigh as much as a whole batch.

    >>> sizes(65, 32), sizes(66, 32), sizes(65, "all")
    ((64, 32, 2), (66, 32, 3), (65, 65, 1))
    """
    batch_size = examples if wanted == "all" else min(int(wanted), examples)
    n = examples - 1 if batch_size > 1 and examples % batch_size == 1 else examples
    return n, batch_size, math.ceil(n / batch_size)


# ---------------------------------------------------------------- in the loop


def _orders(runs: Sequence[Run], epoch: int, n: int) -> Tensor:
    """The order of the training examples in this epoch, (R, n), from each run's own stream."""
    seeds = [run.config["seed"] for run in runs]
    return torch.stack([torch.randperm(n, generator=stream(s, "order", epoch)) for s in seeds])


def _add(sums: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def _test(stack: Stack, recipe: Recipe, x: Tensor, y: Tensor) -> Seen:
    """Online learning: what the model makes of a batch before it learns it (Dawid 1984)."""
    y = parallel.own(y, parallel.rows(y.shape[1]))
    stack.train(False)
    with torch.no_grad(), recipe.precision:
        output = parallel.computed(stack, x).float()
    stack.train()
    return Seen([output], [recipe.task.loss(output, y)], [y])


def _log_steps(runs: Sequence[Run], means: Tensor, lr: Tensor, p: Progress, steps: int) -> None:
    """Loss and rate of each of the last steps to steps.csv; both (R, T)."""
    first = p.position - means.shape[1]
    for run, values, rate in zip(runs, means.tolist(), lr.tolist(), strict=True):
        run.log_steps(
            {"step": p.epoch * steps + first + i + 1, "lr": rate[i], "loss": value}
            for i, value in enumerate(values)
        )


@contextlib.contextmanager
def _averaged(stack: Stack, p: Progress) -> Iterator[None]:
    """Put the weights that the optimizer wants to be judged by in the place of those it trains."""
    if "average" not in p.optimizer:
        yield
        return
    trained = stack.w.clone()
    stack.w.copy_(p.optimizer["average"])
    yield
    stack.w.copy_(trained)


def _measure_batch_norm(stack: Stack, data: Data, recipe: Recipe) -> None:
    """Batch norm's running averages from the whole training split, with the weights as they are.

    Exact where the split fits into one batch; else the average over equal large batches.
    """
    layers = [layer for layer in stack.template.modules() if isinstance(layer, BATCH)]
    momenta = [layer.momentum for layer in layers]
    train, size = data.splits["train"], _MEASURED_NUMBERS // math.prod(data.shape)
    stack.train(False)
    for layer in layers:
        layer.train()
    with torch.no_grad(), recipe.precision:
        for k, index in enumerate(train.tensor_split(math.ceil(len(train) / size))):
            for layer in layers:
                layer.momentum = 1 / (k + 1)
            stack(data.inputs(index).expand(stack.size, -1, *data.shape))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def evaluate(
    stack: Stack, data: Data, split: str, recipe: Recipe, report: bool = False
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Metrics of every member on one split, name -> (R,); and of each, if asked, its report.

    Then also the metrics that are too costly for every epoch.
    """
    whole = bool(recipe.task.extra) and (report or recipe.watched)
    kept: list[tuple[Tensor, Tensor]] = []  # of the whole split, where a metric needs it
    report = report and data.task != "words"  # V² numbers that nobody reads
    size = max(1, _EVALUATED_NUMBERS // math.prod(data.shape))
    sums: dict[str, Tensor] = {}
    positions = data.splits[split]
    positions = parallel.own(positions, parallel.rows(len(positions)), axis=0)
    stack.train(False)
    with torch.no_grad():
        for index in positions.split(size):
            x = data.inputs(index)
            x, y = (v.expand(stack.size, *v.shape) for v in (x, data.targets(index, x)))
            with recipe.precision:
                outputs = stack(x)
            outputs = outputs.float()
            more = recipe.task.sums(outputs, recipe.task.loss(outputs, y), y)
            _add(sums, more | recipe.task.tally(outputs, y) if report else more)
            if whole:
                kept.append((outputs, y))
    sums = parallel.total(sums)
    metrics = recipe.task.metrics(sums)
    if kept:
        outputs, y = (parallel.gathered(torch.cat(v, 1)) for v in zip(*kept, strict=True))
        metrics |= recipe.task.whole(outputs, y)
    reports = recipe.task.report(sums) if report else [{} for _ in range(stack.size)]
    return {f"{split}_{name}": value.tolist() for name, value in metrics.items()}, reports


def _rows(
    p: Progress,
    stack: Stack,
    data: Data,
    recipe: Recipe,
    lr: Tensor,
    n: int,
    batch_size: int,
    seconds: float,
) -> list[Row]:
    """Close an epoch: one metrics row per member, and the sums begin anew."""
    steps = math.ceil(n / batch_size)
    for r, finite in enumerate(p.sums["finite"].tolist()):
        p.finite_steps[r] += steps if finite == n else finite // batch_size
    columns = {f"train_{k}": v.tolist() for k, v in recipe.task.metrics(p.sums).items()}
    columns |= evaluate(stack, data, "val", recipe)[0]
    columns["grad_norm"] = (p.sums["length"] / p.position).tolist()
    if (penalty := recipe.reg.penalty(stack.w)) is not None:
        columns["penalty"] = penalty.tolist()
    # An optimizer may have found a rate of its own.
    rates = p.optimizer["lr"][:, 0] if "lr" in p.optimizer else lr[:, p.position - 1]
    rates, step = rates.tolist(), p.epoch * steps + p.position
    p.epoch, p.position, p.sums = p.epoch + 1, 0, {}
    return [
        {"epoch": p.epoch, "step": step, "lr": rates[r]}
        | {name: column[r] for name, column in columns.items()}
        | {"seconds": p.seconds, "examples_per_second": n / max(seconds, 1e-9)}
        for r in range(stack.size)
    ]


def _keep_best(p: Progress, stack: Stack, monitor: str, min_delta: float) -> None:
    better = []
    for r, history in enumerate(p.history):
        value = history[-1][monitor]
        value = -value if higher_is_better(monitor) else value
        first = p.best_epoch[r] == 0 and not _diverged(history)
        if value < p.best_value[r] - min_delta or first:
            p.best_value[r] = value if math.isfinite(value) else math.inf
            p.best_epoch[r] = p.epoch
            better.append(r)
    if better:
        for name, value in stack.values().items():
            p.best[name][better] = value[better]


def _ended(p: Progress, r: int, epochs: int, patience: int | None) -> bool:
    if not p.history[r]:
        return False
    stopped_early = patience is not None and p.epoch - p.best_epoch[r] >= patience
    return p.epoch >= epochs or stopped_early or _diverged(p.history[r])


def _diverged(history: Sequence[Row]) -> bool:
    row = history[-1]
    return not (math.isfinite(row["train_loss"]) and math.isfinite(row["val_loss"]))


# ---------------------------------------------------------------- what is left of a member


def _finish(
    run: Run, r: int, stack: Stack, alone: Stack, p: Progress, data: Data, recipe: Recipe
) -> None:
    """Write what member r leaves: the metrics of its best epoch, and with those weights, for the
    only time, the test split, computed in the stack of one `alone`."""
    history = p.history[r]
    result = {
        "best_epoch": p.best_epoch[r],
        "epochs": p.epoch,
        "steps": history[-1]["step"],
        "seconds": p.seconds,
        "parameters": stack.parameters,
        "seed": run.config["seed"],
    }
    if p.best_epoch[r]:
        run.save("best", best_checkpoint(p, r, stack.state_dict(r, p.best)))
    run.save("last", member_state(stack, p, r), sync=False)
    if _diverged(history):
        good = next((row for row in reversed(history) if not _diverged([row])), {})
        step = p.finite_steps[r] + 1
        reason = _divergence(run.config, step, good)
        result |= {"steps": step, "diverged_at_step": step}
        run.finish("diverged", _split_metrics(good) | result, reason)
        return
    for name, value in alone.values().items():
        value.copy_(p.best[name][r : r + 1])
    if run.config["norm"]["fold"]:
        run.save("folded", {"model": fold(stack.member(r, p.best)).state_dict()})
    metrics, (report,) = evaluate(alone, data, "test", recipe, report=True)
    found = {k: v[0] for k, v in metrics.items()}
    found |= _costly(alone, data, recipe, p.best_epoch[r])
    if data.task == "words":
        vectors = stack.member(r, p.best).get_parameter("embedding.weight")
        report = {"nearest": nearest(vectors[:_SHOWN_WORDS], data.classes[:_SHOWN_WORDS])}
    run.finish("done", found | _split_metrics(history[p.best_epoch[r] - 1]) | result | report)


def _costly(alone: Stack, data: Data, recipe: Recipe, epoch: int) -> Row:
    """The metrics of the validation split, or window of that epoch, that were left out as the run
    went on."""
    if not recipe.task.costly or recipe.watched:
        return {}
    if data.windows is not None:
        data.splits["val"] = data.windows[epoch]
    metrics, _ = evaluate(alone, data, "val", recipe, report=True)
    return {name: metrics[name][0] for name in (f"val_{extra}" for extra in recipe.task.extra)}


def _split_metrics(row: Row) -> Row:
    return {k: v for k, v in row.items() if k.startswith(("val_", "train_"))}


def _divergence(config: Config, step: int, good: Row) -> str:
    """Where a run diverged, what it was worth before, and what to try."""
    last = ", ".join(f"{k} {v:.4g}" for k, v in _split_metrics(good).items())
    remedies = [f"optimizer.lr={config['optimizer']['lr'] / 10:g}"]
    if config["choices"]["clip"] == "none":
        remedies.append("clip=norm")
    if config["choices"]["norm"] == "none":
        remedies.append("norm=batch")
    return (
        f"the loss was not finite at step {step}; "
        f"{f'last good epoch: {last}' if last else 'no epoch was good'}; "
        f"try {' or '.join(remedies)}"
    )
