"""Preprocessing: fitted on the training split only, then applied to every split.

A preprocessing is a function `(x, about, **settings) -> transform`: `x` (n, *shape) float32 are the
training inputs. The transform is a NamedTuple of tensors, numbers, texts and tuples or lists of
these, which maps (n, *shape), or (R, B, *shape), to inputs of the model. Several follow each other
in the order typed: `preprocess=[impute,standardize,one_hot]`.

Columns of category codes stay codes until `one_hot`. So it is the order that says whether their
indicators are scaled: after `[standardize,one_hot]` they are 0 and 1, after `[one_hot,standardize]`
of mean 0 and variance 1 like any other feature.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainlab.config import UserError, find, widest


class About(NamedTuple):
    """What the inputs are: the range of the data's type, if it has one, which columns of a table
    (from 0) hold category codes 0, 1, 2, …, and the names of its columns, if they have names."""

    low: float | None = None
    high: float | None = None
    categorical: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()


# ---------------------------------------------------------------- several in a row


class Chain(NamedTuple):
    """One transform after the other."""

    steps: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


def fit(steps: Sequence[Callable[[Tensor, About], Any]], x: Tensor, about: About) -> Chain:
    """Fit each step on what the one before makes of the training inputs `x` (n, *shape).

    Only the first step is told the range of the type.
    """
    fitted = []
    for number, step in enumerate(steps, start=1):
        fitted.append(step(x, about))
        if number < len(steps):
            before, x = x, fitted[-1](x)
            codes = _still_codes(before, x, about.categorical)
            names = about.columns if x.shape == before.shape else ()
            about = About(categorical=codes, columns=names)
    return Chain(tuple(fitted))


def _still_codes(before: Tensor, after: Tensor, columns: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the columns whose codes a step has left as they were (it may fill in missing)."""
    if after.shape != before.shape:
        return ()
    return tuple(c for c in columns if ((after[:, c] == before[:, c]) | before[:, c].isnan()).all())


def check_finite(x: Tensor, where: Callable[[], str] = lambda: "") -> None:
    """Raise UserError, which says `where`, if inputs are missing or infinite."""
    # A sum tells nearly always, and takes a fortieth of the time.
    if not (x.sum().isfinite() or x.isfinite().all()):
        raise UserError(
            f"The inputs have missing (NaN) or infinite values{where()}. Missing ones are filled "
            "in by impute as the first step: preprocess=[impute,…]."
        )


def _check_columns(of_each: Tensor, about: About) -> None:
    """`check_finite` of a statistic `of_each` feature."""
    odd = (~of_each.isfinite()).flatten().nonzero().flatten().tolist()
    check_finite(of_each, lambda: f" in {_columns(odd, about)}" if about.columns else "")


def state(transform: Any) -> Any:
    """A transform as plain dicts and lists, which torch.load reads with weights_only=True.

    >>> state(Affine(torch.tensor(1.0), torch.tensor(2.0)))["_target_"]
    'trainlab.preprocess.Affine'
    """
    if isinstance(transform, Tensor | float | int | str | None):
        return transform
    if not isinstance(transform, list | tuple):
        raise UserError(
            f"A preprocessing has to give a NamedTuple of tensors and numbers, which can be saved; "
            f"this one has a {type(transform).__name__} in it."
        )
    kind, items = type(transform), [state(item) for item in transform]
    if kind in (list, tuple):
        return kind(items)
    # A field of a NamedTuple cannot begin with an underscore.
    address = f"{kind.__module__}.{kind.__qualname__}"
    return {"_target_": address} | dict(zip(kind._fields, items, strict=True))


def load(state: Any, trusted: Sequence[str] = ()) -> Any:
    """The transform of a state, which may be a stranger's: only the transforms of this module are
    made, and those of `trusted` packages."""
    if isinstance(state, list | tuple):
        return type(state)(load(item, trusted) for item in state)
    if not isinstance(state, dict):
        return state
    address = state.get("_target_")
    kind = _transforms().get(address) or find(address, "transform", trusted, "the run's data.pt")
    fields = {key: load(value, trusted) for key, value in state.items() if key != "_target_"}
    try:
        return kind(**fields)
    except TypeError as error:
        raise UserError(f"The run's data.pt is damaged: {address}: {error}.") from error


