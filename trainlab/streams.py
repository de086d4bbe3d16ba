"""Random numbers by name: a generator is seeded from (seed, purpose, place), and nothing of it is
ever saved.

Drawing for one purpose never shifts what another draws; a resumed run, or a member of a stack,
draws exactly what the undisturbed solo run draws. Nothing drawn depends on the device: generators
live on the CPU, and the noise of every step is integer arithmetic.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainlab.parallel import Rows


def seed_of(*name: int | str) -> int:
    """A 63-bit seed from a name such as `(seed, "order", epoch)`; the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(*name: int | str) -> torch.Generator:
    """The generator of that name.

    >>> torch.equal(torch.rand(3, generator=stream(0, "order", 1)),
    ...             torch.rand(3, generator=stream(0, "order", 1)))
    True
    """
    return torch.Generator().manual_seed(seed_of(*name))


# ---------------------------------------------------------------- noise inside the network

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit numbers, which is all that torch has
_MIX = (30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64)


def bits(key: Tensor, step: Tensor | int, stop: int, start: int = 0) -> Tensor:
    """Random 64-bit integers per key, (*key.shape, stop − start): a function of key and step only.

    The generator SplitMix64 (Steele, Lea & Flood 2014), its counter given instead of kept: as
    tensor arithmetic it runs on any device, for all members of a stack at once and under vmap,
    where generators cannot follow, and there is nothing to save. `key` int64; steps differ by
    2³² counts, of which these are `start` … `stop`.
    """
    counter = torch.arange(start + 1, stop + 1, device=key.device) + (step << 32)
    z = counter * _GOLDEN + key[..., None]
    for shift, factor in _MIX:
        z = (z ^ _shifted(z, shift)) * factor
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """z >> by without the sign, which torch's shift would draw in."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def uniform(
    key: Tensor, step: Tensor | int, shape: Sequence[int], rows: Rows | None = None
) -> Tensor:
    """Numbers in [0, 1), multiples of 2⁻²⁴, (*key.shape, *shape) float32.

    With `rows`, these rows (first axis of `shape`) of what is drawn for them all, which may be
    some multiple of each.

    >>> uniform(torch.tensor(7), 0, (2, 3)).shape
    torch.Size([2, 3])
    """
    count = math.prod(shape)
    # Two numbers from each 64 bits.
    if rows is None:
        halves = bits(key, step, (count + 1) // 2)
        both = torch.cat([halves >> 40, halves >> 8], -1)[..., :count]
    else:
        each = count // max(1, rows.count)
        start, half = rows.start * each, (rows.total * each + 1) // 2
        stop = start + count
        high = bits(key, step, min(stop, half), min(start, half))
        low = bits(key, step, max(stop, half) - half, max(start, half) - half)
        both = torch.cat([high >> 40, low >> 8], -1)
    return ((both & 0xFFFFFF) * 2.0**-24).view((*key.shape, *shape))


def normal(key: Tensor, step: Tensor | int, shape: Sequence[int]) -> Tensor:
    """Numbers from N(0, 1), (*key.shape, *shape) float32 (Box & Muller 1958)."""
    count = math.prod(shape)
    u = uniform(key, step, (2, (count + 1) // 2))
    radius = torch.sqrt(-2 * torch.log1p(-u[..., 0, :]))
    angle = 2 * torch.pi * u[..., 1, :]
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], -1)
    return both[..., :count].reshape((*key.shape, *shape))
