"""Further merges for byte-level BPE: its training goes on, on target text, from where it stopped.

In each step the pair of neighbouring pieces that occurs most often becomes a piece (Sennrich et al. 2016, arXiv
1508.07909, algorithm 1), which shortens the text by that number of tokens. The new merges come after all old ones, so
text is first cut as before, and then joined. An added token would not do: a space is a part of the word after it here,
which such a token splits off.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Any

from ..errors import ModelError
from .new_tokens import LETTERS, NewTokens, pretokens, state_of, with_state

Pair = tuple[str, str]


def extended(tokenizer: Any, texts: Iterable[str], count: int) -> tuple[Any, NewTokens]:
    """Return a copy of a BPE tokenizer with merges learned from texts; see :func:`.extend.extended`.

    Raises:
        ModelError: It marks the inside or the end of words, or is not byte-level.
    """
    state = state_of(tokenizer)
    model = state["model"]
    marks = model["continuing_subword_prefix"] or model["end_of_word_suffix"]
    if marks or "ByteLevel" not in json.dumps(state["pre_tokenizer"]):
        raise ModelError(
            "model.extend_vocabulary works with byte-level BPE (RoBERTa, ModernBERT), and this BPE marks its pieces in "
            "another way. Leave the setting out."
        )
    # With the added tokens: beside a longer vocabulary of the model they would be given other ids.
    known = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    counts = Counter(word for word, plain in pretokens(tokenizer, texts) if LETTERS.fullmatch(plain.strip()))
    cut = {word: [piece.value for piece in tokenizer.backend_tokenizer.model.tokenize(word)] for word in counts}
    pairs = learn_merges(cut, counts, count, known)
    parts = {token: [number] for token, number in known.items()}
    for left, right in pairs:
        parts[left + right] = parts[left] + parts[right]
    model["vocab"] = {token: number for number, token in enumerate(parts)}
    model["merges"] += [list(pair) for pair in pairs]
    return with_state(tokenizer, state), {left + right: parts[left + right] for left, right in pairs}


def learn_merges(
    cut: Mapping[str, list[str]], counts: Mapping[str, int], count: int, known: Collection[str] = ()
) -> list[Pair]:
    """Return the pairs that byte-pair encoding joins, the first one first.

    Args:
        cut: Words with their pieces so far.
        counts: How often each word occurs.
        count: How many pairs at most; a pair must occur twice.
        known: Pieces that no pair may make again.
    """
    cut, made = dict(cut), set(known)
    often: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[str]] = defaultdict(set)

    def enter(word: str, sign: int) -> None:
        for pair in pairwise(cut[word]):
            often[pair] += sign * counts[word]
            where[pair].add(word)

    for word in cut:
        enter(word, 1)
    heap = [(-times, pair) for pair, times in often.items()]
    heapq.heapify(heap)
    found: list[Pair] = []
    while heap and len(found) < count:
        times, pair = heapq.heappop(heap)
        if -times != often[pair] or -times < 2 or "".join(pair) in made:
            continue  # Where the count is an old one, the new one is in the heap, too.
        found.append(pair)
        made.add("".join(pair))
        touched: set[Pair] = set()
        for word in sorted(where[pair]):
            enter(word, -1)
            touched |= set(pairwise(cut[word]))
            cut[word] = joined(cut[word], pair)
            enter(word, 1)
            touched |= set(pairwise(cut[word]))
        for other in touched - {pair}:
            heapq.heappush(heap, (-often[other], other))
    return found


def joined(pieces: list[str], pair: Pair) -> list[str]:
    """Return pieces with a pair joined wherever it stands, from the left."""
    made: list[str] = []
    for piece in pieces:
        if made and (made[-1], piece) == pair:
            made[-1] += piece
        else:
            made.append(piece)
    return made
