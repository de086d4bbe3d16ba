"""Every architecture of the catalogue: sizes, shapes, whatever stands around its layers, stacks."""

import copy
import math
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainlab import tasks
from trainlab.activations import Maxout, geglu, prelu
from trainlab.architectures import (
    Block,
    autoencoder,
    cbow,
    cnn,
    ensemble,
    given_by,
    linear,
    mlp,
    mlp_residual,
    multi_input,
    resnet,
    skipgram,
    unet,
    vgg,
    wide_resnet,
)  # fmt: skip
from trainlab.architectures.autoencoders import Transposed
from trainlab.architectures.convolutional import Beside
from trainlab.architectures.residual import PaddedShortcut, Residual
from trainlab.config import UserError, build, compose, options
from trainlab.initializers import initialize
from trainlab.layout import LAYERS
from trainlab.noise import Dropout, Noisy, SpatialDropout
from trainlab.norms import BATCH, batch, instance, layer
from trainlab.stack import Stack

B = 6
PLAIN, BATCHED = Block(nn.ReLU), Block(nn.ReLU, batch)
VECTOR, IMAGE = (6,), (2, 8, 8)

# A tiny form of each option: settings, inputs, outputs, and what the outputs should be like.
CASES = {
    "linear": ([], VECTOR, 3, "classes"),
    "mlp": (["hidden=[16,8]"], IMAGE, 3, "classes"),
    "mlp input_norm": (["hidden=[8]", "input_norm=true"], (1, 4, 4), 3, "classes"),
    "mlp_deep": (["depth=3", "width=8"], VECTOR, 3, "classes"),
    "mlp_tiny": (["hidden=[16,8]"], VECTOR, 3, "classes"),
    "mlp_residual": (["depth=4", "width=8"], VECTOR, 3, "classes"),
    "multi_label": (["hidden=[16]"], VECTOR, 4, "labels"),
    "multi_input": (["hidden=[8]", "joined=[8]"], VECTOR, 3, "classes"),
    "cnn": (["channels=[8]", "dense=8"], IMAGE, 3, "classes"),
    "vgg": (["stages=[8,16]", "convolutions=[1,2]"], IMAGE, 3, "classes"),
    "resnet": (["depth=8", "width=8"], (2, 5, 5), 3, "classes"),
    "wide_resnet": (["depth=10", "widening=1"], (2, 5, 5), 3, "classes"),
    "wide_resnet dropout": (["depth=10", "widening=1", "dropout=0.1"], (2, 5, 5), 3, "classes"),
    "unet": (["depth=1", "base=8"], IMAGE, 3, "pixels"),
    "autoencoder": (["hidden=[16]", "code=8"], VECTOR, 3, "inputs"),
    "autoencoder tied": (["hidden=[16]", "code=8", "tied=true"], VECTOR, 3, "inputs"),
    "autoencoder convolutional": (
        ["hidden=[16]", "code=16", "convolutional=true"], (1, 4, 4), 3, "inputs",
    ),
    "autoencoder both": (
        ["hidden=[16]", "code=16", "convolutional=true", "tied=true"], (1, 4, 4), 3, "inputs",
    ),
    "ensemble": (["members=2", "hidden=[8]"], VECTOR, 3, "members"),
    "ensemble of cnn": (
        ["members=2", "of=cnn", "channels=[8]", "dense=8"], (1, 4, 4), 3, "members",
    ),
    "skipgram": (["dim=8"], (1,), 7, "words"),
    "cbow": (["dim=8"], (4,), 7, "words"),
}  # fmt: skip
TIED = [name for name in CASES if "tied=true" in CASES[name][0]]


@pytest.fixture(autouse=True)
def _seeded():
    """Weights and inputs are the same in every run, whichever tests run before."""
    torch.manual_seed(0)


def test_every_option_has_a_case():
    assert {name.partition(" ")[0] for name in CASES} == set(options("arch"))


