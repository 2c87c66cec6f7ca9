"""The rows that adaptation fixed, and those that it broke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.tags import to_spans
from ..metrics import entity_counts
from ..predictions import answer_of
from .slices import Rows

SHOWN = 8
"""Examples of a kind that are shown."""
LONGEST = 400
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text.

    Args:
        text: The text.
        label: Type of the entity that it is; empty outside of entities.
    """

    text: str
    label: str = ""


@dataclass(frozen=True)
class Reading:
    """What one side says of a row.

    Args:
        by: ``gold``, or the model.
        label: The answer in words; empty for entities.
        pieces: The text with its entities marked; empty for labels of whole texts.
    """

    by: str
    label: str
    pieces: list[Piece]


@dataclass(frozen=True)
class Example:
    """A row that the two models read differently.

    Args:
        row: Its number in the split, from 0.
        text: The text, cut at :data:`LONGEST`; empty where the readings show it.
        readings: Gold first, then the models.
    """

    row: int
    text: str
    readings: list[Reading]


@dataclass(frozen=True)
class Changes:
    """What became of the rows of a split.

    Args:
        fixed: Rows with fewer mistakes after adaptation; those with the largest change.
        broken: Rows with more.
        counts: Number of rows that were ``fixed``, ``broken``, that both models get right (``right``), and the others,
            which both get wrong alike (``wrong``).
    """

    fixed: list[Example]
    broken: list[Example]
    counts: dict[str, int]


def changes(before: Rows, after: Rows, kind: str, names: Sequence[str]) -> Changes:
    """Compare the answers of two models row by row.

    A mistake is a wrong label; for several labels each that is missing or too much; for NER each entity that is.

    Args:
        before: Scored rows of the first model.
        after: The same rows, scored by the second.
        kind: What the task labels: ``classification``, ``multi_label`` or ``ner``.
        names: What the two models are called.
    """
    first, second = (_mistakes(rows, kind) for rows in (before, after))
    difference = [was - now for was, now in zip(first, second, strict=True)]
    # The largest change first; of equal ones the first in the file.
    order = sorted(range(len(difference)), key=lambda row: -abs(difference[row]))
    fixed, broken = ([row for row in order if sign * difference[row] > 0] for sign in (1, -1))
    right = sum(was == now == 0 for was, now in zip(first, second, strict=True))
    counts = {"fixed": len(fixed), "broken": len(broken), "right": right}
    counts["wrong"] = len(difference) - sum(counts.values())

    def shown(rows: list[int]) -> list[Example]:
        return [_example(row, {names[0]: before[row], names[1]: after[row]}) for row in rows[:SHOWN]]

    return Changes(shown(fixed), shown(broken), counts)


def _mistakes(rows: Rows, kind: str) -> list[int]:
    gold, given = [row["gold"] for row in rows], [answer_of(row) for row in rows]
    if kind == "ner":
        hits_N, predicted_N, gold_N = entity_counts(gold, given).T
        return list((predicted_N + gold_N - 2 * hits_N).tolist())
    if kind == "classification":
        return [int(truth != answer) for truth, answer in zip(gold, given, strict=True)]
    return [len(set(truth) ^ set(answer)) for truth, answer in zip(gold, given, strict=True)]


def _example(number: int, answers: Mapping[str, dict[str, Any]]) -> Example:
    row = next(iter(answers.values()))
    if "words" in row:
        sides = {"gold": row["gold"]} | {name: answer_of(given) for name, given in answers.items()}
        begin = _window(row, *list(sides.values())[1:])
        return Example(number, "", [_tagged(by, row, tags, begin) for by, tags in sides.items()])
    readings = [Reading("gold", _joined(row["gold"]), [])]
    readings += [Reading(name, f"{_joined(answer_of(given))}{_sure(given)}", []) for name, given in answers.items()]
    return Example(number, _cut(row["text"]), readings)


def _joined(answer: str | list[str]) -> str:
    return answer if isinstance(answer, str) else ", ".join(answer) or "no label"


def _sure(row: dict[str, Any]) -> str:
    return f" ({row['score']:.0%})" if "score" in row else ""


def _cut(text: str, begin: int = 0) -> str:
    end = begin + LONGEST
    return f"{'… ' if begin else ''}{text[begin:end]}{' …' if end < len(text) else ''}"


def _window(row: dict[str, Any], before: Sequence[str], after: Sequence[str]) -> int:
    """Return where the shown part of a sentence begins: a little before the first word that is read differently."""
    if len(row["text"]) <= LONGEST:
        return 0
    pairs = zip(row["words"], before, after, strict=True)
    first = next(word["start"] for word, was, now in pairs if was != now)
    return max(0, first - LONGEST // 4)


def _tagged(by: str, row: dict[str, Any], tags: Sequence[str], begin: int) -> Reading:
    """Mark the entities in the shown part of a sentence."""
    text, words = row["text"], row["words"]
    end = min(len(text), begin + LONGEST)
    spans = to_spans([word["word"] for word in words], [word["start"] for word in words], tags)
    pieces, done = [Piece("… " if begin else "")], begin
    for span in spans:
        start, stop = max(begin, span["start"]), min(end, span["end"])
        if start < stop:
            pieces += [Piece(text[done:start]), Piece(text[start:stop], span["label"])]
            done = stop
    pieces += [Piece(text[done:end]), Piece(" …" if end < len(text) else "")]
    return Reading(by, "", [piece for piece in pieces if piece.text])
