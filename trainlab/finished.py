"""A finished run at work: its best weights, with its own preprocessing, on data of any kind."""

import csv
import importlib
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from trainlab import data, tasks
from trainlab.config import Config, UserError, compose
from trainlab.data.examples import aligned
from trainlab.data.tables import like, npz_inputs
from trainlab.fit import evaluate
from trainlab.run import build_model, pick_device
from trainlab.stack import Stack
from trainlab.step import recipe_of
from trainlab.store import write_atomically

_AT_ONCE = 1024  # examples predicted at once
FORMATS = {"torch-export": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}


@dataclass(frozen=True)
class Finished:
    """A run's folder, opened. Raises UserError where it is none, or has no weights yet."""

    folder: Path
    config: Config
    device: torch.device
    saved: dict[str, Any]  # what data.saved kept
    best: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, overrides: Sequence[str] = ()) -> "Finished":
        """`overrides` change where data come from and where it is computed."""
        config = _config(folder, overrides)
        device = pick_device(config["device"])
        saved, best = (_read(folder, name, device) for name in ("data", "best"))
        return cls(folder, config, device, saved, best)

    def model(self, examples: data.Data) -> nn.Module:
        """The model for such data with the run's best weights, on the CPU, ready to evaluate."""
        model = build_model(self.config | {"init": {"bias": 0.0}}, examples)  # weights come next
        try:
            model.load_state_dict(self.best["model"])
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise UserError(
                f"The weights of {self.folder} do not fit these data: {detail}"
            ) from error
        return model.eval()


def evaluated(
    folder: Path, overrides: Sequence[str] = ()
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
    """Metrics of a run's best weights, split -> name -> value; and of each split the report.

    `overrides` change where the data come from (`dataset=…`, `data_dir=…`, `max_examples=…`);
    preprocessing is what the run fitted on its training split.
    """
    run = Finished.open(folder, overrides)
    config = run.config
    raw = aligned(data.read(config), run.saved)
    examples = data.prepare(raw, config, run.device, run.saved)
    stack = Stack([run.model(examples)], run.device)
    recipe = recipe_of([config], stack, examples)
    found, reports = {}, {}
    for split in examples.splits:
        metrics, (reports[split],) = evaluate(stack, examples, split, recipe, report=True)
        found[split] = {n.removeprefix(f"{split}_"): values[0] for n, values in metrics.items()}
    return found, reports


class Whole(nn.Module):
    """Preprocessing and model as one module: raw inputs in, outputs out."""

    def __init__(self, examples: data.Data, model: nn.Module):
        super().__init__()
        self.examples, self.model = examples, model

    def forward(self, x: Tensor) -> Tensor:
        return in_own_units(self.examples, self.model(self.examples.preprocess(x)))


def in_own_units(examples: data.Data, outputs: Tensor) -> Tensor:
    """A regression's outputs, which are standardized, in the units of the targets."""
    if examples.target_scale is None:
        return outputs
    return outputs * examples.target_scale + examples.target_mean


def predicted(folder: Path, source: Path, output: Path, overrides: Sequence[str] = ()) -> None:
    """Write what a run's best model makes of the inputs in a .csv (columns as in training) or .npz
    file (array `x`).

    A .csv gets one row per example: the predicted class and the probabilities, each label's, or the
    numbers in their own units. An .npz gets the array `outputs` as well, for every kind of task.
    """
    _writable(output, (".csv", ".npz"))
    run = Finished.open(folder, overrides)
    inputs = _inputs(source, run)
    examples = data.unlabelled(inputs, run.saved, run.device, run.config["trusted"])
    model = run.model(examples).to(run.device)
    with torch.inference_mode():
        parts = [model(examples.inputs(part)) for part in examples.splits["train"].split(_AT_ONCE)]
    outputs = torch.cat(parts).float()[None]  # (1, N, …)
    columns: dict[str, list] = {}
    if examples.task != "words":
        task = tasks.described(run.config, examples)
        columns = task.predictions(outputs)
    if output.suffix == ".npz":
        raw = in_own_units(examples, outputs[0])
        write_atomically(output, lambda beside: _save_npz(beside, raw, columns))
    elif columns:
        write_atomically(output, lambda beside: _save_csv(beside, columns))
    else:
        raise UserError(
            f"--output {output}: predictions of this task ({examples.task}) are written as .npz."
        )


def _writable(output: Path, suffixes: Sequence[str]) -> None:
    if output.suffix not in suffixes:
        raise UserError(f"--output {output}: its name has to end in {' or '.join(suffixes)}.")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}.")