def _transforms() -> dict[str, type]:
    """The transforms of this module, by their addresses."""
    return {
        f"{__name__}.{kind.__name__}": kind
        for kind in globals().values()
        if isinstance(kind, type) and issubclass(kind, tuple) and "__call__" in vars(kind)
    }


# ---------------------------------------------------------------- shift and scale


class Affine(NamedTuple):
    """x ↦ (x − shift) / scale, per feature, per channel or for all; both broadcast against x."""

    shift: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


def _affine(about: About, shift: Tensor, scale: Tensor) -> Affine:
    """Leaves codes as they are, and what is constant unscaled."""
    codes = list(about.categorical)
    shift[..., codes], scale[..., codes] = 0.0, 1.0
    _check_columns(shift, about)
    return Affine(shift, torch.where(scale == 0, 1.0, scale))


def _mean(x: Tensor, over: Sequence[int]) -> Tensor:
    return x.mean(over, keepdim=True)[0]


def _deviation(x: Tensor, over: Sequence[int]) -> Tensor:
    """The standard deviation; exactly 0 for a constant, whose mean may be rounded."""
    deviation = x.std(over, correction=0, keepdim=True)[0]
    constant = x.amax(over, keepdim=True)[0] == x.amin(over, keepdim=True)[0]
    return deviation.masked_fill(constant, 0.0)


_EXAMPLES, _PIXELS = (0,), (0, 2, 3)  # axes of (n, D) or (n, C, H, W)


def check_images(option: str, shape: Sequence[int], remedy: str) -> None:
    """Raise UserError unless an input is (channels, height, width)."""
    if len(shape) != 3:
        raise UserError(
            f"{option} needs images (channels, height, width), and an input here has shape "
            f"{tuple(shape)}. {remedy}"
        )


def _columns(numbers: Sequence[int], about: About) -> str:
    names = [about.columns[n] if about.columns else str(n) for n in numbers[:5]]
    listed = ", ".join(names) + (", …" if len(numbers) > 5 else "")
    return f"column{'s' * (len(numbers) > 1)} {listed}{' (counted from 0)' * (not about.columns)}"


def scale(x: Tensor, about: About) -> Affine:
    """To [0, 1] by the range of the data's type: bytes by 255, the digits data by 16."""
    if about.low is None or about.high is None:
        raise UserError(
            "preprocess=scale needs data with a range of their own (images of bytes, say), as the "
            "first step; these have none. preprocess=minmax takes the range from the training "
            "split."
        )
    low, high = torch.full_like(x[0], about.low), torch.full_like(x[0], about.high)
    return _affine(about, low, high - low)


def center(x: Tensor, about: About) -> Affine:
    """Mean 0 for each feature: subtracts the mean image."""
    mean = _mean(x, _EXAMPLES)
    return _affine(about, mean, torch.ones_like(mean))


def channel_center(x: Tensor, about: About) -> Affine:
    """Mean 0 for each channel of images (n, C, H, W), as for VGG.

    Simonyan & Zisserman 2014, arXiv:1409.1556.
    """
    check_images("preprocess=channel_center", x.shape[1:], "Use preprocess=center.")
    mean = _mean(x, _PIXELS)
    return _affine(about, mean, torch.ones_like(mean))


def standardize(x: Tensor, about: About) -> Affine:
    """Mean 0 and variance 1 for each feature; equals scikit-learn's StandardScaler."""
    return _affine(about, _mean(x, _EXAMPLES), _deviation(x, _EXAMPLES))


