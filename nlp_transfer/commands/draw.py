"""The command ``draw``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Overrides, RecipeFile
from .plain import plain


@plain()
def draw_command(
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option(metavar="FILE", help="File to write: csv, tsv, jsonl; of entities conll.")],
    rows: Annotated[int, typer.Option(min=1, help="How many texts.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice; another one draws other texts.")] = 0,
    overrides: Overrides = None,
) -> None:
    """Draw target texts at random, to label by hand.

    Labelled, they are the target.test of a recipe, and tell which adaptation helps.
    """
    from ..drawing import draw
    from ..parts import load_recipe
    from ..screen import show_drawn

    show_drawn(draw(load_recipe(recipe, overrides or ()), output, rows, seed=seed))
