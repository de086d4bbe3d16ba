"""Whole runs, all bookkeeping on, against the plain PyTorch loop on the same work.

The peer is the loop an expert writes when only speed counts, with torch's own optimizers: data in
memory as tensors, index batches, losses and correct answers accumulated as tensors, one evaluation
of the validation split per epoch, the best weights kept, the test split at the end, no files.
"""

import copy
import shutil
import tempfile
import time
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.measure import Comparison, interleave, show
from trainlab import data, prepare, run
from trainlab.config import Config, compose


def plain(config: Config, make_optimizer) -> float:
    """Seconds of one run of the plain loop, from the data's files or arrays on."""
    torch.manual_seed(config["seed"])
    start = time.perf_counter()
    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    model = prepare.build_model(config, examples)
    optimizer = make_optimizer(model.parameters())
    x, y, splits = examples.x, examples.y, examples.splits
    best, best_loss = None, float("inf")

    def evaluate(split: str) -> tuple[float, float]:
        model.eval()
        with torch.no_grad():
            outputs = model(x[splits[split]])
            loss = F.cross_entropy(outputs, y[splits[split]])
            right = (outputs.argmax(1) == y[splits[split]]).float().mean()
        return loss.item(), right.item()

    for _ in range(config["epochs"]):
        model.train()
        total, right = torch.zeros(()), torch.zeros(())
        order = splits["train"][torch.randperm(len(splits["train"]))]
        for start_of_batch in range(0, len(order), config["batch_size"]):
            index = order[start_of_batch : start_of_batch + config["batch_size"]]
            target = y[index]
            outputs = model(x[index])
            loss = F.cross_entropy(outputs, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            right += (outputs.detach().argmax(1) == target).sum()
        total.item(), right.item()
        val_loss, _ = evaluate("val")
        if val_loss < best_loss:
            best, best_loss = copy.deepcopy(model.state_dict()), val_loss
    model.load_state_dict(best)
    evaluate("test")
    return time.perf_counter() - start


def ours(configs: list[Config], folder: str) -> float:
    """Seconds of the same from configs to result files, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    outcomes = run.train(configs)
    seconds = time.perf_counter() - start
    assert {outcome.status for outcome in outcomes} == {"done"}
    return seconds


def momentum(parameters) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def adam(parameters) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.001)


DIGITS = ["arch.hidden=[100,100]", "batch_size=32", "epochs=30"]
# The size of MNIST, in random pixels: speed does not depend on what they show.
CONVOLUTIONS = ["batch_size=32", "epochs=8", "norm=batch", "optimizer=momentum"]
LARGE = ["arch.hidden=[300,100]", "batch_size=128", "epochs=5"]


def main() -> None:
    torch.set_num_threads(1)
    folder = tempfile.mkdtemp()
    common = ["quiet=true", f"output_dir={folder}", "device=cpu"]

    def compare(name, overrides, make, goal, seeds=1, rates=(None,), rounds=15) -> Comparison:
        configs = [
            compose([*common, *overrides, f"seed={seed}", *([f"optimizer.lr={lr}"] if lr else [])])
            for seed in range(seeds)
            for lr in rates
        ]
        return interleave(
            name,
            lambda: ours(configs, folder) / len(configs),
            lambda: plain(configs[0], make),
            goal,
            rounds,
        )

    comparisons = [
        compare("digits 64-100-100-10, momentum", [*DIGITS, "optimizer=momentum"], momentum, 1.00),
        compare("digits 64-100-100-10, adam", [*DIGITS, "optimizer=adam"], adam, 0.85),
        compare(
            "32 digits runs as a stack, per run", [*DIGITS, "optimizer=momentum"], momentum, 0.55,
            seeds=8, rates=(0.003, 0.01, 0.03, 0.05), rounds=7,
        ),
    ]  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40_000, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.arange(40_000) % 10
    large = data.Examples(
        pixels.numpy(), labels.numpy(), "classification", [str(c) for c in range(10)]
    )

    def some(config: Config) -> data.Examples:
        count = config["max_examples"] or len(large.x)
        return replace(large, x=large.x[:count], y=large.y[:count])

    read, data.read = data.read, some
    try:
        comparisons += [
            compare(
                "784-300-100-10, momentum", [*LARGE, "optimizer=momentum"], momentum, 1.02, rounds=9
            ),
            compare(
                "cnn, batch norm, 28×28, momentum",
                [*CONVOLUTIONS, "arch=cnn", "max_examples=2500"],
                momentum, 1.02, rounds=7,
            ),
            compare(
                "resnet-8, 28×28, momentum",
                [*CONVOLUTIONS, "arch=resnet", "arch.depth=8", "max_examples=1500"],
                momentum, 1.02, rounds=7,
            ),
        ]  # fmt: skip
    finally:
        data.read = read
    shutil.rmtree(folder, ignore_errors=True)
    show("runs, all bookkeeping on, against the plain PyTorch loop (one thread)", comparisons)
