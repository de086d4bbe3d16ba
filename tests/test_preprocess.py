"""Preprocessing against scikit-learn on the same arrays. Every option has a case here."""

import importlib
import inspect
import io
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from scipy import linalg
from scipy.stats import special_ortho_group
from sklearn import preprocessing as sk
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from torch import Tensor

from trainlab import preprocess
from trainlab.config import CONF, UserError, compose, options
from trainlab.data import prepare, read
from trainlab.preprocess import About, Chain, check_finite, fit

NAN = float("nan")


def find(address):
    module, _, name = address.rpartition(".")
    return getattr(importlib.import_module(module), name)


def step(group_option, **settings):
    """The function that an option's file names, with the file's settings or these."""
    file = yaml.safe_load((CONF / f"{group_option}.yaml").read_text(encoding="utf-8"))
    return partial(find(file.pop("_target_")), **(file | settings))


def steps(*names):
    return [step(f"preprocess/{name}") for name in names]


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def table():
    """Correlated columns of different scale; the last two constant."""
    varying = random(60, 5) @ torch.tensor(np.vander([1.0, 2, 3, 4, 5], 5) / 100).float() + 3
    return torch.cat([varying, torch.full((60, 1), 0.1), torch.full((60, 1), -2e5)], 1)


def gaps():
    """Small whole numbers, so that some are equally frequent, with a fifth of them missing."""
    x = (random(60, 5) * 2).round()
    return x.masked_fill(random(2, 60, 5)[1] > 0.84, NAN)


def codes():
    """Columns 1 and 3 are codes of 4 and 2 categories, with gaps; 0 and 2 are numbers."""
    x = random(60, 4) * 3
    place = torch.arange(60)
    x[:, 1], x[:, 3] = (place * 7 % 4) * (place < 55) + 9.0 * (place >= 55), place * 5 % 2
    x[::9, 1] = NAN
    return x


def images():
    return random(60, 3, 4, 5) * torch.tensor([1.0, 4, 9]).view(3, 1, 1) + 2


# ---------------------------------------------------------------- the same numbers


def scikit(estimator):
    def expected(train, rest):
        return estimator.fit(train).transform(rest)

    return expected


def per_channel(estimator):
    """One row per pixel, one column per channel."""

    def expected(train, rest):
        rows = [part.transpose(0, 2, 3, 1).reshape(-1, 3) for part in (train, rest)]
        done = estimator.fit(rows[0]).transform(rows[1])
        return done.reshape(-1, 4, 5, 3).transpose(0, 3, 1, 2)

    return expected


def principal(whiten=False, eps=0.0, components=None):
    """With the sign that makes the largest entry of each direction positive."""

    def expected(train, rest):
        theirs = PCA(components, whiten=whiten, svd_solver="full").fit(
            train.reshape(len(train), -1)
        )
        directions, variances = theirs.components_, theirs.explained_variance_
        signs = np.sign([row[np.abs(row).argmax()] for row in directions])
        less = np.sqrt(variances / (variances + eps))
        return theirs.transform(rest.reshape(len(rest), -1)) * signs * less

    return expected


def zca(eps):
    """(C + ε)^(−1/2), C the covariance, in float64."""

    def expected(train, rest):
        train, flat = train.reshape(len(train), -1), rest.reshape(len(rest), -1)
        covariance = np.cov(train, rowvar=False) + eps * np.eye(train.shape[1])
        root = linalg.sqrtm(covariance)
        return np.linalg.solve(root, (flat - train.mean(0)).T).T.reshape(rest.shape)

    return expected


def by_column(number, first, second):
    """Columns 0 and 2 of `codes` are numbers, 1 and 3 codes; each result in the column's place."""
    return scikit(
        make_column_transformer((number, [0]), (first, [1]), (number, [2]), (second, [3]))
    )


def one_hot(*categories):
    return sk.OneHotEncoder(categories=[categories], handle_unknown="ignore", sparse_output=False)


def filled(then, strategy="mean"):
    return make_pipeline(SimpleImputer(strategy=strategy), then)


