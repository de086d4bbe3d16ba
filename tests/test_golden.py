"""No change moves a number unseen: see golden.py. That the numbers are right is shown elsewhere,
by torch, by formulas in float64 and by scikit-learn; that the loop is, in test_fit.py."""

import golden
import pytest


def test_what_moves_is_seen():
    before = {("a", 1, "val_loss"): 1.0, ("a", 2, "lr"): 1e-3, ("muon", 1, "val_loss"): 1.0}
    assert golden.moved(before, dict(before)) == {}
    now = {("a", 1, "val_loss"): 1.00001, ("a", 2, "lr"): 1e-3, ("muon", 1, "val_loss"): 1.00001}
    assert list(golden.moved(before, now)) == [("a", 1, "val_loss")]
    assert len(golden.moved(before, {})) == 3
    assert len(golden.moved(before, before | {("a", 2, "lr"): float("nan")})) == 1


@pytest.mark.parametrize("part", range(3))
def test_golden_runs(folder, part):
    names = list(golden.recipes())[part::3]
    now = golden.measured(names)
    before = {key: value for key, value in golden.read().items() if key[0] in names}
    assert golden.moved(before, now) == {}
