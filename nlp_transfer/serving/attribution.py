"""Integrated gradients over pieces of text (Sundararajan et al. 2017, arXiv 1703.01365), by captum.

What is explained is the log-odds of a label, log p / (1 − p): in a softmax z_y − log Σ_{c≠y} exp z_c, in a sigmoid z_y.
The path goes from the text with every piece masked to the text itself, in the space of word embeddings. The weights of
all pieces then add up to the difference in log-odds between the two (completeness, proposition 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients

from ..data.batching import pad_tokens
from ..data.windows import Window

STEPS = (20, 80)
"""Points on the path; the second number where the first leaves too large a gap."""

TOLERANCE = 0.05
"""Largest gap in log-odds, for each unit of the difference that is explained (at least one)."""

TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class Target:
    """The log-odds that are explained.

    Args:
        label: Index of the label.
        weights_W: Weight of the logits of each window.
        position: Token whose logits count; None for text tasks.
        independent: Each label is a decision of its own (sigmoid).
    """

    label: int
    weights_W: Sequence[float]
    position: int | None = None
    independent: bool = False

    def log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the log-odds (N,) of logits (N, W, C), or (N, W, T, C) of a token task."""
        logits_NWC = logits if self.position is None else logits[:, :, self.position]
        weights_W = torch.tensor(self.weights_W, dtype=logits_NWC.dtype, device=logits_NWC.device)
        logits_NC = torch.einsum("nwc,w->nc", logits_NWC, weights_W)
        own_N = logits_NC[:, self.label]
        others = [index for index in range(logits_NC.shape[1]) if index != self.label]
        return own_N if self.independent or not others else own_N - logits_NC[:, others].logsumexp(-1)


@dataclass(frozen=True)
class Attribution:
    """What each piece adds.

    Args:
        weights: Of each window the weights (T,) of its tokens.
        base: Log-odds with every piece masked.
        top: Log-odds of the text.
        gap: What the weights fall short of the difference.
    """

    weights: list[np.ndarray]
    base: float
    top: float
    gap: float


def attribute(
    model: Any, tokenizer: Any, windows: Sequence[Window], spans: Sequence[np.ndarray], target: Target
) -> Attribution:
    """Compute what each token of a text adds to the log-odds of a label. In fp32.

    Args:
        model: A model with a task head.
        tokenizer: Its tokenizer.
        windows: The windows of one text.
        spans: Of each window the characters of its tokens; see :func:`~nlp_transfer.data.windows.token_spans`.
        target: What is explained.
    """
    device = next(model.parameters()).device
    batch = pad_tokens([window.input_ids for window in windows], tokenizer.pad_token_id)
    ids_WT, mask_WT = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    masked_WT = ids_WT.clone()
    blank = tokenizer.pad_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    for row, of_window in enumerate(spans):
        # Tokens that the tokenizer has added ([CLS], [SEP]) stand for no characters: they stay, and weigh nothing.
        masked_WT[row, np.flatnonzero(of_window[:, 1] > of_window[:, 0])] = blank
    embed = model.get_input_embeddings()
    end_WTH, begin_WTH = embed(ids_WT).detach(), embed(masked_WT).detach()
    count, tokens, _ = end_WTH.shape

    def log_odds(points: torch.Tensor) -> torch.Tensor:
        points_MTH = points.reshape(-1, *end_WTH.shape[1:])
        mask_MT = mask_WT.repeat(len(points_MTH) // count, 1)
        logits = model(inputs_embeds=points_MTH, attention_mask=mask_MT).logits.float()
        return target.log_odds(logits.reshape(-1, count, *logits.shape[1:]))

    # Windows of a text are one point together: their logits are averaged before the log-odds.
    with torch.no_grad():
        base, top = (float(log_odds(points)[0]) for points in (begin_WTH, end_WTH))
    gradients = IntegratedGradients(log_odds)
    for steps in STEPS:
        found = gradients.attribute(
            end_WTH[None],
            begin_WTH[None],
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=max(1, TOKENS_AT_ONCE // (count * tokens)),
        )
        weights_WT = found[0].sum(-1).double().cpu().numpy()
        gap = top - base - float(weights_WT.sum())
        if abs(gap) <= TOLERANCE * max(1.0, abs(top - base)):
            break
    pieces = [row[: len(window.input_ids)] for row, window in zip(weights_WT, windows, strict=True)]
    return Attribution(pieces, base, top, gap)


def word_weights(
    bounds: Sequence[tuple[int, int]], spans: Sequence[np.ndarray], weights: Sequence[np.ndarray]
) -> np.ndarray:
    """Add up the weights of the pieces of each word.

    A piece that covers several words gives each an equal share; a word in the overlap of two windows gets both.

    Args:
        bounds: Start and end of each of U words.
        spans: Of each window the characters (T, 2) of its tokens.
        weights: Of each window the weights (T,) of its tokens.

    Returns:
        Weights (U,).
    """
    starts = np.asarray([start for start, _ in bounds], dtype=np.int64)
    ends = np.asarray([end for _, end in bounds], dtype=np.int64)
    total_U = np.zeros(len(bounds))
    for spans_T2, weights_T in zip(spans, weights, strict=True):
        for (begin, end), weight in zip(spans_T2, weights_T, strict=True):
            first, after = np.searchsorted(ends, begin, side="right"), np.searchsorted(starts, end, side="left")
            if first < after and begin < end:
                total_U[first:after] += weight / (after - first)
    return total_U
