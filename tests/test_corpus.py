"""A corpus of any size: read from its file one row at a time, tokenised once into blocks on disk, exact on resume."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from conftest import wordpiece_tokenizer
from helpers import Listener, data_of, make_recipe, recipe_data, same_weights, text_rows

from nlp_transfer.checking import check
from nlp_transfer.data.blocks import TEXTS_AT_ONCE, BlockFile, pack, write_blocks
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import DataError, RecipeError
from nlp_transfer.parts import recipe_from
from nlp_transfer.running import run

TEXTS = [*text_rows(60, 9)["text"], 'a "quoted", text', "ünïcode, naïve"]


def write_corpus(path: Path, texts: list[str] = TEXTS, column: str = "text") -> Path:
    """Write texts in the format of the file's suffix."""
    if path.suffix == ".txt":
        path.write_text("\n\n".join(texts) + "\n", encoding="utf8")  # blank lines are no texts
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({column: text, "n": 1}) + "\n" for text in texts), encoding="utf8")
    elif path.suffix == ".parquet":
        datasets.Dataset.from_dict({"n": list(range(len(texts))), column: texts}).to_parquet(path)
    else:
        with path.open("w", encoding="utf8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([["n", column], *([1, text] for text in texts)])
    return path


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv", "tsv", "parquet"])
def test_all_formats_hold_the_same_corpus(suffix: str, tmp_path: Path) -> None:
    column = "text" if suffix == "txt" else "body"
    corpus = load_corpus(write_corpus(tmp_path / f"c.{suffix}", column=column), name="c", column=column)
    assert list(corpus) == list(corpus) == TEXTS
    assert len(corpus) == len(TEXTS)
    memory = load_corpus(datasets.Dataset.from_dict({"text": TEXTS}), name="c")
    assert corpus.fingerprint == memory.fingerprint
    other = load_corpus(datasets.Dataset.from_dict({"text": [*TEXTS[:-1], TEXTS[-1] + "x"]}), name="c")
    assert corpus.fingerprint != other.fingerprint


BAD = {
    "c.jsonl": (
        b'{"text": "fine"}\n{"text": 3}\n{"txt": "x"}\n',
        ["c.jsonl:2: the text is 3", "c.jsonl:3: there is no"],
    ),
    "blank.jsonl": (b'{"text": " "}\n', ["row 1: the text is empty"]),
    "c.csv": (b"body,n\nx,1\n", ["no column 'text'", "Name it with corpus.columns.text"]),
    "c.txt": (b"fine\n\xff\n", ["c.txt:2: byte 0xff at column 1 is not UTF-8"]),
    "empty.txt": (b"\n\n", ["holds no rows"]),
    "c.conll": (b"a O\n", ["a corpus is text", "parquet"]),
    "c.parquet": (b"no parquet", ["not a readable Parquet file"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_named_by_line(name: str, tmp_path: Path) -> None:
    content, expected = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        load_corpus(tmp_path / name, name="stages.0.corpus")
    assert all(words in str(error.value) for words in expected), error.value


def test_reading_stops_after_twenty_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("oops\n" * 1000)
    with pytest.raises(DataError, match="20 problems"):
        load_corpus(tmp_path / "c.jsonl", name="c")


def test_parquet_without_the_column_names_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'text'; there are: n, body"):
        load_corpus(write_corpus(tmp_path / "c.parquet", column="body"), name="c")


# Blocks


def test_texts_are_read_as_they_are_needed() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "good film"

    blocks = pack(wordpiece_tokenizer(), endless(), 32)
    assert [len(next(blocks).input_ids) for _ in range(3)] == [31, 31, 31]  # a separator at the end is left out
    assert read == TEXTS_AT_ONCE


def test_blocks_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    tokenizer = wordpiece_tokenizer()
    expected = list(pack(tokenizer, TEXTS, 24))
    write_blocks(tmp_path / "blocks", iter(expected), {"texts": 3})
    stored = BlockFile(tmp_path / "blocks")
    assert len(stored) == len(expected)
    assert stored.facts == {"texts": 3}
    assert stored.lengths.tolist() == [len(block.input_ids) for block in expected]
    for one, other in zip(stored, expected, strict=True):
        assert np.array_equal(one.input_ids, other.input_ids)
        assert np.array_equal(one.groups, other.groups)
    one = stored[1]
    one.input_ids[:] = 0  # a copy: the file stays as it is
    assert np.array_equal(stored[1].input_ids, expected[1].input_ids)


def test_half_written_blocks_do_not_count(tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        yield from list(pack(wordpiece_tokenizer(), TEXTS, 24))[:2]
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_blocks(tmp_path / "blocks", broken(), {})
    assert not (tmp_path / "blocks").exists()


# Runs


def stage(path: Any, **train: Any) -> dict[str, Any]:
    settings = {"max_steps": 6, "batch_size": 4, "learning_rate": 0.01, "evaluate_every": 2, "dropout": 0.1}
    return {"name": "pretrain", "corpus": path, "head_steps": 0, "block_length": 24, "train": settings | train}


def test_interrupted_stage_reads_the_same_batches(tiny_bert: Path, tmp_path: Path) -> None:
    path = str(write_corpus(tmp_path / "c.jsonl"))
    whole, cut = (
        make_recipe(tmp_path / name, tiny_bert, stages=[stage(path), "finetune"], max_steps=1)
        for name in ("whole", "cut")
    )
    run(whole, data=data_of("classification"))
    with pytest.raises(KeyboardInterrupt):
        run(cut, data=data_of("classification"), reporter=Listener("pretrain", 5))  # type: ignore[arg-type]
    assert (tmp_path / "cut/stages/1-pretrain/blocks/tokens.bin").is_file()
    listener = Listener()
    run(cut, data=data_of("classification"), reporter=listener)  # type: ignore[arg-type]
    assert any("resuming from" in line for line in listener.said)
    assert same_weights(*(tmp_path / name / "stages/1-pretrain/model" for name in ("whole", "cut")))
    assert same_weights(tmp_path / "whole/model", tmp_path / "cut/model")
    assert not (tmp_path / "cut/stages/1-pretrain/blocks").exists()


def test_stage_reads_what_it_names(tiny_bert: Path, tmp_path: Path) -> None:
    """A corpus alone, a corpus beside target text, and without a corpus the target text."""
    path = str(write_corpus(tmp_path / "c.txt"))
    one = {"max_steps": 1}
    plan = [
        stage(path, **one),
        stage({"path": "memory"}, **one) | {"text": "target"},
        {"name": "pretrain", "train": one},
        "finetune",
    ]
    data = data_of("ner") | {"stages.1.corpus": datasets.Dataset.from_dict({"text": TEXTS[:7]})}
    result = run(make_recipe(tmp_path / "run", tiny_bert, "ner", stages=plan, max_steps=1), data=data)
    facts = [json.loads(line) for line in (result.folder / "stages.jsonl").read_text().splitlines()]
    target = len(data["target.unlabelled"])
    assert [line.get("texts") for line in facts] == [len(TEXTS), 7 + target, target, None]
    recorded = json.loads((result.folder / "environment.json").read_text())["data"]
    assert recorded["stages.0.corpus"] == load_corpus(path, name="c").fingerprint


def test_changed_corpus_trains_its_stage_again(tiny_bert: Path, tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "c.txt")
    recipe = make_recipe(tmp_path / "run", tiny_bert, stages=[stage(str(path)), "finetune"], max_steps=4)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(recipe, data=data_of("classification"), reporter=Listener("finetune", 1))  # type: ignore[arg-type]
    done = tmp_path / "run/stages/1-pretrain/done.json"
    before = done.read_text()
    write_corpus(path, TEXTS[3:])
    run(recipe, data=data_of("classification"))
    assert json.loads(done.read_text())["texts"] == json.loads(before)["texts"] - 3


def test_bad_corpus_is_found_before_training(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": 1}\n')
    recipe = make_recipe(tmp_path / "run", tiny_bert, stages=[stage(str(tmp_path / "c.jsonl")), "finetune"])
    with pytest.raises(DataError, match=r"c\.jsonl:1"):
        check(recipe, data=True, given=data_of("classification"))
    with pytest.raises(DataError, match=r"c\.jsonl:1"):
        run(recipe, data=data_of("classification"))


def test_target_text_is_asked_for_only_where_it_is_read(tiny_bert: Path, tmp_path: Path) -> None:
    values = recipe_data(tmp_path / "run", tiny_bert, stages=[stage("c.txt"), "finetune"])
    del values["data"]["target"]["unlabelled"]
    assert recipe_from(values).stages[0].text is None  # type: ignore[union-attr]
    values["stages"][0]["text"] = "both"
    with pytest.raises(RecipeError, match=r"stages\.0: 'pretrain' on both text needs data.target.unlabelled"):
        recipe_from(values)
