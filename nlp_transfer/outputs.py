"""What a model says of the units of some rows: probabilities, answers and features, as label-free scores read them."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import torch

from .forward import predicting, read_windows
from .selection import Units
from .tasks.base import Encoded, Task
from .units import UNKNOWN, first_token, mean_of_tokens

WORDS_PER_UNIT = 10
"""Words that are read for each word that is kept: enough sentences for variety, in bounded memory."""


def sample_rows(rows: datasets.Dataset, most: int, seed: int) -> datasets.Dataset:
    """Return at most ``most`` rows in their order, drawn at random; of token tasks, with bounded words in all.

    Args:
        rows: Canonical rows.
        most: Largest number of rows. Rows of words hold at most ``WORDS_PER_UNIT`` times as many words together.
        seed: Seed of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(rows))[:most]
    if "words" in rows.column_names:
        words = np.cumsum([len(words) for words in rows.select(order.tolist())["words"]])
        order = order[: max(1, int((words <= WORDS_PER_UNIT * most).sum()))]
    return rows if len(order) == len(rows) else rows.select(np.sort(order).tolist())


def units_of(
    model: Any,
    task: Task,
    encoded: Encoded,
    pad_id: int,
    *,
    most: int,
    batch_tokens: int = 2048,
    autocast: bool = False,
) -> Units:
    """Run a model over encoded rows. Under several processes all must call; they share the work.

    Args:
        model: A model with a task head.
        task: Its task.
        encoded: Rows with features. Those without labels give units without gold classes.
        pad_id: Id of the padding token.
        most: At most this many units; NER rows hold many.
        batch_tokens: Most padded tokens in one forward pass.
        autocast: Compute in bf16.
    """

    def compute(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        output = model(**batch, output_hidden_states=True)
        return torch.cat([output.logits.float(), _head_inputs(output, task, batch["attention_mask"])], dim=-1)

    with predicting(model, autocast) as device:
        values = read_windows(compute, encoded.windows, pad_id, device, batch_tokens, shared=True)
    values_UX, labels = task.line_up(encoded, values)
    width = len(task.labels)
    logits_UC, features_UH = values_UX[:, :width].astype(np.float64), values_UX[:, width:].astype(np.float64)
    gold_DU = None if (labels == UNKNOWN).all() else task.classes(labels)
    return Units(task.decisions(logits_UC), task.choices(logits_UC), features_UH, gold_DU).sample(most)


def text_vectors(
    model: Any, task: Task, encoded: Encoded, pad_id: int, *, batch_tokens: int = 2048, autocast: bool = False
) -> np.ndarray:
    """Return one vector (N, H) a row: that which a text's label is read off, or the mean over a sentence's words.

    Args:
        model: A model with a task head.
        task: Its task.
        encoded: N rows of one window each, with features.
        pad_id: Id of the padding token.
        batch_tokens: Most padded tokens in one forward pass.
        autocast: Compute in bf16.
    """

    def compute(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return _head_inputs(model(**batch, output_hidden_states=True), task, batch["attention_mask"])

    with predicting(model, autocast) as device:
        values = read_windows(compute, encoded.windows, pad_id, device, batch_tokens)
    rows = zip(values, encoded.features, strict=True)
    # A sentence without a word that the model can read is the mean over its tokens.
    chosen = [own[row["units"]] if len(row.get("units", ())) else own for own, row in rows]
    return np.stack([own.mean(0) if own.ndim > 1 else own for own in chosen])


def _head_inputs(output: Any, task: Task, mask_NT: torch.Tensor) -> torch.Tensor:
    """Return the vectors that the head reads: (N, H) of texts, (N, T, H) of tokens."""
    hidden_NTH = output.hidden_states[-1].float()
    if output.logits.dim() > 2:
        return hidden_NTH
    return mean_of_tokens(hidden_NTH, mask_NT) if task.mean_pooling else first_token(hidden_NTH)
