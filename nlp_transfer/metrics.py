"""Accuracy, F1 and strict entity F1, and the row counts that :mod:`nlp_transfer.intervals` resamples.

Written in numpy, so that importing it is quick and so that scores and intervals share their counts. The
classes of :mod:`nlp_transfer.evaluate_metrics`, which call scikit-learn and seqeval, give equal numbers; a
test holds them to it.

All results are plain Python numbers. Divisions by zero count 0. Shape suffixes: N rows, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from .intervals import (
    Interval,
    Statistic,
    bootstrap_interval,
    f1_from_counts,
    macro_f1_from_counts,
    paired_difference,
    ratio,
)

__all__ = [
    "Interval",
    "Statistic",
    "accuracy_counts",
    "bootstrap_interval",
    "classification_metrics",
    "entity_counts",
    "entity_metrics",
    "f1_from_counts",
    "headline",
    "macro_f1_counts",
    "macro_f1_from_counts",
    "multi_label_counts",
    "multi_label_metrics",
    "paired_difference",
    "ratio",
    "tune_thresholds",
]

Tags = Sequence[Sequence[str]]
"""For each sentence, the IOB2 tags of its words."""

Entity = tuple[str, int, int]
"""Type, first word, and the word after the last."""


def classification_metrics(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Score one label a row.

    Args:
        gold: Gold labels, at least one.
        predicted: Predicted labels of the same rows.
        labels: All labels, in the order of the confusion matrix.

    Returns:
        ``accuracy``; ``macro_f1``, the mean over labels that occur in gold or predicted; ``weighted_f1``,
        weighted by gold rows; ``per_class``, by label its ``precision``, ``recall``, ``f1`` and ``support``;
        ``confusion_matrix``, a row for each gold label and a column for each predicted one.

    Raises:
        ValueError: If there are no rows, the numbers of rows differ, or a label is not among ``labels``.
    """
    _check_rows(gold, predicted)
    matrix_CC = _confusion(gold, predicted, labels)
    counts_C3 = _label_counts(matrix_CC)
    f1_C, support_C = f1_from_counts(counts_C3), counts_C3[:, 2]
    return {
        "accuracy": float(matrix_CC.trace() / matrix_CC.sum()),
        "macro_f1": float(macro_f1_from_counts(counts_C3.T.ravel())),
        "weighted_f1": float((f1_C * support_C).sum() / support_C.sum()),
        "per_class": _table(labels, counts_C3),
        "confusion_matrix": matrix_CC.tolist(),
    }


def multi_label_metrics(
    gold: Sequence[Collection[str]], predicted: Sequence[Collection[str]], labels: Sequence[str]
) -> dict[str, Any]:
    """Score any number of labels a row.

    Args:
        gold: Gold labels of at least one row; order and repetition within a row do not matter.
        predicted: Predicted labels of the same rows.
        labels: All labels.

    Returns:
        ``micro_f1`` over all decisions; ``macro_f1``, the mean over labels that occur in gold or predicted;
        ``exact_match``, the share of rows with exactly the gold labels; ``per_class``, by label its
        ``precision``, ``recall``, ``f1`` and ``support``.

    Raises:
        ValueError: If there are no rows, the numbers of rows differ, or a label is not among ``labels``.
    """
    _check_rows(gold, predicted)
    gold_NC, predicted_NC = _decisions(gold, labels, "gold"), _decisions(predicted, labels, "predicted")
    counts_C3 = np.stack([(gold_NC & predicted_NC).sum(0), predicted_NC.sum(0), gold_NC.sum(0)], axis=-1)
    return {
        "micro_f1": float(f1_from_counts(counts_C3.sum(0))),
        "macro_f1": float(macro_f1_from_counts(counts_C3.T.ravel())),
        "exact_match": float((gold_NC == predicted_NC).all(1).mean()),
        "per_class": _table(labels, counts_C3),
    }


