"""On a GPU: the same rows as on the CPU, stacked or not. Skipped where there is none."""

import pytest
import torch

from trainlab import run
from trainlab.config import compose
from trainlab.stack import Stack

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def rows(folder, device, *overrides):
    common = ["epochs=3", "quiet=true", f"output_dir={folder / device}", f"device={device}"]
    seeds = [compose([*common, *overrides, f"seed={seed}"]) for seed in range(3)]
    outcomes = run.train(seeds)
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    return [outcome.run.result() for outcome in outcomes]


@pytest.mark.parametrize(
    "overrides",
    [["stack=1"], ["stack=3"], ["norm=layer"], ["arch=cnn"], ["norm=batch", "clip=norm"]],
)
def test_equals_the_cpu(tmp_path, overrides):
    cpu, gpu = (rows(tmp_path, device, *overrides) for device in ("cpu", "cuda"))
    for a, b in zip(cpu, gpu, strict=True):
        assert a["run_id"] == b["run_id"]
        assert b["val_loss"] == pytest.approx(a["val_loss"], rel=0.05)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision(tmp_path, precision):
    for result in rows(tmp_path, "cuda", f"precision={precision}"):
        assert result["val_accuracy"] > 0.8


def test_no_step_waits_for_the_device():
    stack = Stack([torch.nn.Linear(3, 2) for _ in range(2)], "cuda")
    x = torch.ones(2, 4, 3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        stack.backward(stack(x).square().sum(-1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert stack.g.abs().sum() > 0
