"""A linear classifier on frozen features: how much the encoder knows of the task before any training.

A task asks one or more *questions* about each unit: which label a text has; for several labels a text, one yes-or-no
question a label; for NER, which entity type a word has (``O`` for none).

Shape suffixes: U units, H hidden size, Q questions, C answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from ..data.tags import entity_type

STRENGTH = 0.01
"""Inverse regularisation; features are standardised. Weaker, it is far too sure of itself on a few hundred texts."""
FLOOR = 1e-9
"""Least probability, that of labels which the sample does not hold included."""


@dataclass(frozen=True)
class Questions:
    """The questions of a task.

    Args:
        unit: What a decision is about: texts, decisions or words.
        names: Answers to each question, by index.
    """

    unit: str
    names: list[list[str]]

    @classmethod
    def of(cls, kind: str, labels: Sequence[str]) -> Questions:
        """Return the questions for a kind of rows.

        Args:
            kind: ``classification``, ``multi_label`` or ``ner``.
            labels: The task's labels; for NER its tags.
        """
        if kind == "multi_label":
            return cls("decisions", [[f"not {label}", label] for label in labels])
        if kind == "ner":
            return cls("words", [["O", *sorted({entity_type(tag) for tag in labels} - {""})]])
        return cls("texts", [list(labels)])

    def answers(self, rows: datasets.Dataset) -> list[np.ndarray]:
        """Return the gold answers of each row: (units of the row, Q) indices."""
        if self.unit == "decisions":
            return [np.array([[int(names[1] in given) for names in self.names]]) for given in rows["labels"]]
        index = {name: number for number, name in enumerate(self.names[0])}
        if self.unit == "words":
            return [np.array([[index[entity_type(tag) or "O"]] for tag in tags]) for tags in rows["tags"]]
        return [np.array([[index[label]]]) for label in rows["label"]]

    def of_units(self, rows: datasets.Dataset, rows_U: np.ndarray, words_U: np.ndarray | None) -> np.ndarray:
        """Return the gold answers of some units, (U, Q).

        Args:
            rows: Labelled rows.
            rows_U: The row of each unit.
            words_U: The word of each unit, for NER.
        """
        answers = self.answers(rows)
        places = np.zeros(len(rows_U), dtype=np.int64) if words_U is None else words_U
        return np.stack([answers[row][place] for row, place in zip(rows_U, places, strict=True)])

    def shares(self, rows: datasets.Dataset) -> list[np.ndarray]:
        """Return the share of each answer over all units of some rows, a vector (C,) a question."""
        answers_UQ = np.concatenate(self.answers(rows))
        counts = [np.bincount(answers_UQ[:, q], minlength=len(names)) for q, names in enumerate(self.names)]
        return [found / found.sum() for found in counts]


class FrozenClassifier:
    """Logistic regression, one model a question.

    Args:
        questions: The questions.
        features_UH: Frozen features.
        answers_UQ: Gold answers.
    """

    def __init__(self, questions: Questions, features_UH: np.ndarray, answers_UQ: np.ndarray):
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        self.questions = questions
        self.scaler = StandardScaler().fit(features_UH)
        scaled_UH = self.scaler.transform(features_UH)
        self.models: list[Any] = []
        for answers_U in answers_UQ.T:
            several = len(np.unique(answers_U)) > 1
            model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(scaled_UH, answers_U) if several else None
            self.models.append(model if several else int(answers_U[0]))

    def log_probabilities(self, features_UH: np.ndarray) -> list[np.ndarray]:
        """Return the logarithm of each answer's probability, (U, C) a question."""
        scaled_UH = self.scaler.transform(features_UH)
        found = []
        for model, names in zip(self.models, self.questions.names, strict=True):
            values_UC = np.zeros((len(features_UH), len(names)))
            if isinstance(model, int):
                values_UC[:, model] = 1
            else:
                values_UC[:, model.classes_] = model.predict_proba(scaled_UH)
            values_UC = np.maximum(values_UC, FLOOR)
            found.append(np.log(values_UC / values_UC.sum(-1, keepdims=True)))
        return found


def macro_f1(questions: Questions, answers_UQ: np.ndarray, given_UQ: np.ndarray) -> float:
    """Return the mean F1 of the answers that occur; ``O`` and ``not …`` are no answers to find."""
    from sklearn.metrics import f1_score

    scores = []
    for q, names in enumerate(questions.names):
        wanted = range(0 if questions.unit == "texts" else 1, len(names))
        there = [answer for answer in wanted if (answers_UQ[:, q] == answer).any()]
        if there:
            one = f1_score(answers_UQ[:, q], given_UQ[:, q], labels=there, average="macro", zero_division=0)
            scores.append(float(one))
    return float(np.mean(scores)) if scores else 0.0
