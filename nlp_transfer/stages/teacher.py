"""The models whose answers a method holds on to: the source-only twin, or those that the recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..forward import window_logits
from ..hardware import default_device
from ..methods.base import Method
from ..recipe.schema import TrainSpec
from ..tasks.base import Encoded
from ..workspace import Workspace
from .model import finished_model, other_model
from .rows import Rows


def taught(space: Workspace, train: TrainSpec, method: Method, twin: Path | None, rows: Rows) -> Rows:
    """Give all rows that are trained on a teacher's logits, so that no step has to run it.

    Args:
        space: The run's workspace.
        train: Training settings of the stage.
        method: Names its teachers, or none: the twin; and says on which rows it reads their logits. Others get zeros.
        twin: Output model of the twin.
        rows: The rows of the stage.

    Raises:
        ModelError: A named teacher has other labels, or cuts texts into other tokens.
    """
    trained = {name: encoded for name, encoded in rows.each() if name != "dev"}
    unread = _unread(method, rows)
    read = [window for name, encoded in trained.items() if name not in unread for window in encoded.windows]
    places: Sequence[str | None] = method.teachers or [None]
    title = "answers of the teacher" if method.teachers else "answers of the twin"
    with space.reporter.bar(title, len(places) * len(read)) as advance:
        each = [
            window_logits(
                _teacher(space, train, place, twin).to(default_device()),
                read,
                space.tokenizer.pad_token_id,
                space.recipe.evaluate.batch_tokens,
                advance,
                autocast=space.precision.bf16,
                shared=True,
            )
            for place in places
        ]
    independent = space.task.problem_type == "multi_label_classification"
    answers = iter(
        each[0] if len(each) == 1 else [mean_answer(found, independent) for found in zip(*each, strict=True)]
    )
    given: dict[str, Any] = {
        name: encoded.with_teacher(
            _zeros(space, encoded) if name in unread else [next(answers) for _ in encoded.windows]
        )
        for name, encoded in trained.items()
    }
    return replace(rows, **given)


def _unread(method: Method, rows: Rows) -> set[str]:
    """Return the sets that have no row of the side on which a method reads the logits."""
    if method.taught_on == "both":
        return set()
    of_target = rows.target_labels
    found = {"source": {"target"}, "target": {"text"}}[method.taught_on]
    alone = {"source": of_target == rows.labelled.rows, "target": not of_target}[method.taught_on]
    return found | ({"labelled"} if alone else set())


def mean_answer(logits: Sequence[np.ndarray], independent: bool) -> np.ndarray:
    """Return logits whose probabilities are the mean of those of several models (Hinton et al. 2015, section 5).

    Args:
        logits: Those of each model, (..., C).
        independent: Each label is a decision of its own, not one among all.
    """
    each = np.stack(logits).astype(np.float64)
    if independent:
        # The log-odds of the mean: log mean σ(z) − log mean σ(−z).
        mean = np.logaddexp.reduce(-np.logaddexp(0, -each)) - np.logaddexp.reduce(-np.logaddexp(0, each))
    else:
        mean = np.logaddexp.reduce(each - np.logaddexp.reduce(each, axis=-1, keepdims=True)) - np.log(len(each))
    return np.asarray(mean, dtype=np.float32)


def _teacher(space: Workspace, train: TrainSpec, named: str | None, twin: Path | None) -> Any:
    if named is not None:
        return other_model(space, named)
    assert twin is not None
    return finished_model(space, train, twin)


def _zeros(space: Workspace, encoded: Encoded) -> list[np.ndarray]:
    labels, pairs = len(space.task.labels), zip(encoded.windows, encoded.features, strict=True)
    return [
        np.zeros((len(window.input_ids), labels) if "units" in row else labels, dtype=np.float32)
        for window, row in pairs
    ]
