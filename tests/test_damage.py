"""What is read back to be believed is checked: no damage goes unseen, and none is a raw error.

A few bits and cuts of every file here; many in the reliability suite.
"""

import shutil
import zipfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from damage import cut, flipped, outcome, zeroed

from trainlab import cli
from trainlab.config import UserError
from trainlab.files import load_torch
from trainlab.finished import evaluated
from trainlab.store import Run, edited
from trainlab.tables.runs import find_runs, read_metrics

TRAIN = [
    "train", "-q", "max_examples=120", "arch.hidden=[8]", "norm=batch", "optimizer=momentum",
    "epochs=3", "output_dir=outputs",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A finished run and one that was paused, below outputs/runs."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(TRAIN) == 0
        assert cli.main([*TRAIN, "seed=1", "until=2"]) == 0
    return folder


@pytest.fixture
def runs(study, folder) -> tuple[Path, Path]:
    """Copies of the two: finished, paused."""
    shutil.copytree(study / "outputs", "outputs")
    found = find_runs("outputs").runs
    return tuple(next(r.folder for r in found if r.status == s) for s in ("done", "paused"))


def counts(file: Path, read, expected, noted=lambda: False, many: int = 40) -> Counter:
    content = file.read_bytes()
    damaged = [*flipped(content, many), *cut(content, many // 4), *zeroed(content, many // 4)]
    told = [outcome(file, damage, read, expected, noted) for _, damage in damaged]
    return Counter(told)


def test_weights_and_data_of_a_finished_run(runs):
    run, _ = runs
    for name in ("best", "data"):
        file = run / "checkpoints" / f"{name}.pt"
        read = partial(_read, file)
        found = counts(file, read, read())
        assert set(found) <= {"right", "told"}, found
        assert found["told"] > 20


def _read(file: Path):
    return _plain(load_torch(file, "cpu"))


def test_the_checkpoint_of_a_paused_run(runs):
    _, run = runs
    made = Run.at(run)
    expected = _plain(made.checkpoint())
    file = run / "checkpoints" / "last.pt"
    found = counts(file, lambda: _plain(made.checkpoint()), expected, many=80)
    assert set(found) <= {"right", "told"}, found
    assert found["told"] > 40


def _plain(value):
    """Nested tensors as lists, to be compared bit for bit."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["status.json", "result.json"])
def test_texts_that_tables_are_made_of(runs, name):
    run, _ = runs
    expected = find_runs(run).runs
    found = counts(run / name, lambda: find_runs(run).runs, expected, partial(_told, run / name))
    assert set(found) <= {"right", "told"}, found
    assert found["told"] > 40


def _told(file: Path) -> bool:
    found = find_runs(file.parent)
    return file in found.skipped or file in found.edited


def test_the_curves_of_a_finished_run(runs):
    run, _ = runs
    file = run / "metrics.csv"

    def read() -> dict[str, list[float]]:
        return {name: values.tolist() for name, values in read_metrics(run).items()}

    found = counts(file, read, read(), lambda: file in edited(run))
    assert set(found) <= {"right", "told"}, found
    assert found["told"] > 20


def test_what_was_edited_is_used_and_said(runs, trainlab):
    run, _ = runs
    file = run / "result.json"
    file.write_text(file.read_text().replace('"epochs": 3', '"epochs": 4'))
    train = [word for word in TRAIN if word != "-q"]
    for verb in (["table"], ["compare", str(run)], ["eval", str(run)], train, ["report"]):
        answer = trainlab(*verb)
        assert answer.code == 0 or verb[0] == "compare"
        assert "result.json is not as the run left it" in " ".join(answer.err.split()), verb
    assert "Not as the runs left them" in Path("outputs/report.html").read_text()
    file.unlink()  # as the note says
    assert trainlab(*TRAIN).code == 0
    assert '"epochs": 3' in file.read_text()
    assert "not as the run left it" not in trainlab("table").err


def test_a_damaged_checkpoint_says_what_to_do(runs, trainlab):
    _, run = runs
    file = run / "checkpoints" / "last.pt"
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content)
    answer = trainlab(*TRAIN, "seed=1")
    assert answer.code == 2
    assert "last.pt is damaged" in answer.err
    assert "once it is deleted" in answer.err
    file.unlink()
    assert trainlab(*TRAIN, "seed=1").code == 0


def test_damaged_best_weights_come_back_from_the_last_checkpoint(runs, trainlab):
    run, _ = runs
    expected, file = evaluated(run).metrics, run / "checkpoints" / "best.pt"
    file.write_bytes(file.read_bytes()[:-100])
    answer = trainlab("eval", str(run))
    assert answer.code == 2
    assert "best.pt is damaged. Delete it and" in answer.err
    file.unlink()
    (run / "result.json").unlink()
    assert trainlab(*TRAIN).code == 0
    assert evaluated(run).metrics == expected


def test_runs_of_before_have_no_digests_and_no_note(runs):
    run, _ = runs
    lines = (run / "status.json").read_text().splitlines()
    kept = [line for line in lines if not line.startswith('"digest')]
    kept[-2] = kept[-2].rstrip(",")
    (run / "status.json").write_text("\n".join(kept))
    assert edited(run) == []
    assert find_runs(run).edited == []
    assert len(find_runs(run).runs) == 1


def test_other_entries_are_no_checkpoint(runs):
    run, _ = runs
    torch.save({"model": {}}, run / "checkpoints" / "data.pt")
    with pytest.raises(UserError, match=r"data.pt is damaged"):
        evaluated(run)


def test_files_that_users_load_are_ordinary_ones(runs):
    """The digest is the comment of the archive: torch, and zip programs, read it as ever."""
    run, _ = runs
    file = run / "checkpoints" / "best.pt"
    assert torch.load(file, weights_only=True)["model"]
    with zipfile.ZipFile(file) as archive:
        assert len(archive.comment) == 32
        assert archive.testzip() is None


def test_checkpoints_of_before_are_checked_by_their_records(runs):
    """A digest stands in those of now; older ones have the CRC-32 of each record alone."""
    run, _ = runs
    file = run / "checkpoints" / "best.pt"
    expected = _read(file)
    torch.save(torch.load(file, weights_only=True), file)
    assert _read(file) == expected
    content = bytearray(file.read_bytes())
    place = content.find(expected_bytes(expected))
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"best.pt is damaged"):
        _read(file)


def expected_bytes(state: dict) -> bytes:
    return torch.tensor(next(iter(state["model"].values()))[0]).numpy().tobytes()
