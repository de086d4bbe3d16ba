"""The documentation's commands run, as they stand, in a folder with the files it shows."""

import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- (run|file [^ ]+) -->\n```\w*\n(.*?)```", re.S)


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]


def text(document):
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document):
    return BLOCK.findall(text(document))


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if "<!-- run -->" in text(name)])
def test_the_commands_shown_run(trainlab, folder, document):
    shown = blocks(document)
    for kind, content in shown:
        if kind.startswith("file "):
            file = folder / kind.removeprefix("file ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    commands = [line for kind, content in shown if kind == "run" for line in content.splitlines()]
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
    assert set(re.findall(r"`?make (\w+)", text("README.md"))) <= targets


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#:]+)\)", text(document)):
            assert ((ROOT / document).parent / link).exists(), link
