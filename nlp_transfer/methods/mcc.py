"""Minimum class confusion (Jin et al. 2020, ECCV, arXiv 1912.03699)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from ..functional import class_confusion
from ..units import Sizes, Step
from .base import Method


class Mcc(Method):
    """Make the predictions for target units unambiguous: few units between two classes. Source units take no part.

    Every class counts alike, however often it is predicted (the category normalisation of the paper): ``O`` does not
    drown the other tags of NER. A class that no target unit of the step belongs to is judged by what little
    probability the others give to it, so batches should hold several units of each class.

    For multi-label, where labels may well come together, each label is a decision of its own between yes and no.

    Args:
        sizes: Feature sizes.
        temperature: T of the softmax, above 1 against over-confidence.
        shared: ``weight``, ``schedule`` and ``begin`` of every method.
    """

    compares_domains = False
    moves_features = False
    fewest_units = 2
    citation = "Jin et al. 2020, Minimum Class Confusion for Versatile Domain Adaptation, arXiv 1912.03699"

    def __init__(self, sizes: Sizes, *, temperature: Annotated[float, Field(gt=0)] = 2.5, **shared: Any):
        super().__init__(**shared)
        self.temperature = temperature

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"confusion": class confusion of the target predictions}``.

        It is a constant for a single unit (its classes are confused with nothing but themselves), hence 0 then.
        """
        target_U = step.domain_U == 1
        if int(target_U.sum()) < 2:
            return {"confusion": self.nothing(step)}
        return {"confusion": class_confusion(step.decisions_UKD[target_U], self.temperature)}
