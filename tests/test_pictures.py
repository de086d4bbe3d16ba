"""Pictures: what is drawn is what the runs say, and every kind becomes every file."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from trainlab.pictures import data, kinds, style
from trainlab.tables import recipes, runs
from trainlab.tables.statistics import interval

pytest.importorskip("matplotlib")


def epochs(losses, start=0.5):
    return [
        {"epoch": t + 1, "step": 10 * (t + 1), "val_loss": v, "val_accuracy": 1 - v, "seconds": 0.1}
        for t, v in enumerate(losses)
    ]


@pytest.fixture
def study(leave):
    """Two optimizers × three rates × three seeds; one run diverged, one stopped early."""
    for optimizer in ("adam", "sgd"):
        for rate in (0.001, 0.01, 0.1):
            for seed in range(3):
                loss = 0.1 + rate * (2 if optimizer == "sgd" else 1) + 0.01 * seed
                rows = epochs([2 * loss, 1.5 * loss, loss])
                settings = {"optimizer": optimizer, "optimizer.lr": rate}
                if (optimizer, rate, seed) == ("sgd", 0.1, 2):
                    leave("a", settings, seed, status="diverged", rows=rows[:1])
                else:
                    early = (optimizer, rate, seed) == ("adam", 0.001, 0)
                    leave("a", settings, seed, val=1 - loss, rows=rows[:2] if early else rows)
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    return summary


def test_a_curve_is_the_mean_over_seeds_with_its_interval(study):
    best = next(
        r for r in study.recipes if r.settings == {"optimizer": "adam", "optimizer.lr": "0.01"}
    )
    curve = data.curve(best, "val_loss")
    losses = np.array([0.11, 0.12, 0.13])
    assert curve.x == [1, 2, 3]
    assert curve.seeds == 3
    assert curve.mean == pytest.approx([2 * losses.mean(), 1.5 * losses.mean(), losses.mean()])
    assert curve.half[2] == pytest.approx(interval(losses)[1])
    assert data.curve(best, "val_loss", "step").x == [10, 20, 30]


def test_a_curve_goes_as_far_as_half_of_the_seeds(study):
    recipe = next(r for r in study.recipes if r.settings["optimizer.lr"] == "0.001")
    curve = data.curve(recipe, "val_loss")
    assert len(curve.x) == 3
    diverged = next(r for r in study.recipes if r.not_done)
    assert data.curve(diverged, "val_loss").seeds == 2


@pytest.mark.parametrize("kind", kinds.KINDS)
@pytest.mark.parametrize("ending", style.ENDINGS)
def test_every_kind_becomes_every_file(study, trainlab, folder, kind, ending):
    answer = trainlab("plot", "outputs", "--kind", kind, "-o", f"out{ending}")
    assert answer.code == 0, answer.err
    content = (folder / f"out{ending}").read_bytes()
    assert content.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending])
    if ending == ".svg":
        ElementTree.fromstring(content)
        trainlab("plot", "outputs", "--kind", kind, "-o", "again.svg")
        assert (folder / "again.svg").read_bytes() == content


def test_a_heat_map_has_each_cells_mean_and_a_cross_where_nothing_finished(leave, study):
    leave("a", {"optimizer": "lion", "optimizer.lr": 0.1}, status="failed")
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    with style.styled(style.GREY):
        axes = kinds.heatmap(summary).axes[0]
    image = axes.images[0].get_array()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["adam", "lion", "sgd"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.001", "0.01", "0.1"]
    assert image[0, 0] == pytest.approx(1 - (0.101 + 0.01))
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("×") == 3
    assert "0.889" in texts


def test_bars_show_the_recipes_best_first(study):
    with style.styled(style.GREY):
        axes = kinds.bars(study).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [r.name for r in study.recipes]
    assert axes.yaxis_inverted()
    points = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 3]
    expected = list(study.recipes[0].numbers["val_accuracy"].values())
    assert any(np.allclose(values, expected) for values in points)


def test_a_scatter_takes_a_logarithmic_axis_where_numbers_differ_much(study):
    with style.styled(style.GREY):
        axes = kinds.scatter(study).axes[0]
    assert axes.get_xlabel() == "optimizer.lr"
    assert axes.get_xscale() == "log"
    assert sum(len(line.get_xdata()) for line in axes.lines) == 17


def test_parallel_lines_end_at_the_metric(study):
    with style.styled(style.GREY):
        axes = kinds.parallel(study).axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 17
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        "optimizer", "optimizer.lr", "val_accuracy",
    ]  # fmt: skip
    assert lines[-1].get_ydata()[-1] == 1  # the best is drawn last, on top


def test_svg_in_a_page_takes_its_colour(study):
    with style.styled(style.GREY):
        svg = style.as_svg(kinds.curves(study))
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert style.GREY not in svg


def test_logarithmic():
    assert style.logarithmic([0.001, 0.1])
    assert not style.logarithmic([0.001, 0.0])
    assert not style.logarithmic([1.0, 2.0])
    assert not style.logarithmic([])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "curve"], "Did you mean curves?"),
        (["-o", "picture.gif"], "ends in .png"),
        (["-o", "nowhere/picture.png"], "no folder nowhere"),
        (["--y", "val_los"], "Did you mean val_loss"),
        (["--x", "epochs"], "Did you mean epoch"),
        (["--kind", "scatter", "--x", "optimiser.lr"], "Did you mean optimizer.lr"),
        (["--kind", "heatmap", "--by", "optimizer"], "needs two settings"),
        (["--kind", "bars", "--x", "act"], "has its axes by itself"),
        (["--where", "status==failed"], "No run meets"),
    ],
)
def test_what_cannot_be_drawn(study, trainlab, arguments, told):
    answer = trainlab("plot", *arguments)
    assert answer.code == 2
    assert told in answer.err


def test_runs_without_results(leave, trainlab):
    leave("a", {"act": "relu"}, status="running")
    leave("a", {"act": "gelu"}, status="failed")
    for kind in kinds.KINDS:
        answer = trainlab("plot", "--kind", kind)
        assert answer.code == 2 or kind == "heatmap", answer.err


def test_runs_of_one_seed_are_one_curve_and_unfinished_ones_none(study):
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs, by=["optimizer"])
    sgd = next(r for r in summary.recipes if r.settings["optimizer"] == "sgd")
    curve = data.curve(sgd, "val_loss")
    assert curve.seeds == 3
    # Seed 2 has no finished run at the rate 0.1.
    expected = [np.mean([0.102, 0.12, 0.3]), np.mean([0.112, 0.13, 0.31]), np.mean([0.122, 0.14])]
    assert curve.mean[2] == pytest.approx(np.mean(expected))


def test_an_epoch_without_its_number_is_left_out(leave, trainlab):
    run = leave("a", {"act": "relu"}, val=0.9)
    (run / "metrics.csv").write_text("epoch,val_accuracy,seconds\n1,,\n2,0.8,0.2\n3,0.9,\n")
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    assert data.curve(summary.recipes[0], "val_accuracy", "seconds").x == [0.2]
    for x in ("seconds", "epoch"):
        assert trainlab("plot", "--x", x).code == 0


def test_long_labels_of_a_heat_map_are_turned(leave):
    for name in ("a_rather_long_name", "another_long_name"):
        for act in ("relu", "gelu"):
            leave("a", {"optimizer": name, "act": act}, val=0.9)
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    with style.styled(style.GREY):
        assert kinds.heatmap(summary, "optimizer").axes[0].get_xticklabels()[0].get_rotation()
        assert not kinds.heatmap(summary, "act").axes[0].get_xticklabels()[0].get_rotation()


def test_one_seed_and_missing_numbers(leave):
    for act in ("relu", "gelu"):
        leave("a", {"act": act}, val=0.9, rows=epochs([0.3, math.nan, 0.1]))
    (summary,) = recipes.summaries(runs.find_runs("outputs").runs)
    curve = data.curve(summary.recipes[0], "val_accuracy")
    assert np.isnan([curve.mean[1], *curve.half]).all()  # no number, and no interval of one seed
    assert np.isfinite(curve.mean[[0, 2]]).all()
    with style.styled(style.GREY):
        for draw in (kinds.curves, kinds.bars, kinds.scatter, kinds.parallel):
            assert draw(summary).axes[0].has_data()
            assert "NaN" not in style.as_svg(draw(summary))
