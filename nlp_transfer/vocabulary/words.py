"""Whole words for WordPiece: entries beside the tokenizer's own vocabulary.

WordPiece takes the longest match from the left, so that a longer entry in its own vocabulary would change how words
that only begin with it are cut. An added token that stands between characters of no word leaves them alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken

from .new_tokens import LETTERS, NewTokens, costliest, pretokens


def extended(tokenizer: Any, texts: Iterable[str], count: int) -> tuple[Any, NewTokens]:
    """Return a copy of a WordPiece tokenizer with the costliest words of texts; see :func:`.extend.extended`."""
    counts = Counter(word for word, _ in pretokens(tokenizer, texts) if LETTERS.fullmatch(word))
    parts = costliest(tokenizer, counts, count)
    changed = copy.deepcopy(tokenizer)
    changed.add_tokens([AddedToken(word, single_word=True, normalized=True, special=False) for word in parts])
    return changed, parts
