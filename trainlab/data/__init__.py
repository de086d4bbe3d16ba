"""Datasets: raw examples in, three splits out.

A dataset is a function `(data_dir, download, **settings) -> Examples`, named by a YAML file in
conf/dataset; those of one kind share a module of this package.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainlab import preprocess, streams
from trainlab.config import Config, UserError, build, build_each, find
from trainlab.data.examples import Examples, check


@dataclass
class Data:
    """Examples on the device, preprocessed, with their splits.

    `x` (N, *shape) float32; `y` (N,) int64 or (N, K) float32; `splits` name -> positions (n,) into
    both. Targets of a regression are standardized on the training split; `target_mean` and
    `target_scale` (K,) are their zero and unit.
    """

    x: Tensor
    y: Tensor
    splits: dict[str, Tensor]
    task: str
    classes: list[str]
    preprocess: preprocess.Chain
    raw_shape: list[int]  # of one input before it
    target_mean: Tensor | None = None
    target_scale: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, without the batch axis."""
        return tuple(self.x.shape[1:])

    @property
    def outputs(self) -> int:
        """How many a model needs: C logits, one for a binary task, K values for regression."""
        if self.task == "classification":
            return len(self.classes)
        return 1 if self.task == "binary" else self.y.shape[1]


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
    """Split, move to the device, fit the preprocessing on the training split, apply it to all.

    With what a run has `saved` of its own preprocessing, on this device, nothing is fitted.
    """
    splits = split_of(examples, config)
    x = torch.from_numpy(np.ascontiguousarray(examples.x)).to(device).float()
    y = torch.from_numpy(np.ascontiguousarray(examples.y)).to(device)
    positions = {name: torch.from_numpy(p).to(device) for name, p in splits.items()}
    raw_shape = list(x.shape[1:])
    if saved:
        if saved["shape"] != raw_shape:
            raise UserError(
                f"The run was trained on inputs of shape {saved['shape']}; those of "
                f"dataset={config['choices']['dataset']} have {raw_shape}."
            )
        chain = preprocess.load(saved["preprocess"], partial(find, trusted=config["trusted"]))
    else:
        about = preprocess.About(examples.low, examples.high, examples.categorical)
        steps = list(build_each(config, "preprocess").values())
        chain = preprocess.fit(steps, x[positions["train"]], about)
    x = chain(x)
    preprocess.check_finite(x)
    if examples.task != "regression":
        return Data(x, y.long(), positions, examples.task, examples.classes, chain, raw_shape)
    y = y.float()
    if saved:
        mean, scale = saved["target_mean"], saved["target_scale"]
    else:
        targets = y[positions["train"]]
        mean, scale = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-12)
    y = (y - mean) / scale
    return Data(
        x, y, positions, examples.task, examples.classes, chain, raw_shape, mean, scale
    )  # fmt: skip


def saved(data: Data) -> dict[str, Any]:
    """What has to be kept to prepare other data the same way: see `prepare`."""
    return {
        "preprocess": preprocess.state(data.preprocess),
        "shape": data.raw_shape,
        "target_mean": data.target_mean,
        "target_scale": data.target_scale,
    }


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
    if examples.task == "regression":
        strata = [pool]
    else:
        labels = examples.y[: len(pool)]
        strata = [pool[labels == c] for c in range(len(examples.classes))]
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for c, stratum in enumerate(strata):
        needed = 2 if own_test else 3
        if len(stratum) < needed:
            what = f"class {examples.classes[c]}" if examples.classes else "the dataset"
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
    if examples.task != "regression":
        group = group * len(examples.classes) + examples.y
    # Rank of each example inside its group, as a share: the lowest shares of all groups are kept.
    share = np.empty(n)
    for value in np.unique(group):
        members = order[group[order] == value]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    kept = np.sort(np.lexsort((np.argsort(order), share))[:limit])
    return Examples(
        examples.x[kept], examples.y[kept], examples.task, examples.classes,
        examples.low, examples.high, int(is_test[kept].sum()), examples.categorical,
    )  # fmt: skip