def test_every_option_says_which_tasks_it_is_for_and_every_task_has_one():
    found = {name: given_by(component("arch", name)[0].func) for name in options("arch")}
    assert all(outputs.tasks for outputs in found.values())
    assert {task for outputs in found.values() for task in outputs.tasks} == set(tasks._KINDS)
    several = {name.partition(" ")[0] for name, case in CASES.items() if case[3] == "members"}
    assert {name for name, outputs in found.items() if outputs.members} == several


@cache
def component(group, option, *typed):
    """What an option's YAML builds, and its group's node."""
    config = compose([f"{group}={option}", *[f"{group}.{setting}" for setting in typed]])
    return build(config, group), config[group]


def built(name, block, seed=0):
    """The case's model, its weights drawn from `seed`; noise layers have keys of their own."""
    settings, inputs, outputs, _ = CASES[name]
    arch, _ = component("arch", name.partition(" ")[0], *settings)
    parts = {"parts": (2, 4)} if name == "multi_input" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = arch(inputs=inputs, outputs=outputs, block=block, **parts)
    noises = [module for module in model.modules() if isinstance(module, Noisy)]
    for number, noise in enumerate(noises):
        noise.key.fill_(100 * seed + number)
    return model


def recipe(act="relu", norm="none", place="before", **more):
    """A block of these options, and what to do with the weights of the finished model."""
    make, node = component("norm", norm)
    on_weights = node.get("place") == "weights"
    block = Block(component("act", act)[0], None if on_weights else make, place, **more)
    return block, make if on_weights else None


def batch_of(name, seed=0):
    """Inputs and targets (B, …) that a model can learn by heart."""
    _, inputs, outputs, kind = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(B, *inputs, generator=generator)
    y = torch.arange(B) % outputs
    if kind == "words":
        x = (torch.arange(B)[:, None] + torch.arange(*inputs)) % outputs
        x = torch.where(torch.arange(*inputs) < 3, x, -1).float()
    elif kind == "labels":
        y = torch.randint(2, (B, outputs), generator=generator).float()
    elif kind == "pixels":
        y = torch.randint(outputs, (B, *inputs[1:]), generator=generator)
    elif kind == "inputs":
        y = x
    return x, y


def loss_of(name, output, y):
    kind = CASES[name][3]
    if kind == "labels":
        return F.binary_cross_entropy_with_logits(output, y)
    if kind == "inputs":
        return F.mse_loss(output, y)
    if kind == "members":
        return sum(F.cross_entropy(member, y) for member in output.unbind(1))
    return F.cross_entropy(output, y)


def gradients(name, model, seed=0):
    x, y = batch_of(name, seed)
    output = model(x)
    loss_of(name, output, y).backward()
    found = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert output.isfinite().all()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())
    return found


def count(model):
    return sum(p.numel() for p in model.parameters())


# ---------------------------------------------------------------- sizes


def test_the_catalogues_net_with_batch_norm():
    """784-300-100-10, normalized behind the inputs and each activation, so that biases count."""
    block = Block(nn.ELU, batch, "after")
    model = mlp((1, 28, 28), 10, block, hidden=[300, 100], input_norm=True)
    averages = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    assert count(model) == 268_978
    assert count(model) + averages == 271_346
    # Before the activation batch norm takes the place of the hidden layers' biases.
    before = mlp((1, 28, 28), 10, block._replace(place="before"), [300, 100], input_norm=True)
    assert count(before) == 268_978 - 300 - 100


def conv(n_in, n_out, size=3):
    return size**2 * n_in * n_out


