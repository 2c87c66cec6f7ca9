"""Rows of a stage whose encoder never moves: read once, then looked up; see :mod:`nlp_transfer.caching`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..caching import as_cached_rows, hidden_states
from ..data.windows import Window
from ..hardware import default_device
from ..tasks.base import Encoded
from ..workspace import Workspace


def read_once(space: Workspace, model: Any, *splits: Encoded) -> tuple[list[np.ndarray], list[Encoded]]:
    """Compute the hidden states of all rows, and make rows that name them.

    Args:
        space: The run's workspace.
        model: A model with a frozen encoder.
        splits: Encoded rows.

    Returns:
        Hidden states for :func:`~nlp_transfer.caching.cached_encoder`, and the splits as rows of that cache.
    """
    windows = [window for split in splits for window in split.windows]
    model.to(default_device())
    with space.reporter.bar("frozen features", len(windows)) as advance:
        states = hidden_states(
            model, windows, space.tokenizer.pad_token_id, space.recipe.evaluate.batch_tokens, advance
        )
    cached, first = [], 0
    for split in splits:
        named = [
            Window(w.row, [number] * len(states[number]), w.weight, w.positions, w.words, w.cut)
            for number, w in enumerate(split.windows, start=first)
        ]
        cached.append(Encoded(named, split.rows, as_cached_rows(split.features, first)))
        first += len(named)
    return states, cached
