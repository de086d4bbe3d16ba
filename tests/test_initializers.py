"""Initial weights: distributions against scipy's, what the papers claim, and what is left alone."""

import inspect
import math
from functools import partial

import pytest
import torch
import yaml
from hydra.utils import get_object
from scipy import stats
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import parametrizations

from trainlab import initializers
from trainlab.config import CONF, build, compose
from trainlab.initializers import auto, data_dependent, initialize, lsuv, random_walk
from trainlab.streams import stream


def normal(variance):
    return stats.norm(0, math.sqrt(variance))


def uniform(variance):
    r = math.sqrt(3 * variance)
    return stats.uniform(-r, 2 * r)


def truncated(variance):
    """Of this variance after the cut at two standard deviations."""
    return stats.truncnorm(-2, 2, 0, math.sqrt(variance / stats.truncnorm(-2, 2).var()))


DISTRIBUTIONS = {  # option: of its weights, where they have n_in and n_out
    "normal": lambda i, o: normal(0.01**2),
    "normal_small": lambda i, o: normal(0.01**2),
    "normal_large": lambda i, o: normal(1.0),
    "uniform": lambda i, o: stats.uniform(-0.05, 0.1),
    "truncated_normal": lambda i, o: stats.truncnorm(-2, 2, 0, 0.02),
    "glorot_normal": lambda i, o: normal(2 / (i + o)),
    "glorot_uniform": lambda i, o: uniform(2 / (i + o)),
    "he_normal": lambda i, o: normal(2 / i),
    "he_uniform": lambda i, o: uniform(2 / i),
    "he_avg_normal": lambda i, o: normal(4 / (i + o)),
    "he_avg_uniform": lambda i, o: uniform(4 / (i + o)),
    "lecun_normal": lambda i, o: normal(1 / i),
    "lecun_uniform": lambda i, o: uniform(1 / i),
    "variance_scaling": lambda i, o: truncated(1 / i),
    "random_walk": lambda i, o: normal(2 * math.exp(2.4 / (i - 2.4)) / i),
    "auto": lambda i, o: normal(2 / i),
    "torch_default": lambda i, o: uniform(1 / (3 * i)),
}
CONSTANTS = {"zeros": 0.0, "constant": 0.01}
TESTED_BY_THEMSELVES = ("orthogonal", "lsuv", "data_dependent")

LAYERS = {  # name: layer, n_in, n_out
    "wide": (lambda: nn.Linear(300, 500), 300, 500),
    "tall": (lambda: nn.Linear(500, 300), 500, 300),
    "conv1d": (lambda: nn.Conv1d(64, 128, 5), 64 * 5, 128 * 5),
    "conv2d": (lambda: nn.Conv2d(128, 64, 3), 128 * 9, 64 * 9),
    "grouped": (lambda: nn.Conv2d(128, 64, 5, groups=4), 32 * 25, 16 * 25),
}


def option(name):
    """The initializer an option names, for relu."""
    node = yaml.safe_load((CONF / "init" / f"{name}.yaml").read_text(encoding="utf-8"))
    if "_target_" not in node:
        return None
    if "act" in node:
        node["act"] = "torch.nn.ReLU"
    return partial(get_object(node.pop("_target_")), **node)


def check(values, distribution):
    """Of n values: the variance to five standard errors, the bounds, and Kolmogorov–Smirnov."""
    w, n = values.detach().double().flatten().numpy(), values.numel()
    kurtosis = float(distribution.stats("k")) + 3
    assert abs(w.mean()) < 5 * distribution.std() / math.sqrt(n)
    assert w.var() == pytest.approx(distribution.var(), rel=5 * math.sqrt((kurtosis - 1) / n))
    low, high = distribution.support()
    assert low - 1e-6 <= w.min()
    assert w.max() <= high + 1e-6
    assert stats.kstest(w, distribution.cdf).pvalue > 1e-3


def test_every_option_is_in_a_table():
    """But for functions of torch's own, which need no test of ours."""
    tested = {*DISTRIBUTIONS, *CONSTANTS, *TESTED_BY_THEMSELVES}
    files = {path.stem: path.read_text() for path in (CONF / "init").glob("*.yaml")}
    assert tested <= set(files)
    assert {name for name, text in files.items() if "torch.nn.init" not in text} <= tested


@pytest.mark.parametrize(
    "name", ["constant", "truncated_normal", "variance_scaling", "lsuv", "data_dependent"]
)
def test_option_and_function_have_the_same_defaults(name):
    settings = option(name).keywords
    parameters = inspect.signature(getattr(initializers, name)).parameters
    assert settings == {key: parameters[key].default for key in settings}


