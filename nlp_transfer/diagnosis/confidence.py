"""What a classifier's own confidence says about rows without labels."""

from __future__ import annotations

import numpy as np


def negative_entropy(log_probabilities_UC: np.ndarray) -> np.ndarray:
    """Return Σ p log p of each row (U,): 0 where it is sure, −log C where it knows nothing."""
    return np.asarray((np.exp(log_probabilities_UC) * log_probabilities_UC).sum(-1))


def thresholded_accuracy(dev_scores_U: np.ndarray, dev_correct_U: np.ndarray, target_scores_U: np.ndarray) -> float:
    """Predict the accuracy on unlabelled rows by average thresholded confidence (ATC).

    Garg et al. (2022), arXiv 2201.04234, equations 1 and 2: the threshold t is such that as many labelled rows score
    below it as are wrong, P_dev[s(x) < t] = P_dev[wrong]; the prediction is P_target[s(x) ≥ t].

    Args:
        dev_scores_U: Confidence scores of labelled rows, such as :func:`negative_entropy`.
        dev_correct_U: Whether their answers are right.
        target_scores_U: Scores of unlabelled rows.

    Returns:
        The predicted share of right answers.
    """
    wrong = int((~dev_correct_U).sum())
    ordered = np.sort(dev_scores_U)
    threshold = ordered[wrong] if wrong < len(ordered) else np.inf
    return float((target_scores_U >= threshold).mean())
