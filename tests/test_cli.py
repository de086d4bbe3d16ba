"""The command line as people and scripts use it: verbs, errors, exit codes, completion."""

import json
import os
import subprocess
import sys

import pytest

from trainlab import __version__, cli
from trainlab.config import CONF

TINY = ("-q", "epochs=1", "max_examples=100")


def test_help_and_version(trainlab):
    assert "trainlab train" in trainlab("--help").out
    assert trainlab().out == trainlab("--help").out
    assert trainlab("--version").out == f"trainlab {__version__}\n"


def test_help_and_errors_import_nothing_heavy(folder):
    code = (
        "import sys; from trainlab import cli; codes = [cli.main(a) for a in "
        "([], ['--version'], ['list'], ['train', 'optimizer.lr=abc'])];"
    )
    code += "print(codes, [m for m in ('torch', 'pandas', 'sklearn', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 2] []"


BAD = [
    (["tran"], "Did you mean train"),
    (["train", "optimzer=adam"], "Did you mean optimizer"),
    (["train", "optimizer=adm"], "Did you mean adam"),
    (["train", "optimizer.lr=abc"], "must be a number >= 0"),
    (["train", "optimizer.lr=-1"], "must be a number >= 0"),
    (["train", "optimizer.lr=nan"], "must be a number >= 0"),
    (["train", "optimizer.rho=0.9"], "optimizer=adadelta and optimizer=rmsprop have it"),
    (["train", "batch_size=0"], "a whole number >= 1 or all"),
    (["train", "epochs=1.5"], "a whole number"),
    (["train", "arch.hidden=[]"], "not empty"),
    (["train", "arch.hidden=[4,0]"], "each item"),
    (["train", "arch.hidden=[1"], "'arch.hidden=[300,100]'"),
    (["train", "seed"], "key=value"),
    (["train", "val_fraction=0.5", "test_fraction=0.5"], "nothing is left to train on"),
    (["train", "dataset=mnist", "data_dir=nowhere"], "does not exist"),
    (["train", "dataset=moons", "arch=cnn"], "needs images"),
    (["train", "dataset=moons", "preprocess=scale"], "minmax"),
    (["train", "max_examples=12"], "Too small to split"),
    (["train", "device=cuda:99"], "no such device"),
    (["train", "device=warp"], "is no device"),
    (["train", "stop.monitor=val_acuracy"], "Did you mean val_accuracy"),
    (["train", "schedule=plateau", "schedule.monitor=loss"], "There are: train_loss"),
    (["train", "act._target_=os.system"], "trusted=[os]"),
    (["train", "act._target_=torch.hub.load"], "none of trainlab's for act"),
    (["train", "act._target_=torch.nn.init.warnings.warn"], "that is _warnings.warn"),
    (["train", "act._target_=torch.nn.ReLUU"], "ReLUU"),
    (["train", "+act.slope=1"], "no such setting"),
    (["train", "-m", "seed=0,1", "optimizer.lr=abc"], "must be a number"),
    (["train", "-m", "optimizer=sgd,adm"], "Did you mean adam"),
    (["train", "experiment=first_step"], "Did you mean first_steps"),
    (["summary", "arch=mpl"], "Did you mean mlp"),
    (["train", "optimizer=null"], "choose an option of optimizer: adadelta"),
    (["train", "+epoch=5"], "Did you mean epochs"),
    (["train", "study=../elsewhere"], "must stay below output_dir"),
    (["train", "norm=batch", "batch_size=1"], "cannot train on batches of one"),
    (["train", "-m", "study=a,b"], "cannot be swept over"),
    (["train", "dataset=moons", "dataset.noise=1e300"], "infinite inputs"),
    (["train", "--cfg", "job", "-m"], "Only one of"),
    (["list", "optimiser"], "Did you mean optimizer"),
    (["table", "nowhere"], "There is no folder"),
    (["table", "--xml"], "Usage"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_paragraph_and_exit_code_2(trainlab, folder, arguments, message):
    answer = trainlab(*arguments)
    assert answer.code == cli.BAD_INPUT, answer.err
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.startswith("trainlab: ")
    assert len(answer.err.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []  # nothing half-written


def test_debug_shows_the_traceback(folder):
    with pytest.raises(ValueError, match="must be a number"):
        cli.main(["train", "optimizer.lr=abc", "--debug"])


def test_a_folder_that_cannot_be_written(trainlab, folder):
    (folder / "outputs").write_text("a file in the way")
    answer = trainlab("train", *TINY)
    assert answer.code == cli.BAD_INPUT
    assert "cannot be written" in answer.err


def test_the_folder_is_the_last_line_of_stdout_and_all_of_it(trainlab):
    answer = trainlab("train", "epochs=2", "max_examples=100")
    assert answer.code == 0
    assert len(answer.out.splitlines()) == 1
    assert answer.path.is_dir()
    files = {str(p.relative_to(answer.path)) for p in answer.path.rglob("*") if p.is_file()}
    assert files - {".lock"} == {
        "config.yaml", ".hydra/overrides.yaml", "status.json", "metrics.csv", "result.json",
        "env.json", "log.txt", "checkpoints/last.pt", "checkpoints/best.pt",
        "checkpoints/data.pt",
    }  # fmt: skip
    assert [line for line in answer.err.splitlines() if line.startswith("epoch 1/2")]
    quiet = trainlab("train", *TINY, "seed=1")
    assert quiet.err == ""


def test_a_finished_run_is_not_trained_again(trainlab):
    first = trainlab("train", *TINY)
    before = (first.path / "checkpoints" / "last.pt").stat().st_mtime_ns
    second = trainlab("train", "epochs=1", "max_examples=100", "device=cpu", "name=other")
    assert second.path == first.path
    assert "there already (done); fresh=true" in second.err
    assert (first.path / "checkpoints" / "last.pt").stat().st_mtime_ns == before
    trainlab("train", *TINY, "fresh=true")
    assert (first.path / "checkpoints" / "last.pt").stat().st_mtime_ns > before


def test_divergence_is_exit_code_3_alone_and_0_in_a_sweep(trainlab):
    arguments = ("train", "-q", "epochs=1", "optimizer=momentum", "optimizer.lr=1e6")
    answer = trainlab(*arguments)
    assert answer.code == cli.DIVERGED
    assert "diverged: the loss was not finite at step" in answer.err
    assert answer.result["status"] == "diverged"
    assert trainlab(*arguments, "-m", "seed=0,1").code == 0


def test_a_failed_run_never_stops_the_others_and_is_listed(trainlab):
    sweep = ("train", "-m", *TINY, "dataset=moons,digits", "arch=cnn,mlp")
    answer = trainlab(*sweep)
    assert answer.code == cli.FAILED
    failures = [line for line in answer.err.splitlines() if line.startswith("failed")]
    assert len(failures) == 1
    assert "dataset=moons" in failures[0]
    assert "needs images" in failures[0]
    statuses = [json.loads(p.read_text())["status"] for p in answer.path.glob("*/status.json")]
    assert sorted(statuses) == ["done", "done", "done", "failed"]
    again = trainlab(*sweep)
    assert again.code == cli.FAILED
    assert "4 of 4 runs" not in again.err  # -q
    assert "needs images" in trainlab(*sweep, "retry=true").err


def test_flags_before_and_after_overrides(trainlab):
    for arguments in (
        ("-m", *TINY, "seed=0,1"), (*TINY, "-m", "seed=0,1"), (*TINY, "seed=0,1", "--multirun"),
    ):  # fmt: skip
        answer = trainlab("train", *arguments)
        assert answer.code == 0
        assert len(list(answer.path.glob("*/result.json"))) == 2
    shown = trainlab("train", "--cfg", "job", "act=gelu")
    assert "torch.nn.GELU" in shown.out
    assert trainlab("train", "act=gelu", "--cfg", "job").out == shown.out
    assert "lr: 0.5" in trainlab("train", "--cfg", "job", "optimizer.lr=0.5", "-p", "optimizer").out
    assert "file://" in trainlab("train", "--info", "searchpath", "seed=1").out


def test_trains_help_lists_the_groups(trainlab):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--help"])
    assert ended.value.code == 0


LAUNCHERS = {"basic": "hydra", "joblib": "hydra_plugins.hydra_joblib_launcher",
             "submitit_local": "hydra_plugins.hydra_submitit_launcher",
             "ray": "hydra_plugins.hydra_ray_launcher"}  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_other_launchers_tell_what_became_of_their_runs(trainlab, launcher):
    pytest.importorskip(LAUNCHERS[launcher])
    how = ("train", "-m", *TINY[1:], f"hydra/launcher={launcher}")
    answer = trainlab(*how, "seed=0,1")
    assert answer.code == 0, answer.err
    assert answer.path.name == "runs"
    assert "│ 2 │" in answer.err  # n
    assert len(json.loads(trainlab("table", "--json").out)) == 2
    answer = trainlab(*how, "dataset=moons,digits", "arch=cnn")
    assert answer.code == cli.FAILED
    assert "needs images" in answer.err
    assert len(list(answer.path.glob("*/result.json"))) == 3


def test_a_launcher_that_is_not_installed(trainlab):
    answer = trainlab("train", "-m", *TINY, "hydra/launcher=nomad_local", "seed=0,1")
    assert answer.code == cli.BAD_INPUT
    assert "pip install hydra-nomad-launcher" in answer.err


def test_a_pause_is_no_failure(trainlab):
    assert trainlab("train", *TINY, "epochs=3", "until=1").code == 0


def test_list(trainlab):
    everything = trainlab("list").out
    for word in ("optimizer=", "adam", "batch_size", "hidden=[128,64]", "first_steps"):
        assert word in everything
    one = trainlab("list", "optimizer").out
    assert "bias-corrected first and second moments" in one
    assert "optimizer.beta2" in one
    assert "act=" not in one


def test_summary_counts_parameters(trainlab):
    shown = trainlab("summary", "arch.hidden=[300,100]", "norm=batch").out
    assert "Linear" in shown
    assert "51,810 parameters: 51,010 trainable, 800 not" in shown.replace("\n", " ")


# ---------------------------------------------------------------- the user's own


def test_a_users_conf_adds_and_replaces_options(trainlab, folder):
    for path, text in {
        "conf/act/mine.yaml": (
            "# twice the relu\n_target_: mine.Twice\nfactor: 2.0  # number > 0: factor\n"
        ),
        "conf/optimizer/sgd.yaml": "# slower\n_target_: trainlab.optimizers.sgd\nlr: 0.001\n",
        "mine.py": (
            "import torch\n\nclass Twice(torch.nn.Module):\n"
            "    def __init__(self, factor):\n        super().__init__()\n"
            "        self.factor = factor\n"
            "    def forward(self, x):\n        return self.factor * torch.relu(x)\n"
        ),
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    listed = trainlab("list", "act").out
    assert "twice the relu" in listed
    assert "gelu" in listed
    refused = trainlab("train", *TINY, "act=mine")
    assert refused.code == cli.BAD_INPUT
    assert "trusted=[mine]" in refused.err
    assert trainlab("train", *TINY, "act=mine", "trusted=[mine]").code == 0
    assert (
        "must be a number > 0"
        in trainlab("train", "act=mine", "trusted=[mine]", "act.factor=0").err
    )
    assert "lr: 0.001" in trainlab("train", "--cfg", "job", "optimizer=sgd", "-p", "optimizer").out
    sys.modules.pop("mine")
    sys.path.remove(str(folder))


def test_other_hydra_programs_do_not_see_a_conf(folder):
    (folder / "conf").mkdir()
    (folder / "conf" / "config.yaml").write_text("x: 1\n")
    (folder / "other").mkdir()
    (folder / "other" / "config.yaml").write_text("x: 2\n")
    code = (
        "import hydra\n@hydra.main(version_base=None, config_path='other', config_name='config')\n"
        "def main(c): print(c.x)\nmain()\n"
    )
    (folder / "program.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "program.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"


# ---------------------------------------------------------------- completion


def completed(line, shell="bash"):
    environment = os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run(
        [sys.executable, "-m", "trainlab", "-sc", f"query={shell}"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("trainlab ", [*cli.VERBS, "--help", "--version"]),
        ("trainlab t", ["train", "table"]),
        ("trainlab list opt", ["optimizer"]),
        ("trainlab train optimizer=ada", ["adadelta", "adagrad", "adam", "adamax", "adamw"]),
        ("trainlab train -m act=ge", ["geglu", "gelu", "gelu_tanh"]),
        ("trainlab summary arch=mlp_", ["mlp_deep", "mlp_residual", "mlp_tiny"]),
        ("trainlab train optimizer=adam optimizer.b", ["optimizer.beta1=", "optimizer.beta2="]),
    ],
)
def test_completion(folder, line, expected):
    words = completed(line)
    if "=" in line.split()[-1]:
        key = line.split()[-1].partition("=")[0]
        expected = [f"{key}={word}" for word in expected]
    assert [
        w.partition("=")[0] + "=" if w.startswith("optimizer.b") else w for w in words
    ] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(folder, shell):
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        ["trainlab", "-sc", f"install={shell}"],
        capture_output=True, text=True, check=True, env=os.environ | {"PATH": path},
    )  # fmt: skip
    assert "trainlab" in done.stdout


# ---------------------------------------------------------------- odd sweeps, pipes, shells


def test_a_sweep_over_missing_data_trains_the_rest(trainlab):
    answer = trainlab("train", "-m", *TINY, "dataset=digits,mnist", "data_dir=nowhere")
    assert answer.code == cli.FAILED
    assert "does not exist" in answer.err
    assert len(list(answer.path.glob("*/result.json"))) == 1


def test_a_sweep_by_another_launcher_reports_all_of_it(trainlab):
    answer = trainlab(
        "train", "-m", "hydra/launcher=basic", "epochs=1", "optimizer=momentum",
        "optimizer.lr=0.01,1e6", "seed=0,1",
    )  # fmt: skip
    assert answer.code == 0
    assert answer.path.name == "runs"
    assert answer.err.count("diverged ") >= 2
    assert "±" in answer.err
    failing = trainlab(
        "train", "-m", "hydra/launcher=basic", *TINY, "dataset=moons,digits", "arch=cnn"
    )
    assert failing.code == cli.FAILED
    assert "needs images" in failing.err


def test_huge_seeds_are_different_runs(trainlab):
    answer = trainlab("train", "-m", *TINY, f"seed={2**53},{2**53 + 1},{10**300}")
    assert answer.code == 0
    assert len(list(answer.path.glob("*/result.json"))) == 3


def test_verbs_take_help_and_no_foreign_flags(trainlab):
    for verb in ("list", "summary", "table"):
        assert trainlab(verb, "--help").out == trainlab("--help").out
    assert trainlab("summary", "-q").code == cli.BAD_INPUT


@pytest.mark.parametrize("command", ["list", "-sc install=bash"])
def test_a_closed_pipe_is_no_error(folder, command):
    script = f"{sys.executable} -m trainlab {command} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_bash_completes(folder):
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    script = (
        'source <(trainlab -sc install=bash); COMP_LINE="trainlab train optimizer=ada"; '
        "COMP_POINT=${#COMP_LINE}; COMP_WORDS=($COMP_LINE); COMP_CWORD=2; "
        "$(complete -p trainlab | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=os.environ | {"PATH": path}
    )
    expected = [f"optimizer={name}" for name in ("adadelta", "adagrad", "adam", "adamax", "adamw")]
    assert done.stdout.split() == expected, done.stderr


def test_another_programs_config_is_told_apart(trainlab, folder, monkeypatch):
    (folder / "conf").mkdir()
    (folder / "conf" / "config.yaml").write_text("db:\n  host: localhost\n")
    for verb in ("train", "list", "summary"):
        answer = trainlab(verb)
        assert answer.code == cli.BAD_INPUT
        assert "Is it another program's?" in answer.err
    own = folder / "own" / "conf" / "config.yaml"
    own.parent.mkdir(parents=True)
    own.write_text((CONF / "config.yaml").read_text())
    monkeypatch.chdir(folder / "own")
    assert trainlab("train", *TINY).code == 0
