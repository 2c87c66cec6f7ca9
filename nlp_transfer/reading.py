"""A model of any make that reads many windows: length-sorted batches of a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .data.padding import padded, token_batches
from .data.windows import Window


def read_batches(
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
    windows: Sequence[Window],
    pad_id: int,
    batch_tokens: int = 2048,
    on_batch: Callable[[int], None] | None = None,
    part: tuple[int, int] = (0, 1),
) -> dict[int, np.ndarray]:
    """Compute something of every window, or of those in one part of the batches.

    Args:
        compute: Takes token ids and mask, both (N, T); returns (N, …) or, a value a token, (N, T, …).
        windows: W windows in any order.
        pad_id: Id of the padding token.
        batch_tokens: Most padded tokens in one forward pass.
        on_batch: Called with the number of windows done after each pass.
        part: ``(k, n)``: the batches k, k + n, k + 2 n, …

    Returns:
        By the index of each window its values; of (T, …) those of padding are left out.
    """
    lengths = [len(window.input_ids) for window in windows]
    first, step = part
    results: dict[int, np.ndarray] = {}
    for indices in token_batches(lengths, batch_tokens)[first::step]:
        values = compute(*padded([windows[index].input_ids for index in indices], pad_id))
        for index, row in zip(indices, values, strict=True):
            results[int(index)] = row[: lengths[index]].copy() if row.ndim > 1 else row
        if on_batch is not None:
            on_batch(len(indices) * step)
    return results