WORDS, MAXOUT = 50, Block(partial(Maxout, 3))
BY_HAND = [
    (partial(linear, (784,), 10, PLAIN), 784 * 10 + 10),
    (partial(mlp, (1, 28, 28), 10, Block(nn.GELU), [300, 100]), 266_610),
    (partial(mlp, (784,), 10, BATCHED, [300, 100]), 266_610 + 300 + 100),
    (partial(mlp, (784,), 10, Block(nn.ReLU, layer), [300, 100]), 266_610 + 2 * (300 + 100)),
    # k maps per unit; one slope per channel and per unit
    (partial(mlp, (784,), 10, MAXOUT, [20]), 3 * 20 * 785 + 210),
    (partial(cnn, (1, 8, 8), 10, PLAIN), 160 + 4_640 + 128 * 129 + 1_290),
    (partial(cnn, (1, 8, 8), 10, Block(prelu)), 160 + 4_640 + 128 * 129 + 1_290 + 16 + 32 + 128),
    (partial(mlp_residual, (8,), 3, PLAIN, 6, 10), 90 + 6 * 110 + 33),
    # no biases but the last, and a norm before each layer but the first
    (partial(mlp_residual, (8,), 3, BATCHED, 6, 10), 80 + 6 * 100 + 7 * 20 + 33),
    # what the shortcuts carry is as wide as the activation wants
    (partial(mlp_residual, (8,), 3, MAXOUT, 6, 10), 3 * (90 + 6 * 110) + 33),
    (partial(multi_input, (5,), 3, PLAIN, [8, 4], [6], parts=[2, 3]), 60 + 68 + 54 + 21),
    # the convolutions of VGG-16, as published for it without its dense layers
    (
        partial(vgg, (3, 32, 32), 10, PLAIN, [64, 128, 256, 512, 512], [2, 2, 3, 3, 3]),
        14_714_688 + 5_130,
    ),
    (
        partial(resnet, (3, 32, 32), 10, BATCHED),
        conv(3, 16) + 6 * conv(16, 16) + conv(16, 32) + 5 * conv(32, 32) + conv(32, 64)
        + 5 * conv(64, 64) + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 650,
    ),
    (partial(wide_resnet, (3, 32, 32), 10, BATCHED), 2_748_890),
    (
        partial(unet, (1, 8, 8), 2, PLAIN, depth=1, base=4),
        conv(1, 4) + conv(4, 4) + conv(4, 8) + conv(8, 8) + conv(8, 4) + conv(8, 4) + conv(4, 4)
        + 5 * 4 + 2 * 8 + 10,
    ),
    (partial(autoencoder, (8,), 3, PLAIN, [6], 2), 2 * 8 * 6 + 2 * 6 * 2 + 6 + 2 + 6 + 8),
    (partial(autoencoder, (8,), 3, PLAIN, [6], 2, tied=True), 8 * 6 + 6 * 2 + 6 + 2 + 6 + 8),
    (
        partial(autoencoder, (1, 4, 4), 3, PLAIN, [6], 2, convolutional=True),
        2 * conv(1, 6) + 6 + 1 + 2 * 24 * 2 + 2 + 24,
    ),
    (partial(ensemble, (8,), 3, PLAIN, members=4, hidden=[6]), 4 * (54 + 21)),
    (partial(ensemble, (1, 8, 8), 10, PLAIN, members=2, of="cnn"), 2 * (4_800 + 16_512 + 1_290)),
    (partial(skipgram, (1,), WORDS, PLAIN, 12), 2 * WORDS * 12),
    (partial(cbow, (4,), WORDS, PLAIN, 12), 2 * WORDS * 12),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), BY_HAND)
def test_parameter_counts(make, expected):
    with torch.device("meta"):
        assert count(make()) == expected


# Millions of parameters as their papers print them (He 2015, table 6; Zagoruyko 2016, table 4).
PUBLISHED = [
    (resnet, dict(depth=20), "0.27"),
    (resnet, dict(depth=32), "0.46"),
    (resnet, dict(depth=44), "0.66"),
    (resnet, dict(depth=56), "0.85"),
    (resnet, dict(depth=110), "1.7"),
    (wide_resnet, dict(depth=40, widening=1), "0.6"),
    (wide_resnet, dict(depth=40, widening=2), "2.2"),
    (wide_resnet, dict(depth=40, widening=4), "8.9"),
    (wide_resnet, dict(depth=16, widening=8), "11.0"),
    (wide_resnet, dict(depth=28, widening=10), "36.5"),
]


