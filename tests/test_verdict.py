"""The verdict on a difference, over rows and over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from nlp_transfer.intervals import Interval, f1_from_counts, paired_difference, ratio
from nlp_transfer.verdict import difference_over_seeds, rows_that_differ, verdict


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.05, "helped"), (-0.05, -0.01, "hurt"), (-0.01, 0.05, "no evidence"), (0.0, 0.0, "no evidence"),
     (0.0, 0.1, "no evidence"), (-0.1, 0.0, "no evidence")],
)  # fmt: skip
def test_verdict(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), 50) == expected


def right(draw: np.random.Generator, rows: int, share: float) -> np.ndarray:
    return np.stack([draw.uniform(size=rows) < share, np.ones(rows)], axis=1).astype(float)


def test_one_seed_is_the_paired_difference() -> None:
    draw = np.random.default_rng(0)
    first, second = right(draw, 80, 0.8), right(draw, 80, 0.7)
    assert difference_over_seeds([first], [second], ratio) == paired_difference(first, second, ratio)


def test_seeds_and_rows_by_loops() -> None:
    """Draw seeds, draw rows, score: what the definition says, one resample at a time."""
    draw = np.random.default_rng(1)
    ours = [right(draw, 60, share) for share in (0.9, 0.75, 0.8, 0.85)]
    theirs = [right(draw, 60, share) for share in (0.7, 0.75, 0.7, 0.65)]
    found = difference_over_seeds(ours, theirs, ratio, resamples=4000)
    values = []
    for _ in range(4000):
        rows = draw.integers(0, 60, size=60)
        seeds = draw.integers(0, 4, size=4)
        values.append(np.mean([ours[s][rows, 0].mean() - theirs[s][rows, 0].mean() for s in seeds]))
    assert found.value == pytest.approx(
        np.mean([a[:, 0].mean() - b[:, 0].mean() for a, b in zip(ours, theirs, strict=True)])
    )
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.01)


def test_seeds_that_disagree_widen_the_interval() -> None:
    draw = np.random.default_rng(2)
    rows = 2000
    twin = [right(draw, rows, 0.7)] * 4
    steady = [right(draw, rows, 0.75) for _ in range(4)]
    swinging = [right(draw, rows, share) for share in (0.95, 0.55, 0.9, 0.6)]
    assert verdict(difference_over_seeds(steady, twin, ratio), rows) == "helped"
    assert verdict(difference_over_seeds(swinging, twin, ratio), rows) == "no evidence"


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


def test_other_statistics_are_taken_seed_by_seed() -> None:
    draw = np.random.default_rng(3)
    ours, theirs = ([draw.integers(1, 5, size=(30, 3)).astype(float) for _ in range(2)] for _ in range(2))
    for counts in [*ours, *theirs]:
        counts[:, 0] = np.minimum(counts[:, 0], counts[:, 1:].min(-1))
    expected = np.mean([f1_from_counts(a.sum(0)) - f1_from_counts(b.sum(0)) for a, b in zip(ours, theirs, strict=True)])
    found = difference_over_seeds(ours, theirs, f1_from_counts)
    assert found.value == pytest.approx(expected)
    assert found.low <= found.value <= found.high


def test_one_row_and_the_same_system_twice() -> None:
    one = right(np.random.default_rng(4), 1, 0.5)
    assert difference_over_seeds([one, one], [one, one], ratio) == Interval(0.0, 0.0, 0.0)


def test_bad_input() -> None:
    counts = right(np.random.default_rng(5), 9, 0.5)
    with pytest.raises(ValueError, match="0 and 0 seeds"):
        difference_over_seeds([], [], ratio)
    with pytest.raises(ValueError, match="2 and 1 seeds"):
        difference_over_seeds([counts, counts], [counts], ratio)
    with pytest.raises(ValueError, match="shape"):
        difference_over_seeds([counts, counts], [counts, counts[:5]], ratio)
    with pytest.raises(ValueError, match="no rows"):
        difference_over_seeds([counts[:0]] * 2, [counts[:0]] * 2, ratio)
