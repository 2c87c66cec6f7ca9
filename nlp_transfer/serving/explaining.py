"""Which words speak for an answer: the question, the word or label that it is about, and the reply."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..data.memory import Columns
from ..data.spans import words as split_words
from ..errors import UserError


class NotExplained(UserError):
    """There is nothing to explain as asked for."""


@dataclass(frozen=True)
class Question:
    """What is to be explained.

    Args:
        text: The text.
        label: The label (for entities a tag); None: the one that the model answers.
        at: Entities only: a character of the word; None: the first word of the first entity.
    """

    text: str
    label: str | None = None
    at: int | None = None


Explain = Callable[[Question], dict[str, Any]]


def explainable(predictor: Any) -> bool:
    """Whether a predictor computes with PyTorch, which gradients need."""
    torch = sys.modules.get("torch")  # who has such a model has loaded it
    return torch is not None and isinstance(getattr(predictor, "model", None), torch.nn.Module)


class Explainer:
    """Explains answers of a predictor. May work in one thread while the predictor works in another.

    Args:
        predictor: A predictor that is :func:`explainable`.
    """

    def __init__(self, predictor: Any):
        # A fast tokenizer keeps inside how it truncates: two threads must not share one.
        self.predictor = replace(predictor, tokenizer=copy.deepcopy(predictor.tokenizer))

    def __call__(self, question: Question) -> dict[str, Any]:
        """Return the weights of the words, as :class:`~nlp_transfer.serving.schema.Explanation` describes them.

        Raises:
            NotExplained: The label is none of the model's, or there is no such word.
        """
        from .attribution import attribute, word_weights

        [answer] = self.predictor([question.text])
        text = answer["text"]
        bounds = split_words(text)
        word = _word_asked_for(answer, question) if "entities" in answer else None
        label = _label_asked_for(answer, word, question)
        windows, spans, target = self._looked_at(text, bounds, word, label)
        found = attribute(self.predictor.model, self.predictor.tokenizer, windows, spans, target)
        weights_U = word_weights(bounds, spans, found.weights)
        listed = [
            {"word": text[start:end], "start": start, "end": end, "weight": round(float(weight), 6)}
            for (start, end), weight in zip(bounds, weights_U, strict=True)
        ]
        rest = float(sum(of_window.sum() for of_window in found.weights)) - float(weights_U.sum())
        reply = {"text": text, "label": label, "words": listed, "rest": round(rest, 6)}
        reply |= {"log_odds": round(found.top, 6), "base_log_odds": round(found.base, 6), "gap": round(found.gap, 6)}
        return reply if word is None else reply | {"at": bounds[word][0]}

    def _looked_at(self, text: str, bounds: list[tuple[int, int]], word: int | None, label: str) -> tuple[Any, ...]:
        """Return the windows that count, the characters of their tokens, and the log-odds of the label in them."""
        from ..data.windows import token_spans
        from .attribution import Target

        own = self.predictor
        if label not in own.task.index:
            raise NotExplained(f"'{label}' is none of the labels: {', '.join(own.task.labels)}.")
        number = own.task.index[label]
        columns: dict[str, Any] = {"text": [text]}
        if word is not None:
            starts = [start for start, _ in bounds]
            columns |= {"words": [[text[start:end] for start, end in bounds]], "starts": [starts]}
        windows = own.task.encode(Columns(columns), own.tokenizer, own.limits, labelled=False).windows
        spans = token_spans(own.tokenizer, [text], own.limits)
        if word is None:
            independent = own.task.problem_type == "multi_label_classification"
            target = Target(number, [window.weight for window in windows], independent=independent)
            return windows[: len(spans)], spans[: len(windows)], target
        # Of a token task only the window counts that answers for the word.
        for window, of_window in zip(windows, spans, strict=False):
            if word in window.words:
                position = int(window.positions[window.words.tolist().index(word)])
                return [window], [of_window], Target(number, [1.0], position)
        raise NotExplained("The model does not read this word: its tokenizer drops it, or the text is cut before it.")


def _word_asked_for(answer: dict[str, Any], question: Question) -> int:
    """Return the number of the word that is explained."""
    if question.at is None and not answer["entities"]:
        raise NotExplained("There is no entity in the text. Name a word by one of its characters (at).")
    at = answer["entities"][0]["start"] if question.at is None else question.at
    for number, word in enumerate(answer["words"]):
        if word["start"] <= at < word["end"]:
            return number
    raise NotExplained(f"There is no word at character {at}.")


def _label_asked_for(answer: dict[str, Any], word: int | None, question: Question) -> str:
    """Return the label that is explained: of several labels the most probable."""
    if question.label is not None:
        return question.label
    if word is not None:
        return str(answer["words"][word]["tag"])
    return str(max(answer["probabilities"], key=answer["probabilities"].get))
