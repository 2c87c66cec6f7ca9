"""Look at a recipe, and on request at its data and model files, before anything is trained."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from . import models
from .arguments import check_batches
from .comparison.plan import planned_runs
from .conclusions import UNJUDGED
from .data.inspect import describe
from .parts import METHODS, Known, build_tuning
from .preparing.load import load_splits
from .preparing.splits import Splits, corpus_role
from .recipe.defaults import resolve
from .recipe.schema import Recipe
from .recipe.shipped import HUB, resolve_path
from .recipe.stages import PretrainStage
from .reporter import Reporter
from .verdict import JUDGES
from .workspace import Workspace, open_workspace


def check(
    recipe: Recipe, data: bool = False, given: dict[str, Any] | None = None, methods: Known = METHODS
) -> dict[str, Any]:
    """Say what a recipe will do; with ``data``, read the data as a run would and describe what is there.

    Names, settings and combinations were checked when the recipe was loaded. No weights are loaded here.

    Args:
        recipe: From :func:`nlp_transfer.load_recipe`.
        data: Read the data, and the model's configuration and tokenizer, too.
        given: ``datasets.Dataset`` objects that stand in for files, by key path below ``data``: ``source.train``
            (of several sources ``source.0.train``), ``target.test``, ….
        methods: The methods that strategies may name.

    Returns:
        Plain values for JSON: ``recipe``, with every default filled in; ``runs``, how many a ``compare`` section asks
        for of each strategy (its trials not counted); ``notes`` on what will be missed; ``data``, None or a description
        as :func:`nlp_transfer.data.inspect.describe` returns it, with the ``notes`` of the reading and the ``model``.

    Raises:
        UserError: What a run, or the comparison, would stop at before training.
    """
    planned = planned_runs(recipe, methods)
    recipe = resolve(recipe)
    check_batches(recipe, methods)
    result: dict[str, Any] = {
        "recipe": recipe.model_dump(),
        "runs": dict(Counter(member.strategy for member in planned)),
        "notes": _notes(recipe, {} if given is None else given),
        "data": None,
    }
    if data:
        splits = load_splits(recipe, given, probes=True)
        result["data"] = _described(recipe, splits)
    return result


def _notes(recipe: Recipe, given: dict[str, Any]) -> list[str]:
    """Say which files are not there, and that nobody will know where there are no labelled target rows."""
    files = {role: file.path for role, file in recipe.data.files.items() if role not in given}
    files |= {
        f"stages.{number}.corpus": stage.corpus.path
        for number, stage in enumerate(recipe.stages)
        if isinstance(stage, PretrainStage) and stage.corpus is not None and corpus_role(number) not in given
    }
    places = {role: resolve_path(recipe.data, path) for role, path in files.items() if not path.startswith(HUB)}
    missing = [f"{role}: '{place}' is not there." for role, place in places.items() if not Path(place).is_file()]
    judged = any(role in recipe.data.files for role in JUDGES)
    unjudged = f"No verdict: {UNJUDGED} nlp-transfer draw writes texts to label."
    return [*missing, *([] if judged or not recipe.adapts else [unjudged])]


def _described(recipe: Recipe, splits: Splits) -> dict[str, Any]:
    # A run's own workspace, so that nothing passes here that a run refuses.
    space = open_workspace(recipe, splits, Path(str(recipe.output)), Reporter())
    _try_tuning(space)
    several = len(splits.sources) > 1
    named = {
        f"source.{source.name}.{key}" if several else f"source.{key}": split
        for source in splits.sources
        for key, split in (("train", source.train), ("dev", source.dev))
    }
    for name, split in (("target.unlabelled", splits.unlabelled), ("target.train", splits.target_train)):
        named |= {} if split is None else {name: split}
    described = describe(named | splits.scored, lambda texts: _lengths(space, texts), space.limits.max_length)
    model = {"id": space.base.id, "note": space.base.note}
    return described | {"notes": splits.notes, "model": model, "truncates": space.limits.truncate}


def _try_tuning(space: Workspace) -> None:
    """Apply the tuning to a model without weights: it may ask for layers that the encoder has not.

    Raises:
        ModelError: It does.
    """
    import torch
    import transformers

    try:
        with torch.device("meta"), models.quiet():
            model = getattr(transformers, space.task.auto_class).from_config(models.read_config(space.base))
    except (TypeError, ValueError):  # Some configurations make a model only beside its weights.
        return
    build_tuning(space.recipe.tuning).apply(models.Loaded(model, frozenset()), space.task.peft_type)


def _lengths(space: Workspace, texts: list[str]) -> list[int]:
    """Count subword tokens, special ones included."""
    encoded = space.tokenizer(texts, return_attention_mask=False, return_token_type_ids=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]
