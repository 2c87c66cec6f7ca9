"""Frozen features computed once: the encoder runs a single time over the data, and only the head trains after that.

While the head trains, the encoder inside the model is replaced by a stand-in that hands the cached hidden states to
the pooler and the head. The model stays a plain Hugging Face model, so the same trainer, objective and checkpoints
serve.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from .data.windows import Window
from .forward import read_windows
from .models import encoder_of, pools_by_mean
from .units import first_token, mean_of_tokens


class CachedEncoder(torch.nn.Module):
    """Stands in for an encoder: looks hidden states up instead of computing them.

    ``input_ids`` carry the number of the cached row in their first column, which survives padding and batching.

    Args:
        states: One array (T, H) a row.
        encoder: The encoder that is replaced; its pooler is used (and trained), and its configuration kept.
    """

    def __init__(self, states: Sequence[np.ndarray], encoder: Any):
        super().__init__()
        self.states = states
        self.pooler = getattr(encoder, "pooler", None)
        self.pooler_activation = getattr(encoder, "pooler_activation", None)
        self.config = encoder.config

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """Return the cached hidden states (N, T, H) of the rows, padded with zeros."""
        rows = [torch.from_numpy(np.asarray(self.states[int(number)])) for number in input_ids[:, 0].tolist()]
        hidden_NTH = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(input_ids.device).float()
        states = (hidden_NTH,) if kwargs.get("output_hidden_states") else None
        if self.pooler is None:
            return BaseModelOutput(last_hidden_state=hidden_NTH, hidden_states=states)
        if self.pooler_activation is None:
            pooled_NH = self.pooler(hidden_NTH)
        else:
            # ALBERT's pooler is a bare linear layer, which its encoder applies to the first token.
            pooled_NH = self.pooler_activation(self.pooler(first_token(hidden_NTH)))
        return BaseModelOutputWithPooling(last_hidden_state=hidden_NTH, pooler_output=pooled_NH, hidden_states=states)


@contextlib.contextmanager
def cached_encoder(model: Any, states: Sequence[np.ndarray]) -> Iterator[None]:
    """Replace the model's encoder by cached states inside the block.

    Args:
        model: A plain model with a head.
        states: From :func:`hidden_states`.
    """
    encoder = encoder_of(model)
    setattr(model, model.base_model_prefix, CachedEncoder(states, encoder))
    try:
        yield
    finally:
        setattr(model, model.base_model_prefix, encoder)


def hidden_states(
    model: Any,
    windows: Sequence[Window],
    pad_id: int,
    batch_tokens: int = 2048,
    on_batch: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Run the encoder once over windows and keep what the head reads. Several processes share the work.

    Args:
        model: A model with a task head. Dropout is off: frozen features are the same in every epoch.
        windows: W windows.
        pad_id: Id of the padding token.
        batch_tokens: Most padded tokens in one forward pass.
        on_batch: Called with the number of windows done.

    Returns:
        For each window (T, H) in fp32. Text heads read one vector, so T is 1 there: the first token's, or the mean
        where the head takes the mean (ModernBERT).
    """
    model.eval()
    encoder = encoder_of(model)
    token_task = "TokenClassification" in type(model).__name__
    mean = pools_by_mean(model.config)

    def states(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden_NTH = encoder(**batch)[0].float()
        if token_task:
            return hidden_NTH
        pooled_NH = mean_of_tokens(hidden_NTH, batch["attention_mask"]) if mean else hidden_NTH[:, 0]
        return pooled_NH.unsqueeze(1)

    device = next(model.parameters()).device
    return read_windows(states, windows, pad_id, device, batch_tokens, on_batch, shared=True)


def as_cached_rows(features: Sequence[dict[str, Any]], first: int = 0) -> list[dict[str, Any]]:
    """Replace the token ids of training features by the number of their cached row.

    Args:
        features: As :class:`~nlp_transfer.tasks.base.Encoded` holds them.
        first: Number of the first row in the cache.

    Returns:
        Features whose ``input_ids`` are that number: once for text tasks; as often as the row has tokens for token
        tasks, so that labels keep their places.
    """
    return [
        {**row, "input_ids": [first + number] * (len(row["input_ids"]) if "units" in row else 1)}
        for number, row in enumerate(features)
    ]
