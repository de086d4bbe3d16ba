"""Loggers, with the packages themselves, writing to a local folder and read back."""

import csv
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainlab import loggers
from trainlab.config import compose, run_id, stack_key

ALL = ("tensorboard", "mlflow", "wandb")
TINY = ("max_examples=100", "arch.hidden=[8]", "device=cpu")
CLOCK = {"seconds", "examples_per_second"}

Series = dict[str, list[tuple[int, float]]]  # name -> of each epoch, its value


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Path:
    """An empty database of MLflow's, which takes seconds to make."""
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def made(folder, database):
    """The same in the folder's outputs/, as of an earlier study's."""
    (folder / "outputs").mkdir()
    shutil.copy(database, folder / "outputs")


def metrics(run: Path) -> Series:
    """What metrics.csv has."""
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [(int(row["epoch"]), float(row[name])) for row in rows] for name in rows[0]}


def events(run: Path):
    """A run's event files, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    return found.Reload()


def client(study: Path):
    database = study.parent.resolve() / "mlflow.db"
    return pytest.importorskip("mlflow").MlflowClient(f"sqlite:///{database}?timeout=60")


def mlflow_run(run: Path):
    return client(run.parent).get_run((run / "mlflow_run_id.txt").read_text())


def records(run: Path) -> list:
    """What W&B wrote: messages of its protocol, in LevelDB's log format (its own reader is in Go).

    Blocks of 32 KiB, in each parts with a checksum, a length and a kind: the whole of a message,
    its first part, one in the middle, its last.
    """
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    content, at, message, found = file.read_bytes(), 7, b"", []
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # too little room for a part: zeros
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        message += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(message))
            message = b""
    assert not message
    return found


def items(message) -> dict:
    """Keys and values of W&B's lists of items."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in message}


def logged(logger: str, run: Path) -> Series:
    """All that a logger has of a run."""
    if logger == "tensorboard":
        found = events(run)
        return {
            name: [(event.step, event.value) for event in found.Scalars(name)]
            for name in found.Tags()["scalars"]
        }
    if logger == "mlflow":
        known = mlflow_run(run)
        return {
            name: [
                (metric.step, metric.value)
                for metric in client(run.parent).get_metric_history(known.info.run_id, name)
            ]
            for name in known.data.metrics
        }
    rows = [items(r.history.item) for r in records(run) if r.WhichOneof("record_type") == "history"]
    assert [row["_step"] for row in rows] == [row["epoch"] for row in rows]
    names = [name for name in rows[0] if not name.startswith("_")]
    return {name: [(row["_step"], row[name]) for row in rows] for name in names}


def assert_logged(logger: str, run: Path, less: frozenset = frozenset()) -> None:
    """Each epoch once, and the values of metrics.csv."""
    ours, theirs = metrics(run), logged(logger, run)
    for name in set(ours) - less:
        assert [epoch for epoch, _ in theirs[name]] == [epoch for epoch, _ in ours[name]], name
        values = [value for _, value in ours[name]]
        assert [value for _, value in theirs[name]] == pytest.approx(values, rel=1e-6), name


def runs(study: Path) -> list[Path]:
    return sorted(path.parent for path in study.glob("*/status.json"))


@pytest.mark.usefixtures("made")
def test_several_loggers_of_a_stack(trainlab):
    """Each member has its own, with its settings and its result."""
    for logger in ALL:
        pytest.importorskip(logger)
    answer = trainlab(
        "train",
        "-m",
        *TINY,
        "epochs=3",
        "seed=range(3)",
        "study=s",
        "logger=[tensorboard,mlflow,wandb]",
    )
    assert answer.code == 0
    assert "3 runs as one stack" in answer.err
    assert "warning" not in answer.err
    assert len(runs(answer.path)) == 3
    for seed, run in enumerate(sorted(runs(answer.path), key=lambda run: result(run)["seed"])):
        for logger in ALL:
            assert_logged(logger, run)
        score = result(run)["test_accuracy"]

        found = events(run)
        assert found.Scalars("test_accuracy")[0].value == pytest.approx(score)
        from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

        content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = parse_session_start_info_plugin_data(content).hparams
        assert settings["seed"].number_value == seed
        assert settings["optimizer"].string_value == "adam"
        assert settings["optimizer.lr"].number_value == 0.001
        assert "device" not in settings

        known = mlflow_run(run)
        assert known.info.status == "FINISHED"
        assert known.info.run_name == known.data.tags["trainlab.run_id"] == run.name
        assert known.data.tags["trainlab.status"] == "done"
        assert known.data.metrics["test_accuracy"] == score
        assert known.data.params["seed"] == str(seed)
        assert known.data.params["arch.hidden"] == "[8]"
        assert client(answer.path).get_experiment(known.info.experiment_id).name == "s"

        (begun,) = (r.run for r in records(run) if r.WhichOneof("record_type") == "run")
        assert (begun.run_id, begun.project) == (run.name, "s")
        assert items(begun.config.update)["seed"] == seed
        summary = {}
        for record in records(run):
            if record.WhichOneof("record_type") == "summary":
                summary |= items(record.summary.update)
        assert summary["test_accuracy"] == score
    assert len(client(answer.path).search_runs([known.info.experiment_id])) == 3


