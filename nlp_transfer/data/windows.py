"""Texts of any length as overlapping windows of subword tokens.

Every word is read, in training, evaluation and prediction: a text that does not fit into the model's window becomes
several windows that share ``stride`` tokens. Works with every fast tokenizer: words are found again through character
offsets, never through pre-split input, which byte-level tokenizers split differently from running text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .whole_words import word_numbers


@dataclass(frozen=True)
class Limits:
    """How texts are cut.

    Args:
        max_length: Tokens in a window, special tokens included.
        stride: Tokens that neighbouring windows of one text share.
        truncate: Keep only the first window of each text.
    """

    max_length: int
    stride: int = 32
    truncate: bool = False


@dataclass(frozen=True)
class Window:
    """One window of one text.

    Args:
        row: Index of the text.
        input_ids: Token ids, special tokens included.
        weight: 1/k where the text has k windows.
        positions: Token positions of the units of this window (NER: first subword of each word it answers for).
        words: Word index of each unit in its text.
        cut: The text goes on behind this window, and nobody reads it (``Limits.truncate``).
    """

    row: int
    input_ids: list[int]
    weight: float
    positions: np.ndarray
    words: np.ndarray
    cut: bool = False


EMPTY = np.zeros(0, dtype=np.int64)


def windows_of_texts(tokenizer: Any, texts: Sequence[str], limits: Limits) -> list[Window]:
    """Cut texts into windows.

    Args:
        tokenizer: A fast tokenizer.
        texts: N texts.
        limits: How to cut.

    Returns:
        At least one window a text, in the order of the texts.
    """
    raw = _encode(tokenizer, texts, limits, offsets=False)
    return [
        Window(row, window.input_ids, window.weight, EMPTY, EMPTY, window.cut)
        for row, of_row in enumerate(raw)
        for window in of_row
    ]


def windows_of_words(
    tokenizer: Any,
    texts: Sequence[str],
    starts: Sequence[Sequence[int]],
    ends: Sequence[Sequence[int]],
    limits: Limits,
) -> list[Window]:
    """Cut texts into windows and find the first subword of every word.

    A word in the overlap of two windows belongs to the one in which it stands further from the cut, and to that one
    only: it is one unit, however many windows show it. Words inside one token (``北京`` may be one token of two words)
    share its position.

    Args:
        tokenizer: A fast tokenizer.
        texts: N texts.
        starts: For each text, the character offset at which each word starts.
        ends: For each text, the offset after each word.
        limits: How to cut.

    Returns:
        Windows in the order of the texts. A word that the tokenizer drops altogether (a lone control character, say)
        has no unit.
    """
    windows: list[Window] = []
    for row, of_row in enumerate(_encode(tokenizer, texts, limits, offsets=True)):
        bounds = np.asarray(starts[row]), np.asarray(ends[row])
        candidates = [_first_pieces(window.offsets, texts[row], *bounds) for window in of_row]
        owners = _owners(candidates, [len(window.input_ids) for window in of_row])
        for number, window in enumerate(of_row):
            chosen = [(at, word) for at, word, _ in candidates[number] if owners[word] == number]
            at_words = np.array(chosen, dtype=np.int64).reshape(-1, 2)
            windows.append(Window(row, window.input_ids, window.weight, at_words[:, 0], at_words[:, 1], window.cut))
    return windows


def word_groups(tokenizer: Any, texts: Sequence[str], limits: Limits) -> list[np.ndarray]:
    """Return which tokens make up a word (:mod:`.whole_words`).

    Args:
        tokenizer: A fast tokenizer.
        texts: N texts.
        limits: How they are cut.

    Returns:
        For each window of :func:`windows_of_texts` or :func:`windows_of_words` the word number of each token; -1 for
        special tokens.
    """
    return [
        window.groups for of_row in _encode(tokenizer, texts, limits, offsets=True, groups=True) for window in of_row
    ]


def token_spans(tokenizer: Any, texts: Sequence[str], limits: Limits) -> list[np.ndarray]:
    """Return which characters each token stands for.

    Args:
        tokenizer: A fast tokenizer.
        texts: N texts.
        limits: How they are cut.

    Returns:
        For each window of :func:`windows_of_texts` or :func:`windows_of_words` the first character of each token and
        the one after its last, (T, 2); empty where a token was added to the text.
    """
    found = _encode(tokenizer, texts, limits, offsets=True)
    return [np.asarray(window.offsets, dtype=np.int64).reshape(-1, 2) for of_row in found for window in of_row]


@dataclass(frozen=True)
class _Raw:
    input_ids: list[int]
    offsets: list[tuple[int, int]]
    groups: np.ndarray
    weight: float
    cut: bool


def _encode(
    tokenizer: Any, texts: Sequence[str], limits: Limits, offsets: bool, groups: bool = False
) -> list[list[_Raw]]:
    """Return the windows of each text."""
    special = tokenizer.num_special_tokens_to_add(pair=False)
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=limits.max_length,
        stride=min(limits.stride, (limits.max_length - special) // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=offsets,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    indices: list[list[int]] = [[] for _ in texts]
    for index, row in enumerate(encoded["overflow_to_sample_mapping"]):
        indices[row].append(index)
    places = encoded["offset_mapping"] if offsets else [[]] * len(encoded["input_ids"])

    def words(row: int, index: int) -> np.ndarray:
        return np.array(word_numbers(texts[row], encoded.word_ids(index), places[index])) if groups else EMPTY

    windows = []
    for row, of_row in enumerate(indices):
        kept = of_row[:1] if limits.truncate else of_row
        weight, cut = 1.0 / len(kept), len(kept) < len(of_row)
        windows.append(
            [_Raw(encoded["input_ids"][index], places[index], words(row, index), weight, cut) for index in kept]
        )
    return windows


def _first_pieces(
    offsets: Sequence[tuple[int, int]], text: str, starts: np.ndarray, ends: np.ndarray
) -> list[tuple[int, int, int]]:
    """Return (token position, word, character where the token begins) of the first token of each word here."""
    found: dict[int, tuple[int, int, int]] = {}
    for at, (begin, end) in enumerate(offsets):
        # Byte-level and SentencePiece tokens may carry the space before the word.
        while begin < end and text[begin].isspace():
            begin += 1
        if begin == end or not len(starts):
            continue
        first = int(np.searchsorted(starts, begin, side="right")) - 1
        after = int(np.searchsorted(starts, end, side="left"))
        # SentencePiece may cover several words by one token, above all in scripts without spaces.
        for word in range(max(0, first), after):
            start = max(begin, int(starts[word]))
            if start < ends[word] and word not in found:
                found[word] = (at, word, start)
    return list(found.values())


def _owners(candidates: list[list[tuple[int, int, int]]], lengths: list[int]) -> dict[int, int]:
    """Decide which window answers for each word: only ones that hold its first piece, and the most central of these."""
    begins: dict[int, int] = {}
    for pieces in candidates:
        for _, word, begin in pieces:
            begins[word] = min(begin, begins.get(word, begin))
    best: dict[int, tuple[int, int]] = {}
    for number, pieces in enumerate(candidates):
        for at, word, begin in pieces:
            margin = min(at, lengths[number] - 1 - at)
            if begin == begins[word] and (word not in best or margin > best[word][0]):
                best[word] = (margin, number)
    return {word: number for word, (_, number) in best.items()}
