"""Rows of a large corpus that look most like the target (Moore and Lewis 2010, ACL P10-2041).

A row is scored by the difference of two cross-entropies a word, H_target(s) − H_corpus(s), and the rows with the
lowest score are kept. H_target is that of a small language model of the target text, H_corpus that of one of a random
sample of the corpus of about as many words. So whatever the size of the corpus, memory holds the n-grams of twice the
target text, and one number a row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Set
from itertools import compress, pairwise
from math import inf, log

import numpy as np

# Words hold no spaces, so these are none.
START, UNKNOWN = " start", " unknown"
BIGRAM_SHARE = 0.5
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str, known: Set[str] | None = None) -> list[str]:
    """Return the words and signs of a text in lower case; with ``known``, all others as ``UNKNOWN``."""
    words: list[str] = _WORD.findall(text.lower())
    return words if known is None else [word if word in known else UNKNOWN for word in words]


class BigramModel:
    """p(w | v) = ½ c(v, w)/c(v) + ½ (c(w) + 1)/(n + V); where v was never seen, the second part alone.

    (Linear interpolation of Jelinek and Mercer 1980, add-one smoothing of the unigrams.) The first word of a text
    follows ``START``; n is the number of words.

    Args:
        texts: Training texts in words.
        vocabulary: V, the number of different words that can occur, ``UNKNOWN`` included.
    """

    def __init__(self, texts: Iterable[list[str]], vocabulary: int):
        self.vocabulary = vocabulary
        self.unigrams: Counter[str] = Counter()
        self.bigrams: Counter[tuple[str, str]] = Counter()
        self.contexts: Counter[str] = Counter()
        for words in texts:
            self.unigrams.update(words)
            self.bigrams.update(pairwise([START, *words]))
            self.contexts.update([START, *words][:-1])
        self.total = self.unigrams.total()

    def cross_entropy(self, words: list[str]) -> float:
        """Return −1/|s| Σ log p(wᵢ | wᵢ₋₁) in nats a word, for a text of at least one word."""
        total = 0.0
        for before, word in pairwise([START, *words]):
            probability = (self.unigrams[word] + 1) / (self.total + self.vocabulary)
            seen = self.contexts[before]
            if seen:
                bigram = self.bigrams[before, word] / seen
                probability = BIGRAM_SHARE * bigram + (1 - BIGRAM_SHARE) * probability
            total -= log(probability)
        return total / len(words)


def score_rows(corpus: Iterable[str], like: Iterable[str], seed: int) -> np.ndarray:
    """Score the rows of a corpus: the lower, the more a row looks like the target.

    Both models know the words of the target and no others, so that a rare word of the corpus says only that it is none
    of the target's.

    Args:
        corpus: Texts, read three times.
        like: Target texts, read twice.
        seed: Seed of the sample of the corpus.

    Returns:
        H_target − H_corpus of each row, in nats a word; infinite for rows without words.
    """
    known = frozenset(word for text in like for word in words_of(text))
    target = BigramModel((words_of(text) for text in like), len(known) + 1)
    sizes = np.fromiter((len(words_of(text)) for text in corpus), dtype=np.int64)
    drawn = np.random.default_rng(seed).random(len(sizes)) < target.total / max(1, sizes.sum())
    sample = (words_of(text, known) for text in compress(corpus, drawn))
    general = BigramModel(sample, len(known) + 1)

    def score(words: list[str]) -> float:
        return target.cross_entropy(words) - general.cross_entropy(words) if words else inf

    # To its end: a stream tells there whether its texts were those of the passes before.
    return np.fromiter((score(words_of(text, known)) for text in corpus), dtype=np.float64)


def best_rows(scores_R: np.ndarray, count: int) -> np.ndarray:
    """Return which rows are kept, as booleans: those with the ``count`` lowest scores, earlier ones among equals."""
    kept_R = np.zeros(len(scores_R), dtype=bool)
    kept_R[np.argsort(scores_R, kind="stable")[:count]] = True
    return kept_R
