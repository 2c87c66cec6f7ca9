"""Words of the target domain as tokens of their own, where the vocabulary cuts them into many pieces.

A new token is an entry beside the tokenizer's own vocabulary that stands for one whole word: text without it is cut as
before, words that only begin with it too. Its vector begins as the mean of its pieces' and is trained with the model.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import AddedToken
from tokenizers.models import WordPiece

from .errors import ModelError

_LETTERS = re.compile(r"[^\W_]+")

Words = Mapping[str, list[int]]
"""New words, each with the ids of the pieces that the old vocabulary cuts it into."""


def costly_words(tokenizer: Any, texts: Iterable[str], count: int) -> dict[str, list[int]]:
    """Return the words that would shorten texts most: those with the highest occurrences × (pieces − 1).

    Args:
        tokenizer: A fast WordPiece tokenizer.
        texts: Unlabelled text.
        count: How many words at most.

    Returns:
        Words as the tokenizer normalises them, the costliest first, with their pieces. Words that occur once, and
        those that the vocabulary cannot spell, are none.

    Raises:
        ModelError: The tokenizer is of another kind.
    """
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, WordPiece):
        raise ModelError(
            "model.extend_vocabulary works with WordPiece tokenizers (BERT, DistilBERT, ELECTRA, MPNet, MiniLM), and "
            f"this one is a {type(backend.model).__name__}: there a space is a part of the word after it, which a "
            "token of its own would split off. Leave the setting out."
        )
    found: Counter[str] = Counter()
    for text in texts:
        normal = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        found.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    costs: dict[str, tuple[int, list[int]]] = {}
    for word, times in found.items():
        if times > 1 and _LETTERS.fullmatch(word):
            pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(pieces) > 1:
                costs[word] = (times * (len(pieces) - 1), pieces)
    best = sorted(costs, key=lambda word: (-costs[word][0], word))[:count]
    return {word: costs[word][1] for word in best}


def with_words(tokenizer: Any, words: Words) -> Any:
    """Return a copy of a tokenizer that has a token for each word.

    They are matched on normalised text, between characters that belong to no word.
    """
    extended = copy.deepcopy(tokenizer)
    extended.add_tokens([AddedToken(word, single_word=True, normalized=True, special=False) for word in words])
    return extended


def grow(model: Any, tokenizer: Any, words: Words) -> None:
    """Give a model rows for new words, in place: each the mean of the rows of its pieces.

    Args:
        model: A model as loaded, with any head; a masked-LM head grows too.
        tokenizer: From :func:`with_words`.
        words: The new words.
    """
    # Some checkpoints have more rows than their tokenizer has tokens.
    model.resize_token_embeddings(max(model.config.vocab_size, len(tokenizer)), mean_resizing=False)
    output = model.get_output_embeddings()
    tensors = [model.get_input_embeddings().weight]
    if output is not None:
        tensors += [tensor for tensor in (output.weight, output.bias) if tensor is not None]
    with torch.no_grad():
        for tensor in {id(tensor): tensor for tensor in tensors}.values():
            for word, pieces in words.items():
                tensor[tokenizer.convert_tokens_to_ids(word)] = tensor[pieces].mean(0)