@pytest.mark.parametrize(("arch", "settings", "expected"), PUBLISHED)
def test_sizes_of_the_papers(arch, settings, expected):
    with torch.device("meta"):
        millions = count(arch((3, 32, 32), 10, BATCHED, **settings)) / 1e6
    half = 0.5 * 10 ** -len(expected.partition(".")[2])
    assert abs(millions - float(expected)) <= 1.2 * half  # the papers cut some, and round others


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (mlp_residual(VECTOR, 2, PLAIN, depth=10, width=4), 12),
        (vgg(IMAGE, 2, PLAIN), 7),
        (resnet((3, 8, 8), 2, PLAIN, depth=20, width=4), 20),
        (wide_resnet((3, 8, 8), 2, PLAIN, depth=16, widening=2), 17),  # shortcuts too
        (unet((1, 16, 16), 2, PLAIN, depth=4, base=2), 23),  # the paper's count
    ],
)
def test_depth_counts_layers(model, layers):
    assert sum(isinstance(module, LAYERS) for module in model.modules()) == layers


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("shape", [(3, 9, 8), (1, 8, 8), (1, 28, 28)])
@pytest.mark.parametrize("act", [nn.GELU, Maxout, prelu, geglu])
@pytest.mark.parametrize(
    "arch",
    [
        linear,
        mlp,
        cnn,
        partial(mlp_residual, depth=2),
        vgg,
        partial(resnet, depth=8),
        partial(wide_resnet, depth=10, widening=1),
    ],
)
def test_shapes(arch, act, shape):
    block = Block(act, batch, "before", lambda: Dropout(0.5), lambda: SpatialDropout(0.5))
    assert arch(shape, 7, block)(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(3, 9, 8), (1, 8, 8), (2, 5, 7)])
@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("hidden", [[6], [6, 4, 8]])
def test_an_autoencoder_puts_out_its_inputs_shape(hidden, tied, convolutional, shape):
    model = autoencoder(shape, 7, BATCHED, hidden, 3, convolutional, tied)
    assert model(torch.randn(2, *shape)).shape == (2, *shape)


@pytest.mark.parametrize(("depth", "shape"), [(0, (3, 5, 7)), (2, (1, 12, 8)), (3, (1, 16, 32))])
def test_a_unet_puts_out_pixels(depth, shape):
    model = unet(shape, 5, BATCHED, depth, base=2)
    assert model(torch.randn(2, *shape)).shape == (2, 5, *shape[1:])


def test_an_ensemble_puts_out_members():
    assert ensemble((4,), 3, PLAIN, members=5)(torch.randn(2, 4)).shape == (2, 5, 3)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (partial(cnn, (2,)), "arch=cnn needs images"),
        (partial(vgg, (2,)), "arch=vgg needs images"),
        (partial(unet, (2, 3)), "arch=unet needs images"),
        (partial(resnet, (2,)), "arch=resnet needs images"),
        (partial(wide_resnet, (2,)), "arch=wide_resnet needs images"),
        (partial(ensemble, (2,), of="cnn"), "arch=cnn needs images"),
        (partial(autoencoder, (2,), convolutional=True), "needs images"),
        (partial(cnn, (1, 5, 5), channels=[4, 4, 4]), "allow only 2"),
        (partial(vgg, (1, 28, 7)), "allow only 2"),
        (partial(vgg, (1, 28, 28), convolutions=[1]), "same length"),
        (partial(unet, (1, 28, 28), depth=3), r"not divisible by 2\^3 = 8"),
        (partial(unet, (1, 16, 12), depth=3), r"16×12 pixels are not divisible"),
        (partial(resnet, IMAGE, depth=18), r"6n \+ 2.*Use arch.depth=20"),
        (partial(resnet, IMAGE, depth=2), r"Use arch.depth=8"),
        (partial(wide_resnet, IMAGE, depth=20), r"6n \+ 4.*Use arch.depth=22"),
        (partial(mlp_residual, (4,), depth=5), "must be even, such as 6"),
        (partial(multi_input, (4,)), "several inputs, such as dataset=pair"),
        (partial(multi_input, (5,), parts=[2, 2]), r"2 \+ 2 columns"),
        (partial(skipgram, (4,)), "predicts from one word"),
        (partial(cbow, (4, 4)), "needs lists of words"),
    ],
)
def test_errors_say_what_is_needed(make, match):
    with pytest.raises(UserError, match=match):
        make(outputs=2, block=PLAIN)


