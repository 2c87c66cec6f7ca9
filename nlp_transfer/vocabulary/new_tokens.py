"""New tokens: which words cost most, and how a tokenizer is given a larger vocabulary."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tokenizers

LETTERS = re.compile(r"[^\W_]+")

NewTokens = Mapping[str, list[int]]
"""New tokens in the order of their ids, each with the ids of the pieces that the old vocabulary cuts it into."""


def pretokens(tokenizer: Any, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the words of texts: as the tokenizer's model sees them, and as they stand in the normalised text."""
    backend = tokenizer.backend_tokenizer
    for text in texts:
        normal = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        for word, (begin, end) in backend.pre_tokenizer.pre_tokenize_str(normal):
            yield word, normal[begin:end]


def costliest(tokenizer: Any, counts: Mapping[str, int], count: int) -> dict[str, list[int]]:
    """Return the words with the highest occurrences × (pieces − 1), the costliest first, with their pieces.

    Args:
        tokenizer: The tokenizer.
        counts: How often each word occurs, as the tokenizer's model sees it. Once is not enough.
        count: How many words at most. Those that are tokens already, or have an unknown piece, are none.
    """
    model, known = tokenizer.backend_tokenizer.model, tokenizer.get_vocab()
    costs: dict[str, tuple[int, list[int]]] = {}
    for word, times in counts.items():
        pieces = [piece.id for piece in model.tokenize(word)] if times > 1 and word not in known else []
        if len(pieces) > 1 and tokenizer.unk_token_id not in pieces:
            costs[word] = (times * (len(pieces) - 1), pieces)
    best = sorted(costs, key=lambda word: (-costs[word][0], word))[:count]
    return {word: costs[word][1] for word in best}


def state_of(tokenizer: Any) -> dict[str, Any]:
    """Return what ``tokenizer.json`` would hold."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return state


def with_state(tokenizer: Any, state: dict[str, Any]) -> Any:
    """Return a copy of a tokenizer, of the same class, with the model of a changed state.

    Args:
        tokenizer: The tokenizer.
        state: From :func:`state_of`, with more in its vocabulary. Its added tokens must be there, too: what is loaded
            later gives those that are not the next ids behind the vocabulary.
    """
    changed = copy.deepcopy(tokenizer)
    changed.backend_tokenizer.model = tokenizers.Tokenizer.from_str(json.dumps(state)).model
    return changed
