"""Overrides from the command line: ``train.epochs=2``, ``methods.0.weight=0.5``, ``model.revision=v2``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import Problem, RecipeError
from .shape import Node, child, choices, root
from .yaml import KeyPath, read_text


def apply(data: dict[str, Any], overrides: Sequence[str]) -> tuple[list[KeyPath], list[Problem]]:
    """Put overrides into a recipe, in place.

    Args:
        data: The recipe as plain data with its shorthands expanded; missing sections are created.
        overrides: Texts of the form ``key.path=value``; a number in the path is an index into a list (one
            past its end appends), the value is YAML.

    Returns:
        The paths that were set, and the problems of overrides that could not be used.
    """
    paths: list[KeyPath] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            paths.append(_set(data, text))
        except RecipeError as error:
            problems.extend(Problem(problem.message, f"override '{text}'") for problem in error.problems)
        except ValueError as error:
            problems.append(Problem(str(error), f"override '{text}'"))
    return paths, problems


def _set(data: dict[str, Any], text: str) -> KeyPath:
    dotted, equals, written = text.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ValueError("expected key.path=value, for instance train.epochs=2")
    value, _ = read_text(written, "override")
    node: Node = root()
    holder: Any = data
    path: list[str | int] = []
    for position, key in enumerate(keys):
        step = _index(holder, key, path) if isinstance(holder, list) else key
        path.append(step)
        last = position == len(keys) - 1
        below = child(node, step, holder)
        item = value if last else _opened(_get(holder, step), below, path, keys[position + 1])
        _put(holder, step, item)
        node, holder = below, item
    return tuple(path)


def _get(holder: Any, key: Any) -> Any:
    if isinstance(holder, list):
        return holder[key] if key < len(holder) else None
    return holder.get(key)


def _put(holder: Any, key: Any, item: Any) -> None:
    if isinstance(holder, list) and key == len(holder):
        holder.append(item)
    else:
        holder[key] = item


def _opened(item: Any, node: Node, path: Sequence[str | int], following: str) -> dict[str, Any] | list[Any]:
    """Return the section or list that the rest of the path goes into, made if there is none."""
    if isinstance(item, dict | list):
        return item
    options = choices(node) if node else []
    if item is None:
        if list(path) == ["stages"]:
            return [{"name": "finetune"}]  # the default, so that stages.0.train.epochs=2 works without a list
        kinds = {option.get("type") for option in options}
        return [] if "array" in kinds and ("object" not in kinds or following.isdecimal()) else {}
    short = next((option["x-shorthand"] for option in options if "x-shorthand" in option), None)
    if short and isinstance(item, str):
        return {short: item}
    raise ValueError(f"{'.'.join(map(str, path))} is a plain value ({item!r}) and has no keys to set")


def _index(items: list[Any], key: str, path: Sequence[str | int]) -> int:
    where = ".".join(map(str, path))
    if not key.isdecimal():
        raise ValueError(f"{where} is a list: give the number of an item (the first is {where}.0), not '{key}'")
    if int(key) > len(items):
        raise ValueError(f"{where} has {len(items)} items, so the next one is {where}.{len(items)}, not {key}")
    return int(key)
