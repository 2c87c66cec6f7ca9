"""Logits of many windows: length-sorted batches of a bounded number of tokens, shared out over processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .data.batching import pad_tokens, token_batches
from .data.windows import Window
from .processes import gather, place


@torch.inference_mode()
def window_logits(
    model: Any,
    windows: Sequence[Window],
    pad_id: int,
    batch_tokens: int = 2048,
    on_batch: Callable[[int], None] | None = None,
    autocast: bool = False,
    shared: bool = False,
) -> list[np.ndarray]:
    """Run a model over windows.

    Args:
        model: A model with a task head.
        windows: W windows in any order.
        pad_id: Id of the padding token.
        batch_tokens: Most padded tokens in one forward pass.
        on_batch: Called with the number of windows done after each pass, for progress bars.
        autocast: Compute in bf16.
        shared: Under several processes, let each compute a share and give all of them everything. All must call.

    Returns:
        For each window its logits in fp32: (C,) for text tasks, (T, C) for token tasks (without padding).
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    lengths = [len(window.input_ids) for window in windows]
    rank, world = place() if shared else (0, 1)
    results: dict[int, np.ndarray] = {}
    # Entered once: its cache then casts each weight once, not once a batch.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
        for indices in token_batches(lengths, batch_tokens)[rank::world]:
            batch = pad_tokens([windows[index].input_ids for index in indices], pad_id)
            logits = model(**{key: value.to(device) for key, value in batch.items()}).logits
            for index, row in zip(indices, logits.float().cpu().numpy(), strict=True):
                results[int(index)] = row[: lengths[index]].copy() if row.ndim == 2 else row
            if on_batch is not None:
                on_batch(len(indices))
    if shared:
        results = {index: row for share in gather(results) for index, row in share.items()}
    model.train(was_training)
    return [results[index] for index in range(len(windows))]
