"""Domain-adversarial training of neural networks (Ganin et al. 2016, JMLR 17(59), arXiv 1505.07818).

Equation 9: the encoder minimises the task loss and maximises the loss of a discriminator that tells source from
target features; the gradient reversal layer (equations 13 to 17) turns both into one minimisation. As there, λ
stands inside the reversal layer: the discriminator itself always learns at full strength.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field

from ..functional import balanced_binary_loss, ramp, reverse_gradient
from ..units import Sizes, Step
from .base import Method


class Dann(Method):
    """A discriminator over units behind a gradient reversal layer.

    Args:
        sizes: Feature sizes.
        max_lambda: Largest λ of the reversal layer. BERT-family encoders want a small one (0.1 to 0.3): with 1,
            the paper's value for convolutional networks, features of the classes collapse into each other.
        steepness: γ of the schedule λ(p) = max_lambda · (2 / (1 + exp(−γ p)) − 1).
        hidden: Width of the discriminator's hidden layer.
        dropout: Dropout inside the discriminator.
        rate_factor: Learning rate of the discriminator as a multiple of the encoder's.
        max_units: At most this many units of each domain are looked at in a step (drawn at random); NER batches
            hold thousands.
        shared: ``weight`` (leave it at 1 and set ``max_lambda`` instead), ``schedule`` and ``begin`` of every method.
    """

    citation = "Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818"

    def __init__(
        self,
        sizes: Sizes,
        *,
        max_lambda: Annotated[float, Field(ge=0, le=10)] = 0.1,
        steepness: Annotated[float, Field(gt=0)] = 10.0,
        hidden: Annotated[int, Field(ge=1)] = 256,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        rate_factor: Annotated[float, Field(gt=0)] = 10.0,
        max_units: Annotated[int, Field(ge=2)] = 512,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.max_lambda = max_lambda
        self.steepness = steepness
        self.rate_factor = rate_factor
        self.max_units = max_units
        self.discriminator = torch.nn.Sequential(
            torch.nn.Linear(sizes.hidden, hidden),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden, 1),
        )
        self._last: tuple[float, float] = (float("nan"), 0.0)

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"domain": balanced binary cross-entropy of the discriminator}``; ln 2 means fully confused."""
        strength = self.max_lambda * ramp(step.progress, self.steepness)
        kept_U = self._subsample(step.domain_U)
        domain_U = step.domain_U[kept_U]
        logits_U = self.discriminator(reverse_gradient(step.features_UH[kept_U], strength)).squeeze(-1)
        right_U = ((logits_U > 0) == (domain_U == 1)).float()
        sides = [right_U[domain_U == side].mean().item() for side in (0, 1) if bool((domain_U == side).any())]
        self._last = (sum(sides) / len(sides), strength)
        return {"domain": balanced_binary_loss(logits_U, domain_U)}

    def watch(self, step: Step) -> dict[str, float]:
        """Return the balanced accuracy of the discriminator on this step and the λ that was used."""
        return {"domain_accuracy": self._last[0], "lambda": self._last[1]}

    def learning_rate(self, base: float) -> float:
        """Return the discriminator's learning rate."""
        return base * self.rate_factor

    def advice(self, averages: dict[str, float]) -> str | None:
        """Warn once λ is near its maximum and the adversarial game has been lost by either side.

        The discriminator at chance (loss at ln 2) is what DANN aims for, and also what a collapse looks like; a loss
        well above ln 2 means that the encoder outruns the discriminator, and features swing instead of settling.
        """
        if averages.get("lambda", 0.0) < 0.9 * self.max_lambda or self.max_lambda == 0:
            return None
        accuracy, loss = averages["domain_accuracy"], averages["domain"]
        state = f"discriminator accuracy {accuracy:.2f}, loss {loss:.3f}, ln 2 = 0.693"
        if loss > math.log(2) + 0.15:
            return (
                f"dann: the encoder outruns the discriminator ({state}); features swing instead of settling. Lower "
                "methods.dann.max_lambda (try a third) or raise rate_factor, and compare with the source-only twin."
            )
        if accuracy < 0.55 and abs(loss - math.log(2)) < 0.01:
            return (
                f"dann: the discriminator is at chance ({state}): the domains are fully confused, or the features have "
                "collapsed. If target scores are below the source-only twin's, lower methods.dann.max_lambda (try a "
                "third) or pretrain on target text first."
            )
        return None

    def _subsample(self, domain_U: torch.Tensor) -> torch.Tensor:
        if domain_U.numel() <= 2 * self.max_units:
            return torch.arange(domain_U.numel(), device=domain_U.device)
        parts = []
        for side in (0, 1):
            indices = (domain_U == side).nonzero().squeeze(-1)
            chosen = torch.randperm(indices.numel(), device=indices.device)[: self.max_units]
            parts.append(indices[chosen])
        return torch.cat(parts)
