"""The training loop. There is one.

It trains a stack of R runs at once; a single run is a stack of one. Nothing in the hot path reads a tensor
back from the device or writes a file: outputs, losses and gradient lengths of a chunk of steps are kept as
tensors and looked at together. Whatever happens "sometimes" is an `if due` line here.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainlab import tasks
from trainlab.config import Config, build
from trainlab.data import Data
from trainlab.optimizers import State
from trainlab.schedules import At, higher_is_better
from trainlab.stack import Stack, Values
from trainlab.store import Row, Run
from trainlab.streams import stream

_CHUNK_BYTES = 2**23  # inputs gathered at once: small enough for a cache, large enough to amortize
_EVALUATION_NUMBERS = 2**20  # numbers of the inputs per evaluation batch


@dataclass
class Progress:
    """What the loop carries from step to step besides the stack's values; all a checkpoint needs to add."""

    optimizer: State
    best: Values  # copies of the stack's values, row by row from that member's best epoch
    best_value: list[float]  # (R,) the monitored metric there, lower is better
    best_epoch: list[int]  # (R,) 0 before the first
    history: list[list[Row]]  # (R, epochs so far)
    finite_steps: list[int]  # (R,) before the first whose loss was not finite
    scale: Tensor  # (R,) of the loss, for fp16
    good_steps: Tensor  # (R,) since the scale last changed
    epoch: int = 0  # finished epochs
    position: int = 0  # steps into the present epoch
    seconds: float = 0.0  # training time, each member's share
    sums: dict[str, Tensor] = field(default_factory=dict)  # (R, …) of the present epoch


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
    """Train the members of a stack, each into its run folder; the runs that were interrupted are returned.

    `resumed` are the members' checkpoints, all from one step. `show(runs, rows, share)` is told of every
    epoch, and with empty rows of the share that is done in between.
    """
    config, task, runs = runs[0].config, tasks.of(data), list(runs)
    train, epochs = data.splits["train"], config["epochs"]
    batch_size = (
        len(train) if config["batch_size"] == "all" else min(config["batch_size"], len(train))
    )
    steps = math.ceil(len(train) / batch_size)
    update, schedule, clip, lr0 = _components(runs, stack.device)
    precision = _precision(config["precision"], stack.device)
    scaling = config["precision"] == "fp16"
    p = _resume(stack, resumed) if resumed else _begin(stack, scaling)
    monitor, saved = config["stop"]["monitor"], time.monotonic()
    every, by_time = config["checkpoint"]["every"], config["checkpoint"]["unit"] == "seconds"

    while runs and p.epoch < epochs:
        clock, before = time.perf_counter(), p.seconds
        order = train[_orders(runs, p.epoch, len(train)).to(train.device)]  # (R, n)
        number = p.epoch * steps + torch.arange(steps, device=stack.device)
        at = At(lr0, number, epochs * steps, p.epoch, epochs, p.history)
        lr = schedule(at).expand(len(runs), steps)  # (R, T)
        stack.train()
        for first, last in _chunks(p.position, steps, batch_size, data, len(runs)):
            index = order[:, first * batch_size : last * batch_size]
            x, y = data.x[index], data.y[index]  # (R, several batches, …)
            outputs, losses, lengths = [], [], []
            for start in range(0, y.shape[1], batch_size):
                stop = min(start + batch_size, y.shape[1])
                for a, b in _parts(start, stop, config["accumulate"]):
                    with precision:
                        output = stack(x[:, a:b])  # (R, B, C)
                    output = output.float()
                    loss = task.loss(output, y[:, a:b])  # (R, B)
                    stack.backward(
                        loss.sum(1) / (stop - start), p.scale if scaling else None, a > start
                    )
                    outputs.append(output.detach())
                    losses.append(loss.detach())
                step = first + start // batch_size
                with (
                    torch.no_grad(),
                    _overflow_guard(stack, p) if scaling else contextlib.nullcontext(),
                ):
                    length = torch.linalg.vector_norm(stack.g, dim=1, keepdim=True)  # (R, 1)
                    if clip:
                        clip(stack.g, length)
                    p.optimizer.t += 1
                    update(stack.w, stack.g, p.optimizer, lr=lr[:, step : step + 1])
                lengths.append(length)
                if interrupted():
                    break
            done = torch.cat(losses, 1)  # (R, all examples of the chunk)
            _add(p.sums, task.sums(torch.cat(outputs, 1), done, y[:, : done.shape[1]]))
            _add(
                p.sums,
                {
                    "grad_norm": torch.cat(lengths, 1).double().sum(1),
                    "finite": done.isfinite().sum(1),
                },
            )
            p.position = first + len(lengths)
            p.seconds = before + (time.perf_counter() - clock) / len(runs)
            if interrupted() and p.position < steps:
                _checkpoint(runs, stack, p)
                return runs
            if by_time and p.position < steps and due(saved, every):
                _checkpoint(runs, stack, p)
                saved = time.monotonic()
            show(runs, [], (p.epoch + p.position / steps) / epochs)
            if not p.sums["loss"].isfinite().any():
                break  # every member has diverged; on a GPU this is the one look per chunk

        p.seconds = before + (time.perf_counter() - clock) / len(runs)
        p.epoch += 1
        rate = len(train) / max(p.seconds - before, 1e-9)
        rows = _rows(p, stack, data, task, precision, lr[:, -1].tolist(), rate, steps)
        for r, finite in enumerate(p.sums["finite"].tolist()):
            p.finite_steps[r] += steps if finite == len(train) else finite // batch_size
        p.position, p.sums = 0, {}
        for r, (run, row) in enumerate(zip(runs, rows, strict=True)):
            p.history[r].append(row)
            run.log(row)
        _keep_best(p, stack, monitor, config["stop"]["min_delta"])
        show(runs, rows, p.epoch / epochs)

        leaving = [r for r in range(len(runs)) if _ended(p, r, epochs, config["stop"]["patience"])]
        for r in leaving:
            _finish(runs[r], r, stack, p, data, task, precision)
        if leaving:
            kept = [r for r in range(len(runs)) if r not in leaving]
            runs = [runs[r] for r in kept]
            if runs:
                states = [_member_state(stack, p, r) for r in kept]
                stack = Stack([stack.member(r) for r in kept], stack.device, stack.compiled)
                update, schedule, clip, lr0 = _components(runs, stack.device)
                p = _resume(stack, states)
        if runs and (interrupted() or (due(saved, every) if by_time else p.epoch % every == 0)):
            _checkpoint(runs, stack, p)
            saved = time.monotonic()
        if interrupted():
            break
    return runs


