"""Pure maths on tensors: no state, no device moves, no knowledge of tasks or data.

Shape suffixes: U units (S of the source, T of the target), H hidden size, K decisions (or weightings), D outcomes of a
decision. Distances, covariances and products of probabilities are computed without autocast: bf16 has 8 bits for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

SMALL = 1e-12
"""Keeps divisions finite where a sum of weights or a typical distance is zero."""


def without_autocast(tensor: torch.Tensor) -> torch.autocast:
    """Return a context in which autocast is off on the device of a tensor."""
    return torch.autocast(tensor.device.type, enabled=False)


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


def label_losses(logits_UC: torch.Tensor, labels_U: torch.Tensor, soft_UC: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy of each unit with its label, or with a distribution over the labels where it has one.

    Args:
        logits_UC: Task logits.
        labels_U: Label indices, all known.
        soft_UC: Probabilities; a row of zeros means that the label counts. None: labels only.

    Returns:
        Losses (U,).
    """
    losses_U = torch.nn.functional.cross_entropy(logits_UC, labels_U, reduction="none")
    if soft_UC is None:
        return losses_U
    soft_losses_U = torch.nn.functional.cross_entropy(logits_UC, soft_UC, reduction="none")
    return torch.where(soft_UC.sum(-1) > 0, soft_losses_U, losses_U)


