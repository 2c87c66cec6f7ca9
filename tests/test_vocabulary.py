"""New tokens of each kind of tokenizer: the costliest words, all other text cut as before, right offsets, reloaded."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from conftest import byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer

from nlp_transfer.data.windows import Limits, windows_of_words
from nlp_transfer.errors import ModelError
from nlp_transfer.vocabulary.extend import extended, shown
from nlp_transfer.vocabulary.merges import joined, learn_merges

TEXTS = [
    "The Tablet froze, tablets froze!",
    'tablet: re-boot. (tablet) "froze" tablet',
    "reboot, FROZE tablet's",
    "naïve café reboot once_only café naïve",
]
OTHERS = [
    "the tablets were re-booted",
    "tabletop froze_n",
    "x-tablet's (reboots)",
    "good film, was it?",
    "Anna 1,200.5!",
    "  tablet\n\ttablet  café<mask>tablet [MASK] reboot",
]
MADE_OF = ["tablet", "froze", "reboot", "café", "Tablet", " ", "  ", ".", "'s", "(", "-", "_", "s", "xyz", "ü", "北"]


def texts(count: int = 300) -> list[str]:
    """Texts in which new words touch everything that a text may hold."""
    draw = random.Random(0)
    return [*TEXTS, *OTHERS, *("".join(draw.choices(MADE_OF, k=draw.randint(1, 12))) for _ in range(count))]


def roberta() -> Any:
    """A tokenizer that transformers builds anew from vocabulary and merges when it is loaded."""
    model = json.loads(byte_level_tokenizer().backend_tokenizer.to_str())["model"]
    return transformers.RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def modernbert() -> Any:
    """A tokenizer with added tokens behind the vocabulary of its model."""
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([tokenizers.AddedToken("[unused0]"), tokenizers.AddedToken("  ", normalized=True)])
    return tokenizer


def pieces(*special: str) -> list[tuple[str, float]]:
    model = json.loads(sentencepiece_tokenizer().backend_tokenizer.to_str())["model"]
    return [*((name, 0.0) for name in special), *(tuple(piece) for piece in model["vocab"][5:])]


def xlm_roberta() -> Any:
    return transformers.XLMRobertaTokenizer(vocab=[*pieces("<s>", "<pad>", "</s>", "<unk>"), ("<mask>", 0.0)])


def deberta() -> Any:
    """A Unigram tokenizer whose mask token stands behind the vocabulary of its model."""
    return transformers.DebertaV2Tokenizer(vocab=pieces("[PAD]", "[CLS]", "[SEP]", "[UNK]"))


KINDS = [wordpiece_tokenizer, byte_level_tokenizer, roberta, modernbert, sentencepiece_tokenizer, xlm_roberta, deberta]


@pytest.mark.parametrize("make", KINDS)
def test_new_text_is_old_text_with_pieces_joined(make: Any, tmp_path: Path) -> None:
    """Ids, offsets and word numbers, after saving and loading."""
    old = make()
    made, new = extended(old, TEXTS, 12)
    made.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(old)
    assert new and [loaded.convert_tokens_to_ids(token) for token in new] == list(range(len(old), len(loaded)))
    assert {token: number for token, number in loaded.get_vocab().items() if number < len(old)} == old.get_vocab()
    by_id = {loaded.convert_tokens_to_ids(token): ids for token, ids in new.items()}
    saved = 0
    for text in texts():
        before, after = (it(text, return_offsets_mapping=True) for it in (old, loaded))
        assert made(text)["input_ids"] == after["input_ids"]
        at = 0
        for number, place in zip(after["input_ids"], after["offset_mapping"], strict=True):
            ids = by_id.get(number, [number])
            assert before["input_ids"][at : at + len(ids)] == ids, text
            spans = before["offset_mapping"][at : at + len(ids)]
            assert place == (spans[0][0], spans[-1][1]), text
            at += len(ids)
        assert at == len(before["input_ids"])
        numbers = [word for word in after.word_ids() if word is not None]
        assert numbers == sorted(numbers)
        saved += at - len(after["input_ids"])
    assert saved > 100
    assert old.tokenize("tablet") == make().tokenize("tablet")  # the copy was extended, not the tokenizer itself


@pytest.mark.parametrize("make", KINDS)
def test_target_text_takes_fewer_pieces_a_word(make: Any) -> None:
    old = make()
    longer, new = extended(old, TEXTS, 40)
    words = ["the", "tablet", "and", "the", "reboot"]
    before, after = (len(it.tokenize(" ".join(words))) / len(words) for it in (old, longer))
    assert after < before
    assert len(longer.tokenize(" the tablet")) < len(old.tokenize(" the tablet"))
    assert "tablet" in shown(longer, new, 40)


@pytest.mark.parametrize("make", KINDS)
def test_units_of_words_are_where_they_were(make: Any) -> None:
    """The unit of a word (ner) still is the token at its first character, next to punctuation and in any case."""
    old = make()
    longer, _ = extended(old, TEXTS, 12)
    text = "(Tablet) tablet's re-boot, FROZE! tablet"
    starts = [1, 9, 18, 21, 27, 34]
    ends = [7, 15, 20, 25, 32, 40]
    for it in (old, longer):
        (window,) = windows_of_words(it, [text], [starts], [ends], Limits(64))
        assert window.words.tolist() == list(range(6))
        offsets = it(text, return_offsets_mapping=True)["offset_mapping"]
        for position, start in zip(window.positions, starts, strict=True):
            begin, end = offsets[position]
            assert begin <= start < end and not text[begin:start].strip("( ")


def test_whole_words_of_wordpiece_are_the_costliest() -> None:
    tokenizer = wordpiece_tokenizer()
    _, new = extended(tokenizer, TEXTS, 10)
    counts = {"tablet": 5, "froze": 4, "reboot": 2, "naive": 2, "cafe": 2}  # "once_only" is no word
    assert list(new) == sorted(counts, key=lambda word: (-counts[word] * (len(word) - 1), word))
    for word, ids in new.items():
        assert tokenizer.convert_ids_to_tokens(ids) == [word[0], *(f"##{letter}" for letter in word[1:])]
    assert list(extended(tokenizer, TEXTS, 1)[1]) == ["tablet"]
    assert extended(tokenizer, ["good film", "good film"], 5)[1] == {}


def test_words_that_only_begin_with_a_new_one_are_left_alone_by_wordpiece() -> None:
    old = wordpiece_tokenizer()
    longer, _ = extended(old, TEXTS, 12)
    for text in ("tablets", "tabletop", "xtablet", "tablet_x"):
        assert longer.tokenize(text) == old.tokenize(text)


def test_merges_are_those_of_byte_pair_encoding() -> None:
    """Against the definition: count all pairs, join the commonest, begin again."""
    draw = random.Random(3)
    counts = {"".join(draw.choices("abc", k=draw.randint(1, 9))): draw.randint(1, 5) for _ in range(60)}
    cut = {word: list(word) for word in counts}
    expected: list[tuple[str, str]] = []
    known = {*"abc", "ca"}
    while len(expected) < 25:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, cut_word in cut.items():
            for pair in pairwise(cut_word):
                pairs[pair] += counts[word]
        able = {pair: times for pair, times in pairs.items() if times > 1 and "".join(pair) not in known}
        best = min(able, key=lambda pair: (-able[pair], pair))
        expected.append(best)
        known.add("".join(best))
        cut = {word: joined(cut_word, best) for word, cut_word in cut.items()}
    assert learn_merges({word: list(word) for word in counts}, counts, 25, {*"abc", "ca"}) == expected
    assert joined([*"aaabaa"], ("a", "a")) == ["aa", "a", "b", "aa"]
    assert learn_merges({"ab": ["a", "b"]}, {"ab": 1}, 5) == []


@pytest.mark.parametrize("make", [sentencepiece_tokenizer, deberta])
def test_the_longer_of_two_new_pieces_wins(make: Any) -> None:
    longer, new = extended(make(), ["reboot reboots reboot reboots"] * 3, 5)
    assert {"▁reboot", "▁reboots"} <= set(new)
    assert longer.tokenize("reboots") == ["▁reboots"]
    assert longer.tokenize("reboot") == ["▁reboot"]


@pytest.mark.parametrize("make", KINDS)
def test_extending_twice_gives_other_tokens(make: Any) -> None:
    once, first = extended(make(), TEXTS, 1)
    twice, second = extended(once, TEXTS, 40)
    assert second and not set(first) & set(second)
    assert len(twice) == len(make()) + len(first) + len(second)
    assert extended(twice, TEXTS, 40)[1] == {}


def refused(tokenizer: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        extended(tokenizer, TEXTS, 3)


def test_tokenizers_that_cannot_be_extended_are_refused_with_the_reason() -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    refused(transformers.PreTrainedTokenizerFast(tokenizer_object=words), "it is a WordLevel")
    bare = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    refused(transformers.PreTrainedTokenizerFast(tokenizer_object=bare), "no pre-tokenizer")
    gaps = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 2}, []))
    gaps.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    refused(transformers.PreTrainedTokenizerFast(tokenizer_object=gaps), "its ids have gaps")
    marked = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b</w>": 1}, [], end_of_word_suffix="</w>"))
    marked.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    refused(transformers.PreTrainedTokenizerFast(tokenizer_object=marked), "byte-level BPE")
