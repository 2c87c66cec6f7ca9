"""Maximum mean discrepancy with several kernels (DAN, Long et al. 2015, ICML, arXiv 1502.02791).

The distance of the domains' mean embeddings in the space of a kernel, here a mean of Gaussians whose widths are
multiples of the median heuristic. ``class_conditional`` is the local MMD of DSAN (Zhu et al. 2021, IEEE TNNLS, arXiv
2106.09388): one distance a class, between source units by their labels and target units by their predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from ..functional import gaussian_kernels, mmd
from ..units import Sizes, Step, class_weights
from .base import Method


class Mmd(Method):
    """Distance between the distributions of source and target features.

    The plain distance is the unbiased estimate: it can be slightly below 0 once the domains match, and its gradient
    does not shrink the features of small batches, as that of the biased one does. The class-conditional distance is
    biased (as in DSAN), because a class often has a single unit in a batch.

    In NER most units are ``O``, so that the plain distance is mostly one between ordinary words; the
    class-conditional one gives every tag the same weight.

    Args:
        sizes: Feature sizes.
        bandwidths: Kernel widths, as multiples of the median squared distance of the units of a step; by default
            0.25, 0.5, 1, 2 and 4.
        class_conditional: Align class by class. Target predictions are constants for gradients, and only classes
            count that a source label and the most probable class of a target unit name in this step. Predictions mean
            nothing at first: set ``schedule: ramp`` or ``begin``. For multi-label, the texts with a label form one
            class and those without it another.
        max_units: At most this many units of each domain are compared in a step (drawn at random); the cost grows
            with the square.
        shared: ``weight``, ``schedule`` and ``begin`` of every method.
    """

    fewest_units = 2
    citation = (
        "Long et al. 2015, Learning Transferable Features with Deep Adaptation Networks, arXiv 1502.02791; "
        "class_conditional: Zhu et al. 2021, Deep Subdomain Adaptation Network, arXiv 2106.09388"
    )

    def __init__(
        self,
        sizes: Sizes,
        *,
        bandwidths: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] | None = None,
        class_conditional: bool = False,
        max_units: Annotated[int, Field(ge=2)] = 512,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.bandwidths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0) if bandwidths is None else bandwidths
        self.class_conditional = class_conditional
        self.max_units = max_units

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"discrepancy": squared MMD}``, the mean over classes where it is class-conditional."""
        if not step.has_both(2):
            return {"discrepancy": self.nothing(step)}
        step = step.subsample(self.max_units)
        source_UK, target_UK = class_weights(step) if self.class_conditional else domain_weights(step)
        if source_UK.shape[1] == 0:
            return {"discrepancy": self.nothing(step)}
        kernel_UU = gaussian_kernels(step.features_UH, self.bandwidths)
        return {"discrepancy": mmd(kernel_UU, source_UK, target_UK, unbiased=not self.class_conditional).mean()}


def domain_weights(step: Step) -> tuple[torch.Tensor, torch.Tensor]:
    """Return equal weights of the source and of the target units, each (U, 1) with sum 1."""
    target_U1 = step.domain_U.unsqueeze(-1).to(step.features_UH)
    source_U1 = 1 - target_U1
    return source_U1 / source_U1.sum(), target_U1 / target_U1.sum()
