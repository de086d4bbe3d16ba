"""Embedded and generated datasets, and text, against scikit-learn, geometry and slow loops."""

import gzip
import inspect
from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn import datasets as sk
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from trainlab import data
from trainlab.config import UserError, compose, options, schema
from trainlab.data import embedded, generated, words

MODULES = {module.__name__: module for module in (embedded, generated, words)}
TARGETS = {
    name: file.read_text(encoding="utf-8").partition("_target_: ")[2].split()[0]
    for name, file in options("dataset").items()
}
OURS = {
    name: getattr(MODULES[module], function)
    for name, target in TARGETS.items()
    for module, _, function in [target.rpartition(".")]
    if module in MODULES
}
SEEDED = [name for name, load in OURS.items() if "seed" in inspect.signature(load).parameters]


def made(name, tmp_path, **settings):
    """A dataset; text is given a file."""
    if name == "text":
        file = tmp_path / "story.txt"
        file.write_text("one fish two fish. red fish blue fish.\nblack fish, blue fish, old fish\n")
        settings |= dict(path=str(file), model="cbow", num_skips=1)
    return OURS[name](**settings)


# ---------------------------------------------------------------- all of them


def test_the_walk_finds_the_datasets():
    assert set(OURS) == set(
        "digits diabetes iris wine breast_cancer moons circles spirals blobs xor pair drift "
        "stripes shapes tags toy_corpus text".split()
    )


@pytest.mark.parametrize("name", OURS)
def test_defaults_of_the_file_are_the_functions(name):
    _, settings = schema.read(options("dataset")[name])
    parameters = list(inspect.signature(OURS[name]).parameters.values())
    assert [p.name for p in parameters[:2]] == ["data_dir", "download"]
    assert {p.name: p.default for p in parameters[2:]} == {
        key: setting.default for key, setting in settings.items()
    }


@pytest.mark.parametrize(
    ("name", "task", "x", "y", "classes"),
    [
        ("iris", "classification", (150, 4), (150,), 3),
        ("wine", "classification", (178, 13), (178,), 3),
        ("breast_cancer", "binary", (569, 30), (569,), 2),
        ("moons", "binary", (1000, 2), (1000,), 2),
        ("circles", "binary", (1000, 2), (1000,), 2),
        ("spirals", "classification", (1500, 2), (1500,), 3),
        ("blobs", "classification", (1000, 2), (1000,), 3),
        ("xor", "binary", (1000, 2), (1000,), 2),
        ("pair", "binary", (2000, 8), (2000,), 2),
        ("drift", "binary", (5000, 4), (5000,), 2),
        ("stripes", "classification", (1000, 1, 16, 16), (1000,), 2),
        ("shapes", "segmentation", (500, 1, 32, 32), (500, 32, 32), 4),
        ("tags", "multi_label", (1000, 1, 16, 16), (1000, 5), 5),
    ],
)
def test_shapes_types_and_classes(name, task, x, y, classes):
    examples = OURS[name]()
    assert (examples.task, examples.x.shape, examples.y.shape) == (task, x, y)
    assert (examples.x.dtype, examples.y.dtype) == (np.float32, np.int64)
    assert len(set(examples.classes)) == len(examples.classes) == classes
    assert np.isfinite(examples.x).all()
    assert set(np.unique(examples.y)) == set(range(2 if task == "multi_label" else classes))


@pytest.mark.parametrize("name", SEEDED)
def test_the_seed_decides_all(name, tmp_path):
    first, again, other = (made(name, tmp_path, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint
    assert not np.array_equal(first.x, other.x)


@pytest.mark.parametrize("name", ["circles", "spirals", "blobs", "xor", "pair", "stripes"])
def test_classes_are_even(name):
    assert np.ptp(np.bincount(OURS[name](examples=1001).y)) <= 1


@pytest.mark.parametrize("name", ["circles", "spirals", "xor", "stripes", "shapes", "tags"])
def test_the_noise_has_the_deviation_it_says(name):
    clean, noisy = (OURS[name](noise=noise) for noise in (0.0, 0.3))
    assert (noisy.x - clean.x).std() == pytest.approx(0.3, rel=0.05)
    assert (noisy.x - clean.x).mean() == pytest.approx(0, abs=0.02)
    assert np.array_equal(noisy.y, clean.y)


@pytest.mark.parametrize(
    "name",
    "iris wine breast_cancer circles spirals blobs xor pair drift stripes".split(),
)
def test_is_read_and_split(name):
    config = compose([f"dataset={name}"])
    examples = data.read(config)
    splits = data.split_of(examples, config)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(examples.x)))
    for positions in splits.values():
        share = np.bincount(examples.y[positions]) / len(positions)
        np.testing.assert_allclose(share, np.bincount(examples.y) / len(examples.y), atol=0.03)