def result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def test_worker_processes_log_too(trainlab):
    for logger in ALL:
        pytest.importorskip(logger)
    answer = trainlab(
        "train", "-q", "-m", *TINY, "epochs=2", "seed=range(4)", "stack=2", "workers=2",
        "logger=[tensorboard,mlflow,wandb]",
    )  # fmt: skip
    assert answer.code == 0
    for run in runs(answer.path):
        assert "warning" not in (run / "log.txt").read_text()
        for logger in ALL:
            assert_logged(logger, run)


@pytest.mark.usefixtures("made")
def test_a_run_that_was_killed_has_each_epoch_once(trainlab, trainlab_process, folder):
    for logger in ALL:
        pytest.importorskip(logger)
    arguments = (
        "train", *TINY, "epochs=40", "checkpoint.every=4", "checkpoint.unit=epochs",
        "logger=[tensorboard,mlflow,wandb]",
    )  # fmt: skip
    process = trainlab_process(*arguments)
    table = folder / "outputs" / "runs"
    deadline = time.monotonic() + 60
    while sum(len(p.read_text().splitlines()) for p in table.glob("*/metrics.csv")) < 8:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    (run,) = runs(table)
    before = mlflow_run(run)
    answer = trainlab(*arguments)
    assert answer.code == 0
    assert "continuing in epoch" in answer.err
    assert_logged("tensorboard", run)
    assert_logged("wandb", run)
    # Epochs behind the checkpoint stay as they were: they were computed again, to the same bits.
    assert_logged("mlflow", run, less=frozenset(CLOCK))
    after = mlflow_run(run)
    assert after.info.run_id == before.info.run_id
    assert (before.info.status, after.info.status) == ("RUNNING", "FINISHED")


@pytest.mark.parametrize("logger", ALL)
def test_a_logger_chosen_late_gets_what_was_before(trainlab, logger, request):
    pytest.importorskip(logger)
    if logger == "mlflow":
        request.getfixturevalue("made")
    arguments = ("train", "-q", *TINY, "epochs=4")
    assert trainlab(*arguments, "until=1").code == 0
    assert trainlab(*arguments, "until=2", f"logger={logger}").code == 0
    assert trainlab(*arguments, "until=3").code == 0
    answer = trainlab(*arguments, f"logger={logger}")
    assert answer.code == 0
    assert_logged(logger, answer.path)
    # What is trained anew is logged anew.
    answer = trainlab(*arguments, f"logger={logger}", "fresh=true")
    assert_logged(logger, answer.path)


@pytest.mark.parametrize("logger", ALL)
def test_a_run_that_diverges_is_logged_to_its_end(trainlab, logger, request):
    pytest.importorskip(logger)
    if logger == "mlflow":
        request.getfixturevalue("made")
    answer = trainlab(
        "train", "-q", *TINY, "optimizer=momentum", "optimizer.lr=1e30", f"logger={logger}"
    )
    assert answer.code == 3
    assert "warning" not in (answer.path / "log.txt").read_text()
    (loss,) = {math.isfinite(value) for _, value in metrics(answer.path)["train_loss"]}
    assert not loss
    theirs = [float(value) for _, value in logged(logger, answer.path)["train_loss"]]
    assert not any(map(math.isfinite, theirs))


def test_a_logger_decides_nothing_of_a_result():
    base = compose([])
    for logger in ("logger=tensorboard", "logger=[mlflow,wandb]", "logger.mlflow.uri=x"):
        typed = [logger] if "uri" not in logger else ["logger=mlflow", logger]
        config = compose(typed)
        assert run_id(config, "data") == run_id(base, "data")
        assert stack_key(config) == stack_key(base)
    assert compose(["logger=[mlflow,wandb]"])["choices"]["logger"] == "mlflow+wandb"


