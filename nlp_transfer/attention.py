"""Attention in bfloat16 on a CPU, faster in training than the stock kernel on texts of ordinary length.

PyTorch's fused kernel for CPUs (2.13) is at its best in fp32: its backward pass in bfloat16 takes longer than plain
matrix operations, by far on short texts. Those are what is done here, in pieces that stay in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .hardware import default_device, native_bf16

NAME = "cached_bf16"
CACHE_BYTES = 2**22
"""Attention weights that are computed at a time: they should fit into the second-level cache of a few cores."""


def use_fast_attention(model: Any) -> None:
    """Let a model attend by :func:`attend` where that is faster and the architecture allows it.

    Only how it computes changes: nothing of it is saved with the model.

    Args:
        model: A ``transformers`` model.
    """
    if default_device() == "cpu" and native_bf16() and model.config._attn_implementation == "sdpa":
        # Registering is idempotent; names are how transformers lets attention be chosen.
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention, softmax(Q Kᵀ · scaling + mask) V (Vaswani et al. 2017, equation 1).

    Anything but bfloat16 on a CPU goes to the library's own function.

    Args:
        module: The attention layer.
        query: (N, heads, T, D).
        key: Like ``query``.
        value: Like ``query``.
        attention_mask: True where a token may be read, (N or 1, 1, T, T), or None.
        dropout: Share of attention weights that are dropped; given by the layer as 0 outside training.
        scaling: Factor of the scores; by default 1 / √D.
        kwargs: Passed on to the library's function; position biases are left to it.

    Returns:
        (N, T, heads, D), and None in place of attention weights.
    """
    plain = attention_mask is None or attention_mask.dtype == torch.bool
    if (
        query.device.type != "cpu"
        or query.dtype != torch.bfloat16
        or not plain
        or kwargs.get("position_bias") is not None
    ):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    rows, heads, tokens, _ = query.shape
    bias = None if attention_mask is None else _bias(attention_mask, rows)
    size = max(1, CACHE_BYTES // (heads * tokens * tokens * query.element_size()))
    pieces = []
    for begin in range(0, rows, size):
        piece = slice(begin, begin + size)
        scores_NHTT = torch.matmul(scaled[piece], key[piece].transpose(-1, -2))
        if bias is not None:
            scores_NHTT = scores_NHTT + bias[piece]
        # Inside, the softmax is computed in fp32; autocast would also hand it back in fp32, at twice the memory.
        with torch.autocast("cpu", enabled=False):
            weights_NHTT = scores_NHTT.softmax(-1)
        weights_NHTT = torch.nn.functional.dropout(weights_NHTT, dropout)
        pieces.append(torch.matmul(weights_NHTT, value[piece]))
    return torch.cat(pieces).transpose(1, 2).contiguous(), None


def _bias(mask: torch.Tensor, rows: int) -> torch.Tensor:
    """0 where a token may be read, the lowest number elsewhere (a row that may read nothing then stays finite)."""
    bias = torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill_(~mask, torch.finfo(torch.bfloat16).min)
    return bias.expand(rows, *bias.shape[1:])
