"""What architectures share: a mark of what they give, and what stands around hidden layers."""

from collections.abc import Callable
from inspect import signature
from typing import NamedTuple, TypeVar

from torch import nn

from trainlab.norms import BATCH

Shape = tuple[int, ...]
Arch = TypeVar("Arch", bound=Callable[..., nn.Module])

NUMBERS = ("classification", "binary", "multi_label", "regression")  # outputs (B, numbers)


class Outputs(NamedTuple):
    """Which tasks the outputs of an architecture are for, and whether they are several members'."""

    tasks: tuple[str, ...] = ()  # none: it may be for any
    members: bool = False  # (B, members, …)


def gives(*tasks: str, members: bool = False) -> Callable[[Arch], Arch]:
    """Mark an architecture with its `Outputs`: `@gives("segmentation")`."""

    def mark(arch: Arch) -> Arch:
        arch.gives = Outputs(tasks, members)
        return arch

    return mark


def given_by(arch: Callable[..., nn.Module]) -> Outputs:
    """What the mark says; without one it is one model's, and may be for any task.

    >>> given_by(nn.Linear)
    Outputs(tasks=(), members=False)
    """
    return getattr(arch, "gives", Outputs())


class Block(NamedTuple):
    """What a recipe puts around each hidden layer; the one place that orders it.

        layer, [norm,] act, [norm,] [spatial dropout,] [dropout]

    `dense` and `conv` give all of that; `around` is what follows the layer, and made of two parts,
    `before` the activation and from it on, between which a residual net adds its shortcut. Whatever
    is followed by `around`, at once or behind an addition, comes from `bare_dense` or `bare_conv`:
    it is as wide as the activation wants, and has a bias only where that is not in vain. So
    pre-activation is `[*block.around(n_in, dims), block.bare_dense(n_in, n_out)]`.

    `dims` is 1 for (B, features) and 2 for (B, features, H, W).

    >>> Block(nn.ReLU).dense(8, 4)
    [Linear(in_features=8, out_features=4, bias=True), ReLU()]
    """

    act: Callable[..., nn.Module]
    norm: Callable[..., nn.Module | None] | None = None
    place: str = "before"  # normalization before or after the activation
    dropout: Callable[[], nn.Module] | None = None  # behind every hidden layer
    spatial_dropout: Callable[[], nn.Module] | None = None  # behind convolutions

    def dense(self, n_in: int, n_out: int) -> list[nn.Module]:
        """(B, n_in) -> (B, n_out)."""
        return [self.bare_dense(n_in, n_out), *self.around(n_out, 1)]

    def conv(self, n_in: int, n_out: int, size: int, **settings: int) -> list[nn.Module]:
        """(B, n_in, H, W) -> (B, n_out, H, W), H and W kept by padding unless settings say else."""
        return [self.bare_conv(n_in, n_out, size, **settings), *self.around(n_out, 2)]

    def bare_dense(self, n_in: int, n_out: int) -> nn.Module:
        """(B, n_in) -> (B, widens · n_out)."""
        return nn.Linear(n_in, self.widens * n_out, bias=self.biased(n_out, 1))

    def bare_conv(self, n_in: int, n_out: int, size: int, **settings: int) -> nn.Module:
        """(B, n_in, H, W) -> (B, widens · n_out, H, W), as `conv`."""
        settings = {"padding": size // 2} | settings
        bias = self.biased(n_out, 2)
        return nn.Conv2d(n_in, self.widens * n_out, size, bias=bias, **settings)

    def around(self, features: int, dims: int) -> list[nn.Module]:
        """(B, widens · features, …) -> (B, features, …): what follows a bare layer."""
        return [*self.before(features, dims), *self.behind(features, dims)]

    def before(self, features: int, dims: int) -> list[nn.Module]:
        """The part of `around` before the activation, all that `place: before` puts there."""
        return self.normalization(self.widens * features, dims) if self.place == "before" else []

    def behind(self, features: int, dims: int) -> list[nn.Module]:
        """The rest of `around`: the activation and what is behind it."""
        after = self.normalization(features, dims) if self.place == "after" else []
        spatial = [self.spatial_dropout()] if self.spatial_dropout and dims == 2 else []
        dropout = [self.dropout()] if self.dropout else []
        return [self.activation(features), *after, *spatial, *dropout]

    def normalization(self, features: int, dims: int) -> list[nn.Module]:
        """The normalization for so many features, or nothing: some have none for dense layers."""
        norm = self.norm(features, dims) if self.norm else None
        return [] if norm is None else [norm]

    def activation(self, features: int) -> nn.Module:
        """The activation for so many features, which those with learnt slopes need to know."""
        wants = "features" in signature(self.act).parameters
        return self.act(features=features) if wants else self.act()

    @property
    def widens(self) -> int:
        """How many inputs the activation takes for each output."""
        return getattr(self.activation(1), "widens", 1)

    def biased(self, features: int, dims: int) -> bool:
        """Whether a bare layer has a bias.

        Batch norm subtracts whatever a bias adds, and has a shift of its own.
        """
        return not any(isinstance(norm, BATCH) for norm in self.before(features, dims))
