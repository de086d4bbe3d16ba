"""Data made on the spot, the same for the same settings everywhere."""

from pathlib import Path

import numpy as np
import torch

from trainlab import streams
from trainlab.data.examples import Examples


def moons(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1000,
    noise: float = 0.2,
    seed: int = 0,
) -> Examples:
    """Two interleaving half circles: x (N, 2), y in {0, 1}.

    The upper moon is (cos t, sin t), the lower one (1 − cos t, 1/2 − sin t), t even in [0, π].
    """
    upper = examples // 2
    t0 = np.linspace(0, np.pi, upper)
    t1 = np.linspace(0, np.pi, examples - upper)
    x = np.concatenate(
        [np.stack([np.cos(t0), np.sin(t0)], 1), np.stack([1 - np.cos(t1), 0.5 - np.sin(t1)], 1)]
    )
    with np.errstate(over="ignore"):  # what is not finite is refused later
        noises = torch.randn(x.shape, generator=streams.stream(seed, "moons")).double().numpy()
        x = (x + noise * noises).astype(np.float32)
    y = np.repeat([0, 1], [upper, examples - upper])
    return Examples(x, y, "binary", ["upper", "lower"])
