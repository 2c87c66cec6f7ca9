"""Scores of parts of a split: the rows of a class, the texts of a length.

Shape suffixes: N rows, K counts of a row, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.spans import words
from ..intervals import Interval, Statistic, bootstrap_interval, f1_from_counts, paired_difference
from ..metrics import entity_counts, headline
from ..predictions import answer_of

Rows = Sequence[dict[str, Any]]
FEWEST = 20
"""Texts that a part by length holds at least: of fewer, a score says hardly anything."""
PARTS = 4


@dataclass(frozen=True)
class Slice:
    """Scores of one part of a split.

    Args:
        name: What the part is.
        count: Texts in it; of a class, how often it is gold. None where the record does not tell.
        scores: By model, the baseline first.
        gain: The second model's score over the first one's; None where there is one model.
    """

    name: str
    count: int | None
    scores: dict[str, Interval]
    gain: Interval | None


@dataclass(frozen=True)
class Level:
    """How sure intervals are.

    Args:
        confidence: Share of resamples inside an interval.
        resamples: Number of resamples.
    """

    confidence: float = 0.95
    resamples: int = 2000


def by_length(answers: Mapping[str, Rows], kind: str, level: Level, most: int = PARTS) -> list[Slice]:
    """Score texts by their number of words, in parts of about equal size.

    Args:
        answers: Scored rows by model, the baseline first; the same rows for each.
        kind: What the task labels: ``classification``, ``multi_label`` or ``ner``.
        level: Of the intervals.
        most: Number of parts; fewer where there are few texts, or many of one length.

    Returns:
        The headline score of each part, from short to long; nothing where there are too few texts for two parts.
    """
    _, count, statistic = headline(kind)
    counts = {role: count(*_pairs(rows)) for role, rows in answers.items()}
    one = next(iter(answers.values()))
    lengths_N = np.array([len(row["words"] if "words" in row else words(row["text"])) for row in one])
    parts = min(most, len(lengths_N) // FEWEST)
    # With fewer than two parts there is no edge, and all texts are in one.
    edges = np.unique(np.quantile(lengths_N, np.arange(1, max(1, parts)) / max(1, parts)))
    part_N = np.searchsorted(edges, lengths_N)
    found = []
    for part in np.unique(part_N):
        inside_N = part_N == part
        shortest, longest = int(lengths_N[inside_N].min()), int(lengths_N[inside_N].max())
        name = f"{shortest} words" if shortest == longest else f"{shortest} to {longest} words"
        chosen = {role: counts_NK[inside_N] for role, counts_NK in counts.items()}
        found.append(_slice(name, int(inside_N.sum()), chosen, statistic, level))
    return found if len(found) > 1 else []


def by_class(answers: Mapping[str, Rows], kind: str, level: Level) -> list[Slice]:
    """Score each class by F1 (for NER each entity type, strictly by span), the most frequent first.

    Args:
        answers: See :func:`by_length`.
        kind: See :func:`by_length`.
        level: Of the intervals.

    Returns:
        A part for every class that is gold or answered.
    """
    pairs = {role: _pairs(rows) for role, rows in answers.items()}
    named = {name for gold, given in pairs.values() for row in (*gold, *given) for name in labels_of(row, kind)}
    names = sorted(named)
    by_role = {role: _class_counts(*pair, names, kind) for role, pair in pairs.items()}
    found = []
    for number, name in enumerate(names):
        counts = {role: all_CNK[number] for role, all_CNK in by_role.items()}
        gold = int(next(iter(counts.values()))[:, 2].sum())
        found.append(_slice(name, gold, counts, f1_from_counts, level))
    return sorted(found, key=lambda one: -(one.count or 0))


def labels_of(answer: Any, kind: str) -> list[str]:
    """Return the classes that an answer (or gold) names: its label, its labels, or the types of its words."""
    if kind == "ner":
        return [tag[2:] for tag in answer if tag != "O"]
    return list(answer) if kind == "multi_label" else [answer]


def _pairs(rows: Rows) -> tuple[list[Any], list[Any]]:
    """Return gold labels and answers."""
    return [row["gold"] for row in rows], [answer_of(row) for row in rows]


def _class_counts(gold: Sequence[Any], given: Sequence[Any], names: Sequence[str], kind: str) -> np.ndarray:
    """Return true positives, predicted and gold of each class (C, N, 3)."""
    if kind == "ner":
        by_name = [entity_counts(_only(gold, name), _only(given, name)) for name in names]
        return np.array(by_name, dtype=np.int32).reshape(len(names), len(gold), 3)
    truth_CN, answer_CN = (_named(side, names, kind) for side in (gold, given))
    return np.stack([truth_CN & answer_CN, answer_CN, truth_CN], axis=-1).astype(np.int32)


def _only(rows: Sequence[Sequence[str]], name: str) -> list[list[str]]:
    """Return the tags of one entity type, all others as ``O``."""
    return [[tag if tag[2:] == name else "O" for tag in tags] for tags in rows]


def _named(rows: Sequence[Any], names: Sequence[str], kind: str) -> np.ndarray:
    """Return which rows name which class (C, N). All classes in one pass: with many, one pass each takes long."""
    numbers = {name: number for number, name in enumerate(names)}
    named_CN = np.zeros((len(names), len(rows)), dtype=bool)
    for at, row in enumerate(rows):
        named_CN[[numbers[name] for name in labels_of(row, kind)], at] = True
    return named_CN


def _slice(name: str, count: int, counts: Mapping[str, np.ndarray], statistic: Statistic, level: Level) -> Slice:
    settings = (statistic, level.confidence, level.resamples)
    scores = {role: bootstrap_interval(counts_NK, *settings) for role, counts_NK in counts.items()}
    gain = None
    if len(counts) > 1:
        before_NK, after_NK = counts.values()
        gain = paired_difference(after_NK, before_NK, *settings)
    return Slice(name, count, scores, gain)
