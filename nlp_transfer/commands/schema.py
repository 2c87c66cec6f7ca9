"""The command ``schema``."""

from __future__ import annotations

from .plain import plain


@plain()
def schema_command() -> None:
    """Print the JSON Schema of recipes.

    Editors complete and check with it.
    """
    from ..parts import json_schema
    from ..screen import show_json

    show_json(json_schema())
