"""Which tokens make up a word: those that masking hides, and noise deletes, together.

A tokenizer's own words come first. But SentencePiece ends a word at a space only, and some tokenizers not even there,
so that a whole sentence of Chinese or Thai is one word to them. Their long words are cut at the borders of
:func:`nlp_transfer.data.spans.words`, which knows scripts without spaces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import groupby

from .spans import words

LONG = 4
"""Tokens up to which a tokenizer's word is taken as it is."""


def word_numbers(text: str, word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the number of the word that each token belongs to, -1 for special tokens.

    Args:
        text: The text.
        word_ids: The tokenizer's own word of each token, None for special tokens.
        offsets: First character of each token, and the one after its last.
    """
    numbers: list[int] = []
    count = 0
    for word, run in groupby(range(len(word_ids)), key=lambda at: word_ids[at]):
        tokens = list(run)
        if word is None:
            numbers += [-1] * len(tokens)
            continue
        inner = _inner(text, offsets[tokens[0] : tokens[-1] + 1]) if len(tokens) > LONG else [0] * len(tokens)
        numbers += [count + number for number in inner]
        count += inner[-1] + 1
    return numbers


def _inner(text: str, places: Sequence[tuple[int, int]]) -> list[int]:
    """Number the words inside a stretch of text: a token belongs to the first word that begins in it, or goes on."""
    first = places[0][0]
    _, *starts = [first + begin for begin, _ in words(text[first : places[-1][1]])] or [first]
    waiting, found, number = deque(starts), [], 0
    for _, end in places:
        begun = False
        while waiting and waiting[0] < end:
            waiting.popleft()
            begun = True
        number += begun
        found.append(number)
    return found
