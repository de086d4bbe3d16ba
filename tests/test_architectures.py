import pytest
import torch
from torch import nn

from trainlab import data, run
from trainlab.architectures import cnn, linear, mlp
from trainlab.config import UserError, compose
from trainlab.norms import batch, layer


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts():
    assert count(linear((784,), 10, nn.ReLU, None)) == 7_850
    assert count(mlp((1, 28, 28), 10, nn.ReLU, None, hidden=[300, 100])) == 266_610
    # batch norm takes the biases' place and has a scale and a shift of its own
    assert count(mlp((784,), 10, nn.ReLU, batch, hidden=[300, 100])) == 266_610 + 300 + 100
    assert count(mlp((784,), 10, nn.ReLU, layer, hidden=[300, 100])) == 266_610 + 2 * (300 + 100)


@pytest.mark.parametrize("norm", [None, batch, layer])
@pytest.mark.parametrize("arch", [linear, mlp, cnn])
def test_shapes(arch, norm):
    model = arch((3, 9, 8), 7, nn.GELU, norm)
    assert model(torch.randn(5, 3, 9, 8)).shape == (5, 7)


def test_cnn_says_what_it_needs():
    with pytest.raises(UserError, match="needs images"):
        cnn((2,), 2, nn.ReLU, None)
    with pytest.raises(UserError, match="allow only 2"):
        cnn((1, 5, 5), 2, nn.ReLU, None, channels=[4, 4, 4])


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
