"""The description of data, and its tables."""

from __future__ import annotations

import json

import datasets
import pytest
from rich.console import Console

from nlp_transfer.data.inspect import describe, render
from nlp_transfer.data.load import load_split


@pytest.fixture
def splits():
    def load(role, kind, **columns):
        return load_split(datasets.Dataset.from_dict(columns), name=f"data.{role}", kind=kind)

    return {
        "source.train": load(
            "source.train",
            "classification",
            text=["a good film", "A  good FILM", "bad"],
            label=["pos", "pos", "[neg]"],
        ),
        "target.unlabelled": load("target.unlabelled", "text", text=["a good phone!", "bad bad"]),
        "target.test": load("target.test", "classification", text=["bad"], label=["meh"]),
    }


def test_describe(splits):
    found = describe(splits, lengths=lambda texts: [len(text.split()) + 2 for text in texts], max_length=4)
    assert json.loads(json.dumps(found)) == found
    train = found["splits"]["source.train"]
    assert train["labels"] == {"[neg]": 1, "pos": 2}
    assert train["duplicates"] == 1
    assert train["words"] == {"p5": 1, "p50": 3, "p95": 3, "max": 3}
    assert train["tokens"]["max"] == 5
    assert train["longer"] == pytest.approx(2 / 3)
    assert found["splits"]["target.unlabelled"]["labels"] is None
    assert [pair["splits"] for pair in found["shared_texts"]] == [["source.train", "target.test"]]
    assert found["shared_texts"][0]["example"][0].endswith("row 3")
    seen = {item["split"]: item["words_seen_in_source"] for item in found["vocabulary"]}
    assert seen == {"target.unlabelled": pytest.approx(4 / 5), "target.test": 1.0}
    assert found["label_gaps"] == [{"split": "target.test", "not_in_training": ["meh"], "missing": ["[neg]", "pos"]}]


def test_describe_entities():
    rows = datasets.Dataset.from_dict({"words": [["Ada", "B", "."]], "tags": [["B-PER", "I-PER", "O"]]})
    found = describe({"source.train": load_split(rows, name="x", kind="ner")})
    one = found["splits"]["source.train"]
    assert (one["labels"], one["tokens"], one["longer"]) == ({"PER": 1}, None, None)


def test_render_shows_labels_as_they_are(splits):
    console = Console(width=160, record=True, file=None)
    with console.capture() as capture:
        for table in render(describe(splits)):
            console.print(table)
    text = capture.get()
    assert "[neg]" in text
    assert "80.0%" in text
    assert "source.train & target.test" in text
