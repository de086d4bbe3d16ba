"""Where the stacks of a sweep are computed.

base      hand stacks out and take them back: what all have in common
local     worker processes on this machine
cluster   SLURM by submitit, Ray

An executor takes stacks of jobs as it has room for them, and gives each back when it is over, with
the reason why it failed if its process died. What became of the runs is in their folders. What a
process died of is tried once more, in another.

    for jobs, death in executor(stacks, display, interrupted): ...
"""

from trainlab.executors.base import Executor
from trainlab.executors.cluster import Ray, Submitit
from trainlab.executors.local import Local, context

__all__ = ["Executor", "Local", "Ray", "Submitit", "context"]
