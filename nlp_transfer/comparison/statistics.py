"""Which strategy is better, and how sure that is: resampling of rows and seeds, for all strategies at once.

Shape suffixes: M strategies, S seeds, N rows, K counts of a row, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..intervals import Interval, Statistic

BATCH = 200


def simultaneous_gains(
    counts_MSNK: np.ndarray,
    base_MSNK: np.ndarray,
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    ran_MS: np.ndarray | None = None,
) -> list[Interval]:
    """Return each strategy's gain over its baseline with intervals that hold for all strategies at once.

    Rows and seeds are resampled together (Owen 2007, *The pigeonhole bootstrap*), the same for all strategies: they
    share test rows and, seed by seed, data order. q is the ``confidence`` quantile of the largest studentised deviation
    over strategies (max-T; Westfall and Young 1993, section 2.6; Romano and Wolf 2005); the more strategies are tried,
    the larger, as it must be where the best is read off.

    The interval is estimate ± t · error. Resampling two or three seeds sees too little of their spread, so the variance
    of the error is that of the rows (by resampling) plus the sample variance of the gains by seed ÷ S, and t is the
    quantile of Student's t that has the tail of q under a normal, with the degrees of freedom of Satterthwaite (1946)
    for that sum: wide where two seeds disagree by more than their rows explain. With one seed, nothing is known of
    seeds: the interval is that of rows alone. It ends where gains do, at −1 and 1: two seeds that disagree say little.

    A strategy that has not run with every seed is judged by the seeds that it has; a resample that draws none of them
    takes each once.

    Args:
        counts_MSNK: Counts of each strategy, seed and row.
        base_MSNK: Counts of the baseline of each: its source-only twin.
        statistic: Maps sums (..., K) to values (...) from 0 to 1.
        confidence: Level, in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the resampling.
        ran_MS: Which strategy has run with which seed, at least one each; by default all with all. Counts of others are
            not looked at.

    Returns:
        The mean gain over seeds, with its interval, of each strategy in order.

    Raises:
        ValueError: The shapes do not belong together.
    """
    if counts_MSNK.shape != base_MSNK.shape:
        raise ValueError(f"Counts {counts_MSNK.shape} and baselines {base_MSNK.shape} are not of the same rows.")
    count, seeds, rows, _ = counts_MSNK.shape
    ran_MS = np.ones((count, seeds), dtype=bool) if ran_MS is None else ran_MS
    all_MSNK = np.concatenate([counts_MSNK, base_MSNK]).astype(np.float64)

    def gains(sums_MSK: np.ndarray) -> np.ndarray:
        values_MS = statistic(sums_MSK)
        return np.where(ran_MS, values_MS[:count] - values_MS[count:], 0.0)

    share_MS = ran_MS / ran_MS.sum(-1, keepdims=True)
    gains_MS = gains(all_MSNK.sum(2))
    estimate_M = (gains_MS * share_MS).sum(-1)
    resampled = _resampled(all_MSNK, resamples, np.random.default_rng(seed))
    drawn = [(gains(sums_MSK), times_S) for sums_MSK, times_S in resampled]
    drawn_RMS, times_RS = (np.array(part) for part in zip(*drawn, strict=True))
    found_RM = (drawn_RMS * _weights(times_RS, share_MS)).sum(-1)
    quantile = _largest_deviation(found_RM, estimate_M, confidence)
    reach_M = _reach(quantile, (drawn_RMS * share_MS).sum(-1).var(0, ddof=1), rows, gains_MS, ran_MS)
    return [
        Interval(float(value), max(float(value - reach), -1.0), min(float(value + reach), 1.0))
        for value, reach in zip(estimate_M, reach_M, strict=True)
    ]


def _resampled(
    counts_MSNK: np.ndarray, resamples: int, generator: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw rows and seeds: sums (M, S, K) over the drawn rows, and the share of each seed (S,)."""
    _, seeds, rows, _ = counts_MSNK.shape
    for begin in range(0, resamples, BATCH):
        size = min(BATCH, resamples - begin)
        times_RN = generator.multinomial(rows, np.full(rows, 1 / rows), size=size).astype(np.float64)
        times_RS = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds
        sums_RMSK = np.einsum("rn,msnk->rmsk", times_RN, counts_MSNK, optimize=True)
        yield from zip(sums_RMSK, times_RS, strict=True)


def _weights(times_RS: np.ndarray, share_MS: np.ndarray) -> np.ndarray:
    """Return how much the seeds of each strategy count in each resample (R, M, S), 1 together."""
    drawn_RMS = times_RS[:, None] * (share_MS > 0)
    drawn_RMS = np.where(drawn_RMS.any(-1, keepdims=True), drawn_RMS, share_MS)
    return np.asarray(drawn_RMS / drawn_RMS.sum(-1, keepdims=True))


def _largest_deviation(gains_RM: np.ndarray, estimate_M: np.ndarray, confidence: float) -> float:
    """Return the quantile of the largest studentised deviation."""
    error_M = gains_RM.std(0, ddof=1)
    deviation_RM = np.abs(gains_RM - estimate_M) / np.where(error_M > 0, error_M, 1.0)
    return float(np.quantile(deviation_RM.max(-1), confidence))


def _reach(quantile: float, rows_M: np.ndarray, rows: int, gains_MS: np.ndarray, ran_MS: np.ndarray) -> np.ndarray:
    """Return half the widths of the intervals from the variance over rows and the gains by seed."""
    from scipy.stats import norm, t

    ran_M = ran_MS.sum(-1)
    freedom_M = np.maximum(ran_M - 1, 1)
    mean_M = gains_MS.sum(-1) / ran_M
    seeds_M = (np.where(ran_MS, gains_MS - mean_M[:, None], 0.0) ** 2).sum(-1) / freedom_M / ran_M
    variance_M = rows_M + seeds_M
    doubt_M = rows_M**2 / max(rows - 1, 1) + seeds_M**2 / freedom_M
    degrees_M = variance_M**2 / np.where(doubt_M > 0, doubt_M, 1.0)
    students_M = t.isf(norm.sf(quantile), np.where(doubt_M > 0, degrees_M, np.inf))
    return np.asarray(students_M * np.sqrt(variance_M))


def mean_ranks(scores: Mapping[str, Mapping[Any, float]]) -> dict[str, float]:
    """Return the mean rank of each strategy over several scores; 1 is best, ties share their mean rank.

    Args:
        scores: By strategy, by name of the score; higher is better. A score that is not a number ranks last.
    """
    names = list(scores)
    kinds: Sequence[str] = list(next(iter(scores.values())))
    table_MK = np.array([[scores[name][kind] for kind in kinds] for name in names], dtype=np.float64)
    table_MK = np.where(np.isfinite(table_MK), table_MK, -np.inf)
    better_MK = (table_MK[:, None] < table_MK[None]).sum(1)
    equal_MK = (table_MK[:, None] == table_MK[None]).sum(1)
    ranks_MK = better_MK + (equal_MK + 1) / 2
    return dict(zip(names, ranks_MK.mean(-1).tolist(), strict=True))
