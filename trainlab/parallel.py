"""One run, trained by several processes that torchrun starts.

Every rank composes the same config and holds the same data and weights. Of each batch it computes
the rows that are its own; gradients are added up as the one matrix they are, so that all ranks take
the same step. What is read from disk is read by rank 0 and told to the others, and what is decided
is decided by numbers that all have, so that all do the same things in the same order. A single
process asks for nothing of this, and pays nothing.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(seconds=5)  # with others, before we end alone
_FOUND = {"status", "result", "checkpoint", "acquire", "busy"}  # of a run: what its disk says

T = TypeVar("T")


class Lost(RuntimeError):
    """Another process of the run has ended, and so must this one."""


class Rows(NamedTuple):
    """Those rows of a batch, or of a part of it, that this process computes."""

    start: int
    stop: int
    total: int

    @property
    def count(self) -> int:
        return self.stop - self.start


# Who we are, as torchrun says it; not only a run but all of the process is one of several.
_rank, _size = 0, 1
_words: Any = None  # the group for what is no matter of the device, always gloo
_farewell: Any = None  # and the one to end together
_parted = False  # after an error: nobody knows what the others are doing
_asked: tuple[Any, Tensor] | None = None  # whether someone wants to stop: on its way
_stopping = False
_present: Rows | None = None


def size() -> int:
    """How many processes train the run."""
    return _size


def first() -> bool:
    """Whether this is the process that writes and speaks."""
    return _rank == 0


# ---------------------------------------------------------------- from begin to end


def together(command: Callable[[], int]) -> int:
    """Run a command as one of torchrun's processes; its exit code.

    Rank 0 speaks. Another one is heard only if it failed and rank 0 did not end with it.
    """
    _begin()
    words = io.StringIO()
    if first():
        code = command()
    else:
        with redirect_stdout(words), redirect_stderr(words):
            code = command()
    if not _end() and code:
        sys.stderr.write(words.getvalue())
    return code


def _begin() -> None:
    """Meet the others. Ranks with a GPU each talk through NCCL, others through gloo."""
    global _rank, _size, _words, _farewell
    here, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(here % gpus)
    alone = gpus >= int(os.environ["LOCAL_WORLD_SIZE"]) and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if alone else "gloo")
    _words = dist.new_group(backend="gloo")
    _farewell = dist.new_group(backend="gloo", timeout=_PATIENCE)
    _rank, _size = dist.get_rank(), dist.get_world_size()


def _end() -> bool:
    """Wait for the others, whose exit would let torchrun end us; whether they came."""
    try:
        dist.barrier(_farewell)
    except RuntimeError:
        return False
    dist.destroy_process_group()
    return True


def part() -> None:
    """After an error of this process: nothing is agreed upon any more."""
    global _parted
    _parted = _size > 1


@contextmanager
def _in_touch() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Lost("another process of this run has ended") from error


# ---------------------------------------------------------------- rows


def rows(total: int) -> Rows | None:
    """Our share of so many rows; None for all of them, where there is one process.

    Shares differ by a row at most. Where rows are fewer than ranks, some shares are empty.
    """
    if _size == 1:
        return None
    return Rows(total * _rank // _size, total * (_rank + 1) // _size, total)


def own(x: Tensor, rows: Rows | None, axis: int = 1) -> Tensor:
    """Our rows of x (R, B, …)."""
    return x if rows is None else x.narrow(axis, rows.start, rows.count)


def computed(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The model's outputs of our rows of x (R, B, …): what it draws and averages on the way is the
    whole batch's."""
    global _present
    if _size == 1:
        return model(x)
    _present = rows(x.shape[1])
    try:
        # Not every layer takes an empty batch: instead it gets a row that counts for nothing.
        some = x.narrow(1, _present.start, max(1, _present.count))
        return model(some)[:, : _present.count]
    finally:
        _present = None


def present() -> Rows | None:
    """The rows being `computed`; None where these are all there are."""
    return _present


# ---------------------------------------------------------------- sums


def add(x: Tensor) -> Tensor:
    """x, in place, becomes the sum of all ranks' x: the same bits on each."""
    if _size > 1:
        with _in_touch():
            dist.all_reduce(x)
    return x


def total(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sums over all ranks of every entry, in one message."""
    if _size == 1:
        return sums
    flat = add(torch.cat([value.flatten().double() for value in sums.values()]))
    parts = flat.split([value.numel() for value in sums.values()])
    return {
        name: part.view(value.shape).to(value.dtype)
        for (name, value), part in zip(sums.items(), parts, strict=True)
    }


class _Sum(torch.autograd.Function):
    """A sum that all ranks go on with: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return add(x.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return add(gradient.clone())


summed: Callable[[Tensor], Tensor] = _Sum.apply


def gathered(x: Tensor) -> Tensor:
    """All ranks' rows, (R, b, …) -> (R, B, …), in the order of ranks."""
    if _size == 1:
        return x
    parts: list[Any] = [None] * _size
    with _in_touch():
        dist.all_gather_object(parts, x.cpu(), _words)
    return torch.cat(parts, 1).to(x.device)


# ---------------------------------------------------------------- words


def told(ask: Callable[[], T]) -> T:
    """What rank 0 finds, or the error it meets, on every rank."""
    if _size == 1 or _parted:
        return ask()
    answer: list[Any] = [None, None]
    if first():
        try:
            answer[0] = ask()
        except Exception as error:
            answer[1] = error
    with _in_touch():
        dist.broadcast_object_list(answer, group=_words)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def agreed(wish: bool) -> bool:
    """Whether a process has wished to stop, one call ago: all get the same answer.

    The answer is on its way while the next step is computed.
    """
    global _asked, _stopping
    if _size == 1 or _parted:
        return wish
    if not _stopping:
        with _in_touch():
            if _asked:
                _asked[0].wait()
                _stopping = bool(_asked[1])
            flag = torch.tensor(int(wish))
            _asked = dist.all_reduce(flag, dist.ReduceOp.MAX, _words, async_op=True), flag
    return _stopping


class Shared:
    """A `store.Run` of several processes: rank 0 reads and writes its folder, the others are told
    what it has read."""

    def __init__(self, run: Any):
        self._run = run

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._run, name)
        if name in _FOUND:
            return partial(told, value)
        if first() or not callable(value):
            return value
        return lambda *arguments, **settings: None
