"""A strategy as the recipe that ``compare`` would run."""

from __future__ import annotations

from typing import Any

from .. import parts
from ..recipe.comparing import StrategySpec
from ..recipe.defaults import resolve
from ..recipe.schema import Recipe, TrainSpec
from ..strategies import strategy_recipe
from ..workspace import Workspace


def variant(recipe: Recipe, strategy: str, methods: parts.Known) -> Recipe:
    """Return the resolved recipe of a strategy as ``compare`` runs it; where features are frozen, with full tuning.

    Args:
        recipe: The recipe as written.
        strategy: A method, a stage or ``source_only``.
        methods: The methods that may be named.

    Raises:
        RecipeError: The strategy does not go with the task or the data.
    """
    moves = parts.TUNINGS[recipe.tuning.name].moves_features
    named = StrategySpec(name=strategy if moves else f"full+{strategy}")
    return resolve(strategy_recipe(recipe, named, recipe.seed, str(recipe.output), methods))


def settings_of(space: Workspace, strategy: str, index: int = -1) -> tuple[Any, TrainSpec]:
    """Return a stage of a strategy and its training settings."""
    stage = list(variant(space.recipe, strategy, space.methods).trainings.values())[index]
    return stage, TrainSpec.model_validate(stage.train)
