"""The command ``recipes``."""

from __future__ import annotations

from .plain import plain


@plain()
def recipes_command() -> None:
    """List the recipes that come along."""
    from ..recipe.shipped import list_recipes
    from ..screen import show_recipes

    show_recipes(list_recipes())
