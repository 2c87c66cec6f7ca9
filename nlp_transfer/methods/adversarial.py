"""What adversarial methods share: a discriminator of domains behind a gradient reversal layer.

Of K source domains each is a class of its own and the target one more: the multinomial adversary (MAN-NLL) of Chen and
Cardie (2018, NAACL, arXiv 1802.05694), ``J_D = −E_d E_{x∼d} log D_d(f(x))`` with equal weight on every domain d. The
encoder that it cannot beat has the same features in all domains. With K = 1 it is the binary one of Ganin et al.

With ``bounded`` the encoder plays against ``min(J_D, ln D)``, not against J_D. A discriminator bounds the divergence of
Jensen and Shannon of D equally weighted domains from below by ``ln D − J_D`` (Goodfellow et al. 2014, arXiv 1406.2661,
theorem 1): where it is worse than chance the bound is below 0 and says nothing, but the gradient of J_D is as large as
ever and drives the features to and fro before a discriminator that has lost them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field

from ..functional import balanced_domain_loss, ramp, reverse_gradient, without_autocast
from ..units import Step, class_weights
from .base import Method


class Adversarial(Method):
    """Base class: the discriminator learns to tell the domains apart, the encoder to confuse it.

    λ stands inside the reversal layer: the discriminator itself always learns at full strength.

    Args:
        width: Size W of what the discriminator sees of a unit.
        domains: Number D of domains: the sources and the target.
        max_lambda: Largest λ of the reversal layer. BERT-family encoders want a small one (0.1 to 0.3): with 1,
            the papers' value for convolutional networks, features of the classes collapse into each other.
        steepness: γ of the schedule λ(p) = max_lambda · (2 / (1 + exp(−γ p)) − 1).
        hidden: Width of the discriminator's hidden layer.
        dropout: Dropout inside the discriminator.
        rate_factor: Learning rate of the discriminator as a multiple of the encoder's.
        max_units: At most this many units of the source (of all sources together) and of the target are looked at in
            a step (drawn at random); NER batches hold thousands.
        bounded: In a step whose J_D is above ln D nothing flows back into the encoder; with false the game is the
            papers' own.
        balance: Give every class that source and target have in a step the same weight, by source labels and target
            predictions: implicit class-conditioned alignment (Jiang et al. 2020, ICML) by weights in the
            place of sampling. For NER, where most units are ``O``; set ``begin``, as predictions mean nothing at first.
        shared: ``weight`` (leave it at 1 and set ``max_lambda`` instead), ``schedule`` and ``begin`` of every method.
    """

    def __init__(
        self,
        width: int,
        domains: int,
        *,
        max_lambda: Annotated[float, Field(ge=0, le=10)] = 0.1,
        steepness: Annotated[float, Field(gt=0)] = 10.0,
        hidden: Annotated[int, Field(ge=1)] = 256,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        rate_factor: Annotated[float, Field(gt=0)] = 10.0,
        max_units: Annotated[int, Field(ge=2)] = 512,
        bounded: bool = True,
        balance: bool = False,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.max_lambda = max_lambda
        self.steepness = steepness
        self.rate_factor = rate_factor
        self.max_units = max_units
        self.bounded = bounded
        self.balance = balance
        self.domains = domains
        self.discriminator = torch.nn.Sequential(
            torch.nn.Linear(width, hidden),
            torch.nn.ReLU(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(hidden, 1 if domains == 2 else domains),
        )
        self._last = {"domain_accuracy": float("nan"), "lambda": 0.0, "held": 0.0}

    def evidence(self, features_UH: torch.Tensor, step: Step) -> torch.Tensor:
        """Return what the discriminator sees of each unit.

        Args:
            features_UH: The features, behind the reversal layer.
            step: The units they belong to.

        Returns:
            Vectors (U, W).
        """
        raise TypeError(f"{type(self).__name__} does not define evidence()")

    def weights(self, step: Step) -> torch.Tensor:
        """Return the weight of each unit inside its domain (U,); all 0 where nothing is to be compared."""
        if not self.balance:
            return torch.ones_like(step.weight_U)
        source_UC, target_UC = class_weights(step)
        return (source_UC + target_UC).sum(-1)

    def terms(self, step: Step) -> dict[str, torch.Tensor]:
        """Return ``{"domain": balanced cross-entropy of the discriminator}``; ln D means fully confused.

        A step without source or target units gives 0: learned from, it would teach the discriminator one answer.
        """
        strength = self.max_lambda * ramp(self.own_progress(step.progress), self.steepness)
        step = step.subsample(self.max_units)
        weight_U = self.weights(step)
        if not step.has_both(1) or not bool(weight_U.any()):
            self._last = {"domain_accuracy": 1 / self.domains, "lambda": strength, "held": 0.0}
            return {"domain": self.nothing(step)}
        domain_U = self._domains_of(step)
        held = self.bounded and self._is_fooled(step, domain_U, weight_U)
        logits = self._logits(step, 0.0 if held else strength)
        right_U = ((logits > 0).long() if self.domains == 2 else logits.argmax(-1)) == domain_U
        shares = [right_U[domain_U == number].float().mean().item() for number in domain_U.unique()]
        self._last = {"domain_accuracy": sum(shares) / len(shares), "lambda": strength, "held": float(held)}
        return {"domain": balanced_domain_loss(logits, domain_U, weight_U)}

    def _logits(self, step: Step, strength: float) -> torch.Tensor:
        """Return what the discriminator says of each unit, (U,) or (U, D), behind a reversal layer."""
        with without_autocast(step.features_UH):
            seen_UW = self.evidence(reverse_gradient(step.features_UH, strength), step)
            logits: torch.Tensor = self.discriminator(seen_UW).squeeze(-1)
        return logits

    @torch.no_grad()
    def _is_fooled(self, step: Step, domain_U: torch.Tensor, weight_U: torch.Tensor) -> bool:
        """Whether the discriminator, without dropout, is worse than one that knows nothing."""
        self.discriminator.eval()
        loss = balanced_domain_loss(self._logits(step, 0.0), domain_U, weight_U)
        self.discriminator.train(self.training)
        # A domain without units in this step adds nothing to the sum.
        here = sum(bool(weight_U[domain_U == number].any()) for number in range(self.domains))
        return float(loss) > here / self.domains * math.log(self.domains)

    def _domains_of(self, step: Step) -> torch.Tensor:
        """Return what the discriminator is to say of each unit: its source domain, or D − 1 for the target."""
        if self.domains == 2:
            return step.domain_U
        if step.origin_U is None:
            raise ValueError(f"units of {self.domains - 1} source domains must say which one they come from")
        return torch.where(step.domain_U == 1, self.domains - 1, step.origin_U)

    def watch(self, step: Step) -> dict[str, float]:
        """Return of this step the discriminator's balanced accuracy, λ, and 1 where the encoder was held at ln D."""
        return self._last

    def learning_rate(self, base: float) -> float:
        """Return the discriminator's learning rate."""
        return base * self.rate_factor

    def advice(self, averages: dict[str, float]) -> str | None:
        """Warn once λ is near its maximum and the adversarial game has been lost by either side.

        The discriminator at chance (loss at ln D) is what adversarial adaptation aims for, and also what a collapse
        looks like; a loss well above ln D means that the encoder outruns the discriminator, and features swing
        instead of settling.
        """
        if averages.get("lambda", 0.0) < 0.9 * self.max_lambda or self.max_lambda == 0:
            return None
        name = type(self).__name__.lower()
        accuracy, loss = averages["domain_accuracy"], averages["domain"]
        confused = math.log(self.domains)
        state = f"discriminator accuracy {accuracy:.2f}, loss {loss:.3f}, ln {self.domains} = {confused:.3f}"
        if loss > confused + 0.15:
            bound = "" if self.bounded else f"set methods.{name}.bounded, "
            return (
                f"{name}: the encoder outruns the discriminator ({state}); features swing instead of settling. To mend "
                f"it, {bound}lower methods.{name}.max_lambda (try a third) or raise rate_factor, and compare with the "
                "source-only twin."
            )
        if accuracy < 1.1 / self.domains and abs(loss - confused) < 0.01:
            return (
                f"{name}: the discriminator is at chance ({state}): the domains are fully confused, or the features "
                f"have collapsed. If target scores are below the source-only twin's, lower methods.{name}.max_lambda "
                "(try a third) or pretrain on target text first."
            )
        return None
