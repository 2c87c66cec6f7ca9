"""TSDAE (Wang, Reimers and Gurevych 2021, arXiv 2104.06979): rebuild a text from the vector of what is left of it.

Most words of a text are deleted, the rest is encoded into one pooled vector, and a decoder that sees nothing else of
the text predicts it word by word: log p(x | x̃) = Σₜ log softmax(E g(hₜ) + b)[xₜ], where hₜ is the decoder's state over
x₁ … xₜ₋₁ with the vector as its only memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..data.blocks import Block
from ..data.pairs import Pick
from ..objectives import Batch
from .base import Pretraining
from .decoder import Decoder
from .pooling import PooledObjective, Pooling


class Tsdae(Pretraining):
    """Denoising by way of one vector.

    Args:
        seed: Seed of the deletions.
        pooling: ``mean`` or ``cls``.
        delete_rate: Share of the words that are deleted; one is always kept.
        longest: Tokens in the longest text.
    """

    citation = "Wang et al. 2021, TSDAE, arXiv 2104.06979"

    def __init__(self, seed: int, pooling: Pooling, delete_rate: float, longest: int):
        self.seed = seed
        self.pooling: Pooling = pooling
        self.delete_rate = delete_rate
        self.longest = longest

    def items(self, blocks: Sequence[Block]) -> DeletedWords:
        """Return texts with other words deleted each epoch."""
        return DeletedWords(blocks, self.delete_rate, self.seed)

    def objective(self, model: Any) -> TsdaeObjective:
        """Return the loss of the rebuilt text."""
        return TsdaeObjective(model, self.pooling, self.longest)


class DeletedWords(torch.utils.data.Dataset[dict[str, Any]]):
    """Items of what is left of a text (``source``) and the text (``target``).

    Args:
        blocks: One text each.
        delete_rate: Share of the words that are deleted.
        seed: Seed of the deletions, which are a pure function of (seed, epoch, text).
    """

    def __init__(self, blocks: Sequence[Block], delete_rate: float, seed: int):
        self.blocks = blocks
        self.delete_rate = delete_rate
        self.seed = seed

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        generator = np.random.default_rng((self.seed, pick.epoch, pick.source))
        block = self.blocks[pick.source]
        words = np.unique(block.groups[block.groups >= 0])
        count = max(1, len(words) - round(self.delete_rate * len(words)))
        kept = generator.choice(words, size=count, replace=False)
        left = block.input_ids[(block.groups < 0) | np.isin(block.groups, kept)]
        return {"source": {"input_ids": left}, "target": {"input_ids": block.input_ids}}


class TsdaeObjective(PooledObjective):
    """Cross-entropy of every token of the text, given the vector of what is left of it.

    Args:
        model: The masked-LM model, plain or under PEFT.
        pooling: ``mean`` or ``cls``.
        longest: Tokens in the longest text.
    """

    def __init__(self, model: Any, pooling: Pooling, longest: int):
        super().__init__(model, pooling)
        self.decoder = Decoder(self.encoder, longest)

    @property
    def modules(self) -> Mapping[str, torch.nn.Module]:
        """The decoder's own layers, trained and saved with the model until the stage is done."""
        return {"decoder": self.decoder}

    def count(self, batch: Batch) -> torch.Tensor:
        """Return the number of tokens that are predicted: all but the first of each text."""
        return batch["attention_mask"][batch["domain"] == 1, 1:].sum().float()

    def loss_sum(self, model: Any, batch: Batch, progress: float) -> tuple[torch.Tensor, None]:
        """Encode what is left, decode the text."""
        ids_NT, mask_NT, whole_N = batch["input_ids"], batch["attention_mask"], batch["domain"] == 1
        vectors_NH = self.vectors(model, ids_NT[~whole_N], mask_NT[~whole_N])
        text_NT, real_NT = ids_NT[whole_N], mask_NT[whole_N, 1:].bool()
        states_NTE = self.decoder(self.encoder, vectors_NH, text_NT[:, :-1])
        logits_MV = self.decoder.logits(self.encoder, states_NTE[real_NT])
        return torch.nn.functional.cross_entropy(logits_MV.float(), text_NT[:, 1:][real_NT], reduction="sum"), None
