"""From raw values to canonical rows: what each kind of data must hold, every bad row noted.

Each reader of a kind takes a :class:`~nlp_transfer.data.formats.Table` and returns a :class:`Canonical`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import Problem, nearest
from ..recipe.schema import Columns
from . import spans as spans_
from . import tags as tags_
from .formats import Table
from .spans import Span

Kind = Literal["classification", "multi_label", "ner", "text", "words"]
KINDS: tuple[Kind, ...] = ("classification", "multi_label", "ner", "text", "words")

_WHOLE = re.compile(r"(-?\d+)\.0+")  # how a whole number looks in a CSV column of floats


class BadValueError(ValueError):
    """A value of one row is nothing that its column may hold."""


@dataclass
class Canonical:
    """Canonical columns of one table, with what was done to get them.

    Attributes:
        columns: As in the contract of the kind; rows with problems are kept so that row numbers stay right.
        problems: What is wrong, by file and line.
        repaired: Tags that were repaired.
        scheme: Tag scheme that the file was written in.
        dropped_labels: Labels were there and were left out, as the kind has none.
    """

    columns: dict[str, list[Any]]
    problems: list[Problem] = field(default_factory=list)
    repaired: int = 0
    scheme: tags_.Scheme | None = None
    dropped_labels: bool = False


def column_names(columns: Columns) -> dict[str, str]:
    """Return the name of every column; the usual one where none, or an index, was given."""
    given = {key: getattr(columns, key) for key in ("text", "label", "labels", "words", "tags", "entities")}
    return {key: value if isinstance(value, str) else key for key, value in given.items()}


def canonicalise(table: Table, kind: Kind, columns: Columns, repair_tags: bool = False) -> Canonical:
    """Check a table and bring it to the canonical columns of a kind.

    Args:
        table: Raw values.
        kind: What the rows are for.
        columns: Names of the columns.
        repair_tags: Repair entities that begin with an inside tag instead of noting them as problems.

    Returns:
        The columns and everything that is wrong with them.
    """
    if kind in ("classification", "multi_label"):
        return _labelled(table, kind, columns)
    if kind == "ner":
        return _ner(table, columns, repair_tags)
    result = _unlabelled(table, kind, columns)
    names = column_names(columns)
    held = ("label", "labels", "tags", "entities")
    result.dropped_labels = any(value is not None for key in held for value in table.columns.get(names[key], ()))
    return result


def _missing(table: Table, key: str, name: str, hint: str = "") -> Problem:
    there = ", ".join(repr(column) for column in table.names) if table.names else "none"
    marks = [mark for mark in (";", "\t", ",") if len(table.names) == 1 and table.untyped and mark in table.names[0]]
    advice = f"{nearest(name, table.names)} Name it with data.columns.{key}.{hint}"
    if marks:
        advice = f" The header seems to be separated by {marks[0]!r}: save the file with ',' (csv) or tabs (tsv)."
    elif table.untyped:
        advice += " The first line of the file must name the columns."
    message = f"there is no column '{name}'; the columns are: {there}.{advice}"
    return Problem(message, table.origin)


def _labelled(table: Table, kind: Kind, columns: Columns) -> Canonical:
    names = column_names(columns)
    key = "label" if kind == "classification" else "labels"
    absent = [_missing(table, item, names[item]) for item in ("text", key) if names[item] not in table.names]
    if absent:
        return Canonical({}, absent)
    texts, problems = _texts(table, names["text"])
    values: list[Any] = []
    for row, value in enumerate(table.columns[names[key]]):
        try:
            if kind == "classification":
                values.append(label_text(value, table.untyped))
            else:
                values.append(label_list(value, table.untyped))
        except BadValueError as error:
            values.append("" if kind == "classification" else [])
            problems.append(Problem(f"column '{names[key]}': {error}", table.where(row)))
    return Canonical({"text": texts, key: values}, problems)


def label_text(value: Any, untyped: bool = False) -> str:
    """Write one label as a string: ``1`` and ``1.0`` as ``"1"``, ``True`` as ``"true"``, names stripped.

    Args:
        value: The raw label.
        untyped: It comes from a file in which numbers are strings: ``"4.0"``, too, becomes ``"4"``.

    Returns:
        The label, never empty.

    Raises:
        BadValueError: It is missing, or nothing that could be one label.
    """
    if isinstance(value, str):
        name = value.strip()
        whole = _WHOLE.fullmatch(name) if untyped else None
        if not name:
            raise BadValueError("the label is missing")
        return whole.group(1) if whole else name
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise BadValueError("the label is missing")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (int, float)):
        return str(value)
    hint = "; for several labels a text set task.multi_label: true" if isinstance(value, list) else ""
    raise BadValueError(f"{value!r} is no label: a string, number or boolean was expected{hint}")


def label_list(value: Any, untyped: bool = False) -> list[str]:
    """Write the labels of one text as strings, without repetition, in the order given.

    Args:
        value: A list. In an untyped file: a JSON list, or labels separated by ``|``; empty is none.
        untyped: See :func:`label_text`.

    Returns:
        Any number of labels, none included.

    Raises:
        BadValueError: It is missing or not such a list.
    """
    if untyped and isinstance(value, str):
        if value.strip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise BadValueError(f"{value!r} is not a JSON list ({error}); or write a|b") from error
        else:
            value = [part for part in value.split("|") if part.strip()]
    if value is None:
        raise BadValueError("the labels are missing; write [] for none")
    if not isinstance(value, list):
        raise BadValueError(f"{value!r} is not a list of labels")
    return list(dict.fromkeys(label_text(item, untyped) for item in value))


def _texts(table: Table, name: str) -> tuple[list[str], list[Problem]]:
    """Return the texts and the problems of rows whose text is missing, blank or no string."""
    values = table.columns[name]
    problems = []
    for row, value in enumerate(values):
        if value is None:
            problems.append(Problem(f"column '{name}': the text is missing", table.where(row)))
        elif not isinstance(value, str):
            problems.append(Problem(f"column '{name}': {value!r} is not a string", table.where(row)))
        elif spans_.is_blank(value):
            problems.append(Problem(f"column '{name}': the text is empty", table.where(row)))
    if problems:
        values = [value if isinstance(value, str) else "" for value in values]
    return values, problems


def _unlabelled(table: Table, kind: Kind, columns: Columns) -> Canonical:
    names = column_names(columns)
    has_text, has_words = names["text"] in table.names, names["words"] in table.names
    if has_words and (kind == "words" or not has_text):
        result = _pretokenised(table, names, columns)
        if kind == "text":
            result.columns = {"text": result.columns["text"]}
        return result
    if not has_text:
        return Canonical({}, [_missing(table, "text", names["text"])])
    texts, problems = _texts(table, names["text"])
    if kind == "text":
        return Canonical({"text": texts}, problems)
    bounds = [spans_.words(text) for text in texts]
    return Canonical({"text": texts, **_word_columns(texts, bounds)}, problems)


def _word_columns(texts: Sequence[str], bounds: Sequence[Sequence[tuple[int, int]]]) -> dict[str, list[Any]]:
    return {
        "words": [[text[start:end] for start, end in row] for text, row in zip(texts, bounds, strict=True)],
        "starts": [[start for start, _ in row] for row in bounds],
    }


def _ner(table: Table, columns: Columns, repair_tags: bool) -> Canonical:
    names = column_names(columns)
    has_spans = names["entities"] in table.names and columns.words is None and columns.tags is None
    if has_spans:
        if names["text"] not in table.names:
            return Canonical({}, [_missing(table, "text", names["text"])])
        return _from_entities(table, names)
    absent = [key for key in ("words", "tags") if names[key] not in table.names]
    if absent:
        hint = " (Or give text with a column 'entities': a list of {start, end, label}.)"
        return Canonical({}, [_missing(table, key, names[key], hint) for key in absent])
    result = _pretokenised(table, names, columns)
    _add_tags(result, table, names["tags"], repair_tags)
    return result


def _pretokenised(table: Table, names: dict[str, str], columns: Columns) -> Canonical:
    """Read lists of words.

    The text is the words joined by spaces, unless a text column is named in the recipe or the rows also have
    ``starts`` (they are canonical already): then each word is looked for in that text.
    """
    with_text = names["text"] in table.names and (columns.text is not None or "starts" in table.names)
    texts, problems = _texts(table, names["text"]) if with_text else ([], [])
    rows: list[list[str]] = []
    starts: list[list[int]] = []
    for row, value in enumerate(table.columns[names["words"]]):
        message = _words_message(value)
        if message:
            problems.append(Problem(message[0], table.where(row, message[1])))
            value = []
        rows.append(value)
        if not with_text:
            text, offsets = spans_.join(value)
            texts.append(text)
        else:
            offsets, lost = spans_.locate(texts[row], value)
            if lost is not None:
                problems.append(Problem(f"the word {value[lost]!r} is not in the text", table.where(row)))
        starts.append(offsets)
    return Canonical({"text": texts, "words": rows, "starts": starts}, problems)


def _words_message(value: Any) -> tuple[str, int] | None:
    """Return what is wrong with a list of words, and with which of them."""
    if not isinstance(value, list):
        return ("the words are missing" if value is None else f"the words are no list: {value!r:.60}"), 0
    if not value:
        return "the list of words is empty", 0
    for index, word in enumerate(value):
        if not isinstance(word, str):
            return f"word {index + 1} is no string: {word!r}", index
        if not word.strip():
            return f"word {index + 1} is empty", index
    return None


def _add_tags(result: Canonical, table: Table, name: str, repair_tags: bool) -> None:
    """Check tags, convert them to IOB2 and add them to the result, in place."""
    values = table.columns[name]
    usable = [_is_tags(value) for value in values]
    result.scheme = scheme = tags_.detect_scheme(value for value, ok in zip(values, usable, strict=True) if ok)
    converted: list[list[str]] = []
    for row, (value, words) in enumerate(zip(values, result.columns["words"], strict=True)):
        message = ""
        if not usable[row]:
            message = "the tags are missing" if value is None else f"the tags are no list of strings: {value!r:.60}"
        elif words and len(words) != len(value):
            message = f"{len(words)} words but {len(value)} tags"
        if message:
            result.problems.append(Problem(f"column '{name}': {message}", table.where(row)))
            converted.append([])
            continue
        broken = tags_.violations(value, scheme)
        if broken and repair_tags and not any("is not a tag" in text for _, text in broken):
            result.repaired += len(broken)
            converted.append(tags_.repair(value))
            continue
        for index, text in broken:
            offer = "" if "is not a tag" in text else ". To have such tags repaired, set data.repair_tags: true"
            result.problems.append(Problem(f"word {index + 1}: {text}{offer}", table.where(row, index)))
        converted.append([] if broken else tags_.to_iob2(value, scheme))
    result.columns["tags"] = converted


def _is_tags(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(tag, str) for tag in value)


def _from_entities(table: Table, names: dict[str, str]) -> Canonical:
    """Read text with spans of characters; words are split where a span ends beside punctuation."""
    texts, problems = _texts(table, names["text"])
    rows: list[list[tuple[int, int]]] = []
    tag_rows: list[list[str]] = []
    for row, (text, value) in enumerate(zip(texts, table.columns[names["entities"]], strict=True)):
        bounds = spans_.words(text)
        tags: list[str] = []
        try:
            found = _spans(value)
            messages = spans_.span_problems(text, found)
        except BadValueError as error:
            found, messages = [], [str(error)]
        if not messages:
            bounds, crossing = spans_.split_at(text, bounds, (s[side] for s in found for side in ("start", "end")))
            messages = [_crossing_message(text, found, border, word) for border, word in crossing.items()]
        if not messages:
            items = [text[start:end] for start, end in bounds]
            tags = tags_.from_spans(items, [start for start, _ in bounds], found)
        problems += [Problem(message, table.where(row)) for message in messages]
        rows.append(bounds)
        tag_rows.append(tags)
    return Canonical({"text": texts, **_word_columns(texts, rows), "tags": tag_rows}, problems)


def _spans(value: Any) -> list[Span]:
    """Bring the raw value of an ``entities`` column to spans; ``[start, end, label]`` is accepted, too."""
    if not isinstance(value, list):
        raise BadValueError(f"entities must be a list (empty for none), not {value!r:.60}")
    found: list[Span] = []
    for item in value:
        if isinstance(item, list) and len(item) == 3:
            item = dict(zip(("start", "end", "label"), item, strict=True))
        if not isinstance(item, dict) or not {"start", "end", "label"} <= item.keys():
            raise BadValueError(f"an entity must have start, end and label, not {item!r:.60}")
        start, end = item["start"], item["end"]
        if type(start) is not int or type(end) is not int:
            raise BadValueError(f"start and end of an entity must be whole numbers, not {start!r} and {end!r}")
        found.append({"start": start, "end": end, "label": label_text(item["label"])})
    return found


def _crossing_message(text: str, found: Sequence[Span], border: int, word: tuple[int, int]) -> str:
    span = next(item for item in found if border in (item["start"], item["end"]))
    side = "begins" if border == span["start"] else "ends"
    covered = text[span["start"] : span["end"]]
    return (
        f"span {span['start']}–{span['end']} '{span['label']}' ({covered!r:.60}) {side} "
        f"inside the word '{text[word[0] : word[1]]}'; give whole words"
    )
