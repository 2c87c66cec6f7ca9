"""Blocks of tokens: texts packed together or one by one, and kept on disk, where a corpus of any size has room.

A corpus is tokenised once, in one pass, into a file that is then memory-mapped. From there on it is an ordinary data
set with a known length: every epoch is a true shuffle of all blocks, several processes share it out, and a resumed
run reads the same batches, because a batch is a function of (seed, step) alone. A reader that streams would need a
shuffle buffer (which mixes near rows only) and its own state in every checkpoint to come near that. The price is the
disk: 8 bytes a token, until the stage is done. In memory there are some 30 bytes for each block.
"""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from .whole_words import word_numbers

TEXTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Block:
    """A run of text, ready for an objective.

    Args:
        input_ids: Token ids with the tokenizer's special tokens around the text.
        groups: For each token the number of its word inside the block; -1 for special tokens.
    """

    input_ids: np.ndarray
    groups: np.ndarray


def pack(
    tokenizer: Any, texts: Iterable[str], block_length: int, whole_words: bool = True, joined: bool = True
) -> Iterator[Block]:
    """Cut texts into blocks without padding; words are not cut apart at the border of two blocks.

    Args:
        tokenizer: A fast tokenizer.
        texts: Texts, in the order in which they are packed; read as they are needed.
        block_length: Tokens in a block, special tokens included.
        whole_words: Group the pieces of a word (:mod:`.whole_words`); otherwise each token is its own group.
        joined: Concatenate texts, separated by the separator token (FULL-SENTENCES of RoBERTa, Liu et al. 2019).
            Otherwise each text has a block of its own, or several where it is longer than one.

    Yields:
        Blocks; of joined ones only the last may be shorter than ``block_length`` by more than a word.
    """
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    prefix, suffix = special_edges(tokenizer)
    room = block_length - len(prefix) - len(suffix)
    current: list[list[int]] = []
    filled = 0
    for words in _texts_in_words(tokenizer, texts, whole_words):
        if joined and separator is not None:
            words.append([-int(separator) - 1])
        for word in words:
            for piece in (word[at : at + room] for at in range(0, len(word), room)):
                if filled + len(piece) > room:
                    yield _block(current, prefix, suffix)
                    current, filled = [], 0
                current.append(piece)
                filled += len(piece)
        if not joined and current:
            yield _block(current, prefix, suffix)
            current, filled = [], 0
    if any(word[0] >= 0 for word in current):
        yield _block(current, prefix, suffix)


def _texts_in_words(tokenizer: Any, texts: Iterable[str], whole_words: bool) -> Iterator[list[list[int]]]:
    """Yield each text as its words, a word as its token ids."""
    waiting = iter(texts)
    while batch := list(islice(waiting, TEXTS_AT_ONCE)):
        encoded = tokenizer(
            batch,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=whole_words,
            verbose=False,
        )
        for number, ids in enumerate(encoded["input_ids"]):
            if not whole_words:
                yield [[token] for token in ids]
                continue
            numbers = word_numbers(batch[number], encoded.word_ids(number), encoded["offset_mapping"][number])
            yield [[ids[at] for at in word] for _, word in groupby(range(len(ids)), key=numbers.__getitem__)]


def _block(words: Sequence[Sequence[int]], prefix: list[int], suffix: list[int]) -> Block:
    # A separator between texts travels as -(id + 1): a token, but no word.
    while words and words[-1][0] < 0:
        words = words[:-1]
    while words and words[0][0] < 0:
        words = words[1:]
    ids = [token if token >= 0 else -token - 1 for word in words for token in word]
    groups = [number if word[0] >= 0 else -1 for number, word in enumerate(words) for _ in word]
    edges = (len(prefix), len(suffix))
    return Block(
        np.asarray(prefix + ids + suffix),
        np.pad(np.asarray(groups, dtype=np.int64), edges, constant_values=-1),
    )


def special_edges(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - 1 - special[::-1].index(0)
    return ids[:first], ids[last + 1 :]


class BlockFile(Sequence[Block]):
    """Blocks in a folder, memory-mapped.

    Args:
        folder: A folder that :func:`write_blocks` has made.

    Attributes:
        lengths: Tokens of each block.
        facts: What was noted when the blocks were written.
    """

    def __init__(self, folder: Path):
        ends = np.load(folder / "ends.npy")
        self.facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf8"))
        self.lengths = np.diff(ends, prepend=0)
        self._begins = ends - self.lengths
        # An empty file cannot be mapped.
        flat = np.memmap(folder / "tokens.bin", np.int32, "r") if len(ends) else np.zeros(0, np.int32)
        self._tokens_T2: np.ndarray = flat.reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        begin = self._begins[index]
        tokens_T2 = np.asarray(self._tokens_T2[begin : begin + self.lengths[index]], dtype=np.int64)
        return Block(tokens_T2[:, 0].copy(), tokens_T2[:, 1].copy())


def write_blocks(folder: Path, blocks: Iterable[Block], facts: dict[str, Any]) -> None:
    """Write blocks as they come; a crash leaves no folder of that name.

    Args:
        folder: New folder; what stood there is replaced.
        blocks: Blocks, of which one is in memory at a time.
        facts: Plain values that are kept with them; read when the last block is written.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    ends, end = array("q"), 0
    with (part / "tokens.bin").open("wb") as file:
        for block in blocks:
            file.write(np.stack([block.input_ids, block.groups], axis=1).astype(np.int32).tobytes())
            end += len(block.input_ids)
            ends.append(end)
    np.save(part / "ends.npy", np.asarray(ends, dtype=np.int64))
    (part / "facts.json").write_text(json.dumps(facts), encoding="utf8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
