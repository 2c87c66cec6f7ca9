"""Loading good files: every format, canonical columns, labels as strings, lines and fingerprints."""

from __future__ import annotations

import json

import datasets
import pytest

from nlp_transfer.data.load import load_split
from nlp_transfer.recipe.schema import Columns

ROWS = [{"text": "Good film.", "label": "positive"}, {"text": 'He said "no", and left', "label": "negative"}]


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write_file


def load(source, kind="classification", **settings):
    return load_split(source, name="data.source.train", kind=kind, **settings)


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def columns_of(split):
    return {name: split.rows[name][:] for name in split.rows.column_names}


def test_every_format_gives_the_same_rows(write, tmp_path):
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    quoted = 'Good film.,positive\r\n"He said ""no"", and left",negative\r\n'
    splits = [
        load(write("a.jsonl", jsonl(ROWS))),
        load(write("a.csv", "text,label\r\n" + quoted)),
        load(write("a.tsv", 'text\tlabel\nGood film.\tpositive\nHe said "no", and left\tnegative\n')),
        load(tmp_path / "a.parquet"),
        load(datasets.Dataset.from_list(ROWS)),
    ]
    assert len({split.fingerprint for split in splits}) == 1
    assert columns_of(splits[0]) == {name: [row[name] for row in ROWS] for name in ("text", "label")}
    assert [split.locate(1).rsplit("/")[-1] for split in splits[:4]] == [
        "a.jsonl:2",
        "a.csv:3",
        "a.tsv:3",
        "a.parquet: row 2",
    ]


def test_the_fingerprint_follows_the_content(write):
    one = load(write("a.jsonl", jsonl(ROWS)))
    two = load(write("b.jsonl", jsonl(ROWS[::-1])))
    assert one.fingerprint != two.fingerprint
    assert two.select([1, 0]).fingerprint == one.fingerprint
    assert two.select([1]).locate(0).endswith("b.jsonl:2")


def test_a_byte_order_mark_is_stripped(write):
    assert load(write("a.csv", b"\xef\xbb\xbftext,label\nx,y\n")).rows[0] == {"text": "x", "label": "y"}


def test_quoted_newlines_count_in_line_numbers(write):
    split = load(write("a.csv", 'text,label\n"two\nlines",a\n\nlast,b\n'))
    assert split.rows["text"][:] == ["two\nlines", "last"]
    assert split.lines == [2, 5]
    assert split.skipped_blank == 1


def test_unicode_line_separators_do_not_end_a_line(write):
    row = {"text": "a\u2028b\u0085c", "label": "x"}
    assert load(write("a.jsonl", json.dumps(row, ensure_ascii=False) + "\n")).rows[0] == row
    split = load(write("a.conll", "a\u2028b\u00a0c O\n"), kind="ner")
    assert split.rows[0]["words"] == ["a\u2028b\u00a0c"]


def test_a_tsv_without_quoting_keeps_its_quotes(write):
    split = load(write("a.tsv", 'text\tlabel\n"a film\t1\nb" c\t0\n'))
    assert split.rows["text"][:] == ['"a film', 'b" c']
    split = load(write("b.tsv", 'text\tlabel\n"a\t1\nb"\t0\n'))  # valid with quoting, but as a single row
    assert split.rows["text"][:] == ['"a', 'b"']
    split = load(write("c.tsv", 'text\tlabel\n"two\nlines"\t1\n"x"\t0\n'))
    assert split.rows["text"][:] == ["two\nlines", "x"]


def test_labels_become_strings(write):
    values = [1, 4.0, 0.5, True, False, " x ", "4.0"]
    split = load(write("a.jsonl", jsonl({"text": "t", "label": value} for value in values)))
    assert split.rows["label"][:] == ["1", "4", "0.5", "true", "false", "x", "4.0"]
    split = load(write("a.csv", "text,label\nt,4.0\nt,5\n"))
    assert split.rows["label"][:] == ["4", "5"]


