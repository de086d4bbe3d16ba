"""Optimizers: update rules on the parameter matrix, as in the textbooks.

    rule(w, g, state, lr, **settings)   w, g (R, P); lr (R, 1); changes w and state

`state["m"]` is an (R, P) tensor, zero until first used; `state.t` counts the steps, this one
included. A setting is a number, or an (R, 1) column where the members of a stack differ in it.
"""

import torch
from torch import Tensor


class State(dict):
    """The optimizer's memory: name -> (R, P) tensor, and the number of steps taken."""

    def __init__(self, like: Tensor):
        super().__init__()
        self.like = like
        self.t = 0

    def __missing__(self, name: str) -> Tensor:
        self[name] = torch.zeros_like(self.like)
        return self[name]


Number = float | Tensor  # a number for all members, or a column (R, 1) float64


def _as(number: Number, like: Tensor) -> Number:
    """Columns are float64, so that 1 − β₂ keeps its digits; this is where they join `like`."""
    return number.to(like.dtype) if isinstance(number, Tensor) else number


def _descend(w: Tensor, direction: Tensor, lr: Tensor) -> None:
    """w ← w − lr · direction in one pass."""
    w.addcmul_(direction, _as(lr, w), value=-1)


def _plus(a: Tensor, b: Tensor, factor: Number, out: Tensor | None = None) -> Tensor:
    """a + factor · b in one pass."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, b, _as(factor, a), out=out)
    return torch.add(a, b, alpha=factor, out=out)


def _mean_square(v: Tensor, g: Tensor, rho: Number) -> Tensor:
    """v ← ρ v + (1 − ρ) g²."""
    return v.mul_(_as(rho, g)).addcmul_(g * _as(1 - rho, g), g)


def sgd(w: Tensor, g: Tensor, state: State, lr: Tensor) -> None:
    """w ← w − η g (Robbins & Monro 1951). With batch_size=all this is gradient descent."""
    _descend(w, g, lr)


def momentum(w: Tensor, g: Tensor, state: State, lr: Tensor, momentum: Number = 0.9) -> None:
    """Heavy ball: v ← ρ v + g; w ← w − η v (Polyak 1964). Equals torch.optim.SGD(momentum=ρ)."""
    _descend(w, _plus(g, state["v"], momentum, out=state["v"]), lr)


def nesterov(w: Tensor, g: Tensor, state: State, lr: Tensor, momentum: Number = 0.9) -> None:
    """v ← ρ v + g; w ← w − η (g + ρ v): momentum in the variables of the look-ahead point.

    Nesterov 1983, in the form of Sutskever et al. 2013. Equals torch.optim.SGD(nesterov=True).
    """
    v = _plus(g, state["v"], momentum, out=state["v"])
    _descend(w, _plus(g, v, momentum), lr)


def adagrad(w: Tensor, g: Tensor, state: State, lr: Tensor, eps: Number = 1e-7) -> None:
    """G ← G + g²; w ← w − η g / √(G + ε) (Duchi, Hazan & Singer 2011)."""
    total = state["G"].addcmul_(g, g)
    _descend(w, g * (total + _as(eps, g)).rsqrt_(), lr)


def adadelta(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    rho: Number = 0.95,
    eps: Number = 1e-6,
) -> None:
    """E ← ρE + (1−ρ)g²; Δ = g √((D + ε)/(E + ε)); D ← ρD + (1−ρ)Δ²; w ← w − η Δ.

    Zeiler 2012, arXiv:1212.5701. Equals torch.optim.Adadelta.
    """
    eps = _as(eps, g)
    gradients = _mean_square(state["E"], g, rho)
    delta = ((state["D"] + eps) / (gradients + eps)).sqrt_().mul_(g)
    _mean_square(state["D"], delta, rho)
    _descend(w, delta, lr)


def rmsprop(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    rho: Number = 0.9,
    eps: Number = 1e-7,
) -> None:
    """E ← ρE + (1−ρ)g²; w ← w − η g / √(E + ε) (Hinton 2012, lecture 6 of his course)."""
    average = _mean_square(state["E"], g, rho)
    _descend(w, g * (average + _as(eps, g)).rsqrt_(), lr)


def adam(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-7,
) -> None:
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − η m̂ / (√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).

    Kingma & Ba 2015, arXiv:1412.6980. Equals torch.optim.Adam.
    """
    m = state["m"].lerp_(g, _as(1 - beta1, g))
    v = _mean_square(state["v"], g, beta2)
    step = _as(lr / (1 - beta1**state.t), g)
    root = _as((1 - beta2**state.t) ** 0.5, g)
    w.addcdiv_(m * step, v.sqrt().div_(root).add_(_as(eps, g)), value=-1)


def adamw(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.01,
) -> None:
    """w ← (1 − η λ) w, then adam's step (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    w.mul_(_as(1 - lr * weight_decay, w))
    adam(w, g, state, lr, beta1, beta2, eps)