def entity_metrics(gold_tags: Tags, predicted_tags: Tags) -> dict[str, Any]:
    """Score entities strictly: right only with the right type, first word and last word.

    Entities are read as seqeval does with ``mode="strict", scheme=IOB2``: each begins with ``B-``, and an
    ``I-`` that continues no entity of its type belongs to none.

    Args:
        gold_tags: IOB2 tags of at least one sentence.
        predicted_tags: Predicted tags of the same sentences; they need not be valid sequences.

    Returns:
        ``precision``, ``recall`` and ``f1`` over all entities; ``per_type``, by type its ``precision``,
        ``recall``, ``f1`` and ``support``; ``word_report`` with the ``accuracy`` over words and the same four
        numbers ``per_tag``.

    Raises:
        ValueError: If there are no sentences, lengths differ (names the first such sentence), or a tag is not
            ``O``, ``B-type`` or ``I-type``.
    """
    hits: Counter[str] = Counter()
    found: Counter[str] = Counter()
    truth: Counter[str] = Counter()
    for gold, predicted in _entity_pairs(gold_tags, predicted_tags):
        hits.update(kind for kind, _, _ in gold & predicted)
        found.update(kind for kind, _, _ in predicted)
        truth.update(kind for kind, _, _ in gold)
    types = sorted(truth.keys() | found.keys())
    rows = [[hits[kind], found[kind], truth[kind]] for kind in types]
    counts_C3 = np.array(rows, dtype=np.int64).reshape(-1, 3)
    overall = _table(["all"], counts_C3.sum(0, keepdims=True))["all"]
    return {
        **{name: overall[name] for name in ("precision", "recall", "f1")},
        "per_type": _table(types, counts_C3),
        "word_report": _word_report(list(chain(*gold_tags)), list(chain(*predicted_tags))),
    }


def tune_thresholds(gold_NC: np.ndarray, probabilities_NC: np.ndarray) -> np.ndarray:
    """Return, for each label, the threshold that maximises its F1 on these rows.

    A label is given where its probability is above the threshold. Candidates lie midway between neighbouring
    probabilities, and between 0 and the smallest. Of equally good ones the closest to 0.5 is taken.

    Args:
        gold_NC: 1 where a row has the label, else 0.
        probabilities_NC: Predicted probabilities, 0 to 1.

    Returns:
        Thresholds (C,) in (0, 1); 0.5 for a label that no row has, or whose probabilities are all 0.

    Raises:
        ValueError: If the shapes differ or a value is out of range.
    """
    gold_NC, probabilities_NC = np.asarray(gold_NC), np.asarray(probabilities_NC, dtype=np.float64)
    if gold_NC.ndim != 2 or gold_NC.shape != probabilities_NC.shape:
        raise ValueError(
            f"Gold {gold_NC.shape} and probabilities {probabilities_NC.shape} must both be (rows, labels)."
        )
    if not np.isin(gold_NC, (0, 1)).all():
        raise ValueError("Gold values must be 0 or 1.")
    if not ((probabilities_NC >= 0) & (probabilities_NC <= 1)).all():
        raise ValueError("Probabilities must lie between 0 and 1.")
    columns = zip(gold_NC.T.astype(bool), probabilities_NC.T, strict=True)
    return np.array([_best_threshold(*column) for column in columns], dtype=np.float64)


