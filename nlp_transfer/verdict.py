"""Whether adaptation helped, on labelled target rows: a difference is told with its interval, never alone.

Shape suffixes: N rows, K counts of a row.
"""

from __future__ import annotations

import numpy as np

from .intervals import Interval

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
