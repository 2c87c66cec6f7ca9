"""Which words the domains share, and how a tokenizer copes with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Words that the domains share; case does not count.

    Args:
        source_types: Different words of the source sample.
        target_types: Different words of the target sample.
        shared_types: Different words of both ÷ different words of either (Jaccard).
        unseen: Running words of the target that do not occur in the source (out-of-vocabulary rate).
        unseen_at_home: The same rate for held-out source rows: what is to be expected without any change of domain.
        most_unseen: The most frequent unseen words with their counts.
    """

    source_types: int
    target_types: int
    shared_types: float
    unseen: float
    unseen_at_home: float
    most_unseen: list[tuple[str, int]]


@dataclass(frozen=True)
class Pieces:
    """How a tokenizer cuts the words of a domain.

    Args:
        per_word: Subword pieces per word, at least 1 for most tokenizers.
        split_words: Share of running words that are cut into several pieces.
        unknown_words: Share of running words that hold a piece the tokenizer does not know.
        worst: The words that cost the most extra pieces over all: word, pieces, count. Words of letters and digits
            only: in others it is the apostrophe or hyphen that costs.
    """

    per_word: float
    split_words: float
    unknown_words: float
    worst: list[tuple[str, int, int]]


def overlap(
    source: Iterable[Sequence[str]], held_out: Iterable[Sequence[str]], target: Iterable[Sequence[str]], show: int = 8
) -> Overlap:
    """Compare the words of two domains.

    Args:
        source: Words of each source row.
        held_out: Words of other source rows, the yardstick.
        target: Words of each target row.
        show: Unseen words that are listed.

    Returns:
        The comparison. A side without words has rates of 0.
    """
    seen, home, away = (Counter(word.casefold() for row in rows for word in row) for rows in (source, held_out, target))
    unseen = Counter({word: count for word, count in away.items() if word not in seen})
    either = len(seen.keys() | away.keys())
    rate = _share(unseen.total(), away.total())
    return Overlap(
        source_types=len(seen),
        target_types=len(away),
        shared_types=_share(len(seen.keys() & away.keys()), either),
        unseen=rate,
        unseen_at_home=_share(sum(count for word, count in home.items() if word not in seen), home.total()),
        most_unseen=sorted(unseen.items(), key=lambda item: (-item[1], item[0]))[:show],
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def pieces(words: Sequence[str], counts: Sequence[int], unknown: Sequence[bool], show: int = 8) -> Pieces:
    """Sum up how words are cut.

    Args:
        words: Running words.
        counts: Pieces of each of them.
        unknown: Whether one of the pieces is the unknown token.
        show: Words that are listed.

    Returns:
        Rates over the running words; 0 where there are none.
    """
    total = len(words)
    extra: Counter[str] = Counter()
    times: Counter[str] = Counter()
    most: dict[str, int] = {}
    for word, count in zip(words, counts, strict=True):
        if count > 1 and word.isalnum():
            extra[word] += count - 1
            times[word] += 1
            most[word] = max(count, most.get(word, 0))
    worst = sorted(extra, key=lambda word: (-extra[word], -most[word], word))[:show]
    return Pieces(
        per_word=_share(sum(counts), total),
        split_words=_share(sum(count > 1 for count in counts), total),
        unknown_words=_share(sum(unknown), total),
        worst=[(word, most[word], times[word]) for word in worst],
    )


def pieces_of_words(
    offsets: Sequence[tuple[int, int]], text: str, starts: Sequence[int], ends: Sequence[int]
) -> np.ndarray:
    """Return to which word each piece belongs: the index of the word it begins in, or -1.

    Args:
        offsets: Characters that each piece covers.
        text: The text.
        starts: Character at which each word starts.
        ends: Character after each word.
    """
    if not len(starts) or not len(offsets):
        return np.full(len(offsets), -1)
    # Byte-level and SentencePiece pieces may carry the space before the word.
    begins = np.array([end - len(text[begin:end].lstrip()) for begin, end in offsets])
    found = np.searchsorted(np.asarray(starts), begins, side="right") - 1
    inside = (found >= 0) & (begins < np.asarray(ends)[found]) & (begins < np.array([end for _, end in offsets]))
    return np.where(inside, found, -1)
