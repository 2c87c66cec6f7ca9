"""Windows of texts: every token and every word is read once, whatever the tokenizer and the text."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
from conftest import WORDS, byte_level_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer

from nlp_transfer.data.spans import words as split_words
from nlp_transfer.data.windows import Limits, windows_of_texts, windows_of_words

TOKENIZERS = {
    "wordpiece": wordpiece_tokenizer,
    "byte-level": byte_level_tokenizer,
    "sentencepiece": sentencepiece_tokenizer,
}
ODD = [
    "naïve",
    "cafe\u0301",
    "Zürich",
    "北",
    "👩‍💻",
    "🙂",
    "x" * 90,
    "don't",
    "1,200.5",
    "ﬁne",
    "Ⅷ",
    "ж",
    "a\u00adb",
    "…",
]


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tokenizer(request):
    return TOKENIZERS[request.param]()


def laid_out(words, separators=" ", seed=0):
    """Join words by separators; return text, starts and ends."""
    draw = random.Random(seed)
    text, starts = "", []
    for word in words:
        text += draw.choice(separators) if text else ""
        starts.append(len(text))
        text += word
    return text, starts, [start + len(word) for start, word in zip(starts, words, strict=True)]


def random_words(draw, count, share_odd=0.2):
    return [draw.choice(ODD) if draw.random() < share_odd else draw.choice(WORDS) for _ in range(count)]


def units(windows, row=0):
    """Word → (window number, position) over the windows of a row; fails on a word with two units."""
    found = {}
    for number, window in enumerate(w for w in windows if w.row == row):
        for position, word in zip(window.positions.tolist(), window.words.tolist(), strict=True):
            assert word not in found, f"word {word} has two units"
            found[word] = (number, position)
    return found


def bodies(tokenizer, windows):
    """The token ids of each window without special tokens."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return [[token for token in window.input_ids if token not in special] for window in windows]


# --- words and subwords ------------------------------------------------------------------------------------------


def with_prefix_space(tokenizer):
    """The tokenizer as pre-split words need it: every word is tokenised as if a space stood before it."""
    backend = tokenizer.backend_tokenizer
    step = backend.pre_tokenizer
    if hasattr(step, "add_prefix_space"):
        step.add_prefix_space = True
        backend.pre_tokenizer = step
    return tokenizer


@pytest.mark.parametrize("seed", range(5))
def test_word_list_and_running_text_give_the_same_pieces_and_units(tokenizer, seed):
    words = random_words(random.Random(seed), 12)
    split = with_prefix_space(copy.deepcopy(tokenizer))
    # Running text has no space before its first word, so a plain one stands there for both to agree on.
    text, starts, ends = laid_out(words)
    lead = " " if "Ġ" in "".join(tokenizer.tokenize("a a")) else ""
    listed = split(words, is_split_into_words=True)
    [window] = windows_of_words(
        tokenizer, [lead + text], [[s + len(lead) for s in starts]], [[e + len(lead) for e in ends]],
        Limits(4000, 32),
    )  # fmt: skip
    assert window.input_ids == listed["input_ids"]
    first = {}
    for position, word in enumerate(listed.word_ids()):
        if word is not None:
            first.setdefault(word, position)
    ours = dict(zip(window.words.tolist(), window.positions.tolist(), strict=True))
    assert set(ours) == set(first)
    pieces = listed.tokens()
    for word, position in first.items():
        # A space that is a piece of its own belongs to no word; the unit is the first piece of the word itself.
        lone = pieces[position] in ("▁", "Ġ")
        assert ours[word] in ((position, position + 1) if lone else (position,)), (words[word], pieces)


@pytest.mark.parametrize("seed", range(8))
def test_every_word_has_exactly_one_unit_at_its_first_character(tokenizer, seed):
    draw = random.Random(seed)
    words = random_words(draw, draw.randint(1, 60))
    text, starts, ends = laid_out(words, [" ", "  ", "\n", "\t", "\u00a0"], seed)
    limits = Limits(draw.choice([16, 24, 40]), draw.choice([0, 3, 8]))
    windows = windows_of_words(tokenizer, [text], [starts], [ends], limits)
    found = units(windows)
    assert sorted(found) == list(range(len(words)))
    whole = tokenizer(text)
    for word, (number, position) in found.items():
        expected = whole.char_to_token(starts[word])
        assert windows[number].input_ids[position] == whole["input_ids"][expected], words[word]


@pytest.mark.parametrize("seed", range(4))
def test_the_most_central_window_owns_a_word(tokenizer, seed):
    words = random_words(random.Random(seed), 50, share_odd=0.1)
    text, starts, ends = laid_out(words)
    limits = Limits(20, 8)
    found = units(windows_of_words(tokenizer, [text], [starts], [ends], limits))
    encoded = tokenizer(text, truncation=True, max_length=20, stride=8, return_overflowing_tokens=True)
    shared = 0
    for word, (number, position) in found.items():
        margins = {}
        for window in range(len(encoded["input_ids"])):
            at = encoded.char_to_token(window, starts[word])
            piece = None if at is None else encoded.token_to_chars(window, at)
            # Only windows that show the beginning of the word can answer for it.
            if at is not None and piece.start <= starts[word]:
                margins[window] = min(at, len(encoded["input_ids"][window]) - 1 - at)
        shared += len(margins) > 1
        assert min(position, len(encoded["input_ids"][number]) - 1 - position) >= max(margins.values()) - 1
        assert margins[number] == max(margins.values())
    assert shared > 5


