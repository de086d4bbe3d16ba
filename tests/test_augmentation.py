"""Augmentation against one example at a time in numpy. Every option has an entry here."""

from functools import partial

import numpy as np
import pytest
import torch
import yaml
from scipy import stats

from trainlab import augmentation, streams
from trainlab.config import CONF, UserError, options

R, B, C, H, W = 3, 40, 2, 9, 12


class Drawn:
    """`draw` of trainlab.streams, which keeps what it has drawn as numpy."""

    def __init__(self, runs=range(R), step=0):
        self.keys = torch.tensor([streams.seed_of(run, "augment") for run in runs])
        self.step, self.given = step * 100, []

    def __call__(self, shape):
        self.step += 1
        u = streams.uniform(self.keys, self.step, shape)
        self.given.append(u.numpy())
        return u


class Fixed:
    """`draw` that gives these numbers, one after the other, everywhere."""

    def __init__(self, *numbers, runs=R):
        self.numbers, self.runs = iter(numbers), runs

    def __call__(self, shape):
        return torch.full((self.runs, *shape), next(self.numbers))


LAST = 1 - 2.0**-24  # the largest number that is drawn


def images(runs=R, batch=B, shape=(C, H, W)):
    return torch.randn(runs, batch, *shape, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- one example at a time


def flipped(x, given, horizontal, vertical):
    top_to_bottom, left_to_right = given
    y = x.copy()
    for r, b in np.ndindex(x.shape[:2]):
        if top_to_bottom[r, b] < vertical:
            y[r, b] = y[r, b, :, ::-1]
        if left_to_right[r, b] < horizontal:
            y[r, b] = y[r, b, :, :, ::-1]
    return y


def cropped(x, given, padding):
    y = np.zeros_like(x)
    for r, b in np.ndindex(x.shape[:2]):
        padded = np.pad(x[r, b], ((0, 0), (padding, padding), (padding, padding)))
        top, left = (int(np.floor(np.float64(u[r, b]) * (2 * padding + 1))) for u in given)
        y[r, b] = padded[:, top : top + x.shape[-2], left : left + x.shape[-1]]
    return y


def box(u_row, u_column, height, width, shape):
    inside = np.zeros(shape, bool)
    top = int(np.float64(u_row) * shape[0]) - height // 2
    left = int(np.float64(u_column) * shape[1]) - width // 2
    inside[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    return inside


def covered(x, given, size):
    y = x.copy()
    for r, b in np.ndindex(x.shape[:2]):
        y[r, b][:, box(given[0][r, b], given[1][r, b], size, size, x.shape[-2:])] = 0
    return y


def mixed_up(x, given, alpha):
    y = np.empty_like(x)
    for r in range(len(x)):
        λ = stats.beta.ppf(given[0][r, 0], alpha, alpha)
        y[r] = λ * x[r] + (1 - λ) * x[r][np.argsort(given[1][r])]
    return y


def cut_and_mixed(x, given, alpha):
    y = x.copy()
    for r in range(len(x)):
        λ = stats.beta.ppf(given[0][r, 0], alpha, alpha)
        height, width = (int(length * np.sqrt(1 - λ)) for length in x.shape[-2:])
        inside = box(given[1][r, 0], given[2][r, 0], height, width, x.shape[-2:])
        y[r][:, :, inside] = x[r][np.argsort(given[3][r])][:, :, inside]
    return y


SLOW = {
    "flip": (flipped, [{}, {"horizontal": 0.3, "vertical": 0.8}]),
    "crop": (cropped, [{}, {"padding": 0}, {"padding": 1}, {"padding": 20}]),
    "cutout": (covered, [{}, {"size": 1}, {"size": 5}, {"size": 100}]),
    "mixup": (mixed_up, [{}, {"alpha": 1.0}, {"alpha": 8.0}]),
    "cutmix": (cut_and_mixed, [{}, {"alpha": 0.2}]),
}
CASES = [(option, settings) for option, (_, several) in SLOW.items() for settings in several]


def test_every_option_has_an_entry():
    assert set(SLOW) == set(options("augment")) - {"none"}


def option(name, **settings):
    """The function that an option's file names, with the file's settings or these."""
    file = yaml.safe_load((CONF / "augment" / f"{name}.yaml").read_text(encoding="utf-8"))
    function = getattr(augmentation, file.pop("_target_").removeprefix("trainlab.augmentation."))
    return partial(function, **(file | settings))


def tensors(result):
    return result if isinstance(result, augmentation.Mixed) else (result,)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_equals_one_example_at_a_time(name, settings):
    for step in range(5):
        x, draw = images(), Drawn(step=step)
        augment = option(name, **settings)
        done = tensors(augment(x, draw))[0]
        expected = SLOW[name][0](x.numpy(), draw.given, **augment.keywords)
        exact = name != "mixup"
        np.testing.assert_allclose(done, expected, rtol=0, atol=0 if exact else 2e-5)
        assert torch.equal(x, images())  # the batch itself is not written to


@pytest.mark.parametrize("name", SLOW)
def test_members_equal_their_solo_runs_and_differ_from_each_other(name):
    x = images(1).expand(R, -1, -1, -1, -1)
    together = tensors(option(name)(x, Drawn()))
    for r in range(R):
        alone = tensors(option(name)(x[r : r + 1], Drawn([r])))
        assert all(torch.equal(a[r], b[0]) for a, b in zip(together, alone, strict=True))
    assert not torch.equal(together[0][0], together[0][1])


@pytest.mark.parametrize("name", sorted(set(SLOW) - {"mixup"}))
def test_images_are_needed(name):
    with pytest.raises(UserError, match=rf"augment={name} needs images .*\(7,\)\. .*mixup"):
        option(name)(torch.zeros(R, B, 7), Drawn())


# ---------------------------------------------------------------- moved


@pytest.mark.parametrize(
    ("settings", "axes"),
    [
        ({"horizontal": 0.0}, []),
        ({"horizontal": 1.0}, [-1]),
        ({"horizontal": 0.0, "vertical": 1.0}, [-2]),
        ({"horizontal": 1.0, "vertical": 1.0}, [-1, -2]),
    ],
)
@pytest.mark.parametrize("u", [0.0, LAST])
def test_probabilities_0_and_1_are_certain(settings, axes, u):
    done = option("flip", **settings)(images(), Fixed(u, u))
    assert torch.equal(done, images().flip(axes))


def test_half_of_the_images_are_flipped_independently():
    x = torch.arange(4.0).view(1, 1, 1, 2, 2).expand(1, 10_000, 1, 2, 2)
    done = option("flip", vertical=0.5)(x, Drawn([0]))
    first = (
        done[..., 0, 0].flatten().long()
    )  # 0 as it was, 1 left to right, 2 top to bottom, 3 both
    counts = first.bincount(minlength=4)
    assert ((counts - 2500).abs() < 5 * (10_000 * 0.25 * 0.75) ** 0.5).all(), counts


def test_crops_reach_every_offset_equally():
    x = torch.zeros(1, 10_000, 1, 9, 9)
    x[..., 4, 4] = 1
    places = option("crop", padding=2)(x, Drawn([0])).flatten(-2).argmax(-1).flatten()
    counts = places.bincount(minlength=81).view(9, 9)
    assert counts.sum() == counts[2:7, 2:7].sum()
    assert ((counts[2:7, 2:7] - 400).abs() < 5 * (10_000 / 25) ** 0.5).all(), counts


@pytest.mark.parametrize("size", [1, 2, 3, 9, 17, 28, 32, 224, 1000, 2**20 + 1])
def test_whole_numbers_stay_below_their_count(size):
    assert augmentation._whole(torch.tensor([0.0, LAST]), size).tolist() == [0, size - 1]


# ---------------------------------------------------------------- covered


@pytest.mark.parametrize(
    ("size", "u", "kept"),
    [
        (4, 0.0, (slice(2, None), slice(2, None))),  # the centre in the first pixel
        (4, LAST, (slice(0, -3), slice(0, -3))),  # and in the last
        (3, 0.0, (slice(2, None), slice(2, None))),
        (3, LAST, (slice(0, -2), slice(0, -2))),
    ],
)
def test_a_square_is_clipped_at_the_border(size, u, kept):
    done = option("cutout", size=size)(torch.ones(R, B, C, H, W), Fixed(u, u))
    hole = torch.ones(H, W, dtype=torch.bool)
    rows, columns = kept
    hole[rows] = False
    hole[:, columns] = False
    assert torch.equal(done == 0, hole.expand_as(done))


def test_squares_cover_the_expected_area():
    done = option("cutout", size=8)(torch.ones(1, 20_000, 1, 32, 32), Drawn([0]))
    # Along one axis 8 pixels, but for centres near the border: 4 … 7 before, 5 … 7 after.
    lengths = np.array([4, 5, 6, 7] + [8] * 25 + [7, 6, 5])
    areas = (done == 0).flatten(1, -3).sum((-1, -2)).flatten().double()
    expected = np.outer(lengths, lengths).ravel()
    assert abs(areas.mean() - expected.mean()) < 5 * expected.std() / 20_000**0.5


# ---------------------------------------------------------------- mixed


@pytest.mark.parametrize("shape", [(7,), (C, H, W), ()])
def test_mixup_is_the_formula_for_any_shape(shape):
    x = images(shape=shape)
    mixed = option("mixup", alpha=1.0)(x, Drawn())
    assert mixed.share.shape == (R, 1)
    for r in range(R):
        λ, partner = mixed.share[r].item(), mixed.partner[r]
        assert partner.sort().values.tolist() == list(range(B))
        torch.testing.assert_close(mixed.x[r], λ * x[r] + (1 - λ) * x[r][partner])
    assert not torch.equal(mixed.partner[0], mixed.partner[1])


def test_cutmix_shares_are_the_pixels_really_kept():
    shares = []
    for step in range(50):
        x = torch.arange(R * B * H * W).view(R, B, 1, H, W).float()
        mixed = option("cutmix")(x, Drawn(step=step))
        other = torch.stack([x[r, mixed.partner[r]] for r in range(R)])
        own = mixed.x == x
        assert (own | (mixed.x == other)).all()
        stranger = mixed.partner != torch.arange(B)
        for r in range(R):
            assert mixed.partner[r].sort().values.tolist() == list(range(B))
            kept = own[r, stranger[r]].float().mean((1, 2, 3))
            torch.testing.assert_close(mixed.share[r].expand_as(kept), kept)
            shares.append(kept[0].item())
    assert min(shares) < 0.3
    assert max(shares) > 0.95


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.2, 0.4, 1.0, 2.0, 32.0])
def test_quantiles_of_beta_are_as_exact_as_said(alpha):
    dense, ends = torch.arange(2**9, 2**24, 2**9 + 1), torch.arange(1, 300)
    u = torch.cat([dense, ends, 2**24 - ends]) * 2.0**-24
    exact = stats.beta.ppf(u.double().numpy(), alpha, alpha)
    assert np.abs(augmentation._beta(u, alpha).numpy() - exact).max() < (
        1e-5 if alpha >= 0.1 else 6e-4
    )
    assert augmentation._beta(torch.tensor([0.0, LAST]), alpha).isfinite().all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha):
    mixed = option("mixup", alpha=alpha)(torch.zeros(2000, 2, 1), Drawn(range(2000)))
    assert stats.kstest(mixed.share.flatten(), stats.beta(alpha, alpha).cdf).pvalue > 0.01
