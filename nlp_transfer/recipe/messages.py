"""Problems in plain words: what stands in the recipe, what is allowed there, what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import nearest
from .shape import Node, at, choices, follow, has, root
from .yaml import KeyPath, scalar

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def reword(errors: Sequence[ErrorDetails], data: Any) -> list[tuple[KeyPath, str]]:
    """Word pydantic's errors.

    Args:
        errors: The errors of one validation.
        data: What was validated, as plain data.

    Returns:
        Key path and message, one for each place that has an error.
    """
    found: dict[KeyPath, ErrorDetails] = {}
    branches: set[KeyPath] = set()
    for error in errors:
        path, in_branch = _path(error, data)
        if in_branch:
            branches.add(path)
        found.setdefault(path, error)
    # 'balanced' or a section of weights: an error inside the section makes the one about 'balanced' noise.
    noise = {path for path in branches if any(p[: len(path)] == path and p != path for p in found)}
    return [(path, _message(error, path, data)) for path, error in found.items() if path not in noise]


def describe(node: Node) -> str:
    """Say in words what a place of the schema allows.

    Args:
        node: JSON schema of the place.

    Returns:
        For instance ``a number greater than 0 and at most 1``.
    """
    node = follow(node)
    if "discriminator" in node:
        return f"{_either(_quoted(node['discriminator']['mapping']))}, or a section with such a name"
    if "anyOf" in node:
        words = [describe(option) for option in choices(node) if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in node or "const" in node:
        if node.get("type") == "boolean":
            return str(node.get("description", str(node["const"]).lower()))
        return _either(_quoted(_constants(node)))
    kind = node.get("type")
    if kind == "array":
        least = f" of at least {node['minItems']} items" if "minItems" in node else ""
        return f"a list{least}, each {describe(node['items'])}"
    if kind == "object":
        return _describe_section(node)
    if "pattern" in node:
        return str(node["description"])
    names = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
    return names.get(str(kind), "a value") + _bounds(node)


def _describe_section(node: Node) -> str:
    values = node.get("additionalProperties")
    if isinstance(values, dict):
        return f"names with {describe(values)} for each"
    keys = ", ".join(node.get("properties", {}))
    section = f"a section with the keys {keys}"
    if node.get("additionalProperties") is True:
        section = f"a section with the key {keys} and settings of its own"
    return f"text (the {node['x-shorthand']}), or {section}" if "x-shorthand" in node else section


def _bounds(node: Node) -> str:
    if node.get("minLength"):
        return " that is not empty"
    words = [
        f"{phrase} {node[key]}"
        for key, phrase in (
            ("exclusiveMinimum", "greater than"),
            ("minimum", "at least"),
            ("exclusiveMaximum", "less than"),
            ("maximum", "at most"),
        )
        if key in node
    ]
    return f" {' and '.join(words)}" if words else ""


def _quoted(values: Iterable[Any]) -> list[str]:
    return [f"'{value}'" for value in values]


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _path(error: ErrorDetails, data: Any) -> tuple[KeyPath, bool]:
    """Return the key path without pydantic's names of union branches, and whether there were such names."""
    path: list[str | int] = []
    skipped = False
    location = error["loc"]
    for position, key in enumerate(location):
        if has(data, key):
            data = data[key]
        elif error["type"] != "missing" or position < len(location) - 1:
            skipped = True
            continue
        path.append(key)
    if error["type"].startswith("union_tag"):
        path.append("name")
    return tuple(path), skipped


def _message(error: ErrorDetails, path: KeyPath, data: Any) -> str:
    kind = error["type"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "extra_forbidden":
        return _unknown(path, data)
    if kind == "invalid_key" or (error["loc"] and error["loc"][-1] == "[key]"):
        return f"the key {_spelled(path[-1])} must be text. Put it in quotes: '{_spelled(path[-1])}'."
    if kind.startswith("union_tag"):
        names = list(at(path[:-1], data)["discriminator"]["mapping"])
        expected = _either(_quoted(names))
        if "name" not in error["input"]:
            return f"missing; expected {expected}."
        return _mismatch(error["input"]["name"], expected, names)
    node = at(path, data)
    if kind == "missing":
        return f"missing; expected {describe(node)}."
    allowed = [value for option in choices(node) for value in _constants(option)]
    return _mismatch(error["input"], describe(node), allowed) + _hint(error["input"], node)


def _mismatch(value: Any, expected: str, allowed: Sequence[Any]) -> str:
    close = nearest(value, allowed) if isinstance(value, str) else ""
    return f"expected {expected}, found {_shown(value)}.{close}"


def _constants(option: Node) -> list[Any]:
    return list(option.get("enum", [option["const"]] if "const" in option else []))


def _unknown(path: KeyPath, data: Any) -> str:
    key = str(path[-1])
    holder = data
    for step in path[:-1]:
        holder = holder[step]
    keys = [name for option in choices(at(path[:-1], data), holder) for name in option.get("properties", {})]
    keys = list(dict.fromkeys(keys))
    close = nearest(key, keys)
    home = next((name for name, node in root()["properties"].items() if key in _keys(node)), None)
    if not close and home is not None and home != path[0]:
        close = f" It belongs under '{home}'."
    return f"unknown key '{key}'.{close} Allowed here: {', '.join(keys)}."


def _keys(node: Node) -> set[str]:
    node = follow(node)
    return set(node.get("properties", {}))


def _hint(value: Any, node: Node) -> str:
    kinds = {option.get("type") for option in choices(node) if "enum" not in option and "const" not in option}
    numeric = bool(kinds & {"integer", "number"})
    if isinstance(value, bool | int | float) and "string" in kinds and not numeric:
        return f" Put it in quotes: '{_spelled(value)}'."
    if isinstance(value, str):
        read = scalar(value.strip())
        if isinstance(read, bool) and "boolean" in kinds:
            return f" Write {_spelled(read)} without quotes."
        if isinstance(read, int | float) and not isinstance(read, bool) and numeric:
            return " Write the number without quotes."
        if value.lower() in ("yes", "no", "on", "off", "y", "n") and "boolean" in kinds:
            return f" Write {'true' if value.lower() in ('yes', 'on', 'y') else 'false'}."
    return ""


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return _spelled(value)
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 60 else value[:57] + '…'}'"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a section"
