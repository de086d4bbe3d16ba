"""Data made on the spot, the same for the same settings everywhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from trainlab import streams
from trainlab.data.examples import Examples


def _normal(shape: Sequence[int], *name: int | str) -> np.ndarray:
    """Numbers from N(0, 1), from the stream of that name."""
    return torch.randn(shape, generator=streams.stream(*name)).double().numpy()


def _uniform(shape: Sequence[int], *name: int | str) -> np.ndarray:
    """Numbers in [0, 1), from the stream of that name."""
    return torch.rand(shape, generator=streams.stream(*name)).double().numpy()


def _noisy(clean: np.ndarray, noise: float, *name: int | str) -> np.ndarray:
    """With normal noise of that standard deviation, as float32."""
    with np.errstate(over="ignore"):  # what is not finite is refused later
        return (clean + noise * _normal(clean.shape, *name)).astype(np.float32)


# ---------------------------------------------------------------- points


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
    y = np.repeat([0, 1], [upper, examples - upper])
    return Examples(_noisy(x, noise, seed, "moons"), y, "binary", ["upper", "lower"])


def circles(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1000,
    factor: float = 0.5,
    noise: float = 0.1,
    seed: int = 0,
) -> Examples:
    """Two circles around the origin, of radius 1 and `factor`: x (N, 2), y in {0, 1}."""
    outer = examples // 2
    angles = [np.linspace(0, 2 * np.pi, n, endpoint=False) for n in (outer, examples - outer)]
    y = np.repeat([0, 1], [len(t) for t in angles])
    t, radius = np.concatenate(angles), np.where(y == 0, 1.0, factor)
    x = radius[:, None] * np.stack([np.cos(t), np.sin(t)], 1)
    return Examples(_noisy(x, noise, seed, "circles"), y, "binary", ["outer", "inner"])


def spirals(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1500,
    classes: int = 3,
    turns: float = 1.0,
    noise: float = 0.02,
    seed: int = 0,
) -> Examples:
    """Arms that wind around the origin: x (N, 2), y the arm.

    Arm c is t · (cos φ, sin φ), φ = 2π (turns · t + c / classes), t even in (0, 1]: at 0 all meet.
    After the two spirals of Lang & Witbrock 1988.
    """
    y = np.arange(examples) % classes
    t = (np.arange(examples) // classes + 1) / np.ceil(examples / classes)
    angle = 2 * np.pi * (turns * t + y / classes)
    x = t[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    names = [f"arm {c}" for c in range(classes)]
    return Examples(_noisy(x, noise, seed, "spirals"), y, "classification", names)


def blobs(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1000,
    centers: int = 3,
    features: int = 2,
    spread: float = 1.0,
    seed: int = 0,
) -> Examples:
    """Normal clouds around centres drawn uniformly in [−10, 10): x (N, features), y the cloud."""
    y = np.arange(examples) % centers
    centres = 20 * _uniform((centers, features), seed, "blobs", "centres") - 10
    names = [f"blob {c}" for c in range(centers)]
    return Examples(_noisy(centres[y], spread, seed, "blobs"), y, "classification", names)


def xor(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1000,
    noise: float = 0.3,
    seed: int = 0,
) -> Examples:
    """Clouds at the corners (±1, ±1), y 1 where the signs differ: x (N, 2).

    What no linear model solves (Minsky & Papert 1969).
    """
    corner = np.arange(examples) % 4
    bits = np.stack([corner // 2, corner % 2], 1)
    x = _noisy(2.0 * bits - 1, noise, seed, "xor")
    return Examples(x, bits[:, 0] ^ bits[:, 1], "binary", ["same signs", "different signs"])


def pair(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 2000,
    features: int = 4,
    noise: float = 0.3,
    seed: int = 0,
) -> Examples:
    """Two inputs p, q side by side, q = p or −p, and noise: x (N, 2 · features), y the sign.

    p is normal, so p and q alone are distributed alike in both classes: each says nothing, and only
    products of both do (the sign of p·q is the best guess).
    """
    y = np.arange(examples) % 2
    p = _normal((examples, features), seed, "pair", "first")
    q = np.where(y == 1, 1, -1)[:, None] * p
    x = np.concatenate([p.astype(np.float32), _noisy(q, noise, seed, "pair")], 1)
    return Examples(x, y, "binary", ["opposite", "same"], parts=(features, features))


def drift(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 5000,
    features: int = 4,
    kind: str = "abrupt",
    every: int = 1000,
    noise: float = 0.05,
    seed: int = 0,
) -> Examples:
    """A stream whose rule changes, in the order of time: x (N, features) normal, y in {0, 1}.

    y says on which side of a hyperplane x lies. Its normal turns by a right angle in `every`
    examples: at once behind them (`kind` abrupt), or steadily (gradual). What held before is then
    worth no more than a guess, a turn later always wrong, and true again after four. `noise` is the
    share of wrong labels. After the rotating hyperplane of Hulten, Spencer & Domingos 2001.
    """
    x = _normal((examples, features), seed, "drift")
    plane, _ = np.linalg.qr(_normal((features, 2), seed, "drift", "plane"))
    time = np.arange(examples) / every
    angle = np.pi / 2 * (np.floor(time) if kind == "abrupt" else time)
    above = (x @ plane * np.stack([np.cos(angle), np.sin(angle)], 1)).sum(1) > 0
    wrong = _uniform((examples,), seed, "drift", "wrong") < noise
    y = (above ^ wrong).astype(np.int64)
    return Examples(x.astype(np.float32), y, "binary", ["below", "above"])


# ---------------------------------------------------------------- images


def stripes(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1000,
    classes: int = 2,
    size: int = 16,
    channels: int = 1,
    period: float = 5.0,
    noise: float = 0.5,
    seed: int = 0,
) -> Examples:
    """Striped images: x (N, channels, size, size), y the direction of the stripes.

    Class c runs at 180° · c / classes to the horizontal: a sine wave of that `period` in pixels,
    its phase random in each channel. So the mean image of every class is grey, and no linear model
    tells them apart.
    """
    y = np.arange(examples) % classes
    angle = (np.pi / classes * y)[:, None, None, None]
    rows, columns = np.indices((size, size))
    across = np.cos(angle) * rows + np.sin(angle) * columns
    phase = _uniform((examples, channels, 1, 1), seed, "stripes", "phase")
    x = _noisy(np.sin(2 * np.pi * (across / period + phase)), noise, seed, "stripes")
    names = [f"{180 * c / classes:.4g}°" for c in range(classes)]
    return Examples(x, y, "classification", names)


def shapes(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 500,
    shapes: int = 3,
    size: int = 32,
    noise: float = 0.1,
    seed: int = 0,
) -> Examples:
    """Circles, squares and triangles: x (N, 1, size, size), y (N, size, size) the shape there.

    Kind, place, radius and brightness of each shape are random; later ones cover earlier ones, and
    the background is 0.
    """
    x, y = np.zeros((examples, size, size)), np.zeros((examples, size, size), np.int64)
    rows, columns = np.indices((size, size))
    scene = _scene(examples, shapes, size, seed)[..., None, None]
    for kind, row, column, radius, brightness in scene:  # (N, 1, 1) each
        down, aside = rows - row, np.abs(columns - column)
        square = np.maximum(np.abs(down), aside) <= radius
        inside = np.select(
            [kind == 1, kind == 2],
            [down**2 + aside**2 <= radius**2, square],
            square & (2 * aside <= down + radius),  # its tip is above
        )
        x, y = np.where(inside, brightness, x), np.where(inside, kind.astype(np.int64), y)
    x = _noisy(x[:, None], noise, seed, "shapes")
    return Examples(x, y, "segmentation", ["background", "circle", "square", "triangle"])


def _scene(examples: int, shapes: int, size: int, seed: int) -> np.ndarray:
    """Kind (1, 2, 3), row, column, radius and brightness of every shape: (shapes, 5, examples).

    Shapes lie within the image, their radius between an eighth and a quarter of its size.
    """
    kind, row, column, radius, brightness = _uniform((5, shapes, examples), seed, "shapes", "scene")
    radius = size * (1 + radius) / 8
    free = size - 1 - 2 * radius
    kind, brightness = 1 + np.floor(3 * kind), 0.5 + brightness / 2
    return np.stack([kind, radius + row * free, radius + column * free, radius, brightness], 1)


def tags(
    data_dir: Path | None = None,
    download: bool = False,
    examples: int = 1000,
    share: float = 0.4,
    size: int = 16,
    noise: float = 0.5,
    seed: int = 0,
) -> Examples:
    """Five patterns, each there or not: x (N, 1, size, size) their sum, y (N, 5) of 0 and 1.

    Each pattern is in a `share` of the images, whatever the others are.
    """
    row, column = np.meshgrid(*[np.abs(np.linspace(-1, 1, size))] * 2)
    patterns = {
        "frame": np.maximum(row, column) > 0.8,
        "cross": np.minimum(row, column) < 0.15,
        "diagonals": np.abs(row - column) < 0.05,
        "disc": row**2 + column**2 < 0.5,
        "checks": (np.indices((size, size)) // 2).sum(0) % 2 == 0,
    }
    y = (_uniform((examples, len(patterns)), seed, "tags", "labels") < share).astype(np.int64)
    x = np.tensordot(y, np.stack(list(patterns.values())).astype(float), 1)
    return Examples(_noisy(x[:, None], noise, seed, "tags"), y, "multi_label", list(patterns))
