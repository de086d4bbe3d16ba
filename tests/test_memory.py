"""How much memory there is: of the machine, of a container, of a process."""

import math
import resource
from types import SimpleNamespace

import joblib
import pytest

from trainlab import memory, run

GB = 2**30


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A control group that this process is in, below that of all."""
    (inner := tmp_path / "mine").mkdir()
    names = ("memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(memory, "_GROUPS", ((str(tmp_path), *names),))
    monkeypatch.setattr(memory, "_group", lambda: "/mine")

    def limit(most, used=0, forgettable=0, of=inner):
        (of / "memory.max").write_text(f"{most}\n")
        (of / "memory.current").write_text(f"{used}\n")
        (of / "memory.stat").write_text(f"anon 7\ninactive_file {forgettable}\n")
        return of / "memory.max"

    return limit


def test_a_container_allows_less_than_the_machine_has(group, tmp_path):
    machine = memory.free_memory()
    place = group(2**20, used=2**19)
    assert memory.free_memory() == 2**19 < machine
    assert memory.left()[f"the limit of a container ({place})"] == 2**19
    group(2**20, used=2**20, forgettable=2**18)  # files it has read are no matter
    assert memory.free_memory() == 2**18
    group(2**20, used=2**21)
    assert memory.free_memory() == 0
    group("max", used=2**21)
    assert memory.free_memory() > 2**20
    group(2**20, of=tmp_path)  # of those above it, too
    assert memory.free_memory() == 2**20


def test_the_address_space_of_a_process(group, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1, 1))
    assert memory.free_memory() == 0
    assert memory.left()["`ulimit -v`"] == 0


def test_a_system_that_tells_nothing(group, monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(memory.Path, "read_text", missing)
    assert memory.left() == {}
    assert memory.free_memory() is None


@pytest.mark.parametrize(("free", "most"), [(None, math.inf), (0, 1), (GB, 1), (2 * GB, 2)])
def test_workers_that_memory_allows(monkeypatch, free, most):
    monkeypatch.setattr(run, "free_memory", lambda: free)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    session = run.Session()
    monkeypatch.setattr(session.worker, "seconds", lambda jobs: math.inf)
    job = SimpleNamespace(run=SimpleNamespace(config={"workers": "auto", "device": "cpu"}))
    assert session._workers([job] * 5) == min(5, most)