def channel_standardize(x: Tensor, about: About) -> Affine:
    """Mean 0 and variance 1 for each channel of images (n, C, H, W), one scale for all its pixels.

    Unlike `standardize` it does not blow up the pixels that are nearly always black.
    """
    check_images("preprocess=channel_standardize", x.shape[1:], "Use preprocess=standardize.")
    return _affine(about, _mean(x, _PIXELS), _deviation(x, _PIXELS))


def minmax(x: Tensor, about: About) -> Affine:
    """Each feature to [0, 1]; equals scikit-learn's MinMaxScaler. A constant becomes 0."""
    low, high = x.amin(0), x.amax(0)
    return _affine(about, low, high - low)


def symmetric(x: Tensor, about: About) -> Affine:
    """Each feature to [−1, 1]; equals scikit-learn's MinMaxScaler((-1, 1)), but that a constant
    becomes 0 (there: −1)."""
    low, high = x.amin(0), x.amax(0)
    return _affine(about, (low + high) / 2, (high - low) / 2)


def auto(x: Tensor, about: About) -> Chain:
    """The usual: `channel_standardize` for images, `[impute,standardize,one_hot]` for all else.

    Also where the training split misses no value: those of the other splits are filled in too.
    """
    return fit([channel_standardize] if x.dim() == 4 else [impute, standardize, one_hot], x, about)


# ---------------------------------------------------------------- rotate


class Projection(NamedTuple):
    """x ↦ (x − mean) · matrix, the inputs flattened; each output of the given shape."""

    mean: Tensor  # (*shape of an input)
    matrix: Tensor  # (D, K)
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        before = x.shape[: x.dim() - self.mean.dim()]
        flat = (x - self.mean).reshape(*before, len(self.matrix))
        return (flat @ self.matrix).reshape(*before, *self.shape)


def pca(x: Tensor, about: About, components: float | None = None) -> Projection:
    """The coordinates along the directions of greatest variance, greatest first: (n, K).

    Pearson 1901. Equals scikit-learn's PCA. Of each direction's two signs the one that makes its
    largest entry positive. `components` is K, or the least share of the variance to keep, or None
    for every direction in which the training inputs vary: those whose standard deviation is above
    the rounding of float32, √D·2⁻²³ of the largest.
    """
    mean, _, directions = _principal(x, about, "pca", components)
    return _projection(x, mean, directions, directions.shape[1:])


def pca_whiten(
    x: Tensor, about: About, components: float | None = None, eps: float = 1e-5
) -> Projection:
    """As `pca`, each coordinate divided by √(λ + ε), λ its variance on the training split.

    Equals scikit-learn's PCA(whiten=True) for ε = 0; ε > 0 keeps directions of little variance,
    which are mostly noise, from being blown up.
    """
    mean, variances, directions = _principal(x, about, "pca_whiten", components)
    matrix = directions / (variances + eps).sqrt()
    return _projection(x, mean, matrix, matrix.shape[1:])


def zca_whiten(x: Tensor, about: About, eps: float = 1e-5) -> Projection:
    """`pca_whiten` rotated back, V(Λ + ε)^(−1/2)Vᵀ: of all whitenings the nearest to the inputs.

    Bell & Sejnowski 1997; images stay images. Directions without variance (see `pca`) become 0.
    """
    mean, variances, directions = _principal(x, about, "zca_whiten")
    matrix = directions / (variances + eps).sqrt() @ directions.T
    return _projection(x, mean, matrix, x.shape[1:])


def _projection(x: Tensor, mean: Tensor, matrix: Tensor, shape: Sequence[int]) -> Projection:
    return Projection(
        mean.view(x.shape[1:]).float().to(x.device), matrix.float().to(x.device), tuple(shape)
    )


