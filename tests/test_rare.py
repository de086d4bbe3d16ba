"""Classes of too few examples, and data that can teach nothing."""

import json

import numpy as np
import pandas as pd
import pytest

from trainlab.config import UserError, compose
from trainlab.config.identity import run_id
from trainlab.data.doubts import doubts
from trainlab.data.examples import Examples
from trainlab.data.rare import treated
from trainlab.data.splits import split_of


def examples(*counts, val=0, test=0, task="classification", names="abcdefgh"):
    """So many examples of each class, in turn; x tells the class."""
    y = np.concatenate([np.full(n, c) for c, n in enumerate(counts)])
    classes = list(names[: len(counts)])
    return Examples(y[:, None].astype(np.float32), y, task, classes, val=val, test=test)


def config(wanted, *typed):
    return compose([f"rare_classes={wanted}", *typed])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((30, 30, 1), r"c \(1 example\); each .*rare_classes=drop.*=merge.*=keep"),
        ((2, 30, 1), r"a \(2 examples\), c \(1 example\); each"),
        ((9, 1, 1, 1, 1, 1, 1), r"f \(1 example\) and 1 more"),
    ],
)
def test_rare_classes_are_named_with_what_to_type(counts, message):
    with pytest.raises(UserError, match=message):
        split_of(examples(*counts), config("refuse"))


def test_rare_classes_are_left_out():
    left = treated(examples(30, 2, 30, 1), config("drop"))
    assert left.classes == ["a", "c"]
    assert np.bincount(left.y).tolist() == [30, 30]
    assert left.x[:, 0].tolist() == [0] * 30 + [2] * 30
    assert len(split_of(left, config("drop"))["test"]) > 2


def test_official_sets_lose_the_rows_of_rare_classes():
    y = np.array([0, 0, 1, 1, 2, 0, 2, 1, 2])  # a validation set of two, a test set of two
    own = Examples(y[:, None] * 1.0, y, "classification", ["a", "b", "c"], val=2, test=2)
    assert treated(own, config("drop")) is own  # one of each is enough
    own = Examples(y[:, None] * 1.0, y, "classification", ["a", "b", "c"], test=3)
    left = treated(own, config("drop"))
    assert left.y.tolist() == [0, 0, 1, 1, 0, 1]
    assert (left.val, left.test) == (0, 1)


def test_rare_classes_become_one():
    merged = treated(examples(30, 2, 30, 1), config("merge"))
    assert merged.classes == ["a", "c", "other"]
    assert np.bincount(merged.y).tolist() == [30, 30, 3]
    named = Examples(
        np.zeros((8, 1)), np.array([0, 0, 0, 1, 1, 1, 1, 2]), "classification", ["other", "u", "v"]
    )
    merged = treated(named, config("merge"))
    assert (merged.classes, np.bincount(merged.y).tolist()) == (["other", "u"], [4, 4])


@pytest.mark.parametrize(
    ("counts", "wanted", "message"),
    [((30, 1), "drop", "of the classes 1"), ((30, 30, 1), "merge", "too few even as one class")],
)
def test_what_leaves_too_little_is_refused(counts, wanted, message):
    with pytest.raises(UserError, match=rf"rare_classes={wanted}.*\(1 example\).*{message}"):
        treated(examples(*counts), config(wanted))


def test_data_of_unknown_classes_alone_are_refused():
    with pytest.raises(UserError, match="knows none of their classes, a, b"):
        treated(examples(3, 3), config("drop"), known=["u", "v"])


def test_rare_classes_can_be_kept():
    kept = examples(30, 30, 1)
    assert treated(kept, config("keep")) is kept
    parts = split_of(kept, config("keep"))
    assert sorted(np.concatenate(list(parts.values()))) == list(range(61))


def test_where_classes_are_not_split_nothing_is_rare():
    few = examples(30, 1)
    for typed in ("task=reconstruction", "online=true"):
        assert treated(few, config("drop", typed)) is few


def test_the_choice_is_part_of_a_run_and_its_default_of_none():
    ids = {run_id(config(wanted), "f") for wanted in ("refuse", "drop", "merge", "keep")}
    assert len(ids) == 4
    before = config("refuse")
    del before["rare_classes"]
    assert run_id(before, "f") in ids


