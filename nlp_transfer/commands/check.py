"""The command ``check``."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Overrides, RecipeFile
from .plain import plain


@plain()
def check_command(
    recipe: RecipeFile,
    overrides: Overrides = None,
    data: Annotated[bool, typer.Option("--data", help="Read the data too, and report what is there.")] = False,
) -> None:
    """Validate a recipe, and look at its data.

    With --data, tells what the data are: sizes, labels, lengths, duplicates, gaps.
    """
    from ..checking import check
    from ..parts import load_recipe
    from ..screen import show_check

    show_check(check(load_recipe(recipe, overrides or ()), data=data))
