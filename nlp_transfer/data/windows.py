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
    """

    row: int
    input_ids: list[int]
    weight: float
    positions: np.ndarray
    words: np.ndarray


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
    encoded, rows = _encode(tokenizer, texts, limits, offsets=False)
    counts = np.bincount(rows, minlength=len(texts))
    return [
        Window(int(row), ids, 1.0 / counts[row], EMPTY, EMPTY)
        for row, ids in zip(rows, encoded["input_ids"], strict=True)
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
    only: it is one unit, however many windows show it.

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
    encoded, rows = _encode(tokenizer, texts, limits, offsets=True)
    windows: list[Window] = []
    bounds = np.searchsorted(rows, np.arange(len(texts) + 1))
    for row, text in enumerate(texts):
        indices = range(bounds[row], bounds[row + 1])
        candidates = [
            _first_pieces(encoded["offset_mapping"][index], text, np.asarray(starts[row]), np.asarray(ends[row]))
            for index in indices
        ]
        owners = _owners(candidates, [len(encoded["input_ids"][index]) for index in indices])
        for number, index in enumerate(indices):
            chosen = [(at, word) for at, word, _ in candidates[number] if owners[word] == number]
            at, words = (
                (np.array(column, dtype=np.int64) for column in zip(*chosen, strict=True)) if chosen else (EMPTY, EMPTY)
            )
            windows.append(Window(row, encoded["input_ids"][index], 1.0 / len(indices), at, words))
    return windows


def _encode(tokenizer: Any, texts: Sequence[str], limits: Limits, offsets: bool) -> tuple[Any, np.ndarray]:
    special = tokenizer.num_special_tokens_to_add(pair=False)
    stride = min(limits.stride, (limits.max_length - special) // 2)
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=limits.max_length,
        stride=0 if limits.truncate else stride,
        return_overflowing_tokens=not limits.truncate,
        return_offsets_mapping=offsets,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    rows = encoded.get("overflow_to_sample_mapping", range(len(texts)))
    return encoded, np.asarray(rows, dtype=np.int64)


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
        word = int(np.searchsorted(starts, begin, side="right")) - 1
        if word >= 0 and begin < ends[word] and word not in found:
            found[word] = (at, word, begin)
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
