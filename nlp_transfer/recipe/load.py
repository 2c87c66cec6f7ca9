"""From a recipe file (and overrides) to a valid recipe, or to all its problems at once; and back to text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import Problem, RecipeError, nearest
from .messages import reword
from .overrides import apply
from .schema import Recipe
from .shape import tidy
from .yaml import KeyPath, Lines, dump_data, read

Check = Callable[[dict[str, Any]], list[tuple[KeyPath, str]]]
"""Looks at a recipe's plain data (shorthands written out); returns key paths with messages."""


def load(
    path: str | Path, overrides: Sequence[str] = (), check: Check | None = None
) -> tuple[Recipe | None, list[Problem]]:
    """Read a recipe file.

    Args:
        path: YAML file.
        overrides: Texts such as ``train.epochs=2`` that win over the file.
        check: A further check, whose findings join the others.

    Returns:
        The recipe and no problems; or ``None`` and every problem that was found.

    Raises:
        RecipeError: There is no such file, or it is not strict YAML.
    """
    path = Path(path)
    try:
        data, lines = read(path)
    except OSError as error:
        raise RecipeError([Problem(_unreadable(path, error), str(path))]) from None
    return parse(data, origin=str(path), overrides=overrides, lines=lines, check=check)


def parse(
    data: Any,
    *,
    origin: str = "recipe",
    overrides: Sequence[str] = (),
    lines: Lines | None = None,
    check: Check | None = None,
) -> tuple[Recipe | None, list[Problem]]:
    """Validate a recipe that is plain data.

    Args:
        data: Mapping of the recipe's keys; it is left as it is.
        origin: What problems call the recipe, for instance the file's name.
        overrides: Texts such as ``train.epochs=2`` that win over ``data``.
        lines: Returns the line of a key path in ``origin``; without it problems name the key path only.
        check: A further check, whose findings join the others.

    Returns:
        The recipe and no problems; or ``None`` and every problem that was found.
    """
    if not isinstance(data, dict):
        return None, [Problem("a recipe is a mapping of keys such as 'name: …'", origin)]
    data = tidy(data)
    paths, found = apply(data, overrides)
    data = tidy(data)
    where = _places(origin, lines, paths)
    if check is not None:
        found += [Problem(message, where(path)) for path, message in check(data)]
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        wrong = reword(error.errors(include_url=False), data)
        if lines is not None:
            wrong.sort(key=lambda item: lines(item[0]))
        return None, found + [Problem(message, where(path)) for path, message in wrong]
    found += [
        Problem(
            f"no effect: every stage sets {' or '.join(_said_by(str(path[1])))} itself, so override "
            f"stages.0.train.{path[1]}",
            where(path),
        )
        for path in paths
        if path[0] == "train"
        and len(path) > 1
        and all(
            any(stage.train.get(key) is not None for key in _said_by(str(path[1])))
            for stage in recipe.trainings.values()
        )
    ]
    return (None, found) if found else (recipe, [])


def _said_by(key: str) -> list[str]:
    """Return the keys of a stage's ``train`` that win over one of the recipe's: two tell how long it is."""
    return ["max_steps", "epochs"] if key in ("max_steps", "epochs") else [key]


def dump(recipe: Recipe) -> str:
    """Write a recipe as YAML text.

    Args:
        recipe: The recipe.

    Returns:
        Text in the order of the schema that loads as an equal recipe.
    """
    return dump_data(recipe.model_dump())


def _places(origin: str, lines: Lines | None, overridden: Sequence[KeyPath]) -> Callable[[KeyPath], str]:
    """Return a function from a key path to the place that a problem shows."""

    def where(path: KeyPath) -> str:
        dotted = ".".join(str(key) for key in path)
        if any(path[: len(head)] == head for head in overridden):
            return f"override: {dotted}"
        place = origin if lines is None else f"{origin}:{lines(path)}"
        return f"{place}: {dotted}" if dotted else place

    return where


def _unreadable(path: Path, error: OSError) -> str:
    if path.is_dir():
        return "this is a folder, not a recipe file"
    if path.exists():
        return f"the file cannot be opened ({error.strerror})"
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder '{folder}'"
    names = [item.name for item in folder.iterdir() if item.suffix in (".yaml", ".yml")]
    return f"there is no such file.{nearest(path.name, names)}"