def test_weights_of_an_activation_that_widens_cannot_be_tied():
    with pytest.raises(UserError, match=r"Use arch.tied=false"):
        autoencoder((4,), 2, Block(Maxout), tied=True)


# ---------------------------------------------------------------- what stands around the layers


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("act", options("act"))
def test_every_activation(act, name):
    """Normalized behind, or exponentials of exponentials would overflow."""
    block, _ = recipe(act, "layer", "after")
    if name in TIED and block.widens > 1:
        return  # tested above
    gradients(name, built(name, block))


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("norm", options("norm"))
def test_every_normalization(norm, name, place):
    block, on_weights = recipe("gelu", norm, place)
    model = built(name, block)
    for module in list(model.modules()):
        if on_weights and isinstance(module, LAYERS):
            on_weights(module)
    gradients(name, model)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("init", options("init"))
def test_every_initializer(init, name):
    model = built(name, PLAIN)
    initialize(model, component("init", init)[0], 0, batch_of(name)[0])
    gradients(name, model)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_takes_part(name):
    found = gradients(name, built(name, recipe("gelu", "layer")[0]))
    unused = [key for key, gradient in found.items() if not gradient.any()]
    assert not unused


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("norm", [batch, layer, instance])
@pytest.mark.parametrize("place", ["before", "after"])
def test_each_activation_has_what_the_recipe_puts_around_it(name, norm, place):
    """As many norms and dropouts as activations, and biases but where batch norm follows."""
    wanted = Block(nn.Hardswish, norm, place, lambda: Dropout(0.2), lambda: SpatialDropout(0.1))
    modules = list(built(name, wanted).modules())
    acts = sum(isinstance(module, nn.Hardswish) for module in modules)
    spatial = sum(type(module) is SpatialDropout for module in modules)
    assert sum(type(module) is Dropout for module in modules) == acts
    norms = sum(
        isinstance(module, (*BATCH, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d))
        for module in modules
    )
    at_inputs = "input_norm" in name and norm is not instance
    assert norms == (spatial if norm is instance else acts) + at_inputs
    biased = [m.bias is not None for m in modules if isinstance(m, (*LAYERS, Transposed))]
    if name in ("skipgram", "cbow"):
        assert biased == [False]
    elif norm is batch and place == "before":
        # What no activation follows: the outputs of each net, and an autoencoder's code.
        assert sum(biased) == {"autoencoder": 2, "ensemble": 2}.get(name.partition(" ")[0], 1)
    else:
        assert all(biased)


ORDER = {
    "before": [nn.BatchNorm2d, nn.ReLU, SpatialDropout, Dropout],
    "after": [nn.ReLU, nn.BatchNorm2d, SpatialDropout, Dropout],
}


def kinds(modules):
    return [type(module) for module in modules]


