import pytest
import torch
from torch import nn

from trainlab.layout import layout

NET = nn.Sequential(
    nn.Conv2d(2, 3, 3),
    nn.BatchNorm2d(3),
    nn.PReLU(),
    nn.Flatten(),
    nn.Linear(12, 4),
    nn.Linear(4, 2),
)


def test_units_weights_and_output():
    found = layout(NET, torch.device("cpu"))
    sizes = [p.numel() for p in NET.parameters()]
    assert found.names == [name for name, _ in NET.named_parameters()]
    assert found.sizes == sizes
    # 3 filters, its bias, norm's scale and shift, one slope, 4 rows, bias, 2 rows, bias
    assert found.units == 3 + 1 + 1 + 1 + 1 + 4 + 1 + 2 + 1
    assert found.weight.sum() == 3 * 18 + 48 + 8
    assert found.output.sum() == 8 + 2
    assert torch.equal(found.unit[:54], torch.arange(3).repeat_interleave(18))


def test_lengths_are_those_of_rows_and_filters():
    found = layout(NET, torch.device("cpu"))
    flat = torch.cat([p.detach().flatten() for p in NET.parameters()])
    lengths = found.lengths(torch.stack([flat, 2 * flat]))
    torch.testing.assert_close(lengths[0, :3], NET[0].weight.flatten(1).norm(dim=1).detach())
    torch.testing.assert_close(lengths[1, 7:11], 2 * NET[4].weight.norm(dim=1).detach())
    torch.testing.assert_close(lengths[0, 11], NET[4].bias.norm().detach())


def test_a_layer_alone_is_its_own_output():
    found = layout(nn.Linear(3, 2), torch.device("cpu"))
    assert found.output.all()
    assert found.weight.tolist() == [True] * 6 + [False] * 2


def test_reparametrized_weights_belong_to_their_layer():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    nn.utils.parametrizations.weight_norm(net[0])
    found = layout(net, torch.device("cpu"))
    named = dict(zip(found.names, found.weight.split(found.sizes), strict=True))
    assert named["0.parametrizations.weight.original0"].all()  # the length of each unit
    assert not named["0.parametrizations.weight.original1"].any()  # its direction
    assert not named["0.bias"].any()


def test_columns_spread_a_value_per_parameter():
    found = layout(nn.Linear(3, 2), torch.device("cpu"))
    assert found.columns([0.5, 2.0]).tolist() == pytest.approx([0.5] * 6 + [2.0] * 2)
