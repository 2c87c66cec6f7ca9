"""Words, pieces and lengths of a sample of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data import spans
from ..data.inspect import percentiles
from ..data.load import Split
from .result import Texts
from .vocabulary import pieces, pieces_of_words


def words_of(split: Split) -> list[list[str]]:
    """Return the words of each row that hold a letter or digit."""
    return [
        [text[start:end] for start, end in bounds if _counts(text[start:end])]
        for text, bounds in zip(split.rows["text"][:], word_bounds(split), strict=True)
    ]


def word_bounds(split: Split) -> list[list[tuple[int, int]]]:
    """Return start and end (exclusive) of each word of each row: the row's own words, or those of the text."""
    if "words" not in split.rows.column_names:
        return [spans.words(text) for text in split.rows["text"][:]]
    return [
        [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]
        for starts, words in zip(split.rows["starts"][:], split.rows["words"][:], strict=True)
    ]


def _counts(word: str) -> bool:
    return any(map(str.isalnum, word))


def describe(split: Split, total: int, encoded: int, tokenizer: Any, max_length: int) -> Texts:
    """Describe a sample.

    Args:
        split: The sample.
        total: Rows of the split that it was drawn from.
        encoded: Rows of the sample that the encoder read.
        tokenizer: A fast tokenizer.
        max_length: Tokens in a window of the run.
    """
    texts = split.rows["text"][:]
    given = tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    lengths = [len(ids) + tokenizer.num_special_tokens_to_add(pair=False) for ids in given["input_ids"]]
    words: list[str] = []
    counts: list[int] = []
    unknown: list[bool] = []
    rows = zip(texts, word_bounds(split), given["input_ids"], given["offset_mapping"], strict=True)
    for text, bounds, ids, offsets in rows:
        found = _pieces(text, bounds, ids, offsets, tokenizer.unk_token_id)
        words += [word for word, _, _ in found]
        counts += [count for _, count, _ in found]
        unknown += [lost for _, _, lost in found]
    longer = sum(length > max_length for length in lengths) / len(lengths)
    mean = sum(lengths) / len(lengths)
    return Texts(total, len(split), encoded, percentiles(lengths), mean, longer, pieces(words, counts, unknown))


def _pieces(
    text: str,
    bounds: Sequence[tuple[int, int]],
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    unknown_id: int | None,
) -> list[tuple[str, int, bool]]:
    """Return each word that holds a letter or digit, its number of pieces and whether one of them is unknown."""
    owners = pieces_of_words(offsets, text, [start for start, _ in bounds], [end for _, end in bounds])
    counts = [0] * len(bounds)
    lost = [False] * len(bounds)
    for token, owner in zip(ids, owners.tolist(), strict=True):
        if owner >= 0:
            counts[owner] += 1
            lost[owner] |= token == unknown_id
    named = [(text[start:end], count, miss) for (start, end), count, miss in zip(bounds, counts, lost, strict=True)]
    return [item for item in named if _counts(item[0])]
