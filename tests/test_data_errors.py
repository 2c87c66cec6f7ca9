"""Bad data: every bad row is named by file and line, in one error."""

from __future__ import annotations

import json
import threading
import time

import datasets
import pytest

from nlp_transfer.data import hub
from nlp_transfer.data.load import load_split
from nlp_transfer.errors import DataError
from nlp_transfer.recipe.schema import Columns

KIND = {".conll": "ner", ".txt": "text"}


@pytest.fixture
def refused(tmp_path):
    """Write a file, load it, and return the problems as (line, message)."""

    def load_bad(name, content, **settings):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        settings.setdefault("kind", KIND.get(path.suffix, "classification"))
        with pytest.raises(DataError) as caught:
            load_split(path, name="data.source.train", **settings)
        problems = caught.value.problems
        return [(problem.where.removeprefix(str(path)).strip(":"), problem.message) for problem in problems]

    return load_bad


def lines(problems):
    return [int(line) for line, _ in problems]


def test_empty_texts_and_missing_labels(refused):
    rows = [
        {"text": "", "label": "a"},
        {"text": "ok", "label": "a"},
        {"text": " \u200b", "label": "a"},
        {"label": "a"},
        {"text": 5, "label": "a"},
        {"text": "x"},
        {"text": "x", "label": None},
        {"text": "x", "label": " "},
        {"text": "x", "label": float("nan")},
        {"text": "x", "label": ["a"]},
    ]
    problems = refused("a.jsonl", "\n".join(map(json.dumps, rows)))
    assert sorted(lines(problems)) == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert "multi_label" in dict(problems)["10"]


def test_missing_columns_name_those_that_are_there(refused):
    [(_, text), (_, label)] = refused("a.csv", "sentence,labels\nx,y\n")
    assert "there is no column 'text'; the columns are: 'sentence', 'labels'" in text
    assert "Did you mean 'labels'?" in label
    assert "data.columns.label" in label
    told = refused("b.csv", "text;label\nx;y\n")[0][1]
    assert "separated by ';': save the file with ','" in told and "Did you mean" not in told
    assert "first line of the file must name the columns" in refused("d.csv", "x,y\nz,y\n")[0][1]
    assert refused("e.csv.gz", b"\x1f\x8b")[0][1].endswith("is no known format; unpack it first")
    assert "'Text'" in refused("c.jsonl", '{"Text": "a"}\n', kind="text")[0][1]


def test_bytes_that_are_not_utf8(refused):
    content = b'{"text": "ok", "label": "a"}\n{"text": "caf\xe9", "label": "a"}\n\n{"text": "\xff", "label": "a"}\n'
    problems = refused("a.jsonl", content)
    assert lines(problems) == [2, 4]
    assert "0xe9 at column 14" in problems[0][1]
    assert "UTF-16" in refused("a.txt", "text".encode("utf-16"))[0][1]


def test_csv_rows_of_the_wrong_width(refused):
    problems = refused("a.csv", 'text,label\n"two\nlines",a,b\nok,a\nshort\n')
    assert lines(problems) == [2, 5]
    assert "3 fields, but the header has 2" in problems[0][1]
    assert lines(refused("b.csv", 'text,label\nok,a\n"open,a\nmore,b\n')) == [3]
    assert lines(refused("c.csv", 'text,label\n"a"b,a\nok,a\n')) == [2]
    assert lines(refused("d.tsv", "text\tlabel\nok\ta\nno label\n")) == [3]
    assert "twice" in refused("e.csv", "text,text,label\na,b,c\n")[0][1]


