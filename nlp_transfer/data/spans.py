"""Words of raw text, and spans of characters over them.

The rule of :func:`words`, in this order:

1. Abbreviations keep their periods: ``U.S.``, ``U.S``, ``Ph.D.``, ``e.g.``.
2. A run of letters, digits and marks of a script that puts spaces between words is a word. Inside it, between
   two of them, these are kept: one hyphen or apostrophe (``state-of-the-art``, ``don't``), an underscore, a
   middle dot, a soft hyphen, a zero-width joiner; a comma between digits (``1,200.5``); a period between
   digits or before a small letter (``example.com``; ``end.Next`` is three words).
3. A character of a script without spaces (Han, kana, Thai, Lao, Khmer, Burmese) is a word, with its marks.
4. Any other visible character is a word, with its marks (``$``, ``?``, an emoji sequence).

Space, control and stand-alone format characters (zero-width space, byte order mark) belong to no word; every
other character belongs to exactly one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypedDict

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_ALNUM = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]"
_INNER = (
    r"[-\u2010\u2011'\u2019_\u00B7\u00AD\u200C\u200D]"  # hyphens, apostrophes, joiners
    r"|(?<=\p{N})[.,](?=\p{N})"
    r"|\.(?=[\p{Ll}\p{N}])"
)
_VISIBLE = r"[^\s\p{Cc}\p{Cf}] [\p{M}\U0001F3FB-\U0001F3FF]*+"  # with marks and skin tones
_WORD = regex.compile(
    rf"""
    (?: (?:\p{{Lu}}\p{{Ll}}?\.){{2,}} | (?:\p{{Ll}}\.){{2,}} | (?:\p{{Lu}}\.)+\p{{Lu}} ) (?!{_ALNUM})
  | {_ALNUM}++ (?: (?:{_INNER}) {_ALNUM}++ )*+
  | [{_UNSPACED}] \p{{M}}*+
  | \p{{Regional_Indicator}}{{2}}
  | {_VISIBLE} (?: \u200D {_VISIBLE} )*+
    """,
    regex.VERBOSE | regex.VERSION1,
)
_ANYTHING = regex.compile(r"[^\s\p{Cc}\p{Cf}]")


class Span(TypedDict):
    """A labelled stretch of text: code points ``start`` (inclusive) to ``end`` (exclusive)."""

    start: int
    end: int
    label: str


def words(text: str) -> list[tuple[int, int]]:
    """Split raw text into words; the rule is in the module's docstring.

    Args:
        text: Any text.

    Returns:
        Start and end (exclusive) of each word, in code points, in order and without overlap.
    """
    return [match.span() for match in _WORD.finditer(text)]


def is_blank(text: str) -> bool:
    """Tell whether a text shows nothing: empty, or only space, control and format characters."""
    return _ANYTHING.search(text) is None


def join(items: Sequence[str]) -> tuple[str, list[int]]:
    """Join words by single spaces.

    Args:
        items: The words of one row.

    Returns:
        The text, and the offset of each word in it.
    """
    starts: list[int] = []
    position = 0
    for item in items:
        starts.append(position)
        position += len(item) + 1
    return " ".join(items), starts


def locate(text: str, items: Sequence[str]) -> tuple[list[int], int | None]:
    """Find words in a text, one after the other.

    Args:
        text: The text.
        items: Its words in order.

    Returns:
        The offsets found, and the index of the first word that is not there (``None`` when all are).
    """
    starts: list[int] = []
    position = 0
    for index, item in enumerate(items):
        start = text.find(item, position)
        if start < 0:
            return starts, index
        starts.append(start)
        position = start + len(item)
    return starts, None


def split_at(
    text: str, bounds: Sequence[tuple[int, int]], borders: Iterable[int]
) -> tuple[list[tuple[int, int]], dict[int, tuple[int, int]]]:
    """Split words where a span begins or ends beside punctuation (``Berlin`` in ``Berlin-based``).

    Args:
        text: The text.
        bounds: Start and end of each word, as from :func:`words`.
        borders: Offsets at which spans begin or end.

    Returns:
        The bounds after splitting; and the borders that fall between two letters, digits or marks, which are
        not split, each with the bounds of the word that it crosses.
    """
    pending = sorted(set(borders), reverse=True)
    pieces: list[tuple[int, int]] = []
    crossing: dict[int, tuple[int, int]] = {}
    for start, end in bounds:
        while pending and pending[-1] <= start:
            pending.pop()
        begin = start
        while pending and pending[-1] < end:
            border = pending.pop()
            if _alphanumeric(text[border - 1]) and _alphanumeric(text[border]):
                crossing[border] = (start, end)
            else:
                pieces.append((begin, border))
                begin = border
        pieces.append((begin, end))
    return pieces, crossing


def _alphanumeric(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def span_problems(text: str, spans: Sequence[Span]) -> list[str]:
    """List what is wrong with spans as such, before any words are looked at.

    Args:
        text: The text they belong to.
        spans: Its spans.

    Returns:
        One message for each span that is empty, out of range, blank, or overlaps the one before it.
    """
    found: list[str] = []
    previous: Span | None = None
    for span in sorted(spans, key=lambda item: (item["start"], item["end"])):
        name = f"span {span['start']}–{span['end']} '{span['label']}'"
        if span["start"] >= span["end"]:
            found.append(f"{name} does not start before its end")
        elif span["start"] < 0 or span["end"] > len(text):
            found.append(f"{name} is out of range; the text has {len(text)} characters")
        elif is_blank(text[span["start"] : span["end"]]):
            found.append(f"{name} covers no word, only space")
        elif previous is not None and span["start"] < previous["end"]:
            other = f"span {previous['start']}–{previous['end']} '{previous['label']}'"
            found.append(f"{name} overlaps {other}; nested and overlapping entities are not supported")
        else:
            previous = span
    return found
