"""Recipes and rows with labelled target rows, for the tests of stages that train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import data_of, recipe_data, rows_of

from nlp_transfer.preparing.load import load_splits
from nlp_transfer.recipe.defaults import resolve
from nlp_transfer.reporter import Reporter
from nlp_transfer.workspace import Workspace, open_workspace

BOTH = {"name": "finetune", "on": "both"}
ON_TARGET = {"name": "finetune", "on": "target"}
THEN = ["finetune", ON_TARGET]
"""Source, then target."""


def values(*args: Any, **changes: Any) -> dict[str, Any]:
    """A recipe with labelled target rows, as plain data."""
    return recipe_data(*args, target_labels=True, **changes)


def given(kind: str = "classification") -> dict[str, Any]:
    return data_of(kind) | {"target.train": rows_of(kind, 9, 6)}


def renamed(kind: str, old: str, new: str) -> Any:
    """Labelled target rows, one of whose labels the source has not."""
    if kind == "ner":
        return rows_of(kind, 9, 6).map(lambda row: {"tags": [tag.replace(old, new) for tag in row["tags"]]})
    return rows_of(kind, 9, 6).map(lambda row: {"label": row["label"].replace(old, new)})


def space_of(recipe: Any, data: dict[str, Any]) -> Workspace:
    recipe = resolve(recipe)
    return open_workspace(recipe, load_splits(recipe, data), Path("x"), Reporter())