def test_settings_are_checked():
    for wrong in ("drift", "dataset.kind=sudden"), ("text", "dataset.model=glove"):
        with pytest.raises(UserError, match="must be"):
            compose([f"dataset={wrong[0]}", wrong[1]])


# ---------------------------------------------------------------- embedded


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_tables_equal_scikit_learns(name):
    ours, theirs = OURS[name](), getattr(sk, f"load_{name}")()
    np.testing.assert_array_equal(ours.x, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(ours.y, theirs.target)
    assert ours.classes == list(theirs.target_names)
    assert ours.columns == tuple(theirs.feature_names)


def test_diabetes_names_its_columns():
    assert embedded.diabetes().columns == tuple(sk.load_diabetes().feature_names)


# ---------------------------------------------------------------- points


@pytest.mark.parametrize("factor", [0.3, 0.8])
def test_circles_without_noise_equal_scikit_learns(factor):
    ours = generated.circles(examples=101, factor=factor, noise=0.0)
    x, y = sk.make_circles(101, shuffle=False, factor=factor)
    np.testing.assert_allclose(ours.x, x, atol=1e-6)
    assert np.array_equal(ours.y, y)


@pytest.mark.parametrize(("classes", "turns"), [(2, 1.75), (3, 1.0), (5, 0.5)])
def test_spirals_turn_in_proportion_to_their_radius(classes, turns):
    examples = generated.spirals(examples=400, classes=classes, turns=turns, noise=0.0)
    for arm in range(classes):
        points = examples.x[examples.y == arm].astype(float)
        radius = np.hypot(*points.T)
        assert radius.max() == pytest.approx(1, abs=1e-2)
        np.testing.assert_allclose(np.diff(radius), radius[0], rtol=1e-3)
        expected = 2 * np.pi * (turns * radius + arm / classes)
        np.testing.assert_allclose(np.exp(1j * expected), points @ [1, 1j] / radius, atol=1e-5)


def test_blobs_are_normal_clouds_around_their_centres():
    centres = generated.blobs(examples=4, centers=4, features=3, spread=0.0).x
    assert np.abs(centres).max() < 10
    examples = generated.blobs(examples=8000, centers=4, features=3, spread=2.0)
    for cloud, centre in enumerate(centres):
        points = examples.x[examples.y == cloud]
        np.testing.assert_allclose(points.mean(0), centre, atol=0.2)
        np.testing.assert_allclose(np.cov(points.T), 4 * np.eye(3), atol=0.35)


def test_xor_is_what_no_line_separates():
    examples = generated.xor(noise=0.2)
    assert np.array_equal(examples.y == 1, examples.x.prod(1) < 0)
    assert {tuple(corner) for corner in np.sign(examples.x)} == {
        (-1, -1), (-1, 1), (1, -1), (1, 1)
    }  # fmt: skip
    assert accuracy(LogisticRegression(), examples.x, examples.y) < 0.6


def accuracy(model, x, y):
    """On the second half, fitted on the first."""
    half = len(x) // 2
    return model.fit(x[:half], y[:half]).score(x[half:], y[half:])


def test_one_input_of_a_pair_says_nothing_and_both_say_all():
    examples = generated.pair(examples=4000)
    assert examples.parts == (4, 4)
    p, q = np.split(examples.x, np.cumsum(examples.parts)[:-1], axis=1)
    forest = RandomForestClassifier(50, random_state=0)
    for alone in (p, q):
        assert accuracy(forest, alone, examples.y) == pytest.approx(0.5, abs=0.03)
    assert accuracy(LogisticRegression(), examples.x, examples.y) < 0.55
    assert accuracy(forest, examples.x, examples.y) > 0.85
    assert (((p * q).sum(1) > 0) == examples.y).mean() > 0.99
    assert (q - np.where(examples.y == 1, 1, -1)[:, None] * p).std() == pytest.approx(0.3, rel=0.05)


def test_an_abrupt_drift_makes_what_was_learnt_a_guess_then_wrong_then_right_again():
    stream = generated.drift(examples=15000, every=3000, noise=0.0)
    x, y = stream.x.reshape(5, 3000, -1), stream.y.reshape(5, 3000)
    first = LogisticRegression(C=1e3).fit(x[0], y[0])
    scores = [first.score(*concept) for concept in zip(x, y, strict=True)]
    np.testing.assert_allclose(scores, [1, 0.5, 0, 0.5, 1], atol=0.03)


def test_a_gradual_drift_makes_it_worse_in_proportion_to_the_angle():
    stream = generated.drift(examples=20000, every=10000, noise=0.0, kind="gradual", features=3)
    first = LogisticRegression(C=1e3).fit(stream.x[:500], stream.y[:500])
    right = (first.predict(stream.x) == stream.y).reshape(10, 2000).mean(1)
    # Of two half-spaces whose normals have an angle φ, a share φ/π is in one only.
    np.testing.assert_allclose(right, 1 - (np.arange(10) + 0.5) / 10, atol=0.04)


def test_drift_has_the_share_of_wrong_labels_it_says():
    right, wrong = (generated.drift(examples=10000, noise=noise) for noise in (0.0, 0.2))
    assert (right.y != wrong.y).mean() == pytest.approx(0.2, abs=0.01)
    assert np.array_equal(right.x, wrong.x)


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("classes", [2, 4])
def test_stripes_run_in_the_direction_of_their_class(classes):
    examples = generated.stripes(examples=16, classes=classes, size=24, channels=3, noise=0.0)
    assert examples.classes == [f"{180 * c // classes}°" for c in range(classes)]
    down, aside = (g[..., 1:-1, 1:-1] for g in np.gradient(examples.x.astype(float), axis=(2, 3)))
    angle = np.pi * examples.y[:, None, None, None] / classes
    along = np.cos(angle) * aside - np.sin(angle) * down  # rows are counted downwards
    np.testing.assert_allclose(along, 0, atol=1e-5)
    assert (np.hypot(down, aside).max((2, 3)) > 0.5).all()


def test_stripes_have_a_phase_of_their_own_in_every_channel():
    x = generated.stripes(examples=400, channels=2, period=4.0, noise=0.0).x
    shift = np.angle(np.fft.fft2(x.astype(float))[..., [4, 0], [0, 4]].sum(-1))
    assert np.abs(np.exp(1j * shift).mean(0)).max() < 0.12  # even over the circle
    assert np.abs(np.exp(1j * (shift[:, 0] - shift[:, 1])).mean()) < 0.12


def test_stripes_have_the_period_they_say():
    waves = generated.stripes(examples=10, size=20, period=4.0, noise=0.0)
    for image, label in zip(waves.x[:, 0], waves.y, strict=True):
        spectrum = np.abs(np.fft.fft2(image.astype(float)))
        assert np.unravel_index(spectrum[:11, :11].argmax(), (11, 11)) == ((5, 0), (0, 5))[label]
        assert image.max() <= 1


def test_stripes_are_told_apart_by_their_direction_and_not_by_a_linear_model():
    examples = generated.stripes(examples=2000)
    flat = examples.x.reshape(len(examples.x), -1)
    assert accuracy(LogisticRegression(max_iter=1000), flat, examples.y) < 0.58
    rows, columns = (examples.x[:, 0].mean(axis).std(1) for axis in (2, 1))
    assert ((columns > rows) == examples.y).mean() > 0.99


def test_shapes_are_labelled_by_what_is_on_top():
    settings = dict(examples=12, shapes=3, size=20)
    scene = generated._scene(**settings, seed=3)
    examples = generated.shapes(**settings, noise=0.0, seed=3)
    for n, row, column in np.ndindex(examples.y.shape):
        kind, light = 0, 0.0
        for what, middle, centre, radius, brightness in scene[:, :, n]:
            down, aside = row - middle, abs(column - centre)
            inside = {
                1: np.hypot(down, aside) <= radius,
                2: -radius <= down <= radius and aside <= radius,
                3: -radius <= down <= radius and aside <= radius * (down + radius) / (2 * radius),
            }[what]
            if inside:
                kind, light = what, brightness
        assert examples.y[n, row, column] == kind
        assert examples.x[n, 0, row, column] == np.float32(light)


def test_shapes_have_their_areas_and_lie_within_the_image():
    settings = dict(examples=300, shapes=1, size=64)
    kind, row, column, radius, brightness = generated._scene(**settings, seed=0)[0]
    assert brightness.min() >= 0.5
    assert brightness.max() <= 1
    for centre in (row, column):
        assert (centre - radius).min() >= 0
        assert (centre + radius).max() <= 63
    assert radius.min() >= 8
    assert radius.max() <= 16
    y = generated.shapes(**settings, noise=0.0).y
    share = {1: np.pi, 2: 4.0, 3: 2.0}  # of the squared radius
    for what, area in share.items():
        mine = kind == what
        assert mine.mean() == pytest.approx(1 / 3, abs=0.08)
        covered = (y[mine] == what).sum((1, 2))
        assert (covered / radius[mine] ** 2).mean() == pytest.approx(area, rel=0.02)
        assert np.array_equal(covered, (y[mine] > 0).sum((1, 2)))


@pytest.mark.parametrize("size", [8, 16, 33])
def test_tags_are_independent_and_what_is_seen_is_their_sum(size):
    examples = generated.tags(examples=3000, size=size, noise=0.0, share=0.3)
    np.testing.assert_allclose(examples.y.mean(0), 0.3, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(examples.y.T), np.eye(5), atol=0.06)
    alone = {
        int(labels.argmax()): image
        for image, labels in zip(examples.x[:, 0], examples.y, strict=True)
        if labels.sum() == 1
    }
    patterns = np.stack([alone[label] for label in range(5)])
    assert set(np.unique(patterns)) == {0, 1}
    assert np.linalg.matrix_rank(patterns.reshape(5, -1)) == 5
    np.testing.assert_allclose(examples.x[:, 0], np.einsum("nl,lrc->nrc", examples.y, patterns))


def test_tags_can_be_told_through_the_noise():
    examples = generated.tags()
    flat = examples.x.reshape(len(examples.x), -1)
    for label in examples.y.T:
        assert accuracy(LogisticRegression(max_iter=1000), flat, label) > 0.9


# ---------------------------------------------------------------- words


SENTENCES = ["a b c d e", "f", "c a", "b b a c d"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "story.txt"


def by_name(examples):
    """(input words, target word) of every example; None where there is no word."""
    names = [*examples.classes, None]
    return [
        (tuple(names[i] for i in x), names[y])
        for x, y in zip(examples.x, examples.y, strict=True)
    ]  # fmt: skip


def slow_contexts(sentences, window):
    """(word, the words at −window … −1, 1 … window; None where there is none)."""
    for sentence in sentences:
        for i, word in enumerate(sentence):
            context = []
            for j in [*range(i - window, i), *range(i + 1, i + window + 1)]:
                context.append(sentence[j] if 0 <= j < len(sentence) else None)
            yield word, context


@pytest.mark.parametrize("window", [1, 2, 7])
def test_pairs_equal_a_slow_loops(file, window):
    file.write_text("\n".join(SENTENCES))
    contexts = list(slow_contexts([s.split() for s in SENTENCES], window))
    pairs = [((word,), other) for word, context in contexts for other in context if other]
    skipgram = words.text(path=str(file), window=window)
    assert by_name(skipgram) == pairs
    cbow = words.text(path=str(file), window=window, model="cbow")
    assert by_name(cbow) == [(tuple(c), word) for word, c in contexts if any(c)]
    for examples in (skipgram, cbow):
        assert (examples.x.dtype, examples.y.dtype) == (np.int64, np.int64)
        assert examples.task == "words"


def test_pairs_of_a_sentence_by_hand(file):
    file.write_text("The cat sleeps.")
    settings = dict(path=str(file), window=1)
    assert by_name(words.text(**settings)) == [
        (("the",), "cat"), (("cat",), "the"), (("cat",), "sleeps"), (("sleeps",), "cat")
    ]  # fmt: skip
    assert by_name(words.text(**settings, model="cbow")) == [
        ((None, "cat"), "the"), (("the", "sleeps"), "cat"), (("cat", None), "sleeps")
    ]  # fmt: skip


@pytest.mark.parametrize("num_skips", [1, 2, 3])
def test_num_skips_draws_neighbours(file, num_skips):
    sentence = [f"w{i}" for i in range(3000)]
    file.write_text(" ".join(sentence))
    settings = dict(path=str(file), num_skips=num_skips, vocabulary=5000)
    drawn = defaultdict(set)
    for (word,), other in by_name(words.text(**settings)):
        assert other not in drawn[word]
        drawn[word].add(int(other[1:]) - int(word[1:]))
    inner = [drawn[word] for word in sentence[2:-2]]
    assert {len(offsets) for offsets in inner} == {num_skips}
    counts = Counter(offset for offsets in inner for offset in offsets)
    assert set(counts) == {-2, -1, 1, 2}
    np.testing.assert_allclose(list(counts.values()), 2996 * num_skips / 4, rtol=0.1)
    assert drawn["w0"] <= {1, 2}
    assert len(drawn["w0"]) == min(num_skips, 2)
    for context, word in by_name(words.text(**settings, model="cbow")):
        kept = {int(other[1:]) - int(word[1:]) for other in context if other}
        assert kept == drawn[word]


def test_text_is_split_into_sentences_and_words(file):
    file.write_bytes(
        "\ufeffDon't STOP. Pi is 3.14, he said!  A well-known Ärger_x\r\nnext line".encode()
    )
    pairs = by_name(words.text(path=str(file), window=1))
    forward = [
        ("don't", "stop"), ("pi", "is"), ("is", "3"), ("3", "14"), ("14", "he"), ("he", "said"),
        ("a", "well-known"), ("well-known", "ärger"), ("ärger", "x"), ("next", "line"),
    ]  # fmt: skip
    assert {(word, other) for (word,), other in pairs} == {
        *forward, *[(other, word) for word, other in forward]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "classes", "first"),
    [
        ({}, ["z", "b", "c", "e", "d"], ["z", "z", "b", "b", "c"]),
        (dict(vocabulary=3), ["z", "b", "c", "<unk>"], ["z", "z", "b", "b", "c"]),
        (dict(vocabulary=5), ["z", "b", "c", "e", "d"], ["z", "z", "b", "b", "c"]),
        (dict(min_count=3), ["z", "b", "<unk>"], ["z", "z", "b", "b", "<unk>"]),
        (dict(min_count=2, vocabulary=1), ["z", "<unk>"], ["z", "z", *["<unk>"] * 3]),
    ],
)
def test_the_vocabulary_keeps_the_most_frequent_words(file, settings, classes, first):
    file.write_text("e z z b b c d. z c z b.")  # z 4, b 3, c 2, e and d 1
    examples = words.text(path=str(file), **settings, model="cbow", window=1)
    assert examples.classes == classes
    assert [word for _, word in by_name(examples)][1:6] == first


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"", {}, r"vocabulary of 0 \(0 words"),
        (b"\n -- ... 	\n", {}, r"vocabulary of 0 \(0 words"),
        (b"again and again", dict(min_count=3), "at least two are needed.*min_count=3"),
        (b"same same", {}, r"vocabulary of 1 \(2 words"),
        ("naïve".encode("latin1"), {}, r"not text in UTF-8 \(byte 2"),
    ],
    ids=["empty", "no words", "all rare", "one word", "latin1"],
)
def test_a_text_that_is_no_use_is_refused(file, content, settings, message):
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        words.text(path=str(file), **settings)


