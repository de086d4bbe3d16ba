"""Reports: what is told is what the runs say, safe to open, and whole without a network."""

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trainlab.report import page, story, study
from trainlab.tables.runs import find_runs

pytest.importorskip("matplotlib")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = "<script>alert(1)</script>"


class Page(html.parser.HTMLParser):
    """The tags of a page, and the texts of its cells, table by table."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.tables = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        if self.tables and self.tags[-1] in ("td", "th", "button"):
            self.tables[-1][-1][-1] += data.strip()


def epochs(loss):
    return [
        {"epoch": t, "step": 10 * t, "val_loss": loss / t, "val_accuracy": 1 - loss / t}
        for t in (1, 2)
    ]


@pytest.fixture
def sweep(leave):
    """Two optimizers × two activations × six seeds, a failure and a divergence."""
    for optimizer, loss in (("adam", 0.1), ("sgd", 0.4)):
        for act in ("relu", "gelu"):
            for seed in range(6):
                worse = loss + 0.001 * seed + 0.01 * (act == "relu")
                settings = {"optimizer": optimizer, "act": act}
                run = leave("a", settings, seed, val=1 - worse, rows=epochs(2 * worse))
                (run / "log.txt").write_text("10:00:00 started\n10:00:01 warning: too <hot>\n")
                (run / "env.json").write_text(
                    '{"trainlab": "0.1.0", "command": "trainlab train -q -m act=relu"}'
                )
    leave("a", {"optimizer": "lion", "act": "relu"}, status="failed", reason=f"no {EVIL}")
    leave("a", {"optimizer": EVIL, "act": "relu"}, status="diverged", reason="not finite")
    return Path("outputs/a")


def test_the_page_tells_what_the_runs_say(sweep, trainlab):
    answer = trainlab("report", "outputs/a")
    assert answer.code == 0, answer.err
    assert answer.out == "outputs/a/report.html\n"
    text = Path("outputs/a/report.html").read_text(encoding="utf-8")
    found = Page(text)
    recipes, versus, chances, effects, runs = found.tables[:5]
    assert recipes[0] == [
        "rank",
        "optimizer",
        "act",
        "val_accuracy",
        "test_accuracy",
        "n",
        "not done",
    ]
    assert recipes[1][:3] == ["1", "adam", "gelu"]
    assert [row[1] for row in recipes[1:]][-2:] == ["lion", EVIL]
    assert recipes[-1][-1] == "1 diverged"
    assert versus[0][0] == "adam gelu less"
    assert chances[1] == ["adam gelu", "> 99 %"]
    assert effects[1][0] == "optimizer"
    assert len(runs) == 1 + 26
    assert "trainlab train -m act=relu" in text
    assert "24 done" in text
    assert "too &lt;hot&gt; (24 runs)" in text
    assert "trainlab 0.1.0" in text
    assert text.count("<svg") == 4


def test_nothing_in_it_comes_from_elsewhere_or_runs(sweep, trainlab):
    trainlab("report", "outputs/a")
    text = Path("outputs/a/report.html").read_text(encoding="utf-8")
    found = Page(text)
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert found.tags.count("script") == 1
    assert not {"link", "iframe", "object", "embed"} & set(found.tags)
    addresses = {value for name, value in found.attributes if name in ("src", "href", "xlink:href")}
    assert all(value.startswith(("#", "data:")) for value in addresses)
    assert "default-src 'none'" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_pictures_of_searches_are_images(leave, trainlab):
    leave("a", {"act": "relu"}, val=0.9)
    Path("outputs/a/search.csv").write_text("trial,state,act,val_accuracy\n0,done,relu,0.9\n1,do")
    Path("outputs/a/search.svg").write_text(f"<svg>{EVIL}</svg>")
    assert trainlab("report", "outputs/a").code == 0
    text = Path("outputs/a/report.html").read_text(encoding="utf-8")
    assert "Search: a/search" in text
    assert EVIL not in text
    assert 'src="data:image/svg+xml;base64,' in text


def test_damaged_files_are_told(sweep, trainlab):
    run = next(path for path in sweep.iterdir() if path.is_dir())
    (run / "status.json").write_text("{")
    (run / "metrics.csv").write_text("epoch,val_l")
    assert trainlab("report", "outputs/a").code == 0
    text = Path("outputs/a/report.html").read_text(encoding="utf-8")
    assert "is cut short or not JSON" in text


def test_foreign_files_are_no_error(sweep, trainlab):
    run = next(path for path in sweep.iterdir() if path.is_dir())
    (run / "env.json").write_text(json.dumps({"command": "trainlab train 'x"}))
    (sweep / "huge.csv").write_text("trial,state,x\n" + "x" * 200_000 + ",,\n")
    (sweep / "theirs.csv").write_bytes(b"\xff\xfe")
    (sweep / "cut.csv").write_text("trial,state,x\n0,done,0.5\n1,don")
    assert trainlab("report", "outputs/a").code == 0


def test_curves_that_cannot_be_drawn_are_told(mine, trainlab):
    for file in Path("outputs/mine").glob("*/metrics.csv"):
        file.write_text("a,b\n1,2\n")
    assert trainlab("report", "outputs/mine").code == 0
    text = Path("outputs/mine/report.html").read_text(encoding="utf-8")
    assert "not drawn. metrics.csv has no val_accuracy." in text
    assert trainlab("report", "--study", "mine").code == 0
    assert "curves" not in mine.read_text()


def test_searches_of_linked_studies_are_told_once(leave, trainlab, folder):
    leave("a", {"act": "relu"}, val=0.9)
    (folder / "outputs" / "a" / "search.csv").write_text("trial,state,act\n0,done,relu\n")
    (folder / "links").mkdir()
    (folder / "links" / "a").symlink_to(folder / "outputs" / "a")
    assert trainlab("report", "links", "outputs", "./outputs/a", "-o", "all.html").code == 0
    assert Path("all.html").read_text(encoding="utf-8").count("Search: a/search") == 1


def test_what_is_left_out_is_said(leave, trainlab):
    for number in range(35):
        for seed in range(2):
            run = leave(
                "a", {"optimizer.lr": number + 1}, seed, val=0.5 + 0.01 * number + 0.001 * seed
            )
        command = f"trainlab train optimizer.lr={number + 1}"
        (run / "env.json").write_text(json.dumps({"command": command}))
    assert trainlab("report", "outputs/a").code == 0
    text = Path("outputs/a/report.html").read_text(encoding="utf-8")
    assert "# and 27 more" in text
    assert "the best 12 of 35 recipes" in text
    assert "the best 30 of 35 recipes" in text


def test_runs_of_several_tasks_and_those_that_only_began(leave, trainlab):
    leave("a", {"act": "relu"}, val=0.9)
    leave("a", {"dataset": "diabetes"}, val=0.4, metric="r2")
    leave("a", {"act": "gelu"}, status="running")
    assert trainlab("report", "-o", "all.html").code == 0
    text = Path("all.html").read_text(encoding="utf-8")
    assert "Recipes by val_r2" in text
    assert "1 running" in text


def test_where_it_cannot_be_written(sweep, trainlab):
    assert trainlab("report", "-o", "no/report.html").code == 2
    assert trainlab("report", "nowhere").code == 2
    Path("taken.html").mkdir()
    assert "taken.html is a folder" in trainlab("report", "-o", "taken.html").err
    assert "no option here" in trainlab("report", "--opne").err


def test_it_opens(sweep, trainlab, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert trainlab("report", "outputs/a", "--open").code == 0
    (address,) = opened
    assert address.startswith("file://")
    assert address.endswith("outputs/a/report.html")


def test_many_recipes_are_compared_with_the_correction_for_all(leave):
    for number in range(20):
        for seed in range(6):
            leave("a", {"optimizer.lr": number + 1}, seed, val=0.5 + 0.01 * number + 0.001 * seed)
    told = story.told(find_runs("outputs"), "a")
    (part,) = told.parts
    assert len(part.verdict.versus) == 11
    assert part.verdict.tests == 190


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_sorting_and_filtering_in_a_browser(sweep, trainlab, tmp_path):
    trainlab("report", "outputs/a")

    def shown(fragment):
        address = f"{Path('outputs/a/report.html').resolve().as_uri()}#{fragment}"
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout

    dom = shown("sort0=4")
    assert [row[2] for row in Page(dom).tables[0][1:3]] == ["relu", "gelu"]
    assert 'aria-sort="ascending"' in dom
    dom = shown("sort0=-4&filter4=seed")
    assert [row[1:3] for row in Page(dom).tables[0][1:3]] == [["adam", "gelu"], ["adam", "relu"]]
    rows = re.search(r"<details open.*?</details>", shown("filter1=sgd+gelu"), re.S)[0]
    assert rows.count("<tr>") == 1 + 6
    assert rows.count("<tr hidden") == 26 - 6
    assert "6 of 26" in rows


# ---------------------------------------------------------------- a study's write-up


STUDY = "# @package _global_\n# Which act?\nstudy: mine\nhydra:\n  mode: MULTIRUN\n"


@pytest.fixture
def mine(leave, folder):
    """A study of the user's own with runs."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mine.yaml").write_text(STUDY)
    for act, value in (("relu", 0.9), ("gelu", 0.8)):
        for seed in range(3):
            settings = {"act": act, "experiment": "mine"}
            leave("mine", settings, seed, val=value + 0.001 * seed, rows=epochs(1 - value))
    return folder / "conf" / "experiment" / "mine.md"


