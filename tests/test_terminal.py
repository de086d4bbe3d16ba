"""Output that nobody reads or can decode, and texts that a terminal would obey."""

import json
import os
import subprocess
import sys

import pytest

from trainlab import terminal

_TRAINLAB = f"{sys.executable} -m trainlab"
_TRAIN = "train epochs=2 max_examples=100 arch.hidden=[4]"
_HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e\u2028[red]x[/red]"


def _shell(command: str, folder, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        encoding="latin-1" if variables else "utf-8",
    )


@pytest.mark.parametrize(
    "where",
    [
        "2>/dev/full",
        "2>&-",
        pytest.param(">/dev/full", marks=pytest.mark.slow),
        pytest.param(">&- 2>&- <&-", marks=pytest.mark.slow),
        pytest.param("2>&1 | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", marks=pytest.mark.slow),
        pytest.param("-m seed=0,1 workers=2 2>/dev/full", marks=pytest.mark.slow),
        pytest.param(
            "search=random search.trials=2 'act=choice(relu,gelu)' 2>/dev/full",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_goes_on_whatever_becomes_of_its_display(folder, where):
    done = _shell(f"{_TRAINLAB} {_TRAIN} {where}", folder)
    assert done.returncode == 0, done.stderr
    found = list(folder.glob("outputs/runs/*/status.json"))
    assert found
    assert all(json.loads(file.read_text())["status"] == "done" for file in found)
    assert "epoch" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_table_that_cannot_be_written_is_an_error(folder):
    done = _shell(f"{_TRAINLAB} list act >/dev/full", folder)
    assert done.returncode == 1
    assert "cannot be written: No space left on device" in done.stderr


def test_no_file_gets_the_number_of_a_closed_descriptor(folder):
    check = "from trainlab import terminal\nwith terminal.ready(): print(open('f', 'w').fileno())"
    done = _shell(f'{sys.executable} -c "{check}" 2>&- <&-', folder)
    assert int(done.stdout) > 2


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_an_encoding_lacks_is_spelt(folder, encoding):
    done = _shell(f"{_TRAINLAB} list optimizer", folder, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert "learning rate eta" in done.stdout


def test_tables_keep_their_columns_in_ascii(folder):
    show = (
        "from trainlab import terminal\nfrom rich.table import Table\nwith terminal.ready():\n"
        " t = Table('a'); t.add_row('1 ± 2'); t.add_row('3'); terminal.console().print(t)"
    )
    done = _shell(f'{sys.executable} -c "{show}"', folder, PYTHONIOENCODING="ascii")
    assert "1 +- 2" in done.stdout
    assert len({len(line) for line in done.stdout.splitlines()}) == 1


def test_bytes_of_file_names_are_printed_as_they_are(folder):
    show = "from trainlab import terminal\nwith terminal.ready(): print('a\\udcffb')"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, check=True)
    assert done.stdout == b"a\xffb\n"


@pytest.mark.parametrize(
    "command",
    [
        "table", "table --csv", "table --json", "table --markdown", "table --latex",
        "effects", "compare outputs", "report", "watch outputs --once",
    ],
)  # fmt: skip
def test_a_terminal_obeys_nothing_that_files_say(trainlab, leave, command):
    for act in ("relu", _HOSTILE):
        for seed in range(2):
            leave("study", {"act": act}, seed=seed, val=0.5 + 0.01 * seed)
    leave("study", {"act": "gelu"}, status="failed", reason=_HOSTILE)
    answer = trainlab(*command.split())
    assert answer.code == 0, answer.err
    shown = (answer.out + answer.err).replace("\r\n", "\n")
    if command == "report":
        shown = answer.path.read_text(encoding="utf-8")
    assert "31m" in shown
    assert terminal.escaped(shown, lines=True) == shown
    if command == "table":
        assert "[red]x" in shown.replace("\n", "")


def test_names_of_folders_and_errors_are_escaped(trainlab, folder):
    answer = trainlab("table", "a\x1b[31mb")
    assert answer.code == 2
    assert r"a\x1b[31mb" in answer.err
    answer = trainlab("eval", "a\x9b31m")
    assert answer.code == 2
    assert r"a\x9b31m" in answer.err
