"""Update rules against torch.optim and against float64 recursions written from the formulas."""

import pytest
import torch

from trainlab import optimizers
from trainlab.optimizers import State

torch.manual_seed(0)
CURVATURE = torch.logspace(-1, 1, 12, dtype=torch.float64)


def quadratic(w):
    return 0.5 * (CURVATURE.to(w) * w * w).sum()


def rosenbrock(w):
    return (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum() / 100


def gradient(objective, w):
    w = w.detach().clone().requires_grad_()
    return torch.autograd.grad(objective(w), w)[0]


def ours(rule, objective, lr, steps=100, dtype=torch.float64, **settings):
    w = torch.linspace(-1, 1, 12, dtype=dtype)[None].clone()
    state, column = State(w), torch.tensor([[lr]], dtype=dtype)
    path = []
    for _ in range(steps):
        state.t += 1
        rule(w, gradient(objective, w[0])[None], state, column, **settings)
        path.append(w[0].clone())
    return torch.stack(path)


def torchs(optimizer, objective, steps=100, **settings):
    w = torch.linspace(-1, 1, 12, dtype=torch.float64).requires_grad_()
    optimizer = optimizer([w], **settings)
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        objective(w).backward()
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


CASES = {
    "sgd": (dict(lr=0.05), torch.optim.SGD, dict(lr=0.05)),
    "momentum": (dict(lr=0.02, momentum=0.8), torch.optim.SGD, dict(lr=0.02, momentum=0.8)),
    "nesterov": (
        dict(lr=0.02, momentum=0.8),
        torch.optim.SGD,
        dict(lr=0.02, momentum=0.8, nesterov=True),
    ),
    "adagrad": (dict(lr=0.1, eps=1e-20), torch.optim.Adagrad, dict(lr=0.1, eps=1e-10)),
    "adadelta": (dict(lr=1.0, rho=0.9), torch.optim.Adadelta, dict(lr=1.0, rho=0.9, eps=1e-6)),
    "rmsprop": (
        dict(lr=0.01, rho=0.95, eps=1e-20),
        torch.optim.RMSprop,
        dict(lr=0.01, alpha=0.95, eps=1e-10),
    ),
    "adam": (
        dict(lr=0.05, beta1=0.8, beta2=0.99, eps=1e-7),
        torch.optim.Adam,
        dict(lr=0.05, betas=(0.8, 0.99), eps=1e-7),
    ),
    "adamw": (
        dict(lr=0.05, beta1=0.8, beta2=0.99, eps=1e-7, weight_decay=0.1),
        torch.optim.AdamW,
        dict(lr=0.05, betas=(0.8, 0.99), eps=1e-7, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("objective", [quadratic, rosenbrock])
@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name, objective):
    settings, optimizer, torch_settings = CASES[name]
    path = ours(getattr(optimizers, name), objective, **settings)
    torch.testing.assert_close(
        path, torchs(optimizer, objective, **torch_settings), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("name", ["adagrad", "rmsprop"])
def test_epsilon_stands_under_the_root(name):
    """w ← w − η g / √(E + ε), as the catalogue defines it; torch adds ε outside."""
    lr, eps, rho = 0.1, 0.01, 0.9
    w, e = torch.linspace(-1, 1, 12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    settings = {"eps": eps} | ({"rho": rho} if name == "rmsprop" else {})
    path = ours(getattr(optimizers, name), quadratic, lr, **settings)
    for step in range(100):
        g = CURVATURE * w
        e = e + g * g if name == "adagrad" else rho * e + (1 - rho) * g * g
        w = w - lr * g / (e + eps).sqrt()
        torch.testing.assert_close(path[step], w)


@pytest.mark.parametrize("name", CASES)
def test_members_with_their_own_settings_equal_solo_runs(name):
    """Every number may be a column; rows never mix."""
    rule, (settings, _, _) = getattr(optimizers, name), CASES[name]
    members = [{k: v * scale for k, v in settings.items()} for scale in (1.0, 0.5, 0.9)]
    columns = {k: torch.tensor([[m[k]] for m in members], dtype=torch.float64) for k in settings}
    w = torch.linspace(-1, 1, 12, dtype=torch.float64).repeat(3, 1)
    state = State(w)
    for _ in range(30):
        state.t += 1
        g = torch.stack([gradient(rosenbrock, row) for row in w])
        rule(w, g, state, **columns)
    for r, member in enumerate(members):
        torch.testing.assert_close(w[r], ours(rule, rosenbrock, steps=30, **member)[-1])


@pytest.mark.parametrize("name", CASES)
def test_going_on_from_a_saved_state_is_exact(name):
    rule, (settings, _, _) = getattr(optimizers, name), CASES[name]
    lr = torch.tensor([[settings["lr"]]])
    rest = {k: v for k, v in settings.items() if k != "lr"}

    def advance(w, state, steps):
        for _ in range(steps):
            state.t += 1
            rule(w, gradient(quadratic, w[0])[None], state, lr, **rest)

    w = torch.linspace(-1, 1, 12)[None].clone()
    state = State(w)
    advance(w, state, 5)
    copy, saved = w.clone(), {k: v.clone() for k, v in state.items()}
    other = State(copy)
    other.update(saved)
    other.t = state.t
    advance(w, state, 5)
    advance(copy, other, 5)
    assert torch.equal(w, copy)
