"""Any `torch.optim.Optimizer` as the optimizer of a single run.

An optimizer is one if what its YAML names has `params` as its first parameter, as torch's classes
have. It gets the model's parameters as torch expects them; they are views into the parameter
matrix, and their `.grad` views into the gradient matrix, so the loop around it is the same.
"""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from trainlab.config import UserError


def is_torchs(make: Callable) -> bool:
    """Whether `make(params, **settings)` makes torch optimizers."""
    return next(iter(signature(make).parameters), None) == "params"


class Adapted:
    """Torch optimizers over the parameters of one model, stepped at the schedule's rate.

    `make(params)` gives an optimizer, or several that share the parameters out.
    """

    def __init__(
        self,
        make: Callable[[Iterable], torch.optim.Optimizer | Sequence[torch.optim.Optimizer]],
        parameters: dict[str, nn.Parameter],
        gradients: Sequence[Tensor],
        lr: float,
        multipliers: dict[str, float] | None,
    ):
        self.lr = lr
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        try:
            made = make(_groups(parameters, lr, multipliers))
        except ValueError as error:
            raise UserError(f"optimizer: {error}") from error
        self.optimizers = [made] if isinstance(made, torch.optim.Optimizer) else list(made)
        self.rates = [[g["lr"] for g in optimizer.param_groups] for optimizer in self.optimizers]

    def step(self, lr: float, gradient: Callable[[], Tensor]) -> None:
        """One step; `gradient()` computes loss and gradients anew, for those that ask (lbfgs)."""
        share = lr / self.lr if self.lr else 0.0
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            optimizer.step(gradient) if _asks_again(optimizer) else optimizer.step()

    def state(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def _asks_again(optimizer: torch.optim.Optimizer) -> bool:
    closure = signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _groups(
    parameters: dict[str, nn.Parameter], lr: float, multipliers: dict[str, float] | None
) -> list:
    """The parameters, or one group of them for each learning rate."""
    if not multipliers:
        return list(parameters.values())
    groups: dict[float, list[nn.Parameter]] = {}
    for name, factor in factors(list(parameters), multipliers).items():
        groups.setdefault(factor, []).append(parameters[name])
    return [{"params": group, "lr": lr * factor} for factor, group in groups.items()]


def factors(names: Sequence[str], multipliers: dict[str, float]) -> dict[str, float]:
    """The learning-rate multiplier of each parameter; of several patterns that fit, the last.

    Raises UserError where a pattern fits no parameter.

    >>> factors(["1.weight", "1.bias", "3.weight"], {"1.*": 0.1, "*.bias": 2})
    {'1.weight': 0.1, '1.bias': 2, '3.weight': 1.0}
    """
    found = dict.fromkeys(names, 1.0)
    for pattern, factor in multipliers.items():
        fitting = [name for name in names if fnmatch(name, pattern)]
        if not fitting:
            raise UserError(
                f"lr_multipliers: no parameter is called {pattern}. There are: {', '.join(names)}."
            )
        found |= dict.fromkeys(fitting, factor)
    return found


def muon(
    params: Iterable,
    lr: float = 0.02,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    weight_decay: float = 0.0,
    companion_lr: float = 3e-4,
    companion_weight_decay: float = 0.01,
) -> list[torch.optim.Optimizer]:
    """Momentum whose matrices are made orthogonal (torch.optim.Muon), with AdamW for the rest.

    Convolutions' kernels count as matrices (channels, everything else), as Jordan has it; biases
    and the parameters of normalizations go to AdamW with β 0.9 and 0.95. Jordan 2024,
    https://kellerjordan.github.io/posts/muon/.
    """
    groups = [g if isinstance(g, dict) else {"params": [g], "lr": lr} for g in params]
    matrices, others = [], []
    for group in groups:
        for parameter in group["params"]:
            if parameter.dim() < 2:
                share = group["lr"] / lr if lr else 1.0
                others.append({"params": [parameter], "lr": companion_lr * share})
                continue
            matrix = nn.Parameter(parameter.detach().flatten(1))
            matrix.grad = parameter.grad.flatten(1)
            matrices.append({"params": [matrix], "lr": group["lr"]})
    settings = dict(momentum=momentum, nesterov=nesterov, ns_steps=ns_steps)
    made: list[torch.optim.Optimizer] = []
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, **settings))
    if others:
        made.append(
            torch.optim.AdamW(
                others, lr=companion_lr, betas=(0.9, 0.95), weight_decay=companion_weight_decay
            )
        )
    return made