TABLE, CODES, NAMED = About(), About(categorical=(1, 3)), About(columns=("width", "height"))
of_type = sk.MinMaxScaler().fit([[-4.0] * 7, [12.0] * 7])
CASES = [
    ("scale", {}, table, About(-4.0, 12.0), lambda train, rest: of_type.transform(rest)),
    ("center", {}, table, TABLE, scikit(sk.StandardScaler(with_std=False))),
    ("standardize", {}, table, TABLE, scikit(sk.StandardScaler())),
    ("minmax", {}, table, TABLE, scikit(sk.MinMaxScaler())),
    ("symmetric", {}, lambda: table()[:, :5], TABLE, scikit(sk.MinMaxScaler((-1, 1)))),
    ("channel_center", {}, images, TABLE, per_channel(sk.StandardScaler(with_std=False))),
    ("channel_standardize", {}, images, TABLE, per_channel(sk.StandardScaler())),
    ("pca", {}, lambda: random(60, 5), TABLE, principal()),
    ("pca", {"components": 3}, table, TABLE, principal(components=3)),
    ("pca", {"components": 0.9}, lambda: random(60, 9), TABLE, principal(components=0.9)),
    ("pca", {"components": 0.999999}, lambda: random(60, 2), TABLE, principal(components=2)),
    ("pca", {"components": 7}, images, TABLE, principal(components=7)),
    ("pca", {}, images, TABLE, principal(components=29)),  # of 30 examples
    ("pca_whiten", {"eps": 0.0}, lambda: random(60, 5), TABLE, principal(whiten=True)),
    ("pca_whiten", {"eps": 0.3}, lambda: random(60, 5), TABLE, principal(whiten=True, eps=0.3)),
    ("zca_whiten", {"eps": 0.0}, lambda: random(60, 5), TABLE, zca(0.0)),
    ("zca_whiten", {"eps": 0.3}, lambda: images()[:, :, :2, :3], TABLE, zca(0.3)),
    *(
        ("impute", {"strategy": s, "value": 7.5}, gaps, TABLE, scikit(
            SimpleImputer(strategy=s, fill_value=7.5 if s == "constant" else None)
        ))
        for s in ("mean", "median", "constant", "most_frequent")
    ),
    ("one_hot", {}, codes, CODES, by_column("passthrough", one_hot(0, 1, 2, 3), one_hot(0, 1))),
    ("auto", {}, codes, CODES, by_column(
        filled(sk.StandardScaler()),
        filled(one_hot(0, 1, 2, 3), "most_frequent"),
        filled(one_hot(0, 1), "most_frequent"),
    )),
    ("auto", {}, table, TABLE, scikit(sk.StandardScaler())),
    ("auto", {}, gaps, TABLE, scikit(filled(sk.StandardScaler()))),
    ("auto", {}, images, TABLE, per_channel(sk.StandardScaler())),
]  # fmt: skip


def test_every_option_has_a_case():
    assert {case[0] for case in CASES} == set(options("preprocess")) - {"none"}


@pytest.mark.parametrize(("option", "settings", "inputs", "about", "expected"), CASES)
def test_equals_the_reference_fitted_on_the_training_part(
    option, settings, inputs, about, expected
):
    x = inputs()
    train, rest = x[:30], x[30:]
    transform = step(f"preprocess/{option}", **settings)(train, about)
    for part in (train, rest):
        wanted = expected(train.double().numpy(), part.double().numpy())
        ours = transform(part)
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours, wanted, atol=2e-4, rtol=1e-4)
        stacked = transform(part.view(3, 10, *part.shape[1:]))  # (R, B, *shape)
        torch.testing.assert_close(stacked.flatten(0, 1), ours, equal_nan=True)


# ---------------------------------------------------------------- what the formulas promise


