"""Word embeddings: a vector for every word, such that words with like contexts have like ones."""

from torch import Tensor, nn

from trainlab.architectures.block import Block, Shape, gives
from trainlab.config import UserError


class WordVectors(nn.Module):
    """Logits of all words from the mean vector of some: (B, n) -> (B, words).

    x holds numbers of words, −1 where there is none. `embedding.weight` (words, dim) starts from
    U(−1/2, 1/2)/dim, as in the authors' program; `output.weight` (words, dim) is that of any layer.
    """

    def __init__(self, words: int, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(words, dim)
        self.output = nn.Linear(dim, words, bias=False)
        nn.init.uniform_(self.embedding.weight, -0.5 / dim, 0.5 / dim)

    def forward(self, x: Tensor) -> Tensor:
        there = (x >= 0).unsqueeze(-1)  # (B, n, 1)
        vectors = self.embedding(x.long().clamp_min(0)) * there  # (B, n, dim)
        return self.output(vectors.sum(1) / there.sum(1).clamp_min(1))


@gives("words")
def skipgram(inputs: Shape, outputs: int, block: Block, dim: int = 32) -> nn.Module:
    """A word of the context from the one in the middle: (B, 1) -> (B, words).

    The softmax over all words of u_j · v_i, v_i the vector of word i and u_j the output weight of
    word j. Mikolov, Chen, Corrado & Dean 2013, arXiv:1301.3781. Raises UserError where the data
    give several words.
    """
    if inputs != (1,):
        raise UserError(
            f"arch=skipgram predicts from one word, but an input of these data has shape {inputs}. "
            "Use data of pairs of words; arch=cbow predicts from several."
        )
    return WordVectors(outputs, dim)


@gives("words")
def cbow(inputs: Shape, outputs: int, block: Block, dim: int = 32) -> nn.Module:
    """The word in the middle from those around it: (B, 2 · window) -> (B, words).

    As `skipgram`, with the mean of the vectors of all words around it: continuous bag of words.
    Places outside the sentence are −1, and not counted. Mikolov, Chen, Corrado & Dean 2013,
    arXiv:1301.3781. Raises UserError where the data are not lists of words.
    """
    if len(inputs) != 1:
        raise UserError(
            f"arch=cbow needs lists of words, but an input of these data has shape {inputs}. "
            "Use a dataset of text, such as toy_corpus."
        )
    return WordVectors(outputs, dim)
