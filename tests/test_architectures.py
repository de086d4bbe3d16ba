from functools import partial

import pytest
import torch
from torch import nn

from trainlab import data, run
from trainlab.activations import Maxout, geglu, prelu
from trainlab.architectures import Block, cnn, linear, mlp
from trainlab.config import UserError, compose
from trainlab.noise import Dropout, SpatialDropout
from trainlab.norms import batch, layer


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts():
    plain, gelu = Block(nn.ReLU), Block(nn.GELU)
    assert count(linear((784,), 10, plain)) == 7_850
    assert count(mlp((1, 28, 28), 10, gelu, hidden=[300, 100])) == 266_610
    # batch norm takes the biases' place and has a scale and a shift of its own
    assert count(mlp((784,), 10, Block(nn.ReLU, batch), hidden=[300, 100])) == 266_610 + 300 + 100
    assert count(mlp((784,), 10, Block(nn.ReLU, layer), hidden=[300, 100])) == 266_610 + 2 * (
        300 + 100
    )

    # k maps per unit; one slope per channel and per unit
    assert count(mlp((784,), 10, Block(partial(Maxout, 3)), hidden=[20])) == 3 * 20 * 785 + 210
    slopes = count(cnn((1, 8, 8), 10, Block(prelu))) - count(cnn((1, 8, 8), 10, plain))
    assert slopes == 16 + 32 + 128


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("act", [nn.GELU, Maxout, prelu, geglu])
@pytest.mark.parametrize("norm", [None, batch, layer])
@pytest.mark.parametrize("arch", [linear, mlp, cnn])
def test_shapes(arch, norm, act, place):
    block = Block(act, norm, place, lambda: Dropout(0.5), lambda: SpatialDropout(0.5))
    model = arch((3, 9, 8), 7, block)
    assert model(torch.randn(5, 3, 9, 8)).shape == (5, 7)


def test_cnn_says_what_it_needs():
    with pytest.raises(UserError, match="needs images"):
        cnn((2,), 2, Block(nn.ReLU))
    with pytest.raises(UserError, match="allow only 2"):
        cnn((1, 5, 5), 2, Block(nn.ReLU), channels=[4, 4, 4])


@pytest.mark.parametrize("arch", ["linear", "mlp", "cnn"])
def test_overfits_one_batch(arch):
    config = compose([f"arch={arch}"])
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    model = run.build_model(config, examples)
    x, y = examples.x[:20], examples.y[:20]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
