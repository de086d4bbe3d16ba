"""Each fault is made, and the line that tells of it is looked for."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from itertools import count
from pathlib import Path

import filelock
import pytest
import torch

from trainlab.doctor import content, examined, machine, packages, storage
from trainlab.doctor.storage import _milliseconds


def level_and_text(check, *arguments):
    """The findings of a check, less those that are well."""
    return [(f.level, f.text) for f in check(*arguments) if f.level != "ok"]


def only(found):
    (line,) = found
    return line


Room = namedtuple("Room", "total used free")
Counts = namedtuple("Counts", "f_files f_favail")


@pytest.fixture(autouse=True)
def roomy(monkeypatch):
    """Disks of this machine may be full or slow: none of it is asked."""
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: Room(2**40, 0, 2**40))
    monkeypatch.setattr(storage.os, "statvfs", lambda path: Counts(2**30, 2**30))
    monkeypatch.setattr(storage, "_milliseconds", lambda inside, sync: 1.0)
    monkeypatch.setattr(machine, "_SHARED", Path("nowhere"))


@pytest.fixture
def few_imports(monkeypatch):
    """Most tests look at other things."""
    monkeypatch.setattr(packages, "_IMPORTED", ("json",))
    monkeypatch.setattr(packages, "_BESIDE_TORCH", ())


# ---------------------------------------------------------------- the verb


def test_where_all_is_well(trainlab, folder, few_imports):
    answer = trainlab("doctor", "--json")
    told = json.loads(answer.out)
    assert answer.code == (told["level"] == "trouble")
    checks = {finding["check"] for finding in told["findings"]}
    assert {"python", "packages", "outputs", "speed", "locks", "links", "own conf"} <= checks
    assert {"device", "memory", "limits", "encoding", "recipes", "data", "imports"} <= checks
    assert all(f["text"][-1] in ".)" for f in told["findings"] if f["level"] == "ok")
    assert [f for f in told["findings"] if f["check"] in ("outputs", "recipes", "locks")]
    assert list(folder.iterdir()) == []


def test_trouble_is_exit_code_1_and_a_warning_is_0(trainlab, folder, few_imports, monkeypatch):
    findings = [machine.warning("a", "A is odd."), machine.ok("b", "B is well.")]
    monkeypatch.setattr("trainlab.doctor.examined", lambda folder: iter(findings))
    answer = trainlab("doctor")
    assert answer.code == 0
    assert answer.out.splitlines()[0].split() == ["warning", "a", "A", "is", "odd."]
    findings.append(machine.trouble("c", "C is broken."))
    answer = trainlab("doctor", "elsewhere")
    assert answer.code == 1
    assert "lines of trouble: 1, warnings: 1" in answer.out
    assert json.loads(trainlab("doctor", "--json").out)["level"] == "trouble"


def test_nothing_in_a_name_is_obeyed_by_a_terminal(trainlab, folder, few_imports):
    (folder / "a\x1b[31m").touch()
    answer = trainlab("doctor", "a\x1b[31m")
    assert answer.code == 1
    assert "\x1b" not in answer.out
    assert "a\\x1b[31m is no folder" in answer.out


@pytest.mark.parametrize("missing", ["hydra", "omegaconf", "yaml"])
def test_a_package_that_is_missing_sends_people_to_the_doctor(folder, missing):
    without = f"import sys; sys.modules[{missing!r}] = None; from trainlab import cli; "
    command = f"{without}sys.exit(cli.main(['train', 'epochs=1']))"
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert ended.returncode == 1
    assert missing in ended.stderr
    assert "`trainlab doctor` looks at each" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_two_folders_are_one_too_many(trainlab):
    answer = trainlab("doctor", "a", "b")
    assert answer.code == 2
    assert "Usage: trainlab doctor [FOLDER] [--json]" in answer.err


def test_every_check_stands_alone(folder, few_imports, monkeypatch):
    def broken(*arguments, **how):
        raise TypeError("no such thing")

    def gone(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(packages.subprocess, "run", broken)
    monkeypatch.setattr(packages, "_requirements", broken)
    monkeypatch.setattr(storage.shutil, "disk_usage", broken)
    monkeypatch.setattr(machine.multiprocessing, "get_all_start_methods", broken)
    monkeypatch.setattr(machine.locale, "getpreferredencoding", broken)
    monkeypatch.setattr(content, "compose", lambda overrides: gone("hydra"))
    monkeypatch.setattr(torch.cuda, "is_available", broken)
    found = list(examined(Path("outputs")))
    odd = {f.check for f in found if "could not be looked at: TypeError: no such thing" in f.text}
    assert {"packages", "extras", "versions", "outputs", "temporary", "device", "imports"} <= odd
    assert {f.level for f in found if f.check in odd} == {"trouble"}
    assert {"python", "limits", "own conf", "cache", "data"} <= {f.check for f in found}


# ---------------------------------------------------------------- packages


class Package:
    """An installed package, as importlib.metadata gives it."""

    def __init__(self, name, version, *requires, extras=()):
        self.name, self.version, self.requires = name, version, requires
        self.metadata = {"Requires-Python": ">=3.11,<3.14"}
        self.extras = extras


@pytest.fixture
def installed(monkeypatch):
    """Say what is installed, beside this trainlab."""

    def install(*others, needs=("torch>=2.6,<3", "numpy>=1.26")):
        trainlab = Package("trainlab", "0.1.0", *needs)
        every = {package.name: package for package in (trainlab, *others)}

        def distribution(name):
            if name not in every:
                raise metadata.PackageNotFoundError(name)
            return every[name]

        monkeypatch.setattr(metadata, "distribution", distribution)
        monkeypatch.setattr(metadata, "version", lambda name: distribution(name).version)
        monkeypatch.setattr(metadata, "requires", lambda name: distribution(name).requires)
        monkeypatch.setattr(metadata, "distributions", lambda: iter(every.values()))
        packages._requirements.cache_clear()

    yield install
    packages._requirements.cache_clear()


def test_versions_in_range_are_well(installed):
    installed(Package("torch", "2.13.0+cpu"), Package("numpy", "2.4.6"))
    assert level_and_text(packages.required) == []
    assert "torch 2.13.0+cpu, numpy 2.4.6." in next(packages.required()).text
    installed(Package("torch", "2.14.0.dev20261101"), Package("numpy", "2.4.6"))
    assert level_and_text(packages.required) == []


def test_a_version_out_of_range_and_one_that_is_missing(installed):
    installed(Package("torch", "2.5.1"))
    old, missing = level_and_text(packages.required)
    assert old[0] == missing[0] == "trouble"
    assert "torch is 2.5.1, and trainlab needs <3,>=2.6: pip install 'torch<3,>=2.6'" in old[1]
    assert "numpy is not installed" in missing[1]


def test_an_old_python(monkeypatch):
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.10.4")
    level, text = only(level_and_text(packages.python))
    assert level == "trouble"
    assert "Python is 3.10.4, and trainlab needs <3.14,>=3.11" in text


def test_trainlab_that_is_not_installed(monkeypatch):
    def nowhere(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nowhere)
    level, text = only(level_and_text(packages.python))
    assert level == "warning"
    assert "pip install ." in text


def test_packages_that_need_another_torch(installed):
    installed(
        Package("torch", "2.13.0+cpu"),
        Package("numpy", "2.4.6"),
        Package("torchvision", "0.21.0", "numpy", "torch==2.6.0"),
        Package("fits", "1.0", "torch>=2", "numpy<3"),
        Package("elsewhere", "1.0", "torch<2; sys_platform == 'nowhere'", "numpy<1; extra == 'x'"),
        Package("odd", "1.0", "what is this?"),
        Package(None, "1.0"),
    )
    level, text = only(level_and_text(packages.disagreements))
    assert level == "warning"
    assert "torchvision 0.21.0 needs torch==2.6.0, and torch is 2.13.0+cpu" in text
    assert "pip uninstall torchvision" in text


def test_extras_that_are_not_installed_are_named(installed, monkeypatch):
    needs = ("a>=1; extra == 'plot'", "b>=1; extra == 'wandb'", "c>=2; extra == 'ray'")
    installed(Package("a", "1.5"), Package("c", "1.0"), needs=needs)
    parts = {"Provides-Extra": ["plot", "wandb", "ray", "dev"]}
    headers = namedtuple("Headers", "get_all")(parts.get)
    monkeypatch.setattr(metadata, "metadata", lambda name: headers)
    old, all_of_them = packages.extras()
    assert old.level == "warning"
    assert "c is 1.0, and trainlab needs >=2" in old.text
    assert all_of_them.level == "ok"
    assert "These extras are installed: plot, ray." in all_of_them.text
    assert "pip install 'trainlab[wandb]'" in all_of_them.text


@pytest.fixture
def module(folder, monkeypatch):
    """Modules of one line, for this process and those it starts."""

    def make(name, line):
        (folder / f"{name}.py").write_text(line)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))

    return make


def test_imports_that_fail_or_end_the_process(module, monkeypatch):
    monkeypatch.setattr(packages, "_IMPORTED", ("json", "not_there", "too_old"))
    monkeypatch.setattr(packages, "_BESIDE_TORCH", ("of_another", "deadly"))
    module("too_old", "raise ValueError('numpy.dtype size changed')")
    module("of_another", "raise RuntimeError('operator torchvision::nms does not exist')")
    module("deadly", "import os; os.abort()")
    broken, of_another, deadly = level_and_text(packages.imports)
    assert broken[0] == "trouble"
    assert "too_old is installed and cannot be imported (ValueError: numpy.dtype" in broken[1]
    assert of_another[0] == deadly[0] == "warning"
    assert (
        "of_another cannot be imported beside this torch (RuntimeError: operator" in of_another[1]
    )
    assert "deadly cannot be imported beside this torch (Python ends with -6)" in deadly[1]


@pytest.mark.slow
def test_the_packages_of_this_machine_can_be_imported():
    assert [f for f in packages.imports() if f.level == "trouble"] == []


# ---------------------------------------------------------------- the machine


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(machine, "_GPU", tmp_path / "nvidia0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_that_torch_cannot_use(gpu, monkeypatch):
    def warned():
        machine.warnings.warn("The NVIDIA driver on your system is too old.", stacklevel=1)
        return False

    assert "it is a build for CPUs" in only(level_and_text(machine.devices))[1]
    monkeypatch.setattr(torch.cuda, "is_available", warned)
    assert "does not use: The NVIDIA driver on" in only(level_and_text(machine.devices))[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is ''" in only(level_and_text(machine.devices))[1]


def test_a_gpu_on_which_nothing_can_be_computed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Tesla K80")

    def ones(*shape, device):
        raise RuntimeError("CUDA error: no kernel image is available.\nCompile with …")

    monkeypatch.setattr(torch, "ones", ones)
    level, text = only(level_and_text(machine.devices))
    assert level == "trouble"
    assert "cuda:0 (Tesla K80) computes nothing: CUDA error: no kernel image is available." in text
    assert "device=cpu" in text


def test_little_memory(monkeypatch):
    left = {"the machine": 2**34, "the limit of a container (memory.max)": 2**28}
    monkeypatch.setattr(machine.available, "left", lambda: left)
    level, text = only(level_and_text(machine.memory))
    assert level == "warning"
    assert text.startswith("256.0 MB are free")
    assert "the limit of a container (memory.max) allows no more" in text
    left = {"the machine": 2**34}
    assert level_and_text(machine.memory) == []
    left = {}
    assert "does not say" in only(machine.memory()).text


def test_limits_on_files(monkeypatch):
    caps = {resource.RLIMIT_NOFILE: 64, resource.RLIMIT_FSIZE: 2**20}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (caps.get(kind, -1), -1))
    few, short = level_and_text(machine.limits)
    assert few[0] == "warning"
    assert "ulimit -n" in few[1]
    assert short == (
        "trouble",
        "No file may be longer than 1.0 MB, checkpoints among them: ulimit -f unlimited",
    )
    caps[resource.RLIMIT_FSIZE] = 2**32
    assert level_and_text(machine.limits)[1][0] == "warning"


def test_a_folder_of_temporary_files_with_a_long_path(folder, monkeypatch):
    (long := folder / ("x" * 100)).mkdir()
    monkeypatch.setattr(machine.tempfile, "tempdir", str(long))
    level, text = only(level_and_text(machine.temporary))
    assert level == "trouble"
    assert f"Workers cannot use {long}" in text
    assert "path too long" in text
    assert list(long.iterdir()) == []


def test_a_folder_of_temporary_files_that_is_none(folder, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(folder / "nowhere"))
    assert "cannot be written" in only(level_and_text(machine.temporary))[1]

    def none():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(machine.tempfile, "gettempdir", none)
    level, text = only(level_and_text(machine.temporary))
    assert level == "trouble"
    assert "TMPDIR" in text


def test_little_room_for_temporary_files_and_shared_memory(folder, monkeypatch):
    monkeypatch.setattr(machine, "_SHARED", folder)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Room(2**26, 0, 2**26))
    temporary, shared = level_and_text(machine.temporary)
    assert temporary[0] == shared[0] == "warning"
    assert "has only 64.0 MB left" in temporary[1]
    assert "loader_workers=0" in shared[1]


def test_an_encoding_without_all_letters(monkeypatch):
    monkeypatch.setattr(machine.locale, "getpreferredencoding", lambda do: "ISO-8859-1")
    monkeypatch.setattr(machine.sys, "getfilesystemencoding", lambda: "utf-8")
    level, text = only(level_and_text(machine.encodings))
    assert level == "warning"
    assert "Python has texts in ISO-8859-1" in text


# ---------------------------------------------------------------- the outputs


def test_a_folder_that_is_well_or_will_be_made(folder):
    assert level_and_text(storage.outputs, folder) == []
    assert level_and_text(storage.outputs, Path("a/b")) == []
    assert list(folder.iterdir()) == []


def test_what_is_no_folder(folder):
    Path("file").touch()
    Path("loop").symlink_to("loop")
    for place in ("file", "file/outputs", "loop/outputs"):
        level, text = only(level_and_text(storage.outputs, Path(place)))
        assert level == "trouble"
        assert "is no folder" in text


def test_little_room_and_few_files(folder, monkeypatch):
    usage = Room(2**40, 0, 2**29)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: usage)
    level, text = only(level_and_text(storage.outputs, folder))
    assert level == "warning"
    assert "has 512.0 MB free" in text
    usage = Room(2**40, 0, 2**20)
    assert only(level_and_text(storage.outputs, folder))[0] == "trouble"
    usage = Room(2**40, 0, 2**40)
    monkeypatch.setattr(os, "statvfs", lambda path: Counts(100, 7))
    level, text = only(level_and_text(storage.outputs, folder))
    assert level == "trouble"
    assert "room for 7 files" in text
    monkeypatch.setattr(os, "statvfs", lambda path: Counts(0, 0))  # btrfs does not count
    assert level_and_text(storage.outputs, folder) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(folder, monkeypatch, number):
    def refused(*arguments, **how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.tempfile, "mkdtemp", refused)
    level, text = only(level_and_text(storage.outputs, folder))
    assert level == "trouble"
    assert f"{folder} cannot be written: {os.strerror(number)}. Runs that are finished can" in text


def test_a_quota_that_is_used_up(folder, monkeypatch):
    def refused(path, content):
        raise OSError(errno.EDQUOT, "Disk quota exceeded", str(path))

    monkeypatch.setattr(Path, "write_bytes", refused)
    level, text = only(level_and_text(storage.outputs, folder))
    assert level == "trouble"
    assert f"Files in {folder} cannot be written and read: Disk quota exceeded." in text
    assert ".trainlab-doctor" not in text
    assert list(folder.iterdir()) == []


def test_how_long_a_small_file_takes(folder):
    assert all(_milliseconds(folder, sync) > 0 for sync in (False, True))


def test_a_slow_disk(folder, monkeypatch):
    monkeypatch.setattr(storage, "_milliseconds", lambda inside, sync: 900.0 if sync else 30.0)
    level, text = only(level_and_text(storage._speed, folder))
    assert level == "warning"
    assert "30.0 ms there, or 900.0 ms" in text


def test_locks_that_do_not_hold(folder, monkeypatch):
    monkeypatch.setattr(storage, "_told_elsewhere", lambda lock: False)
    level, text = only(level_and_text(storage._locks, folder))
    assert level == "trouble"
    assert "in two processes" in text
    lock, numbers = filelock.FileLock, count()
    monkeypatch.setattr(filelock, "FileLock", lambda path: lock(f"{path}{next(numbers)}"))
    assert "in one process" in only(level_and_text(storage._locks, folder))[1]


def test_a_process_that_cannot_try_a_lock_tells_nothing_of_it(folder, monkeypatch):
    monkeypatch.setattr(storage, "_HELD", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="a process that tried the lock failed"):
        list(storage._locks(folder))
    monkeypatch.setattr(sys, "executable", str(folder))
    with pytest.raises(RuntimeError, match="no process that tries the lock can be started"):
        list(storage._locks(folder))


def test_a_file_system_without_hard_links(folder, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    finding = only(storage._links(folder))
    assert finding.level == "ok"
    assert finding.facts == {"hard_links": False}


def test_folders_of_another_user(folder, monkeypatch):
    for name in ("a", "b", "c"):
        Path(name).mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "b")
    level, text = only(level_and_text(storage.outputs, folder))
    assert level == "warning"
    assert f"{folder / 'b'} cannot be written" in text


def test_a_cache_that_cannot_be_written(folder, monkeypatch):
    monkeypatch.setattr("trainlab.data.files.cache", lambda: folder / "file" / "cache")
    (folder / "file").touch()
    level, text = only(level_and_text(storage.cache))
    assert level == "warning"
    assert "TRAINLAB_DATA" in text


# ---------------------------------------------------------------- what is read


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_options_of_ones_own(folder):
    assert "no conf/ of your own" in only(content.own()).text
    write("conf/act/mine.yaml", "# x\n_target_: mine.Twice\nfactor: 2.0\n")
    write("conf/preprocess/halved.yaml", "# @package preprocess.halved\n_target_: mine.halved\n")
    write("conf/experiment/study.yaml", "# @package _global_\n# Which?\nstudy: study\n")
    assert "3 options in it can be composed" in only(content.own()).text
    write("conf/act/cut.yaml", "a: [\n")
    write("conf/experiment/wrong.yaml", "# @package _global_\n# Which?\noptimizer: sgd\n")
    cut, wrong = level_and_text(content.own)
    assert cut[0] == wrong[0] == "trouble"
    assert f"{Path('conf/act/cut.yaml').absolute()}: ParserError" in cut[1]
    assert "- override /optimizer: sgd" in wrong[1]


@pytest.mark.parametrize(
    ("text", "why"),
    [("model: resnet\n", "takes the place of trainlab's"), ("a: [", "config.yaml: ParserError")],
)
def test_a_conf_of_another_program(trainlab, few_imports, text, why):
    write("conf/config.yaml", text)
    answer = trainlab("doctor")
    assert answer.code == 1
    lines = [line.split(maxsplit=2) for line in answer.out.splitlines() if line]
    assert why in next(line[2] for line in lines if line[:2] == ["trouble", "own"])
    assert ["trouble", "recipes"] in [line[:2] for line in lines]


def test_official_data_that_are_found(folder, monkeypatch):
    monkeypatch.setenv("TRAINLAB_DATA", str(folder / "nowhere"))
    assert "names" in only(level_and_text(content.data))[1]
    monkeypatch.setenv("TRAINLAB_DATA", str(folder))
    assert "no official datasets" in only(content.data()).text
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        write(f"mnist/{part}-ubyte.gz", "")
    write("cifar-10-batches-py/data_batch_1", "")
    write("FashionMNIST/raw/train-images-idx3-ubyte", "")
    partly, told = content.data()
    assert told.facts["found"] == ["mnist", "cifar10"]
    assert told.facts["missing"] == ["fashion_mnist", "cifar100"]
    assert partly.level == "warning"
    assert "dataset=fashion_mnist is not complete: train-labels-idx1-ubyte.gz, t10k" in partly.text
