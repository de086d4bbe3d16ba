"""Optimizers: update rules on the parameter matrix, as in the textbooks.

    rule(w, g, state, lr, **settings)   w, g (R, P); changes w and state

`state["m"]` is an (R, P) tensor and `state.column("c")` an (R, 1) one, both zero until first used;
`state.t` counts the steps, this one included. A setting is a number, or an (R, 1) float64 column
where the members of a stack differ in it; lr may also be (R, P), where layers have their own, and
what has lr 0 stays as it is. Two names are read by the training loop:

    state["average"]  (R, P)  the weights to evaluate instead of w
    state["lr"]       (R, 1)  the learning rate at which the rule itself has arrived

On a CPU those that torch has a fused kernel for go through it. The others, and all on a GPU, are
written for few passes over memory, and where they can for one temporary of w's size
at a time: with more, the allocator may hand the memory back after every step, and fetching it again
can cost more than the arithmetic.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainlab.config import widest

Number = float | Tensor  # a number for all members, or a column (R, 1) float64


class State(dict):
    """The optimizer's memory: name -> (R, P) or (R, 1) tensor, and the number of steps taken."""

    def __init__(self, like: Tensor):
        super().__init__()
        self.like = like
        self.t = 0

    def __missing__(self, name: str) -> Tensor:
        self[name] = torch.zeros_like(self.like)
        return self[name]

    def column(self, name: str) -> Tensor:
        """One number per member, (R, 1), in the widest floats of the device."""
        if name not in self:
            self[name] = _column(0.0, self.like)
        return self[name]


def _column(number: Number, like: Tensor) -> Tensor:
    """The number once per row of `like`, for where only a tensor will do."""
    if isinstance(number, Tensor):
        return number
    return torch.full((len(like), 1), number, dtype=widest(like.device), device=like.device)


def _as(number: Number, like: Tensor) -> Number:
    """Columns are float64, so that 1 − β₂ keeps its digits; this is where they join `like`."""
    return number.to(like.dtype) if isinstance(number, Tensor) else number


