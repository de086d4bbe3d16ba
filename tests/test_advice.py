"""Combinations known to be wrong warn once, with the reason and the override to try."""

import pytest

from trainlab import advice, data, prepare
from trainlab.config import UserError, compose
from trainlab.prepare import pick_device
from trainlab.step import rehearse

DEEP = "arch.hidden=[9,9,9,9,9,9,9,9,9,9]"
EXACT = ["norm=batch", "batch_size=all"]

WRONG = [
    (["act=selu", "init=he_normal"], "try init=lecun_normal"),
    (["act=selu", "preprocess=none"], "try preprocess=standardize"),
    (["act=selu", "reg=dropout"], "try reg.dropout=0"),
    (["act=selu", "norm=batch"], "try norm=none"),
    (["arch=cnn", "norm=batch", "batch_size=1"], "refused"),
    (EXACT, "try norm.exact=true"),
    (["act=sigmoid", DEEP], "try act=relu or norm=batch"),
    (["act=step", "act.straight_through=false"], "try act.straight_through=true"),
    (["init=zeros"], "try init=auto"),
    (["arch=linear", "norm=batch"], "norm=batch has no effect"),
    (["norm=instance"], "norm=instance has no effect"),
    (["norm.fold=true"], "try norm=batch"),
    (["reg=spatial_dropout"], "try reg.spatial_dropout=0"),
    (["arch=linear", "reg=dropout"], "try reg.dropout=0"),
    (["schedule.warmup=20"], "try schedule.warmup=2"),
    (["optimizer=lbfgs"], "try batch_size=all"),
    (["optimizer=rprop"], "try batch_size=all"),
    (["norm=batch", "batch_size=5000"], "try norm.exact=true"),
    (["norm=batch", "optimizer=schedule_free"], "try norm.exact=true"),
    (["norm=batch", "norm.fold=true", "norm.place=after"], "try norm.place=before"),
    (["arch=linear", "norm=batch", "norm.fold=true"], "norm=batch has no effect"),
    (["norm=spectral", "reg=l2"], "try norm=none"),
    (["negatives=9"], "try loss=negative_sampling"),
]

RIGHT = [
    [],
    ["act=selu", "init=lecun_normal", "preprocess=standardize"],
    ["act=selu"],  # init=auto and the default preprocessing
    [*EXACT, "norm.exact=true"],
    ["act=sigmoid"],
    ["act=sigmoid", DEEP, "norm=layer"],
    ["act=step"],
    ["arch=linear", "init=zeros"],
    ["arch=cnn", "norm=instance", "reg=spatial_dropout"],
    ["arch=cnn", "norm=group", "batch_size=1"],
    ["optimizer=lbfgs", "batch_size=all"],
    ["schedule.warmup=5"],
    ["norm=batch", "norm.fold=true"],
    ["norm=weight", "reg=[l2,max_norm]"],
    ["act=selu", "arch=cnn", "reg=spatial_dropout"],
    ["dataset=toy_corpus", "arch=cbow", "loss=negative_sampling", "negatives=9"],
    ["dataset=pair", "arch=multi_input"],
    ["dataset=pair", "arch=multi_input", "preprocess=[center,minmax]"],
    ["dataset=tags", "arch=ensemble"],
    ["task=reconstruction", "arch=autoencoder"],
]


def advised(typed):
    config = compose(["max_examples=200", *typed])
    examples = data.prepare(data.read(config), config, pick_device("cpu"))
    model = prepare.build_model(config, examples)
    advice.refuse(config, model, examples)
    rehearse([config], [model], examples, pick_device("cpu"))
    return list(advice.warnings(config, model, examples))


@pytest.mark.parametrize(("typed", "remedy"), WRONG, ids=lambda v: "+".join(v))
def test_wrong_ones_are_told(typed, remedy):
    if remedy == "refused":
        with pytest.raises(UserError, match="batches of one example"):
            advised(typed)
        return
    (warning,) = advised(typed)
    assert remedy in warning


@pytest.mark.parametrize("typed", RIGHT, ids=lambda v: "+".join(v) or "default")
def test_right_ones_are_silent(typed):
    assert advised(typed) == []


@pytest.mark.parametrize("remedy", [r for _, r in WRONG if r.startswith("try ")])
def test_what_to_try_can_be_typed(remedy):
    for override in remedy.removeprefix("try ").split(" or "):
        compose(["act=step", override] if override.startswith("act.") else [override])


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["dataset=diabetes", "reg=label_smoothing"], "needs classes"),
        (["optimizer=muon", "precision=fp16"], "Use bf16 or fp32"),
        (["augment=[mixup,cutmix]"], "mixed already"),
        (["lr_multipliers={foo:1}"], "no parameter is called foo"),
        (["schedule=piecewise", "schedule.at=[3,1]"], "schedule"),
        (["augment=cutmix", "dataset=moons"], "cutmix"),
        (["optimizer=lbfgs", "lr_multipliers={1.*:0.5}"], "LBFGS"),
        (["preprocess=[scale,scale]"], "used once"),
        (["schedule=plateau", "schedule.monitor=val_los"], "Did you mean val_loss"),
        (["arch=unet"], "unet is for segmentation.* is classification.*, or arch=cnn or ensemble"),
        (["arch=multi_label"], "arch=multi_label is for multi_label, and .* is classification"),
        (["dataset=shapes", "arch=cnn"], "is segmentation. Use other data, or arch=unet"),
        (["dataset=toy_corpus"], "arch=mlp is for .*, or arch=cbow or skipgram"),
        (["task=reconstruction"], "or arch=autoencoder"),
        (["dataset=pair", "arch=multi_input", "preprocess=pca"], "preprocess=pca mixes"),
        (
            ["dataset=pair", "arch=multi_input", "preprocess=[standardize,zca_whiten]"],
            "standardize.zca_whiten mixes .* such as preprocess=standardize",
        ),
    ],
)
def test_impossible_ones_are_refused(typed, says):
    with pytest.raises(UserError, match=says):
        advised(typed)


def test_an_architecture_of_the_users_may_be_for_anything_unless_it_says_what_for(
    tmp_path, monkeypatch
):
    (tmp_path / "conf" / "arch").mkdir(parents=True)
    for name in ("says_nothing", "says_words"):
        (tmp_path / "conf" / "arch" / f"{name}.yaml").write_text(f"_target_: theirs.{name}\n")
    (tmp_path / "theirs.py").write_text(
        "from torch import nn\nfrom trainlab.architectures import gives\n"
        "def says_nothing(inputs, outputs, block): return nn.Conv2d(inputs[0], outputs, 1)\n"
        "says_words = gives('words')(lambda **sizes: says_nothing(**sizes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    typed = ["dataset=shapes", "trusted=[theirs]"]
    assert advised([*typed, "arch=says_nothing"]) == []
    with pytest.raises(UserError, match="arch=says_words is for words"):
        advised([*typed, "arch=says_words"])


def test_a_sweep_warns_once_and_every_log_has_it(trainlab):
    answer = trainlab(
        "train", "-m", "act=selu", "init=he_normal", "seed=0,1", "epochs=1,2", "max_examples=100"
    )
    assert answer.err.count("try init=lecun_normal") == 1
    logs = list(answer.path.glob("*/log.txt"))
    assert len(logs) == 4
    assert all("try init=lecun_normal" in log.read_text() for log in logs)
