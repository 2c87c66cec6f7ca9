"""Masks over blocks of text: whole words are hidden.

Masks are a pure function of (seed, block, epoch): every epoch masks other words, and a resumed run masks the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .blocks import Block
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

    def masked(self, number: int, epoch: int, turn: int = 0) -> dict[str, Any]:
        """Return a block with the masks of an epoch, others each time that it comes in it."""
        generator = np.random.default_rng((self.seed, epoch, number, turn))
        return mask_block(self.blocks[number], self.mask_rate, self.mask_id, self.vocabulary, generator)