@pytest.mark.parametrize("place", ORDER)
def test_order_around_a_layer(place):
    block = Block(nn.ReLU, batch, place, Dropout, SpatialDropout)
    order = ORDER[place]
    assert kinds(block.conv(3, 4, 3)) == [nn.Conv2d, *order]

    # A residual net adds its shortcut right before the activation,
    model = resnet(IMAGE, 2, block, depth=8)
    joint = order.index(nn.ReLU)
    assert kinds(model[5].branch) == [nn.Conv2d, *order, nn.Conv2d, *order[:joint]]
    assert kinds(model)[5 : 6 + len(order[joint:])] == [Residual, *order[joint:]]

    # or, with pre-activation, behind the layer.
    model = wide_resnet(IMAGE, 2, block, depth=16, widening=1)
    assert kinds(model[1].branch) == [*order, nn.Conv2d] * 2
    assert kinds(model)[2:8] == [Residual, *order, Residual]
    assert kinds(model[7].branch) == [nn.Conv2d, *order, nn.Conv2d]
    dense = [m for m in order if m is not SpatialDropout]
    dense[dense.index(nn.BatchNorm2d)] = nn.BatchNorm1d
    model = mlp_residual(VECTOR, 2, block, depth=2, width=8)
    assert kinds(model[2].branch) == [*dense, nn.Linear] * 2
    assert kinds(model)[3:] == [*dense, nn.Linear]


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("name", CASES)
def test_overfits_one_batch(name):
    model, (x, y) = built(name, Block(nn.ELU)), batch_of(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = loss_of(name, model(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.03


@pytest.mark.parametrize("norm", [None, batch])
def test_hundreds_of_residual_layers_keep_the_signal(norm):
    """With he's weights: no explosion, with or without normalization."""
    model = mlp_residual((20,), 10, Block(nn.ReLU, norm), depth=300, width=50)
    initialize(model, component("init", "he_normal")[0], 0)
    x = torch.randn(100, 20, generator=torch.Generator().manual_seed(0))
    output = model(x)
    assert 0.3 < output.std() < 5
    output.square().mean().backward()
    lengths = [m.weight.grad.norm() for m in model.modules() if isinstance(m, nn.Linear)][1:-1]
    assert max(lengths) / min(lengths) < 10


# ---------------------------------------------------------------- residual nets


def slow_shortcut(x, channels, stride):
    """Option A of He 2015, number by number."""
    examples, depth, height, width = x.shape
    y = torch.zeros(examples, channels, math.ceil(height / stride), math.ceil(width / stride))
    for c in range(depth):
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                y[:, c, i, j] = x[:, c, stride * i, stride * j]
    return y


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_shortcut_without_parameters(stride, size):
    x = torch.randn(2, 3, *size)
    shortcut = PaddedShortcut(6, stride)
    assert torch.equal(shortcut(x), slow_shortcut(x, 6, stride))
    assert count(shortcut) == 0
    assert nn.Conv2d(3, 6, 3, stride=stride, padding=1)(x).shape == shortcut(x).shape


def zero_branches(model):
    """Silence what the blocks add; the other weights stay."""
    with torch.no_grad():
        for residual in model.modules():
            if isinstance(residual, Residual):
                for module in residual.branch:
                    if isinstance(module, LAYERS):
                        module.weight.zero_()
                        module.bias.zero_()


def test_residual_dense_blocks_of_zero_weights_are_the_identity():
    model = mlp_residual(VECTOR, 3, Block(nn.Tanh), depth=6, width=8)
    x = torch.randn(5, *VECTOR)
    without = nn.Sequential(*[m for m in model if not isinstance(m, Residual)])
    assert not torch.allclose(model(x), without(x))
    zero_branches(model)
    torch.testing.assert_close(model(x), without(x))


def test_a_resnet_of_zero_blocks_thins_out_its_first_convolution():
    model = resnet(IMAGE, 3, PLAIN, depth=14, width=4)
    zero_branches(model)
    x = torch.randn(5, *IMAGE)
    image = slow_shortcut(slow_shortcut(model[0](x).relu(), 8, 2), 16, 2)
    torch.testing.assert_close(model(x), model[-1](image.mean((2, 3))))


def test_a_wide_resnet_of_zero_blocks_projects():
    model = wide_resnet(IMAGE, 3, PLAIN, depth=16, widening=2)
    zero_branches(model)
    x = torch.randn(5, *IMAGE)
    image, projections = model[0](x), 0
    for module in model:
        if isinstance(module, Residual) and isinstance(module.shortcut, nn.Conv2d):
            image = module.shortcut(image.relu())  # what its branch sees
            projections += 1
    assert projections == 3
    torch.testing.assert_close(model(x), model[-1](image.relu().mean((2, 3))))


def test_a_residual_adds_its_branch_to_its_shortcut():
    branch, shortcut = nn.Linear(3, 4), nn.Linear(3, 4)
    x = torch.randn(5, 3)
    expected = shortcut(x) + 0.5 * branch(x)
    torch.testing.assert_close(Residual([branch], shortcut, 0.5)(x), expected)
    assert mlp_residual(VECTOR, 3, PLAIN, depth=50)[2].scale == pytest.approx(1 / 5)


def test_dropout_within_the_blocks_of_a_wide_resnet():
    model = wide_resnet(IMAGE, 2, Block(nn.ReLU, batch, "before", Dropout), 10, 1, dropout=0.3)
    rates = [round(m.rate.item(), 3) for m in model.modules() if isinstance(m, Dropout)]
    assert rates == [0.5, 0.3] * 3 + [0.5]


# ---------------------------------------------------------------- the others


def test_a_branch_sees_its_own_input_only():
    model = multi_input((5,), 3, Block(nn.Tanh), [8], [6], parts=[2, 3])
    branches = model[0]
    x = torch.randn(4, 5, requires_grad=True)
    outputs = branches(x)
    assert outputs.shape == (4, 16)
    for own, columns in (((0, 8), [0, 1]), ((8, 16), [2, 3, 4])):
        (gradient,) = torch.autograd.grad(outputs[:, slice(*own)].sum(), x, retain_graph=True)
        assert gradient.any(0).nonzero().flatten().tolist() == columns
    first, second = branches.branches
    joined = torch.cat([first(x[:, :2]), second(x[:, 2:])], 1)
    torch.testing.assert_close(model(x), model[1:](joined))


def test_the_connections_of_a_unet_matter():
    """What a pixel shows arrives even where nothing comes through from below."""
    model = unet((1, 8, 8), 2, PLAIN, depth=2, base=4)
    besides = [module for module in model.modules() if isinstance(module, Beside)]
    assert len(besides) == 2
    x = torch.randn(3, 4, 8, 8)
    outer = besides[0]
    side = outer(x)
    assert torch.equal(side[:, :4], x)
    torch.testing.assert_close(side[:, 4:], outer.inner(x))
    with torch.no_grad():
        for module in outer.inner.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                module.bias.zero_()
    images = torch.randn(2, 1, 8, 8)
    outputs = model(images)
    assert not torch.allclose(outputs[0], outputs[1])


def test_a_unets_lowest_level_sees_the_whole_image():
    model = unet((1, 16, 16), 1, Block(nn.Tanh), depth=3, base=2)
    x = torch.randn(1, 1, 16, 16, requires_grad=True)
    model(x)[0, 0, 0, 0].backward()
    assert x.grad[0, 0].ne(0).float().mean() > 0.9


@pytest.mark.parametrize("convolutional", [False, True])
def test_a_tied_decoder_shares_its_weights_and_gives_them_both_gradients(convolutional):
    shape = (2, 5, 4)
    model = autoencoder(shape, 0, Block(nn.Tanh), [6], 3, convolutional, tied=True).double()
    ways = [module for module in model.modules() if isinstance(module, Transposed)]
    layers = [module for module in model if isinstance(module, LAYERS)]
    assert [way.layer for way in reversed(ways)] == layers
    free = autoencoder(shape, 0, Block(nn.Tanh), [6], 3, convolutional).double()
    names = [name for name, _ in model.named_parameters() if "weight" in name]
    assert len(names) == 2
    assert len([name for name, _ in free.named_parameters() if "weight" in name]) == 4

    x = torch.randn(3, *shape, dtype=torch.float64)
    model(x).square().sum().backward()
    there = layers[0]
    whole = there.weight.grad.clone()
    # The derivative by the formula of a difference sees both uses of the weight.
    with torch.no_grad():
        index, step = tuple([0] * there.weight.dim()), 1e-6
        there.weight[index] += step
        above = model(x).square().sum()
        there.weight[index] -= 2 * step
        below = model(x).square().sum()
        there.weight[index] += step
    torch.testing.assert_close(whole[index], (above - below) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (6, 3)])
def test_transposed_is_the_adjoint(size):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩, for what the layers do apart from their biases."""
    generator = torch.Generator().manual_seed(0)
    for layer_, shape in (
        (nn.Linear(7, 4, bias=False), (7,)),
        (nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), (3, *size)),
    ):
        x = torch.randn(2, *shape, generator=generator)
        there = layer_(x)
        y = torch.randn(there.shape, generator=generator)
        back = Transposed(layer_, shape, bias=True)(y)
        assert back.shape == x.shape
        torch.testing.assert_close((there * y).sum(), (x * back).sum())


@pytest.mark.parametrize("name", ["ensemble", "ensemble of cnn"])
def test_members_of_an_ensemble_are_nets_of_their_own(name):
    model = built(name, Block(nn.ReLU, batch, "before", Dropout))
    members = [copy.deepcopy(member) for member in model.members]
    x, y = batch_of(name)
    outputs = model(x)
    loss_of(name, outputs, y).backward()
    for k, (member, alone) in enumerate(zip(model.members, members, strict=True)):
        expected = alone(x)
        F.cross_entropy(expected, y).backward()
        assert torch.equal(outputs[:, k], expected)
        for mine, other in zip(member.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)
        for mine, other in zip(member.buffers(), alone.buffers(), strict=True):
            assert torch.equal(mine, other)
    assert not torch.equal(outputs[:, 0], outputs[:, 1])


def test_word_vectors():
    """Logits u_j · mean of v_i, over the words that are there, in float64 loops."""
    torch.manual_seed(0)
    model = cbow((4,), 9, PLAIN, dim=5).double()
    x = torch.tensor([[1, 2, 3, 4], [7, 7, 0, -1], [-1, 8, -1, -1], [-1, -1, -1, -1]])
    v, u = model.embedding.weight, model.output.weight
    assert v.shape == u.shape == (9, 5)
    for row, logits in zip(x, model(x.double()), strict=True):
        words = [v[i] for i in row.tolist() if i >= 0]
        mean = sum(words) / len(words) if words else torch.zeros(5, dtype=torch.float64)
        expected = torch.stack([(u[j] * mean).sum() for j in range(9)])
        torch.testing.assert_close(logits, expected)
    one = skipgram((1,), 9, PLAIN, dim=5)
    torch.testing.assert_close(
        one(torch.tensor([[3.0]]))[0], one.output.weight @ one.embedding.weight[3]
    )


def test_word_vectors_start_small():
    weight = skipgram((1,), 500, PLAIN, dim=20).embedding.weight
    assert weight.abs().max() <= 0.5 / 20
    assert weight.std().item() == pytest.approx(1 / 20 / math.sqrt(12), rel=0.02)


# ---------------------------------------------------------------- stacks, precision, copies


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("act", ["relu", "swiglu"])
def test_members_of_a_stack_equal_their_solo_runs(name, act):
    """Outputs, gradients, running averages; batch norm, and dropout drawn by each on its own."""
    act = "relu" if name in TIED else act
    block, _ = recipe(act, "batch", dropout=partial(Dropout, 0.2))
    models = [built(name, block, seed) for seed in range(3)]
    stack = Stack(models)
    x = torch.stack([batch_of(name, seed)[0] for seed in range(3)])
    outputs = stack(x)
    stack.backward(outputs.square().flatten(1).mean(1))
    for r, model in enumerate(models):
        expected = model(x[r])
        expected.square().mean().backward()
        torch.testing.assert_close(outputs[r], expected, rtol=1e-4, atol=1e-4)
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        torch.testing.assert_close(stack.g[r], gradient, rtol=1e-3, atol=1e-4)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(stack.state_dict(r)[key], value)


@pytest.mark.parametrize("name", CASES)
def test_half_precision(name):
    model = built(name, Block(nn.ELU, layer))
    x, y = batch_of(name)
    expected = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(x)
    torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.1)
    loss_of(name, output.float(), y).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_copy_is_the_same_and_inputs_stay(name):
    model = built(name, BATCHED).eval()
    x, _ = batch_of(name)
    before = x.clone()
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert torch.equal(x, before)
    again = built(name, BATCHED, seed=1).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
