"""Distillation from the frozen source-only model (Hinton et al. 2015, arXiv 1503.02531).

Ryu and Lee (2020, arXiv 2010.11478) add it to the adversarial adaptation of BERT, where it keeps the encoder from
forgetting the task while features are made alike: L = T² · KL(p_teacher ‖ p_student), both softened by T. With
several labels a text, it is the mean over labels of the KL between two Bernoulli distributions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ..functional import distillation_divergence
from ..units import Sizes, Step
from .base import Method


class Anchor(Method):
    """Hold the answers near those of the source-only twin, against collapse in adversarial training.

    The twin is trained first and runs once over all rows; training then reads its logits, so that a step costs no
    more than without. Of a larger ``teacher``, a smaller model learns its answers.

    Args:
        sizes: Feature sizes; not needed.
        temperature: T, by which both logits are divided; larger ones look at the smaller probabilities, too.
        on: Rows on which answers are compared: ``source`` (as in Ryu and Lee; needs no target text), ``target`` or
            ``both``.
        teacher: Run or model folder with the same labels and vocabulary that takes the place of the twin; a student
            learns from it what it answers. Of several, the mean of their probabilities is learned.
        shared: ``weight``, ``schedule`` and ``begin`` of every method.
    """

    needs_teacher = True
    in_rounds = False
    compares_domains = False
    moves_features = False
    citation = "Ryu and Lee 2020, Knowledge Distillation for BERT Unsupervised Domain Adaptation, arXiv 2010.11478"

    def __init__(
        self,
        sizes: Sizes,
        *,
        temperature: Annotated[float, Field(gt=0, le=100)] = 2.0,
        on: Literal["source", "target", "both"] = "both",
        teacher: str | Annotated[list[str], Field(min_length=1)] | None = None,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.temperature = temperature
        self.taught_on = on
        self.teachers = [teacher] if isinstance(teacher, str) else teacher or []

    @classmethod
    def reads_target(cls, settings: Mapping[str, Any]) -> bool:
        """Whether answers on target rows are compared."""
        return settings.get("on") != "source"

    @classmethod
    def reads_source(cls, settings: Mapping[str, Any]) -> bool:
        """Whether answers on source rows are all that is compared: without any, the method would do nothing."""
        return settings.get("on") == "source"

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"distance": mean divergence over the chosen units}``; windows of a long text share one vote."""
        if step.teacher_UC is None:
            raise ValueError("anchor: the rows carry no logits of a teacher; see Encoded.with_teacher.")
        # Selected by weight: a batch without a chosen unit then gives 0, and not the mean of nothing.
        weight_U = step.weight_U
        if self.taught_on != "both":
            weight_U = weight_U * (step.domain_U == ("source", "target").index(self.taught_on))
        teacher = replace(step, logits_UC=step.teacher_UC)
        divergence_U = distillation_divergence(step.decisions_UKD, teacher.decisions_UKD, self.temperature)
        return {"distance": (divergence_U * weight_U).sum() / weight_U.sum().clamp(min=1e-9)}
