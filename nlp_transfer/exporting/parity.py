"""How close an exported model comes to the one it was made of, on real rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from ..data.windows import EMPTY, Window
from ..predictor import Predictor
from ..tasks.ner import Ner


@dataclass(frozen=True)
class Parity:
    """An export beside its model.

    Args:
        rows: Number of rows.
        origin: Where they come from.
        largest: Largest absolute difference of a logit, over all windows (and tokens) and one of full length.
        agreement: Share of equal answers: of texts, or of words for entities.
        headline: Name of the score.
        model: Score of the model.
        export: Score of the export.
    """

    rows: int
    origin: str
    largest: float
    agreement: float
    headline: str
    model: float
    export: float

    @property
    def loss(self) -> float:
        """Score that the export costs; below 0 where it is better."""
        return self.model - self.export

    @property
    def told(self) -> str:
        """One line for people."""
        return (
            f"{self.rows} rows of {self.origin}: largest logit difference {self.largest:.1e}, same answers "
            f"{self.agreement:.2%}, {self.headline} {self.export:.4f} (model: {self.model:.4f})"
        )


def compare(model: Predictor, export: Predictor, rows: datasets.Dataset, origin: str) -> Parity:
    """Let a model and its export read the same rows, each with its own tokenizer, and one window of full length.

    Args:
        model: The model.
        export: The export.
        rows: Canonical labelled rows.
        origin: Where they come from.
    """
    logits, answers = [], []
    for predictor in (model, export):
        task = predictor.task
        encoded = task.encode(rows, predictor.tokenizer, predictor.limits, labelled=False)
        windows = predictor.window_logits(encoded.windows)
        logits.append([*windows, *predictor.window_logits([_longest(encoded.windows, model)])])
        answers.append(task.answer(task.combine(encoded, windows)))
    gold = model.task.gold(rows)
    scores = [model.task.score(gold, given, 0.95, 1).interval.value for given in answers]
    return Parity(
        len(rows), origin, _largest(*logits), _agreement(model, *answers), model.task.headline, scores[0], scores[1]
    )


def _longest(windows: Sequence[Window], model: Predictor) -> Window:
    """Return a window as long as there can be: rows may all be short, and a graph is traced on short ones."""
    tokens = np.concatenate([np.asarray(window.input_ids) for window in windows])
    return Window(0, np.resize(tokens, model.limits.max_length).tolist(), 1.0, EMPTY, EMPTY)


def _largest(model: Sequence[np.ndarray], export: Sequence[np.ndarray]) -> float:
    """Infinite where the texts were cut into other windows, or where a logit is no number."""
    if [one.shape for one in model] != [other.shape for other in export]:
        return float("inf")
    # np.max, unlike max, gives NaN wherever one is.
    largest = float(np.max([np.abs(one - other).max() for one, other in zip(model, export, strict=True)], initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _agreement(model: Predictor, one: Sequence[Any], other: Sequence[Any]) -> float:
    if isinstance(model.task, Ner):
        one, other = ([tag for tags in answers for tag in tags] for answers in (one, other))
    return float(np.mean([first == second for first, second in zip(one, other, strict=True)])) if one else 1.0