def test_a_write_up_keeps_what_a_person_wrote(mine, trainlab):
    answer = trainlab("report", "--study", "mine")
    assert answer.code == 0, answer.err
    assert answer.out == "conf/experiment/mine.md\n"
    text = mine.read_text()
    assert text.startswith("# mine\n")
    assert "Which act?" in text
    assert "| 1 | relu | 0.9010 ± 0.0025 |" in text
    pictures = re.findall(r"\]\(([^)]+\.svg)\)", text)
    assert pictures
    assert all((mine.parent / name).is_file() for name in pictures)
    trainlab("report", "--study", "mine")
    assert mine.read_text() == text  # the same runs, the same file
    written = text.replace(
        "<!-- trainlab: table -->", "I think relu wins.\n\n<!-- trainlab: table -->"
    )
    written = re.sub(r"<!-- trainlab: choices -->.*?<!-- end -->\n", "", written, flags=re.S)
    mine.write_text(written.replace("0.9010", "0.1234") + "\nSee also: nothing.\n")
    trainlab("report", "--study", "mine")
    again = mine.read_text()
    assert "I think relu wins.\n\n<!-- trainlab: table -->" in again
    assert again.endswith("See also: nothing.\n")
    assert "0.9010 ± 0.0025" in again
    assert "0.1234" not in again
    assert "trainlab: choices" not in again


