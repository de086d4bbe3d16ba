"""Configs and files drawn at random: whatever is typed or stands in a file, no error is one that
nobody wrote for people."""

import string
from pathlib import Path

import pytest
from conftest import SEED
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from trainlab.config import groups, options, settings_of, top_settings

pytestmark = pytest.mark.reliability

_ANY = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
often = settings(max_examples=150, deadline=None, database=None, suppress_health_check=_ANY)
GROUPS = [g for g in groups() if g not in ("experiment", "executor", "logger", "search", "dataset")]
VALUES = st.one_of(
    st.integers(-3, 100).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(["null", "true", "[]", "[1,2]", "{}", "abc", "''", "1e-3", "auto", "1e30"]),
)


@st.composite
def overrides(draw) -> list[str]:
    """A few groups' options, and a few settings with values of any kind."""
    chosen = {
        g: draw(st.sampled_from(sorted(options(g))))
        for g in draw(st.sets(st.sampled_from(GROUPS), max_size=3))
    }
    keys = [
        k for k in top_settings() if k.partition(".")[0] not in ("search", "output_dir", "study")
    ]
    for group, option in chosen.items():
        keys += settings_of(group, option)
    picked = draw(st.lists(st.sampled_from(sorted(keys)), max_size=2, unique=True))
    dataset = draw(st.sampled_from(["digits", "iris", "diabetes", "tags", "moons"]))
    return [
        f"dataset={dataset}", "max_examples=60", "epochs=1",
        *(f"{group}={option}" for group, option in chosen.items()),
        *(f"{key}={draw(VALUES)}" for key in picked if key not in ("max_examples", "epochs")),
    ]  # fmt: skip


def told(answer) -> None:
    """The error is a sentence, not an exception's name."""
    assert answer.code in (0, 1, 2, 3), answer
    assert "(--debug shows where)" not in answer.err, answer.err
    assert "Traceback" not in answer.err


@seed(SEED)
@often
@given(typed=overrides())
def test_configs(folder, trainlab, tally, typed):
    answer = trainlab("train", "-q", "--dry-run", *typed)
    tally[f"exit code {answer.code}"] += 1
    told(answer)


CELLS = st.text(string.ascii_letters + string.digits + " .,;-+'\"\t%$é\x00\n", max_size=6)


@seed(SEED)
@often
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=12),
    mark=st.sampled_from(",;\t|"),
)
def test_tables(folder, trainlab, tally, rows, mark):
    text = "\n".join(mark.join(row) for row in rows)
    Path("d.csv").write_text(f"a{mark}y\n{text}\n", encoding="utf-8")
    answer = trainlab(
        "train", "-q", "--dry-run", "dataset=csv", "dataset.path=d.csv", "dataset.target=y"
    )
    tally[f"exit code {answer.code}"] += 1
    told(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    "run_id status reason pid host time overrides config digests versions".split()
)


@seed(SEED)
@often
@given(status=st.dictionaries(KEYS, JSON), result=JSON, metrics=st.text(max_size=60))
def test_files_of_runs(leave, trainlab, tally, status, result, metrics):
    import json
    import shutil

    shutil.rmtree("outputs", ignore_errors=True)
    leave("a", {}, 0, val=0.9)
    run = leave("a", {}, 1, val=0.8)
    known = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(known | status))
    (run / "result.json").write_text(json.dumps(result))
    (run / "metrics.csv").write_text(metrics, encoding="utf-8", errors="replace")
    for verb in (["table"], ["list", "runs"], ["watch", "--once"], ["compare"], ["effects"]):
        answer = trainlab(*verb)
        tally[f"{verb[0]}: exit code {answer.code}"] += 1
        told(answer)
