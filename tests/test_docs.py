"""The documentation's commands run, as they stand, in a folder with the files it shows."""

import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- (run|file [^ ]+) -->\n```\w*\n(.*?)```", re.S)


def blocks(document):
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/recipes.md",
        "docs/data.md",
        "docs/runs.md",
        "docs/sweeps.md",
        "docs/search.md",
    ],
)
def test_the_commands_shown_run(trainlab, folder, document):
    shown = blocks(document)
    for kind, text in shown:
        if kind.startswith("file "):
            file = folder / kind.removeprefix("file ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    commands = [line for kind, text in shown if kind == "run" for line in text.splitlines()]
    assert commands
    last = ""  # the folder of the last run: RUN in what is shown
    for command in commands:
        program, *arguments = shlex.split(command.replace("RUN", str(last)))
        assert program == "trainlab"
        answer = trainlab(*arguments)
        assert answer.code == 0, f"{command}: {answer.err}"
        last = answer.out.splitlines()[-1] if arguments[0] == "train" else last
    sys.modules.pop("mine", None)
    sys.path[:] = [path for path in sys.path if path != str(folder)]


def test_every_make_target_the_readme_names_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`?make (\w+)", (ROOT / "README.md").read_text())) <= targets


def test_links_lead_somewhere():
    for document in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/runs.md",
        "docs/recipes.md",
        "docs/data.md",
        "docs/sweeps.md",
        "docs/search.md",
    ):
        text = (ROOT / document).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / document).parent / link).exists(), link
