"""How many runs train as one stack."""

import pytest
import torch

from trainlab import widths
from trainlab.config import compose
from trainlab.prepare import Sources
from trainlab.widths import Widths, out_of_memory


def of(monkeypatch, runs, seconds, *overrides):
    """The width where a step of a run in a stack of w takes `seconds(w)`; the widths measured."""
    measured = []

    def measure(configs, *rest):
        measured.append(len(configs))
        return seconds(len(configs))

    monkeypatch.setattr(widths, "_seconds", measure)
    config = compose(["device=cpu", *overrides])
    configs = [config | {"seed": seed} for seed in range(runs)]
    found = Widths(Sources())
    width = found.of(configs)
    assert found.of(configs) == width
    assert len(measured) == len(set(measured))  # once for each kind
    return width, measured


def test_the_fastest_width_wins(monkeypatch):
    width, measured = of(monkeypatch, 40, lambda w: 1 / min(w, 8) + w / 1e6, "epochs=100")
    assert width.runs == 8
    assert measured == [1, 4, 8, 16]  # no further than it gains


def test_few_say_nothing_of_many(monkeypatch):
    monkeypatch.setattr(widths, "_seconds", lambda configs, *rest: 1 / len(configs))
    config = compose(["device=cpu", "epochs=100"])
    found = Widths(Sources())
    assert found.of([config | {"seed": seed} for seed in range(2)]).runs == 2
    assert found.of([config | {"seed": seed} for seed in range(40)]).runs == 40
    assert found.of([config | {"seed": seed} for seed in range(3)]).runs == 3


def test_the_widest_is_all_of_them(monkeypatch):
    width, measured = of(monkeypatch, 10, lambda w: 1 / w, "epochs=100")
    assert width.runs == 10
    assert measured == [1, 4, 8, 10]
    steps = 100 * 40  # 1259 training examples in batches of 32
    assert width.seconds == pytest.approx(steps / 10)


def test_measuring_stays_a_small_part_of_the_work(monkeypatch):
    """Where it does not pay, small dense nets are stacked and convolutions on a CPU are not."""
    assert of(monkeypatch, 40, lambda w: 1 / w, "epochs=1")[0].runs == 32
    assert of(monkeypatch, 5, lambda w: 1 / w, "epochs=1")[0].runs == 5
    width, measured = of(monkeypatch, 3, lambda w: 1 / w, "epochs=1", "arch=cnn")
    assert width.runs == 1
    assert measured == [1]


def test_what_is_asked_for_is_not_measured(monkeypatch):
    assert of(monkeypatch, 40, lambda w: 1.0, "stack=7", "epochs=100") == ((7, 4000.0, 0), [1])
    assert of(monkeypatch, 5, lambda w: 1.0, "stack=7")[0].runs == 5
    assert of(monkeypatch, 9, lambda w: 1 / w, "compile=true")[0].runs == 1
    assert of(monkeypatch, 9, lambda w: 1 / w, "optimizer=muon")[0].runs == 1


def test_memory_bounds_it(monkeypatch):
    """Twelve copies of the weights, of 4 bytes, in half of what is free."""
    weights = 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    monkeypatch.setattr(widths, "free_memory", lambda: 2 * 6 * 12 * 4 * weights)
    assert of(monkeypatch, 40, lambda w: 1 / w, "epochs=100")[0].runs == 6

    def full(width):
        if width > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1 / width

    monkeypatch.setattr(widths, "free_memory", lambda: None)
    assert of(monkeypatch, 40, full, "epochs=100")[0].runs == 8


def test_a_real_measurement_chooses_among_what_there_is():
    configs = [compose([f"seed={seed}", "epochs=60", "device=cpu"]) for seed in range(12)]
    width = Widths(Sources()).of(configs)
    assert width.runs in (1, 4, 8, 12)
    assert width.seconds > 0


def test_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46)
    assert out_of_memory(caught.value)
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