def balanced_domain_loss(
    logits: torch.Tensor, domain_U: torch.Tensor, weight_U: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of a discriminator in which all D domains count equally, however many units each has.

    ``1/D · Σ_d mean over domain d of −log p(d)``. Without the balance a discriminator of unequal batches (NER sentences
    of unlike length) learns the domain's share, not the domain.

    Args:
        logits: Discriminator outputs: (U,) for two domains, where positive means the second; (U, D) for more.
        domain_U: Domains, 0 to D − 1.
        weight_U: Weights ≥ 0: the means are ``Σ w l / Σ w`` in each domain.

    Returns:
        A scalar, ln D where the discriminator knows nothing. A domain without units in this batch drops out of the sum.
    """
    if logits.dim() == 1:
        domains = 2
        losses_U = torch.nn.functional.binary_cross_entropy_with_logits(logits, domain_U.to(logits), reduction="none")
    else:
        domains = logits.shape[-1]
        losses_U = torch.nn.functional.cross_entropy(logits, domain_U, reduction="none")
    weight_U = torch.ones_like(losses_U) if weight_U is None else weight_U
    inside = [domain_U == number for number in range(domains)]
    means = [(losses_U * weight_U)[units_U].sum() / weight_U[units_U].sum().clamp(min=SMALL) for units_U in inside]
    return torch.stack(means).mean()


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy ``−Σ p log p`` in nats of the softmax over the last dimension (which is summed away)."""
    logarithms = logits.log_softmax(-1)
    return -(logarithms.exp() * logarithms).sum(-1)


def certainty_weight(entropies: torch.Tensor) -> torch.Tensor:
    """Return ``w(H) = 1 + exp(−H)``, between 1 (knows nothing) and 2 (certain).

    The entropy conditioning of CDAN+E (Long et al. 2018, arXiv 1705.10667) and, up to its normalisation, the
    uncertainty reweighting of MCC (Jin et al. 2020, arXiv 1912.03699).
    """
    return 1 + torch.exp(-entropies)


def multilinear_map(features_UH: torch.Tensor, predictions_UD: torch.Tensor) -> torch.Tensor:
    """Return ``T(f, g) = f ⊗ g``, flattened to (U, H · D).

    The multilinear conditioning of Long et al. (2018, arXiv 1705.10667).
    """
    return torch.einsum("uh,ud->uhd", features_UH, predictions_UD).flatten(1)


def randomized_multilinear_map(
    features_UH: torch.Tensor, predictions_UD: torch.Tensor, random_HW: torch.Tensor, random_DW: torch.Tensor
) -> torch.Tensor:
    """Return ``T(f, g) = (R_f f) ⊙ (R_g g) / √W``, whose inner products are those of ``f ⊗ g`` in expectation.

    The randomized multilinear conditioning of Long et al. (2018, arXiv 1705.10667).

    Args:
        features_UH: f.
        predictions_UD: g.
        random_HW: R_f (transposed), drawn once from a symmetric distribution of variance 1.
        random_DW: R_g (transposed), likewise.

    Returns:
        Vectors (U, W).
    """
    return (features_UH @ random_HW) * (predictions_UD @ random_DW) / math.sqrt(random_HW.shape[1])


def gaussian_kernels(features_UH: torch.Tensor, bandwidths: Sequence[float]) -> torch.Tensor:
    """Return the mean of Gaussian kernels of several widths: ``k(x, y) = mean over b of exp(−‖x − y‖² / (b γ))``.

    The kernel family of Deep Adaptation Networks (Long et al. 2015, arXiv 1502.02791) with equal weights. γ is the
    median of the squared distances of all pairs (the lower one of two), a constant for gradients.

    Args:
        features_UH: Vectors of both domains, at least two.
        bandwidths: Multiples b > 0 of γ.

    Returns:
        Kernel values (U, U).
    """
    with without_autocast(features_UH):
        # Distances do not change when the mean is taken off, and their rounding errors become much smaller.
        centred_UH = features_UH - features_UH.mean(0).detach()
        products_UU = centred_UH @ centred_UH.T
        squares_U = products_UU.diagonal()
        distances_UU = (squares_U[:, None] + squares_U[None] - 2 * products_UU).clamp(min=0)
        first, second = torch.triu_indices(len(distances_UU), len(distances_UU), 1, device=features_UH.device)
        typical = distances_UU.detach()[first, second].median().clamp(min=SMALL)
        return torch.stack([torch.exp(-distances_UU / (width * typical)) for width in bandwidths]).mean(0)


def mmd(
    kernel_UU: torch.Tensor, source_UK: torch.Tensor, target_UK: torch.Tensor, unbiased: bool = False
) -> torch.Tensor:
    """Squared maximum mean discrepancy between source and target under each of K weightings of the units.

    ``Σᵢⱼ wᵢ wⱼ k(xᵢ, xⱼ) + Σᵢⱼ vᵢ vⱼ k(yᵢ, yⱼ) − 2 Σᵢⱼ wᵢ vⱼ k(xᵢ, yⱼ)``. With weights 1/n this is the biased estimate
    of Gretton et al. (2012, JMLR 13, lemma 6); with labels as weights it is one class's term of the local MMD of DSAN
    (Zhu et al. 2021, arXiv 2106.09388). The unbiased estimate leaves out the pairs of a unit with itself:
    ``(Σᵢⱼ wᵢ wⱼ k − Σᵢ wᵢ²) / (1 − Σᵢ wᵢ²)`` for each of the first two sums, as ``k(x, x) = 1``.

    Args:
        kernel_UU: Kernel values of the units of both domains, 1 on the diagonal.
        source_UK: Weights w: each column sums to 1 and is 0 for target units.
        target_UK: Weights v, the other way round.
        unbiased: Which estimate. The unbiased one can fall below 0 and wants two units with a weight in each domain.

    Returns:
        One value for each weighting (K,).
    """
    with without_autocast(kernel_UU):
        sums_K = torch.zeros_like(source_UK[0])
        for weight_UK in (source_UK, target_UK):
            within_K = (weight_UK * (kernel_UU @ weight_UK)).sum(0)
            own_K = weight_UK.square().sum(0)
            sums_K = sums_K + ((within_K - own_K) / (1 - own_K) if unbiased else within_K)
        return sums_K - 2 * (source_UK * (kernel_UU @ target_UK)).sum(0)


def coral(source_SH: torch.Tensor, target_TH: torch.Tensor) -> torch.Tensor:
    """Distance of the second moments: ``‖C_S − C_T‖²_F / (4 H²)`` with covariances over n − 1.

    Deep CORAL (Sun and Saenko 2016, arXiv 1607.01719), equations 1 to 3.

    Args:
        source_SH: Source features, at least two.
        target_TH: Target features, at least two.

    Returns:
        A scalar.
    """
    with without_autocast(source_SH):
        difference_HH = torch.cov(source_SH.T) - torch.cov(target_TH.T)
        return difference_HH.square().sum() / (4 * source_SH.shape[1] ** 2)


def class_confusion(logits_UKD: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how much the classes are confused in the predictions, mean over the K decisions.

    Minimum class confusion (Jin et al. 2020, arXiv 1912.03699). Probability rescaling: ``Ŷ = softmax(Z / T)``.
    Uncertainty reweighting: ``W = diag(1 + exp(−H(ŷ)))``, constants for gradients as in the authors' code (their sum,
    by which the paper divides, cancels below). Class correlation: ``C = Ŷᵀ W Ŷ``. Category normalisation: ``C̃`` is C
    with rows that sum to 1. The loss is ``1/D Σ_j Σ_{j'≠j} C̃_jj'``, which is ``1 − mean_j C̃_jj``.

    Args:
        logits_UKD: Logits Z of U units; each of the K decisions is judged by itself.
        temperature: T > 0.

    Returns:
        A scalar from 0 (certain of each unit, every outcome predicted) to 1 − 1/D (uniform).
    """
    with without_autocast(logits_UKD):
        scaled_UKD = logits_UKD / temperature
        weight_UK1 = certainty_weight(entropy(scaled_UKD)).detach().unsqueeze(-1)
        predicted_UKD = scaled_UKD.softmax(-1)
        confusion_KDD = torch.einsum("ukd,uke->kde", predicted_UKD * weight_UK1, predicted_UKD)
        shares_KDD = confusion_KDD / confusion_KDD.sum(-1, keepdim=True).clamp(min=SMALL)
        return 1 - shares_KDD.diagonal(dim1=1, dim2=2).mean()


def distillation_divergence(logits_UKD: torch.Tensor, teacher_UKD: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how far answers are from a teacher's: T² · KL(p ‖ q), with both logits divided by the temperature T.

    Hinton et al. (2015, arXiv 1503.02531): softened targets; T² keeps gradients of the same size whatever T is. With
    KL = Σ_d p_d (log p_d − log q_d) of each decision.

    Args:
        logits_UKD: Logits that are trained, q.
        teacher_UKD: Logits of the teacher, p; no gradient flows there.
        temperature: T > 0.

    Returns:
        The mean over the K decisions of each unit (U,), at least 0.
    """
    own_UKD, other_UKD = logits_UKD / temperature, teacher_UKD.detach() / temperature
    divergence_UKD = torch.nn.functional.kl_div(
        own_UKD.log_softmax(-1), other_UKD.log_softmax(-1), reduction="none", log_target=True
    )
    return temperature**2 * divergence_UKD.sum(-1).mean(-1)
