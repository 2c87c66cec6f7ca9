"""Domain-adversarial training of neural networks (Ganin et al. 2016, JMLR 17(59), arXiv 1505.07818).

Equation 9: the encoder minimises the task loss and maximises the loss of a discriminator that tells source from
target features; the gradient reversal layer (equations 13 to 17) turns both into one minimisation. With several source
domains the discriminator tells all domains apart, see :mod:`~nlp_transfer.methods.adversarial`.
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

    citation = (
        "Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818; several sources: Chen "
        "and Cardie 2018, Multinomial Adversarial Networks for Multi-Domain Text Classification, arXiv 1802.05694"
    )

    def __init__(self, sizes: Sizes, **shared: Any):
        super().__init__(sizes.hidden, sizes.sources + 1, **shared)

    def evidence(self, features_UH: torch.Tensor, step: Step) -> torch.Tensor:
        """Return the features."""
        return features_UH
