"""Recipes: what they may say (schema), how they are read (load), how defaults are filled in (resolve)."""

from __future__ import annotations

from .defaults import resolve
from .load import dump, load, parse
from .schema import Recipe
from .shape import json_schema

__all__ = ["Recipe", "dump", "json_schema", "load", "parse", "resolve"]
