"""Activations: factories `(**settings) -> nn.Module`, most of them classes of torch.nn.

The module maps (B, features) or (B, features, H, W) to the same shape; the features are axis 1.

- A factory with a parameter `features` is called with the number of features the module will see.
- A module that takes several inputs for each output says how many by its integer attribute
  `widens`: the layer before it is made `widens` times as wide, and it maps (B, widens·features, …)
  to (B, features, …), so that nothing behind it changes. Axis 1 is then (widens, features): first
  the first inputs of all features, then the second ones.
- A module that draws random numbers is a `trainlab.noise.Noisy`.

At −∞, 0, ∞ and NaN each gives what its formula gives in floating point, so NaN where that is
−∞ · 0: such an input has left the range of the numbers long before, and hiding it would cost every
step something. The tests hold a table of these values.
"""

import torch
from torch import Tensor, nn

from trainlab.noise import Noisy


class Step(nn.Module):
    """1[x > 0], exactly 0 or 1; at 0 and NaN it is 0. Equals torch.heaviside(x, 0).

    Its derivative is 0 wherever it has one, so nothing below it learns. `straight_through` passes
    the gradient as if the step were the identity, where |x| ≤ 1: the straight-through estimator
    (Hinton 2012, Coursera lecture 9c; Bengio, Léonard & Courville 2013, arXiv:1308.3432), with the
    clipping of Hubara et al. 2016 (arXiv:1602.02830), without which saturated units drift on.
    """

    def __init__(self, straight_through: bool = True) -> None:
        super().__init__()
        self.straight_through = straight_through

    def forward(self, x: Tensor) -> Tensor:
        step = x.sign().relu()  # unlike a comparison, it has a gradient, which is zero
        if not self.straight_through:
            return step
        passed = torch.where(x.abs() <= 1, x, 0.0)
        return step + (passed - passed.detach())


class SquaredReLU(nn.Module):
    """max(0, x)². So, Mańke, Liu, Dai, Shazeer & Le 2021 (Primer), arXiv:2109.08668."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


class Exponential(nn.Module):
    """eˣ: positive, and its own derivative; beyond x = 88.7 it is ∞ in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class RReLU(Noisy):
    """x above 0, a·x below: a ~ U(lower, upper) per number in training, (lower + upper)/2 in test.

    As torch.nn.RReLU, with the random numbers of `Noisy`. Xu, Wang, Chen & Li 2015,
    arXiv:1505.00853; they write the slope as 1/a, a ~ U(3, 8), and test with 2/(3 + 8).
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper

    def forward(self, x: Tensor) -> Tensor:
        u = self.draw(x).to(x.dtype) if self.training else 0.5
        return torch.where(x > 0, x, (self.lower + (self.upper - self.lower) * u) * x)


def prelu(features: int, shared: bool = False, init: float = 0.25) -> nn.Module:
    """x above 0, a·x below; a is learnt: one per unit or channel, or one `shared` by the layer.

    He, Zhang, Ren & Sun 2015, arXiv:1502.01852; they do not decay a, which would pull it to relu.
    """
    return nn.PReLU(1 if shared else features, init)


class Swish(nn.Module):
    """x σ(βx), β one number of the layer, learnt or fixed.

    β = 0 is x/2, β = 1 torch.nn.SiLU, β = 1.702 the quick approximation of gelu, β → ∞ relu. At −∞
    NaN, as torch.nn.SiLU. Ramachandran, Zoph & Le 2017, arXiv:1710.05941; 1.702 from Hendrycks &
    Gimpel 2016, arXiv:1606.08415.
    """

    def __init__(self, beta: float = 1.0, trainable: bool = True) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(float(beta))) if trainable else beta

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class Maxout(nn.Module):
    """The greatest of k affine maps, (B, k·features, …) -> (B, features, …).

    Map j of unit i is feature j·features + i. Two maps can be relu or |x|, many any convex
    function. Goodfellow, Warde-Farley, Mirza, Courville & Bengio 2013, arXiv:1302.4389.

    >>> Maxout(2)(torch.tensor([[1.0, 2.0, 3.0, -4.0]]))
    tensor([[3., 2.]])
    """

    def __init__(self, k: int = 2) -> None:
        super().__init__()
        self.widens = k

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.widens, -1)).amax(1)


class Gated(nn.Module):
    """gate(a) ⊙ b, a the first half of the features and b the second; (B, 2·features, …) -> ….

    torch.nn.GLU has its gate in the second half: a ⊙ σ(b). Shazeer 2020, arXiv:2002.05202.
    """

    widens = 2

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return self.gate(a) * b


def glu() -> nn.Module:
    """σ(a) ⊙ b. Dauphin, Fan, Auli & Grangier 2016, arXiv:1612.08083."""
    return Gated(nn.Sigmoid())


def geglu() -> nn.Module:
    """gelu(a) ⊙ b. Shazeer 2020, arXiv:2002.05202."""
    return Gated(nn.GELU())


def swiglu() -> nn.Module:
    """swish₁(a) ⊙ b, its β fixed at 1. Shazeer 2020, arXiv:2002.05202."""
    return Gated(nn.SiLU())
