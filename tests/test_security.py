"""Nobody gets in. Each table says where the hostile thing comes from, what it tries, and what is
said of it. Where something would be run, it would leave the file `pwned`."""

import gzip
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from trainlab import cli
from trainlab.config import UserError, find
from trainlab.data import files
from trainlab.data.images import read_idx

SMALL = ["epochs=1", "max_examples=60", "arch=mlp_tiny", "quiet=true"]
TOUCH = '{_target_: subprocess.call, args: [touch, "PWNED"]}'


@pytest.fixture
def refuses(trainlab, folder):
    """Call the command line; it says so in one paragraph, and nothing was run or left."""

    def call(says: str, *arguments: str) -> None:
        answer = trainlab(*arguments)
        assert answer.code == cli.BAD_INPUT, answer.err or answer.out
        assert says in answer.err
        lines = [line for line in answer.err.splitlines() if not line.startswith("note: ")]
        assert len(lines) == 1, answer.err
        assert not list(folder.rglob("*pwned*"))

    return call


# ---------------------------------------------------------------- what a config may name

TARGETS = [  # group, address, and whether trainlab's, torch's or nobody's
    ("act", "torch.nn.ReLU", True),
    ("act", "torch.nn.modules.activation.Tanhshrink", True),
    ("act", "trainlab.activations.Step", True),
    ("norm", "torch.nn.utils.parametrizations.orthogonal", True),
    ("init", "torch.nn.init.sparse_", True),
    ("optimizer", "torch.optim.Adafactor", True),
    ("act", "subprocess.call", False),
    ("act", "builtins.eval", False),
    ("act", "trainlab.executors.cluster.train_packed", False),
    ("act", "trainlab.executors.train_packed", False),
    ("act", "trainlab.executors.os.system", False),
    ("act", "trainlab.activations.os.system", False),
    ("act", "trainlab.activations.torch.hub.load", False),
    ("act", "trainlab.activations.torch.nn.ReLU", False),
    ("act", "trainlab.data.tables.csv", False),
    ("act", "trainlab.optimizers.adam", False),
    ("act", "trainlab.cli.main", False),
    ("act", "torch.hub.load", False),
    ("act", "torch.load", False),
    ("act", "torch.nn.init.normal_", False),
    ("act", "torch.nn.functional.relu", False),
    ("act", "torch.nn.functional.torch.hub.load", False),
    ("act", "torch.nn.modules.module.torch.jit.ScriptModule", False),
    ("act", "torch.nn.modules.module.warnings.warn", False),
    ("act", "torch.nn", False),
    ("act", "torch.nnx.ReLU", False),
    ("act", "", False),
    ("arch", "trainlab.data.files.fetched", False),
    ("arch", "torch.nn.Linear", False),
    ("augment", "trainlab.data.files.resuming", False),
    ("clip", "trainlab.store.write_atomically", False),
    ("dataset", "trainlab.data.files.fetched", False),
    ("dataset", "trainlab.executors.cluster.train_packed", False),
    ("dataset", "trainlab.data.tables.arrays_of", False),
    ("executor", "trainlab.executors.cluster.train_packed", False),
    ("executor", "trainlab.loggers.MLflow", False),
    ("init", "torch.nn.init.warnings.warn", False),
    ("init", "torch.nn.ReLU", False),
    ("logger", "trainlab.executors.Ray", False),
    ("norm", "torch.nn.utils.parametrizations.torch.hub.load", False),
    ("optimizer", "torch.optim.optimizer.torch.load", False),
    ("optimizer", "torch.optim.lr_scheduler.StepLR", False),
    ("preprocess", "torch.nn.ReLU", False),
    ("preprocess", "trainlab.preprocess.load", False),
    ("schedule", "trainlab.activations.Step", False),
    ("transform", "trainlab.data.files.fetched", False),
]  # fmt: skip


@pytest.mark.parametrize(("group", "target", "meant"), TARGETS)
def test_each_group_builds_what_is_meant_for_it(group, target, meant):
    if meant:
        assert callable(find(target, group))
        return
    with pytest.raises(UserError, match=f"none of trainlab's for {group}"):
        find(target, group)


