"""Temperature scaling: probabilities that are right as often as they say (Guo et al. 2017, arXiv 1706.04599).

Logits z are divided by one temperature T > 0, the same for all rows, which minimises the negative log-likelihood of
held-out gold labels. The order of the labels stays as it is; only how sure the model says it is changes.
Shape suffixes: U units, C labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COLDEST, HOTTEST = 0.5, 20.0
"""Range of T. Few held-out rows that are all answered rightly would ask for T = 0, and every row would seem certain."""


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
