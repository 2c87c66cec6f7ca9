"""Tag schemes: detection, violations, repair, spans."""

from __future__ import annotations

import pytest

from nlp_transfer.data import tags


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ([["O", "B-PER", "I-PER"]], "IOB2"),
        ([["O", "O"]], "IOB2"),
        ([["I-PER", "I-PER", "O", "I-LOC"]], "IOB1"),
        ([["I-PER", "B-PER", "O"]], "IOB1"),
        ([["B-PER", "O"], ["O", "I-PER"]], "IOB2"),  # both a free beginning and a violation
        ([["B-PER", "E-PER"]], "BIOES"),
        ([["U-PER", "O"]], "BIOES"),
    ],
)
def test_detect_scheme_looks_at_the_whole_file(rows, scheme):
    assert tags.detect_scheme(rows) == scheme


def test_conversion_from_every_scheme():
    expected = ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
    assert tags.to_iob2(["I-PER", "I-PER", "B-PER", "O", "I-LOC"], "IOB1") == expected
    assert tags.to_iob2(["B-PER", "E-PER", "S-PER", "O", "S-LOC"]) == expected
    assert tags.to_iob2(["B-PER", "L-PER", "U-PER", "O", "U-LOC"], "BIOES") == expected
    assert tags.to_iob2(expected, "IOB2") == expected


def test_violations_name_the_word_and_what_is_before_it():
    found = tags.violations(["I-PER", "O", "B-LOC", "I-PER", "I-PER"])
    assert [index for index, _ in found] == [0, 3]
    assert "the start of the sentence" in found[0][1]
    assert "'I-PER' follows 'B-LOC'" in found[1][1]


@pytest.mark.parametrize("tag", ["PER", "B-", "X-PER", "b-PER", "", "-", "B_PER", "E-PER"])
def test_malformed_tags_are_violations(tag):
    assert "is not a tag" in tags.violations(["O", tag])[0][1]


@pytest.mark.parametrize(
    ("row", "indexes"),
    [
        (["B-X", "I-X", "E-X", "S-Y"], []),
        (["B-X", "O"], [1]),
        (["B-X"], [0]),
        (["O", "E-X"], [1]),
        (["S-X", "I-X", "E-X"], [1]),
        (["B-X", "E-X", "E-X"], [2]),
    ],
)
def test_bioes_violations(row, indexes):
    assert [index for index, _ in tags.violations(row, "BIOES")] == indexes


def test_repair_begins_an_entity_where_none_can_continue():
    assert tags.repair(["O", "I-PER", "I-PER", "I-LOC"]) == ["O", "B-PER", "I-PER", "B-LOC"]
    assert tags.violations(tags.repair(["I-A", "I-B", "O", "I-A"])) == []
    with pytest.raises(ValueError, match="not a tag"):
        tags.repair(["PER"])


def test_types_may_hold_hyphens():
    assert tags.entity_type("B-work-of-art") == "work-of-art"
    assert tags.violations(["B-work-of-art", "I-work-of-art"]) == []


def test_spans_round_trip():
    words, starts = ["Ada", "Lovelace", "met", "Babbage"], [0, 4, 13, 17]
    row = ["B-PER", "I-PER", "O", "B-PER"]
    spans = tags.to_spans(words, starts, row)
    assert spans == [{"start": 0, "end": 12, "label": "PER"}, {"start": 17, "end": 24, "label": "PER"}]
    assert tags.from_spans(words, starts, spans) == row


@pytest.mark.parametrize(
    "spans",
    [
        [{"start": 1, "end": 3, "label": "X"}],
        [{"start": 0, "end": 3, "label": "X"}, {"start": 0, "end": 12, "label": "Y"}],
        [{"start": 3, "end": 4, "label": "X"}],
    ],
)
def test_spans_that_do_not_fit_words_are_refused(spans):
    with pytest.raises(ValueError, match="span"):
        tags.from_spans(["Ada", "Lovelace"], [0, 4], spans)
