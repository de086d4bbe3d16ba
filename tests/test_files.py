"""Reading with care: what is no regular file, too large or not what it seems; and links."""

import json
import os
import socket
from pathlib import Path

import pytest

from trainlab import files
from trainlab.config import UserError
from trainlab.files import Unreadable, appending, load_json, load_yaml, opened, write_text

LAUGHS = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "is missing"),
        (Path.mkdir, "is a folder"),
        (pipe, "is no regular file"),
        (listening, "cannot be read"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
        (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels"),
        (lambda path: path.symlink_to("nowhere"), "is missing"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text('{"a": '), "is cut short or not JSON"),
        (lambda path: path.write_text("[1]"), "holds no JSON object"),
        (lambda path: path.write_bytes(b'{"a": "\xff"}'), "is not text in UTF-8"),
        (lambda path: path.write_text("[" * 100_000), "is nested too deeply"),
        (lambda path: path.write_text('{"a":' * 100_000), "is nested too deeply"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40), "is larger than"),
    ],
)
def test_files_that_are_none(folder, make, why):
    make(path := Path("x"))
    with pytest.raises(Unreadable, match=rf"^x {why}"):
        load_json(path)
    assert files.read_json(path) == {}


def test_numbers_that_are_none_of_ours(folder):
    Path("x").write_text(f'{{"a": {"9" * 400}, "b": -{"9" * 400}, "c": 12, "d": {10**18}}}')
    found = load_json(Path("x"))
    assert found == {"a": float("inf"), "b": -float("inf"), "c": 12, "d": 1e18}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"l0: &l0 ha\n{LAUGHS}", "stands for more than 100,000 values"),
        ("[" * 5000, "is nested too deeply"),
        ("a: &a [*a]", "is nested too deeply"),
        ("a: &a\n  b: *a", "is nested too deeply"),
        ("a: [1", "is damaged"),
        ("a: 2024-13-45", "is damaged"),
        ("!!python/object/apply:os.getcwd []", "is damaged"),
        ("- 1", "holds no settings"),
        ("", "holds no settings"),
        ("# " * 2**20, "is larger than 1 MB"),
    ],
)
def test_yaml_that_is_none(folder, text, why):
    Path("x").write_text(text)
    with pytest.raises(Unreadable, match=why):
        load_yaml(Path("x"))


def test_what_is_sealed_shows_any_change():
    text = files.sealed({"a": 1, "b": "é"})
    content = text.encode()
    assert files.untouched(content)
    assert json.loads(text) == {"a": 1, "b": "é", "digest": json.loads(text)["digest"]}
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        try:
            read = json.loads(changed)
        except ValueError:
            continue
        known = {key: read.get(key) for key in ("a", "b")}
        assert known == {"a": 1, "b": "é"} or not files.untouched(bytes(changed)), place
    assert not files.untouched(content.replace(b"1", b"2", 1))


def test_what_is_added_to_is_ones_own_file(folder):
    outside, log = Path("outside"), Path("log.txt")
    outside.write_text("theirs\n")
    log.symlink_to(outside)
    for line in ("one\n", "two\n"):
        with appending(log) as file:
            file.write(line)
    assert outside.read_text() == "theirs\n"
    assert log.read_text() == "one\ntwo\n"
    assert not log.is_symlink()


def test_a_file_with_two_names_is_copied_before_it_is_added_to(folder):
    log, kept = Path("log.txt"), Path("backup.txt")
    log.write_text("one\n")
    os.link(log, kept)
    with appending(log) as file:
        file.write("two\n")
    assert (log.read_text(), kept.read_text()) == ("one\ntwo\n", "one\n")


def test_a_pipe_is_no_log(folder):
    pipe(Path("log.txt"))
    with appending(Path("log.txt")) as file:
        file.write("one\n")
    assert Path("log.txt").read_text() == "one\n"


def test_folders_in_the_way_are_named(folder):
    Path("a.json").mkdir()
    Path("b").write_text("")
    with pytest.raises(UserError, match=r"^a\.json cannot .* is a folder, which is in the way"):
        write_text(Path("a.json"), "{}")
    with pytest.raises(UserError, match=r"^b/c\.json cannot be .* b is a file, which is"):
        write_text(Path("b/c.json"), "{}")
    with (
        pytest.raises(UserError, match=r"a\.json is a folder"),
        appending(Path("a.json")),
    ):
        pass
    assert sorted(path.name for path in Path().iterdir()) == ["a.json", "b"]


def test_a_file_may_be_as_large_as_its_kind(folder):
    Path("x").write_bytes(bytes(files.MB))
    assert len(files.read_bytes(Path("x"), files.MB)) == files.MB
    with opened(Path("x")) as file:
        assert file.read(3) == bytes(3)