def test_class_labels_become_names(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert load(rows).rows["label"][:] == ["pos", "neg"]
    rows.to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").rows["label"][:] == ["pos", "neg"]
    assert load(rows.select([1])).rows[0] == {"text": "b", "label": "neg"}


def test_multi_label(write):
    rows = [{"text": "a", "labels": ["x", 2, "x"]}, {"text": "b", "labels": []}]
    split = load(write("a.jsonl", jsonl(rows)), kind="multi_label")
    assert split.kind == "multi_label"
    assert split.rows["labels"][:] == [["x", "2"], []]
    split = load(write("a.csv", 'text,labels\na,x|2\nb,\nc,"[""y""]"\n'), kind="multi_label")
    assert split.rows["labels"][:] == [["x", "2"], [], ["y"]]


def test_named_columns(write):
    path = write("a.jsonl", jsonl([{"review": "a", "stars": 5}]))
    assert load(path, columns=Columns(text="review", label="stars")).rows[0] == {"text": "a", "label": "5"}


def test_unlabelled_text_never_returns_labels(write):
    split = load(write("a.jsonl", jsonl(ROWS)), kind="text")
    assert split.rows.column_names == ["text"]
    assert split.dropped_labels
    assert not load(write("b.jsonl", jsonl([{"text": "a", "label": None}])), kind="text").dropped_labels
    split = load(write("a.txt", "one\n\ntwo\n\n"), kind="text")
    assert (split.rows["text"][:], split.lines, split.skipped_blank) == (["one", "two"], [1, 3], 2)
    assert not split.dropped_labels


def test_unlabelled_words(write):
    split = load(write("a.txt", "Don't go.\n"), kind="words")
    assert split.rows[0] == {"text": "Don't go.", "words": ["Don't", "go", "."], "starts": [0, 6, 8]}
    split = load(write("a.conll", "Rome B-LOC\nis O\n"), kind="words")
    assert split.rows.column_names == ["text", "words", "starts"]
    assert split.dropped_labels
    split = load(write("b.conll", "Rome\nis\n\nold\n"), kind="words")
    assert (split.rows["text"][:], split.dropped_labels) == (["Rome is", "old"], False)
    rows = [{"text": "Berlin-based", "entities": [{"start": 0, "end": 6, "label": "LOC"}]}]
    split = load(write("a.jsonl", jsonl(rows)), kind="words")
    assert split.rows[0]["words"] == ["Berlin-based"]  # gold borders do not split unlabelled words
    assert split.dropped_labels


def test_conll_in_any_column_order(write):
    content = "-DOCSTART- -X- O O\n\nRome NNP I-NP B-LOC\nis VBZ I-VP O\n\n\n# CD O O\n"
    split = load(write("a.conll", content), kind="ner")
    assert columns_of(split) == {
        "text": ["Rome is", "#"],
        "words": [["Rome", "is"], ["#"]],
        "starts": [[0, 5], [0]],
        "tags": [["B-LOC", "O"], ["O"]],
    }
    assert split.lines == [3, 7]
    split = load(write("b.bio", "O\tNew York\nO\tx\n"), kind="ner", columns=Columns(words=1, tags=0))
    assert split.rows[0]["words"] == ["New York", "x"]
    split = load(write("c.txt", "Rome S-LOC\nis O\n"), kind="ner", format="conll")
    assert (split.rows[0]["tags"], split.scheme) == (["B-LOC", "O"], "BIOES")


def test_words_and_tags_in_json(write):
    rows = [{"words": ["Rome", "is"], "tags": ["I-LOC", "O"]}]
    split = load(write("a.jsonl", jsonl(rows)), kind="ner")
    assert (split.rows[0]["tags"], split.scheme) == (["B-LOC", "O"], "IOB1")


def test_class_label_tags():
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-LOC"])),
        }
    )
    rows = datasets.Dataset.from_dict({"tokens": [["Rome", "is"]], "ner_tags": [[1, 0]]}, features=features)
    split = load(rows, kind="ner", columns=Columns(words="tokens", tags="ner_tags"))
    assert split.rows[0]["tags"] == ["B-LOC", "O"]


def test_spans_become_tags(write):
    rows = [
        {"text": "The Berlin-based firm", "entities": [{"start": 4, "end": 10, "label": "LOC"}]},
        {"text": "Ada Lovelace ", "entities": [[0, 13, "PER"]]},
        {"text": "nothing", "entities": []},
    ]
    split = load(write("a.jsonl", jsonl(rows)), kind="ner")
    assert split.rows[0]["words"] == ["The", "Berlin", "-based", "firm"]
    assert split.rows["tags"][:] == [["O", "B-LOC", "O", "O"], ["B-PER", "I-PER"], ["O"]]
    for row in split.rows:
        for word, start in zip(row["words"], row["starts"], strict=True):
            assert row["text"][start : start + len(word)] == word


def test_canonical_rows_load_unchanged(write):
    rows = [{"text": "The Berlin-based firm", "entities": [{"start": 4, "end": 10, "label": "LOC"}]}]
    split = load(write("a.jsonl", jsonl(rows)), kind="ner")
    assert load(split.rows, kind="ner").fingerprint == split.fingerprint


def test_tags_are_repaired_on_request(write):
    content = "a B-PER\n\nb O\nc I-PER\nd I-LOC\n"
    split = load(write("a.conll", content), kind="ner", repair_tags=True)
    assert split.rows["tags"][:] == [["B-PER"], ["O", "B-PER", "B-LOC"]]
    assert split.repaired == 2


def test_rows_can_be_replaced(write):
    split = load(write("a.jsonl", jsonl(ROWS)))
    mapped = split.with_rows(split.rows.remove_columns("label").add_column("label", ["x", "y"]))
    assert mapped.fingerprint != split.fingerprint
    assert mapped.locate(1) == split.locate(1)
    with pytest.raises(ValueError, match="cannot stand"):
        split.with_rows(split.rows.select([0]))