# ---------------------------------------------------------------- before the loop


def _components(
    runs: Sequence[Run], device: torch.device
) -> tuple[Callable, Callable, Callable | None, Tensor]:
    """Update rule, schedule and clipping for these members, and their starting rates (R, 1)."""
    configs = [run.config for run in runs]
    update, schedule, clip = (build(configs, g, device) for g in ("optimizer", "schedule", "clip"))
    assert update is not None
    assert schedule is not None
    rates = [[config["optimizer"]["lr"]] for config in configs]
    return update, schedule, clip, torch.tensor(rates, dtype=torch.float32, device=device)


def _precision(name: str, device: torch.device) -> contextlib.AbstractContextManager:
    if name == "fp32":
        return contextlib.nullcontext()
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
    return torch.autocast(device.type, dtype=kind)


def _begin(stack: Stack, scaling: bool) -> Progress:
    size = stack.size
    return Progress(
        optimizer=State(stack.w),
        best={name: value.clone() for name, value in stack.values().items()},
        best_value=[math.inf] * size,
        best_epoch=[0] * size,
        history=[[] for _ in range(size)],
        finite_steps=[0] * size,
        scale=torch.full((size,), 2.0**16 if scaling else 1.0, device=stack.device),
        good_steps=torch.zeros(size, dtype=torch.long, device=stack.device),
    )


def _resume(stack: Stack, states: Sequence[dict[str, Any]]) -> Progress:
    """Put members' checkpoints into the stack, and what they say of the loop into a Progress."""
    p = _begin(stack, scaling=False)
    for r, state in enumerate(states):
        stack.load(r, state["best"])
    p.best = {name: value.clone() for name, value in stack.values().items()}
    for r, state in enumerate(states):
        stack.load(r, state["model"])
        for name, row in state["optimizer"].items():
            p.optimizer[name][r].copy_(row)
    first = states[0]
    p.optimizer.t, p.epoch, p.position = first["t"], first["epoch"], first["position"]
    p.seconds = sum(state["seconds"] for state in states) / len(states)
    p.best_value = [state["best_value"] for state in states]
    p.best_epoch = [state["best_epoch"] for state in states]
    p.history = [list(state["history"]) for state in states]
    p.finite_steps = [state["finite_steps"] for state in states]
    for name in ("scale", "good_steps"):
        setattr(p, name, torch.stack([state[name] for state in states]).to(stack.device))
    p.sums = {
        k: torch.stack([s["sums"][k] for s in states]).to(stack.device) for k in first["sums"]
    }
    return p


# ---------------------------------------------------------------- in the loop


def _orders(runs: Sequence[Run], epoch: int, n: int) -> Tensor:
    """The order of the training examples in this epoch, (R, n), from each run's own stream."""
    seeds = [run.config["seed"] for run in runs]
    return torch.stack([torch.randperm(n, generator=stream(s, "order", epoch)) for s in seeds])


