"""How well a pretrained model suits labels, without training it: LogME and LEEP.

Shape suffixes: U units, H hidden size, K columns of labels, Z labels of the pretrained head.
"""

from __future__ import annotations

import math

import numpy as np


def logme(features_UH: np.ndarray, labels_UK: np.ndarray, iterations: int = 1000, tolerance: float = 1e-9) -> float:
    """Return the logarithm of the maximum evidence of a Bayesian linear model on frozen features, per unit.

    You et al. (2021), arXiv 2102.11005, equation 2 and algorithm 1: with prior w ~ N(0, α⁻¹ I) and noise β⁻¹,

        log p(y | F, α, β) = U/2 log β + H/2 log α − U/2 log 2π − β/2 ‖F m − y‖² − α/2 m'm − ½ log |A|,
        A = α I + β F'F,  m = β A⁻¹ F'y,

    maximised by α ← γ / m'm, β ← (U − γ) / ‖F m − y‖², γ = Σ_i β σ_i² / (α + β σ_i²), σ_i the singular values of F.

    Args:
        features_UH: Features.
        labels_UK: A column of numbers for each label, such as 0 and 1.
        iterations: Most iterations of the fixed point.
        tolerance: Change of the evidence per unit at which it counts as reached.

    Returns:
        The mean over the columns; larger is better, and only differences between models mean something.
    """
    features_UH = np.asarray(features_UH, dtype=np.float64)
    left_UR, values_R, _ = np.linalg.svd(features_UH, full_matrices=False)
    columns = np.asarray(labels_UK, dtype=np.float64).T
    found = [
        _evidence(values_R**2, left_UR.T @ y_U, float(y_U @ y_U), features_UH.shape, iterations, tolerance)
        for y_U in columns
    ]
    return float(np.mean(found))


def _evidence(
    squares_R: np.ndarray,
    along_R: np.ndarray,
    norm: float,
    shape: tuple[int, ...],
    iterations: int,
    tolerance: float,
) -> float:
    """Maximise the evidence of one column; ``along_R`` are its coordinates along the left singular vectors."""
    rows, width = shape
    outside = max(0.0, norm - float(along_R @ along_R))
    alpha, beta, last = 1.0, 1.0, -math.inf
    for _ in range(iterations):
        shrink_R = beta * squares_R / (alpha + beta * squares_R)
        gamma = float(shrink_R.sum())
        residual = outside + float((((1 - shrink_R) * along_R) ** 2).sum())
        length = float((beta**2 * squares_R * along_R**2 / (alpha + beta * squares_R) ** 2).sum())
        determinant = float(np.log(alpha + beta * squares_R).sum()) + (width - len(squares_R)) * math.log(alpha)
        evidence = (
            rows * math.log(beta)
            + width * math.log(alpha)
            - rows * math.log(2 * math.pi)
            - beta * residual
            - alpha * length
            - determinant
        ) / (2 * rows)
        if abs(evidence - last) < tolerance:
            break
        last = evidence
        # Guards for columns that the features fit exactly, or not at all.
        alpha = min(max(gamma, 1e-12) / max(length, 1e-12), 1e12)
        beta = min(max(rows - gamma, 1e-12) / max(residual, 1e-12), 1e12)
    return evidence


def leep(probabilities_UZ: np.ndarray, labels_U: np.ndarray) -> float:
    """Return the log expected empirical prediction of labels from the outputs of a head for other labels.

    Nguyen et al. (2020), arXiv 2002.12462, equations 1 and 2: with θ(x)_z the head's probability of its label z,
    P(y, z) = 1/U Σ_{i: y_i = y} θ(x_i)_z and P(y | z) = P(y, z) / P(z),

        LEEP = 1/U Σ_i log Σ_z P(y_i | z) θ(x_i)_z

    Args:
        probabilities_UZ: Outputs of the head.
        labels_U: Indices of the true labels.

    Returns:
        At most 0; larger is better.
    """
    known = np.eye(int(labels_U.max()) + 1)[labels_U]
    joint_CZ = known.T @ probabilities_UZ / len(labels_U)
    given_CZ = joint_CZ / np.maximum(joint_CZ.sum(0), 1e-300)
    return float(np.log((given_CZ[labels_U] * probabilities_UZ).sum(-1)).mean())
