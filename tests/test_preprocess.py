"""Preprocessing against scikit-learn on the same arrays."""

import numpy as np
import pytest
import torch
from sklearn import preprocessing as sk

from trainlab import preprocess
from trainlab.config import UserError, compose
from trainlab.data import prepare, read


@pytest.fixture
def x():
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * torch.arange(7) + 3
    return torch.cat([x, torch.full((50, 1), 2.0)], 1)  # the first and last features are constant


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (preprocess.center, sk.StandardScaler(with_std=False)),
        (preprocess.standardize, sk.StandardScaler()),
        (preprocess.minmax, sk.MinMaxScaler()),
    ],
)
def test_equals_scikit_learn_and_is_fitted_on_the_training_part(x, ours, theirs):
    train, rest = x[:30], x[30:]
    transform, theirs = ours(train, (None, None)), theirs.fit(train.numpy())
    for part in (train, rest):
        np.testing.assert_allclose(transform(part), theirs.transform(part.numpy()), atol=1e-5)


def test_scale_uses_the_range_of_the_type():
    transform = preprocess.scale(torch.tensor([[0.0, 16.0]]), (0.0, 16.0))
    assert transform(torch.tensor([[8.0, 16.0]])).tolist() == [[0.5, 1.0]]
    with pytest.raises(UserError, match="minmax"):
        preprocess.scale(torch.zeros(1, 1), (None, None))


def test_channels_of_images_are_standardized_over_all_pixels():
    images = torch.randn(40, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 4 + 2
    columns = images.permute(0, 2, 3, 1).reshape(-1, 3)  # one row per pixel, one column per channel
    theirs = sk.StandardScaler().fit_transform(columns.numpy())
    for ours in (preprocess.channel_standardize, preprocess.auto):
        done = ours(images, (None, None))(images)
        np.testing.assert_allclose(done.permute(0, 2, 3, 1).reshape(-1, 3), theirs, atol=1e-5)


def test_channels_need_images_and_auto_takes_the_features_of_everything_else(x):
    with pytest.raises(UserError, match="needs images"):
        preprocess.channel_standardize(x, (None, None))
    transform = preprocess.auto(x, (None, None))
    np.testing.assert_allclose(transform(x), sk.StandardScaler().fit_transform(x), atol=1e-5)


def test_validation_and_test_data_do_not_enter_the_fit():
    config = compose(["preprocess=standardize"])
    data = prepare(read(config), config, torch.device("cpu"))
    train = data.x[data.splits["train"]]
    varying = train.std(0, correction=0) > 0
    torch.testing.assert_close(train.mean(0), torch.zeros_like(train[0]), atol=1e-5, rtol=0)
    spread = train.std(0, correction=0)[varying]
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=1e-5, rtol=0)
    assert data.x[data.splits["test"]].mean(0).abs().max() > 1e-3
