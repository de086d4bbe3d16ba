"""One run on two processes of torchrun: the rows, the weights and the files of one process."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch

from trainlab import streams
from trainlab.parallel import Rows

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch without gloo",
)
CLOCK = {"seconds", "examples_per_second"}

# act=tanh: where the input of a relu is 0 but for rounding, its gradient is a matter of chance.
RECIPES = """\
optimizer=momentum log_steps=true
optimizer=adam batch_size=33 reg.dropout=0.3 augment=mixup accumulate=3 clip=norm clip.max=0.5
optimizer=momentum norm=batch batch_size=33 accumulate=2 preprocess=standardize norm.exact=true
optimizer=momentum arch=cnn augment=cutout norm=batch max_examples=200 reg.spatial_dropout=0.2
optimizer=momentum arch=ensemble norm=batch preprocess=standardize reg.dropout=0.2
dataset=diabetes arch=linear optimizer=lbfgs batch_size=all reg.l2=0.001
dataset=diabetes optimizer=momentum schedule=plateau stop=early
dataset=tags arch=multi_label clip=agc reg.gradient_noise=0.01
dataset=toy_corpus arch=skipgram loss=negative_sampling optimizer=momentum
""".splitlines()

# All recipes in one process, or in one start of torchrun, which takes seconds.
SCRIPT = """
import shlex, sys
from trainlab import cli, parallel

def train():
    common = ["train", "-q", "device=cpu", "act=tanh", "epochs=2", "max_examples=400"]
    return [cli._main([*common, *shlex.split(line)]) for line in sys.stdin.read().splitlines()]

codes = []
parallel.together(lambda: codes.extend(train()) or 0)
sys.exit(any(codes))
"""


def torchrun(*command, count=2):
    """Start a command as several processes of this machine."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.Popen(
        [sys.executable, *launch, *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def trained(*arguments, count=2):
    process = torchrun("-m", "trainlab", "train", *arguments, count=count)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def rows(path, name="metrics.csv"):
    with open(path / name, newline="") as file:
        table = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k not in CLOCK} for row in table]


def assert_same(one, other, rel=1e-5):
    assert one.name == other.name
    for a, b in zip(rows(one), rows(other), strict=True):
        assert a == pytest.approx(b, rel=rel, abs=1e-5)
    a, b = (
        torch.load(path / "checkpoints" / "last.pt", weights_only=True)["model"]
        for path in (one, other)
    )
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=rel, atol=1e-5)


def only_run(study):
    (path,) = (path for path in study.iterdir() if path.is_dir())
    return path


def test_two_processes_give_the_rows_and_weights_of_one(trainlab, folder):
    (folder / "all.py").write_text(SCRIPT.replace("sys.stdin.read()", "open('two.txt').read()"))
    lines = [f"study=two-{k} {recipe}" for k, recipe in enumerate(RECIPES)]
    (folder / "two.txt").write_text("\n".join(lines))
    _, err = (process := torchrun("all.py")).communicate(timeout=120)
    assert process.returncode == 0, err
    for k, recipe in enumerate(RECIPES):
        common = ("act=tanh", "epochs=2", "max_examples=400", f"study=one-{k}")
        one = trainlab("train", "-q", "device=cpu", *common, *shlex.split(recipe)).path
        two = only_run(folder / "outputs" / f"two-{k}")
        assert_same(one, two)
        assert (two / "log.txt").read_text().count("started") == 1
        assert sorted(p.name for p in one.rglob("*")) == sorted(p.name for p in two.rglob("*"))
        if "log_steps" in recipe:
            steps = zip(rows(one, "steps.csv"), rows(two, "steps.csv"), strict=True)
            assert all(a == pytest.approx(b, abs=1e-5) for a, b in steps)


def test_a_batch_may_be_smaller_than_the_processes_are_many(trainlab, folder):
    """Then some compute nothing, and one row stands in where a layer needs one."""
    arguments = (
        "-q", "device=cpu", "act=tanh", "arch=cnn", "norm=instance", "optimizer=momentum",
        "batch_size=2", "epochs=1", "max_examples=60",
    )  # fmt: skip
    code, _, err = trained("study=three", *arguments, count=3)
    assert code == 0, err
    one = trainlab("train", "study=one", *arguments).path
    assert_same(one, only_run(folder / "outputs" / "three"))


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_as_many_processes_as_there_are(trainlab, folder):
    arguments = (
        "device=cpu", "act=tanh", "norm=batch", "preprocess=standardize", "optimizer=momentum",
        "max_examples=300", "epochs=40",
    )  # fmt: skip
    process = torchrun("-m", "trainlab", "train", "study=cut", *arguments)
    deadline = time.monotonic() + 60
    while sum(len(p.read_text()) for p in folder.glob("outputs/cut/*/metrics.csv")) < 500:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0  # torchrun's own, whatever ours is
    cut = only_run(folder / "outputs" / "cut")
    assert json.loads((cut / "status.json").read_text())["status"] == "stopped"
    epochs = len(rows(cut))
    assert 0 < epochs < 40
    assert trainlab("train", "-q", "study=cut", *arguments, f"until={epochs + 2}").code == 0
    code, out, err = trained("study=cut", *arguments)
    assert code == 0, err
    assert err.count("continuing in epoch") == 1
    assert_same(trainlab("train", "-q", "study=whole", *arguments).path, cut, rel=1e-3)
    before = sorted((p, p.stat().st_mtime_ns) for p in cut.rglob("*") if p.suffix)
    code, out, err = trained("study=cut", *arguments)
    assert (code, out) == (0, f"outputs/cut/{cut.name}\n")
    assert err.count("This run is there already (done)") == 1
    assert before == sorted((p, p.stat().st_mtime_ns) for p in cut.rglob("*") if p.suffix)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-m", "seed=0,1"], "torchrun trains one large run"),
        (["device=cuda:0"], "one for all processes of torchrun"),
    ],
)
def test_what_is_refused_is_said_once(folder, arguments, sentence):
    code, _, err = trained(*arguments)
    assert code != 0
    assert err.count(sentence) == 1
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("broken", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_of_one_process_ends_all(folder, broken):
    (folder / "broken.py").write_text(
        "import os, sys\n"
        "from trainlab import cli, fit\n"
        "take, left = fit.take, iter(range(20))\n"
        "def breaking(*arguments):\n"
        f"    if next(left, None) is None and os.environ['RANK'] == '{broken}':\n"
        "        raise ArithmeticError('out of luck')\n"
        "    return take(*arguments)\n"
        "fit.take = breaking\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    process = torchrun("broken.py", "train", "-q", "device=cpu", "epochs=1000", "study=broken")
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "ArithmeticError: out of luck" in err
    status = json.loads((only_run(folder / "outputs" / "broken") / "status.json").read_text())
    assert status["status"] == ("failed" if broken == 0 else "stopped")


@pytest.mark.parametrize("shape", [(7, 3), (6,), (1, 5), (4, 2, 3)])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_shares_of_noise_are_rows_of_the_whole(shape, ranks):
    key, total = torch.tensor([3, 5]), shape[0]
    whole = streams.uniform(key, 9, shape)
    bounds = [total * rank // ranks for rank in range(ranks + 1)]
    parts = [
        streams.uniform(key, 9, (stop - start, *shape[1:]), Rows(start, stop, total))
        for start, stop in pairwise(bounds)
    ]
    assert torch.equal(torch.cat(parts, 1), whole)
