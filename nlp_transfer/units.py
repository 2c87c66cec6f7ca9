"""The bundle of tensors that lets every method work with every task.

A *unit* is what the task labels: a text, or the first subword of each word for NER. A task turns a batch into
units; methods see only units. Shape suffixes: N rows, T tokens, U units, H hidden size, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

UNKNOWN = -100
"""Label index of a unit without a label. Target units always carry it."""


@dataclass(frozen=True)
class Sizes:
    """What a method needs to know to build its layers.

    Args:
        hidden: Size H of a feature vector.
        labels: Number C of labels.
    """

    hidden: int
    labels: int


@dataclass(frozen=True)
class Step:
    """One training step, reduced to units.

    Args:
        features_UH: Feature vectors in fp32 (also under bf16 autocast).
        logits_UC: Task logits in fp32.
        labels_U: Label indices (U,), or 0/1 rows (U, C) for multi-label; ``UNKNOWN`` where there is no label.
        weight_U: Share of a label that this unit carries: 1, or 1/k for each of the k windows of a long text.
        domain_U: 0 source, 1 target.
        progress: Share of the optimizer steps that are done, 0 to 1.
        model: The model that is trained, for penalties on its weights.
    """

    features_UH: torch.Tensor
    logits_UC: torch.Tensor
    labels_U: torch.Tensor
    weight_U: torch.Tensor
    domain_U: torch.Tensor
    progress: float
    model: torch.nn.Module

    @property
    def labelled_U(self) -> torch.Tensor:
        """Which units have a label, as booleans."""
        first = self.labels_U if self.labels_U.dim() == 1 else self.labels_U[:, 0]
        return first != UNKNOWN


def first_token(hidden_NTH: torch.Tensor) -> torch.Tensor:
    """Return the vector of the first token (``[CLS]`` or ``<s>``), which BERT-family text heads read: (N, H)."""
    return hidden_NTH[:, 0]


def mean_of_tokens(hidden_NTH: torch.Tensor, mask_NT: torch.Tensor) -> torch.Tensor:
    """Return the mean over real tokens.

    Args:
        hidden_NTH: Hidden states.
        mask_NT: 1 for a real token, 0 for padding.

    Returns:
        Vectors (N, H).
    """
    mask_NT1 = mask_NT.unsqueeze(-1).to(hidden_NTH.dtype)
    return (hidden_NTH * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)
