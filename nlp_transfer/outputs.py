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
        vectors = output.hidden_states[-1].float()
        if output.logits.dim() == 2:
            mean = task.mean_pooling
            vectors = mean_of_tokens(vectors, batch["attention_mask"]) if mean else first_token(vectors)
        return torch.cat([output.logits.float(), vectors], dim=-1)

    with predicting(model, autocast) as device:
        values = read_windows(compute, encoded.windows, pad_id, device, batch_tokens, shared=True)
    values_UX, labels = task.line_up(encoded, values)
    width = len(task.labels)
    logits_UC, features_UH = values_UX[:, :width].astype(np.float64), values_UX[:, width:].astype(np.float64)
    gold_DU = None if (labels == UNKNOWN).all() else task.classes(labels)
    return Units(task.decisions(logits_UC), task.choices(logits_UC), features_UH, gold_DU).sample(most)
