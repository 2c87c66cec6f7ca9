"""Further pieces for Unigram (SentencePiece): words of the target with the probability that their pieces have together.

The model cuts a text into the pieces with the largest product of probabilities (Kudo 2018, arXiv 1804.10959). A new
piece whose logarithm is the sum of its parts', and a hair more, wins where they stood side by side, and nowhere else.
An added token would not do: a space is a part of the word after it here, which such a token splits off.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .new_tokens import NewTokens, costliest, pretokens, state_of, with_state

HAIR = 1e-6
"""Nats that a new piece is better than its parts, for each border that it saves: the longer of two wins."""

_WORDS = re.compile(r"▁?[^\W_]+")


def extended(tokenizer: Any, texts: Iterable[str], count: int) -> tuple[Any, NewTokens]:
    """Return a copy of a Unigram tokenizer with the costliest words of texts; see :func:`.extend.extended`."""
    counts = Counter(word for run, _ in pretokens(tokenizer, texts) for word in _WORDS.findall(run))
    parts = costliest(tokenizer, counts, count)
    state = state_of(tokenizer)
    vocabulary = state["model"]["vocab"]
    # A piece's id is its place; added tokens that stand behind the vocabulary take theirs. They are found before the
    # model sees the text.
    names = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])[len(vocabulary) :]
    vocabulary += [[name, 0.0] for name, _ in names]
    vocabulary += [
        [word, sum(vocabulary[piece][1] for piece in pieces) + HAIR * (len(pieces) - 1)]
        for word, pieces in parts.items()
    ]
    return with_state(tokenizer, state), parts
