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


def _descend(w: Tensor, direction: Tensor, lr: Tensor) -> None:
    """w ← w − lr · direction in one pass."""
    w.addcmul_(direction, lr, value=-1)


def _plus(a: Tensor, b: Tensor, factor: float | Tensor) -> Tensor:
    """a + factor · b in one pass."""
    return (
        torch.addcmul(a, b, factor) if isinstance(factor, Tensor) else torch.add(a, b, alpha=factor)
    )


def _accumulate(v: Tensor, g: Tensor, factor: float | Tensor) -> Tensor:
    """v ← g + factor · v in one pass."""
    if isinstance(factor, Tensor):
        return torch.addcmul(g, v, factor, out=v)
    return torch.add(g, v, alpha=factor, out=v)


def sgd(w: Tensor, g: Tensor, state: State, lr: Tensor) -> None:
    """w ← w − η g (Robbins & Monro 1951). With batch_size=all this is gradient descent."""
    _descend(w, g, lr)


def momentum(
    w: Tensor, g: Tensor, state: State, lr: Tensor, momentum: float | Tensor = 0.9
) -> None:
    """Heavy ball: v ← ρ v + g; w ← w − η v (Polyak 1964). Equals torch.optim.SGD(momentum=ρ)."""
    _descend(w, _accumulate(state["v"], g, momentum), lr)


def nesterov(
    w: Tensor, g: Tensor, state: State, lr: Tensor, momentum: float | Tensor = 0.9
) -> None:
    """v ← ρ v + g; w ← w − η (g + ρ v): momentum in the variables of the look-ahead point.

    Nesterov 1983, in the form of Sutskever et al. 2013. Equals torch.optim.SGD(nesterov=True).
    """
    v = _accumulate(state["v"], g, momentum)
    _descend(w, _plus(g, v, momentum), lr)


def adagrad(w: Tensor, g: Tensor, state: State, lr: Tensor, eps: float | Tensor = 1e-7) -> None:
    """G ← G + g²; w ← w − η g / √(G + ε) (Duchi, Hazan & Singer 2011)."""
    total = state["G"].addcmul_(g, g)
    _descend(w, g * (total + eps).rsqrt_(), lr)


def adadelta(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    rho: float | Tensor = 0.95,
    eps: float | Tensor = 1e-6,
) -> None:
    """E ← ρE + (1−ρ)g²; Δ = g √((D + ε)/(E + ε)); D ← ρD + (1−ρ)Δ²; w ← w − η Δ.

    Zeiler 2012, arXiv:1212.5701. Equals torch.optim.Adadelta.
    """
    gradients, updates = state["E"], state["D"]
    gradients.lerp_(g.square(), _weight(1 - rho, g))
    delta = ((updates + eps) / (gradients + eps)).sqrt_().mul_(g)
    updates.lerp_(delta.square(), _weight(1 - rho, g))
    _descend(w, delta, lr)


def rmsprop(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    rho: float | Tensor = 0.9,
    eps: float | Tensor = 1e-7,
) -> None:
    """E ← ρE + (1−ρ)g²; w ← w − η g / √(E + ε) (Hinton 2012, lecture 6 of his course)."""
    average = state["E"].lerp_(g.square(), _weight(1 - rho, g))
    _descend(w, g * (average + eps).rsqrt_(), lr)


def adam(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    beta1: float | Tensor = 0.9,
    beta2: float | Tensor = 0.999,
    eps: float | Tensor = 1e-7,
) -> None:
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − η m̂ / (√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).

    Kingma & Ba 2015, arXiv:1412.6980. Equals torch.optim.Adam.
    """
    m = state["m"].lerp_(g, _weight(1 - beta1, g))
    v = state["v"].lerp_(g.square(), _weight(1 - beta2, g))
    step = lr / (1 - beta1**state.t)
    denominator = v.sqrt().div_((1 - beta2**state.t) ** 0.5).add_(eps)
    _descend(w, m / denominator, step)


def adamw(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Tensor,
    beta1: float | Tensor = 0.9,
    beta2: float | Tensor = 0.999,
    eps: float | Tensor = 1e-8,
    weight_decay: float | Tensor = 0.01,
) -> None:
    """w ← (1 − η λ) w, then adam's step (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    w.mul_(1 - lr * weight_decay)
    adam(w, g, state, lr, beta1, beta2, eps)


def _weight(share: float | Tensor, like: Tensor) -> float | Tensor:
    """lerp wants a tensor weight of the data's type."""
    return share.to(like) if isinstance(share, Tensor) else share
