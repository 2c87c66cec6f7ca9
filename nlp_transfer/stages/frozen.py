"""Rows of a stage whose encoder never moves: read once, then looked up; see :mod:`nlp_transfer.caching`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..caching import as_cached_rows, hidden_states
from ..data.windows import Window
from ..hardware import default_device
from ..tasks.base import Encoded
from ..workspace import Workspace
from .rows import Rows


def read_once(space: Workspace, model: Any, rows: Rows) -> tuple[list[np.ndarray], Rows]:
    """Compute the hidden states of all rows, and make rows that name them.

    Args:
        space: The run's workspace.
        model: A model with a frozen encoder.
        rows: The rows of a training.

    Returns:
        Hidden states for :func:`~nlp_transfer.caching.cached_encoder`, and the rows as those of that cache.
    """
    named: dict[str, Any] = dict(rows.each())
    chosen_by = rows.selector
    states, cached = _read(space, model, [*named.values(), *([] if chosen_by is None else chosen_by.sides)])
    sides = cached[len(named) :]
    named = dict(zip(named, cached, strict=False))
    return states, replace(rows, **named, selector=None if chosen_by is None else chosen_by.reading(*sides))


def _read(space: Workspace, model: Any, splits: Sequence[Encoded]) -> tuple[list[np.ndarray], list[Encoded]]:
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
