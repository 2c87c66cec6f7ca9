"""What every stage of a run shares: recipe, data, task, base model, tokenizer, and where to talk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import finding, models, parts
from .data.windows import Limits
from .errors import Problem, RecipeError
from .hardware import Precision, choose_precision
from .preparing.load import build_task
from .preparing.splits import Splits
from .recipe.schema import Recipe
from .recipe.stages import PretrainStage
from .records import LOG
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


def open_workspace(recipe: Recipe, splits: Splits, folder: Path, reporter: Reporter) -> Workspace:
    """Find the base model, and gather what the stages share.

    Raises:
        ModelError: The model is not found, or is not an encoder.
        RecipeError: ``data.max_length`` is more than the model can read.
    """
    base = finding.resolve(recipe.model.id, recipe.model.revision)
    config = models.read_config(base)
    tokenizer = models.load_tokenizer(base)
    longest = models.longest_input(config, tokenizer)
    wanted = recipe.data.max_length
    if wanted is not None and wanted > longest:
        text = f"{wanted} is more than the {longest} tokens that '{base.id}' can read."
        raise RecipeError([Problem(text, "data.max_length")])
    for number, stage in enumerate(recipe.stages):
        if isinstance(stage, PretrainStage) and stage.block_length is not None and stage.block_length > longest:
            text = f"{stage.block_length} is more than the {longest} tokens that '{base.id}' can read."
            raise RecipeError([Problem(text, f"stages[{number}].block_length")])
    window = min(512, longest) if wanted is None else wanted
    stride = min(32, window // 4) if recipe.data.stride is None else recipe.data.stride
    limits = Limits(window, stride, recipe.data.long_texts == "truncate")
    precision = choose_precision(recipe.train.precision)
    reporter.say(f"model: {base.id} ({base.note})")
    reporter.say(f"precision: {precision.reason}")
    task = build_task(recipe, splits)
    task.mean_pooling = models.pools_by_mean(config)
    return Workspace(recipe, splits, task, base, tokenizer, limits, precision, reporter, folder / LOG)
