"""A finished run at work: its best weights, with its own preprocessing, on data of any kind."""

import csv
import logging
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trainlab import data, tasks
from trainlab.config import Config, UserError, check, compose, needed, restored
from trainlab.data.arrays import arrays_of, channels_first, check_inputs, inputs_among
from trainlab.data.delimited import Form
from trainlab.data.images import pictures
from trainlab.data.layouts import image_files
from trainlab.data.tables import like
from trainlab.files import Unreadable, load_torch, load_yaml, write_atomically
from trainlab.fit import evaluate
from trainlab.prepare import build_model, pick_device
from trainlab.stack import Stack
from trainlab.step import recipe_of

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
    others_data: bool = False  # whether the config names other data than those of the run
    own_data: bool = True  # whether it names just those of the run, all of them

    @classmethod
    def open(cls, folder: Path, overrides: Sequence[str] = ()) -> "Finished":
        """`overrides` change where data come from and where it is computed."""
        config, own = config_of(folder, overrides), config_of(folder, ())
        others_data = _source(config) != _source(own)
        own_data = all(config[k] == own[k] for k in ("dataset", "max_examples", "split_seed"))
        device = pick_device(config["device"])
        saved = _read(folder, "data", device, "preprocess", "shape", "task", "classes")
        best = _read(folder, "best", device, "model", "epoch")
        return cls(folder, config, device, saved, best, others_data, own_data)

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


class Evaluation(NamedTuple):
    """What a run's best weights are worth on each split, and which part of a stream that is."""

    metrics: dict[str, dict[str, float]]  # split -> name -> value
    reports: dict[str, dict[str, Any]]  # split -> what the task reports, if it does
    windows: str = ""
    changed: bool = False  # whether the run's own data are not what it was trained on


def evaluated(folder: Path, overrides: Sequence[str] = ()) -> Evaluation:
    """Evaluate a run's best weights.

    `overrides` change where the data come from (`dataset=…`, `data_dir=…`, `max_examples=…`);
    preprocessing is what the run fitted on its training split. Data of another dataset or file are
    one split, `all`, beside their official test set, if they have one.
    """
    run = Finished.open(folder, overrides)
    config = run.config
    raw = data.read(config, run.saved)
    examples = data.prepare(raw, config, run.device, run.saved, whole=run.others_data)
    stack = Stack([run.model(examples)], run.device)
    recipe = recipe_of([config], stack, examples)
    windows = ""
    if run.others_data:  # none of which the run has trained on
        examples.splits["all"] = examples.splits.pop("train")
    elif config["online"]:
        windows = _slid(examples, run.best["epoch"])
    found, reports = {}, {}
    for split in examples.splits:
        metrics, (reports[split],) = evaluate(stack, examples, split, recipe, report=True)
        found[split] = {n.removeprefix(f"{split}_"): values[0] for n, values in metrics.items()}
    known = run.saved.get("fingerprint")  # runs of before have none
    changed = run.own_data and known not in (None, examples.fingerprint)
    return Evaluation(found, reports, windows, changed)


