"""Cutting a set of rows into batches of a bounded number of tokens, and padding them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad token ids on the right to the longest row.

    Args:
        rows: N rows of token ids.
        pad_id: Id of the padding token.

    Returns:
        Ids and mask (1 for a real token, 0 for padding), both (N, T) of int64.
    """
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    real_NT = np.arange(lengths.max()) < lengths[:, None]
    ids_NT = np.full(real_NT.shape, pad_id, dtype=np.int64)
    ids_NT[real_NT] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return ids_NT, real_NT.astype(np.int64)


def token_batches(lengths: Sequence[int], tokens: int) -> list[np.ndarray]:
    """Cut rows into batches of like length whose padded size stays within ``tokens``.

    Args:
        lengths: Tokens of each row.
        tokens: Largest rows × longest row of a batch; a longer single row makes a batch of its own.

    Returns:
        Arrays of row indices, longest rows first (so that a lack of memory shows at once).
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[np.ndarray] = []
    begin = 0
    while begin < len(order):
        size = max(1, tokens // max(1, int(lengths[order[begin]])))
        batches.append(order[begin : begin + size])
        begin += size
    return batches
