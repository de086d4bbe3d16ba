"""Text as pairs of words in context, for learning what words mean from the company they keep.

Mikolov et al. 2013, arXiv:1301.3781. Words are numbers, the most frequent 0; what the vocabulary
leaves out is all one word, `<unk>`, the last. Both datasets make, for every word of every sentence,
the centre, and the words around it, no farther than `window`:

    skipgram   x (N, 1) the centre, y (N,) one of its neighbours: a pair for each
    cbow       x (N, 2 · window) its neighbours in order, −1 where there is none, y (N,) the centre

`num_skips` keeps so many neighbours of each centre, drawn at random; null keeps all.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainlab import streams
from trainlab.config import UserError
from trainlab.data.examples import Examples
from trainlab.data.files import contents, located

GROUPS = {
    "ANIMAL": "cat dog fox horse mouse rabbit".split(),
    "COLOUR": "black blue green red white yellow".split(),
    "NUMBER": "two three four five six seven".split(),
    "FOOD": "apples beans carrots nuts pears plums".split(),
    "PLACE": "field forest garden house kitchen meadow".split(),
    "MOVES": "hides plays runs sits sleeps waits".split(),
    "TAKES": "carries eats finds likes steals wants".split(),
}

_SENTENCES = [
    sentence.split()
    for sentence in (
        "my COLOUR ANIMAL MOVES in the PLACE",
        "every ANIMAL often MOVES near a PLACE",
        "a ANIMAL TAKES NUMBER FOOD",
        "your COLOUR ANIMAL TAKES the COLOUR FOOD",
        "NUMBER COLOUR FOOD lie in the PLACE",
        "there are NUMBER FOOD behind the PLACE",
    )
]


def toy_corpus(
    data_dir: Path | None = None,
    download: bool = False,
    sentences: int = 600,
    model: str = "skipgram",
    window: int = 2,
    num_skips: int | None = None,
    seed: int = 0,
) -> Examples:
    """Sentences of a small grammar: the words of one of `GROUPS` stand in the same contexts."""
    generator = streams.stream(seed, "toy_corpus")

    def one_of(options: Sequence[Any]) -> Any:
        return options[int(torch.randint(len(options), (), generator=generator))]

    corpus = [
        [one_of(GROUPS[word]) if word in GROUPS else word for word in one_of(_SENTENCES)]
        for _ in range(sentences)
    ]
    words, names = _coded(corpus, None, 1)
    return _in_context(words, names, model, window, num_skips, seed)


def text(
    data_dir: Path | None = None,
    download: bool = False,
    path: str | None = None,
    vocabulary: int = 10000,
    min_count: int = 1,
    model: str = "skipgram",
    window: int = 2,
    num_skips: int | None = None,
    seed: int = 0,
) -> Examples:
    """The words of a text file in UTF-8, gzipped or not, in lower case.

    A sentence ends at . ! ? and at the end of a line. Words besides the `vocabulary` most frequent,
    and those seen less than `min_count` times, are `<unk>`. Raises UserError where the file is
    missing or something else, or fewer than two words are left.
    """
    file = located(path, "text", data_dir)
    try:
        content = contents(file).decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"dataset=text: {file} is not text in UTF-8 (byte {error.start}: {error.reason}). "
            f"Convert it, for example: iconv -f latin1 -t utf-8 {file} > converted.txt"
        ) from error
    content = unicodedata.normalize("NFC", content)  # an accent is no word of its own
    corpus = [_WORD.findall(sentence) for sentence in _END.split(content.lower())]
    words, names = _coded(corpus, vocabulary, min_count)
    if len(names) < 2:
        raise UserError(
            f"dataset=text: {file} leaves a vocabulary of {len(names)} "
            f"({sum(map(len, corpus)):,} words in all); at least two are needed. Give a longer "
            f"text{f', or lower dataset.min_count={min_count}' * (min_count > 1)}."
        )
    return _in_context(words, names, model, window, num_skips, seed)


_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # don't and well-known are one word each
_END = re.compile(r"[.!?…]+(?=\W)|[\r\n]+")  # no end in 3.14


def _coded(
    corpus: Sequence[Sequence[str]], vocabulary: int | None, min_count: int
) -> tuple[list[np.ndarray], list[str]]:
    """Every sentence as numbers, and the names of the words in the order of these."""
    counts = Counter(chain.from_iterable(corpus))
    names = [word for word, count in counts.most_common(vocabulary) if count >= min_count]
    code = {word: i for i, word in enumerate(names)}
    if len(names) < len(counts):
        names.append("<unk>")
    return [
        np.array([code.get(word, len(code)) for word in words], np.int64) for words in corpus
    ], names


def _in_context(
    sentences: Iterable[np.ndarray],
    names: list[str],
    model: str,
    window: int,
    num_skips: int | None,
    seed: int,
) -> Examples:
    """Centres and their neighbours as examples."""
    words, context = _neighbours(sentences, window)
    if num_skips is not None:
        # Kept are the lowest chances of each row, where there is no neighbour the last.
        chance = torch.rand(context.shape, generator=streams.stream(seed, "num_skips")).numpy()
        rank = np.where(context >= 0, chance, np.inf).argsort(1).argsort(1)
        context = np.where(rank < num_skips, context, -1)
    there = context >= 0
    if model == "cbow":
        some = there.any(1)
        return Examples(context[some], words[some], "words", names)
    return Examples(np.repeat(words, there.sum(1))[:, None], context[there], "words", names)


def _neighbours(sentences: Iterable[np.ndarray], window: int) -> tuple[np.ndarray, np.ndarray]:
    """All words (N,), and the `window` words before and behind each (N, 2 · window).

    −1 where the sentence has ended.
    """
    gap = np.full(window, -1)
    row = np.concatenate([gap, *chain.from_iterable((words, gap) for words in sentences)])
    around = np.lib.stride_tricks.sliding_window_view(row, 2 * window + 1)
    around = around[around[:, window] >= 0]
    return around[:, window], np.delete(around, window, axis=1)