def _inputs(source: Path, run: Finished) -> np.ndarray:
    """Raw inputs (N, *shape) from a file."""
    saved, dataset = run.saved, run.config["dataset"]
    if not source.is_file():
        raise UserError(f"--input {source}: there is no such file.")
    if source.suffix == ".npz":
        return npz_inputs(source)
    if not saved["columns"]:
        raise UserError(
            f"--input {source}: the run's inputs are no table with named columns. Give them as the "
            "array x of an .npz file."
        )
    form = {key: dataset[key] for key in ("separator", "missing") if key in dataset}
    return like(source, saved["columns"], saved["categorical"], saved["categories"], **form)


def _save_npz(path: Path, outputs: Tensor, columns: dict[str, list]) -> None:
    with open(path, "wb") as file:
        np.savez(
            file, outputs=outputs.cpu().numpy(), **{k: np.array(v) for k, v in columns.items()}
        )


def _save_csv(path: Path, columns: dict[str, list]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def exported(
    folder: Path, kind: str, output: Path | None = None, overrides: Sequence[str] = ()
) -> Path:
    """Write a run's best model for other programs; the file's path.

    `torch-export` (torch.export.load) and `onnx` hold the whole function from raw inputs, with the
    preprocessing, for any batch size, to logits or to numbers in their own units (an ensemble's:
    those of each member); `safetensors` the weights alone.
    """
    if kind not in FORMATS:
        raise UserError(f"--format {kind}: there are {', '.join(FORMATS)}.")
    run = Finished.open(folder, [*overrides, "device=cpu"])
    output = output or folder / f"model{FORMATS[kind]}"
    _writable(output, (FORMATS[kind],))
    if kind == "safetensors":
        own = {name: tensor.clone() for name, tensor in run.best["model"].items()}
        _needed("safetensors.torch").save_file(own, output)
        return output
    raw = torch.zeros(2, *run.saved["shape"])
    examples = data.unlabelled(raw.numpy(), run.saved, run.device, run.config["trusted"])
    whole = Whole(examples, run.model(examples)).eval()
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(whole, (raw,), dynamic_shapes=batch)
    if kind == "torch-export":
        torch.export.save(program, output)
        return output
    _needed("onnxscript")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings(action="ignore"):  # torch's exporter warns of its own code
        torch.onnx.export(
            program, (), output, dynamo=True, input_names=["x"], output_names=["outputs"],
            external_data=False, verbose=False,
        )  # fmt: skip
    return output


# What may be said anew of a finished run: where data come from, and where it is computed.
_ALLOWED = (
    "dataset data_dir download max_examples split_seed val_fraction test_fraction device in_memory "
    "loader_workers threads trusted"
).split()


def _config(folder: Path, overrides: Sequence[str]) -> Config:
    """The run's config with the overrides; whom it trusts is never its own to say."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{folder} is no run: it has no config.yaml. `trainlab table` lists runs.")
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] not in _ALLOWED:
            raise UserError(
                f"{override}: of a finished run only these can be set: {', '.join(_ALLOWED)}."
            )
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("overrides"), list):
        raise UserError(f"{file} is no config of a run.")
    own = [t for t in config["overrides"] if t.lstrip("+~").partition("=")[0] != "trusted"]
    new = compose([*own, *overrides])
    changed = {override.partition("=")[0].partition(".")[0] for override in overrides}
    # Only what was said anew: defaults may have changed since the run was trained.
    taken = {key: new[key] for key in changed | {"trusted"}}
    choices = config["choices"] | {k: new["choices"][k] for k in changed & set(new["choices"])}
    return config | taken | {"choices": choices}


def _read(folder: Path, name: str, device: torch.device) -> dict[str, Any]:
    path = folder / "checkpoints" / f"{name}.pt"
    if not path.is_file():
        raise UserError(f"{path} is missing: the run has no weights to evaluate (yet).")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is damaged.") from error


def _needed(module: str) -> Any:
    """An optional dependency."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"This needs {module.partition('.')[0]}: pip install 'trainlab[export]'."
        ) from error
