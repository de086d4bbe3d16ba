"""The model layer by layer: type, output shape, parameters, trainable or not."""

from dataclasses import dataclass

import torch
from torch import nn

from trainlab import data, terminal
from trainlab.config import Config
from trainlab.layout import LAYERS
from trainlab.prepare import build_model


@dataclass
class Layer:
    """One row: a layer without children, and what one example looks like behind it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    trainable: int
    fixed: int  # frozen parameters and buffers such as running averages


def layers(model: nn.Module, shape: tuple[int, ...]) -> list[Layer]:
    """Rows in the order of the forward pass, found by sending zeros through the model."""
    rows: list[Layer] = []
    hooks = []

    def note(name: str):
        def hook(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            whole = isinstance(layer, LAYERS)  # a re-parametrized weight lies deeper
            own = list(layer.parameters(recurse=whole))
            trainable = sum(p.numel() for p in own if p.requires_grad)
            fixed = sum(p.numel() for p in own if not p.requires_grad)
            fixed += sum(b.numel() for b in layer.buffers(recurse=whole) if b.is_floating_point())
            rows.append(
                Layer(name, type(layer).__name__, tuple(output.shape[1:]), trainable, fixed)
            )

        return hook

    inside = tuple(f"{n}." for n, layer in model.named_modules() if isinstance(layer, LAYERS) and n)
    for name, layer in model.named_modules():
        own = list(layer.parameters(recurse=False))
        if (own or not list(layer.children())) and not name.startswith(inside):
            hooks.append(layer.register_forward_hook(note(name)))
    model.eval()
    with torch.no_grad():
        model(torch.zeros(2, *shape))
    for hook in hooks:
        hook.remove()
    return rows


def show(config: Config) -> None:
    """Print the summary of the model a config describes."""
    from rich.table import Table

    examples = data.prepare(data.read(config), config, torch.device("cpu"))
    rows = layers(build_model(config, examples), examples.shape)
    grid = Table(caption_justify="left")
    for heading in ("layer", "type"):
        grid.add_column(heading)
    for heading in ("output", "parameters", "trainable"):
        grid.add_column(heading, justify="right")
    grid.add_row("", "input", "×".join(map(str, examples.shape)), "", "")
    for row in rows:
        shape = "×".join(map(str, row.shape))
        total = row.trainable + row.fixed
        share = (
            ""
            if not total
            else "yes"
            if not row.fixed
            else f"{row.trainable:,}"
            if row.trainable
            else "no"
        )
        grid.add_row(row.name or "–", row.kind, shape, f"{total:,}" if total else "", share)
    trainable, fixed = sum(r.trainable for r in rows), sum(r.fixed for r in rows)
    grid.caption = f"{trainable + fixed:,} parameters: {trainable:,} trainable, {fixed:,} not"
    terminal.console().print(grid)