def accuracy_counts(gold: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
    """Return the counts (N, 2) of each row, [correct, 1], for :func:`ratio`.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    correct_N = [truth == answer for truth, answer in zip(gold, predicted, strict=True)]
    return np.stack([np.array(correct_N, dtype=np.int32), np.ones(len(correct_N), dtype=np.int32)], axis=-1)


def macro_f1_counts(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Return the counts (N, 3·C) of each row for :func:`macro_f1_from_counts`.

    C true positives, then C predicted, then C gold, each in the order of ``labels``.

    Raises:
        ValueError: If the numbers of rows differ or a label is not among ``labels``.
    """
    gold_N, predicted_N = _indices(gold, labels, "gold"), _indices(predicted, labels, "predicted")
    if len(gold_N) != len(predicted_N):
        raise ValueError(f"There are {len(gold_N)} gold rows and {len(predicted_N)} predicted rows.")
    labels_C = np.arange(len(labels))
    is_gold_NC, is_predicted_NC = gold_N[:, None] == labels_C, predicted_N[:, None] == labels_C
    hits_NC = is_gold_NC & is_predicted_NC
    return np.concatenate([hits_NC, is_predicted_NC, is_gold_NC], axis=1).astype(np.int32)


def multi_label_counts(
    gold: Sequence[Collection[str]], predicted: Sequence[Collection[str]], labels: Sequence[str] | None = None
) -> np.ndarray:
    """Return the counts (N, 3) of each row for :func:`f1_from_counts`: [true positives, predicted, gold].

    Args:
        gold: Gold labels of each row.
        predicted: Predicted labels of the same rows.
        labels: All labels; where given, any other label is refused.

    Raises:
        ValueError: If the numbers of rows differ or a label is not among ``labels``.
    """
    if labels is not None:
        _indices(list(chain(*gold)), labels, "gold")
        _indices(list(chain(*predicted)), labels, "predicted")
    pairs = [(set(truth), set(answer)) for truth, answer in zip(gold, predicted, strict=True)]
    return _set_counts(pairs)


def entity_counts(gold_tags: Tags, predicted_tags: Tags) -> np.ndarray:
    """Return the counts (N, 3) of each row for :func:`f1_from_counts`: [true positives, predicted, gold].

    A row is a sentence; they count its entities, read and compared as in :func:`entity_metrics`.

    Raises:
        ValueError: As :func:`entity_metrics`.
    """
    return _set_counts(list(_entity_pairs(gold_tags, predicted_tags)))


def headline(task_kind: str) -> tuple[str, Callable[[Any, Any], np.ndarray], Statistic]:
    """Return the metric by which systems are compared.

    Args:
        task_kind: ``"classification"``, ``"multi_label"`` or ``"ner"``.

    Returns:
        Its name in the scores; the function from gold and predicted rows to counts (N, K); the statistic of
        the summed counts.

    Raises:
        ValueError: For any other kind.
    """
    headlines: dict[str, tuple[str, Callable[[Any, Any], np.ndarray], Statistic]] = {
        "classification": ("accuracy", accuracy_counts, ratio),
        "multi_label": ("micro_f1", multi_label_counts, f1_from_counts),
        "ner": ("f1", entity_counts, f1_from_counts),
    }
    if task_kind not in headlines:
        raise ValueError(f"Unknown kind of task {task_kind!r}; known are {', '.join(headlines)}.")
    return headlines[task_kind]


def _check_rows(gold: Sequence[Any], predicted: Sequence[Any]) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"There are {len(gold)} gold rows and {len(predicted)} predicted rows.")
    if not len(gold):
        raise ValueError("There are no rows to score.")


def _indices(values: Sequence[str], labels: Sequence[str], which: str) -> np.ndarray:
    numbers = {label: number for number, label in enumerate(labels)}
    if len(numbers) != len(labels):
        raise ValueError(f"Labels must differ from each other: {list(labels)}.")
    unknown = sorted({str(value) for value in values if value not in numbers})
    if unknown:
        raise ValueError(f"The {which} labels {unknown} are not among the labels {list(labels)}.")
    return np.array([numbers[value] for value in values], dtype=np.int64)