def _principal(
    x: Tensor, about: About, option: str, components: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), variances (K,) in falling order, and their directions (D, K), as `pca` says."""
    if about.categorical:
        raise UserError(
            f"preprocess={option} cannot rotate the codes of categories, in "
            f"{_columns(about.categorical, about)}. Use one_hot before it: "
            f"preprocess=[one_hot,{option}]."
        )
    flat, wide = x.flatten(1), widest(x.device)
    mean = flat.mean(0, dtype=wide)
    _check_columns(mean, about)
    covariance = mean.new_zeros(len(mean), len(mean))
    for part in flat.split(4096):  # a copy of all in float64 would be twice the data
        centered = part.to(wide) - mean
        covariance += centered.T @ centered / max(len(x) - 1, 1)
    variances, directions = torch.linalg.eigh(covariance.cpu().double())
    variances, directions = variances.flip(0), directions.flip(1)
    noise = len(mean) * torch.finfo(torch.float32).eps ** 2 * variances[0]
    rank = int((variances > noise).sum())
    count = rank if components is None else components
    if isinstance(count, float):
        explained = variances[:rank].cumsum(0)
        count = int((explained / explained[-1] <= count).sum()) + 1
    if not 1 <= count <= rank:
        raise UserError(
            f"preprocess={option} with components={components}: the training inputs vary in "
            f"{rank} directions."
        )
    directions = directions[:, :count]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * largest.sign()
    return mean.cpu(), variances[:count], directions


# ---------------------------------------------------------------- tables


class Fill(NamedTuple):
    """NaN ↦ a value per feature."""

    values: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x.isnan(), self.values, x)


def impute(x: Tensor, about: About, strategy: str = "mean", value: float = 0.0) -> Fill:
    """Missing values (NaN) become the feature's mean, median, most frequent value (the smallest of
    several), or the constant `value`; category codes always the most frequent.

    Equals scikit-learn's SimpleImputer. Raises UserError for a feature without any value.
    """
    if empty := x.isnan().all(0).flatten().nonzero().flatten().tolist():
        raise UserError(
            f"preprocess=impute: no training example has a value in {_columns(empty, about)}. "
            "Leave that out of the data. (Another step before impute may also have lost the "
            "values: let impute be the first.)"
        )
    values = {
        "mean": lambda: x.nanmean(0),
        "median": lambda: _median(x),
        "constant": lambda: torch.full_like(x[0], value),
        "most_frequent": lambda: _most_frequent(x),
    }[strategy]()
    codes = list(about.categorical)
    values[..., codes] = _most_frequent(x[..., codes])
    return Fill(values)


def _median(x: Tensor) -> Tensor:
    """The mean of the two middle values; torch.nanmedian takes the lower."""
    ordered, count = x.sort(0).values, (~x.isnan()).sum(0, keepdim=True)  # NaN come last
    middle = ordered.gather(0, (count - 1) // 2) + ordered.gather(0, count // 2)
    return middle[0] / 2


def _most_frequent(x: Tensor) -> Tensor:
    modes = []
    for column in x.flatten(1).T:
        values, counts = column[~column.isnan()].unique(return_counts=True)
        modes.append(values[counts.argmax()])
    return x.new_tensor(modes).view(x.shape[1:])


class OneHot(NamedTuple):
    """Output k is feature `source[k]` as it is, or 1 where that has the code `code[k]`, else 0."""

    source: Tensor  # (K,) int64
    code: Tensor  # (K,) NaN where the feature is no category

    def __call__(self, x: Tensor) -> Tensor:
        x = x[..., self.source]
        return torch.where(self.code.isnan(), x, (x == self.code).to(x.dtype))


def one_hot(x: Tensor, about: About) -> OneHot:
    """A categorical column becomes as many columns as it has codes in the training split: 1 for
    the example's code, else 0; all 0 for a missing code or one not seen in training.

    In the place of the column. Equals scikit-learn's OneHotEncoder(handle_unknown="ignore").
    """
    features = []
    for column in range(x.shape[-1]):
        codes = [torch.nan]
        if column in about.categorical:
            codes = x[x[:, column].isfinite(), column].unique().tolist()
        features += [(column, code) for code in codes]
    source, code = zip(*features, strict=True)
    return OneHot(torch.tensor(source, device=x.device), x.new_tensor(code))
