"""What Hydra finds only under this name: the launcher of sweeps, the sweepers, and the user's own
conf/ on the search path.

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
from hydra.plugins.sweeper import Sweeper

ConfigStore.instance().store(
    group="hydra/launcher",
    name="stack",
    node={"_target_": f"{__name__}.StackLauncher"},
    provider="trainlab",
)

for _name, _mode in (("sweep", None), ("grid", "MULTIRUN")):
    _node = {"_target_": f"{__name__}.GridSweeper", "mode": _mode}
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name=_name,
        node=_node | {"max_batch_size": None, "params": None},
        provider="trainlab",
    )

# The keys of hydra-optuna-sweeper: what is not null wins over the setting of `search` it is.
_KEYS = "params n_trials n_jobs direction storage study_name".split()
for _sampler in ("random", "tpe", "gp", "cmaes", "evolution", "qmc", "gradient"):
    _node = {"_target_": f"{__name__}.SearchSweeper", "sampler": _sampler, "mode": "MULTIRUN"}
    ConfigStore.instance().store(
        group="hydra/sweeper",
        name=_sampler,
        node=_node | dict.fromkeys(_KEYS),
        provider="trainlab",
    )


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper, less the trial composition of every job and the multirun.yaml beside the
    user.

    The launcher composes each distinct choice of groups once, and finds there what is wrong.
    """

    def __init__(self, mode: str | None, max_batch_size: int | None, params: Any) -> None:
        super().__init__(max_batch_size, params)
        self.grid = mode is not None  # or no search at all

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        assert self.launcher is not None
        from trainlab.search.score import Swept, returned
        from trainlab.search.space import applying, choices, enumerable, foreign

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        typed = parser.parse_overrides([*self._parse_config(), *arguments])
        overrides = enumerable(typed, self.config, self.grid)
        returns: list[Sequence[JobReturn]] = []
        others = foreign(choices(overrides))
        for batch in self.split_arguments(overrides, self.max_batch_size):
            jobs = [applying(job, others) for job in batch]
            if others:  # those that differ only in what does not apply to them are one
                jobs = list(map(list, dict.fromkeys(map(tuple, jobs))))
            returns.append(self.launcher.launch(jobs, initial_job_idx=sum(map(len, returns))))
        # A launcher of other processes has its results only here.
        if not self.config.dry_run:
            self.task_function(Swept([returned(job) for jobs in returns for job in jobs]))
        return returns


class SearchSweeper(Sweeper):
    """Asks a sampler for the jobs, batch by batch: `trainlab.search`."""

    def __init__(self, sampler: str, mode: str, params: Any = None, **official: Any) -> None:
        self.sampler, self.params, self.official = sampler, params or {}, official

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        from hydra.core.plugins import Plugins

        self.loader, self.config = hydra_context.config_loader, config
        self.task_function = task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from trainlab.search.loop import search

        parser = OverridesParser.create(config_loader=self.loader)
        texts = [f"{key}={value}" for key, value in self.params.items()]
        found = search(
            parser.parse_overrides([*texts, *arguments]),
            self.launcher.launch,
            self.loader,
            self.config,
            self.sampler,
            self.official,
        )
        if found:
            self.task_function(found)


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
