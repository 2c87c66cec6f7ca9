"""Text for masked language modelling: packed into blocks, whole words masked.

Masks are a pure function of (seed, block, epoch): every epoch masks other words, and a resumed run masks the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .pairs import Pick
from .windows import Limits, Window, word_groups


@dataclass(frozen=True)
class Masking:
    """How target rows are masked for a method that asks for masked copies.

    Args:
        rate: Share of the words that are masked.
        whole_words: Mask all pieces of a word together.
        head_steps: Optimizer steps in which the masked-LM head is fitted, encoder frozen, before training; None fits
            a head only where the checkpoint has none.
    """

    rate: float = 0.15
    whole_words: bool = True
    head_steps: int | None = None


@dataclass(frozen=True)
class Block:
    """A run of text, ready to be masked.

    Args:
        input_ids: Token ids with the tokenizer's special tokens around the text.
        groups: For each token the number of its word inside the block; -1 for special tokens.
    """

    input_ids: np.ndarray
    groups: np.ndarray


def pack(tokenizer: Any, texts: Sequence[str], block_length: int, whole_words: bool = True) -> list[Block]:
    """Concatenate texts, separated by the separator token, and cut them into blocks without padding.

    Words are not cut apart at the border of two blocks. (Packing as in RoBERTa's FULL-SENTENCES, Liu et al. 2019.)

    Args:
        tokenizer: A fast tokenizer.
        texts: Texts, in the order in which they are packed.
        block_length: Tokens in a block, special tokens included.
        whole_words: Group the pieces of a word (by the tokenizer's own word borders); otherwise each token is its
            own group.

    Returns:
        Blocks; only the last may be shorter than ``block_length`` by more than a word.
    """
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    words: list[list[int]] = []
    for number, ids in enumerate(encoded["input_ids"]):
        word_ids = _word_ids(encoded, number) if whole_words else list(range(len(ids)))
        words += _split_words(ids, word_ids)
        if separator is not None:
            words.append([-int(separator) - 1])
    prefix, suffix = special_edges(tokenizer)
    room = block_length - len(prefix) - len(suffix)
    blocks: list[Block] = []
    current: list[list[int]] = []
    filled = 0
    for word in words:
        pieces = [word[at : at + room] for at in range(0, len(word), room)]
        for piece in pieces:
            if filled + len(piece) > room:
                blocks.append(_block(current, prefix, suffix))
                current, filled = [], 0
            current.append(piece)
            filled += len(piece)
    if any(word[0] >= 0 for word in current):
        blocks.append(_block(current, prefix, suffix))
    return blocks


def blocks_of_rows(
    tokenizer: Any, texts: Sequence[str], windows: Sequence[Window], limits: Limits, whole_words: bool = True
) -> list[Block]:
    """Return the windows of texts, one by one, ready to be masked.

    Args:
        tokenizer: The fast tokenizer that made the windows.
        texts: The texts.
        windows: Their windows.
        limits: How they were cut.
        whole_words: As in :func:`pack`.
    """
    blocks = []
    for window, groups in zip(windows, word_groups(tokenizer, texts, limits), strict=True):
        words = groups if whole_words else np.where(groups < 0, -1, np.arange(len(groups)))
        blocks.append(Block(np.asarray(window.input_ids), words))
    return blocks


def _word_ids(encoded: Any, number: int) -> list[int]:
    """Word number of each token. SentencePiece tokenizers split at spaces only, which is what a word is there."""
    return [-1 if word is None else word for word in encoded.word_ids(number)]


def _split_words(ids: Sequence[int], word_ids: Sequence[int]) -> list[list[int]]:
    words: list[list[int]] = []
    for at, token in enumerate(ids):
        if at and word_ids[at] == word_ids[at - 1]:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _block(words: Sequence[Sequence[int]], prefix: list[int], suffix: list[int]) -> Block:
    # A separator between texts travels as -(id + 1): a token, but no word.
    while words and words[-1][0] < 0:
        words = words[:-1]
    while words and words[0][0] < 0:
        words = words[1:]
    ids = [token if token >= 0 else -token - 1 for word in words for token in word]
    groups = [number if word[0] >= 0 else -1 for number, word in enumerate(words) for _ in word]
    edges = (len(prefix), len(suffix))
    return Block(
        np.asarray(prefix + ids + suffix),
        np.pad(np.asarray(groups, dtype=np.int64), edges, constant_values=-1),
    )


def special_edges(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - 1 - special[::-1].index(0)
    return ids[:first], ids[last + 1 :]


def mask_block(
    block: Block, mask_rate: float, mask_id: int, vocabulary: int, generator: np.random.Generator
) -> dict[str, Any]:
    """Choose words and hide them: 80 % as ``[MASK]``, 10 % as a random token, 10 % unchanged (Devlin et al. 2019).

    Args:
        block: The text.
        mask_rate: Share of the words that are chosen, at least one.
        mask_id: Id of the mask token.
        vocabulary: Number of token ids to draw random ones from.
        generator: Source of randomness.

    Returns:
        ``input_ids``, ``units`` (positions of the hidden tokens) and ``unit_labels`` (what stood there).
    """
    words = np.unique(block.groups[block.groups >= 0])
    count = max(1, round(mask_rate * len(words)))
    chosen = generator.choice(words, size=min(count, len(words)), replace=False)
    positions = np.flatnonzero(np.isin(block.groups, chosen))
    ids = block.input_ids.copy()
    labels = ids[positions]
    fate = generator.random(len(positions))
    ids[positions[fate < 0.8]] = mask_id
    random_positions = positions[fate >= 0.9]
    ids[random_positions] = generator.integers(0, vocabulary, size=len(random_positions))
    return {"input_ids": ids, "units": positions, "unit_labels": labels}


class MaskedBlocks(torch.utils.data.Dataset[dict[str, Any]]):
    """Blocks with fresh masks each epoch.

    Args:
        blocks: Packed text.
        mask_rate: Share of the words that are masked.
        mask_id: Id of the mask token.
        vocabulary: Number of token ids.
        seed: Seed of the masks.
    """

    def __init__(self, blocks: Sequence[Block], mask_rate: float, mask_id: int, vocabulary: int, seed: int):
        self.blocks = blocks
        self.mask_rate = mask_rate
        self.mask_id = mask_id
        self.vocabulary = vocabulary
        self.seed = seed

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        return {"source": self.masked(pick.source, pick.epoch)}

    def masked(self, number: int, epoch: int) -> dict[str, Any]:
        """Return a block with the masks of an epoch."""
        generator = np.random.default_rng((self.seed, epoch, number))
        return mask_block(self.blocks[number], self.mask_rate, self.mask_id, self.vocabulary, generator)
