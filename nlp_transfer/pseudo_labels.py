"""Which answers of a model about unlabelled rows are trusted as labels, and what a set of them looks like.

Pure functions on answers and confidences; :meth:`nlp_transfer.tasks.base.Task.guess` says what a decision is.
Shape suffix: N rows (or other decisions).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

NEARLY_ALL = 0.95
SHOWN = 20


@dataclass(frozen=True)
class Rule:
    """Which decisions are kept in a round.

    Args:
        select: ``threshold`` keeps what reaches ``threshold``; ``top_share`` the most confident ``share``.
        threshold: Calibrated probability, 0 to 1. Under both, single words or labels below it may be left out.
        share: Share of the decisions, 0 to 1.
        class_balanced: ``share`` is taken of each predicted class apart, and no class takes more of what is kept than
            ``class_cap`` times an equal part.
        class_cap: Factor on an equal part, at least 1.
        probabilities: Labels are probabilities (soft), not decisions.
    """

    select: Literal["threshold", "top_share"]
    threshold: float = 0.9
    share: float = 0.5
    class_balanced: bool = True
    class_cap: float = 1.5
    probabilities: bool = False


@dataclass(frozen=True)
class PseudoLabel:
    """What a model says about an unlabelled row, and how much of it is trusted.

    Args:
        answer: A label, a list of labels, or a tag for each word.
        group: Class of the row: the label, the set of labels, or the sentence's rarest entity type.
        confidence: Calibrated probability, 0 to 1.
        kept: The row is trained on.
        known: For each label or word, whether its decision counts in the loss; None where the row is one decision.
        probabilities: Soft labels, (C,) or (words, C); None where labels are hard.
    """

    answer: Any
    group: str
    confidence: float
    kept: bool
    known: list[bool] | None = None
    probabilities: list[Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what a line of ``pseudo_labels.jsonl`` holds, without the row's number."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def keep(classes_N: Sequence[str], confidence_N: np.ndarray, rule: Rule) -> np.ndarray:
    """Choose decisions by confidence.

    Class-balanced self-training (Zou et al. 2018, arXiv 1810.07911, section 4): of the N_c decisions for class c the
    ``share`` with the highest confidence is kept, so that a class whose probabilities are low is not starved by an
    easy one. Beyond the paper, no class keeps more than ``class_cap`` / (number of classes) of all candidates: a
    drift of the predictions towards one class is damped, not copied.

    Args:
        classes_N: Predicted classes.
        confidence_N: Calibrated probabilities of these.
        rule: The rule.

    Returns:
        Booleans (N,). Of equal confidences the earlier row wins.
    """
    groups = [np.flatnonzero(np.asarray(classes_N, dtype=object) == name) for name in sorted(set(classes_N))]
    if rule.select == "threshold":
        chosen_N = confidence_N >= rule.threshold
    else:
        chosen_N = np.zeros(len(confidence_N), dtype=bool)
        for rows in groups if rule.class_balanced else [np.arange(len(confidence_N))]:
            chosen_N[_top(rows, confidence_N, math.ceil(rule.share * len(rows) - 1e-9))] = True
    if rule.class_balanced and groups:
        limit = math.ceil(rule.class_cap * int(chosen_N.sum()) / len(groups) - 1e-9)
        for rows in groups:
            candidates = rows[chosen_N[rows]]
            chosen_N[candidates] = False
            chosen_N[_top(candidates, confidence_N, limit)] = True
    return chosen_N


def _top(rows: np.ndarray, confidence_N: np.ndarray, count: int) -> np.ndarray:
    return rows[np.argsort(-confidence_N[rows], kind="stable")[:count]]


def share_of_round(number: int, share: float, growth: float) -> float:
    """Return the share kept in round ``number`` (from 1): it grows linearly, up to everything."""
    return min(1.0, share + growth * (number - 1))


@dataclass(frozen=True)
class Summary:
    """What a set of pseudo-labels looks like.

    Args:
        rows: Unlabelled rows.
        kept: Rows that are trained on.
        predicted_shares: Share of all rows by class, the most frequent first (at most 20).
        kept_shares: The same of the kept rows.
        agreement: Share of all rows with the answer of the last round; None in the first.
        left_out: Share of the words or labels of kept rows that are left out; None where a row is one decision.
    """

    rows: int
    kept: int
    predicted_shares: dict[str, float] = field(default_factory=dict)
    kept_shares: dict[str, float] = field(default_factory=dict)
    agreement: float | None = None
    left_out: float | None = None


def summarise(labels: Sequence[PseudoLabel], last: Sequence[PseudoLabel] | None = None) -> Summary:
    """Count a round's pseudo-labels and compare them with the last round's."""
    kept = [label for label in labels if label.kept]
    same = None
    if last is not None and labels:
        pairs = zip(labels, last, strict=True)
        same = round(sum(one.answer == other.answer for one, other in pairs) / len(labels), 4)
    known = [value for label in kept if label.known is not None for value in label.known]
    left_out = round(1 - sum(known) / len(known), 4) if known else None
    predicted, trusted = (_shares([label.group for label in which]) for which in (labels, kept))
    return Summary(len(labels), len(kept), predicted, trusted, same, left_out)


def _shares(groups: Sequence[str]) -> dict[str, float]:
    return {name: round(count / len(groups), 4) for name, count in Counter(sorted(groups)).most_common(SHOWN)}


def one_class(labels: Sequence[PseudoLabel], source_groups: Sequence[str]) -> str | None:
    """Say which class has taken nearly all predictions, or return None.

    Args:
        labels: Pseudo-labels of all unlabelled rows.
        source_groups: Classes of the labelled source rows: what is frequent there may be frequent in the target.

    Returns:
        The class whose share is above 0.95, and above the middle between its share in the source and 1.
    """
    if not labels:
        return None
    name, count = Counter(label.group for label in labels).most_common(1)[0]
    in_source = sum(group == name for group in source_groups) / max(1, len(source_groups))
    return name if count / len(labels) > max(NEARLY_ALL, (1 + in_source) / 2) else None
