"""Words of raw text, and spans over them."""

from __future__ import annotations

import random

import pytest

from nlp_transfer.data import spans


def split(text):
    return [text[start:end] for start, end in spans.words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S. economy", ["The", "U.S.", "economy"]),
        ("Ph.D. e.g. J.R.R. Tolkien", ["Ph.D.", "e.g.", "J.R.R.", "Tolkien"]),
        ("don't O’Neil's", ["don't", "O’Neil's"]),
        ("1,200.5 and 3.14.", ["1,200.5", "and", "3.14", "."]),
        ("state-of-the-art a--b -x-", ["state-of-the-art", "a", "-", "-", "b", "-", "x", "-"]),
        ("example.com end.Next", ["example.com", "end", ".", "Next"]),
        ("(ok)... $5", ["(", "ok", ")", ".", ".", ".", "$", "5"]),
        ("naïve e\u0301te\u0301 हिन्दी", ["naïve", "e\u0301te\u0301", "हिन्दी"]),
        ("北京 は", ["北", "京", "は"]),
        ("👨‍👩‍👧 ❤️ 👍🏽 🇩🇪!", ["👨‍👩‍👧", "❤️", "👍🏽", "🇩🇪", "!"]),
        ("\ufeffa\u200b b\x00\xa0c\u2028d", ["a", "b", "c", "d"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert split(text) == expected


def test_every_visible_character_is_in_exactly_one_word():
    generator = random.Random(0)
    alphabet = "aB1.,'’-_ \t\u00a0é\u0301北กิ👍🏽\u200d!?·ß"
    for _ in range(300):
        text = "".join(generator.choices(alphabet, k=30))
        covered = [index for start, end in spans.words(text) for index in range(start, end)]
        assert covered == sorted(set(covered))
        left = {text[index] for index in set(range(len(text))) - set(covered)}
        assert left <= {" ", "\t", "\u00a0", "\u200d"}


def test_long_runs_take_linear_time():
    for text in ("a" * 200_000, "a-" * 100_000, "A." * 100_000, "." * 200_000, "\u0301" * 200_000):
        assert spans.words(text)


def test_split_beside_punctuation_only():
    text = "Berlin-based firms"
    bounds, crossing = spans.split_at(text, spans.words(text), [0, 6])
    assert [text[a:b] for a, b in bounds] == ["Berlin", "-based", "firms"]
    assert crossing == {}
    bounds, crossing = spans.split_at(text, spans.words(text), [0, 3])
    assert bounds == spans.words(text)
    assert crossing == {3: (0, 12)}


def test_blank_texts():
    assert all(spans.is_blank(text) for text in ("", " ", "\u200b\u00a0", "\ufeff\n"))
    assert not spans.is_blank("\u200b.")


def test_locate_and_join_are_inverse():
    text, starts = spans.join(["a", "bc", "a"])
    assert (text, starts) == ("a bc a", [0, 2, 5])
    assert spans.locate(text, ["a", "bc", "a"]) == (starts, None)
    assert spans.locate("abc", ["a", "x"]) == ([0], 1)