def _confusion(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    count = len(labels)
    cells_N = _indices(gold, labels, "gold") * count + _indices(predicted, labels, "predicted")
    return np.bincount(cells_N, minlength=count * count).reshape(count, count)


def _label_counts(matrix_CC: np.ndarray) -> np.ndarray:
    """Return true positives, predicted and gold (C, 3) from a confusion matrix."""
    return np.stack([matrix_CC.diagonal(), matrix_CC.sum(0), matrix_CC.sum(1)], axis=-1)


def _decisions(rows: Sequence[Collection[str]], labels: Sequence[str], which: str) -> np.ndarray:
    """Return which labels each row has, as booleans (N, C)."""
    decisions_NC = np.zeros((len(rows), len(labels)), dtype=bool)
    numbers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    decisions_NC[numbers, _indices(list(chain(*rows)), labels, which)] = True
    return decisions_NC


def _table(names: Sequence[str], counts_C3: np.ndarray) -> dict[str, dict[str, float]]:
    precision_C, recall_C, f1_C = ratio(counts_C3[:, :2]), ratio(counts_C3[:, ::2]), f1_from_counts(counts_C3)
    return {
        name: {
            "precision": float(precision_C[number]),
            "recall": float(recall_C[number]),
            "f1": float(f1_C[number]),
            "support": int(counts_C3[number, 2]),
        }
        for number, name in enumerate(names)
    }


def _word_report(gold: list[str], predicted: list[str]) -> dict[str, Any]:
    tags = sorted({*gold, *predicted})
    matrix_CC = _confusion(gold, predicted, tags)
    accuracy = ratio(np.array([matrix_CC.trace(), matrix_CC.sum()]))
    return {"accuracy": float(accuracy), "per_tag": _table(tags, _label_counts(matrix_CC))}


def _entities(tags: Sequence[str]) -> set[Entity]:
    """Return the entities of one sentence, read strictly."""
    found: set[Entity] = set()
    start, kind = -1, ""
    for position, tag in enumerate(chain(tags, ["O"])):
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) == 2):
            raise ValueError(f"{tag!r} is not an IOB2 tag: 'O', 'B-type' or 'I-type'.")
        if start >= 0 and tag != f"I-{kind}":
            found.add((kind, start, position))
            start = -1
        if tag.startswith("B-"):
            start, kind = position, tag[2:]
    return found


def _entity_pairs(gold_tags: Tags, predicted_tags: Tags) -> Iterator[tuple[set[Entity], set[Entity]]]:
    """Check all lengths first, then return the gold and predicted entities of each sentence."""
    _check_rows(gold_tags, predicted_tags)
    pairs = list(zip(gold_tags, predicted_tags, strict=True))
    for number, (gold, predicted) in enumerate(pairs):
        if len(gold) != len(predicted):
            raise ValueError(
                f"Sentence {number} (from 0) has {len(gold)} gold tags and {len(predicted)} predicted tags."
            )
    return ((_entities(gold), _entities(predicted)) for gold, predicted in pairs)


def _set_counts(pairs: Sequence[tuple[set[Any], set[Any]]]) -> np.ndarray:
    rows = [[len(gold & predicted), len(predicted), len(gold)] for gold, predicted in pairs]
    return np.array(rows, dtype=np.int32).reshape(-1, 3)


def _best_threshold(gold_N: np.ndarray, probabilities_N: np.ndarray) -> float:
    if not gold_N.any():
        return 0.5
    order_N = np.argsort(probabilities_N, kind="stable")
    sorted_N = np.concatenate([[0.0], probabilities_N[order_N]])
    lower_N, upper_N = sorted_N[:-1], sorted_N[1:]
    middle_N = (lower_N + upper_N) / 2
    # Between neighbouring floats the middle rounds to one of them; the lower one still divides the two.
    threshold_N = np.where(middle_N < upper_N, middle_N, lower_N)
    # Candidate i gives the label to row i of the sorted rows and to all after it.
    hits_N = gold_N[order_N][::-1].cumsum()[::-1]
    given_N = np.arange(len(gold_N), 0, -1)
    f1_N = f1_from_counts(np.stack([hits_N, given_N, np.full(len(gold_N), gold_N.sum())], axis=-1))
    usable_N = (lower_N < upper_N) & (threshold_N > 0)
    if not usable_N.any():
        return 0.5
    best_N = usable_N & (f1_N == f1_N[usable_N].max())
    candidates = threshold_N[best_N]
    return float(candidates[np.abs(candidates - 0.5).argmin()])
