"""Masked language modelling on target text beside the task (UDALM, Karouzos et al. 2021, arXiv 2104.07078).

Their joint loss is L = λ L_task(source) + (1 − λ) L_MLM(target) of one batch, with λ = n / (n + m) for n source and m
target rows in it. The task's loss has the factor 1 here, so all is divided by λ: L / λ = L_task + (m / n) · L_MLM. The
optimum is the same, and Adam does not see the constant.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from ..data.masking import Masking
from ..units import Sizes, Step
from .base import Method


class JointMlm(Method):
    """Masked language modelling on target rows while the task is learned, so that the encoder stays at home in both.

    The head comes from a pretrain stage or from the checkpoint. Where neither has one, a fresh one is fitted with the
    encoder frozen first, as a random head would damage the encoder. It computes at masked positions only, and is
    dropped after training. Without other methods that read target rows, only their masked copies are run.

    Args:
        sizes: Feature sizes; not needed.
        mask_rate: Share of the words that are masked.
        whole_words: Mask all pieces of a word together.
        head_steps: Optimizer steps in which the head is fitted, encoder frozen, before training; by default 200 when
            there is no trained head to start from, else 0.
        shared: ``weight`` (1 is the paper's mixture), ``schedule`` and ``begin`` of every method.
    """

    in_rounds = False
    compares_domains = False
    citation = "Karouzos et al. 2021, UDALM: Unsupervised Domain Adaptation through Language Modeling, arXiv 2104.07078"

    def __init__(
        self,
        sizes: Sizes,
        *,
        mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15,
        whole_words: bool = True,
        head_steps: Annotated[int, Field(ge=0)] | None = None,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.masking = Masking(mask_rate, whole_words, head_steps)

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"mlm": m / n · cross-entropy, mean over the masked tokens}``."""
        if step.masked is None or self.head is None:
            raise ValueError(
                "joint_mlm: the batch holds no masked copies of target rows, or there is no head for them."
            )
        logits_MV = self.head(step.masked.hidden_MH).float()
        total = torch.nn.functional.cross_entropy(logits_MV, step.masked.labels_M, reduction="sum")
        return {"mlm": step.masked.share * total / max(1, len(logits_MV))}
