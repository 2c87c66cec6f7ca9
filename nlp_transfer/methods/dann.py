"""Domain-adversarial training of neural networks (Ganin et al. 2016, JMLR 17(59), arXiv 1505.07818).

Equation 9: the encoder minimises the task loss and maximises the loss of a discriminator that tells source from
target features; the gradient reversal layer (equations 13 to 17) turns both into one minimisation.
"""

from __future__ import annotations

from typing import Any

import torch

from ..units import Sizes, Step
from .adversarial import Adversarial


class Dann(Adversarial):
    """A discriminator over the features of units behind a gradient reversal layer.

    Args:
        sizes: Feature sizes.
        shared: The settings of :class:`~nlp_transfer.methods.adversarial.Adversarial`.
    """

    citation = "Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818"

    def __init__(self, sizes: Sizes, **shared: Any):
        super().__init__(sizes.hidden, **shared)

    def evidence(self, features_UH: torch.Tensor, step: Step) -> torch.Tensor:
        """Return the features."""
        return features_UH
