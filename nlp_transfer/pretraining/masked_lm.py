"""Masked language modelling (Devlin et al. 2019, arXiv 1810.04805), the objective of DAPT and TAPT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.blocks import Block
from ..data.masking import MaskedBlocks
from ..objectives import MaskedLMObjective
from .base import Pretraining


class MaskedLM(Pretraining):
    """Predict hidden words of packed text.

    Args:
        tokenizer: A tokenizer with a mask token.
        seed: Seed of the masks.
        mask_rate: Share of the words that are masked.
    """

    joined = True
    trains_head = True
    citation = "Gururangan et al. 2020, Don't Stop Pretraining, arXiv 2004.10964"

    def __init__(self, tokenizer: Any, seed: int, mask_rate: float):
        self.tokenizer = tokenizer
        self.seed = seed
        self.mask_rate = mask_rate

    def items(self, blocks: Sequence[Block]) -> MaskedBlocks:
        """Return blocks with fresh masks each epoch."""
        return MaskedBlocks(blocks, self.mask_rate, self.tokenizer.mask_token_id, len(self.tokenizer), self.seed)

    def objective(self, model: Any) -> MaskedLMObjective:
        """Return the cross-entropy at masked positions."""
        return MaskedLMObjective(model)
