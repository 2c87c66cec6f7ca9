"""The command ``copy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .plain import plain


@plain()
def copy_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name as 'nlp-transfer recipes' lists it.")],
    destination: Annotated[Path, typer.Argument(metavar="[DEST]", help="New file, or an existing folder.")] = Path(),
) -> None:
    """Copy a recipe, to start from."""
    from ..recipe.shipped import copy_recipe

    print(copy_recipe(name, destination))
