"""Labelled rows of several domains in one training: how often each domain is drawn, and in which order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import TrainingError

SERIES = 104729
"""Keeps the orders of a mixture apart from the others that are drawn with the same seed."""


class Mixture:
    """The order of labelled rows from several domains: each domain has its share of every batch.

    An epoch is one pass over the largest domain; the others repeat, in whole passes, each pass in an order of its own.
    Passes go on from one epoch to the next: no row is drawn twice more often than another of its domain.

    Args:
        origins: Domain of each of the N rows: 0 … K − 1 a source domain, ``TARGET`` (−1) a labelled target row.
        shares: Share of the drawn rows by domain, all above 0; they are divided by their sum. None: equal ones.

    Raises:
        ValueError: The shares are not those of the domains that the rows come from.
    """

    def __init__(self, origins: Sequence[int] | np.ndarray, shares: Mapping[int, float] | None = None):
        self.origins = np.asarray(origins)
        domains = np.unique(self.origins).tolist()
        shares = dict.fromkeys(domains, 1.0) if shares is None else shares
        if sorted(shares) != domains or min(shares.values()) <= 0:
            raise ValueError(f"rows come from the domains {domains}; their shares, all above 0, cannot be {shares}")
        self.shares = {domain: shares[domain] / sum(shares.values()) for domain in domains}
        self.rows_of = {domain: np.flatnonzero(self.origins == domain) for domain in domains}

    def __len__(self) -> int:
        """Rows that are drawn in an epoch: as many as give the largest domain one pass."""
        largest = max(self.rows_of, key=lambda domain: len(self.rows_of[domain]))
        # Rounded first: 30 / 0.3 is a little more than 100.
        return math.ceil(round(len(self.rows_of[largest]) / self.shares[largest], 6))

    @property
    def frequency_N(self) -> np.ndarray:
        """How often each row is drawn, as a share of all draws: (N,), together 1."""
        of_domain = {domain: self.shares[domain] / len(rows) for domain, rows in self.rows_of.items()}
        return np.asarray([of_domain[origin] for origin in self.origins.tolist()])

    def draw(self, count: int, epoch: int, seed: int) -> np.ndarray:
        """Return the rows of an epoch in their order, a pure function of its arguments.

        Domains take turns as their shares say: any number of neighbouring rows holds about the share of each.

        Args:
            count: Rows to draw; the same in every epoch.
            epoch: From 0.
            seed: Seed of the orders.

        Returns:
            Row numbers (count,).

        Raises:
            TrainingError: They are too few for a row of each domain.
        """
        quotas = self._quotas(count)
        turns = np.concatenate([(np.arange(quota) + 0.5) / quota for quota in quotas.values()])
        drawn = [
            self.rows_of[domain][
                draw_without_replacement(
                    len(self.rows_of[domain]), epoch * quota, (epoch + 1) * quota, (seed, SERIES, domain + 1)
                )
            ]
            for domain, quota in quotas.items()
        ]
        return np.concatenate(drawn)[np.argsort(turns, kind="stable")]

    def sort_by_length(self, rows: np.ndarray, lengths: np.ndarray, batch_size: int) -> np.ndarray:
        """Sort drawn rows by length inside each domain, so that batches hold like lengths of every domain.

        Args:
            rows: Drawn rows; each domain keeps its places.
            lengths: Tokens of each of the N rows.
            batch_size: Rows of a batch.
        """
        result = rows.copy()
        for domain in self.shares:
            places = np.flatnonzero(self.origins[rows] == domain)
            in_batch = max(1, len(places) * batch_size // len(rows))
            result[places] = sort_by_length(rows[places], lengths, in_batch)
        return result

    def _quotas(self, count: int) -> dict[int, int]:
        """Divide ``count`` by the shares: whole numbers, the largest remainders rounded up."""
        exact = np.asarray([count * share for share in self.shares.values()])
        whole = np.floor(exact + 1e-9).astype(int)
        whole[np.argsort(whole - exact, kind="stable")[: count - whole.sum()]] += 1
        if not whole.all():
            told = ", ".join(f"{share:.3g}" for share in self.shares.values())
            raise TrainingError(
                f"{count} rows, an epoch, are too few to hold a row of each domain with the shares {told}. Raise the "
                "smallest one (share of a source in data.source, or a stage's target_share)."
            )
        return dict(zip(self.shares, whole.tolist(), strict=True))


def draw_without_replacement(count: int, begin: int, end: int, seed: tuple[int, ...]) -> np.ndarray:
    """Return positions ``begin`` to ``end`` of an endless series of permutations of ``range(count)``."""
    passes = range(begin // count, -(-end // count))
    series = np.concatenate([np.random.default_rng((*seed, number)).permutation(count) for number in passes])
    return series[begin - passes.start * count : end - passes.start * count]


def sort_by_length(rows: np.ndarray, lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Sort rows by length; copies of one that was drawn several times are dealt out over neighbouring batches.

    Sorted alone, they would lie side by side, and a batch of a small domain would hold few different rows.

    Args:
        rows: Numbers of rows, some of them several times.
        lengths: Tokens of each row, by its number.
        batch_size: Rows that a batch takes of these.
    """
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    copy, rank = copy_numbers(rows), np.arange(len(rows))
    stretch = rank // (batch_size * (copy.max(initial=0) + 1))
    return rows[np.lexsort((rank, copy, stretch))]


def copy_numbers(values: np.ndarray) -> np.ndarray:
    """Return for each value how often it stands before: 0, 0, 1 for 7, 5, 7."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    numbers = np.empty(len(values), dtype=int)
    numbers[order] = np.arange(len(values)) - np.repeat(first, counts)
    return numbers