def test_words_inside_one_token_share_its_position():
    # WordPiece makes one unknown token of two emoji; SentencePiece knows 北京 as one piece.
    [window] = windows_of_words(
        wordpiece_tokenizer(), ["good 🙂🙂 film"], [[0, 5, 6, 8]], [[4, 6, 7, 12]], Limits(64, 8)
    )
    assert window.words.tolist() == [0, 1, 2, 3]
    assert window.positions.tolist() == [1, 2, 2, 3]


def test_a_word_that_the_tokenizer_drops_has_no_unit(tokenizer):
    words = ["good", "\x00", "film", "\u200b"]
    text, starts, ends = laid_out(words)
    dropped = {word for word in (1, 3) if tokenizer(text).char_to_token(starts[word]) is None}
    found = units(windows_of_words(tokenizer, [text], [starts], [ends], Limits(64, 8)))
    assert set(found) == {0, 1, 2, 3} - dropped


def test_wordpiece_drops_control_characters():
    text, starts, ends = laid_out(["good", "\x00", "film"])
    assert set(units(windows_of_words(wordpiece_tokenizer(), [text], [starts], [ends], Limits(64, 8)))) == {0, 2}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t \u3000",
        "\u200b\u200d\ufeff",
        "cafe\u0301 naïve e\u0301\u0302\u0303",
        "👩‍💻 works in 北京, Zürich & São Paulo 🇳🇴!",
        "\x00\x01\x02 bell\x07",
        "a" * 5000,
        "🙂" * 200,
        "مرحبا بالعالم שלום",
        "a.b.c... don't—stop",
    ],
    ids=["empty", "space", "blank", "zero-width", "marks", "mixed", "control", "long", "emoji", "rtl", "dots"],
)
def test_odd_texts_with_words_of_our_splitter(tokenizer, text):
    spans = split_words(text)
    starts, ends = [s for s, _ in spans], [e for _, e in spans]
    windows = windows_of_words(tokenizer, [text], [starts], [ends], Limits(32, 8))
    assert windows and sum(window.weight for window in windows) == pytest.approx(1)
    found = units(windows)
    whole = tokenizer(text)
    readable = {
        word
        for word in range(len(spans))
        if any(whole.char_to_token(at) is not None for at in range(starts[word], ends[word]))
    }
    assert set(found) == readable


def test_rows_are_kept_apart(tokenizer):
    texts, starts, ends = zip(
        *(laid_out(random_words(random.Random(seed), size)) for seed, size in enumerate([0, 40, 1, 0, 25])), strict=True
    )
    limits = Limits(24, 6)
    together = windows_of_words(tokenizer, texts, starts, ends, limits)
    assert [window.row for window in together] == sorted(window.row for window in together)
    for row in range(len(texts)):
        alone = windows_of_words(tokenizer, [texts[row]], [starts[row]], [ends[row]], limits)
        same = [window for window in together if window.row == row]
        assert [w.input_ids for w in same] == [w.input_ids for w in alone]
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(same, alone, strict=True))


# --- whole texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_no_token_is_lost_and_weights_add_up(tokenizer, seed):
    draw = random.Random(100 + seed)
    texts = [laid_out(random_words(draw, draw.randint(0, 120)))[0] for _ in range(6)]
    limits = Limits(draw.choice([16, 32]), draw.choice([0, 5, 30]))
    windows = windows_of_texts(tokenizer, texts, limits)
    assert sorted({window.row for window in windows}) == list(range(len(texts)))
    for row, text in enumerate(texts):
        own = [window for window in windows if window.row == row]
        assert sum(window.weight for window in own) == pytest.approx(1)
        assert all(len(window.input_ids) <= limits.max_length for window in own)
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        joined = bodies(tokenizer, own)
        step = (limits.max_length - 2) - min(limits.stride, (limits.max_length - 2) // 2)
        expected = [whole[at : at + limits.max_length - 2] for at in range(0, max(1, len(whole)), step)]
        while len(expected) > 1 and len(whole) <= (len(expected) - 2) * step + limits.max_length - 2:
            expected.pop()  # the window before already reaches the end
        assert joined == expected


def test_short_text_is_one_plain_window(tokenizer):
    [window] = windows_of_texts(tokenizer, ["the film was good"], Limits(64, 16))
    assert window.input_ids == tokenizer("the film was good")["input_ids"]
    assert window.weight == 1


def test_truncate_keeps_the_first_window_of_each_text(tokenizer):
    texts = ["good film", " ".join(WORDS * 2), ""]
    full = windows_of_texts(tokenizer, texts, Limits(16, 4))
    cut = windows_of_texts(tokenizer, texts, Limits(16, 4, truncate=True))
    assert [window.row for window in cut] == [0, 1, 2]
    for window in cut:
        first = next(other for other in full if other.row == window.row)
        assert window.input_ids == first.input_ids
    assert len(full) > 3


def test_truncate_drops_the_words_behind_the_cut():
    text, starts, ends = laid_out(["film"] * 100)
    [window] = windows_of_words(wordpiece_tokenizer(), [text], [starts], [ends], Limits(16, 4, truncate=True))
    assert window.words.tolist() == list(range(14))


def test_a_very_long_text_is_quick():
    text, starts, ends = laid_out(random_words(random.Random(0), 20_000, share_odd=0.01))
    windows = windows_of_words(wordpiece_tokenizer(), [text], [starts], [ends], Limits(64, 16))
    assert len(units(windows)) == 20_000
