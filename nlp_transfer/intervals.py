"""Confidence intervals by resampling rows.

Every headline metric is a function of count vectors summed over rows, so a resample needs only one weighted
sum of counts, and never the answers themselves. A row is what was sampled: a text, or for NER a sentence.

Shape suffixes: N rows, K counts of a row, U distinct count vectors, R resamples, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
"""Maps summed counts (..., K) to values (...)."""

CHUNK = 2**22
"""Most row weights held at a time: 32 MiB of 64-bit numbers."""


@dataclass(frozen=True)
class Interval:
    """A number and where it may lie.

    Args:
        value: The statistic on the rows as they are.
        low: Lower end.
        high: Upper end. On few rows a percentile interval need not contain ``value``.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the three numbers by name, ready for JSON."""
        return asdict(self)


def ratio(counts: np.ndarray) -> np.ndarray:
    """Return the first count over the second, 0 where the second is 0.

    Args:
        counts: Sums (..., 2), such as [correct, rows] for accuracy.

    Returns:
        Values (...).
    """
    counts = np.asarray(counts, dtype=np.float64)
    return _divide(counts[..., 0], counts[..., 1])


def f1_from_counts(counts: np.ndarray) -> np.ndarray:
    """Return ``2 · true positives / (predicted + gold)``, 0 where nothing is predicted and nothing is there.

    Args:
        counts: Sums (..., 3) of [true positives, predicted, gold].

    Returns:
        Values (...), 0 to 1.
    """
    counts = np.asarray(counts, dtype=np.float64)
    return _divide(2 * counts[..., 0], counts[..., 1] + counts[..., 2])


def macro_f1_from_counts(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the labels that occur in gold or predicted, 0 where none does.

    Args:
        counts: Sums (..., 3·C): C true positives, then C predicted, then C gold.

    Returns:
        Values (...), 0 to 1.
    """
    counts = np.asarray(counts, dtype=np.float64)
    by_kind = counts.reshape(*counts.shape[:-1], 3, counts.shape[-1] // 3)
    by_label = np.moveaxis(by_kind, -2, -1)
    occurs = by_label[..., 1] + by_label[..., 2] > 0
    return _divide(f1_from_counts(by_label).sum(-1), occurs.sum(-1).astype(np.float64))


def bootstrap_interval(
    counts_NK: np.ndarray,
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a statistic with its percentile bootstrap interval over rows.

    Efron and Tibshirani (1993), *An Introduction to the Bootstrap*, section 13.3. The interval does not
    depend on the order of the rows.

    Args:
        counts_NK: Counts of each row.
        statistic: Maps sums (..., K) to values (...).
        confidence: Share of resamples inside the interval, in (0, 1).
        resamples: Number of resamples, at least 1.
        seed: Seed of the resampling.

    Returns:
        The interval.

    Raises:
        ValueError: If there are no rows, or a setting is out of range.
    """
    counts_NK = np.asarray(counts_NK)
    sums = resampled_sums(counts_NK, confidence, resamples, seed)
    values_R = np.concatenate([statistic(sums_RK) for sums_RK in sums])
    low, high = np.quantile(values_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(counts_NK.sum(0, dtype=np.float64))), float(low), float(high))


def paired_difference(
    counts_a_NK: np.ndarray,
    counts_b_NK: np.ndarray,
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return ``statistic(a) - statistic(b)`` with its percentile bootstrap interval over resampled rows.

    Both systems are scored on the same resampled rows. What is hard for both then counts against both, which
    makes the interval the narrower the more their answers agree.

    Args:
        counts_a_NK: Counts of the first system's answers.
        counts_b_NK: Counts of the second system's answers to the same rows in the same order.
        statistic: Maps sums (..., K) to values (...).
        confidence: Share of resamples inside the interval, in (0, 1).
        resamples: Number of resamples, at least 1.
        seed: Seed of the resampling.

    Returns:
        The interval of the difference. Above 0 throughout, the first system is better at this confidence.

    Raises:
        ValueError: If the shapes differ, there are no rows, or a setting is out of range.
    """
    a_NK, b_NK = np.asarray(counts_a_NK), np.asarray(counts_b_NK)
    if a_NK.shape != b_NK.shape:
        raise ValueError(f"Counts of the same rows must agree in shape, not {a_NK.shape} and {b_NK.shape}.")

    def difference(sums: np.ndarray) -> np.ndarray:
        width = a_NK.shape[1]
        return np.asarray(statistic(sums[..., :width]) - statistic(sums[..., width:]))

    return bootstrap_interval(np.concatenate([a_NK, b_NK], axis=-1), difference, confidence, resamples, seed)


def _divide(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    zeros = np.zeros_like(numerators)
    return np.asarray(np.divide(numerators, denominators, out=zeros, where=denominators > 0))


def resampled_sums(counts_NK: np.ndarray, confidence: float, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Check the settings, then return the summed counts (R, K) of resampled rows (N, K), chunk by chunk.

    Raises:
        ValueError: If there are no rows, or a setting is out of range.
    """
    if counts_NK.ndim != 2 or not counts_NK.shape[1]:
        raise ValueError(f"Counts must have the shape (rows, counts), not {counts_NK.shape}.")
    if not len(counts_NK):
        raise ValueError("There are no rows to resample.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}.")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}.")
    # Rows with equal counts are interchangeable, and how often each distinct vector is drawn is multinomial.
    # Drawing these few numbers is the same bootstrap as drawing N rows; for accuracy there are two vectors.
    patterns_UK, shares_U = _distinct(counts_NK)
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // len(shares_U))
    sizes = (min(step, resamples - start) for start in range(0, resamples, step))
    draws = (generator.multinomial(len(counts_NK), shares_U, size=size) for size in sizes)
    return (times_RU.astype(np.float64) @ patterns_UK for times_RU in draws)


def _distinct(counts_NK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows as float64 (U, K) and their shares (U,)."""
    rows_NK = np.ascontiguousarray(counts_NK)
    # One opaque item a row: compared byte by byte, far faster than column by column with many labels.
    items_N = rows_NK.view(np.dtype((np.void, rows_NK.itemsize * rows_NK.shape[1])))[:, 0]
    _, first_U, times_U = np.unique(items_N, return_index=True, return_counts=True)
    return rows_NK[first_U].astype(np.float64), times_U / len(rows_NK)
