"""What the loop carries from step to step, and how it survives: one dict per member, and back.

A member's state is all that is needed to go on exactly where it is, alone or in another stack.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainlab.adapters import Adapted
from trainlab.optimizers import State
from trainlab.stack import Stack, Values
from trainlab.store import Row, Run


@dataclass
class Progress:
    """What the loop carries from step to step besides the stack's values."""

    optimizer: State
    best: Values  # copies of the stack's values, row by row from that member's best epoch
    best_value: list[float]  # (R,) the monitored metric there, lower is better
    best_epoch: list[int]  # (R,) 0 before the first
    history: list[list[Row]]  # (R, epochs so far)
    finite_steps: list[int]  # (R,) before the first whose loss was not finite
    scale: Tensor  # (R,) of the loss, for fp16
    good_steps: Tensor  # (R,) since the scale last changed
    adapted: Adapted | None = None  # an optimizer of torch's own, which keeps its state itself
    epoch: int = 0  # finished epochs
    position: int = 0  # steps into the present epoch
    seconds: float = 0.0  # training time, each member's share
    sums: dict[str, Tensor] = field(default_factory=dict)  # (R, …) of the present epoch


def begin(stack: Stack, scaling: bool) -> Progress:
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


def resume(stack: Stack, states: Sequence[dict[str, Any]]) -> Progress:
    """Put members' checkpoints into the stack, and what they say of the loop into a Progress."""
    p = begin(stack, scaling=False)
    for r, state in enumerate(states):
        stack.load(r, state["best"])
    p.best = {name: value.clone() for name, value in stack.values().items()}
    for r, state in enumerate(states):
        stack.load(r, state["model"])
    first = states[0]
    for name in first["optimizer"]:
        rows = [state["optimizer"][name] for state in states]
        p.optimizer[name] = torch.stack(rows).to(stack.device)
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


def member_state(stack: Stack, p: Progress, r: int) -> dict[str, Any]:
    """Everything needed to go on with member r exactly where it is, alone or in another stack."""
    return {
        "model": stack.state_dict(r),
        "best": stack.state_dict(r, p.best),
        "optimizer": {name: value[r].cpu().clone() for name, value in p.optimizer.items()},
        "adapted": p.adapted.state() if p.adapted else None,
        "t": p.optimizer.t,
        "epoch": p.epoch,
        "position": p.position,
        "seconds": p.seconds,
        "threads": torch.get_num_threads(),
        "best_value": p.best_value[r],
        "best_epoch": p.best_epoch[r],
        "history": p.history[r],
        "finite_steps": p.finite_steps[r],
        "sums": {name: value[r].cpu() for name, value in p.sums.items()},
        "scale": p.scale[r].cpu(),
        "good_steps": p.good_steps[r].cpu(),
    }


def checkpoint(runs: Sequence[Run], stack: Stack, p: Progress) -> None:
    for r, run in enumerate(runs):
        state = member_state(stack, p, r)
        if p.best_epoch[r]:
            run.save("best", best_checkpoint(p, r, state["best"]))
        run.save("last", state)


def best_checkpoint(p: Progress, r: int, weights: Values) -> dict[str, Any]:
    epoch = p.best_epoch[r]
    return {"model": weights, "epoch": epoch, "metrics": p.history[r][epoch - 1]}