def test_trust_is_by_package_and_by_where_a_thing_was_defined(folder, monkeypatch):
    (folder / "mine_too.py").write_text("import subprocess\nfrom os import path\nclass Act: pass\n")
    assert find("mine_too.Act", "act", ["mine_too"]).__name__ == "Act"
    assert find("mine_too.Act", "act", ["mine_too.Act"]).__name__ == "Act"
    for target, trusted in [
        ("mine_too.Act", ["mine"]),
        ("mine_too.subprocess.call", ["mine_too"]),
        ("mine_too.Act", [""]),
    ]:
        with pytest.raises(UserError, match="none of trainlab's for act"):
            find(target, "act", trusted)


# ---------------------------------------------------------------- studies from another folder

STUDIES = [  # what the study says, and what is said of it
    # a component that is none
    (f"act: {TOUCH}", "act names subprocess.call"),
    ("act: {_target_: trainlab.executors.cluster.train_packed}", "act names trainlab.executors"),
    ("dataset: {_target_: trainlab.data.files.fetched, url: x}", "dataset names trainlab.data"),
    ("loss: subprocess.call\nact: {_target_: '${loss}'}", "act names subprocess.call"),
    (f"act: {{inner: {TOUCH}}}", "act.inner._target_: a component has one _target_"),
    ("act: {_partial_: true}", "act._partial_: a component has one _target_"),
    ("act: {_args_: [1]}", "act._args_: a component has one _target_"),
    (f"preprocess: {{more: {TOUCH}}}", "preprocess.more names subprocess.call"),
    (f"logger: {{more: {TOUCH}}}", "logger.more names subprocess.call"),
    (f"init: {{act: {TOUCH}}}", "init.act._target_: a component has one _target_"),
    # whom it trusts
    (f"trusted: [subprocess]\nact: {TOUCH}", "about itself. act names subprocess.call"),
    ("trusted: [subprocess]", "It needs none of that"),
    ("act: {_fixes_: {trusted: [subprocess]}}", "about itself"),
    ("hydra: {sweeper: {params: {trusted: '[os]'}}}", "hydra.sweeper.params.trusted"),
    ("hydra: {sweeper: {params: {+trusted: '[os]'}}}", "hydra.sweeper.params.+trusted"),
    ("hydra: {sweeper: {params: {experiment: other}}}", "hydra.sweeper.params.experiment"),
    ("hydra: {mode: MULTIRUN, sweeper: {params: {act._target_: os.system}}}", "names os.system"),
    ("hydra: {sweeper: {params: {act@_global_: evil}}}", "hydra.sweeper.params.act@_global_"),
    ("hydra: {sweeper: {params: {hydra.callbacks.x: y}}}", "hydra.sweeper.params.hydra.callbacks"),
    ("hydra: {overrides: {task: ['trusted=[subprocess]']}}", "hydra.overrides cannot be set"),
    ("hydra: {sweeper: {params: {' trusted': '[os]'}}}", "Cannot read ' trusted=0'"),
    # what Hydra is to do
    ("hydra: {job_logging: {root: {handlers: [x]}}}", "hydra.job_logging cannot be set"),
    ("hydra: {hydra_logging: {root: {handlers: [x]}}}", "hydra.hydra_logging cannot be set"),
    ("hydra: {job_logging: {handlers: {x: {(): os.makedirs, name: PWNED}}}}", "hydra.job_logging"),
    ("hydra: {job_logging: {version: 1, handlers: {x: {class: logging.FileHandler}}}}", "cannot"),
    (f"hydra: {{callbacks: {{x: {TOUCH}}}}}", "hydra.callbacks cannot be set"),
    ("hydra: {job: {chdir: true}}", "hydra.job.chdir cannot be set"),
    ("hydra: {job: {env_set: {PATH: /tmp}}}", "hydra.job.env_set cannot be set"),
    ("hydra: {job: {env_copy: [HOME]}}", "hydra.job.env_copy cannot be set"),
    ("hydra: {run: {dir: PWNED}}", "hydra.run.dir cannot be set"),
    ("hydra: {sweep: {dir: PWNED}}", "hydra.sweep.dir cannot be set"),
    ("hydra: {sweep: {subdir: PWNED}}", "hydra.sweep.subdir cannot be set"),
    ("hydra: {output_subdir: PWNED}", "hydra.output_subdir cannot be set"),
    (f"hydra: {{launcher: {TOUCH}}}", "hydra.launcher: it is one of Hydra's plugins"),
    (f"hydra: {{sweeper: {TOUCH}}}", "hydra.sweeper: it is one of Hydra's plugins"),
    (f"hydra: {{sweeper: {{params: {{x: {TOUCH}}}}}}}", "hydra.sweeper: it is one of Hydra's"),
    ("hydra: {launcher: {_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher}}",
     "trainlab's own launcher"),
    (f"more: {{x: {TOUCH}}}\nhydra: {{sweeper: {{params: '${{more}}'}}}}", "hydra.sweeper: it is"),
    ("hydra: {runtime: {config_sources: []}}\ntrusted: [subprocess]", "about itself"),
    ("hydra: {sweeper: null}", "hydra.sweeper: it is one of Hydra's plugins"),
    ("hydra: {searchpath: [PWNED]}", "searchpath"),
    # where it computes, and what it writes or sends
    ("executor: {_target_: trainlab.executors.Ray, address: 'ray://evil'}", "executor.address=ray"),
    ("defaults: [override /executor: submitit]\nexecutor: {partition: x}", "executor.partition=x"),
    ("executor: {_target_: trainlab.executors.Submitit, slurm: {a: b}}", "executor.slurm.a=b"),
    ("logger: {x: {_target_: trainlab.loggers.MLflow, uri: 'http://e'}}", "logger.x.uri=http"),
    ("hydra: {sweeper: {params: {executor.slurm.setup: x}}}", "hydra.sweeper.params.executor"),
    ("hydra: {sweeper: {params: {output_dir: PWNED}}}", "hydra.sweeper.params.output_dir"),
    ("hydra: {mode: MULTIRUN, sweeper: {params: {study: ../pwned}}}", "must stay below output_dir"),
    ("output_dir: PWNED", "output_dir="),
    ("data_dir: PWNED", "data_dir="),
    ("fresh: true", "fresh=True"),
    ("download: true", "download=True"),
    ("study: ../PWNED", "study="),
    ("study: PWNED", "must stay below output_dir"),
    ("defaults: [override /search: random]\nhydra: {sweeper: {storage: 'sqlite:///PWNED', params: "
     "{seed: '1,2'}}}", "hydra.sweeper.storage=sqlite"),
    ("defaults: [override /search: random]\nsearch: {storage: 'sqlite:///PWNED'}\nhydra: {sweeper: "
     "{params: {optimizer.lr: 'interval(0.1,1)'}}}", "search.storage="),
    ("defaults: [override /search: random]\nsearch: {name: ../PWNED}\nhydra: {sweeper: {params: "
     "{optimizer.lr: 'interval(0.1,1)'}}}", "search.name="),
    # options that are files elsewhere
    ("defaults: [override /act: ../optimizer/adam]", "an option is chosen by its plain name"),
    ("defaults: [override /preprocess: ../act/relu]", "an option is chosen by its plain name"),
    ("defaults: [override /preprocess: [../act/relu]]", "it names nothing to build"),
    # line breaks and what terminals obey
    ('name: "a\\nb"', "name has the character U+000A"),
    ('name: "a\\eb"', "name has the character U+001B"),
    ('name: "a\\0b"', "name has the character U+0000"),
    ('name: "a\\Lb"', "name has the character U+2028"),
    ('name: "a\\u202eb"', "name has the character U+202E"),
    ('act: {"a\\nb": 1}', "a name below act has the character U+000A"),
    ('dataset: {path: ["a\\rb"]}', "dataset.path has the character U+000D"),
]  # fmt: skip


