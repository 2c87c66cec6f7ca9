"""Conditional adversarial domain adaptation (Long et al. 2018, NeurIPS, arXiv 1705.10667).

The discriminator sees the features f together with the predictions g: their outer product f ⊗ g, or where that is too
wide a randomized map with the same inner products in expectation. With entropy conditioning (CDAN+E) units that the
model is sure of count more: w = 1 + exp(−H(g)). With several source domains the discriminator tells all domains apart,
see :mod:`~nlp_transfer.methods.adversarial`.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from ..functional import certainty_weight, entropy, multilinear_map, randomized_multilinear_map
from ..units import Sizes, Step
from .adversarial import Adversarial


class Cdan(Adversarial):
    """A discriminator over features and predictions together, so that domains are aligned class by class.

    Predictions and their entropies are constants for gradients: the encoder is moved by way of its features alone (the
    authors' code cuts off the predictions, too, but lets reversed gradients through the entropies). For multi-label, g
    holds yes and no of each label, divided by the number of labels so that it sums to 1 as a softmax does (a text with
    no label is seen, too), and H is the mean over the labels.

    In NER most units are ``O`` and predicted so: the discriminator works mainly in the block of f ⊗ g that belongs to
    ``O``, and entropy conditioning, which favours easy units, adds to that; ``balance`` works against it.

    Args:
        sizes: Feature sizes.
        entropy: Entropy conditioning (CDAN+E); false is plain CDAN.
        max_width: Largest H · C for which the outer product itself is used (4,096 in the paper).
        random_width: Width of the randomized map beyond that; its matrices are drawn once and saved.
        shared: The settings of :class:`~nlp_transfer.methods.adversarial.Adversarial`.
    """

    citation = "Long et al. 2018, Conditional Adversarial Domain Adaptation, arXiv 1705.10667"

    def __init__(
        self,
        sizes: Sizes,
        *,
        entropy: bool = True,
        max_width: Annotated[int, Field(ge=1)] = 4096,
        random_width: Annotated[int, Field(ge=1)] = 1024,
        **shared: Any,
    ):
        exact = sizes.hidden * sizes.outcomes <= max_width
        super().__init__(sizes.hidden * sizes.outcomes if exact else random_width, sizes.sources + 1, **shared)
        self.entropy = entropy
        self.random_HW: torch.Tensor | None
        self.random_DW: torch.Tensor | None
        self.register_buffer("random_HW", None if exact else torch.randn(sizes.hidden, random_width))
        self.register_buffer("random_DW", None if exact else torch.randn(sizes.outcomes, random_width))

    def evidence(self, features_UH: torch.Tensor, step: Step) -> torch.Tensor:
        """Return the multilinear map of features and predictions."""
        decisions_UKD = step.decisions_UKD.detach()
        predictions_UD = decisions_UKD.softmax(-1).flatten(1) / decisions_UKD.shape[1]
        if self.random_HW is None or self.random_DW is None:
            return multilinear_map(features_UH, predictions_UD)
        return randomized_multilinear_map(features_UH, predictions_UD, self.random_HW, self.random_DW)

    def weights(self, step: Step) -> torch.Tensor:
        """Return the weights of entropy conditioning, times those of ``balance``."""
        weight_U = super().weights(step)
        return weight_U * certainty_weight(entropy(step.decisions_UKD.detach()).mean(-1)) if self.entropy else weight_U
