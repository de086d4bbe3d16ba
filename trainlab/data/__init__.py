"""Datasets: raw examples in, three splits out.

A dataset is a function `(data_dir, download, **settings) -> Examples`, named by a YAML file in
conf/dataset; those of one kind share a module of this package.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainlab import preprocess
from trainlab.config import Config, UserError, build, build_each
from trainlab.data.arrays import npz
from trainlab.data.examples import Examples, aligned, check, surely_finite, where
from trainlab.data.rare import treated
from trainlab.data.splits import official, split_of, thinned
from trainlab.data.tables import csv
from trainlab.memory import free_memory

_GATHERED_BYTES = 2**19  # of inputs at once: many small batches or one large, still in the cache
_FITTED_NUMBERS = 2**28  # of streamed inputs at most that preprocessing is fitted on
_CHECKED_NUMBERS = 2**20  # of streamed inputs at once
_COPIES = 3  # of the inputs in memory at once, while they are prepared


@dataclass
class Data:
    """Examples with their splits; the inputs preprocessed on the device, or on their way there.

    `y` (N, …) as in Examples, or None where the inputs are what is to be learnt. `splits` name ->
    positions (n,). Targets of a regression are standardized on the training split; `target_mean`
    and `target_scale` (K,) are their zero and unit. `windows` (E + 2, n): for online learning, the
    positions in the order they come.
    """

    x: Tensor | None  # (N, *shape) float32 on the device; None where inputs are streamed
    y: Tensor | None
    splits: dict[str, Tensor]
    task: str
    classes: list[str]
    preprocess: preprocess.Chain
    source: np.ndarray  # (N, *raw shape) as the dataset gives them
    shape: tuple[int, ...]  # of one input, preprocessed
    device: torch.device
    parts: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    categorical: tuple[int, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    target_mean: Tensor | None = None
    target_scale: Tensor | None = None
    windows: Tensor | None = None
    notes: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""

    def inputs(self, positions: Tensor) -> Tensor:
        """The inputs at positions (…), preprocessed, on the device: (…, *shape)."""
        if self.x is not None:
            return self.x[positions]
        return self.arrived(torch.from_numpy(self.source[positions.numpy()]))

    def arrived(self, raw: Tensor) -> Tensor:
        """Raw inputs (…, *raw shape) from main memory, preprocessed on the device."""
        before = raw.shape[: raw.dim() - self.source.ndim + 1]
        x = raw.to(self.device, non_blocking=True).float().flatten(0, len(before) - 1)
        return self.preprocess(x).view(*before, *self.shape)

    def targets(self, positions: Tensor, x: Tensor) -> Tensor:
        """The targets at positions (…), whose inputs are x, on the device."""
        return x if self.y is None else self.y[positions].to(self.device, non_blocking=True)


def read(config: Config, saved: dict[str, Any] | None = None) -> Examples:
    """The examples a config names, checked; `max_examples` of them at most.

    With what a run has `saved` they have its columns, codes and classes: see `aligned`.
    """
    load = build(config, "dataset")
    if load is None:
        raise UserError("dataset has no _target_: nothing to load.")
    if saved and (load.func is npz or (load.func is csv and saved["columns"])):
        load = partial(load, known=saved)  # whose types need not be found out
    folder = Path(config["data_dir"]).expanduser() if config["data_dir"] else None
    examples = load(data_dir=folder, download=config["download"])
    name = config["choices"]["dataset"]
    check(examples, name, to_learn=saved is None)
    if config["max_examples"] and config["max_examples"] < len(examples.x):
        examples = thinned(examples, config["max_examples"], config["split_seed"])
    examples = treated(examples, config, saved["classes"] if saved else None)
    return aligned(examples, saved) if saved else examples


def prepare(
    examples: Examples,
    config: Config,
    device: torch.device,
    saved: dict[str, Any] | None = None,
    whole: bool = False,
) -> Data:
    """Split, fit the preprocessing on the training split, apply it to all that is in memory.

    With what a run has `saved` of its own preprocessing, on this device, nothing is fitted. The
    `whole` data are all of them the split `train`, beside their official validation and test sets.
    """
    in_memory = fits(examples, config, device)
    home = device if in_memory else torch.device("cpu")
    windows = _windows(examples, config) if config["online"] and not whole else None
    if whole:
        parts = {"train": np.arange(len(examples.x))} | official(examples)
    elif windows is None:
        parts = split_of(examples, config)
    else:  # preprocessing is fitted on the first
        parts = dict(zip(("train", "val", "test"), windows[[0, 1, -1]], strict=True))
    positions = {name: torch.from_numpy(p).to(home) for name, p in parts.items()}
    x = _tensor(examples.x, device).float() if in_memory else None
    chain = _chain(examples, config, device, positions["train"], x, saved)
    if x is None:
        _check_missing(examples, chain, device)
        shape = chain(_tensor(examples.x[:1], device).float()).shape[1:]
    else:
        x = chain(x)
        _check_finite(x, examples, range(len(x)))
        shape = x.shape[1:]
    data = Data(
        x=x,
        y=_tensor(examples.y, home),
        splits=positions,
        task=examples.task if config["task"] == "auto" else config["task"],
        classes=examples.classes,
        preprocess=chain,
        source=examples.x,
        shape=tuple(shape),
        device=device,
        parts=examples.parts,
        columns=examples.columns,
        categorical=examples.categorical,
        categories=examples.categories,
        notes=examples.notes,
        units=examples.units,
        fingerprint=examples.fingerprint,
    )
    if data.task == "reconstruction":
        data.y = None
    elif data.task == "regression":
        _standardize_targets(data, saved)
    else:
        data.y = data.y.long()
    if windows is not None:
        data.windows = torch.from_numpy(windows).to(home)
    return data


def unlabelled(x: np.ndarray, saved: dict[str, Any], device: torch.device, trusted: list) -> Data:
    """Inputs alone, all in the split `train`, prepared batch by batch as a run has `saved` it."""
    if list(x.shape[1:]) != saved["shape"]:
        raise UserError(
            f"The run was trained on inputs of shape {saved['shape']}; these have "
            f"{list(x.shape[1:])}."
        )
    count = len(saved["classes"])
    if saved["task"] == "words" and (wrong := x[~np.isin(x, np.arange(-1, count))]).size:
        raise UserError(
            f"{wrong[0]:.9g} is no word of the run's: these are the numbers 0 to {count - 1}, and "
            "−1 where there is none."
        )
    chain = preprocess.load(saved["preprocess"], trusted)
    shape = chain(_tensor(x[:1], device).float()).shape[1:]
    return Data(
        x=None, y=None, splits={"train": torch.arange(len(x))}, task=saved["task"],
        classes=saved["classes"], preprocess=chain, source=x, shape=tuple(shape), device=device,
        parts=saved["parts"], columns=saved["columns"],
        target_mean=saved["target_mean"], target_scale=saved["target_scale"],
    )  # fmt: skip


def _windows(examples: Examples, config: Config) -> np.ndarray:
    """Positions in the order they come, (epochs + 2, n): each window is tested, then learnt; the
    last two are the next one of the last epoch, and the test."""
    count = config["epochs"] + 2
    length = len(examples.x) // count
    if length < 2:
        raise UserError(
            f"online=true cuts the {len(examples.x)} examples into epochs + 2 = {count} windows; "
            "there are too few. Use fewer epochs or more examples."
        )
    return np.arange(count * length).reshape(count, length)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _chain(
    examples: Examples,
    config: Config,
    device: torch.device,
    train: Tensor,
    x: Tensor | None,
    saved: dict[str, Any] | None,
) -> preprocess.Chain:
    """The preprocessing: the run's own, or one fitted on the training split.

    Where inputs are streamed, on as much of it as _FITTED_NUMBERS allow, drawn evenly.
    """
    shape, name = list(examples.x.shape[1:]), config["choices"]["dataset"]
    if saved:
        if saved["shape"] != shape:
            raise UserError(
                f"The run was trained on inputs of shape {saved['shape']}; those of "
                f"dataset={name} have {shape}."
            )
        return preprocess.load(saved["preprocess"], config["trusted"])
    steps = build_each(config, "preprocess")
    if examples.task == "words":
        if set(steps) - {"auto"}:
            raise UserError(f"dataset={name} gives words, which need preprocess=none.")
        return preprocess.Chain(())
    if x is None:
        train = train[:: math.ceil(len(train) * math.prod(shape) / _FITTED_NUMBERS)]
        few = _tensor(examples.x[train.numpy()], device).float()
    else:
        few = x[train]
    about = preprocess.About(examples.low, examples.high, examples.categorical, examples.columns)
    chain = preprocess.fit(list(steps.values()), few, about)
    if x is None:
        _check_finite(chain(few), examples, train)
    return chain


def _check_finite(x: Tensor, examples: Examples, positions: Sequence[int]) -> None:
    """Raise UserError where inputs at `positions`, preprocessed, are missing or infinite."""

    def named() -> str:
        row = int(positions[int((~x.isfinite()).flatten(1).any(1).nonzero()[0])])
        odd = ~np.isfinite(examples.x[row : row + 1])
        return f", the first in {where(odd, examples.columns, row)}"

    preprocess.check_finite(x, named)


def _check_missing(examples: Examples, chain: preprocess.Chain, device: torch.device) -> None:
    """`_check_finite` of the streamed inputs that miss a value; the others are read only later.

    Of those preprocessing makes infinite ones only by overflow.
    """
    size = max(1, _CHECKED_NUMBERS // math.prod(examples.x.shape[1:]))
    for start in range(0, len(examples.x), size):
        raw = examples.x[start : start + size]
        if not surely_finite(raw):
            rows = start + np.isnan(raw).reshape(len(raw), -1).any(1).nonzero()[0]
            _check_finite(chain(_tensor(examples.x[rows], device).float()), examples, rows)


def _standardize_targets(data: Data, saved: dict[str, Any] | None) -> None:
    y = data.y.float()
    if saved:
        mean, scale = saved["target_mean"].to(y.device), saved["target_scale"].to(y.device)
    else:
        targets = y[data.splits["train"]]
        _refuse_constant(targets, data.classes)
        mean, scale = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-12)
    data.y = (y - mean) / scale
    data.target_mean, data.target_scale = mean.to(data.device), scale.to(data.device)


def _refuse_constant(targets: Tensor, names: Sequence[str]) -> None:
    """Raise UserError where there is nothing to learn: all targets (N, K) are one number."""
    same = (targets == targets[0]).all(0)
    if same.any():
        number = int(same.nonzero()[0])
        which = f" {names[number]}" if names else ""
        raise UserError(
            f"The target{which} is {targets[0, number]:g} in all {len(targets)} examples of the "
            "training split: there is nothing to learn. Use more examples, or another target."
        )


def fits(examples: Examples, config: Config, device: torch.device) -> bool:
    """Whether the inputs, as float32 and with room to prepare them, go into the device's memory."""
    if config["in_memory"] != "auto":
        return config["in_memory"]
    needed = _COPIES * 4 * examples.x.size
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    return free is None or needed < free