# ---------------------------------------------------------------- weight by weight


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_weights_have_the_distribution(name, layer):
    make, n_in, n_out = LAYERS[layer]
    torch.manual_seed(0)  # of torch_default
    made = initialize(make(), option(name), seed=0)
    check(made.weight, DISTRIBUTIONS[name](n_in, n_out))


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name):
    made = initialize(nn.Linear(3, 4), option(name), seed=0)
    assert made.weight.tolist() == [[pytest.approx(CONSTANTS[name])] * 3] * 4


@pytest.mark.parametrize(("mode", "n"), [("fan_in", 300), ("fan_out", 500), ("fan_avg", 400)])
@pytest.mark.parametrize("distribution", [normal, uniform, truncated])
def test_variance_scaling(mode, n, distribution):
    name = {truncated: "truncated_normal"}.get(distribution, distribution.__name__)
    init = partial(option("variance_scaling").func, scale=3.0, mode=mode, distribution=name)
    check(initialize(nn.Linear(300, 500), init, seed=0).weight, distribution(3 / n))


@pytest.mark.parametrize("mean", [0.0, 5.0])
def test_the_cut_of_a_truncated_normal_follows_mean_and_std(mean):
    w = initializers.truncated_normal(torch.empty(300, 300), stream(0), mean=mean, std=0.5)
    check(w - mean, stats.truncnorm(-2, 2, 0, 0.5))


@pytest.mark.parametrize("gain", [1.0, 2.0])
@pytest.mark.parametrize("layer", LAYERS)
def test_orthogonal(layer, gain):
    weight = initialize(LAYERS[layer][0](), partial(option("orthogonal"), gain=gain), 0).weight
    for part in weight.chunk(4 if layer == "grouped" else 1):
        matrix = part.flatten(1).double()
        small = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        torch.testing.assert_close(
            small, gain**2 * torch.eye(len(small), dtype=torch.float64), atol=1e-5, rtol=0
        )


HE = "ReLU LeakyReLU RReLU PReLU ReLU6 ELU CELU GELU SiLU Mish Softplus Hardswish".split()
OURS = "squared_relu SquaredReLU quick_gelu Swish RReLU prelu Maxout geglu swiglu".split()


@pytest.mark.parametrize(
    ("acts", "distribution"),
    [
        ([f"torch.nn.{a}" for a in HE], lambda i, o: normal(2 / i)),
        ([f"trainlab.activations.{a}" for a in OURS], lambda i, o: normal(2 / i)),
        (["torch.nn.SELU"], lambda i, o: normal(1 / i)),
        (["torch.nn.Tanh", "trainlab.activations.glu", "own"], lambda i, o: uniform(2 / (i + o))),
    ],
)  # fmt: skip
def test_auto_suits_the_activation(acts, distribution):
    for act in acts:
        check(auto(torch.empty(400, 300), stream(0), act=act), distribution(300, 400))


@pytest.mark.parametrize("name", ["auto", "random_walk"])
def test_the_activation_is_taken_from_the_config(name):
    settings = build(compose([f"init={name}", "act=tanh"]), "init").keywords
    assert settings == {"act": "torch.nn.Tanh"}


# ---------------------------------------------------------------- random walk


@pytest.mark.parametrize(
    ("n_in", "act", "gain"),
    [(3, "ReLU", 1.97367), (20, "ReLU", 1.51399), (3, "Tanh", 1.18136), (20, "Tanh", 1.02532)],
)
def test_gains_of_the_random_walk(n_in, act, gain):
    """√2 e^(1.2/3.6), √2 e^(1.2/17.6), e^(1/6), e^(1/40)."""
    weight = random_walk(torch.empty(20_000, n_in), stream(0), act=f"torch.nn.{act}")
    check(weight, normal(gain**2 / n_in))


def drift(init, act, width=20, depth=60, nets=400):
    """Change of a back-propagated signal's log-length through all layers: mean, standard error."""
    generator = stream(0, "test")
    weights = torch.empty(nets, depth, width, width)
    for weight in weights.flatten(0, 1):
        init(weight, generator=generator)
    x = torch.randn(nets, width, 1, generator=generator)
    slopes = []
    for layer in weights.unbind(1):
        z = layer @ x
        x = act(z)
        slopes.append((z > 0).float() if act is torch.relu else torch.ones_like(z))
    delta = torch.randn(nets, width, 1, generator=generator)
    before = delta.norm(dim=1)
    for layer, slope in zip(weights.flip(1).unbind(1), reversed(slopes), strict=True):
        delta = layer.mT @ (slope * delta)
    change = (delta.norm(dim=1) / before).log()
    return change.mean().item(), (change.std() / math.sqrt(nets)).item()


