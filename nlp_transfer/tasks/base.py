"""What a task is. The trainer and prediction know tasks only through this class.

Tasks load torch when they train: an exported model answers without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import datasets
import numpy as np

from ..calibration import softmax
from ..data.canonical import Kind
from ..data.load import ORIGIN
from ..data.memory import Columns
from ..data.mixture import Mixture
from ..data.windows import Limits, Window
from ..metrics import Interval
from ..pseudo_labels import PseudoLabel, Rule

if TYPE_CHECKING:
    import torch

    from ..units import Step


@dataclass(frozen=True)
class Encoded:
    """Rows of one split, cut into windows.

    Args:
        windows: Windows in the order of the rows.
        rows: Number of rows.
        features: For training: one mapping a window, as :class:`~nlp_transfer.data.batching.PairCollator` takes it.
    """

    windows: list[Window]
    rows: int
    features: list[dict[str, Any]]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each window."""
        return [len(window.input_ids) for window in self.windows]

    def with_origins(self, origins: Sequence[int]) -> Encoded:
        """Return the same rows, whose features say which domain they come from.

        Args:
            origins: For each row 0 … K − 1, a source domain, or :data:`~nlp_transfer.units.TARGET`.
        """
        pairs = zip(self.windows, self.features, strict=True)
        number = [int(origin) for origin in origins]
        return replace(self, features=[{**row, "origin": number[window.row]} for window, row in pairs])

    def joined(self, other: Encoded) -> Encoded:
        """Return these rows, followed by those of another split."""
        moved = [replace(window, row=window.row + self.rows) for window in other.windows]
        return Encoded(self.windows + moved, self.rows + other.rows, self.features + other.features)

    def mixture(self, shares: Mapping[int, float] | None = None) -> Mixture | None:
        """Return how often the rows of each domain are drawn; None where the rows do not say where they come from.

        Args:
            shares: See :class:`~nlp_transfer.data.mixture.Mixture`.
        """
        origins = [row["origin"] for row in self.features if "origin" in row]
        return Mixture(origins, shares) if origins else None

    def with_teacher(self, logits: Sequence[np.ndarray]) -> Encoded:
        """Return the same rows, whose features carry a teacher's logits of their units.

        Args:
            logits: For each window (C,), or (T, C) for token tasks.
        """
        features = [
            {**row, "teacher": values[row["units"]] if "units" in row else values}
            for row, values in zip(self.features, logits, strict=True)
        ]
        return replace(self, features=features)

    def only(self, kept: Sequence[bool]) -> Encoded:
        """Return the windows of the rows that are marked; the numbers of the rows stay as they are."""
        places = [number for number, window in enumerate(self.windows) if kept[window.row]]
        features = [self.features[number] for number in places]
        return Encoded([self.windows[number] for number in places], self.rows, features)

    @property
    def long_rows(self) -> int:
        """Number of rows that do not fit into one window."""
        return len({window.row for window in self.windows if window.cut or window.weight < 1.0})


@dataclass(frozen=True)
class Score:
    """Scores of one split.

    Args:
        metrics: Everything that was measured, JSON-able.
        headline: Name of the number that is compared.
        interval: That number with its bootstrap interval.
        counts_NK: Count vectors of each row, from which the headline of any resample follows.
        statistic: Turns summed count vectors into the headline number.
    """

    metrics: dict[str, Any]
    headline: str
    interval: Interval
    counts_NK: np.ndarray
    statistic: Callable[[np.ndarray], np.ndarray]


