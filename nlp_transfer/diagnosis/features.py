"""Frozen features of a sample of rows: one mean vector a text and, for NER, one vector a word."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.load import ORIGIN, Split
from ..data.mixture import copy_numbers
from ..data.split import normalise
from ..data.windows import Limits
from ..forward import read_windows
from ..models import encoder_of
from ..tasks.base import Encoded, Task
from ..units import mean_of_tokens

MAX_ROWS = 1000
"""Rows of a split that are looked at, unless the caller says otherwise."""
MAX_LENGTH = 128
"""Tokens of a text that the encoder reads: its first ones. Enough to know a domain by."""
MAX_TOKENS = 40_000
"""Tokens of a split that the encoder reads: later rows of the sample are left out where texts are long."""


@dataclass(frozen=True)
class Features:
    """What a frozen encoder makes of a sample.

    Shape suffixes: N rows, U units, H hidden size.

    Args:
        texts_NH: Mean of the tokens of each text.
        units_UH: What the task labels: the same for texts; the first subword of each word for NER.
        rows_U: Row of each unit.
        words_U: For NER, the index of each unit's word in its row.
        groups_N: Number of each text; equal texts (but for case and space) share one.
    """

    texts_NH: np.ndarray
    units_UH: np.ndarray
    rows_U: np.ndarray
    words_U: np.ndarray | None
    groups_N: list[str]

    def __len__(self) -> int:
        return len(self.texts_NH)


def sample(split: Split, most: int, seed: int) -> Split:
    """Return a split of at most so many rows, drawn by the seed, in random order; of several domains equal parts."""
    order = np.random.default_rng((seed, 2007)).permutation(len(split))
    if ORIGIN in split.rows.column_names:
        origins = np.asarray(split.rows[ORIGIN][:])[order]
        order = order[copy_numbers(origins) < math.ceil(most / len(np.unique(origins)))]
    return split.select([int(row) for row in order[:most]])


def encoded_first(task: Task, split: Split, tokenizer: Any, limits: Limits) -> Encoded:
    """Cut the first rows of a sample into one window each, up to :data:`MAX_TOKENS` in all."""
    short = Limits(min(limits.max_length, MAX_LENGTH), 0, truncate=True)
    encoded = task.encode(split.rows, tokenizer, short, labelled=False)
    room = np.cumsum([len(window.input_ids) for window in encoded.windows]) <= MAX_TOKENS
    kept = max(1, int(room.sum()))
    return Encoded(encoded.windows[:kept], kept, encoded.features[:kept])


def extract(
    model: Any,
    encoded: Encoded,
    split: Split,
    pad_id: int,
    batch_tokens: int = 2048,
    autocast: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> Features:
    """Run the frozen encoder over a sample.

    Args:
        model: A model with a head; only its encoder is used.
        encoded: From :func:`encoded_first`.
        split: The sample that it was made from.
        pad_id: Id of the padding token.
        batch_tokens: Most padded tokens in one forward pass.
        autocast: Compute in bf16.
        on_batch: Called with the number of rows done.
    """
    with_words = "words" in split.rows.column_names
    encoder = encoder_of(model).eval()
    device = next(encoder.parameters()).device

    def compute(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden_NTH = encoder(**batch)[0].float()
        return hidden_NTH if with_words else mean_of_tokens(hidden_NTH, batch["attention_mask"])

    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
        states = read_windows(compute, encoded.windows, pad_id, device, batch_tokens, on_batch)
    texts_NH = np.stack([values.mean(0) for values in states] if with_words else states)
    groups = [normalise(text) for text in split.rows["text"][: encoded.rows]]
    if not with_words:
        return Features(texts_NH, texts_NH, np.arange(len(states)), None, groups)
    units = [tokens_TH[window.positions] for tokens_TH, window in zip(states, encoded.windows, strict=True)]
    counts = [len(vectors) for vectors in units]
    words_U = np.concatenate([window.words for window in encoded.windows])
    return Features(texts_NH, np.concatenate(units), np.repeat(np.arange(len(states)), counts), words_U, groups)
