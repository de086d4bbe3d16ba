"""32 runs as bare PyTorch loops in one process, no files, no logs: `python bare.py DATA EPOCHS`.

DATA is an npz of standardized inputs x (N, 64), classes y (N,) and the positions train, val, test.
Prints the test accuracy of every run. SGD is what torch takes by default, as in benchmarks/runs.py;
with fused=True the loops would be faster.
"""

import copy
import itertools
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SEEDS, RATES = range(8), (0.003, 0.01, 0.03, 0.05)


def network() -> nn.Module:
    model = nn.Sequential(
        nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return model


def train(data: dict[str, torch.Tensor], seed: int, lr: float, epochs: int) -> float:
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    x, y = data["x"], data["y"]
    x_val, y_val, x_test, y_test = (v[data[split]] for split in ("val", "test") for v in (x, y))
    best, best_loss = copy.deepcopy(model.state_dict()), float("inf")
    for _ in range(epochs):
        model.train()
        for index in data["train"][torch.randperm(len(data["train"]))].split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = F.cross_entropy(model(x_val), y_val).item()
        if loss < best_loss:
            best, best_loss = copy.deepcopy(model.state_dict()), loss
    model.load_state_dict(best)
    with torch.no_grad():
        return (model(x_test).argmax(1) == y_test).float().mean().item()


def main(file: str, epochs: int) -> None:
    with np.load(file) as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in arrays}
    for seed, lr in itertools.product(SEEDS, RATES):
        print(train(data, seed, lr, epochs))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
