"""The schema as plain data: which keys, types and ranges are allowed at a place in a recipe."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from .documented import describe_keys, section_docs
from .schema import Recipe
from .yaml import KeyPath

Node = dict[str, Any]


@cache
def root() -> Node:
    """Return the JSON schema of a recipe as pydantic writes it, for reading only."""
    return Recipe.model_json_schema()


def json_schema() -> Node:
    """Return the JSON schema of a recipe, shorthands included, for editors and for documentation.

    Returns:
        A fresh dictionary (draft 2020-12); tunings and methods allow any setting here.
    """
    schema = copy.deepcopy(root())
    docs = section_docs()
    short = {}
    for name, node in schema["$defs"].items():
        if "x-shorthand" in node:
            own = node["properties"][node["x-shorthand"]]
            short[f"#/$defs/{name}"] = {"type": "string"} | {key: own[key] for key in ("enum", "pattern") if key in own}
        describe_keys(node, docs.get(name, {}))
    describe_keys(schema, docs[Recipe.__name__])

    def rewrite(node: Any) -> Any:
        if isinstance(node, list):
            return [rewrite(item) for item in node]
        if not isinstance(node, dict):
            return node
        if node.get("$ref") in short:
            told = {"description": node["description"]} if "description" in node else {}
            return told | {"anyOf": [short[node["$ref"]], {"$ref": node["$ref"]}]}
        if "discriminator" in node:
            names = {"type": "string", "enum": list(node["discriminator"]["mapping"])}
            return {"anyOf": [names, *node["oneOf"]]}
        return {key: rewrite(value) for key, value in node.items() if key != "x-shorthand"}

    schema = rewrite(schema)
    for stage in ("FinetuneStage", "PretrainStage", "SelfTrainStage", "SoupStage"):
        schema["$defs"][stage]["required"] = ["name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def follow(node: Node) -> Node:
    """Return what a reference points to."""
    while "$ref" in node:
        node = root()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def choices(node: Node, value: Any = None) -> list[Node]:
    """List the alternatives that a place allows.

    Args:
        node: Schema of the place.
        value: What stands there; the ``name`` in it picks among stages.

    Returns:
        One schema for each alternative, references followed.
    """
    node = follow(node)
    if "discriminator" in node:
        name = value.get("name") if isinstance(value, dict) else None
        mapping = node["discriminator"]["mapping"]
        refs = [mapping[name]] if isinstance(name, str) and name in mapping else list(mapping.values())
        return [follow({"$ref": ref}) for ref in refs]
    return [follow(item) for item in node["anyOf"]] if "anyOf" in node else [node]


def child(node: Node, key: str | int, value: Any = None) -> Node:
    """Return the schema of one key of a section, or of one item of a list.

    Args:
        node: Schema of the section or list.
        key: The key, or the item's index.
        value: The section itself, see :func:`choices`.

    Returns:
        The schema; empty (anything goes) when the key is unknown.
    """
    for option in choices(node, value):
        if isinstance(key, int) and "items" in option:
            return dict(option["items"])
        if key in option.get("properties", {}):
            return dict(option["properties"][key])
        if isinstance(option.get("additionalProperties"), dict):
            return dict(option["additionalProperties"])
    return {}


def at(path: KeyPath, data: Any) -> Node:
    """Return the schema of a place in a recipe.

    Args:
        path: Keys and indexes from the top.
        data: The recipe as plain data; it says which kind of stage an item is.

    Returns:
        The schema, as :func:`child` returns it.
    """
    node = root()
    for key in path:
        node = child(node, key, data)
        data = data[key] if has(data, key) else None
    return node


def tidy(value: Any, node: Node | None = None) -> Any:
    """Expand shorthands, and read a section with nothing under it as an empty one.

    Args:
        value: A recipe as plain data (or, in the recursion, a part of one).
        node: Schema of ``value``; by default the whole recipe.

    Returns:
        A copy in which ``model: x`` is ``model: {id: x}``, and ``train:`` alone is ``train: {}``.
    """
    node = root() if node is None else node
    options = choices(node, value)
    if isinstance(value, str):
        short = next((option["x-shorthand"] for option in options if "x-shorthand" in option), None)
        return {short: value} if short else value
    if isinstance(value, list):
        return [tidy(item, child(node, index)) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        below = child(node, key, value)
        kinds = [option.get("type") for option in choices(below)] if below else []
        if item is None and kinds and "null" not in kinds and ("object" in kinds or "array" in kinds):
            if key not in _required(options):
                continue  # the default of a section or list that was left out
            item = {}
        result[key] = tidy(item, below) if below else item
    return result


def _required(options: list[Node]) -> set[str]:
    return {key for option in options for key in option.get("required", [])}


def has(data: Any, key: str | int) -> bool:
    """Return whether plain data has an item of this key or index."""
    if isinstance(data, list):
        return isinstance(key, int) and key < len(data)
    return isinstance(data, dict) and key in data
