"""Every activation: formula, gradient, limits, both ranks, and members of a stack as solo calls."""

import inspect
from functools import cache

import numpy as np
import pytest
import torch
from scipy.special import expit, ndtr, softmax
from torch.func import functional_call, stack_module_state, vmap

from trainlab.config import build, compose, options

LAMBDA, ALPHA = 1.0507009873554804934, 1.6732632423543772848  # Klambauer 2017, section 2


def rectified(x, negative):
    return np.where(x > 0, x, negative)


def swish(x, beta=1.0, trainable=True):
    return x * expit(beta * x)


def gated(gate):
    def formula(x):
        a, b = np.split(x, 2, axis=1)
        return gate(a) * b

    return formula


FORMULAS = {  # of x, features along axis 1, and the option's settings
    "identity": lambda x: x,
    "step": lambda x, straight_through: np.heaviside(x, 0.0),
    "sigmoid": expit,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 1 / 2, 0, 1),
    "tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "softsign": lambda x: x / (1 + abs(x)),
    "relu": lambda x: rectified(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "squared_relu": lambda x: rectified(x, 0) ** 2,
    "leaky_relu": lambda x, negative_slope: rectified(x, negative_slope * x),
    "rrelu": lambda x, lower, upper: rectified(x, (lower + upper) / 2 * x),  # in test
    "prelu": lambda x, shared, init: rectified(x, init * x),
    "elu": lambda x, alpha: rectified(x, alpha * np.expm1(x)),
    "celu": lambda x, alpha: rectified(x, alpha * np.expm1(x / alpha)),
    "selu": lambda x: LAMBDA * rectified(x, ALPHA * np.expm1(x)),
    "gelu": lambda x: x * ndtr(x),
    "gelu_tanh": lambda x, approximate: (
        x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ),
    "quick_gelu": swish,
    "silu": swish,
    "swish": swish,
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softplus": lambda x, beta: np.logaddexp(0, beta * x) / beta,
    "exponential": np.exp,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "logsigmoid": lambda x: -np.logaddexp(0, -x),
    "softmax": lambda x, dim: softmax(x, axis=1),
    "maxout": lambda x, k: np.max(np.split(x, k, axis=1), axis=0),
    "glu": gated(expit),
    "geglu": gated(lambda a: a * ndtr(a)),
    "swiglu": gated(swish),
}

OTHER = [  # settings that are not the defaults
    ("step", dict(straight_through=False)), ("leaky_relu", dict(negative_slope=0.3)),
    ("rrelu", dict(lower=0.25, upper=0.75)), ("prelu", dict(init=0.125)),
    ("prelu", dict(shared=True)), ("elu", dict(alpha=1.5)), ("celu", dict(alpha=0.5)),
    ("quick_gelu", dict(beta=1.75, trainable=True)), ("swish", dict(beta=0.5)),
    ("swish", dict(beta=2, trainable=False)), ("softplus", dict(beta=3.0)), ("maxout", dict(k=3)),
]  # fmt: skip


def cases(names):
    every = [(name, {}) for name in names] + OTHER
    ids = [name + "".join(f" {k}={v}" for k, v in settings.items()) for name, settings in every]
    return pytest.mark.parametrize(("name", "settings"), every, ids=ids)


every_case = cases(options("act"))
every_option = pytest.mark.parametrize("name", options("act"))

WIDENS = {"maxout": 2, "glu": 2, "geglu": 2, "swiglu": 2}
NOISY = {"rrelu"}
FEATURES = 6


@cache
def composed(*overrides):
    return compose(overrides)


def config_of(name, settings):
    return composed(f"act={name}", *(f"act.{key}={value}" for key, value in settings.items()))


def settings_of(config):
    return {key: value for key, value in config["act"].items() if key != "_target_"}


def made(name, settings=None, features=FEATURES):
    """The module as an architecture makes it, in float64."""
    factory = build(config_of(name, settings or {}), "act")
    wants_features = "features" in inspect.signature(factory).parameters
    return factory(**({"features": features} if wants_features else {})).double()


def inputs(module, *pixels):
    """Ordinary numbers and kinks, then huge ones: (64, as many features as the module wants, …)."""
    shape = (32, FEATURES * getattr(module, "widens", 1), *pixels)
    ordinary = [*np.linspace(-9, 9, 73), 1e-9, -1e-9]
    huge = [20.5, -20.5, 100, -100, 1e4, -1e4, 1e30, -1e30]
    random = np.random.default_rng(0)
    return np.concatenate([random.choice(values, shape) for values in (ordinary, huge)])


