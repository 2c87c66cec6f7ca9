"""Named-entity recognition: one IOB2 tag a word, read off the word's first subword."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from ..calibration import fit_temperature, softmax
from ..data.canonical import Kind
from ..data.memory import Columns
from ..data.windows import Limits, Window, windows_of_words
from ..marks import UNKNOWN
from ..metrics import bootstrap_interval, entity_counts, entity_metrics, f1_from_counts
from ..pseudo_labels import PseudoLabel, Rule, keep
from .base import Encoded, Score, Task

NEVER = -1e9
"""Logit of a tag that cannot be."""

if TYPE_CHECKING:
    import torch

    from ..units import Step


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

    def __init__(self, labels: Sequence[str]):
        super().__init__(labels)
        self.allowed_CC = np.array(
            [
                [not after.startswith("I-") or (before[2:] == after[2:] and before != "O") for after in labels]
                for before in labels
            ]
        )
        self.first_C = np.array([not label.startswith("I-") for label in labels])
        # No model gives such round numbers.
        self.unread_C = np.array([float(label == "O") for label in labels])

    def cut(self, rows: datasets.Dataset | Columns, tokenizer: Any, limits: Limits, labelled: bool) -> Encoded:
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
            features.append({"input_ids": window.input_ids, "units": units, "unit_labels": labels, "weight": 1.0})
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
            "weight_U": batch["weight"].unsqueeze(1).expand_as(units_NT)[units_NT],
            "domain_U": batch["domain"].unsqueeze(1).expand_as(units_NT)[units_NT],
            "origin_U": batch["origin"].unsqueeze(1).expand_as(units_NT)[units_NT] if "origin" in batch else None,
            "soft_UC": batch["soft"][units_NT] if "soft" in batch else None,
        }

    def loss_sum(self, step: Step) -> torch.Tensor:
        """Cross-entropy, times the weight of the word's sentence, summed over labelled words."""
        from ..functional import label_losses

        known = step.labelled_U
        soft = None if step.soft_UC is None else step.soft_UC[known]
        return (label_losses(step.logits_UC[known], step.labels_U[known], soft) * step.weight_U[known]).sum()

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Number of labelled words, each with the weight of its sentence."""
        return (batch["weight"] * (batch["labels"] != UNKNOWN).sum(-1)).sum()

    def combine(self, encoded: Encoded, logits: list[np.ndarray]) -> list[np.ndarray]:
        """Logits of the words in order; a word without a token gets the tag ``O`` (zero logits but for ``O``).

        Which words these are, :meth:`was_read` says. Where one token covers several words, an entity that begins with
        the first goes on in the others.
        """
        words = np.zeros(encoded.rows, dtype=np.int64)
        for window in encoded.windows:
            if len(window.words):
                words[window.row] = max(words[window.row], int(window.words.max()) + 1)
        joined = [np.tile(self.unread_C, (int(count), 1)) for count in words]
        for window, values_TC in zip(encoded.windows, logits, strict=True):
            joined[window.row][window.words] = values_TC[window.positions]
            inside = window.words[1:][np.diff(window.positions) == 0]
            joined[window.row][inside] = self._continued(joined[window.row][inside])
        return joined

    def was_read(self, logits_UC: np.ndarray) -> np.ndarray:
        """Return which words have logits of the model's, not those that :meth:`combine` gives to the others."""
        return np.asarray((logits_UC != self.unread_C).any(axis=-1))

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
                continued_UC[:, number] = NEVER
        return continued_UC

    def probabilities(self, logits_UC: np.ndarray) -> np.ndarray:
        """Softmax over the tags of each word."""
        return softmax(logits_UC)

    def answer(self, logits: list[np.ndarray]) -> list[Any]:
        """The most probable valid IOB2 sequence (Viterbi over the allowed tag pairs)."""
        return [[self.labels[number] for number in self._viterbi(row)] for row in logits]

    def _viterbi(self, logits_UC: np.ndarray) -> list[int]:
        if not len(logits_UC):
            return []
        greedy = logits_UC.argmax(-1)
        if self.first_C[greedy[0]] and self.allowed_CC[greedy[:-1], greedy[1:]].all():
            return [int(tag) for tag in greedy]
        penalty_CC = np.where(self.allowed_CC, 0.0, NEVER)
        best_C = np.where(self.first_C, logits_UC[0], NEVER)
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

    def groups(self, answers: Sequence[Any]) -> list[str]:
        """The sentence's entity type that is rarest over all sentences; ``O`` where it has no entity."""
        types = [sorted({tag[2:] for tag in tags if tag != "O"}) for tags in answers]
        counts = Counter(kind for found in types for kind in found)
        return [min(found, key=lambda kind: (counts[kind], kind)) if found else "O" for found in types]

    def temperature(self, rows: datasets.Dataset, logits: list[np.ndarray]) -> float:
        """Fit one temperature to all words that the model has read.

        Entities that begin inside a token are left out: no temperature makes what cannot be answered likely.
        """
        gold = [self._ids(tags[: len(row)]) for tags, row in zip(rows["tags"], logits, strict=True)]
        logits_UC, gold_U = np.concatenate(logits), np.concatenate(gold)
        fitted_U = self.was_read(logits_UC) & (logits_UC[np.arange(len(gold_U)), gold_U] > NEVER)
        return fit_temperature(logits_UC[fitted_U], gold_U[fitted_U])

    def confidences(
        self, gold: Sequence[Any], answers: Sequence[Any], logits: list[np.ndarray], temperature: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The probability of each word's tag; words that the model has not read are left out."""
        soft = [softmax(row / temperature) for row in logits]
        sure = [row[np.arange(len(row)), self._ids(tags)] for row, tags in zip(soft, answers, strict=True)]
        words = zip(gold, answers, strict=True)
        right = [truth == tag for truths, tags in words for truth, tag in zip(truths, tags, strict=False)]
        read_U = self.was_read(np.concatenate(logits))
        return np.concatenate(sure)[read_U], np.array(right, dtype=bool)[read_U]

    def guess(self, logits: list[np.ndarray], temperature: float, rule: Rule) -> list[PseudoLabel]:
        """The tags of each sentence; words below ``rule.threshold`` stay as context, but take no part in the loss.

        Words that the model has not read have no part in anything.

        The confidence of a sentence is the mean probability of the tags of its entities' words (of all words where
        there is no entity): over all words, sentences full of ``O`` would win. Sentences are balanced by their rarest
        entity type, those without entities being one class more. A sentence whose entities are all doubtful is not
        kept: what is left of it would teach ``O`` only.
        """
        answers = self.answer(logits)
        soft = [softmax(row / temperature) for row in logits]
        sure = [row[np.arange(len(row)), self._ids(tags)] for row, tags in zip(soft, answers, strict=True)]
        entity = [np.asarray([tag != "O" for tag in tags], dtype=bool) for tags in answers]
        read = [self.was_read(row) for row in logits]
        telling = [(words if words.any() else ~words) & seen for words, seen in zip(entity, read, strict=True)]
        pairs = zip(sure, telling, strict=True)
        confidence_N = np.asarray([row[words].mean() if words.any() else 0.0 for row, words in pairs])
        groups = self.groups(answers)
        kept_N = keep(groups, confidence_N, rule)
        labels = []
        for row, tags in enumerate(answers):
            known_U = (sure[row] >= rule.threshold) & read[row]
            kept = bool(kept_N[row] and known_U[telling[row]].any())
            probabilities = soft[row].round(6).tolist() if rule.probabilities else None
            confidence = round(float(confidence_N[row]), 6)
            labels.append(PseudoLabel(tags, groups[row], confidence, kept, known_U.tolist(), probabilities))
        return labels

    def target(self, window: Window, label: PseudoLabel) -> dict[str, Any]:
        """The tags of this window's words, without the doubtful ones."""
        words = window.words[np.unique(window.positions, return_index=True)[1]]
        known_U = np.asarray(label.known, dtype=bool)[words]
        target = {"unit_labels": np.where(known_U, self._ids(label.answer)[words], UNKNOWN)}
        if label.probabilities is not None:
            target["soft"] = np.asarray(label.probabilities, dtype=np.float32)[words]
        return target