def test_a_part_without_its_end_is_left_alone(mine, trainlab):
    trainlab("report", "--study", "mine")
    text = mine.read_text().replace("<!-- end -->\n", "MINE\n", 1)
    mine.write_text(text)
    answer = trainlab("report", "--study", "mine")
    assert answer.code == 2
    assert "'question' has no line <!-- end -->" in answer.err
    assert mine.read_text() == text


def test_a_file_without_marks_is_continued(mine, trainlab):
    mine.write_text("# Mine\n\nBefore.\n")
    trainlab("report", "--study", "mine")
    text = mine.read_text()
    assert text.startswith("# Mine\n\nBefore.\n\n<!-- trainlab: question -->")
    assert text.count("<!-- end -->") == text.count("<!-- trainlab: ")


def test_a_packaged_study_is_written_up_where_one_stands(leave, trainlab, folder):
    leave("first_steps", {"act": "relu", "experiment": "first_steps"}, val=0.9)
    assert trainlab("report", "--study", "first_steps").out == "experiments/first_steps.md\n"
    assert "Which optimizer goes with" in (folder / "experiments" / "first_steps.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--study", "first_step"], "Did you mean first_steps?"),
        (["--study", "first_steps"], "trainlab train experiment=first_steps"),
        (["outputs", "--study", "first_steps"], "has its own place"),
    ],
)
def test_studies_that_are_not_there(folder, trainlab, arguments, told):
    answer = trainlab("report", *arguments)
    assert answer.code == 2
    assert told in answer.err


def test_merged_leaves_other_comments_alone():
    text = "<!-- mine -->\n<!-- trainlab: table -->\nold\n<!-- end -->\n"
    assert study.merged(text, {"table": "new"}).startswith(
        "<!-- mine -->\n<!-- trainlab: table -->\nnew"
    )
    assert page.sortable("0.5 ± 0.1") == 0.5
