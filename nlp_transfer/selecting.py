"""The score that selects a checkpoint, where the recipe asks for another one than source dev."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .chosen import LAST_STEP, ORACLE, SOURCE_DEV, oracle_note
from .forward import window_logits
from .outputs import sample_rows, units_of
from .preparing.splits import Splits
from .recipe.schema import Recipe
from .recipe.stages import FinetuneStage
from .selection import NEEDS_SOURCE, score
from .tasks.base import Encoded
from .workspace import Workspace

WORST = -1e9
"""Stands for a score that is not a number, which would never be beaten."""


@dataclass(frozen=True)
class Selector:
    """Scores checkpoints on target rows.

    Args:
        space: The run's workspace.
        target: Encoded rows of unlabelled target text; for the oracle those of ``target.dev``.
        source: Encoded labelled rows of source dev, for scores that need them.
    """

    space: Workspace
    target: Encoded
    source: Encoded | None = None

    @property
    def sides(self) -> list[Encoded]:
        """The rows it reads, in the order that :meth:`reading` takes them."""
        return [self.target, *([] if self.source is None else [self.source])]

    def reading(self, target: Encoded, source: Encoded | None = None) -> Selector:
        """Return one that reads the same rows in another encoding, such as that of cached features."""
        return Selector(self.space, target, source)

    @property
    def metric(self) -> str:
        """Name of the score in logs."""
        return metric_name(self.space.recipe.selection.name)

    def score(self, model: Any) -> float:
        """Return the score of a model; higher is better. Under several processes all must call."""
        space = self.space
        name, most = space.recipe.selection.name, space.recipe.selection.max_rows
        pad_id, tokens, bf16 = space.tokenizer.pad_token_id, space.recipe.evaluate.batch_tokens, space.precision.bf16
        if name == ORACLE:
            task, rows = space.task, space.splits.scored["target.dev"].rows
            logits = window_logits(model, self.target.windows, pad_id, tokens, autocast=bf16, shared=True)
            answers = task.answer(task.combine(self.target, logits))
            return task.score(task.gold(rows), answers, 0.95, 100).interval.value
        target, source = (
            None
            if side is None
            else units_of(model, space.task, side, pad_id, most=most, batch_tokens=tokens, autocast=bf16)
            for side in (self.target, self.source)
        )
        assert target is not None
        value = score(name, target, source)
        return value if math.isfinite(value) else WORST


def metric_name(selection: str) -> str:
    """Return what the score is called in logs."""
    return "oracle_target_dev" if selection == ORACLE else f"target_{selection}"


def selection_of(recipe: Recipe, splits: Splits, stage: FinetuneStage, twin: bool = False) -> str:
    """Return what selects the checkpoint of a stage.

    That is what the recipe names, if anything but source dev. Source dev says nothing of a training on the target's
    rows, nor of labels that the source lacks: there the weights of the last step are kept. Labels of the target select
    nothing, unless the recipe says ``oracle``.

    Args:
        recipe: The recipe.
        splits: Its data.
        stage: The stage; of self-training the last one before it, whose rows its rounds go on with.
        twin: For the twin, which the recipe's selection is not for.
    """
    name = recipe.selection.name
    if name != SOURCE_DEV and not twin:
        return name
    blind = stage.on == "target" or (stage.on == "both" and bool(splits.new_labels))
    return LAST_STEP if blind else SOURCE_DEV


def selector(space: Workspace, name: str) -> Selector | None:
    """Return what scores the checkpoints of an adapting stage, or None where source dev does, or nothing.

    Args:
        space: The run's workspace.
        name: From :func:`selection_of`.
    """
    most, splits = space.recipe.selection.max_rows, space.splits

    def encode(rows: Any, labelled: bool) -> Encoded:
        return space.task.encode(rows, space.tokenizer, space.limits, labelled=labelled)

    if name in (SOURCE_DEV, LAST_STEP):
        return None
    if name == ORACLE:
        space.reporter.warn(oracle_note())
        return Selector(space, encode(splits.scored["target.dev"].rows, False))
    assert splits.unlabelled is not None
    source = encode(sample_rows(splits.dev.rows, most, space.recipe.seed), True) if name in NEEDS_SOURCE else None
    return Selector(space, encode(sample_rows(splits.unlabelled.rows, most, space.recipe.seed), False), source)
