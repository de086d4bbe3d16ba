"""Dates in a table become numbers: their parts."""

import json

import numpy as np
import pandas as pd
import pytest

from trainlab.config import UserError
from trainlab.data import tables
from trainlab.data.delimited import Form

DAYS = [(2024, 2, 29, 3), (2023, 12, 25, 0), (2024, 7, 13, 5)]  # and weekdays


@pytest.fixture
def csv(tmp_path):
    def read(values, **settings):
        rows = [f"{i};{date};{i % 2}" for i, date in enumerate(values)]
        (tmp_path / "a.csv").write_text("\n".join(["a;day;y", *rows, ""]))
        settings = dict(target="y", dates=["day"]) | settings
        return tables.csv(path=str(tmp_path / "a.csv"), **settings)

    return read


@pytest.mark.parametrize(
    "style",
    [
        "%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y",
        "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%B %d, %Y", "%d-%b-%Y", "%Y-%m-%d 00:00:00",
        "%Y-%m-%dT00:00:00Z", "%d/%m/%Y 00:00", " %Y-%m-%d ",
    ],
)  # fmt: skip
def test_days_are_read_however_they_are_written(csv, style):
    dates = [f"{pd.Timestamp(y, m, d):{style}}" for y, m, d, _ in DAYS]
    examples = csv(dates)
    assert examples.columns == ("a", "day.year", "day.month", "day.day", "day.weekday")
    assert examples.x[:, 1:].tolist() == [list(map(float, day)) for day in DAYS]
    assert examples.categorical == ()


@pytest.mark.parametrize(
    ("dates", "hours"),
    [
        (["2024-01-02 06:30", "2024-01-02 23:00", ""], [6.5, 23, np.nan]),
        (["2024-01-02T06:30:00+02:00", "2024-01-02T06:30:00Z", "NA"], [4.5, 6.5, np.nan]),
        (["13/01/2024 6:30 AM", "14/01/2024 11:15 PM", "15/01/2024 12:00 AM"], [6.5, 23.25, 0]),
    ],
)
def test_times_of_day_are_hours(csv, dates, hours):
    examples = csv(dates)
    assert examples.columns[-1] == "day.hour"
    np.testing.assert_array_equal(examples.x[:, -1], hours)
    np.testing.assert_array_equal(np.isnan(examples.x[:, 1]), np.isnan(hours))


def test_parts_can_be_left_out_or_be_categories(csv):
    dates = [f"{y}-{m}-{d}" for y, m, d, _ in DAYS]
    settings = dict(drop=["day.year", "day.day"], categorical=["day.month"])
    examples = csv(dates, **settings)
    assert examples.columns == ("a", "day.month", "day.weekday")
    assert examples.categories == (("2", "7", "12"),)


@pytest.mark.parametrize(
    ("dates", "settings", "message"),
    [
        (["2024-01-02"] * 4, dict(dates=[]), r"dates such as '2024-01-02'.*dataset.dates=\[day\]"),
        (["2024-01-02", "2024-01-03"], dict(dates=[]), r"dataset.dates=\[day\].*categorical=\[day"),
        (["13.1.2024", "14.1.24", "?"], dict(dates=[]), "dataset.dates="),
        (["01/02/2024", "03/04/2024"], {}, "two ways.*%d/%m/%Y.*%m/%d/%Y"),
        (["2024-01-02", "soon"], {}, "'soon' in column 'day' is no date.*dataset.missing"),
        (["u", "v"], {}, "'u' in column 'day' is no date"),
        (["13/01/2024", "14/01/2024"], dict(date_format="%m/%d/%Y"), "'13/01/2024' .* no date"),
        (["2024-01-02"] * 4, dict(dates=["when"]), "dates: 'when' is no column"),
        (["2024-01-02"] * 4, dict(dates=["y"]), "dates: 'y' is no column"),
    ],
)
def test_what_is_no_date_or_two_is_refused(csv, dates, settings, message):
    with pytest.raises(UserError, match=message):
        csv(dates, **settings)


def test_a_format_decides_and_a_category_may_be_a_date(csv):
    dates = ["01/02/2024", "03/04/2024"]
    assert csv(dates, date_format="%m/%d/%Y").x[:, 2].tolist() == [1, 3]
    assert csv(dates, date_format="%d/%m/%Y").x[:, 2].tolist() == [2, 4]
    assert csv(dates, dates=[], categorical=["day"]).categories == (tuple(dates),)


def test_the_parts_are_those_of_the_run(tmp_path):
    """A file of one day has no times by itself; other columns come in any order."""
    known = dict(columns=["a", "day.hour", "day.month"], categorical=[], categories=[])
    (tmp_path / "new.csv").write_text("day,more,a\n2024-05-01,u,3\n,v,4\n")
    x = tables.like(tmp_path / "new.csv", known, Form(dates=["day"]))
    np.testing.assert_array_equal(x, [[3, 0, 5], [4, np.nan, np.nan]])
    (tmp_path / "new.csv").write_text("more,a\nu,3\n")
    with pytest.raises(UserError, match=r"no column day\.hour"):
        tables.like(tmp_path / "new.csv", known, Form(dates=["day"]))


def test_a_run_on_dates_predicts_and_evaluates(trainlab, folder):
    days = pd.date_range("2024-01-30 00:00", periods=40, freq="31h").astype(str)
    table = pd.DataFrame({"a": np.arange(40) * 7 % 11, "day": days, "y": np.arange(40) % 2})
    table.to_csv("own.csv", index=False)
    table[::-1][["y", "day", "a"]].to_csv("new.csv", index=False)
    typed = ["dataset=csv", "dataset.path=own.csv", "dataset.target=y", "dataset.dates=[day]"]
    run = trainlab("train", "-q", *typed, "epochs=1")
    assert run.code == 0, run.err
    assert trainlab("eval", str(run.path), "--json").code == 0
    answer = trainlab("eval", str(run.path), "--data", "new.csv", "--json")
    assert answer.code == 0, answer.err
    accuracy = json.loads(answer.out)["all"]["accuracy"]
    answer = trainlab("predict", str(run.path), "--input", "new.csv", "--output", "out.csv")
    assert answer.code == 0, answer.err
    right = (pd.read_csv("out.csv")["prediction"].to_numpy() == table["y"][::-1]).mean()
    assert right == pytest.approx(accuracy)