def smooth(module, batch=3, seed=0):
    """Numbers none of which is near an integer, where all kinks are."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, FEATURES * getattr(module, "widens", 1))
    whole = torch.randint(-8, 8, shape, generator=generator)
    return whole + torch.rand(shape, generator=generator, dtype=torch.float64) * 0.8 + 0.1


def test_the_tables_are_complete():
    """A formula for all that is trainlab's own; what is torch's may do without."""
    own = {n for n in options("act") if composed(f"act={n}")["act"]["_target_"][:5] != "torch"}
    assert own <= set(FORMULAS)
    assert set(FORMULAS) == set(SPECIAL)
    changed = {(name, key) for name, settings in OTHER for key in settings}
    settings = {(name, key) for name in FORMULAS for key in settings_of(config_of(name, {}))}
    assert changed == settings - {("gelu_tanh", "approximate"), ("softmax", "dim")}


@cases(FORMULAS)
@pytest.mark.parametrize("pixels", [(), (2, 3)], ids=["dense", "images"])
def test_values_follow_the_formula(name, settings, pixels):
    module = made(name, settings).eval()
    x = inputs(module, *pixels)
    given = torch.from_numpy(x.copy())
    with np.errstate(all="ignore"):  # e^1e30 in a branch that is not taken
        expected = FORMULAS[name](x, **settings_of(config_of(name, settings)))
    y = module(given)
    torch.testing.assert_close(y, torch.from_numpy(expected), rtol=1e-9, atol=1e-13)
    assert y.shape == (64, FEATURES, *pixels)
    assert torch.equal(given, torch.from_numpy(x)), "the input was changed"


@every_case
def test_gradients_are_those_of_the_function(name, settings):
    """In the input and in all parameters. The straight-through gradient has a test of its own."""
    module = made(name, settings)
    if name == "step":
        module.straight_through = False
    parameters = dict(module.named_parameters())

    def function(x, *values):
        return functional_call(module, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(
        function, (smooth(module).requires_grad_(), *parameters.values())
    )


INF, NAN = float("inf"), float("nan")
SPECIAL = {  # at −∞, 0, ∞ and NaN; where an activation mixes features, the other one is 1
    "identity": (-INF, 0, INF, NAN),
    "step": (0, 0, 1, 0),
    "sigmoid": (0, 0.5, 1, NAN),
    "hard_sigmoid": (0, 0.5, 1, NAN),
    "tanh": (-1, 0, 1, NAN),
    "hard_tanh": (-1, 0, 1, NAN),
    "softsign": (NAN, 0, NAN, NAN),
    "relu": (0, 0, INF, NAN),
    "relu6": (0, 0, 6, NAN),
    "squared_relu": (0, 0, INF, NAN),
    "leaky_relu": (-INF, 0, INF, NAN),
    "rrelu": (-INF, 0, INF, NAN),
    "prelu": (-INF, 0, INF, NAN),
    "elu": (-1, 0, INF, NAN),
    "celu": (-1, 0, INF, NAN),
    "selu": (-LAMBDA * ALPHA, 0, INF, NAN),
    "gelu": (NAN, 0, INF, NAN),  # float32 through oneDNN is NaN at ∞ (pytorch issue 185770)
    "gelu_tanh": (NAN, 0, INF, NAN),
    "quick_gelu": (NAN, 0, INF, NAN),
    "silu": (NAN, 0, INF, NAN),
    "swish": (NAN, 0, INF, NAN),
    "mish": (NAN, 0, INF, NAN),
    "softplus": (0, np.log(2), INF, NAN),
    "exponential": (0, 1, INF, NAN),
    "hard_swish": (NAN, 0, INF, NAN),
    "logsigmoid": (-INF, -np.log(2), 0, NAN),
    "softmax": (0, 1 / (1 + np.e), NAN, NAN),
    "maxout": (1, 1, INF, NAN),
    "glu": (0, 0.5, 1, NAN),
    "geglu": (NAN, 0, INF, NAN),
    "swiglu": (NAN, 0, INF, NAN),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_limits(name):
    module = made(name, features=2)
    x = torch.tensor([[-INF, 1], [0, 1], [INF, 1], [NAN, 1]], dtype=torch.float64)
    for count in (1, 9):  # torch's kernels treat the last few numbers by other code
        y = module(x.repeat(count, 1))[:, 0]
        expected = torch.tensor(SPECIAL[name], dtype=torch.float64).repeat(count)
        torch.testing.assert_close(y, expected, equal_nan=True)


@every_option
def test_how_much_wider_the_layer_before_must_be(name):
    assert getattr(made(name), "widens", 1) == WIDENS.get(name, 1)


def test_maxout_takes_as_many_maps_as_told():
    assert made("maxout", {"k": 3}).widens == 3


@every_option
def test_training_and_testing_differ_by_noise_only(name):
    module = made(name)
    x = smooth(module)
    assert torch.equal(module.train()(x), module.eval()(x)) == (name not in NOISY)


@every_case
def test_members_of_a_stack_equal_solo_calls(name, settings):
    """Outputs and gradients under vmap, each member with parameters and noise of its own."""
    modules = [made(name, settings) for _ in range(3)]
    for r, module in enumerate(modules):
        for parameter in module.parameters():
            torch.nn.init.uniform_(parameter, generator=torch.Generator().manual_seed(r))
        for buffer in module.buffers():
            buffer.fill_(r)
    parameters, buffers = stack_module_state(modules)
    x = torch.stack([smooth(module, seed=r) for r, module in enumerate(modules)]).requires_grad_()

    def member(parameters, buffers, x):
        return functional_call(modules[0], {**parameters, **buffers}, (x,))

    weights = torch.linspace(1, 2, x[0].numel(), dtype=torch.float64)
    weights = weights[: 3 * FEATURES].view(3, FEATURES)  # not all 1: softmax sums to a constant
    outputs = vmap(member)(parameters, buffers, x)
    gradients = torch.autograd.grad((outputs * weights).sum(), [x, *parameters.values()])
    for r, module in enumerate(modules):
        own = x[r].detach().requires_grad_()
        output = module(own)
        torch.testing.assert_close(outputs[r], output)
        expected = torch.autograd.grad((output * weights).sum(), [own, *module.parameters()])
        for ours, solo in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours[r], solo)


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"quick_gelu", "gelu_tanh", "softmax"}))
def test_the_defaults_of_the_yaml_are_those_of_the_code(name):
    """The three left out are named settings of a wider component."""
    parameters = inspect.signature(build(config_of(name, {}), "act").func).parameters
    for key, value in settings_of(config_of(name, {})).items():
        assert parameters[key].default == value


# ---------------------------------------------------------------- properties of single ones


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_step_is_binary_and_passes_the_gradient_between_minus_one_and_one(dtype):
    edges = [-INF, -1e30, -1.5, -1, -0.3, 0, 1e-30, 0.3, 1, 1.5, 1e30, INF, NAN]
    x = torch.cat([torch.tensor(edges), torch.linspace(-2, 2, 999)]).to(dtype)[None]
    for straight_through, expected in ((True, x.abs() <= 1), (False, torch.zeros_like(x))):
        step = made("step", dict(straight_through=straight_through))
        leaf = x.clone().requires_grad_()
        y = step(leaf)
        assert y.dtype is dtype
        assert torch.equal(y, (x > 0).to(dtype))
        (gradient,) = torch.autograd.grad((3 * y).sum(), leaf)
        assert torch.equal(gradient, 3 * expected.to(dtype))


@pytest.mark.parametrize("pixels", [(), (2, 3)], ids=["dense", "images"])
def test_prelu_has_a_slope_for_each_unit_or_channel(pixels):
    prelu = made("prelu")
    slopes = torch.linspace(0.1, 0.6, FEATURES, dtype=torch.float64)
    prelu.weight.data.copy_(slopes)
    y = prelu(-torch.ones(2, FEATURES, *pixels, dtype=torch.float64)).movedim(1, -1)
    assert torch.equal(y, -slopes.expand_as(y))
    assert made("prelu", dict(shared=True)).weight.shape == (1,)


def test_swish_learns_beta_or_keeps_it():
    assert [p.shape for p in made("swish").parameters()] == [()]
    for fixed in (made("swish", dict(trainable=False)), made("quick_gelu")):
        assert not fixed.state_dict()
    assert made("quick_gelu").beta == 1.702


def test_glu_is_torchs_with_the_halves_exchanged():
    x = smooth(made("glu"))
    a, b = x.chunk(2, 1)
    expected = torch.nn.functional.glu(torch.cat([b, a], 1), dim=1)
    torch.testing.assert_close(made("glu")(x), expected)


def test_rrelu_draws_a_slope_for_every_number():
    rrelu = made("rrelu", dict(lower=0.25, upper=0.75)).train()
    x = -torch.ones(200, 50, dtype=torch.float64)
    slopes = -rrelu(x)
    assert slopes.min() >= 0.25
    assert slopes.max() < 0.75
    assert slopes.unique().numel() > 0.99 * slopes.numel()
    # Five standard errors of the mean; the variance of U(l, u) is (u − l)² / 12.
    assert abs(slopes.mean() - 0.5) < 5 * 0.5 / (12 * slopes.numel()) ** 0.5
    assert torch.equal(rrelu(x), -slopes)
    rrelu.step.fill_(1)
    assert not torch.equal(rrelu(x), -slopes)
    assert torch.equal(rrelu(-x), -x)


def test_rrelu_of_a_whole_stack_needs_no_vmap():
    rrelu, x = made("rrelu").train(), -torch.ones(3, 4, 5, dtype=torch.float64)
    keys = torch.arange(3)
    stacked = functional_call(rrelu, {"key": keys, "step": keys + 1}, (x,))
    for r in range(3):
        solo = functional_call(rrelu, {"key": keys[r], "step": keys[r] + 1}, (x[r],))
        assert torch.equal(stacked[r], solo)
