"""Loggers that people already use: told of each run as it goes on, beside the files it has anyway.

    trainlab train 'logger=[tensorboard,mlflow]'

A run may have been killed or paused before, and a logger know of more epochs than the checkpoint,
or of fewer: from `begin` on, it has each epoch once. Series bear the names of metrics.csv's
columns, and their steps are epochs; of the settings a logger gets those that decide a result.

None of the packages is imported unless its logger is chosen.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import filelock

from trainlab.config import NOT_IDENTITY, needed
from trainlab.files import Unreadable, read_text, write_text

if TYPE_CHECKING:
    from trainlab.store import Row


class Logger(Protocol):
    """What one run's logger is told, in this order. It is made from its settings, without touching
    the disk; whatever it raises later costs the run nothing but this logger."""

    def begin(self, folder: Path, config: dict[str, Any], rows: "Sequence[Row]") -> None:
        """The run's folder, named by its id; its config under the names people type; and the rows
        of the epochs behind it, if it goes on from a checkpoint."""
        ...

    def log(self, row: "Row") -> None:
        """One epoch: a row of metrics.csv."""
        ...

    def end(self, status: str, result: dict[str, Any]) -> None:
        """`done`, `diverged`, `failed`, `paused` or `stopped`, and what is in result.json, if
        anything is."""
        ...


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Those that decide the result; lists, maps and null as JSON.

    >>> _settings({"act": "relu", "arch.hidden": [128, 64], "device": "cpu"})
    {'act': 'relu', 'arch.hidden': '[128, 64]'}
    """
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for key, value in config.items()
        if key.partition(".")[0] not in NOT_IDENTITY
    }


def _scores(result: dict[str, Any]) -> dict[str, float]:
    """What a result adds to the rows: the test, and which epoch's weights it was taken with."""
    return {
        name: value
        for name, value in result.items()
        if (name.startswith("test_") or name == "best_epoch") and isinstance(value, int | float)
    }


