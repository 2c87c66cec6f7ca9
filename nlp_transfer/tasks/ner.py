"""Named-entity recognition: one IOB2 tag a word, read off the word's first subword."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch

from ..data.canonical import Kind
from ..data.windows import Limits, windows_of_words
from ..metrics import bootstrap_interval, entity_counts, entity_metrics, f1_from_counts
from ..units import UNKNOWN, Step
from .base import Encoded, Score, Task


def tag_set(types: Sequence[str]) -> list[str]:
    """Return ``O`` and the IOB2 tags of the entity types, sorted."""
    return ["O", *(f"{side}-{kind}" for kind in sorted(types) for side in "BI")]


class Ner(Task):
    """Entities as IOB2 tags.

    Args:
        labels: Tags, as :func:`tag_set` gives them.
    """

    name = "ner"
    auto_class = "AutoModelForTokenClassification"
    peft_type = "TOKEN_CLS"
    row_kind: Kind = "ner"
    headline = "f1"
    text_kind = "words"

    def __init__(self, labels: Sequence[str]):
        super().__init__(labels)
        self.allowed_CC = np.array(
            [
                [not after.startswith("I-") or (before[2:] == after[2:] and before != "O") for after in labels]
                for before in labels
            ]
        )
        self.first_C = np.array([not label.startswith("I-") for label in labels])

    def encode(self, rows: datasets.Dataset, tokenizer: Any, limits: Limits, labelled: bool) -> Encoded:
        """Cut texts into windows; each word is labelled at its first subword, in one window only.

        A token that covers several words is trained on the first one's tag; see :meth:`combine` for the others.
        """
        starts = list(rows["starts"])
        ends = [
            [start + len(word) for start, word in zip(begin, words, strict=True)]
            for begin, words in zip(starts, rows["words"], strict=True)
        ]
        windows = windows_of_words(tokenizer, list(rows["text"]), starts, ends, limits)
        tags = rows["tags"][:] if labelled else None
        features = []
        for window in windows:
            units, first = np.unique(window.positions, return_index=True)
            labels = np.full(len(units), UNKNOWN) if tags is None else self._ids(tags[window.row])[window.words[first]]
            features.append({"input_ids": window.input_ids, "units": units, "unit_labels": labels})
        return Encoded(windows, len(rows), features)

    def _ids(self, tags: Sequence[str]) -> np.ndarray:
        return np.asarray([self.index[tag] for tag in tags], dtype=np.int64)

    def units(self, hidden_NTH: torch.Tensor, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        """One unit a word: the hidden state and the logits of its first subword."""
        units_NT = batch["units"]
        labels_U = batch["labels"][units_NT]
        return {
            "features_UH": hidden_NTH[units_NT].float(),
            "logits_UC": logits[units_NT].float(),
            "labels_U": labels_U,
            "weight_U": torch.ones_like(labels_U, dtype=torch.float32),
            "domain_U": batch["domain"].unsqueeze(1).expand_as(units_NT)[units_NT],
        }

    def loss_sum(self, step: Step) -> torch.Tensor:
        """Cross-entropy, summed over labelled words."""
        return torch.nn.functional.cross_entropy(step.logits_UC, step.labels_U, ignore_index=UNKNOWN, reduction="sum")

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Number of labelled words."""
        return (batch["labels"] != UNKNOWN).sum().float()

    def combine(self, encoded: Encoded, logits: list[np.ndarray]) -> list[np.ndarray]:
        """Logits of the words in order; a word without a token gets the tag ``O`` (zero logits but for ``O``).

        Where one token covers several words, an entity that begins with the first goes on in the others.
        """
        words = np.zeros(encoded.rows, dtype=np.int64)
        for window in encoded.windows:
            if len(window.words):
                words[window.row] = max(words[window.row], int(window.words.max()) + 1)
        joined = [np.zeros((count, len(self.labels))) for count in words]
        for row in joined:
            row[:, self.index["O"]] = 1.0
        for window, values_TC in zip(encoded.windows, logits, strict=True):
            joined[window.row][window.words] = values_TC[window.positions]
            inside = window.words[1:][np.diff(window.positions) == 0]
            joined[window.row][inside] = self._continued(joined[window.row][inside])
        return joined

    def line_up(self, encoded: Encoded, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """One unit a word, read off its first subword; words without a token are left out."""
        rows = [values_TX[row["units"]] for values_TX, row in zip(values, encoded.features, strict=True)]
        return np.concatenate(rows), np.concatenate([row["unit_labels"] for row in encoded.features])

    def _continued(self, logits_UC: np.ndarray) -> np.ndarray:
        """Give the probability of each ``B-`` tag to its ``I-`` tag: nothing begins inside a token."""
        continued_UC = logits_UC.copy()
        for label, number in self.index.items():
            if label.startswith("B-") and f"I-{label[2:]}" in self.index:
                inside = self.index[f"I-{label[2:]}"]
                continued_UC[:, inside] = np.logaddexp(logits_UC[:, inside], logits_UC[:, number])
                continued_UC[:, number] = -1e9
        return continued_UC

    def probabilities(self, logits_UC: np.ndarray) -> np.ndarray:
        """Softmax over the tags of each word."""
        exponents = np.exp(logits_UC - logits_UC.max(-1, keepdims=True)) if logits_UC.size else logits_UC
        return np.asarray(exponents / exponents.sum(-1, keepdims=True)) if logits_UC.size else logits_UC

    def answer(self, logits: list[np.ndarray]) -> list[Any]:
        """The most probable valid IOB2 sequence (Viterbi over the allowed tag pairs)."""
        return [[self.labels[number] for number in self._viterbi(row)] for row in logits]

    def _viterbi(self, logits_UC: np.ndarray) -> list[int]:
        if not len(logits_UC):
            return []
        greedy = logits_UC.argmax(-1)
        if self.first_C[greedy[0]] and self.allowed_CC[greedy[:-1], greedy[1:]].all():
            return [int(tag) for tag in greedy]
        penalty_CC = np.where(self.allowed_CC, 0.0, -1e9)
        best_C = np.where(self.first_C, logits_UC[0], -1e9)
        back: list[np.ndarray] = []
        for row_C in logits_UC[1:]:
            paths_CC = best_C[:, None] + penalty_CC
            back.append(paths_CC.argmax(0))
            best_C = paths_CC.max(0) + row_C
        path = [int(best_C.argmax())]
        for pointers_C in reversed(back):
            path.append(int(pointers_C[path[-1]]))
        return path[::-1]

    def gold(self, rows: datasets.Dataset) -> list[Any]:
        """The tags."""
        return list(rows["tags"])

    def score(self, gold: Sequence[Any], answers: Sequence[Any], confidence: float, resamples: int) -> Score:
        """Strict entity F1 (headline), per type, and a word-level report. Words past the last token count as ``O``."""
        full = [[*tags, *["O"] * (len(truth) - len(tags))] for truth, tags in zip(gold, answers, strict=True)]
        counts = entity_counts(gold, full)
        interval = bootstrap_interval(counts, f1_from_counts, confidence=confidence, resamples=resamples)
        return Score(entity_metrics(gold, full), self.headline, interval, counts, f1_from_counts)
