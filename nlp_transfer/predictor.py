"""A model with everything that turns text into answers.

Texts may be of any length and number; order is kept; results are the same whatever batch a text falls into (up to
rounding). Nothing here needs torch but the forward pass of a torch model.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np

from .data.label_map import LabelMap
from .data.memory import Columns
from .data.spans import words as split_words
from .data.tags import to_spans
from .data.windows import Limits, Window
from .tasks.base import Task
from .tasks.classification import Classification, MultiLabel
from .tasks.ner import Ner

CHUNK = 4096
"""Texts that are sorted by length together: memory stays bounded while batches hold little padding."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of UTF-16 pairs, which JSON escapes can bring in; no encoding can write them."""


@dataclass
class Predictor:
    """A model with everything that turns text into answers.

    Args:
        model: The model, adapters merged, in evaluation mode. The last hidden states of text classifiers are those of
            the first token alone, see :mod:`~nlp_transfer.last_layer`.
        tokenizer: Its tokenizer.
        task: The task with its labels and thresholds.
        limits: How texts are cut into windows.
        batch_tokens: Most padded tokens in one forward pass.
        bf16: Compute in bfloat16.
        polarity: Which raw labels mean what, for the scoring of rows with raw labels.
        label_map: New names for the labels of target rows, which rows that are scored are taken for.
        commit: Hub commit of the model, where it came from a hub.
    """

    model: Any
    tokenizer: Any
    task: Task
    limits: Limits
    batch_tokens: int = 2048
    bf16: bool = False
    polarity: LabelMap | None = None
    label_map: LabelMap | None = None
    commit: str | None = None

    def __call__(self, texts: str | Sequence[str]) -> list[dict[str, Any]]:
        """Answer for some texts.

        Args:
            texts: One text, or a list of them.

        Returns:
            One mapping a text, in order. Classification: ``label``, ``score`` and ``probabilities`` by label;
            multi-label: ``labels`` and ``probabilities``. NER: ``words`` (``word``, ``start``, ``end``, ``tag``,
            ``score``) and ``entities`` (``text``, ``label``, ``start``, ``end``, ``score``), offsets in characters;
            words that the model has not read (its tokenizer drops them, or the text is cut) have the score None, and
            the tag ``O`` unless an entity goes on around them.
            Empty texts are answered too (with ``empty: true``): without words there are no entities, and a
            classifier says what it says of nothing. Lone surrogates are read (and given back) as U+FFFD.

        Raises:
            TypeError: Something is not a text.
        """
        return list(self.stream([texts] if isinstance(texts, str) else texts))

    def stream(self, texts: Iterable[str], chunk: int = CHUNK) -> Iterator[dict[str, Any]]:
        """Answer for any number of texts, holding ``chunk`` of them in memory; see :meth:`__call__`."""
        source = enumerate(texts)
        while numbered := list(itertools.islice(source, chunk)):
            for number, text in numbered:
                if not isinstance(text, str):
                    raise TypeError(f"text {number} is a {type(text).__name__}, not a string: {text!r}")
            yield from self._answer([_SURROGATE.sub("\ufffd", text) for _, text in numbered])

    def logits(self, rows: datasets.Dataset | Columns, shared: bool = False) -> list[np.ndarray]:
        """Return combined logits of canonical rows; see :meth:`nlp_transfer.tasks.base.Task.combine`.

        Args:
            rows: Canonical rows.
            shared: Under several processes, share the work; all of them must call then.
        """
        encoded = self.task.encode(rows, self.tokenizer, self.limits, labelled=False)
        return self.task.combine(encoded, self.window_logits(encoded.windows, shared))

    def window_logits(self, windows: Sequence[Window], shared: bool = False) -> list[np.ndarray]:
        """Return the logits of windows: (C,) each for text tasks, (T, C) for token tasks.

        Args:
            windows: W windows in any order.
            shared: See :meth:`logits`.
        """
        from .forward import window_logits

        pad_id = self.tokenizer.pad_token_id
        return window_logits(self.model, windows, pad_id, self.batch_tokens, autocast=self.bf16, shared=shared)

    def _answer(self, texts: list[str]) -> list[dict[str, Any]]:
        if isinstance(self.task, Ner):
            return self._entities(texts)
        rows = Columns({"text": texts})
        logits = self.logits(rows)
        answers = self.task.answer(logits)
        return [
            text_answer(self.task, text, answer, row) for text, answer, row in zip(texts, answers, logits, strict=True)
        ]

    def _entities(self, texts: list[str]) -> list[dict[str, Any]]:
        spans = [split_words(text) for text in texts]
        words = [[text[start:end] for start, end in found] for text, found in zip(texts, spans, strict=True)]
        starts = [[start for start, _ in found] for found in spans]
        rows = Columns({"text": texts, "words": words, "starts": starts})
        logits = self.logits(rows)
        tags = self.task.answer(logits)
        return [token_answer(self.task, *row) for row in zip(texts, words, starts, tags, logits, strict=True)]


def with_cast_weights(predictor: Predictor) -> Predictor:
    """Return a predictor that gives the same answers, and gives one text's sooner where it computes in bf16.

    Autocast casts the weights of linear layers once a call, which takes as long as a short text; here they are cast
    for good. All else is shared with the predictor that is given.
    """
    from .forward import cast_linear

    return replace(predictor, model=cast_linear(predictor.model)) if predictor.bf16 else predictor


def text_answer(task: Task, text: str, answer: Any, logits_C: np.ndarray) -> dict[str, Any]:
    """Return the answer for one text as :meth:`Predictor.__call__` describes it."""
    assert isinstance(task, Classification)
    values = [round(float(value), 6) for value in task.probabilities(logits_C)]
    probabilities = dict(zip(task.labels, values, strict=True))
    result: dict[str, Any] = {"text": text}
    if isinstance(task, MultiLabel):
        result |= {"labels": answer, "probabilities": probabilities}
    else:
        result |= {"label": answer, "score": probabilities[answer], "probabilities": probabilities}
    return result if text.strip() else result | {"empty": True}


def token_answer(
    task: Task,
    text: str,
    words: Sequence[str],
    starts: Sequence[int],
    tags: Sequence[str],
    logits_UC: np.ndarray,
) -> dict[str, Any]:
    """Return the answer for one text of a token task as :meth:`Predictor.__call__` describes it."""
    assert isinstance(task, Ner)
    tags = [*tags, *["O"] * (len(words) - len(tags))]
    probabilities_UC = task.probabilities(logits_UC)
    found = zip(tags, probabilities_UC, task.was_read(logits_UC), strict=False)
    scores = [round(float(row[task.index[tag]]), 6) if read else None for tag, row, read in found]
    scores += [None] * (len(words) - len(scores))
    listed = [
        {"word": word, "start": start, "end": start + len(word), "tag": tag, "score": score}
        for word, start, tag, score in zip(words, starts, tags, scores, strict=True)
    ]
    entities = []
    for span in to_spans(words, starts, tags):
        inside = scores[bisect_left(starts, span["start"]) : bisect_left(starts, span["end"])]
        score = min(score for score in inside if score is not None)
        entities.append({"text": text[span["start"] : span["end"]], **span, "score": score})
    result: dict[str, Any] = {"text": text, "words": listed, "entities": entities}
    return result if text.strip() else result | {"empty": True}