def _plus(a: Tensor, b: Tensor, factor: Number, out: Tensor | None = None) -> Tensor:
    """a + factor · b in one pass."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, b, _as(factor, a), out=out)
    return torch.add(a, b, alpha=factor, out=out)


def _descend(w: Tensor, direction: Tensor, lr: Number) -> None:
    """w ← w − lr · direction in one pass."""
    _plus(w, direction, -lr, out=w)


def _average(m: Tensor, g: Tensor, beta: Number) -> Tensor:
    """m ← β m + (1 − β) g in one pass."""
    return m.lerp_(g, _as(1 - beta, g))


def _squares(v: Tensor, g: Tensor, rho: Number) -> Tensor:
    """v ← ρ v + g², in place.

    The running mean square E ← ρE + (1−ρ)g² of the formulas is (1 − ρ) v. The rules put that factor
    where it costs no pass.
    """
    return v.mul_(_as(rho, g)).addcmul_(g, g)


def _over_root(m: Tensor, v: Tensor, scale: Number, eps: Number) -> Tensor:
    """m / (s √v + ε)."""
    # Not sqrt: on CPUs pow(-0.5) and a division together take half its time.
    root = v.pow(-0.5)
    torch.div(_as(_column(scale, v), v), root, out=root).add_(_as(eps, v))
    return torch.div(m, root, out=root)


def _in_one_pass(
    kernel: Callable, tensors: Sequence[Tensor], lr: Number, state: State | None, **numbers: Number
) -> bool:
    """Let torch's fused kernel take the step on a CPU: one pass over memory instead of many.

    Row by row, each with its own numbers, so that a member of a stack gets the bits of its solo
    run. False, and nothing done, on other devices and where rates differ within a row.
    """
    w = tensors[0]
    if w.device.type != "cpu" or (isinstance(lr, Tensor) and lr.shape[1:] != (1,)):
        return False
    steps = [] if state is None else [[torch.tensor(float(state.t))]]
    columns = {
        name: number.flatten().tolist() if isinstance(number, Tensor) else [number] * len(w)
        for name, number in (numbers | {"lr": lr}).items()
    }
    for r, rows in enumerate(zip(*tensors, strict=True)):
        own = {name: values[r] for name, values in columns.items()}
        kernel(*([row] for row in rows), *steps, maximize=False, **own)
    return True


# ---------------------------------------------------------------- one learning rate for all weights


def sgd(w: Tensor, g: Tensor, state: State, lr: Number) -> None:
    """w ← w − η g (Robbins & Monro 1951). With batch_size=all this is gradient descent."""
    _descend(w, g, lr)


def momentum(w: Tensor, g: Tensor, state: State, lr: Number, momentum: Number = 0.9) -> None:
    """Heavy ball: v ← ρ v + g; w ← w − η v (Polyak 1964). Equals torch.optim.SGD(momentum=ρ)."""
    _descend(w, _plus(g, state["v"], momentum, out=state["v"]), lr)


def momentum_ewma(w: Tensor, g: Tensor, state: State, lr: Number, beta: Number = 0.9) -> None:
    """v ← β v + (1−β) g, at first v = g; w ← w − η v: momentum as a running mean of the gradients.

    Steps are as long as sgd's where the heavy ball's are 1/(1−β) times as long. Equals
    torch.optim.SGD(momentum=β, dampening=β).
    """
    _descend(w, _average(state["v"], g, beta if state.t > 1 else 0.0), lr)


def nesterov(w: Tensor, g: Tensor, state: State, lr: Number, momentum: Number = 0.9) -> None:
    """v ← ρ v + g; w ← w − η (g + ρ v): momentum in the variables of the look-ahead point.

    Nesterov 1983, in the form of Sutskever et al. 2013. Equals torch.optim.SGD(nesterov=True).
    """
    settings = dict(momentum=momentum, weight_decay=0.0, dampening=0.0)
    kernel = partial(torch._fused_sgd_, nesterov=True, is_first_step=False)
    if _in_one_pass(kernel, [w, g, state["v"]], lr, None, **settings):
        return
    v = _plus(g, state["v"], momentum, out=state["v"])
    _descend(w, g, lr)
    _descend(w, v, lr * momentum)


def asgd(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    decay: Number = 1e-4,
    power: Number = 0.75,
    start: Number = 1e6,
) -> None:
    """w ← (1 − λη_t) w − η_t g with η_t = η / (1 + λη(t−1))^α; the mean of w is evaluated.

    The mean begins after `start` steps; until then it is w itself. Polyak & Juditsky 1992,
    "Acceleration of stochastic approximation by averaging", with the rates of Xu 2011,
    arXiv:1107.2490. Equals torch.optim.ASGD(lambd=λ, alpha=α, t0=start), whose "ax" is the mean.
    """
    rate = lr / (1 + decay * lr * (state.t - 1)) ** power
    state.column("lr").copy_(_highest(rate, w))
    w.mul_(_as(1 - decay * rate, w))
    _descend(w, g, rate)
    averaged = (state.t - 1 - _column(start, w)).clamp_(min=1)
    state["average"].lerp_(w, _as(1 / averaged, w))


def lion(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.99,
    weight_decay: Number = 0.0,
) -> None:
    """w ← (1 − ηλ) w − η sign(β₁m + (1−β₁)g); then m ← β₂m + (1−β₂)g.

    Chen et al. 2023, arXiv:2302.06675. Every weight moves by η: choose it 3 to 10 times smaller,
    and λ as much larger, than for adamw.
    """
    m = state["m"]
    w.mul_(_as(1 - lr * weight_decay, w))
    _descend(w, m.lerp(g, _as(1 - beta1, g)).sign_(), lr)
    _average(m, g, beta2)


# ---------------------------------------------------------------- a learning rate for each weight


def rprop(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    shrink: Number = 0.5,
    grow: Number = 1.2,
    min_step: Number = 1e-6,
    max_step: Number = 50.0,
) -> None:
    """w ← w − s sign(g); a weight's step s grows while its gradient keeps its sign.

    Where the sign has changed, s shrinks and the weight waits for a step. The first s is η: a
    schedule changes nothing, but at 0 the weights stay as they are. For full batches only: noise
    flips signs. Riedmiller & Braun 1993, without weight-backtracking. Equals torch.optim.Rprop.
    """
    size, before = state["size"], state["sign"]
    if state.t == 1:
        size.add_(_as(lr, w))
    sign = (g * (lr > 0)).sign_()
    torch.mul(sign, before, out=before)
    turned = before < 0
    # 1 where the sign is new or zero, `grow` where it is the same
    factor = before.mul_(_as(grow - 1, w)).add_(1)
    size.mul_(torch.where(turned, _as(shrink, w), factor))
    size.clamp_(min=_as(min_step, w)).clamp_(max=_as(max_step, w))
    before.copy_(sign.masked_fill_(turned, 0))
    w.addcmul_(sign, size, value=-1)


def adagrad(w: Tensor, g: Tensor, state: State, lr: Number, eps: Number = 1e-7) -> None:
    """G ← G + g²; w ← w − η g / √(G + ε) (Duchi, Hazan & Singer 2011).

    torch.optim.Adagrad has ε outside of the root. Here G holds it from the first step on.
    """
    total = state["G"]
    if state.t == 1:
        total.add_(_as(eps, total))
    settings = dict(lr_decay=0.0, weight_decay=0.0, eps=0.0)
    if not _in_one_pass(torch._fused_adagrad_, [w, g, total], lr, state, **settings):
        total.addcmul_(g, g)
        _descend(w, total.pow(-0.5).mul_(g), lr)


def rmsprop(
    w: Tensor, g: Tensor, state: State, lr: Number, rho: Number = 0.9, eps: Number = 1e-7
) -> None:
    """E ← ρE + (1−ρ)g²; w ← w − η g / √(E + ε) (Hinton 2012, lecture 6 of his course).

    torch.optim.RMSprop has ε outside of the root.
    """
    squares = _squares(state["v"], g, rho)
    inverse = (squares + _as(eps / (1 - rho), g)).pow_(-0.5)
    _descend(w, inverse.mul_(g), lr / (1 - rho) ** 0.5)


def adadelta(
    w: Tensor, g: Tensor, state: State, lr: Number, rho: Number = 0.95, eps: Number = 1e-6
) -> None:
    """E ← ρE + (1−ρ)g²; Δ = g √((D + ε)/(E + ε)); D ← ρD + (1−ρ)Δ²; w ← w − η Δ.

    Zeiler 2012, arXiv:1212.5701. Equals torch.optim.Adadelta.
    """
    gradients, deltas = _squares(state["gradients"], g, rho), state["deltas"]
    eps = _as(eps / (1 - rho), g)
    delta = (gradients + eps).div_(deltas + eps).pow_(-0.5).mul_(g)
    _squares(deltas, delta, rho)
    _descend(w, delta, lr)


# ---------------------------------------------------------------- adam and its kin


def _second_moment(g: Tensor, state: State, beta2: Number) -> tuple[Tensor, Number]:
    """v and s with s √v = √v̂, where v̂ is adam's bias-corrected mean square of the gradients."""
    v = _squares(state["v"], g, beta2)
    return v, ((1 - beta2) / (1 - beta2**state.t)) ** 0.5


