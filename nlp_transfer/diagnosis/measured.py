"""What is measured of this machine: seconds of real optimizer steps and forward passes on batches of typical sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.batching import PairCollator
from ..data.pairs import Pick
from ..objectives import Objective
from ..tasks.base import Encoded
from ..workspace import Workspace

MEASURED = (50, 20, 50, 80)
"""Percentiles of the padded size of the batches that are measured; the first one warms up."""


@dataclass(frozen=True)
class Side:
    """A domain, known by a sample of it.

    Args:
        encoded: The sample, cut into windows as a run does.
        times: Rows of the whole ÷ rows of the sample.
        repeats: Rows that an epoch draws ÷ rows of the whole: above 1 where small source domains repeat.
    """

    encoded: Encoded
    times: float
    repeats: float = 1.0

    @property
    def windows(self) -> float:
        """Windows of an epoch."""
        return len(self.encoded.windows) * self.times * self.repeats

    @property
    def tokens(self) -> float:
        """Tokens of the whole split."""
        return sum(self.encoded.lengths) * self.times


@dataclass(frozen=True)
class Cost:
    """What a strategy would cost.

    Args:
        strategy: Its name.
        seconds: Estimated seconds of its own training.
        basis: What was measured and multiplied up.
        twins: Trainings of source-only that its twin takes: 0 where it has none.
    """

    strategy: str
    seconds: float
    basis: str
    twins: float = 1.0


@dataclass(frozen=True)
class Speed:
    """What was measured on the task model.

    Args:
        alone: Seconds of one optimizer step on source rows.
        joint: The same with as many target rows beside them; None without target text.
        forward: Seconds of a forward pass over one token, without gradients.
        steps: Optimizer steps of the training.
        epochs: Its epochs.
    """

    alone: float
    joint: float | None
    forward: float
    steps: int
    epochs: float


def step_rate(
    space: Workspace, model: Any, objective: Objective, data: Any, batches: list[list[Pick]]
) -> tuple[float, float]:
    """Time optimizer steps on batches of typical sizes.

    Returns:
        Seconds per padded token, and the mean number of padded tokens in a batch.
    """
    collate = PairCollator(space.tokenizer.pad_token_id)
    sizes = [padded_tokens([data[pick] for pick in batch]) for batch in batches]
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # A rate of 0: the weights stay as they are for what is measured next.
    optimizer = torch.optim.AdamW(moving, lr=0.0)
    device = next(model.parameters()).device
    model.train()

    def step(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=space.precision.bf16):
            loss_sum, _ = objective.loss_sum(model, batch, 0.0)
        (loss_sum / objective.count(batch).clamp(min=1e-9)).backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    chosen = [_at_percentile(sizes, percentile) for percentile in MEASURED]
    made = [collate([data[pick] for pick in batches[index]]) for index in chosen]
    seconds = [_timed(step, {key: value.to(device) for key, value in batch.items()}) for batch in made]
    tokens = [sizes[index] for index in chosen]
    return sum(seconds[1:]) / sum(tokens[1:]), float(np.mean(sizes))


def forward_rate(space: Workspace, model: Any, data: Any, batches: list[list[Pick]]) -> float:
    """Return seconds per padded token of a forward pass without gradients."""
    collate = PairCollator(space.tokenizer.pad_token_id)
    items = [data[pick] for pick in batches[_at_percentile([len(batch) for batch in batches], 50)]]
    device = next(model.parameters()).device
    batch = {key: value.to(device) for key, value in collate(items).items()}
    model.eval()

    @torch.inference_mode()
    def forward(given: dict[str, torch.Tensor]) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=space.precision.bf16):
            model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])

    seconds = [_timed(forward, batch) for _ in range(3)]
    return min(seconds[1:]) / padded_tokens(items)


def _timed(work: Callable[[dict[str, torch.Tensor]], None], batch: dict[str, torch.Tensor]) -> float:
    begun = time.perf_counter()
    work(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def padded_tokens(items: Sequence[dict[str, Any]]) -> int:
    """Return the number of tokens of a batch of items, padding included."""
    rows = [row for item in items for row in item.values()]
    return len(rows) * max(len(row["input_ids"]) for row in rows)


def _at_percentile(sizes: Sequence[int], percentile: int) -> int:
    order = np.argsort(sizes, kind="stable")
    return int(order[round(percentile / 100 * (len(order) - 1))])
