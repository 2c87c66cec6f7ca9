"""Rows of several domains: how often each is drawn, in which order, and what batches say of where they come from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from helpers import rows_of
from torch.utils.data import BatchSampler

from nlp_transfer import finding, models, parts
from nlp_transfer.data.batching import PairCollator, some_rows
from nlp_transfer.data.load import load_split
from nlp_transfer.data.mixture import Mixture
from nlp_transfer.data.pairs import EpochSampler, PairedDomains, Pick
from nlp_transfer.data.split import distinct_labels
from nlp_transfer.data.windows import Limits
from nlp_transfer.recipe.schema import TaskSpec
from nlp_transfer.tasks.base import Encoded, Task
from nlp_transfer.units import TARGET, Step

SIZES = {0: 40, 1: 7, TARGET: 3}
ORIGINS = [origin for origin, size in SIZES.items() for _ in range(size)]


def sampler(
    batch: int = 6, grouped: bool = False, shares: dict[int, float] | None = None, seed: int = 3
) -> EpochSampler:
    lengths = np.random.default_rng(0).integers(5, 200, size=len(ORIGINS)).tolist()
    return EpochSampler(lengths, batch, seed, None, grouped, Mixture(ORIGINS, shares))


def epochs(order: EpochSampler, count: int) -> list[list[int]]:
    drawn = []
    for epoch in range(count):
        order.set_epoch(epoch)
        drawn.append([pick.source for pick in order])
    return drawn


@pytest.mark.parametrize(
    ("shares", "length"), [(None, 120), ({0: 2, 1: 1, TARGET: 1}, 80), ({0: 0.1, 1: 0.6, TARGET: 0.3}, 400)]
)
def test_an_epoch_is_one_pass_over_the_largest_domain(shares: dict[int, float] | None, length: int) -> None:
    mixture = Mixture(ORIGINS, shares)
    assert len(mixture) == length
    drawn = mixture.draw(length, 0, 1)
    assert sorted(row for row in drawn if row < 40) == list(range(40))
    total = sum(mixture.shares.values())
    for origin, share in mixture.shares.items():
        assert sum(ORIGINS[row] == origin for row in drawn) == pytest.approx(length * share / total, abs=1)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("shares", [None, {0: 0.5, 1: 0.3, TARGET: 0.2}])
def test_every_batch_holds_the_share_of_each_domain(shares: dict[int, float] | None, grouped: bool) -> None:
    order = sampler(12, grouped, shares)
    wanted = dict.fromkeys(SIZES, 1 / 3) if shares is None else shares
    for drawn in epochs(order, 3):
        for at in range(0, len(drawn), 12):
            counts = Counter(ORIGINS[row] for row in drawn[at : at + 12])
            for origin, share in wanted.items():
                assert abs(counts[origin] - 12 * share) < 1.5


@pytest.mark.parametrize("grouped", [True, False])
def test_no_row_is_drawn_twice_more_often_than_another_of_its_domain(grouped: bool) -> None:
    order = sampler(7, grouped)
    counts: Counter[int] = Counter()
    for drawn in epochs(order, 5):
        counts.update(drawn)
        for origin, size in SIZES.items():
            own = [counts[row] for row in range(len(ORIGINS)) if ORIGINS[row] == origin]
            assert len(own) == size
            assert max(own) - min(own) <= 1


def test_each_pass_has_an_order_of_its_own() -> None:
    (drawn,) = epochs(sampler(), 1)
    seven = [row for row in drawn if ORIGINS[row] == 1]
    passes = [tuple(seven[at : at + 7]) for at in range(0, 35, 7)]
    assert all(sorted(one) == list(range(40, 47)) for one in passes)
    assert len(set(passes)) == 5


def test_an_epoch_is_a_function_of_seed_and_number_so_that_a_resumed_run_sees_it_again() -> None:
    whole = epochs(sampler(grouped=True), 4)
    resumed = sampler(grouped=True)
    resumed.set_epoch(2)
    assert [pick.source for pick in resumed] == whole[2]
    assert len({tuple(drawn) for drawn in whole}) == 4
    assert epochs(sampler(grouped=True, seed=4), 1) != whole[:1]


def test_rows_of_like_length_share_a_batch_and_copies_do_not() -> None:
    """50 batches hold 400 draws of each domain: 20 of every row of the small one."""
    origins = [0] * 400 + [1] * 20
    lengths = np.random.default_rng(1).integers(5, 200, size=420)
    drawn = [pick.source for pick in EpochSampler(lengths, 16, 3, None, True, Mixture(origins))]
    batches = [drawn[at : at + 16] for at in range(0, len(drawn), 16)]
    assert len(batches) == 50
    assert max(np.ptp([lengths[row] for row in batch if row < 400]) for batch in batches) < 30
    copies = [max(Counter(batch).values()) for batch in batches]
    assert np.mean(copies) < 1.5
    assert max(copies) <= 2
    few = [np.mean([lengths[row] for row in batch if row >= 400]) for batch in batches]
    many = [np.mean([lengths[row] for row in batch if row < 400]) for batch in batches]
    assert np.corrcoef(few, many)[0, 1] > 0.7


def test_a_batch_holds_different_target_rows_though_there_are_few() -> None:
    """100 target rows stand beside 1,600 source rows: each is drawn 16 times an epoch."""
    lengths = np.random.default_rng(0).integers(5, 60, 1600)
    sampler = EpochSampler(lengths, 16, 3, target_lengths=lengths[:100].tolist())
    targets = np.array([pick.target for pick in sampler]).reshape(-1, 16)
    different = [len(set(batch)) for batch in targets.tolist()]
    assert np.mean(different) > 14
    assert np.bincount(targets.ravel()).tolist() == [16] * 100
    plain = EpochSampler(lengths, 16, 3, target_lengths=lengths[:100].tolist(), group_by_length=False)
    unsorted = np.array([pick.target for pick in plain]).reshape(-1, 16)
    spread = [np.ptp(lengths[batch]) for batch in targets]
    assert np.mean(spread) < 0.7 * np.mean([np.ptp(lengths[batch]) for batch in unsorted])


@pytest.mark.parametrize("grouped", [True, False])
def test_two_processes_draw_different_rows_and_together_those_of_one(grouped: bool) -> None:
    """The way accelerate divides the batches of a sampler."""
    (whole,) = epochs(sampler(12, grouped), 1)
    shards = [BatchSamplerShard(BatchSampler(whole, 6, False), 2, rank) for rank in (0, 1)]
    drawn = [[row for batch in shard for row in batch] for shard in shards]
    assert sorted(drawn[0] + drawn[1]) == sorted(whole)
    large = [{row for row in share if row < 40} for share in drawn]
    assert not large[0] & large[1]
    for share in drawn:
        counts = Counter(ORIGINS[row] for row in share)
        assert max(counts.values()) - min(counts.values()) <= 2


def test_shares_are_those_of_the_domains_there_are() -> None:
    for wrong in ({0: 1.0}, {0: 1.0, 1: 1.0, TARGET: 0.0}, {0: 1.0, 1: 1.0, 2: 1.0}):
        with pytest.raises(ValueError, match="shares"):
            Mixture(ORIGINS, wrong)
    with pytest.raises(ValueError, match="too few"):
        Mixture([0, 0, 1], {0: 100, 1: 1}).draw(3, 0, 0)
    thirds = Mixture([0] * 10 + [1] * 5, {0: 1 / 3, 1: 2 / 3})
    assert len(thirds) == 30


def encoded(kind: str, count: int, seed: int, tokenizer: Any, labelled: bool = True) -> tuple[Encoded, Task]:
    spec = TaskSpec.model_validate({"name": kind})
    split = load_split(rows_of(kind, count, seed), name="source.train", kind=parts.row_kind(spec))
    task = parts.build_task(spec, parts.label_names(spec, distinct_labels(split, parts.row_kind(spec))))
    return task.encode(split.rows, tokenizer, Limits(16, 4), labelled=labelled), task


@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_units_say_which_domain_they_come_from(kind: str, tiny_bert: Path) -> None:
    tokenizer = models.load_tokenizer(finding.resolve(str(tiny_bert)))
    one, task = encoded(kind, 6, 1, tokenizer)
    two, _ = encoded(kind, 5, 2, tokenizer)
    known, _ = encoded(kind, 4, 3, tokenizer)
    other, _ = encoded(kind, 6, 4, tokenizer, labelled=False)
    rows = one.joined(two).with_origins([0] * 6 + [1] * 5).joined(known.with_origins([TARGET] * 4))
    assert rows.rows == 15
    assert [window.row for window in rows.windows] == sorted(window.row for window in rows.windows)
    mixture = rows.mixture()
    assert mixture is not None
    assert other.mixture() is None
    order = EpochSampler(rows.lengths, 6, 3, other.lengths, mixture=mixture)
    data = PairedDomains(rows.features, other.features)
    picks: list[Pick] = list(order)[:6]
    batch = PairCollator(0)([data[pick] for pick in picks])
    origins = [rows.features[pick.source]["origin"] for pick in picks]
    assert set(origins) == {0, 1, TARGET}
    assert batch["origin"].tolist() == origins + [TARGET] * 6
    assert batch["domain"].tolist() == [int(origin == TARGET) for origin in origins] + [1] * 6
    tokens = batch["input_ids"].shape[1]
    logits = torch.zeros((12, tokens, 7) if kind == "ner" else (12, 3))
    units = task.units(torch.zeros(12, tokens, 4), logits, batch)
    step = Step(**units, progress=0.0, model=torch.nn.Identity())
    assert step.origin_U is not None
    assert ((step.origin_U == TARGET) == (step.domain_U == 1)).all()
    assert {(int(o), bool(k)) for o, k in zip(step.origin_U, step.labelled_U, strict=True)} == {
        (0, True), (1, True), (TARGET, True), (TARGET, False)
    }  # fmt: skip
    taken = step.subsample(2).origin_U
    assert taken is not None
    assert len(taken) == 4
    assert some_rows(batch, batch["domain"] == 1)["origin"].unique().tolist() == [TARGET]
