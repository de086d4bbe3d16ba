"""`trainlab eval`: the chosen weights of a finished run, on its own data or on others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from trainlab import data
from trainlab.config import Config, UserError, compose
from trainlab.fit import evaluate
from trainlab.run import build_model, pick_device
from trainlab.stack import Stack
from trainlab.step import recipe_of


def evaluated(folder: Path, overrides: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Metrics of a run's best weights: split -> name -> value.

    `overrides` change where the data come from (`dataset=…`, `data_dir=…`, `max_examples=…`) and
    where it is computed; preprocessing is what the run fitted on its training split.
    Raises UserError where the folder holds no such run, or its model does not fit the data.
    """
    config = _config(folder, overrides)
    device = pick_device(config["device"])
    saved, best = (_read(folder, name, device) for name in ("data", "best"))
    examples = data.prepare(data.read(config), config, device, saved)
    model = build_model(config, examples)
    try:
        model.load_state_dict(best["model"])
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise UserError(f"The weights of {folder} do not fit these data: {detail}") from error
    stack = Stack([model], device)
    recipe = recipe_of([config], stack, examples)
    return {
        split: {
            name.removeprefix(f"{split}_"): values[0]
            for name, values in evaluate(stack, examples, split, recipe).items()
        }
        for split in examples.splits
    }


def _config(folder: Path, overrides: Sequence[str]) -> Config:
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{folder} is no run: it has no config.yaml. `trainlab table` lists runs.")
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    return compose([*config["overrides"], *overrides]) if overrides else config


def _read(folder: Path, name: str, device: torch.device) -> dict[str, Any]:
    path = folder / "checkpoints" / f"{name}.pt"
    if not path.is_file():
        raise UserError(f"{path} is missing: the run has no weights to evaluate (yet).")
    return torch.load(path, map_location=device, weights_only=True)
