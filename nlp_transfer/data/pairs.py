"""Which rows make up a training batch: source rows, beside them target rows, in an order of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from .mixture import Mixture, copy_numbers, draw_without_replacement, sort_by_length

NO_TARGET = NO_TEXT = -1
POOL_BATCHES = 50
"""Batches that are sorted by length together: large enough to leave little padding, small enough to stay random."""


class Pick(NamedTuple):
    """Index of one training item.

    Args:
        source: A labelled row.
        target: A target row, or ``NO_TARGET``.
        epoch: For random masks.
        text: A row of source text, or ``NO_TEXT``.
        turn: How often the target row was drawn before in this epoch, for random masks as well.
    """

    source: int
    target: int
    epoch: int
    text: int = NO_TEXT
    turn: int = 0


@dataclass(frozen=True)
class RowOrder:
    """What the order of the rows of a training goes by.

    Args:
        lengths: Tokens of each labelled row.
        target_lengths: Tokens of each target row, or None.
        mixture: See :class:`EpochSampler`.
        text_lengths: Tokens of each row of source text, or None.
    """

    lengths: Sequence[int] | np.ndarray
    target_lengths: Sequence[int] | None = None
    mixture: Mixture | None = None
    text_lengths: Sequence[int] | None = None


class PairedDomains(torch.utils.data.Dataset[dict[str, Any]]):
    """A map-style dataset whose items are one labelled row and, where a method asks for it, unlabelled ones.

    An epoch is one pass over the labelled rows, so that a run has the same optimizer steps and sees the same labelled
    rows with and without others. Those are drawn without replacement until all were seen, then again.

    Args:
        source: Features of labelled rows, one mapping a row. They are those of the source, unless a stage trains on
            labelled target rows: ``origin`` says so.
        target: Features of target text, or None.
        masked: Returns the masked copy of a target row in an epoch and turn, or None for items without one.
        text: Features of source text, where the labelled rows are those of the target only, or None.
    """

    def __init__(
        self,
        source: Sequence[dict[str, Any]],
        target: Sequence[dict[str, Any]] | None = None,
        masked: Callable[[int, int, int], dict[str, Any]] | None = None,
        text: Sequence[dict[str, Any]] | None = None,
    ):
        self.source = source
        self.target = target
        self.masked = masked
        self.text = text

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        item = {"source": self.source[pick.source]}
        if self.target is not None and pick.target != NO_TARGET:
            item["target"] = self.target[pick.target]
        if self.text is not None and pick.text != NO_TEXT:
            item["text"] = self.text[pick.text]
        if self.masked is not None and pick.target != NO_TARGET:
            item["masked"] = self.masked(pick.target, pick.epoch, pick.turn)
        return item


class EpochSampler(torch.utils.data.Sampler[Pick]):
    """The order of an epoch as a pure function of (seed, epoch), so that a resumed run sees the same batches.

    Rows of like length share a batch: a shuffled pool of ``POOL_BATCHES`` batches is sorted by length, cut into
    batches, and the batches are shuffled. Unlabelled rows are matched to labelled rows by rank of length inside the
    pool. The last batch is filled up from the beginning of the next order rather than left short, so that one
    process with a batch of B and W processes with B/W see the same rows in every step.

    Args:
        lengths: Tokens of each labelled row.
        batch_size: Global batch: rows of one optimizer step over all processes.
        seed: Seed of the order.
        target_lengths: Tokens of each target row, or None.
        group_by_length: Whether to sort inside pools.
        mixture: Says how often the rows of each domain are drawn, where the labelled rows come from several; an epoch
            is then its length. None: each row once an epoch.
        text_lengths: Tokens of each row of source text, or None.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        target_lengths: Sequence[int] | None = None,
        group_by_length: bool = True,
        mixture: Mixture | None = None,
        text_lengths: Sequence[int] | None = None,
    ):
        self.lengths = np.asarray(lengths)
        self.target_lengths = None if target_lengths is None else np.asarray(target_lengths)
        self.text_lengths = None if text_lengths is None else np.asarray(text_lengths)
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
        target, text = self._beside(self.target_lengths, 7919), self._beside(self.text_lengths, 6007)
        if self.group_by_length:
            source, target, text = self._group(source, target, text)
        picks = zip(source.tolist(), target.tolist(), text.tolist(), copy_numbers(target).tolist(), strict=True)
        return (Pick(row, other, self.epoch, beside, turn) for row, other, beside, turn in picks)

    def _beside(self, lengths: np.ndarray | None, series: int) -> np.ndarray:
        """Draw the unlabelled rows of an epoch; they go on where the last one stopped."""
        if lengths is None:
            return np.full(len(self), NO_TARGET)
        begin = self.epoch * len(self)
        return draw_without_replacement(len(lengths), begin, begin + len(self), (self.seed, series))

    def _group(self, source: np.ndarray, target: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, ...]:
        order = np.random.default_rng((self.seed, self.epoch, 1))
        pool = POOL_BATCHES * self.batch_size
        batches: list[tuple[np.ndarray, ...]] = []
        for begin in range(0, len(source), pool):
            rows = source[begin : begin + pool]
            if self.mixture is None:
                rows = sort_by_length(rows, self.lengths, self.batch_size)
            else:
                rows = self.mixture.sort_by_length(rows, self.lengths, self.batch_size)
            sorted_rows = [rows]
            for others, lengths in ((target, self.target_lengths), (text, self.text_lengths)):
                beside = others[begin : begin + pool]
                sorted_rows.append(beside if lengths is None else sort_by_length(beside, lengths, self.batch_size))
            batches += [
                tuple(slot[at : at + self.batch_size] for slot in sorted_rows)
                for at in range(0, len(rows), self.batch_size)
            ]
        shuffled = [batches[index] for index in order.permutation(len(batches))]
        return tuple(np.concatenate(slot) for slot in zip(*shuffled, strict=True))