def test_a_text_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"dataset=text needs .*dataset\.path="):
        words.text()
    with pytest.raises(UserError, match=r"there is no nowhere\.txt nor .*/nowhere\.txt"):
        words.text(tmp_path, path="nowhere.txt")
    with pytest.raises(UserError, match=r"cannot be read: .*Is a directory"):
        words.text(path=str(tmp_path))


def test_a_text_may_be_gzipped_and_lie_in_data_dir(tmp_path):
    (tmp_path / "story.gz").write_bytes(gzip.compress(b"once upon a time"))
    assert words.text(tmp_path, path="story.gz").classes == ["once", "upon", "a", "time"]


def test_the_toy_corpus_has_the_words_of_its_groups_and_no_others():
    examples = words.toy_corpus()
    others = "a are behind every in lie my near often the there your".split()
    assert set(examples.classes) == set(others).union(*words.GROUPS.values())
    assert len(words.toy_corpus(sentences=300).x) == pytest.approx(len(examples.x) / 2, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_words_of_a_group_of_the_toy_corpus_share_their_contexts(seed):
    examples = words.toy_corpus(seed=seed)
    counts = np.zeros((len(examples.classes),) * 2)
    np.add.at(counts, (examples.x[:, 0], examples.y), 1)
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    rows = [examples.classes.index(word) for group in words.GROUPS.values() for word in group]
    likeness = counts[rows] @ counts[rows].T - 2 * np.eye(len(rows))  # none is like itself
    group = np.repeat(np.arange(len(words.GROUPS)), 6)
    assert np.array_equal(group[likeness.argmax(1)], group)
    same = group[:, None] == group
    assert likeness[same & (likeness > 0)].mean() > likeness[~same].mean() + 0.4
