"""Intervals against plain loops, exact quantiles, the normal approximation and their own promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import LABELS, random_answers
from scipy.stats import binom

from nlp_transfer import intervals
from nlp_transfer.intervals import (
    Interval,
    bootstrap_interval,
    f1_from_counts,
    macro_f1_from_counts,
    paired_difference,
    ratio,
)
from nlp_transfer.metrics import accuracy_counts, macro_f1_counts


def loop_interval(counts_NK: np.ndarray, statistic: Any, resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval by drawing row numbers, one resample at a time."""
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        rows = generator.integers(0, len(counts_NK), len(counts_NK))
        values.append(float(statistic(counts_NK[rows].sum(0))))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


class TestIntervals:
    def test_against_a_plain_loop(self) -> None:
        gold, predicted = random_answers(150, seed=7)
        entities_N3 = np.random.default_rng(7).integers(0, 4, (150, 3))
        entities_N3[:, 1:] += 3  # no fewer predicted or gold than right ones
        cases = [
            (accuracy_counts(gold, predicted), ratio),
            (macro_f1_counts(gold, predicted, LABELS), macro_f1_from_counts),
            (entities_N3, f1_from_counts),
        ]
        for counts, statistic in cases:
            interval = bootstrap_interval(counts, statistic, resamples=6000)
            low, high = loop_interval(counts, statistic, resamples=6000, seed=1)
            width = high - low
            assert interval.value == pytest.approx(float(statistic(counts.sum(0))))
            assert interval.low == pytest.approx(low, abs=0.06 * width)
            assert interval.high == pytest.approx(high, abs=0.06 * width)

    def test_against_the_exact_distribution(self) -> None:
        # A resample of 400 rows, 300 of them right, has a binomial number of right ones.
        counts = accuracy_counts(["a"] * 400, ["a"] * 300 + ["b"] * 100)
        interval = bootstrap_interval(counts, ratio, resamples=40_000)
        exact = binom.ppf([0.025, 0.975], 400, 0.75) / 400
        assert [interval.low, interval.high] == pytest.approx(exact, abs=1.01 / 400)

    def test_against_the_normal_approximation(self) -> None:
        rows, share = 2000, 0.8
        counts = np.stack([np.arange(rows) < rows * share, np.ones(rows)], axis=-1)
        for confidence, deviations in ((0.68, 0.9945), (0.95, 1.96), (0.99, 2.576)):
            interval = bootstrap_interval(counts, ratio, confidence=confidence, resamples=8000)
            half = deviations * np.sqrt(share * (1 - share) / rows)
            assert interval.high - interval.low == pytest.approx(2 * half, rel=0.06)

    def test_coverage(self) -> None:
        generator = np.random.default_rng(0)
        covered = 0
        for number in range(300):
            correct = generator.random(200) < 0.7
            counts = np.stack([correct, np.ones(200)], axis=-1)
            interval = bootstrap_interval(counts, ratio, resamples=400, seed=number)
            covered += interval.low <= 0.7 <= interval.high
        assert 0.91 <= covered / 300 <= 0.98

    def test_seed_and_row_order(self) -> None:
        counts = np.random.default_rng(2).integers(0, 4, (60, 3))
        first = bootstrap_interval(counts, f1_from_counts, seed=4)
        assert bootstrap_interval(counts, f1_from_counts, seed=4) == first
        assert bootstrap_interval(counts, f1_from_counts, seed=5) != first
        assert bootstrap_interval(counts[::-1], f1_from_counts, seed=4) == first

    def test_chunks_do_not_change_the_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        counts = np.random.default_rng(0).integers(0, 50, (300, 3))
        whole = bootstrap_interval(counts, f1_from_counts, resamples=101)
        monkeypatch.setattr(intervals, "CHUNK", 1000)
        assert bootstrap_interval(counts, f1_from_counts, resamples=101) == whole

    def test_paired_is_narrower_when_answers_agree(self) -> None:
        generator = np.random.default_rng(0)
        a = generator.random(1000) < 0.7
        b = np.where(generator.random(1000) < 0.95, a, ~a)
        counts_a, counts_b = (np.stack([correct, np.ones(1000)], axis=-1) for correct in (a, b))
        paired = paired_difference(counts_a, counts_b, ratio)
        # Unpaired: both are resampled on their own, so the variances of the two differences add up.
        half = 1.96 * np.sqrt((a.var() + b.var()) / 1000)
        assert paired.value == pytest.approx(a.mean() - b.mean())
        assert paired.low <= paired.value <= paired.high
        assert paired.high - paired.low < 0.5 * 2 * half
        exact = 1.96 * np.sqrt((a.astype(float) - b).var() / 1000)
        assert paired.high - paired.low == pytest.approx(2 * exact, rel=0.08)

    def test_paired_with_itself_and_the_other_way_round(self) -> None:
        gold, predicted = random_answers(100, seed=1)
        a = macro_f1_counts(gold, predicted, LABELS)
        b = macro_f1_counts(gold, gold, LABELS)
        assert paired_difference(a, a, macro_f1_from_counts) == Interval(0.0, 0.0, 0.0)
        difference = paired_difference(a, b, macro_f1_from_counts)
        assert difference.high < 0
        with pytest.raises(ValueError, match="agree in shape"):
            paired_difference(a, b[:-1], macro_f1_from_counts)

    def test_small_and_refused(self) -> None:
        one = bootstrap_interval(np.array([[1, 1]]), ratio)
        assert one.to_dict() == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert all(type(value) is float for value in one.to_dict().values())
        with pytest.raises(ValueError, match="no rows"):
            bootstrap_interval(np.zeros((0, 2)), ratio)
        with pytest.raises(ValueError, match="no rows"):
            paired_difference(np.zeros((0, 2)), np.zeros((0, 2)), ratio)
        for settings in ({"confidence": 1.0}, {"confidence": 0.0}, {"resamples": 0}):
            with pytest.raises(ValueError, match="must"):
                bootstrap_interval(np.ones((3, 2)), ratio, **settings)
        for shape in ((3,), (3, 0)):
            with pytest.raises(ValueError, match="shape"):
                bootstrap_interval(np.ones(shape), ratio)
