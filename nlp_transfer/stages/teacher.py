"""The model whose answers a method holds on to: the source-only twin, or one that the recipe names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import models
from ..errors import ModelError
from ..forward import window_logits
from ..hardware import default_device
from ..recipe.schema import TrainSpec
from ..workspace import Workspace
from .model import finished_model
from .rows import Rows


def taught(space: Workspace, train: TrainSpec, named: str | None, twin: Path | None, rows: Rows) -> Rows:
    """Give all rows that are trained on a teacher's logits, so that no step has to run it.

    Args:
        space: The run's workspace.
        train: Training settings of the stage.
        named: The teacher that the recipe names; None: the twin.
        twin: Output model of the twin.
        rows: The rows of the stage.

    Raises:
        ModelError: The named teacher has other labels, or cuts texts into other tokens.
    """
    if named is None:
        assert twin is not None
        teacher = finished_model(space, train, twin)
    else:
        teacher = _named(space, named)
    trained = {name: encoded for name, encoded in rows.each() if name != "dev"}
    windows = [window for encoded in trained.values() for window in encoded.windows]
    title = "answers of the twin" if named is None else "answers of the teacher"
    with space.reporter.bar(title, len(windows)) as advance:
        logits = iter(
            window_logits(
                teacher.to(default_device()),
                windows,
                space.tokenizer.pad_token_id,
                space.recipe.evaluate.batch_tokens,
                advance,
                autocast=space.precision.bf16,
                shared=True,
            )
        )
    given: dict[str, Any] = {
        name: encoded.with_teacher([next(logits) for _ in encoded.windows]) for name, encoded in trained.items()
    }
    return replace(rows, **given)


def _named(space: Workspace, place: str) -> Any:
    """Load a teacher whose logits can be compared with the student's unit by unit."""
    source, task = models.resolve(place), space.task
    labels = models.label_names(source)
    if labels != task.labels:
        raise ModelError(f"the teacher '{place}' has the labels {labels}, and the student is to learn {task.labels}.")
    if models.load_tokenizer(source).get_vocab() != space.tokenizer.get_vocab():
        raise ModelError(
            f"the teacher '{place}' cuts texts into other tokens than '{space.base.id}', so that answers cannot be "
            "compared token by token. Take a student with the teacher's vocabulary, or fewer layers of the teacher."
        )
    config = models.read_config(source, num_labels=len(labels), id2label=dict(enumerate(labels)), label2id=task.index)
    return models.load_model(task.auto_class, source, config).model
