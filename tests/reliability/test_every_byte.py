"""Every file of a run cut at every byte, with many flipped bits and zeros: what is read is what was
written, or a person is told."""

from functools import partial

import pytest
from damage import cut, flipped, outcome, zeroed
from test_damage import TRAIN, _plain, _told

from trainlab.files import load_torch
from trainlab.finished import evaluated
from trainlab.store import Run, edited
from trainlab.tables.runs import find_runs, read_metrics

pytestmark = pytest.mark.reliability


def read_config(run):
    return evaluated(run).metrics


@pytest.mark.parametrize(
    "name",
    "status.json result.json metrics.csv checkpoints/best.pt checkpoints/last.pt "
    "checkpoints/data.pt".split(),
)
def test_damage(folder, trainlab, tally, name):
    run = trainlab(*TRAIN).path
    file = run / name
    if file.suffix == ".pt":
        read, noted = (lambda: _plain(load_torch(file, "cpu"))), (lambda: False)
    elif name == "metrics.csv":
        read = lambda: {k: v.tolist() for k, v in read_metrics(run).items()}  # noqa: E731
        noted = lambda: file in edited(run)  # noqa: E731
    else:
        read, noted = (lambda: find_runs(run).runs), partial(_told, file)
    content, expected = file.read_bytes(), read()
    many = min(len(content), 3000)
    for what, damage in [
        *flipped(content, many),
        *cut(content, many),
        *zeroed(content, many // 10, 16),
    ]:
        found = outcome(file, damage, read, expected, noted)
        tally[found] += 1
        assert found in ("right", "told"), f"{name}, {what}: {found}"


def test_damage_of_the_checkpoint_of_a_paused_run(folder, trainlab, tally):
    run = Run.at(trainlab(*TRAIN, "until=2").path)
    file = run.path / "checkpoints" / "last.pt"
    content, expected = file.read_bytes(), _plain(run.checkpoint())
    for what, damage in [*flipped(content, 3000), *cut(content, 1000), *zeroed(content, 300)]:
        found = outcome(file, damage, lambda: _plain(run.checkpoint()), expected)
        tally[found] += 1
        assert found in ("right", "told"), f"{what}: {found}"


def test_damage_of_a_config(folder, trainlab, tally):
    run = trainlab(*TRAIN).path
    file = run / "config.yaml"
    content, expected = file.read_bytes(), evaluated(run).metrics
    for what, damage in [*flipped(content, 300), *cut(content, 60)]:
        noted = lambda: file in edited(run)  # noqa: E731
        found = outcome(file, damage, lambda: evaluated(run).metrics, expected, noted)
        found = "told" if found == "unclear" and noted() else found
        tally[found] += 1
        assert found in ("right", "told", "unclear"), f"{what}: {found}"
