"""Numbers with something around them: refused with what to type, or freed of it."""

import numpy as np
import pytest

from trainlab.config import UserError
from trainlab.data import tables
from trainlab.data.delimited import Form
from trainlab.data.units import are_measured, measured


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("12%", 12, "%"),
        ("12.5 %", 12.5, "%"),
        ("$1.50", 1.5, "$"),
        ("-$1.50", -1.5, "$"),
        ("$-1.50", -1.5, "$"),
        ("US$ 1,200.50", 1200.5, "US$"),
        ("€5", 5, "€"),
        ("5 €", 5, "€"),
        ("EUR 5", 5, "EUR"),
        ("5 EUR", 5, "EUR"),
        ("3 kg", 3, "kg"),
        ("3kg", 3, "kg"),
        ("1.2e3 m", 1200, "m"),
        (".5 m/s", 0.5, "m/s"),
        ("7 m²", 7, "m²"),
        ("7 kg/m3", 7, "kg/m3"),
        ("21.5°C", 21.5, "°C"),
        ("3 µg", 3, "µg"),
        ("36 months", 36, "month"),
        ("1 month", 1, "month"),
        ("(5)", -5, ""),
        ("($1,000)", -1000, "$"),
        ("1,000", 1000, ""),
        ("1,234,567.5", 1234567.5, ""),
        ("1 000", 1000, ""),
        ("1\u00a0000", 1000, ""),
        ("1'000 CHF", 1000, "CHF"),
        ("+3 s", 3, "s"),
    ],
)
def test_a_number_and_its_unit(text, number, unit):
    assert measured(text) == (pytest.approx(number), unit)


@pytest.mark.parametrize(
    "text",
    [
        "", "kg", "%", "()", "a5", "1st", "2nd", "11th", "12:30", "2024-01-02", "5 Main St 12",
        "1,00", "1.2.3", "25-34", "$5 kg", "--5", "v1.2", "5'10", "1,2,3", "12,34", "a (5)", 5,
        None,
    ],
)  # fmt: skip
def test_what_is_no_number_with_a_unit(text):
    assert measured(text) is None


def test_names_with_numbers_in_them_are_no_measures():
    for texts in (["10a", "10b", "11c"], ["1 x", "2 y"], ["10a", "10b", "11c", "12d", "11a"]):
        assert not are_measured([measured(text) for text in texts])
    assert are_measured([measured("3 kg"), measured("4 kg"), None])


@pytest.fixture
def csv(tmp_path):
    def read(values, mark=";", target="y", **settings):
        """A table with these values as a column of inputs, v, and as one of targets, w."""
        rows = [f"{v}{mark}{i % 2}{mark}{v}" for i, v in enumerate(values * 3)]
        (tmp_path / "a.csv").write_text("\n".join([f"v{mark}y{mark}w", *rows, ""]))
        return tables.csv(path=str(tmp_path / "a.csv"), target=target, **settings)

    return read


COLUMNS = [
    (["12%", "7.5%", "8%"], [12, 7.5, 8], {}),
    (["$1.50", "$2", "-$3"], [1.5, 2, -3], {}),
    (["3 kg", "", "4.5kg"], [3, np.nan, 4.5], {}),
    (["1.2e3 m", "5 m", "NA"], [1200, 5, np.nan], {}),
    (["(5)", "6.5", "(7)"], [-5, 6.5, -7], {}),
    (["1,000", "20", "3,000,000"], [1000, 20, 3e6], {}),
    (["1 000", "20", "3 000 000"], [1000, 20, 3e6], {}),
    (["1.000,5 €", "2 €"], [1000.5, 2], dict(decimal="comma")),
]


@pytest.mark.parametrize(("values", "numbers", "settings"), COLUMNS)
def test_units_are_taken_away_where_it_is_said(csv, values, numbers, settings):
    examples = csv(values, units="strip", drop=["w"], **settings)
    np.testing.assert_array_equal(examples.x[:, 0], np.float32(numbers * 3))
    assert examples.categorical == ()
    if not np.isnan(numbers).any():
        examples = csv(values, units="strip", target="w", task="regression", **settings)
        np.testing.assert_array_equal(examples.y[:, 0], np.float32(numbers * 3))


@pytest.mark.parametrize(("values", "numbers", "settings"), COLUMNS)
@pytest.mark.parametrize("use", [{}, dict(numeric=["v"]), dict(target="w", task="regression")])
def test_units_are_refused_with_what_to_type(csv, values, numbers, settings, use):
    if np.isnan(numbers).any() and "target" in use:
        use = use | dict(drop_unlabelled=True)
    with pytest.raises(UserError, match=r"column '[vw]' has texts such as.*dataset.units=strip"):
        csv(values, **settings, **use)


