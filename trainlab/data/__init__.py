"""Datasets: raw examples in, three splits out.

A dataset is a function `(data_dir, download, **settings) -> Examples`, named by a YAML file in
conf/dataset; those of one kind share a module of this package.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainlab import preprocess, streams
from trainlab.config import Config, UserError, build, build_each, find
from trainlab.data.examples import Examples, check

_GATHERED_BYTES = 2**19  # of inputs at once: many small batches or one large, still in the cache
_FITTED_NUMBERS = (
    2**28
)  # of inputs at most that preprocessing is fitted on, where they are streamed
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


def read(config: Config) -> Examples:
    """The examples a config names, checked; `max_examples` of them at most."""
    load = build(config, "dataset")
    if load is None:
        raise UserError("dataset has no _target_: nothing to load.")
    folder = Path(config["data_dir"]).expanduser() if config["data_dir"] else None
    examples = load(data_dir=folder, download=config["download"])
    name = config["choices"]["dataset"]
    check(examples, name)
    if config["max_examples"] and config["max_examples"] < len(examples.x):
        examples = _thinned(examples, config["max_examples"], config["split_seed"])
    return examples


def prepare(
    examples: Examples, config: Config, device: torch.device, saved: dict[str, Any] | None = None
) -> Data:
    """Split, fit the preprocessing on the training split, apply it to all that is in memory.

    With what a run has `saved` of its own preprocessing, on this device, nothing is fitted.
    """
    in_memory = fits(examples, config, device)
    home = device if in_memory else torch.device("cpu")
    windows = _windows(examples, config) if config["online"] else None
    if windows is None:
        parts = split_of(examples, config)
    else:  # preprocessing is fitted on the first
        parts = dict(zip(("train", "val", "test"), windows[[0, 1, -1]], strict=True))
    positions = {name: torch.from_numpy(p).to(home) for name, p in parts.items()}
    x = _tensor(examples.x, device).float() if in_memory else None
    chain = _chain(examples, config, device, positions["train"], x, saved)
    if x is None:
        shape = chain(_tensor(examples.x[:1], device).float()).shape[1:]
    else:
        x = chain(x)
        preprocess.check_finite(x)
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
    """Inputs alone, prepared as a run has `saved` it: all in the split `train`."""
    if list(x.shape[1:]) != saved["shape"]:
        raise UserError(
            f"The run was trained on inputs of shape {saved['shape']}; these have "
            f"{list(x.shape[1:])}."
        )
    chain = preprocess.load(saved["preprocess"], partial(find, trusted=trusted))
    inputs = chain(_tensor(x, device).float())
    preprocess.check_finite(inputs)
    every = torch.arange(len(x), device=device)
    return Data(
        x=inputs, y=None, splits={"train": every}, task=saved["task"], classes=saved["classes"],
        preprocess=chain, source=x, shape=tuple(inputs.shape[1:]), device=device,
        parts=saved["parts"],
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
        return preprocess.load(saved["preprocess"], partial(find, trusted=config["trusted"]))
    steps = build_each(config, "preprocess")
    if examples.task == "words":
        if set(steps) - {"auto"}:
            raise UserError(f"dataset={name} gives words, which need preprocess=none.")
        return preprocess.Chain(())
    if x is None:
        every = math.ceil(len(train) * math.prod(shape) / _FITTED_NUMBERS)
        few = _tensor(examples.x[train[::every].numpy()], device).float()
    else:
        few = x[train]
    about = preprocess.About(examples.low, examples.high, examples.categorical)
    chain = preprocess.fit(list(steps.values()), few, about)
    if x is None:
        preprocess.check_finite(chain(few))  # of the rest, a run that diverges tells
    return chain


def _standardize_targets(data: Data, saved: dict[str, Any] | None) -> None:
    y = data.y.float()
    if saved:
        mean, scale = saved["target_mean"].to(y.device), saved["target_scale"].to(y.device)
    else:
        targets = y[data.splits["train"]]
        mean, scale = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-12)
    data.y = (y - mean) / scale
    data.target_mean, data.target_scale = mean.to(data.device), scale.to(data.device)


def fits(examples: Examples, config: Config, device: torch.device) -> bool:
    """Whether the inputs, as float32 and with room to prepare them, go into the device's memory."""
    if config["in_memory"] != "auto":
        return config["in_memory"]
    needed = _COPIES * 4 * examples.x.size
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
    return free is None or needed < free


def _free_memory() -> int | None:
    """Bytes of main memory that could be used now, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(li.split()[1]) for li in lines if li.startswith("MemAvailable")), None)


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
        "target_mean": data.target_mean,
        "target_scale": data.target_scale,
    }


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
            sampler=index.split(batch_size, 1),
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

    def __getitem__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return positions, torch.from_numpy(self.source[positions.numpy()])


# ---------------------------------------------------------------- splits


def split_of(examples: Examples, config: Config) -> dict[str, np.ndarray]:
    """The splits a config asks for: see `split`."""
    return split(examples, config["val_fraction"], config["test_fraction"], config["split_seed"])


def split(
    examples: Examples, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, np.ndarray]:
    """Disjoint positions of the training, validation and test examples, in rising order.

    Stratified for classes: every split gets each class in proportion, and at least one of each. The
    official test set is kept where the data bring one.
    """
    own_test = examples.test > 0
    pool = np.arange(len(examples.x) - examples.test)
    rng = streams.stream(seed, "split")
    if examples.task not in ("classification", "binary"):
        strata = [pool]
    else:
        labels = examples.y[: len(pool)]
        strata = [pool[labels == c] for c in range(len(examples.classes)) if (labels == c).any()]
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for stratum in strata:
        needed = 2 if own_test else 3
        if len(stratum) < needed:
            stratified = len(strata) > 1
            what = f"class {examples.classes[examples.y[stratum[0]]]}" if stratified else "it"
            raise UserError(
                f"Too small to split: {what} has {len(stratum)} examples, and training, validation"
                f"{'' if own_test else ' and test'} need at least one each. Use more examples"
                " (max_examples, dataset settings)."
            )
        shuffled = stratum[torch.randperm(len(stratum), generator=rng).numpy()]
        n_test = 0 if own_test else max(1, round(test_fraction * len(stratum)))
        n_val = max(1, round(val_fraction * len(stratum)))
        n_val = min(n_val, len(stratum) - n_test - 1)
        if n_val < 1:
            n_test, n_val = len(stratum) - 2, 1
        parts["test"].append(shuffled[:n_test])
        parts["val"].append(shuffled[n_test : n_test + n_val])
        parts["train"].append(shuffled[n_test + n_val :])
    if own_test:
        parts["test"] = [np.arange(len(pool), len(examples.x))]
    return {name: np.sort(np.concatenate(chunks)) for name, chunks in parts.items()}


def _thinned(examples: Examples, limit: int, seed: int) -> Examples:
    """At most `limit` examples, the same share of every class (and of an official test set)."""
    n = len(examples.x)
    order = torch.randperm(n, generator=streams.stream(seed, "thin")).numpy()
    is_test = np.arange(n) >= n - examples.test
    group = is_test.astype(np.int64)
    if examples.task in ("classification", "binary"):
        group = group * len(examples.classes) + examples.y
    # Rank of each example inside its group, as a share: the lowest shares of all groups are kept.
    share = np.empty(n)
    for value in np.unique(group):
        members = order[group[order] == value]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    kept = np.sort(np.lexsort((np.argsort(order), share))[:limit])
    return replace(examples, x=examples.x[kept], y=examples.y[kept], test=int(is_test[kept].sum()))
