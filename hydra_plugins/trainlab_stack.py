"""What Hydra finds only under this name: the launcher of sweeps, and the user's own conf/ on the
search path.

Thin on purpose: any error raised while this is imported would break every Hydra program of the
user.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin

ConfigStore.instance().store(
    group="hydra/launcher",
    name="stack",
    node={"_target_": f"{__name__}.StackLauncher"},
    provider="trainlab",
)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="grid",
    node={"_target_": f"{__name__}.GridSweeper", "max_batch_size": None, "params": None},
    provider="trainlab",
)


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper, less the trial composition of every job and the multirun.yaml beside the
    user.

    The launcher composes each distinct choice of groups once, and finds there what is wrong.
    """

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        returns: list[Sequence[JobReturn]] = []
        for batch in self.split_arguments(overrides, self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
            for job in returns[-1]:
                _ = job.return_value  # raises what another launcher's job raised
        return returns


class StackLauncher(Launcher):
    """Hands all jobs of a sweep to trainlab's task function, which trains them as stacks."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.loader = hydra_context.config_loader
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from trainlab.config import compose_jobs

        values = self.task_function(compose_jobs(self.loader, self.config, job_overrides))
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=value)
            for overrides, value in zip(job_overrides, values, strict=True)
        ]


class OwnConfigs(SearchPathPlugin):
    """The `conf/` of the working folder comes first, so that a user adds and replaces options.

    Only for trainlab's own configs: other Hydra programs, and --config-path, are left alone.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        from trainlab.config import CONF
        from trainlab.config import search_path as folders

        main = next((p for p in search_path.get_path() if p.provider == "main"), None)
        if main is None or main.path not in (str(CONF), f"file://{CONF}"):
            return
        for folder in folders()[:-1]:
            search_path.prepend("trainlab-user", f"file://{folder}", anchor="main")
