"""Correlation alignment (Deep CORAL, Sun and Saenko 2016, ECCV workshops, arXiv 1607.01719)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from ..functional import coral
from ..units import Sizes, Step
from .base import Method


class Coral(Method):
    """Distance between the covariances of source and target features: ‖C_S − C_T‖²_F / (4 H²).

    In NER most units are ``O``: the covariances are those of ordinary words.

    Args:
        sizes: Feature sizes.
        weight: Factor on the term, which is small (1e-4 is usual for encoders: it is divided by 4 H²). The paper's
            rule: large enough that the weighted term and the task loss are about equal at the end of training.
        shared: ``schedule`` and ``begin`` of every method.
    """

    fewest_units = 2
    citation = "Sun and Saenko 2016, Deep CORAL, arXiv 1607.01719"

    def __init__(self, sizes: Sizes, *, weight: Annotated[float, Field(ge=0)] = 100.0, **shared: Any):
        super().__init__(weight=weight, **shared)

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"covariance": distance of the covariances}``."""
        if not step.has_both(2):
            return {"covariance": self.nothing(step)}
        source_SH, target_TH = (step.features_UH[step.domain_U == side] for side in (0, 1))
        return {"covariance": coral(source_SH, target_TH)}
