"""Which rows make up a training batch: source rows, beside them target rows, in an order of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from .mixture import Mixture, draw_without_replacement

NO_TARGET = -1
POOL_BATCHES = 50
"""Batches that are sorted by length together: large enough to leave little padding, small enough to stay random."""


class Pick(NamedTuple):
    """Index of one training item: a source row, a target row (or ``NO_TARGET``) and the epoch, for random masks."""

    source: int
    target: int
    epoch: int


@dataclass(frozen=True)
class RowOrder:
    """What the order of the rows of a training goes by.

    Args:
        lengths: Tokens of each labelled row.
        target_lengths: Tokens of each target row, or None.
        mixture: See :class:`EpochSampler`.
    """

    lengths: Sequence[int] | np.ndarray
    target_lengths: Sequence[int] | None = None
    mixture: Mixture | None = None


class PairedDomains(torch.utils.data.Dataset[dict[str, Any]]):
    """A map-style dataset whose items are one source row and, where a method asks for it, one target row.

    An epoch is one pass over the source, so that a run has the same optimizer steps and sees the same source rows
    with and without target text. Target rows are drawn without replacement until all were seen, then again.

    Args:
        source: Source features, one mapping a row.
        target: Target features, or None.
        masked: Returns the masked copy of a target row in an epoch, or None for items without one.
    """

    def __init__(
        self,
        source: Sequence[dict[str, Any]],
        target: Sequence[dict[str, Any]] | None = None,
        masked: Callable[[int, int], dict[str, Any]] | None = None,
    ):
        self.source = source
        self.target = target
        self.masked = masked

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        item = {"source": self.source[pick.source]}
        if self.target is not None and pick.target != NO_TARGET:
            item["target"] = self.target[pick.target]
        if self.masked is not None and pick.target != NO_TARGET:
            item["masked"] = self.masked(pick.target, pick.epoch)
        return item


class EpochSampler(torch.utils.data.Sampler[Pick]):
    """The order of an epoch as a pure function of (seed, epoch), so that a resumed run sees the same batches.

    Rows of like length share a batch: a shuffled pool of ``POOL_BATCHES`` batches is sorted by length, cut into
    batches, and the batches are shuffled. Target rows are matched to source rows by rank of length inside the
    pool. The last batch is filled up from the beginning of the next order rather than left short, so that one
    process with a batch of B and W processes with B/W see the same rows in every step.

    Args:
        lengths: Tokens of each source row.
        batch_size: Global batch: rows of one optimizer step over all processes.
        seed: Seed of the order.
        target_lengths: Tokens of each target row, or None.
        group_by_length: Whether to sort inside pools.
        mixture: Says how often the rows of each domain are drawn, where the labelled rows come from several; an epoch
            is then its length. None: each row once an epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        target_lengths: Sequence[int] | None = None,
        group_by_length: bool = True,
        mixture: Mixture | None = None,
    ):
        self.lengths = np.asarray(lengths)
        self.target_lengths = None if target_lengths is None else np.asarray(target_lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.mixture = mixture
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is yielded next."""
        self.epoch = epoch

    def __len__(self) -> int:
        rows = len(self.lengths) if self.mixture is None else len(self.mixture)
        return -(-rows // self.batch_size) * self.batch_size

    def __iter__(self) -> Iterator[Pick]:
        if self.mixture is None:
            source = draw_without_replacement(len(self.lengths), 0, len(self), (self.seed, self.epoch))
        else:
            source = self.mixture.draw(len(self), self.epoch, self.seed)
        target = np.full(len(self), NO_TARGET)
        if self.target_lengths is not None:
            # The target goes on where the last epoch stopped.
            begin = self.epoch * len(self)
            target = draw_without_replacement(len(self.target_lengths), begin, begin + len(self), (self.seed, 7919))
        if self.group_by_length:
            source, target = self._group(source, target)
        return (Pick(int(row), int(other), self.epoch) for row, other in zip(source, target, strict=True))

    def _group(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.random.default_rng((self.seed, self.epoch, 1))
        pool = POOL_BATCHES * self.batch_size
        batches: list[tuple[np.ndarray, np.ndarray]] = []
        for begin in range(0, len(source), pool):
            rows, others = source[begin : begin + pool], target[begin : begin + pool]
            if self.mixture is None:
                rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            else:
                rows = self.mixture.sort_by_length(rows, self.lengths, self.batch_size)
            if self.target_lengths is not None:
                others = others[np.argsort(self.target_lengths[others], kind="stable")]
            batches += [
                (rows[at : at + self.batch_size], others[at : at + self.batch_size])
                for at in range(0, len(rows), self.batch_size)
            ]
        shuffled = [batches[index] for index in order.permutation(len(batches))]
        return np.concatenate([rows for rows, _ in shuffled]), np.concatenate([others for _, others in shuffled])