class TensorBoard:
    """Event files in `<run>/tensorboard`, written anew when the run goes on.

    The settings go to its HParams without a list of columns (`hparams_config`): that would be one
    run's, and hide the settings that only others have.
    """

    def __init__(self) -> None:
        needed("tensorboard", "tensorboard", "logger=tensorboard")

    def begin(self, folder: Path, config: dict[str, Any], rows: "Sequence[Row]") -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        # A TensorBoard that is looking on forgets what it has read when it meets `purge_step`.
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=0, flush_secs=10)
        self.writer.file_writer.add_summary(hparams_pb(_settings(config), folder.name))
        for row in rows:
            self.log(row)

    def log(self, row: "Row") -> None:
        for name, value in row.items():
            self.writer.add_scalar(name, value, row["epoch"])

    def end(self, status: str, result: dict[str, Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        for name, value in _scores(result).items():
            self.writer.add_scalar(name, value, result["epochs"])
        good = status in ("done", "diverged")
        info = plugin_data_pb2.SessionEndInfo(
            status=api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE,
            end_time_secs=time.time(),
        )
        content = plugin_data_pb2.HParamsPluginData(session_end_info=info)
        ended = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(content)
        )
        self.writer.file_writer.add_summary(Summary(value=[ended]))
        self.writer.close()


_WRITE_EVERY = 10.0  # seconds between two writings to MLflow, which take tens of milliseconds each
_METRICS, _PARAMS = 1000, 100  # the most that MLflow takes at once
_STATUS = {"failed": "FAILED", "stopped": "KILLED", "paused": "KILLED"}  # the others: FINISHED


class MLflow:
    """A run of MLflow for each run, through MlflowClient: the global API has one at a time.

    A run that goes on from its checkpoint goes on in MLflow, too: which run that is stands in the
    folder, and epochs that are there already are not logged again. One that begins anew replaces
    it.

    Unless `uri` is given, all studies share a database in `output_dir`: to make one takes seconds,
    and MLflow shows one at a time.
    """

    def __init__(self, uri: str | None = None, experiment: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        needed("mlflow", "mlflow", "logger=mlflow")
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every database made
        self.uri, self.experiment = uri, experiment

    def begin(self, folder: Path, config: dict[str, Any], rows: "Sequence[Row]") -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        outputs, note = Path(config["output_dir"]).resolve(), folder / "mlflow_run_id.txt"
        # Processes that make the same database or experiment at once get in each other's way.
        with filelock.FileLock(outputs / ".mlflow.lock"):
            # `timeout`: seconds that a writing waits for those of other processes.
            self.client = MlflowClient(self.uri or f"sqlite:///{outputs / 'mlflow.db'}?timeout=60")
            experiment = self._experiment(self.experiment or config["study"], outputs)
        self.known: dict[str, float] = {}  # the last values that MLflow has
        self.waiting: list[Any] = []  # to be written: the metrics of whole rows
        self.written = time.monotonic()
        run = self._found(note)
        if run and (rows or not run.data.metrics):
            self.run, self.known = run.info.run_id, run.data.metrics
            self.client.update_run(self.run, status="RUNNING")
        else:
            if run:
                self.client.delete_run(run.info.run_id)
            name, tags = config["name"] or folder.name, {"trainlab.run_id": folder.name}
            self.run = self.client.create_run(experiment, None, tags, name).info.run_id
            write_text(note, self.run)
            params = [Param(key, str(value)) for key, value in _settings(config).items()]
            for start in range(0, len(params), _PARAMS):
                self.client.log_batch(self.run, params=params[start : start + _PARAMS])
        for row in rows:
            self.log(row)

    def _experiment(self, name: str, outputs: Path) -> str:
        """The id of the experiment of this name."""
        if experiment := self.client.get_experiment_by_name(name):
            return experiment.experiment_id
        artifacts = None if self.uri else (outputs / "mlruns").as_uri()
        return self.client.create_experiment(name, artifacts)

    def _found(self, note: Path) -> Any:
        """What this run is in MLflow; None where it is not there, or was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(read_text(note))
        except (Unreadable, MlflowException):
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def log(self, row: "Row") -> None:
        if row["epoch"] > self.known.get("epoch", 0):
            self._add(row, row["epoch"])
        if time.monotonic() - self.written > _WRITE_EVERY:
            self._write()

    def _add(self, values: dict[str, float], epoch: float) -> None:
        from mlflow.entities import Metric

        if len(self.waiting) + len(values) > _METRICS:
            self._write()
        now = int(time.time() * 1000)
        self.waiting += [Metric(name, v, now, int(epoch)) for name, v in values.items()]

    def _write(self) -> None:
        self.client.log_batch(self.run, self.waiting)
        self.waiting, self.written = [], time.monotonic()

    def end(self, status: str, result: dict[str, Any]) -> None:
        scores = {name: v for name, v in _scores(result).items() if name not in self.known}
        self._add(scores, result.get("epochs", 0))
        self._write()
        self.client.set_tag(self.run, "trainlab.status", status)
        self.client.set_terminated(self.run, _STATUS.get(status, "FINISHED"))


class WandB:
    """Weights & Biases, offline: a folder `<run>/wandb/offline-run-…`, written anew when the run
    goes on. `wandb sync` sends it, under the run's id."""

    def __init__(self, project: str | None = None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        needed("wandb", "wandb", "logger=wandb")
        self.project = project

    def begin(self, folder: Path, config: dict[str, Any], rows: "Sequence[Row]") -> None:
        import wandb

        shutil.rmtree(folder / "wandb", ignore_errors=True)
        # W&B's service is not to be that of the process which started this one: there, the run of a
        # worker that was killed would stay "in use".
        os.environ.pop("WANDB_SERVICE", None)
        self.run = wandb.init(
            mode="offline",
            dir=folder.resolve(),  # its service has a working folder of its own
            project=self.project or config["study"].replace("/", "-"),
            id=folder.name,
            name=config["name"] or folder.name,
            config=_settings(config),
            reinit="create_new",  # other members of a stack have theirs
            settings=wandb.Settings(console="off", silent=True),
        )
        for row in rows:
            self.log(row)

    def log(self, row: "Row") -> None:
        self.run.log(row, step=int(row["epoch"]))

    def end(self, status: str, result: dict[str, Any]) -> None:
        self.run.summary.update({"status": status} | _scores(result))
        self.run.finish(exit_code=0 if status in ("done", "diverged") else 1)