class Task(ABC):
    """A kind of prediction with its labels.

    Args:
        labels: Label names in the order of the logits.

    Attributes:
        mean_pooling: The model's text head reads the mean over tokens, not the first token.
    """

    name: ClassVar[str]
    auto_class: ClassVar[str]
    peft_type: ClassVar[str]
    headline: str
    row_kind: Kind
    problem_type: str | None = None

    def __init__(self, labels: Sequence[str]):
        self.labels = list(labels)
        self.mean_pooling = False
        self.index = {label: number for number, label in enumerate(self.labels)}

    def encode(self, rows: datasets.Dataset | Columns, tokenizer: Any, limits: Limits, labelled: bool) -> Encoded:
        """Cut rows into windows; with ``labelled``, attach labels and, of several domains, the origin of each row."""
        encoded = self.cut(rows, tokenizer, limits, labelled)
        return encoded.with_origins(rows[ORIGIN]) if labelled and ORIGIN in rows.column_names else encoded

    @abstractmethod
    def cut(self, rows: datasets.Dataset | Columns, tokenizer: Any, limits: Limits, labelled: bool) -> Encoded:
        """Cut rows into windows; with ``labelled``, attach labels."""

    @abstractmethod
    def units(self, hidden_NTH: torch.Tensor, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Reduce a batch to the tensors of a :class:`~nlp_transfer.units.Step` (all but progress and model)."""

    @abstractmethod
    def loss_sum(self, step: Step) -> torch.Tensor:
        """Return the task loss summed over labelled units; the trainer divides by the mean :meth:`count` of a batch."""

    @abstractmethod
    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the (weighted) number of labelled units of a batch; summed losses are divided by its mean."""

    @abstractmethod
    def combine(self, encoded: Encoded, logits: list[np.ndarray]) -> list[np.ndarray]:
        """Join the logits of the windows of each row: (C,) a text, or (words, C) for token tasks."""

    @abstractmethod
    def answer(self, logits: list[np.ndarray]) -> list[Any]:
        """Turn combined logits into label names: a label, a list of labels, or a tag for each word."""

    @abstractmethod
    def gold(self, rows: datasets.Dataset) -> list[Any]:
        """Return the gold labels of labelled rows, in the form of :meth:`answer`."""

    @abstractmethod
    def score(self, gold: Sequence[Any], answers: Sequence[Any], confidence: float, resamples: int) -> Score:
        """Compare answers with gold labels."""

    @abstractmethod
    def line_up(self, encoded: Encoded, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Turn values of windows into values of units.

        Args:
            encoded: Windows with features.
            values: Of each window (X,) for text tasks, (T, X) for token tasks.

        Returns:
            Values (U, X), and the units' labels: (U,), or (U, C) for several labels; ``UNKNOWN`` without labels.
        """

    def decisions(self, logits_UC: np.ndarray) -> np.ndarray:
        """Return the probabilities (D, U, C) of what is decided of each unit: here one choice among all labels."""
        return softmax(logits_UC)[None]

    def choices(self, logits_UC: np.ndarray) -> np.ndarray:
        """Return the classes (D, U) that the decisions come to."""
        return np.asarray(logits_UC.argmax(-1))[None]

    def classes(self, labels: np.ndarray) -> np.ndarray:
        """Return labels of units as the classes (D, U) of the decisions."""
        return np.asarray(labels)[None]

    @abstractmethod
    def groups(self, answers: Sequence[Any]) -> list[str]:
        """Return one class for each row's answer (or gold), by which rows are counted and balanced."""

    @abstractmethod
    def temperature(self, rows: datasets.Dataset, logits: list[np.ndarray]) -> float:
        """Return the temperature that calibrates combined logits on labelled rows; see :mod:`..calibration`."""

    @abstractmethod
    def confidences(
        self, gold: Sequence[Any], answers: Sequence[Any], logits: list[np.ndarray], temperature: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how sure the model is of each of its answers, and which of them are right.

        Args:
            gold: Gold labels of rows.
            answers: What :meth:`answer` gave for them.
            logits: Their combined logits.
            temperature: What the logits are divided by.

        Returns:
            Probability (U,) of the answer that was given, and whether it is right: for each text, for each label of a
            text that may have several (given or not), or for each word that the model has read.
        """

    @abstractmethod
    def guess(self, logits: list[np.ndarray], temperature: float, rule: Rule) -> list[PseudoLabel]:
        """Answer for unlabelled rows, and choose which answers are trusted as labels.

        Args:
            logits: Combined logits of all rows.
            temperature: What they are divided by before they become confidences.
            rule: What is kept.
        """

    @abstractmethod
    def target(self, window: Window, label: PseudoLabel) -> dict[str, Any]:
        """Return the entries of a training feature that a kept pseudo-label sets, for one window of its row."""

    def attach(self, encoded: Encoded, labels: Sequence[PseudoLabel], weight: float) -> Encoded:
        """Give unlabelled rows their pseudo-labels; rows that were not kept stay unlabelled.

        Args:
            encoded: Rows that were encoded without labels.
            labels: One for each row.
            weight: Weight of a pseudo-label in the loss, where that of a gold label is 1.
        """
        pairs = zip(encoded.windows, encoded.features, strict=True)
        features = [
            {**feature, **self.target(window, labels[window.row]), "weight": weight * feature["weight"]}
            if labels[window.row].kept
            else feature
            for window, feature in pairs
        ]
        return Encoded(encoded.windows, encoded.rows, features)

    def fit(self, rows: datasets.Dataset, draws_N: np.ndarray | None = None) -> None:
        """Learn what the loss needs from the training rows, such as class weights. Most tasks need nothing.

        Args:
            rows: Labelled rows.
            draws_N: How often each row is drawn, relative to the others; None: equally often.
        """
        return

    def tune(self, rows: datasets.Dataset, logits: list[np.ndarray]) -> None:
        """Tune decision rules on source dev, such as thresholds. Most tasks have none."""
        return

    def restore(self, settings: dict[str, Any]) -> None:
        """Take back what :meth:`settings` gave."""
        return

    def settings(self) -> dict[str, Any]:
        """Return what prediction needs beside the labels, JSON-able."""
        return {}