def saved(data: Data) -> dict[str, Any]:
    """What has to be kept to prepare other data the same way: see `prepare`."""
    return {
        "preprocess": preprocess.state(data.preprocess),
        "shape": list(data.source.shape[1:]),
        "task": data.task,
        "classes": data.classes,
        "parts": data.parts,
        "columns": data.columns,
        "categorical": data.categorical,
        "categories": data.categories,
        "units": data.units,
        "target_mean": data.target_mean,
        "target_scale": data.target_scale,
        "fingerprint": data.fingerprint,
    }


def sorted_by_target(data: Data) -> bool:
    """Whether the examples come in the order of their targets, class after class or rising: then
    the order is the file's, and no stream's. Also if a training and a test set do, one by one."""
    if data.y is None or data.y.shape[1:].numel() > 1 or data.task in ("words", "segmentation"):
        return False
    y = data.y.flatten()
    if data.windows is not None:
        y = y[data.windows.flatten()]
    steps = y.diff()
    if data.task == "regression":
        return int((steps < 0).sum()) <= 1 or int((steps > 0).sum()) <= 1
    return int(steps.count_nonzero()) < 2 * len(data.classes) <= len(y) / 2


# ---------------------------------------------------------------- batches


def batches(
    data: Data, index: Tensor, batch_size: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches at positions `index` (R, many): inputs (R, B, …) and targets (R, B, …).

    The same whatever the number of `workers`, which read ahead where inputs are streamed.
    """
    if data.x is None:
        loader = torch.utils.data.DataLoader(
            _Rows(data.source),
            # Tensors would be fetched from us, and a worker would fail aloud when we are killed.
            sampler=[positions.numpy() for positions in index.split(batch_size, 1)],
            batch_size=None,
            num_workers=workers,
            pin_memory=data.device.type == "cuda",
        )
        for positions, raw in loader:
            x = data.arrived(raw)
            yield x, data.targets(positions, x)
        return
    bytes_of_one = 4 * len(index) * batch_size * math.prod(data.shape)
    several = batch_size * max(1, _GATHERED_BYTES // bytes_of_one)
    for start in range(0, index.shape[1], several):
        positions = index[:, start : start + several]
        x = data.x[positions]
        y = data.targets(positions, x)
        for a in range(0, x.shape[1], batch_size):
            yield x[:, a : a + batch_size], y[:, a : a + batch_size]


class _Rows(torch.utils.data.Dataset):
    """What a loader's worker does: read the raw inputs at positions (R, B)."""

    def __init__(self, source: np.ndarray):
        self.source = source

    def __getitem__(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(positions), torch.from_numpy(self.source[positions])
