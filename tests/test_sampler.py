"""The order of rows: the same for the same seed and epoch, every row covered, the last batch filled."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nlp_transfer.data.pairs import NO_TARGET, EpochSampler


def test_sampler_is_a_pure_function_of_seed_and_epoch() -> None:
    lengths, others = list(range(5, 55)), list(range(3, 24))
    one, two = (EpochSampler(lengths, 8, 3, others) for _ in range(2))
    two.set_epoch(1)
    list(two)
    two.set_epoch(0)
    assert list(one) == list(one) == list(two)
    two.set_epoch(1)
    assert list(one) != list(two)
    assert list(one) != list(EpochSampler(lengths, 8, 4, others))


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("rows", [3, 16, 50])
def test_epoch_covers_every_row_and_fills_the_last_batch(rows: int, grouped: bool) -> None:
    sampler = EpochSampler([5] * rows, 8, 3, [4] * 7, group_by_length=grouped)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        picks = list(sampler)
        assert len(picks) == len(sampler) == -(-rows // 8) * 8
        assert {pick.source for pick in picks} == set(range(rows))
        assert {pick.epoch for pick in picks} == {epoch}
        counts = Counter(pick.source for pick in picks)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_target_rows_are_all_seen_before_any_comes_again() -> None:
    sampler = EpochSampler([5] * 24, 8, 3, [4] * 60)
    seen: list[int] = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        seen += [pick.target for pick in sampler]
    assert sorted(seen[:60]) != sorted(seen[60:120])  # the pools are not cut at a pass
    assert set(Counter(seen).values()) == {2}
    assert all(pick.target == NO_TARGET for pick in EpochSampler([5] * 24, 8, 3))


@pytest.mark.parametrize("grouped", [True, False])
def test_labelled_rows_come_in_the_order_that_they_have_alone(grouped: bool) -> None:
    """So an adapted model and its source-only twin learn from the same rows in the same steps."""
    lengths = [int(value) for value in np.random.default_rng(0).integers(5, 200, size=50)]
    alone, beside, between = (
        EpochSampler(lengths, 8, 3, targets, grouped, text_lengths=texts)
        for targets, texts in ((None, None), (range(5, 28), None), (range(5, 28), range(9, 40)))
    )
    for epoch in range(3):
        for sampler in (alone, beside, between):
            sampler.set_epoch(epoch)
        rows = [pick.source for pick in alone]
        assert [pick.source for pick in beside] == [pick.source for pick in between] == rows


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = [int(value) for value in np.random.default_rng(0).integers(5, 200, size=320)]
    targets = [int(value) for value in np.random.default_rng(1).integers(5, 200, size=320)]
    picks = list(EpochSampler(lengths, 16, 3, targets))
    batches = [picks[at : at + 16] for at in range(0, 320, 16)]
    spread = [np.ptp([lengths[pick.source] for pick in batch]) for batch in batches]
    apart = [abs(lengths[pick.source] - targets[pick.target]) for pick in picks]
    assert max(spread) < 40
    assert np.mean(apart) < 15
    first = [np.mean([lengths[pick.source] for pick in batch]) for batch in batches]
    assert first != sorted(first)
