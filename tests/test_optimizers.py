"""Update rules against torch.optim and against float64 recursions written from the formulas."""

import inspect
from itertools import islice

import pytest
import torch
import yaml

from trainlab import optimizers
from trainlab.config import CONF
from trainlab.optimizers import State

torch.manual_seed(0)
CURVATURE = torch.logspace(-1, 1, 12, dtype=torch.float64)
START = torch.linspace(-1, 1, 12, dtype=torch.float64)


def quadratic(w):
    return 0.5 * (CURVATURE.to(w) * w * w).sum()


def rosenbrock(w):
    return (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum() / 100


def gradient(objective, w):
    w = w.detach().clone().requires_grad_()
    return torch.autograd.grad(objective(w), w)[0]


def column(number):
    return torch.tensor([[number]], dtype=torch.float64)


def steps(update, objective, lr, w0=START, state=None, **settings):
    """The weights (12,) after each step, and the memory; without end."""
    w = w0[None].clone()
    state, lr = State(w) if state is None else state, lr if torch.is_tensor(lr) else column(lr)
    while True:
        state.t += 1
        update(w, gradient(objective, w[0])[None], state, lr, **settings)
        yield w[0].clone(), state


def ours(update, objective, lr, n=100, memory=None, **settings):
    """The path (n, 12) of the weights, or of an entry of the memory."""
    path = islice(steps(update, objective, lr, **settings), n)
    return torch.stack([state[memory][0].clone() if memory else w for w, state in path])


@pytest.fixture
def float64():
    """torch keeps the scalars of its optimizers in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def torchs(optimizer, objective, n=100, memory=None, **settings):
    w = START.clone().requires_grad_()
    optimizer = optimizer([w], **settings)
    path = []
    for _ in range(n):
        optimizer.zero_grad()
        objective(w).backward()
        optimizer.step()
        path.append((optimizer.state[w][memory] if memory else w.detach()).clone())
    return torch.stack(path)


MOMENTS, BETAS = dict(beta1=0.8, beta2=0.99, eps=1e-7), dict(betas=(0.8, 0.99), eps=1e-7)
# Name -> our settings, and torch's optimizer with its settings for the same.
TORCHS = {
    "sgd": (dict(lr=0.05), torch.optim.SGD, dict(lr=0.05)),
    "momentum": (dict(lr=0.02, momentum=0.8), torch.optim.SGD, dict(lr=0.02, momentum=0.8)),
    "momentum_ewma": (
        dict(lr=0.05, beta=0.8),
        torch.optim.SGD,
        dict(lr=0.05, momentum=0.8, dampening=0.8),
    ),
    "nesterov": (
        dict(lr=0.02, momentum=0.8),
        torch.optim.SGD,
        dict(lr=0.02, momentum=0.8, nesterov=True),
    ),
    "asgd": (
        dict(lr=0.05, decay=0.1, power=0.6, start=20.0),
        torch.optim.ASGD,
        dict(lr=0.05, lambd=0.1, alpha=0.6, t0=20.0),
    ),
    "rprop": (
        dict(lr=0.05, shrink=0.4, grow=1.3, min_step=1e-3, max_step=0.1),
        torch.optim.Rprop,
        dict(lr=0.05, etas=(0.4, 1.3), step_sizes=(1e-3, 0.1)),
    ),
    "adagrad": (dict(lr=0.1, eps=1e-20), torch.optim.Adagrad, dict(lr=0.1, eps=1e-10)),
    "adadelta": (dict(lr=1.0, rho=0.9), torch.optim.Adadelta, dict(lr=1.0, rho=0.9, eps=1e-6)),
    "rmsprop": (
        dict(lr=0.01, rho=0.95, eps=1e-20),
        torch.optim.RMSprop,
        dict(lr=0.01, alpha=0.95, eps=1e-10),
    ),
    "adam": (dict(lr=0.05, **MOMENTS), torch.optim.Adam, dict(lr=0.05, **BETAS)),
    "amsgrad": (dict(lr=0.05, **MOMENTS), torch.optim.Adam, dict(lr=0.05, amsgrad=True, **BETAS)),
    "adamw": (
        dict(lr=0.05, weight_decay=0.1, **MOMENTS),
        torch.optim.AdamW,
        dict(lr=0.05, weight_decay=0.1, **BETAS),
    ),
    "nadam": (
        dict(lr=0.02, momentum_decay=0.1, **MOMENTS),
        torch.optim.NAdam,
        dict(lr=0.02, momentum_decay=0.1, **BETAS),
    ),
    # A large ε shows where it stands; the member below with half of β₂ is never trusted.
    "radam": (
        dict(lr=0.02, beta1=0.8, beta2=0.99, eps=0.01),
        torch.optim.RAdam,
        dict(lr=0.02, betas=(0.8, 0.99), eps=0.01),
    ),
    "adamax": (dict(lr=0.05, **MOMENTS), torch.optim.Adamax, dict(lr=0.05, **BETAS)),
}


def lion(g, w, t, m, lr, beta1, beta2, weight_decay):
    update = torch.sign(beta1 * m + (1 - beta1) * g) + weight_decay * w
    return w - lr * update, beta2 * m + (1 - beta2) * g


def momentum_ewma(g, w, t, v, lr, beta):
    v = g if t == 1 else beta * v + (1 - beta) * g
    return w - lr * v, v


def adam_direction(g, t, m, v, beta1, beta2, eps):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    return m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps), m, v


def schedule_free(g, y, t, memory, lr, beta1, beta2, eps, weight_decay):
    """Algorithm 1 of arXiv:2405.15682 in its own variables x, z, without warm-up."""
    x, z, v = memory or (y, y, 0 * y)
    v = beta2 * v + (1 - beta2) * g * g
    z = z - lr * (g / ((v / (1 - beta2**t)).sqrt() + eps) + weight_decay * y)
    x = (1 - 1 / t) * x + z / t
    return (1 - beta1) * z + beta1 * x, (x, z, v)


OWN = {
    "lion": dict(lr=0.01, beta1=0.8, beta2=0.95, weight_decay=0.1),
    "schedule_free": dict(lr=0.05, weight_decay=0.1, **MOMENTS),
    "hypergradient": dict(lr=0.01, hyper_lr=1e-4, rule="sgd"),
    "hypergradient adam": dict(lr=0.01, hyper_lr=1e-4, rule="adam", **MOMENTS),
}
CASES = {name: settings for name, (settings, _, _) in TORCHS.items()} | OWN


def rule_of(name):
    return getattr(optimizers, name.split()[0])


FILES = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("optimizer/*.yaml")}
RULES = {
    option: node["_target_"].rpartition(".")[2]
    for option, node in FILES.items()
    if node["_target_"].startswith("trainlab.optimizers.")
}


def test_every_rule_is_tested_and_can_be_chosen():
    written = {
        name
        for name, function in inspect.getmembers(optimizers, inspect.isfunction)
        if function.__module__ == optimizers.__name__ and not name.startswith("_")
    }
    assert written == set(RULES.values()) == {name.split()[0] for name in CASES}


@pytest.mark.parametrize("option", RULES)
def test_defaults_are_those_of_the_yaml(option):
    parameters = inspect.signature(getattr(optimizers, RULES[option])).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    node = {key: value for key, value in FILES[option].items() if not key.startswith("_")}
    assert node.pop("lr") > 0
    assert node == defaults


@pytest.mark.parametrize("objective", [quadratic, rosenbrock])
@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.usefixtures("float64")
def test_equals_torch(name, objective):
    settings, optimizer, torch_settings = TORCHS[name]
    path = ours(rule_of(name), objective, **settings)
    torch.testing.assert_close(
        path, torchs(optimizer, objective, **torch_settings), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("objective", [quadratic, rosenbrock])
@pytest.mark.parametrize("start", [20.0, 1e6])
@pytest.mark.usefixtures("float64")
def test_asgd_evaluates_the_mean(start, objective):
    path = ours(optimizers.asgd, objective, lr=0.05, memory="average", start=start)
    expected = torchs(torch.optim.ASGD, objective, memory="ax", lr=0.05, t0=start)
    torch.testing.assert_close(path, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["adagrad", "rmsprop"])
def test_epsilon_stands_under_the_root(name):
    """w ← w − η g / √(E + ε), as the catalogue defines it; torch adds ε outside."""
    lr, eps, rho = 0.1, 0.01, 0.9
    w, e = START, torch.zeros(12, dtype=torch.float64)
    settings = {"eps": eps} | ({"rho": rho} if name == "rmsprop" else {})
    path = ours(rule_of(name), quadratic, lr, **settings)
    for step in range(100):
        g = CURVATURE * w
        e = e + g * g if name == "adagrad" else rho * e + (1 - rho) * g * g
        w = w - lr * g / (e + eps).sqrt()
        torch.testing.assert_close(path[step], w)


@pytest.mark.parametrize("recursion", [lion, momentum_ewma])
def test_equals_the_recursion(recursion):
    settings = CASES[recursion.__name__]
    path = ours(rule_of(recursion.__name__), rosenbrock, **settings)
    w, memory = START, torch.zeros(12, dtype=torch.float64)
    for step in range(100):
        w, memory = recursion(gradient(rosenbrock, w), w, step + 1, memory, **settings)
        torch.testing.assert_close(path[step], w)


def test_schedule_free_equals_the_recursion():
    settings = CASES["schedule_free"]
    y, memory = START, None
    for w, state in islice(steps(optimizers.schedule_free, rosenbrock, **settings), 100):
        y, memory = schedule_free(gradient(rosenbrock, y), y, state.t, memory, **settings)
        torch.testing.assert_close(w, y)
        torch.testing.assert_close(state["average"][0], memory[0])


def test_schedule_free_equals_the_authors_package():
    """Also where the rate rises and falls: a step weighs max η² in the mean."""
    schedulefree = pytest.importorskip("schedulefree")
    y = torch.nn.Parameter(START.clone())
    theirs = schedulefree.AdamWScheduleFree([y], weight_decay=0.1, **BETAS)
    w = START[None].clone()
    state = State(w)
    for t in range(1, 101):
        theirs.param_groups[0]["lr"] = rate = 0.05 * min(t / 10, 1, 20 / t)
        theirs.train()
        y.grad = gradient(rosenbrock, y)
        theirs.step()
        state.t, g = t, gradient(rosenbrock, w[0])[None]
        optimizers.schedule_free(w, g, state, column(rate), weight_decay=0.1, **MOMENTS)
        torch.testing.assert_close(w[0], y.data)
        theirs.eval()
        torch.testing.assert_close(state["average"][0], y.data)


def hypergradient(g, w, t, memory, lr, hyper_lr, rule, **moments):
    rate, last, m, v = memory or (lr, *torch.zeros(3, 12, dtype=torch.float64))
    rate = rate + hyper_lr * (g @ last).item()
    last, m, v = (g, m, v) if rule == "sgd" else adam_direction(g, t, m, v, **moments)
    return w - rate * last, (rate, last, m, v)


@pytest.mark.parametrize("name", ["hypergradient", "hypergradient adam"])
def test_hypergradient_equals_the_recursion(name):
    settings = CASES[name]
    w, memory = START, None
    for path, state in islice(steps(optimizers.hypergradient, rosenbrock, **settings), 100):
        w, memory = hypergradient(gradient(rosenbrock, w), w, state.t, memory, **settings)
        torch.testing.assert_close(path, w)
        torch.testing.assert_close(state["lr"], column(memory[0]))


@pytest.mark.parametrize("name", ["hypergradient", "hypergradient adam"])
def test_hypergradient_descends_the_loss_in_the_learning_rate(name):
    """η changes by −β_h dL/dη, L the loss after the step before: by central differences."""
    settings, h = CASES[name], 1e-6
    path = islice(steps(optimizers.hypergradient, rosenbrock, **settings), 20)
    before, expected = START, settings["lr"]
    for w, state in path:
        rate = state["lr"].item()
        assert rate == pytest.approx(expected, rel=1e-9)
        direction = (before - w) / rate
        high, low = (rosenbrock(before - (rate + d) * direction).item() for d in (h, -h))
        expected = rate - settings["hyper_lr"] * (high - low) / (2 * h)
        before = w


@pytest.mark.parametrize("name", CASES)
def test_members_with_their_own_settings_equal_solo_runs(name):
    """Every number may be a column; rows never mix."""
    rule, settings = rule_of(name), CASES[name]
    scales = (1.0, 0.5, 0.9)
    texts = {k: v for k, v in settings.items() if isinstance(v, str)}
    numbers = {k: v for k, v in settings.items() if k not in texts}
    columns = {
        k: torch.tensor([[v * scale] for scale in scales], dtype=torch.float64)
        for k, v in numbers.items()
    }
    w = START.repeat(3, 1)
    state = State(w)
    for _ in range(30):
        state.t += 1
        g = torch.stack([gradient(rosenbrock, row) for row in w])
        rule(w, g, state, **columns, **texts)
    for r, scale in enumerate(scales):
        member = {k: v * scale for k, v in numbers.items()}
        torch.testing.assert_close(w[r], ours(rule, rosenbrock, n=30, **member, **texts)[-1])


@pytest.mark.parametrize("name", CASES)
def test_layers_may_have_learning_rates_of_their_own(name):
    """Where the loss is separable each weight moves as if all had its rate; rate 0 stops it.

    Not so for hypergradient, whose η hears of all weights: there, with the others at 0.
    """
    rule, settings = rule_of(name), dict(CASES[name])
    rate, joined = settings.pop("lr"), name.startswith("hypergradient")
    multiples = torch.tensor([1.0, 0.0, 0.0 if joined else 0.1]).double().repeat_interleave(4)
    path = ours(rule, quadratic, rate * multiples[None], **settings)
    assert torch.equal(path[:, multiples == 0], START[multiples == 0].expand(100, -1))
    for multiple in multiples[multiples > 0].unique().tolist():
        moving = multiples == multiple
        alone = ours(rule, quadratic, rate * multiple, w0=START * moving, **settings)
        torch.testing.assert_close(path[:, moving], alone[:, moving])


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_may_begin_with_zero(name):
    settings = CASES[name] | {"lr": 0.0}
    path = ours(rule_of(name), quadratic, n=3, **settings)
    assert torch.equal(path[0], START)
    assert path.isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_a_number_is_as_good_as_a_column(name):
    settings = CASES[name]
    w, state = START[None].clone(), State(START[None])
    for _ in range(30):
        state.t += 1
        rule_of(name)(w, gradient(quadratic, w[0])[None], state, **settings)
    torch.testing.assert_close(w[0], ours(rule_of(name), quadratic, n=30, **settings)[-1])


@pytest.mark.parametrize("name", CASES)
def test_going_on_from_a_saved_state_is_exact(name):
    """All that a rule remembers is a tensor with a row per member, or the number of steps."""
    settings = CASES[name]
    path = steps(rule_of(name), quadratic, w0=START.float(), **settings)
    *_, (w, state) = islice(path, 5)
    other = State(w[None])
    other.update({name: value.clone() for name, value in state.items()})
    other.t = state.t
    assert all(value.shape in [(1, 12), (1, 1)] for value in other.values())
    resumed = steps(rule_of(name), quadratic, w0=w, state=other, **settings)
    for (w, _), (copy, _) in islice(zip(path, resumed, strict=False), 5):
        assert torch.equal(w, copy)