def _chunks(
    first: int, steps: int, batch_size: int, data: Data, members: int
) -> Iterator[tuple[int, int]]:
    """Ranges of steps whose inputs are gathered together."""
    size = max(1, _CHUNK_BYTES // (4 * members * batch_size * math.prod(data.shape)))
    for start in range(first, steps, size):
        yield start, min(start + size, steps)


def _parts(start: int, stop: int, count: int) -> Iterator[tuple[int, int]]:
    """A batch in `count` parts (gradient accumulation)."""
    size = math.ceil((stop - start) / count)
    for a in range(start, stop, size):
        yield a, min(a + size, stop)


def _add(sums: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


@contextlib.contextmanager
def _overflow_guard(stack: Stack, p: Progress) -> Iterator[None]:
    """fp16: undo the loss scale, take back the step of members whose gradient overflowed, adapt the scale.

    Halved after an overflow, doubled after 2,000 good steps, as torch.amp.GradScaler does.
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


def evaluate(
    stack: Stack, data: Data, split: str, task: Any, precision: contextlib.AbstractContextManager
) -> dict[str, list[float]]:
    """Metrics of every member on one split: name -> (R,)."""
    positions = data.splits[split]
    size = max(1, _EVALUATION_NUMBERS // math.prod(data.shape))
    sums: dict[str, Tensor] = {}
    stack.train(False)
    with torch.no_grad():
        for index in positions.split(size):
            x, y = (
                values[index].expand(stack.size, *values[index].shape)
                for values in (data.x, data.y)
            )
            with precision:
                outputs = stack(x)
            outputs = outputs.float()
            _add(sums, task.sums(outputs, task.loss(outputs, y), y))
    return {f"{split}_{name}": value.tolist() for name, value in task.metrics(sums).items()}


def _rows(
    p: Progress,
    stack: Stack,
    data: Data,
    task: Any,
    precision: Any,
    lr: list[float],
    rate: float,
    steps: int,
) -> list[Row]:
    """One metrics row per member for the epoch that has just ended."""
    trained = {f"train_{k}": v.tolist() for k, v in task.metrics(p.sums).items()}
    columns = trained | evaluate(stack, data, "val", task, precision)
    columns["grad_norm"] = (p.sums["grad_norm"] / p.position).tolist()
    return [
        {"epoch": p.epoch, "step": (p.epoch - 1) * steps + p.position, "lr": lr[r]}
        | {name: column[r] for name, column in columns.items()}
        | {"seconds": p.seconds, "examples_per_second": rate}
        for r in range(stack.size)
    ]


def _keep_best(p: Progress, stack: Stack, monitor: str, min_delta: float) -> None:
    better = []
    for r, history in enumerate(p.history):
        value = history[-1][monitor]
        value = -value if higher_is_better(monitor) else value
        if value < p.best_value[r] - min_delta or (p.best_epoch[r] == 0 and math.isfinite(value)):
            p.best_value[r], p.best_epoch[r] = value, p.epoch
            better.append(r)
    if better:
        for name, value in stack.values().items():
            p.best[name][better] = value[better]


def _ended(p: Progress, r: int, epochs: int, patience: int | None) -> bool:
    stopped_early = patience is not None and p.epoch - p.best_epoch[r] >= patience
    return p.epoch >= epochs or stopped_early or _diverged(p.history[r])


def _diverged(history: Sequence[Row]) -> bool:
    row = history[-1]
    return not (math.isfinite(row["train_loss"]) and math.isfinite(row["val_loss"]))


# ---------------------------------------------------------------- what is left of a member


def _member_state(stack: Stack, p: Progress, r: int) -> dict[str, Any]:
    """Everything needed to go on with member r exactly where it is, alone or in another stack."""
    return {
        "model": stack.state_dict(r),
        "best": stack.state_dict(r, p.best),
        "optimizer": {name: value[r].cpu().clone() for name, value in p.optimizer.items()},
        "t": p.optimizer.t,
        "epoch": p.epoch,
        "position": p.position,
        "seconds": p.seconds,
        "best_value": p.best_value[r],
        "best_epoch": p.best_epoch[r],
        "history": p.history[r],
        "finite_steps": p.finite_steps[r],
        "sums": {name: value[r].cpu() for name, value in p.sums.items()},
        "scale": p.scale[r].cpu(),
        "good_steps": p.good_steps[r].cpu(),
    }


def _checkpoint(runs: Sequence[Run], stack: Stack, p: Progress) -> None:
    for r, run in enumerate(runs):
        state = _member_state(stack, p, r)
        if p.best_epoch[r]:
            run.save("best", _best(p, r, state["best"]))
        run.save("last", state)


def _best(p: Progress, r: int, weights: Values) -> dict[str, Any]:
    epoch = p.best_epoch[r]
    return {"model": weights, "epoch": epoch, "metrics": p.history[r][epoch - 1]}


def _finish(
    run: Run, r: int, stack: Stack, p: Progress, data: Data, task: Any, precision: Any
) -> None:
    """Evaluate member r with its best weights on every split, the test split for the only time; write all."""
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
        run.save("best", _best(p, r, stack.state_dict(r, p.best)))
    run.save("last", _member_state(stack, p, r))
    if _diverged(history):
        good = next((row for row in reversed(history) if not _diverged([row])), {})
        step = p.finite_steps[r] + 1
        reason = _divergence(run.config, step, good)
        run.finish("diverged", _split_metrics(good) | result | {"diverged_at_step": step}, reason)
        return
    solo = Stack([stack.member(r, p.best)], stack.device)
    metrics = {}
    for split in ("test", "val", "train"):
        metrics |= {k: v[0] for k, v in evaluate(solo, data, split, task, precision).items()}
    run.finish("done", metrics | result)


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
        f"{f'last good epoch: {last}' if last else 'no epoch was good'}; try {' or '.join(remedies)}"
    )