@pytest.mark.parametrize(
    ("plain", "name", "act"),
    [("he_normal", "ReLU", torch.relu), ("lecun_normal", "Identity", torch.clone)],
)
def test_a_random_walk_does_not_drift_where_the_plain_rule_sinks(plain, name, act):
    mean, error = drift(partial(random_walk, act=f"torch.nn.{name}"), act)
    assert abs(mean) < 4 * error
    mean, error = drift(option(plain), act)
    assert mean < -10 * error


# ---------------------------------------------------------------- looking at data


class Widest(nn.Module):
    """Maxout of two maps, which the layer before has to provide."""

    def forward(self, x):
        return x.unflatten(1, (2, -1)).amax(1)


class Residual(nn.Module):
    """Its layers run in another order than they are named."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(24, 32), nn.Linear(32, 24)

    def forward(self, x):
        return x + self.last(torch.relu(self.first(x)))


def dense(act, depth=6):
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(32, 32), act())]
    return nn.Sequential(nn.Linear(30, 32), act(), *hidden, nn.Linear(32, 5))


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 5, 6)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, groups=4, bias=False), nn.ReLU(), nn.BatchNorm2d(16), nn.Flatten(),
        nn.Linear(192, 5),
    )  # fmt: skip


NETS = {
    "relu": lambda: dense(nn.ReLU),
    "tanh": lambda: dense(nn.Tanh),
    "conv": conv,
    "maxout": lambda: nn.Sequential(
        nn.Linear(30, 64), Widest(), nn.Linear(32, 64), nn.LayerNorm(64), Widest(), nn.Linear(32, 5)
    ),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(30, 32), nn.Tanh()), Residual(), nn.Linear(32, 5)
    ),
    "weight_norm": lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Linear(30, 32)), nn.ReLU(), nn.Linear(32, 5)
    ),
}


def batch():
    """Inputs of very different spreads, not centred."""
    x = torch.randn(200, 30, generator=torch.Generator().manual_seed(1))
    return x * torch.logspace(-1, 1, 30) + 1


def layers(model):
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


@torch.no_grad()
def channels(model, x):
    """Each layer with what it puts out, (channels, …) float64."""
    outputs = {}

    def keep(layer, inputs, output):
        outputs[layer] = output.double().transpose(0, 1).flatten(1)

    handles = [layer.register_forward_hook(keep) for layer in layers(model)]
    model(x)
    for handle in handles:
        handle.remove()
    assert outputs.keys() == set(layers(model))
    return outputs


def variances(model, x):
    """Of all that a layer puts out, in order of execution."""
    return [z.var(correction=0).item() for z in channels(model, x).values()]


@pytest.mark.parametrize("net", NETS)
def test_lsuv_gives_every_layer_unit_variance(net):
    x = batch()
    model = initialize(NETS[net](), option("lsuv"), 0, x)
    assert all(abs(variance - 1) < 0.011 for variance in variances(model, x))
    plain = initialize(NETS[net](), option("orthogonal"), 0)
    assert any(abs(variance - 1) > 0.2 for variance in variances(plain, x))


def test_lsuv_only_scales_orthogonal_weights():
    model = initialize(NETS["relu"](), option("lsuv"), 0, batch())
    plain = initialize(NETS["relu"](), option("orthogonal"), 0)
    for scaled, orthogonal in zip(layers(model), layers(plain), strict=True):
        ratio = scaled.weight / orthogonal.weight
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)


def test_lsuv_tries_again_where_biases_take_part():
    """Biases that differ keep one division from being enough."""
    torch.manual_seed(0)
    x = 0.2 * batch()
    for tries, found in ((1, False), (10, True)):
        model = NETS["tanh"]()
        initialize(model, partial(lsuv, tries=tries), 0, x, bias="torch")
        assert all(abs(variance - 1) < 0.011 for variance in variances(model, x)) == found


@pytest.mark.parametrize("net", NETS)
def test_data_dependent_standardizes_every_channel(net):
    x = batch()
    model = initialize(NETS[net](), partial(data_dependent, rounds=0), 0, x)
    for layer, z in channels(model, x).items():
        torch.testing.assert_close(
            z.var(1, correction=0), torch.ones(len(z)).double(), rtol=0, atol=1e-3
        )
        if layer.bias is not None:
            assert z.mean(1).abs().max() < 1e-4


def change_rates(model, x):
    """‖∂ℓ/∂W‖ / ‖W‖ for ℓ = Σ η · model(x), its exact root mean square over η ~ N(0, 1)."""
    names = [name for name, _ in model.named_parameters() if name.endswith("weight")]
    weights = {name: dict(model.named_parameters())[name].detach() for name in names}

    def output(weights, example):
        return functional_call(model, weights, (example[None],))[0]

    jacobians = vmap(jacrev(output), (None, 0))(weights, x)
    return torch.stack([jacobians[name].norm() / weights[name].norm() for name in names])


@pytest.mark.parametrize("net", ["relu", "tanh", "nested"])
def test_data_dependent_gives_all_layers_one_rate_of_change(net):
    x = batch()
    model = initialize(NETS[net](), option("data_dependent"), 0, x)
    rates = change_rates(model, x)
    assert rates.max() / rates.min() < 1.2
    for z in channels(model, x).values():  # and channels of mean 0 and, in a layer, of one variance
        assert z.mean(1).abs().max() < 1e-3 * z.std()
    before = change_rates(initialize(NETS[net](), partial(data_dependent, rounds=0), 0, x), x)
    assert before.max() / before.min() > 5


@pytest.mark.parametrize("init", [lsuv, data_dependent])
def test_layers_and_channels_without_signal_stay_finite(init):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(30, 4, bias=False), nn.Linear(30, 4)

        def forward(self, x):
            return self.used(x)

    model = initialize(nn.Sequential(Idle(), nn.Linear(4, 2)), init, 0, torch.zeros(10, 30))
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert model[0].unused.weight.std() > 0
    before = model[0].unused.weight.clone()
    model[0].unused(torch.ones(3, 30))
    assert torch.equal(model[0].unused.weight, before)  # no hook is left behind


def test_a_layer_used_twice_is_scaled_where_it_is_used_first():
    shared = nn.Linear(30, 30)
    initialize(nn.Sequential(shared, nn.Tanh(), shared), lsuv, 0, batch())
    assert shared(batch()).var(correction=0).item() == pytest.approx(1.0, abs=0.011)


@pytest.mark.parametrize("init", [lsuv, data_dependent])
def test_data_leave_no_trace_in_norm_layers(init):
    made = initialize(conv(), init, 0, batch())
    for norm in (made[2], made[6]):
        fresh = nn.BatchNorm2d(norm.num_features).state_dict()
        assert all(torch.equal(value, fresh[name]) for name, value in norm.state_dict().items())


# ---------------------------------------------------------------- what is filled, and from where


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


def images():
    return torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [*DISTRIBUTIONS, *TESTED_BY_THEMSELVES])
def test_same_seed_same_values(name):
    one, same, other = (
        initialize(model(), option(name), seed, images()).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[key], same[key]) for key in one)
    differs = not torch.equal(one["3.weight"], other["3.weight"])
    assert differs == (name != "torch_default")  # which is drawn before


def test_layers_have_streams_of_their_own():
    wider = nn.Sequential(nn.Conv2d(1, 4, 5), *list(model())[1:])  # another first layer
    one, other = (initialize(m, option("he_normal"), seed=3) for m in (model(), wider))
    assert torch.equal(one[3].weight, other[3].weight)


@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("name", ["he_normal", "torch_default", "lsuv"])
def test_biases_become_a_number_and_norm_layers_stay(name, bias):
    made = initialize(model(), option(name), 0, images(), bias)
    for layer in (made[0], made[3]):
        assert torch.equal(layer.bias, torch.full_like(layer.bias, bias))
    assert made[1].weight.tolist() == [1.0] * 4
    assert made[1].bias.tolist() == [0.0] * 4


@pytest.mark.parametrize("name", ["he_normal", "torch_default", "lsuv"])
def test_biases_may_stay_as_torch_drew_them(name):
    made = model()
    before = made[3].bias.clone()
    initialize(made, option(name), 0, images(), bias="torch")
    assert torch.equal(made[3].bias, before)
    assert before.abs().min() > 0


def test_data_dependent_sets_biases_itself():
    zero, one = (initialize(model(), data_dependent, 0, images(), bias) for bias in (0.0, 1.0))
    torch.testing.assert_close(zero[3].bias, one[3].bias)


@pytest.mark.parametrize("name", ["lsuv", "data_dependent"])
def test_reparametrized_weights_are_scaled_as_plain_ones(name):
    plain = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 5))
    normed, plain = (
        initialize(m, option(name), 0, batch()) for m in (NETS["weight_norm"](), plain)
    )
    for one, other in zip(layers(normed), layers(plain), strict=True):
        torch.testing.assert_close(one.weight, other.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["wide", "grouped"])
def test_reparametrized_weights_get_the_values(layer):
    make, init = LAYERS[layer][0], option("he_normal")
    plain = initialize(make(), init, 0).weight
    normed = initialize(parametrizations.weight_norm(make()), init, 0)
    torch.testing.assert_close(normed.weight, plain)
    bounded = initialize(parametrizations.spectral_norm(make(), n_power_iterations=99), init, 0)
    sigma = torch.linalg.matrix_norm(plain.flatten(1), 2)
    torch.testing.assert_close(bounded.weight, plain / sigma, rtol=1e-2, atol=1e-3)
