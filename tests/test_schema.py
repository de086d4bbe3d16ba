import pytest

from trainlab.config import CONF
from trainlab.config.schema import Setting, read


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [
        ("number > 0", [1e-9, 3], [0, -1, "abc", True, None, float("nan"), float("inf")]),
        ("int >= 1 or all", [1, 7, "all"], [0, 1.5, "some"]),
        ("number in [0, 1)", [0, 0.5], [1, -0.1]),
        ("number in (0, 1]", [1, 0.5], [0]),
        ("null or int >= 1", [None, 3], [0, "null?"]),
        ("seconds or epochs", ["seconds"], ["minutes", 1]),
        ("bool", [True, False], [0, "true"]),
        ("text", ["x"], [1, None]),
    ],
)
def test_values(allowed, good, bad):
    setting = Setting(default=None, allowed=allowed, meaning="")
    assert [v for v in good if setting.problem(v)] == []
    assert [v for v in bad if not setting.problem(v)] == []


def test_lists_check_their_items_and_are_not_empty():
    setting = Setting(default=[128], allowed="int >= 1", meaning="")
    assert setting.problem([1, 2]) is None
    assert "each item" in setting.problem([1, 0])
    assert "not empty" in setting.problem([])
    assert "list" in setting.problem(3)


def test_a_setting_without_a_comment_is_of_its_defaults_type(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "# what it is\n_target_: x.Y\nslope: 0.1\nflag: true\nname: a  # no schema here\n"
    )
    description, settings = read(file)
    assert description == "what it is"
    assert {k: s.allowed for k, s in settings.items()} == {
        "slope": "number",
        "flag": "bool",
        "name": "text",
    }


@pytest.mark.parametrize(
    "file", sorted(CONF.glob("*/*.yaml")), ids=lambda f: f"{f.parent.name}={f.stem}"
)
def test_every_option_is_described_and_its_defaults_are_allowed(file):
    description, settings = read(file)
    assert description
    if file.parent.name != "experiment":
        for key, setting in settings.items():
            assert setting.meaning, f"{key} has no meaning"
            if not str(setting.default).startswith("${"):
                assert setting.problem(setting.default) is None, key
