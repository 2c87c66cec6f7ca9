"""Text classification: one label a text, or any number of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from ..calibration import fit_binary_temperature, fit_temperature, sigmoid, softmax
from ..data.canonical import Kind
from ..data.memory import Columns
from ..data.windows import Limits, Window, windows_of_texts
from ..marks import UNKNOWN
from ..metrics import (
    accuracy_counts,
    bootstrap_interval,
    classification_metrics,
    f1_from_counts,
    multi_label_counts,
    multi_label_metrics,
    ratio,
    tune_thresholds,
)
from ..pseudo_labels import PseudoLabel, Rule, keep
from .base import Encoded, Score, Task

if TYPE_CHECKING:
    import torch

    from ..units import Step


def _window_means(encoded: Encoded, logits: list[np.ndarray]) -> list[np.ndarray]:
    sums = np.zeros((encoded.rows, logits[0].shape[-1]), dtype=np.float64) if logits else np.zeros((0, 0))
    for window, values in zip(encoded.windows, logits, strict=True):
        sums[window.row] += window.weight * values
    return list(sums)


class Classification(Task):
    """One label a text. The logits of a long text are the mean over its windows.

    Args:
        labels: Label names.
        class_weights: None; ``balanced`` (n / (classes · n of the class), as in scikit-learn); or weights by label.
    """

    name = "classification"
    auto_class = "AutoModelForSequenceClassification"
    peft_type = "SEQ_CLS"
    row_kind: Kind = "classification"
    headline = "accuracy"
    problem_type: str | None = "single_label_classification"

    def __init__(self, labels: Sequence[str], class_weights: str | dict[str, float] | None = None):
        super().__init__(labels)
        self.class_weights = class_weights
        self.weights_C = np.ones(len(self.labels), dtype=np.float32)

    def fit(self, rows: datasets.Dataset, draws_N: np.ndarray | None = None) -> None:
        """Set class weights from the training rows."""
        if self.class_weights == "balanced":
            draws_N = np.ones(len(rows)) if draws_N is None else draws_N
            counts: Counter[str] = Counter()
            for label, draws in zip(rows["label"], draws_N.tolist(), strict=True):
                counts[label] += draws
            total = float(draws_N.sum())
            self.weights_C = np.array(
                [total / (len(counts) * counts[label]) if counts[label] else 0.0 for label in self.labels],
                dtype=np.float32,
            )
        elif isinstance(self.class_weights, dict):
            weights = [self.class_weights.get(label, 1.0) for label in self.labels]
            self.weights_C = np.array(weights, dtype=np.float32)

    def cut(self, rows: datasets.Dataset | Columns, tokenizer: Any, limits: Limits, labelled: bool) -> Encoded:
        """Cut texts into windows; every window carries the label of its text with weight 1/k."""
        windows = windows_of_texts(tokenizer, list(rows["text"]), limits)
        targets = self._targets(rows) if labelled else self._unknown(len(rows))
        features = [
            {"input_ids": window.input_ids, "label": targets[window.row], "weight": window.weight} for window in windows
        ]
        return Encoded(windows, len(rows), features)

    def _targets(self, rows: datasets.Dataset | Columns) -> np.ndarray:
        return np.asarray([self.index[label] for label in rows["label"]], dtype=np.int64)

    def _unknown(self, count: int) -> np.ndarray:
        return np.full(count, UNKNOWN, dtype=np.int64)

    def units(self, hidden_NTH: torch.Tensor, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        """One unit a window; its features are the vector that the head reads."""
        from ..units import first_token, mean_of_tokens

        mean = self.mean_pooling
        vectors_NH = mean_of_tokens(hidden_NTH, batch["attention_mask"]) if mean else first_token(hidden_NTH)
        return {
            "features_UH": vectors_NH.float(),
            "logits_UC": logits.float(),
            "labels_U": batch["labels"],
            "weight_U": batch["weight"],
            "domain_U": batch["domain"],
            "origin_U": batch.get("origin"),
            "soft_UC": batch.get("soft"),
        }

    def loss_sum(self, step: Step) -> torch.Tensor:
        """Cross-entropy, times the window's weight and the weight of the class."""
        from ..functional import label_losses

        known = step.labelled_U
        soft = None if step.soft_UC is None else step.soft_UC[known]
        losses = label_losses(step.logits_UC[known], step.labels_U[known], soft)
        weights = step.weight_U[known] * losses.new_tensor(self.weights_C)[step.labels_U[known]]
        return (losses * weights).sum()

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the weights of the labelled windows."""
        known = batch["labels"] != UNKNOWN
        classes = batch["weight"].new_tensor(self.weights_C)[batch["labels"].clamp(min=0)]
        return (batch["weight"] * classes * known).sum()

    def combine(self, encoded: Encoded, logits: list[np.ndarray]) -> list[np.ndarray]:
        """Mean over the windows of each text."""
        return _window_means(encoded, logits)

    def line_up(self, encoded: Encoded, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """One unit a text: the mean over its windows."""
        labels = {window.row: row["label"] for window, row in zip(encoded.windows, encoded.features, strict=True)}
        return np.stack(_window_means(encoded, values)), np.stack([labels[number] for number in range(encoded.rows)])

    def probabilities(self, logits_C: np.ndarray) -> np.ndarray:
        """Softmax over the labels."""
        return softmax(logits_C)

    def answer(self, logits: list[np.ndarray]) -> list[Any]:
        """The label of the largest logit."""
        return [self.labels[int(row.argmax())] for row in logits]

    def gold(self, rows: datasets.Dataset) -> list[Any]:
        """The labels."""
        return list(rows["label"])

    def score(self, gold: Sequence[Any], answers: Sequence[Any], confidence: float, resamples: int) -> Score:
        """Accuracy (headline), macro and weighted F1, per class, confusion matrix."""
        metrics = classification_metrics(gold, answers, self.labels)
        counts = accuracy_counts(gold, answers)
        interval = bootstrap_interval(counts, ratio, confidence=confidence, resamples=resamples)
        return Score(metrics, self.headline, interval, counts, ratio)

    def groups(self, answers: Sequence[Any]) -> list[str]:
        """The label."""
        return list(answers)

    def temperature(self, rows: datasets.Dataset, logits: list[np.ndarray]) -> float:
        """Fit one temperature to whole texts."""
        return fit_temperature(np.stack(logits), self._targets(rows))

    def confidences(
        self, gold: Sequence[Any], answers: Sequence[Any], logits: list[np.ndarray], temperature: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The probability of each text's label."""
        given_N = [self.index[answer] for answer in answers]
        probabilities_NC = softmax(np.stack(logits) / temperature)
        right_N = np.array([truth == answer for truth, answer in zip(gold, answers, strict=True)])
        return probabilities_NC[np.arange(len(given_N)), given_N], right_N

    def guess(self, logits: list[np.ndarray], temperature: float, rule: Rule) -> list[PseudoLabel]:
        """The most probable label of each text, with its probability."""
        answers = self.answer(logits)
        probabilities_NC = softmax(np.stack(logits) / temperature)
        confidence_N = probabilities_NC.max(-1)
        soft = [row.round(6).tolist() if rule.probabilities else None for row in probabilities_NC]
        return [
            PseudoLabel(answer, answer, round(float(confidence), 6), bool(kept), None, probabilities)
            for answer, confidence, kept, probabilities in zip(
                answers, confidence_N, keep(answers, confidence_N, rule), soft, strict=True
            )
        ]

    def target(self, window: Window, label: PseudoLabel) -> dict[str, Any]:
        """The index of the label, and its soft form."""
        soft = {} if label.probabilities is None else {"soft": np.asarray(label.probabilities, dtype=np.float32)}
        return {"label": np.int64(self.index[label.answer]), **soft}