def _slid(examples: data.Data, epoch: int) -> str:
    """Move `train` and `val` to the windows that they were in that epoch; says so in a sentence."""
    examples.splits["train"], examples.splits["val"] = examples.windows[epoch - 1 : epoch + 1]
    last = len(examples.windows)
    return (
        f"online=true: train, val and test are windows {epoch}, {epoch + 1} and {last} of {last}, "
        "those of the best epoch, scored with the weights at its end; so train is not the error "
        "before learning that result.json has."
    )


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
    file (the array named as in training, or alike), batch by batch; or, for a run on a folder of
    images, of an image or of all in a folder.

    A .csv gets one row per example: the file of an image, the predicted class and the
    probabilities, each label's, or the numbers in their own units. An .npz gets the array `outputs`
    as well, for every kind of task.
    """
    _writable(output, (".csv", ".npz"))
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output} would overwrite the inputs.")
    run = Finished.open(folder, overrides)
    inputs, columns = _inputs(source, run)
    examples = data.unlabelled(inputs, run.saved, run.device, run.config["trusted"])
    model = run.model(examples).to(run.device)
    task = None if examples.task == "words" else tasks.described(run.config, examples)
    raw: list[Tensor] = []
    with torch.inference_mode():
        for part in examples.splits["train"].split(_AT_ONCE):
            x = examples.inputs(part)
            _check_finite(x, part, examples, source)
            outputs = model(x).float()
            raw.append(in_own_units(examples, outputs).cpu())
            found = task.predictions(outputs[None]) if task else {}
            for name, values in found.items():
                columns.setdefault(name, []).extend(values)
            if output.suffix == ".csv" and not found:
                raise UserError(
                    f"--output {output}: predictions of this task ({examples.task}) are written as "
                    ".npz."
                )
    if output.suffix == ".npz":
        write_atomically(output, lambda beside: _save_npz(beside, torch.cat(raw), columns))
    else:
        write_atomically(output, lambda beside: _save_csv(beside, columns))


def _writable(output: Path, suffixes: Sequence[str]) -> None:
    if output.suffix not in suffixes:
        raise UserError(f"--output {output}: its name has to end in {' or '.join(suffixes)}.")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}.")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder.")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"--output {output}: the folder {output.parent} cannot be written to.")


def _check_finite(x: Tensor, positions: Tensor, examples: data.Data, source: Path) -> None:
    """Raise UserError that names the input because of which `x`, preprocessed, is not finite."""
    finite = x.flatten(1).isfinite().all(1).cpu()
    if finite.all():
        return
    row, names = int(positions[~finite][0]), examples.columns
    raw = examples.source[row]
    # Of several that may be to blame an infinite one: what is missing may have been filled in.
    sizes = np.nan_to_num(np.abs(raw), nan=np.finfo(np.float32).max, posinf=np.inf)
    place = [int(i) for i in np.unravel_index(sizes.argmax(), raw.shape)]
    where = f"column {names[place[0]]!r} of row {row + 1}" if names else f"x{[row, *place]}"
    raise UserError(
        f"--input {source}: {where} is {raw[*place]:g}, of which the run's preprocessing makes no "
        "finite number. Missing values (nan; categories unknown to the run are, too) are filled in "
        "only by runs with preprocess=[impute,…]."
    )


def _inputs(source: Path, run: Finished) -> tuple[np.ndarray, dict[str, list]]:
    """Raw inputs (N, *shape) from a file or folder, and the columns that say which is which."""
    saved, dataset = run.saved, run.config["dataset"]
    if not source.exists():
        raise UserError(f"--input {source}: there is no such file.")
    if source.suffix == ".npz":
        return _array(source, str(dataset.get("x", "auto")), saved["shape"]), {}
    if run.config["choices"]["dataset"] == "image_folder":
        channels, size, _ = saved["shape"]
        root = source if source.is_dir() else source.parent
        files = image_files(source) if source.is_dir() else [source]
        if not files:
            raise UserError(f"--input {source}: there are no images in this folder.")
        names = [file.relative_to(root).as_posix() for file in files]
        return pictures(files, root, size, channels), {"file": names}
    if not saved["columns"]:
        raise UserError(
            f"--input {source}: the run's inputs are no table with named columns. Give them as the "
            "array x of an .npz file."
        )
    if source.is_dir():
        raise UserError(f"--input {source} is a folder; give a .csv file with the run's columns.")
    return like(source, saved, Form.of(dataset)), {}


def _array(source: Path, name: str, shape: list[int]) -> np.ndarray:
    """The inputs (N, *shape) float32 of an .npz file, the array of that name or of another."""
    (x,) = arrays_of(source, lambda there: [inputs_among(there, name)])
    check_inputs(name, x, source)
    if list(x.shape[1:]) != shape:
        x = channels_first(x)
    with np.errstate(over="ignore"):  # what is not finite is refused later
        return x.astype(np.float32)


def _save_npz(path: Path, outputs: Tensor, columns: dict[str, list]) -> None:
    """As numpy.savez, which takes no array that is called `file`."""
    arrays = {"outputs": outputs.numpy()} | {name: np.array(v) for name, v in columns.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


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
    if output.is_symlink():  # which a stranger's folder may have, to any file
        raise UserError(
            f"--output {output} is a link to another file. Name that file, or delete it."
        )
    if kind == "safetensors":
        own = {name: tensor.clone() for name, tensor in run.best["model"].items()}
        save = needed("safetensors.torch", "export").save_file
        write_atomically(output, lambda beside: save(own, beside))
        return output
    raw = torch.zeros(2, *run.saved["shape"])
    examples = data.unlabelled(raw.numpy(), run.saved, run.device, run.config["trusted"])
    whole = Whole(examples, run.model(examples)).eval()
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(whole, (raw,), dynamic_shapes=batch)
    if kind == "torch-export":
        write_atomically(output, partial(_save_program, program))
        return output
    needed("onnxscript", "export")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings(action="ignore"):  # torch's exporter warns of its own code
        onnx = torch.onnx.export(
            program, (), dynamo=True, input_names=["x"], output_names=["outputs"], verbose=False
        )
    write_atomically(output, onnx.save)
    return output


def _save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    with open(path, "wb") as file:  # to a name torch writes with errors of its own
        torch.export.save(program, file)


# What may be said anew of a finished run: where data come from, and where it is computed.
_ALLOWED = (
    "dataset data_dir download max_examples split_seed val_fraction test_fraction device in_memory "
    "loader_workers threads trusted"
).split()


def config_of(folder: Path, overrides: Sequence[str]) -> Config:
    """The run's config with the overrides.

    The folder may be a stranger's: of its config only the values count, each checked. Nothing is
    composed of what it says; whom it trusts and what may be fetched is the user's to say now.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"{folder} is no run: it has no config.yaml. `trainlab table` lists runs.")
    for override in overrides:
        if _group(override) not in _ALLOWED:
            raise UserError(
                f"{override}: of a finished run only these can be set: {', '.join(_ALLOWED)}."
            )
    config = restored(load_yaml(file), file)
    dataset, keys = config["choices"]["dataset"], [o.partition("=")[0] for o in overrides]
    own = "dataset" not in keys and any(key.startswith("dataset.") for key in keys)
    new = compose([*([f"dataset={dataset}"] if own else []), *overrides])
    # Only what was said anew: defaults may have changed since the run was trained.
    taken = {key: new[key] for key in {*map(_group, keys), "trusted", "download"}}
    choices = {k: new["choices"][k] for k in taken.keys() & new["choices"].keys()}
    if choices.get("dataset") == dataset:
        said = {key.split(".")[1] for key in keys if key.startswith("dataset.")}
        taken["dataset"] = config["dataset"] | {key: new["dataset"][key] for key in said}
    config |= taken | {"choices": config["choices"] | choices}
    try:
        check(config)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return config


def _group(override: str) -> str:
    """What an override is about: of `dataset.path=a.csv` it is `dataset`."""
    return override.partition("=")[0].partition(".")[0]


def _source(config: Config) -> tuple[Any, Any]:
    """The dataset, and the file or folder it is told to read, if any."""
    return config["choices"]["dataset"], config["dataset"].get("path")


def _read(folder: Path, name: str, device: torch.device, *entries: str) -> dict[str, Any]:
    path = folder / "checkpoints" / f"{name}.pt"
    if not path.is_file():
        raise UserError(f"{path} is missing: the run has no weights to evaluate (yet).")
    try:
        return load_torch(path, device, *entries)
    except Unreadable as error:
        raise UserError(
            f"{error} Delete it and {folder / 'result.json'}, and the run's command writes both "
            "anew from its last checkpoint, without training."
        ) from error
