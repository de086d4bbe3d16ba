"""Random numbers by name: a generator is seeded from (seed, purpose, place), and nothing of it is
ever saved.

Drawing for one purpose never shifts what another draws; a resumed run, or a member of a stack,
draws exactly what the undisturbed solo run draws. Generators live on the CPU, so that results do
not depend on the device.
"""

import hashlib

import torch


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