def test_whitened_inputs_have_covariance_1_and_zca_is_the_nearest_of_them():
    x = random(200, 3, 2, 2) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]])
    flat = (x - x.mean(0)).flatten(1)
    zca, pca = (step(f"preprocess/{o}", eps=0.0)(x, About()) for o in ("zca_whiten", "pca_whiten"))
    assert zca(x).shape == x.shape
    for y in (zca(x).flatten(1), pca(x)):
        torch.testing.assert_close(y.T.cov(), torch.eye(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(zca.matrix, zca.matrix.T)
    nearest = (zca(x).flatten(1) - flat).square().sum()
    for seed in range(20):
        turn = torch.from_numpy(special_ortho_group.rvs(12, random_state=seed)).float()
        assert (zca(x).flatten(1) @ turn - flat).square().sum() > nearest


@pytest.mark.parametrize("option", ["pca", "pca_whiten", "zca_whiten"])
def test_directions_without_variance_neither_count_nor_blow_up(option):
    x = random(50, 6)
    x[:, 4], x[:, 5] = x[:, 0] + x[:, 1], 3.0  # rank 4
    settings = {} if option == "pca" else {"eps": 0.0}
    transform = step(f"preprocess/{option}", **settings)(x[:40], About())
    assert torch.linalg.matrix_rank(transform.matrix, rtol=1e-3) == 4
    unseen = x[40:] + torch.tensor([0, 0, 0, 0, 0, 1.0])  # a feature that was constant moves
    assert transform(unseen).abs().max() < 10
    if option != "zca_whiten":
        assert transform(x).shape == (50, 4)
        with pytest.raises(UserError, match="vary in 4 directions"):
            step(f"preprocess/{option}", components=5)(x, About())


def test_the_covariance_of_many_examples_is_summed_in_parts():
    x = random(10_000, 3) @ torch.tensor([[1.0, 2, 3], [0, 1, 1], [0, 0, 0.1]]) + 100
    expected = principal()(x.double().numpy(), x.double().numpy())
    np.testing.assert_allclose(step("preprocess/pca")(x, About())(x), expected, atol=1e-3)


@pytest.mark.parametrize("option", ["standardize", "channel_standardize", "minmax", "symmetric"])
def test_what_is_constant_becomes_0_and_is_not_scaled(option):
    x = torch.full((70, 2, 3, 3) if "channel" in option else (70, 1), 0.1)
    transform = step(f"preprocess/{option}")(x, About())
    for moved in (0.0, 1.0):  # the deviation of 70 times 0.1 is rounded to 7e-9
        expected = torch.full_like(x, moved)
        torch.testing.assert_close(transform(x + moved), expected, atol=1e-6, rtol=0)


# ---------------------------------------------------------------- several in a row


def test_the_order_says_whether_indicators_are_scaled():
    x = codes()
    before, after = (
        fit(steps("impute", *order), x, CODES)(x)
        for order in (("standardize", "one_hot"), ("one_hot", "standardize"))
    )
    assert before.shape == after.shape == (60, 2 + 5 + 2)
    indicators = [1, 2, 3, 4, 5, 7, 8]
    assert before[:, indicators].unique().tolist() == [0.0, 1.0]
    torch.testing.assert_close(before[:, [0, 6]], after[:, [0, 6]])
    torch.testing.assert_close(after.mean(0), torch.zeros(9), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std(0, correction=0), torch.ones(9))


@pytest.mark.parametrize("option", ["scale", "center", "standardize", "minmax", "symmetric"])
def test_scaling_leaves_codes_alone(option):
    x = codes()
    done = step(f"preprocess/{option}")(x[:, [0, 3]].contiguous(), About(-9.0, 9.0, (1,)))
    y = done(x[:, [0, 3]])
    assert torch.equal(y[:, 1], x[:, 3])
    assert not torch.equal(y[:, 0], x[:, 0])


def test_a_missing_or_unknown_category_is_all_zeros():
    transform = step("preprocess/one_hot")(
        torch.tensor([[0.0], [2.0], [NAN]]), About(None, None, (0,))
    )
    assert transform(torch.tensor([[0.0], [1.0], [2.0], [NAN]])).tolist() == [
        [1, 0], [0, 0], [0, 1], [0, 0],
    ]  # fmt: skip


def test_every_step_is_told_what_is_left():
    told = []

    def listen(x, about):
        told.append(about)
        return Chain(())

    def double_codes(x, about):
        return lambda x: x * torch.tensor([1.0, 2.0, 1.0, 1.0])

    def drop_codes(x, about):
        return lambda x: x[:, :1]

    def swap_codes(x, about):
        return lambda x: x[:, [3, 1, 2, 0]]

    impute, one_hot = steps("impute", "one_hot")
    about = About(0.0, 9.0, (1, 3))
    fit([listen, impute, listen, double_codes, listen, swap_codes, listen], codes(), about)
    fit([impute, drop_codes, listen], codes(), about)
    fit([one_hot, listen], torch.zeros(5, 2), About(categorical=(1,)))
    assert told == [
        about,
        About(categorical=(1, 3)),
        About(categorical=(3,)),
        About(),
        About(),
        About(),  # a single code: the shape is as before one_hot, the codes are not there any more
    ]


def test_every_step_is_fitted_on_what_the_one_before_gives():
    x = table()[:, :5]
    chain = fit([*steps("minmax", "center"), step("preprocess/pca", components=2)], x, About())
    theirs = make_pipeline(sk.MinMaxScaler(), sk.StandardScaler(with_std=False)).fit_transform(x)
    np.testing.assert_allclose(chain(x), principal(components=2)(theirs, theirs), atol=1e-5)
    assert torch.equal(fit([], x, About())(x), x)


def test_auto_fills_in_also_what_is_missing_outside_the_training_part():
    x = codes()
    train, rest = x[~x.isnan().any(1)], x[x.isnan().any(1)]
    assert step("preprocess/auto")(train, CODES)(rest).isfinite().all()


# ---------------------------------------------------------------- saving


class Shift(NamedTuple):
    """A user's own transform, with all that a field may be."""

    by: float
    names: list
    axes: tuple
    also: Tensor

    def __call__(self, x):
        return x + self.by + self.also


def saved_and_loaded(transform):
    file = io.BytesIO()
    torch.save(preprocess.state(transform), file)
    file.seek(0)
    return preprocess.load(torch.load(file, weights_only=True), [__name__])


@pytest.mark.parametrize(("option", "settings", "inputs", "about", "expected"), CASES)
def test_comes_back_bit_identical(option, settings, inputs, about, expected):
    x = inputs()
    transform = step(f"preprocess/{option}", **settings)(x[:30], about)
    loaded = saved_and_loaded(transform)
    assert type(loaded) is type(transform)
    torch.testing.assert_close(loaded(x), transform(x), rtol=0, atol=0, equal_nan=True)


def test_a_users_own_transform_comes_back_inside_a_chain():
    own = Shift(0.5, ["a", 1, None], (2, (3.0,)), torch.tensor([1.0, 2.0]))
    chain = Chain((own, Chain((own,))))
    loaded = saved_and_loaded(chain)
    assert loaded.steps[0][:3] == own[:3]
    assert torch.equal(loaded(torch.zeros(3, 2)), chain(torch.zeros(3, 2)))


# ---------------------------------------------------------------- what a user is told


@pytest.mark.parametrize(
    ("names", "inputs", "about", "message"),
    [
        (["scale"], table, About(), "minmax"),
        (["center", "scale"], table, About(0.0, 1.0), "first step"),
        (["channel_center"], table, About(), "needs images.*(7,).*preprocess=center"),
        (["channel_standardize"], table, About(), "needs images.*preprocess=standardize"),
        (["pca"], codes, CODES, r"columns 1, 3.*\[one_hot,pca\]"),
        (["zca_whiten"], codes, CODES, r"\[one_hot,zca_whiten\]"),
        ([], gaps, About(), r"missing .*preprocess=\[impute,…\]"),
        (["one_hot", "pca"], gaps, About(), "impute"),
        (["standardize", "impute"], gaps, About(), "impute as the first step"),
        (["minmax"], lambda: torch.tensor([[1.0], [torch.inf]]), About(), "infinite"),
        (["impute"], lambda: torch.tensor([[1.0, NAN]]), About(), r"column 1 \(counted from 0\)"),
        (["impute"], lambda: torch.full((2, 9), NAN), About(), "columns 0, 1, 2, 3, 4, … "),
        (["impute"], lambda: torch.tensor([[1.0, NAN]]), NAMED, r"value in column height\. Leave"),
        (["standardize", "impute"], lambda: torch.tensor([[1.0, NAN]]), NAMED, "in column height"),
        (["pca"], lambda: torch.tensor([[1.0, NAN]]), NAMED, "values in column height"),
        (["pca"], lambda: torch.ones(2, 2), NAMED._replace(categorical=(0,)), "in column width"),
        (["center", "pca"], lambda: torch.ones(2, 2), NAMED._replace(categorical=(0,)), "width"),
    ],
)
def test_refuses(names, inputs, about, message):
    with pytest.raises(UserError, match=message):
        check_finite(fit(steps(*names), inputs(), about)(inputs()))


# ---------------------------------------------------------------- typed


@pytest.mark.parametrize(
    ("group", "option"),
    [(group, option) for group in ("preprocess", "augment") for option in options(group)],
)
def test_options_combine_and_agree_with_their_function(group, option):
    path = CONF / group / f"{option}.yaml"
    if option == "none":
        assert not yaml.safe_load(path.read_text(encoding="utf-8"))
        return
    assert path.read_text(encoding="utf-8").startswith(f"# @package {group}.{option}\n")
    filled_in = step(f"{group}/{option}")
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(filled_in.func).parameters.items()
        if parameter.default is not parameter.empty
    }
    assert filled_in.keywords == defaults


def test_validation_and_test_data_do_not_enter_the_fit():
    config = compose(["preprocess=[center,standardize]"])
    data = prepare(read(config), config, torch.device("cpu"))
    train = data.x[data.splits["train"]]
    varying = train.std(0, correction=0) > 0
    torch.testing.assert_close(train.mean(0), torch.zeros_like(train[0]), atol=1e-5, rtol=0)
    spread = train.std(0, correction=0)[varying]
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=1e-5, rtol=0)
    assert data.x[data.splits["test"]].mean(0).abs().max() > 1e-3


def test_typed_settings_reach_the_step():
    config = compose(["preprocess=[standardize,pca]", "preprocess.pca.components=20"])
    assert prepare(read(config), config, torch.device("cpu")).shape == (20,)
