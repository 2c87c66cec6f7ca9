"""Give a tokenizer the tokens that shorten target text most, and a model the rows that belong to them.

Each kind of tokenizer is extended by its own rule, so that offsets, spaces and normalisation stay right: WordPiece by
whole words (:mod:`.words`), byte-level BPE by further merges (:mod:`.merges`), Unigram by further pieces
(:mod:`.unigram`). In all of them new text is old text with some neighbouring pieces joined. The vector of a new token
begins as the mean of those that it joins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import models

from ..errors import ModelError
from . import merges, unigram, words
from .new_tokens import NewTokens

KINDS = {models.WordPiece: words.extended, models.BPE: merges.extended, models.Unigram: unigram.extended}


def extended(tokenizer: Any, texts: Iterable[str], count: int) -> tuple[Any, NewTokens]:
    """Return a copy of a tokenizer with new tokens, those that shorten texts most.

    Args:
        tokenizer: A fast tokenizer.
        texts: Unlabelled text.
        count: How many tokens at most. What occurs once becomes none.

    Returns:
        The copy, whose old tokens keep their ids; and the new tokens in the order of their ids, each with its pieces.

    Raises:
        ModelError: The tokenizer is of a kind that cannot be extended without changing how other text is cut.
    """
    backend = tokenizer.backend_tokenizer
    kind = type(backend.model)
    reason = None
    if kind not in KINDS:
        reason = f"it is a {kind.__name__}, and new tokens can be given to WordPiece, byte-level BPE and Unigram"
    elif backend.pre_tokenizer is None:
        reason = "it has no pre-tokenizer, which says where words begin"
    elif sorted(tokenizer.get_vocab().values()) != list(range(len(tokenizer))):
        reason = "its ids have gaps, so that new ones would not be the next rows of the embeddings"
    if reason is not None:
        raise ModelError(f"model.extend_vocabulary cannot work with this tokenizer: {reason}. Leave the setting out.")
    return KINDS[kind](tokenizer, texts, count)


def grow(model: Any, tokenizer: Any, new: NewTokens) -> list[int]:
    """Give a model rows for new tokens, in place: each the mean of the rows of its pieces.

    Args:
        model: A model as loaded, with any head; a masked-LM head grows too.
        tokenizer: The extended tokenizer.
        new: The new tokens with their pieces.

    Returns:
        Their rows.
    """
    # Some checkpoints have more rows than their tokenizer has tokens.
    model.resize_token_embeddings(max(model.config.vocab_size, len(tokenizer)), mean_resizing=False)
    output = model.get_output_embeddings()
    tensors = [model.get_input_embeddings().weight]
    if output is not None:
        tensors += [tensor for tensor in (output.weight, output.bias) if tensor is not None]
    rows = {tokenizer.convert_tokens_to_ids(token): pieces for token, pieces in new.items()}
    with torch.no_grad():
        for tensor in {id(tensor): tensor for tensor in tensors}.values():
            for row, pieces in rows.items():
                tensor[row] = tensor[pieces].mean(0)
    return list(rows)


def shown(tokenizer: Any, new: NewTokens, most: int = 5) -> str:
    """Return the first new tokens as people read them."""
    decoder = tokenizer.backend_tokenizer.decoder
    names = [token if decoder is None else decoder.decode([token]).strip() for token in list(new)[:most]]
    return ", ".join(names) + (", …" if len(new) > most else "")
