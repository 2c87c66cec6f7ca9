"""What the data look like: sizes, labels, lengths, repeated texts, shared vocabulary and label gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy

from ..tables import text_table
from . import spans
from .load import Split
from .split import distinct_labels, normalise

if TYPE_CHECKING:
    from rich.table import Table

_LABELLED = ("classification", "multi_label", "ner")
PERCENTILES = (5, 50, 95)


def describe(
    splits: Mapping[str, Split],
    lengths: Callable[[list[str]], list[int]] | None = None,
    max_length: int | None = None,
) -> dict[str, Any]:
    """Describe splits, one by one and against each other.

    Args:
        splits: Splits by role, such as ``source.train`` (of several source domains ``source.books.train``) and
            ``target.test``. Roles that hold ``source`` or ``target`` as a part of the key are compared with each other.
        lengths: Number of subword tokens of each text, special tokens included; words alone are counted
            without.
        max_length: Longest input in those tokens.

    Returns:
        Plain values for JSON: ``splits`` by role (``rows``, ``labels``: rows or entities by label, ``words``
        and ``tokens``: 5th, 50th and 95th percentile and maximum, ``longer``: share of rows longer than
        ``max_length``, ``duplicates``: rows whose text occurred before in the split, …), ``shared_texts``
        (pairs of splits with texts in common), ``vocabulary`` (share of each target split's words, counted
        with repetition, that occur in the source; of several sources also ``by_source``) and ``label_gaps`` (against
        all training rows).
    """
    words = {role: _words(split) for role, split in splits.items()}
    texts = {role: _texts(split) for role, split in splits.items()}
    return {
        "max_length": max_length,
        "splits": {role: _describe_one(split, words[role], lengths, max_length) for role, split in splits.items()},
        "shared_texts": _shared_texts(splits, texts),
        "vocabulary": _vocabulary(words),
        "label_gaps": _label_gaps(splits),
    }


def _words(split: Split) -> list[list[str]]:
    if "words" in split.rows.column_names:
        return list(split.rows["words"][:])
    return [[text[start:end] for start, end in spans.words(text)] for text in split.rows["text"][:]]


def _texts(split: Split) -> dict[str, int]:
    """Return the first row of each normalised text."""
    first: dict[str, int] = {}
    for row, text in enumerate(split.rows["text"][:]):
        first.setdefault(normalise(text), row)
    return first


def _describe_one(
    split: Split,
    words: Sequence[Sequence[str]],
    lengths: Callable[[list[str]], list[int]] | None,
    max_length: int | None,
) -> dict[str, Any]:
    tokens = None if lengths is None else lengths(list(split.rows["text"][:]))
    longer = None
    if tokens is not None and max_length is not None:
        longer = sum(length > max_length for length in tokens) / len(tokens)
    return {
        "name": split.name,
        "origin": split.origin,
        "fingerprint": split.fingerprint,
        "kind": split.kind,
        "rows": len(split),
        "labels": _label_counts(split),
        "words": percentiles([len(row) for row in words]),
        "tokens": None if tokens is None else percentiles(tokens),
        "longer": longer,
        "duplicates": len(split) - len(_texts(split)),
        "skipped_blank": split.skipped_blank,
        "repaired": split.repaired,
        "dropped_labels": split.dropped_labels,
        "scheme": split.scheme,
    }


def _label_counts(split: Split) -> dict[str, int] | None:
    """Count rows by label, for NER entities by type; ``None`` where the rows have no labels."""
    if split.kind not in _LABELLED:
        return None
    if split.kind == "classification":
        counts = Counter(split.rows["label"][:])
    elif split.kind == "multi_label":
        counts = Counter(label for labels in split.rows["labels"][:] for label in labels)
    else:
        counts = Counter(tag[2:] for tags in split.rows["tags"][:] for tag in tags if tag.startswith("B-"))
    return {label: counts[label] for label in sorted(counts)}


def percentiles(values: Sequence[int]) -> dict[str, int]:
    """Return the 5th, 50th and 95th percentile and the maximum of some lengths, by name."""
    cuts = numpy.percentile(numpy.asarray(values), PERCENTILES, method="inverted_cdf")
    return {**{f"p{q}": int(cut) for q, cut in zip(PERCENTILES, cuts, strict=True)}, "max": int(max(values))}


def _shared_texts(splits: Mapping[str, Split], texts: Mapping[str, dict[str, int]]) -> list[dict[str, Any]]:
    found = []
    for one, two in combinations(splits, 2):
        shared = [text for text in texts[one] if text in texts[two]]
        if shared:
            example = [splits[role].locate(texts[role][shared[0]]) for role in (one, two)]
            found.append({"splits": [one, two], "texts": len(shared), "example": example})
    return found


def _vocabulary(words: Mapping[str, Sequence[Sequence[str]]]) -> list[dict[str, Any]]:
    """Compare case-folded words that hold a letter or digit; punctuation would raise every share."""
    counts = {
        role: Counter(word.casefold() for row in rows for word in row if any(map(str.isalnum, word)))
        for role, rows in words.items()
    }
    sources: dict[str, set[str]] = {}
    for role, counter in counts.items():
        if _side(role) == "source":
            sources.setdefault(role.rpartition(".")[0].removeprefix("source."), set()).update(counter)
    found: list[dict[str, Any]] = []
    for role, counter in counts.items():
        total = sum(counter.values())
        if _side(role) == "target" and total and any(sources.values()):
            seen = {name: _share_seen(counter, words) for name, words in sources.items()}
            together = _share_seen(counter, set().union(*sources.values()))
            by_source = {"by_source": seen} if len(sources) > 1 else {}
            found.append({"split": role, "words_seen_in_source": together} | by_source)
    return found


def _side(role: str) -> str | None:
    """Return whether a role is one of the source or of the target; a source domain may be called anything."""
    return next((part for part in role.split(".") if part in ("source", "target")), None)


def _share_seen(counts: Counter[str], known: set[str]) -> float:
    return sum(count for word, count in counts.items() if word in known) / sum(counts.values())


def _label_gaps(splits: Mapping[str, Split]) -> list[dict[str, Any]]:
    labels = {role: set(distinct_labels(split)) for role, split in splits.items() if split.kind in _LABELLED}
    trains = [role for role in labels if role.endswith(".train")]
    if not trains:
        return []
    known = set().union(*(labels[role] for role in trains))
    return [
        {"split": role, "not_in_training": sorted(own - known), "missing": sorted(known - own)}
        for role, own in labels.items()
        if own != known
    ]


def render(description: Mapping[str, Any]) -> list[Table]:
    """Draw a description as tables for the terminal.

    Args:
        description: From :func:`describe`.

    Returns:
        Tables of the splits, their labels and, where there is something to show, of vocabulary, texts in
        common and label gaps.
    """
    tables = [_split_table(description)]
    labelled = {role: one["labels"] for role, one in description["splits"].items() if one["labels"] is not None}
    if labelled:
        names = sorted({label for counts in labelled.values() for label in counts})
        rows = [[name, *(f"{counts.get(name, 0):,}" for counts in labelled.values())] for name in names]
        tables.append(text_table("Labels", ["label", *labelled], rows))
    if description["vocabulary"]:
        by_source = [gap.get("by_source", {}) for gap in description["vocabulary"]]
        rows = [
            [gap["split"], *(f"{share:.1%}" for share in (gap["words_seen_in_source"], *apart.values()))]
            for gap, apart in zip(description["vocabulary"], by_source, strict=True)
        ]
        header = ["split", "words seen in the source", *(f"in {name}" for name in by_source[0])]
        tables.append(text_table("Vocabulary", header, rows))
    if description["shared_texts"]:
        rows = [
            [" & ".join(pair["splits"]), f"{pair['texts']:,}", " = ".join(pair["example"])]
            for pair in description["shared_texts"]
        ]
        tables.append(text_table("Texts that two splits share", ["splits", "texts", "for example"], rows))
    if description["label_gaps"]:
        rows = [
            [gap["split"], ", ".join(gap["not_in_training"]), ", ".join(gap["missing"])]
            for gap in description["label_gaps"]
        ]
        tables.append(text_table("Label gaps", ["split", "not in training", "missing here"], rows))
    return tables


def _split_table(description: Mapping[str, Any]) -> Table:
    longer = f"> {description['max_length']}"
    rows = []
    for role, one in description["splits"].items():
        share = "–" if one["longer"] is None else f"{one['longer']:.1%}"
        rows.append(
            [
                role,
                f"{one['rows']:,}",
                _span(one["words"]),
                _span(one["tokens"]),
                share,
                str(one["duplicates"]),
            ]
        )
    header = ["split", "rows", "words 5·50·95 % max", "tokens 5·50·95 % max", longer, "duplicates"]
    if description["max_length"] is None:
        header, rows = [*header[:4], header[5]], [[*row[:4], row[5]] for row in rows]
    return text_table("Splits", header, rows)


def _span(lengths: Mapping[str, int] | None) -> str:
    return "–" if lengths is None else " · ".join(str(value) for value in lengths.values())
