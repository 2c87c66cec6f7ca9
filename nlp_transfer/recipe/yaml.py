"""Strict YAML 1.2: plain data with line numbers in, plain text out, and nothing that surprises.

Values follow the YAML 1.2 core schema, decided here and not by the library's resolver: ``no`` is text,
``3e-4`` a number, ``2024-01-01`` text. Tags, repeated keys, merge keys and aliases that expand without end
are refused.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import Problem, RecipeError

KeyPath = tuple[str | int, ...]
Lines = Callable[[KeyPath], int]

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 40

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Text that needs no quotes in any YAML version; what older readers take for booleans is quoted all the same.
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+ @-]*(?<! )")
_OLD_BOOLEAN = {"y", "n", "yes", "no", "on", "off"}
_HINTS = {
    "\\t": "Indent with spaces, not with tabs.",
    "mapping values are not allowed": "Check the indentation, and put text that holds ': ' in quotes.",
    "unknown escape": "Backslashes are plain characters in single quotes.",
    "cannot start any token": "Put text that starts with this character in quotes.",
}


def scalar(text: str) -> str | int | float | bool | None:
    """Return the value of unquoted text by the YAML 1.2 core schema.

    Args:
        text: What stands in the file, without quotes and surrounding blanks.

    Returns:
        Nothing, a truth value, a number, or the text itself.
    """
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _INFINITE.fullmatch(text) else text


def read(path: str | Path) -> tuple[dict[str, Any], Lines]:
    """Read a file that holds one mapping.

    Args:
        path: UTF-8 file.

    Returns:
        The mapping as plain data, and a function from a key path such as ``("train", "epochs")`` to its line
        (from 1); of a path that is not in the file, the line of its closest ancestor.

    Raises:
        RecipeError: The file is not UTF-8, not YAML, too large or holds something else than a mapping.
        OSError: The file cannot be opened.
    """
    raw = Path(path).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _refuse("the file is not UTF-8 text; save it with that encoding", f"{path}:{line}")
    value, lines = read_text(text, str(path))
    if not isinstance(value, dict):
        found = "is empty" if value is None else f"holds a {'list' if isinstance(value, list) else 'single value'}"
        _refuse(f"the file {found}; a recipe is a mapping of keys such as 'name: …'", f"{path}:1")
    return value, lines


def read_text(text: str, origin: str) -> tuple[Any, Lines]:
    """Read one YAML document.

    Args:
        text: The document.
        origin: What problems call it, for instance the file's name.

    Returns:
        Plain data and its line numbers, as :func:`read` does.

    Raises:
        RecipeError: The text is not strict YAML; the problem names ``origin:line``.
    """
    from ruamel.yaml import YAML  # loaded late: only commands that read a recipe pay for it
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text) > MAX_BYTES:
        _refuse(f"the file is longer than {MAX_BYTES} characters, which no recipe is", origin)
    builder = _Builder(YAML(typ="safe", pure=True).parse(io.StringIO(text)), origin)
    try:
        value = builder.document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = str(error.problem or error.context)
        hint = next((f" {hint}" for part, hint in _HINTS.items() if part in what), "")
        _refuse(f"not valid YAML: {what}.{hint}", f"{origin}:{mark.line + 1}" if mark else origin)
    except (YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, RecipeError):
            raise
        _refuse(f"not valid YAML: {str(error).splitlines()[0]}", f"{origin}:{builder.line}")

    def line_of(path: KeyPath) -> int:
        return next((builder.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in builder.lines), 1)

    return value, line_of


def dump_data(data: Mapping[str, Any]) -> str:
    """Write plain data as block-style YAML that :func:`read_text` reads back exactly.

    Args:
        data: Mappings, lists, text, numbers, truth values and ``None``.

    Returns:
        Text that ends in a newline. Text that some reader could take for another type is quoted.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        """Quotes doubtful text, and writes a value that occurs twice twice (no aliases)."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def text(self, data: str) -> Any:
            style = None if _is_plain(data) else '"'
            return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Representer.add_representer(str, Representer.text)
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = MAX_BYTES
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(dict(data), stream)
    return stream.getvalue()


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text)) and isinstance(scalar(text), str) and text.lower() not in _OLD_BOOLEAN


def _refuse(message: str, where: str) -> NoReturn:
    raise RecipeError([Problem(message, where)]) from None


class _Builder:
    """Turns parser events into plain data and notes the line of every key path.

    Args:
        events: Events of ruamel.yaml's parser, drawn one by one so that a refusal stops the parsing.
        origin: Name of the document in problems.
    """

    def __init__(self, events: Iterator[Any], origin: str):
        self.lines: dict[KeyPath, int] = {}
        self.line = 1
        self._events = events
        self._origin = origin
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def document(self) -> Any:
        """Return the value of the only document, ``None`` if there is none."""
        next(self._events)  # start of the stream
        if type(self._next()).__name__ == "StreamEndEvent":
            return None
        value = self._value(self._next(), ())
        self._next()  # end of the document
        if type(self._next()).__name__ != "StreamEndEvent":
            self._refuse("the file holds more than one document; keep one and remove the '---' lines")
        return value

    def _next(self) -> Any:
        event = next(self._events)
        self.line = event.start_mark.line + 1
        return event

    def _refuse(self, message: str) -> NoReturn:
        _refuse(message, f"{self._origin}:{self.line}")

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            self._refuse(f"more than {MAX_VALUES} values once its aliases are expanded, which no recipe needs")

    def _value(self, event: Any, path: KeyPath) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event.anchor)
        if event.tag is not None:
            self._refuse(f"the tag '{event.tag}' is not allowed: recipes hold plain values only")
        if len(path) > MAX_DEPTH:
            self._refuse(f"nested more than {MAX_DEPTH} levels deep")
        self._count(1)
        before = self._values
        if kind == "ScalarEvent":
            value = scalar(event.value) if event.style is None else event.value
        elif kind == "SequenceStartEvent":
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._values - before + 1)
        return value

    def _alias(self, anchor: str) -> Any:
        if anchor not in self._anchors:
            self._refuse(f"the alias '*{anchor}' has no anchor '&{anchor}' before it, or stands inside it")
        value, size = self._anchors[anchor]
        self._count(size)
        return copy.deepcopy(value)

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while type(event := self._next()).__name__ != "SequenceEndEvent":
            here = (*path, len(items))
            self.lines[here] = self.line
            items.append(self._value(event, here))
        return items

    def _mapping(self, path: KeyPath) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        while type(event := self._next()).__name__ != "MappingEndEvent":
            if type(event).__name__ != "ScalarEvent":
                self._refuse("a key must be plain text")
            key = self._value(event, path)
            here = (*path, key)
            if key == "<<" and event.style is None:
                self._refuse("merge keys ('<<') are not part of YAML 1.2; write the keys out")
            if key in mapping:
                self._refuse(f"the key '{key}' is repeated; it stands in line {self.lines[here]} already")
            self.lines[here] = self.line
            mapping[key] = self._value(self._next(), here)
        return mapping