@pytest.fixture
def elsewhere(folder, tmp_path_factory):
    """A stranger's folder with the study `evil`."""

    def write(text: str) -> Path:
        place = tmp_path_factory.mktemp("stranger") / "conf"
        (place / "experiment").mkdir(parents=True)
        text = text.replace("PWNED", str(folder / "pwned"))
        (place / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{text}\n")
        return place

    return write


@pytest.mark.parametrize(("text", "says"), STUDIES)
def test_a_study_from_another_folder(refuses, elsewhere, text, says):
    refuses(says, "train", "--config-dir", str(elsewhere(text)), "experiment=evil", *SMALL)


OPTIONS = [  # an option of a stranger's folder that is chosen, what it says, what is said of it
    ("act=evil", f"# @package _global_\ntrusted: [subprocess]\nact: {TOUCH}", "about itself"),
    ("act=evil", "_target_: subprocess.call\nargs: [touch, PWNED]", "act names subprocess.call"),
    ("executor=evil", "_target_: trainlab.executors.Submitit\nslurm: {setup: [touch PWNED]}",
     "executor.slurm.setup="),
    ("executor=evil", "_target_: trainlab.executors.Ray\naddress: evil", "executor.address=evil"),
    ("logger=evil", "# @package logger.evil\n_target_: trainlab.loggers.MLflow\nuri: http://evil",
     "logger.evil.uri=http://evil"),
    ("hydra/callbacks=evil", f"x: {TOUCH}", "hydra.callbacks cannot be set"),
    ("hydra/job_logging=evil", "version: 1\nroot: {}", "hydra.job_logging cannot be set"),
    ("hydra/launcher=evil", "_target_: hydra_plugins.hydra_submitit_launcher.submitit_launcher."
     "SlurmLauncher\nsetup: [touch PWNED]", "trainlab's own launcher"),
    ("hydra/sweeper=evil", f"_target_: hydra_plugins.trainlab_stack.GridSweeper\nparams: {TOUCH}",
     "hydra.sweeper: it is one of Hydra's plugins"),
]  # fmt: skip


@pytest.mark.parametrize(("chosen", "text", "says"), OPTIONS)
def test_an_option_from_another_folder(refuses, folder, tmp_path_factory, chosen, text, says):
    place = tmp_path_factory.mktemp("stranger")
    file = place / f"{chosen.replace('=', '/')}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace("PWNED", str(folder / "pwned")) + "\n")
    refuses(says, "train", "--config-dir", str(place), chosen, *SMALL)


WAYS = [  # how a study from elsewhere is brought in
    (["--config-dir", "ELSEWHERE", "experiment=evil"], "about itself"),
    (["-cd", "ELSEWHERE", "experiment=evil"], "about itself"),
    (["hydra.searchpath=[file://ELSEWHERE]", "experiment=evil"], "about itself"),
    (["hydra.searchpath=[pkg://yaml,file://ELSEWHERE]", "experiment=evil"], "about itself"),
    (["--config-dir", "ELSEWHERE", "-m", "seed=0,1", "experiment=evil"], "about itself"),
    (["--config-dir", "ELSEWHERE", "search=random", "optimizer.lr=interval(0.1,1)",
      "search.trials=1", "experiment=evil"], "about itself"),
    (["experiment=ELSEWHERE/experiment/evil"], "an option is chosen by its plain name"),
    (["experiment=../../stranger0/conf/experiment/evil"], "chosen by its plain name"),
    (["experiment=[../evil]"], "an option is chosen by its plain name"),
    (["-m", "experiment=../evil,first_steps"], "an option is chosen by its plain name"),
    (["+experiment@act=../evil"], "an option is chosen by its plain name"),
    (["preprocess=../act/relu"], "an option is chosen by its plain name"),
    (["preprocess=[impute,../act/relu]"], "an option is chosen by its plain name"),
    (["hydra/launcher=../sweeper/basic"], "an option is chosen by its plain name"),
    (["--experimental-rerun", "ELSEWHERE/config.pickle"], "--experimental-rerun"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), WAYS, ids=lambda value: str(value)[:60])
def test_every_way_to_bring_a_study(refuses, elsewhere, arguments, says):
    place = str(elsewhere(f"trusted: [subprocess]\nact: {TOUCH}"))
    refuses(says, "train", *SMALL, *(text.replace("ELSEWHERE", place) for text in arguments))


def test_another_config_path_is_a_strangers_too(refuses, elsewhere):
    place = elsewhere(f"trusted: [subprocess]\nact: {TOUCH}")
    config = Path(cli.__file__).parents[1] / "conf" / "config.yaml"
    for group in config.parent.iterdir():
        if group.is_dir() and group.name != "experiment":
            shutil.copytree(group, place / group.name)
    (place / "config.yaml").write_text(config.read_text())
    refuses("about itself", "train", "--config-path", str(place), "experiment=evil", *SMALL)


def test_what_is_typed_and_what_is_ones_own_is_trusted(trainlab, elsewhere, folder):
    (folder / "theirs.py").write_text("from torch.nn import ReLU\nclass Act(ReLU): pass\n")
    own = folder / "conf" / "experiment"
    own.mkdir(parents=True)
    text = "trusted: [theirs]\nact: {_target_: theirs.Act}\n"
    (own / "mine.yaml").write_text(f"# @package _global_\n{text}")
    assert trainlab("train", *SMALL, "experiment=mine").code == 0
    place = str(elsewhere(f"{text}executor: {{_target_: trainlab.executors.Local}}"))
    typed = ("--config-dir", place, "experiment=evil", *SMALL)
    assert "theirs.Act" in trainlab("train", *typed).err
    assert trainlab("train", *typed, "trusted=[theirs]").code == 0
    assert trainlab("train", *typed, "trusted=[theirs]", f"output_dir={folder}/o").code == 0
    assert (folder / "o").is_dir()


TYPED = [  # the user's own command line, where a mistake is one paragraph too
    (["hydra.job.chdir=true", "hydra.run.dir=pwned"], "hydra.run.dir cannot be set"),
    (["executor=submitit", "+executor.slurm.setup=[a]"], "executor.slurm="),
    (["executor=submitit", "executor.slurm={'a=b':x}"], "executor.slurm="),
    (["executor=submitit", "executor.partition=a\nb"], "U+000A"),
    (["name=a\x1bb"], "U+001B"),
    (["study=../pwned"], "must stay below output_dir"),
    (["study=/tmp/pwned"], "must stay below output_dir"),
    (["study=a\nb"], "U+000A"),
    (["search=random", "seed=0", "act=relu,tanh", "search.name=../pwned"], "plain file name"),
    (["search=random", "act=relu,tanh", "hydra.sweeper.study_name=/pwned"], "plain file name"),
    (["search=random", "act=relu,tanh", "search.name=a\x00b"], "U+0000"),
    (["name='a\u2029b'"], "U+2029"),
]


@pytest.mark.parametrize(("arguments", "says"), TYPED, ids=[ascii(a) for a, _ in TYPED])
def test_typed(refuses, arguments, says):
    refuses(says, "train", *SMALL, *arguments)


# ---------------------------------------------------------------- a stranger's run folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, to be spoilt in copies."""
    place = tmp_path_factory.mktemp("run")
    assert cli.main(["train", *SMALL, f"output_dir={place}"]) == 0
    (folder,) = (path for path in (place / "runs").iterdir() if path.is_dir())
    return folder


RUNS = [  # what its config.yaml says, and what is said of it
    (f"act: {TOUCH}", "act names subprocess.call"),
    ("act: {_target_: trainlab.executors.cluster.train_packed}", "act names trainlab.executors"),
    ("dataset: {_target_: trainlab.data.files.fetched}", "dataset names trainlab.data.files"),
    (f"act: {TOUCH}\ntrusted: [subprocess]", "act names subprocess.call"),
    (f"act: {{_target_: torch.nn.ReLU, inner: {TOUCH}}}", "act.inner._target_: a component has"),
    ("act: &a {_target_: torch.nn.ReLU, inner: *a}", "nested too deeply"),
    ("dataset: null", "it has no dataset"),
    ("choices: {dataset: [1]}", "is no config of a run"),
    ("seed: [1", "is damaged"),
    ('name: "a\\nb"', "name has the character U+000A"),
    ("study: ../..", "must stay below output_dir"),
]


@pytest.fixture
def spoilt(run, folder):
    """A copy of the run, whose config.yaml says this besides."""

    def spoil(text: str = "") -> Path:
        copy = folder / "outputs" / "runs" / run.name
        shutil.copytree(run, copy)
        text = text.replace("PWNED", str(folder / "pwned"))
        lines = (copy / "config.yaml").read_text().splitlines(keepends=True)
        named = {line.partition(":")[0] for line in text.splitlines()}
        kept, keep = [], True
        for line in lines:
            keep = line.partition(":")[0] not in named if line[0] not in " -" else keep
            kept += [line] if keep else []
        (copy / "config.yaml").write_text("".join(kept) + text)
        return copy

    return spoil


@pytest.mark.parametrize(("text", "says"), RUNS)
def test_a_strangers_run_folder(refuses, spoilt, text, says):
    refuses(says, "eval", str(spoilt(text)))


@pytest.mark.parametrize("verb", ["eval", "predict", "export"])
def test_every_verb_that_opens_a_run(refuses, spoilt, verb):
    more = {
        "predict": ["--input", "x.npz", "--output", "y.npz"],
        "export": ["--format", "torch-export"],
    }
    copy = spoilt(f"act: {TOUCH}\ntrusted: [subprocess]")
    refuses("act names subprocess.call", verb, str(copy), *more.get(verb, []))


OVERRIDES = [  # of the run folder: none of them is composed
    "hydra.searchpath=[file://RUN/conf]", "experiment=evil", "trusted=[subprocess]",
    "++trusted=[subprocess]", "hydra/job_logging=default", "hydra.callbacks.x._target_=os.system",
    "hydra.run.dir=RUN/pwned", "+act@_global_=../../evil", "~act", "download=true", "[",
]  # fmt: skip


def test_the_overrides_of_a_run_folder_are_not_composed(trainlab, spoilt, folder):
    copy = spoilt()
    before = trainlab("eval", str(copy))
    assert before.code == 0
    (copy / "conf" / "experiment").mkdir(parents=True)
    evil = f"# @package _global_\ntrusted: [subprocess]\nact: {TOUCH}\n"
    (copy / "conf" / "experiment" / "evil.yaml").write_text(evil)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["overrides"] = [text.replace("RUN", str(copy)) for text in OVERRIDES]
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert trainlab("eval", str(copy)).out == before.out
    assert not list(folder.rglob("*pwned*"))


def test_an_export_does_not_follow_a_link(refuses, spoilt, folder):
    copy, mine = spoilt(), folder / "mine.txt"
    mine.write_text("mine")
    (copy / "model.safetensors").symlink_to(mine)
    refuses("is a link to another file", "export", str(copy), "--format", "safetensors")
    assert mine.read_text() == "mine"


def test_a_run_fetches_nothing_that_is_not_allowed_now(refuses, spoilt, folder):
    copy = spoilt("download: true\ndata_dir: PWNED")
    refuses("allow fetching them with download=true", "eval", str(copy), "--data", "mnist")


STATES = [  # the preprocessing in data.pt
    {"_target_": "subprocess.call", "args": ["touch", "pwned"]},
    {"_target_": "trainlab.data.files.fetched", "name": "x", "url": "http://localhost/"},
    {"_target_": "trainlab.preprocess.state", "transform": 1},
    {"_target_": "trainlab.preprocess.load", "state": 1},
    {"_target_": "trainlab.preprocess.About"},
    {"_target_": "trainlab.preprocess.Chain", "steps": [{"_target_": "os.getcwd"}]},
    {"_target_": "torch.nn.ReLU"},
    {"a": 1},
]


@pytest.mark.parametrize("verb", ["eval", "export"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: str(state.get("_target_")))
def test_the_preprocessing_of_a_run_folder(refuses, spoilt, state, verb):
    copy = spoilt()
    data = torch.load(copy / "checkpoints" / "data.pt", weights_only=True)
    torch.save(data | {"preprocess": state}, copy / "checkpoints" / "data.pt")
    more = ["--format", "torch-export"] if verb == "export" else []
    refuses("the run's data.pt names", verb, str(copy), *more)


# ---------------------------------------------------------------- data files


def written_npz(file, **arrays):
    np.savez_compressed(file, **arrays)


def zipped(file, content):
    file.write_bytes(gzip.compress(content))


def announcing(file):
    """A zip whose entries announce more than there is."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"1")
        archive.filelist[0].file_size = 10**12


def png(file, side):
    """A picture's header, without the picture."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%Page: 1 1\nshowpage\n"

DATA = [  # the file, how it is made, and what is said of it
    ("a.npz", lambda file: written_npz(file, x=np.zeros((10**4, 99)), y=[1]), "100 times as many"),
    ("a.npz", announcing, "bytes unzip to more than 100 times as many"),
    ("a.npz", lambda file: written_npz(file, x=np.array([print]), y=[1]), "of Python objects"),
    ("a.csv.gz", lambda file: zipped(file, b"x,y\n" + b"1,1\n" * 10**6), "100 times as many"),
    ("a.csv.gz", lambda file: zipped(file, b"x" * 10**7), "100 times as many"),  # all one line
    ("f/a/1.png", lambda file: png(file, 10**5), "decompression bomb"),
    ("f/a/1.eps", lambda file: file.write_bytes(EPS), "it is a program that draws"),
    ("f/a/1.png", lambda file: file.write_bytes(EPS), "it is a program that draws"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "says"), DATA, ids=range(len(DATA)))
def test_a_strangers_data_file(refuses, folder, monkeypatch, name, make, says):
    monkeypatch.setattr(files, "_HONEST", 10**6)
    for place in ("f/a/2.png", "f/b/1.png"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(folder / place)
    make(folder / name)
    path = folder / name
    kind = {".npz": "npz", ".gz": "csv"}.get(path.suffix, "image_folder")
    target = ["dataset.target=y"] if kind == "csv" else []
    where = folder / "f" if kind == "image_folder" else path
    refuses(says, "train", f"dataset={kind}", f"dataset.path={where}", *target, *SMALL)


def test_a_header_whose_sizes_overflow_is_damaged(tmp_path):
    sizes = struct.pack(">4I", 2**31, 2**31, 4, 1)  # 2⁶⁴: nothing, in 64 bits
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, 4]) + sizes)
    with pytest.raises(UserError, match="is damaged"):
        read_idx(tmp_path / "a")


