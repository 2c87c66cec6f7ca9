"""Temperature scaling: probabilities that are right as often as they say (Guo et al. 2017, arXiv 1706.04599).

Logits z are divided by one temperature T > 0, the same for all rows, which minimises the negative log-likelihood of
held-out gold labels. The order of the labels stays as it is; only how sure the model says it is changes. How far what
it says is from what comes true is its expected calibration error.
Shape suffixes: U units, C labels, B bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

COLDEST, HOTTEST = 0.5, 20.0
"""Range of T. Few held-out rows that are all answered rightly would ask for T = 0, and every row would seem certain."""

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Answers of about the same confidence.

    Args:
        count: How many there are, at least one.
        confidence: Their mean confidence, 0 to 1.
        accuracy: Share of them that are right.
    """

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """How often answers are right, beside how sure the model says it is.

    Args:
        error: Expected calibration error, 0 (as often as it says) to 1.
        bins: The bins that are not empty, from the least to the most confident.
    """

    error: float
    bins: list[Bin]

    @property
    def count(self) -> int:
        """Number of answers."""
        return sum(one.count for one in self.bins)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Reliability:
        """Return what :meth:`to_dict` was taken of."""
        return cls(values["error"], [Bin(**one) for one in values["bins"]])


def softmax(logits_UC: np.ndarray) -> np.ndarray:
    """Return probabilities (…, C) over the last axis."""
    if not logits_UC.size:
        return logits_UC.astype(np.float64)
    exponents_UC = np.exp(logits_UC - logits_UC.max(-1, keepdims=True))
    return np.asarray(exponents_UC / exponents_UC.sum(-1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(−z)) of each value."""
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def fit_temperature(logits_UC: np.ndarray, labels_U: np.ndarray) -> float:
    """Return the temperature that minimises the cross-entropy of ``softmax(logits / T)``.

    With β = 1/T the loss Σ (logsumexp(β z) − β z_y) is convex; its slope Σ (E_β[z] − z_y) is brought to zero.

    Args:
        logits_UC: Logits of held-out units.
        labels_U: Their gold labels, 0 to C − 1.

    Returns:
        T from 0.5 to 20; 1 without units.
    """
    if not len(labels_U):
        return 1.0
    gold_U = logits_UC[np.arange(len(labels_U)), labels_U]
    return _fit(lambda beta: float(((softmax(beta * logits_UC) * logits_UC).sum(-1) - gold_U).sum()))


def fit_binary_temperature(logits_UC: np.ndarray, gold_UC: np.ndarray) -> float:
    """Return the temperature that minimises the binary cross-entropy of ``sigmoid(logits / T)``, all labels together.

    With β = 1/T the slope is Σ z · (σ(β z) − y).

    Args:
        logits_UC: Logits of held-out units.
        gold_UC: 1 where a unit has the label, else 0.

    Returns:
        T from 0.5 to 20; 1 without units.
    """
    if not len(logits_UC):
        return 1.0
    return _fit(lambda beta: float((logits_UC * (sigmoid(beta * logits_UC) - gold_UC)).sum()))


def reliability(confidence_U: np.ndarray, right_U: np.ndarray) -> Reliability:
    """Compare confidence with the share of right answers.

    Expected calibration error (Guo et al. 2017, equation 3), Σ_b (n_b / n) |accuracy_b − confidence_b|, over
    :data:`BINS` bins of equal width; a confidence of b/B belongs to the bin below it. Of few answers it is too high.

    Args:
        confidence_U: What the model says the probability of each of its answers is, 0 to 1.
        right_U: Whether the answer is right.

    Returns:
        The error (0 without answers) and its bins.
    """
    bin_U = np.searchsorted(np.arange(1, BINS) / BINS, confidence_U)
    counts_B = np.bincount(bin_U, minlength=BINS)
    sure_B, right_B = (np.bincount(bin_U, values, minlength=BINS) for values in (confidence_U, right_U))
    bins = [
        Bin(int(counts_B[b]), float(sure_B[b] / counts_B[b]), float(right_B[b] / counts_B[b]))
        for b in np.flatnonzero(counts_B)
    ]
    return Reliability(float(np.abs(sure_B - right_B).sum() / max(1, counts_B.sum())), bins)


def _fit(slope: Callable[[float], float]) -> float:
    """Find by bisection where a rising function of β = 1/T crosses zero."""
    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)
