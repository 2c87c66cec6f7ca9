"""A model that reads many windows: length-sorted batches of a bounded number of tokens, shared out over processes."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from .data.windows import Window
from .processes import gather, place
from .reading import read_batches

Batch = dict[str, torch.Tensor]


@torch.inference_mode()
def read_windows(
    compute: Callable[[Batch], torch.Tensor],
    windows: Sequence[Window],
    pad_id: int,
    device: torch.device,
    batch_tokens: int = 2048,
    on_batch: Callable[[int], None] | None = None,
    shared: bool = False,
) -> list[np.ndarray]:
    """Compute something of every window.

    Args:
        compute: Takes ``input_ids`` and ``attention_mask``, both (N, T); returns (N, …) or, a value a token, (N, T, …).
        windows: W windows in any order.
        pad_id: Id of the padding token.
        device: Where batches go.
        batch_tokens: Most padded tokens in one forward pass.
        on_batch: Called with the number of windows done after each pass, for progress bars.
        shared: Under several processes, let each compute a share and give all of them everything. All must call.

    Returns:
        For each window its values in fp32; of (T, …) those of padding are left out.
    """

    def of_batch(ids_NT: np.ndarray, mask_NT: np.ndarray) -> np.ndarray:
        batch = {"input_ids": torch.from_numpy(ids_NT), "attention_mask": torch.from_numpy(mask_NT)}
        values = compute({key: value.to(device) for key, value in batch.items()})
        return np.asarray(values.float().cpu().numpy())

    part = place() if shared else (0, 1)
    results = read_batches(of_batch, windows, pad_id, batch_tokens, on_batch, part)
    if shared:
        results = {index: row for share in gather(results) for index, row in share.items()}
    return [results[index] for index in range(len(windows))]


def window_logits(
    model: Any,
    windows: Sequence[Window],
    pad_id: int,
    batch_tokens: int = 2048,
    on_batch: Callable[[int], None] | None = None,
    autocast: bool = False,
    shared: bool = False,
) -> list[np.ndarray]:
    """Return the logits of windows: (C,) each for text tasks, (T, C) for token tasks.

    Args:
        model: A model with a task head.
        windows: W windows in any order.
        pad_id: Id of the padding token.
        batch_tokens: Most padded tokens in one forward pass.
        on_batch: See :func:`read_windows`.
        autocast: Compute in bf16.
        shared: See :func:`read_windows`.
    """
    with predicting(model, autocast) as device:
        return read_windows(
            lambda batch: model(**batch).logits, windows, pad_id, device, batch_tokens, on_batch, shared
        )


@contextlib.contextmanager
def predicting(model: Any, autocast: bool) -> Iterator[torch.device]:
    """Put a model into evaluation mode inside the block, under autocast if asked for; yield its device."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    # Entered once: its cache then casts each weight once, not once a batch.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
        yield device
    model.train(was_training)


def cast_linear(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model whose linear layers hold what autocast makes of their weights; all else is shared."""
    shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    copied = copy.deepcopy(model, shared)
    for layer in [module for module in copied.modules() if isinstance(module, torch.nn.Linear)]:
        for name, value in [*layer.named_parameters(recurse=False)]:
            setattr(layer, name, torch.nn.Parameter(value.detach().to(torch.bfloat16), requires_grad=False))
    return copied
