"""What every stage of a run shares: recipe, data, task, base model, tokenizer, and where to talk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import finding, parts
from .data.windows import Limits
from .hardware import Precision
from .preparing.splits import Splits
from .recipe.schema import Recipe
from .reporter import Reporter
from .tasks.base import Task
from .vocabulary.new_tokens import NewTokens


@dataclass(frozen=True)
class Workspace:
    """What every stage of a run shares.

    Args:
        recipe: The resolved recipe.
        splits: Checked data, target labels apart.
        task: The task.
        base: The resolved base model.
        tokenizer: Its tokenizer.
        limits: How texts are cut into windows.
        precision: Number format of training.
        reporter: Where facts are told.
        log: File that every logged number is appended to.
        methods: Classes of the methods that the recipe may name.
        reuse: Folders of other runs, whose finished stages are copied where settings and data are the same.
        new_tokens: What the tokenizer has and the base model has not, each with its pieces in the base vocabulary.
    """

    recipe: Recipe
    splits: Splits
    task: Task
    base: finding.ResolvedModel
    tokenizer: Any
    limits: Limits
    precision: Precision
    reporter: Reporter
    log: Path
    methods: parts.Known = field(default_factory=lambda: parts.METHODS)
    reuse: tuple[Path, ...] = ()
    new_tokens: NewTokens = field(default_factory=dict)