def test_invalid_json(refused):
    problems = refused("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n[1]\n"x"\n{"text": "\\ud83d", "label": 1}\n')
    assert lines(problems) == [2, 3, 4, 5]
    assert "invalid JSON" in problems[0][1]
    problems = refused("c.jsonl", '{"text": "a", "label": 1}\n{"text": "a", "label": ' + "9" * 5000 + "}\n")
    assert lines(problems) == [2] and "invalid JSON: Exceeds the limit" in problems[0][1]
    problems = refused("d.csv", f'text,labels\na,b\na,"[{"9" * 5000}]"\n', kind="multi_label")
    assert lines(problems) == [3] and "is not a JSON list" in problems[0][1]
    problems = refused("b.json", '[\n{"text": "a"}\n]')
    assert len(problems) == 1
    assert "JSON array" in problems[0][1]


def test_spans(refused):
    rows = [
        ("Ada met Bob", [(0, 3, "PER")]),
        ("Ada met Bob", [(0, 30, "PER")]),
        ("Ada met Bob", [(-1, 3, "PER")]),
        ("Ada met Bob", [(3, 3, "PER")]),
        ("Ada met Bob", [(0, 7, "A"), (4, 11, "B")]),
        ("Ada met Bob", [(0, 2, "PER")]),
        ("Ada met Bob", [(5, 11, "PER")]),
        ("Ada met Bob", [(3, 4, "PER")]),
    ]
    entities = [[{"start": s, "end": e, "label": name} for s, e, name in spans] for _, spans in rows]
    content = [{"text": text, "entities": item} for (text, _), item in zip(rows, entities, strict=True)]
    content += [{"text": "a", "entities": None}, {"text": "a", "entities": [{"start": 0}]}]
    content += [{"text": "a", "entities": [{"start": "0", "end": 1, "label": "X"}]}]
    problems = refused("a.jsonl", "\n".join(map(json.dumps, content)), kind="ner")
    assert lines(problems) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    found = dict(problems)
    assert "the text has 11 characters" in found["2"]
    assert "does not start before its end" in found["4"]
    assert "overlaps span 0–7 'A'" in found["5"]
    assert "('Ad') ends inside the word 'Ada'" in found["6"]
    assert "begins inside the word 'met'" in found["7"]
    assert "covers no word" in found["8"]


def test_tag_violations_by_word_line(refused):
    content = "x B-PER\n\na O\nb I-PER\n\nc I-LOC\nd PER\n"
    problems = refused("a.conll", content)
    assert lines(problems) == [4, 6, 7]
    assert "data.repair_tags: true" in problems[0][1]
    assert "is not a tag" in problems[2][1]
    assert len(refused("a.conll", content, repair_tags=True)) == 2  # that row cannot be repaired


def test_conll_widths_and_columns(refused):
    assert lines(refused("a.conll", "a O\nb\nc x O\n\nd O\n")) == [2, 3]
    assert "columns.tags is 3" in refused("b.conll", "a O\n", columns=Columns(tags=3))[0][1]
    assert "there is no column 'tags'" in refused("c.conll", "a\nb\n")[0][1]
    assert "must be a number" in refused("d.conll", "a O\n", columns=Columns(words="w"))[0][1]
    assert lines(refused("e.conll", "a\tO\n \tO\n")) == [2]


def test_words_and_tags_of_different_length(refused):
    rows = [
        {"words": ["a", "b"], "tags": ["O"]},
        {"words": [], "tags": []},
        {"words": ["a", ""], "tags": ["O", "O"]},
        {"words": "a b", "tags": ["O"]},
        {"words": ["a"], "tags": None},
        {"words": ["a"], "tags": [0]},
    ]
    problems = refused("a.jsonl", "\n".join(map(json.dumps, rows)), kind="ner")
    assert sorted(lines(problems)) == [1, 2, 3, 4, 5, 6]
    assert "2 words but 1 tags" in dict(problems)["1"]


def test_words_that_are_not_in_the_text(refused):
    row = {"text": "a b", "words": ["a", "c"], "tags": ["O", "O"]}
    [(_, message)] = refused("a.jsonl", json.dumps(row), kind="ner", columns=Columns(text="text"))
    assert "the word 'c' is not in the text" in message


def test_empty_files(refused):
    for name, content in [
        ("a.jsonl", ""),
        ("a.csv", "\ufeff\n"),
        ("b.csv", "text,label\n"),
        ("a.conll", "\n\n"),
    ]:
        [(_, message)] = refused(name, content)
        assert "empty" in message or "no rows" in message


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}")
    for path, part in [
        (tmp_path / "trian.jsonl", "Did you mean 'train.jsonl'?"),
        (tmp_path / "no" / "a.csv", "no folder"),
        (tmp_path, "folder"),
    ]:
        with pytest.raises(DataError, match="problem") as caught:
            load_split(path, name="data.source.train", kind="classification")
        assert part in str(caught.value)
        assert "data.source.train" in str(caught.value)