def _direction(
    g: Tensor, state: State, beta1: Number, beta2: Number, eps: Number, amsgrad: bool = False
) -> tuple[Tensor, Number]:
    """Adam's direction m̂ / (√v̂ + ε), as a tensor and the number by which to multiply it."""
    m, v = _average(state["m"], g, beta1), state["v"]
    v.mul_(_as(beta2, v)).addcmul_(g * _as(1 - beta2, g), g)
    if amsgrad:
        v = torch.maximum(state["largest"], v, out=state["largest"])
    return _over_root(m, v, (1 - beta2**state.t) ** -0.5, eps), 1 / (1 - beta1**state.t)


def _adam(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number,
    beta2: Number,
    eps: Number,
    amsgrad: bool = False,
    weight_decay: Number = 0.0,
) -> None:
    """The step of adam, amsgrad and adamw."""

    def kernel(w: list, g: list, m: list, v: list, largest: list, *rest: Any, **numbers: Any):
        largest = largest if amsgrad else []
        torch._fused_adamw_(w, g, m, v, largest, *rest, amsgrad=amsgrad, **numbers)

    memories = [state["m"], state["v"], state["largest" if amsgrad else "v"]]
    numbers = dict(beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    if not _in_one_pass(kernel, [w, g, *memories], lr, state, **numbers):
        w.mul_(_as(1 - lr * weight_decay, w))
        direction, scale = _direction(g, state, beta1, beta2, eps, amsgrad)
        _descend(w, direction, lr * scale)


def adam(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-7,
) -> None:
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − η m̂ / (√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).

    Kingma & Ba 2015, arXiv:1412.6980. Equals torch.optim.Adam.
    """
    _adam(w, g, state, lr, beta1, beta2, eps)


def amsgrad(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-7,
) -> None:
    """Adam with the largest v so far in place of v, so that no rate ever grows again.

    Reddi, Kale & Kumar 2018, arXiv:1904.09237. Equals torch.optim.Adam(amsgrad=True).
    """
    _adam(w, g, state, lr, beta1, beta2, eps, amsgrad=True)


def adamw(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.01,
) -> None:
    """w ← (1 − ηλ) w, then adam's step (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Equals torch.optim.AdamW.
    """
    _adam(w, g, state, lr, beta1, beta2, eps, weight_decay=weight_decay)


def nadam(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    momentum_decay: Number = 0.004,
) -> None:
    """Adam with Nesterov's look-ahead: m̂ = (1−μ_t) g / (1−Πμ_i) + μ_{t+1} m / (1−μ_{t+1}Πμ_i).

    Πμ_i is over i ≤ t, and μ_t = β₁(1 − ½·0.96^(tψ)). Dozat 2016. Equals torch.optim.NAdam.
    """
    now, coming = (beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (state.t, state.t + 1))
    # 1 − Πμ_i rather than Πμ_i: like all memories it begins with 0
    correction = state.column("correction").sub_(1).mul_(now).add_(1)
    of_g, of_m = (1 - now) / correction, coming / (1 - coming * (1 - correction))
    m = _average(state["m"], g, beta1).lerp(g, _as(of_g / (of_g + of_m), g))
    v, scale = _second_moment(g, state, beta2)
    _descend(w, _over_root(m, v, scale, eps), lr * (of_g + of_m))


def radam(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
) -> None:
    """Adam whose step is multiplied by r_t, the trust in v; w ← w − η m̂ while there is none.

    r_t = √((ρ_t−4)(ρ_t−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρ_t)) where ρ_t = ρ∞ − 2tβ₂ᵗ/(1−β₂ᵗ) > 5,
    ρ∞ = 2/(1−β₂) − 1. Liu et al. 2020, arXiv:1908.03265. Equals torch.optim.RAdam.
    """
    m, beta2 = _average(state["m"], g, beta1), _column(beta2, w)
    v, scale = _second_moment(g, state, beta2)
    power = beta2**state.t
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * state.t * power / (1 - power)
    trust = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    trusted = length > 5
    root = torch.where(trusted, trust.sqrt(), 1.0)
    # without trust m / (0 √v + 1); torch's ε stands beside the root of the uncorrected v
    beside = torch.where(trusted, eps / (1 - power).sqrt(), 1.0)
    direction = _over_root(m, v, scale * trusted, beside)
    _descend(w, direction, lr * root / (1 - beta1**state.t))


def adamax(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
) -> None:
    """m ← β₁m + (1−β₁)g; u ← max(β₂u, |g| + ε); w ← w − η m / ((1−β₁ᵗ) u).

    Adam with the infinity norm, section 7.1 of arXiv:1412.6980. Equals torch.optim.Adamax.
    """
    m, u = _average(state["m"], g, beta1), state["u"]
    torch.maximum(u.mul_(_as(beta2, u)), g.abs().add_(_as(eps, g)), out=u)
    _descend(w, m / u, lr / (1 - beta1**state.t))


# ---------------------------------------------------------------- rules that do without a schedule


def _highest(lr: Number, like: Tensor) -> Tensor:
    """Each member's learning rate (R, 1): where layers have their own, the highest."""
    return _column(lr, like).amax(1, keepdim=True)


def schedule_free(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
) -> None:
    """z ← z − ηu; x ← (1−c)x + cz; y = (1−β₁)z + β₁x with u = g(y) / (√v̂ + ε) + λy.

    w is y, where gradients are taken; x is evaluated: the mean of z with weights max η² (c = 1/t
    where η is constant, the weights of a warm-up count less). Schedule-free AdamW of Defazio et al.
    2024, arXiv:2405.15682; equals schedulefree.AdamWScheduleFree. 0 < β₁ < 1.
    """
    highest = state.column("highest")
    weight = torch.maximum(highest, _highest(lr, w), out=highest) ** 2
    total = state.column("weights").add_(weight)
    c = weight / total.clamp(min=torch.finfo(total.dtype).tiny)
    u = _over_root(g, *_second_moment(g, state, beta2), eps)
    u = _plus(u, w, weight_decay, out=u)
    offset = state["offset"]  # z − y, which begins with 0 and gives x = y − (1/β₁ − 1)(z − y)
    _descend(offset, u, lr * beta1)
    _descend(_plus(w, offset, c, out=w), u, lr * (1 - beta1))
    offset.mul_(_as(1 - c, w))
    _plus(w, offset, 1 - 1 / beta1, out=state["average"])


def hypergradient(
    w: Tensor,
    g: Tensor,
    state: State,
    lr: Number,
    rule: str = "sgd",
    hyper_lr: Number = 1e-4,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-7,
) -> None:
    """η ← η + β_h g_t·u_{t−1}; w ← w − ηu_t: the learning rate learns by gradient descent too.

    u is g (`rule` sgd) or adam's m̂ / (√v̂ + ε), and −g_t·u_{t−1} is the derivative of the loss in
    the η of the step before. Baydin et al. 2018, arXiv:1703.04782. What η has gained is added to
    the schedule's rate; layers keep their multiples of it.
    """
    start, last, gain = _highest(lr, w), state["direction"], state.column("gain")
    gain.add_(hyper_lr * torch.linalg.vecdot(g, last)[:, None])
    rate = torch.add(start, gain, out=state.column("lr"))
    direction, scale = (g, 1.0) if rule == "sgd" else _direction(g, state, beta1, beta2, eps)
    share = torch.where(start > 0, lr / start, 1.0)
    torch.mul(direction, _as(share * scale, w), out=last)
    _descend(w, last, rate)
