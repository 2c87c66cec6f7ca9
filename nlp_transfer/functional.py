"""Pure maths on tensors: no state, no device moves, no knowledge of tasks or data.

Shape suffixes: U units, H hidden size.
"""

from __future__ import annotations

import math
from typing import Any

import torch


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, strength: float) -> torch.Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(features: torch.Tensor, strength: float) -> torch.Tensor:
    """Return ``features`` unchanged; in the backward pass multiply their gradient by ``-strength``.

    The gradient reversal layer of Ganin and Lempitsky (2015, arXiv 1409.7495), equations 4 and 5.

    Args:
        features: Any shape.
        strength: λ ≥ 0. With 0 nothing flows back, so that only what comes after the layer learns.

    Returns:
        A tensor of the same shape and values.
    """
    result: torch.Tensor = _ReverseGradient.apply(features, strength)
    return result


def ramp(progress: float, steepness: float = 10.0) -> float:
    """Rise smoothly from 0 to almost 1: ``2 / (1 + exp(-steepness * progress)) - 1``.

    The schedule of the adversarial weight in Ganin et al. (2016, arXiv 1505.07818), section 5.2.2.

    Args:
        progress: Share of training that is done, 0 to 1. Taken from the global step, it survives a resume.
        steepness: γ > 0; 10 in the paper.

    Returns:
        A number from 0 (at progress 0) to ``tanh(steepness / 2)`` (at progress 1).
    """
    return 2.0 / (1.0 + math.exp(-steepness * progress)) - 1.0


def balanced_binary_loss(logits_U: torch.Tensor, domain_U: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy in which both domains count equally, however many units each has.

    ``½ · mean over source of −log(1 − σ(x)) + ½ · mean over target of −log σ(x)``. Without the balance a
    discriminator of unequal batches (NER sentences of unlike length) learns the domain's share, not the domain.

    Args:
        logits_U: Discriminator outputs; positive means target.
        domain_U: 0 source, 1 target.

    Returns:
        A scalar. A domain without units in this batch drops out of the sum.
    """
    losses_U = torch.nn.functional.binary_cross_entropy_with_logits(logits_U, domain_U.to(logits_U), reduction="none")
    halves = [losses_U[domain_U == side].mean() for side in (0, 1) if bool((domain_U == side).any())]
    return torch.stack(halves).sum() / 2
