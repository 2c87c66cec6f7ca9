"""Which class is taken for which."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..predictions import answer_of
from .slices import Rows

LARGEST_TABLE = 12
"""Classes up to which a whole table is shown; of more, the most frequent confusions."""
SHOWN = 15
NO_ENTITY = "O"


@dataclass(frozen=True)
class Confusion:
    """How often each class is answered where each is gold.

    Args:
        labels: Classes in order.
        counts: A row for each gold class, a column for each answer.
    """

    labels: list[str]
    counts: list[list[int]]

    @property
    def fits(self) -> bool:
        """Whether the whole table can be read."""
        return len(self.labels) <= LARGEST_TABLE

    @property
    def largest(self) -> list[tuple[str, str, int]]:
        """The most frequent confusions: gold class, answer, number."""
        pairs = [
            (gold, answer, self.counts[row][column])
            for row, gold in enumerate(self.labels)
            for column, answer in enumerate(self.labels)
            if row != column and self.counts[row][column]
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:SHOWN]

    def share(self, row: int, column: int) -> float:
        """Return the share of a gold class that gets an answer, 0 to 1."""
        return self.counts[row][column] / max(1, sum(self.counts[row]))


def confusion(rows: Rows, kind: str) -> Confusion | None:
    """Count the answers to scored rows.

    Args:
        rows: Scored rows.
        kind: What the task labels. For NER, words are counted by the type of their entity, ``O`` outside.

    Returns:
        The table of the classes that occur; None for several labels a text, which are no alternatives.
    """
    if kind == "multi_label":
        return None
    pairs = Counter(pair for row in rows for pair in _pairs(row, kind))
    labels = sorted({label for pair in pairs for label in pair}, key=lambda label: (label == NO_ENTITY, label))
    return Confusion(labels, [[pairs[gold, answer] for answer in labels] for gold in labels])


def _pairs(row: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    """Return gold and answered classes of a row: one pair, or one for each word."""
    if kind != "ner":
        return [(row["gold"], answer_of(row))]
    return [(_type(gold), _type(tag)) for gold, tag in zip(row["gold"], answer_of(row), strict=True)]


def _type(tag: str) -> str:
    return NO_ENTITY if tag == NO_ENTITY else tag[2:]