class MultiLabel(Classification):
    """Any number of labels a text, each with its own threshold, tuned on source dev.

    Args:
        labels: Label names.
        thresholds: Probability above which a label is given; 0.5 each by default.
    """

    row_kind: Kind = "multi_label"
    headline = "micro_f1"
    problem_type = "multi_label_classification"

    def __init__(self, labels: Sequence[str], thresholds: Sequence[float] | None = None):
        super().__init__(labels)
        self.thresholds_C = (
            np.full(len(self.labels), 0.5) if thresholds is None else np.asarray(thresholds, dtype=float)
        )

    def _targets(self, rows: datasets.Dataset | Columns) -> np.ndarray:
        return np.asarray(
            [[float(label in given) for label in self.labels] for given in rows["labels"]], dtype=np.float32
        )

    def _unknown(self, count: int) -> np.ndarray:
        return np.full((count, len(self.labels)), UNKNOWN, dtype=np.float32)

    def loss_sum(self, step: Step) -> torch.Tensor:
        """Binary cross-entropy, mean over labels (unknown ones count 0), times the window's weight."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        known = step.labelled_U
        labels_UC = step.labels_U[known]
        losses_UC = binary_cross_entropy_with_logits(step.logits_UC[known], labels_UC.clamp(min=0), reduction="none")
        return ((losses_UC * (labels_UC != UNKNOWN)).mean(-1) * step.weight_U[known]).sum()

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the weights of the labelled windows, each times the share of its labels that are known."""
        return (batch["weight"] * (batch["labels"] != UNKNOWN).float().mean(-1)).sum()

    def probabilities(self, logits_C: np.ndarray) -> np.ndarray:
        """A sigmoid for each label."""
        return sigmoid(logits_C)

    def decisions(self, logits_UC: np.ndarray) -> np.ndarray:
        """No and yes of each label."""
        yes_CU = self.probabilities(logits_UC).T
        return np.stack([1 - yes_CU, yes_CU], axis=-1)

    def choices(self, logits_UC: np.ndarray) -> np.ndarray:
        """1 where a label is above its threshold."""
        return np.asarray(self.probabilities(logits_UC) > self.thresholds_C, dtype=np.int64).T

    def classes(self, labels: np.ndarray) -> np.ndarray:
        """1 where a label is given."""
        return np.asarray(labels, dtype=np.int64).T

    def answer(self, logits: list[np.ndarray]) -> list[Any]:
        """The labels above their thresholds, in the order of the label list."""
        return [
            [self.labels[number] for number in np.flatnonzero(self.probabilities(row) > self.thresholds_C)]
            for row in logits
        ]

    def gold(self, rows: datasets.Dataset) -> list[Any]:
        """The lists of labels."""
        return list(rows["labels"])

    def tune(self, rows: datasets.Dataset, logits: list[np.ndarray]) -> None:
        """Choose the thresholds that maximise each label's F1 on these rows."""
        probabilities = np.stack([self.probabilities(row) for row in logits])
        self.thresholds_C = tune_thresholds(self._targets(rows), probabilities)

    def score(self, gold: Sequence[Any], answers: Sequence[Any], confidence: float, resamples: int) -> Score:
        """Micro F1 (headline), macro F1, exact match, per label."""
        metrics = multi_label_metrics(gold, answers, self.labels)
        counts = multi_label_counts(gold, answers, self.labels)
        interval = bootstrap_interval(counts, f1_from_counts, confidence=confidence, resamples=resamples)
        return Score(metrics, self.headline, interval, counts, f1_from_counts)

    def settings(self) -> dict[str, Any]:
        """The thresholds by label."""
        return {"thresholds": dict(zip(self.labels, self.thresholds_C.tolist(), strict=True))}

    def restore(self, settings: dict[str, Any]) -> None:
        """Take the thresholds back."""
        self.thresholds_C = np.asarray([settings["thresholds"][label] for label in self.labels])

    def groups(self, answers: Sequence[Any]) -> list[str]:
        """The set of labels."""
        return ["|".join(sorted(given)) or "none" for given in answers]

    def temperature(self, rows: datasets.Dataset, logits: list[np.ndarray]) -> float:
        """Fit one temperature to the decisions about all labels."""
        return fit_binary_temperature(np.stack(logits), self._targets(rows))

    def confidences(
        self, gold: Sequence[Any], answers: Sequence[Any], logits: list[np.ndarray], temperature: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The probability of each label where it is given, and its complement where it is not."""
        given_NC, truth_NC = (
            np.array([[label in labels for label in self.labels] for labels in rows]) for rows in (answers, gold)
        )
        yes_NC = sigmoid(np.stack(logits) / temperature)
        return np.where(given_NC, yes_NC, 1 - yes_NC).ravel(), (given_NC == truth_NC).ravel()

    def guess(self, logits: list[np.ndarray], temperature: float, rule: Rule) -> list[PseudoLabel]:
        """Decide about each label of each text, and choose label by label which decisions are trusted.

        A label that is given has its probability as confidence, one that is not 1 − its probability; both kinds are
        classes of their own for the rule. The confidence of a text is the mean over its decisions. Where labels are
        given, but none with confidence, nothing is kept: refusals alone would teach the model to give none.
        """
        answers = self.answer(logits)
        given_NC = np.asarray([[label in answer for label in self.labels] for answer in answers])
        probabilities_NC = sigmoid(np.stack(logits) / temperature)
        confidence_NC = np.where(given_NC, probabilities_NC, 1 - probabilities_NC)
        columns = zip(given_NC.T, confidence_NC.T, strict=True)
        known_NC = np.stack([keep([str(value) for value in given], sure, rule) for given, sure in columns], axis=1)
        if given_NC.any() and not (known_NC & given_NC).any():
            known_NC[:] = False
        return [
            PseudoLabel(
                answer,
                group,
                round(float(confidence_NC[row].mean()), 6),
                bool(known_NC[row].any()),
                known_NC[row].tolist(),
                probabilities_NC[row].round(6).tolist() if rule.probabilities else None,
            )
            for row, (answer, group) in enumerate(zip(answers, self.groups(answers), strict=True))
        ]

    def target(self, window: Window, label: PseudoLabel) -> dict[str, Any]:
        """0, 1 or a probability for each label whose decision is trusted; the others take no part in the loss."""
        hard = [float(name in label.answer) for name in self.labels]
        values_C = np.asarray(hard if label.probabilities is None else label.probabilities, dtype=np.float32)
        return {"label": np.where(np.asarray(label.known), values_C, np.float32(UNKNOWN))}
