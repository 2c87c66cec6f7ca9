"""How often each label occurs in the target, estimated without target labels.

The estimate stands and falls with its assumption, that texts of a label look alike in both domains and only the shares
of the labels differ (p(x | y) is shared). Shape suffixes: U units, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..calibration import softmax
from ..intervals import Interval

RIDGE = 0.01
"""Pull of the calibration towards the classifier as it is, for labels that dev hardly has."""


@dataclass(frozen=True)
class LabelShift:
    """Estimated shares of the labels.

    Args:
        source: Share of each label in the source training rows.
        target: Estimated share in the target, with its bootstrap interval.
        shift: Total variation distance between the two, 0 to 1 (of several labels a text: of the label that shifts
            most).
        noise: What resampling alone gives: the 95th percentile of the distance between the estimate and that of a
            resample. A shift below it is none that can be shown.
    """

    source: dict[str, float]
    target: dict[str, Interval]
    shift: float
    noise: float

    @property
    def clear(self) -> bool:
        """Whether the shift is larger than its noise."""
        return self.shift > self.noise


def calibrate(
    log_probabilities_UC: np.ndarray, labels_U: np.ndarray, weights_U: np.ndarray
) -> tuple[float, np.ndarray]:
    """Fit bias-corrected temperature scaling: softmax(a · log p + b) with the least log loss.

    Alexandari et al. (2020), arXiv 1901.06852, section 3: a without b leaves the bias that makes estimates of label
    shift go wrong.

    Args:
        log_probabilities_UC: Of labelled units.
        labels_U: Their labels.
        weights_U: How often each unit counts.

    Returns:
        The factor a > 0 and the biases b (C,).
    """
    inputs_UC = torch.from_numpy(log_probabilities_UC)
    truth_U, counts_U = torch.from_numpy(labels_U), torch.from_numpy(weights_U)
    log_factor = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(inputs_UC.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_factor, bias_C], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits_UC = log_factor.exp() * inputs_UC + bias_C
        losses_U = torch.nn.functional.cross_entropy(logits_UC, truth_U, reduction="none")
        pull = RIDGE * (bias_C.square().sum() + log_factor.square().sum()) / counts_U.sum()
        loss = (counts_U * losses_U).sum() / counts_U.sum() + pull
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_factor.detach().exp()), bias_C.detach().numpy()


def posterior(log_probabilities_UC: np.ndarray, factor: float, bias_C: np.ndarray) -> np.ndarray:
    """Return the calibrated probabilities softmax(a · log p + b), (U, C)."""
    return softmax(factor * log_probabilities_UC + bias_C)


def shares_by_em(
    target_UC: np.ndarray, source_C: np.ndarray, weights_U: np.ndarray, iterations: int = 500, tolerance: float = 1e-7
) -> np.ndarray:
    """Estimate the shares of the labels from probabilities that were made for other shares.

    Saerens et al. (2002), *Adjusting the Outputs of a Classifier to New a Priori Probabilities*, equation 9: repeat
    p(y | x) ∝ q(y) / p_source(y) · p_source(y | x), then q(y) ← mean of p(y | x). This is maximum likelihood; with
    calibrated probabilities it is at least as good as black-box shift estimation (Garg et al. 2020, arXiv 2003.07554),
    and it inverts no confusion matrix, so a weak classifier gives wide intervals and not absurd numbers.

    Args:
        target_UC: Probabilities of the target units, calibrated on the source.
        source_C: Shares in the source for which they are calibrated.
        weights_U: How often each unit counts.
        iterations: Most repetitions.
        tolerance: Largest change of a share at which they stop.

    Returns:
        Shares (C,), summing to 1. A label that the source has not keeps 0.
    """
    weights_U = weights_U / weights_U.sum()
    ratio_UC = np.divide(target_UC, source_C, out=np.zeros_like(target_UC), where=source_C > 0)
    shares_C = source_C / source_C.sum()
    for _ in range(iterations):
        post_UC = shares_C * ratio_UC
        post_UC /= np.maximum(post_UC.sum(-1, keepdims=True), 1e-300)
        updated_C = weights_U @ post_UC
        change = float(np.abs(updated_C - shares_C).max())
        shares_C = updated_C
        if change < tolerance:
            break
    return shares_C


@dataclass(frozen=True)
class Outputs:
    """A classifier's answers to one question about many units.

    Args:
        log_probabilities_UC: Logarithms of its probabilities.
        rows_U: The row that each unit belongs to; rows are what is resampled.
        labels_U: True labels, or None for the target.
    """

    log_probabilities_UC: np.ndarray
    rows_U: np.ndarray
    labels_U: np.ndarray | None = None


def estimate_shift(
    names: Sequence[Sequence[str]],
    source: Sequence[np.ndarray],
    dev: Sequence[Outputs],
    target: Sequence[Outputs],
    resamples: int = 100,
    seed: int = 0,
) -> LabelShift:
    """Estimate the shares of the labels in the target, with bootstrap intervals over rows of dev and target.

    Args:
        names: Names of the answers to each question: one question with C answers, or for several labels a text one
            question a label, whose second answer is named after it.
        source: Shares of the answers in the training rows, for each question.
        dev: The classifier's outputs on labelled source rows that it was not fitted on, for each question.
        target: Its outputs on the target.
        resamples: Bootstrap resamples.
        seed: Their seed.

    Returns:
        The estimate.
    """
    generator = np.random.default_rng(seed)
    ones = [np.ones(int(side[0].rows_U.max()) + 1) for side in (dev, target)]
    point = _shares(dev, target, *ones)
    draws = []
    for _ in range(resamples):
        times = [generator.multinomial(len(one), one / len(one)).astype(np.float64) for one in ones]
        draws.append(_shares(dev, target, *times))
    several = len(names) > 1
    shares: dict[str, float] = {}
    estimates: dict[str, Interval] = {}
    for question, answers in enumerate(names):
        for answer in range(1 if several else 0, len(answers)):
            low, high = np.quantile([draw[question][answer] for draw in draws], [0.025, 0.975])
            shares[answers[answer]] = float(source[question][answer])
            estimates[answers[answer]] = Interval(float(point[question][answer]), float(low), float(high))
    noise = float(np.quantile([_variation(draw, point) for draw in draws], 0.95))
    return LabelShift(shares, estimates, _variation(point, source), noise)


def _shares(
    dev: Sequence[Outputs], target: Sequence[Outputs], dev_times: np.ndarray, target_times: np.ndarray
) -> list[np.ndarray]:
    found = []
    for known, unknown in zip(dev, target, strict=True):
        assert known.labels_U is not None
        weights_U = dev_times[known.rows_U]
        factor, bias_C = calibrate(known.log_probabilities_UC, known.labels_U, weights_U)
        home_UC = posterior(known.log_probabilities_UC, factor, bias_C)
        away_UC = posterior(unknown.log_probabilities_UC, factor, bias_C)
        found.append(shares_by_em(away_UC, weights_U @ home_UC / weights_U.sum(), target_times[unknown.rows_U]))
    return found


def _variation(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Total variation distance, ½ Σ |p − q|, of the question where it is largest."""
    return max(float(np.abs(p - q).sum() / 2) for p, q in zip(one, other, strict=True))
