"""The bundle of tensors that lets every method work with every task.

A *unit* is what the task labels: a text, or the first subword of each word for NER. A task turns a batch into
units; methods see only units. Shape suffixes: N rows, T tokens, U units, H hidden size, C labels, K decisions that a
unit asks for, D outcomes of a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .marks import TARGET as TARGET
from .marks import UNKNOWN as UNKNOWN


@dataclass(frozen=True)
class Sizes:
    """What a method needs to know to build its layers.

    Args:
        hidden: Size H of a feature vector.
        labels: Number C of labels.
        multi_label: Each label is a decision of its own.
        sources: Number of source domains.
    """

    hidden: int
    labels: int
    multi_label: bool = False
    sources: int = 1

    @property
    def outcomes(self) -> int:
        """Number K · D of outcomes over all decisions of a unit: C, or 2 C for multi-label."""
        return self.labels * 2 if self.multi_label else self.labels


@dataclass(frozen=True)
class Masked:
    """Masked copies of target rows in a step.

    Args:
        hidden_MH: Last hidden states of the M masked tokens, in the precision of the forward pass.
        labels_M: Ids of the tokens that were hidden.
        share: Number of masked rows ÷ number of labelled rows of the batch.
    """

    hidden_MH: torch.Tensor
    labels_M: torch.Tensor
    share: float


@dataclass(frozen=True)
class Step:
    """One training step, reduced to units.

    Args:
        features_UH: Feature vectors in fp32 (also under bf16 autocast).
        logits_UC: Task logits in fp32.
        labels_U: Label indices (U,), or 0/1 rows (U, C) for multi-label; ``UNKNOWN`` where there is no label. A target
            unit may hold a pseudo-label, or a label of its own: which domain a unit comes from is told by ``domain_U``
            alone.
        weight_U: Share of a label that this unit carries: 1, or 1/k for each of the k windows of a long text; times
            the weight of pseudo-labels where it has one.
        domain_U: 0 source (any of several), 1 target.
        progress: Share of the optimizer steps that are done, 0 to 1.
        model: The model that is trained, for penalties on its weights.
        teacher_UC: Logits for the same units of the source-only twin, or of the models that a method names, where one
            asks for them.
        masked: Masked copies of target rows, where a method asks for them. They are no units: an alignment loss would
            only look for the mask token.
        soft_UC: Probabilities that stand for the label in the loss; zeros where the label itself counts. None where
            no unit has any.
        average_UC: Logits of an averaged teacher for the target units, in their order; None where there is none.
        origin_U: Which source domain a unit comes from, counted from 0, or ``TARGET``; None where there is one source.
    """

    features_UH: torch.Tensor
    logits_UC: torch.Tensor
    labels_U: torch.Tensor
    weight_U: torch.Tensor
    domain_U: torch.Tensor
    progress: float
    model: torch.nn.Module
    teacher_UC: torch.Tensor | None = None
    masked: Masked | None = None
    soft_UC: torch.Tensor | None = None
    average_UC: torch.Tensor | None = None
    origin_U: torch.Tensor | None = None

    @property
    def labelled_U(self) -> torch.Tensor:
        """Which units have a label (of several labels: at least one that is known), as booleans."""
        known = self.labels_U != UNKNOWN
        return known.any(-1) if self.multi_label else known

    @property
    def multi_label(self) -> bool:
        """Whether each label is a decision of its own."""
        return self.labels_U.dim() == 2

    @property
    def decisions_UKD(self) -> torch.Tensor:
        """Logits of each decision, to be read with a softmax over D.

        One decision between the labels (K = 1, D = C); for multi-label one a label, between yes and no (K = C,
        D = 2), where the softmax is the sigmoid and its complement.
        """
        if self.multi_label:
            return torch.stack([self.logits_UC, torch.zeros_like(self.logits_UC)], dim=-1)
        return self.logits_UC.unsqueeze(1)

    @property
    def outcomes_UKD(self) -> torch.Tensor:
        """The outcome of each decision that the label gives, as 0 and 1; all 0 where it is unknown."""
        if self.multi_label:
            known_UC1 = (self.labels_U != UNKNOWN).unsqueeze(-1)
            return torch.stack([self.labels_U, 1 - self.labels_U], dim=-1) * known_UC1
        known_U11 = self.labelled_U[:, None, None]
        labels_U = self.labels_U.clamp(min=0)
        one_hot_UC = torch.nn.functional.one_hot(labels_U, self.logits_UC.shape[-1]).to(self.logits_UC)
        return one_hot_UC.unsqueeze(1) * known_U11

    def take(self, chosen_U: torch.Tensor) -> Step:
        """Return the step with some of its units only, by their indices, without the averaged teacher's logits."""
        return replace(
            self,
            features_UH=self.features_UH[chosen_U],
            logits_UC=self.logits_UC[chosen_U],
            labels_U=self.labels_U[chosen_U],
            weight_U=self.weight_U[chosen_U],
            domain_U=self.domain_U[chosen_U],
            soft_UC=None if self.soft_UC is None else self.soft_UC[chosen_U],
            teacher_UC=None if self.teacher_UC is None else self.teacher_UC[chosen_U],
            average_UC=None,
            origin_U=None if self.origin_U is None else self.origin_U[chosen_U],
        )

    def subsample(self, most: int) -> Step:
        """Return the step with at most ``most`` units of each domain, drawn at random; source units come first."""
        kept = []
        for side in (0, 1):
            units_U = (self.domain_U == side).nonzero().squeeze(-1)
            if units_U.numel() > most:
                units_U = units_U[torch.randperm(units_U.numel(), device=units_U.device)[:most]]
            kept.append(units_U)
        return self.take(torch.cat(kept))

    def has_both(self, least: int) -> bool:
        """Return whether each domain has at least so many units."""
        return all(int((self.domain_U == side).sum()) >= least for side in (0, 1))


def class_weights(step: Step) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of source and target units in each class that both domains have.

    ``w_ic = y_ic / Σ_j y_jc``, where y is the label of a unit (0 or 1) where it has one and the prediction, a constant
    for gradients, where it has none: Deep Subdomain Adaptation (Zhu et al. 2021, arXiv 2106.09388), whose source units
    have labels and whose target units have none. As in the authors' code, both domains have a class if a label or the
    most probable class of a unit of each names it.

    Returns:
        Two tensors (U, C), or for multi-label (U, 2 C) with the units that have a label and those that do not as
        classes; fewer columns where a domain lacks classes, and none at the worst. Columns sum to 1.
    """
    target_U1 = step.domain_U.unsqueeze(-1).to(step.features_UH)
    labels_UKD = step.outcomes_UKD
    known_UK1 = labels_UKD.sum(-1, keepdim=True) > 0
    predicted_UKD = step.decisions_UKD.detach().softmax(-1)
    likeliest_UKD = torch.nn.functional.one_hot(predicted_UKD.argmax(-1), predicted_UKD.shape[-1]).to(labels_UKD)
    classes_UC = torch.where(known_UK1, labels_UKD, predicted_UKD).flatten(1)
    named_UC = torch.where(known_UK1, labels_UKD, likeliest_UKD).flatten(1)
    shared_C = ((named_UC * (1 - target_U1)).sum(0) > 0) & ((named_UC * target_U1).sum(0) > 0)
    source_UC, target_UC = (classes_UC * (1 - target_U1))[:, shared_C], (classes_UC * target_U1)[:, shared_C]
    return source_UC / source_UC.sum(0), target_UC / target_UC.sum(0)


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
