"""One step of every optimizer against torch.optim's fastest version of the same.

Both have their gradients already and do nothing but update: the parameters of a network as a list
of tensors there, as one matrix (1, P) here. The peer is fused where torch's CPU build has it so,
else foreach. Rules that torch does not have are left out.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import torch

from benchmarks.measure import Comparison, interleave, show
from trainlab import optimizers
from trainlab.optimizers import State

FUSED, FOREACH = {"fused": True}, {"foreach": True}
PEERS = {
    "sgd": (torch.optim.SGD, FUSED),
    "momentum": (torch.optim.SGD, FUSED | {"momentum": 0.9}),
    "momentum_ewma": (torch.optim.SGD, FUSED | {"momentum": 0.9, "dampening": 0.9}),
    "nesterov": (torch.optim.SGD, FUSED | {"momentum": 0.9, "nesterov": True}),
    "adagrad": (torch.optim.Adagrad, FUSED),
    "adam": (torch.optim.Adam, FUSED),
    "amsgrad": (torch.optim.Adam, FUSED | {"amsgrad": True}),
    "adamw": (torch.optim.AdamW, FUSED),
    "rmsprop": (torch.optim.RMSprop, FOREACH),
    "adadelta": (torch.optim.Adadelta, FOREACH),
    "adamax": (torch.optim.Adamax, FOREACH),
    "nadam": (torch.optim.NAdam, FOREACH),
    "radam": (torch.optim.RAdam, FOREACH),
    "rprop": (torch.optim.Rprop, FOREACH),
    "asgd": (torch.optim.ASGD, FOREACH),
}
NETWORKS = {"64-100-100-10": 2000, "784-300-100-10": 200}  # steps in a round


def timed(step: Callable[[], None], steps: int) -> float:
    """Seconds of so many steps."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


def torchs(name: str, tensors: list[torch.Tensor]) -> Callable[[], None]:
    parameters = [torch.nn.Parameter(tensor.clone()) for tensor in tensors]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    make, settings = PEERS[name]
    return make(parameters, lr=1e-3, **settings).step


def ours(name: str, tensors: list[torch.Tensor]) -> Callable[[], None]:
    w = torch.cat([tensor.flatten() for tensor in tensors])[None]
    g, state, rule = torch.randn_like(w), State(w), getattr(optimizers, name)
    lr = torch.tensor([[1e-3]], dtype=torch.float64)

    def step() -> None:
        state.t += 1
        rule(w, g, state, lr)

    return step


def compare(name: str, network: str, steps: int) -> Comparison:
    torch.manual_seed(0)
    widths = [int(width) for width in network.split("-")]
    shapes = [(m, n) for n, m in pairwise(widths)]
    tensors = [torch.randn(size) for m, n in shapes for size in ((m, n), (m,))]
    mine, theirs = ours(name, tensors), torchs(name, tensors)
    return interleave(
        f"{name}, {network}, {steps} steps",
        lambda: timed(mine, steps),
        lambda: timed(theirs, steps),
        goal=1.00,
        rounds=15,
    )


def main() -> None:
    torch.set_num_threads(1)
    comparisons = [
        compare(name, network, steps) for network, steps in NETWORKS.items() for name in PEERS
    ]
    show("updates against torch.optim's fastest (one thread)", comparisons)
