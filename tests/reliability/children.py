"""Commands in child processes that die at a moment of our choice, as kill -9 does it."""

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable


def died(action: Callable[[], object], at_writing: int | None = None, after: float = 0) -> bool:
    """Do something in a copy of this process. It is killed as it writes for the n-th time, or after
    so many seconds; False if it had ended before.

    A copy has everything imported, so that a thousand of them take minutes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that a copy has not
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if at_writing is not None:
                _die_at(at_writing)
            action()
        os._exit(0)
    if at_writing is None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die_at(writing: int) -> None:
    """Be killed before the n-th time that a file is put in its place, added to or synced."""
    left = [writing]

    def counted(call: Callable) -> Callable:
        def instead(*arguments, **settings):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*arguments, **settings)

        return instead

    def opened(path, flags, *more, **settings):
        call = counted(original) if flags & os.O_APPEND else original
        return call(path, flags, *more, **settings)

    original = os.open
    os.open = opened
    os.replace, os.fsync = counted(os.replace), counted(os.fsync)