@pytest.mark.parametrize("logger", ALL)
@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]], ids=["alone", "sweep"])
def test_a_package_that_is_missing_is_told_before_training(
    trainlab, folder, monkeypatch, logger, sweep
):
    monkeypatch.setitem(sys.modules, logger, None)
    answer = trainlab("train", *TINY, *sweep, f"logger={logger}")
    assert answer.code == 2
    assert f"pip install 'trainlab[{logger}]'" in answer.err
    assert not list(folder.glob("outputs/*/*/metrics.csv"))


def test_nothing_is_reported_to_their_makers(monkeypatch):
    for name in ("MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"):
        monkeypatch.delenv(name)
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    loggers.MLflow()
    loggers.WandB()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


def test_nothing_of_them_is_imported_unless_chosen(folder):
    code = (
        "import sys; from trainlab import cli;"
        f"cli.main(['train', '-q', 'epochs=1', *{TINY!r}]); cli.main(['list', 'logger']);"
        f"print([name for name in {ALL!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "logger.mlflow.uri" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


# ---------------------------------------------------------------- one's own

OWN = """
from pathlib import Path

from torch import nn

class Broken(nn.ReLU):
    def forward(self, x):
        raise ArithmeticError("out of luck")

class Lines:
    def __init__(self, file, fails="never"):
        self.file, self.fails = Path(file), fails

    def begin(self, folder, config, rows):
        self.say("begin", folder.name, config["seed"], len(rows))

    def log(self, row):
        self.say("log", row["epoch"])

    def end(self, status, result):
        self.say("end", status, result.get("best_epoch"))

    def say(self, what, *words):
        if what == self.fails:
            raise OSError("the\\nlogger is broken")
        with open(self.file, "a") as file:
            print(what, *words, file=file)
"""


@pytest.fixture
def own(folder):
    """A logger of one's own, in the working folder: what it was told, in lines."""
    (folder / "conf" / "logger").mkdir(parents=True)
    (folder / "lines.py").write_text(OWN)
    for name in ("lines", "more"):
        (folder / "conf" / "logger" / f"{name}.yaml").write_text(
            f"# @package logger.{name}\n# lines\n_target_: lines.Lines\nfile: {name}.txt\n"
            "fails: never  # text: in which call it raises\n"
        )
    yield lambda name="lines": (folder / f"{name}.txt").read_text().splitlines()
    sys.modules.pop("lines", None)
    sys.path[:] = [path for path in sys.path if path != str(folder)]


def test_a_logger_of_ones_own(trainlab, own):
    arguments = ("train", "-q", *TINY, "epochs=3", "logger=lines", "trusted=[lines]")
    answer = trainlab(*arguments, "until=2")
    told = [f"begin {answer.path.name} 0 0", "log 1", "log 2", "end paused None"]
    assert own() == told
    answer = trainlab(*arguments)
    told += [f"begin {answer.path.name} 0 2", "log 3", f"end done {answer.result['best_epoch']}"]
    assert own() == told
    trainlab(*arguments)  # it is there already
    assert own() == told


def test_of_several_processes_the_first_logs(own, folder):
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("torch without gloo")
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            "-m", "trainlab", "train", *TINY, "epochs=2", "logger=lines", "trusted=[lines]",
        ],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in own()] == ["begin", "log", "log", "end"]


@pytest.mark.parametrize(("fails", "workers"), [("begin", 1), ("log", 1), ("log", 2), ("end", 1)])
def test_no_run_is_lost_for_a_logger_that_raises(trainlab, own, fails, workers):
    answer = trainlab(
        "train", "-m", *TINY, "epochs=2", "seed=range(2)", "stack=1", "logger=[lines,more]",
        f"logger.lines.fails={fails}", "trusted=[lines]", f"workers={workers}",
    )  # fmt: skip
    assert answer.code == 0
    text = "logger=lines failed, and the run goes on without it: OSError: the logger is broken"
    assert answer.err.count(text) == 1
    assert len(own("more")) == 2 * len(["begin", "log", "log", "end"])
    for run in runs(answer.path):
        assert result(run)["status"] == "done"
        assert (run / "log.txt").read_text().count(text) == 1


def test_a_run_that_fails_ends_its_logger(trainlab, own):
    answer = trainlab(
        "train", "-q", *TINY, "logger=lines", "trusted=[lines]", "act._target_=lines.Broken"
    )
    assert answer.code == 1
    assert [line.split()[0] for line in own()] == ["begin", "end"]
    assert own()[-1] == "end failed None"
