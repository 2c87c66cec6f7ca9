"""Tag schemes of named entities: detection, conversion to IOB2, violations, repair, and spans of characters.

A tag is ``O`` or ``<prefix>-<type>``; the type may hold hyphens. Three schemes are read:

- IOB2: every entity begins with ``B-``.
- IOB1: an entity begins with ``I-``; ``B-`` stands only between two neighbouring entities of one type.
- BIOES, also spelled BILOU: the last word of an entity is ``E-`` (``L-``), a single word ``S-`` (``U-``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from .spans import Span

Scheme = Literal["IOB2", "IOB1", "BIOES"]

OUTSIDE = "O"
_PREFIXES: dict[str, str] = {"IOB2": "BI", "IOB1": "BI", "BIOES": "BIESLU"}
_BEGINS = "BSU"
_ENDS = "ESLU"


def entity_type(tag: str) -> str:
    """Return the entity type of a tag (``"PER"`` for ``"B-PER"``), or ``""`` for ``O`` and malformed tags."""
    return _parse(tag)[1]


def _parse(tag: str) -> tuple[str, str]:
    """Split a tag into prefix and type; ``("O", "")`` outside, ``("", "")`` where it is not a tag at all."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, _, kind = tag.partition("-")
    if len(prefix) != 1 or prefix not in _PREFIXES["BIOES"] or not kind:
        return "", ""
    return prefix, kind


def detect_scheme(tag_lists: Iterable[Sequence[str]]) -> Scheme:
    """Tell which scheme a whole file is written in.

    Any ``S- E- L- U-`` makes it BIOES. Otherwise it is IOB1 when entities begin with ``I-`` somewhere and no
    ``B-`` stands where IOB1 has no use for one; a file in which both occur is IOB2 with violations.

    Args:
        tag_lists: The tags of every sentence of the file.

    Returns:
        The scheme; IOB2 when nothing speaks against it.
    """
    inside_starts = free_begins = False
    for tags in tag_lists:
        previous = ""
        for tag in tags:
            prefix, kind = _parse(tag)
            if prefix and prefix in "ESLU":
                return "BIOES"
            if kind != previous:
                inside_starts |= prefix == "I"
                free_begins |= prefix == "B"
            previous = kind
    return "IOB1" if inside_starts and not free_begins else "IOB2"


def violations(tags: Sequence[str], scheme: Scheme = "IOB2") -> list[tuple[int, str]]:
    """List the places where tags break their scheme.

    Args:
        tags: The tags of one sentence, as written in the file.
        scheme: The scheme they claim to follow.

    Returns:
        Pairs of word index and message, in order; empty when the tags are right.
    """
    found: list[tuple[int, str]] = []
    open_kind = ""
    for index, tag in enumerate(tags):
        prefix, kind = _parse(tag)
        before = f"'{tags[index - 1]}'" if index else "the start of the sentence"
        if not prefix or (prefix != OUTSIDE and prefix not in _PREFIXES[scheme]):
            letters = ", ".join(f"{letter}-<type>" for letter in _PREFIXES[scheme])
            found.append((index, f"'{tag}' is not a tag; allowed are O, {letters}"))
            open_kind = ""
            continue
        continues = prefix in "IEL"
        if continues and kind != open_kind and scheme != "IOB1":
            found.append((index, f"'{tag}' follows {before}; {scheme} begins an entity with 'B-{kind}'"))
        elif scheme == "BIOES" and open_kind and not (continues and kind == open_kind):
            found.append((index, f"'{tag}' follows {before}, which {scheme} must close with 'E-' or 'L-'"))
        open_kind = "" if scheme == "BIOES" and prefix in _ENDS else kind
    if scheme == "BIOES" and open_kind:
        found.append((len(tags) - 1, f"'{tags[-1]}' is the last tag; {scheme} must close its entity"))
    return found


def repair(tags: Sequence[str]) -> list[str]:
    """Make IOB2 tags from tags of any scheme, an entity beginning wherever one cannot continue (as in IOB1).

    ``O I-PER`` becomes ``O B-PER``; ``B-PER I-LOC`` becomes ``B-PER B-LOC``. Nothing is deleted.

    Args:
        tags: Well-formed tags (each has a known prefix and a type).

    Returns:
        As many valid IOB2 tags.

    Raises:
        ValueError: A tag is malformed.
    """
    repaired: list[str] = []
    open_kind = ""
    for tag in tags:
        prefix, kind = _parse(tag)
        if not prefix:
            raise ValueError(f"{tag!r} is not a tag")
        if prefix == OUTSIDE:
            repaired.append(OUTSIDE)
        else:
            begins = prefix in _BEGINS or kind != open_kind
            repaired.append(f"{'B' if begins else 'I'}-{kind}")
        open_kind = "" if prefix in _ENDS else kind
    return repaired


def to_iob2(tags: Sequence[str], scheme: Scheme | None = None) -> list[str]:
    """Convert tags to IOB2. Violations are not looked for here, see :func:`violations`.

    Args:
        tags: The tags of one sentence.
        scheme: Their scheme; by default detected from this one sentence, which is weaker than from a file.

    Returns:
        As many tags; IOB2 comes back as it is.
    """
    scheme = detect_scheme([tags]) if scheme is None else scheme
    return list(tags) if scheme == "IOB2" else repair(tags)


def from_spans(words: Sequence[str], starts: Sequence[int], spans: Iterable[Span]) -> list[str]:
    """Write spans of characters as IOB2 tags of words.

    Args:
        words: The words of one text.
        starts: Character offset of each word.
        spans: Spans that neither overlap nor cross a word; space at their borders does not matter.

    Returns:
        One tag for each word.

    Raises:
        ValueError: A span crosses a word, overlaps another or covers no word.
    """
    tags = [OUTSIDE] * len(words)
    index = end = 0
    for span in sorted(spans, key=lambda item: (item["start"], item["end"])):
        if span["start"] < end:
            raise ValueError(f"span {span} overlaps the one before it")
        end = span["end"]
        while index < len(words) and starts[index] + len(words[index]) <= span["start"]:
            index += 1
        first = index
        while index < len(words) and starts[index] < span["end"]:
            crosses = starts[index] < span["start"] or starts[index] + len(words[index]) > span["end"]
            if crosses:
                raise ValueError(f"span {span} crosses the word {words[index]!r}")
            tags[index] = f"{'B' if index == first else 'I'}-{span['label']}"
            index += 1
        if index == first:
            raise ValueError(f"span {span} covers no word")
    return tags


def to_spans(words: Sequence[str], starts: Sequence[int], tags: Sequence[str]) -> list[Span]:
    """Write IOB2 tags of words as spans of characters.

    Args:
        words: The words of one text.
        starts: Character offset of each word.
        tags: One IOB2 tag for each word; an inside tag without a beginning begins a span.

    Returns:
        The spans in order; ``end`` is exclusive.
    """
    spans: list[Span] = []
    for word, start, tag in zip(words, starts, repair(tags), strict=True):
        prefix, kind = _parse(tag)
        if prefix == "B":
            spans.append({"start": start, "end": start + len(word), "label": kind})
        elif prefix == "I":
            spans[-1]["end"] = start + len(word)
    return spans