@pytest.mark.parametrize("wanted", ["drop", "merge", "keep"])
def test_a_run_treats_other_data_alike(trainlab, folder, wanted):
    """What it does not know is left out or one of the others, also where that is no longer rare."""
    y = ["u", "v"] * 20 + ["w"] * 2 + ["z"] * 2
    table = pd.DataFrame(dict(a=np.arange(44) * 7 % 13, y=y))
    table.to_csv("own.csv", index=False)
    typed = ["dataset=csv", "dataset.path=own.csv", "dataset.target=y", "epochs=1"]
    answer = trainlab("train", "-q", *typed)
    assert "w (2 examples), z (2 examples)" in answer.err
    run = trainlab("train", "-q", *typed, f"rare_classes={wanted}")
    assert run.code == 0, run.err
    found = json.loads(trainlab("eval", str(run.path), "--json").out)
    assert found["test"]["loss"] == pytest.approx(run.result["test_loss"])
    pd.concat([table, table.tail(4)]).to_csv("new.csv", index=False)
    answer = trainlab("eval", str(run.path), "--data", "new.csv", "--report", "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)["report"]["all"]
    classes = {"drop": "uv", "merge": ["u", "v", "other"], "keep": "uvwz"}[wanted]
    assert report["classes"] == list(classes)
    support = {"drop": [20, 20], "merge": [20, 20, 8], "keep": [20, 20, 4, 4]}[wanted]
    assert report["support"] == support


# ---------------------------------------------------------------- nothing to learn


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,2.5"] * 9 + ["2,2.5"], "The target is 2.5 in all"),
        (["1,2.5", "2,3.5", "3,4.5"], "in all 1 examples of the training split"),
        (["1,0", "2,0", "3,0", "4,0"], "1 different values"),
        (["1,0.5", "2,1.5"], "Too small to split: there are 2 examples"),
    ],
)
def test_a_target_that_teaches_nothing_is_refused(trainlab, folder, rows, message):
    (folder / "a.csv").write_text("\n".join(["a,y", *rows, ""]))
    answer = trainlab("train", "dataset=csv", "dataset.path=a.csv", "dataset.target=y", "epochs=1")
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1


def test_one_of_several_targets_is_named(trainlab, folder):
    (folder / "a.csv").write_text("a,y,z\n" + "1,2,3\n2,3,3\n4,5,3\n" * 5)
    typed = ["dataset=csv", "dataset.path=a.csv", "dataset.target=[y,z]", "epochs=1"]
    assert "The target z is 3 in all" in trainlab("train", *typed).err


ROWS = 20


@pytest.mark.parametrize(
    ("name", "column", "says"),
    [
        ("a", np.full(ROWS, 2.5), "column 'a' is the same in every row"),
        ("a", np.arange(ROWS) + 7, "column 'a' is another in every row"),
        ("user_id", np.arange(ROWS) * 7 % 23, "drop=[user_id]"),
        ("userID", np.arange(ROWS) * 7 % 23, "drop=[userID]"),
        ("Id", np.arange(ROWS) * 7 % 23, "another in every row"),
        ("row number", np.arange(ROWS) * 7 % 23, "another in every row"),
        ("humid", np.arange(ROWS) * 7 % 23, None),
        ("id", np.arange(ROWS) % 5, None),
        ("a", np.arange(ROWS) * 7 % 23, None),
        ("a", np.r_[np.full(ROWS - 1, 1), 2], None),
        ("a", np.r_[np.full(ROWS - 1, 1), np.nan], None),
        ("id", np.arange(ROWS) / 2, None),
        ("id", np.r_[np.arange(ROWS - 1), np.inf], None),
    ],
)
def test_columns_that_look_like_a_mistake_are_said(name, column, says):
    x = np.stack([np.arange(ROWS) % 3, column], 1).astype(np.float32)
    said = list(doubts(x, ["b", name], [0]))
    assert len(said) == (says is not None)
    assert all(says in sentence for sentence in said)


def test_several_columns_are_one_sentence():
    with pytest.raises(UserError, match=r"Columns 'a', 'b' are the same .*no other to learn from"):
        list(doubts(np.ones((ROWS, 2)), ["a", "b"], []))
    x = np.c_[np.ones((ROWS, 7)), np.arange(ROWS) % 5].astype(np.float32)
    (said,) = doubts(x, ["a,b", *"cdefghi"], [0])
    assert "columns 'a,b', 'c', 'd', 'e', 'f', … are the same" in said
    assert 'drop=["a,b",c,' in said


def test_doubts_are_said_once_before_training(trainlab, folder):
    rows = "".join(f"{100 + i},1,{i % 2}\n" for i in range(30))
    (folder / "a.csv").write_text(f"id,one,y\n{rows}")
    typed = ["dataset=csv", "dataset.path=a.csv", "dataset.target=y", "epochs=1", "seed=0,1"]
    answer = trainlab("train", "-m", *typed)
    assert answer.code == 0, answer.err
    assert answer.err.count("column 'id'") == answer.err.count("column 'one'") == 1