def test_a_target_with_units_is_no_class_unless_it_is_said(csv):
    settings = dict(target="w", drop=["v"])
    with pytest.raises(UserError, match=r"units=strip.*dataset.task=classification"):
        csv(["1%", "2%", "3%"], **settings)
    assert csv(["1%", "2%"], task="classification", **settings).classes == ["1%", "2%"]
    assert csv(["1%", "2%"], task="binary", units="strip", **settings).classes == ["1%", "2%"]
    assert csv(["1.5%", "2%"], units="strip", **settings).task == "regression"


def test_categories_keep_their_units(csv):
    examples = csv(["2XL", "3XL"], units="strip", categorical=["v", "w"])
    assert examples.categories[0] == ("2XL", "3XL")
    assert csv(["10a", "10b", "11c"]).categories[0] == ("10a", "10b", "11c")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["3 kg", "4 kg", "500 g", "600 g"], "different units, such as '3 kg' and '500 g'"),
        (["3 kg", "4 kg", "5"], "different units, such as '3 kg' and '5'"),
        (["$3", "$4", "€5", "€6"], "different units"),
    ],
)
def test_mixed_units_are_refused_even_then(csv, values, message):
    with pytest.raises(UserError, match=message):
        csv(values, units="strip", drop=["w"])


def test_a_word_among_units_is_a_word_among_numbers(csv):
    with pytest.raises(UserError, match=r"'v' has numbers, but also '\?'.*missing=\[\?\]"):
        csv(["3 kg", "4 kg", "?", "5.5 kg", "7 kg"], units="strip", drop=["w"])
    values = ["3 kg", "4 kg", "?", "5.5 kg", "7 kg"]
    examples = csv(values, units="strip", drop=["w"], missing=["?"])
    np.testing.assert_array_equal(examples.x[:5, 0], np.float32([3, 4, np.nan, 5.5, 7]))


def test_a_comma_and_a_unit_need_both(csv):
    with pytest.raises(UserError, match=r"dataset.units=strip dataset.decimal=comma"):
        csv(["1,5 kg", "2,5 kg"])


@pytest.mark.parametrize(
    ("known", "cell", "fits"),
    [
        ({"a": "kg"}, "5 kg", True),
        ({"a": "kg"}, "5", True),
        ({"a": "kg"}, "5,000", True),
        ({"a": "kg"}, "5 g", False),
        ({"a": ""}, "5%", False),
        ({}, "5%", False),
        (None, "5 g", True),
    ],
)
def test_the_unit_is_that_of_the_run(tmp_path, known, cell, fits):
    saved = dict(columns=["a"], categorical=[], categories=[], units=known)
    (tmp_path / "new.csv").write_text(f"a;b\n{cell};u\n")
    if fits:
        assert tables.like(tmp_path / "new.csv", saved, Form(units="strip"))[0, 0] % 5 == 0
        return
    with pytest.raises(UserError, match=f"'{cell}', and the run has learnt from"):
        tables.like(tmp_path / "new.csv", saved, Form(units="strip"))


def test_a_run_keeps_its_units(trainlab, folder):
    """Of inputs and targets, for eval and predict."""
    for name, weight, price in (("own", "kg", "$"), ("other", "g", "$"), ("third", "kg", "€")):
        rows = [f"{i % 7}.5 {weight},{price}{i}.25" for i in range(30)]
        (folder / f"{name}.csv").write_text("\n".join(["weight,price", *rows, ""]))
    typed = "dataset=csv dataset.path=own.csv dataset.target=price dataset.units=strip epochs=1"
    run = trainlab("train", "-q", *typed.split())
    assert run.code == 0, run.err
    assert trainlab("eval", str(run.path)).code == 0
    for name in ("other", "third"):
        assert "Bring them" in trainlab("eval", str(run.path), "--data", f"{name}.csv").err
    predict = ["predict", str(run.path), "--output", "out.csv", "--input"]
    assert "Bring them" in trainlab(*predict, "other.csv").err
    assert trainlab(*predict, "third.csv").code == 0


def test_other_inputs_of_a_run_are_freed_of_units_too(tmp_path):
    known = dict(columns=["size", "a"], categorical=[0], categories=[["2XL", "3XL"]])
    (tmp_path / "new.csv").write_text("a,size\n3 kg,2XL\n4 kg,3XL\n")
    x = tables.like(tmp_path / "new.csv", known, Form(units="strip"))
    assert x.tolist() == [[0, 3], [1, 4]]
