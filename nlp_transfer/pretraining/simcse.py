"""Unsupervised SimCSE (Gao, Yao and Chen 2021, arXiv 2104.08821): a text is its own positive, under another dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..data.blocks import Block
from ..data.pairs import Pick
from ..errors import ModelError
from ..objectives import Batch
from ..processes import place
from .base import Pretraining
from .pooling import PooledObjective, Pooling


class SimCse(Pretraining):
    """Pull the two vectors of a text together, and push those of different texts apart.

    The paper's MLP on top of the pooled vector is left out: the vector that is trained is the one that is used.

    Args:
        pooling: ``mean`` or ``cls``.
        temperature: τ of the softmax over similarities.
    """

    citation = "Gao et al. 2021, SimCSE, arXiv 2104.08821"

    def __init__(self, pooling: Pooling, temperature: float):
        self.pooling: Pooling = pooling
        self.temperature = temperature

    def items(self, blocks: Sequence[Block]) -> TextsTwice:
        """Return every text twice."""
        return TextsTwice(blocks)

    def objective(self, model: Any) -> SimCseObjective:
        """Return the contrastive loss.

        Raises:
            ModelError: Nothing in the model is dropped: both vectors of a text would be the same.
        """
        if not any(module.p > 0 for module in model.modules() if isinstance(module, torch.nn.Dropout)):
            raise ModelError(
                "objective 'simcse' tells the two passes of a text apart by dropout, but this model has none. "
                "Set train.dropout: 0.1 in the stage."
            )
        return SimCseObjective(model, self.pooling, self.temperature)


class TextsTwice(torch.utils.data.Dataset[dict[str, Any]]):
    """Items of one text, for the first pass (``source``) and the second (``target``).

    Args:
        blocks: One text each.
    """

    def __init__(self, blocks: Sequence[Block]):
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        row = {"input_ids": self.blocks[pick.source].input_ids}
        return {"source": row, "target": row}


class SimCseObjective(PooledObjective):
    """InfoNCE over the texts of a forward pass; the negatives of several processes are shared.

    So one process with a batch of B and W processes with B/W have the same negatives. Accumulation would leave each
    pass its own few: recipes refuse it.

    Args:
        model: The masked-LM model, plain or under PEFT.
        pooling: ``mean`` or ``cls``.
        temperature: τ.
    """

    def __init__(self, model: Any, pooling: Pooling, temperature: float):
        super().__init__(model, pooling)
        self.temperature = temperature

    def count(self, batch: Batch) -> torch.Tensor:
        """Return the number of texts."""
        return (batch["domain"] == 0).sum().float()

    def loss_sum(self, model: Any, batch: Batch, progress: float) -> tuple[torch.Tensor, None]:
        """Encode every text twice in one pass, and contrast."""
        vectors_NH = self.vectors(model, batch["input_ids"], batch["attention_mask"])
        first_NH, second_NH = vectors_NH.chunk(2)
        texts_N = fingerprints_of(batch["input_ids"], batch["attention_mask"]).chunk(2)[0]
        rank, world = place()
        keys_MH = second_NH if world == 1 else _Gathered.apply(second_NH)
        others_M = texts_N if world == 1 else _gathered(texts_N)
        same_NM = texts_N.unsqueeze(1) == others_M
        return info_nce(first_NH, keys_MH, self.temperature, rank * len(first_NH), same_NM), None


def fingerprints_of(ids_NT: torch.Tensor, mask_NT: torch.Tensor) -> torch.Tensor:
    """Return a number (N,) that equal texts share, however long their padding, and others hardly ever."""
    # A polynomial modulo 2⁶⁴: sums and products of 64 bits wrap around.
    factors_T = torch.full_like(ids_NT[0], 6364136223846793005).cumprod(0)
    return ((ids_NT + 1) * mask_NT * factors_T).sum(-1)


def info_nce(
    queries_NH: torch.Tensor,
    keys_MH: torch.Tensor,
    temperature: float,
    offset: int = 0,
    same_NM: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return Σᵢ −log( exp(cos(hᵢ, kᵢ)/τ) / Σⱼ exp(cos(hᵢ, kⱼ)/τ) ), equation 1 of the paper.

    A text that stands in the batch twice is no negative of itself.

    Args:
        queries_NH: h.
        keys_MH: k; key ``offset + i`` belongs to query i, all others are its negatives.
        temperature: τ.
        offset: Place of the first query's key.
        same_NM: Which keys are of the query's own text; by default its own alone.

    Returns:
        The sum over queries, a scalar.
    """
    queries_NH, keys_MH = (torch.nn.functional.normalize(rows, dim=-1) for rows in (queries_NH, keys_MH))
    with torch.autocast(queries_NH.device.type, enabled=False):
        similarities_NM = queries_NH @ keys_MH.T / temperature
    own_N = torch.arange(len(queries_NH), device=queries_NH.device) + offset
    if same_NM is not None:
        copies_NM = same_NM.scatter(1, own_N.unsqueeze(1), value=False)
        similarities_NM = similarities_NM.masked_fill(copies_NM, float("-inf"))
    return torch.nn.functional.cross_entropy(similarities_NM, own_N, reduction="sum")


def _gathered(values_N: torch.Tensor) -> torch.Tensor:
    """Return the values of all processes in order."""
    shares = [torch.empty_like(values_N) for _ in range(place()[1])]
    torch.distributed.all_gather(shares, values_N.contiguous())
    return torch.cat(shares)


class _Gathered(torch.autograd.Function):
    """Rows of all processes in order; gradients from all processes come back to the row's own."""

    @staticmethod
    def forward(ctx: Any, rows_NH: torch.Tensor) -> torch.Tensor:
        ctx.rows = len(rows_NH)
        return _gathered(rows_NH)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> torch.Tensor:
        total_MH = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total_MH)
        begin = place()[0] * ctx.rows
        own_NH: torch.Tensor = total_MH[begin : begin + ctx.rows]
        return own_NH
