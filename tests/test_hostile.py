"""Folders and files that a stranger, an accident or another program left where runs are."""

import json
import os
import shutil
from pathlib import Path

import pytest
from test_damage import TRAIN
from test_files import LAUGHS, pipe

from trainlab.tables.runs import find_runs, read_metrics

DEEP = '{"a":' * 100_000


def replace(make):
    """What `make` makes in the place of a file."""

    def put(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    return put


ODD = {
    "folder": replace(Path.mkdir),
    "pipe": replace(pipe),
    "device": replace(lambda path: path.symlink_to("/dev/zero")),
    "loop": replace(lambda path: path.symlink_to(path.name)),
    "deep": replace(lambda path: path.write_text(DEEP)),
    "huge": replace(lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**36)),
}
VERBS = (
    ["table"],
    ["table", "--csv"],
    ["compare", "--by", "act"],
    ["effects"],
    ["plot", "--kind", "curves"],
    ["report"],
    ["watch", "--once"],
)


@pytest.fixture
def hostile(leave) -> Path:
    """Good runs, and others of which one file is odd, in one study."""
    rows = [{"epoch": e, "val_loss": 0.1, "val_accuracy": 0.9 + e / 100} for e in (1, 2)]

    def run(act: str, seed: int) -> Path:
        return leave("a", {"act": act}, seed, 0.9 + seed / 100, rows=rows)

    for seed in range(4):
        run("relu", seed)
        run("gelu", seed)
    for kind, put in ODD.items():
        put(run(kind, 0) / "status.json")
        put(run(kind, 1) / "result.json")
        put(run(kind, 2) / "metrics.csv")
        put(run(kind, 3) / "log.txt")
        put(run(kind, 4) / "env.json")
    (run("many", 0) / "result.json").write_text(f'{{"val_accuracy": {"9" * 400}}}')
    study = Path("outputs/a")
    (study / "zz").symlink_to("zz")
    (study / "nowhere").symlink_to("missing")
    pipe(study / "trials.csv")
    pipe(study / "sweep.json")
    return study


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_one_odd_file_costs_its_run_alone(hostile, trainlab, verb):
    answer = trainlab(*verb)
    assert answer.code == 0, answer.err
    assert "Error" not in answer.err
    if verb[0] not in ("watch", "plot", "effects"):
        assert (
            "relu" in answer.out + Path("outputs/report.html").read_text()
            if verb == ["report"]
            else "relu" in answer.out
        )
    if verb[0] != "watch":
        assert "skipped: outputs/a/" in answer.err


def test_what_is_passed_over_is_listed_alone(hostile):
    found = find_runs("outputs")
    acts = [run.config["act"] for run in found.runs]
    assert acts.count("relu") == acts.count("gelu") == 4
    for kind in ODD:  # of which status.json and result.json are none
        assert acts.count(kind) == 3, kind
    skipped = {path.name for path in found.skipped}
    assert skipped == {"status.json", "result.json", "zz"}
    assert len(found.skipped) == 2 * len(ODD) + 1


def test_a_study_with_a_loop_keeps_its_table(folder, trainlab):
    small = [*TRAIN, "-m", "epochs=1", "seed=0,1"]
    study = trainlab(*small).path
    (study / "zz").symlink_to("zz")
    (study / "other").mkdir()
    (study / "other" / ".lock").symlink_to(".lock")
    assert trainlab(*small[:-1], "seed=0,1,2").code == 0
    assert (study / "runs.csv").read_text().count("\n") == 4
    assert "zz cannot be read" in trainlab("table").err


def test_a_curve_of_millions_of_rows_keeps_its_spikes(leave, trainlab):
    run = leave("a", {}, val=0.9)
    count, spike = 4_000_000, 1_234_567
    lines = [f"{epoch},0.5" for epoch in range(1, count + 1)]
    lines[spike] = f"{spike + 1},9.5"
    (run / "metrics.csv").write_text("epoch,val_loss\n" + "\n".join(lines) + "\n")
    columns = read_metrics(run)
    assert len(columns["epoch"]) == count
    from trainlab.pictures.data import curve
    from trainlab.tables.recipes import summaries

    (summary,) = summaries(find_runs("outputs").runs)
    found = curve(summary.recipes[0], "val_loss")
    assert found.mean.max() == 9.5
    assert found.x[int(found.mean.argmax())] == spike + 1
    assert len(found.x) <= 1000
    assert trainlab("plot", "--kind", "curves", "--y", "val_loss").code == 0


