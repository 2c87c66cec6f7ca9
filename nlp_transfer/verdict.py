"""Whether adaptation helped, on labelled target rows: a difference is told with its interval, never alone.

Shape suffixes: S seeds, N rows, K counts of a row, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .intervals import Interval, Statistic, paired_difference, resampled_sums

HELPED, NO_EVIDENCE, HURT = "helped", "no evidence", "hurt"

JUDGES = ("target.test", "target.dev")
"""Splits that the verdict is read off, the first that there is."""


def verdict(difference: Interval, differing: int, confidence: float = 0.95) -> str:
    """Return ``helped`` or ``hurt`` where the whole interval lies on one side of 0, else ``no evidence``.

    Of a few rows resampling sees too little: one row on which the systems differ would be proof. So there is no
    evidence either where an exact test could not find any: if the systems are alike, each of the k rows on which they
    differ may as well be the other way round, and the two most extreme of these 2^k outcomes have the probability
    2^(1 − k) together (the sign test; Dixon and Mood 1946). At 95 % that takes six rows.

    Args:
        difference: Of two systems, with its interval.
        differing: k, from :func:`rows_that_differ`.
        confidence: Level of the interval, in (0, 1).
    """
    if too_few(differing, confidence):
        return NO_EVIDENCE
    return HELPED if difference.low > 0 else HURT if difference.high < 0 else NO_EVIDENCE


def too_few(differing: int, confidence: float = 0.95) -> bool:
    """Whether no exact test at this level could tell two systems apart that differ on so few rows."""
    return 2.0 ** (1 - differing) > 1 - confidence


def rows_that_differ(counts_a_NK: np.ndarray, counts_b_NK: np.ndarray) -> int:
    """Return the number of rows that two systems have answered with different success."""
    return int((counts_a_NK != counts_b_NK).any(-1).sum())


def difference_over_seeds(
    counts_a_SNK: Sequence[np.ndarray],
    counts_b_SNK: Sequence[np.ndarray],
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean over seeds of ``statistic(a) − statistic(b)``, with an interval over seeds and rows.

    In each resample, seeds are drawn with replacement and rows are drawn with replacement. All seeds answer the same
    rows, so the drawn rows are the same for all of them: the bootstrap of crossed samples (Owen 2007, *The pigeonhole
    bootstrap*, Annals of Applied Statistics 1). With one seed this is
    :func:`~nlp_transfer.intervals.paired_difference`. Of two or three seeds, resampling sees too little of the spread:
    such an interval is too narrow rather than too wide.

    Args:
        counts_a_SNK: For each seed the counts (N, K) of the first system's answers.
        counts_b_SNK: For each seed those of the second system, to the same rows in the same order.
        statistic: Maps sums (..., K) to values (...).
        confidence: Share of resamples inside the interval, in (0, 1).
        resamples: Number of resamples, at least 1.
        seed: Seed of the resampling.

    Returns:
        The interval of the difference.

    Raises:
        ValueError: If there are no seeds, the shapes differ, there are no rows, or a setting is out of range.
    """
    if not counts_a_SNK or len(counts_a_SNK) != len(counts_b_SNK):
        raise ValueError(
            f"{len(counts_a_SNK)} and {len(counts_b_SNK)} seeds: both systems need the same, at least one."
        )
    shapes = {np.shape(counts_NK) for counts_NK in [*counts_a_SNK, *counts_b_SNK]}
    if len(shapes) > 1:
        raise ValueError(f"Counts of the same rows must agree in shape, not {sorted(shapes)}.")
    count = len(counts_a_SNK)
    if count == 1:
        return paired_difference(counts_a_SNK[0], counts_b_SNK[0], statistic, confidence, resamples, seed)

    def differences(sums: np.ndarray) -> np.ndarray:
        by_seed = sums.reshape(*sums.shape[:-1], 2, count, -1)
        return np.asarray(statistic(by_seed[..., 0, :, :]) - statistic(by_seed[..., 1, :, :]))

    joined_NK = np.concatenate([*counts_a_SNK, *counts_b_SNK], axis=-1)
    values_RS = np.concatenate(
        [differences(sums_RK) for sums_RK in resampled_sums(joined_NK, confidence, resamples, seed)]
    )
    draws_RS = np.random.default_rng([seed, count]).multinomial(count, np.full(count, 1 / count), size=resamples)
    values_R = (values_RS * draws_RS).sum(-1) / count
    low, high = np.quantile(values_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(differences(joined_NK.sum(0, dtype=np.float64)).mean()), float(low), float(high))
