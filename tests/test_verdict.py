"""The verdict on a difference over rows."""

from __future__ import annotations

import numpy as np
import pytest

from nlp_transfer.intervals import Interval, paired_difference, ratio
from nlp_transfer.verdict import rows_that_differ, verdict


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.05, "helped"), (-0.05, -0.01, "hurt"), (-0.01, 0.05, "no evidence"), (0.0, 0.0, "no evidence"),
     (0.0, 0.1, "no evidence"), (-0.1, 0.0, "no evidence")],
)  # fmt: skip
def test_verdict(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), 50) == expected


def test_a_few_rows_are_no_evidence_whatever_resampling_says() -> None:
    """Against the exact test of SciPy: all k rows that differ speak for the same system."""
    from scipy.stats import binomtest

    for differing in range(1, 12):
        ours, theirs = np.ones((20, 2)), np.ones((20, 2))
        theirs[:differing, 0] = 0
        assert rows_that_differ(ours, theirs) == differing
        for confidence in (0.8, 0.95, 0.99):
            found = paired_difference(ours, theirs, ratio, confidence)
            possible = binomtest(differing, differing).pvalue <= 1 - confidence
            assert verdict(found, differing, confidence) == ("helped" if possible else "no evidence")
    one = np.ones((1, 2))
    assert paired_difference(one, one * [0, 1], ratio) == Interval(1.0, 1.0, 1.0)  # one row, and no doubt at all


def test_rows_differ_where_any_count_does() -> None:
    counts = np.array([[1, 2, 3], [1, 2, 3], [0, 0, 0]])
    assert rows_that_differ(counts, counts) == 0
    assert rows_that_differ(counts, np.array([[1, 2, 3], [1, 2, 4], [1, 0, 1]])) == 2
