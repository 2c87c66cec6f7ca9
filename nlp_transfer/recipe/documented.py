"""What a docstring says of each attribute, as descriptions for the JSON Schema that editors read."""

from __future__ import annotations

import inspect
import re
from typing import Any

from .section import Section

_HEADINGS = re.compile(r"^(?:Attributes|Args):$", re.MULTILINE)
_ITEM = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
_SEE = re.compile(r",? \(?see :\w+:`[^`]*`\)?")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def summary_of(doc: str) -> str:
    """Return what a docstring says before its lists of attributes and arguments."""
    return _plain(_HEADINGS.split(inspect.cleandoc(doc))[0])


def attributes_of(doc: str) -> dict[str, str]:
    """Return what a docstring says of each attribute or argument, by name."""
    _, *lists = _HEADINGS.split(inspect.cleandoc(doc))
    return {name: _plain(text) for part in lists for name, text in _ITEM.findall(part)}


def section_docs() -> dict[str, dict[str, str]]:
    """Return what is said of the keys of every section of a recipe, those of its base classes included."""
    found, left = {}, [Section]
    while left:
        section = left.pop()
        left += section.__subclasses__()
        own = [base for base in reversed(section.__mro__) if issubclass(base, Section)]
        found[section.__name__] = {key: text for base in own for key, text in attributes_of(base.__doc__ or "").items()}
    return found


def describe_keys(node: dict[str, Any], docs: dict[str, str]) -> None:
    """Write descriptions into the schema of a section; what stands there says what form a value has.

    Args:
        node: JSON Schema of an object.
        docs: What is said of its keys.
    """
    if "description" in node:
        node["description"] = summary_of(node["description"])
    for key, value in node.get("properties", {}).items():
        if key in docs:
            form = f" Form: {value['description']}." if "description" in value else ""
            value["description"] = docs[key] + form


def _plain(text: str) -> str:
    """Return text in one line, without the marks of Sphinx, and without what only readers of the code can look up."""
    return " ".join(_ROLE.sub(r"\1", _SEE.sub("", " ".join(text.split()))).replace("``", "`").split())