@pytest.fixture(scope="module")
def paused(tmp_path_factory) -> Path:
    from trainlab import cli

    folder = tmp_path_factory.mktemp("paused")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main([*TRAIN, "until=1", "log_steps=true"]) == 0
    return folder


FILES = (
    "status.json result.json metrics.csv config.yaml env.json log.txt steps.csv .lock "
    "checkpoints/last.pt checkpoints/best.pt checkpoints/data.pt .hydra/overrides.yaml"
).split()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_a_run_goes_on_or_says_what_is_in_its_way(paused, folder, trainlab, name, kind):
    shutil.copytree(paused / "outputs", "outputs")
    (run,) = Path("outputs/runs").glob("*/")
    ODD[kind](run / name)
    answer = trainlab(*TRAIN, "log_steps=true", "retry=true")
    assert "Error" not in answer.err
    if answer.code:
        assert answer.code == 2
        assert Path(name).name in answer.err
        assert "is a folder" in answer.err or "cannot be" in answer.err or "is no" in answer.err
    else:
        assert json.loads((run / "status.json").read_text())["status"] == "done"
        assert (run / name).is_file() or name == ".lock"


@pytest.mark.parametrize("name", ["checkpoints", ".hydra"])
@pytest.mark.parametrize("kind", ["file", "loop", "link"])
def test_folders_of_a_run_are_its_own(paused, folder, trainlab, name, kind):
    shutil.copytree(paused / "outputs", "outputs")
    (run,) = Path("outputs/runs").glob("*/")
    shutil.move(run / name, "elsewhere")
    before = sorted(path.read_bytes() for path in Path("elsewhere").iterdir())
    if kind == "file":
        (run / name).write_text("")
    else:
        (run / name).symlink_to(name if kind == "loop" else Path("elsewhere").resolve())
    answer = trainlab(*TRAIN, "log_steps=true")
    assert answer.code == 2
    assert f"{name} is " in answer.err or f"{name} cannot" in answer.err
    assert sorted(path.read_bytes() for path in Path("elsewhere").iterdir()) == before


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_written_through_links(paused, folder, trainlab, name):
    shutil.copytree(paused / "outputs", "outputs")
    (run,) = Path("outputs/runs").glob("*/")
    outside = Path("outside").resolve()
    if (run / name).exists():
        shutil.copy(run / name, outside)
    else:
        outside.write_text("")
    before = outside.read_bytes()
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside)
    answer = trainlab(*TRAIN, "log_steps=true")
    assert answer.code == 0 or "cannot be" in answer.err, answer.err
    assert outside.read_bytes() == before


def test_beginning_anew_leaves_what_links_lead_to(paused, folder, trainlab):
    shutil.copytree(paused / "outputs", "outputs")
    (run,) = Path("outputs/runs").glob("*/")
    Path("outside").mkdir()
    Path("outside/kept").write_text("theirs")
    (run / "extra").symlink_to(Path("outside").resolve())
    assert trainlab(*TRAIN, "log_steps=true", "fresh=true").code == 0
    assert Path("outside/kept").read_text() == "theirs"
    assert not os.path.lexists(run / "extra")


@pytest.mark.parametrize("text", [f"l0: &l0 ha\n{LAUGHS}", "[" * 5000, "a: 1", ""])
def test_configs_that_are_none(paused, folder, trainlab, text):
    shutil.copytree(paused / "outputs", "outputs")
    (run,) = Path("outputs/runs").glob("*/")
    (run / "config.yaml").write_text(text)
    answer = trainlab("eval", str(run))
    assert answer.code == 2
    assert "config.yaml" in answer.err
