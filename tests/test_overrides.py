"""What people type: hints that can be pasted, and a paragraph for all that cannot be read."""

import shlex

import pytest

from trainlab.config import compose, typed

_TINY = "train -q max_examples=60 epochs=1 arch.hidden=[4]".split()
_TEXTS = [
    "town", "data (1).csv", "CO(GT)", "été", "it's", "a=b", "$HOME", "${x}", "a{b", "#x", "[a",
    "a,b", 'q"x', "b\\", 'b\\"c', "", " a ", "2024", "1e5", "true", "null", "a b", "choice(a)",
    "range(5)", "~/x", "--x", "a], b=[c",
]  # fmt: skip


@pytest.mark.parametrize("text", _TEXTS)
def test_what_is_typed_is_read_as_it_was_meant(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    for value in (text, [text, "b"]):
        (word,) = shlex.split(typed("key", value))
        (override,) = OverridesParser.create().parse_overrides([word])
        assert not override.is_sweep_override()
        assert OmegaConf.to_object(OmegaConf.create({"key": override.value()})) == {"key": value}


@pytest.mark.parametrize("text", ["study=été", "dataset.path=data (1).csv", "study=[a"])
def test_a_value_that_cannot_be_read_is_told_as_it_is_typed(trainlab, text):
    answer = trainlab(*_TINY, text)
    assert answer.code == 2
    assert f"type {typed(*text.split('=', 1))}." in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("~stop", "~stop: a recipe has all of its parts"),
        ("~seed", "none can be taken out"),
        ("~dataset", "none can be taken out"),
        ("~arch.hidden", "none can be taken out"),
        ("~hydra/launcher", "none can be taken out"),
        ("~nothing", "'nothing' does not exist"),
        ("{", "Cannot read '{'"),
        ("quiet=é", "Cannot read 'quiet=é'"),
        ("=3", "Cannot read '=3'"),
        ("~", "Cannot read '~'"),
        ("seed=${oc.env:NO_SUCH}", "seed: Environment variable 'NO_SUCH' not found"),
        ("seed=${nowhere}", "seed: Interpolation key 'nowhere' not found"),
        ("seed=abc", "seed=abc: must be a whole number"),
        ("study=null", "study=None: must be a text"),
        ("optimizer.lr=1e999", "must be a number >= 0"),
        ("--nope", "unrecognized arguments: --nope"),
        ("-c x", "invalid choice: 'x'"),
    ],
)
def test_what_cannot_be_read_is_one_paragraph(trainlab, words, told):
    answer = trainlab(*_TINY, *words.split())
    assert answer.code == 2
    assert told in answer.err
    assert len(answer.err.splitlines()) == 1
    assert "Error" not in answer.err
    assert "Exception" not in answer.err


def test_values_become_what_the_setting_takes(monkeypatch):
    monkeypatch.setenv("SEED", "7")
    monkeypatch.setenv("QUIET", "true")
    monkeypatch.setenv("UNTIL", "null")
    overrides = ["study=1e5", "name=007", "seed=${oc.env:SEED}", "optimizer.lr=${oc.env:SEED}"]
    config = compose([*overrides, "quiet=${oc.env:QUIET}", "until=${oc.env:UNTIL}"])
    assert (config["study"], config["name"]) == ("1e5", "007")
    assert (config["seed"], config["optimizer"]["lr"]) == (7, 7)
    assert (config["quiet"], config["until"]) == (True, None)


def test_paths_are_no_overrides(trainlab, folder):
    rows = "".join(f"{i},{i % 7},{i % 3}\n" for i in range(60))
    (folder / "it's (1), a=b.csv").write_text("a,b,y\n" + rows)
    data = [typed("dataset.path", "it's (1), a=b.csv"), "dataset=csv", "dataset.target=y"]
    words = [word for text in data for word in shlex.split(text)]
    answer = trainlab(*_TINY, *words, "output_dir='lr=[0.1], x'")
    assert answer.code == 0, answer.err
    run = str(answer.path)
    assert run.startswith("lr=[0.1], x/")
    answer = trainlab("eval", run, "--data", "it's (1), a=b.csv")
    assert answer.code == 0, answer.err
    answer = trainlab("predict", run, "--input", "it's (1), a=b.csv", "--output", "p=1.csv")
    assert answer.code == 0, answer.err
    answer = trainlab("export", run, "--format", "safetensors", "--output", "a=[b].safetensors")
    assert answer.code == 0, answer.err
    for verb in ("table", "report", "effects"):
        answer = trainlab(verb, "lr=[0.1], x")
        assert answer.code == (2 if verb == "effects" else 0), answer.err
    (folder / "lr=[0.1], x").rename("--x")
    answer = trainlab("table", "--csv", "--", "--x")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("loss=focal", "focal"),
        ("schedule=[a,b]", "schedule"),
        ("task=regression", "regression"),
        ("dataset=csv dataset.path=none.csv dataset.target=y", "none.csv"),
        ("norm=batch batch_size=1", "batch"),
        ("device=cuda:99", "cuda:99"),
    ],
)
def test_a_dry_run_refuses_what_training_refuses(trainlab, folder, words, told):
    trained = trainlab(*_TINY, *words.split(), "output_dir=trained")
    answer = trainlab(*_TINY, *words.split(), "--dry-run")
    assert (trained.code, answer.code) == (2, 2)
    assert told in answer.out + answer.err
    assert not (folder / "outputs").exists()


def test_a_dry_run_of_a_sweep_tells_which_recipes_cannot_be_trained(trainlab, folder):
    sweep = [
        "-m",
        "arch=mlp,unet",
        'name="a (b)"',
        "seed=0,1",
        "--dry-run",
        "hydra.mode=MULTIRUN",
    ]
    answer = trainlab("train", "-q", "max_examples=60", *sweep)
    assert answer.code == 1, answer.err
    assert [line.split()[0] for line in answer.out.splitlines()].count("refuse") == 2
    assert "'name=\"a (b)\"'" in answer.out
    assert "2 runs to train" in answer.out
    assert "2 cannot be trained" in answer.out
    assert not (folder / "outputs").exists()