# ---------------------------------------------------------------- the storage of a search


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_pickle_in_the_storage_of_a_search(refuses, trainlab, folder, kind, monkeypatch):
    from optuna.samplers import CmaEsSampler

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {folder}/pwned",)

    written = {"cma:optimizer:0": pickle.dumps(Hostile()).hex()}
    search = ["train", "search=cmaes", "optimizer.lr=interval(0.1,1)", f"search.storage={kind}"]
    search += ["search.population=4", *SMALL]
    with monkeypatch.context() as hostile:
        hostile.setattr(CmaEsSampler, "_attr_key_optimizer", "cma:optimizer")
        hostile.setattr(CmaEsSampler, "_split_optimizer_str", lambda self, text: written)
        assert trainlab(*search, "search.trials=5").code == 0
        refuses("state of CMA-ES would call posix.system", *search, "search.trials=9")


# ---------------------------------------------------------------- what SECURITY.md says of all this


def test_the_counts_in_the_documentation():
    text = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")
    refused = [target for _, target, meant in TARGETS if not meant]
    for count, what in [
        (len(refused), "addresses"),
        (len(STUDIES), "studies"),
        (len(OPTIONS), "options"),
        (len(WAYS), "ways"),
        (len(RUNS), "configs"),
        (len(OVERRIDES), "overrides"),
        (len(STATES), "states"),
        (len(DATA), "data files"),
    ]:
        assert f"{count} {what}" in text