def test_formats_that_do_not_fit(refused):
    assert "no known format" in refused("a.xlsx", "x")[0][1]
    assert "'xml' is no known format" in refused("a.csv", "x", format="xml")[0][1]
    assert "holds no labels" in refused("a.txt", "x", kind="classification")[0][1]
    assert "set format: conll" in refused("a.txt", "x", kind="ner")[0][1]
    assert "cannot hold words" in refused("a.csv", "x", kind="ner")[0][1]
    assert "texts and labels" in refused("a.conll", "x O", kind="classification")[0][1]
    assert "must be a name" in refused("a.jsonl", "{}", kind="ner", columns=Columns(tags=1))[0][1]
    assert "set format: conll" in refused("b.txt", "Rome B-LOC\nis O\n\nold O\n", kind="words")[0][1]
    assert "Parquet" in refused("a.parquet", "no")[0][1]


def test_at_most_twenty_problems_are_shown(refused):
    problems = refused("a.jsonl", '{"text": "", "label": 1}\n' * 50)
    assert len(problems) == 21
    assert problems[-1] == ("", "and 30 more")


def test_unknown_class_label_is_missing():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a"])})
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [0, -1]}, features=features)
    with pytest.raises(DataError, match="row 2: column 'label': the label is missing"):
        load_split(rows, name="data.target.test", kind="classification")


def test_what_a_caller_gets_wrong():
    with pytest.raises(TypeError, match="DatasetDict"):
        load_split(datasets.DatasetDict(), name="x", kind="text")
    with pytest.raises(ValueError, match="kind"):
        load_split("a.txt", name="x", kind="regression")


def test_hub_failures_say_what_was_tried(monkeypatch):
    def fail(*args, **settings):
        assert "trust_remote_code" not in settings
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"split 'test', config default, revision v1.*no network.*HF_HUB_OFFLINE"):
        load_split("hub:a/b", name="data.target.test", kind="text", hub_split="test", revision="v1")
    with pytest.raises(DataError, match=r"data\.target\.test\.split"):
        load_split("hub:a/b", name="data.target.test", kind="text")


def test_a_mute_hub_is_given_up(monkeypatch, tmp_path):
    never, cache = threading.Event(), tmp_path / "tables"

    def load(*args, **settings):
        cache.mkdir(exist_ok=True)
        for number in range(12):  # slow, but something arrives
            time.sleep(0.05)
            (cache / str(number)).write_bytes(bytes(8192))
        if settings["split"] == "mute":
            never.wait(60)
        return datasets.Dataset.from_dict({"text": ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr(hub, "QUIET", 0.4)
    assert len(load_split("hub:a/b", name="x", kind="text", hub_split="slow")) == 1
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"TimeoutError: nothing has arrived for 0 s"):
        load_split("hub:a/b", name="x", kind="text", hub_split="mute")
    assert time.monotonic() - begun < 20
    never.set()


def test_hub_rows(monkeypatch):
    rows = datasets.Dataset.from_dict({"text": ["a"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **settings: rows)
    split = load_split("hub:a/b", name="x", kind="text", hub_split="test")
    assert split.locate(0) == "hub:a/b (test): row 1"
