"""Means with intervals over a few independent figures: seeds, draws, pairs of domains."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, float]:
    """Return the mean with the interval of Student's t.

    Args:
        values: At least two figures.
        confidence: Level, in (0, 1).
    """
    from scipy.stats import t

    mean = statistics.fmean(values)
    quantile = float(t.ppf((1 + confidence) / 2, len(values) - 1))
    reach = quantile * statistics.stdev(values) / len(values) ** 0.5
    return {"value": mean, "low": mean - reach, "high": mean + reach}
